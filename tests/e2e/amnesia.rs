//! A restart without a snapshot: every kind of Prometheus source gives podswell its windows back, and the
//! time in which the server itself was away stays unknown, for it is neither zero nor what was before. Nor
//! does a restart keep a workload up for which nothing is to do any more.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::join;
use tokio::time::Instant;

use crate::support::controlplane::{self, ControlPlane, Options};
use crate::support::deployment::{DeploymentRef, NewDeployment};
use crate::support::load::{Level, Load, LoadOptions};
use crate::support::node::{Node, NodeOptions};
use crate::support::podswell::Podswell;
use crate::support::prometheus::{Prometheus, PrometheusOptions};
use crate::support::wait::{settles, until};
use crate::tenants::definition;

/// How long a state may take to come: generous, the machine may be busy.
const LIMIT: Duration = Duration::from_secs(180);
const INSTALL: &str = include_str!("../../deploy/install.yaml");
const SYSTEM: &str = "podswell-system";
const WINDOW: Duration = Duration::from_secs(45);
/// How long the server is away at least.
const AWAY: Duration = Duration::from_secs(15);
/// By how much a window may lack more or less than the outage: samples at both ends, and the staleness.
const ROOM: Duration = Duration::from_secs(6);
/// Requests in flight that ask for five pods of seven each, with room on both sides.
const LOAD: u32 = 31;
const PODS: i32 = 5;

