//! What the story is played on: a cluster, its pods, a Prometheus, podswell with the manifests of
//! `deploy/` and its own service account's token, and three Deployments with their load.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::record::Record;
use crate::screen::{Look, Screen};
use crate::support::binaries;
use crate::support::controlplane::{ControlPlane, Options};
use crate::support::deployment::NewDeployment;
use crate::support::load::{Level, Load, LoadOptions};
use crate::support::node::{Node, NodeOptions};
use crate::support::podswell::Podswell;
use crate::support::prometheus::{Prometheus, PrometheusOptions};
use crate::support::wait::eventually;

const INSTALL: &str = include_str!("../../deploy/install.yaml");
/// Requests in flight that one pod is meant for; 70 % of it are aimed at.
pub(crate) const TARGET: &str = "10";
/// How long any step of the start may take: generous, the machine may be busy.
const LIMIT: Duration = Duration::from_secs(120);
/// How many of the Deployments Prometheus has found.
const FOUND: &str =
    r#"count(count by (deployment) (app_requests_in_flight{namespace=~"shop|media"}))"#;
/// How long each request takes at a pod.
const WORK: Duration = Duration::from_secs(1);
/// How long a pod goes on serving that is to end: all its requests have ended by then, on a machine that
/// stands still for seconds as well.
const TERMINATION: Duration = Duration::from_secs(10);
/// No demo takes longer.
const MAX_TIME: Duration = Duration::from_secs(4 * 3600);

/// Where podswell keeps what it is told and decides, in the control plane's folder.
const RECORDING: &str = "engine.jsonl";

/// Everything that runs. The fields are dropped in order: who uses something goes before it.
pub(crate) struct Stage {
    pub(crate) podswell: Podswell,
    pub(crate) prometheus: Prometheus,
    pub(crate) record: Record,
    pub(crate) node: Node,
    pub(crate) plane: ControlPlane,
}

/// A Deployment of the story and how it is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) namespace: &'static str,
    pub(crate) name: &'static str,
    /// The annotation that says where its samples come from.
    source: (&'static str, &'static str),
    /// The same in words.
    pub(crate) measured: &'static str,
}

