//! What a run shows: who wrote what when, and how many pods were missing meanwhile.

use std::collections::BTreeMap;
use std::fmt::Write as _;
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

use crate::support::stat::float;
use crate::support::table::PodTable;

/// How often missing pods are counted.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Seen {
    /// Replicas of each Deployment, and when the API server stored them.
    changes: BTreeMap<String, Vec<(Instant, i32)>>,
    pods: u64,
    unmet_pod_seconds: f64,
}

/// Notes what happens in a namespace until it is dropped.
pub(crate) struct Recorder {
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The figures of one run. Times are seconds since the load changed; `None`: not within the limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) first_raise: Option<f64>,
    pub(crate) full_scale: Option<f64>,
    pub(crate) last_write: Option<f64>,
    pub(crate) unmet_pod_seconds: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) pod_starts: Option<f64>,
    pub(crate) writes: Option<f64>,
}

impl Recorder {
    pub(crate) fn start(client: &Client, table: PodTable, namespace: &str, wanted: usize) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let tasks = vec![
            tokio::spawn(watch_deployments(client.clone(), namespace.to_owned(), seen.clone())),
            tokio::spawn(watch_pods(client.clone(), namespace.to_owned(), seen.clone())),
            tokio::spawn(count_missing(table, namespace.to_owned(), wanted, seen.clone())),
        ];
        Self { seen, tasks }
    }

    /// What happened since `began`, where each of the Deployments should have `wanted` replicas; 90 % of
    /// it count as full, because the HPA leaves 10 % alone.
    pub(crate) fn figures(&self, began: Instant, wanted: usize) -> Figures {
        let seen = self.seen.lock();
        let full = i32::try_from((wanted * 9).div_ceil(10)).unwrap_or(i32::MAX);
        let of_all = seen.changes.values();
        let since = |at: &Instant| at.saturating_duration_since(began).as_secs_f64();
        let after = |change: &&(Instant, i32)| change.0 > began;
        let raises = of_all.clone().flat_map(|changes| changes.iter().filter(after));
        let first = raises.clone().map(|(at, _)| since(at)).min_by(f64::total_cmp);
        let last = raises.clone().map(|(at, _)| since(at)).max_by(f64::total_cmp);
        let mut times = of_all.map(|changes| {
            let found = changes.iter().find(|(at, number)| *at > began && *number >= full);
            found.map(|(at, _)| since(at))
        });
        let full_scale = times.try_fold(0.0_f64, |most, at| at.map(|at| most.max(at)));
        Figures {
            first_raise: first,
            full_scale,
            last_write: last,
            unmet_pod_seconds: Some(seen.unmet_pod_seconds),
            p99: None,
            pod_starts: Some(float(seen.pods)),
            writes: Some(float(u64::try_from(raises.count()).unwrap_or(u64::MAX))),
        }
    }

    /// Forgets what was counted so far: the load changes now.
    pub(crate) fn begin(&self) -> Instant {
        let mut seen = self.seen.lock();
        (seen.pods, seen.unmet_pod_seconds) = (0, 0.0);
        Instant::now()
    }
}

async fn watch_deployments(client: Client, namespace: String, seen: Arc<Mutex<Seen>>) {
    let api: Api<Deployment> = Api::namespaced(client, &namespace);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(object) | Event::InitApply(object)) = event else { continue };
        let replicas = object.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let mut seen = seen.lock();
        let changes = seen.changes.entry(object.name_any()).or_default();
        if changes.last().is_none_or(|(_, last)| *last != replicas) {
            changes.push((Instant::now(), replicas));
        }
    }
}

async fn watch_pods(client: Client, namespace: String, seen: Arc<Mutex<Seen>>) {
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
    while let Some(event) = events.next().await {
        // A new pod is on no node yet.
        if let Ok(Event::Apply(pod)) = event
            && pod.spec.is_some_and(|spec| spec.node_name.is_none())
        {
            seen.lock().pods += 1;
        }
    }
}

async fn count_missing(table: PodTable, namespace: String, wanted: usize, seen: Arc<Mutex<Seen>>) {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let mut ready: BTreeMap<String, usize> = BTreeMap::new();
        let of_run = table.all().into_iter().filter(|pod| pod.namespace == namespace);
        for pod in of_run {
            *ready.entry(pod.deployment).or_default() += usize::from(pod.ready);
        }
        let missing: usize = ready.values().map(|ready| wanted.saturating_sub(*ready)).sum();
        let span = std::mem::replace(&mut last, Instant::now()).elapsed().as_secs_f64();
        seen.lock().unmet_pod_seconds += float(u64::try_from(missing).unwrap_or(u64::MAX)) * span;
    }
}

impl Figures {
    pub(crate) fn head() -> &'static str {
        "| load | autoscaler | first raise, s | full scale, s | last write, s | unmet pod-seconds \
         | request p99, s | pod starts | writes |\n|---|---|--:|--:|--:|--:|--:|--:|--:|"
    }

    fn all(&self) -> [Option<f64>; 7] {
        [
            self.first_raise,
            self.full_scale,
            self.last_write,
            self.unmet_pod_seconds,
            self.p99,
            self.pod_starts,
            self.writes,
        ]
    }
}

/// One row of the table, from all runs of one kind.
pub(crate) fn row(scenario: &str, peer: &str, runs: &[Figures]) -> String {
    let mut text = format!("| {scenario} | {peer} |");
    for index in 0..7 {
        let mut values: Vec<f64> =
            runs.iter().filter_map(|run| run.all().into_iter().nth(index).flatten()).collect();
        values.sort_by(f64::total_cmp);
        let digits = usize::from(index < 5);
        let show = |value: Option<&f64>| {
            value.map_or_else(|| "–".to_owned(), |of| format!("{of:.digits$}"))
        };
        let middle = show(values.get(values.len() / 2));
        let lost = runs.len() - values.len();
        let range = if values.len() > 1 {
            format!(" ({} to {})", show(values.first()), show(values.last()))
        } else {
            String::new()
        };
        let never =
            if lost > 0 && !values.is_empty() { format!(", {lost} never") } else { String::new() };
        // Writing to a String cannot fail.
        let _ = write!(text, " {middle}{range}{never} |");
    }
    text
}
