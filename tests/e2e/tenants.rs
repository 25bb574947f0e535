//! Whose series a workload may read: one tenant scales by a query of its own, while others try to read its
//! series in every way that an annotation allows. None reaches them, each has one reason, and the first one
//! does not notice.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::controlplane::{self, ControlPlane, Options};
use crate::support::deployment::{DeploymentRef, NewDeployment};
use crate::support::load::{Level, Load, LoadOptions};
use crate::support::node::{Node, NodeOptions};
use crate::support::podswell::Podswell;
use crate::support::prometheus::{Prometheus, PrometheusOptions};
use crate::support::wait::{eventually, settles, until};

/// How long a state may take to come: generous, the machine may be busy.
const LIMIT: Duration = Duration::from_secs(180);
/// How long replicas stay before they count as settled: longer than the window.
const CALM: Duration = Duration::from_secs(15);
const INSTALL: &str = include_str!("../../deploy/install.yaml");
const SYSTEM: &str = "podswell-system";
/// What a tenant would like to know: the load of everybody.
const EVERYBODY: &str = "sum(app_requests_in_flight)";
const THE_OTHERS: &str = r#"sum(app_requests_in_flight{namespace="alpha"})"#;

/// A workload that reaches out, and what becomes of it.
struct Attempt {
    namespace: &'static str,
    name: &'static str,
    annotations: &'static [(&'static str, &'static str)],
    /// The problem that names it; empty where nothing is wrong but that there is nothing to see.
    problem: &'static str,
    reason: &'static str,
}

const SOURCE: &str = "podswell.dev/source";
const MATCH: &str = "podswell.dev/source-match";
const QUERY: &str = "podswell.dev/query";

const ATTEMPTS: [Attempt; 6] = [
    Attempt {
        namespace: "beta",
        name: "unlisted",
        annotations: &[(SOURCE, "own"), (QUERY, EVERYBODY)],
        problem: "QueryNotAllowed",
        reason: "QueryNotAllowed",
    },
    Attempt {
        namespace: "gamma",
        name: "foreign",
        annotations: &[(SOURCE, "own"), (QUERY, THE_OTHERS)],
        problem: "ForeignSeries",
        reason: "NoSource",
    },
    Attempt {
        namespace: "beta",
        name: "injects",
        annotations: &[(SOURCE, "routes"), (MATCH, "deployment=web\"} or up{namespace=\"alpha")],
        problem: "ForeignSeries",
        reason: "NoSource",
    },
    Attempt {
        namespace: "beta",
        name: "labels",
        annotations: &[(SOURCE, "routes"), (MATCH, "namespace=alpha")],
        problem: "ForeignSeries",
        reason: "NoSource",
    },
    // The definition that would let it choose a namespace is refused, so there is no such source.
    Attempt {
        namespace: "beta",
        name: "thief",
        annotations: &[(SOURCE, "thief"), (MATCH, "namespace=alpha")],
        problem: "UnknownSource",
        reason: "NoSource",
    },
    // Its neighbour's name alone is no way to its neighbour's series.
    Attempt {
        namespace: "beta",
        name: "chooses",
        annotations: &[(SOURCE, "routes"), (MATCH, "deployment=web")],
        problem: "",
        reason: "SignalLost",
    },
];

/// A source of requests in flight that is asked each second.
pub(crate) fn definition(url: &str, rest: &str) -> Value {
    let url = format!("server: {{ url: \"{url}\" }}");
    format!("{url}\nkind: concurrency\nform: gauge\ninterval: 1s\n{rest}\n").into()
}

fn config_maps(url: &str) -> String {
    let series = "selector: app_requests_in_flight";
    let sources = json!({
        "own": definition(url, "queries: true\nmatch: { namespace: namespace }"),
        "routes": definition(
            url,
            &format!("{series}\nmatch: {{ namespace: namespace, selectable: [deployment] }}"),
        ),
        "thief": definition(
            url,
            &format!("{series}\nmatch: {{ selectable: [namespace, deployment] }}"),
        ),
    });
    controlplane::config_maps([
        ("podswell-sources", sources),
        ("podswell", json!({ "query-namespaces": "alpha, gamma" })),
    ])
}

