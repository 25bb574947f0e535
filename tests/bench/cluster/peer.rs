//! The autoscalers that are compared, side by side in one cluster: each has a namespace of its own.

use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::audit::Audit;
use crate::external::{ExternalMetrics, METRIC};
use crate::knative::{self, Knative};
use crate::support::controlplane::{ControlPlane, Options};
use crate::support::deployment::NewDeployment;
use crate::support::node::{Node, NodeOptions};
use crate::support::podswell::Podswell;
use crate::support::prometheus::{Prometheus, PrometheusOptions};

pub(crate) const INSTALL: &str = include_str!("../../../deploy/install.yaml");
/// How long a pod takes from being bound to being ready.
const POD_START: Duration = Duration::from_secs(3);
/// The highest number that anybody may reach.
const CEILING: i32 = 200;
/// Part of the target that is aimed at, as podswell and Knative do by default.
const UTILIZATION: f64 = 0.7;
/// Requests that a played pod works on at once.
const AT_ONCE: usize = 10;

/// Who scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    Scrape,
    Prometheus15,
    Knative,
    KnativeRaised,
    Hpa,
}

impl Peer {
    pub(crate) const ALL: [Self; 5] =
        [Self::Scrape, Self::Prometheus15, Self::Knative, Self::KnativeRaised, Self::Hpa];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scrape => "podswell, scraping each second",
            Self::Prometheus15 => "podswell, Prometheus of 15 s",
            Self::Knative => "Knative's autoscaler, as shipped",
            Self::KnativeRaised => "Knative's autoscaler, client limit raised",
            Self::Hpa => "HPA, stock settings",
        }
    }

    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Self::Scrape => "scraped",
            Self::Prometheus15 => "prometheus",
            Self::Knative => "knative",
            Self::KnativeRaised => "knative-raised",
            Self::Hpa => "hpa",
        }
    }

    /// What marks its requests in the API server's audit log: its user or its program.
    pub(crate) fn writer(self) -> &'static str {
        match self {
            Self::Scrape | Self::Prometheus15 => "system:serviceaccount:podswell-system:podswell",
            Self::Knative | Self::KnativeRaised => knative::AGENT,
            Self::Hpa => "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
        }
    }
}

/// A cluster with its pods and its autoscalers. The fields are dropped in order.
pub(crate) struct Stage {
    pub(crate) peers: Vec<Peer>,
    _podswell: Option<Podswell>,
    knative: Mutex<Vec<Knative>>,
    _prometheus: Option<Prometheus>,
    _metrics: Option<ExternalMetrics>,
    pub(crate) node: Node,
    pub(crate) plane: ControlPlane,
    pub(crate) audit: Audit,
    _folder: TempDir,
}

impl Stage {
    pub(crate) async fn set(peers: &[Peer]) -> Self {
        let folder = tempfile::Builder::new().prefix("podswell-bench-").tempdir();
        let folder = folder.expect("make a folder");
        let (audit, apiserver_flags) = Audit::prepare(folder.path());
        let hpa_sync_period = Duration::from_secs(15);
        let options = Options { hpa_sync_period, apiserver_flags, ..Options::default() };
        let plane = ControlPlane::start(options).await;
        let options = NodeOptions {
            start_delay: POD_START,
            termination: Duration::from_secs(1),
            concurrency_limit: Some(AT_ONCE),
            ..NodeOptions::default()
        };
        let node = Node::start(plane.client(), options);
        let (mut prometheus, mut metrics) = (None, None);
        if peers.contains(&Peer::Prometheus15) {
            let scrape_interval = Duration::from_secs(15);
            let namespace = Some(Peer::Prometheus15.namespace().to_owned());
            let options =
                PrometheusOptions { scrape_interval, namespace, ..PrometheusOptions::default() };
            prometheus = Some(Prometheus::start(node.table(), options).await);
        }
        if peers.contains(&Peer::Hpa) {
            metrics = Some(ExternalMetrics::start(&plane, node.table()).await);
        }
        let podswell = start_podswell(&plane, peers, prometheus.as_ref()).await;
        let knative = start_knative(&plane, peers).await;
        Self {
            peers: peers.to_vec(),
            _podswell: podswell,
            knative: Mutex::new(knative),
            _prometheus: prometheus,
            _metrics: metrics,
            node,
            plane,
            audit,
            _folder: folder,
        }
    }

