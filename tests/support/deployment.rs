//! Deployments for tests, and their scale.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::json;

use super::wait::until;

/// The writer's name that shows in `managedFields`.
const FIELD_MANAGER: &str = "podswell-test";

/// A Deployment to be made; [`Self::create`] makes it.
#[derive(Debug, Clone)]
pub(crate) struct NewDeployment {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) replicas: i32,
    /// On the Deployment itself.
    pub(crate) annotations: BTreeMap<String, String>,
    /// On its pods, as the node player's settings.
    pub(crate) pod_annotations: BTreeMap<String, String>,
    /// On its pods, beside `app` with its name.
    pub(crate) pod_labels: BTreeMap<String, String>,
    /// Container ports by name.
    pub(crate) ports: Vec<(String, u16)>,
}

impl NewDeployment {
    /// One without annotations, with the ports `http` (8080) and `queue-metrics` (9090).
    pub(crate) fn new(namespace: &str, name: &str, replicas: i32) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            replicas,
            annotations: BTreeMap::new(),
            pod_annotations: BTreeMap::new(),
            pod_labels: BTreeMap::new(),
            ports: vec![("http".to_owned(), 8080), ("queue-metrics".to_owned(), 9090)],
        }
    }

    /// With an annotation on the Deployment.
    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With an annotation on its pods.
    pub(crate) fn pod_annotation(mut self, key: &str, value: &str) -> Self {
        self.pod_annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With a label on its pods.
    pub(crate) fn pod_label(mut self, key: &str, value: &str) -> Self {
        self.pod_labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Managed by podswell, which reads each pod's page: ten requests in flight a pod, of which 70 % are
    /// aimed at, over a window of twelve seconds.
    pub(crate) fn managed(self) -> Self {
        self.annotation("autoscaling.knative.dev/class", "kpa.podswell.dev")
            .annotation("autoscaling.knative.dev/target", "10")
            .annotation("autoscaling.knative.dev/window", "12s")
            .annotation(
                "podswell.dev/scrape",
                r#"{"port":8080,"path":"/metrics","inFlight":"app_requests_in_flight"}"#,
            )
    }

    /// The object itself.
    pub(crate) fn object(&self) -> Deployment {
        let ports: Vec<_> = self
            .ports
            .iter()
            .map(|(name, port)| json!({ "name": name, "containerPort": port }))
            .collect();
        let labels = json!({ "app": self.name });
        let mut pod_labels = self.pod_labels.clone();
        pod_labels.insert("app".to_owned(), self.name.clone());
        serde_json::from_value(json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": self.name, "annotations": self.annotations, "labels": labels },
            "spec": {
                "replicas": self.replicas,
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": pod_labels, "annotations": self.pod_annotations },
                    "spec": {
                        "terminationGracePeriodSeconds": 30,
                        "containers": [{ "name": "app", "image": "example.com/app:1", "ports": ports }],
                    },
                },
            },
        }))
        .expect("a valid Deployment")
    }

    /// Makes it, and its namespace where that is missing.
    pub(crate) async fn create(&self, client: &Client) -> Deployment {
        ensure_namespace(client, &self.namespace).await;
        let parameters =
            PostParams { field_manager: Some(FIELD_MANAGER.into()), ..Default::default() };
        Api::namespaced(client.clone(), &self.namespace)
            .create(&parameters, &self.object())
            .await
            .unwrap_or_else(|error| panic!("create {}/{}: {error}", self.namespace, self.name))
    }
}

/// The manifest of an HPA `by-cpu` on a Deployment, which never gets its metric.
pub(crate) fn hpa_by_cpu(namespace: &str, deployment: &str) -> String {
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "by-cpu", "namespace": namespace },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": deployment },
            "minReplicas": 1,
            "maxReplicas": 9,
            "metrics": [{
                "type": "Resource",
                "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 50 } },
            }],
        },
    })
    .to_string()
}

/// Makes a namespace, if it is not there.
pub(crate) async fn ensure_namespace(client: &Client, name: &str) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(name.to_owned());
    match namespaces.create(&PostParams::default(), &namespace).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => panic!("create namespace {name}: {error}"),
    }
}

/// A Deployment of the cluster, to read and change.
#[derive(Debug, Clone)]
pub(crate) struct DeploymentRef {
    api: Api<Deployment>,
    name: String,
}

