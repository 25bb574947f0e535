//! What a real cluster has controllers and nodes for: Deployments get their pods, pods start, serve a page
//! with their requests in flight, and end; and the load that the cast brings.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::cast::{Actor, Seen};
use super::faults::Faults;
use super::kinds::{DEPLOYMENTS, KINDS, Kind, LEASES, PODS, REPLICA_SETS};
use super::promises::{Promises, Situation};
use super::score::{Books, Entry};
use super::store::{Key, Store, at, field, merge, own_replicas, whole_seconds};
use crate::runtime::clock::Clock;
use crate::sim::number;

/// How often the town moves on.
const STEP: Duration = Duration::from_millis(200);
/// How long a pod takes to end.
const POD_END: Duration = Duration::from_secs(1);
/// How long pods take to start that are not of the cast.
const POD_START: Duration = Duration::from_secs(2);
/// The most pods of one Deployment that are played.
const MOST_PODS: usize = 200;
/// The port of every pod's page.
const POD_PORT: u16 = 9090;
/// The workload that bursts, that is taken back, and whose labels the impostor has.
const SHOP: &str = "shop";
const CHECKOUT: &str = "checkout";
/// What the impostor claims to carry.
const CLAIM: f64 = 1e6;
/// Who takes the lease when that fault is on.
const RIVAL: &str = "another-podswell";

/// What is known of one workload's load at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    /// Requests in flight, requests a second, or arriving items a second.
    pub(super) load: f64,
    /// Items that wait or are being worked on.
    pub(super) backlog: f64,
    /// Ready pods.
    pub(super) ready: usize,
    /// The most replicas that were asked for so far.
    pub(super) most_replicas: i64,
    /// How often replicas changed.
    pub(super) changes: u64,
    /// The most pods that its load has needed so far.
    most_needed: i64,
    replicas: i64,
}

struct Pod {
    key: Key,
    of: Key,
    ready_at: Timestamp,
    ends_at: Option<Timestamp>,
    ready: bool,
    /// No node has room for it.
    waits: bool,
    stop: CancellationToken,
}

/// How many pods a workload has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pods {
    /// Those that serve.
    pub(super) ready: usize,
    /// All of them, also those that start or end.
    pub(super) placed: usize,
}

/// The page of a pod: its requests in flight.
type Page = Arc<Mutex<f64>>;

/// The cluster's life.
pub(super) struct Town {
    store: Arc<Store>,
    faults: Arc<Faults>,
    clock: Arc<dyn Clock>,
    seed: u64,
    began: Timestamp,
    pods: BTreeMap<Key, Pod>,
    pages: BTreeMap<Key, Page>,
    addresses: u32,
    names: u64,
    reverted: Timestamp,
    carried: Timestamp,
    rival_holds: bool,
    cast: Arc<[Actor]>,
    numbers: Arc<Mutex<BTreeMap<String, Numbers>>>,
    books: Arc<Mutex<Books>>,
    promises: Arc<Mutex<Promises>>,
    /// The pod that pretends to be one of checkout's, and its page.
    impostor: Option<(Key, CancellationToken)>,
}

fn kind(wanted: &Kind) -> &'static Kind {
    KINDS.iter().find(|kind| *kind == wanted).unwrap_or(&KINDS[0])
}

