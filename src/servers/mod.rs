//! Who asks us: HTTP for probes, metrics and people, gRPC for KEDA. Read only, but for the log level.

pub mod admin;
pub mod http;
pub mod keda;
pub mod page;
pub mod peers;
pub mod pods;
pub mod view;

use std::net::SocketAddr;

/// What can go wrong with a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// None of the addresses can be listened on.
    #[error("listen on {addresses:?}")]
    Listen {
        /// What was tried.
        addresses: Vec<SocketAddr>,
        /// What the last one said.
        #[source]
        source: std::io::Error,
    },
}
