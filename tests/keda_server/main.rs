//! The server that KEDA asks, over real sockets, around the real engine: what KEDA itself makes of it is
//! the business of `tests/keda`. No cluster is needed: the objects that the watches would have read are
//! told to the index by hand.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod bad_clients;
mod calls;
#[path = "../support/certificates.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod certificates;
mod crowd;
mod peers;
mod probes;
mod raw;
mod streams;
mod tls;
mod world;
