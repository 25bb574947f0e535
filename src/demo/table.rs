//! What `kubectl get` prints: the server makes the columns.

use axum::http::{HeaderMap, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::kinds::{DEPLOYMENTS, Kind, PODS};
use super::store::at;

/// Whether the client asks for a table.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains("as=Table"))
}

/// The objects as rows.
pub(super) fn of(kind: &Kind, objects: &[Value], now: Timestamp) -> Value {
    let middle: &[&str] = if *kind == DEPLOYMENTS {
        &["Ready", "Up-to-date", "Available"]
    } else if *kind == PODS {
        &["Ready", "Status"]
    } else {
        &[]
    };
    let names = std::iter::once("Name").chain(middle.iter().copied()).chain(["Age"]);
    let columns = names.map(|name| json!({ "name": name, "type": "string", "format": "", "description": "", "priority": 0 }));
    let rows = objects.iter().map(|object| {
        let mut cells = vec![at(object, "/metadata/name").clone()];
        cells.extend(middle_cells(kind, object));
        cells.push(json!(age(object, now)));
        json!({ "cells": cells, "object": {
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": at(object, "/metadata"),
        }})
    });
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {},
        "columnDefinitions": columns.collect::<Vec<_>>(), "rows": rows.collect::<Vec<_>>(),
    })
}

fn middle_cells(kind: &Kind, object: &Value) -> Vec<Value> {
    let status = at(object, "/status");
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    if *kind == DEPLOYMENTS {
        let ready = number(at(status, "/readyReplicas"));
        let of = format!("{ready}/{}", number(at(object, "/spec/replicas")));
        return vec![
            json!(of),
            json!(number(at(status, "/replicas")).to_string()),
            json!(ready.to_string()),
        ];
    }
    if *kind == PODS {
        let ready = at(status, "/conditions/0/status") == "True";
        let phase = if at(object, "/metadata/deletionTimestamp").is_string() {
            "Terminating"
        } else {
            at(status, "/phase").as_str().unwrap_or("Pending")
        };
        return vec![json!(if ready { "1/1" } else { "0/1" }), json!(phase)];
    }
    Vec::new()
}

fn age(object: &Value, now: Timestamp) -> String {
    let born: Option<Timestamp> =
        at(object, "/metadata/creationTimestamp").as_str().and_then(|text| text.parse().ok());
    let seconds = born.map_or(0, |born| now.duration_since(born).as_secs().max(0));
    if seconds < 120 { format!("{seconds}s") } else { format!("{}m", seconds / 60) }
}
