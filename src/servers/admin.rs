//! What operators and people ask: probes and metrics on one listener, the targets and their decisions on
//! another that only this machine reaches, unless a token protects it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path as UrlPath, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde::Deserialize;

use super::page::{self, Streams};
use super::peers::Peers;
use super::pods::PodTable;
use super::view::{
    Document, EngineBody, ErrorBody, HistoryBody, LeaseBody, ListBody, MomentBody, StatusBody,
    Summary, TargetBody, WatchBody,
};
use crate::core::decision::TargetStatus;
use crate::core::explain;
use crate::core::pod_reading::PodReadings;
use crate::core::source::SCRAPE;
use crate::core::target::TargetId;
use crate::runtime::args::read_token;
use crate::runtime::clock::Clock;
use crate::runtime::engine_handle::EngineHandle;
use crate::runtime::health::Health;
use crate::runtime::metrics::{CONTENT_TYPE, Metrics};
use crate::runtime::role::RoleBoard;
use crate::runtime::status_board::StatusBoard;
use crate::runtime::telemetry::LogControl;

/// The most bytes of a request's body.
pub const MAX_BODY: usize = 4096;

/// How long an answer may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Says whether the target of an explanation needs a person: `true` or `false`.
pub const ATTENTION_HEADER: &str = "podswell-attention";

/// What the servers read. Cheap to clone.
#[derive(Clone)]
pub struct Readers {
    /// The newest status of every target.
    pub board: Arc<StatusBoard>,
    /// Liveness and readiness.
    pub health: Arc<Health>,
    /// The metric families.
    pub metrics: Arc<Metrics>,
    /// The engine's queue.
    pub engine: EngineHandle,
    /// The log level.
    pub log: LogControl,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What was heard of single pods.
    pub pods: Arc<Mutex<PodReadings>>,
}

/// Who may use `/v1`.
#[derive(Clone, Debug)]
pub struct Access {
    /// Every request must carry the token of this file.
    pub token_file: Option<PathBuf>,
    /// The listener is on loopback: requests must also name it so, which a web page that was rebound
    /// to this address by DNS does not.
    pub loopback: bool,
}

/// The routes of the public listener: `/livez`, `/readyz`, `/metrics`.
pub fn public_routes(readers: Readers) -> Router {
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics));
    finish(routes, readers)
}

/// The routes of the admin listener: `/v1/..`, `/log-level`, and the page, whose files need no token.
/// `demo` serves what lies below `/v1/demo`, where there is one.
pub fn admin_routes(readers: Readers, access: Access, demo: Option<Router>) -> Router {
    admin_routes_among(readers, access, demo, None)
}

/// As [`admin_routes`]; with `peers`, the targets are answered by whoever holds the lease, or not at all
/// where that process does not say where it answers.
pub fn admin_routes_among(
    readers: Readers,
    access: Access,
    demo: Option<Router>,
    peers: Option<Peers>,
) -> Router {
    let open = Access { token_file: None, ..access };
    let mut shared = target_routes();
    if let Some(peers) = peers {
        let state = (readers.clone(), peers);
        shared = shared.route_layer(middleware::from_fn_with_state(state, ask_holder));
    }
    let routes = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/stream", get(stream).with_state((readers.clone(), Streams::default())))
        .route("/log-level", get(log_level).put(set_log_level))
        .merge(shared)
        .merge(demo.map_or_else(no_demo, |demo| demo.with_state(())))
        .route_layer(middleware::from_fn_with_state(Arc::new(access), admit));
    let page = page::files().layer(middleware::from_fn_with_state(Arc::new(open), admit));
    finish(routes.merge(page), readers)
}

/// What other processes may ask this one while it holds the lease.
pub fn peer_routes(readers: Readers, role: Arc<RoleBoard>) -> Router {
    target_routes()
        .route_layer(middleware::from_fn_with_state(role, only_as_holder))
        .with_state(readers)
}

