//! The listener of the external scaler: HTTP/2 with a bound on everything that a peer can make us keep,
//! but for the number of its streams, because KEDA holds two for each ScaledObject on one connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::Routes;

use super::probes;
use super::service::Scaler;
use super::wire::external_scaler_server::ExternalScalerServer;
use crate::runtime::tls::{ReloadingAcceptor, TlsError};

/// How many connections there may be at once; KEDA holds one for each of its processes.
pub const MAX_CONNECTIONS: usize = 1024;

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

/// The most bytes that wait for one stream of a peer that does not read.
const MAX_SEND_BUFFER: usize = 16 * 1024;

/// How many bytes of one call, and of all calls of a connection, a peer may send unasked.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The routes of the external scaler, with the services that tools look for, and the task that keeps
/// them in step; it ends with the drain.
pub fn routes(scaler: Scaler) -> (Router, impl Future<Output = ()> + Send + 'static) {
    let context = scaler.desk.context.clone();
    let service = ExternalScalerServer::new(scaler)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (routes, reporter) = probes::add(Routes::new(service));
    let router = routes.prepare().into_axum_router().layer(middleware::from_fn(bound_time));
    (router, probes::report(reporter, context.health, context.drain))
}

async fn bound_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(CALL_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => Status::unavailable("the call took too long")
            .into_http::<axum::body::Body>()
            .into_response(),
    }
}

/// The routes of the external scaler for other processes of podswell.
pub fn peer_routes(scaler: &Scaler) -> Router {
    let service = ExternalScalerServer::new(scaler.for_peers())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Routes::new(service).prepare().into_axum_router().layer(middleware::from_fn(bound_time))
}

/// Serves until `stop`; then lets calls under way finish for at most [`DRAIN`]. Streams have to end by
/// themselves.
///
/// `tls`: none for plain HTTP/2.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    tls: Option<Arc<ReloadingAcceptor>>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
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
        let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
        let (routes, tls, stop) = (routes.clone(), tls.clone(), stop.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            match tls {
                None => connection(stream, routes, stop).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => connection(stream, routes, stop).await,
                    Err(why) => refused(&peer, &why),
                },
            }
            drop(slot);
        });
    }
    let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    // A connection that does not end in time is cut off with the process.
    let _ = tokio::time::timeout(DRAIN, slots.acquire_many(all)).await;
}

fn refused(peer: &SocketAddr, why: &TlsError) {
    let source: &dyn std::error::Error = why;
    tracing::debug!(%peer, reason = why.reason(), error = source, "connection refused");
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    routes: Router,
    stop: CancellationToken,
) {
    let service = TowerToHyperService::new(routes);
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(None)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
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
