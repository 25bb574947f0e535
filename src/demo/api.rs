//! The Kubernetes API of the demo's cluster on a loopback port: discovery, lists, watches, and the writes
//! that podswell and `kubectl` use. Faults can be switched on, see [`super::faults`].
//!
//! Left out, because nobody here needs it: authentication, admission, validation, server-side apply's
//! ownership, protobuf.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use futures::Stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::faults::{ApiFault, Faults};
use super::kinds::{DEPLOYMENTS, KINDS, Kind};
use super::selector::Selector;
use super::store::{Change, Key, Store, StoreError, at, field, merge, whole_seconds};
use super::table;
use crate::runtime::clock::{Clock, instant};

/// How long a watch lasts where the client names no time.
const WATCH_TIME: Duration = Duration::from_secs(300);

/// How long a watch may not notice that a fault was switched on.
const WATCH_LOOKS: Duration = Duration::from_millis(500);

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
        .route("/api/{version}", get(core_resources))
        .route("/apis/{group}/{version}", get(resources))
        .route("/apis/authorization.k8s.io/v1/{review}", any(review))
        .route("/api/{version}/{*path}", any(core_objects))
        .route("/apis/{group}/{version}/{*path}", any(objects))
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
    let groups = KINDS.iter().filter(|kind| !kind.group.is_empty()).map(|kind| {
        let version = json!({ "groupVersion": kind.api_version(), "version": kind.version });
        (
            kind.group,
            json!({ "name": kind.group, "versions": [version], "preferredVersion": version }),
        )
    });
    let groups: std::collections::BTreeMap<_, _> = groups.collect();
    let list: Vec<_> = groups.into_values().collect();
    answer(StatusCode::OK, &json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": list }))
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
        resources.push(json!({
            "name": kind.plural, "singularName": kind.name.to_lowercase(), "kind": kind.name,
            "namespaced": kind.namespaced, "shortNames": [kind.short], "verbs": verbs,
        }));
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

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Parameters {
    watch: Option<String>,
    resource_version: Option<String>,
    timeout_seconds: Option<u64>,
    allow_watch_bookmarks: Option<String>,
    field_selector: Option<String>,
    label_selector: Option<String>,
    field_manager: Option<String>,
}

/// A request without its path.
struct Call {
    method: Method,
    headers: HeaderMap,
    parameters: Parameters,
    body: Bytes,
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
struct Place {
    kind: &'static Kind,
    namespace: Option<String>,
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

/// Why a request is refused, as a Kubernetes Status.
enum Refusal {
    NoSuchPath,
    Malformed(String),
    Method,
    Store(StoreError),
    Fault(ApiFault),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, reason, message) = match self {
            Self::NoSuchPath => (404, "NotFound", "the server could not find it".to_owned()),
            Self::Malformed(why) => (400, "BadRequest", why),
            Self::Method => (405, "MethodNotAllowed", "not here".to_owned()),
            Self::Store(error) => {
                let (code, reason) = match error {
                    StoreError::NotFound => (404, "NotFound"),
                    StoreError::AlreadyExists => (409, "AlreadyExists"),
                    StoreError::Conflict => (409, "Conflict"),
                    StoreError::Gone => (410, "Expired"),
                };
                (code, reason, error.to_string())
            }
            Self::Fault(fault) => {
                (fault.code(), fault.reason(), "a fault was switched on".to_owned())
            }
        };
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = answer(status, &status_document(code, reason, &message));
        if status == StatusCode::TOO_MANY_REQUESTS {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

fn status_document(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "message": message, "code": code,
    })
}

fn answer(status: StatusCode, body: &Value) -> Response {
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

fn is_true(parameter: Option<&str>) -> bool {
    matches!(parameter, Some("true" | "1"))
}

fn selector(call: &Call) -> Result<Selector, Refusal> {
    let Parameters { field_selector, label_selector, .. } = &call.parameters;
    Selector::parse(field_selector.as_deref(), label_selector.as_deref())
        .map_err(Refusal::Malformed)
}

fn typed(kind: &Kind, mut object: Value) -> Value {
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
    let items: Vec<_> = items.into_iter().map(|object| typed(place.kind, object)).collect();
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
    let object = read_body(call)?;
    let generated = || {
        let stem = at(&object, "/metadata/generateName").as_str()?;
        Some(format!("{stem}{:x}", api.clock.now().as_nanosecond()))
    };
    let name = at(&object, "/metadata/name").as_str().map(str::to_owned).or_else(generated);
    let name = name.ok_or_else(|| Refusal::Malformed("metadata.name is missing".to_owned()))?;
    let stored = api.store.create(api.clock.wall(), &place.key(&name), object)?;
    Ok(answer(StatusCode::CREATED, &typed(place.kind, stored)))
}

/// JSON, or YAML as `kubectl apply` sends it.
fn read_body(call: &Call) -> Result<Value, Refusal> {
    let kind = call.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let malformed = |why: String| Refusal::Malformed(why);
    if kind.is_some_and(|kind| kind.contains("yaml")) {
        let text = std::str::from_utf8(&call.body).map_err(|why| malformed(why.to_string()))?;
        return serde_saphyr::from_str(text).map_err(|why| malformed(why.to_string()));
    }
    serde_json::from_slice(&call.body).map_err(|why| malformed(why.to_string()))
}

fn one(api: &Api, place: &Place, name: &str, call: &Call) -> Result<Response, Refusal> {
    let key = place.key(name);
    if place.subresource.as_deref() == Some("scale") && *place.kind == DEPLOYMENTS {
        return scale(api, &key, call);
    }
    let found = match call.method {
        Method::GET => api.store.get(&key).ok_or(StoreError::NotFound)?,
        Method::DELETE => api.store.delete(&key)?,
        Method::PUT => {
            let object = read_body(call)?;
            let version = version_of(&object);
            api.store.update(&key, version.as_deref(), |stored| *stored = object)?
        }
        Method::PATCH => {
            let patch = read_body(call)?;
            let apply = call
                .headers
                .get(header::CONTENT_TYPE)
                .is_some_and(|kind| kind == "application/apply-patch+yaml");
            if apply && api.store.get(&key).is_none() {
                api.store.create(api.clock.wall(), &key, patch)?
            } else {
                let version = version_of(&patch);
                api.store.update(&key, version.as_deref(), |stored| merge(stored, &patch))?
            }
        }
        _ => return Err(Refusal::Method),
    };
    let found = typed(place.kind, found);
    if call.method == Method::GET && table::is_wanted(&call.headers) {
        return Ok(answer(StatusCode::OK, &table::of(place.kind, &[found], api.clock.wall())));
    }
    Ok(answer(StatusCode::OK, &found))
}

fn version_of(object: &Value) -> Option<String> {
    let version = at(object, "/metadata/resourceVersion").as_str()?;
    (!version.is_empty()).then(|| version.to_owned())
}

fn scale(api: &Api, key: &Key, call: &Call) -> Result<Response, Refusal> {
    let object = match call.method {
        Method::GET => api.store.get(key).ok_or(StoreError::NotFound)?,
        Method::PATCH | Method::PUT => {
            let wanted = read_body(call)?;
            let replicas = at(&wanted, "/spec/replicas").as_i64().filter(|replicas| *replicas >= 0);
            let replicas = replicas.ok_or_else(|| {
                Refusal::Malformed("spec.replicas is not a number ≥ 0".to_owned())
            })?;
            let manager = call.parameters.field_manager.as_deref().unwrap_or("unknown");
            let time = whole_seconds(api.clock.wall());
            api.store.update(key, version_of(&wanted).as_deref(), |object| {
                if at(object, "/spec/replicas").as_i64() == Some(replicas) {
                    return;
                }
                field(object, "spec").insert("replicas".into(), json!(replicas));
                let owned = json!([{
                    "manager": manager, "operation": "Update", "apiVersion": "apps/v1",
                    "subresource": "scale", "time": time, "fieldsType": "FieldsV1",
                    "fieldsV1": { "f:spec": { "f:replicas": {} } },
                }]);
                field(object, "metadata").insert("managedFields".into(), owned);
            })?
        }
        _ => return Err(Refusal::Method),
    };
    let metadata = at(&object, "/metadata");
    Ok(answer(
        StatusCode::OK,
        &json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1",
            "metadata": {
                "name": key.name, "namespace": key.namespace, "uid": at(metadata, "/uid"),
                "resourceVersion": at(metadata, "/resourceVersion"),
                "creationTimestamp": at(metadata, "/creationTimestamp"),
            },
            "spec": { "replicas": at(&object, "/spec/replicas") },
            "status": { "replicas": at(&object, "/status/replicas").as_i64().unwrap_or(0) },
        }),
    ))
}

/// What one watch has told and still has to tell.
struct Watching {
    api: Api,
    kind: &'static Kind,
    namespace: Option<String>,
    selector: Selector,
    version: u64,
    news: watch::Receiver<u64>,
    until: Instant,
    bookmarks: bool,
    as_table: bool,
}

fn watch_objects(api: &Api, place: &Place, call: &Call) -> Result<Response, Refusal> {
    let version = call.parameters.resource_version.as_deref().unwrap_or_default();
    let version: u64 = match version {
        "" | "0" => api.store.list(place.kind, None).1,
        text => text.parse().map_err(|_why| Refusal::Malformed("resourceVersion".to_owned()))?,
    };
    let lasts = call.parameters.timeout_seconds.map_or(WATCH_TIME, Duration::from_secs);
    let watching = Watching {
        api: api.clone(),
        kind: place.kind,
        namespace: place.namespace.clone(),
        selector: selector(call)?,
        version,
        news: api.store.subscribe(),
        until: instant() + lasts,
        bookmarks: is_true(call.parameters.allow_watch_bookmarks.as_deref()),
        as_table: table::is_wanted(&call.headers),
    };
    let body = Body::from_stream(watching.lines());
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

impl Watching {
    fn lines(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        futures::stream::unfold(Some(self), |watching| async move {
            let mut watching = watching?;
            loop {
                if watching.api.faults.drops_watches() {
                    return None;
                }
                let forgotten = watching.api.faults.expires_watches();
                let news = if forgotten { Err(StoreError::Gone) } else { watching.next_lines() };
                match news {
                    Err(gone) => {
                        let line =
                            line("ERROR", &status_document(410, "Expired", &gone.to_string()));
                        return Some((Ok(line.into()), None));
                    }
                    Ok(lines) if !lines.is_empty() => {
                        return Some((Ok(lines.into()), Some(watching)));
                    }
                    Ok(_) => {}
                }
                let looks = watching.until.min(instant() + WATCH_LOOKS);
                // What ended the wait does not matter: the loop looks what there is.
                let _ = tokio::time::timeout_at(looks, watching.news.changed()).await;
                if instant() >= watching.until {
                    let last = watching.bookmarks.then(|| Ok(watching.bookmark().into()));
                    return last.map(|line| (line, None));
                }
            }
        })
    }

    fn next_lines(&mut self) -> Result<String, StoreError> {
        self.news.mark_unchanged();
        let (changes, version) =
            self.api.store.since(self.version, self.kind, self.namespace.as_deref())?;
        self.version = version;
        Ok(changes.into_iter().filter_map(|change| self.line_of(change)).collect())
    }

    /// An object that leaves the selection is deleted as far as this watch is concerned.
    fn line_of(&self, change: Change) -> Option<String> {
        let what = match (self.selector.matches(&change.object), change.what) {
            (true, what) => what,
            (false, "MODIFIED") => "DELETED",
            (false, _) => return None,
        };
        let object = typed(self.kind, change.object);
        if self.as_table {
            return Some(line(what, &table::of(self.kind, &[object], self.api.clock.wall())));
        }
        Some(line(what, &object))
    }

    fn bookmark(&self) -> String {
        let metadata = json!({ "resourceVersion": self.version.to_string() });
        line("BOOKMARK", &typed(self.kind, json!({ "metadata": metadata })))
    }
}

fn line(what: &str, object: &Value) -> String {
    format!("{}\n", json!({ "type": what, "object": object }))
}