fn target_routes() -> Router<Readers> {
    Router::new()
        .route("/v1/targets", get(targets))
        .route("/v1/targets/{namespace}/{name}", get(target))
        .route("/v1/targets/{namespace}/{name}/explain", get(explanation))
        .route("/v1/targets/{namespace}/{name}/history", get(history))
        .route("/v1/targets/{namespace}/{name}/pods", get(pods))
}

/// Answers with what the holder of the lease says, where that is another process.
async fn ask_holder(
    State((readers, peers)): State<(Readers, Peers)>,
    request: Request,
    next: Next,
) -> Response {
    if peers.role.is_last_holder() || !is_held_elsewhere(&readers) {
        return next.run(request).await;
    }
    let missing = readers.health.missing();
    if !missing.is_empty() {
        let why = format!("not ready: still waiting for {}", missing.join(", "));
        return ApiError::Unavailable(why).into_response();
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    match peers.page(path).await {
        Ok(answer) => answer,
        Err(why) => ApiError::Unavailable(why.to_string()).into_response(),
    }
}

/// Whether another process is known to hold the lease. Where nobody holds it, nobody scales, and what this
/// process sees is better than nothing.
fn is_held_elsewhere(readers: &Readers) -> bool {
    let lease = readers.health.lease();
    lease.is_some_and(|lease| lease.holder.is_some_and(|holder| holder != lease.identity))
}

async fn only_as_holder(
    State(role): State<Arc<RoleBoard>>,
    request: Request,
    next: Next,
) -> Response {
    if role.is_last_holder() {
        return next.run(request).await;
    }
    ApiError::Unavailable("this process does not hold the lease".to_owned()).into_response()
}

/// The page asks whether it is part of a demo.
fn no_demo() -> Router<Readers> {
    Router::new().route("/v1/demo", get(|| async { Json(serde_json::Value::Null) }))
}

fn finish(routes: Router<Readers>, readers: Readers) -> Router {
    routes
        .fallback(|| async { ApiError::NotFound("no such path".to_owned()) })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(bound_time))
        .with_state(readers)
}

/// An error as the peer sees it.
enum ApiError {
    BadRequest(String),
    Unauthorized,
    Forbidden(&'static str),
    NotFound(String),
    MethodNotAllowed,
    Internal(&'static str),
    Timeout,
    TooManyStreams,
    Unavailable(String),
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code, message) = match self {
            Self::BadRequest(message) => (StatusCode::BAD_REQUEST, "BadRequest", message),
            Self::Unauthorized => {
                let message = "a valid bearer token is needed".to_owned();
                (StatusCode::UNAUTHORIZED, "Unauthorized", message)
            }
            Self::Forbidden(why) => (StatusCode::FORBIDDEN, "Forbidden", why.to_owned()),
            Self::NotFound(message) => (StatusCode::NOT_FOUND, "NotFound", message),
            Self::MethodNotAllowed => {
                let message = "this path does not know this method".to_owned();
                (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
            }
            Self::Internal(why) => (StatusCode::INTERNAL_SERVER_ERROR, "Internal", why.to_owned()),
            Self::Timeout => {
                let message = "the answer took too long".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, "Timeout", message)
            }
            Self::Unavailable(message) => (StatusCode::SERVICE_UNAVAILABLE, "Unavailable", message),
            Self::TooManyStreams => {
                let message = format!("{} streams are open already", page::MAX_STREAMS);
                (StatusCode::SERVICE_UNAVAILABLE, "TooManyStreams", message)
            }
        };
        let mut response =
            (status, Json(Document::new("Error", ErrorBody { code, message }))).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

async fn bound_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => ApiError::Timeout.into_response(),
    }
}

