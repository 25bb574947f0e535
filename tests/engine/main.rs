//! The engine from outside: scenarios, and properties that hold for all inputs.
#![expect(clippy::expect_used, reason = "a test ends where it fails")]

mod handover;
mod measures;
mod people;
mod properties;
mod restart;
mod review;
mod scenarios;
mod windows;
mod world;
