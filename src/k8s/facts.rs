//! The few facts that are kept of each Kubernetes object.
//!
//! A cluster holds far more than an autoscaler may keep in memory, so every object becomes one of these
//! the moment it is read: conversion happens here and nowhere else. A field that the API server would
//! never leave out but a broken object does makes the object unusable, not the process: the conversion
//! returns `None` and the watch skips it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    ManagedFieldsEntry, ObjectMeta, OwnerReference,
};
use kube::core::PartialObjectMeta;

use super::{FIELD_MANAGER, scaled_object};
use crate::core::target::TargetId;

/// The groups of annotations that somebody here reads; all others are dropped on arrival.
const ANNOTATION_PREFIXES: [&str; 3] =
    ["autoscaling.knative.dev/", "podswell.dev/", "prometheus.io/"];

/// The longest annotation value that is kept, in bytes. No key has a longer valid value, and a tenant
/// must not fill our memory with his.
const MAX_VALUE_LENGTH: usize = 4096;

/// Annotations of the groups that podswell reads, in order.
pub type Annotations = BTreeMap<String, String>;

/// Namespace and name: what a deleted object is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The namespace; empty for objects of the cluster.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// The key of the object `name` in `namespace`.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key in an object's metadata; `None` without a name.
    pub(super) fn of(metadata: &ObjectMeta) -> Option<Self> {
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        Some(Self::new(namespace, metadata.name.as_deref()?))
    }
}

/// What is kept of a Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentFacts {
    /// Which one it is.
    pub target: TargetId,
    /// Tells an object from its successor of the same name.
    pub uid: Arc<str>,
    /// The version that these facts describe.
    pub resource_version: Arc<str>,
    /// `spec.replicas`, ≥ 0; absent counts as 1.
    pub replicas: i32,
    /// The field manager that owns `spec.replicas`; of several the newest.
    pub writer: Option<Arc<str>>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether a Knative object owns it.
    pub owned_by_knative: bool,
    /// `spec.progressDeadlineSeconds`.
    pub progress_deadline: Option<Duration>,
    /// Its annotations.
    pub annotations: Annotations,
    /// Its pod template's annotations.
    pub template_annotations: Annotations,
}

/// What is kept of a ReplicaSet that a Deployment controls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSetFacts {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Its uid, which its pods name as their controller.
    pub uid: Arc<str>,
    /// The uid of the Deployment that controls it.
    pub deployment: Arc<str>,
}

/// The phases of a pod that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Accepted, not yet running.
    Pending,
    /// At least one container runs.
    Running,
}

/// What is kept of a pod that a ReplicaSet controls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedPod {
    /// Namespace and name.
    pub key: ObjectKey,
    /// The uid of the ReplicaSet that controls it.
    pub replica_set: Arc<str>,
    /// Its phase.
    pub phase: Phase,
    /// Whether its condition Ready is true.
    pub ready: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Its address, once it has one.
    pub ip: Option<IpAddr>,
    /// `status.startTime`.
    pub started_at: Option<Timestamp>,
}

/// What is kept of a `HorizontalPodAutoscaler` that scales a Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HpaFacts {
    /// Namespace and name.
    pub key: ObjectKey,
    /// The Deployment that it scales.
    pub target: TargetId,
    /// Whether it only carries out what podswell answers.
    pub follows_podswell: bool,
    /// The `ScaledObject` that made it, if one did: then the two are one.
    pub scaled_object: Option<Arc<str>>,
}

/// What is kept of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it is being deleted with everything in it.
    pub terminating: bool,
    /// Its annotations.
    pub annotations: Annotations,
}

/// What is kept of a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMapFacts {
    /// Its name.
    pub name: Arc<str>,
    /// Its keys and values; `binaryData` is not read.
    pub data: BTreeMap<String, String>,
}

