//! What the played API demands of an object before it stores it: as much of a real server's rules as keeps
//! nonsense out of the store.

use serde_json::{Value, json};

use super::kinds::{DEPLOYMENTS, Kind};
use super::refusal::Refusal;
use super::store::{at, field};

/// The most characters of a name.
const LONGEST_NAME: usize = 253;

/// Fills in what a server fills in, and says what is wrong with the rest.
///
/// # Errors
/// The refusal of the first rule that is broken.
pub(super) fn admit(kind: &'static Kind, name: &str, object: &mut Value) -> Result<(), Refusal> {
    is_of(kind, object)?;
    let invalid = |why: String| Err(Refusal::Invalid(kind, name.to_owned(), why));
    if !is_name(name) {
        return invalid(format!("metadata.name: Invalid value: {name:?}"));
    }
    if *kind != DEPLOYMENTS {
        return Ok(());
    }
    match at(object, "/spec/replicas") {
        Value::Null => {
            field(object, "spec").insert("replicas".into(), json!(1));
        }
        replicas => {
            let Some(replicas) = replicas.as_i64() else {
                return Err(Refusal::Malformed(format!(
                    "Deployment in version \"v1\" cannot be handled as a Deployment: spec.replicas is {replicas}"
                )));
            };
            if replicas < 0 {
                return invalid(format!("spec.replicas: Invalid value: {replicas}"));
            }
        }
    }
    let labels = at(object, "/spec/selector/matchLabels");
    let Some(labels) = labels.as_object().filter(|labels| !labels.is_empty()) else {
        return invalid("spec.selector: Required value".to_owned());
    };
    let of_pods = at(object, "/spec/template/metadata/labels");
    if labels.iter().any(|(label, value)| of_pods.get(label) != Some(value)) {
        return invalid("spec.template.metadata.labels: Invalid value".to_owned());
    }
    Ok(())
}

/// Whether the object is one, and of the kind of its place if it says a kind.
fn is_of(kind: &Kind, object: &Value) -> Result<(), Refusal> {
    if !object.is_object() {
        return Err(Refusal::Malformed("the body is no object".to_owned()));
    }
    for (key, wanted) in [("/kind", kind.name.to_owned()), ("/apiVersion", kind.api_version())] {
        if let Some(said) = at(object, key).as_str().filter(|said| *said != wanted) {
            return Err(Refusal::Malformed(format!("the object is {said}, expected {wanted}")));
        }
    }
    Ok(())
}

/// A DNS subdomain: lower-case letters, digits, hyphens and dots.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name.starts_with(plain)
        && name.ends_with(plain)
        && name.chars().all(|c| plain(c) || c == '-' || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::kinds::{CONFIG_MAPS, KINDS};

    fn refused(wanted: &Kind, name: &str, mut object: Value) -> bool {
        let kind = KINDS.iter().find(|kind| *kind == wanted).unwrap();
        admit(kind, name, &mut object).is_err()
    }

    #[test]
    fn nonsense_is_kept_out() {
        let web = |replicas: Value| {
            json!({ "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "web" } },
                "template": { "metadata": { "labels": { "app": "web" } } } } })
        };
        for (kind, name, object, expected) in [
            (CONFIG_MAPS, "a.b-1", json!({}), false),
            (CONFIG_MAPS, "A", json!({}), true),
            (CONFIG_MAPS, "-a", json!({}), true),
            (CONFIG_MAPS, "", json!({}), true),
            (CONFIG_MAPS, "a", json!("text"), true),
            (CONFIG_MAPS, "a", json!({ "kind": "Secret" }), true),
            (DEPLOYMENTS, "web", web(json!(3)), false),
            (DEPLOYMENTS, "web", web(json!(null)), false),
            (DEPLOYMENTS, "web", web(json!(-1)), true),
            (DEPLOYMENTS, "web", web(json!("3")), true),
            (DEPLOYMENTS, "web", json!({ "spec": { "replicas": 1 } }), true),
        ] {
            assert_eq!(refused(&kind, name, object.clone()), expected, "{name:?} {object}");
        }
    }
}
