//! Who is connected. A connection counts as one only when its peer has shown that it speaks HTTP/2 (over
//! TLS where that is asked for); until then it has a place among the newcomers, of which the one that has
//! waited longest makes room for the next. So whoever opens connections and says nothing keeps nobody out.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::counters::{Counters, Refusal};

/// How many connections there may be at once; KEDA holds one for each of its processes.
pub const MAX_CONNECTIONS: usize = 1024;

/// How many of them may come from one address.
pub const MAX_OF_ADDRESS: usize = 128;

/// How many newcomers there may be besides.
pub const MAX_NEWCOMERS: usize = 256;

/// How long a newcomer may take to show that it speaks HTTP/2, the TLS handshake included.
pub const NEWCOMER_LIMIT: Duration = Duration::from_secs(10);

/// What every client of HTTP/2 sends first has this many bytes.
const PREFACE_BYTES: usize = 24;

/// All connections of a listener.
#[derive(Debug)]
pub(super) struct Connections {
    counters: Arc<Counters>,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    /// By arrival.
    newcomers: BTreeMap<u64, CancellationToken>,
    arrivals: u64,
    open: usize,
    of_address: HashMap<IpAddr, usize>,
}

/// A connection's place; it is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    arrival: u64,
    address: IpAddr,
    is_open: AtomicBool,
    /// Says that it has to go.
    cut: CancellationToken,
}

impl Connections {
    pub(super) fn new(counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self { counters, places: Mutex::default() })
    }

    /// A place for a newcomer.
    pub(super) fn receive(self: &Arc<Self>, address: IpAddr) -> Arc<Place> {
        let cut = CancellationToken::new();
        let mut places = self.places.lock();
        if places.newcomers.len() >= MAX_NEWCOMERS
            && let Some((_, displaced)) = places.newcomers.pop_first()
        {
            displaced.cancel();
            self.counters.refused(Refusal::Displaced);
        }
        places.arrivals += 1;
        let arrival = places.arrivals;
        places.newcomers.insert(arrival, cut.clone());
        drop(places);
        let (connections, is_open) = (self.clone(), AtomicBool::new(false));
        Arc::new(Place { connections, arrival, address, is_open, cut })
    }
}

impl Place {
    /// Makes a connection of a newcomer, if there is room.
    fn open(&self) {
        let mut places = self.connections.places.lock();
        if places.newcomers.remove(&self.arrival).is_none() {
            return;
        }
        let of_address = places.of_address.get(&self.address).copied().unwrap_or_default();
        let refusal = if of_address >= MAX_OF_ADDRESS {
            Refusal::FullOfAddress
        } else if places.open >= MAX_CONNECTIONS {
            Refusal::Full
        } else {
            places.open += 1;
            *places.of_address.entry(self.address).or_default() += 1;
            self.is_open.store(true, Ordering::Relaxed);
            self.connections.counters.connected();
            return;
        };
        self.connections.counters.refused(refusal);
        self.cut.cancel();
    }

    /// Why it was not let in, where TLS says so.
    pub(super) fn refuse(&self, why: Refusal) {
        if self.connections.places.lock().newcomers.remove(&self.arrival).is_some() {
            self.connections.counters.refused(why);
        }
    }

    /// Waits until the connection has to be cut.
    pub(super) async fn cut(&self) {
        let patience = tokio::time::timeout(NEWCOMER_LIMIT, self.cut.cancelled());
        if patience.await.is_err() {
            if self.is_open.load(Ordering::Relaxed) {
                self.cut.cancelled().await;
            }
            self.refuse(Refusal::Silent);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.connections.places.lock();
        places.newcomers.remove(&self.arrival);
        if !self.is_open.load(Ordering::Relaxed) {
            return;
        }
        places.open = places.open.saturating_sub(1);
        if let Some(of_address) = places.of_address.get_mut(&self.address) {
            *of_address = of_address.saturating_sub(1);
            if *of_address == 0 {
                places.of_address.remove(&self.address);
            }
        }
        self.connections.counters.disconnected();
    }
}

/// The bytes of a connection; it is opened by those that HTTP/2 begins with. Whether they are the right
/// ones is checked by who reads them.
pub(super) struct Watched<S> {
    stream: S,
    place: Arc<Place>,
    missing: usize,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, place: Arc<Place>) -> Self {
        Self { stream, place, missing: PREFACE_BYTES }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if self.missing > 0 {
            let read = buf.filled().len().saturating_sub(before);
            self.missing = self.missing.saturating_sub(read);
            if self.missing == 0 {
                self.place.open();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
