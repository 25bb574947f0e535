//! The Kubernetes API of the demo's cluster on a loopback port: discovery, lists, watches, and the writes
//! that podswell and `kubectl` use. Faults can be switched on, see [`super::faults`].
//!
//! `tests/page/api.rs` says the same to this API and to a real one. Left out, because nobody here needs it:
//! authentication, admission, all but the plainest validation, warnings, server-side apply's ownership, lists in
//! parts, protobuf, the schemas of `OpenAPI`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use serde::Deserialize;
use serde_json::{Value, json};

use super::faults::{ApiFault, Faults};
use super::kinds::{DEPLOYMENTS, KINDS, Kind, NAMESPACES};
use super::patch::Form;
use super::refusal::{Refusal, deleted};
use super::selector::Selector;
use super::store::{Key, Store, StoreError, at, field, merge, own_replicas, whole_seconds};
use super::watching::watch_objects;
use super::{openapi, strict, table, valid};
use crate::runtime::clock::Clock;

/// What the API works with.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) store: Arc<Store>,
    pub(super) faults: Arc<Faults>,
    pub(super) clock: Arc<dyn Clock>,
}

/// The routes of the API.
pub(super) fn routes(api: Api) -> Router {
    Router::new()
        .route("/version", get(version))
        .route("/api", get(core_versions))
        .route("/apis", get(groups))
        .route("/apis/{group}", get(one_group))
        .route("/api/{version}", get(core_resources))
        .route("/apis/{group}/{version}", get(resources))
        .route("/apis/authorization.k8s.io/v1/{review}", any(review))
        .route("/api/{version}/{*path}", any(core_objects))
        .route("/apis/{group}/{version}/{*path}", any(objects))
        .merge(openapi::routes())
        .with_state(api)
}

async fn version() -> Response {
    answer(
        StatusCode::OK,
        &json!({ "major": "1", "minor": "36", "gitVersion": "v1.36.0-podswell-demo" }),
    )
}

async fn core_versions() -> Response {
    answer(StatusCode::OK, &json!({ "kind": "APIVersions", "versions": ["v1"] }))
}

async fn groups() -> Response {
    let groups = KINDS.iter().filter(|kind| !kind.group.is_empty());
    let groups: BTreeMap<_, _> = groups.map(|kind| (kind.group, group_of(kind))).collect();
    let list: Vec<_> = groups.into_values().collect();
    answer(StatusCode::OK, &json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": list }))
}

async fn one_group(Path(group): Path<String>) -> Response {
    let Some(kind) = KINDS.iter().find(|kind| kind.group == group && !group.is_empty()) else {
        return Refusal::NoSuchPath.into_response();
    };
    let mut document = group_of(kind);
    merge(&mut document, &json!({ "kind": "APIGroup", "apiVersion": "v1" }));
    answer(StatusCode::OK, &document)
}

fn group_of(kind: &Kind) -> Value {
    let version = json!({ "groupVersion": kind.api_version(), "version": kind.version });
    json!({ "name": kind.group, "versions": [version], "preferredVersion": version })
}

async fn core_resources(Path(version): Path<String>) -> Response {
    resource_list("", &version)
}

async fn resources(Path((group, version)): Path<(String, String)>) -> Response {
    resource_list(&group, &version)
}

fn resource_list(group: &str, version: &str) -> Response {
    let verbs = json!(["create", "delete", "get", "list", "patch", "update", "watch"]);
    let mut resources = Vec::new();
    for kind in KINDS.iter().filter(|kind| kind.group == group && kind.version == version) {
        let mut resource = json!({
            "name": kind.plural, "singularName": kind.name.to_lowercase(), "kind": kind.name,
            "namespaced": kind.namespaced, "verbs": verbs,
        });
        if !kind.short.is_empty() {
            merge(&mut resource, &json!({ "shortNames": [kind.short] }));
        }
        resources.push(resource);
        if *kind == DEPLOYMENTS {
            resources.push(json!({
                "name": "deployments/scale", "singularName": "", "kind": "Scale", "namespaced": true,
                "group": "autoscaling", "version": "v1", "verbs": ["get", "patch", "update"],
            }));
        }
    }
    if resources.is_empty() {
        return Refusal::NoSuchPath.into_response();
    }
    let of = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    answer(
        StatusCode::OK,
        &json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": of, "resources": resources,
        }),
    )
}

