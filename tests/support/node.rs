//! Plays the kubelet: watches pods and runs each as a real HTTP server with an address of its own.
//!
//! What happens to a pod, as on a real node: it is bound to a node, starts after a delay, gets its
//! address and its Ready condition, and when it is deleted it goes on serving for its termination
//! time, then vanishes. The addresses are 127.x.y.z, so two pods never share a socket.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::app::App;
use super::clock;
use super::table::{PodTable, RunningPod};

/// Pod annotation: milliseconds from being bound to being ready.
pub(crate) const START_DELAY_MS: &str = "harness.podswell.dev/start-delay-ms";
/// Pod annotation: milliseconds from deletion to being gone.
pub(crate) const TERMINATION_MS: &str = "harness.podswell.dev/termination-ms";
/// Pod annotation: how many requests the application works on at once.
pub(crate) const CONCURRENCY_LIMIT: &str = "harness.podswell.dev/concurrency-limit";
/// Pod annotation: `"true"` for a pod that runs and never becomes ready.
pub(crate) const NEVER_READY: &str = "harness.podswell.dev/never-ready";

/// Pause before something is tried again that the API server did not do.
const RETRY: Duration = Duration::from_millis(200);

/// How pods behave that do not say otherwise by annotation.
#[derive(Debug, Clone)]
pub(crate) struct NodeOptions {
    /// From being bound to being ready.
    pub(crate) start_delay: Duration,
    /// From deletion to being gone.
    pub(crate) termination: Duration,
    /// Requests that an application works on at once; `None`: all.
    pub(crate) concurrency_limit: Option<usize>,
    /// Port of the application (`/work`, text `/metrics`).
    pub(crate) app_port: u16,
    /// Port of the queue-proxy (protobuf `/metrics`).
    pub(crate) stat_port: u16,
    /// Whether pods serve at all; the test itself may answer at their addresses.
    pub(crate) own_sockets: bool,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            start_delay: Duration::from_millis(100),
            termination: Duration::from_millis(100),
            concurrency_limit: None,
            app_port: 8080,
            stat_port: 9090,
            own_sockets: true,
        }
    }
}

/// The node; all of its pods stop with this value.
pub(crate) struct Node {
    shared: Arc<Shared>,
    watching: JoinHandle<()>,
}

/// What the tasks of all pods share.
struct Shared {
    client: Client,
    options: Mutex<NodeOptions>,
    table: PodTable,
    addresses: Addresses,
    tasks: Mutex<BTreeMap<String, PodTask>>,
}

/// The task that plays one pod.
#[derive(Debug)]
struct PodTask {
    key: (String, String),
    deleted: CancellationToken,
    unplugged: CancellationToken,
    handle: JoinHandle<()>,
}

impl Drop for PodTask {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Node {
    /// Starts playing all pods of all namespaces.
    pub(crate) fn start(client: Client, options: NodeOptions) -> Self {
        let shared = Arc::new(Shared {
            client,
            options: Mutex::new(options),
            table: PodTable::new(),
            addresses: Addresses::claim(),
            tasks: Mutex::default(),
        });
        let watching = tokio::spawn(watch(Arc::clone(&shared)));
        Self { shared, watching }
    }

    /// The pods that run.
    pub(crate) fn table(&self) -> PodTable {
        self.shared.table.clone()
    }

    /// An address of its own for a program that is no pod, on which all ports are free.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.shared.addresses.next()
    }

    /// Changes how pods behave that are made from now on.
    pub(crate) fn set_options(&self, change: impl FnOnce(&mut NodeOptions)) {
        change(&mut self.shared.options.lock());
    }

    /// Closes all sockets of a pod while its status goes on saying that it is ready, as on a node
    /// that was cut off.
    pub(crate) fn unplug(&self, namespace: &str, name: &str) {
        let tasks = self.shared.tasks.lock();
        let found = tasks.values().find(|task| task.key.0 == namespace && task.key.1 == name);
        found.unwrap_or_else(|| panic!("no pod {namespace}/{name} runs")).unplugged.cancel();
    }

    /// Sets the Ready condition of a running pod, as a readiness probe would.
    pub(crate) async fn set_ready(&self, pod: &RunningPod, ready: bool) {
        let pods: Api<Pod> = Api::namespaced(self.shared.client.clone(), &pod.namespace);
        let current = pods.get(&pod.name).await.expect("read a running pod");
        let status = running_status(&current, pod.ip, ready);
        pods.patch_status(&pod.name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .expect("patch the status of a running pod");
        self.shared.table.set_ready(&current.uid().unwrap_or_default(), ready);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.watching.abort();
        self.shared.tasks.lock().clear();
    }
}

async fn watch(shared: Arc<Shared>) {
    let pods: Api<Pod> = Api::all(shared.client.clone());
    let mut events = std::pin::pin!(watcher(pods, watcher::Config::default()));
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(pod)) => shared.applied(&pod),
            Ok(Event::Delete(pod)) => shared.gone(&pod.uid().unwrap_or_default()),
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.insert(pod.uid().unwrap_or_default());
                shared.applied(&pod);
            }
            Ok(Event::InitDone) => {
                let known: Vec<_> = shared.tasks.lock().keys().cloned().collect();
                known.iter().filter(|uid| !listed.contains(*uid)).for_each(|uid| shared.gone(uid));
            }
            // The API server is away; the pods live on.
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

