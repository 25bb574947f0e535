//! One story on real servers: requests arrive at a gateway, Prometheus scrapes it, podswell decides,
//! KEDA asks podswell, the HPA controller asks KEDA, and pods come and go.
//!
//! podswell is installed as `docs/keda.md` says and runs as its pods would: two processes, mutual TLS, the
//! rights of its service account. Then three workloads play at once, one for each `ScaledObject` of
//! `deploy/keda`, of which only names, addresses, targets and times are changed. All that is asserted is
//! what the API server says.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::gateway::Gateway;
use crate::guide::{self, Block, Reader};
use crate::installed::{self, SYSTEM};
use crate::names::Names;
use crate::operator::Keda;
use crate::service::Service;
use crate::support::controlplane::{ControlPlane, Options};
use crate::support::deployment::{DeploymentRef, NewDeployment};
use crate::support::node::{Node, NodeOptions};
use crate::support::podswell::Podswell;
use crate::support::prometheus::{Prometheus, PrometheusOptions};
use crate::support::wait::always_for;

/// How long a state may take to come: generous, the machine may be busy, and KEDA waits up to two minutes
/// before it connects again to who was away for long.
const LIMIT: Duration = Duration::from_secs(240);
/// How long replicas stay before they count as settled: several polls and HPA syncs.
const CALM: Duration = Duration::from_secs(6);
const NAMESPACE: &str = "shop";
/// Where the page and the templates say that podswell answers.
const ADDRESS: &str = "podswell-keda.podswell-system.svc:9090";
const PORT: u16 = 9090;
/// Where the page says that Prometheus answers.
const PROMETHEUS: &str = "http://prometheus.monitoring:9090";
const CONCURRENCY: &str = include_str!("../../deploy/keda/http-concurrency.yaml");
const RATE: &str = include_str!("../../deploy/keda/http-rps.yaml");
const EVENTS: &str = include_str!("../../deploy/keda/queue-events.yaml");

struct Stage {
    plane: ControlPlane,
    _node: Node,
    gateway: Gateway,
    prometheus: Prometheus,
    keda: Keda,
    /// Who asks for podswell's name gets the addresses of both processes.
    headless: Names,
    /// … or that of one Service in front of them.
    ordinary: Names,
    _service: Service,
    addresses: [Ipv4Addr; 2],
}

impl Stage {
    async fn start() -> Self {
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
    async fn follow_the_page(&self) -> [Podswell; 2] {
        let address = self.headless.resolved(ADDRESS);
        let replaced = [(ADDRESS, &*address), (PROMETHEUS, &*self.prometheus.url())];
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
    async fn workload(
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
    async fn raw(&self) -> Workload<'_> {
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
    async fn idle(&self) -> Workload<'_> {
        let text = fitted(CONCURRENCY, "idle", "10", &self.headless.resolved(ADDRESS));
        let none = "minReplicaCount: 0";
        let three = "minReplicaCount: 3\n  idleReplicaCount: 0";
        self.scaled(self.deployment("idle", 0).await, &replaced(&text, none, three)).await
    }

    /// One that KEDA scales by a formula over what podswell wants and the load.
    async fn formula(&self) -> Workload<'_> {
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
fn config_maps(prometheus: &Prometheus) -> String {
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
    let map = |name: &str, data: serde_json::Value| {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": name, "namespace": SYSTEM },
            "data": data,
        })
    };
    let grace = json!({ "scale-to-zero-grace-period": "6s" });
    let items = [map("podswell-sources", sources), map("config-autoscaler", grace)];
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

struct Workload<'a> {
    stage: &'a Stage,
    name: String,
    deployment: DeploymentRef,
}

impl Workload<'_> {
    async fn replicas(&self) -> i32 {
        self.deployment.replicas().await.unwrap_or(-1)
    }

