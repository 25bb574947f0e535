//! Where samples come from: the pods themselves and Prometheus servers.
//!
//! The law of this folder: whatever a peer sends is bounded in bytes, time and number, is checked once
//! where it enters, and reaches the engine only as an [`Event`](crate::core::event::Event). Nothing that a
//! tenant wrote is ever sent to a server; it only filters what came back.

pub mod counters;
pub mod definition;
pub mod exposition;
mod faults;
pub mod scrape;
mod selector;
pub mod series;
pub mod stat;
