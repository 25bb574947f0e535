//! podswell as KEDA's external scaler, proved with KEDA's own code.
//!
//! - [`client`]: the contract and KEDA's client library, as Go tests that drive the running program
//!   (`tests/keda/v2.21`, and `tests/keda/v2.16` for the last version without fractions).
//! - [`story`]: KEDA's operator and metrics adapter on a real control plane, with pods that serve
//!   real requests, installed as `docs/keda.md` says, with exactly the `ScaledObject`s of `deploy/keda`.
//!
//! `tests/testbin.sh` builds KEDA from its Go modules; that takes long only the first time.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test support: what goes wrong here is the test's failure"
)]

mod client;
mod gateway;
mod guide;
mod installed;
mod names;
mod operator;
mod programs;
mod service;
mod stage;
mod story;
mod workload;

#[expect(dead_code, reason = "a library: not every test uses all of it")]
#[path = "../support/mod.rs"]
mod support;
