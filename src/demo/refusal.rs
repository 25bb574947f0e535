//! How the played API refuses: as a Status, with the words that a real API server uses.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::api::answer;
use super::faults::ApiFault;
use super::kinds::Kind;
use super::store::{StoreError, merge};

/// Why a request is refused.
#[derive(Debug)]
pub(super) enum Refusal {
    NoSuchPath,
    Malformed(String),
    Method,
    /// A real server has no word for this one.
    Unnamed(String),
    /// The form of a patch is none that is known.
    Form,
    /// The object breaks a rule of its kind.
    Invalid(&'static Kind, String, String),
    Store(StoreError, &'static Kind, String),
    Fault(ApiFault),
}

/// `configmaps`, `deployments.apps`.
fn resource(kind: &Kind) -> String {
    if kind.group.is_empty() {
        kind.plural.to_owned()
    } else {
        format!("{}.{}", kind.plural, kind.group)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, document) = match self {
            Self::NoSuchPath => {
                plain(404, "NotFound", "the server could not find the requested resource")
            }
            Self::Malformed(why) => plain(400, "BadRequest", &why),
            Self::Unnamed(why) => plain(500, "", &why),
            Self::Method => plain(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            ),
            Self::Form => plain(415, "UnsupportedMediaType", "415: Unsupported Media Type"),
            Self::Invalid(kind, name, why) => {
                let dot = if kind.group.is_empty() { "" } else { "." };
                let message =
                    format!("{}{dot}{} {name:?} is invalid: {why}", kind.name, kind.group);
                detailed(
                    422,
                    "Invalid",
                    &message,
                    &json!({
                        "name": name, "group": kind.group, "kind": kind.name,
                        "causes": [{ "reason": "FieldValueInvalid", "message": why }],
                    }),
                )
            }
            Self::Store(error, kind, name) => stored(error, kind, &name),
            Self::Fault(fault) => plain(fault.code(), fault.reason(), "a fault was switched on"),
        };
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = answer(status, &document);
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn stored(error: StoreError, kind: &Kind, name: &str) -> (u16, Value) {
    let resource = resource(kind);
    let (code, reason, message) = match error {
        StoreError::NotFound => (404, "NotFound", format!("{resource} {name:?} not found")),
        StoreError::AlreadyExists => {
            (409, "AlreadyExists", format!("{resource} {name:?} already exists"))
        }
        StoreError::Conflict => (
            409,
            "Conflict",
            format!("Operation cannot be fulfilled on {resource} {name:?}: {error} and try again"),
        ),
        StoreError::Gone => (410, "Expired", error.to_string()),
    };
    detailed(code, reason, &message, &details_of(kind, name))
}

/// Which object a Status is about.
fn details_of(kind: &Kind, name: &str) -> Value {
    let mut details = json!({ "name": name, "kind": kind.plural });
    if !kind.group.is_empty() {
        merge(&mut details, &json!({ "group": kind.group }));
    }
    details
}

fn plain(code: u16, reason: &str, message: &str) -> (u16, Value) {
    (code, status_document(code, reason, message))
}

fn detailed(code: u16, reason: &str, message: &str, details: &Value) -> (u16, Value) {
    let mut document = status_document(code, reason, message);
    merge(&mut document, &json!({ "details": details }));
    (code, document)
}

/// A Status that says no.
pub(super) fn status_document(code: u16, reason: &str, message: &str) -> Value {
    let mut document = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "code": code,
    });
    if !reason.is_empty() {
        merge(&mut document, &json!({ "reason": reason }));
    }
    document
}

/// A Status that says that an object was deleted.
pub(super) fn deleted(kind: &Kind, name: &str, uid: &Value) -> Value {
    let mut details = details_of(kind, name);
    merge(&mut details, &json!({ "uid": uid }));
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    })
}
