//! What all scenarios share: a cluster, its pods, two Prometheus servers and podswell, which runs with
//! the manifests of `deploy/` and with nothing but its own service account's token.

use std::time::Duration;

use podswell::core::policy::Mode;
use serde_json::Value;

use crate::support::controlplane::{ControlPlane, Options};
use crate::support::deployment::{DeploymentRef, NewDeployment};
use crate::support::load::{Level, Load, LoadOptions};
use crate::support::node::{Node, NodeOptions};
use crate::support::podswell::Podswell;
use crate::support::prometheus::{Prometheus, PrometheusOptions};
use crate::support::wait::{always_for, eventually, settles, until};

/// How long a state may take to come: generous, the machine may be busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);
/// How long replicas may take to settle: a number that was too high for a moment stays for a stable window, and
/// may come back once more while the load moves.
const SETTLE_LIMIT: Duration = Duration::from_secs(400);
/// The target annotation of all workloads; 70 % of it are aimed at.
pub(crate) const TARGET: &str = "10";
const INSTALL: &str = include_str!("../../../deploy/install.yaml");

/// Where a workload's samples come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The text page of each pod, each second.
    Scrape,
    /// The queue-proxy page of each pod, each second.
    QueueProxy,
    /// A Prometheus that scrapes each second.
    Prometheus1,
    /// A Prometheus that scrapes every 15 s.
    Prometheus15,
}

impl Source {
    pub(crate) const ALL: [Self; 4] =
        [Self::Scrape, Self::QueueProxy, Self::Prometheus1, Self::Prometheus15];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scrape => "scrape",
            Self::QueueProxy => "queue-proxy",
            Self::Prometheus1 => "prometheus-1s",
            Self::Prometheus15 => "prometheus-15s",
        }
    }

    /// A stable window that holds a few samples.
    pub(crate) fn window(self) -> Duration {
        Duration::from_secs(if self == Self::Prometheus15 { 60 } else { 12 })
    }

    fn annotation(self, metric: &str) -> (&'static str, String) {
        match (self, metric) {
            (Self::Scrape, "rps") => (
                "podswell.dev/scrape",
                r#"{"port":8080,"path":"/metrics","requests":"app_requests_started_total"}"#.into(),
            ),
            (Self::Scrape, _) => (
                "podswell.dev/scrape",
                r#"{"port":8080,"path":"/metrics","inFlight":"app_requests_in_flight"}"#.into(),
            ),
            (Self::QueueProxy, _) => {
                ("podswell.dev/scrape", r#"{"port":9090,"format":"queue-proxy"}"#.into())
            }
            (Self::Prometheus1, metric) => ("podswell.dev/source", format!("fast-{metric}")),
            (Self::Prometheus15, metric) => ("podswell.dev/source", format!("slow-{metric}")),
        }
    }
}

pub(crate) struct Town {
    pub(crate) plane: ControlPlane,
    pub(crate) node: Node,
    pub(crate) podswell: tokio::sync::RwLock<Podswell>,
    _prometheus: [Prometheus; 2],
}

/// One Deployment of the town.
pub(crate) struct Workload<'a> {
    town: &'a Town,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) deployment: DeploymentRef,
}

impl Town {
    pub(crate) async fn start() -> Self {
        let plane = ControlPlane::start(Options::default()).await;
        let options = NodeOptions {
            start_delay: Duration::from_millis(500),
            termination: Duration::from_secs(3),
            ..NodeOptions::default()
        };
        let node = Node::start(plane.client(), options);
        let prometheus = [
            Prometheus::start(node.table(), PrometheusOptions::default()).await,
            Prometheus::start(
                node.table(),
                PrometheusOptions {
                    scrape_interval: Duration::from_secs(15),
                    ..PrometheusOptions::default()
                },
            )
            .await,
        ];
        plane.apply(INSTALL).await;
        plane.apply(&sources(&prometheus)).await;
        let kubeconfig = plane.kubeconfig_for_service_account("podswell-system", "podswell").await;
        let podswell = Podswell::start(plane.folder(), &kubeconfig, &[]).await;
        Self { plane, node, podswell: podswell.into(), _prometheus: prometheus }
    }

