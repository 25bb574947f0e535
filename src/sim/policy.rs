//! Who scales: one interface for podswell's own engine and for the autoscalers that it is compared with.

mod engine;
mod hpa;
mod keda;

use std::time::Duration;

pub(crate) use engine::EnginePolicy;
#[cfg(test)]
pub(crate) use engine::Mutant;
pub(crate) use hpa::{HpaPolicy, Limits};
pub(crate) use keda::KedaPolicy;

use super::check::Violation;
use super::number::Micros;
use crate::core::event::WriteOutcome;
use crate::core::target::PodCounts;

/// A fact that the world tells the autoscaler.
#[derive(Clone, Debug)]
pub(crate) enum Fact {
    /// The object's replicas and version.
    Replicas { site: usize, replicas: i32, version: u64 },
    /// The pods, and how many the replicas ask for that exist.
    Pods { site: usize, counts: PodCounts, current: i32 },
    /// A sample arrived.
    Sample { site: usize, seen: f64, missing: u32, age: Duration, stamp: Option<Micros> },
    /// A sample of a name that is no source arrived.
    Stranger { site: usize, seen: f64 },
    /// The source could not be reached.
    Unreachable { site: usize },
    /// A write ended.
    Written { site: usize, replicas: i32, outcome: WriteOutcome },
    /// Whether this process may write.
    Leader(bool),
    /// The process died.
    Died,
    /// A new process took over; all facts about the cluster follow.
    Born,
    /// Whether an HPA works on the target.
    Rival { site: usize, present: bool },
}

/// Replicas that the autoscaler wants written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) site: usize,
    pub(crate) replicas: i32,
    /// The version that must still be there, if the writer asks for one.
    pub(crate) version: Option<u64>,
    pub(crate) reason: &'static str,
}

/// What a chart shows of a workload's autoscaler.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct View {
    pub(crate) stable: Option<f64>,
    pub(crate) panic: Option<f64>,
    pub(crate) desired: Option<i32>,
    pub(crate) panicking: bool,
}

/// An autoscaler of all workloads of a world.
pub(crate) trait Policy {
    /// Takes over a fact.
    fn tell(&mut self, now: Micros, fact: Fact);
    /// When it wants to act next.
    fn due(&self) -> Option<Micros>;
    /// Acts.
    fn act(&mut self, now: Micros);
    /// The next write that it asks for.
    fn order(&mut self) -> Option<Order>;
    /// What a chart shows.
    fn view(&self, site: usize) -> View;
    /// How often panic mode was entered.
    fn panics(&self) -> u64 {
        0
    }
    /// The promises that were broken so far.
    fn violations(&mut self, _now: Micros) -> Vec<Violation> {
        Vec::new()
    }
    /// A fingerprint of everything that was decided.
    fn digest(&self) -> u64 {
        0
    }
    /// What the user should know about the configuration.
    fn remark(&self) -> Option<String> {
        None
    }
}
