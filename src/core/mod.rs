//! The decision, without the world: annotations, windows, deciders and the engine.
//!
//! The law of this folder: no I/O, no clock, no lock, no task. Time is an argument, `now` first.
//! Nothing here fails on data; what is wrong with an input becomes a [`problem::Problem`].

pub mod annotations;
pub mod config;
pub mod decider;
pub mod decision;
pub mod defaults;
pub mod duration;
pub mod effective;
pub mod engine;
pub mod event;
pub mod explain;
pub mod json;
pub mod keys;
pub mod lease;
mod measure;
pub mod number;
pub mod on_missing;
pub mod pod_reading;
mod point;
mod points;
pub mod policy;
pub mod problem;
pub mod promql;
#[cfg(feature = "serde")]
pub mod recording;
pub mod resolve;
pub mod rival;
pub mod roster;
pub mod rule;
pub mod sample_size;
pub mod scaled_object;
pub mod scrape;
pub mod snapshot;
pub mod source;
pub mod spec;
pub mod target;
pub mod text;
pub mod trigger;
pub mod window;
mod workload;

/// A moment of the engine's clock: wall-clock time that never runs backwards.
///
/// The windows of Knative are aligned to the wall clock's whole seconds, so this is a time stamp and
/// not an opaque monotonic instant; only `runtime::clock` makes one from a real clock.
pub use jiff::Timestamp;
