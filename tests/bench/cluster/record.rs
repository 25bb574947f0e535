//! What a run shows: who wrote what when, and how many pods were missing meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::figures::Figures;
use crate::peer::Peer;
use crate::support::stat::float;
use crate::support::table::PodTable;

/// How often pods are counted.
const LOOK: Duration = Duration::from_millis(100);

/// What happened in a namespace.
#[derive(Debug, Default)]
struct Seen {
    /// Replicas of each Deployment, and when the API server stored them.
    changes: BTreeMap<String, Vec<(Instant, i32)>>,
    pods: u64,
    looks: Vec<Look>,
}

/// The pods at a moment.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    /// Pods that were asked for until then since the load changed, times seconds.
    pod_seconds: f64,
    /// Ready pods that were missing, times seconds.
    unmet_pod_seconds: f64,
}

/// By namespace.
type All = Arc<Mutex<BTreeMap<String, Seen>>>;

/// Notes what happens to the workloads of a run until it is dropped.
pub(crate) struct Recorder {
    all: All,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Recorder {
    /// Notes what becomes of Deployments whose names begin with `prefix`, each of which should come to
    /// have `wanted` ready pods.
    pub(crate) fn start(
        client: &Client,
        table: PodTable,
        peers: &[Peer],
        prefix: &str,
        wanted: usize,
    ) -> Self {
        let seen = peers.iter().map(|peer| (peer.namespace().to_owned(), Seen::default()));
        let all: All = Arc::new(Mutex::new(seen.collect()));
        let tasks = vec![
            tokio::spawn(watch_deployments(client.clone(), prefix.to_owned(), Arc::clone(&all))),
            tokio::spawn(watch_pods(client.clone(), prefix.to_owned(), Arc::clone(&all))),
            tokio::spawn(count_pods(table, prefix.to_owned(), wanted, Arc::clone(&all))),
        ];
        Self { all, tasks }
    }

    /// Forgets what was counted so far: the load changes now.
    pub(crate) fn begin(&self) -> Instant {
        for seen in self.all.lock().values_mut() {
            seen.pods = 0;
            seen.looks.clear();
        }
        Instant::now()
    }

    /// Pods that an autoscaler has asked for so far, times seconds.
    pub(crate) fn pod_seconds(&self, peer: Peer) -> f64 {
        let all = self.all.lock();
        let last = all.get(peer.namespace()).and_then(|seen| seen.looks.last());
        last.map_or(0.0, |look| look.pod_seconds)
    }

    /// When an autoscaler had asked for this many pod-seconds, and how many were unmet until then.
    pub(crate) fn until_spent(&self, peer: Peer, pod_seconds: f64) -> Option<(Instant, f64)> {
        let all = self.all.lock();
        let looks = &all.get(peer.namespace())?.looks;
        let found =
            looks.iter().find(|look| look.pod_seconds >= pod_seconds).or_else(|| looks.last())?;
        Some((found.at, found.unmet_pod_seconds))
    }

    /// What an autoscaler has done since `began`, whose Deployments should have `wanted` replicas; 90 % of
    /// it count as full, because the HPA leaves 10 % alone.
    pub(crate) fn figures(&self, peer: Peer, began: Instant, wanted: usize) -> Figures {
        let all = self.all.lock();
        let Some(seen) = all.get(peer.namespace()) else { return Figures::default() };
        let full = i32::try_from((wanted * 9).div_ceil(10)).unwrap_or(i32::MAX);
        let of_all = seen.changes.values();
        let since = |at: &Instant| at.saturating_duration_since(began).as_secs_f64();
        let after = |change: &&(Instant, i32)| change.0 > began;
        let raises = of_all.clone().flat_map(|changes| changes.iter().filter(after));
        let mut times = of_all.map(|changes| {
            let found = changes.iter().find(|(at, number)| *at > began && *number >= full);
            found.map(|(at, _)| since(at))
        });
        Figures {
            first_raise: raises.clone().map(|(at, _)| since(at)).min_by(f64::total_cmp),
            full_scale: times.try_fold(0.0_f64, |most, at| at.map(|at| most.max(at))),
            last_change: raises.clone().map(|(at, _)| since(at)).max_by(f64::total_cmp),
            pod_starts: Some(float(seen.pods)),
            changes: Some(float(u64::try_from(raises.count()).unwrap_or(u64::MAX))),
            ..Figures::default()
        }
    }
}

async fn watch_deployments(client: Client, prefix: String, all: All) {
    let api: Api<Deployment> = Api::all(client);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(object) | Event::InitApply(object)) = event else { continue };
        let replicas = object.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
        let mut all = all.lock();
        let Some(seen) = all.get_mut(&namespace).filter(|_| name.starts_with(&prefix)) else {
            continue;
        };
        let changes = seen.changes.entry(name).or_default();
        if changes.last().is_none_or(|(_, last)| *last != replicas) {
            changes.push((Instant::now(), replicas));
        }
    }
}

async fn watch_pods(client: Client, prefix: String, all: All) {
    let api: Api<Pod> = Api::all(client);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
    while let Some(event) = events.next().await {
        // A new pod is on no node yet.
        if let Ok(Event::Apply(pod)) = event
            && pod.name_any().starts_with(&prefix)
            && pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none())
            && let Some(seen) = all.lock().get_mut(&pod.namespace().unwrap_or_default())
        {
            seen.pods += 1;
        }
    }
}

async fn count_pods(table: PodTable, prefix: String, wanted: usize, all: All) {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let at = Instant::now();
        let span = at.duration_since(std::mem::replace(&mut last, at)).as_secs_f64();
        let number = |of: usize| float(u64::try_from(of).unwrap_or(u64::MAX));
        for (namespace, seen) in all.lock().iter_mut() {
            let ready = table.ready_by_deployment(namespace);
            let of_run = ready.iter().filter(|(name, _)| name.starts_with(&prefix));
            let missing = of_run.map(|(_, ready)| wanted.saturating_sub(*ready)).sum();
            let asked = seen.changes.values().filter_map(|changes| changes.last());
            let asked: f64 = asked.map(|(_, replicas)| f64::from(*replicas)).sum();
            let before = seen
                .looks
                .last()
                .map_or((0.0, 0.0), |look| (look.pod_seconds, look.unmet_pod_seconds));
            seen.looks.push(Look {
                at,
                pod_seconds: before.0 + asked * span,
                unmet_pod_seconds: before.1 + number(missing) * span,
            });
        }
    }
}
