//! Wiring: the only module that may see every other one.
//!
//! Six kinds of task, joined by messages: the watches and the sources tell the engine's task facts;
//! it hands writes to the scale writer and notices to the Event writer; the election says whether these
//! may write; the servers read the status board. Each has its own stop, so that the end has an order:
//! writes first, then the lease, then what feeds the engine, then the engine, then the servers. Ending
//! scales nothing.

pub mod args;
pub mod clock;
pub mod config_reader;
pub mod engine_handle;
pub mod engine_task;
pub mod health;
pub mod history;
pub mod metrics;
pub mod recorder;
pub mod role;
pub mod snapshot;
pub mod status_board;
pub mod telemetry;
pub mod tls;
pub mod trigger_desk;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::Router;
use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::core::event::{Action, Event, Notice};
use crate::core::roster::Roster;
use crate::core::scaled_object::ScaledObjects;
use crate::core::target::TargetId;
use crate::k8s::events::{self, EventQueue, EventWriter};
use crate::k8s::lease::{self, Elector, Leadership, LeaseState};
use crate::k8s::scale::{self, ScaleQueue, ScaleWrite, ScaleWriter};
use crate::k8s::watch::{self, WatchHealth, Watches};
use crate::k8s::{self, Uids};
use crate::servers::admin::{self, Access, Readers};
use crate::servers::keda::counters::Counters;
use crate::servers::keda::{Scaler, transport};
use crate::servers::peers::{self, Peers};
use crate::servers::{http, keda};
use crate::sources::scrape::ScrapeOptions;
use crate::sources::{SourceOptions, Sources};
use args::{PeerSettings, Settings};
use clock::{Clock, SystemClock};
use config_reader::Reader;
use engine_handle::EngineHandle;
use engine_task::{EngineTask, Outlet, Shared};
use health::{Health, LeaseReport, WatchReport};
use metrics::Metrics;
use recorder::{Recorder, RecorderError};
use role::{Peer, Role, RoleBoard};
use status_board::StatusBoard;
use telemetry::LogControl;
use tls::ReloadingAcceptor;
use trigger_desk::{DeskRequest, TriggerDesk};

/// How long a recording may become before it is rotated; three older files are kept.
const RECORDING_BYTES: u64 = 64 * 1024 * 1024;

/// How long one group of tasks may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// Runs the controller until SIGTERM or SIGINT.
///
/// # Errors
/// If it cannot start, or one of its parts ends by itself.
pub fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    run_beside(settings, Company::default())
}

/// What else runs in the process.
#[derive(Debug, Default)]
pub struct Company {
    /// Ends the controller as SIGTERM does.
    pub stop: CancellationToken,
    /// More routes of the admin listener, below `/v1/demo`.
    pub routes: Option<Router>,
    /// Hears once that all caches are filled and this process may write.
    pub ready: Option<oneshot::Sender<()>>,
}

/// [`run`] as a part of a larger process.
///
/// # Errors
/// As [`run`].
pub fn run_beside(settings: Settings, company: Company) -> anyhow::Result<ExitCode> {
    let log = telemetry::init(settings.log_format, &settings.log_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the I/O runtime")?;
    runtime.block_on(async {
        let listeners = Listeners::bind(&settings).await?;
        let process = Process::start(settings, listeners, log, company).await?;
        process.run().await
    })
}

/// The sockets, bound before anything else so that a taken port stops the start.
struct Listeners {
    public: TcpListener,
    admin: TcpListener,
    keda: Option<TcpListener>,
    peers: Option<(TcpListener, Peer)>,
}

impl Listeners {
    async fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let public = http::bind(&settings.listen.candidates()).await?;
        let admin = http::bind(&settings.admin_listen.candidates()).await?;
        let keda = match &settings.keda {
            Some(keda) => Some(http::bind(&keda.listen.candidates()).await?),
            None => None,
        };
        let peers = match &settings.peer {
            Some(peer) => Some(bind_peers(peer).await?),
            None => None,
        };
        let keda_address = keda.as_ref().map(TcpListener::local_addr).transpose()?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            namespace = settings.namespace,
            listen = %public.local_addr()?,
            admin_listen = %admin.local_addr()?,
            keda_listen = keda_address.map(tracing::field::display),
            "starting"
        );
        Ok(Self { public, admin, keda, peers })
    }
}