impl Shared {
    fn applied(self: &Arc<Self>, pod: &Pod) {
        let uid = pod.uid().unwrap_or_default();
        let mut tasks = self.tasks.lock();
        let task = tasks.entry(uid).or_insert_with(|| {
            let deleted = CancellationToken::new();
            let unplugged = CancellationToken::new();
            let life = Life {
                shared: Arc::clone(self),
                settings: Settings::of(pod, &self.options.lock()),
                pod: pod.clone(),
                deleted: deleted.clone(),
                unplugged: unplugged.clone(),
            };
            let key = (pod.namespace().unwrap_or_default(), pod.name_any());
            PodTask { key, deleted, unplugged, handle: tokio::spawn(life.live()) }
        });
        if pod.metadata.deletion_timestamp.is_some() {
            task.deleted.cancel();
        }
    }

    fn gone(&self, uid: &str) {
        self.tasks.lock().remove(uid);
        self.table.remove(uid);
    }
}

/// How one pod behaves.
#[derive(Debug, Clone)]
struct Settings {
    start_delay: Duration,
    termination: Duration,
    concurrency_limit: Option<usize>,
    never_ready: bool,
    app_port: u16,
    stat_port: u16,
    own_sockets: bool,
}

impl Settings {
    fn of(pod: &Pod, options: &NodeOptions) -> Self {
        let number = |key: &str| {
            pod.annotations().get(key).map(|text| {
                text.parse::<u64>().unwrap_or_else(|error| panic!("annotation {key}: {error}"))
            })
        };
        let limit = number(CONCURRENCY_LIMIT).and_then(|limit| usize::try_from(limit).ok());
        Self {
            start_delay: number(START_DELAY_MS).map_or(options.start_delay, Duration::from_millis),
            termination: number(TERMINATION_MS).map_or(options.termination, Duration::from_millis),
            concurrency_limit: limit.or(options.concurrency_limit),
            never_ready: pod.annotations().get(NEVER_READY).is_some_and(|text| text == "true"),
            app_port: options.app_port,
            stat_port: options.stat_port,
            own_sockets: options.own_sockets,
        }
    }
}

/// One pod from its creation to its end.
struct Life {
    shared: Arc<Shared>,
    settings: Settings,
    pod: Pod,
    deleted: CancellationToken,
    unplugged: CancellationToken,
}

impl Life {
    async fn live(self) {
        self.bind().await;
        tokio::select! {
            () = tokio::time::sleep(self.settings.start_delay) => self.serve().await,
            () = self.deleted.cancelled() => {}
        }
        self.end().await;
    }

    /// Runs the program until the termination time is over.
    async fn serve(&self) {
        let name = self.pod.name_any();
        let app = App::new(&name, self.settings.concurrency_limit);
        let ip = self.shared.addresses.next();
        let serving = self.listen(&app, ip).await;
        let running = RunningPod {
            namespace: self.pod.namespace().unwrap_or_default(),
            deployment: deployment_of(&self.pod),
            name,
            ip,
            ready: false,
            app,
        };
        let uid = self.pod.uid().unwrap_or_default();
        self.shared.table.insert(&uid, running);
        let program = async {
            tokio::select! {
                () = serving => {}
                () = self.unplugged.cancelled() => {}
            }
            // What was the program is dropped here; the pod stays until it is deleted.
            std::future::pending::<()>().await;
        };
        let story = async {
            let ready = !self.settings.never_ready;
            tokio::select! {
                () = self.report(ip, ready) => {
                    self.shared.table.set_ready(&uid, ready);
                    self.deleted.cancelled().await;
                }
                () = self.deleted.cancelled() => {}
            }
            self.shared.table.set_ready(&uid, false);
            tokio::time::sleep(self.settings.termination).await;
        };
        tokio::select! {
            () = program => {}
            () = story => {}
        }
    }

