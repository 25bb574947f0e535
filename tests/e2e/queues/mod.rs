//! Two real queue servers, real clients, and podswell with the ready-made definitions of `deploy/sources`:
//! from zero to many and back with not an item lost, a burst of a hundred thousand items, a consumer that is
//! slower than its target says, and one that is sized by what arrives.
//!
//! A pod of a consumer Deployment consumes as long as it lives; what it holds when it ends goes back.

mod crew;
mod servers;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use crate::support::controlplane::{self, ControlPlane, Options};
use crate::support::deployment::{DeploymentRef, NewDeployment};
use crate::support::node::{Node, NodeOptions};
use crate::support::podswell::Podswell;
use crate::support::prometheus::{Prometheus, PrometheusOptions};
use crate::support::table::PodTable;
use crate::support::wait::until;
use crew::Crew;
use servers::{Counts, QueueApp, Servers, System};

/// How long a state may take to come: generous, the machine may be busy.
const LIMIT: Duration = Duration::from_secs(240);
const INSTALL: &str = include_str!("../../../deploy/install.yaml");
const RABBITMQ: &str = include_str!("../../../deploy/sources/rabbitmq.yaml");
const PUBLISHED: &str = include_str!("../../../deploy/sources/rabbitmq-published.yaml");
const NATS: &str = include_str!("../../../deploy/sources/nats-jetstream.yaml");
const NAMESPACE: &str = "shop";

/// Everything that the scenarios share.
struct Yard {
    plane: ControlPlane,
    node: Node,
    app: QueueApp,
    podswell: Podswell,
    _prometheus: Prometheus,
    _servers: Servers,
}

/// A consumer Deployment and its queue, both of the same name.
struct Line<'a> {
    yard: &'a Yard,
    system: System,
    name: String,
    deployment: DeploymentRef,
    most: i32,
    _crew: Crew,
}

/// How a line is set up.
struct Plan {
    name: &'static str,
    /// Items that a pod is thought to stand.
    target: u32,
    /// What is measured, where it is not the backlog alone.
    measures: Option<&'static str>,
    /// The ceiling.
    most: i32,
    /// What an item really takes.
    service: Duration,
    prefetch: u32,
}

impl Yard {
    async fn start() -> Self {
        let (plane, servers) =
            tokio::join!(ControlPlane::start(Options::default()), Servers::start());
        let app = QueueApp::start(&servers).await;
        let options = NodeOptions {
            start_delay: Duration::from_millis(500),
            termination: Duration::from_millis(500),
            ..NodeOptions::default()
        };
        let node = Node::start(plane.client(), options);
        let more_config = servers.jobs() + &app.job();
        let options = PrometheusOptions { more_config, ..PrometheusOptions::default() };
        let prometheus = Prometheus::start(PodTable::new(), options).await;
        plane.apply(INSTALL).await;
        plane.apply(&config_maps(&prometheus.url())).await;
        let kubeconfig = plane.kubeconfig_for_service_account("podswell-system", "podswell").await;
        let podswell = Podswell::start(plane.folder(), &kubeconfig, &[]).await;
        Self { plane, node, app, podswell, _prometheus: prometheus, _servers: servers }
    }

    /// A queue with its consumers, at zero.
    async fn line(&self, system: System, plan: Plan) -> Line<'_> {
        let name = format!("{}-{}", system.name(), plan.name);
        self.app.declare(system, &name).await;
        let crew =
            Crew::follow(&self.node.table(), &self.app, system, &name, plan.service, plan.prefetch);
        let new = NewDeployment::new(NAMESPACE, &name, 0)
            .annotation("autoscaling.knative.dev/class", "kpa.podswell.dev")
            .annotation("autoscaling.knative.dev/window", "6s")
            .annotation("autoscaling.knative.dev/max-scale", &plan.most.to_string())
            .annotation("autoscaling.knative.dev/initial-scale", "0")
            .annotation(
                "podswell.dev/source-match",
                &system.source_match(&name, plan.measures.is_some()),
            );
        let new = match plan.measures {
            Some(measures) => new.annotation("podswell.dev/measures", measures),
            None => new
                .annotation("autoscaling.knative.dev/metric", "backlog")
                .annotation("autoscaling.knative.dev/target", &plan.target.to_string())
                .annotation("podswell.dev/source", system.source()),
        };
        new.create(&self.plane.client()).await;
        let deployment = DeploymentRef::new(&self.plane.client(), NAMESPACE, &name);
        Line { yard: self, system, name, deployment, most: plan.most, _crew: crew }
    }
}