    /// Objects are going to be made or removed: nobody should take minutes for that.
    pub(crate) async fn hurry(&self) {
        for knative in self.knative.lock().await.iter_mut() {
            knative.hurry().await;
        }
    }

    /// From here on everybody works under the limits that are to be measured.
    pub(crate) async fn slow_down(&self) {
        for knative in self.knative.lock().await.iter_mut() {
            knative.slow_down().await;
        }
    }

    /// A workload of which each pod should carry `target` × 70 % requests in flight.
    pub(crate) async fn create(&self, peer: Peer, name: &str, replicas: i32, target: u32) {
        let (client, namespace) = (self.plane.client(), peer.namespace());
        let new = NewDeployment::new(namespace, name, replicas);
        let podswell = |new: NewDeployment| {
            new.annotation("autoscaling.knative.dev/class", "kpa.podswell.dev")
                .annotation("autoscaling.knative.dev/target", &target.to_string())
                .annotation("autoscaling.knative.dev/max-scale", &CEILING.to_string())
        };
        match peer {
            Peer::Scrape => {
                let scrape =
                    r#"{"port":8080,"path":"/metrics","inFlight":"app_requests_in_flight"}"#;
                podswell(new).annotation("podswell.dev/scrape", scrape).create(&client).await;
            }
            Peer::Prometheus15 => {
                podswell(new).annotation("podswell.dev/source", "pods").create(&client).await;
            }
            Peer::Knative | Peer::KnativeRaised => {
                knative::with_labels(new).create(&client).await;
                let annotations = json!({
                    "autoscaling.knative.dev/class": "kpa.autoscaling.knative.dev",
                    "autoscaling.knative.dev/metric": "concurrency",
                    "autoscaling.knative.dev/target": target.to_string(),
                    "autoscaling.knative.dev/min-scale": "1",
                    "autoscaling.knative.dev/max-scale": CEILING.to_string(),
                    "autoscaling.knative.dev/initial-scale": replicas.to_string(),
                    "autoscaling.knative.dev/target-burst-capacity": "0",
                });
                knative::create_autoscaler(&client, namespace, name, annotations).await;
            }
            Peer::Hpa => {
                new.create(&client).await;
                self.plane.apply(&hpa(namespace, name, target)).await;
            }
        }
    }
}

async fn start_podswell(
    plane: &ControlPlane,
    peers: &[Peer],
    prometheus: Option<&Prometheus>,
) -> Option<Podswell> {
    if !peers.iter().any(|peer| matches!(peer, Peer::Scrape | Peer::Prometheus15)) {
        return None;
    }
    plane.apply(INSTALL).await;
    if let Some(prometheus) = prometheus {
        plane.apply(&source(prometheus)).await;
    }
    let kubeconfig = plane.kubeconfig_for_service_account("podswell-system", "podswell").await;
    Some(Podswell::start(plane.folder(), &kubeconfig, &[]).await)
}

async fn start_knative(plane: &ControlPlane, peers: &[Peer]) -> Vec<Knative> {
    let mut started = Vec::new();
    for (peer, is_raised) in [(Peer::Knative, false), (Peer::KnativeRaised, true)] {
        if peers.contains(&peer) {
            if started.is_empty() {
                knative::prepare(plane).await;
            }
            started.push(Knative::start(plane, peer.namespace(), is_raised).await);
        }
    }
    started
}

fn hpa(namespace: &str, name: &str, target: u32) -> String {
    let value = format!("{}m", f64::from(target) * UTILIZATION * 1000.0);
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "maxReplicas": CEILING,
            "metrics": [{"type": "External", "external": {
                "metric": {"name": METRIC, "selector": {"matchLabels": {"app": name}}},
                "target": {"type": "AverageValue", "averageValue": value},
            }}],
        },
    })
    .to_string()
}

fn source(prometheus: &Prometheus) -> String {
    let document = format!(
        "server: {{ url: \"{}\" }}\nkind: concurrency\nselector: app_requests_in_flight\n\
         form: gauge\ninterval: 15s\nmatch: {{ namespace: namespace, pod: pod }}\n",
        prometheus.url()
    );
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "podswell-sources", "namespace": "podswell-system"},
        "data": {"pods": document},
    })
    .to_string()
}
