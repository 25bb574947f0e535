//! Who is measured and where: the targets, their wiring and their pods, as plain data that the
//! Kubernetes adapter writes and the sources read. The lock around it belongs to the runtime.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::Timestamp;
use super::source::Wiring;
use super::target::TargetId;

/// One pod of a target, as far as a source needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// The pod's name.
    pub name: Arc<str>,
    /// Its address; `None` until it has one.
    pub ip: Option<IpAddr>,
    /// Running, not being deleted, condition Ready.
    pub ready: bool,
    /// Has a deletion time stamp.
    pub terminating: bool,
    /// `status.startTime`.
    pub started_at: Option<Timestamp>,
    /// When it was last seen to change from ready to not ready (engine time); `None` while it is ready
    /// or if it never was.
    pub unready_since: Option<Timestamp>,
}

/// One target with what has to be asked on its behalf.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// What to ask.
    pub wiring: Arc<Wiring>,
    /// `spec.replicas`.
    pub replicas: i32,
    /// Its pods, by name.
    pub pods: Arc<Vec<PodFacts>>,
}

/// All targets that are decided, and which target each of their pods belongs to.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    targets: BTreeMap<TargetId, Enrolled>,
    pods: BTreeMap<Arc<str>, BTreeMap<Arc<str>, TargetId>>,
}

impl Roster {
    /// Adds a target or replaces what is known of it.
    pub fn enrol(&mut self, target: &TargetId, enrolled: Enrolled) {
        self.forget_pods(target);
        let of_namespace = self.pods.entry(target.namespace.clone()).or_default();
        for pod in enrolled.pods.iter() {
            of_namespace.insert(pod.name.clone(), target.clone());
        }
        self.targets.insert(target.clone(), enrolled);
    }

    /// Removes a target and its pods.
    pub fn remove(&mut self, target: &TargetId) {
        self.forget_pods(target);
        self.targets.remove(target);
        if self.pods.get(&target.namespace).is_some_and(BTreeMap::is_empty) {
            self.pods.remove(&target.namespace);
        }
    }

    /// The target that a pod belongs to by its controller owners.
    pub fn target_of_pod(&self, namespace: &str, pod: &str) -> Option<&TargetId> {
        self.pods.get(namespace)?.get(pod)
    }

    /// What is known of one target.
    pub fn get(&self, target: &TargetId) -> Option<&Enrolled> {
        self.targets.get(target)
    }

    /// All targets in order.
    pub fn iter(&self) -> impl Iterator<Item = (&TargetId, &Enrolled)> {
        self.targets.iter()
    }

    /// How many targets there are.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there is no target.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    fn forget_pods(&mut self, target: &TargetId) {
        let (Some(old), Some(of_namespace)) =
            (self.targets.get(target), self.pods.get_mut(&target.namespace))
        else {
            return;
        };
        for pod in old.pods.iter() {
            if of_namespace.get(&pod.name) == Some(target) {
                of_namespace.remove(&pod.name);
            }
        }
    }
}
