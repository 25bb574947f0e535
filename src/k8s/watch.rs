//! The watches: they keep an [`Index`] of the cluster and hand on what follows from it.
//!
//! One task owns the index. Everything that it learns goes to the engine, to the roster that the
//! sources read, and to the uids that writers need. A watch that fails is started again after a pause
//! that grows, and a gap (410) makes a new list; neither ends the process, and neither makes a target
//! disappear that is still there.
//!
//! Nothing is handed on before every watch has its first list, because half a picture would be a wrong
//! one: no pods, no rivals, no pause annotation on the namespace. A watch that may not read at all
//! must not keep the others waiting for ever: after [`PATIENCE`] the rest is handed on, so that
//! decisions can be seen, but [`WatchHealth::is_synced`] stays false and so nothing may be written.
//!
//! Where only some namespaces are watched, each has watches of its own and half a picture of one is
//! held back alone: after [`PATIENCE`] the process goes on with those that are complete, and nothing is
//! told of the others until they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, Stream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::core::{DeserializeGuard, DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event as WatchEvent, watcher as object_watcher};
use kube::{Api, Client, Resource};
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::facts::{
    self, ConfigMapFacts, DeploymentFacts, HpaFacts, NamespaceFacts, ObjectKey, OwnedPod,
    ReplicaSetFacts,
};
use super::index::{Index, Output, Settings};
use super::scope::{NamespaceNews, Scope, poll_namespace};
use super::{K8sError, Uids, scaled_object, watch_reason};
use crate::core::defaults::ClusterDefaults;
use crate::core::problem::{Problem, ProblemCode};
use crate::core::resolve::ProcessSettings;
use crate::core::roster::Roster;
use crate::core::scaled_object::{ScaledObject, ScaledObjectId, ScaledObjects};
use crate::core::source::{SourceFacts, SourceName};
use crate::runtime::clock::Clock;
use crate::runtime::engine_handle::EngineHandle;
use crate::runtime::trigger_desk::DeskRequest;

/// The ConfigMap of the cluster-wide tunables; Knative's name and keys.
pub const CONFIG_AUTOSCALER: &str = "config-autoscaler";
/// The ConfigMap of process-wide settings.
pub const CONFIG_PODSWELL: &str = "podswell";
/// The ConfigMap of the named sources.
pub const CONFIG_SOURCES: &str = "podswell-sources";

/// How long one watch request lasts, in seconds. A connection that died without a word is noticed 5 s
/// after that, so this bounds how old a quiet picture of the cluster can be.
pub const WATCH_SECONDS: u32 = 60;

/// How long targets are held back while some watch fails from the start.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How long a watch counts as failing after a failure: twice the longest pause between two tries.
const FAULT_MEMORY: SignedDuration = SignedDuration::from_mins(2);

/// How often changed annotations, namespaces and settings are taken up.
const PERIOD: Duration = Duration::from_millis(200);

/// How many objects one page of a list holds.
const PAGE_SIZE: u32 = 500;

/// How many changes are taken in before their consequences are handed on.
const BATCH: usize = 256;

/// How many targets are resolved before the watches get their turn again.
const RESOLVE_BATCH: usize = 500;

/// Understands the ConfigMaps. What a key means is not the watches' business.
pub trait ConfigReader: Send + 'static {
    /// Reads `config-autoscaler`; empty when it does not exist.
    ///
    /// # Errors
    /// What is wrong with it, as a lower-case fragment; then the last good one stays.
    fn defaults(&mut self, data: &BTreeMap<String, String>) -> Result<ClusterDefaults, String>;

    /// Reads `podswell`; empty when it does not exist.
    ///
    /// # Errors
    /// What is wrong with it, as a lower-case fragment; then the last good one stays.
    fn process(&mut self, data: &BTreeMap<String, String>) -> Result<ProcessSettings, String>;

    /// Whether the ConfigMap `podswell` asks for a freeze, whatever else stands in it.
    fn asks_for_freeze(&self, data: &BTreeMap<String, String>) -> bool;

    /// Reads `podswell-sources`; empty when it does not exist. Each source stands alone, so a bad one
    /// is the reader's to keep and to report: the problems go to every target.
    fn sources(
        &mut self,
        data: &BTreeMap<String, String>,
    ) -> (BTreeMap<SourceName, SourceFacts>, Vec<Problem>);
}

