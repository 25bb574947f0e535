//! A reverse proxy on loopback with troubles that can be switched while it runs: in front of
//! kube-apiserver, or of any plain HTTP server.
//!
//! Rules say which requests have which trouble. They hold for answers that are under way as well: an
//! open watch falls silent, is late or ends as soon as a rule says so.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::app::accept;
use super::ports::free_ports;

/// The largest request, and the largest answer that is altered.
const LIMIT: usize = 64 << 20;

/// How many pieces of an answer may wait to be handed on.
const PIECES: usize = 4096;

/// What happens to a request or its answer.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// It is answered with this status, and with so many seconds as `Retry-After`.
    Status(u16, Option<u64>),
    /// Nothing at all comes, neither answers nor events. What waits is carried out as soon as the rule
    /// is gone, unless the client has left.
    Silence,
    /// The connection is closed without an answer.
    Closed,
    /// It is carried out, then the connection is closed without an answer.
    Unanswered,
    /// Each answer and each piece of it comes later by this.
    Late(Duration),
    /// A watch ends with the event that its version is too old.
    Gone,
    /// The answer, JSON, is changed on its way.
    Altered(fn(&mut Value)),
}

/// A trouble in force, and how often it struck.
#[derive(Clone)]
struct Rule {
    matcher: Matcher,
    trouble: Trouble,
    struck: Arc<AtomicU64>,
}

impl Rule {
    fn strike(&self) {
        self.struck.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether a rule is about a request.
pub(crate) type Matcher = fn(&Parts) -> bool;

/// Every request.
pub(crate) fn all(_: &Parts) -> bool {
    true
}

/// Writes of a scale.
pub(crate) fn scale_writes(parts: &Parts) -> bool {
    parts.method == Method::PATCH && parts.uri.path().ends_with("/scale")
}

/// Reads and writes of a scale.
pub(crate) fn scales(parts: &Parts) -> bool {
    parts.uri.path().ends_with("/scale")
}

/// Watches of the API server.
pub(crate) fn watches(parts: &Parts) -> bool {
    parts.uri.query().is_some_and(|query| query.split('&').any(|part| part.starts_with("watch=")))
}

/// Lists of the API server, with which every watch begins.
pub(crate) fn lists(parts: &Parts) -> bool {
    parts.method == Method::GET
        && !watches(parts)
        && parts.uri.query().is_some_and(|query| query.contains("limit="))
}

/// Where requests go.
#[derive(Clone)]
pub(crate) enum Upstream {
    /// To kube-apiserver, as the client's user.
    Kubernetes(Client),
    /// To a plain HTTP server at this address, without a slash at the end.
    Plain(String),
}

/// A running proxy; ends with this value.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    serving: JoinHandle<()>,
}

struct Shared {
    upstream: Upstream,
    /// Added to the field selector of each list and watch of a whole cluster.
    scope: Option<String>,
    plain: hyper_util::client::legacy::Client<HttpConnector, Body>,
    rules: Mutex<Vec<Rule>>,
    /// Tells of changed rules.
    changed: watch::Sender<u64>,
    /// Tells that open connections shall break.
    cut: watch::Sender<u64>,
    writes: AtomicU64,
    ended: AtomicU64,
    requests: AtomicU64,
    broken: AtomicU64,
}

impl Proxy {
    /// Starts one without troubles. Of the cluster's Deployments, `ReplicaSets`, pods and autoscalers
    /// only those show that `scope` selects, a field selector such as `metadata.namespace=shop`.
    pub(crate) async fn start(upstream: Upstream, scope: Option<&str>) -> Self {
        let [port] = free_ports();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).await.expect("bind the proxy's port");
        let shared = Arc::new(Shared {
            upstream,
            scope: scope.map(|scope| scope.replace('!', "%21").replace('=', "%3D")),
            plain: hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http(),
            rules: Mutex::default(),
            changed: watch::Sender::new(0),
            cut: watch::Sender::new(0),
            writes: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            broken: AtomicU64::new(0),
        });
        let router = Router::new().fallback(handle).with_state(Arc::clone(&shared));
        Self { shared, port, serving: tokio::spawn(accept(listener, router)) }
    }

    /// Its address, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Replaces all rules; of several that match, the first one counts.
    pub(crate) fn set(&self, rules: &[(Matcher, Trouble)]) {
        let rule = |(matcher, trouble): &(Matcher, Trouble)| Rule {
            matcher: *matcher,
            trouble: trouble.clone(),
            struck: Arc::default(),
        };
        *self.shared.rules.lock() = rules.iter().map(rule).collect();
        self.shared.changed.send_modify(|number| *number += 1);
    }

