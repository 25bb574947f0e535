//! A process without a cluster: index, engine and server as they are wired in the binary.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use podswell::core::event::{Action, Event, Notice, Reading, Sample};
use podswell::core::source::{Share, SourceFacts};
use podswell::core::spec::ScalingMetric;
use podswell::core::target::TargetId;
use podswell::k8s::facts::{DeploymentFacts, ObjectKey};
use podswell::k8s::index::{Index, Output, Settings};
use podswell::runtime::clock::{Clock, SystemClock};
use podswell::runtime::engine_handle::EngineHandle;
use podswell::runtime::engine_task::{EngineTask, Outlet, Shared};
use podswell::runtime::health::{Health, WatchReport};
use podswell::runtime::metrics::Metrics;
use podswell::runtime::role::{Peer, Role, RoleBoard};
use podswell::runtime::status_board::StatusBoard;
use podswell::runtime::tls::ReloadingAcceptor;
use podswell::runtime::trigger_desk::{DeskRequest, TriggerDesk};
use podswell::servers::keda::counters::Counters;
use podswell::servers::keda::wire::ScaledObjectRef;
use podswell::servers::keda::wire::external_scaler_client::ExternalScalerClient;
use podswell::servers::keda::{Context, Scaler, transport};
use podswell::servers::peers::{Peers, guarded};
use podswell::sources::counters::SourceMetrics;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a state may take to come: generous, the machine may be busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const NAMESPACE: &str = "shop";
/// A source that sees demand at zero, and one that does not.
pub(crate) const INGRESS: &str = "ingress";
pub(crate) const PODS: &str = "pods";

pub(crate) type Channel = Client<HttpConnector, tonic::body::Body>;
pub(crate) type ScalerClient = ExternalScalerClient<Channel>;

struct Nowhere;

impl Outlet for Nowhere {
    fn write(&mut self, write: Action) {
        panic!("KEDA writes, not we: {write:?}");
    }

    fn announce(&mut self, _target: TargetId, _notice: Notice) {}
}

/// What runs.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    engine: EngineHandle,
    index: Arc<Mutex<Index>>,
    known: Arc<Mutex<BTreeSet<TargetId>>>,
    synced: Arc<AtomicBool>,
    /// What it is, to be changed by tests.
    pub(crate) role: Arc<RoleBoard>,
    /// Where it answers other processes.
    pub(crate) peer: Peer,
    /// What it counted.
    pub(crate) counters: Arc<Counters>,
    version: Mutex<u64>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_for(&[], None).await
    }

    /// One that answers for these namespaces only, and perhaps with TLS.
    pub(crate) async fn start_for(
        namespaces: &[&str],
        tls: Option<Arc<ReloadingAcceptor>>,
    ) -> Self {
        Self::start_bounded(namespaces, tls, 65_536).await
    }

    /// One that lets this many streams be open.
    pub(crate) async fn start_bounded(
        namespaces: &[&str],
        tls: Option<Arc<ReloadingAcceptor>>,
        max_streams: usize,
    ) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (engine, events) = EngineHandle::channel();
        let board = Arc::new(StatusBoard::default());
        let health = Health::new(clock.now());
        let synced = Arc::new(AtomicBool::new(true));
        let seen = synced.clone();
        health.set_watches(Box::new(move || {
            let synced = seen.load(Ordering::Relaxed);
            let name = "deployments".into();
            vec![WatchReport { name, synced, awaited: true, fault: None, skipped: 0 }]
        }));
        let metrics =
            Metrics::new(board.clone(), health.clone(), engine.clone(), SourceMetrics::default());
        let stop = CancellationToken::new();
        let shared =
            Shared { board: board.clone(), metrics, health: health.clone(), clock: clock.clone() };
        tokio::spawn(EngineTask::new(events, Nowhere, shared).run(stop.clone()));
        engine.tell(Event::LeadershipChanged { leader: true }).await;
        let (desk, requests) = TriggerDesk::channel();
        let namespaces = Arc::new(namespaces.iter().map(ToString::to_string).collect());
        let drain = stop.clone();
        let role = RoleBoard::new(Box::new(|| true));
        role.set(Role { is_ours: true, leads: true, ..Role::default() });
        let peers = Peers::new(role.clone());
        let shared = role.clone();
        let counters = Arc::<Counters>::default();
        let context = Context {
            board,
            desk,
            health,
            role,
            clock,
            namespaces,
            drain,
            max_streams,
            counters: counters.clone(),
        };
        let scaler = Scaler::new(context, peers);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let peer = serve_peers(&scaler, stop.clone()).await;
        let (routes, probes) = transport::routes(scaler.clone());
        tokio::spawn(probes);
        tokio::spawn(scaler.sweep());
        tokio::spawn(transport::serve(listener, routes, tls, stop.clone()));
        let index = Arc::new(Mutex::new(Index::new(settings())));
        let known = Arc::<Mutex<_>>::default();
        let world = Self {
            address,
            stop,
            engine,
            index,
            known,
            synced,
            role: shared,
            peer,
            counters,
            version: Mutex::default(),
        };
        world.serve_desk(requests);
        world
    }

    /// What the task of the watches does with requests.
    fn serve_desk(&self, mut requests: tokio::sync::mpsc::Receiver<DeskRequest>) {
        let (index, engine, known) = (self.index.clone(), self.engine.clone(), self.known.clone());
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                match request {
                    DeskRequest::Enrol { object: (namespace, name), metadata, reply } => {
                        let object = ObjectKey { namespace, name };
                        let answer = index.lock().enrol_trigger(&object, &metadata);
                        let _ = reply.send(answer);
                    }
                    DeskRequest::Release(target) => index.lock().release_trigger(&target),
                }
                hand_on(&index, &engine, &known).await;
            }
        });
    }

    /// Creates or changes a Deployment.
    pub(crate) async fn deploy(&self, name: &str, replicas: i32, annotations: &[(&str, &str)]) {
        let version = {
            let mut version = self.version.lock();
            *version += 1;
            *version
        };
        let annotations = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        {
            let mut index = self.index.lock();
            index.apply_deployment(DeploymentFacts {
                target: TargetId::deployment(NAMESPACE, name),
                uid: format!("uid-{name}").into(),
                resource_version: version.to_string().into(),
                replicas,
                writer: None,
                deleting: false,
                owned_by_knative: false,
                progress_deadline: None,
                annotations: annotations.collect(),
                template_annotations: BTreeMap::new(),
            });
            index.end_period();
            index.settle(100);
        }
        hand_on(&self.index, &self.engine, &self.known).await;
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.index.lock().delete_deployment(&ObjectKey::new(NAMESPACE, name));
        hand_on(&self.index, &self.engine, &self.known).await;
    }

    pub(crate) fn set_synced(&self, synced: bool) {
        self.synced.store(synced, Ordering::Relaxed);
    }

    /// A source that reads `value` for every decider of a Deployment, four times a second, until the
    /// value that is returned is dropped.
    pub(crate) fn load(&self, name: &str, source: &str, value: f64) -> Load {
        let (engine, known) = (self.engine.clone(), self.known.clone());
        let (workload, source) = (TargetId::deployment(NAMESPACE, name), source.to_owned());
        let task = tokio::spawn(async move {
            loop {
                let targets: Vec<_> = known.lock().iter().cloned().collect();
                let mine = targets.into_iter().filter(|target| target.workload() == workload);
                let sample = |target| Sample {
                    target,
                    source: source.as_str().into(),
                    age: Duration::ZERO,
                    stamp_ms: None,
                    reading: Reading::Value { seen: value, missing: 0 },
                };
                engine.offer(Event::Sampled { samples: mine.map(sample).collect() });
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        });
        Load(task)
    }

    /// A client on a connection of its own.
    pub(crate) fn client(&self) -> ScalerClient {
        self.client_at(Ipv4Addr::LOCALHOST)
    }

    /// The same from another address of this machine.
    pub(crate) fn client_at(&self, own: Ipv4Addr) -> ScalerClient {
        ExternalScalerClient::with_origin(channel_from(own), self.origin())
    }

    /// A connection of its own for clients of other services.
    pub(crate) fn channel() -> Channel {
        channel_from(Ipv4Addr::LOCALHOST)
    }

    /// Where clients find it.
    pub(crate) fn origin(&self) -> Uri {
        format!("http://{}", self.address).parse().unwrap()
    }
}

