//! One HTTP/1 listener with a bound on everything that a peer can make us keep: connections, header
//! bytes and count, the time for a header and for a request, and the life of a connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::ServerError;

/// How many connections one listener holds at once; one more takes the oldest one's place.
pub const MAX_CONNECTIONS: usize = 128;

/// The most bytes of a request's head.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;

/// The most headers of a request.
pub const MAX_HEADERS: usize = 64;

/// How long a peer may take for a request's head, and how long a connection may idle.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest life of a connection; then it ends after the request under way.
pub const CONNECTION_LIFE: Duration = Duration::from_secs(120);

/// How long requests under way may take at the end of the process.
pub const DRAIN: Duration = Duration::from_secs(2);

/// Binds the first of `addresses` that can be bound.
///
/// # Errors
/// If none can.
pub async fn bind(addresses: &[SocketAddr]) -> Result<TcpListener, ServerError> {
    let mut last = std::io::Error::from(std::io::ErrorKind::InvalidInput);
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(why) => last = why,
        }
    }
    Err(ServerError::Listen { addresses: addresses.to_vec(), source: last })
}

/// Serves until `stop` is cancelled, then lets requests under way finish for at most [`DRAIN`].
///
/// When all places are taken a newcomer gets the one of the oldest connection, so that peers who
/// connect and say nothing cannot keep the kubelet's probes out.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut live = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _peer)) = accepted else {
            // Out of file descriptors, or the peer went away: neither is worth a busy loop.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        live.retain(|cut: &CancellationToken| !cut.is_cancelled());
        if slots.available_permits() == 0
            && let Some(oldest) = live.pop_front()
        {
            oldest.cancel();
        }
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        let cut = CancellationToken::new();
        live.push_back(cut.clone());
        let (router, stop) = (router.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = connection(stream, router, stop) => {}
            }
            cut.cancel();
            drop(slot);
        });
    }
    let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    // A connection that does not end in time is cut off with the process.
    let _ = tokio::time::timeout(DRAIN, slots.acquire_many(all)).await;
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // Errors of a connection are its peer's business: nothing here depends on them.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
        () = tokio::time::sleep(CONNECTION_LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(HEADER_TIMEOUT, connection).await;
}
