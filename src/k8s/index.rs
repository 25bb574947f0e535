//! What the watches have seen, joined: from single objects to facts about targets.
//!
//! The index does no I/O and reads no clock. It is fed with `apply_*`, `delete_*` and `reset_*` (a
//! complete list, after the start and after a relist) and says what follows from it: events for the
//! engine and changes of the roster. Everything that it says is the difference between what is true
//! now and what it said last, so a storm of changes between two calls of [`Index::take_outputs`]
//! costs one output, and a relist that changes nothing says nothing.
//!
//! The configuration of a target is resolved at once when it changes, and at most once a period when
//! it keeps changing; see [`Index::end_period`].

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use jiff::Timestamp;

use super::FIELD_MANAGER;
use super::facts::{
    Annotations, DeploymentFacts, HpaFacts, NamespaceFacts, ObjectKey, OwnedPod, ReplicaSetFacts,
};
use super::ownership::{Owner, Ownership};
use super::scope::Scope;
use super::triggers::Triggers;
use crate::core::config::TargetConfig;
use crate::core::defaults::ClusterDefaults;
use crate::core::event::{Event, Rival};
use crate::core::problem::Problem;
use crate::core::resolve::{Inputs, ProcessSettings, Resolved, resolve};
use crate::core::roster::{Enrolled, PodFacts};
use crate::core::scaled_object::{
    KIND as SCALED_OBJECT, ScaledObject, ScaledObjectId, asks_us, follows_us,
};
use crate::core::source::{SourceFacts, SourceName, Wiring};
use crate::core::target::{PodCounts, TargetId, TargetKind};
use crate::core::trigger::{TriggerMetadata, TriggerRefusal};

/// What is to be done with what the index found, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Tell the engine.
    Tell(Event),
    /// Add the target to the roster, or replace it there.
    Enrol {
        /// The target.
        target: TargetId,
        /// What is known of it.
        enrolled: Enrolled,
        /// The uid of its object.
        uid: Arc<str>,
    },
    /// Remove the target from the roster.
    Expel(TargetId),
    /// A `ScaledObject` appeared or changed.
    ScaledObject(Arc<ScaledObject>),
    /// A `ScaledObject` is gone, or scales something else than a Deployment.
    ScaledObjectGone(ScaledObjectId),
}

/// Everything beside the objects themselves that decides configurations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `config-autoscaler`.
    pub defaults: ClusterDefaults,
    /// The keys that it really holds.
    pub defaults_set: BTreeSet<String>,
    /// Flags and the ConfigMap `podswell`.
    pub process: ProcessSettings,
    /// The named sources.
    pub sources: BTreeMap<SourceName, SourceFacts>,
    /// What is wrong with the ConfigMaps; every target carries these.
    pub problems: Vec<Problem>,
}

/// Stands for a field manager that the object does not name.
const UNKNOWN_WRITER: &str = "unknown";