fn channel_from(own: Ipv4Addr) -> Channel {
    let mut connector = HttpConnector::new();
    connector.set_local_address(Some(own.into()));
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).http2_only(true).build(connector)
}

/// The listener for other processes.
async fn serve_peers(scaler: &Scaler, stop: CancellationToken) -> Peer {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string().into();
    let peer = Peer { address, token: "s3cret".into() };
    let routes = guarded(transport::peer_routes(scaler), peer.token.clone());
    let routes = transport::among_peers(routes);
    tokio::spawn(transport::serve(listener, routes, None, stop));
    peer
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Samples that keep coming.
pub(crate) struct Load(JoinHandle<()>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn settings() -> Settings {
    let source = |name: &str, visible_at_zero| SourceFacts {
        name: name.into(),
        kind: ScalingMetric::Concurrency,
        interval: Duration::from_secs(1),
        stale_after: Duration::from_millis(2500),
        range: None,
        visible_at_zero,
        selectable_labels: Vec::new(),
        query_label: None,
        share: Share::Exclusive,
    };
    let sources = [source(INGRESS, true), source(PODS, false)];
    Settings {
        sources: sources.into_iter().map(|facts| (facts.name.clone(), facts)).collect(),
        ..Settings::default()
    }
}

async fn hand_on(index: &Mutex<Index>, engine: &EngineHandle, known: &Mutex<BTreeSet<TargetId>>) {
    let outputs = index.lock().take_outputs();
    for output in outputs {
        match output {
            Output::Tell(event) => {
                engine.tell(event).await;
            }
            Output::Enrol { target, .. } => {
                known.lock().insert(target);
            }
            Output::Expel(target) => {
                known.lock().remove(&target);
            }
            Output::ScaledObject(_) | Output::ScaledObjectGone(_) => {}
        }
    }
}

/// What KEDA sends for a trigger of the ScaledObject `name`.
pub(crate) fn trigger(name: &str, metadata: &[(&str, &str)]) -> ScaledObjectRef {
    let pairs = [("scalerAddress", "podswell-keda:9090")];
    let pairs = pairs.iter().chain(metadata).map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    ScaledObjectRef {
        name: name.to_owned(),
        namespace: NAMESPACE.to_owned(),
        scaler_metadata: pairs.collect(),
    }
}

/// The usual trigger of the Deployment `web`: 10 in flight per pod, seen at zero, a short window.
pub(crate) fn web() -> ScaledObjectRef {
    trigger("web", &WEB)
}

pub(crate) const WEB: [(&str, &str); 5] = [
    ("deployment", "web"),
    ("source", INGRESS),
    ("target", "10"),
    ("target-utilization-percentage", "100"),
    ("window", "6s"),
];
