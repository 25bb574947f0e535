//! End to end: the real control plane, real sockets, real Prometheus. Slow, so each test shares
//! what it can: one control plane takes some seconds to start.
//!
//! `tests/testbin.sh` builds the programs that these tests run; what is missing is built by the first
//! test that asks for it, which takes minutes.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test support: what goes wrong here is the test's failure"
)]

mod amnesia;
mod autoscaling;
mod harness;
mod kubernetes;
mod leadership;
mod measures;
mod namespaces;
mod queues;
mod rivals;
mod sources;
mod tenants;
mod tools;

#[expect(dead_code, reason = "a library: not every test uses all of it")]
#[path = "../support/mod.rs"]
mod support;
