//! Is the process alive, and is it ready? Two questions that must not be confused: the kubelet restarts
//! a process that is not alive, so liveness depends on nothing outside it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::RwLock;

/// How long the engine's loop may be silent before the process counts as hung. The loop wakes at least
/// once a second, so this is thirty missed turns.
pub const LIVENESS_LIMIT: Duration = Duration::from_secs(30);

/// The process's state of health: written by the engine's loop and the watches, read by the probes.
#[derive(Debug)]
pub struct Health {
    beat_ms: AtomicI64,
    stopping: AtomicBool,
    leader: AtomicBool,
    parts: RwLock<BTreeMap<&'static str, bool>>,
}

impl Health {
    /// Healthy from `now` on (engine time); nothing is waited for yet.
    pub fn new(now: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            beat_ms: AtomicI64::new(now.as_millisecond()),
            stopping: AtomicBool::new(false),
            leader: AtomicBool::new(false),
            parts: RwLock::default(),
        })
    }

    /// Notes that the engine's loop turned at `now` (engine time).
    pub fn beat(&self, now: Timestamp) {
        self.beat_ms.store(now.as_millisecond(), Ordering::Relaxed);
    }

    /// How long the engine's loop has been silent at `now`, ≥ 0.
    pub fn silence(&self, now: Timestamp) -> Duration {
        let silent_ms = now.as_millisecond() - self.beat_ms.load(Ordering::Relaxed);
        Duration::try_from(SignedDuration::from_millis(silent_ms)).unwrap_or(Duration::ZERO)
    }

    /// Whether the engine's loop turned within [`LIVENESS_LIMIT`].
    pub fn is_alive(&self, now: Timestamp) -> bool {
        self.silence(now) <= LIVENESS_LIMIT
    }

    /// Declares that readiness waits for `part`, or that `part` has arrived.
    pub fn set_part(&self, part: &'static str, ready: bool) {
        self.parts.write().insert(part, ready);
    }

    /// From now on the process is not ready: it is about to end.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether this process writes.
    pub fn set_leader(&self, leader: bool) {
        self.leader.store(leader, Ordering::Relaxed);
    }

    /// Whether this process writes.
    pub fn is_leader(&self) -> bool {
        self.leader.load(Ordering::Relaxed)
    }

    /// What readiness still waits for, in alphabetical order; empty: ready.
    pub fn missing(&self) -> Vec<&'static str> {
        let mut missing: Vec<_> =
            self.parts.read().iter().filter(|(_, ready)| !**ready).map(|(part, _)| *part).collect();
        if self.stopping.load(Ordering::Relaxed) {
            missing.push("stopping");
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_silent_loop_is_not_alive() {
        let health = Health::new(at(0));
        assert!(health.is_alive(at(30)));
        assert!(!health.is_alive(at(31)));
        health.beat(at(31));
        assert!(health.is_alive(at(31)));
        assert_eq!(health.silence(at(20)), Duration::ZERO);
    }

    #[test]
    fn readiness_names_what_is_missing() {
        let health = Health::new(at(0));
        health.set_part("pods", false);
        health.set_part("deployments", false);
        assert_eq!(health.missing(), ["deployments", "pods"]);
        health.set_part("pods", true);
        health.set_part("deployments", true);
        assert!(health.missing().is_empty());
        health.set_stopping();
        assert_eq!(health.missing(), ["stopping"]);
    }
}