/// What the watches work with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The namespace of the ConfigMaps.
    pub namespace: String,
    /// Who hears of targets.
    pub engine: EngineHandle,
    /// What the sources read.
    pub roster: Arc<RwLock<Roster>>,
    /// What answers KEDA.
    pub scaled_objects: Arc<RwLock<ScaledObjects>>,
    /// What the writers read.
    pub uids: Arc<Uids>,
    /// Engine time.
    pub clock: Arc<dyn Clock>,
    /// Understands the ConfigMaps.
    pub reader: Box<dyn ConfigReader>,
    /// Who asks for deciders of triggers.
    pub triggers: mpsc::Receiver<DeskRequest>,
}

/// How the watches are.
#[derive(Debug)]
pub struct WatchHealth {
    states: RwLock<BTreeMap<Arc<str>, WatchState>>,
    synced: watch::Sender<bool>,
}

/// The watch of a kind that comes with KEDA.
const SCALED_OBJECTS: &str = "scaledobjects";

/// How often a kind that the cluster does not serve is asked for.
const ABSENCE_PAUSE: Duration = Duration::from_secs(5);

/// How one watch is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchState {
    /// Whether it had its first complete list.
    pub synced: bool,
    /// Why it cannot read at present, see [`K8sError::reason`]; `None` if it can. A watch that works
    /// again with nothing to say is believed two minutes after its last failure.
    pub fault: Option<&'static str>,
    /// When it failed last (engine time), while `fault` stands.
    pub failed_at: Option<Timestamp>,
    /// How many objects it had to skip because they were malformed.
    pub skipped: u64,
    /// The namespace that it covers, if it is only one.
    pub namespace: Option<Arc<str>>,
}

impl WatchState {
    fn clear_fault(&mut self, name: &str) {
        self.failed_at = None;
        if self.fault.take().is_some() {
            tracing::info!(watch = name, "watch works again");
        }
    }
}

impl WatchHealth {
    fn new(watches: &[WatchId]) -> Self {
        let state = |watch: &WatchId| {
            let namespace = watch.scope.namespace().cloned();
            (watch.name.clone(), WatchState { namespace, ..WatchState::default() })
        };
        let states = watches.iter().map(state).collect();
        Self { states: RwLock::new(states), synced: watch::Sender::new(false) }
    }

    /// Whether every watch had its first complete list and what follows from them was handed on; of
    /// watches of single namespaces, those of at least one, if the others failed for [`PATIENCE`]. Once
    /// true it stays true.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Tells when [`WatchHealth::is_synced`] becomes true.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// Every watch by its name: the plural of the kind (`pods`, or `pods in shop` where only some
    /// namespaces are watched), or the ConfigMap's name.
    pub fn states(&self) -> BTreeMap<Arc<str>, WatchState> {
        self.states.read().clone()
    }

    /// The watches that have not had their first list, in order.
    pub fn unsynced(&self) -> Vec<String> {
        let states = self.states.read();
        states.iter().filter(|(_, state)| !state.synced).map(|(name, _)| name.to_string()).collect()
    }

    /// The namespaces with watches of their own of which some have not had their first list.
    fn incomplete_namespaces(&self) -> BTreeSet<Arc<str>> {
        let states = self.states.read();
        let unsynced = states.values().filter(|state| !state.synced);
        unsynced.filter_map(|state| state.namespace.clone()).collect()
    }

