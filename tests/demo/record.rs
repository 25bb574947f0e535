//! What the API server said of the Deployments, and when: the demo's assertions are about nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt as _};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Pause before a broken watch is looked at again.
const RETRY: Duration = Duration::from_millis(200);

/// A Deployment from one moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    /// `spec.replicas`.
    pub(crate) replicas: i32,
    /// `status.readyReplicas`.
    pub(crate) ready: i32,
}

type Histories = BTreeMap<String, Vec<Seen>>;

/// Every change of every Deployment since the start, by `namespace/name`.
#[derive(Debug)]
pub(crate) struct Record {
    histories: Arc<Mutex<Histories>>,
    watching: JoinHandle<()>,
}

impl Record {
    pub(crate) fn start(client: Client) -> Self {
        let histories = Arc::<Mutex<Histories>>::default();
        let watching = tokio::spawn(watch(client, Arc::clone(&histories)));
        Self { histories, watching }
    }

    /// The newest state, if it was ever seen.
    pub(crate) fn now(&self, workload: &str) -> Option<Seen> {
        self.histories.lock().get(workload).and_then(|history| history.last().copied())
    }

    /// How long after `since` the first state came that is as wanted.
    pub(crate) fn first(
        &self,
        workload: &str,
        since: Instant,
        wanted: impl Fn(&Seen) -> bool,
    ) -> Option<Duration> {
        let states = self.since(workload, since);
        states.iter().find(|seen| wanted(seen)).map(|seen| seen.at.duration_since(since))
    }

    /// The numbers of `spec.replicas` in force since then, oldest first, without repetitions.
    pub(crate) fn replicas(&self, workload: &str, since: Instant) -> Vec<i32> {
        let mut replicas: Vec<_> =
            self.since(workload, since).iter().map(|seen| seen.replicas).collect();
        replicas.dedup();
        replicas
    }

    /// The state of that moment and all later ones.
    fn since(&self, workload: &str, since: Instant) -> Vec<Seen> {
        let histories = self.histories.lock();
        let Some(history) = histories.get(workload) else { return Vec::new() };
        let before = history.iter().rev().find(|seen| seen.at <= since);
        let then = before.map(|seen| Seen { at: since, ..*seen });
        then.into_iter().chain(history.iter().filter(|seen| seen.at > since).copied()).collect()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

async fn watch(client: Client, histories: Arc<Mutex<Histories>>) {
    let deployments: Api<Deployment> = Api::all(client);
    let mut events = std::pin::pin!(watcher(deployments, watcher::Config::default()));
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(deployment) | Event::InitApply(deployment)) => {
                note(&mut histories.lock(), &deployment);
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

fn note(histories: &mut Histories, deployment: &Deployment) {
    let key = format!("{}/{}", deployment.namespace().unwrap_or_default(), deployment.name_any());
    let status = deployment.status.as_ref();
    let seen = Seen {
        at: Instant::now(),
        replicas: deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0),
        ready: status.and_then(|status| status.ready_replicas).unwrap_or(0),
    };
    let history = histories.entry(key).or_default();
    let same = |last: &Seen| (last.replicas, last.ready) == (seen.replicas, seen.ready);
    if !history.last().is_some_and(same) {
        history.push(seen);
    }
}
