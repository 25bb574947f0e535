//! Every change of every Deployment's replicas, as the API server tells it, held against the fewest that
//! are right at that moment: those that were decided for the load while nothing moved, or, while it moves
//! from pod to pod, those that can bear it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Pause before the watch is tried again while the API server is away.
const RETRY: Duration = Duration::from_millis(200);

/// Reads on until it is dropped.
pub(crate) struct Ledger {
    accounts: Arc<Mutex<BTreeMap<String, Account>>>,
    began: Instant,
    reading: JoinHandle<()>,
}

/// One Deployment.
#[derive(Debug, Clone, Default)]
struct Account {
    replicas: i32,
    /// When it changed to what.
    history: Vec<(Duration, i32)>,
    /// The fewest that are right at present.
    floor: i32,
    /// What was wrong first.
    wrong: Option<String>,
}

impl Ledger {
    pub(crate) fn start(client: Client) -> Self {
        let accounts = Arc::<Mutex<BTreeMap<String, Account>>>::default();
        let (writing, began) = (Arc::clone(&accounts), Instant::now());
        let reading = tokio::spawn(async move {
            let deployments: Api<Deployment> = Api::all(client);
            let mut events = std::pin::pin!(watcher(deployments, watcher::Config::default()));
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Apply(one) | Event::InitApply(one)) => {
                        note(&mut writing.lock(), began.elapsed(), &one);
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(RETRY).await,
                }
            }
        });
        Self { accounts, began, reading }
    }

    /// What the API server said last; −1 before it said anything.
    pub(crate) fn replicas(&self, key: &str) -> i32 {
        self.accounts.lock().get(key).map_or(-1, |account| account.replicas)
    }

    /// How often it changed so far.
    pub(crate) fn changes(&self, key: &str) -> usize {
        self.accounts.lock().get(key).map_or(0, |account| account.history.len())
    }

    /// What it changed to after so many changes.
    pub(crate) fn had(&self, key: &str, changes: usize) -> Vec<i32> {
        let accounts = self.accounts.lock();
        let history = accounts.get(key).map(|account| account.history.iter().skip(changes));
        history.into_iter().flatten().map(|(_, replicas)| *replicas).collect()
    }

    /// From now on fewer than these are wrong; there are as many.
    pub(crate) fn set_floor(&self, key: &str, floor: i32) {
        let mut accounts = self.accounts.lock();
        let account = accounts.entry(key.to_owned()).or_default();
        account.floor = floor;
        account.check(self.began.elapsed());
    }

    /// From now on fewer than these are wrong, if fewer were right so far.
    pub(crate) fn raise_floor(&self, key: &str, floor: i32) {
        let now = self.accounts.lock().get(key).map_or(0, |account| account.floor);
        self.set_floor(key, floor.max(now));
    }

    /// What went wrong with it, with all that happened to it.
    pub(crate) fn verdict(&self, key: &str) -> Result<(), String> {
        let accounts = self.accounts.lock();
        let account = accounts.get(key).ok_or_else(|| format!("{key} was never seen"))?;
        match &account.wrong {
            None => Ok(()),
            Some(wrong) => Err(format!("{key}: {wrong}; {}", account.story())),
        }
    }

    /// All that happened to it, for a failure's message.
    pub(crate) fn story(&self, key: &str) -> String {
        self.accounts.lock().get(key).map_or_else(String::new, Account::story)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Account {
    fn check(&mut self, at: Duration) {
        if self.replicas < self.floor && self.wrong.is_none() {
            let (replicas, floor) = (self.replicas, self.floor);
            self.wrong = Some(format!("at {at:.1?} {replicas} replicas, {floor} are needed"));
        }
    }

    fn story(&self) -> String {
        let mut story = "replicas were".to_owned();
        for (at, replicas) in &self.history {
            let _ = write!(story, " {replicas} at {at:.1?},");
        }
        story
    }
}

fn note(accounts: &mut BTreeMap<String, Account>, at: Duration, seen: &Deployment) {
    let key = format!("{}/{}", seen.namespace().unwrap_or_default(), seen.name_any());
    let replicas = seen.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let account = accounts.entry(key).or_default();
    if account.history.is_empty() || account.replicas != replicas {
        account.replicas = replicas;
        account.history.push((at, replicas));
        account.check(at);
    }
}