    /// Whether it makes sense to go on without the namespaces that cannot be read: everything else was
    /// read, and at least one of them.
    fn can_do_without_some(&self) -> bool {
        let incomplete = self.incomplete_namespaces();
        let states = self.states.read();
        let of_all = states.values().all(|state| state.synced || state.namespace.is_some());
        let mut of_one = states.values().filter_map(|state| state.namespace.as_ref());
        of_all && of_one.any(|namespace| !incomplete.contains(namespace))
    }

    fn heard(&self, watch: &WatchId, listed: bool) {
        let mut states = self.states.write();
        let state = states.entry(watch.name.clone()).or_default();
        state.synced |= listed;
        state.clear_fault(&watch.name);
    }

    /// Forgets failures that did not come again: pauses between tries are shorter than this.
    fn expire_faults(&self, now: Timestamp) {
        for (name, state) in self.states.write().iter_mut() {
            if state.failed_at.is_some_and(|at| now.duration_since(at) > FAULT_MEMORY) {
                state.clear_fault(name);
            }
        }
    }

    fn failed(&self, now: Timestamp, watch: &WatchId, error: &K8sError) {
        let (name, reason) = (&*watch.name, error.reason());
        let mut states = self.states.write();
        let state = states.entry(watch.name.clone()).or_default();
        // The server says Gone when it has forgotten the version we ask for: a list follows.
        if reason == "Gone" {
            return;
        }
        state.failed_at = Some(now);
        state.synced |= watch.kind == SCALED_OBJECTS && reason == "Forbidden";
        if state.fault.replace(reason) == Some(reason) {
            return;
        }
        drop(states);
        let source: &dyn std::error::Error = error;
        if reason == "Forbidden" {
            let fix = "let podswell's ServiceAccount read it: apply what podswell rbac prints";
            tracing::error!(watch = name, fix, error = source, "not allowed to watch");
        } else {
            tracing::warn!(watch = name, reason, error = source, "watch failed, trying again");
        }
    }

    fn skipped(&self, watch: &WatchId) {
        self.states.write().entry(watch.name.clone()).or_default().skipped += 1;
    }

    /// Whether nothing is left to wait for but watches that fail.
    fn only_faults_left(&self) -> bool {
        self.states.read().values().all(|state| state.synced || state.fault.is_some())
    }
}

/// The task that watches. Made with [`Watches::new`], driven with [`Watches::run`].
pub struct Watches {
    context: Context,
    health: Arc<WatchHealth>,
    index: Index,
    scopes: Vec<Scope>,
    config_problems: BTreeMap<&'static str, Vec<Problem>>,
}

impl Watches {
    /// Watches that know nothing yet. `process` is what flags say, in force until the ConfigMap
    /// `podswell` was read.
    pub fn new(context: Context, process: ProcessSettings) -> Self {
        let settings = Settings { process, ..Settings::default() };
        Self::with_index(context, Index::new(settings))
    }

    fn with_index(context: Context, index: Index) -> Self {
        let scopes = vec![Scope::Everywhere];
        let health = Arc::new(WatchHealth::new(&watch_ids(&scopes)));
        Self { context, health, index, scopes, config_problems: BTreeMap::new() }
    }

    /// Watches these namespaces only, with nothing asked for the whole cluster; all if there are none.
    /// Call it before anything else.
    #[must_use]
    pub fn within(mut self, namespaces: &[String]) -> Self {
        self.scopes = Scope::all(namespaces);
        self.health = Arc::new(WatchHealth::new(&watch_ids(&self.scopes)));
        self
    }

    /// How the watches are; to be asked while they run.
    pub fn health(&self) -> Arc<WatchHealth> {
        self.health.clone()
    }

