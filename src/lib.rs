//! podswell decides how many pods a Kubernetes Deployment runs: Knative's stable and panic windows
//! for any Deployment, without Knative.
//!
//! ```text
//! queue-proxy ─┐                       ┌─▶ StatusBoard ─▶ explain, /v1, /metrics
//! pod scrape ──┼─ sources ──Event──▶ Engine (one task)
//! Prometheus ──┘                       └─Action─▶ scale writer ── PATCH /scale ─▶ API server
//!                 k8s watches ─Event─▲                └──────────Event::ScaleWritten─▲
//! ```
//!
//! # Invariants
//!
//! - **A1** [`core`] and `sim` do no I/O, read no clock, hold no lock and spawn nothing. Kept by the feature
//!   walls (`cargo check --no-default-features`, the same with `-F simulator`) and clippy's
//!   `disallowed-methods`.
//! - **A2** [`core`] cannot fail on data: it returns values and [`core::problem::Problem`]s; only
//!   parsers return `Result`.
//! - **A3** Same inputs, same outputs, byte for byte: ordered maps only. Where Knative's numbers are
//!   claimed, the order of the floating-point operations is part of the contract.
//! - **A4** `k8s`, `sources` and `servers` never import each other; they meet in [`core`] types.
//! - **A5** Core types are not wire types: protobuf, k8s-openapi and Prometheus JSON stop at the adapter.
//! - **A6** One task owns the engine. Others send events through a bounded channel or read the board.
//! - **A7** Every process may compute; only the leader writes, and leadership is checked when writing.
//! - **A8** Every queue, retry, body, window and label set has a stated bound.
//! - **A9** A bad object, sample or annotation affects its own target only: skipped, counted, shown by
//!   `explain`, never fatal.
//!
//! Read the modules in this order: [`core::target`], [`core::spec`], [`core::config`],
//! [`core::window`], [`core::decider`], [`core::engine`]; then the adapters, and `sim`, the world in which
//! the same engine is tried out.

#[cfg(all(feature = "controller", feature = "simulator"))]
pub mod cli;
pub mod core;
#[cfg(all(feature = "controller", feature = "simulator"))]
pub mod demo;
#[cfg(feature = "controller")]
pub mod k8s;
#[cfg(feature = "controller")]
pub mod runtime;
#[cfg(feature = "controller")]
pub mod servers;
#[cfg(feature = "simulator")]
pub mod sim;
#[cfg(feature = "controller")]
pub mod sources;