impl DeploymentRef {
    pub(crate) fn new(client: &Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client.clone(), namespace), name: name.to_owned() }
    }

    /// The object.
    pub(crate) async fn get(&self) -> kube::Result<Deployment> {
        self.api.get(&self.name).await
    }

    /// `spec.replicas`, read through the scale subresource.
    pub(crate) async fn replicas(&self) -> kube::Result<i32> {
        let scale = self.api.get_scale(&self.name).await?;
        Ok(scale.spec.and_then(|spec| spec.replicas).unwrap_or(0))
    }

    /// The reasons of the Kubernetes Events that regard an object of its namespace with its name; none where
    /// the API server does not answer.
    pub(crate) async fn event_reasons(&self) -> Vec<String> {
        let namespace = self.api.namespace().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(self.api.clone().into_client(), namespace);
        let regarding = ListParams::default().fields(&format!("regarding.name={}", self.name));
        let events = events.list(&regarding).await.map(|list| list.items).unwrap_or_default();
        events.into_iter().filter_map(|event| event.reason).collect()
    }

    /// Notes the fewest replicas that the API server tells of, from now on, as long as somebody holds the
    /// number.
    pub(crate) fn watch_the_fewest(&self) -> Arc<AtomicI32> {
        let (fewest, deployment) = (Arc::new(AtomicI32::new(i32::MAX)), self.clone());
        let noted = Arc::downgrade(&fewest);
        tokio::spawn(async move {
            while let Some(noted) = noted.upgrade() {
                if let Ok(replicas) = deployment.replicas().await {
                    noted.fetch_min(replicas, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        fewest
    }

    /// Notes each number of replicas that it has from now on, in their order: a watch tells also of those that
    /// stood only between two looks.
    pub(crate) async fn note_replicas(&self) -> Arc<Mutex<Vec<i32>>> {
        const LIMIT: Duration = Duration::from_secs(60);
        let notes = Arc::<Mutex<Vec<i32>>>::default();
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        let changes = watcher(self.api.clone(), config).default_backoff().applied_objects();
        let noted = Arc::downgrade(&notes);
        tokio::spawn(async move {
            let mut changes = std::pin::pin!(changes);
            while let (Some(change), Some(noted)) = (changes.next().await, noted.upgrade()) {
                let replicas = change.ok().and_then(|deployment| deployment.spec?.replicas);
                let mut noted = noted.lock();
                if let Some(replicas) = replicas.filter(|replicas| noted.last() != Some(replicas)) {
                    noted.push(replicas);
                }
            }
        });
        until(LIMIT, "it is watched", |any| *any, || async { !notes.lock().is_empty() }).await;
        notes
    }

    /// `status.readyReplicas`.
    pub(crate) async fn ready_replicas(&self) -> kube::Result<i32> {
        let status = self.get().await?.status.unwrap_or_default();
        Ok(status.ready_replicas.unwrap_or(0))
    }

    /// Sets `spec.replicas` through the scale subresource, as any other writer would.
    pub(crate) async fn scale_to(&self, replicas: i32, field_manager: &str) -> kube::Result<()> {
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let parameters =
            PatchParams { field_manager: Some(field_manager.into()), ..Default::default() };
        self.api.patch_scale(&self.name, &parameters, &patch).await.map(drop)
    }

    /// Sets (`Some`) or removes (`None`) an annotation of the Deployment.
    pub(crate) async fn annotate(&self, key: &str, value: Option<&str>) -> kube::Result<()> {
        self.merge(&json!({ "metadata": { "annotations": { key: value } } })).await
    }

    /// Changes the pod template, which starts a rollout.
    pub(crate) async fn annotate_pods(&self, key: &str, value: Option<&str>) -> kube::Result<()> {
        let template = json!({ "metadata": { "annotations": { key: value } } });
        self.merge(&json!({ "spec": { "template": template } })).await
    }

    /// Applies a merge patch.
    pub(crate) async fn merge(&self, patch: &serde_json::Value) -> kube::Result<()> {
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..Default::default() };
        self.api.patch(&self.name, &parameters, &Patch::Merge(patch)).await.map(drop)
    }

    /// Deletes it; its pods follow.
    pub(crate) async fn delete(&self) -> kube::Result<()> {
        self.api.delete(&self.name, &DeleteParams::background()).await.map(drop)
    }
}
