//! The four ways in which clients change a part of an object: a merge patch, a JSON patch, a strategic merge
//! patch, and what an apply amounts to where nobody keeps books of who owns which field.

use serde_json::{Map, Value};

use super::store::{as_object, merge};

/// How the body of a PATCH is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// RFC 7396.
    Merge,
    /// RFC 6902.
    Json,
    /// Kubernetes' own: as a merge, but lists of named things are merged by their names.
    Strategic,
    /// Server-side apply.
    Apply,
}

impl Form {
    /// The form by its content type; what follows a semicolon does not matter.
    pub(super) fn of(content_type: &str) -> Option<Self> {
        Some(match content_type.split(';').next().unwrap_or_default().trim() {
            "application/merge-patch+json" => Self::Merge,
            "application/json-patch+json" => Self::Json,
            "application/strategic-merge-patch+json" => Self::Strategic,
            "application/apply-patch+yaml" => Self::Apply,
            _ => return None,
        })
    }

    /// Applies `patch`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn apply(self, object: &mut Value, patch: &Value) -> Result<(), String> {
        match self {
            Self::Merge => merge(object, patch),
            Self::Json => return steps(object, patch),
            Self::Strategic | Self::Apply => merge_named(object, patch),
        }
        Ok(())
    }
}

/// By which field the elements of a list are told apart, for the lists that Deployments and pods have.
fn name_of_elements(list: &str) -> Option<&'static str> {
    Some(match list {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets" => "name",
        "ports" => "containerPort",
        "volumeMounts" => "mountPath",
        "conditions" => "type",
        "ownerReferences" => "uid",
        _ => return None,
    })
}

/// A strategic merge: null deletes, lists of named things are merged, other lists replaced.
fn merge_named(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if patch.get("$patch").is_some_and(|how| how == "replace") {
        *into = Value::Object(without_directives(patch));
        return;
    }
    let object = as_object(into);
    // Directives of order and of lists of plain values: the played kinds have none that matter.
    for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        match (value, name_of_elements(name)) {
            (Value::Null, _) => {
                object.remove(name);
            }
            (Value::Array(elements), Some(key)) => {
                let slot = object.entry(name.clone()).or_insert_with(|| Value::Array(Vec::new()));
                merge_elements(slot, elements, key);
            }
            _ => merge_named(object.entry(name.clone()).or_insert(Value::Null), value),
        }
    }
}

fn merge_elements(into: &mut Value, elements: &[Value], key: &str) {
    let mut list = match into.take() {
        Value::Array(list) => list,
        _ => Vec::new(),
    };
    for element in elements {
        let is_same =
            |known: &Value| known.get(key).is_some() && known.get(key) == element.get(key);
        if element.get("$patch").is_some_and(|how| how == "delete") {
            list.retain(|known| !is_same(known));
        } else if let Some(known) = list.iter_mut().find(|known| is_same(known)) {
            merge_named(known, element);
        } else {
            let mut new = Value::Null;
            merge_named(&mut new, element);
            list.push(new);
        }
    }
    *into = Value::Array(list);
}

fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    patch
        .iter()
        .filter(|(name, _)| !name.starts_with('$'))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// A JSON patch: all steps or none.
fn steps(object: &mut Value, patch: &Value) -> Result<(), String> {
    let steps = patch.as_array().ok_or("a JSON patch is a list")?;
    let mut changed = object.clone();
    for step in steps {
        one_step(&mut changed, step)?;
    }
    *object = changed;
    Ok(())
}

fn one_step(object: &mut Value, step: &Value) -> Result<(), String> {
    let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
    let (what, path) = (text("op"), text("path"));
    let value = step.get("value").cloned().unwrap_or_default();
    match what {
        "add" => add(object, path, value),
        "remove" => remove(object, path).map(|_| ()),
        "replace" => {
            remove(object, path)?;
            add(object, path, value)
        }
        "move" => {
            let moved = remove(object, text("from"))?;
            add(object, path, moved)
        }
        "copy" => {
            let copied = object.pointer(text("from")).cloned();
            add(object, path, copied.ok_or_else(|| format!("nothing is at {}", text("from")))?)
        }
        "test" if object.pointer(path) == Some(&value) => Ok(()),
        "test" => Err(format!("testing value {path} failed")),
        other => Err(format!("{other:?} is no operation of a JSON patch")),
    }
}

