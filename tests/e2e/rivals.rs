//! Who else writes replicas, and people who pause: a tool that applies its manifest each second, KEDA's
//! objects that come and go with KEDA itself, pauses with and without an end, the freeze of everything.

use std::time::Duration;

use jiff::ToSpan as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use podswell::runtime::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::controlplane::{ControlPlane, Options};
use crate::support::deployment::{DeploymentRef, NewDeployment};
use crate::support::load::{Level, Load, LoadOptions};
use crate::support::node::{Node, NodeOptions};
use crate::support::podswell::Podswell;
use crate::support::wait::{always_for, eventually, settles, until};
use crate::tools::{self, NAMESPACE};

/// How long a state may take to come: generous, the machine may be busy.
const LIMIT: Duration = Duration::from_secs(180);
/// Longer than the window of these workloads.
const CALM: Duration = Duration::from_secs(10);
/// Requests in flight that ask for five pods of seven each, with room on both sides.
const FIVE_PODS: usize = 31;
const INSTALL: &str = include_str!("../../deploy/install.yaml");
const ARGO: &str = "argocd-controller";
const PAUSED_UNTIL: &str = "podswell.dev/paused-until";
const MODE: &str = "podswell.dev/mode";

struct Scene {
    plane: ControlPlane,
    node: Node,
    podswell: Podswell,
}

struct Workload<'a> {
    scene: &'a Scene,
    name: &'static str,
    deployment: DeploymentRef,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_writers_are_named_and_people_have_the_last_word() {
    let plane = ControlPlane::start(Options::default()).await;
    let options = NodeOptions {
        start_delay: Duration::from_millis(200),
        termination: Duration::from_millis(200),
        ..NodeOptions::default()
    };
    let node = Node::start(plane.client(), options);
    plane.apply(INSTALL).await;
    let kubeconfig = plane.kubeconfig_for_service_account("podswell-system", "podswell").await;
    let podswell = Podswell::start(plane.folder(), &kubeconfig, &[]).await;
    let scene = Scene { plane, node, podswell };
    tokio::join!(
        a_tool_that_takes_replicas_back(&scene),
        scaled_objects_come_and_go_with_keda(&scene),
        a_pause_ends_by_itself(&scene),
        zero_by_hand_is_a_pause(&scene),
    );
    a_freeze_stops_every_write(&scene).await;
}

impl Scene {
    async fn workload(&self, name: &'static str, replicas: i32) -> Workload<'_> {
        let client = self.plane.client();
        NewDeployment::new(NAMESPACE, name, replicas)
            .annotation("autoscaling.knative.dev/class", "kpa.podswell.dev")
            .annotation("autoscaling.knative.dev/target", "10")
            .annotation("autoscaling.knative.dev/window", "6s")
            .annotation(
                "podswell.dev/scrape",
                r#"{"port":8080,"path":"/metrics","inFlight":"app_requests_in_flight"}"#,
            )
            .create(&client)
            .await;
        let deployment = DeploymentRef::new(&client, NAMESPACE, name);
        Workload { scene: self, name, deployment }
    }
}

impl Workload<'_> {
    fn load(&self, level: Level) -> Load {
        Load::start(self.scene.node.table(), LoadOptions::new(NAMESPACE, self.name), level)
    }

    /// What the API server says, as soon as it does.
    async fn replicas(&self) -> i32 {
        eventually(LIMIT, "the API server answers", || self.deployment.replicas()).await
    }

    async fn reaches(&self, replicas: i32) {
        let what = format!("{} has {replicas} replicas", self.name);
        until(LIMIT, &what, |seen| *seen == replicas, || self.replicas()).await;
    }

    async fn settles(&self, replicas: i32) {
        settles(LIMIT, CALM, self.name, replicas, || self.replicas()).await;
    }

    async fn stays(&self, replicas: i32, span: Duration) {
        let what = format!("{} keeps {replicas} replicas", self.name);
        self.holds(span, &what, |seen| seen == replicas).await;
    }

    async fn holds(&self, span: Duration, what: &str, good: impl Fn(i32) -> bool) {
        always_for(span, what, || async {
            let seen = self.replicas().await;
            let explain = || self.scene.podswell.explain(NAMESPACE, self.name);
            if good(seen) { Ok(()) } else { Err(format!("{seen}: {}", explain())) }
        })
        .await;
    }

