//! The harness itself: if these fail, no other end-to-end test means anything.

use std::path::Path;
use std::time::Duration;

use http::{StatusCode, header};
use tokio::time::Instant;

use crate::support::app::Fault;
use crate::support::controlplane::{ControlPlane, Options};
use crate::support::deployment::{DeploymentRef, NewDeployment};
use crate::support::http::HttpClient;
use crate::support::load::{Level, Load, LoadOptions, Outcome};
use crate::support::node::{self, Node, NodeOptions};
use crate::support::process::Process;
use crate::support::prometheus::{Prometheus, PrometheusOptions};
use crate::support::stat::Stat;
use crate::support::table::PodTable;
use crate::support::wait::{always_for, eventually, until};

const NAMESPACE: &str = "harness";
/// How long a state may take to come: generous, the machine may be busy, and after a restart of the API server
/// its clients wait for up to a minute until they try again.
const LIMIT: Duration = Duration::from_secs(180);

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
    the_hpa_controller_looks(&plane).await;
    let before = table.ready(NAMESPACE, "web");
    plane.kill_apiserver();
    assert!(deployment.replicas().await.is_err(), "a dead API server answers");
    plane.start_apiserver().await;
    deployment.scale_to(4, "test").await.expect("scale up after the restart");
    wait_for_ready(&deployment, &table, 4).await;
    let survivor = before.first().expect("one pod was ready");
    assert!(table.all().iter().any(|pod| pod.ip == survivor.ip), "the pod lived on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_fail_and_start_and_end_as_told() {
    let plane = ControlPlane::start(Options::default()).await;
    let node = Node::start(plane.client(), NodeOptions::default());
    let table = node.table();
    let started = Instant::now();
    NewDeployment::new(NAMESPACE, "web", 2)
        .pod_annotation(node::START_DELAY_MS, "1500")
        .pod_annotation(node::TERMINATION_MS, "1500")
        .pod_annotation(node::CONCURRENCY_LIMIT, "1")
        .create(&plane.client())
        .await;
    let deployment = DeploymentRef::new(&plane.client(), NAMESPACE, "web");
    wait_for_ready(&deployment, &table, 2).await;
    assert!(started.elapsed() > Duration::from_millis(1400), "the pods started at once");
    every_fault_shows(&table).await;
    let [first, second] = &table.ready(NAMESPACE, "web")[..] else { panic!("two pods are ready") };

    // One request at a time is worked on; the other counts as in flight.
    let options =
        LoadOptions { work: Duration::from_millis(500), ..LoadOptions::new(NAMESPACE, "web") };
    let began = Instant::now();
    let load = Load::start(table.clone(), options, Level::InFlight(4));
    let in_flight = || async { (first.app.in_flight(), second.app.in_flight()) };
    until(LIMIT, "two in flight at each", |pair| *pair == (2, 2), in_flight).await;
    let outcome = until(
        LIMIT,
        "16 answers",
        |outcome: &Outcome| outcome.ok >= 16,
        || async { load.outcome() },
    )
    .await;
    // Two in each half a second, and the first requests are shorter.
    let most = began.elapsed().as_millis() / 500 * 2 + 4;
    assert!(u128::from(outcome.ok) <= most, "at most {most} are worked off: {outcome:?}");
    load.stop();
    until(LIMIT, "broken off", |pair| *pair == (0, 0), in_flight).await;

    node.set_ready(first, false).await;
    until(
        LIMIT,
        "one pod is ready",
        |ready| *ready == 1,
        || async { deployment.ready_replicas().await.unwrap_or(0) },
    )
    .await;
    assert_eq!(table.ready(NAMESPACE, "web").len(), 1);
    node.set_ready(first, true).await;
    node.unplug(NAMESPACE, &first.name);
    let url = format!("http://{}:9090/metrics", first.ip);
    let answer = || async { HttpClient::new().get(&url).await.is_ok() };
    until(LIMIT, "the unplugged pod is silent", |ok| !ok, answer).await;

    let ending = Instant::now();
    deployment.scale_to(0, "test").await.expect("scale to zero");
    wait_for_ready(&deployment, &table, 0).await;
    assert!(ending.elapsed() > Duration::from_millis(1400), "the pods end at once");
    let pods = plane.kubectl(&["get", "pods", "-n", NAMESPACE, "-o", "name"]).await;
    assert_eq!(pods, "");
}

