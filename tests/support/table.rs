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

/// All pods that run. Clones share one table.
#[derive(Debug, Clone)]
pub(crate) struct PodTable {
    pods: Arc<RwLock<Pods>>,
    changes: Arc<watch::Sender<u64>>,
}

/// The pods by namespace, Deployment and unique id, so that thousands can be asked for theirs all the time.
#[derive(Debug, Default)]
struct Pods {
    namespaces: BTreeMap<String, BTreeMap<String, BTreeMap<String, RunningPod>>>,
    /// Namespace and Deployment by unique id.
    places: BTreeMap<String, (String, String)>,
}

impl Pods {
    fn of(&self, namespace: &str, deployment: &str) -> impl Iterator<Item = &RunningPod> {
        let found = self.namespaces.get(namespace).and_then(|all| all.get(deployment));
        found.into_iter().flat_map(BTreeMap::values)
    }

    fn all(&self) -> impl Iterator<Item = &RunningPod> {
        self.namespaces.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values)
    }

    fn by_uid(&mut self, uid: &str) -> Option<&mut RunningPod> {
        let (namespace, deployment) = self.places.get(uid)?;
        self.namespaces.get_mut(namespace)?.get_mut(deployment)?.get_mut(uid)
    }

    fn insert(&mut self, uid: &str, pod: RunningPod) {
        let place = (pod.namespace.clone(), pod.deployment.clone());
        let of_namespace = self.namespaces.entry(pod.namespace.clone()).or_default();
        of_namespace.entry(pod.deployment.clone()).or_default().insert(uid.to_owned(), pod);
        self.places.insert(uid.to_owned(), place);
    }

    fn remove(&mut self, uid: &str) {
        let Some((namespace, deployment)) = self.places.remove(uid) else { return };
        let Some(of_namespace) = self.namespaces.get_mut(&namespace) else { return };
        if let Some(pods) = of_namespace.get_mut(&deployment) {
            pods.remove(uid);
            if pods.is_empty() {
                of_namespace.remove(&deployment);
            }
        }
    }
}

impl PodTable {
    pub(crate) fn new() -> Self {
        Self { pods: Arc::default(), changes: Arc::new(watch::Sender::new(0)) }
    }

    /// All pods of a Deployment, in the order of their names.
    pub(crate) fn of(&self, namespace: &str, deployment: &str) -> Vec<RunningPod> {
        let mut pods: Vec<_> = self.pods.read().of(namespace, deployment).cloned().collect();
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
        self.pods.read().all().cloned().collect()
    }

    /// How many pods of each Deployment of a namespace take requests.
    pub(crate) fn ready_by_deployment(&self, namespace: &str) -> BTreeMap<String, usize> {
        let pods = self.pods.read();
        let of_namespace = pods.namespaces.get(namespace).into_iter().flatten();
        let ready = of_namespace.map(|(deployment, pods)| {
            (deployment.clone(), pods.values().filter(|pod| pod.ready).count())
        });
        ready.collect()
    }

    /// Requests in flight at all pods of a Deployment, at this moment.
    pub(crate) fn in_flight(&self, namespace: &str, deployment: &str) -> u64 {
        self.pods.read().of(namespace, deployment).map(|pod| pod.app.in_flight()).sum()
    }

    /// Tells of every change; its number has no meaning.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn insert(&self, uid: &str, pod: RunningPod) {
        self.pods.write().insert(uid, pod);
        self.changed();
    }

    pub(super) fn set_ready(&self, uid: &str, ready: bool) {
        if let Some(pod) = self.pods.write().by_uid(uid) {
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
