//! Which pods run where: what the node player knows and others read.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use super::app::App;

/// A pod that runs.
#[derive(Debug, Clone)]
pub(crate) struct RunningPod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Name of the Deployment that it belongs to; its own name, if to none.
    pub(crate) deployment: String,
    pub(crate) ip: Ipv4Addr,
    /// Takes new requests: its status says ready and it is not being deleted.
    pub(crate) ready: bool,
    /// Its program, with its counts and switches.
    pub(crate) app: Arc<App>,
}

/// All pods that run, by their unique id. Clones share one table.
#[derive(Debug, Clone)]
pub(crate) struct PodTable {
    pods: Arc<RwLock<BTreeMap<String, RunningPod>>>,
    changes: Arc<watch::Sender<u64>>,
}

impl PodTable {
    pub(crate) fn new() -> Self {
        Self { pods: Arc::default(), changes: Arc::new(watch::Sender::new(0)) }
    }

    /// All pods of a Deployment, in the order of their names.
    pub(crate) fn of(&self, namespace: &str, deployment: &str) -> Vec<RunningPod> {
        let mut pods: Vec<_> = self
            .pods
            .read()
            .values()
            .filter(|pod| pod.namespace == namespace && pod.deployment == deployment)
            .cloned()
            .collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        pods
    }

    /// The pods of a Deployment that take requests.
    pub(crate) fn ready(&self, namespace: &str, deployment: &str) -> Vec<RunningPod> {
        let mut pods = self.of(namespace, deployment);
        pods.retain(|pod| pod.ready);
        pods
    }

    /// All pods of all Deployments.
    pub(crate) fn all(&self) -> Vec<RunningPod> {
        self.pods.read().values().cloned().collect()
    }

    /// Requests in flight at all pods of a Deployment, at this moment.
    pub(crate) fn in_flight(&self, namespace: &str, deployment: &str) -> u64 {
        self.of(namespace, deployment).iter().map(|pod| pod.app.in_flight()).sum()
    }

    /// Tells of every change; its number has no meaning.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn insert(&self, uid: &str, pod: RunningPod) {
        self.pods.write().insert(uid.to_owned(), pod);
        self.changed();
    }

    pub(super) fn set_ready(&self, uid: &str, ready: bool) {
        if let Some(pod) = self.pods.write().get_mut(uid) {
            pod.ready = ready;
        }
        self.changed();
    }

    pub(super) fn remove(&self, uid: &str) {
        self.pods.write().remove(uid);
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|number| *number += 1);
    }
}
