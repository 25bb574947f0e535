//! What can be broken in the demo, and for how long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::kinds::{DEPLOYMENTS, Kind, LEASES};
use crate::runtime::clock::Clock;

/// How long a fault lasts unless a time is named.
pub(super) const DEFAULT_TIME: Duration = Duration::from_secs(40);

/// The longest time for which a fault can be ordered.
pub(super) const LONGEST_TIME: Duration = Duration::from_secs(600);

/// Everything that can be broken: its name in URLs and what it does.
pub(super) const NAMES: [(&str, &str); 17] = [
    ("prometheus-down", "Prometheus does not answer"),
    ("prometheus-slow", "Prometheus answers after 8 s"),
    ("prometheus-nan", "Prometheus answers NaN"),
    ("prometheus-stale", "Prometheus answers what it knew an hour ago"),
    ("prometheus-ahead", "Prometheus's clock is two hours ahead"),
    ("api-409", "each write of replicas meets a conflict"),
    ("api-429", "the API server asks to be left alone"),
    ("api-500", "the API server fails at each write of replicas"),
    ("api-silent", "the API server does not answer writes of replicas"),
    ("api-410", "the API server has forgotten the versions that watches ask for"),
    ("watches-dropped", "the API server ends every watch"),
    ("leader-lost", "another process takes the lease, and scales nothing"),
    ("pods-lie", "one pod of each workload reports 1e308, another NaN"),
    ("impostor", "a pod that is none of checkout's has its labels and claims a million requests"),
    ("cluster-full", "no node has room: new pods wait"),
    ("burst-1000", "checkout gets a thousand times its load"),
    ("gitops-reverts", "a GitOps tool sets checkout back to 1 replica"),
];

/// The faults in which nothing that Prometheus says can be used.
const SILENCES: [&str; 5] = [
    "prometheus-down",
    "prometheus-slow",
    "prometheus-nan",
    "prometheus-stale",
    "prometheus-ahead",
];

/// What the API server answers instead of doing its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiFault {
    Conflict,
    TooMany,
    Internal,
    Silence,
}

impl ApiFault {
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Conflict => 409,
            Self::TooMany => 429,
            Self::Internal | Self::Silence => 500,
        }
    }

    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Conflict => "Conflict",
            Self::TooMany => "TooManyRequests",
            Self::Internal | Self::Silence => "InternalError",
        }
    }
}

/// When a fault began and when it ends.
#[derive(Clone, Copy)]
struct Span {
    since: Timestamp,
    until: Timestamp,
}

/// Which faults are on, and until when.
pub(super) struct Faults {
    spans: Mutex<BTreeMap<&'static str, Span>>,
    clock: Arc<dyn Clock>,
}

impl Faults {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { spans: Mutex::default(), clock }
    }

    /// Switches a fault on for `time`, or off where that is zero. False if there is no such fault.
    pub(super) fn order(&self, name: &str, time: Duration) -> bool {
        let Some((name, _)) = NAMES.iter().find(|(known, _)| *known == name) else { return false };
        let now = self.clock.now();
        let until = now.checked_add(time.min(LONGEST_TIME)).unwrap_or(Timestamp::MAX);
        let mut spans = self.spans.lock();
        let span = spans.entry(name).or_insert(Span { since: now, until: now });
        if span.until <= now {
            span.since = now;
        }
        span.until = until;
        true
    }

    pub(super) fn is_on(&self, name: &str) -> bool {
        self.has_been_on(name).is_some()
    }

    /// For how long a fault has been on without a break; `None` while it is off.
    pub(super) fn has_been_on(&self, name: &str) -> Option<Duration> {
        let now = self.clock.now();
        let span = self.spans.lock().get(name).copied().filter(|span| now < span.until)?;
        Duration::try_from(now.duration_since(span.since)).ok()
    }

    /// For how long Prometheus has said nothing of use; `None` while it does.
    pub(super) fn prometheus_silent(&self) -> Option<Duration> {
        SILENCES.iter().filter_map(|name| self.has_been_on(name)).max()
    }

    /// What a request meets. Leases are spared: a lost lease is a fault of its own.
    pub(super) fn api(&self, writes: bool, kind: &Kind) -> Option<ApiFault> {
        if !writes || *kind == LEASES {
            return None;
        }
        [
            ("api-429", ApiFault::TooMany, false),
            ("api-409", ApiFault::Conflict, true),
            ("api-500", ApiFault::Internal, true),
            ("api-silent", ApiFault::Silence, true),
        ]
        .into_iter()
        .find(|(name, _, only_scale)| (!only_scale || *kind == DEPLOYMENTS) && self.is_on(name))
        .map(|(_, fault, _)| fault)
    }

    pub(super) fn drops_watches(&self) -> bool {
        self.is_on("watches-dropped")
    }

    pub(super) fn expires_watches(&self) -> bool {
        self.is_on("api-410")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock::SystemClock;

    #[test]
    fn a_fault_has_a_beginning_and_an_end() {
        let faults = Faults::new(Arc::new(SystemClock::new()));
        assert!(!faults.order("none-such", DEFAULT_TIME));
        assert!(faults.prometheus_silent().is_none());
        for name in SILENCES {
            assert!(faults.order(name, DEFAULT_TIME), "{name}");
            assert!(faults.is_on(name) && faults.prometheus_silent().is_some(), "{name}");
            assert!(faults.order(name, Duration::ZERO), "{name}");
            assert!(!faults.is_on(name) && faults.prometheus_silent().is_none(), "{name}");
        }
    }
}
