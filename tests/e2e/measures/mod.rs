//! What a workload is scaled by: several measures, of which the higher one wins, and while one is not heard
//! the other one may raise but nothing is lowered; orders for the time in which nothing is heard; and the keys
//! of queues. All of it side by side on one control plane.

mod exporter;
mod missing;
mod queue_keys;

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::join;

use crate::support::controlplane::{self, ControlPlane, Options};
use crate::support::deployment::{DeploymentRef, NewDeployment};
use crate::support::load::{Level, Load, LoadOptions};
use crate::support::node::{Node, NodeOptions};
use crate::support::podswell::Podswell;
use crate::support::prometheus::{Prometheus, PrometheusOptions};
use crate::support::wait::{settles, until};
use exporter::Exporter;
use missing::Orders;
use queue_keys::{ALERT, DRAINS, NORTH, SLEEPY, SOUTH, arriving, waiting};

/// How long a state may take to come: generous, the machine may be busy.
const LIMIT: Duration = Duration::from_secs(180);
/// How long replicas stay before they count as settled: longer than the window.
const CALM: Duration = Duration::from_secs(20);
const INSTALL: &str = include_str!("../../../deploy/install.yaml");
const NAMESPACE: &str = "shop";
const WORKER: &str = r#"jobs_waiting{deployment="worker"}"#;

struct Scene {
    plane: ControlPlane,
    node: Node,
    podswell: Podswell,
    /// What waits for those whose source breaks in the middle.
    jobs: Exporter,
    /// What arrives and waits for all others.
    stock: Exporter,
    _prometheus: Prometheus,
}

impl Scene {
    async fn start() -> Self {
        let plane = ControlPlane::start(Options::default()).await;
        let node = Node::start(plane.client(), NodeOptions::default());
        let (jobs, stock) = (Exporter::new(&[(WORKER, 55)]), stock());
        let more_config = jobs.serve("jobs").await + &stock.serve("stock").await;
        let options = PrometheusOptions { more_config, ..PrometheusOptions::default() };
        let prometheus = Prometheus::start(node.table(), options).await;
        plane.apply(INSTALL).await;
        let sources = sources(&prometheus.url());
        plane.apply(&controlplane::config_maps([("podswell-sources", sources)])).await;
        let kubeconfig = plane.kubeconfig_for_service_account("podswell-system", "podswell").await;
        let podswell = Podswell::start(plane.folder(), &kubeconfig, &[]).await;
        Self { plane, node, podswell, jobs, stock, _prometheus: prometheus }
    }

    fn deployment(&self, name: &str) -> DeploymentRef {
        DeploymentRef::new(&self.plane.client(), NAMESPACE, name)
    }
}

/// One that is scaled by what waits in these sources, ten items a pod, over a window of twelve seconds.
fn backlog(name: &str, source: &str, replicas: i32) -> NewDeployment {
    managed(name, replicas)
        .annotation("autoscaling.knative.dev/metric", "backlog")
        .annotation("autoscaling.knative.dev/target", "10")
        .annotation("podswell.dev/source", source)
}

/// One that podswell manages, with a window of twelve seconds.
fn managed(name: &str, replicas: i32) -> NewDeployment {
    NewDeployment::new(NAMESPACE, name, replicas)
        .annotation("autoscaling.knative.dev/class", "kpa.podswell.dev")
        .annotation("autoscaling.knative.dev/window", "12s")
}

fn stock() -> Exporter {
    let stock = Exporter::new(&[(NORTH, 40), (SOUTH, 25), (SLEEPY, 5), (ALERT, 5)]);
    for name in DRAINS {
        stock.set(&arriving(name), 40);
        stock.set(&waiting(name), 1200);
    }
    stock
}

fn sources(url: &str) -> Value {
    let source = |kind: &str, selector: &str, more: &str| {
        format!(
            "server: {{ url: \"{url}\" }}\nkind: {kind}\nselector: '{selector}'\nform: gauge\n\
             interval: 1s\nmatch: {{ namespace: owner, workload: deployment }}\n{more}"
        )
    };
    let part = |broker: &str| {
        let selector = format!("part_waiting{{broker=\"{broker}\"}}");
        source("backlog", &selector, "share: additive\n")
    };
    json!({
        "jobs": source("backlog", "jobs_waiting", ""),
        "north": part("north"),
        "south": part("south"),
        "items": source("backlog", "items_waiting", "visibleAtZero: true\n"),
        "arrivals": source("events", "items_arriving", ""),
    })
}

/// The state of the signal of the measure with this name.
fn signal_of(status: &Value, name: &str) -> Value {
    let measures = status["decision"]["measures"].as_array();
    let measure = measures.into_iter().flatten().find(|measure| measure["name"] == name);
    measure.map_or(Value::Null, |measure| measure["signal"]["state"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_highest_measure_wins_and_a_lost_one_takes_away_lowering() {
    let scene = Scene::start().await;
    join!(several_measures(&scene), queue_keys::play(&scene));
}

/// What its pods report, and what waits in a queue; and orders for the time in which the queue is not heard.
async fn several_measures(scene: &Scene) {
    let Scene { plane, node, podswell, jobs, .. } = scene;
    let mut orders = Orders::create(scene).await;
    NewDeployment::new(NAMESPACE, "worker", 1)
        .managed()
        .annotation("podswell.dev/measures", "concurrency, backlog@jobs=10")
        .create(&plane.client())
        .await;
    let worker = scene.deployment("worker");
    let replicas = || async { worker.replicas().await.unwrap_or(-1) };
    let load = Load::start(node.table(), LoadOptions::new(NAMESPACE, "worker"), Level::Held(14));

    settles(LIMIT, CALM, "14 in flight are 2 pods, 55 jobs are 6", 6, replicas).await;
    load.set(Level::Held(53));
    settles(LIMIT, CALM, "53 in flight are 8 pods", 8, replicas).await;
    load.set(Level::Held(14));
    join!(settles(LIMIT, CALM, "the jobs hold 6 pods", 6, replicas), orders.decide());

    jobs.set_broken(true);
    let status = || podswell.target(NAMESPACE, "worker");
    let lost = |status: &Value| signal_of(status, "backlog@jobs") == "lost";
    let fewest = worker.watch_the_fewest();
    let nothing_is_lowered = async {
        until(LIMIT, "the jobs are not heard", lost, status).await;
        // Less than ten pods bear: while it moves to new pods it counts twice for a moment, and nothing is lowered.
        load.set(Level::Held(66));
        settles(LIMIT, CALM, "66 in flight raise to 10 pods", 10, replicas).await;
        load.set(Level::Idle);
        settles(LIMIT, 2 * CALM, "nothing is lowered", 10, replicas).await;
    };
    join!(nothing_is_lowered, orders.are_carried_out());
    assert!(fewest.load(Ordering::Relaxed) >= 6, "it was lowered while the jobs were not heard");
    let explained = podswell.explain(NAMESPACE, "worker");
    assert!(explained.contains("backlog@jobs"), "{explained}");

    jobs.set(WORKER, 25);
    jobs.set_broken(false);
    join!(settles(LIMIT, CALM, "25 jobs are 3 pods", 3, replicas), orders.are_over());
    jobs.set(WORKER, 0);
    settles(
        LIMIT,
        CALM,
        "no job and no request: one pod, as none would see a request",
        1,
        replicas,
    )
    .await;
}
