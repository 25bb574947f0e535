//! The simulator: every scenario of `simulations/` with its expectations and its report.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where it fails")]

mod bad_input;
mod scenarios;
mod swarm;