    /// A managed workload that is measured in this way, with more annotations.
    pub(crate) async fn workload(
        &self,
        namespace: &str,
        name: &str,
        source: Source,
        replicas: i32,
        more: &[(&str, &str)],
    ) -> Workload<'_> {
        let metric = more
            .iter()
            .find(|(key, _)| *key == "autoscaling.knative.dev/metric")
            .map_or("concurrency", |(_, metric)| metric);
        let (key, value) = source.annotation(metric);
        let mut new = NewDeployment::new(namespace, name, replicas)
            .annotation("autoscaling.knative.dev/class", "kpa.podswell.dev")
            .annotation("autoscaling.knative.dev/target", TARGET)
            .annotation(
                "autoscaling.knative.dev/window",
                &format!("{}s", source.window().as_secs()),
            )
            .annotation(key, &value);
        for (key, value) in more {
            new = new.annotation(key, value);
        }
        new.create(&self.plane.client()).await;
        Workload {
            town: self,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            deployment: DeploymentRef::new(&self.plane.client(), namespace, name),
        }
    }
}

impl Workload<'_> {
    /// Requests that stay in flight, spread over the ready pods.
    pub(crate) fn load(&self, level: Level) -> Load {
        let options = LoadOptions::new(&self.namespace, &self.name);
        Load::start(self.town.node.table(), options, level)
    }

    /// What the API server says, as soon as it does.
    pub(crate) async fn replicas(&self) -> i32 {
        eventually(LIMIT, "the API server answers", || self.deployment.replicas()).await
    }

    /// Waits until the API server says so.
    pub(crate) async fn reaches(&self, replicas: i32) {
        let what = format!("{}/{} has {replicas} replicas", self.namespace, self.name);
        until(LIMIT, &what, |seen| *seen == replicas, || self.replicas()).await;
    }

    /// Sees to it that the API server goes on saying so.
    pub(crate) async fn stays(&self, replicas: i32, span: Duration) {
        let what = format!("{}/{} keeps {replicas} replicas", self.namespace, self.name);
        self.holds(span, &what, |seen| seen == replicas).await;
    }

    /// Waits until the API server has said so for `span` without a break.
    pub(crate) async fn settles(&self, replicas: i32, span: Duration) {
        let what = format!("the replicas of {}/{}", self.namespace, self.name);
        settles(SETTLE_LIMIT, span, &what, replicas, || self.replicas()).await;
    }

    pub(crate) async fn holds(&self, span: Duration, what: &str, good: impl Fn(i32) -> bool) {
        always_for(span, what, || async {
            let seen = self.replicas().await;
            if good(seen) {
                Ok(())
            } else {
                Err(format!("{seen} replicas; {}", self.explain().await))
            }
        })
        .await;
    }

    /// What podswell says of it.
    pub(crate) async fn status(&self) -> Value {
        self.town.podswell.read().await.target(&self.namespace, &self.name).await
    }

    /// Waits until what podswell says of it satisfies `wanted`.
    pub(crate) async fn says(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{}/{}: {what}", self.namespace, self.name);
        until(LIMIT, &what, |status: &Value| wanted(status), || self.status()).await
    }

    pub(crate) async fn explain(&self) -> String {
        self.town.podswell.read().await.explain(&self.namespace, &self.name)
    }

    /// Sets the mode and waits until podswell knows it.
    pub(crate) async fn set_mode(&self, mode: Mode) {
        self.deployment
            .annotate("podswell.dev/mode", Some(mode.as_str()))
            .await
            .expect("annotate the mode");
    }

    /// Waits until a Kubernetes Event of it gives this reason, unless some were left out.
    pub(crate) async fn is_told(&self, reason: &str) {
        eventually(LIMIT, &format!("an Event of {} says {reason}", self.name), || async {
            let told = self.deployment.event_reasons().await;
            let left_out = self.town.podswell.read().await.left_events_out().await;
            if left_out || told.iter().any(|told| told == reason) { Ok(()) } else { Err(told) }
        })
        .await;
    }
}

/// The ConfigMap podswell-sources of these servers.
fn sources(prometheus: &[Prometheus; 2]) -> String {
    let mut data = serde_json::Map::new();
    for (server, speed, interval) in
        [(&prometheus[0], "fast", "1s"), (&prometheus[1], "slow", "15s")]
    {
        for (kind, series, form) in [
            ("concurrency", "app_requests_in_flight", "gauge"),
            ("rps", "app_requests_started_total", "counter"),
        ] {
            let document = format!(
                "server: {{ url: \"{}\" }}\nkind: {kind}\nselector: {series}\nform: {form}\n\
                 interval: {interval}\nmatch: {{ namespace: namespace, pod: pod }}\n",
                server.url()
            );
            data.insert(format!("{speed}-{kind}"), document.into());
        }
    }
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "podswell-sources", "namespace": "podswell-system" },
        "data": data,
    })
    .to_string()
}
