//! The figures by which policies are compared. Tables, JSON, CSV, expectations and intervals over seeds
//! all come from the one list in this file.

use serde::Serialize;

use super::number::{length, real, seconds};
use super::world::Ended;

/// One figure: how it is called and how it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// The key in files and expectations.
    pub key: &'static str,
    /// The heading in tables.
    pub heading: &'static str,
    /// What it means.
    pub about: &'static str,
    /// Digits after the point in tables.
    pub digits: usize,
    get: fn(&Figures) -> Option<f64>,
}

impl Figure {
    /// Its value, if it has one.
    pub fn of(&self, figures: &Figures) -> Option<f64> {
        (self.get)(figures)
    }
}

macro_rules! figures {
    ($($name:ident, $heading:literal, $digits:literal, $about:literal;)*) => {
        /// The figures of a policy; see [`FIGURES`] for what they mean. `None`: there is no such value.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
        pub struct Figures {
            $(#[doc = $about] pub $name: Option<f64>,)*
        }

        /// Every figure in the order of tables.
        pub const FIGURES: &[Figure] = &[
            $(Figure {
                key: stringify!($name),
                heading: $heading,
                about: $about,
                digits: $digits,
                get: |figures| figures.$name,
            },)*
        ];
    };
}

figures! {
    pod_seconds, "POD-S", 0, "Pods that were paid for, from their start to their end, times seconds.";
    of_optimum, "×OPT", 2, "Pod-seconds divided by those of the optimum.";
    idle_pod_seconds, "IDLE-S", 0, "Ready pods that were not needed, times seconds.";
    unmet_pod_seconds, "UNMET-S", 1, "Needed pods that were not ready, times seconds.";
    full_scale_s, "SHORT", 1, "The longest time with too few ready pods, in seconds.";
    starts, "STARTS", 0, "Pods that were started.";
    direction_changes, "TURNS", 0, "How often replicas turned from rising to falling or back.";
    writes, "WRITES", 0, "Writes of replicas that were stored.";
    requests, "REQUESTS", 0, "All requests.";
    cold_starts, "COLD", 0, "Requests that found no ready pod.";
    delayed, "DELAYED", 0, "Requests that waited for longer than a millisecond.";
    lost, "LOST", 0, "Requests that were lost.";
    p50_s, "P50", 3, "The median response time in seconds.";
    p99_s, "P99", 3, "The 99th percentile of the response time in seconds.";
    max_scale, "MOST", 0, "The most replicas, of all copies together.";
    final_scale, "END", 0, "Replicas at the end, of all copies together.";
    panic_entries, "PANICS", 0, "How often panic mode was entered.";
    zero_at_s, "ZERO-AT", 1, "When replicas were first 0, in seconds.";
    violations, "BROKEN", 0, "Broken promises.";
}

impl Figures {
    /// The figures of a run.
    pub(crate) fn of(ended: &Ended) -> Self {
        let ledger = &ended.ledger;
        Self {
            pod_seconds: Some(ledger.pod_s),
            of_optimum: None,
            idle_pod_seconds: Some(ledger.idle_s),
            unmet_pod_seconds: Some(ledger.unmet_s),
            full_scale_s: Some(ledger.longest_short_s()),
            starts: Some(real(ended.starts)),
            direction_changes: Some(real(ledger.turns)),
            writes: Some(real(ledger.writes)),
            requests: Some(ledger.requests),
            cold_starts: Some(ledger.cold),
            delayed: Some(ledger.delayed),
            lost: Some(ledger.lost),
            p50_s: ledger.latency_s(0.5),
            p99_s: ledger.latency_s(0.99),
            max_scale: Some(f64::from(ledger.most)),
            final_scale: Some(f64::from(ended.replicas)),
            panic_entries: Some(real(ended.panics)),
            zero_at_s: ledger.zero_at.map(seconds),
            violations: Some(length(ended.violations.len())),
        }
    }

    /// The value of the figure `key`.
    pub fn get(&self, key: &str) -> Option<f64> {
        FIGURES.iter().find(|figure| figure.key == key)?.of(self)
    }
}
