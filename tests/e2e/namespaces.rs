//! Two namespaces and nothing else: podswell with exactly the Roles that `podswell rbac --namespaces`
//! prints scales in both, leaves a third one alone, and does without one that it may not read yet.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::controlplane::{ControlPlane, Options};
use crate::support::deployment::{DeploymentRef, NewDeployment};
use crate::support::load::{Level, Load, LoadOptions};
use crate::support::node::{Node, NodeOptions};
use crate::support::podswell::Podswell;
use crate::support::wait::{settles, until};

/// How long a state may take to come: generous, the machine may be busy, and a watch that failed once and has
/// nothing to say since is believed after two minutes.
const LIMIT: Duration = Duration::from_secs(300);
/// How long replicas stay before they count as settled: longer than the window.
const CALM: Duration = Duration::from_secs(15);
const SYSTEM: &str = "podswell-system";
/// The last of them comes into being only later.
const WATCHED: &str = "shop,blog,later";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_in_two_namespaces_are_enough() {
    let plane = ControlPlane::start(Options::default()).await;
    let node = Node::start(plane.client(), NodeOptions::default());
    for namespace in ["shop", "blog", "elsewhere"] {
        create(&plane, namespace).await;
    }
    plane.kubectl(&["create", "namespace", SYSTEM]).await;
    plane.kubectl(&["create", "serviceaccount", "podswell", "-n", SYSTEM]).await;
    plane.apply(&roles("shop,blog")).await;
    let kubeconfig = plane.kubeconfig_for_service_account(SYSTEM, "podswell").await;
    let podswell = Podswell::start(plane.folder(), &kubeconfig, &["--namespaces", WATCHED]).await;
    let load = |namespace: &str| {
        Load::start(node.table(), LoadOptions::new(namespace, "web"), Level::Held(20))
    };
    let _loads = ["shop", "blog", "elsewhere"].map(load);
    // What a moment asked for in which the load moved to new pods would be kept by the pause.
    for namespace in ["shop", "blog"] {
        settles(LIMIT, CALM, namespace, 3, || replicas(&plane, namespace)).await;
    }
    assert_eq!(replicas(&plane, "elsewhere").await, 1);
    assert_eq!(podswell.target("elsewhere", "web").await, Value::Null);

    // The namespace's own annotation counts as well.
    plane.kubectl(&["annotate", "namespace", "blog", "podswell.dev/mode=paused"]).await;
    let is_paused = |status: &Value| status.to_string().contains(r#""value":"paused""#);
    until(LIMIT, "blog is paused", is_paused, || podswell.target("blog", "web")).await;
    assert!(!is_paused(&podswell.target("shop", "web").await));
    all_are_listed(&podswell).await;

    // One that was forbidden from the start joins when it may be read.
    let state = || async { watch(&podswell, "deployments in later").await["fault"].clone() };
    until(LIMIT, "later is forbidden", |fault| fault == "Forbidden", state).await;
    create(&plane, "later").await;
    plane.apply(&roles("later")).await;
    let _late = load("later");
    reaches(&plane, "later", 3).await;
    nothing_of_the_cluster_was_asked_for(&podswell).await;
}

/// The workloads of both namespaces, in every form. The problem of each is that nothing would wake it from zero.
async fn all_are_listed(podswell: &Podswell) {
    let columns = "namespace,name,replicas,ready,wants,signal,target,reason,attention,mode,managed,\
        gate,panic,problems";
    let steady = ["shop,web,3,3,3,fresh,Steady,", ",-,apply,yes,-,-,1"];
    let paused = ["blog,web,3,3,3,fresh,Paused,", ",-,paused,yes,Paused,-,1"];
    let fits = |line: &str, [head, tail]: [&str; 2]| line.starts_with(head) && line.ends_with(tail);
    let csv = |text: &String| match text.lines().collect::<Vec<_>>()[..] {
        [head, blog, shop] => head == columns && fits(blog, paused) && fits(shop, steady),
        _ => false,
    };
    let listed = |form: &'static str| async move { podswell.list(&["-o", form]) };
    until(LIMIT, "both are listed", csv, || listed("csv")).await;
    let wide = listed("wide").await;
    let head = columns.to_uppercase();
    assert_eq!(wide.lines().next().map(words), Some(head.split(',').collect()), "{wide}");
    let totals = wide.lines().last().map(words).unwrap_or_default();
    assert_eq!(totals.get(..4), Some(&["*", "2", "6", "6"][..]), "{wide}");
    let document: Value = serde_json::from_str(&listed("json").await).expect("a document");
    assert_eq!(
        (&document["kind"], &document["totals"]["targets"]),
        (&"WorkloadList".into(), &2.into())
    );
    let blog = podswell.list(&["-n", "blog", "-o", "json"]);
    let blog: Value = serde_json::from_str(&blog).expect("a document");
    let names = [Value::from("blog")];
    let seen = blog["items"].as_array().expect("items").iter();
    assert_eq!(seen.map(|item| item["target"]["namespace"].clone()).collect::<Vec<_>>(), names);
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

async fn create(plane: &ControlPlane, namespace: &str) {
    NewDeployment::new(namespace, "web", 1).managed().create(&plane.client()).await;
}

fn roles(namespaces: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_podswell"))
        .args(["rbac", "--namespaces", namespaces])
        .output()
        .expect("run podswell rbac");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(!text.contains("ClusterRole"), "{text}");
    text
}

async fn replicas(plane: &ControlPlane, namespace: &str) -> i32 {
    let deployment = DeploymentRef::new(&plane.client(), namespace, "web");
    deployment.replicas().await.unwrap_or(-1)
}

async fn reaches(plane: &ControlPlane, namespace: &str, number: i32) {
    let what = format!("{namespace}/web has {number} replicas");
    until(LIMIT, &what, |seen| *seen == number, || replicas(plane, namespace)).await;
}

/// The state of one watch, as `/v1/status` tells it.
async fn watch(podswell: &Podswell, name: &str) -> Value {
    let status = podswell.get("/v1/status").await;
    let watches = status["watches"].as_array().cloned().unwrap_or_default();
    watches.into_iter().find(|watch| watch["name"] == name).unwrap_or_default()
}

/// With these rights a request for the whole cluster would be refused, and its watch have a fault.
async fn nothing_of_the_cluster_was_asked_for(podswell: &Podswell) {
    let status = podswell.get("/v1/status").await;
    let watches = status["watches"].as_array().expect("watches").clone();
    assert_eq!(watches.len(), 3 * 6 + 3, "{status}");
    let faulty = |status: &Value| {
        let watches = status["watches"].as_array().cloned().unwrap_or_default();
        watches.iter().any(|watch| watch["fault"] != Value::Null)
    };
    let status = || podswell.get("/v1/status");
    until(LIMIT, "no watch has a fault", |status| !faulty(status), status).await;
}