/// A name, what a definition says besides the usual, and the query that workloads bring.
type Source = (&'static str, &'static str, Option<&'static str>);

/// Each kind of source that has a past.
const SOURCES: [Source; 3] = [
    (
        "samples",
        "selector: app_requests_in_flight\nmatch: { namespace: namespace, pod: pod }",
        None,
    ),
    (
        "stamped",
        "expr: sum by (namespace, deployment) (app_requests_in_flight)\n\
         timestamp: min by (namespace, deployment) (timestamp(app_requests_in_flight))\n\
         match: { namespace: namespace, workload: deployment }",
        None,
    ),
    (
        "own",
        "queries: true\nmatch: { namespace: namespace }",
        Some("sum(app_requests_in_flight{deployment=\"$deployment\"})"),
    ),
];

/// A workload that has nothing to do from the restart on: its name, and where it goes.
type Idle = (&'static str, i32);

/// What scraping saw is forgotten; Prometheus was away for longer than the window.
const IDLE: [Idle; 2] = [("scraped", 1), ("sleeper", 0)];
/// For so long, of [`SHORT`], nothing may be lowered: 80 % have to be known. The first sample may stand for the
/// second before it.
const UNKNOWN: Duration = Duration::from_secs(8);
/// As of [`NewDeployment::managed`]; shorter than the outage.
const SHORT: &str = "12s";
/// How long the way down may take: some windows, the machine may be busy.
const DOWN: Duration = Duration::from_secs(180);

fn config_maps(url: &str) -> String {
    let sources = SOURCES.map(|(name, rest, _)| (name.to_owned(), definition(url, rest)));
    let mut sources: serde_json::Map<_, _> = sources.into_iter().collect();
    let sleeper = format!("{}\nvisibleAtZero: true", SOURCES[1].1);
    sources.insert("sleeper".to_owned(), definition(url, &sleeper));
    controlplane::config_maps([
        ("podswell-sources", Value::Object(sources)),
        ("podswell", json!({ "query-namespaces": "shop" })),
    ])
}

/// How much of a workload's window is covered, and with how much load.
async fn window(podswell: &Podswell, name: &str) -> (Duration, f64) {
    let status = podswell.target("shop", name).await;
    let windows = &status["decision"]["windows"];
    let seconds = windows["coveredSeconds"].as_u64().unwrap_or(0);
    (Duration::from_secs(seconds), windows["stable"].as_f64().unwrap_or(0.0))
}

/// A workload of ten requests a pod, with so many pods as its load needs.
fn deployment(name: &str, window: &str, source: &str) -> NewDeployment {
    NewDeployment::new("shop", name, PODS)
        .annotation("autoscaling.knative.dev/class", "kpa.podswell.dev")
        .annotation("autoscaling.knative.dev/target", "10")
        .annotation("autoscaling.knative.dev/window", window)
        .annotation("podswell.dev/source", source)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_come_back_from_prometheus() {
    let plane = ControlPlane::start(Options::default()).await;
    let node = Node::start(plane.client(), NodeOptions::default());
    let mut prometheus = Prometheus::start(node.table(), PrometheusOptions::default()).await;
    plane.apply(INSTALL).await;
    plane.apply(&config_maps(&prometheus.url())).await;
    let kubeconfig = plane.kubeconfig_for_service_account(SYSTEM, "podswell").await;
    let mut podswell = Podswell::start(plane.folder(), &kubeconfig, &[]).await;
    let mut loads = Vec::new();
    for (name, _, query) in SOURCES {
        let mut new = deployment(name, &format!("{}s", WINDOW.as_secs()), name);
        if let Some(query) = query {
            new = new.annotation("podswell.dev/query", query);
        }
        new.create(&plane.client()).await;
        loads.push(loaded(&node, name));
    }
    NewDeployment::new("shop", "scraped", PODS).managed().create(&plane.client()).await;
    deployment("sleeper", SHORT, "sleeper").create(&plane.client()).await;
    let idle = IDLE.map(|(name, ..)| loaded(&node, name));
    join_all(IDLE.map(|(name, ..)| has_its_pods(&plane, name))).await;
    for (name, ..) in SOURCES {
        let what = format!("the window of {name} is full of its load");
        let full = |(covered, load): &(Duration, f64)| {
            *covered + ROOM / 2 > WINDOW && *load > f64::from(LOAD) - 3.0
        };
        until(LIMIT, &what, full, || window(&podswell, name)).await;
    }

    let away_since = Instant::now();
    prometheus.kill();
    podswell.kill();
    for load in idle {
        load.stop();
    }
    tokio::time::sleep(AWAY).await;
    for (name, ..) in IDLE {
        let deployment = DeploymentRef::new(&plane.client(), "shop", name);
        assert_eq!(deployment.replicas().await.ok(), Some(PODS), "{name}");
    }
    let back = Instant::now();
    prometheus.restart().await;
    podswell.restart().await;
    let idle = join_all(IDLE.map(|idle| goes_down(&plane, idle, back)));
    join!(windows_are_back(&podswell, away_since), idle);
    drop(loads);
}

fn loaded(node: &Node, name: &str) -> Load {
    let level = Level::Held(usize::try_from(LOAD).expect("a small number"));
    Load::start(node.table(), LoadOptions::new("shop", name), level)
}

/// While its load moved to its pods it may have asked for more of them.
async fn has_its_pods(plane: &ControlPlane, name: &str) {
    let deployment = DeploymentRef::new(&plane.client(), "shop", name);
    let replicas = || async { deployment.replicas().await.unwrap_or(-1) };
    settles(LIMIT, AWAY, name, PODS, replicas).await;
}

/// It has been idle ever since, but that is known only as soon as enough was heard.
async fn goes_down(plane: &ControlPlane, (name, bottom): Idle, back: Instant) {
    let deployment = DeploymentRef::new(&plane.client(), "shop", name);
    let replicas = || async { deployment.replicas().await.unwrap_or(PODS) };
    until(DOWN, name, |seen| *seen < PODS, replicas).await;
    let known = back.elapsed();
    assert!(known >= UNKNOWN, "{name}: lowered after {known:?}");
    until(DOWN, name, |seen| *seen == bottom, replicas).await;
}

async fn windows_are_back(podswell: &Podswell, away_since: Instant) {
    let restarted = Instant::now();
    for (name, ..) in SOURCES {
        let what = format!("{name} is heard again");
        let heard = |(covered, _): &(Duration, f64)| !covered.is_zero();
        let (covered, load) = until(LIMIT, &what, heard, || window(podswell, name)).await;
        let (away, since) = (away_since.elapsed(), restarted.elapsed());
        let seen =
            format!("{name}: {covered:?} covered with {load}, away for {away:?}, {since:?} ago");
        assert!(covered + away + ROOM > WINDOW, "the window is back: {seen}");
        // On a machine so busy that nothing of the window is left, there is nothing to see.
        if away + ROOM < WINDOW {
            assert!((load - f64::from(LOAD)).abs() < 5.0, "{seen}");
            assert!(covered + AWAY < WINDOW + ROOM, "the outage is not known: {seen}");
            assert!(covered > since, "more than was heard since the restart: {seen}");
        }
    }
}
