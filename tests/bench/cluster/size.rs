//! What many workloads cost: CPU time and memory of `podswell run`.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::PostParams;
use tokio::task::JoinHandle;

use crate::number;
use crate::peer::INSTALL;
use crate::queues;
use crate::support::controlplane::{ControlPlane, Options};
use crate::support::deployment::{NewDeployment, ensure_namespace};
use crate::support::node::{Node, NodeOptions};
use crate::support::podswell::Podswell;
use crate::support::ports::free_ports;
use crate::support::wait::{eventually, until};

const NAMESPACE: &str = "size";
/// Pods of each scraped workload.
const PODS: u32 = 5;
/// How long it is watched.
const SPAN: Duration = Duration::from_secs(60);
/// How long it may take until all objects are there: the machine may be busy.
const LIMIT: Duration = Duration::from_secs(1800);
/// Objects that are made at the same time.
const AT_ONCE: usize = 32;

pub(crate) fn head() -> &'static str {
    "| workloads | pods | read | cores | resident memory |\n|--:|--:|---|--:|--:|"
}

/// `PODSWELL_BENCH_SIZE` (3,000) workloads with five pods each, all scraped each second. One socket answers
/// for all pods, at their own addresses: sockets of their own would take more open files than many a
/// machine allows.
pub(crate) async fn scraped() -> String {
    let workloads = number("PODSWELL_BENCH_SIZE", 3000);
    let plane = start_plane().await;
    let options = NodeOptions { own_sockets: false, ..NodeOptions::default() };
    let node = Node::start(plane.client(), options);
    let [port] = free_ports();
    let _pods = answer_for_all(port).await;
    let scrape =
        format!(r#"{{"port":{port},"path":"/metrics","inFlight":"app_requests_in_flight"}}"#);
    create(&plane, workloads, |new| {
        NewDeployment { replicas: 5, ..new }
            .annotation("autoscaling.knative.dev/min-scale", "5")
            .annotation("autoscaling.knative.dev/max-scale", "5")
            .annotation("podswell.dev/scrape", &scrape)
    })
    .await;
    let all = usize::try_from(workloads * PODS).unwrap_or(0);
    let table = node.table();
    let ready = || async { table.ready_by_deployment(NAMESPACE).values().sum::<usize>() };
    until(LIMIT, "the pods are ready", |seen| *seen == all, ready).await;
    let podswell = start_podswell(&plane).await;
    let cost = cost(&podswell, workloads).await;
    format!("| {workloads} | {all} | each pod each second | {cost} |")
}

/// `PODSWELL_BENCH_QUEUES` (50,000) workloads without pods, each with a queue in one Prometheus source; half
/// of them have an item and so a replica. What is played is the Prometheus; the controllers of Deployments
/// stand still meanwhile.
pub(crate) async fn queued() -> String {
    let workloads = number("PODSWELL_BENCH_QUEUES", 50_000);
    let plane = start_plane().await;
    plane.controller_manager().signal("STOP");
    let (_queues, source) = queues::serve(NAMESPACE, workloads).await;
    plane.apply(&source).await;
    create(&plane, workloads, |new| {
        let number: u32 = new.name.trim_start_matches('w').parse().unwrap_or(0);
        let replicas = i32::try_from(queues::items(number)).unwrap_or(0);
        NewDeployment { replicas, ..new }
            .annotation("autoscaling.knative.dev/metric", "backlog")
            .annotation("podswell.dev/source", queues::SOURCE)
    })
    .await;
    let podswell = start_podswell(&plane).await;
    let cost = cost(&podswell, workloads).await;
    format!("| {workloads} | 0 | a Prometheus of 15 s | {cost} |")
}

async fn start_plane() -> ControlPlane {
    let controller_manager_flags = [
        // Nobody measures how quickly the objects come.
        "--kube-api-qps=5000",
        "--kube-api-burst=10000",
        "--concurrent-deployment-syncs=20",
        "--concurrent-replicaset-syncs=20",
    ];
    let controller_manager_flags = controller_manager_flags.map(ToOwned::to_owned).to_vec();
    let plane =
        ControlPlane::start(Options { controller_manager_flags, ..Options::default() }).await;
    plane.apply(INSTALL).await;
    ensure_namespace(&plane.client(), NAMESPACE).await;
    plane
}

async fn start_podswell(plane: &ControlPlane) -> Podswell {
    let kubeconfig = plane.kubeconfig_for_service_account("podswell-system", "podswell").await;
    Podswell::start(plane.folder(), &kubeconfig, &[]).await
}

/// Makes the workloads, named `w0` and so on, with a target of ten.
async fn create(
    plane: &ControlPlane,
    workloads: u32,
    finish: impl Fn(NewDeployment) -> NewDeployment,
) {
    let api: Api<Deployment> = Api::namespaced(plane.client(), NAMESPACE);
    let created = stream::iter(0..workloads).map(|number| {
        let new = NewDeployment::new(NAMESPACE, &format!("w{number}"), 0)
            .annotation("autoscaling.knative.dev/class", "kpa.podswell.dev")
            .annotation("autoscaling.knative.dev/target", "10");
        let (api, object) = (api.clone(), finish(new).object());
        async move {
            let made = api.create(&PostParams::default(), &object).await;
            made.map(drop).expect("create a Deployment");
        }
    });
    created.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// Waits until all targets are decided and the last one is heard, then watches what that costs: cores and
/// memory.
async fn cost(podswell: &Podswell, workloads: u32) -> String {
    let last = format!("w{}", workloads.saturating_sub(1));
    eventually(LIMIT, "all targets are decided and heard", || async {
        let targets = podswell.get("/v1/status").await["targets"].as_u64();
        let target = podswell.target(NAMESPACE, &last).await;
        let signal = &target["decision"]["signal"];
        if targets == Some(workloads.into()) && signal["state"] == "fresh" {
            Ok(())
        } else {
            Err((targets, signal.clone()))
        }
    })
    .await;
    tokio::time::sleep(SPAN / 2).await;
    let before = podswell.cpu_seconds();
    tokio::time::sleep(SPAN).await;
    let cores = (podswell.cpu_seconds() - before) / SPAN.as_secs_f64();
    format!("{cores:.2} | {} MiB", podswell.resident_kib() / 1024)
}

/// Answers `/metrics` at this port of every address.
async fn answer_for_all(port: u16) -> JoinHandle<()> {
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", port)).await.expect("listen");
    let page = axum::routing::get(async || "app_requests_in_flight 7\n");
    let router = axum::Router::new().route("/metrics", page);
    tokio::spawn(async move {
        // It ends with the program.
        let _ = axum::serve(listener, router).await;
    })
}