/// The listener for other processes, with what the Lease is to say of it.
async fn bind_peers(settings: &PeerSettings) -> anyhow::Result<(TcpListener, Peer)> {
    let listener = http::bind(&settings.listen.candidates()).await?;
    let address = SocketAddr::new(settings.address, listener.local_addr()?.port());
    let token = format!("{:032x}", rand::random::<u128>());
    Ok((listener, Peer { address: address.to_string().into(), token: token.into() }))
}

/// Tasks that end together.
struct Group {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Group {
    fn new() -> Self {
        Self { stop: CancellationToken::new(), tasks: Vec::new() }
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(tokio::spawn(task));
    }

    /// Tells all to end and waits for them.
    async fn end(self, what: &'static str) {
        self.stop.cancel();
        let all =
            futures::future::join_all(self.tasks.into_iter().filter(|task| !task.is_finished()));
        if tokio::time::timeout(STOP_LIMIT, all).await.is_err() {
            tracing::warn!(what, "did not end in time");
        }
    }
}

/// Everything that runs.
struct Process {
    health: Arc<Health>,
    leader: Arc<Leadership>,
    writers: Group,
    election: Group,
    feeders: Group,
    engine: Group,
    keepers: Group,
    servers: Group,
    /// Ends all of it from within the process.
    stop: CancellationToken,
}

/// What the parts share.
#[derive(Clone)]
struct Core {
    settings: Arc<Settings>,
    client: kube::Client,
    engine: EngineHandle,
    clock: Arc<dyn Clock>,
    leader: Arc<Leadership>,
    role: Arc<RoleBoard>,
    uids: Arc<Uids>,
    scaled_objects: Arc<RwLock<ScaledObjects>>,
}

impl Process {
    async fn start(
        settings: Settings,
        listeners: Listeners,
        log: LogControl,
        company: Company,
    ) -> anyhow::Result<Self> {
        let cluster = &settings.cluster;
        let client =
            k8s::connect(cluster.kubeconfig.as_deref(), cluster.context.as_deref()).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (handle, events) = EngineHandle::channel();
        let leader = Arc::<Leadership>::default();
        let (term, moment) = (leader.clone(), clock.clone());
        let core = Core {
            settings: Arc::new(settings),
            client,
            engine: handle,
            clock: clock.clone(),
            role: RoleBoard::new(Box::new(move || term.may_write(moment.now()))),
            leader,
            uids: Arc::default(),
            scaled_objects: Arc::default(),
        };
        let roster: Arc<RwLock<Roster>> = Arc::default();
        let sources = Sources::new(
            roster.clone(),
            core.engine.clone(),
            clock.clone(),
            source_options(&core.settings),
        );
        let board = Arc::<StatusBoard>::default();
        let health = Health::new(clock.now());
        let metrics =
            Metrics::new(board.clone(), health.clone(), core.engine.clone(), sources.metrics());
        let shared = Shared {
            board: board.clone(),
            metrics: metrics.clone(),
            health: health.clone(),
            clock: clock.clone(),
        };
        let (writers, outlet) = start_writers(&core, &metrics);
        let task = EngineTask::new(events, outlet, shared).recording(recorder(&core.settings)?);
        let (engine, keepers) = start_engine(&core, task, &metrics).await;
        let (desk, triggers) = TriggerDesk::channel();
        let peer = listeners.peers.as_ref().map(|(_, peer)| peer.clone());
        let pods = sources.pod_readings();
        let (feeders, watches) = start_feeders(&core, sources, roster, (&health, triggers));
        let election = start_election(&core, watches, &health, peer);
        let readers = Readers {
            board,
            health: health.clone(),
            metrics,
            engine: core.engine.clone(),
            log,
            clock,
            pods,
        };
        let Company { stop, routes, ready } = company;
        tell_ready(ready, health.clone());
        let servers = start_servers(&core, listeners, &readers, desk, routes)?;
        let leader = core.leader;
        Ok(Self { health, leader, writers, election, feeders, engine, keepers, servers, stop })
    }