    /// Watches until `stop` or until the engine's task has ended.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.changes();
        let started = self.context.clock.now();
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut more_due = false;
        let mut released = false;
        self.index.hold_back(self.health.incomplete_namespaces());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = period.tick() => {
                    self.index.end_period();
                    self.health.expire_faults(self.context.clock.now());
                }
                Some(change) = changes.next() => self.take_batch(change, &mut changes),
                Some(request) = self.context.triggers.recv() => self.serve_batch(request),
                () = std::future::ready(()), if more_due => {}
            }
            more_due = self.index.settle(RESOLVE_BATCH);
            let impatient = self.is_impatient(started);
            let complete = self.health.unsynced().is_empty()
                || (impatient && self.health.can_do_without_some());
            let first = complete && !self.health.is_synced();
            let held_back = self.health.incomplete_namespaces();
            if first || held_back.len() < self.index.held_back().len() {
                // Nothing may be told that a setting or a namespace, just read, says otherwise.
                self.index.end_period();
                while self.index.settle(RESOLVE_BATCH) {
                    tokio::task::yield_now().await;
                }
            }
            self.index.hold_back(held_back);
            released = released || complete || impatient;
            if released && !self.hand_on().await {
                return;
            }
            if first {
                tracing::info!("caches are synced");
                self.health.synced.send_replace(true);
            }
        }
    }

    fn is_impatient(&self, started: Timestamp) -> bool {
        let waited = self.context.clock.now().duration_since(started);
        let patience = SignedDuration::try_from(PATIENCE).unwrap_or_default();
        waited >= patience && self.health.only_faults_left()
    }

    fn take_batch(&mut self, first: Change, changes: &mut Changes) {
        let now = self.context.clock.now();
        self.take(now, first);
        for _ in 1..BATCH {
            match changes.next().now_or_never() {
                Some(Some(change)) => self.take(now, change),
                _ => break,
            }
        }
    }

    fn take(&mut self, now: Timestamp, change: Change) {
        let Change { watch, news } = change;
        match &news {
            News::Failed(error) => self.health.failed(now, &watch, error),
            News::Skipped { object, error } => {
                self.health.skipped(&watch);
                tracing::warn!(watch = &*watch.name, object, error, "malformed object skipped");
            }
            _ => self.health.heard(&watch, news.is_list()),
        }
        let (index, scope) = (&mut self.index, &watch.scope);
        match news {
            News::Deployments(Update::Reset(all)) => index.reset_deployments(scope, all),
            News::Deployments(Update::Apply(one)) => index.apply_deployment(one),
            News::Deployments(Update::Delete(key)) => index.delete_deployment(&key),
            News::ReplicaSets(Update::Reset(all)) => index.reset_replica_sets(scope, all),
            News::ReplicaSets(Update::Apply(one)) => index.apply_replica_set(one),
            News::ReplicaSets(Update::Delete(key)) => index.delete_replica_set(&key),
            News::Pods(Update::Reset(all)) => index.reset_pods(now, scope, all),
            News::Pods(Update::Apply(one)) => index.apply_pod(now, one),
            News::Pods(Update::Delete(key)) => index.delete_pod(&key),
            News::Hpas(Update::Reset(all)) => index.reset_hpas(scope, all),
            News::Hpas(Update::Apply(one)) => index.apply_hpa(one),
            News::Hpas(Update::Delete(key)) => index.delete_hpa(&key),
            News::ScaledObjects(Update::Reset(all)) => index.reset_scaled_objects(scope, all),
            News::ScaledObjects(Update::Apply(one)) => index.apply_scaled_object(one),
            News::ScaledObjects(Update::Delete(key)) => {
                let (namespace, name) = (key.namespace, key.name);
                index.delete_scaled_object(&ScaledObjectId { namespace, name });
            }
            News::Namespaces(Update::Reset(all)) => index.reset_namespaces(scope, all),
            News::Namespaces(Update::Apply(one)) => index.apply_namespace(one),
            News::Namespaces(Update::Delete(key)) => index.delete_namespace(&key.name),
            News::ConfigMap(update) => self.read_config(watch.kind, update),
            News::Failed(_) | News::Skipped { .. } => {}
        }
    }

    fn serve_batch(&mut self, first: DeskRequest) {
        self.serve(first);
        for _ in 1..BATCH {
            match self.context.triggers.try_recv() {
                Ok(request) => self.serve(request),
                Err(_none) => break,
            }
        }
    }

    fn serve(&mut self, request: DeskRequest) {
        match request {
            DeskRequest::Enrol { object: (namespace, name), metadata, reply } => {
                let object = ObjectKey { namespace, name };
                // Who asked may have gone meanwhile.
                let _ = reply.send(self.index.enrol_trigger(&object, &metadata));
            }
            DeskRequest::Release(target) => self.index.release_trigger(&target),
        }
    }

    fn read_config(&mut self, name: &'static str, update: Update<ConfigMapFacts>) {
        let data = match update {
            Update::Reset(all) => all.into_iter().next().map(|found| found.data),
            Update::Apply(one) => Some(one.data),
            Update::Delete(_) => None,
        };
        let data = data.unwrap_or_default();
        let problems = match name {
            CONFIG_AUTOSCALER => match self.context.reader.defaults(&data) {
                Ok(defaults) => {
                    self.index.change_settings(|settings| {
                        settings.defaults = defaults;
                        settings.defaults_set = data.into_keys().collect();
                    });
                    Vec::new()
                }
                Err(why) => vec![invalid(name, why)],
            },
            CONFIG_PODSWELL => match self.context.reader.process(&data) {
                Ok(process) => {
                    self.index.change_settings(|settings| settings.process = process);
                    Vec::new()
                }
                Err(why) => {
                    // A freeze is an emergency stop: it counts whatever else is wrong beside it.
                    if self.context.reader.asks_for_freeze(&data) {
                        self.index.change_settings(|settings| settings.process.freeze = true);
                    }
                    vec![invalid(name, why)]
                }
            },
            _ => {
                let (sources, problems) = self.context.reader.sources(&data);
                self.index.change_settings(|settings| settings.sources = sources);
                problems
            }
        };
        self.note_problems(name, &problems);
    }

    fn note_problems(&mut self, name: &'static str, problems: &[Problem]) {
        let before = self.config_problems.insert(name, problems.to_vec()).unwrap_or_default();
        if before == problems {
            return;
        }
        for problem in problems {
            tracing::error!(configmap = name, problem = %problem, "bad configuration");
        }
        if problems.is_empty() {
            tracing::info!(configmap = name, "configuration is good again");
        }
        let all = self.config_problems.values().flatten().cloned().collect();
        self.index.change_settings(|settings| settings.problems = all);
    }

    /// Hands on what is new. Returns whether the engine's task still runs.
    async fn hand_on(&mut self) -> bool {
        for output in self.index.take_outputs() {
            match output {
                Output::Tell(event) => {
                    if !self.context.engine.tell(event).await {
                        return false;
                    }
                }
                Output::Enrol { target, enrolled, uid } => {
                    self.context.uids.insert(target.clone(), uid);
                    self.context.roster.write().enrol(&target, enrolled);
                }
                Output::Expel(target) => {
                    self.context.uids.remove(&target);
                    self.context.roster.write().remove(&target);
                }
                Output::ScaledObject(object) => self.context.scaled_objects.write().insert(object),
                Output::ScaledObjectGone(id) => self.context.scaled_objects.write().remove(&id),
            }
        }
        true
    }

    fn changes(&self) -> Changes {
        let Context { client, namespace, .. } = &self.context;
        let start =
            |watch: &Watch, id| (watch.start)(&Place { client, own_namespace: namespace, id });
        let of_kind = |watch: &Watch| {
            watch.ids(&self.scopes).into_iter().map(|id| start(watch, id)).collect::<Vec<_>>()
        };
        WATCHES.iter().flat_map(of_kind).collect()
    }
}

