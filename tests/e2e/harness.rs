//! The harness itself: if these fail, no other end-to-end test means anything.

use std::time::Duration;

use crate::support::app::Fault;
use crate::support::controlplane::{ControlPlane, Options};
use crate::support::deployment::{DeploymentRef, NewDeployment};
use crate::support::http::HttpClient;
use crate::support::load::{Level, Load, LoadOptions};
use crate::support::node::{Node, NodeOptions};
use crate::support::prometheus::{Prometheus, PrometheusOptions};
use crate::support::stat::Stat;
use crate::support::table::PodTable;
use crate::support::wait::{always_for, eventually, until};

const NAMESPACE: &str = "harness";
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_runs_and_serves_and_is_scraped() {
    let mut plane = ControlPlane::start(Options::default()).await;
    let node = Node::start(plane.client(), NodeOptions::default());
    let table = node.table();
    let deployment = DeploymentRef::new(&plane.client(), NAMESPACE, "web");
    NewDeployment::new(NAMESPACE, "web", 3).create(&plane.client()).await;
    wait_for_ready(&deployment, &table, 3).await;
    pods_answer(&table).await;
    load_is_exact(&table).await;
    prometheus_sees_the_pods(&table).await;
    deployment.scale_to(1, "test").await.expect("scale down");
    wait_for_ready(&deployment, &table, 1).await;
    service_accounts_have_their_own_rights(&plane).await;
    let before = table.ready(NAMESPACE, "web");
    plane.kill_apiserver();
    assert!(deployment.replicas().await.is_err(), "a dead API server answers");
    plane.start_apiserver().await;
    deployment.scale_to(4, "test").await.expect("scale up after the restart");
    wait_for_ready(&deployment, &table, 4).await;
    let survivor = before.first().expect("one pod was ready");
    assert!(table.all().iter().any(|pod| pod.ip == survivor.ip), "the pod lived on");
}

async fn wait_for_ready(deployment: &DeploymentRef, table: &PodTable, number: i32) {
    eventually(LIMIT, "the Deployment has its ready pods", || async {
        let ready = deployment.ready_replicas().await.map_err(|error| error.to_string())?;
        let served = table.of(NAMESPACE, "web").len();
        let right = ready == number && i32::try_from(served) == Ok(number);
        if right { Ok(()) } else { Err(format!("{ready} ready, {served} served")) }
    })
    .await;
}

async fn pods_answer(table: &PodTable) {
    let client = HttpClient::new();
    for pod in table.ready(NAMESPACE, "web") {
        let text = client.get(&format!("http://{}:8080/metrics", pod.ip)).await.expect("text");
        assert!(text.text().contains("app_requests_in_flight 0\n"), "{}", text.text());
        let stat = client.get(&format!("http://{}:9090/metrics", pod.ip)).await.expect("stat");
        let stat: Stat = prost::Message::decode(stat.body).expect("a stat");
        assert_eq!(stat.pod_name, pod.name);
        pod.app.set_fault(Fault::Closed);
        let closed = client.get(&format!("http://{}:9090/metrics", pod.ip)).await;
        assert!(closed.is_err(), "{closed:?}");
        pod.app.set_fault(Fault::None);
    }
}

async fn load_is_exact(table: &PodTable) {
    let load = Load::start(table.clone(), LoadOptions::new(NAMESPACE, "web"), Level::InFlight(20));
    let in_flight = || async { table.in_flight(NAMESPACE, "web") };
    until(LIMIT, "20 requests in flight", |number| *number == 20, in_flight).await;
    always_for(Duration::from_secs(2), "about 20 requests in flight", || async {
        let number = table.in_flight(NAMESPACE, "web");
        if (18..=20).contains(&number) { Ok(()) } else { Err(number) }
    })
    .await;
    let stats = || async {
        let client = HttpClient::new();
        let mut sum = 0.0;
        for pod in table.ready(NAMESPACE, "web") {
            let stat = client.get(&format!("http://{}:9090/metrics", pod.ip)).await.expect("stat");
            let stat: Stat = prost::Message::decode(stat.body).expect("a stat");
            sum += stat.average_concurrent_requests;
        }
        sum
    };
    until(LIMIT, "the queue-proxies report 20", |sum: &f64| (sum - 20.0).abs() < 0.5, stats).await;
    load.set(Level::PerSecond(50.0));
    let ten = |number: &u64| (8..=12).contains(number);
    until(LIMIT, "50 a second of 200 ms are 10 in flight", ten, in_flight).await;
    load.set(Level::Idle);
    until(LIMIT, "no request in flight", |number| *number == 0, in_flight).await;
    let outcome = load.stop();
    assert!(outcome.ok > 100 && outcome.failed == 0, "{outcome:?}");
}

async fn prometheus_sees_the_pods(table: &PodTable) {
    let mut prometheus = Prometheus::start(table.clone(), PrometheusOptions::default()).await;
    let load = Load::start(table.clone(), LoadOptions::new(NAMESPACE, "web"), Level::InFlight(6));
    let query = r#"sum(app_requests_in_flight{namespace="harness",deployment="web"})"#;
    for _ in 0..2 {
        eventually(LIMIT, "Prometheus reads 6 in flight", || async {
            let number = prometheus.number(query).await?;
            if (number - 6.0).abs() < 0.1 { Ok(()) } else { Err(number.to_string()) }
        })
        .await;
        prometheus.kill();
        assert!(prometheus.number(query).await.is_err(), "a dead Prometheus answers");
        prometheus.restart().await;
    }
    drop(load);
}

async fn service_accounts_have_their_own_rights(plane: &ControlPlane) {
    let client = plane.client_for_service_account(NAMESPACE, "default").await;
    let deployment = DeploymentRef::new(&client, NAMESPACE, "web");
    let refused = deployment.replicas().await;
    assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403), "{refused:?}");
    let account = format!("--serviceaccount={NAMESPACE}:default");
    plane.kubectl(&["create", "clusterrolebinding", "x", "--clusterrole=admin", &account]).await;
    eventually(LIMIT, "the new right counts", || deployment.replicas()).await;
    let file = plane.kubeconfig_for_service_account(NAMESPACE, "default").await;
    let file = format!("--kubeconfig={}", file.display());
    let seen = plane.kubectl(&["get", "deployments", "-n", NAMESPACE, "-o=name", &file]).await;
    assert_eq!(seen.trim(), "deployment.apps/web");
}