    /// Waits for the end and brings it about in order.
    async fn run(mut self) -> anyhow::Result<ExitCode> {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let ended = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            () = self.stop.cancelled() => None,
            part = first_to_end([
                ("the engine", &mut self.engine),
                ("the watches or the scraper", &mut self.feeders),
                ("a writer", &mut self.writers),
                ("the election", &mut self.election),
                ("a server", &mut self.servers),
            ]) => Some(part),
        };
        tracing::info!("stopping");
        self.health.set_stopping();
        self.leader.close();
        self.writers.end("writers").await;
        // Nothing is being written any more: whoever stands by may take over now.
        self.election.end("election").await;
        self.feeders.end("watches and sources").await;
        self.engine.end("engine").await;
        self.keepers.end("the snapshot's writer").await;
        self.servers.end("servers").await;
        match ended {
            None => Ok(ExitCode::SUCCESS),
            Some(part) => bail!("{part} ended by itself, which is a bug"),
        }
    }
}

/// Tells once that all caches are filled and this process may write.
fn tell_ready(ready: Option<oneshot::Sender<()>>, health: Arc<Health>) {
    const EVERY: Duration = Duration::from_millis(10);
    let Some(ready) = ready else { return };
    tokio::spawn(async move {
        let is_ready = || {
            let sees = !health.watches().is_empty() && health.missing().is_empty();
            sees && health.is_leader()
        };
        while !is_ready() {
            if ready.is_closed() {
                return;
            }
            tokio::time::sleep(EVERY).await;
        }
        // Whoever wanted to know may be gone.
        let _ = ready.send(());
    });
}