fn invalid(name: &str, why: String) -> Problem {
    let fallback = "the last good one stays in force".to_owned();
    Problem { code: ProblemCode::InvalidConfigMap, key: name.to_owned(), why, fallback }
}

type Changes = SelectAll<BoxStream<'static, Change>>;

/// Which watch it is.
#[derive(Clone, Debug)]
struct WatchId {
    /// The plural of the kind, or the ConfigMap's name.
    kind: &'static str,
    /// The name in logs and readiness.
    name: Arc<str>,
    scope: Scope,
}

/// One thing that a watch has to say.
#[derive(Debug)]
struct Change {
    watch: WatchId,
    news: News,
}

#[derive(Debug)]
enum News {
    Deployments(Update<DeploymentFacts>),
    ReplicaSets(Update<ReplicaSetFacts>),
    Pods(Update<OwnedPod>),
    Hpas(Update<HpaFacts>),
    ScaledObjects(Update<ScaledObject>),
    Namespaces(Update<NamespaceFacts>),
    ConfigMap(Update<ConfigMapFacts>),
    Skipped { object: String, error: String },
    Failed(K8sError),
}

impl News {
    fn is_list(&self) -> bool {
        match self {
            Self::Deployments(update) => update.is_list(),
            Self::ReplicaSets(update) => update.is_list(),
            Self::Pods(update) => update.is_list(),
            Self::Hpas(update) => update.is_list(),
            Self::ScaledObjects(update) => update.is_list(),
            Self::Namespaces(update) => update.is_list(),
            Self::ConfigMap(update) => update.is_list(),
            Self::Skipped { .. } | Self::Failed(_) => false,
        }
    }
}