async fn admit(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    match check(&access, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn check(access: &Access, headers: &HeaderMap) -> Result<(), ApiError> {
    if access.loopback {
        let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("");
        if !names_loopback(host) {
            return Err(ApiError::Forbidden("the Host header does not name this machine"));
        }
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("");
        let host = origin.split_once("://").map_or("", |(_scheme, host)| host);
        if !names_loopback(host) {
            return Err(ApiError::Forbidden("requests from other web pages are refused"));
        }
    }
    match &access.token_file {
        Some(file) => check_token(file, headers),
        None => Ok(()),
    }
}

/// Whether `host`, with or without a port, names the loopback interface.
fn names_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

fn check_token(file: &Path, headers: &HeaderMap) -> Result<(), ApiError> {
    let expected = read_token(file).map_err(|why| {
        tracing::error!(error = %why, "admin token not readable, request refused");
        ApiError::Internal("the token file cannot be read")
    })?;
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map_or("", |(_, token)| token.trim());
    if same(expected.as_bytes(), given.as_bytes()) { Ok(()) } else { Err(ApiError::Unauthorized) }
}

/// Compares without stopping at the first difference, so that the time taken tells nothing.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |sum, (x, y)| sum | (x ^ y));
    a.len() == b.len() && differing == 0
}

async fn livez(State(readers): State<Readers>) -> Response {
    let now = readers.clock.now();
    if readers.health.is_alive(now) {
        return "alive\n".into_response();
    }
    let silent_s = readers.health.silence(now).as_secs();
    let text = format!("the engine's loop has been silent for {silent_s} s\n");
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn readyz(State(readers): State<Readers>) -> Response {
    let missing = readers.health.missing();
    if missing.is_empty() {
        return "ready\n".into_response();
    }
    let text = format!("not ready: {}\n", missing.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// Which families `/metrics` has.
#[derive(Debug, Deserialize)]
struct Families {
    /// Whether those of single targets are among them.
    #[serde(default = "yes")]
    targets: bool,
}

const fn yes() -> bool {
    true
}

async fn metrics(
    State(readers): State<Readers>,
    Query(Families { targets }): Query<Families>,
) -> Result<Response, ApiError> {
    // With many targets the page takes a while to write: no task may wait for that.
    let page = tokio::task::spawn_blocking(move || readers.metrics.encode(targets)).await;
    let page = page
        .ok()
        .and_then(Result::ok)
        .ok_or(ApiError::Internal("the metrics cannot be written"))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response())
}

async fn status(State(readers): State<Readers>) -> Json<Document<StatusBody>> {
    let all = readers.board.all();
    let missing = readers.health.missing();
    Json(Document::new(
        "Status",
        StatusBody {
            version: env!("CARGO_PKG_VERSION"),
            now: readers.clock.wall(),
            leader: readers.health.is_leader(),
            lease: readers.health.lease().as_ref().map(LeaseBody::of),
            ready: missing.is_empty(),
            missing,
            targets: all.len(),
            attention: all.iter().filter(|status| explain::needs_attention(status)).count(),
            problems: all.iter().map(|status| status.all_problems().count()).sum(),
            engine: EngineBody {
                queue_length: readers.engine.queue_length(),
                dropped: readers.engine.dropped(),
                silence_seconds: readers.health.silence(readers.clock.now()).as_secs_f64(),
            },
            watches: readers.health.watches().iter().map(WatchBody::of).collect(),
        },
    ))
}

async fn targets(State(readers): State<Readers>) -> Json<Document<ListBody>> {
    let items = readers.board.all().iter().map(|status| Summary::of(status)).collect();
    Json(Document::new("TargetList", ListBody { items }))
}

async fn target(
    State(readers): State<Readers>,
    UrlPath((namespace, name)): UrlPath<(String, String)>,
    Query(chosen): Query<Chosen>,
) -> Result<Json<Document<TargetBody>>, ApiError> {
    let found = find(&readers, &namespace, &name, &chosen)?;
    let status = found.first().ok_or_else(|| ApiError::NotFound(String::new()))?;
    Ok(Json(Document::new("Target", TargetBody::of(status))))
}

async fn explanation(
    State(readers): State<Readers>,
    UrlPath((namespace, name)): UrlPath<(String, String)>,
    Query(chosen): Query<Chosen>,
) -> Result<Response, ApiError> {
    let found = find(&readers, &namespace, &name, &chosen)?;
    let needed = found.iter().any(|status| explain::needs_attention(status));
    let attention = if needed { "true" } else { "false" };
    let now = readers.clock.now();
    let screens = found.iter().map(|status| {
        let blamed = readers.pods.lock().blamed(now, &status.target);
        explain::explain(status, now) + &explain::blame(&blamed)
    });
    let screens: Vec<_> = screens.collect();
    Ok(([(ATTENTION_HEADER, attention)], screens.join("\n")).into_response())
}

/// Which part of a history is asked for.
#[derive(serde::Deserialize)]
struct Since {
    after: Option<String>,
    trigger: Option<String>,
}

async fn history(
    State(readers): State<Readers>,
    UrlPath((namespace, name)): UrlPath<(String, String)>,
    Query(Since { after, trigger }): Query<Since>,
) -> Result<Json<Document<HistoryBody>>, ApiError> {
    let found = find(&readers, &namespace, &name, &Chosen { trigger })?;
    let status = found.first().ok_or_else(|| ApiError::NotFound(String::new()))?;
    let after = after.map(|text| text.parse()).transpose().map_err(|_why: jiff::Error| {
        ApiError::BadRequest("after: not a time stamp as RFC 3339 writes it".to_owned())
    })?;
    let moments = readers.board.history(&status.target, after);
    let items = moments.iter().map(MomentBody::of).collect();
    Ok(Json(Document::new("History", HistoryBody { items })))
}

async fn pods(
    State(readers): State<Readers>,
    UrlPath((namespace, name)): UrlPath<(String, String)>,
    Query(chosen): Query<Chosen>,
) -> Result<Json<Document<PodTable>>, ApiError> {
    let found = find(&readers, &namespace, &name, &chosen)?;
    let status = found.first().ok_or_else(|| ApiError::NotFound(String::new()))?;
    let scraped = status.config.points.iter().any(|point| *point.source == *SCRAPE);
    let now = readers.clock.now();
    let round = scraped.then(|| readers.pods.lock().ask(now, &status.target)).flatten();
    Ok(Json(Document::new("Pods", PodTable::of(now, scraped, round.as_ref()))))
}

async fn stream(
    State((readers, streams)): State<(Readers, Streams)>,
) -> Result<Response, ApiError> {
    streams.open(readers.board).ok_or(ApiError::TooManyStreams)
}

/// Which of a workload's deciders is asked for: all of them, or that of a trigger.
#[derive(Debug, Deserialize)]
struct Chosen {
    trigger: Option<String>,
}

/// The deciders of a workload that are asked for, at least one.
fn find(
    readers: &Readers,
    namespace: &str,
    name: &str,
    chosen: &Chosen,
) -> Result<Vec<Arc<TargetStatus>>, ApiError> {
    let mut found = readers.board.of_workload(&TargetId::deployment(namespace, name));
    if let Some(trigger) = &chosen.trigger {
        found.retain(|status| status.target.trigger.as_deref() == Some(trigger));
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let (namespace, name) = (explain::printable(namespace), explain::printable(name));
    let waiting = readers.health.missing();
    Err(ApiError::NotFound(if waiting.is_empty() {
        format!(
            "no target Deployment {namespace}/{name}: either it does not exist, or neither it nor \
             its pod template has an annotation autoscaling.knative.dev/*, and no ScaledObject asks \
             for it"
        )
    } else {
        format!(
            "Deployment {namespace}/{name} is not known yet: still waiting for {}",
            waiting.join(", ")
        )
    }))
}

async fn log_level(State(readers): State<Readers>) -> String {
    readers.log.level() + "\n"
}

async fn set_log_level(State(readers): State<Readers>, level: String) -> Result<String, ApiError> {
    readers.log.set_level(&level).map_err(|why| ApiError::BadRequest(why.to_string()))?;
    let level = readers.log.level();
    tracing::info!(level, "log level changed");
    Ok(level + "\n")
}

#[cfg(test)]
mod tests;
