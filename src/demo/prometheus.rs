//! A Prometheus as far as podswell asks one: instant queries of the few series that the demo has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::cast::{Actor, Seen};
use super::faults::Faults;
use super::town::{Numbers, full_name};
use crate::runtime::clock::Clock;

/// How long a slow answer takes.
const SLOW: Duration = Duration::from_secs(8);

/// What the endpoint works with.
#[derive(Clone)]
pub(super) struct Prometheus {
    pub(super) numbers: Arc<Mutex<BTreeMap<String, Numbers>>>,
    pub(super) faults: Arc<Faults>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) cast: Arc<[Actor]>,
}

/// The routes of the endpoint.
pub(super) fn routes(prometheus: Prometheus) -> Router {
    Router::new().route("/api/v1/query", any(query)).with_state(prometheus)
}

async fn query(State(prometheus): State<Prometheus>, request: axum::extract::Request) -> Response {
    if prometheus.faults.is_on("prometheus-down") {
        return (StatusCode::SERVICE_UNAVAILABLE, "switched off").into_response();
    }
    if prometheus.faults.is_on("prometheus-slow") {
        tokio::time::sleep(SLOW).await;
    }
    let asked = request.uri().query().unwrap_or_default().to_owned();
    let body = axum::body::to_bytes(request.into_body(), 64 * 1024).await.unwrap_or_default();
    let asked = format!("{asked}&{}", String::from_utf8_lossy(&body));
    let result: Vec<Value> = [
        ("gateway_requests_in_flight", Seen::RequestsInFlight),
        ("ingress_requests_per_second", Seen::RequestRate),
        ("queue_items", Seen::Queue),
        ("scenario_load", Seen::Scenario),
    ]
    .into_iter()
    .filter(|(metric, _)| asked.contains(metric))
    .flat_map(|(metric, seen)| prometheus.series(metric, seen))
    .collect();
    Json(json!({ "status": "success", "data": { "resultType": "vector", "result": result } }))
        .into_response()
}

impl Prometheus {
    /// How far this server's time stamps are from the truth, in seconds.
    fn clock_error_s(&self) -> f64 {
        if self.faults.is_on("prometheus-stale") {
            return -3600.0;
        }
        if self.faults.is_on("prometheus-ahead") { 7200.0 } else { 0.0 }
    }

    fn series(&self, metric: &str, seen: Seen) -> Vec<Value> {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
        let now = self.clock.wall().as_millisecond() as f64 / 1000.0 + self.clock_error_s();
        let lies = self.faults.is_on("prometheus-nan");
        let numbers = self.numbers.lock();
        let actors = self.cast.iter().filter(|actor| actor.seen == seen);
        actors
            .map(|actor| {
                let mine = numbers.get(&full_name(&actor.namespace, &actor.name)).copied();
                let mine = mine.unwrap_or_default();
                let value = if actor.items_per_pod.is_some() { mine.backlog } else { mine.load };
                let value = if lies { "NaN".to_owned() } else { value.to_string() };
                json!({
                    "metric": {
                        "__name__": metric, "namespace": actor.namespace, "deployment": actor.name,
                    },
                    "value": [now, value],
                })
            })
            .collect()
    }
}
