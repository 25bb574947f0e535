//! The autoscalers that are compared, each in a cluster of its own.

use std::time::Duration;

use serde_json::json;

use crate::external::{ExternalMetrics, METRIC};
use crate::support::controlplane::{ControlPlane, Options};
use crate::support::deployment::NewDeployment;
use crate::support::node::{Node, NodeOptions};
use crate::support::podswell::Podswell;
use crate::support::prometheus::{Prometheus, PrometheusOptions};

const INSTALL: &str = include_str!("../../../deploy/install.yaml");
/// How long a pod takes from being bound to being ready.
pub(crate) const POD_START: Duration = Duration::from_secs(3);
/// The highest number that anybody may reach.
const CEILING: i32 = 200;
/// Part of the target that is aimed at, as podswell does by default.
const UTILIZATION: f64 = 0.7;
/// Requests that a played pod works on at once.
const AT_ONCE: usize = 10;

/// Who scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    Scrape,
    Prometheus15,
    Hpa,
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Scrape, Self::Prometheus15, Self::Hpa];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scrape => "podswell, scraping each second",
            Self::Prometheus15 => "podswell, Prometheus of 15 s",
            Self::Hpa => "HPA, stock settings",
        }
    }
}

/// A cluster with its pods and its autoscaler. The fields are dropped in order.
pub(crate) struct Stage {
    pub(crate) peer: Peer,
    podswell: Option<Podswell>,
    _prometheus: Option<Prometheus>,
    _metrics: Option<ExternalMetrics>,
    pub(crate) node: Node,
    pub(crate) plane: ControlPlane,
}

impl Stage {
    pub(crate) async fn set(peer: Peer) -> Self {
        let options = Options { hpa_sync_period: Duration::from_secs(15), ..Options::default() };
        let plane = ControlPlane::start(options).await;
        let options = NodeOptions {
            start_delay: POD_START,
            termination: Duration::from_secs(1),
            concurrency_limit: Some(AT_ONCE),
            ..NodeOptions::default()
        };
        let node = Node::start(plane.client(), options);
        let (mut prometheus, mut podswell, mut metrics) = (None, None, None);
        if peer == Peer::Prometheus15 {
            let scrape_interval = Duration::from_secs(15);
            let options = PrometheusOptions { scrape_interval, ..PrometheusOptions::default() };
            prometheus = Some(Prometheus::start(node.table(), options).await);
        }
        if peer == Peer::Hpa {
            metrics = Some(ExternalMetrics::start(&plane, node.table()).await);
        } else {
            plane.apply(INSTALL).await;
            if let Some(prometheus) = &prometheus {
                plane.apply(&source(prometheus)).await;
            }
            let kubeconfig =
                plane.kubeconfig_for_service_account("podswell-system", "podswell").await;
            podswell = Some(Podswell::start(plane.folder(), &kubeconfig, &[]).await);
        }
        Self { peer, podswell, _prometheus: prometheus, _metrics: metrics, node, plane }
    }

    /// CPU seconds that podswell has used.
    pub(crate) fn cpu(&self) -> f64 {
        self.podswell.as_ref().map_or(0.0, Podswell::cpu_seconds)
    }

    /// Memory that podswell holds, in MiB.
    pub(crate) fn resident_mib(&self) -> u64 {
        self.podswell.as_ref().map_or(0, Podswell::resident_kib) / 1024
    }

    /// A workload of which each pod should carry `target` × 70 % requests in flight.
    pub(crate) async fn create(&self, namespace: &str, name: &str, replicas: i32, target: u32) {
        let new = NewDeployment::new(namespace, name, replicas);
        let source = match self.peer {
            Peer::Scrape => Some((
                "podswell.dev/scrape",
                r#"{"port":8080,"path":"/metrics","inFlight":"app_requests_in_flight"}"#,
            )),
            Peer::Prometheus15 => Some(("podswell.dev/source", "pods")),
            Peer::Hpa => None,
        };
        let Some((key, value)) = source else {
            new.create(&self.plane.client()).await;
            self.plane.apply(&hpa(namespace, name, target)).await;
            return;
        };
        new.annotation("autoscaling.knative.dev/class", "kpa.podswell.dev")
            .annotation("autoscaling.knative.dev/target", &target.to_string())
            .annotation("autoscaling.knative.dev/max-scale", &CEILING.to_string())
            .annotation(key, value)
            .create(&self.plane.client())
            .await;
    }
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