#[derive(Debug)]
enum Update<T> {
    /// The complete list.
    Reset(Vec<T>),
    /// One object, new or changed.
    Apply(T),
    /// One object that is gone, or of no interest any more.
    Delete(ObjectKey),
}

impl<T> Update<T> {
    fn is_list(&self) -> bool {
        matches!(self, Self::Reset(_))
    }
}

/// The watches of one kind.
struct Watch {
    /// The plural of the kind, or the ConfigMap's name.
    kind: &'static str,
    reach: Reach,
    start: fn(&Place<'_>) -> BoxStream<'static, Change>,
}

/// Where the objects of a kind are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Wherever workloads are: one watch for each scope.
    Workloads,
    /// In podswell's own namespace: one watch.
    Own,
}

impl Watch {
    fn ids(&self, scopes: &[Scope]) -> Vec<WatchId> {
        let scopes = match self.reach {
            Reach::Workloads => scopes,
            Reach::Own => &[Scope::Everywhere],
        };
        let id = |scope: &Scope| WatchId {
            kind: self.kind,
            name: scope.watch_name(self.kind),
            scope: scope.clone(),
        };
        scopes.iter().map(id).collect()
    }
}

fn watch_ids(scopes: &[Scope]) -> Vec<WatchId> {
    WATCHES.iter().flat_map(|watch| watch.ids(scopes)).collect()
}

/// What one watch is started with.
struct Place<'a> {
    client: &'a Client,
    own_namespace: &'a str,
    id: WatchId,
}

impl Place<'_> {
    /// The objects of a kind within the watch's scope.
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        self.id.scope.api(self.client)
    }
}