    async fn status(&self) -> Value {
        self.scene.podswell.target(NAMESPACE, self.name).await
    }

    async fn says(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{}: {what}", self.name);
        until(LIMIT, &what, |status: &Value| wanted(status), || self.status()).await
    }

    async fn is_gated(&self, gate: &str) -> Value {
        self.says(gate, |status| status["decision"]["gate"] == gate).await
    }

    async fn annotate(&self, key: &str, value: Option<&str>) {
        self.deployment.annotate(key, value).await.expect("annotate");
    }
}

/// Applies a manifest each second as Argo CD and Flux do, with these replicas or with none.
struct Tool {
    stop: CancellationToken,
    applying: JoinHandle<()>,
}

impl Tool {
    fn start(scene: &Scene, name: &'static str, replicas: Option<i32>) -> Self {
        let api: Api<Deployment> = Api::namespaced(scene.plane.client(), NAMESPACE);
        let mut manifest = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "labels": {"applied-by": "a-tool"}}, "spec": {},
        });
        if let Some(replicas) = replicas {
            manifest["spec"]["replicas"] = replicas.into();
        }
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let applying = tokio::spawn(async move {
            let parameters = PatchParams::apply(ARGO).force();
            while !stopped.is_cancelled() {
                // While the API server is busy an attempt may fail; the next one follows.
                let _ = api.patch(name, &parameters, &Patch::Apply(&manifest)).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Self { stop, applying }
    }

    /// After this it applies nothing any more.
    async fn end(mut self) {
        self.stop.cancel();
        (&mut self.applying).await.expect("the tool ends");
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn a_tool_that_takes_replicas_back(scene: &Scene) {
    let workload = scene.workload("reverted", 2).await;
    let tool = Tool::start(scene, "reverted", Some(2));
    let load = workload.load(Level::Held(FIVE_PODS));
    let status = workload.says("names the tool", |status| !status["contest"].is_null()).await;
    assert_eq!(status["contest"]["manager"], ARGO, "{status}");
    workload.is_gated("Contested").await;
    let explained = scene.podswell.explain(NAMESPACE, "reverted");
    for part in [ARGO, "podswell gitops --for argocd deploy/reverted -n shop"] {
        assert!(explained.contains(part), "{explained}");
    }
    let metrics = scene.podswell.metrics().await;
    let counted = metrics.lines().find(|line| line.starts_with("podswell_contested{"));
    assert!(counted.is_some_and(|line| line.contains(ARGO)), "{counted:?}");
    let events =
        ["get", "events.events.k8s.io", "-n", NAMESPACE, "-o", "jsonpath={.items[*].note}"];
    eventually(LIMIT, "an Event names the tool", || async {
        let notes = scene.plane.kubectl(&events).await;
        let heard = notes.contains(ARGO) && notes.contains("podswell gitops");
        if heard || scene.podswell.left_events_out().await { Ok(()) } else { Err(notes) }
    })
    .await;

    // The cure, as it is printed: the field changes hands, then the tool leaves it out.
    tool.end().await;
    tools::hand_over(&scene.plane, "reverted").await;
    let _tool = Tool::start(scene, "reverted", None);
    workload.reaches(5).await;
    load.set(Level::Held(3));
    workload.is_gated("Contested").await;
    // While the load moved to new pods it may have asked for more than five.
    workload.holds(CALM, "nothing is lowered while it is contested", |seen| seen >= 5).await;
    // Whoever has mended it says so.
    workload.annotate(MODE, Some("paused")).await;
    workload.is_gated("Paused").await;
    workload.annotate(MODE, None).await;
    workload.reaches(1).await;
}

/// The least that makes the API server serve `ScaledObjects`.
fn keda_crd() -> String {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "scaledobjects.keda.sh"},
        "spec": {
            "group": "keda.sh",
            "scope": "Namespaced",
            "names": {"plural": "scaledobjects", "singular": "scaledobject",
                "kind": "ScaledObject", "listKind": "ScaledObjectList"},
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object",
                    "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
    .to_string()
}

async fn scaled_objects_come_and_go_with_keda(scene: &Scene) {
    let workload = scene.workload("keda", 1).await;
    workload.says("decides", |status| status["decision"]["bounded"] == 1).await;
    let ready = scene.podswell.log_tail(1 << 20);
    assert!(!ready.contains("scaledobjects"), "a cluster without KEDA is nothing to log: {ready}");
    scene.plane.apply(&keda_crd()).await;
    let crd = "crd/scaledobjects.keda.sh";
    scene.plane.kubectl(&["wait", "--for=condition=Established", crd, "--timeout=180s"]).await;
    let object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": {"name": "by-cron", "namespace": NAMESPACE},
        "spec": {"scaleTargetRef": {"name": "keda"}, "triggers": [{"type": "cron", "metadata": {}}]},
    })
    .to_string();
    // The API server may need a moment more until it tells kubectl of the kind.
    eventually(LIMIT, "a ScaledObject is taken", || async {
        let apply = ["apply", "--server-side", "-f", "-"];
        let output = scene.plane.try_kubectl(&apply, &object).await;
        let why = || String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(why()) }
    })
    .await;
    let status = workload.is_gated("Rival").await;
    assert_eq!(
        status["rivals"],
        json!([
            {"kind": "ScaledObject", "name": "by-cron", "follows": false}
        ])
    );
    scene.plane.kubectl(&["delete", "scaledobject", "by-cron", "-n", NAMESPACE]).await;
    workload.says("is alone", |status| status["decision"]["gate"].is_null()).await;
    scene.plane.apply(&object).await;
    workload.is_gated("Rival").await;
    // KEDA is taken away with all its objects.
    scene.plane.kubectl(&["delete", crd]).await;
    workload.says("is alone", |status| status["decision"]["gate"].is_null()).await;
}

