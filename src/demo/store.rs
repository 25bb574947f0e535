//! The objects of the demo's cluster and what happened to them lately: what etcd is to a real one.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::kinds::Kind;

/// How many changes a watch may be behind; whoever is further behind has to list again.
const LOG_LENGTH: usize = 4096;

/// The version before the first object. Whoever asks for what happened since an earlier one asks for
/// something that is forgotten, as in any cluster that is not new.
const FIRST_VERSION: u64 = 1000;

/// What of an object's metadata no client changes.
const KEPT: [&str; 6] =
    ["name", "namespace", "uid", "creationTimestamp", "resourceVersion", "generation"];

/// Whether changes of the wish are counted apart from changes of what is.
fn is_generational(key: &Key) -> bool {
    key.group == "apps"
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) kind: &'static str,
    pub(super) group: &'static str,
    /// Empty for objects outside namespaces.
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Key {
    pub(super) fn new(kind: &'static Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.namespaced { namespace.to_owned() } else { String::new() };
        Self { kind: kind.plural, group: kind.group, namespace, name: name.to_owned() }
    }

    fn is_of(&self, kind: &Kind, namespace: Option<&str>) -> bool {
        self.kind == kind.plural
            && self.group == kind.group
            && namespace.is_none_or(|namespace| self.namespace == namespace)
    }
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub(super) what: &'static str,
    pub(super) key: Key,
    pub(super) object: Value,
    /// The object until then, if there was one.
    pub(super) before: Option<Value>,
}

/// Why nothing was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StoreError {
    #[error("the object does not exist")]
    NotFound,
    #[error("the object exists already")]
    AlreadyExists,
    #[error("the object has been modified; please apply your changes to the latest version")]
    Conflict,
    /// The watch's version is older than what is remembered.
    #[error("too old resource version")]
    Gone,
}

#[derive(Debug, Default)]
struct Content {
    version: u64,
    objects: BTreeMap<Key, Value>,
    log: VecDeque<Change>,
}

/// The store. Watches wait for its version to change.
#[derive(Debug)]
pub(super) struct Store {
    content: Mutex<Content>,
    version: watch::Sender<u64>,
}

impl Store {
    pub(super) fn new() -> Self {
        let content = Content { version: FIRST_VERSION, ..Content::default() };
        Self { content: Mutex::new(content), version: watch::Sender::new(FIRST_VERSION) }
    }

    /// Tells when there is something new.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The objects of a kind in their order, and the version that the list shows.
    pub(super) fn list(&self, kind: &Kind, namespace: Option<&str>) -> (Vec<Value>, u64) {
        let content = self.content.lock();
        let of_kind = content.objects.iter().filter(|(key, _)| key.is_of(kind, namespace));
        (of_kind.map(|(_, object)| object.clone()).collect(), content.version)
    }

    pub(super) fn get(&self, key: &Key) -> Option<Value> {
        self.content.lock().objects.get(key).cloned()
    }

    /// Stores a new object with a uid, a version and its time of birth.
    pub(super) fn create(
        &self,
        now: Timestamp,
        key: &Key,
        mut object: Value,
    ) -> Result<Value, StoreError> {
        let mut content = self.content.lock();
        if content.objects.contains_key(key) {
            return Err(StoreError::AlreadyExists);
        }
        tidy(&mut object);
        let metadata = metadata_of(&mut object);
        metadata.insert("name".into(), json!(key.name));
        if !key.namespace.is_empty() {
            metadata.insert("namespace".into(), json!(key.namespace));
        }
        let uid = format!("00000000-0000-4000-8000-{:012x}", content.version + 1);
        metadata.insert("uid".into(), json!(uid));
        metadata.insert("creationTimestamp".into(), json!(whole_seconds(now)));
        if is_generational(key) {
            metadata.insert("generation".into(), json!(1));
        }
        Ok(self.put(&mut content, "ADDED", key, object))
    }

