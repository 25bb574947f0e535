//! What a Service does for a client that connects to its address: one of the servers behind it is
//! chosen for each connection.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// One address in front of several; ends with this value.
#[derive(Debug)]
pub(crate) struct Service {
    accepting: JoinHandle<()>,
}

impl Service {
    /// Serves at `address` for these servers, all at the same port; connections take turns.
    pub(crate) async fn start(address: Ipv4Addr, servers: Vec<Ipv4Addr>, port: u16) -> Self {
        let listener = TcpListener::bind((address, port)).await.expect("bind a service");
        let accepting = tokio::spawn(async move {
            let turn = Arc::new(AtomicUsize::new(0));
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(pass(client, servers.clone(), port, Arc::clone(&turn)));
            }
        });
        Self { accepting }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Passes bytes both ways; a client whose servers are all away is let go.
async fn pass(mut client: TcpStream, servers: Vec<Ipv4Addr>, port: u16, turn: Arc<AtomicUsize>) {
    let first = turn.fetch_add(1, Ordering::Relaxed);
    for index in 0..servers.len() {
        let address = servers[(first + index) % servers.len()];
        if let Ok(mut server) = TcpStream::connect((address, port)).await {
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