async fn a_pause_ends_by_itself(scene: &Scene) {
    let workload = scene.workload("later", 1).await;
    let until = SystemClock::new().wall().checked_add(45.seconds()).expect("a time");
    workload.annotate(PAUSED_UNTIL, Some(&until.to_string())).await;
    workload.is_gated("Paused").await;
    let _load = workload.load(Level::Held(FIVE_PODS));
    workload.says("would want five", |status| status["decision"]["bounded"] == 5).await;
    let replicas = workload.replicas().await;
    let explained = scene.podswell.explain(NAMESPACE, "later");
    let as_told = replicas == 1 && explained.contains("paused until");
    assert!(as_told || SystemClock::new().wall() >= until, "{replicas}: {explained}");
    workload.reaches(5).await;
    assert!(SystemClock::new().wall() >= until, "not before its end");
}

async fn zero_by_hand_is_a_pause(scene: &Scene) {
    let workload = scene.workload("zero", 2).await;
    workload.says("decides", |status| status["decision"]["bounded"].is_number()).await;
    workload.deployment.scale_to(0, "kubectl").await.expect("scale to zero");
    workload.is_gated("ManualZero").await;
    workload.stays(0, CALM).await;
    workload.deployment.scale_to(1, "kubectl").await.expect("scale to one");
    let _load = workload.load(Level::Held(FIVE_PODS));
    workload.reaches(5).await;
}

/// With the command of docs/operations.md: neither way is anything written until the freeze ends, and what
/// would be wanted can be read meanwhile.
async fn a_freeze_stops_every_write(scene: &Scene) {
    let busy = scene.workload("busy", 2).await;
    let calm = scene.workload("calm", 5).await;
    let falling = calm.load(Level::Held(FIVE_PODS));
    let rising = busy.load(Level::Held(13));
    for (workload, wanted) in [(&busy, 2), (&calm, 5)] {
        workload
            .says("decides", |status| {
                status["decision"]["bounded"] == wanted && status["decision"]["gate"].is_null()
            })
            .await;
    }
    tokio::join!(busy.settles(2), calm.settles(5));
    let patch = async |freeze: &str| {
        let data = format!(r#"{{"data":{{"freeze":{freeze}}}}}"#);
        let map = ["-n", "podswell-system", "patch", "configmap", "podswell", "--type", "merge"];
        scene.plane.kubectl(&[&map[..], &["-p", &data]].concat()).await;
    };
    patch(r#""true""#).await;
    for workload in [&busy, &calm] {
        workload.is_gated("Paused").await;
    }
    rising.set(Level::Held(FIVE_PODS));
    falling.set(Level::Held(13));
    for (workload, wanted) in [(&busy, 5), (&calm, 2)] {
        workload.says("would write", |status| status["decision"]["bounded"] == wanted).await;
    }
    tokio::join!(busy.stays(2, CALM), calm.stays(5, CALM));
    patch("null").await;
    tokio::join!(busy.reaches(5), calm.reaches(2));
}
