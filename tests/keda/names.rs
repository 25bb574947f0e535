//! The cluster's DNS, as far as KEDA's client needs it: whatever name is asked for has these addresses,
//! as that of a headless Service has those of its pods.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// The length of a header, and the type of a question for IPv4 addresses.
const HEADER: usize = 12;
const TYPE_A: [u8; 2] = [0, 1];

/// A running name server; ends with this value.
#[derive(Debug)]
pub(crate) struct Names {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Names {
    /// Answers every question with these.
    pub(crate) async fn start(addresses: Vec<Ipv4Addr>) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind a name server");
        let address = socket.local_addr().expect("its own address");
        let serving = tokio::spawn(async move {
            let mut packet = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                if let Some(answer) = answer(&packet[..length], &addresses) {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self { address, serving }
    }

    /// `HOST:PORT` as KEDA's client resolves it here instead of by the machine's own name server.
    pub(crate) fn resolved(&self, host_and_port: &str) -> String {
        format!("dns://{}/{host_and_port}", self.address)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The question with its answers; `None` if it is none.
fn answer(packet: &[u8], addresses: &[Ipv4Addr]) -> Option<Vec<u8>> {
    // Labels up to the empty one, then type and class.
    let mut end = HEADER;
    while *packet.get(end)? != 0 {
        end += usize::from(packet[end]) + 1;
    }
    let question = packet.get(HEADER..end + 5)?;
    let found = if question.ends_with(&[TYPE_A[0], TYPE_A[1], 0, 1]) { addresses } else { &[] };
    let count = u8::try_from(found.len()).ok()?;
    let mut answer = packet.get(..2)?.to_vec();
    // An authoritative answer without an error: one question, this many answers, nothing else.
    answer.extend([0x84, 0, 0, 1, 0, count, 0, 0, 0, 0]);
    answer.extend(question);
    for address in found {
        // The name of the question; type, class, a second to live, four bytes.
        answer.extend([0xc0, 12, TYPE_A[0], TYPE_A[1], 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}
