//! What the story is played on: a control plane with KEDA, a gateway, Prometheus, podswell installed as
//! `docs/keda.md` says, and workloads with the `ScaledObject`s of `deploy/keda` or of their own.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::json;

use crate::gateway::Gateway;
use crate::guide::{self, Block, Reader};
use crate::installed;
use crate::names::Names;
use crate::operator::Keda;
use crate::service::Service;
use crate::support::controlplane::{self, ControlPlane, Options};
use crate::support::deployment::{DeploymentRef, NewDeployment};
use crate::support::node::{Node, NodeOptions};
use crate::support::podswell::Podswell;
use crate::support::prometheus::{Prometheus, PrometheusOptions};
use crate::workload::{CALM, Workload};

/// How long a state may take to come: generous, the machine may be busy, and KEDA waits up to two minutes
/// before it connects again to who was away for long.
pub(crate) const LIMIT: Duration = Duration::from_secs(400);
pub(crate) const NAMESPACE: &str = "shop";
/// Where the page and the templates say that podswell answers.
const ADDRESS: &str = "podswell-keda.podswell-system.svc:9090";
pub(crate) const PORT: u16 = 9090;
/// Where the page says that Prometheus answers.
const PROMETHEUS: &str = "http://prometheus.monitoring:9090";
pub(crate) const CONCURRENCY: &str = include_str!("../../deploy/keda/http-concurrency.yaml");
pub(crate) const RATE: &str = include_str!("../../deploy/keda/http-rps.yaml");
pub(crate) const EVENTS: &str = include_str!("../../deploy/keda/queue-events.yaml");

/// A cluster with KEDA in which nobody has installed podswell yet.
pub(crate) struct Stage {
    pub(crate) plane: ControlPlane,
    _node: Node,
    pub(crate) gateway: Gateway,
    pub(crate) prometheus: Prometheus,
    pub(crate) keda: Keda,
    /// Who asks for podswell's name gets the addresses of both processes.
    pub(crate) headless: Names,
    /// … or that of one Service in front of them.
    pub(crate) ordinary: Names,
    _service: Service,
    addresses: [Ipv4Addr; 2],
}

impl Stage {
    pub(crate) async fn start() -> Self {
        let plane = ControlPlane::start(Options::default()).await;
        let options = NodeOptions {
            start_delay: Duration::from_millis(300),
            termination: Duration::from_millis(300),
            ..NodeOptions::default()
        };
        let node = Node::start(plane.client(), options);
        let gateway = Gateway::start(NAMESPACE, node.table()).await;
        let more_config = gateway.scrape_config();
        let options = PrometheusOptions { more_config, ..PrometheusOptions::default() };
        let prometheus = Prometheus::start(node.table(), options).await;
        let keda = Keda::start(&plane).await;
        let addresses = [node.address(), node.address()];
        let front = node.address();
        let service = Service::start(front, addresses.to_vec(), PORT).await;
        let headless = Names::start(addresses.to_vec()).await;
        let ordinary = Names::start(vec![front]).await;
        Self {
            plane,
            _node: node,
            gateway,
            prometheus,
            keda,
            headless,
            ordinary,
            _service: service,
            addresses,
        }
    }

    /// Installs podswell and scales `checkout` as the page says, then lets only KEDA ask.
    pub(crate) async fn follow_the_page(&self) -> [Podswell; 2] {
        let address = self.headless.resolved(ADDRESS);
        let replaced = [
            (ADDRESS, &*address),
            (PROMETHEUS, &*self.prometheus.url()),
            // KEDA may take a failing poll for an inactive one while podswell restarts (docs/keda.md).
            ("cooldownPeriod: 10", "cooldownPeriod: 600"),
        ];
        let reader = Reader::new(&self.plane, &replaced);
        let checkout = self.deployment("checkout", 1).await;
        let mut processes = None;
        for block in guide::blocks("From nothing to a scaled Deployment") {
            reader.follow(&block).await;
            if is_rolled_out(&block) {
                processes = Some(installed::start(&self.plane, self.addresses).await);
            }
        }
        let mut processes = processes.expect("the page starts podswell");
        // 150 requests in flight of which a pod should carry 70.
        let load = self.gateway.in_flight("checkout", 150);
        checkout.settles(3).await;
        let follower = self.deployment("checkout-cache", 1).await;
        for block in guide::blocks("A HorizontalPodAutoscaler of your own") {
            reader.follow(&block).await;
        }
        follower.settles(3).await;
        for block in guide::blocks("Only KEDA may ask") {
            reader.follow(&block).await;
            if is_rolled_out(&block) {
                for process in &mut processes {
                    assert!(process.terminate().await, "exit code 0:\n{}", process.log_tail(4000));
                }
                processes = installed::start(&self.plane, self.addresses).await;
            }
        }
        tokio::join!(checkout.stays(3, CALM), follower.stays(3, CALM));
        drop(load);
        processes
    }