impl Line<'_> {
    async fn publish(&self, items: u32, rate: u32) {
        self.yard.app.publish(self.system, &self.name, items, rate).await;
    }

    async fn counts(&self) -> Counts {
        self.yard.app.counts(self.system, &self.name).await
    }

    /// Watches replicas, which never exceed the ceiling, until `done` says so of them and of the counts.
    /// Returns the most that there were.
    async fn watch(&self, what: &str, done: impl Fn(i32, &Counts) -> bool) -> i32 {
        let (started, mut most) = (Instant::now(), 0);
        loop {
            // Only counts that are older than the replicas say what the replicas have done.
            let counts = self.counts().await;
            let replicas = self.deployment.replicas().await.unwrap_or(-1);
            assert!(
                replicas <= self.most,
                "{}: {replicas} replicas: {}",
                self.name,
                self.explain()
            );
            most = most.max(replicas);
            if done(replicas, &counts) {
                return most;
            }
            let waited = started.elapsed();
            assert!(
                waited < LIMIT,
                "{}, not within {LIMIT:?}: {what}; {replicas} replicas, {counts:?}\n{}",
                self.name,
                self.explain()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until everything is worked off and no pod is left: not an item is lost.
    async fn drains_to_zero(&self, items: u64) {
        self.watch("everything is worked off", |_, counts| counts.distinct >= items).await;
        let what = format!("{} is at zero", self.name);
        until(
            LIMIT,
            &what,
            |replicas| *replicas == 0,
            || async { self.deployment.replicas().await.unwrap_or(-1) },
        )
        .await;
        let counts = until(LIMIT, &what, |counts: &Counts| counts.consumers == 0, || self.counts());
        let counts = counts.await;
        assert_eq!((counts.published, counts.distinct, counts.foreign), (items, items, 0));
        assert!(counts.deliveries >= items, "{counts:?}");
    }

    fn explain(&self) -> String {
        self.yard.podswell.explain(NAMESPACE, &self.name)
    }
}

/// Nothing to do, no pod; then some thousand items, and many pods; then none again.
async fn there_and_back(yard: &Yard, system: System) {
    let service = Duration::from_millis(20);
    let plan =
        Plan { name: "orders", measures: None, target: 100, most: 10, service, prefetch: 10 };
    let line = yard.line(system, plan).await;
    for items in [2000, 20] {
        let before = line.counts().await.published;
        line.publish(items, 0).await;
        let all = before + u64::from(items);
        let most = line.watch("half is worked off", |_, counts| {
            counts.published == all && counts.distinct * 2 >= all
        });
        let most = most.await;
        assert!(items < 1000 || most >= 5, "{}: only {most} replicas", line.name);
        line.drains_to_zero(all).await;
    }
}

/// A hundred thousand items at once.
async fn burst(yard: &Yard, system: System) {
    let service = Duration::from_micros(200);
    let plan = Plan { name: "burst", measures: None, target: 50, most: 6, service, prefetch: 200 };
    let line = yard.line(system, plan).await;
    line.publish(100_000, 0).await;
    line.watch("the ceiling is reached", |replicas, _| replicas == line.most).await;
    line.drains_to_zero(100_000).await;
}

/// Each pod stands a fourth of what its target supposes: a hundred items a second need four pods, not one. The
/// items that wait ask for them.
async fn slow(yard: &Yard, system: System) {
    let service = Duration::from_millis(40);
    let plan = Plan { name: "slow", measures: None, target: 100, most: 20, service, prefetch: 1 };
    let line = yard.line(system, plan).await;
    line.publish(2500, 100).await;
    let most = line.watch("everything is published", |_, counts| !counts.publishing).await;
    line.drains_to_zero(2500).await;
    assert!(most >= 4, "{}: only {most} replicas", line.name);
}

/// Sized by what arrives, with the queue beside it: a consumer that keeps up has no backlog, and still has as
/// many pods as the arrivals need. 100 items a second at 28 (70 % of 40) for a pod are four pods.
async fn arrivals(yard: &Yard, system: System) {
    let measures = Some("events@rabbitmq-published+rabbitmq=40");
    let service = Duration::from_millis(10);
    let plan = Plan { name: "arrivals", measures, target: 0, most: 12, service, prefetch: 2 };
    let line = yard.line(system, plan).await;
    line.publish(2500, 100).await;
    line.watch("the arrivals have their pods", |replicas, _| replicas >= 4).await;
    line.watch("everything is published", |_, counts| !counts.publishing).await;
    line.drains_to_zero(2500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_queues_are_worked_off_and_scale_to_zero() {
    let yard = Arc::new(Yard::start().await);
    let mut playing = Vec::new();
    for system in [System::RabbitMq, System::Nats] {
        for scenario in ["there and back", "burst", "slow", "arrivals"] {
            if (system, scenario) == (System::Nats, "arrivals") {
                continue;
            }
            let yard = yard.clone();
            playing.push(tokio::spawn(async move {
                let started = Instant::now();
                match scenario {
                    "burst" => burst(&yard, system).await,
                    "slow" => slow(&yard, system).await,
                    "arrivals" => arrivals(&yard, system).await,
                    _ => there_and_back(&yard, system).await,
                }
                report(&format!(
                    "{scenario}, {}: {} s",
                    system.name(),
                    started.elapsed().as_secs()
                ));
            }));
        }
    }
    let failed = join_all(playing).await.into_iter().filter(Result::is_err).count();
    assert_eq!(failed, 0, "the end of podswell's log:\n{}", yard.podswell.log_tail(4000));
}

/// The definitions as they are delivered, for a Prometheus that scrapes each second; and a short grace period.
fn config_maps(url: &str) -> String {
    let mut sources = serde_json::Map::new();
    for (name, text) in
        [("rabbitmq", RABBITMQ), ("rabbitmq-published", PUBLISHED), ("nats-jetstream", NATS)]
    {
        let here = text
            .replace("http://prometheus.monitoring:9090", url)
            .replace("interval: 15s", "interval: 1s");
        sources.insert(name.to_owned(), here.into());
    }
    let defaults = serde_json::json!({
        "allow-zero-initial-scale": "true",
        "scale-to-zero-grace-period": "6s",
    });
    controlplane::config_maps([
        ("podswell-sources", sources.into()),
        ("config-autoscaler", defaults),
    ])
}

#[expect(clippy::print_stdout, reason = "the progress of a long test")]
fn report(line: &str) {
    println!("{line}");
}
