//! Knative's own autoscaler: what it needs of Knative around it, and its two processes.
//!
//! What is played: the `PodAutoscaler` that a Revision would own, and the status of the
//! `ServerlessService`, which tells the autoscaler that there are services and endpoints. The activator is
//! out of the requests' path (`target-burst-capacity: 0`), so all statistics come from the pods, and none of
//! its client's limit is spent on moving the activator in and out.

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::binaries;
use crate::support::controlplane::ControlPlane;
use crate::support::deployment::{NewDeployment, ensure_namespace};
use crate::support::process::Process;
use crate::support::wait::eventually;

/// Where its configuration is.
const SYSTEM: &str = "knative-serving";
/// The name under which its requests reach the API server, which is that of the program.
pub(crate) const AGENT: &str = "knative-autoscaler";
/// Its limit as shipped: requests a second, and how many at once.
const SHIPPED: (u32, u32) = (10, 20);
/// A limit that it does not feel.
const RAISED: (u32, u32) = (1000, 2000);

/// What all of its processes need; once for a cluster.
pub(crate) async fn prepare(plane: &ControlPlane) {
    ensure_namespace(&plane.client(), SYSTEM).await;
    let kinds = [
        ("autoscaling", "PodAutoscaler", "podautoscalers"),
        ("autoscaling", "Metric", "metrics"),
        ("networking", "ServerlessService", "serverlessservices"),
    ];
    let mut items: Vec<_> =
        kinds.map(|(group, kind, plural)| definition(group, kind, plural)).into();
    let config = |name: &str, data: Value| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": SYSTEM}, "data": data})
    };
    items.push(config("config-autoscaler", json!({})));
    items.push(config("config-network", json!({})));
    items.push(config("config-deployment", json!({"queue-sidecar-image": "example.com/queue:1"})));
    plane.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()).await;
    let names =
        kinds.map(|(group, _, plural)| format!("crd/{plural}.{group}.internal.knative.dev"));
    let mut arguments = vec!["wait", "--for=condition=Established", "--timeout=60s"];
    arguments.extend(names.iter().map(String::as_str));
    plane.kubectl(&arguments).await;
}

/// A kind of Knative's, without its schema.
fn definition(group: &str, kind: &str, plural: &str) -> Value {
    let group = format!("{group}.internal.knative.dev");
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema":
                    {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}

/// A process of the autoscaler that looks after one namespace. The fields are dropped in order.
pub(crate) struct Knative {
    process: Process,
    answering: JoinHandle<()>,
    kubeconfig: PathBuf,
    namespace: &'static str,
    is_raised: bool,
}

impl Drop for Knative {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

impl Knative {
    /// Starts one, at first without a limit that it feels.
    pub(crate) async fn start(
        plane: &ControlPlane,
        namespace: &'static str,
        is_raised: bool,
    ) -> Self {
        ensure_namespace(&plane.client(), namespace).await;
        let kubeconfig = plane.kubeconfig();
        let answering = tokio::spawn(answer_services(plane.client(), namespace));
        let process = spawn(&kubeconfig, namespace, RAISED);
        let mut this = Self { process, answering, kubeconfig, namespace, is_raised };
        this.wait_until_it_runs().await;
        this
    }

    /// Lifts its limit, so that thousands of new objects do not take minutes.
    pub(crate) async fn hurry(&mut self) {
        self.restart(RAISED).await;
    }

    /// Gives it the limit that is to be measured.
    pub(crate) async fn slow_down(&mut self) {
        self.restart(SHIPPED).await;
    }

    /// One that keeps its raised limit is left alone, with all that it has seen.
    async fn restart(&mut self, limit: (u32, u32)) {
        if !self.is_raised {
            self.process.kill();
            self.process = spawn(&self.kubeconfig, self.namespace, limit);
            self.wait_until_it_runs().await;
        }
    }

    async fn wait_until_it_runs(&mut self) {
        let process = &mut self.process;
        eventually(Duration::from_secs(120), "Knative's autoscaler runs", || {
            let ended = process.ended();
            assert!(ended.is_none(), "{AGENT} ended: {ended:?}\n{}", process.log_tail(4000));
            let log = std::fs::read_to_string(process.log_path()).unwrap_or_default();
            async move { if log.contains("the autoscaler runs") { Ok(()) } else { Err(log) } }
        })
        .await;
    }
}

fn spawn(kubeconfig: &std::path::Path, namespace: &str, (qps, burst): (u32, u32)) -> Process {
    let arguments = [
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--watch-namespace={namespace}"),
        format!("--qps={qps}"),
        format!("--burst={burst}"),
    ];
    let environment = [("SYSTEM_NAMESPACE", SYSTEM.to_owned())];
    let log = kubeconfig.with_file_name(format!("{namespace}.log"));
    let _ = std::fs::remove_file(&log);
    Process::start(AGENT, &binaries::path(AGENT), &arguments, &environment, &log)
}

/// The Deployment with the labels by which Knative knows the pods of a Revision.
pub(crate) fn with_labels(new: NewDeployment) -> NewDeployment {
    let name = new.name.clone();
    new.pod_label("serving.knative.dev/revision", &name)
        .pod_label("serving.knative.dev/revisionUID", &name)
}

/// The `PodAutoscaler` of a Deployment.
pub(crate) async fn create_autoscaler(
    client: &Client,
    namespace: &str,
    name: &str,
    annotations: Value,
) {
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "autoscaling.internal.knative.dev/v1alpha1", "kind": "PodAutoscaler",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations, "labels": {
            "serving.knative.dev/revision": name,
            "serving.knative.dev/configuration": name,
            "serving.knative.dev/service": name,
        }},
        "spec": {
            "protocolType": "http1", "reachability": "Reachable",
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        },
    }))
    .expect("a PodAutoscaler");
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &kind("autoscaling", "PodAutoscaler"));
    api.create(&kube::api::PostParams::default(), &object).await.expect("create a PodAutoscaler");
}

fn kind(group: &str, kind: &str) -> ApiResource {
    let group = format!("{group}.internal.knative.dev");
    ApiResource::from_gvk(&GroupVersionKind::gvk(&group, "v1alpha1", kind))
}

/// Says of every `ServerlessService` that what it asks for is there.
async fn answer_services(client: Client, namespace: &'static str) {
    let kind = kind("networking", "ServerlessService");
    let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &kind);
    let mut events = std::pin::pin!(watcher(api.clone(), watcher::Config::default()));
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(object) | Event::InitApply(object)) = event else { continue };
        let generation = object.metadata.generation.unwrap_or(0);
        if object.data["status"]["observedGeneration"] == json!(generation) {
            continue;
        }
        let name = object.name_any();
        let status = json!({"status": {
            "observedGeneration": generation,
            "serviceName": name,
            "privateServiceName": format!("{name}-private"),
            "conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "EndpointsPopulated", "status": "True"},
            ],
        }});
        let (api, parameters) = (api.clone(), PatchParams::default());
        tokio::spawn(async move {
            // One that vanished meanwhile needs no answer.
            let _ = api.patch_status(&name, &parameters, &Patch::Merge(status)).await;
        });
    }
}