pub(super) type Resolver = fn(&Inputs<'_>) -> Option<Resolved>;

/// A Deployment and what became of its annotations.
#[derive(Debug)]
struct Workload {
    facts: DeploymentFacts,
    /// Created while we watched, and not yet announced.
    newly_created: bool,
    resolved: Option<Resolution>,
}

/// What annotations or a trigger were resolved to.
#[derive(Clone, Debug)]
pub(super) struct Resolution {
    config: Arc<TargetConfig>,
    wiring: Arc<Wiring>,
}

/// What was last said about a target.
#[derive(Debug)]
struct Told {
    uid: Arc<str>,
    resolution: Resolution,
    replicas: i32,
    resource_version: Arc<str>,
    rivals: Vec<Rival>,
    counts: PodCounts,
    #[expect(clippy::rc_buffer, reason = "shared with the roster, which has it so")]
    pods: Arc<Vec<PodFacts>>,
}

/// All objects that matter, joined.
#[derive(Debug)]
pub struct Index {
    resolver: Resolver,
    settings: Settings,
    namespaces: BTreeMap<Arc<str>, NamespaceFacts>,
    workloads: BTreeMap<TargetId, Workload>,
    targets_of_uid: BTreeMap<Owner, TargetId>,
    ownership: Ownership,
    triggers: Triggers,
    hpas: BTreeMap<ObjectKey, HpaFacts>,
    hpas_of: BTreeMap<TargetId, BTreeSet<ObjectKey>>,
    scaled_objects: BTreeMap<ScaledObjectId, Arc<ScaledObject>>,
    scaled_objects_of: BTreeMap<TargetId, BTreeSet<ScaledObjectId>>,
    changed_scaled_objects: BTreeSet<ScaledObjectId>,
    told: BTreeMap<TargetId, Told>,
    /// Who set the replicas and to what, of targets whose last change was not ours.
    foreign: BTreeMap<TargetId, (Arc<str>, i32)>,
    /// Changed in this period after they had been resolved in it already.
    waiting: BTreeSet<TargetId>,
    /// To be resolved now.
    due: BTreeSet<TargetId>,
    /// Resolved in this period.
    recent: BTreeSet<TargetId>,
    touched: BTreeSet<TargetId>,
    touched_pods: BTreeSet<TargetId>,
    /// The namespaces of which nothing is said.
    held_back: BTreeSet<Arc<str>>,
}

impl Index {
    /// An index that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self::with_resolver(settings, resolve)
    }

    pub(super) fn with_resolver(settings: Settings, resolver: Resolver) -> Self {
        Self {
            resolver,
            settings,
            namespaces: BTreeMap::new(),
            workloads: BTreeMap::new(),
            targets_of_uid: BTreeMap::new(),
            ownership: Ownership::default(),
            triggers: Triggers::default(),
            hpas: BTreeMap::new(),
            hpas_of: BTreeMap::new(),
            scaled_objects: BTreeMap::new(),
            scaled_objects_of: BTreeMap::new(),
            changed_scaled_objects: BTreeSet::new(),
            told: BTreeMap::new(),
            foreign: BTreeMap::new(),
            waiting: BTreeSet::new(),
            due: BTreeSet::new(),
            recent: BTreeSet::new(),
            touched: BTreeSet::new(),
            touched_pods: BTreeSet::new(),
            held_back: BTreeSet::new(),
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes the settings; every target is resolved anew if that changed anything.
    pub fn change_settings(&mut self, change: impl FnOnce(&mut Settings)) {
        let before = self.settings.clone();
        change(&mut self.settings);
        if self.settings != before {
            self.waiting.extend(self.workloads.keys().cloned());
        }
        if self.settings.process.keda_addresses != before.process.keda_addresses {
            self.touched.extend(self.scaled_objects_of.keys().cloned());
            let all: Vec<_> = self.scaled_objects.keys().cloned().collect();
            for id in all {
                self.list_triggers(&id);
            }
        }
    }

    /// A Deployment appeared or changed.
    pub fn apply_deployment(&mut self, facts: DeploymentFacts) {
        let target = facts.target.clone();
        if self.store(facts, true) {
            if self.recent.insert(target.clone()) {
                self.resolve_one(&target);
            } else {
                self.waiting.insert(target);
            }
        }
    }

    /// A Deployment is gone.
    pub fn delete_deployment(&mut self, key: &ObjectKey) {
        self.forget(&TargetId::deployment(&key.namespace, &key.name));
    }

    /// All Deployments that there are in the scope, in any order. None of them counts as newly created.
    pub fn reset_deployments(&mut self, scope: &Scope, all: Vec<DeploymentFacts>) {
        let listed: BTreeSet<_> = all.iter().map(|facts| facts.target.clone()).collect();
        let known = self.workloads.keys().filter(|target| scope.covers(&target.namespace));
        let gone: Vec<_> = known.filter(|target| !listed.contains(*target)).cloned().collect();
        for target in gone {
            self.forget(&target);
        }
        for facts in all {
            let target = facts.target.clone();
            if self.store(facts, false) {
                self.due.insert(target);
            }
        }
    }

    /// A ReplicaSet appeared or changed.
    pub fn apply_replica_set(&mut self, set: ReplicaSetFacts) {
        let owners = self.ownership.apply_set(set);
        self.touch_pods(owners);
    }

    /// A ReplicaSet is gone.
    pub fn delete_replica_set(&mut self, key: &ObjectKey) {
        let owners = self.ownership.delete_set(key);
        self.touch_pods(owners);
    }

    /// All ReplicaSets that there are in the scope.
    pub fn reset_replica_sets(&mut self, scope: &Scope, all: Vec<ReplicaSetFacts>) {
        let owners = self.ownership.reset_sets(scope, all);
        self.touch_pods(owners);
    }

    /// A pod appeared or changed; `now` (engine time) is when.
    pub fn apply_pod(&mut self, now: Timestamp, pod: OwnedPod) {
        let owners = self.ownership.apply_pod(now, pod);
        self.touch_pods(owners);
    }

    /// A pod is gone, has finished, or lost its ReplicaSet.
    pub fn delete_pod(&mut self, key: &ObjectKey) {
        let owners = self.ownership.delete_pod(key);
        self.touch_pods(owners);
    }

    /// All pods that there are in the scope; `now` (engine time) is when they were listed.
    pub fn reset_pods(&mut self, now: Timestamp, scope: &Scope, all: Vec<OwnedPod>) {
        let owners = self.ownership.reset_pods(now, scope, all);
        self.touch_pods(owners);
    }

    /// An autoscaler of Kubernetes appeared or changed.
    pub fn apply_hpa(&mut self, hpa: HpaFacts) {
        if self.hpas.get(&hpa.key) == Some(&hpa) {
            return;
        }
        self.delete_hpa(&hpa.key);
        self.touched.insert(hpa.target.clone());
        self.hpas_of.entry(hpa.target.clone()).or_default().insert(hpa.key.clone());
        self.hpas.insert(hpa.key.clone(), hpa);
    }

    /// An autoscaler of Kubernetes is gone, or scales something else than a Deployment.
    pub fn delete_hpa(&mut self, key: &ObjectKey) {
        let Some(hpa) = self.hpas.remove(key) else { return };
        if let Some(keys) = self.hpas_of.get_mut(&hpa.target) {
            keys.remove(key);
            if keys.is_empty() {
                self.hpas_of.remove(&hpa.target);
            }
        }
        self.touched.insert(hpa.target);
    }

    /// All autoscalers of Kubernetes that there are in the scope.
    pub fn reset_hpas(&mut self, scope: &Scope, all: Vec<HpaFacts>) {
        let listed: BTreeSet<_> = all.iter().map(|hpa| hpa.key.clone()).collect();
        let known = self.hpas.keys().filter(|key| scope.covers(&key.namespace));
        let gone: Vec<_> = known.filter(|key| !listed.contains(*key)).cloned().collect();
        for key in gone {
            self.delete_hpa(&key);
        }
        for hpa in all {
            self.apply_hpa(hpa);
        }
    }

    /// A `ScaledObject` appeared or changed.
    pub fn apply_scaled_object(&mut self, object: ScaledObject) {
        if self.scaled_objects.get(&object.id).is_some_and(|known| **known == object) {
            return;
        }
        let (id, target) = (object.id.clone(), object.target.clone());
        self.forget_scaled_object(&id);
        self.touched.insert(target.clone());
        self.scaled_objects_of.entry(target).or_default().insert(id.clone());
        self.changed_scaled_objects.insert(id.clone());
        self.scaled_objects.insert(id.clone(), Arc::new(object));
        self.list_triggers(&id);
    }

    /// A `ScaledObject` is gone, or scales something else than a Deployment.
    pub fn delete_scaled_object(&mut self, id: &ScaledObjectId) {
        self.forget_scaled_object(id);
        self.list_triggers(id);
    }

    fn forget_scaled_object(&mut self, id: &ScaledObjectId) {
        let Some(object) = self.scaled_objects.remove(id) else { return };
        if let Some(ids) = self.scaled_objects_of.get_mut(&object.target) {
            ids.remove(id);
            if ids.is_empty() {
                self.scaled_objects_of.remove(&object.target);
            }
        }
        self.changed_scaled_objects.insert(id.clone());
        self.touched.insert(object.target.clone());
    }

    /// All `ScaledObjects` that there are in the scope; none where the cluster does not serve them.
    pub fn reset_scaled_objects(&mut self, scope: &Scope, all: Vec<ScaledObject>) {
        let listed: BTreeSet<_> = all.iter().map(|object| object.id.clone()).collect();
        let known = self.scaled_objects.keys().filter(|id| scope.covers(&id.namespace));
        let gone: Vec<_> = known.filter(|id| !listed.contains(*id)).cloned().collect();
        for id in gone {
            self.delete_scaled_object(&id);
        }
        for object in all {
            self.apply_scaled_object(object);
        }
    }

    /// The target that decides for a trigger of the ScaledObject `object`; it is made if there is none.
    ///
    /// # Errors
    /// If what it scales is not known, or there are too many.
    pub fn enrol_trigger(
        &mut self,
        object: &ObjectKey,
        metadata: &TriggerMetadata,
    ) -> Result<TargetId, TriggerRefusal> {
        let id = ScaledObjectId { namespace: object.namespace.clone(), name: object.name.clone() };
        let scaled = self.scaled_objects.get(&id).map(|known| &known.target);
        let Some(workload) = workload_of(&object.namespace, metadata, scaled) else {
            let (namespace, name) = (object.namespace.to_string(), object.name.to_string());
            return Err(TriggerRefusal::NoTarget { namespace, name });
        };
        if self.workloads.get(&workload).is_none_or(|known| known.facts.deleting) {
            let (namespace, name) = (workload.namespace.to_string(), workload.name.to_string());
            return Err(TriggerRefusal::NoDeployment { namespace, name });
        }
        let target = self.triggers.enrol(&workload, object, metadata)?;
        if self.triggers.resolution(&target).is_none() {
            self.resolve_trigger(&target);
        }
        Ok(target)
    }

    /// Gives the triggers of a ScaledObject that ask us their deciders, so that these are warm before
    /// KEDA asks. One that does not parse gets its reason when KEDA asks by it; so does one whose values
    /// KEDA takes from the environment of the workload's container.
    fn list_triggers(&mut self, id: &ScaledObjectId) {
        let key = ObjectKey { namespace: id.namespace.clone(), name: id.name.clone() };
        let process = &self.settings.process;
        let wanted: Vec<_> = self
            .scaled_objects
            .get(id)
            .into_iter()
            .flat_map(|object| object.triggers.iter().map(move |trigger| (object, trigger)))
            .filter(|(_, trigger)| asks_us(trigger, process))
            .filter_map(|(object, trigger)| {
                let metadata = TriggerMetadata::read_unresolved(&trigger.metadata)?;
                let workload = workload_of(&id.namespace, &metadata, Some(&object.target))?;
                // Reaching into another namespace takes a list that only the server knows.
                (workload.namespace == id.namespace).then_some((workload, metadata))
            })
            .collect();
        for target in self.triggers.list(&key, &wanted) {
            self.resolve_trigger(&target);
            self.touched.insert(target);
        }
    }

    /// Nobody asks for this trigger any more.
    pub fn release_trigger(&mut self, target: &TargetId) {
        if self.triggers.release(target) {
            self.touched.insert(target.clone());
        }
    }

    /// A namespace appeared or changed.
    pub fn apply_namespace(&mut self, namespace: NamespaceFacts) {
        if self.namespaces.get(&namespace.name) != Some(&namespace) {
            let name = namespace.name.clone();
            self.namespaces.insert(name.clone(), namespace);
            self.unsettle_namespace(&name);
        }
    }

    /// A namespace is gone.
    pub fn delete_namespace(&mut self, name: &str) {
        if let Some((name, _)) = self.namespaces.remove_entry(name) {
            self.unsettle_namespace(&name);
        }
    }

    /// All namespaces that there are in the scope.
    pub fn reset_namespaces(&mut self, scope: &Scope, all: Vec<NamespaceFacts>) {
        let listed: BTreeSet<_> = all.iter().map(|namespace| namespace.name.clone()).collect();
        let known = self.namespaces.keys().filter(|name| scope.covers(name));
        let gone: Vec<_> = known.filter(|name| !listed.contains(*name)).cloned().collect();
        for name in gone {
            self.delete_namespace(&name);
        }
        for namespace in all {
            self.apply_namespace(namespace);
        }
    }

    /// Ends a period of debouncing: targets whose configuration changed again, and those that a setting
    /// or a namespace concerns, become due. Call it a few times a second.
    pub fn end_period(&mut self) {
        self.due.append(&mut self.waiting);
        self.recent.clone_from(&self.due);
    }

    /// Resolves at most `limit` targets that are due. Returns whether more are.
    pub fn settle(&mut self, limit: usize) -> bool {
        for _ in 0..limit {
            let Some(target) = self.due.pop_first() else { return false };
            self.resolve_one(&target);
        }
        !self.due.is_empty()
    }

    /// From now on says nothing of these namespaces; what changes there is said once they are held back
    /// no more.
    pub fn hold_back(&mut self, namespaces: BTreeSet<Arc<str>>) {
        self.held_back = namespaces;
    }

    /// The namespaces of which nothing is said.
    pub fn held_back(&self) -> &BTreeSet<Arc<str>> {
        &self.held_back
    }

    /// What changed since the last call, target by target in order.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        let held_back = |target: &TargetId| self.held_back.contains(&target.namespace);
        let (later_pods, touched_pods) =
            mem::take(&mut self.touched_pods).into_iter().partition(held_back);
        let (later, mut touched): (BTreeSet<_>, BTreeSet<_>) =
            mem::take(&mut self.touched).into_iter().partition(held_back);
        let touched_pods: BTreeSet<TargetId> = touched_pods;
        (self.touched, self.touched_pods) = (later, later_pods);
        touched.extend(touched_pods.iter().cloned());
        let mut outputs = self.take_scaled_objects();
        for target in touched {
            let pods_changed = touched_pods.contains(&target);
            let triggers = self.triggers.of(&target);
            for target in std::iter::once(target).chain(triggers) {
                self.report(&target, pods_changed, &mut outputs);
            }
        }
        outputs
    }

    fn take_scaled_objects(&mut self) -> Vec<Output> {
        let changed = mem::take(&mut self.changed_scaled_objects);
        let output = |id| match self.scaled_objects.get(&id) {
            Some(object) => Output::ScaledObject(object.clone()),
            None => Output::ScaledObjectGone(id),
        };
        changed.into_iter().map(output).collect()
    }

    /// Every other autoscaler of a target, once each. An HPA that a `ScaledObject` made is counted as
    /// that, whether or not the `ScaledObject` itself could be read.
    fn rivals_of(&self, target: &TargetId) -> Vec<Rival> {
        let scaled_objects = self.scaled_objects_of.get(target).into_iter().flatten();
        let scaled_objects = scaled_objects
            .filter_map(|id| self.scaled_objects.get(id))
            .filter(|object| !object.paused)
            .map(|object| (SCALED_OBJECT, &object.id.name, self.is_followed_by(object)));
        let hpas = self.hpas_of.get(target).into_iter().flatten();
        let hpas = hpas.filter_map(|key| self.hpas.get(key));
        let hpas = hpas.map(|hpa| match &hpa.scaled_object {
            Some(name) => {
                let id = ScaledObjectId { namespace: target.namespace.clone(), name: name.clone() };
                let known = self.scaled_objects.get(&id);
                (SCALED_OBJECT, name, known.is_some_and(|object| self.is_followed_by(object)))
            }
            None => ("HorizontalPodAutoscaler", &hpa.key.name, hpa.follows_podswell),
        });
        let all: BTreeSet<_> = scaled_objects.chain(hpas).collect();
        let rival = |(kind, name, follows): (&str, &Arc<str>, bool)| Rival {
            kind: kind.to_owned(),
            name: name.to_string(),
            follows,
        };
        all.into_iter().map(rival).collect()
    }

    fn is_followed_by(&self, object: &ScaledObject) -> bool {
        follows_us(object, &self.settings.process)
    }

    /// Keeps a Deployment's facts. Returns whether its configuration may have changed.
    fn store(&mut self, facts: DeploymentFacts, watched: bool) -> bool {
        let target = facts.target.clone();
        let old = self.workloads.get(&target).filter(|old| old.facts.uid == facts.uid);
        let (newly_created, resolved, changed) = match old {
            Some(old) if old.facts == facts => return false,
            Some(old) => {
                (old.newly_created, old.resolved.clone(), !same_inputs(&old.facts, &facts))
            }
            None => (watched, None, true),
        };
        if old.is_some_and(|old| old.facts.replicas != facts.replicas) {
            let name = facts.writer.clone().unwrap_or_else(|| Arc::from(UNKNOWN_WRITER));
            if &*name == FIELD_MANAGER {
                self.foreign.remove(&target);
            } else {
                self.foreign.insert(target.clone(), (name, facts.replicas));
            }
        }
        if old.is_none() {
            self.forget(&target);
            let owner = (target.namespace.clone(), facts.uid.clone());
            self.targets_of_uid.insert(owner, target.clone());
            self.touched_pods.insert(target.clone());
        }
        self.touched.insert(target.clone());
        self.workloads.insert(target, Workload { facts, newly_created, resolved });
        changed
    }

    fn forget(&mut self, target: &TargetId) {
        if let Some(old) = self.workloads.remove(target) {
            self.targets_of_uid.remove(&(target.namespace.clone(), old.facts.uid));
        }
        self.foreign.remove(target);
        self.waiting.remove(target);
        self.due.remove(target);
        self.touched.insert(target.clone());
    }

    fn touch_pods(&mut self, owners: Vec<Owner>) {
        for owner in owners {
            if let Some(target) = self.targets_of_uid.get(&owner) {
                self.touched_pods.insert(target.clone());
            }
        }
    }

    fn unsettle_namespace(&mut self, name: &Arc<str>) {
        let kind = TargetKind::Deployment;
        let first = TargetId { namespace: name.clone(), kind, name: "".into(), trigger: None };
        let of_namespace = self.workloads.range(first..).map(|(target, _)| target);
        self.waiting.extend(of_namespace.take_while(|target| target.namespace == *name).cloned());
    }

    fn resolve_one(&mut self, target: &TargetId) {
        let Some(workload) = self.workloads.get_mut(target) else { return };
        let namespace = self.namespaces.get(&target.namespace);
        let inputs = inputs_of(&self.settings, namespace, &workload.facts);
        let resolved = inputs.as_ref().and_then(self.resolver);
        let finish = |old, resolved| finish(&self.settings, old, resolved);
        self.triggers.resolve(target, inputs.as_ref(), finish);
        let old = workload.resolved.take();
        workload.resolved = resolved.map(|resolved| finish(old, resolved));
        workload.newly_created &= workload.resolved.is_some();
        self.touched.insert(target.clone());
    }

    /// Resolves one trigger and nothing else of its workload, which may have thousands of them.
    fn resolve_trigger(&mut self, target: &TargetId) {
        let Some(workload) = self.workloads.get(&target.workload()) else { return };
        let namespace = self.namespaces.get(&target.namespace);
        let inputs = inputs_of(&self.settings, namespace, &workload.facts);
        let finish = |old, resolved| finish(&self.settings, old, resolved);
        self.triggers.resolve_one(target, inputs.as_ref(), finish);
        self.touched.insert(target.clone());
    }

    fn report(&mut self, target: &TargetId, pods_changed: bool, outputs: &mut Vec<Output>) {
        let rivals = self.rivals_of(target);
        let present = self.workloads.get_mut(&target.workload());
        let present = present.filter(|workload| !workload.facts.deleting);
        let resolution = match (&present, &target.trigger) {
            (None, _) => None,
            (Some(workload), None) => workload.resolved.clone(),
            (Some(_), Some(_)) => self.triggers.resolution(target).cloned(),
        };
        let (Some(workload), Some(resolution)) = (present, resolution) else {
            if self.told.remove(target).is_some() {
                outputs.push(Output::Expel(target.clone()));
                outputs.push(Output::Tell(Event::TargetDeleted { target: target.clone() }));
            }
            return;
        };
        let facts = &workload.facts;
        let replaced = self.told.get(target).is_some_and(|told| told.uid != facts.uid);
        if replaced {
            self.told.remove(target);
            outputs.push(Output::Expel(target.clone()));
            outputs.push(Output::Tell(Event::TargetDeleted { target: target.clone() }));
        }
        let old = self.told.get(target);
        let (counts, pods) = match old {
            Some(old) if !pods_changed => (old.counts, old.pods.clone()),
            _ => {
                let owner = (target.namespace.clone(), facts.uid.clone());
                let (counts, pods) = self.ownership.pods_of(&owner);
                (counts, Arc::new(pods))
            }
        };
        let new = Told {
            uid: facts.uid.clone(),
            resolution,
            replicas: facts.replicas,
            resource_version: facts.resource_version.clone(),
            rivals,
            counts,
            pods,
        };
        let newly_created =
            target.trigger.is_none() && mem::take(&mut workload.newly_created) && old.is_none();
        say_difference(target, old, &new, newly_created, outputs);
        if let Some((manager, replicas)) = self.foreign.remove(target) {
            let target = target.clone();
            outputs.push(Output::Tell(Event::ForeignWrite { target, manager, replicas }));
        }
        self.told.insert(target.clone(), new);
    }
}

/// What a workload is resolved from; `None` while its namespace ends.
fn inputs_of<'a>(
    settings: &'a Settings,
    namespace: Option<&'a NamespaceFacts>,
    facts: &'a DeploymentFacts,
) -> Option<Inputs<'a>> {
    static NOTHING: Annotations = Annotations::new();
    if namespace.is_some_and(|of| of.terminating) {
        return None;
    }
    Some(Inputs {
        defaults: &settings.defaults,
        defaults_set: &settings.defaults_set,
        process: &settings.process,
        sources: &settings.sources,
        namespace: &facts.target.namespace,
        name: &facts.target.name,
        namespace_annotations: namespace.map_or(&NOTHING, |of| &of.annotations),
        annotations: &facts.annotations,
        template_annotations: &facts.template_annotations,
        owned_by_knative: facts.owned_by_knative,
        progress_deadline: facts.progress_deadline,
    })
}

