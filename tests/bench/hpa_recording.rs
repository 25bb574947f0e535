//! Records what the real kube-controller-manager's HPA does: for each of its syncs what it saw and what it
//! wrote. The simulator's model of the HPA must do the same (`src/sim/policy/hpa`).
//!
//! The API server's audit log is what is recorded: which scale a sync read, and which one it wrote. What
//! the metric answered is known here, because it is served here.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a program for whoever records: what goes wrong is its end"
)]

#[expect(dead_code, reason = "a library: not every program uses all of it")]
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use parking_lot::Mutex;
use podswell::runtime::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::time::Instant;

use support::controlplane::{ControlPlane, Options};
use support::deployment::{DeploymentRef, NewDeployment};
use support::external::{ExternalMetrics, METRIC, Values};
use support::node::{NEVER_READY, Node, NodeOptions, START_DELAY_MS};

const NAMESPACE: &str = "hpa";
/// No divisor of a period or of a window below, so that no sync lies at their very ends.
const SYNC: Duration = Duration::from_secs(4);
const LENGTH: Duration = Duration::from_secs(420);

const POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy",
  "omitStages": ["RequestReceived", "ResponseStarted"],
  "rules": [
    {"level": "RequestResponse",
     "users": ["system:serviceaccount:kube-system:horizontal-pod-autoscaler"],
     "resources": [{"group": "apps", "resources": ["deployments/scale"]},
                   {"group": "external.metrics.k8s.io"}]},
    {"level": "None"}]}"#;

/// One thing that happens to a Deployment.
#[derive(Clone, Copy)]
enum Event {
    /// The metric is this many thousandths from now on; `None`: it cannot be had.
    Metric(Option<u64>),
    /// Somebody writes replicas.
    Writes(i32),
    /// The template changes; the new pods never become ready, so that the rollout stands.
    Rollout,
}

/// An HPA with what happens to its Deployment, and when.
struct Case {
    name: &'static str,
    replicas: i32,
    spec: Value,
    events: &'static [(u64, Event)],
}

use Event::{Metric, Rollout, Writes};

/// Up in steps and beyond the limit, within the tolerance, missing, down to nothing, up again.
const COURSE: &[(u64, Event)] = &[
    (0, Metric(Some(20_000))),
    (20, Metric(Some(35_000))),
    (40, Metric(Some(95_500))),
    (62, Metric(Some(900_000))),
    (80, Metric(Some(104_000))),
    (95, Metric(None)),
    (112, Metric(Some(52_300))),
    (150, Metric(Some(30_000))),
    (190, Metric(Some(0))),
    (250, Metric(Some(61_000))),
    (262, Metric(Some(64_000))),
    (275, Metric(Some(12_000))),
    (400, Metric(Some(33_000))),
];

/// Others write, too: nothing, one, more than the most, less than the least.
const RIVALRY: &[(u64, Event)] = &[
    (0, Metric(Some(200_000))),
    (40, Writes(0)),
    (60, Writes(1)),
    (62, Metric(Some(20_000))),
    (100, Writes(60)),
    (140, Metric(Some(150_000))),
    (170, Writes(3)),
    (220, Metric(None)),
    (240, Writes(70)),
    (260, Metric(Some(70_000))),
    (300, Writes(0)),
    (320, Writes(9)),
];

/// Pods that are not ready, and those of a rollout that does not end.
const ROLLOUT: &[(u64, Event)] = &[
    (0, Metric(Some(100_000))),
    (30, Rollout),
    (70, Metric(Some(104_000))),
    (100, Metric(Some(125_000))),
    (150, Metric(Some(180_000))),
    (200, Metric(Some(150_000))),
    (260, Metric(Some(90_000))),
    (330, Metric(Some(20_000))),
];