/// Everything is allowed here.
async fn review(body: Bytes) -> Response {
    let mut review: Value = serde_json::from_slice(&body).unwrap_or_default();
    field(&mut review, "status").insert("allowed".to_owned(), json!(true));
    answer(StatusCode::CREATED, &review)
}

async fn core_objects(
    State(api): State<Api>,
    Path((version, path)): Path<(String, String)>,
    call: Call,
) -> Response {
    respond(&api, "", &version, &path, call).await
}

async fn objects(
    State(api): State<Api>,
    Path((group, version, path)): Path<(String, String, String)>,
    call: Call,
) -> Response {
    respond(&api, &group, &version, &path, call).await
}

/// What clients say behind the path.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Parameters {
    watch: Option<String>,
    pub(super) resource_version: Option<String>,
    pub(super) timeout_seconds: Option<u64>,
    pub(super) allow_watch_bookmarks: Option<String>,
    field_selector: Option<String>,
    label_selector: Option<String>,
    field_manager: Option<String>,
    field_validation: Option<String>,
}

/// A request without its path.
pub(super) struct Call {
    method: Method,
    pub(super) headers: HeaderMap,
    pub(super) parameters: Parameters,
    body: Bytes,
}

impl Call {
    fn content_type(&self) -> &str {
        let kind = self.headers.get(header::CONTENT_TYPE);
        kind.and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl<S: Send + Sync> axum::extract::FromRequest<S> for Call {
    type Rejection = Response;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Response> {
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let Query(parameters) =
            Query::try_from_uri(request.uri()).map_err(IntoResponse::into_response)?;
        let body =
            Bytes::from_request(request, state).await.map_err(IntoResponse::into_response)?;
        Ok(Self { method, headers, parameters, body })
    }
}

/// Which objects a path names.
pub(super) struct Place {
    pub(super) kind: &'static Kind,
    pub(super) namespace: Option<String>,
    name: Option<String>,
    subresource: Option<String>,
}

impl Place {
    fn parse(group: &str, version: &str, path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (namespace, rest) = match parts.as_slice() {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (plural, None, None),
            [plural, name] => (plural, Some(*name), None),
            [plural, name, subresource] => (plural, Some(*name), Some(*subresource)),
            _ => return None,
        };
        let kind = Kind::find(group, version, plural)?;
        let [namespace, name, subresource] =
            [namespace, name, subresource].map(|part| part.map(str::to_owned));
        Some(Self { kind, namespace, name, subresource })
    }

    fn key(&self, name: &str) -> Key {
        Key::new(self.kind, self.namespace.as_deref().unwrap_or_default(), name)
    }
}

/// A JSON answer.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

async fn respond(api: &Api, group: &str, version: &str, path: &str, call: Call) -> Response {
    let Some(place) = Place::parse(group, version, path) else {
        return Refusal::NoSuchPath.into_response();
    };
    let writes = call.method != Method::GET;
    match api.faults.api(writes, place.kind) {
        Some(ApiFault::Silence) => std::future::pending().await,
        Some(fault) => return Refusal::Fault(fault).into_response(),
        None => {}
    }
    let done = match (&place.name, &call.method) {
        (None, &Method::GET) if is_true(call.parameters.watch.as_deref()) => {
            watch_objects(api, &place, &call)
        }
        (None, &Method::GET) => list(api, &place, &call),
        (None, &Method::POST) => create(api, &place, &call),
        (Some(name), _) => one(api, &place, name, &call),
        _ => Err(Refusal::Method),
    };
    done.unwrap_or_else(IntoResponse::into_response)
}

pub(super) fn is_true(parameter: Option<&str>) -> bool {
    matches!(parameter, Some("true" | "1"))
}

pub(super) fn selector(call: &Call) -> Result<Selector, Refusal> {
    let Parameters { field_selector, label_selector, .. } = &call.parameters;
    Selector::parse(field_selector.as_deref(), label_selector.as_deref())
        .map_err(Refusal::Malformed)
}

/// The object with its kind, as it is never stored.
pub(super) fn typed(kind: &Kind, mut object: Value) -> Value {
    if let Value::Object(map) = &mut object {
        map.insert("kind".into(), json!(kind.name));
        map.insert("apiVersion".into(), json!(kind.api_version()));
    }
    object
}

fn list(api: &Api, place: &Place, call: &Call) -> Result<Response, Refusal> {
    let selector = selector(call)?;
    let (mut items, version) = api.store.list(place.kind, place.namespace.as_deref());
    items.retain(|object| selector.matches(object));
    if table::is_wanted(&call.headers) {
        return Ok(answer(StatusCode::OK, &table::of(place.kind, &items, api.clock.wall())));
    }
    Ok(answer(
        StatusCode::OK,
        &json!({
            "kind": format!("{}List", place.kind.name), "apiVersion": place.kind.api_version(),
            "metadata": { "resourceVersion": version.to_string() }, "items": items,
        }),
    ))
}

fn create(api: &Api, place: &Place, call: &Call) -> Result<Response, Refusal> {
    let mut object = read_body(call)?;
    let said = |key: &str| at(&object, key).as_str().filter(|text| !text.is_empty());
    let name = match (said("/metadata/name"), said("/metadata/generateName")) {
        (Some(name), _) => name.to_owned(),
        (None, Some(stem)) => format!("{stem}{}", suffix(api.clock.now().as_nanosecond())),
        (None, None) => String::new(),
    };
    if version_of(&object).is_some() {
        let why = "resourceVersion should not be set on objects to be created";
        return Err(Refusal::Unnamed(why.to_owned()));
    }
    valid::admit(place.kind, &name, &mut object)?;
    refuse_unknown(place, call, &object)?;
    is_home_there(api, place)?;
    let stored = api.store.create(api.clock.wall(), &place.key(&name), object);
    let stored = stored.map_err(|error| Refusal::Store(error, place.kind, name))?;
    Ok(answer(StatusCode::CREATED, &typed(place.kind, stored)))
}

/// Refuses fields that the kind does not have, where the client wants that.
fn refuse_unknown(place: &Place, call: &Call, object: &Value) -> Result<(), Refusal> {
    let Kind { name, version, .. } = place.kind;
    strict::check(call.parameters.field_validation.as_deref(), place.kind, object).map_err(|why| {
        let told = format!("{name} in version {version:?} cannot be handled as a {name}: {why}");
        Refusal::Malformed(told)
    })
}

/// Five letters and digits, as a server adds to a generated name.
fn suffix(nanoseconds: i128) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rest = nanoseconds.unsigned_abs() / 1000;
    let mut next = || {
        let count = LETTERS.len() as u128;
        let at = usize::try_from(rest % count).unwrap_or(0);
        rest /= count;
        LETTERS.get(at).copied().map_or('x', char::from)
    };
    (0..5).map(|_| next()).collect()
}

/// Objects are born only in namespaces that exist.
fn is_home_there(api: &Api, place: &Place) -> Result<(), Refusal> {
    let Some(namespace) = place.namespace.as_ref().filter(|_| place.kind.namespaced) else {
        return Ok(());
    };
    let namespaces = KINDS.iter().find(|kind| **kind == NAMESPACES).unwrap_or(place.kind);
    match api.store.get(&Key::new(namespaces, "", namespace)) {
        Some(_) => Ok(()),
        None => Err(Refusal::Store(StoreError::NotFound, namespaces, namespace.clone())),
    }
}

/// JSON, or YAML as `kubectl apply` sends it.
fn read_body(call: &Call) -> Result<Value, Refusal> {
    let malformed = |why: String| Refusal::Malformed(why);
    if call.content_type().contains("yaml") {
        let text = std::str::from_utf8(&call.body).map_err(|why| malformed(why.to_string()))?;
        return serde_saphyr::from_str(text).map_err(|why| malformed(why.to_string()));
    }
    serde_json::from_slice(&call.body).map_err(|why| malformed(why.to_string()))
}

fn one(api: &Api, place: &Place, name: &str, call: &Call) -> Result<Response, Refusal> {
    let key = place.key(name);
    let failed = |error| Refusal::Store(error, place.kind, name.to_owned());
    match place.subresource.as_deref() {
        None | Some("status") => {}
        Some("scale") if *place.kind == DEPLOYMENTS => return scale(api, place, &key, call),
        Some(_) => return Err(Refusal::NoSuchPath),
    }
    let found = match call.method {
        Method::GET => api.store.get(&key).ok_or_else(|| failed(StoreError::NotFound))?,
        Method::DELETE => {
            let gone = api.store.delete(&key).map_err(failed)?;
            return Ok(answer(
                StatusCode::OK,
                &deleted(place.kind, name, at(&gone, "/metadata/uid")),
            ));
        }
        Method::PUT => replace(api, place, name, call)?,
        Method::PATCH => return patch(api, place, name, call),
        _ => return Err(Refusal::Method),
    };
    let found = typed(place.kind, found);
    if call.method == Method::GET && table::is_wanted(&call.headers) {
        return Ok(answer(StatusCode::OK, &table::of(place.kind, &[found], api.clock.wall())));
    }
    Ok(answer(StatusCode::OK, &found))
}

fn replace(api: &Api, place: &Place, name: &str, call: &Call) -> Result<Value, Refusal> {
    let mut object = read_body(call)?;
    if let Some(other) = at(&object, "/metadata/name").as_str().filter(|other| *other != name) {
        return Err(Refusal::Malformed(format!(
            "the name of the object ({other}) does not match the name on the URL ({name})"
        )));
    }
    valid::admit(place.kind, name, &mut object)?;
    refuse_unknown(place, call, &object)?;
    let version = version_of(&object);
    let whole = place.subresource.is_some();
    let stored = api.store.update(&place.key(name), version.as_deref(), |stored| {
        let status = stored.get("status").cloned();
        *stored = object;
        if !whole {
            keep_status(stored, status);
        }
    });
    stored.map_err(|error| Refusal::Store(error, place.kind, name.to_owned()))
}

/// What a workload's status says changes only through the subresource.
fn keep_status(object: &mut Value, status: Option<Value>) {
    if let Some(object) = object.as_object_mut() {
        match status {
            Some(status) => object.insert("status".into(), status),
            None => object.remove("status"),
        };
    }
}

fn patch(api: &Api, place: &Place, name: &str, call: &Call) -> Result<Response, Refusal> {
    let form = Form::of(call.content_type()).ok_or(Refusal::Form)?;
    let patch = read_body(call)?;
    let key = place.key(name);
    let failed = |error| Refusal::Store(error, place.kind, name.to_owned());
    let invalid = |why: String| Refusal::Invalid(place.kind, name.to_owned(), why);
    if form == Form::Apply {
        if call.parameters.field_manager.as_deref().unwrap_or_default().is_empty() {
            return Err(invalid("fieldManager: Required value".to_owned()));
        }
        if api.store.get(&key).is_none() {
            let mut object = patch;
            valid::admit(place.kind, name, &mut object)?;
            refuse_unknown(place, call, &object)?;
            is_home_there(api, place)?;
            let stored = api.store.create(api.clock.wall(), &key, object).map_err(failed)?;
            return Ok(answer(StatusCode::CREATED, &typed(place.kind, stored)));
        }
    }
    let version = version_of(&patch);
    let whole = place.subresource.is_some();
    let mut wrong = None;
    let time = whole_seconds(api.clock.wall());
    let stored = api.store.update(&key, version.as_deref(), |stored| {
        let (before, status) = (stored.clone(), stored.get("status").cloned());
        let done = form.apply(stored, &patch).map_err(invalid);
        let wish = call.parameters.field_validation.as_deref();
        let checked = done.and_then(|()| strict::check(wish, place.kind, stored).map_err(invalid));
        wrong = checked.and_then(|()| valid::admit(place.kind, name, stored)).err();
        if wrong.is_some() {
            *stored = before;
            return;
        }
        if !whole {
            keep_status(stored, status);
        }
        let replicas = |object| at(object, "/spec/replicas").as_i64();
        if *place.kind == DEPLOYMENTS && replicas(stored) != replicas(&before) {
            let manager = call.parameters.field_manager.as_deref().unwrap_or("unknown");
            let operation = if form == Form::Apply { "Apply" } else { "Update" };
            own_replicas(stored, (manager, operation), None, &time);
        }
    });
    match wrong {
        Some(refusal) => Err(refusal),
        None => Ok(answer(StatusCode::OK, &typed(place.kind, stored.map_err(failed)?))),
    }
}

fn version_of(object: &Value) -> Option<String> {
    let version = at(object, "/metadata/resourceVersion").as_str()?;
    (!version.is_empty()).then(|| version.to_owned())
}

fn scale(api: &Api, place: &Place, key: &Key, call: &Call) -> Result<Response, Refusal> {
    let failed = |error| Refusal::Store(error, place.kind, key.name.clone());
    let object = match call.method {
        Method::GET => api.store.get(key).ok_or_else(|| failed(StoreError::NotFound))?,
        Method::PATCH | Method::PUT => {
            let wanted = scale_wanted(api, place, key, call)?;
            let manager = call.parameters.field_manager.as_deref().unwrap_or("unknown");
            let time = whole_seconds(api.clock.wall());
            let version = version_of(&wanted.0);
            let stored = api.store.update(key, version.as_deref(), |object| {
                if at(object, "/spec/replicas").as_i64() == Some(wanted.1) {
                    return;
                }
                field(object, "spec").insert("replicas".into(), json!(wanted.1));
                own_replicas(object, (manager, "Update"), Some("scale"), &time);
            });
            stored.map_err(failed)?
        }
        _ => return Err(Refusal::Method),
    };
    Ok(answer(StatusCode::OK, &scale_of(key, &object)))
}

/// The Scale of a Deployment.
fn scale_of(key: &Key, object: &Value) -> Value {
    let metadata = at(object, "/metadata");
    let labels = at(object, "/spec/selector/matchLabels").as_object();
    let labels = labels
        .into_iter()
        .flatten()
        .map(|(label, value)| format!("{label}={}", value.as_str().unwrap_or_default()));
    let selector = labels.collect::<Vec<_>>().join(",");
    // A real server leaves zero out.
    let replicas = at(object, "/spec/replicas").as_i64().filter(|replicas| *replicas != 0);
    let spec = replicas.map_or_else(|| json!({}), |replicas| json!({ "replicas": replicas }));
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": key.name, "namespace": key.namespace, "uid": at(metadata, "/uid"),
            "resourceVersion": at(metadata, "/resourceVersion"),
            "creationTimestamp": at(metadata, "/creationTimestamp"),
        },
        "spec": spec,
        "status": {
            "replicas": at(object, "/status/replicas").as_i64().unwrap_or(0), "selector": selector,
        },
    })
}

