//! Wiring: the only module that may see every other one.

pub mod args;
pub mod clock;
pub mod engine_handle;
pub mod health;
pub mod metrics;
pub mod status_board;
pub mod telemetry;