    /// Changes an object. Where `version` is given it must still be the object's. A change that leaves
    /// everything as it is makes no new version.
    pub(super) fn update(
        &self,
        key: &Key,
        version: Option<&str>,
        change: impl FnOnce(&mut Value),
    ) -> Result<Value, StoreError> {
        let mut content = self.content.lock();
        let before = content.objects.get(key).ok_or(StoreError::NotFound)?;
        if version.is_some_and(|version| at(before, "/metadata/resourceVersion") != version) {
            return Err(StoreError::Conflict);
        }
        let mut object = before.clone();
        change(&mut object);
        tidy(&mut object);
        let kept = at(before, "/metadata").clone();
        let metadata = metadata_of(&mut object);
        for name in KEPT {
            if let Some(value) = kept.get(name) {
                metadata.insert(name.to_owned(), value.clone());
            }
        }
        if object == *before {
            return Ok(object);
        }
        // A Deployment's annotations count as a part of the wish.
        let differs = |path: &str| at(&object, path) != at(before, path);
        if is_generational(key) && (differs("/spec") || differs("/metadata/annotations")) {
            let generation = at(before, "/metadata/generation").as_i64().unwrap_or(0) + 1;
            metadata_of(&mut object).insert("generation".into(), json!(generation));
        }
        Ok(self.put(&mut content, "MODIFIED", key, object))
    }

    pub(super) fn delete(&self, key: &Key) -> Result<Value, StoreError> {
        let mut content = self.content.lock();
        let object = content.objects.remove(key).ok_or(StoreError::NotFound)?;
        let before = Some(object.clone());
        Ok(self.log(&mut content, "DELETED", key, (object, before)))
    }

    /// What happened to objects of a kind after `version`.
    pub(super) fn since(
        &self,
        version: u64,
        kind: &Kind,
        namespace: Option<&str>,
    ) -> Result<(Vec<Change>, u64), StoreError> {
        let content = self.content.lock();
        let oldest = content.log.front().map_or(content.version + 1, |change| change.version);
        if version + 1 < oldest && version < content.version {
            return Err(StoreError::Gone);
        }
        let newer = content.log.iter().filter(|change| change.version > version);
        let ours = newer.filter(|change| change.key.is_of(kind, namespace));
        Ok((ours.cloned().collect(), content.version))
    }

    fn put(&self, content: &mut Content, what: &'static str, key: &Key, object: Value) -> Value {
        let before = content.objects.get(key).cloned();
        let object = self.log(content, what, key, (object, before));
        content.objects.insert(key.clone(), object.clone());
        object
    }

    fn log(
        &self,
        content: &mut Content,
        what: &'static str,
        key: &Key,
        (mut object, before): (Value, Option<Value>),
    ) -> Value {
        content.version += 1;
        let version = content.version;
        metadata_of(&mut object).insert("resourceVersion".into(), json!(version.to_string()));
        if content.log.len() == LOG_LENGTH {
            content.log.pop_front();
        }
        let change = Change { version, what, key: key.clone(), object: object.clone(), before };
        content.log.push_back(change);
        self.version.send_replace(version);
        object
    }
}

/// Leaves out what a server leaves out: the kind, which the place says, and maps without anything in them.
fn tidy(object: &mut Value) {
    let object = as_object(object);
    for name in ["kind", "apiVersion"] {
        object.remove(name);
    }
    let is_empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
    object.retain(|name, value| name != "data" || !is_empty(value));
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.retain(|name, value| {
            !["labels", "annotations"].contains(&name.as_str()) || !is_empty(value)
        });
    }
}

/// The object's metadata, made where there is none.
fn metadata_of(object: &mut Value) -> &mut Map<String, Value> {
    field(object, "metadata")
}

/// What lies at `path`, a JSON pointer; null where nothing does.
pub(super) fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    object.pointer(path).unwrap_or(&Value::Null)
}

/// The object in the field `name`, made where there is none.
pub(super) fn field<'a>(object: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    as_object(as_object(object).entry(name).or_insert(Value::Null))
}