    /// Takes all rules away.
    pub(crate) fn heal(&self) {
        self.set(&[]);
    }

    /// Breaks every answer that is under way, as a load balancer that restarts.
    pub(crate) fn cut(&self) {
        self.shared.cut.send_modify(|number| *number += 1);
    }

    /// How often each of the present rules struck, in their order: an answer or a piece of one came late,
    /// not at all, not as it was, or as another one. An answer that was altered into itself counts as none.
    pub(crate) fn struck(&self) -> Vec<u64> {
        let rules = self.shared.rules.lock();
        rules.iter().map(|rule| rule.struck.load(Ordering::Relaxed)).collect()
    }

    /// How many answers were broken off by [`Self::cut`].
    pub(crate) fn broken(&self) -> u64 {
        self.shared.broken.load(Ordering::Relaxed)
    }

    /// How many writes of a scale were asked for, whatever came of them.
    pub(crate) fn scale_writes(&self) -> u64 {
        self.shared.writes.load(Ordering::Relaxed)
    }

    /// Whether a write of a scale is under way.
    pub(crate) fn is_writing(&self) -> bool {
        let ended = self.shared.ended.load(Ordering::Relaxed);
        self.scale_writes() > ended
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    fn rule(&self, parts: &Parts) -> Option<Rule> {
        let rules = self.rules.lock();
        rules.iter().find(|rule| (rule.matcher)(parts)).cloned()
    }

    /// Waits while there is silence; returns the rule after it.
    async fn after_silence(&self, parts: &Parts) -> Option<Rule> {
        let mut changed = self.changed.subscribe();
        loop {
            match self.rule(parts) {
                Some(Rule { trouble: Trouble::Silence, struck, .. }) => {
                    struck.fetch_add(1, Ordering::Relaxed);
                    if changed.changed().await.is_err() {
                        return None;
                    }
                }
                other => return other,
            }
        }
    }

    /// Carries a request out.
    async fn forward(&self, parts: &Parts, body: Bytes) -> Result<Response, String> {
        let path = self.scoped(parts);
        let mut request = http::Request::builder().method(parts.method.clone());
        for name in [header::CONTENT_TYPE, header::ACCEPT] {
            if let Some(value) = parts.headers.get(&name) {
                request = request.header(name, value);
            }
        }
        match &self.upstream {
            Upstream::Kubernetes(client) => {
                let request = request.uri(path).body(body.into()).map_err(|why| why.to_string())?;
                let response = client.send(request).await.map_err(|why| why.to_string())?;
                Ok(response.map(Body::new))
            }
            Upstream::Plain(base) => {
                let body = Body::from(body);
                let request = request.uri(format!("{base}{path}")).body(body);
                let request = request.map_err(|why| why.to_string())?;
                let response = self.plain.request(request).await.map_err(|why| why.to_string())?;
                Ok(response.map(Body::new))
            }
        }
    }

    /// Path and query, within the scope.
    fn scoped(&self, parts: &Parts) -> String {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let whole = ["/deployments", "/replicasets", "/pods", "/horizontalpodautoscalers"];
        let is_whole = whole.iter().any(|kind| parts.uri.path().ends_with(kind));
        let Some(scope) = self.scope.as_ref().filter(|_| is_whole) else { return path };
        match path.split_once("fieldSelector=") {
            Some((before, after)) => format!("{before}fieldSelector={scope}%2C{after}"),
            None if path.contains('?') => format!("{path}&fieldSelector={scope}"),
            None => format!("{path}?fieldSelector={scope}"),
        }
    }
}

/// A write of a scale, under way until it is dropped, as when the client leaves.
struct Write(Arc<Shared>);

impl Write {
    fn begin(shared: &Arc<Shared>) -> Self {
        shared.writes.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let _write = scale_writes(&parts).then(|| Write::begin(&shared));
    let Ok(body) = axum::body::to_bytes(body, LIMIT).await else { return closed() };
    let rule = shared.after_silence(&parts).await;
    let trouble = rule.as_ref().map(|rule| &rule.trouble);
    let strike = || rule.iter().for_each(Rule::strike);
    match trouble {
        Some(Trouble::Status(status, retry_after)) => {
            strike();
            return failed(*status, *retry_after);
        }
        Some(Trouble::Closed) => {
            strike();
            return closed();
        }
        Some(Trouble::Gone) if watches(&parts) => {
            strike();
            return gone().into_response();
        }
        Some(Trouble::Late(span)) => {
            strike();
            tokio::time::sleep(*span).await;
        }
        _ => {}
    }
    let Ok(answer) = shared.forward(&parts, body).await else { return closed() };
    match trouble {
        Some(Trouble::Unanswered) => {
            strike();
            closed()
        }
        Some(Trouble::Altered(alter)) => altered(answer, *alter, strike).await,
        _ => {
            let (head, body) = answer.into_parts();
            // The length does not hold for a body that may break.
            let mut headers = HeaderMap::new();
            if let Some(kind) = head.headers.get(header::CONTENT_TYPE) {
                headers.insert(header::CONTENT_TYPE, kind.clone());
            }
            let body = Body::from_stream(pieces(shared, parts, body));
            (head.status, headers, body).into_response()
        }
    }
}

/// Kubernetes' own form of a failure.
fn failed(status: u16, retry_after: Option<u64>) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "a test says so", "reason": "Test", "code": status,
    });
    let code = StatusCode::from_u16(status).expect("a valid status");
    let mut response = (code, axum::Json(body)).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// A body that fails before its first byte makes the server drop the connection.
