//! Ports for servers of tests.

use std::hash::{BuildHasher as _, RandomState};
use std::net::TcpListener;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// TCP ports on 127.0.0.1 that were free a moment ago, all different.
///
/// They lie below the range from which the kernel takes the ports of outgoing connections: none of
/// those can take a port while its server is restarted.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    const FIRST: u16 = 20_000;
    const NUMBER: u16 = 12_000;
    /// How far this process has come in the range, from a start of its own.
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        let start = RandomState::new().hash_one(std::process::id()) % u64::from(NUMBER);
        AtomicU16::new(u16::try_from(start).unwrap_or(0))
    });
    std::array::from_fn(|_| {
        (0..NUMBER)
            .map(|_| FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % NUMBER)
            .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
            .expect("a free port")
    })
}