/// `namespace/name`, by which numbers are kept.
pub(super) fn full_name(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

impl Town {
    pub(super) fn new(
        store: Arc<Store>,
        faults: Arc<Faults>,
        clock: Arc<dyn Clock>,
        (cast, seed): (Arc<[Actor]>, u64),
    ) -> Self {
        let began = clock.now();
        Self {
            store,
            faults,
            seed,
            began,
            reverted: began,
            carried: began,
            rival_holds: false,
            cast,
            books: Arc::default(),
            promises: Arc::default(),
            impostor: None,
            pods: BTreeMap::new(),
            pages: BTreeMap::new(),
            addresses: 0,
            names: 0,
            numbers: Arc::default(),
            clock,
        }
    }

    /// What the workloads carry, by `namespace/name`.
    pub(super) fn numbers(&self) -> Arc<Mutex<BTreeMap<String, Numbers>>> {
        self.numbers.clone()
    }

    /// What it cost so far, and what it was good for.
    pub(super) fn books(&self) -> Arc<Mutex<Books>> {
        self.books.clone()
    }

    /// Which promises were kept so far.
    pub(super) fn promises(&self) -> Arc<Mutex<Promises>> {
        self.promises.clone()
    }

    /// Lives until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut step = tokio::time::interval(STEP);
        step.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(step.tick()).await.is_some() {
            let now = self.clock.now();
            self.gitops(now);
            self.rival();
            for deployment in self.store.list(kind(&DEPLOYMENTS), None).0 {
                self.look_after(now, &deployment).await;
            }
            self.impostor(now).await;
            self.end_orphans(now);
            self.carry_load(now);
        }
        for pod in self.pods.values() {
            pod.stop.cancel();
        }
    }

    /// Somebody's automation that knows better, while that fault is on.
    fn gitops(&mut self, now: Timestamp) {
        let due = now.duration_since(self.reverted).as_secs() >= 2;
        if !due || !self.faults.is_on("gitops-reverts") {
            return;
        }
        self.reverted = now;
        let time = whole_seconds(self.clock.wall());
        // Somebody may have deleted it: then there is nothing to revert.
        let _ = self.store.update(&Key::new(kind(&DEPLOYMENTS), SHOP, CHECKOUT), None, |object| {
            field(object, "spec").insert("replicas".into(), json!(1));
            own_replicas(object, ("argocd-controller", "Apply"), None, &time);
        });
    }

    /// Another process that takes the lease and renews it while that fault is on, then releases it.
    fn rival(&mut self) {
        let takes = self.faults.is_on("leader-lost");
        if !takes && !std::mem::replace(&mut self.rival_holds, false) {
            return;
        }
        self.rival_holds = takes;
        let key = Key::new(kind(&LEASES), super::NAMESPACE, crate::k8s::lease::LEASE_NAME);
        let renewed = format!("{:.6}", self.clock.wall());
        // Without a lease there is nothing to take.
        let _ = self.store.update(&key, None, |lease| {
            let spec = field(lease, "spec");
            let holder = if takes { RIVAL } else { "" };
            if spec.get("holderIdentity").is_some_and(|held| held != holder) && takes {
                let changes = spec.get("leaseTransitions").and_then(Value::as_i64).unwrap_or(0);
                spec.insert("leaseTransitions".into(), json!(changes + 1));
                spec.insert("acquireTime".into(), json!(renewed));
            }
            spec.insert("holderIdentity".into(), json!(holder));
            spec.insert("leaseDurationSeconds".into(), json!(if takes { 4 } else { 1 }));
            spec.insert("renewTime".into(), json!(renewed));
        });
    }

    fn actor(&self, of: &Key) -> Option<&Actor> {
        self.cast.iter().find(|actor| actor.is(&of.namespace, &of.name))
    }

    /// How long a pod of the Deployment takes to start.
    fn start_time(&self, of: &Key) -> Duration {
        self.actor(of).map_or(POD_START, |actor| actor.pod_start)
    }

    async fn look_after(&mut self, now: Timestamp, deployment: &Value) {
        let metadata = at(deployment, "/metadata");
        let (Some(namespace), Some(name)) =
            (at(metadata, "/namespace").as_str(), at(metadata, "/name").as_str())
        else {
            return;
        };
        let of = Key::new(kind(&DEPLOYMENTS), namespace, name);
        let wanted = at(deployment, "/spec/replicas").as_i64().unwrap_or(1);
        self.note_replicas(&of, wanted);
        self.watch_promises(&of, deployment);
        let wanted = usize::try_from(wanted).unwrap_or(0).min(MOST_PODS);
        let set = self.replica_set(&of, deployment);
        let mine = |pod: &&Pod| pod.of == of && pod.ends_at.is_none();
        let live: Vec<Key> = self.pods.values().filter(mine).map(|pod| pod.key.clone()).collect();
        for _ in live.len()..wanted {
            self.start_pod(now, &of, &set);
        }
        // The newest go first, as the ReplicaSet controller has it for pods that are not ready.
        for key in live.iter().skip(wanted) {
            self.end_pod(now, key);
        }
        self.move_pods(now, &of).await;
        self.tell_status(&of);
    }

    fn note_replicas(&self, of: &Key, replicas: i64) {
        let mut numbers = self.numbers.lock();
        let mine = numbers.entry(full_name(&of.namespace, &of.name)).or_default();
        mine.changes += u64::from(mine.replicas != replicas);
        mine.replicas = replicas;
        mine.most_replicas = mine.most_replicas.max(replicas);
    }

    fn watch_promises(&self, of: &Key, deployment: &Value) {
        let Some(actor) = self.actor(of) else { return };
        let name = full_name(&of.namespace, &of.name);
        let most_needed = self.numbers.lock().get(&name).map_or(0, |mine| mine.most_needed);
        let situation = Situation {
            silent: self.silence(actor),
            rival_leads: self.faults.has_been_on("leader-lost"),
            has_hpa: actor.has_hpa,
            impostor: actor.is(SHOP, CHECKOUT) && self.faults.is_on("impostor"),
            most_needed,
        };
        self.promises.lock().look(&name, deployment, situation);
    }

    /// For how long nobody who asks has heard of the workload's load.
    fn silence(&self, actor: &Actor) -> Option<Duration> {
        self.faults.prometheus_silent().filter(|_| actor.seen != Seen::AtThePods)
    }

    /// A pod with checkout's labels that belongs to nobody, while that fault is on.
    async fn impostor(&mut self, now: Timestamp) {
        if !self.faults.is_on("impostor") {
            if let Some((key, stop)) = self.impostor.take() {
                stop.cancel();
                // Somebody may have deleted it before.
                let _ = self.store.delete(&key);
            }
            return;
        }
        if self.impostor.is_some() {
            return;
        }
        let Some((ip, listener)) = self.next_address().await else { return };
        let (page, stop) = (Page::new(Mutex::new(CLAIM)), CancellationToken::new());
        let key = Key::new(kind(&PODS), SHOP, &format!("{CHECKOUT}-impostor-{}", now.as_second()));
        let object = json!({
            "metadata": { "labels": { "app": CHECKOUT } },
            "spec": { "containers": [{ "name": "app", "image": "played" }] },
            "status": running(ip, &whole_seconds(self.clock.wall())),
        });
        if self.store.create(self.clock.wall(), &key, object).is_ok() {
            tokio::spawn(serve_page(listener, page, stop.clone()));
            self.impostor = Some((key, stop));
        }
    }

    fn replica_set(&self, of: &Key, deployment: &Value) -> Value {
        let key = Key::new(kind(&REPLICA_SETS), &of.namespace, &format!("{}-1", of.name));
        if let Some(found) = self.store.get(&key) {
            return found;
        }
        let owner = json!([{
            "apiVersion": "apps/v1", "kind": "Deployment", "name": of.name,
            "uid": at(deployment, "/metadata/uid"), "controller": true, "blockOwnerDeletion": true,
        }]);
        let object = json!({ "metadata": { "ownerReferences": owner }, "spec": {} });
        self.store.create(self.clock.wall(), &key, object).unwrap_or_default()
    }

    fn start_pod(&mut self, now: Timestamp, of: &Key, set: &Value) {
        self.names += 1;
        let key = Key::new(kind(&PODS), &of.namespace, &format!("{}-1-{:05}", of.name, self.names));
        let owner = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": at(set, "/metadata/name"),
            "uid": at(set, "/metadata/uid"), "controller": true, "blockOwnerDeletion": true,
        }]);
        let object = json!({
            "metadata": { "ownerReferences": owner, "labels": { "app": of.name } },
            "spec": { "containers": [{ "name": "app", "image": "played" }] },
            "status": { "phase": "Pending" },
        });
        if self.store.create(self.clock.wall(), &key, object).is_err() {
            return;
        }
        let start = self.start_time(of);
        self.books.lock().started(&full_name(&of.namespace, &of.name));
        let ready_at = now.checked_add(start).unwrap_or(now);
        let stop = CancellationToken::new();
        let (of, ends_at) = (of.clone(), None);
        let pod = Pod { key: key.clone(), of, ready_at, ends_at, ready: false, waits: false, stop };
        self.pods.insert(key, pod);
    }

    fn end_pod(&mut self, now: Timestamp, key: &Key) {
        let Some(pod) = self.pods.get_mut(key) else { return };
        pod.ends_at = now.checked_add(POD_END).ok();
        pod.ready = false;
        let at = whole_seconds(self.clock.wall());
        // Gone already is as good.
        let _ = self.store.update(key, None, |object| {
            field(object, "metadata").insert("deletionTimestamp".into(), json!(at));
            field(object, "status")
                .insert("conditions".into(), json!([{ "type": "Ready", "status": "False" }]));
        });
    }

    async fn move_pods(&mut self, now: Timestamp, of: &Key) {
        let mine: Vec<Key> =
            self.pods.values().filter(|pod| pod.of == *of).map(|pod| pod.key.clone()).collect();
        for key in mine {
            let Some(pod) = self.pods.get(&key) else { continue };
            if pod.ends_at.is_some_and(|at| at <= now) {
                self.remove_pod(&key);
            } else if pod.ends_at.is_none()
                && !pod.ready
                && pod.ready_at <= now
                && self.has_room(&key, now)
            {
                self.open_pod(&key).await;
            }
        }
    }

    fn remove_pod(&mut self, key: &Key) {
        if let Some(pod) = self.pods.remove(key) {
            pod.stop.cancel();
        }
        self.pages.remove(key);
        // Somebody may have deleted it before.
        let _ = self.store.delete(key);
    }

    /// Whether a pod that could be ready by now has found a node. One that has not says so, and starts when
    /// there is room again.
    fn has_room(&mut self, key: &Key, now: Timestamp) -> bool {
        let is_full = self.faults.is_on("cluster-full");
        let Some(pod) = self.pods.get(key) else { return false };
        if pod.waits == is_full {
            // It never waited, or it has said so.
            return !is_full;
        }
        let ready_at = now.checked_add(self.start_time(&pod.of)).unwrap_or(now);
        let Some(pod) = self.pods.get_mut(key) else { return false };
        pod.waits = is_full;
        if !is_full {
            pod.ready_at = ready_at;
        }
        let conditions = if is_full {
            json!([{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/3 nodes are available: insufficient cpu.",
            }])
        } else {
            json!([{ "type": "PodScheduled", "status": "True" }])
        };
        // Gone already is as good.
        let _ = self.store.update(key, None, |object| {
            field(object, "status").insert("conditions".into(), conditions);
        });
        false
    }

    /// An address that nobody has, and its listener; `None` if the next one is taken, which is left out.
    async fn next_address(&mut self) -> Option<(Ipv4Addr, TcpListener)> {
        self.addresses += 1;
        let [_, high, middle, low] = self.addresses.to_be_bytes();
        let ip = Ipv4Addr::new(127, 86 + high, middle, low);
        let listener = TcpListener::bind(SocketAddr::new(ip.into(), POD_PORT)).await.ok()?;
        Some((ip, listener))
    }

    /// The pod serves its page at an address of its own and is ready.
    async fn open_pod(&mut self, key: &Key) {
        let Some((ip, listener)) = self.next_address().await else { return };
        let Some(pod) = self.pods.get_mut(key) else { return };
        let page = Page::default();
        tokio::spawn(serve_page(listener, page.clone(), pod.stop.clone()));
        pod.ready = true;
        self.pages.insert(key.clone(), page);
        let at = whole_seconds(self.clock.wall());
        let _ = self.store.update(key, None, |object| {
            merge(object, &json!({ "status": running(ip, &at) }));
        });
    }

    /// Pods whose Deployment or whose own object was deleted by somebody.
    fn end_orphans(&mut self, now: Timestamp) {
        let lost: Vec<Key> = self
            .pods
            .values()
            .filter(|pod| self.store.get(&pod.key).is_none() || self.store.get(&pod.of).is_none())
            .map(|pod| pod.key.clone())
            .collect();
        for key in lost {
            self.end_pod(now, &key);
            self.remove_pod(&key);
        }
    }

    fn tell_status(&self, of: &Key) {
        let mine = || self.pods.values().filter(|pod| pod.of == *of && pod.ends_at.is_none());
        let (replicas, ready) = (mine().count(), mine().filter(|pod| pod.ready).count());
        let _ = self.store.update(of, None, |object| {
            let generation = at(object, "/metadata/generation").clone();
            let status = field(object, "status");
            status.insert("observedGeneration".to_owned(), generation);
            for (name, number) in [
                ("replicas", replicas),
                ("updatedReplicas", replicas),
                ("readyReplicas", ready),
                ("availableReplicas", ready),
            ] {
                status.insert(name.to_owned(), json!(number));
            }
        });
    }

    /// Spreads each actor's load over its ready pods, and lets its queue grow and shrink.
    fn carry_load(&mut self, now: Timestamp) {
        let second = now.duration_since(self.began).as_secs_f64();
        let span_s = now.duration_since(self.carried).as_secs_f64().max(0.0);
        self.carried = now;
        for actor in self.cast.iter() {
            let of = Key::new(kind(&DEPLOYMENTS), &actor.namespace, &actor.name);
            let burst = actor.is(SHOP, CHECKOUT) && self.faults.is_on("burst-1000");
            let load = actor.load(self.seed, second) * if burst { 1000.0 } else { 1.0 };
            let ready: Vec<&Key> = self
                .pods
                .values()
                .filter(|pod| pod.of == of && pod.ready)
                .map(|pod| &pod.key)
                .collect();
            #[expect(clippy::cast_precision_loss, reason = "at most some hundred pods")]
            let share = load / ready.len().max(1) as f64;
            for (number, key) in ready.iter().enumerate() {
                let lie = match (self.faults.is_on("pods-lie"), number) {
                    (true, 0) => Some(1e308),
                    (true, 1) => Some(f64::NAN),
                    _ => None,
                };
                if let Some(page) = self.pages.get(key) {
                    *page.lock() = lie.unwrap_or(share);
                }
            }
            let placed = self.pods.values().filter(|pod| pod.of == of).count();
            let pods = Pods { ready: ready.len(), placed };
            self.note_load(actor, load, pods, (second, span_s));
        }
    }

    fn note_load(&self, actor: &Actor, load: f64, pods: Pods, (second, span_s): (f64, f64)) {
        let name = full_name(&actor.namespace, &actor.name);
        let silent = self.silence(actor).is_some();
        let entry = Entry { second, span_s, load, per_pod: actor.per_pod, silent, pods };
        self.books.lock().span(&name, entry);
        let mut numbers = self.numbers.lock();
        let mine = numbers.entry(name).or_default();
        mine.most_needed = mine.most_needed.max(i64::from(number::pods(load / actor.per_pod)));
        (mine.load, mine.ready) = (load, pods.ready);
        if let Some(items_per_pod) = actor.items_per_pod {
            #[expect(clippy::cast_precision_loss, reason = "at most some hundred pods")]
            let done = pods.ready as f64 * items_per_pod;
            mine.backlog = (mine.backlog + (load - done) * span_s).max(0.0);
        }
    }
}

/// The status of a pod that serves.
fn running(ip: Ipv4Addr, since: &str) -> Value {
    json!({
        "phase": "Running", "podIP": ip.to_string(), "podIPs": [{ "ip": ip.to_string() }],
        "startTime": since, "conditions": [{ "type": "Ready", "status": "True" }],
    })
}

async fn serve_page(listener: TcpListener, page: Page, stop: CancellationToken) {
    let routes = Router::new().route(
        "/metrics",
        get(move || {
            let text = format!(
                "# TYPE app_requests_in_flight gauge\napp_requests_in_flight {}\n",
                *page.lock()
            );
            async move { text }
        }),
    );
    crate::servers::http::serve(listener, routes, stop).await;
}
