//! KEDA's `ScaledObjects`, read from a kind that many clusters do not have.

use std::collections::BTreeMap;

use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde::Deserialize;
use serde_json::Value;

use super::facts::{bounded, group_of};
use crate::core::number::parse_bool;
use crate::core::scaled_object::{KIND, ScaledObject, ScaledObjectId, Trigger};
use crate::core::target::TargetId;

/// KEDA's API group.
const GROUP: &str = "keda.sh";

/// With a true value KEDA removes its HPA and writes nothing.
const PAUSED: &str = "autoscaling.keda.sh/paused";

/// Makes KEDA keep its target at a number, which is writing, too.
const PAUSED_REPLICAS: &str = "autoscaling.keda.sh/paused-replicas";

/// Where `ScaledObjects` are.
pub(crate) fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk(GROUP, "v1alpha1", KIND);
    ApiResource::from_gvk_with_plural(&kind, "scaledobjects")
}

/// Whether an object's type is `ScaledObject`, in whichever version.
pub(crate) fn is_kind(api_version: &str, kind: &str) -> bool {
    kind == KIND && group_of(api_version) == GROUP
}

/// The facts of a `ScaledObject`; `None` unless it scales a Deployment. A trigger that cannot be read is
/// left out, because what is scaled counts whatever it is scaled by.
pub(crate) fn facts(object: DynamicObject) -> Option<ScaledObject> {
    let metadata = object.metadata;
    let mut spec = object.data.get("spec")?.clone();
    let scaled = serde_json::from_value(spec.get_mut("scaleTargetRef")?.take());
    let scaled = scaled.ok().filter(ScaleTargetRef::is_deployment)?;
    let namespace = metadata.namespace.as_deref()?;
    let annotations = metadata.annotations.unwrap_or_default();
    let paused = annotations.get(PAUSED).is_some_and(|text| parse_bool(text) == Ok(true))
        && !annotations.contains_key(PAUSED_REPLICAS);
    let triggers = match spec.get_mut("triggers").map(Value::take) {
        Some(Value::Array(all)) => all.into_iter().filter_map(trigger).collect(),
        _ => Vec::new(),
    };
    Some(ScaledObject {
        id: ScaledObjectId { namespace: namespace.into(), name: metadata.name.as_deref()?.into() },
        target: TargetId::deployment(namespace, &scaled.name),
        paused,
        triggers,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScaleTargetRef {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    name: String,
}

impl ScaleTargetRef {
    /// KEDA takes what is left out for a Deployment of apps/v1.
    fn is_deployment(&self) -> bool {
        matches!(self.kind.as_str(), "" | "Deployment")
            && (self.api_version.is_empty() || group_of(&self.api_version) == "apps")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTrigger {
    r#type: String,
    name: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    metric_type: Option<String>,
}

fn trigger(value: Value) -> Option<Trigger> {
    let WireTrigger { r#type, name, metadata, metric_type } = serde_json::from_value(value).ok()?;
    let metadata = metadata.into_iter().map(|(key, value)| (key, bounded(value))).collect();
    Some(Trigger { kind: r#type, name, metadata, metric_type })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(metadata: Value, spec: Value) -> Option<ScaledObject> {
        let mut object = json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject"});
        object["metadata"] = metadata;
        object["spec"] = spec;
        facts(serde_json::from_value(object).unwrap())
    }

    fn named() -> Value {
        json!({"namespace": "shop", "name": "web-scaler"})
    }

    #[test]
    fn triggers_are_kept_as_they_are() {
        let object = read(
            named(),
            json!({
                "scaleTargetRef": {"name": "web"},
                "triggers": [
                    {"type": "external-push", "name": "load", "metricType": "Value",
                     "metadata": {"scalerAddress": "podswell:9090", "tokenFromEnv": "TOKEN"}},
                    {"type": 7},
                    {"type": "cpu", "metadata": {"value": "60"}},
                ],
            }),
        )
        .unwrap();
        assert_eq!((&*object.id.namespace, &*object.id.name), ("shop", "web-scaler"));
        assert_eq!(object.target, TargetId::deployment("shop", "web"));
        let [push, cpu] = &object.triggers[..] else { panic!("{:?}", object.triggers) };
        assert_eq!((push.kind.as_str(), push.name.as_deref()), ("external-push", Some("load")));
        assert_eq!(push.metric_type.as_deref(), Some("Value"));
        assert_eq!(push.metadata["tokenFromEnv"], "TOKEN");
        assert_eq!((cpu.kind.as_str(), cpu.metric_type.as_deref()), ("cpu", None));
    }

    #[test]
    fn it_counts_when_it_scales_a_deployment() {
        for (scaled, want) in [
            (json!({"name": "web"}), true),
            (json!({"name": "web", "kind": "Deployment", "apiVersion": "apps/v1"}), true),
            (json!({"name": "web", "kind": "StatefulSet"}), false),
            (json!({"name": "web", "kind": "Deployment", "apiVersion": "example.org/v1"}), false),
            (json!({"kind": "Deployment"}), false),
            (json!("web"), false),
        ] {
            let found = read(named(), json!({"scaleTargetRef": scaled}));
            assert_eq!(found.is_some(), want, "{scaled}");
        }
        assert_eq!(read(json!({"name": "x"}), json!({"scaleTargetRef": {"name": "web"}})), None);
    }

    #[test]
    fn only_a_pause_without_a_number_leaves_the_target_alone() {
        for (annotations, want) in [
            (json!({}), false),
            (json!({PAUSED: "true"}), true),
            (json!({PAUSED: "false"}), false),
            (json!({PAUSED: "yes"}), false),
            (json!({PAUSED: "true", PAUSED_REPLICAS: "3"}), false),
            (json!({PAUSED_REPLICAS: "3"}), false),
        ] {
            let mut metadata = named();
            metadata["annotations"] = annotations.clone();
            let object = read(metadata, json!({"scaleTargetRef": {"name": "web"}})).unwrap();
            assert_eq!(object.paused, want, "{annotations}");
        }
    }

    #[test]
    fn where_they_are() {
        let resource = resource();
        assert_eq!(
            (resource.api_version.as_str(), resource.plural.as_str()),
            ("keda.sh/v1alpha1", "scaledobjects")
        );
        assert!(is_kind("keda.sh/v1", "ScaledObject") && !is_kind("apps/v1", "ScaledObject"));
    }
}