    /// Waits until KEDA has made an HPA.
    async fn has_an_hpa(&self) {
        let arguments = ["get", "hpa", &format!("keda-hpa-{}", self.name), "-n", NAMESPACE];
        let started = Instant::now();
        while !self.stage.plane.try_kubectl(&arguments, "").await.status.success() {
            assert!(started.elapsed() < LIMIT, "KEDA makes no HPA: {}", self.story().await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn reaches(&self, replicas: i32) {
        let started = Instant::now();
        while self.replicas().await != replicas {
            assert!(started.elapsed() < LIMIT, "not {replicas} replicas: {}", self.story().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the API server has said so for a while without a break.
    async fn settles(&self, replicas: i32) {
        let (mut right_since, started) = (Instant::now(), Instant::now());
        while right_since.elapsed() < CALM {
            let seen = self.replicas().await;
            if seen != replicas {
                right_since = Instant::now();
                assert!(
                    started.elapsed() < LIMIT,
                    "{seen}, not {replicas}: {}",
                    self.story().await
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn stays(&self, replicas: i32, span: Duration) {
        always_for(span, &format!("{} keeps {replicas} replicas", self.name), || async {
            let seen = self.replicas().await;
            if seen == replicas { Ok(()) } else { Err(format!("{seen}; {}", self.story().await)) }
        })
        .await;
    }

    /// All that is known, for a failure's message.
    async fn story(&self) -> String {
        let plane = &self.stage.plane;
        let hpa = format!("keda-hpa-{}", self.name);
        let hpa = plane.try_kubectl(&["get", "hpa", &hpa, "-n", NAMESPACE, "-o=yaml"], "").await;
        let object = ["get", "scaledobject", &self.name, "-n", NAMESPACE, "-o=yaml"];
        let object = plane.try_kubectl(&object, "").await;
        format!(
            "{}\n{}\nKEDA's logs:\n{}",
            String::from_utf8_lossy(&hpa.stdout),
            String::from_utf8_lossy(&object.stdout),
            self.stage.keda.log_tail(6000)
        )
    }

    /// Notes all replicas that the API server tells of, from now on.
    fn watch_all(&self) -> Arc<Mutex<BTreeSet<i32>>> {
        let (all, deployment) = (Arc::new(Mutex::default()), self.deployment.clone());
        let noted: Weak<Mutex<BTreeSet<i32>>> = Arc::downgrade(&all);
        tokio::spawn(async move {
            while let Some(noted) = noted.upgrade() {
                if let Ok(replicas) = deployment.replicas().await {
                    noted.lock().insert(replicas);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        all
    }

    /// Nobody but KEDA and the HPA controller ever wrote its scale.
    async fn was_never_written_by_podswell(&self) {
        let deployment = self.deployment.get().await.expect("read a Deployment");
        let writers = deployment.metadata.managed_fields.unwrap_or_default();
        let writers: Vec<_> = writers.into_iter().filter_map(|entry| entry.manager).collect();
        let ours = writers.iter().any(|writer| writer == "podswell");
        assert!(!ours && !writers.is_empty(), "{writers:?}");
    }
}

/// A reader without certificates gets a podswell that runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_works_without_certificates() {
    let plane = ControlPlane::start(Options::default()).await;
    let node = Node::start(plane.client(), NodeOptions::default());
    let reader = Reader::new(&plane, &[]);
    for block in guide::blocks("Without certificates") {
        reader.follow(&block).await;
    }
    let address = node.address();
    let [_podswell] = installed::start(&plane, [address]).await;
    let answered = tokio::net::TcpStream::connect((address, PORT)).await;
    assert!(answered.is_ok(), "{answered:?}");
    let service = ["get", "service", "podswell-keda", "-n", SYSTEM];
    assert!(plane.kubectl(&service).await.contains("9090/TCP"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keda_scales_with_podswell_s_numbers() {
    let stage = Stage::start().await;
    let mut processes = stage.follow_the_page().await;
    stage.plane.apply(&config_maps(&stage.prometheus)).await;
    let web = stage.workload(CONCURRENCY, "web", "10", &stage.headless).await;
    let api = stage.workload(RATE, "api", "10", &stage.ordinary).await;
    let worker = stage.workload(EVENTS, "worker", "10", &stage.headless).await;
    let (raw, idle, formula) = tokio::join!(stage.raw(), stage.idle(), stage.formula());
    tokio::join!(
        from_zero_and_back(&stage, &web, &mut processes),
        async {
            let stream = stage.gateway.per_second("api", 45.0);
            api.settles(5).await;
            assert!(stream.answered() > 0);
            drop(stream);
            api.reaches(0).await;
        },
        async {
            let stream = stage.gateway.publish("worker", 25.0);
            worker.settles(3).await;
            drop(stream);
            worker.reaches(0).await;
        },
        loaded(&raw, 34, 4),
        async {
            // Its HPA has the usual behaviour, which lowers nothing for five minutes.
            let load = stage.gateway.in_flight("formula", 20);
            formula.settles(4).await;
            drop(load);
        },
        three_or_none(&idle),
    );
    for workload in [&web, &api, &worker, &raw, &idle, &formula] {
        workload.was_never_written_by_podswell().await;
    }
}

/// Requests in flight come, make replicas, and go again.
async fn loaded(workload: &Workload<'_>, in_flight: usize, replicas: i32) {
    let load = workload.stage.gateway.in_flight(&workload.name, in_flight);
    workload.settles(replicas).await;
    drop(load);
    workload.reaches(0).await;
}

async fn three_or_none(idle: &Workload<'_>) {
    let seen = idle.watch_all();
    let request = idle.stage.gateway.request(&idle.name);
    timeout(LIMIT, request).await.expect("the first request is answered");
    idle.reaches(3).await;
    idle.reaches(0).await;
    assert_eq!(*seen.lock(), BTreeSet::from([0, 3]));
}

async fn from_zero_and_back(stage: &Stage, web: &Workload<'_>, processes: &mut [Podswell; 2]) {
    web.stays(0, CALM).await;
    // Nobody runs: the request is held, seen, and answered.
    timeout(LIMIT, stage.gateway.request("web")).await.expect("the first request is answered");
    let load = stage.gateway.in_flight("web", 105);
    web.settles(11).await;
    // One pod more is less than the HPA's usual tolerance of a tenth.
    let more = stage.gateway.in_flight("web", 10);
    web.settles(12).await;
    let seen = web.watch_all();
    restarted(web, processes).await;
    assert_eq!(*seen.lock(), BTreeSet::from([12]), "nothing was ever lowered");
    drop(seen);
    assert_eq!((load.len(), more.len()), (105, 10), "every sender lives");
    drop(load);
    web.settles(1).await;
    drop(more);
    web.reaches(0).await;
    web.stays(0, CALM).await;
    timeout(LIMIT, stage.gateway.request("web")).await.expect("the next request is answered");
}

/// Both processes end in turn, then both at once for a minute, which is thirty polls and syncs.
async fn restarted(web: &Workload<'_>, processes: &mut [Podswell; 2]) {
    let [first, second] = processes;
    assert!(first.terminate().await, "exit code 0:\n{}", first.log_tail(4000));
    web.stays(12, Duration::from_secs(5)).await;
    first.restart().await;
    second.kill();
    web.stays(12, Duration::from_secs(5)).await;
    first.kill();
    web.stays(12, Duration::from_secs(60)).await;
    first.restart().await;
    second.restart().await;
    web.stays(12, Duration::from_secs(10)).await;
}