/// The name of the group in which the first task ends: none should before it is told to.
async fn first_to_end<const N: usize>(groups: [(&'static str, &mut Group); N]) -> &'static str {
    let named = groups.into_iter().flat_map(|(name, group)| {
        group.tasks.iter_mut().map(move |task| {
            Box::pin(async move {
                // A panic has been printed where it happened.
                let _ = task.await;
                name
            })
        })
    });
    futures::future::select_all(named).await.0
}

/// The recording that was asked for.
fn recorder(settings: &Settings) -> Result<Option<Recorder>, RecorderError> {
    let start = |path| Recorder::start(path, RECORDING_BYTES);
    settings.record.as_deref().map(start).transpose()
}

fn source_options(settings: &Settings) -> SourceOptions {
    SourceOptions {
        credentials_dir: settings.credentials_dir.clone(),
        scrape: ScrapeOptions {
            allow_loopback: settings.scrape_allow_loopback,
            ..ScrapeOptions::default()
        },
    }
}

/// Where the engine's actions go.
struct Writers {
    scales: ScaleQueue,
    notices: EventQueue,
}

impl Outlet for Writers {
    fn write(&mut self, write: Action) {
        if let Some(write) = ScaleWrite::from_action(write) {
            self.scales.submit(write);
        }
    }

    fn announce(&mut self, target: TargetId, notice: Notice) {
        self.notices.announce(target, notice);
    }
}

fn start_writers(core: &Core, metrics: &Arc<Metrics>) -> (Group, Writers) {
    let counted = metrics.clone();
    let writer = ScaleWriter::new(scale::Context {
        client: core.client.clone(),
        engine: core.engine.clone(),
        clock: core.clock.clone(),
        leader: core.leader.clone(),
        uids: core.uids.clone(),
        observer: Arc::new(move |outcome, took| counted.wrote(outcome, took)),
    });
    let (notices, event_writer) = EventWriter::new(events::Context {
        client: core.client.clone(),
        clock: core.clock.clone(),
        leader: core.leader.clone(),
        uids: core.uids.clone(),
        instance: instance(),
    });
    let counted = notices.clone();
    metrics.set_notices(Box::new(move || {
        let counts = counted.counts();
        [("Written", &counts.written), ("Limited", &counts.limited), ("Failed", &counts.failed)]
            .map(|(outcome, count)| (outcome, count.load(Ordering::Relaxed)))
            .to_vec()
    }));
    let outlet = Writers { scales: writer.queue(), notices };
    let mut group = Group::new();
    group.spawn(writer.run(group.stop.clone()));
    group.spawn(event_writer.run(group.stop.clone()));
    (group, outlet)
}

/// The engine's task, and who keeps what it measured over a restart. What an earlier process kept is the
/// first thing that the engine hears.
async fn start_engine<O: Outlet>(
    core: &Core,
    mut task: EngineTask<O>,
    metrics: &Arc<Metrics>,
) -> (Group, Group) {
    let (mut engine, mut keepers) = (Group::new(), Group::new());
    if let Some(path) = core.settings.snapshot.clone() {
        let wall = core.clock.wall();
        if let Some((snapshot, age)) = snapshot::read_at_start(&path, wall, metrics) {
            core.engine.tell(Event::Restored { snapshot, age }).await;
        }
        let (sender, snapshots) = mpsc::channel(1);
        task = task.with_snapshots(sender);
        let (clock, metrics) = (core.clock.clone(), metrics.clone());
        keepers.spawn(snapshot::write_all(snapshots, path, clock, metrics));
    }
    engine.spawn(task.run(engine.stop.clone()));
    (engine, keepers)
}

/// Which process reports: the pod's name, or the machine's.
fn instance() -> String {
    std::env::var("HOSTNAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "podswell".into())
}

fn start_feeders(
    core: &Core,
    sources: Sources,
    roster: Arc<RwLock<Roster>>,
    (health, triggers): (&Arc<Health>, mpsc::Receiver<DeskRequest>),
) -> (Group, Arc<WatchHealth>) {
    let mut group = Group::new();
    group.spawn(sources.run_scraper(group.stop.clone()));
    let process = core.settings.process.clone();
    let context = watch::Context {
        client: core.client.clone(),
        namespace: core.settings.namespace.clone(),
        engine: core.engine.clone(),
        roster,
        scaled_objects: core.scaled_objects.clone(),
        uids: core.uids.clone(),
        clock: core.clock.clone(),
        reader: Box::new(Reader::new(process.clone(), sources)),
        triggers,
    };
    let watches = Watches::new(context, process).within(&core.settings.namespaces);
    let watch_health = watches.health();
    let reported = watch_health.clone();
    health.set_watches(Box::new(move || reports(&reported)));
    group.spawn(watches.run(group.stop.clone()));
    (group, watch_health)
}

fn reports(health: &WatchHealth) -> Vec<WatchReport> {
    let (states, goes_on) = (health.states().into_iter(), health.is_synced());
    states
        .map(|(name, state)| WatchReport {
            name,
            synced: state.synced,
            awaited: !(goes_on && state.namespace.is_some()),
            fault: state.fault,
            skipped: state.skipped,
        })
        .collect()
}

/// The task that allows writing: as soon as the whole picture is there, and (unless the election is off)
/// while this process holds the lease. Who does not see everything does not stand for election.
fn start_election(
    core: &Core,
    watches: Arc<WatchHealth>,
    health: &Arc<Health>,
    peer: Option<Peer>,
) -> Group {
    let mut group = Group::new();
    let stop = group.stop.clone();
    let (engine, leader) = (core.engine.clone(), core.leader.clone());
    if !core.settings.leader_elect {
        let role = core.role.clone();
        group.spawn(async move {
            if all_synced(&watches, &stop).await {
                leader.set(Some(Timestamp::MAX));
                role.set(Role { is_ours: true, leads: true, ..Role::default() });
                engine.tell(Event::LeadershipChanged { leader: true }).await;
            }
            stop.cancelled().await;
        });
        return group;
    }
    let (identity, health) = (identity(), health.clone());
    let (shown, role) = (identity.clone(), core.role.clone());
    let show = move |state: LeaseState| {
        let LeaseState { holder, transitions, fault, leads, peer } = state;
        let is_ours = leads || holder.as_ref() == Some(&shown);
        role.set(Role { is_ours, leads, epoch: transitions.unwrap_or(0), peer });
        health.set_lease(LeaseReport { identity: shown.clone(), holder, transitions, fault });
    };
    show(LeaseState::default());
    let elector = Elector::new(lease::Context {
        client: core.client.clone(),
        namespace: core.settings.namespace.clone(),
        identity,
        peer,
        clock: core.clock.clone(),
        leadership: leader,
        engine,
        observer: Box::new(show),
    });
    group.spawn(async move {
        if all_synced(&watches, &stop).await {
            elector.run(stop).await;
        }
    });
    group
}

/// Waits until every watch had its first complete list; false at a stop before that.
async fn all_synced(watches: &WatchHealth, stop: &CancellationToken) -> bool {
    let mut synced = watches.subscribe();
    tokio::select! {
        () = stop.cancelled() => false,
        outcome = synced.wait_for(|synced| *synced) => outcome.is_ok(),
    }
}

/// This process's name in the election: the pod's, or the machine's, and a random end, because a name
/// must not come back when a container restarts.
fn identity() -> Arc<str> {
    let pod = std::env::var("POD_NAME").ok().filter(|name| !name.is_empty());
    let machine = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = pod.or_else(machine).unwrap_or_else(instance);
    format!("{}_{:08x}", name.trim(), rand::random::<u32>()).into()
}

fn start_servers(
    core: &Core,
    listeners: Listeners,
    readers: &Readers,
    desk: TriggerDesk,
    more: Option<Router>,
) -> anyhow::Result<Group> {
    let settings = &core.settings;
    let access = Access {
        token_file: settings.admin_token_file.clone(),
        loopback: settings.admin_listen.is_loopback(),
    };
    let peers = Peers::new(core.role.clone());
    let public = admin::public_routes(readers.clone());
    let private = admin::admin_routes_among(readers.clone(), access, more, Some(peers.clone()));
    let mut group = Group::new();
    group.spawn(http::serve(listeners.public, public, group.stop.clone()));
    group.spawn(http::serve(listeners.admin, private, group.stop.clone()));
    let keda = settings.keda.as_ref();
    let counters = Arc::<Counters>::default();
    let scaler = Scaler::new(
        keda::Context {
            board: readers.board.clone(),
            desk,
            health: readers.health.clone(),
            role: core.role.clone(),
            clock: readers.clock.clone(),
            namespaces: Arc::new(keda.map(|keda| keda.namespaces.clone()).unwrap_or_default()),
            drain: group.stop.clone(),
            // Who does not serve KEDA answers those who do.
            max_streams: keda.map_or(Semaphore::MAX_PERMITS, |keda| keda.max_streams),
            counters: counters.clone(),
        },
        peers,
    );
    if let Some((listener, peer)) = listeners.peers {
        let pages = admin::peer_routes(readers.clone(), core.role.clone());
        let routes = peers::guarded(transport::peer_routes(&scaler).merge(pages), peer.token);
        let routes = transport::among_peers(routes);
        group.spawn(transport::serve(listener, routes, None, group.stop.clone()));
    }
    if let (Some(listener), Some(settings)) = (listeners.keda, keda) {
        let tls = settings.tls.clone().map(ReloadingAcceptor::new).transpose();
        let tls = tls.context("serve KEDA with TLS")?.map(Arc::new);
        readers.metrics.set_scaler(counters);
        group.spawn(scaler.clone().sweep());
        let (routes, probes) = transport::routes(scaler);
        group.spawn(probes);
        group.spawn(transport::serve(listener, routes, tls, group.stop.clone()));
    }
    Ok(group)
}
