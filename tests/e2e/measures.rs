//! Several measures of one workload: what its pods report, and what waits in a queue that Prometheus sees. The
//! higher one wins; while one is not heard the other one may raise, but nothing is lowered.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::controlplane::{ControlPlane, Options};
use crate::support::deployment::{DeploymentRef, NewDeployment};
use crate::support::load::{Level, Load, LoadOptions};
use crate::support::node::{Node, NodeOptions};
use crate::support::podswell::Podswell;
use crate::support::prometheus::{Prometheus, PrometheusOptions};
use crate::support::wait::{settles, until};

/// How long a state may take to come: generous, the machine may be busy.
const LIMIT: Duration = Duration::from_secs(180);
/// How long replicas stay before they count as settled: longer than the window.
const CALM: Duration = Duration::from_secs(20);
const INSTALL: &str = include_str!("../../deploy/install.yaml");
const NAMESPACE: &str = "shop";

/// A queue's exporter: how many jobs wait; below zero it is broken.
#[derive(Clone, Default)]
struct Exporter(Arc<AtomicI64>);

impl Exporter {
    /// Serves its page; returns the address.
    async fn serve(&self) -> String {
        let router = Router::new().route("/metrics", get(page)).with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    fn set(&self, waiting: i64) {
        self.0.store(waiting, Ordering::Relaxed);
    }
}

async fn page(State(exporter): State<Exporter>) -> Response {
    match exporter.0.load(Ordering::Relaxed) {
        waiting if waiting >= 0 => {
            let line = format!("jobs_waiting{{deployment=\"worker\"}} {waiting}\n");
            ([("content-type", "text/plain; version=0.0.4")], line).into_response()
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn sources(url: &str) -> String {
    let jobs = format!(
        "server: {{ url: \"{url}\" }}\nkind: backlog\nselector: jobs_waiting\nform: gauge\n\
         interval: 1s\nmatch: {{ namespace: owner, workload: deployment }}\n"
    );
    let metadata = json!({ "name": "podswell-sources", "namespace": "podswell-system" });
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "jobs": jobs } })
        .to_string()
}

/// The state of the signal of the measure with this name.
fn signal_of(status: &Value, name: &str) -> Value {
    let measures = status["decision"]["measures"].as_array();
    let measure = measures.into_iter().flatten().find(|measure| measure["name"] == name);
    measure.map_or(Value::Null, |measure| measure["signal"]["state"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_highest_measure_wins_and_a_lost_one_takes_away_lowering() {
    let plane = ControlPlane::start(Options::default()).await;
    let node = Node::start(plane.client(), NodeOptions::default());
    let exporter = Exporter::default();
    exporter.set(55);
    let job = format!(
        "- job_name: jobs\n  static_configs:\n  - targets: ['{}']\n    labels: {{owner: {NAMESPACE}}}\n",
        exporter.serve().await
    );
    let options = PrometheusOptions { more_config: job, ..PrometheusOptions::default() };
    let prometheus = Prometheus::start(node.table(), options).await;
    plane.apply(INSTALL).await;
    plane.apply(&sources(&prometheus.url())).await;
    let kubeconfig = plane.kubeconfig_for_service_account("podswell-system", "podswell").await;
    let podswell = Podswell::start(plane.folder(), &kubeconfig, &[]).await;
    NewDeployment::new(NAMESPACE, "worker", 1)
        .managed()
        .annotation("podswell.dev/measures", "concurrency, backlog@jobs=10")
        .create(&plane.client())
        .await;
    let worker = DeploymentRef::new(&plane.client(), NAMESPACE, "worker");
    let replicas = || async { worker.replicas().await.unwrap_or(-1) };
    let load = Load::start(node.table(), LoadOptions::new(NAMESPACE, "worker"), Level::Held(14));

    settles(LIMIT, CALM, "14 in flight are 2 pods, 55 jobs are 6", 6, replicas).await;
    load.set(Level::Held(56));
    settles(LIMIT, CALM, "56 in flight are 8 pods", 8, replicas).await;
    load.set(Level::Held(14));
    settles(LIMIT, CALM, "the jobs hold 6 pods", 6, replicas).await;

    exporter.set(-1);
    let status = || podswell.target(NAMESPACE, "worker");
    let lost = |status: &Value| signal_of(status, "backlog@jobs") == "lost";
    until(LIMIT, "the jobs are not heard", lost, status).await;
    let fewest = worker.watch_the_fewest();
    load.set(Level::Held(70));
    settles(LIMIT, CALM, "70 in flight raise to 10 pods", 10, replicas).await;
    load.set(Level::Idle);
    settles(LIMIT, 2 * CALM, "nothing is lowered", 10, replicas).await;
    assert!(fewest.load(Ordering::Relaxed) >= 6, "it was lowered while the jobs were not heard");
    let explained = podswell.explain(NAMESPACE, "worker");
    assert!(explained.contains("backlog@jobs"), "{explained}");

    exporter.set(25);
    settles(LIMIT, CALM, "25 jobs are 3 pods", 3, replicas).await;
    exporter.set(0);
    settles(
        LIMIT,
        CALM,
        "no job and no request: one pod, as none would see a request",
        1,
        replicas,
    )
    .await;
}
