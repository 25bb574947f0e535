//! As much of `OpenAPI` as `kubectl` asks before it writes: which patches take `fieldValidation`. Where they
//! do, `kubectl` leaves the search for unknown fields to the server, which [`super::strict`] does. Schemas are
//! not served, and what needs them (`kubectl explain`) does not work here.

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};

use super::api::answer;
use super::kinds::{DEPLOYMENTS, KINDS, Kind};
use super::refusal::Refusal;

/// The routes below `/openapi`.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/openapi/v3", get(index)).route(
        "/openapi/v3/{*path}",
        get(|Path(path): Path<String>| async move { document(&path) }),
    )
}

async fn index() -> Response {
    let paths: Map<_, _> = KINDS
        .iter()
        .map(root)
        .map(|root| (root.clone(), json!({ "serverRelativeURL": format!("/openapi/v3/{root}") })))
        .collect();
    answer(StatusCode::OK, &json!({ "paths": paths }))
}

/// `api/v1`, `apis/apps/v1`.
fn root(kind: &Kind) -> String {
    format!("{}/{}", if kind.group.is_empty() { "api" } else { "apis" }, kind.api_version())
}

/// What can be patched below `wanted`, as `apis/apps/v1`.
fn document(wanted: &str) -> Response {
    let mut paths = Map::new();
    for kind in KINDS.iter().filter(|kind| root(kind) == wanted) {
        let place = if kind.namespaced { "namespaces/{namespace}/" } else { "" };
        let path = format!("/{wanted}/{place}{}/{{name}}", kind.plural);
        if *kind == DEPLOYMENTS {
            paths.insert(format!("{path}/scale"), patch("autoscaling", "v1", "Scale"));
        }
        paths.insert(path, patch(kind.group, kind.version, kind.name));
    }
    if paths.is_empty() {
        return Refusal::NoSuchPath.into_response();
    }
    answer(
        StatusCode::OK,
        &json!({
            "openapi": "3.0.0", "info": { "title": "podswell demo", "version": env!("CARGO_PKG_VERSION") },
            "paths": paths,
        }),
    )
}

fn patch(group: &str, version: &str, kind: &str) -> Value {
    let parameter = |name: &str| json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } });
    // Without its schema a strategic merge cannot be prepared from this document; kubectl then goes by the
    // types that it knows itself.
    let forms = ["application/merge-patch+json", "application/json-patch+json"];
    let content: Map<_, _> = forms.iter().map(|form| ((*form).to_owned(), json!({}))).collect();
    json!({ "patch": {
        "parameters": [parameter("fieldManager"), parameter("fieldValidation")],
        "requestBody": { "content": content, "required": true },
        "responses": { "200": { "description": "OK" } },
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": { "group": group, "version": version, "kind": kind },
    }})
}
