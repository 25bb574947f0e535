//! A deterministic world around the same engine that the controller runs: load, pods, an API server,
//! sources and everything that can go wrong with them, on a virtual clock.
//!
//! The law of this folder is that of [`crate::core`]: no I/O, no clock, no lock, no task. Chance comes from
//! named streams of one seeded generator and mathematics from `libm`, so that the same seed gives the same
//! bytes on every machine of a platform.
//!
//! A [`scenario::Scenario`] says what happens; [`simulation::run`] plays it once for every policy and gives
//! a [`report::Report`]; [`check::Checker`] watches podswell's promises at every step.

pub mod check;
mod cluster;
pub mod figures;
mod fluid;
pub mod html;
mod ledger;
pub(crate) mod number;
mod optimum;
mod plan;
pub mod plot;
mod policy;
mod random;
pub mod replay;
pub mod report;
pub mod scenario;
pub mod seeds;
mod series;
pub mod simulation;
mod single;
mod site;
pub mod swarm;
#[cfg(test)]
mod validation;
mod world;
