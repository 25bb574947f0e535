//! Processes of podswell that ask each other: who does not hold the lease asks its holder, over plain
//! HTTP/2, and shows a bearer token that it read in the Lease. Only what readers may see anyway is
//! answered there, and nobody who is asked asks on.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{StatusCode, Uri};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tonic::Status;

use super::keda::wire::external_scaler_client::ExternalScalerClient;
use crate::runtime::role::{Peer, RoleBoard};

/// How long the holder may take to answer.
pub const LIMIT: Duration = Duration::from_secs(1);

/// How often the holder is asked whether it lives, while one of its streams is read.
const KEEP_ALIVE: Duration = Duration::from_millis(500);

/// Why the holder cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHolder {
    /// No process is known to hold the lease, or it does not say where it answers.
    #[error("no holder of the lease is known that answers (--peer-listen)")]
    Unknown,
    /// It did not answer in time.
    #[error("the holder of the lease does not answer")]
    Silent,
}

impl From<NoHolder> for Status {
    fn from(why: NoHolder) -> Self {
        Self::unavailable(why.to_string())
    }
}

/// Asks the holder's external scaler.
pub type HolderClient = ExternalScalerClient<Client<HttpConnector, tonic::body::Body>>;

/// The way to the holder. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    /// What this process is.
    pub role: Arc<RoleBoard>,
    calls: Client<HttpConnector, tonic::body::Body>,
    pages: Client<HttpConnector, Empty<Bytes>>,
}

impl Peers {
    /// Connects to nobody yet.
    pub fn new(role: Arc<RoleBoard>) -> Self {
        Self { role, calls: client(), pages: client() }
    }

    /// A client of the holder's external scaler.
    ///
    /// # Errors
    /// If no holder is known.
    pub fn scaler(&self) -> Result<HolderClient, NoHolder> {
        let peer = self.role.peer().ok_or(NoHolder::Unknown)?;
        let origin = origin(&peer).ok_or(NoHolder::Unknown)?;
        Ok(ExternalScalerClient::with_origin(self.calls.clone(), origin))
    }

    /// A request as the holder wants to see it.
    ///
    /// # Errors
    /// If no holder is known.
    pub fn request<T>(&self, message: T) -> Result<tonic::Request<T>, NoHolder> {
        let peer = self.role.peer().ok_or(NoHolder::Unknown)?;
        let mut request = tonic::Request::new(message);
        let token = format!("Bearer {}", peer.token).parse().map_err(|_odd| NoHolder::Unknown)?;
        request.metadata_mut().insert("authorization", token);
        Ok(request)
    }

    /// The holder's answer to `GET` of a path with its query.
    ///
    /// # Errors
    /// If it does not answer in time.
    pub async fn page(&self, path: &str) -> Result<Response, NoHolder> {
        let peer = self.role.peer().ok_or(NoHolder::Unknown)?;
        let request = http::Request::get(format!("http://{}{path}", peer.address))
            .header(AUTHORIZATION, format!("Bearer {}", peer.token))
            .body(Empty::new())
            .map_err(|_odd| NoHolder::Unknown)?;
        let answer = tokio::time::timeout(LIMIT, self.pages.request(request)).await;
        let answer = answer.ok().and_then(Result::ok).ok_or(NoHolder::Silent)?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            // It is not the holder any more.
            return Err(NoHolder::Silent);
        }
        Ok(answer.map(axum::body::Body::new))
    }
}

fn origin(peer: &Peer) -> Option<Uri> {
    format!("http://{}", peer.address).parse().ok()
}

fn client<B>() -> Client<HttpConnector, B>
where
    B: hyper::body::Body + Send,
    B::Data: Send,
{
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(LIMIT));
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_only(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(LIMIT)
        .build(connector)
}

/// Lets only those in who show the token.
pub fn guarded(routes: Router, token: Arc<str>) -> Router {
    routes.layer(middleware::from_fn_with_state(token, admit))
}

async fn admit(State(token): State<Arc<str>>, request: Request, next: Next) -> Response {
    let expected = format!("Bearer {token}");
    let given = request.headers().get(AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
    if super::admin::same(expected.as_bytes(), given) {
        return next.run(request).await;
    }
    if request
        .headers()
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
    {
        let refusal = Status::unavailable("this process does not hold the lease");
        return refusal.into_http::<axum::body::Body>().into_response();
    }
    StatusCode::UNAUTHORIZED.into_response()
}