fn closed() -> Response {
    let error = std::io::Error::other("closed by a test");
    let body = futures::stream::once(async move { Err::<Bytes, _>(error) });
    Body::from_stream(body).into_response()
}

fn gone() -> String {
    let event = json!({ "type": "ERROR", "object": {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410,
    }});
    format!("{event}\n")
}

async fn altered(answer: Response, alter: fn(&mut Value), strike: impl FnOnce()) -> Response {
    let status = answer.status();
    let Ok(bytes) = axum::body::to_bytes(answer.into_body(), LIMIT).await else { return closed() };
    let Ok(before) = serde_json::from_slice::<Value>(&bytes) else { return closed() };
    let mut value = before.clone();
    alter(&mut value);
    if value != before {
        strike();
    }
    (status, axum::Json(value)).into_response()
}

/// The pieces of an answer under the rules of the moment.
fn pieces(
    shared: Arc<Shared>,
    parts: Parts,
    body: Body,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    let (sender, receiver) = mpsc::channel(PIECES);
    let (of_shared, of_parts) = (Arc::clone(&shared), parts.clone());
    tokio::spawn(async move {
        let mut body = body.into_data_stream();
        loop {
            let piece = tokio::select! {
                piece = body.next() => piece,
                // Nobody listens any more.
                () = sender.closed() => return,
            };
            let Some(piece) = piece else { return };
            if let Some(Rule { trouble: Trouble::Silence, struck, .. }) = of_shared.rule(&of_parts)
            {
                struck.fetch_add(1, Ordering::Relaxed);
            }
            let failed = piece.is_err();
            if sender.send((Instant::now(), piece)).await.is_err() || failed {
                return;
            }
        }
    });
    let state = Under {
        cut: shared.cut.subscribe(),
        changed: shared.changed.subscribe(),
        shared,
        parts,
        receiver,
        over: false,
    };
    futures::stream::unfold(state, |mut state| async move {
        let piece = state.next().await?;
        Some((piece, state))
    })
}

/// An answer that is under way.
struct Under {
    shared: Arc<Shared>,
    parts: Parts,
    receiver: mpsc::Receiver<(Instant, Result<Bytes, axum::Error>)>,
    changed: watch::Receiver<u64>,
    cut: watch::Receiver<u64>,
    over: bool,
}

impl Under {
    async fn next(&mut self) -> Option<Result<Bytes, std::io::Error>> {
        loop {
            self.changed.borrow_and_update();
            let rule = self.shared.rule(&self.parts);
            let trouble = rule.as_ref().map(|rule| &rule.trouble);
            let strike = || rule.iter().for_each(Rule::strike);
            let silent = matches!(trouble, Some(Trouble::Silence));
            if self.over {
                return None;
            }
            if matches!(trouble, Some(Trouble::Gone)) && watches(&self.parts) {
                self.over = true;
                strike();
                return Some(Ok(gone().into()));
            }
            let (at, piece) = tokio::select! {
                received = self.receiver.recv(), if !silent => received?,
                _ = self.changed.changed() => continue,
                _ = self.cut.changed() => {
                    self.shared.broken.fetch_add(1, Ordering::Relaxed);
                    return Some(Err(self.broken()));
                }
            };
            if let Some(Trouble::Late(span)) = trouble {
                strike();
                tokio::time::sleep_until(at + *span).await;
            }
            return match piece {
                Ok(bytes) => Some(Ok(bytes)),
                Err(_) => Some(Err(self.broken())),
            };
        }
    }

    fn broken(&mut self) -> std::io::Error {
        self.over = true;
        std::io::Error::other("broken off")
    }
}