/// Every kind that is watched, and so every right to list and watch that podswell needs.
const WATCHES: [Watch; 9] = [
    Watch {
        kind: "deployments",
        reach: Reach::Workloads,
        start: |place| {
            let api = place.api::<DeserializeGuard<Deployment>>();
            let stream = object_watcher(api, config());
            follow(place, stream, guarded(facts::deployment), News::Deployments)
        },
    },
    Watch {
        kind: "replicasets",
        reach: Reach::Workloads,
        start: |place| {
            let api = place.api::<PartialObjectMeta<ReplicaSet>>();
            let stream = object_watcher(api, config());
            follow(place, stream, plain(facts::replica_set), News::ReplicaSets)
        },
    },
    Watch {
        kind: "pods",
        reach: Reach::Workloads,
        start: |place| {
            // Finished pods neither serve nor count; there may be very many of them.
            let config = config().fields("status.phase!=Succeeded,status.phase!=Failed");
            let stream = object_watcher(place.api::<DeserializeGuard<Pod>>(), config);
            follow(place, stream, guarded(facts::pod), News::Pods)
        },
    },
    Watch {
        kind: "horizontalpodautoscalers",
        reach: Reach::Workloads,
        start: |place| {
            let api = place.api::<DeserializeGuard<HorizontalPodAutoscaler>>();
            let stream = object_watcher(api, config());
            follow(place, stream, guarded(facts::hpa), News::Hpas)
        },
    },
    Watch { kind: SCALED_OBJECTS, reach: Reach::Workloads, start: scaled_objects },
    Watch { kind: "namespaces", reach: Reach::Workloads, start: namespaces },
    Watch { kind: CONFIG_AUTOSCALER, reach: Reach::Own, start: config_map },
    Watch { kind: CONFIG_PODSWELL, reach: Reach::Own, start: config_map },
    Watch { kind: CONFIG_SOURCES, reach: Reach::Own, start: config_map },
];

/// Each ConfigMap has its own watch by name: then the right to read it can be given by name too.
fn config_map(place: &Place<'_>) -> BoxStream<'static, Change> {
    let api: Api<DeserializeGuard<ConfigMap>> =
        Api::namespaced(place.client.clone(), place.own_namespace);
    let stream = object_watcher(api, config().fields(&format!("metadata.name={}", place.id.kind)));
    follow(place, stream, guarded(facts::config_map), News::ConfigMap)
}

/// Watches all namespaces, or asks for one.
fn namespaces(place: &Place<'_>) -> BoxStream<'static, Change> {
    let Some(name) = place.id.scope.namespace() else {
        let api = Api::<PartialObjectMeta<Namespace>>::all(place.client.clone());
        return follow(
            place,
            object_watcher(api, config()),
            plain(facts::namespace),
            News::Namespaces,
        );
    };
    let watch = place.id.clone();
    let (mut was_read, mut was_said) = (false, false);
    poll_namespace(place.client, name)
        .filter_map(move |news| {
            let news = match news {
                NamespaceNews::Read(found) => {
                    was_read = true;
                    Some(News::Namespaces(Update::Reset(found.into_iter().collect())))
                }
                // Its annotations may say no; but one that never could be asked forbids nothing.
                NamespaceNews::Forbidden(_) if !was_read => {
                    let is_first = !std::mem::replace(&mut was_said, true);
                    is_first.then(|| without_annotations(&watch))
                }
                NamespaceNews::Forbidden(error) | NamespaceNews::Failed(error) => {
                    Some(News::Failed(error))
                }
            };
            let change = news.map(|news| Change { watch: watch.clone(), news });
            std::future::ready(change)
        })
        .boxed()
}

fn without_annotations(watch: &WatchId) -> News {
    let namespace = watch.scope.namespace().map(|name| &**name);
    let fix = "let podswell's ServiceAccount get it: apply what podswell rbac --namespaces prints";
    tracing::warn!(namespace, fix, "may not read the namespace: its annotations do not count");
    News::Namespaces(Update::Reset(Vec::new()))
}

fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE_SIZE)
}

/// An object as far as it could be understood.
enum Parsed<T> {
    Facts(T),
    /// Nothing that podswell looks at.
    Irrelevant,
    Malformed(String),
}

fn plain<K, T>(convert: fn(K) -> Option<T>) -> impl Fn(K) -> Parsed<T> {
    move |object| convert(object).map_or(Parsed::Irrelevant, Parsed::Facts)
}

fn guarded<K, T>(convert: fn(K) -> Option<T>) -> impl Fn(DeserializeGuard<K>) -> Parsed<T> {
    move |guard| match guard.0 {
        Ok(object) => convert(object).map_or(Parsed::Irrelevant, Parsed::Facts),
        Err(invalid) => Parsed::Malformed(invalid.error),
    }
}

