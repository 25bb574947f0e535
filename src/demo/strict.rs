//! The search for fields that a kind does not have, for clients that want to be told (`fieldValidation=Strict`,
//! as `kubectl apply` does): what an object loses on its way through the type of its kind is unknown.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::api::events::v1::Event;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::kinds::{
    AUTOSCALERS, CONFIG_MAPS, DEPLOYMENTS, EVENTS, Kind, LEASES, NAMESPACES, PODS, REPLICA_SETS,
};

/// The complaint about the object's unknown fields, where the client wants to hear it.
///
/// # Errors
/// If there are any, in the words that a real server uses.
pub(super) fn check(wish: Option<&str>, kind: &Kind, object: &Value) -> Result<(), String> {
    if wish != Some("Strict") {
        return Ok(());
    }
    let unknown = unknown_fields(kind, object);
    if unknown.is_empty() {
        return Ok(());
    }
    let named: Vec<_> = unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
    Err(format!("strict decoding error: {}", named.join(", ")))
}

fn unknown_fields(kind: &Kind, object: &Value) -> Vec<String> {
    let mut unknown = Vec::new();
    // What does not fit the type at all is for other rules.
    if let Some(known) = through_type(kind, object.clone()) {
        compare(object, &known, "", &mut unknown);
    }
    unknown
}

fn through_type(kind: &Kind, object: Value) -> Option<Value> {
    match kind {
        kind if *kind == DEPLOYMENTS => through::<Deployment>(object),
        kind if *kind == REPLICA_SETS => through::<ReplicaSet>(object),
        kind if *kind == AUTOSCALERS => through::<HorizontalPodAutoscaler>(object),
        kind if *kind == LEASES => through::<Lease>(object),
        kind if *kind == CONFIG_MAPS => through::<ConfigMap>(object),
        kind if *kind == NAMESPACES => through::<Namespace>(object),
        kind if *kind == PODS => through::<Pod>(object),
        kind if *kind == EVENTS => through::<Event>(object),
        _ => None,
    }
}

fn through<T: DeserializeOwned + Serialize>(object: Value) -> Option<Value> {
    let typed: T = serde_json::from_value(object).ok()?;
    serde_json::to_value(typed).ok()
}

/// Notes the paths of `said` that `known` does not have.
fn compare(said: &Value, known: &Value, path: &str, unknown: &mut Vec<String>) {
    match (said, known) {
        (Value::Object(said), Value::Object(known)) => {
            for (name, value) in said.iter().filter(|(_, value)| !value.is_null()) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match known.get(name) {
                    Some(known) => compare(value, known, &path, unknown),
                    None => unknown.push(path),
                }
            }
        }
        (Value::Array(said), Value::Array(known)) => {
            for (at, (said, known)) in said.iter().zip(known).enumerate() {
                compare(said, known, &format!("{path}[{at}]"), unknown);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_fields_are_named_as_a_server_names_them() {
        let web = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "web", "creationTimestamp": null, "labels": { "any": "thing" } },
            "spec": {
                "replicas": 1, "replicsa": 2, "selector": { "matchLabels": { "app": "web" } },
                "template": {
                    "metadata": { "labels": { "app": "web" } },
                    "spec": { "containers": [
                        { "name": "a", "image": "b", "resources": { "limits": { "cpu": "1" } } },
                        { "name": "b", "imag": "b", "ports": [{ "containerPort": 1, "name": "p" }] },
                    ] },
                },
            },
            "status": {},
        });
        let mut good = web.clone();
        good["spec"].as_object_mut().unwrap().remove("replicsa");
        good["spec"]["template"]["spec"]["containers"][1].as_object_mut().unwrap().remove("imag");
        for (wish, kind, object, why) in [
            (Some("Strict"), DEPLOYMENTS, &good, Ok(())),
            (None, DEPLOYMENTS, &web, Ok(())),
            (Some("Ignore"), DEPLOYMENTS, &web, Ok(())),
            (
                Some("Strict"),
                DEPLOYMENTS,
                &web,
                Err("strict decoding error: unknown field \"spec.replicsa\", unknown field \
                     \"spec.template.spec.containers[1].imag\""),
            ),
            (
                Some("Strict"),
                CONFIG_MAPS,
                &json!({ "metadata": { "name": "x" }, "data": { "a": "b" }, "dat": {} }),
                Err("strict decoding error: unknown field \"dat\""),
            ),
        ] {
            assert_eq!(check(wish, &kind, object), why.map_err(str::to_owned), "{object}");
        }
    }
}