fn finish(settings: &Settings, old: Option<Resolution>, mut resolved: Resolved) -> Resolution {
    resolved.config.problems.extend(settings.problems.iter().cloned());
    keep_if_equal(old, resolved)
}

/// The Deployment that a trigger is about: the one that it names, else the one that its ScaledObject scales.
fn workload_of(
    namespace: &str,
    metadata: &TriggerMetadata,
    scaled: Option<&TargetId>,
) -> Option<TargetId> {
    let named = metadata.deployment.as_deref().or_else(|| scaled.map(|scaled| &*scaled.name));
    Some(TargetId::deployment(metadata.namespace.as_deref().unwrap_or(namespace), named?))
}

/// Says what is new about a target. Rivals and pods come before replicas, because an engine that knows
/// the replicas may already write.
fn say_difference(
    target: &TargetId,
    old: Option<&Told>,
    new: &Told,
    newly_created: bool,
    outputs: &mut Vec<Output>,
) {
    let mut tell = |event| outputs.push(Output::Tell(event));
    let target = target.clone();
    let same_config =
        old.is_some_and(|old| Arc::ptr_eq(&old.resolution.config, &new.resolution.config));
    if !same_config {
        let config = new.resolution.config.clone();
        tell(Event::TargetApplied { target: target.clone(), config });
    }
    if old.map_or(!new.rivals.is_empty(), |old| old.rivals != new.rivals) {
        let rivals = new.rivals.clone();
        tell(Event::RivalsObserved { target: target.clone(), rivals });
    }
    if old.is_none_or(|old| old.counts != new.counts) {
        tell(Event::PodsObserved { target: target.clone(), pods: new.counts });
    }
    let same_replicas = old.is_some_and(|old| {
        old.replicas == new.replicas && old.resource_version == new.resource_version
    });
    if !same_replicas {
        tell(Event::ReplicasObserved {
            target: target.clone(),
            replicas: new.replicas,
            resource_version: new.resource_version.clone(),
            newly_created,
        });
    }
    let same_entry = old.is_some_and(|old| {
        Arc::ptr_eq(&old.resolution.wiring, &new.resolution.wiring)
            && old.replicas == new.replicas
            && (Arc::ptr_eq(&old.pods, &new.pods) || old.pods == new.pods)
    });
    if !same_entry {
        let (wiring, pods) = (new.resolution.wiring.clone(), new.pods.clone());
        let enrolled = Enrolled { wiring, replicas: new.replicas, pods };
        outputs.push(Output::Enrol { target, enrolled, uid: new.uid.clone() });
    }
}

fn same_inputs(a: &DeploymentFacts, b: &DeploymentFacts) -> bool {
    a.annotations == b.annotations
        && a.template_annotations == b.template_annotations
        && a.owned_by_knative == b.owned_by_knative
        && a.progress_deadline == b.progress_deadline
}

/// The new resolution, in the old one's memory where nothing changed: then the pointers are equal, and
/// that is how changes are told from repetitions.
fn keep_if_equal(old: Option<Resolution>, new: Resolved) -> Resolution {
    let (config, wiring) = old.map_or((None, None), |old| (Some(old.config), Some(old.wiring)));
    Resolution {
        config: config.filter(|old| **old == new.config).unwrap_or_else(|| Arc::new(new.config)),
        wiring: wiring.filter(|old| **old == new.wiring).unwrap_or_else(|| Arc::new(new.wiring)),
    }
}

#[cfg(test)]
mod tests;