async fn every_fault_shows(table: &PodTable) {
    let ready = table.ready(NAMESPACE, "web");
    let pod = ready.first().expect("a pod is ready");
    let client = HttpClient::new();
    for port in [8080, 9090] {
        let url = format!("http://{}:{port}/metrics", pod.ip);
        let set = |fault| pod.app.set_fault(fault);
        set(Fault::Status(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(client.get(&url).await.expect("a status").status, 503);
        set(Fault::Redirect("http://127.0.0.1:1/".to_owned()));
        let answer = client.get(&url).await.expect("a redirect");
        let to = answer.headers.get(header::LOCATION).expect("where to");
        assert_eq!(to, "http://127.0.0.1:1/");
        set(Fault::Huge(1 << 20));
        assert!(client.get(&url).await.expect("a huge body").body.len() > 1 << 20);
        set(Fault::Slow(Duration::from_millis(300)));
        let asked = Instant::now();
        client.get(&url).await.expect("a late answer");
        assert!(asked.elapsed() >= Duration::from_millis(300));
        set(Fault::Closed);
        client.get(&url).await.expect_err("no answer");
        set(Fault::NotANumber);
        let body = client.get(&url).await.expect("an answer").body;
        if port == 9090 {
            let stat: Stat = prost::Message::decode(body).expect("a stat");
            assert!(stat.average_concurrent_requests.is_nan());
        } else {
            assert!(body.windows(4).any(|part| part == b" NaN"), "{body:?}");
        }
        set(Fault::None);
    }
}

#[tokio::test]
#[should_panic(expected = "not within 200ms: a miracle; seen last: \"water\"")]
async fn a_wait_tells_what_it_saw() {
    eventually(Duration::from_millis(200), "a miracle", || async { Err::<(), _>("water") }).await;
}

#[tokio::test]
#[should_panic(expected = "not true any more: the glass is whole")]
async fn a_watch_tells_what_ended() {
    let started = Instant::now();
    always_for(LIMIT, "the glass is whole", || async {
        if started.elapsed() < Duration::from_millis(250) { Ok(()) } else { Err("shards") }
    })
    .await;
}

#[tokio::test]
async fn a_process_ends_with_all_that_it_started() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, started) = (folder.path().join("log"), folder.path().join("started"));
    let script = format!("sh -c 'sleep 600 & echo $! > {}; wait' & wait", started.display());
    let arguments = ["-c".to_owned(), script];
    let mut shell = Process::start("sh", Path::new("/bin/sh"), &arguments, &[], &log);
    let grandchild = eventually(LIMIT, "the sleep has begun", || async {
        let id = std::fs::read_to_string(&started).map_err(|error| error.to_string())?;
        id.trim().parse::<u32>().map_err(|error| error.to_string())
    })
    .await;
    // One that ended may still be listed, as a zombie, but runs no program.
    let runs = || async {
        let line = std::fs::read(format!("/proc/{grandchild}/cmdline"));
        line.is_ok_and(|line| !line.is_empty())
    };
    // Nor does it have one at the moment at which it becomes another program.
    until(LIMIT, "the sleep runs", |runs| *runs, runs).await;
    shell.kill();
    until(LIMIT, "the sleep is gone", |runs| !runs, runs).await;
}

async fn wait_for_ready(deployment: &DeploymentRef, table: &PodTable, number: i32) {
    eventually(LIMIT, "the Deployment has its ready pods", || async {
        let ready = deployment.ready_replicas().await.map_err(|error| error.to_string())?;
        // The table hears that a pod is ready after the API server does.
        let served = (table.of(NAMESPACE, "web").len(), table.ready(NAMESPACE, "web").len());
        let all = usize::try_from(number).expect("not negative");
        let right = ready == number && served == (all, all);
        if right { Ok(()) } else { Err(format!("{ready} ready, {served:?} served and ready")) }
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
    let load = Load::start(table.clone(), LoadOptions::new(NAMESPACE, "web"), Level::Held(20));
    let in_flight = || async { table.in_flight(NAMESPACE, "web") };
    until(LIMIT, "20 requests in flight", |number| *number == 20, in_flight).await;
    always_for(Duration::from_secs(2), "20 requests in flight, evenly", || async {
        let pods = table.of(NAMESPACE, "web");
        let numbers: Vec<_> = pods.iter().map(|pod| pod.app.in_flight()).collect();
        if numbers == [7, 7, 6] { Ok(()) } else { Err(numbers) }
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
    load.set(Level::Held(4));
    until(LIMIT, "4 requests in flight", |number| *number == 4, in_flight).await;
    load.set(Level::InFlight(20));
    let about_20 = |number: &u64| (18..=20).contains(number);
    until(LIMIT, "about 20 requests in flight", about_20, in_flight).await;
    let answered = || async { load.outcome().ok };
    until(LIMIT, "a hundred are answered", |answered| *answered > 100, answered).await;
    load.set(Level::PerSecond(50.0));
    let ten = |number: &u64| (8..=12).contains(number);
    until(LIMIT, "50 a second of 200 ms are 10 in flight", ten, in_flight).await;
    load.set(Level::Idle);
    until(LIMIT, "no request in flight", |number| *number == 0, in_flight).await;
    let outcome = load.stop();
    assert_eq!(outcome.failed, 0, "{outcome:?}");
}

async fn prometheus_sees_the_pods(table: &PodTable) {
    let mut prometheus = Prometheus::start(table.clone(), PrometheusOptions::default()).await;
    let load = Load::start(table.clone(), LoadOptions::new(NAMESPACE, "web"), Level::Held(6));
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

async fn the_hpa_controller_looks(plane: &ControlPlane) {
    let manifest = r#"{
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "web", "namespace": "harness" },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" },
            "maxReplicas": 5,
            "metrics": [{ "type": "External", "external": {
                "metric": { "name": "none" }, "target": { "type": "AverageValue", "averageValue": "1" }
            }}]
        }
    }"#;
    plane.apply(manifest).await;
    let path = "-o=jsonpath={.status.conditions[?(@.type=='ScalingActive')].reason}";
    let reason = || async { plane.kubectl(&["get", "hpa", "web", "-n", NAMESPACE, path]).await };
    let failed = |reason: &String| reason == "FailedGetExternalMetric";
    until(LIMIT, "the HPA controller misses its metric", failed, reason).await;
    plane.kubectl(&["delete", "hpa", "web", "-n", NAMESPACE]).await;
}
