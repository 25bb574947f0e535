//! Panic mode: entered when the panic window asks for much more than what is ready, left when no
//! evaluation has been over the threshold for longer than the stable window; until then nothing lowers.

use std::time::Duration;

use super::super::Timestamp;
use super::super::decision::PanicRecord;

/// Panic mode of one decider.
///
/// Source: Knative `scaling/autoscaler.go`, serving@98e5ef9.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PanicMode {
    since: Option<Timestamp>,
    high_water: i32,
    seeded: bool,
}

impl PanicMode {
    /// In panic since `now` if there is more than one pod; the pods are the high-water mark.
    pub fn seeded(now: Timestamp, pods: i32) -> Self {
        Self { since: (pods > 1).then_some(now), high_water: pods, seeded: true }
    }

    /// Whether the mode is on.
    pub fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// Enters or extends panic mode.
    pub fn enter(&mut self, now: Timestamp) {
        self.since = Some(now);
        self.seeded = false;
    }

    /// Whether no load has asked for it since [`PanicMode::seeded`].
    pub fn is_seeded(&self) -> bool {
        self.seeded
    }

    /// Leaves panic mode if it has lasted for more than `stable_window` since the last evaluation over the
    /// threshold.
    pub fn leave_if_over(&mut self, now: Timestamp, stable_window: Duration) {
        if self.since.is_some_and(|since| later(since, stable_window) < now) {
            self.since = None;
            self.high_water = 0;
        }
    }

    /// In panic: raises the high-water mark to `pods` and returns it. Calm: returns `pods`.
    pub fn hold(&mut self, pods: i32) -> i32 {
        if self.since.is_none() {
            return pods;
        }
        self.high_water = self.high_water.max(pods);
        self.high_water
    }

    /// What `explain` shows.
    pub fn record(&self, stable_window: Duration) -> Option<PanicRecord> {
        self.since.map(|since| PanicRecord {
            since,
            until: later(since, stable_window),
            high_water: self.high_water,
        })
    }
}

/// `t + span`, or the end of time.
pub fn later(t: Timestamp, span: Duration) -> Timestamp {
    t.checked_add(span).unwrap_or(Timestamp::MAX)
}