/// The facts of a Deployment; `None` if it has no name, namespace or uid.
pub(super) fn deployment(object: Deployment) -> Option<DeploymentFacts> {
    let metadata = object.metadata;
    let spec = object.spec.unwrap_or_default();
    Some(DeploymentFacts {
        target: TargetId::deployment(metadata.namespace.as_deref()?, metadata.name.as_deref()?),
        uid: metadata.uid.as_deref()?.into(),
        resource_version: metadata.resource_version.as_deref()?.into(),
        replicas: spec.replicas.unwrap_or(1).max(0),
        writer: writer(&metadata),
        deleting: metadata.deletion_timestamp.is_some(),
        owned_by_knative: metadata.owner_references.iter().flatten().any(is_knative),
        progress_deadline: spec
            .progress_deadline_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs),
        annotations: relevant(metadata.annotations),
        template_annotations: relevant(spec.template.metadata.and_then(|of| of.annotations)),
    })
}

/// The facts of a ReplicaSet; `None` unless a Deployment controls it.
pub(super) fn replica_set(object: PartialObjectMeta<ReplicaSet>) -> Option<ReplicaSetFacts> {
    let metadata = object.metadata;
    Some(ReplicaSetFacts {
        key: ObjectKey::of(&metadata)?,
        uid: metadata.uid.as_deref()?.into(),
        deployment: controller(&metadata, "apps", "Deployment")?,
    })
}

/// The facts of a pod; `None` unless a ReplicaSet controls it and it is pending or running.
pub(super) fn pod(object: Pod) -> Option<OwnedPod> {
    let metadata = object.metadata;
    let status = object.status.unwrap_or_default();
    let phase = match status.phase.as_deref() {
        Some("Pending") => Phase::Pending,
        Some("Running") => Phase::Running,
        _ => return None,
    };
    Some(OwnedPod {
        key: ObjectKey::of(&metadata)?,
        replica_set: controller(&metadata, "apps", "ReplicaSet")?,
        phase,
        ready: is_ready(&status),
        terminating: metadata.deletion_timestamp.is_some(),
        ip: status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()),
        started_at: status.start_time.map(|time| time.0),
    })
}

/// The facts of an autoscaler; `None` unless it scales a Deployment.
pub(super) fn hpa(object: HorizontalPodAutoscaler) -> Option<HpaFacts> {
    let key = ObjectKey::of(&object.metadata)?;
    let scaled = object.spec?.scale_target_ref;
    let group = group_of(scaled.api_version.as_deref().unwrap_or_default());
    if scaled.kind != "Deployment" || !matches!(group, "apps" | "extensions" | "") {
        return None;
    }
    let target = TargetId::deployment(&key.namespace, &scaled.name);
    let owners = object.metadata.owner_references.unwrap_or_default();
    let scaled_object = owners
        .into_iter()
        .find(|owner| scaled_object::is_kind(&owner.api_version, &owner.kind))
        .map(|owner| owner.name.into());
    Some(HpaFacts { key, target, follows_podswell: FOLLOWS_PODSWELL, scaled_object })
}

/// No HPA can follow podswell before podswell serves metrics to HPAs: then this becomes a look at the
/// metrics that the HPA asks for.
const FOLLOWS_PODSWELL: bool = false;

/// The facts of a namespace; `None` without a name.
pub(super) fn namespace(object: PartialObjectMeta<Namespace>) -> Option<NamespaceFacts> {
    let metadata = object.metadata;
    Some(NamespaceFacts {
        name: metadata.name.as_deref()?.into(),
        terminating: metadata.deletion_timestamp.is_some(),
        annotations: relevant(metadata.annotations),
    })
}

/// The facts of a ConfigMap; `None` without a name.
pub(super) fn config_map(object: ConfigMap) -> Option<ConfigMapFacts> {
    Some(ConfigMapFacts {
        name: object.metadata.name.as_deref()?.into(),
        data: object.data.unwrap_or_default(),
    })
}

/// The entries of `managedFields` whose manager owns `spec.replicas`.
pub(crate) fn owners_of_replicas(
    metadata: &ObjectMeta,
) -> impl Iterator<Item = &ManagedFieldsEntry> {
    let entries = metadata.managed_fields.iter().flatten();
    entries.filter(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        fields.is_some_and(|fields| fields.pointer("/f:spec/f:replicas").is_some())
    })
}

/// Who wrote `spec.replicas` last. Stamps are whole seconds; of two in the same one the stranger counts,
/// because our own write would have taken the field from him.
fn writer(metadata: &ObjectMeta) -> Option<Arc<str>> {
    let newest = owners_of_replicas(metadata).max_by_key(|entry| {
        let at = entry.time.as_ref().map(|time| time.0);
        (at, entry.manager.as_deref() != Some(FIELD_MANAGER))
    });
    newest?.manager.as_deref().map(Arc::from)
}

