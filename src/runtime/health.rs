//! Is the process alive, and is it ready? Two questions that must not be confused: the kubelet restarts
//! a process that is not alive, so liveness depends on nothing outside it.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::RwLock;

/// How long the engine's loop may be silent before the process counts as hung. The loop wakes at least
/// once a second, so this is thirty missed turns.
pub const LIVENESS_LIMIT: Duration = Duration::from_secs(30);

/// How one watch of the API server is, as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchReport {
    /// The plural of the kind that is watched (`pods`, or `pods in shop` where only some namespaces are
    /// watched), or the name of the ConfigMap.
    pub name: Arc<str>,
    /// Whether it had its first complete list.
    pub synced: bool,
    /// Whether readiness waits for it while it is not synced.
    pub awaited: bool,
    /// Why it cannot read at present, a word of a closed list; `None` if it can.
    pub fault: Option<&'static str>,
    /// How many objects it had to skip because they were malformed.
    pub skipped: u64,
}

/// How the election stands, as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseReport {
    /// This process's name in it.
    pub identity: Arc<str>,
    /// Who held the lease when it was last read.
    pub holder: Option<Arc<str>>,
    /// How often it changed hands until then.
    pub transitions: Option<i32>,
    /// Why it cannot be read or written at present, a word of a closed list; `None` if it can.
    pub fault: Option<&'static str>,
}

/// Asks the watches how they are.
pub type WatchReporter = Box<dyn Fn() -> Vec<WatchReport> + Send + Sync>;

/// The process's state of health: written by the engine's loop and the wiring, read by the probes.
pub struct Health {
    beat_ms: AtomicI64,
    stopping: AtomicBool,
    leader: AtomicBool,
    watches: OnceLock<WatchReporter>,
    lease: RwLock<Option<LeaseReport>>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("missing", &self.missing()).finish_non_exhaustive()
    }
}

impl Health {
    /// Healthy from `now` on (engine time); nothing is waited for yet.
    pub fn new(now: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            beat_ms: AtomicI64::new(now.as_millisecond()),
            stopping: AtomicBool::new(false),
            leader: AtomicBool::new(false),
            watches: OnceLock::new(),
            lease: RwLock::default(),
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

    /// Says whom to ask for the watches' state; only the first call counts.
    pub fn set_watches(&self, reporter: WatchReporter) {
        // A second reporter would be a mistake of the wiring, without harm: the first one stays.
        let _ = self.watches.set(reporter);
    }

    /// How the watches are; empty before anybody watches.
    pub fn watches(&self) -> Vec<WatchReport> {
        self.watches.get().map(|ask| ask()).unwrap_or_default()
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

    /// Notes how the election stands.
    pub fn set_lease(&self, report: LeaseReport) {
        *self.lease.write() = Some(report);
    }

    /// How the election stands; `None` without one.
    pub fn lease(&self) -> Option<LeaseReport> {
        self.lease.read().clone()
    }

    /// What readiness still waits for, in the watches' order; empty: ready. A process that stands by is
    /// ready as well: it could take over at once.
    pub fn missing(&self) -> Vec<String> {
        let awaited = |watch: &WatchReport| watch.awaited && !watch.synced;
        let watches = self.watches().into_iter().filter(awaited);
        let mut missing: Vec<_> = watches.map(|watch| watch.name.to_string()).collect();
        if self.stopping.load(Ordering::Relaxed) {
            missing.push("stopping".to_owned());
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
        assert!(health.missing().is_empty());
        let synced = Arc::new(AtomicBool::new(false));
        let seen = synced.clone();
        health.set_watches(Box::new(move || {
            let report = |name: &str, synced, awaited| {
                let (name, fault) = (name.into(), Some("Timeout"));
                WatchReport { name, synced, awaited, fault, skipped: 0 }
            };
            let late = report("nodes", seen.load(Ordering::Relaxed), true);
            vec![late, report("pods", true, true), report("pods in shop", false, false)]
        }));
        assert_eq!(health.missing(), ["nodes"]);
        synced.store(true, Ordering::Relaxed);
        assert!(health.missing().is_empty());
        health.set_stopping();
        assert_eq!(health.missing(), ["stopping"]);
    }
}
