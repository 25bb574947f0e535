//! What a Service does for a client that connects to its address: one of the servers behind it is
//! chosen for each connection.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// One address in front of several; ends with this value.
#[derive(Debug)]
pub(crate) struct Service {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Service {
    /// Serves on loopback for these ports of loopback; connections take turns.
    pub(crate) async fn start(ports: Vec<u16>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind a service");
        let address = listener.local_addr().expect("its own address");
        let accepting = tokio::spawn(async move {
            let turn = Arc::new(AtomicUsize::new(0));
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(pass(client, ports.clone(), Arc::clone(&turn)));
            }
        });
        Self { address, accepting }
    }

    /// Where it is reached.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Passes bytes both ways; a client whose servers are all away is let go.
async fn pass(mut client: TcpStream, ports: Vec<u16>, turn: Arc<AtomicUsize>) {
    let first = turn.fetch_add(1, Ordering::Relaxed);
    for index in 0..ports.len() {
        let port = ports[(first + index) % ports.len()];
        if let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
