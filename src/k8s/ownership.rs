//! Which pods belong to which Deployment: by controlling owner, never by label selector.
//!
//! Selectors of two workloads may overlap, and during a rolling update the pods of the old ReplicaSet
//! still carry load: owners answer both. An owner reference is written by whoever may create the pod,
//! so it counts only within the owner's own namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::facts::{ObjectKey, OwnedPod, Phase, ReplicaSetFacts};
use super::scope::Scope;
use crate::core::roster::PodFacts;
use crate::core::target::PodCounts;

type Uid = Arc<str>;

/// A Deployment as owners see it: its namespace and its uid.
pub(super) type Owner = (Arc<str>, Uid);

#[derive(Clone, Debug)]
struct PodEntry {
    pod: OwnedPod,
    unready_since: Option<Timestamp>,
}

/// ReplicaSets and pods, joined to the Deployments that control them. Either may arrive first.
#[derive(Debug, Default)]
pub(super) struct Ownership {
    sets: BTreeMap<ObjectKey, ReplicaSetFacts>,
    set_of_uid: BTreeMap<Uid, ObjectKey>,
    sets_of: BTreeMap<Owner, BTreeSet<Uid>>,
    pods: BTreeMap<ObjectKey, PodEntry>,
    pods_of_set: BTreeMap<Uid, BTreeSet<ObjectKey>>,
}

impl Ownership {
    /// Adds or replaces a ReplicaSet. Returns the Deployments whose pods may have changed.
    pub(super) fn apply_set(&mut self, set: ReplicaSetFacts) -> Vec<Owner> {
        if self.sets.get(&set.key) == Some(&set) {
            return Vec::new();
        }
        let mut touched = self.delete_set(&set.key);
        let owner = (set.key.namespace.clone(), set.deployment.clone());
        self.set_of_uid.insert(set.uid.clone(), set.key.clone());
        self.sets_of.entry(owner.clone()).or_default().insert(set.uid.clone());
        self.sets.insert(set.key.clone(), set);
        touched.push(owner);
        touched
    }

    /// Removes a ReplicaSet. Returns the Deployment that it belonged to.
    pub(super) fn delete_set(&mut self, key: &ObjectKey) -> Vec<Owner> {
        let Some(set) = self.sets.remove(key) else { return Vec::new() };
        let owner = (set.key.namespace, set.deployment);
        self.set_of_uid.remove(&set.uid);
        remove_member(&mut self.sets_of, &owner, &set.uid);
        vec![owner]
    }

    /// Replaces all ReplicaSets of the scope.
    pub(super) fn reset_sets(&mut self, scope: &Scope, sets: Vec<ReplicaSetFacts>) -> Vec<Owner> {
        let listed: BTreeSet<_> = sets.iter().map(|set| set.key.clone()).collect();
        let known = self.sets.keys().filter(|key| scope.covers(&key.namespace));
        let gone: Vec<_> = known.filter(|key| !listed.contains(*key)).cloned().collect();
        let mut touched: Vec<_> = gone.iter().flat_map(|key| self.delete_set(key)).collect();
        for set in sets {
            touched.extend(self.apply_set(set));
        }
        touched
    }

    /// Adds or replaces a pod; `now` is when a pod that is no longer ready was seen to be so.
    pub(super) fn apply_pod(&mut self, now: Timestamp, pod: OwnedPod) -> Vec<Owner> {
        let old = self.pods.get(&pod.key);
        if old.is_some_and(|old| old.pod == pod) {
            return Vec::new();
        }
        let unready_since = match old {
            _ if takes_requests(&pod) => None,
            Some(old) if takes_requests(&old.pod) => Some(now),
            Some(old) => old.unready_since,
            None => None,
        };
        let mut touched = match old {
            Some(old) if old.pod.replica_set != pod.replica_set => {
                let key = pod.key.clone();
                self.delete_pod(&key)
            }
            _ => Vec::new(),
        };
        self.pods_of_set.entry(pod.replica_set.clone()).or_default().insert(pod.key.clone());
        touched.extend(self.owner_of(&pod));
        self.pods.insert(pod.key.clone(), PodEntry { pod, unready_since });
        touched
    }

    /// Removes a pod.
    pub(super) fn delete_pod(&mut self, key: &ObjectKey) -> Vec<Owner> {
        let Some(entry) = self.pods.remove(key) else { return Vec::new() };
        remove_member(&mut self.pods_of_set, &entry.pod.replica_set, key);
        self.owner_of(&entry.pod).into_iter().collect()
    }

    /// Replaces all pods of the scope.
    pub(super) fn reset_pods(
        &mut self,
        now: Timestamp,
        scope: &Scope,
        pods: Vec<OwnedPod>,
    ) -> Vec<Owner> {
        let listed: BTreeSet<_> = pods.iter().map(|pod| pod.key.clone()).collect();
        let known = self.pods.keys().filter(|key| scope.covers(&key.namespace));
        let gone: Vec<_> = known.filter(|key| !listed.contains(*key)).cloned().collect();
        let mut touched: Vec<_> = gone.iter().flat_map(|key| self.delete_pod(key)).collect();
        for pod in pods {
            touched.extend(self.apply_pod(now, pod));
        }
        touched
    }

    /// The pods of a Deployment, by name, from all of its ReplicaSets.
    pub(super) fn pods_of(&self, owner: &Owner) -> (PodCounts, Vec<PodFacts>) {
        let mut counts = PodCounts::default();
        let mut pods = Vec::new();
        let sets = self.sets_of.get(owner).into_iter().flatten();
        let keys = sets.filter_map(|set| self.pods_of_set.get(set)).flatten();
        for entry in keys.filter_map(|key| self.pods.get(key)) {
            if entry.pod.key.namespace == owner.0 {
                count(&mut counts, &entry.pod);
                pods.push(facts_of(entry));
            }
        }
        pods.sort_by(|a: &PodFacts, b| a.name.cmp(&b.name));
        (counts, pods)
    }

    fn owner_of(&self, pod: &OwnedPod) -> Option<Owner> {
        let set = self.sets.get(self.set_of_uid.get(&pod.replica_set)?)?;
        let same = set.key.namespace == pod.key.namespace;
        same.then(|| (set.key.namespace.clone(), set.deployment.clone()))
    }
}

/// Ready in the sense of a Service's endpoints: running, not being deleted, condition Ready.
fn takes_requests(pod: &OwnedPod) -> bool {
    pod.phase == Phase::Running && !pod.terminating && pod.ready
}

/// Counts as Knative does: a pending pod is pending even while it is being deleted.
fn count(counts: &mut PodCounts, pod: &OwnedPod) {
    if takes_requests(pod) {
        counts.ready += 1;
        return;
    }
    counts.not_ready += 1;
    match (pod.phase, pod.terminating) {
        (Phase::Pending, _) => counts.pending += 1,
        (Phase::Running, true) => counts.terminating += 1,
        (Phase::Running, false) => {}
    }
}

fn facts_of(entry: &PodEntry) -> PodFacts {
    PodFacts {
        name: entry.pod.key.name.clone(),
        ip: entry.pod.ip,
        ready: takes_requests(&entry.pod),
        terminating: entry.pod.terminating,
        started_at: entry.pod.started_at,
        unready_since: entry.unready_since,
    }
}

fn remove_member<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, member: &V) {
    if let Some(members) = map.get_mut(key) {
        members.remove(member);
        if members.is_empty() {
            map.remove(key);
        }
    }
}