pub(crate) const CHECKOUT: Workload = Workload {
    namespace: "shop",
    name: "checkout",
    source: (
        "podswell.dev/scrape",
        r#"{"port":8080,"path":"/metrics","inFlight":"app_requests_in_flight"}"#,
    ),
    measured: "podswell reads the /metrics page of each pod",
};
pub(crate) const SEARCH: Workload = Workload {
    namespace: "shop",
    name: "search",
    source: ("podswell.dev/source", "in-flight"),
    measured: "podswell asks a Prometheus that scrapes each second",
};
pub(crate) const THUMBNAILS: Workload = Workload {
    namespace: "media",
    name: "thumbnails",
    source: ("podswell.dev/scrape", r#"{"port":9090,"format":"queue-proxy"}"#),
    measured: "podswell reads each pod's Knative queue-proxy page",
};
pub(crate) const ALL: [Workload; 3] = [CHECKOUT, SEARCH, THUMBNAILS];

impl Workload {
    pub(crate) fn key(self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Load that goes on until it is dropped.
    pub(crate) fn load(self, stage: &Stage, requests: usize) -> Load {
        let options = LoadOptions {
            work: WORK,
            max_requests: u64::MAX,
            max_time: MAX_TIME,
            ..LoadOptions::new(self.namespace, self.name)
        };
        Load::start(stage.node.table(), options, Level::InFlight(requests))
    }
}

/// A Kubernetes Event that podswell wrote.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) at: Option<jiff::Timestamp>,
    pub(crate) workload: String,
    pub(crate) reason: String,
    pub(crate) note: String,
    /// How often it was told in the same words.
    pub(crate) times: i32,
}

impl Stage {
    /// Starts everything, telling the screen of each step.
    pub(crate) async fn set(screen: &Screen, window: Duration) -> Self {
        let mut steps = Steps { screen, began: Instant::now() };
        let plane = ControlPlane::start(Options::default()).await;
        steps.done("etcd, kube-apiserver and kube-controller-manager run");
        let options = NodeOptions {
            start_delay: Duration::from_secs(1),
            termination: TERMINATION,
            ..NodeOptions::default()
        };
        let node = Node::start(plane.client(), options);
        let prometheus = Prometheus::start(node.table(), PrometheusOptions::default()).await;
        steps.done("Prometheus runs and scrapes every pod each second");
        plane.apply(INSTALL).await;
        plane.apply(&sources(&prometheus)).await;
        let record = Record::start(plane.client());
        for workload in ALL {
            create(&plane, workload, window).await;
        }
        eventually(LIMIT, "Prometheus has found the pods", || async {
            let found = prometheus.number(FOUND).await?;
            if found >= 3.0 { Ok(()) } else { Err(found.to_string()) }
        })
        .await;
        steps.done("deploy/install.yaml is applied, three Deployments have a pod each");
        let kubeconfig = plane.kubeconfig_for_service_account("podswell-system", "podswell").await;
        let recording = plane.folder().join(RECORDING).display().to_string();
        let flags = ["--record", recording.as_str()];
        let podswell = Podswell::start(plane.folder(), &kubeconfig, &flags).await;
        steps.done("podswell runs with nothing but its service account's token");
        Self { podswell, prometheus, record, node, plane }
    }

    /// What podswell says of a workload; `Null` while it knows nothing of it.
    pub(crate) async fn status(&self, workload: Workload) -> Value {
        self.podswell.target(workload.namespace, workload.name).await
    }

    /// Tells how to look at all this from elsewhere.
    pub(crate) fn invite(&self, screen: &Screen) {
        let kubectl = if on_path("kubectl") {
            "kubectl".to_owned()
        } else {
            format!("{} kubectl", short(&binaries::path("controlplane")))
        };
        let podswell = short(Path::new(env!("CARGO_BIN_EXE_podswell")));
        let (server, log) = (self.podswell.admin_url(), self.podswell.log_path().display());
        let kubeconfig = self.plane.kubeconfig().display().to_string();
        screen.lines(Look::Plain, "\n  To look on from another terminal, in this folder:\n");
        screen.lines(
            Look::Bold,
            &format!(
                "    export KUBECONFIG={kubeconfig}\n    \
                 export PODSWELL_SERVER={server}\n    \
                 {kubectl} get deployments -A -w\n    \
                 {podswell} explain deploy/checkout -n shop\n    \
                 curl {server}/v1/targets/shop/checkout",
            ),
        );
        screen.lines(Look::Dim, &format!("\n  podswell's log: {log}"));
    }

    /// Replays what podswell recorded: whether that ended well, and what it printed.
    pub(crate) fn replay(&self) -> (bool, String) {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_podswell"))
            .args(["simulate", "--replay"])
            .arg(self.plane.folder().join(RECORDING))
            .output()
            .expect("run podswell simulate");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// How many Events podswell did not write because there were too many, or the API server did not answer:
    /// they are a courtesy.
    pub(crate) async fn events_left_out(&self) -> f64 {
        let counted = ["Limited", "Failed"].map(|outcome| async move {
            let series = format!("podswell_events_total{{outcome=\"{outcome}\"}}");
            self.podswell.counted(&series).await
        });
        futures::future::join_all(counted).await.iter().sum()
    }

    /// The Events that podswell wrote, oldest first.
    pub(crate) async fn events(&self) -> Vec<Told> {
        let api: Api<Event> = Api::all(self.plane.client());
        let Ok(list) = api.list(&kube::api::ListParams::default()).await else { return Vec::new() };
        let ours = |event: &Event| event.reporting_controller.as_deref() == Some("podswell");
        let mut events: Vec<_> = list.into_iter().filter(ours).map(told).collect();
        events.sort_by_key(|event| event.at);
        events
    }
}

fn told(event: Event) -> Told {
    let namespace = event.namespace().unwrap_or_default();
    let name = event.regarding.and_then(|regarding| regarding.name).unwrap_or_default();
    Told {
        at: event.event_time.map(|time| time.0),
        workload: format!("{namespace}/{name}"),
        reason: event.reason.unwrap_or_default(),
        note: event.note.unwrap_or_default(),
        times: event.series.map_or(1, |series| series.count),
    }
}

/// Tells how long each step of the start took.
struct Steps<'a> {
    screen: &'a Screen,
    began: Instant,
}

impl Steps<'_> {
    fn done(&mut self, what: &str) {
        let took = self.began.elapsed().as_secs_f64();
        self.screen.lines(Look::Plain, &format!("  {took:>5.1} s  {what}"));
        self.began = Instant::now();
    }
}

async fn create(plane: &ControlPlane, workload: Workload, window: Duration) {
    let (key, value) = workload.source;
    NewDeployment::new(workload.namespace, workload.name, 1)
        .annotation("autoscaling.knative.dev/class", "kpa.podswell.dev")
        .annotation("autoscaling.knative.dev/target", TARGET)
        .annotation("autoscaling.knative.dev/max-scale", "30")
        .annotation("autoscaling.knative.dev/window", &format!("{}s", window.as_secs()))
        .annotation(key, value)
        .create(&plane.client())
        .await;
}

/// The ConfigMap podswell-sources with this server.
fn sources(prometheus: &Prometheus) -> String {
    let document = format!(
        "server: {{ url: \"{}\" }}\nkind: concurrency\nselector: app_requests_in_flight\n\
         form: gauge\ninterval: 1s\nmatch: {{ namespace: namespace, pod: pod }}\n",
        prometheus.url()
    );
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "podswell-sources", "namespace": "podswell-system" },
        "data": { "in-flight": document },
    })
    .to_string()
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A path as it is typed in the repository's folder.
fn short(path: &Path) -> String {
    let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.strip_prefix(repository).unwrap_or(path).display().to_string()
}
