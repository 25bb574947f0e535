//! One evaluation as Knative runs it, bit for bit (`compat: knative`).

use super::super::Timestamp;
use super::super::decision::{Reason, Stage, StageRecord};
use super::super::rule::Rule;
use super::super::spec::ScalerSpec;
use super::stages::{Demand, excess_burst_capacity, go_i32, saturating_i32};
use super::{Decider, Outcome};

impl Decider {
    /// Evaluates at `now` with `ready` pods and the stable and panic averages, or none of them when there
    /// is no data.
    ///
    /// Source: Knative `scaling/autoscaler.go` `Scale`, serving@98e5ef9; the steps are numbered as there
    /// and run in that order.
    pub fn tick_knative(
        &mut self,
        now: Timestamp,
        spec: &ScalerSpec,
        ready: i32,
        averages: Option<(f64, f64)>,
    ) -> Outcome {
        let Some((stable, panic)) = averages else {
            self.unwanted_since = None;
            return Outcome {
                desired: self.desired,
                reason: Reason::SignalStarting,
                ..Outcome::default()
            };
        };
        let pods = f64::from(ready.max(1));
        let demand = Demand::new(spec, pods, stable, panic, go_i32);
        if demand.wants.panic / pods >= spec.panic_threshold {
            self.panic.enter(now);
        } else {
            self.panic.leave_if_over(now, spec.stable_window);
        }
        let candidate =
            if self.panic.is_on() { demand.stable.max(demand.panic) } else { demand.stable };
        let held = self.panic.hold(candidate);
        let mut desired = held;
        if spec.reachable
            && let Some(delay) = &mut self.delay
        {
            desired = delay.record(now, held);
        }
        self.desired = desired;
        self.ready_at_last_tick = ready;
        let is_unwanted = demand.wants.is_nothing() && !self.panic.is_on();
        let unwanted_since = self.note_unwanted(now, spec, is_unwanted);
        let mut stages = Vec::new();
        push_demand(&mut stages, spec, &demand);
        push_stage(&mut stages, Stage::Panic, demand.stable, held, || panic_rule(&demand, held));
        push_stage(&mut stages, Stage::ScaleDownDelay, held, desired, || delay_rule(spec, desired));
        Outcome {
            valid: true,
            desired,
            excess_burst_capacity: excess_burst_capacity(spec, ready, panic),
            wants: Some(demand.wants),
            lowering: true,
            reason: reason_of(&demand, held, desired, self.panic.is_on()),
            stages,
            unwanted_since,
        }
    }
}

/// Records rate limit and activation scale.
pub(super) fn push_demand(stages: &mut Vec<StageRecord>, spec: &ScalerSpec, demand: &Demand) {
    let wanted = saturating_i32(demand.wants.stable);
    push_stage(stages, Stage::RateLimit, wanted, demand.stable_limited, || {
        if demand.stable_limited < wanted {
            Rule::ScaleUpRate { rate: spec.max_scale_up_rate, most: demand.limit.up }
        } else {
            Rule::ScaleDownRate { rate: spec.max_scale_down_rate, least: demand.limit.down }
        }
    });
    push_stage(stages, Stage::ActivationScale, demand.stable_limited, demand.stable, || {
        Rule::ActivationScale(spec.activation_scale)
    });
}

/// Records a stage that changed the number.
pub(in crate::core) fn push_stage(
    stages: &mut Vec<StageRecord>,
    stage: Stage,
    before: i32,
    after: i32,
    rule: impl FnOnce() -> Rule,
) {
    if before != after {
        // A decision is kept with its target, and most have no more than one such stage.
        stages.reserve_exact(1);
        stages.push(StageRecord { stage, before, after, rule: rule() });
    }
}

pub(super) fn panic_rule(demand: &Demand, held: i32) -> Rule {
    if held == demand.panic { Rule::PanicDemand(held) } else { Rule::HighWater(held) }
}

pub(super) fn delay_rule(spec: &ScalerSpec, desired: i32) -> Rule {
    Rule::ScaleDownDelay { delay_s: spec.scale_down_delay.as_secs(), highest: desired }
}

/// Why the decider asks for `desired`: the last stage that had a say.
pub(super) fn reason_of(demand: &Demand, held: i32, desired: i32, panicking: bool) -> Reason {
    if desired != held {
        Reason::ScaleDownDelay
    } else if panicking && held > demand.stable {
        if held == demand.panic { Reason::PanicDemand } else { Reason::PanicHold }
    } else if demand.stable > demand.stable_limited {
        Reason::ActivationScale
    } else if f64::from(demand.stable_limited) < demand.wants.stable {
        Reason::ScaleUpRate
    } else if f64::from(demand.stable_limited) > demand.wants.stable {
        Reason::ScaleDownRate
    } else {
        Reason::StableDemand
    }
}
