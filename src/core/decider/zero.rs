//! The way to zero and back: a target goes to zero only when something would wake it, after it was active
//! for a whole stable window, and after the last pod's retention.

use std::time::Duration;

use super::super::Timestamp;
use super::super::config::ZeroConfig;
use super::super::decision::Reason;
use super::panic::later;

/// Whether a target serves, is on the way to serving, or is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Pods are wanted but too few are ready.
    Activating,
    /// Enough pods are ready.
    Active,
    /// Nothing is wanted.
    Inactive,
}

/// The scale-to-zero machine of one target.
///
/// Source: Knative `kpa/scaler.go` `handleScaleToZero` and `kpa/kpa.go` `computeActiveCondition`,
/// serving@98e5ef9, without what belongs to a request-holding proxy (grace period, probe).
/// Differs: only a change of the phase itself restarts its clock, not a change of its reason.
#[derive(Clone, Debug)]
pub struct ZeroState {
    phase: Phase,
    since: Timestamp,
    initialised: bool,
}

/// What the rules for zero see besides time.
#[derive(Clone, Copy, Debug)]
pub struct ZeroInputs<'a> {
    /// The rules' numbers.
    pub config: &'a ZeroConfig,
    /// How long a target must have been active.
    pub stable_window: Duration,
    /// Whether something would wake the target from zero.
    pub has_wake_path: bool,
    /// Whether that something is heard now; nothing goes to zero that could not be woken at once.
    pub wake_path_heard: bool,
    /// Whether something shows what waits; always true where nothing can wait.
    pub sees_waiting: bool,
    /// Whether the newest sample shows no work at all; always true where windows alone decide.
    pub nothing_waits: bool,
    /// `spec.replicas`.
    pub replicas: i32,
}

impl ZeroState {
    /// A target that is first seen at `now` with `replicas`; `initialised` when its initial scale counts as
    /// reached.
    pub fn new(now: Timestamp, replicas: i32, initialised: bool) -> Self {
        let phase = if replicas == 0 { Phase::Inactive } else { Phase::Activating };
        Self { phase, since: now, initialised }
    }

    /// Whether the initial scale was reached once.
    pub fn is_initialised(&self) -> bool {
        self.initialised
    }

    /// The phase as it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The fewest replicas that the target may have: 0 where zero is possible at all.
    pub fn floor(config: &ZeroConfig, has_wake_path: bool, sees_waiting: bool) -> (i32, Reason) {
        if !has_wake_path {
            (1, Reason::NoWakePath)
        } else if !sees_waiting {
            (1, Reason::WaitingUnknown)
        } else if !config.enabled {
            (1, Reason::ScaleToZeroDisabled)
        } else {
            (0, Reason::Idle)
        }
    }

    /// What becomes of a wish for zero pods at `now`: the replicas to have and why.
    pub fn to_zero(&self, now: Timestamp, inputs: &ZeroInputs<'_>) -> (i32, Reason) {
        let (floor, reason) = Self::floor(inputs.config, inputs.has_wake_path, inputs.sees_waiting);
        if floor > 0 || inputs.replicas == 0 {
            return (floor, reason);
        }
        if !inputs.wake_path_heard {
            return (1, Reason::NoWakePath);
        }
        let pending = (inputs.replicas.min(1), Reason::ScaleToZeroPending);
        let passed = |span| later(self.since, span) <= now;
        match self.phase {
            Phase::Activating if self.is_activation_over(now, inputs.config) => (0, Reason::Idle),
            Phase::Activating => (inputs.replicas, Reason::ScaleToZeroPending),
            Phase::Inactive if inputs.nothing_waits && passed(inputs.config.retention) => {
                (0, Reason::Idle)
            }
            Phase::Active | Phase::Inactive => pending,
        }
    }

    fn is_activation_over(&self, now: Timestamp, config: &ZeroConfig) -> bool {
        later(self.since, config.activation_timeout) < now
    }

    /// Whether, by the same rules, a target has no use for any of its replicas at `now`, if nothing has been
    /// wanted since `unwanted_since`. Who asks takes the last ones away by itself and at once.
    pub fn is_idle(
        &self,
        now: Timestamp,
        inputs: &ZeroInputs<'_>,
        unwanted_since: Timestamp,
    ) -> bool {
        let (floor, _) = Self::floor(inputs.config, inputs.has_wake_path, inputs.sees_waiting);
        let passed = |span| later(self.since, span) <= now;
        let has_served = match self.phase {
            Phase::Activating => self.is_activation_over(now, inputs.config),
            Phase::Active => passed(inputs.stable_window),
            Phase::Inactive => true,
        };
        self.initialised
            && floor == 0
            && inputs.wake_path_heard
            && inputs.nothing_waits
            && has_served
            && later(unwanted_since, inputs.config.retention) <= now
    }

    /// Takes over what the evaluation at `now` wanted (before zero's rules) with `ready` pods.
    pub fn observe(
        &mut self,
        now: Timestamp,
        wanted: i32,
        ready: i32,
        min_ready: i32,
        window: Duration,
    ) {
        if ready >= min_ready {
            self.initialised = true;
        }
        let next = match self.phase {
            Phase::Active if wanted == 0 && later(self.since, window) > now => Phase::Active,
            Phase::Activating if wanted == 0 => Phase::Activating,
            _ if wanted == 0 => Phase::Inactive,
            _ if ready < min_ready => Phase::Activating,
            _ => Phase::Active,
        };
        let next = if next == Phase::Activating && wanted == 0 && ready >= min_ready {
            Phase::Active
        } else {
            next
        };
        if next != self.phase {
            self.phase = next;
            self.since = now;
        }
    }
}
