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
pub(super) const NAMES: [(&str, &str); 13] = [
    ("prometheus-down", "Prometheus does not answer"),
    ("prometheus-slow", "Prometheus answers after 8 s"),
    ("prometheus-nan", "Prometheus answers NaN"),
    ("api-409", "each write of replicas meets a conflict"),
    ("api-429", "the API server asks to be left alone"),
    ("api-500", "the API server fails at each write of replicas"),
    ("api-silent", "the API server does not answer writes of replicas"),
    ("api-410", "the API server has forgotten the versions that watches ask for"),
    ("watches-dropped", "the API server ends every watch"),
    ("leader-lost", "another process takes the lease, and scales nothing"),
    ("pods-lie", "one pod of each workload reports 1e308, another NaN"),
    ("burst-1000", "checkout gets a thousand times its load"),
    ("gitops-reverts", "a GitOps tool sets checkout back to 1 replica"),
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

/// Which faults are on, and until when.
pub(super) struct Faults {
    until: Mutex<BTreeMap<&'static str, Timestamp>>,
    clock: Arc<dyn Clock>,
}

impl Faults {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { until: Mutex::default(), clock }
    }

    /// Switches a fault on for `time`, or off where that is zero. False if there is no such fault.
    pub(super) fn order(&self, name: &str, time: Duration) -> bool {
        let Some((name, _)) = NAMES.iter().find(|(known, _)| *known == name) else { return false };
        let until = self.clock.now().checked_add(time.min(LONGEST_TIME)).unwrap_or(Timestamp::MAX);
        self.until.lock().insert(name, until);
        true
    }

    pub(super) fn is_on(&self, name: &str) -> bool {
        let now = self.clock.now();
        self.until.lock().get(name).is_some_and(|until| now < *until)
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