fn relevant(annotations: Option<BTreeMap<String, String>>) -> Annotations {
    annotations
        .into_iter()
        .flatten()
        .filter(|(key, _)| ANNOTATION_PREFIXES.iter().any(|prefix| key.starts_with(prefix)))
        .map(|(key, value)| (key, bounded(value)))
        .collect()
}

/// A value that is too long loses its end and gains a sign that no key accepts: what is left must not
/// pass for something that the user did not write.
pub(super) fn bounded(mut value: String) -> String {
    if value.len() > MAX_VALUE_LENGTH {
        let fits = |index: &usize| value.is_char_boundary(*index);
        value.truncate((0..=MAX_VALUE_LENGTH).rev().find(fits).unwrap_or_default());
        value.push('…');
    }
    value
}

fn controller(metadata: &ObjectMeta, group: &str, kind: &str) -> Option<Arc<str>> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    (owner.kind == kind && group_of(&owner.api_version) == group).then(|| owner.uid.as_str().into())
}

fn is_knative(owner: &OwnerReference) -> bool {
    let group = group_of(&owner.api_version);
    group == "knative.dev" || group.ends_with(".knative.dev")
}

pub(super) fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

fn is_ready(status: &PodStatus) -> bool {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn owner(api_version: &str, kind: &str, uid: &str, controller: bool) -> Value {
        json!({"apiVersion": api_version, "kind": kind, "name": "x", "uid": uid, "controller": controller})
    }

    #[test]
    fn a_deployment_keeps_only_what_is_read() {
        let facts = deployment(parse(json!({
            "metadata": {
                "namespace": "shop", "name": "web", "uid": "u1", "resourceVersion": "7",
                "annotations": {
                    "autoscaling.knative.dev/target": "10",
                    "kubectl.kubernetes.io/last-applied-configuration": "{}",
                    "podswell.dev/mode": "observe",
                },
            },
            "spec": {
                "replicas": 3, "progressDeadlineSeconds": 600, "selector": {},
                "template": {"metadata": {"annotations": {"prometheus.io/port": "9", "x": "y"}}},
            },
        })))
        .unwrap();
        assert_eq!(facts.target, TargetId::deployment("shop", "web"));
        assert_eq!((facts.replicas, &*facts.resource_version), (3, "7"));
        assert_eq!(facts.progress_deadline, Some(Duration::from_secs(600)));
        assert_eq!(
            facts.annotations.keys().collect::<Vec<_>>(),
            ["autoscaling.knative.dev/target", "podswell.dev/mode"]
        );
        assert_eq!(facts.template_annotations.keys().collect::<Vec<_>>(), ["prometheus.io/port"]);
        assert!(!facts.owned_by_knative && !facts.deleting);
    }

    #[test]
    fn the_newest_owner_of_replicas_is_their_writer() {
        let entry = |manager: &str, second: u32, fields: Value| {
            json!({"manager": manager, "operation": "Update", "apiVersion": "apps/v1",
                "time": format!("2026-01-01T00:00:{second:02}Z"),
                "fieldsType": "FieldsV1", "fieldsV1": fields})
        };
        let replicas = || json!({"f:spec": {"f:replicas": {}}});
        let other = || json!({"f:spec": {"f:template": {}}});
        for (entries, want) in [
            (json!(null), None),
            (json!([entry("kubectl", 1, other())]), None),
            (json!([entry("kubectl", 1, replicas())]), Some("kubectl")),
            (json!([entry("a", 1, replicas()), entry("b", 2, replicas())]), Some("b")),
            (json!([entry("a", 2, replicas()), entry("b", 1, replicas())]), Some("a")),
            (json!([entry("a", 1, replicas()), entry("podswell", 1, replicas())]), Some("a")),
            (json!([entry("podswell", 1, replicas()), entry("a", 1, replicas())]), Some("a")),
            (
                json!([entry("a", 1, replicas()), entry("podswell", 2, replicas())]),
                Some("podswell"),
            ),
        ] {
            let facts = deployment(parse(json!({
                "metadata": {"namespace": "a", "name": "b", "uid": "u", "resourceVersion": "1",
                    "managedFields": entries},
                "spec": {"selector": {}, "template": {}},
            })));
            assert_eq!(facts.unwrap().writer.as_deref(), want, "{entries}");
        }
    }

    #[test]
    fn absent_replicas_are_one_and_odd_ones_are_not_negative() {
        for (replicas, want) in [(json!(null), 1), (json!(0), 0), (json!(-4), 0)] {
            let facts = deployment(parse(json!({
                "metadata": {"namespace": "a", "name": "b", "uid": "u", "resourceVersion": "1"},
                "spec": {"replicas": replicas, "selector": {}, "template": {}},
            })));
            assert_eq!(facts.unwrap().replicas, want, "{replicas}");
        }
    }

    #[test]
    fn an_object_without_identity_is_no_fact() {
        assert_eq!(deployment(parse(json!({"metadata": {"name": "b"}}))), None);
        assert_eq!(namespace(parse(json!({"metadata": {}}))), None);
    }

    #[test]
    fn knative_ownership_is_a_matter_of_the_group() {
        for (api_version, want) in [
            ("serving.knative.dev/v1", true),
            ("knative.dev/v1", true),
            ("apps/v1", false),
            ("notknative.dev/v1", false),
        ] {
            let owner: OwnerReference = parse(owner(api_version, "Revision", "u", true));
            assert_eq!(is_knative(&owner), want, "{api_version}");
        }
    }

    #[test]
    fn only_the_controlling_owner_counts() {
        for (owners, want) in [
            (vec![owner("apps/v1", "ReplicaSet", "rs", true)], Some("rs")),
            (vec![owner("apps/v1", "ReplicaSet", "rs", false)], None),
            (vec![owner("apps/v1", "StatefulSet", "rs", true)], None),
            (vec![owner("example.org/v1", "ReplicaSet", "rs", true)], None),
            (
                vec![
                    owner("example.org/v1", "Other", "o", false),
                    owner("apps/v1", "ReplicaSet", "rs", true),
                ],
                Some("rs"),
            ),
            (vec![], None),
        ] {
            let pod = pod(parse(json!({
                "metadata": {"namespace": "a", "name": "p", "ownerReferences": owners},
                "status": {"phase": "Running"},
            })));
            assert_eq!(pod.as_ref().map(|pod| &*pod.replica_set), want, "{owners:?}");
        }
    }

    #[test]
    fn finished_pods_are_no_facts() {
        for (phase, want) in [
            ("Pending", Some(Phase::Pending)),
            ("Running", Some(Phase::Running)),
            ("Succeeded", None),
            ("Failed", None),
            ("Unknown", None),
        ] {
            let pod = pod(parse(json!({
                "metadata": {"namespace": "a", "name": "p",
                    "ownerReferences": [owner("apps/v1", "ReplicaSet", "rs", true)]},
                "status": {"phase": phase, "podIP": "not an address"},
            })));
            assert_eq!(pod.as_ref().map(|pod| pod.phase), want, "{phase}");
            assert_eq!(pod.and_then(|pod| pod.ip), None);
        }
    }

    #[test]
    fn an_hpa_counts_when_it_scales_a_deployment() {
        for (api_version, kind, want) in [
            ("apps/v1", "Deployment", true),
            ("", "Deployment", true),
            ("apps/v1", "StatefulSet", false),
            ("example.org/v1", "Deployment", false),
        ] {
            let hpa = hpa(parse(json!({
                "metadata": {"namespace": "a", "name": "h"},
                "spec": {"maxReplicas": 3,
                    "scaleTargetRef": {"apiVersion": api_version, "kind": kind, "name": "web"}},
            })));
            assert_eq!(hpa.is_some(), want, "{api_version} {kind}");
        }
    }

    #[test]
    fn an_overlong_value_is_cut_and_never_valid() {
        let kept = relevant(Some(
            [("podswell.dev/mode".to_owned(), format!("{}5", "0".repeat(200_000)))].into(),
        ));
        let value = &kept["podswell.dev/mode"];
        assert!(value.len() < 5000 && value.ends_with('…'));
        assert_eq!(bounded("é".repeat(4096)).chars().last(), Some('…'));
        assert_eq!(bounded("5".to_owned()), "5");
    }
}
