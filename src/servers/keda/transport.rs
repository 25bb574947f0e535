//! The listener of the external scaler: HTTP/2 with a bound on everything that a peer can make us keep.
//! KEDA holds two streams for each ScaledObject on one connection, so a connection may have as many as
//! all of them together.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::service::Routes as Services;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::connections::{Connections, Place, Watched};
use super::counters::{Counters, Method, Refusal};
use super::probes;
use super::service::Scaler;
use super::wire::external_scaler_server::ExternalScalerServer;
use crate::runtime::tls::{ReloadingAcceptor, TlsError};

/// The most bytes of a message that a peer sends.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The most bytes of a call's headers.
pub const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// How often a silent peer is asked whether it lives.
pub const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How long it may take to say so.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a call may take until its answer begins, its request included.
pub const CALL_LIMIT: Duration = Duration::from_secs(2);

/// How long connections may take to end at the end of the process.
pub const DRAIN: Duration = Duration::from_secs(2);

/// How many calls of a connection may be under way beside the streams.
pub const MAX_CALLS: usize = 4096;

/// The most bytes that wait for one stream of a peer that does not read.
const MAX_SEND_BUFFER: usize = 16 * 1024;

/// How many bytes of one call, and of all calls of a connection, a peer may send unasked.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What a listener answers. Cheap to clone.
#[derive(Clone)]
pub struct Routes {
    /// Asked without a detour, because it is asked so often.
    scaler: Option<ExternalScalerServer<Scaler>>,
    rest: Router,
    counters: Arc<Counters>,
    /// How many calls of a connection may be under way.
    most_calls: u32,
}

impl Routes {
    async fn answer(mut self, request: http::Request<Incoming>) -> http::Response<Body> {
        let method = Method::of(request.uri().path());
        let call = async {
            match &mut self.scaler {
                Some(scaler) if method != Method::Other => scaler.call(request).await,
                _ => {
                    let rest = self.rest.oneshot(request.map(axum::body::Body::new));
                    Box::pin(rest).await.map(|response| response.map(Body::new))
                }
            }
        };
        let response = match tokio::time::timeout(CALL_LIMIT, call).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_elapsed) => too_slow().into_http(),
        };
        self.counters.called(method, code_of(response.headers()));
        response
    }
}

/// What an answer begins with: a refusal has its code there, and everything else went well.
fn code_of(headers: &HeaderMap) -> Code {
    headers.get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}

fn too_slow() -> Status {
    Status::unavailable("the call took too long")
}

fn server(scaler: Scaler) -> ExternalScalerServer<Scaler> {
    ExternalScalerServer::new(scaler)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// The routes of the external scaler, with the services that tools look for, and the task that keeps
/// them in step; it ends with the drain.
pub fn routes(scaler: Scaler) -> (Routes, impl Future<Output = ()> + Send + 'static) {
    let context = scaler.desk.context.clone();
    let most_calls = u32::try_from(context.max_streams.saturating_add(MAX_CALLS));
    let scaler = server(scaler);
    let (services, reporter) = probes::add(Services::new(scaler.clone()));
    let routes = Routes {
        scaler: Some(scaler),
        rest: services.prepare().into_axum_router(),
        counters: context.counters,
        most_calls: most_calls.unwrap_or(u32::MAX),
    };
    (routes, probes::report(reporter, context.health, context.drain))
}

/// The routes of the external scaler for other processes of podswell.
pub fn peer_routes(scaler: &Scaler) -> Router {
    let services = Services::new(server(scaler.for_peers()));
    services.prepare().into_axum_router().layer(middleware::from_fn(bound_time))
}

/// A listener for other processes of podswell, which counts nothing: what they ask for, KEDA asked them.
pub fn among_peers(rest: Router) -> Routes {
    Routes { scaler: None, rest, counters: Arc::default(), most_calls: u32::MAX }
}

async fn bound_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(CALL_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => too_slow().into_http::<axum::body::Body>().into_response(),
    }
}

/// Serves until `stop`; then lets calls under way finish for at most [`DRAIN`]. Streams have to end by
/// themselves.
///
/// `tls`: none for plain HTTP/2.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    tls: Option<Arc<ReloadingAcceptor>>,
    stop: CancellationToken,
) {
    let connections = Connections::new(routes.counters.clone());
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, or the peer went away: neither is worth a busy loop.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let place = connections.receive(peer.ip());
        let (routes, tls, stop) = (routes.clone(), tls.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = place.cut() => {}
                () = welcome(stream, routes, tls.as_deref(), &place, stop) => {}
            }
        });
    }
    tasks.close();
    // A connection that does not end in time is cut off with the process.
    let _ = tokio::time::timeout(DRAIN, tasks.wait()).await;
}

async fn welcome(
    stream: TcpStream,
    routes: Routes,
    tls: Option<&ReloadingAcceptor>,
    place: &Arc<Place>,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let watched = || place.clone();
    match tls {
        None => connection(Watched::new(stream, watched()), routes, stop).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => connection(Watched::new(stream, watched()), routes, stop).await,
            Err(why) => {
                place.refuse(refusal(&why));
                let source: &dyn std::error::Error = &why;
                tracing::debug!(reason = why.reason(), error = source, "connection refused");
            }
        },
    }
}

fn refusal(why: &TlsError) -> Refusal {
    match why {
        TlsError::Slow => Refusal::Silent,
        TlsError::Name => Refusal::Name,
        _ => Refusal::Handshake,
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    routes: Routes,
    stop: CancellationToken,
) {
    let most_calls = routes.most_calls;
    let service = service_fn(move |request| {
        let routes = routes.clone();
        async move { Ok::<_, Infallible>(routes.answer(request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(most_calls)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // Errors of a connection are its peer's business: nothing here depends on them.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(DRAIN, connection).await;
}
