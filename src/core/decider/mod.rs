//! From averages to a desired scale: the stages of Knative's `Scale`, one pure function each, and the two
//! orders in which they run: [`knative`] bit for bit, [`covered`] on windows of covered seconds.
//!
//! [`bounds`] and [`zero`] come after either.

pub mod bounds;
pub mod covered;
pub mod knative;
pub mod panic;
pub mod stages;
pub mod zero;

use super::Timestamp;
use super::decision::{Reason, StageRecord, Wants};
use super::spec::ScalerSpec;
use super::window::max::MaxWindow;
use panic::PanicMode;

/// What one evaluation of a decider gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Whether there was enough data to decide; if not, `desired` is what it was.
    pub valid: bool,
    /// The desired scale; −1 = unknown.
    pub desired: i32,
    /// Knative's excess burst capacity.
    pub excess_burst_capacity: i32,
    /// The unlimited demands.
    pub wants: Option<Wants>,
    /// Whether lowering was allowed.
    pub lowering: bool,
    /// The stages that ran.
    pub stages: Vec<StageRecord>,
    /// Why the desired scale is what it is.
    pub reason: Reason,
    /// Since when nothing has been wanted, the scale-down-delay passed and no part of the load unknown;
    /// `None` while anything is or may be wanted. What a rate limit still holds is not wanted.
    pub unwanted_since: Option<Timestamp>,
}

/// The state that lives from one evaluation to the next.
#[derive(Clone, Debug)]
pub struct Decider {
    created: Timestamp,
    desired: i32,
    panic: PanicMode,
    delay: Option<MaxWindow>,
    /// Ready pods at the last tick; before the first one, the replicas at creation.
    ready_at_last_tick: i32,
    /// Since when every tick knew that nothing is wanted.
    unwanted_since: Option<Timestamp>,
}

impl Decider {
    /// A decider that was created at `now` for a target with `replicas` pods. With more than one it starts
    /// in panic, so that lost history cannot scale down.
    ///
    /// Source: Knative `scaling/autoscaler.go` `newAutoscaler`, serving@98e5ef9.
    /// Differs: the delay window knows the replicas too, and the desired scale starts there.
    pub fn new(now: Timestamp, spec: &ScalerSpec, replicas: i32) -> Self {
        let mut decider = Self {
            created: now,
            desired: replicas,
            panic: PanicMode::seeded(now, replicas),
            delay: None,
            ready_at_last_tick: replicas,
            unwanted_since: None,
        };
        decider.configure(now, spec);
        if let Some(delay) = &mut decider.delay {
            delay.record(now, replicas);
        }
        decider
    }

    /// A decider as Knative makes it: nothing is desired yet and the delay window is empty.
    pub fn new_knative(now: Timestamp, spec: &ScalerSpec, ready: i32) -> Self {
        let mut decider = Self::new(now, spec, ready);
        decider.desired = -1;
        if let Some(delay) = &mut decider.delay {
            delay.clear();
        }
        decider
    }

    /// Starts again from `replicas`, because somebody else set them or because writing resumes: panic since
    /// now if they are more than one, and the delay window holds them.
    pub fn reseed(&mut self, now: Timestamp, spec: &ScalerSpec, replicas: i32) {
        self.desired = replicas;
        self.panic = PanicMode::seeded(now, replicas);
        self.unwanted_since = None;
        self.delay = None;
        self.configure(now, spec);
        if let Some(delay) = &mut self.delay {
            delay.record(now, replicas);
        }
    }

    /// Takes over a changed scale-down-delay: turning it on or changing its length starts a window that
    /// holds the present desired scale.
    pub fn reconfigure_delay(&mut self, now: Timestamp, spec: &ScalerSpec) {
        self.delay = None;
        self.configure(now, spec);
        if let Some(delay) = &mut self.delay {
            delay.record(now, self.desired);
        }
    }

    fn configure(&mut self, _now: Timestamp, spec: &ScalerSpec) {
        if !spec.scale_down_delay.is_zero() {
            self.delay = Some(MaxWindow::new(spec.scale_down_delay));
        }
    }

    /// What was desired last; −1 = unknown.
    pub fn desired(&self) -> i32 {
        self.desired
    }

    /// When the decider was created.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// Panic mode as it stands.
    pub fn panic_mode(&self) -> &PanicMode {
        &self.panic
    }

    /// Takes note of whether a tick at `now` knew that nothing is wanted; says since when that has been
    /// true for longer than the scale-down-delay.
    fn note_unwanted(
        &mut self,
        now: Timestamp,
        spec: &ScalerSpec,
        is_unwanted: bool,
    ) -> Option<Timestamp> {
        let since = is_unwanted.then(|| self.unwanted_since.unwrap_or(now));
        self.unwanted_since = since;
        since.map(|since| panic::later(since, spec.scale_down_delay)).filter(|over| *over <= now)
    }

    /// Ready pods at the last tick, for judging a sample on its own.
    pub fn ready_at_last_tick(&self) -> i32 {
        self.ready_at_last_tick
    }
}
