//! The tools beside the controller, against a real API server: the checks with real rights, and the
//! hand-over of `spec.replicas` that `podswell gitops` prints.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::binaries;
use crate::support::controlplane::{self, ControlPlane, Options};
use crate::support::deployment::{DeploymentRef, NewDeployment};
use crate::support::wait::eventually;

pub(crate) const NAMESPACE: &str = "shop";
const SYSTEM: &str = "podswell-system";
/// How long a state may take to come: generous, the machine may be busy.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tools_tell_the_truth_about_a_real_cluster() {
    let plane = ControlPlane::start(Options::default()).await;
    let (code, before) = check(&plane.kubeconfig(), &["--pre"]).await;
    assert_eq!(code, 0, "{before}");
    plane.apply(&manifests()).await;
    let kubeconfig = plane.kubeconfig_for_service_account(SYSTEM, "podswell").await;
    // Only the controller is missing here.
    ends_with(2, &["controller", "lease"], &kubeconfig, &[]).await;
    let asked = ["--service-account", "podswell"];
    ends_with(2, &["controller", "lease"], &plane.kubeconfig(), &asked).await;
    a_lost_right_is_named(&plane, &kubeconfig).await;
    a_source_that_nobody_serves_is_named(&plane, &kubeconfig).await;
    workloads_are_looked_at(&plane, &kubeconfig).await;
    a_handed_over_field_outlives_its_manifest(&plane).await;
}

/// The manifests without the controller itself, which no node here would run.
fn manifests() -> String {
    let text = include_str!("../../deploy/install.yaml");
    let parts = text.split("\n---\n").filter(|part| !part.contains("\nkind: Deployment\n"));
    parts.collect::<Vec<_>>().join("\n---\n")
}

async fn check(kubeconfig: &Path, more: &[&str]) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podswell"));
    command.args(["check", "-o", "json", "--timeout", "60", "--kubeconfig"]);
    command.arg(kubeconfig).args(more).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("the task ends").expect("run podswell check");
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    (output.status.code().expect("an exit code"), document)
}

/// Waits until the check ends with this code and names these, if it is about certain ones, and returns its report:
/// rights that changed a moment ago are told by a cache of the API server.
async fn ends_with(code: i32, names: &[&str], kubeconfig: &Path, more: &[&str]) -> Value {
    eventually(LIMIT, &format!("{names:?} are wrong"), || async {
        let (seen, report) = check(kubeconfig, more).await;
        let right = seen == code && (names.is_empty() || wrong(&report) == names);
        if right { Ok(report) } else { Err((seen, report)) }
    })
    .await
}

/// The checks that did not succeed. Each of them says what to try first, and where more is to be read.
fn failed(report: &Value) -> Vec<Value> {
    let categories = report["categories"].as_array().expect("categories");
    let checks =
        categories.iter().flat_map(|category| category["checks"].as_array().expect("checks"));
    let failed: Vec<_> = checks.filter(|check| check["result"] != "success").cloned().collect();
    for check in &failed {
        let anchor = format!("(docs/checks.md#{})", check["name"].as_str().expect("a name"));
        let hint = check["hint"].as_str().expect("a hint");
        assert!(hint.strip_suffix(&anchor).is_some_and(|first| first.len() > 10), "{check}");
        assert!(check["error"].as_str().is_some_and(|why| !why.is_empty()), "{check}");
    }
    failed
}

/// The names of [`failed`].
fn wrong(report: &Value) -> Vec<String> {
    let names = failed(report).into_iter().map(|check| check["name"].clone());
    names.map(|name| name.as_str().expect("a name").to_owned()).collect()
}

/// A source at a port that nobody listens at.
async fn a_source_that_nobody_serves_is_named(plane: &ControlPlane, kubeconfig: &Path) {
    let definition = "server: { url: \"http://127.0.0.1:1\" }\nkind: backlog\nselector: jobs\n\
        form: gauge\ninterval: 1s\nmatch: { namespace: namespace, workload: deployment }\n";
    let sources = [("podswell-sources", json!({ "gone": definition }))];
    plane.apply(&controlplane::config_maps(sources)).await;
    let (code, report) = check(kubeconfig, &[]).await;
    assert_eq!(code, 1, "{report}");
    let failed = failed(&report);
    let [source] = failed.iter().filter(|check| check["result"] == "error").collect::<Vec<_>>()[..]
    else {
        panic!("one check fails: {report}")
    };
    assert_eq!(source["name"], "source-answers", "{source}");
    let text = source.to_string();
    assert!(text.contains("gone") && text.contains("Unreachable"), "{source}");
    // Where only podswell's pod reaches the server, it is left away.
    assert_eq!(check(kubeconfig, &["--no-sources"]).await.0, 2);
    plane.kubectl(&["delete", "configmap", "podswell-sources", "-n", SYSTEM]).await;
}