/// The Scale that a client wants, and its replicas.
fn scale_wanted(api: &Api, place: &Place, key: &Key, call: &Call) -> Result<(Value, i64), Refusal> {
    let body = read_body(call)?;
    let invalid = |why: String| Refusal::Invalid(place.kind, key.name.clone(), why);
    let wanted = if call.method == Method::PATCH {
        let form = Form::of(call.content_type()).ok_or(Refusal::Form)?;
        let stored = api.store.get(key);
        let missing = || Refusal::Store(StoreError::NotFound, place.kind, key.name.clone());
        let mut scale = scale_of(key, &stored.ok_or_else(missing)?);
        // The patch's own version counts, not the one that it was applied to.
        field(&mut scale, "metadata").remove("resourceVersion");
        form.apply(&mut scale, &body).map_err(invalid)?;
        scale
    } else {
        body
    };
    let replicas = at(&wanted, "/spec/replicas");
    let replicas = match replicas.as_i64() {
        Some(replicas) => replicas,
        None if replicas.is_null() => 0,
        None => return Err(Refusal::Malformed(format!("spec.replicas is {replicas}"))),
    };
    if replicas < 0 {
        return Err(invalid(format!("spec.replicas: Invalid value: {replicas}")));
    }
    Ok((wanted, replicas))
}