fn cases() -> Vec<Case> {
    let step = |kind, value: i32, period: i32| json!({"type": kind, "value": value, "periodSeconds": period});
    let case = |name, replicas, behavior: Value, events| {
        let mut spec = json!({"minReplicas": 2, "maxReplicas": 40});
        if !behavior.is_null() {
            spec["behavior"] = behavior;
        }
        Case { name, replicas, spec, events }
    };
    vec![
        case("plain", 12, Value::Null, COURSE),
        case("defaults", 12, json!({}), COURSE),
        case(
            "short",
            12,
            json!({
                "scaleUp": {"stabilizationWindowSeconds": 10, "selectPolicy": "Min",
                    "policies": [step("Pods", 5, 9), step("Percent", 50, 21)]},
                "scaleDown": {"stabilizationWindowSeconds": 17,
                    "policies": [step("Percent", 30, 13), step("Pods", 3, 13)]},
            }),
            COURSE,
        ),
        case(
            "exact",
            12,
            json!({
                "scaleUp": {"tolerance": "0", "stabilizationWindowSeconds": 0,
                    "policies": [step("Pods", 10000, 1)]},
                "scaleDown": {"tolerance": "0", "stabilizationWindowSeconds": 0,
                    "policies": [step("Percent", 100, 1)]},
            }),
            COURSE,
        ),
        case(
            "lopsided",
            12,
            json!({
                "scaleUp": {"tolerance": "0.3", "policies": [step("Percent", 40, 6), step("Pods", 1, 18)]},
                "scaleDown": {"tolerance": "50m", "stabilizationWindowSeconds": 0, "selectPolicy": "Min",
                    "policies": [step("Pods", 1, 7), step("Percent", 20, 30)]},
            }),
            COURSE,
        ),
        case(
            "one-way",
            12,
            json!({"scaleDown": {"selectPolicy": "Disabled"}, "scaleUp": {"stabilizationWindowSeconds": 22}}),
            COURSE,
        ),
        case("rivals-plain", 4, Value::Null, RIVALRY),
        case("rivals", 4, json!({"scaleDown": {"stabilizationWindowSeconds": 14}}), RIVALRY),
        case("rollout-plain", 10, Value::Null, ROLLOUT),
        case("rollout", 10, json!({"scaleDown": {"stabilizationWindowSeconds": 14}}), ROLLOUT),
    ]
}

/// What the metric of each Deployment is, and every answer that was given.
#[derive(Default)]
struct Script {
    now: BTreeMap<String, Option<u64>>,
    answers: BTreeMap<String, Vec<Option<u64>>>,
}

#[derive(Clone, Default)]
struct Served(Arc<Mutex<Script>>);

impl Values for Served {
    fn value(&self, namespace: &str, deployment: &str) -> Option<String> {
        if namespace != NAMESPACE {
            return Some("0".to_owned());
        }
        let mut script = self.0.lock();
        let value = script.now.get(deployment).copied().flatten();
        script.answers.entry(deployment.to_owned()).or_default().push(value);
        value.map(|milli| format!("{milli}m"))
    }
}

/// The ready pods of each Deployment as they changed.
type ReadyPods = BTreeMap<String, Vec<(Timestamp, i32)>>;

fn main() {
    support::bench::play(record());
}

async fn record() {
    let folder = tempfile::tempdir().expect("make a folder");
    let log = folder.path().join("audit.log");
    let policy = folder.path().join("audit-policy.json");
    std::fs::write(&policy, POLICY).expect("write the audit policy");
    let options = Options {
        hpa_sync_period: SYNC,
        apiserver_flags: vec![
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", log.display()),
        ],
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await;
    let _node = Node::start(plane.client(), NodeOptions::default());
    let served = Served::default();
    let _metrics = ExternalMetrics::start(&plane, served.clone()).await;
    let cases = cases();
    for case in &cases {
        let deployment = NewDeployment::new(NAMESPACE, case.name, case.replicas);
        deployment.pod_annotation(START_DELAY_MS, "3000").create(&plane.client()).await;
    }
    served.0.lock().now = cases.iter().map(|case| (case.name.to_owned(), Some(20_000))).collect();
    for case in &cases {
        plane.apply(&manifest(case).to_string()).await;
    }
    let ready = play(&plane.client(), &served, &cases).await;
    let mut lines = Vec::new();
    for case in &cases {
        let stored = plane.kubectl(&["get", "hpa", case.name, "-n", NAMESPACE, "-o", "json"]).await;
        let stored: Value = serde_json::from_str(&stored).expect("an HPA");
        lines.push(json!({"hpa": case.name, "spec": stored["spec"]}));
    }
    let answers = served.0.lock().answers.clone();
    lines.extend(syncs(&log, &answers, &ready));
    let text = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/hpa.jsonl");
    std::fs::write(path, text).expect("write the recording");
}

fn manifest(case: &Case) -> Value {
    let mut spec = case.spec.clone();
    spec["scaleTargetRef"] =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": case.name});
    spec["metrics"] = json!([{"type": "External", "external": {
        "metric": {"name": METRIC, "selector": {"matchLabels": {"app": case.name}}},
        "target": {"type": "AverageValue", "averageValue": "5"},
    }}]);
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": case.name, "namespace": NAMESPACE}, "spec": spec,
    })
}