fn deployment(namespace: &str, name: &str, replicas: i32) -> NewDeployment {
    NewDeployment::new(namespace, name, replicas)
        .annotation("autoscaling.knative.dev/class", "kpa.podswell.dev")
        .annotation("autoscaling.knative.dev/target", "10")
        .annotation("autoscaling.knative.dev/window", "12s")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tenant_reads_another_one_s_series() {
    let plane = ControlPlane::start(Options::default()).await;
    let node = Node::start(plane.client(), NodeOptions::default());
    let prometheus = Prometheus::start(node.table(), PrometheusOptions::default()).await;
    plane.apply(INSTALL).await;
    plane.apply(&config_maps(&prometheus.url())).await;
    let kubeconfig = plane.kubeconfig_for_service_account(SYSTEM, "podswell").await;
    let podswell = Podswell::start(plane.folder(), &kubeconfig, &[]).await;

    let own = "sum(app_requests_in_flight{deployment=\"$deployment\"})";
    let web = deployment("alpha", "web", 1).annotation(SOURCE, "own").annotation(QUERY, own);
    web.create(&plane.client()).await;
    let web = DeploymentRef::new(&plane.client(), "alpha", "web");
    for attempt in &ATTEMPTS {
        let mut new = deployment(attempt.namespace, attempt.name, 2);
        for (key, value) in attempt.annotations {
            new = new.annotation(key, value);
        }
        new.create(&plane.client()).await;
    }
    let wide =
        deployment("gamma", "wide", 2).annotation(SOURCE, "own").annotation(QUERY, EVERYBODY);
    wide.create(&plane.client()).await;

    let options = LoadOptions::new("alpha", "web");
    let load = Load::start(node.table(), options, Level::Held(31));
    let replicas = || async { web.replicas().await.unwrap_or(-1) };
    settles(LIMIT, CALM, "31 in flight are 5 pods", 5, replicas).await;
    for attempt in &ATTEMPTS {
        attempt.fails(&podswell).await;
    }
    // A query without any matcher sees the namespace that asks, where nothing is in flight.
    until(
        LIMIT,
        "the wide query reads its own idle pods",
        |seen: &Value| seen["decision"]["windows"]["stable"] == 0.0,
        || podswell.target("gamma", "wide"),
    )
    .await;
    load.set(Level::Held(59));
    settles(LIMIT, CALM, "59 in flight are 9 pods", 9, replicas).await;
    for attempt in &ATTEMPTS {
        let deployment = DeploymentRef::new(&plane.client(), attempt.namespace, attempt.name);
        assert_eq!(deployment.replicas().await.ok(), Some(2), "{}", attempt.name);
    }
    the_administrator_hears_of_it(&plane, &podswell).await;
    lint_finds_it(plane.folder());
}

impl Attempt {
    /// It has its reason and its problem, and nothing was read for it.
    async fn fails(&self, podswell: &Podswell) {
        eventually(LIMIT, self.name, || async {
            let status = podswell.target(self.namespace, self.name).await;
            let found = &status["decision"];
            let problems = status["problems"].to_string();
            let fits = found["reason"] == self.reason && problems.contains(self.problem);
            let unread = found["windows"]["stable"].is_null();
            if fits && unread { Ok(()) } else { Err(status) }
        })
        .await;
    }
}

/// An Event on the workload, a metric for alerts, and the problem of the definition for everybody.
async fn the_administrator_hears_of_it(plane: &ControlPlane, podswell: &Podswell) {
    let arguments = ["get", "events", "-n", "beta", "-o=jsonpath={.items[*].message}"];
    eventually(LIMIT, "an Event tells of the query", || async {
        let text = plane.kubectl(&arguments).await;
        let heard = text.contains("QueryNotAllowed") && text.contains("query-namespaces");
        if heard || podswell.left_events_out().await { Ok(()) } else { Err(text) }
    })
    .await;
    let metrics = podswell.metrics().await;
    let counted = |code: &str| {
        let code = format!("code=\"{code}\"");
        metrics.lines().any(|line| line.starts_with("podswell_problems{") && line.contains(&code))
    };
    assert!(counted("QueryNotAllowed") && counted("ForeignSeries"), "{metrics}");
    let explained = podswell.explain("alpha", "web");
    assert!(explained.contains("podswell-sources/thief"), "{explained}");
}

/// The same, before anything is applied.
fn lint_finds_it(folder: &Path) {
    let mut text = config_maps("http://prometheus:9090");
    for attempt in ATTEMPTS.iter().filter(|attempt| !attempt.problem.is_empty()) {
        let mut annotations = serde_json::Map::new();
        annotations.insert("autoscaling.knative.dev/class".into(), "kpa.podswell.dev".into());
        annotations.extend(
            attempt.annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())),
        );
        let metadata = json!({
            "name": attempt.name, "namespace": attempt.namespace, "annotations": annotations,
        });
        let manifest = json!({ "kind": "Deployment", "metadata": metadata }).to_string();
        text.extend(["\n---\n", &manifest]);
    }
    let path = folder.join("attempts.yaml");
    std::fs::write(&path, text).expect("write the manifests");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_podswell"))
        .arg("lint")
        .arg(&path)
        .output()
        .expect("run podswell lint");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for attempt in ATTEMPTS.iter().filter(|attempt| !attempt.problem.is_empty()) {
        let found =
            text.lines().any(|line| line.contains(attempt.name) && line.contains(attempt.problem));
        assert!(found, "{}: {text}", attempt.name);
    }
    assert!(text.contains("namespace holds a namespace"), "{text}");
}
