//! One story on real servers: requests arrive at a gateway, Prometheus scrapes it, podswell decides,
//! KEDA asks podswell, the HPA controller asks KEDA, and pods come and go.
//!
//! podswell is installed as `docs/keda.md` says and runs as its pods would: two processes, mutual TLS, the
//! rights of its service account. Then workloads play at once, one for each `ScaledObject` of
//! `deploy/keda`, of which only names, addresses, targets and times are changed, and some for single
//! settings. All that is asserted is
//! what the API server says.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::timeout;

use crate::guide::{self, Reader};
use crate::installed::{self, SYSTEM};
use crate::stage::{CONCURRENCY, EVENTS, LIMIT, NAMESPACE, PORT, RATE, Stage, config_maps};
use crate::support::controlplane::{ControlPlane, Options};
use crate::support::node::{Node, NodeOptions};
use crate::support::podswell::Podswell;
use crate::support::wait::eventually;
use crate::workload::{CALM, Workload};

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
    let (raw, idle, formula, careful) =
        tokio::join!(stage.raw(), stage.idle(), stage.formula(), stage.careful());
    is_followed(&careful, &processes[0]).await;
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
        falls_back(&careful),
    );
    for workload in [&web, &api, &worker, &raw, &idle, &formula, &careful] {
        workload.was_never_written_by_podswell().await;
    }
}

/// By its annotations podswell would write thirty-four replicas for what KEDA wants four for. KEDA asks it,
/// so it only answers, and says so.
async fn is_followed(workload: &Workload<'_>, podswell: &Podswell) {
    for (key, value) in [
        ("podswell.dev/source", "gateway"),
        ("autoscaling.knative.dev/target", "1"),
        ("autoscaling.knative.dev/target-utilization-percentage", "100"),
        ("autoscaling.knative.dev/class", "kpa.podswell.dev"),
    ] {
        workload.deployment.annotate(key, Some(value)).await.expect("annotate");
    }
    let name = &workload.name;
    let said =
        format!("nothing is written: ScaledObject {name} writes what podswell answers (Followed)");
    eventually(LIMIT, "one reason why nothing is written", || async {
        let screen = podswell.explain(NAMESPACE, name);
        if screen.contains(&said) { Ok(()) } else { Err(screen) }
    })
    .await;
}

/// Requests in flight come, make replicas, and go again.
async fn loaded(workload: &Workload<'_>, in_flight: usize, replicas: i32) {
    let load = workload.stage.gateway.in_flight(&workload.name, in_flight);
    workload.settles(replicas).await;
    drop(load);
    workload.reaches(0).await;
}

/// The load is lost while it is there, and comes back.
async fn falls_back(careful: &Workload<'_>) {
    let (gateway, name) = (&careful.stage.gateway, &careful.name);
    let load = gateway.in_flight(name, 34);
    careful.settles(4).await;
    gateway.hide(name, true);
    careful.settles(6).await;
    gateway.hide(name, false);
    careful.settles(4).await;
    drop(load);
    careful.reaches(1).await;
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
    // KEDA's fallback may have woken it before the first samples were there.
    web.settles(0).await;
    // Nobody runs: the request is held, seen, and answered.
    timeout(LIMIT, stage.gateway.request("web")).await.expect("the first request is answered");
    let load = stage.gateway.in_flight("web", 105);
    web.settles(11).await;
    // One pod more is less than the HPA's usual tolerance of a tenth.
    let more = stage.gateway.in_flight("web", 10);
    web.settles(12).await;
    // KEDA may take a failing poll for an inactive one: while nobody answers, only the cooldown keeps the
    // replicas (docs/keda.md).
    web.cools_down_for(600).await;
    let seen = web.watch_all();
    restarted(web, processes).await;
    assert_eq!(*seen.lock(), BTreeSet::from([12]), "nothing was ever lowered");
    drop(seen);
    assert_eq!((load.len(), more.len()), (105, 10), "every sender lives");
    drop(load);
    web.settles(1).await;
    web.cools_down_for(5).await;
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