async fn a_lost_right_is_named(plane: &ControlPlane, kubeconfig: &Path) {
    let patch =
        r#"{"rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]}]}"#;
    plane.kubectl(&["patch", "clusterrole", "podswell", "--type=merge", "-p", patch]).await;
    let report = ends_with(1, &[], kubeconfig, &[]).await;
    let text = report.to_string();
    assert!(text.contains("may get, patch deployments/scale.apps in the cluster"), "{text}");
    assert!(text.contains("refused: get, watch"), "{text}");
    assert!(text.contains("apply what podswell rbac prints (docs/checks.md#rights)"), "{text}");
    plane
        .kubectl_with_input(
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
            &manifests(),
        )
        .await;
    ends_with(2, &[], kubeconfig, &[]).await;
}

async fn workloads_are_looked_at(plane: &ControlPlane, kubeconfig: &Path) {
    NewDeployment::new(NAMESPACE, "web", 2)
        .annotation("autoscaling.knative.dev/class", "kpa.podswell.dev")
        .annotation("autoscaling.knative.dev/max-scal", "5")
        .create(&plane.client())
        .await;
    plane.kubectl(&["-n", NAMESPACE, "autoscale", "deploy/web", "--max=3"]).await;
    let names = ["controller", "lease", "workloads", "rivals", "field-owners"];
    let report = ends_with(2, &names, kubeconfig, &[]).await;
    let text = report.to_string();
    assert!(text.contains("shop/web: HorizontalPodAutoscaler web"), "{text}");
    assert!(text.contains("did you mean autoscaling.knative.dev/max-scale?"), "{text}");
}

/// What the recipe does and what it saves from: a field that is dropped by its only owner falls to 1.
async fn a_handed_over_field_outlives_its_manifest(plane: &ControlPlane) {
    for (name, handed_over, expected) in [("safe", true, 5), ("unsafe", false, 1)] {
        apply(plane, name, "flux", Some(5)).await;
        if handed_over {
            hand_over(plane, name).await;
        }
        apply(plane, name, "flux", None).await;
        let deployment = DeploymentRef::new(&plane.client(), NAMESPACE, name);
        assert_eq!(deployment.replicas().await.expect("read replicas"), expected, "{name}");
    }
}

/// Runs the first step as `podswell gitops` prints it.
pub(crate) async fn hand_over(plane: &ControlPlane, name: &str) {
    let mut gitops = Command::new(env!("CARGO_BIN_EXE_podswell"));
    gitops.args(["gitops", "--for", "flux", name, "-n", NAMESPACE]);
    let recipe = String::from_utf8(gitops.output().expect("run podswell gitops").stdout);
    let recipe = recipe.expect("text");
    let step = recipe.lines().skip_while(|line| !line.starts_with("# 1. ")).skip(1);
    let step: Vec<_> = step
        .take_while(|line| line.starts_with("#      "))
        .map(|line| line.trim_start_matches('#'))
        .collect();
    assert!(step.len() >= 3, "{recipe}");
    let script = format!("kubectl() {{ \"$KUBECTL\" kubectl \"$@\"; }}\n{}\n", step.join("\n"));
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", &script]).stdin(Stdio::null());
    shell.env("KUBECONFIG", plane.kubeconfig()).env("HOME", plane.folder());
    shell.env("KUBECTL", binaries::path("controlplane"));
    let output = tokio::task::spawn_blocking(move || shell.output()).await;
    let output = output.expect("the task ends").expect("run a shell");
    assert!(output.status.success(), "{script}{}", String::from_utf8_lossy(&output.stderr));
}

/// Applies a Deployment on the server's side, as a tool would.
async fn apply(plane: &ControlPlane, name: &str, manager: &str, replicas: Option<i32>) {
    let mut manifest = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app", "image": "example.com/app:1"}]},
            },
        },
    });
    if let Some(replicas) = replicas {
        manifest["spec"]["replicas"] = replicas.into();
    }
    let manager = format!("--field-manager={manager}");
    plane
        .kubectl_with_input(&["apply", "--server-side", &manager, "-f", "-"], &manifest.to_string())
        .await;
}