/// Turns a watch into news. A list is collected until it is complete; an object is turned into facts
/// before the next one is looked at.
fn follow<K, T>(
    place: &Place<'_>,
    stream: impl Stream<Item = Result<WatchEvent<K>, watcher::Error>> + Send + 'static,
    parse: impl Fn(K) -> Parsed<T> + Send + 'static,
    wrap: fn(Update<T>) -> News,
) -> BoxStream<'static, Change>
where
    K: Resource + Send + 'static,
    T: Send + 'static,
{
    let (mut listed, watch) = (Vec::new(), place.id.clone());
    stream
        .default_backoff()
        .filter_map(move |step| {
            let news = news_of(step, &mut listed, watch.kind, &parse, wrap);
            let watch = || watch.clone();
            std::future::ready(news.map(|news| Change { watch: watch(), news }))
        })
        .boxed()
}

/// Follows `ScaledObjects`. A cluster that does not serve them has none, which is no failure; it is asked
/// again, since KEDA may be installed at any time. Without the right to read them the rest goes on,
/// because the autoscalers that they make are seen all the same.
fn scaled_objects(place: &Place<'_>) -> BoxStream<'static, Change> {
    let (client, resource) = (place.client.clone(), scaled_object::resource());
    let api: Api<DynamicObject> = match place.id.scope.namespace() {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let (mut listed, watch) = (Vec::new(), place.id.clone());
    let parse = plain(scaled_object::facts);
    object_watcher(api, config())
        .backoff(Evenly(ABSENCE_PAUSE))
        .filter_map(move |step| {
            let news = match step {
                Err(error) if watch_reason(&error) == "NotFound" => {
                    Some(News::ScaledObjects(Update::Reset(Vec::new())))
                }
                step => news_of(step, &mut listed, watch.kind, &parse, News::ScaledObjects),
            };
            let watch = || watch.clone();
            std::future::ready(news.map(|news| Change { watch: watch(), news }))
        })
        .boxed()
}

/// Pauses that are all alike.
struct Evenly(Duration);

impl Iterator for Evenly {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0)
    }
}

impl Backoff for Evenly {
    fn reset(&mut self) {}
}

fn news_of<K: Resource, T>(
    step: Result<WatchEvent<K>, watcher::Error>,
    listed: &mut Vec<T>,
    watch: &'static str,
    parse: &impl Fn(K) -> Parsed<T>,
    wrap: fn(Update<T>) -> News,
) -> Option<News> {
    let failed = |source| News::Failed(K8sError::Watch { what: watch, source: Box::new(source) });
    match step {
        Err(source) => Some(failed(source)),
        Ok(WatchEvent::Init) => {
            listed.clear();
            None
        }
        Ok(WatchEvent::InitApply(object)) => {
            let name = name_of(&object);
            match parse(object) {
                Parsed::Facts(facts) => {
                    listed.push(facts);
                    None
                }
                Parsed::Irrelevant => None,
                Parsed::Malformed(error) => Some(News::Skipped { object: name, error }),
            }
        }
        Ok(WatchEvent::InitDone) => Some(wrap(Update::Reset(std::mem::take(listed)))),
        Ok(WatchEvent::Apply(object)) => {
            let (name, key) = (name_of(&object), ObjectKey::of(object.meta()));
            match parse(object) {
                Parsed::Facts(facts) => Some(wrap(Update::Apply(facts))),
                Parsed::Irrelevant => Some(wrap(Update::Delete(key?))),
                Parsed::Malformed(error) => Some(News::Skipped { object: name, error }),
            }
        }
        Ok(WatchEvent::Delete(object)) => Some(wrap(Update::Delete(ObjectKey::of(object.meta())?))),
    }
}

fn name_of(object: &impl Resource) -> String {
    let metadata = object.meta();
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", part(&metadata.namespace), part(&metadata.name))
}

#[cfg(test)]
mod tests;
