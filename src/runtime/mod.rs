//! Wiring: the only module that may see every other one.

pub mod clock;
pub mod engine_handle;