/// Writes down who set `spec.replicas` last: a manager with its operation, through which subresource, and
/// when.
pub(super) fn own_replicas(
    object: &mut Value,
    (manager, operation): (&str, &str),
    subresource: Option<&str>,
    time: &str,
) {
    let mut owner = json!({
        "manager": manager, "operation": operation, "apiVersion": "apps/v1", "time": time,
        "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": { "f:replicas": {} } },
    });
    if let Some(subresource) = subresource {
        as_object(&mut owner).insert("subresource".into(), json!(subresource));
    }
    field(object, "metadata").insert("managedFields".into(), json!([owner]));
}

/// The object that `value` is, or is made.
pub(super) fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it was made an object above"),
    }
}

/// A JSON merge patch (RFC 7396).
pub(super) fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    let object = as_object(into);
    for (name, value) in patch {
        if value.is_null() {
            object.remove(name);
        } else {
            merge(object.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Kubernetes writes its time stamps in whole seconds.
pub(super) fn whole_seconds(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::kinds::{DEPLOYMENTS, KINDS, PODS};

    fn deployments() -> &'static Kind {
        KINDS.iter().find(|kind| **kind == DEPLOYMENTS).unwrap()
    }

    fn stored() -> (Store, Key) {
        let (store, key) = (Store::new(), Key::new(deployments(), "shop", "web"));
        store.create(Timestamp::UNIX_EPOCH, &key, json!({"spec": {"replicas": 2}})).unwrap();
        (store, key)
    }

    #[test]
    fn a_write_with_an_old_version_is_a_conflict() {
        let (store, key) = stored();
        let scale = |to: i32| move |object: &mut Value| object["spec"]["replicas"] = json!(to);
        let second = store.update(&key, Some("1001"), scale(3)).unwrap();
        assert_eq!(second["metadata"]["resourceVersion"], "1002");
        assert_eq!(store.update(&key, Some("1001"), scale(4)), Err(StoreError::Conflict));
        assert_eq!(store.update(&key, None, scale(3)).unwrap(), second, "nothing changed");
        assert_eq!(
            store.create(Timestamp::UNIX_EPOCH, &key, json!({})),
            Err(StoreError::AlreadyExists)
        );
    }

    #[test]
    fn a_watch_hears_of_its_kind_and_namespace_and_of_a_gap() {
        let (store, key) = stored();
        assert_eq!(store.since(1, deployments(), None).unwrap_err(), StoreError::Gone);
        let what = |since: u64, namespace: Option<&str>| {
            let (changes, _) = store.since(since, deployments(), namespace).unwrap();
            changes.iter().map(|change| change.what).collect::<Vec<_>>()
        };
        store.delete(&key).unwrap();
        assert_eq!(what(1000, None), ["ADDED", "DELETED"]);
        assert_eq!(what(1001, Some("shop")), ["DELETED"]);
        assert!(what(1000, Some("other")).is_empty());
        assert!(
            store
                .since(1000, KINDS.iter().find(|kind| **kind == PODS).unwrap(), None)
                .unwrap()
                .0
                .is_empty()
        );
        for _ in 0..LOG_LENGTH {
            store.create(Timestamp::UNIX_EPOCH, &key, json!({})).unwrap();
            store.delete(&key).unwrap();
        }
        assert_eq!(store.since(1001, deployments(), None).unwrap_err(), StoreError::Gone);
    }

    #[test]
    fn merging_follows_the_rfc() {
        for (before, patch, after) in [
            (json!({"a": 1}), json!({"b": 2}), json!({"a": 1, "b": 2})),
            (json!({"a": 1, "b": 2}), json!({"a": null}), json!({"b": 2})),
            (
                json!({"a": {"b": 1, "c": 2}}),
                json!({"a": {"b": 3}}),
                json!({"a": {"b": 3, "c": 2}}),
            ),
            (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
            (json!("text"), json!({"a": 1}), json!({"a": 1})),
        ] {
            let mut merged = before.clone();
            merge(&mut merged, &patch);
            assert_eq!(merged, after, "{before} with {patch}");
        }
    }
}