/// Lets everything happen, and watches which pods are ready.
async fn play(client: &Client, served: &Served, cases: &[Case]) -> ReadyPods {
    let started = Instant::now();
    let mut ready = ReadyPods::new();
    let mut done: BTreeMap<&str, usize> = BTreeMap::new();
    while started.elapsed() < LENGTH {
        for case in cases {
            let deployment = DeploymentRef::new(client, NAMESPACE, case.name);
            let next = done.entry(case.name).or_default();
            while let Some((_, event)) =
                case.events.get(*next).filter(|(at, _)| started.elapsed().as_secs() >= *at)
            {
                happen(served, &deployment, case.name, *event).await;
                *next += 1;
            }
            let pods = deployment.ready_replicas().await.expect("read a Deployment");
            let seen = ready.entry(case.name.to_owned()).or_default();
            if seen.last().is_none_or(|&(_, before)| before != pods) {
                seen.push((SystemClock::new().wall(), pods));
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ready
}

async fn happen(served: &Served, deployment: &DeploymentRef, name: &str, event: Event) {
    match event {
        Metric(value) => {
            served.0.lock().now.insert(name.to_owned(), value);
        }
        Writes(replicas) => deployment.scale_to(replicas, "rival").await.expect("write replicas"),
        Rollout => {
            deployment.annotate_pods(NEVER_READY, Some("true")).await.expect("change the template");
        }
    }
}

/// A sync as far as the log has told of it.
struct Sync {
    at: Timestamp,
    replicas: i64,
    current: i64,
    metric: Option<u64>,
    asked: bool,
    wrote: Option<i64>,
}

/// The syncs of all HPAs by the audit log, in the order of time.
fn syncs(
    log: &Path,
    answers: &BTreeMap<String, Vec<Option<u64>>>,
    ready: &ReadyPods,
) -> Vec<Value> {
    let text = std::fs::read_to_string(log).expect("read the audit log");
    let mut open: BTreeMap<String, Sync> = BTreeMap::new();
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    let mut syncs: Vec<(String, Sync)> = Vec::new();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).expect("an audit event");
        let at: Timestamp = event["stageTimestamp"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("an audit event has a time");
        let what = (event["verb"].as_str(), event["objectRef"]["subresource"].as_str());
        let of_scale = event["objectRef"]["name"].as_str().unwrap_or_default().to_owned();
        match what {
            (Some("get"), Some("scale")) => {
                let scale = &event["responseObject"];
                let sync = Sync {
                    at,
                    replicas: scale["spec"]["replicas"].as_i64().unwrap_or(0),
                    current: scale["status"]["replicas"].as_i64().unwrap_or(0),
                    metric: None,
                    asked: false,
                    wrote: None,
                };
                let before = open.insert(of_scale.clone(), sync);
                syncs.extend(before.map(|sync| (of_scale, sync)));
            }
            (Some("update"), Some("scale")) if event["responseStatus"]["code"] == 200 => {
                if let Some(sync) = open.get_mut(&of_scale) {
                    sync.wrote = event["requestObject"]["spec"]["replicas"].as_i64().or(Some(0));
                }
            }
            _ => {
                let question = event["requestURI"].as_str().unwrap_or_default();
                let Some((_, name)) = question.rsplit_once("app%3D") else { continue };
                let number = asked.entry(name.to_owned()).or_default();
                if let Some(sync) = open.get_mut(name) {
                    sync.asked = true;
                    sync.metric = answers[name][*number];
                    sync.at = at;
                }
                *number += 1;
            }
        }
    }
    syncs.sort_by_key(|(_, sync)| sync.at);
    let start = syncs.first().map_or(Timestamp::UNIX_EPOCH, |(_, sync)| sync.at);
    let line = |(name, sync): (String, Sync)| {
        let seen = ready.get(&name).into_iter().flatten();
        let ready = seen.take_while(|(at, _)| *at <= sync.at).last().map_or(0, |&(_, pods)| pods);
        json!({
            "hpa": name, "at_ms": sync.at.as_millisecond() - start.as_millisecond(),
            "replicas": sync.replicas, "current": sync.current, "ready": ready,
            "asked": sync.asked, "metric_milli": sync.metric,
            "desired": sync.wrote.unwrap_or(sync.replicas),
        })
    };
    syncs.into_iter().map(line).collect()
}