/// The container of what a pointer names, and the last part of the pointer.
fn parent<'a>(object: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), String> {
    let (above, last) = path.rsplit_once('/').ok_or_else(|| format!("{path:?} is no pointer"))?;
    let last = last.replace("~1", "/").replace("~0", "~");
    let parent = object.pointer_mut(above).ok_or_else(|| format!("nothing is at {above}"))?;
    Ok((parent, last))
}

fn add(object: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        *object = value;
        return Ok(());
    }
    match parent(object, path)? {
        (Value::Object(map), name) => {
            map.insert(name, value);
        }
        (Value::Array(list), at) => {
            let at = if at == "-" { Some(list.len()) } else { at.parse().ok() };
            let at = at.filter(|at| *at <= list.len());
            list.insert(at.ok_or_else(|| format!("{path} is outside the list"))?, value);
        }
        _ => return Err(format!("nothing can be added at {path}")),
    }
    Ok(())
}

fn remove(object: &mut Value, path: &str) -> Result<Value, String> {
    let removed = match parent(object, path)? {
        (Value::Object(map), name) => map.remove(&name),
        (Value::Array(list), at) => {
            let at = at.parse().ok().filter(|at: &usize| *at < list.len());
            at.map(|at| list.remove(at))
        }
        _ => None,
    };
    removed.ok_or_else(|| format!("nothing is at {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_form_changes_what_it_names() {
        let pods = |list: Value| json!({ "spec": { "containers": list } });
        let two = json!([{ "name": "a", "image": "1" }, { "name": "b", "image": "1" }]);
        for (form, before, patch, after) in [
            (
                Form::Merge,
                pods(two.clone()),
                pods(json!([{ "name": "b" }])),
                pods(json!([{ "name": "b" }])),
            ),
            (
                Form::Strategic,
                pods(two.clone()),
                json!({ "spec": { "$setElementOrder/containers": [{ "name": "b" }],
                    "containers": [{ "name": "b", "image": "2" }, { "name": "c" }] } }),
                pods(
                    json!([{ "name": "a", "image": "1" }, { "name": "b", "image": "2" }, { "name": "c" }]),
                ),
            ),
            (
                Form::Strategic,
                pods(two.clone()),
                pods(json!([{ "name": "a", "$patch": "delete" }])),
                pods(json!([{ "name": "b", "image": "1" }])),
            ),
            (
                Form::Strategic,
                json!({ "a": { "b": 1 } }),
                json!({ "a": { "$patch": "replace", "c": 2 } }),
                json!({ "a": { "c": 2 } }),
            ),
            (Form::Apply, json!({ "a": 1 }), json!({ "b": 2 }), json!({ "a": 1, "b": 2 })),
            (
                Form::Json,
                json!({ "a": [1, 2], "b/c": 1 }),
                json!([
                    { "op": "test", "path": "/a/0", "value": 1 }, { "op": "add", "path": "/a/-", "value": 3 },
                    { "op": "remove", "path": "/a/0" }, { "op": "move", "from": "/b~1c", "path": "/d" },
                    { "op": "copy", "from": "/d", "path": "/e" }, { "op": "replace", "path": "/e", "value": 4 },
                ]),
                json!({ "a": [2, 3], "d": 1, "e": 4 }),
            ),
        ] {
            let mut object = before.clone();
            form.apply(&mut object, &patch).unwrap();
            assert_eq!(object, after, "{form:?} of {patch} on {before}");
        }
    }

    #[test]
    fn a_step_that_cannot_be_taken_changes_nothing() {
        for step in [
            json!({ "op": "test", "path": "/a", "value": 2 }),
            json!({ "op": "remove", "path": "/b" }),
            json!({ "op": "replace", "path": "/b", "value": 1 }),
            json!({ "op": "add", "path": "/b/c", "value": 1 }),
            json!({ "op": "add", "path": "b", "value": 1 }),
            json!({ "op": "steal", "path": "/a" }),
        ] {
            let mut object = json!({ "a": 1 });
            let patch = json!([{ "op": "add", "path": "/z", "value": 1 }, step]);
            assert!(Form::Json.apply(&mut object, &patch).is_err(), "{patch}");
            assert_eq!(object, json!({ "a": 1 }));
        }
    }
}