    /// A Deployment behind the gateway.
    async fn deployment(&self, name: &str, replicas: i32) -> Workload<'_> {
        self.gateway.open(name);
        NewDeployment::new(NAMESPACE, name, replicas).create(&self.plane.client()).await;
        let deployment = DeploymentRef::new(&self.plane.client(), NAMESPACE, name);
        Workload { stage: self, name: name.to_owned(), deployment }
    }

    /// A Deployment without pods and the ScaledObject of a template for it.
    pub(crate) async fn workload(
        &self,
        template: &str,
        name: &str,
        target: &str,
        names: &Names,
    ) -> Workload<'_> {
        let scaled_object = fitted(template, name, target, &names.resolved(ADDRESS));
        self.scaled(self.deployment(name, 0).await, &scaled_object).await
    }

    async fn scaled<'a>(&'a self, workload: Workload<'a>, scaled_object: &str) -> Workload<'a> {
        self.plane.apply(scaled_object).await;
        workload.has_an_hpa().await;
        workload
    }

    /// One whose HPA gets the load itself, with the real target. Its annotation would ask for one pod.
    pub(crate) async fn raw(&self) -> Workload<'_> {
        let workload = self.deployment("raw", 0).await;
        let target = Some("1000");
        workload
            .deployment
            .annotate("autoscaling.knative.dev/target", target)
            .await
            .expect("annotate");
        let text = fitted(CONCURRENCY, "raw", "10", &self.headless.resolved(ADDRESS));
        let source = "        source: gateway\n";
        let more = format!("{source}        deployment: raw\n        value: max\n");
        self.scaled(workload, &replaced(&text, source, &more)).await
    }

    /// One that has three pods or none.
    pub(crate) async fn idle(&self) -> Workload<'_> {
        let text = fitted(CONCURRENCY, "idle", "10", &self.headless.resolved(ADDRESS));
        let none = "minReplicaCount: 0";
        let three = "minReplicaCount: 3\n  idleReplicaCount: 0";
        self.scaled(self.deployment("idle", 0).await, &replaced(&text, none, three)).await
    }

    /// One whose HPA gets the panic window's load, and six pods while podswell does not know it.
    pub(crate) async fn careful(&self) -> Workload<'_> {
        let text = fitted(CONCURRENCY, "careful", "10", &self.headless.resolved(ADDRESS));
        let source = "        source: gateway\n";
        let text = replaced(&text, source, &format!("{source}        value: panic\n"));
        let text = replaced(&text, "failureThreshold: 3", "failureThreshold: 2");
        let text = replaced(&text, "    replicas: 1\n", "    replicas: 6\n");
        // KEDA may take a failing poll for an inactive one (docs/keda.md).
        let text = replaced(&text, "minReplicaCount: 0", "minReplicaCount: 1");
        self.scaled(self.deployment("careful", 1).await, &text).await
    }

    /// One that KEDA scales by a formula over what podswell wants and the load.
    pub(crate) async fn formula(&self) -> Workload<'_> {
        let trigger = |name: &str, value: &str| {
            json!({
                "type": "external-push",
                "name": name,
                "authenticationRef": { "name": "podswell", "kind": "ClusterTriggerAuthentication" },
                "metadata": {
                    "scalerAddress": self.headless.resolved(ADDRESS),
                    "source": "gateway",
                    "value": value,
                    "target": "10",
                    "target-utilization-percentage": "100",
                    "window": "10s",
                },
            })
        };
        let modifiers = json!({ "formula": "kpa + load / 10", "target": "1" });
        let object = json!({
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": { "name": "formula", "namespace": NAMESPACE },
            "spec": {
                "scaleTargetRef": { "name": "formula" },
                "pollingInterval": 2,
                "cooldownPeriod": 5,
                "advanced": { "scalingModifiers": modifiers },
                "triggers": [trigger("kpa", "desired"), trigger("load", "stable")],
            },
        });
        self.scaled(self.deployment("formula", 0).await, &object.to_string()).await
    }
}

/// Whether a fence waits for podswell's pods: their programs are started then.
fn is_rolled_out(block: &Block) -> bool {
    matches!(block, Block::Shell(commands) if commands.contains("rollout status"))
}

/// A template with the names, the address and the times of this test; nothing else of it changes.
fn fitted(template: &str, name: &str, target: &str, address: &str) -> String {
    let mut changed = 0;
    let lines = template.lines().map(|line| {
        let key = line.trim_start().split(':').next().unwrap_or_default();
        let indent = &line[..line.len() - line.trim_start().len()];
        let value = match key {
            "name" if !line.ends_with(" podswell") => name.to_owned(),
            "pollingInterval" => "2".to_owned(),
            "cooldownPeriod" => "5".to_owned(),
            "scalerAddress" => address.to_owned(),
            "target" => {
                let more = ["target-utilization-percentage: \"100\"", "window: 10s"];
                format!("\"{target}\"\n{indent}{}", more.join(&format!("\n{indent}")))
            }
            "measures" => {
                let measures = line.trim_start().trim_start_matches("measures: ");
                let (measure, _) = measures.split_once('=').expect("a measure with a target");
                let more = ["target-utilization-percentage: \"100\"", "window: 10s"];
                format!("{measure}={target}\n{indent}{}", more.join(&format!("\n{indent}")))
            }
            _ => return line.to_owned(),
        };
        changed += 1;
        format!("{indent}{key}: {value}")
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(changed, 6, "the template's shape: {text}");
    text
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no {from:?} in {text}");
    text.replace(from, to)
}

/// What an administrator would write: where the load is read, and here a short way to zero.
pub(crate) fn config_maps(prometheus: &Prometheus) -> String {
    let source = |kind: &str, series: &str, form: &str| {
        format!(
            "server: {{ url: \"{}\" }}\nkind: {kind}\nselector: {series}\nform: {form}\ninterval: 1s\n\
             visibleAtZero: true\nmatch: {{ namespace: namespace, workload: deployment }}\n",
            prometheus.url()
        )
    };
    let sources = json!({
        "gateway": source("concurrency", "gateway_requests_in_flight", "gauge"),
        "gateway-requests": source("rps", "gateway_requests_total", "counter"),
        "queue-published": source("events", "queue_published_total", "counter"),
        "queue-waiting": source("backlog", "queue_waiting", "gauge"),
    });
    let grace = json!({ "scale-to-zero-grace-period": "6s" });
    controlplane::config_maps([("podswell-sources", sources), ("config-autoscaler", grace)])
}