    /// Opens the sockets of the program, which answers until the returned future is dropped.
    async fn listen(&self, app: &Arc<App>, ip: Ipv4Addr) -> BoxFuture<'static, ()> {
        let Settings { app_port, stat_port, own_sockets, .. } = self.settings;
        if !own_sockets {
            return std::future::pending().boxed();
        }
        let serving = Arc::clone(app).serve(ip, app_port, stat_port).await;
        let name = self.pod.name_any();
        serving.unwrap_or_else(|error| panic!("serve pod {name} at {ip}: {error}")).boxed()
    }

    /// Binds the pod to a node: only then does its deletion take time.
    async fn bind(&self) {
        let (namespace, name) = (self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        let body = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "name": name },
            "target": { "apiVersion": "v1", "kind": "Node", "name": "played" },
        });
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
        loop {
            let request = http::Request::post(&path)
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(body.to_string().into_bytes())
                .expect("a valid request");
            match self.shared.client.request::<Value>(request).await {
                Err(error) if is_transient(&error) => tokio::time::sleep(RETRY).await,
                // Bound already, or gone.
                _ => return,
            }
        }
    }

    async fn report(&self, ip: Ipv4Addr, ready: bool) {
        let patch = Patch::Merge(running_status(&self.pod, ip, ready));
        let (pods, name) = (self.pods(), self.pod.name_any());
        while let Err(error) = pods.patch_status(&name, &PatchParams::default(), &patch).await {
            if matches!(&error, kube::Error::Api(status) if status.code == 404) {
                // Gone: the watch says so, too.
                std::future::pending::<()>().await;
            }
            // Also after a conflict with another writer, or the pod would never be ready.
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Tells the API server that the pod is gone.
    async fn end(&self) {
        let (pods, name) = (self.pods(), self.pod.name_any());
        let parameters = DeleteParams::default().grace_period(0);
        while let Err(error) = pods.delete(&name, &parameters).await {
            if !is_transient(&error) {
                break;
            }
            tokio::time::sleep(RETRY).await;
        }
        self.shared.table.remove(&self.pod.uid().unwrap_or_default());
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.shared.client.clone(), &self.pod.namespace().unwrap_or_default())
    }
}

/// Whether the same request may succeed later: no answer, or one that is not a verdict.
fn is_transient(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        _ => true,
    }
}

/// The status of a pod that runs.
fn running_status(pod: &Pod, ip: Ipv4Addr, ready: bool) -> Value {
    let now = clock::now();
    let started = pod.status.as_ref().and_then(|status| status.start_time.clone());
    let started = started.map_or(now, |time| time.0);
    let condition = |kind: &str, value: bool| {
        let value = if value { "True" } else { "False" };
        json!({ "type": kind, "status": value, "lastTransitionTime": seconds(now) })
    };
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let containers: Vec<_> = containers
        .iter()
        .map(|container| {
            json!({
                "name": container.name,
                "image": container.image,
                "imageID": "",
                "ready": ready,
                "started": true,
                "restartCount": 0,
                "state": { "running": { "startedAt": seconds(started) } },
            })
        })
        .collect();
    json!({ "status": {
        "phase": "Running",
        "hostIP": "127.0.0.1",
        "podIP": ip,
        "podIPs": [{ "ip": ip }],
        "startTime": seconds(started),
        "containerStatuses": containers,
        "conditions": [
            condition("PodScheduled", true),
            condition("Initialized", true),
            condition("ContainersReady", ready),
            condition("Ready", ready),
        ],
    }})
}

/// Kubernetes' times have whole seconds.
fn seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Name of the Deployment behind the pod's `ReplicaSet`; the owner's or the pod's own otherwise.
fn deployment_of(pod: &Pod) -> String {
    let Some(owner) = pod.owner_references().iter().find(|owner| owner.controller == Some(true))
    else {
        return pod.name_any();
    };
    let hash = pod.labels().get("pod-template-hash").map_or("", String::as_str);
    let name = owner.name.strip_suffix(hash).and_then(|name| name.strip_suffix('-'));
    name.unwrap_or(&owner.name).to_owned()
}

/// Loopback addresses for pods: a block 127.x.0.0/16 that no other test process has.
#[derive(Debug)]
struct Addresses {
    block: u8,
    next: AtomicU32,
    /// Holding this socket is holding the block.
    _claim: TcpListener,
}

impl Addresses {
    /// The host part and port that stand for a whole block.
    const CLAIM: (u8, u8, u16) = (255, 254, 10_000);

    fn claim() -> Self {
        // Blocks in an order of its own for each process, so that few tries suffice.
        let first = u8::try_from(std::process::id() % 190).unwrap_or(0);
        for offset in 0..190 {
            let block = 60 + (first + offset) % 190;
            let (third, fourth, port) = Self::CLAIM;
            let address = (Ipv4Addr::new(127, block, third, fourth), port);
            if let Ok(listener) = TcpListener::bind(address) {
                return Self { block, next: AtomicU32::new(0), _claim: listener };
            }
        }
        panic!("no block of loopback addresses is free");
    }

    /// An address that no pod of this node had before.
    fn next(&self) -> Ipv4Addr {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let third = u8::try_from(number / 250).expect("a test has fewer than 64,000 pods");
        let fourth = u8::try_from(number % 250 + 1).expect("at most 250");
        Ipv4Addr::new(127, self.block, third, fourth)
    }
}
