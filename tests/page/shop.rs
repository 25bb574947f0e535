//! Deployments that obey, a load that is told, and the admin listener of a real engine between them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use podswell::core::config::TargetConfig;
use podswell::core::event::{Action, Event, Notice, Reading, Sample, WriteOutcome};
use podswell::core::policy::Consent;
use podswell::core::source::{PointConfig, Share};
use podswell::core::spec::{ScaleBounds, ScalerSpec};
use podswell::core::target::{PodCounts, TargetId};
use podswell::runtime::clock::{Clock, SystemClock};
use podswell::runtime::engine_handle::EngineHandle;
use podswell::runtime::engine_task::{EngineTask, Outlet, Shared};
use podswell::runtime::health::Health;
use podswell::runtime::metrics::Metrics;
use podswell::runtime::status_board::StatusBoard;
use podswell::runtime::telemetry::LogControl;
use podswell::servers::admin::{Access, Readers, admin_routes};
use podswell::servers::http;
use podswell::sources::counters::SourceMetrics;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::support::http::HttpClient;

const NAMESPACE: &str = "shop";
/// For so long panic lasts at least: a browser on a busy machine looks seldom.
const WINDOW: Duration = Duration::from_secs(20);

type Loads = Arc<Mutex<BTreeMap<TargetId, Option<f64>>>>;

/// Everything behind the page; ends when it is dropped.
pub(crate) struct Shop {
    port: u16,
    loads: Loads,
    stop: CancellationToken,
    _token: tempfile::TempDir,
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shop {
    /// Deployments with these names and two pods each; the load of each is 0 until it is set.
    pub(crate) async fn open(names: &[&str], token: Option<&str>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (engine, events) = EngineHandle::channel();
        let board = Arc::<StatusBoard>::default();
        let health = Health::new(clock.now());
        let metrics =
            Metrics::new(board.clone(), health.clone(), engine.clone(), SourceMetrics::default());
        let shared = Shared {
            board: board.clone(),
            metrics: metrics.clone(),
            health: health.clone(),
            clock: clock.clone(),
        };
        let stop = CancellationToken::new();
        let cluster = Cluster { engine: engine.clone() };
        tokio::spawn(EngineTask::new(events, cluster, shared).run(stop.clone()));
        let loads = Loads::default();
        for name in names {
            let target = TargetId::deployment(NAMESPACE, name);
            appear(&engine, &target).await;
            loads.lock().insert(target, Some(0.0));
        }
        engine.tell(Event::LeadershipChanged { leader: true }).await;
        tokio::spawn(report(engine.clone(), loads.clone(), stop.clone()));
        let folder = tempfile::tempdir().expect("a folder");
        let token_file = token.map(|token| {
            let file = folder.path().join("token");
            std::fs::write(&file, token).expect("write the token");
            file
        });
        let log = LogControl::detached("info");
        let pods = Arc::default();
        let readers = Readers { board, health, metrics, engine, log, clock, pods };
        let router = admin_routes(readers, Access { token_file, loopback: true }, None);
        let listener = http::bind(&[([127, 0, 0, 1], 0).into()]).await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        tokio::spawn(http::serve(listener, router, stop.clone()));
        Self { port, loads, stop, _token: folder }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Requests in flight from now on; `None`: nothing is heard any more.
    pub(crate) fn set_load(&self, name: &str, load: Option<f64>) {
        self.loads.lock().insert(TargetId::deployment(NAMESPACE, name), load);
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = HttpClient::new().get(&self.url(path)).await.expect("an answer");
        serde_json::from_slice(&answer.body).expect("JSON")
    }
}

fn config() -> TargetConfig {
    TargetConfig {
        consent: Consent::Managed,
        spec: ScalerSpec {
            total: 10.0,
            target: 10.0,
            stable_window: WINDOW,
            panic_window: Duration::from_secs(2),
            ..ScalerSpec::default()
        },
        bounds: ScaleBounds { min: 1, max: 50 },
        points: vec![PointConfig {
            source: "script".into(),
            interval: Duration::from_secs(1),
            stale_after: Duration::from_secs(5),
            range: None,
            visible_at_zero: false,
            share: Share::default(),
        }],
        ..TargetConfig::default()
    }
}

async fn appear(engine: &EngineHandle, target: &TargetId) {
    engine.tell(Event::TargetApplied { target: target.clone(), config: Arc::new(config()) }).await;
    observe(engine, target, 2, "1").await;
}

async fn observe(engine: &EngineHandle, target: &TargetId, replicas: i32, version: &str) {
    let seen = Event::ReplicasObserved {
        target: target.clone(),
        replicas,
        resource_version: version.into(),
        newly_created: false,
    };
    engine.tell(seen).await;
    let pods = PodCounts { ready: replicas, ..PodCounts::default() };
    engine.tell(Event::PodsObserved { target: target.clone(), pods }).await;
}

async fn report(engine: EngineHandle, loads: Loads, stop: CancellationToken) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    while stop.run_until_cancelled(second.tick()).await.is_some() {
        let heard = loads.lock().clone();
        let samples = heard.into_iter().filter_map(|(target, load)| {
            let reading = Reading::Value { seen: load?, missing: 0 };
            let source = "script".into();
            Some(Sample { target, source, age: Duration::ZERO, stamp_ms: None, reading })
        });
        engine.offer(Event::Sampled { samples: samples.collect() });
    }
}

/// A cluster in which every write succeeds and pods are ready at once.
struct Cluster {
    engine: EngineHandle,
}

impl Outlet for Cluster {
    fn write(&mut self, write: Action) {
        let Action::Write { target, replicas, resource_version, .. } = write else { return };
        let engine = self.engine.clone();
        tokio::spawn(async move {
            let outcome = WriteOutcome::Written;
            let written = Event::ScaleWritten { target: target.clone(), replicas, outcome };
            engine.tell(written).await;
            let version: u64 = resource_version.parse().expect("a number");
            observe(&engine, &target, replicas, &(version + 1).to_string()).await;
        });
    }

    fn announce(&mut self, _target: TargetId, _notice: Notice) {}
}
