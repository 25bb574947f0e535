//! One evaluation of the default mode: Knative's stages on windows of covered seconds, with evidence
//! asked for before panic on thin data, and knowledge before lowering.
//!
//! The rules are podswell's own; where nothing else is said a step is Knative's (`scaling/autoscaler.go`,
//! serving@98e5ef9).

use std::time::Duration;

use super::super::Timestamp;
use super::super::decision::{Reason, Stage, StageRecord, Wants};
use super::super::rule::Rule;
use super::super::source::PointConfig;
use super::super::spec::{Aggregation, ScalerSpec, ScalingMetric};
use super::super::window::covered::{CoveredAverage, CoveredSeconds};
use super::super::window::round_6;
use super::knative::{delay_rule, panic_rule, push_demand, push_stage, reason_of};
use super::panic::later;
use super::stages::{Demand, activation_scale, excess_burst_capacity, saturating_i32, want};
use super::{Decider, Outcome};

/// The share of the seconds needed that must be covered before anything is lowered.
const COVERAGE_NEEDED: f64 = 0.8;
/// How many standard deviations of chance the thin evidence must exceed.
const DEVIATIONS: f64 = 3.0;
/// Samples in the panic window from which on its average is believed as it is.
const SAMPLES_FOR_PANIC: u32 = 3;

/// What waits besides the load that a window averages, as a load: newest waiting items over the time in
/// which they are to be worked off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Waiting {
    /// What was seen, per second.
    pub low: f64,
    /// The most that it may be, per second.
    pub high: f64,
    /// What two samples in a row agree on, per second: the part that is no single sample's mistake.
    pub sure: f64,
}

/// What the windows of a measure say at a moment.
#[derive(Clone, Debug)]
pub struct Reading<'a> {
    window: &'a CoveredSeconds,
    /// The windows of the other parts, where several sources see a part of the load each.
    parts: Vec<&'a CoveredSeconds>,
    /// Over the stable window.
    pub stable: CoveredAverage,
    /// Over the effective panic window.
    pub panic: CoveredAverage,
    /// Samples in the effective panic window: of each part at least so many.
    pub samples_in_panic_window: u32,
    /// The effective panic window.
    pub panic_window: Duration,
    /// What each sample is a mean over: the source's range or its interval.
    pub sample_span: Duration,
    /// What has to be carried besides the averages.
    pub waiting: Waiting,
    /// Whether a part of the load is not known at all, so that no upper end holds.
    pub lacks_part: bool,
    /// Where all that was seen counts as none: the value up to which it does.
    pub none_up_to: Option<f64>,
}

/// The panic window that a point can fill: the configured one, its interval or its range in whole
/// seconds, whichever is longest.
pub fn effective_panic_window(spec: &ScalerSpec, point: &PointConfig) -> Duration {
    let span = point.range.unwrap_or(point.interval);
    let seconds = super::super::window::whole_seconds(span);
    spec.panic_window.max(Duration::from_secs(seconds as u64))
}

/// The averages of a window. Nothing but a sample changes them, so they are taken when one comes and hold
/// for every evaluation until the next.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Averages {
    /// Over the stable window.
    pub stable: CoveredAverage,
    /// Over the effective panic window.
    pub panic: CoveredAverage,
    /// Samples in the effective panic window.
    pub samples_in_panic_window: u32,
}

impl Averages {
    /// Takes both averages. A rate over a range longer than the panic window is a mean already: its newest
    /// value is the panic value and the stable mean takes samples one range apart.
    pub fn of(spec: &ScalerSpec, point: &PointConfig, window: &CoveredSeconds) -> Self {
        let panic_window = effective_panic_window(spec, point);
        let apart = point.range.filter(|range| *range > spec.panic_window);
        let (stable, panic) = match (apart, spec.aggregation) {
            (Some(range), _) => {
                (window.average_apart(spec.stable_window, range), window.newest_value())
            }
            (None, Aggregation::Linear) => {
                (window.average(spec.stable_window), window.average(panic_window))
            }
            (None, Aggregation::WeightedExponential) => {
                (window.average_weighted(spec.stable_window), window.average_weighted(panic_window))
            }
        };
        Self { stable, panic, samples_in_panic_window: window.samples(panic_window) }
    }
}

impl<'a> Reading<'a> {
    /// What a window says whose averages are `averages`.
    pub fn new(
        spec: &ScalerSpec,
        point: &PointConfig,
        window: &'a CoveredSeconds,
        averages: &Averages,
    ) -> Self {
        Self {
            window,
            parts: Vec::new(),
            stable: averages.stable,
            panic: averages.panic,
            samples_in_panic_window: averages.samples_in_panic_window,
            panic_window: effective_panic_window(spec, point),
            sample_span: point.range.unwrap_or(point.interval),
            waiting: Waiting::default(),
            lacks_part: false,
            none_up_to: None,
        }
    }

    /// The reading of a whole of which `self` and `other` are parts: averages are summed, and known is what
    /// both parts know.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        self.stable = sum_of(self.stable, other.stable);
        self.panic = sum_of(self.panic, other.panic);
        self.panic_window = self.panic_window.max(other.panic_window);
        self.sample_span = self.sample_span.max(other.sample_span);
        self.lacks_part |= other.lacks_part;
        self.parts.push(other.window);
        self.parts.extend(other.parts);
        self.samples_in_panic_window = self.samples(self.panic_window);
        self
    }

    fn windows(&self) -> impl Iterator<Item = &'a CoveredSeconds> + '_ {
        std::iter::once(self.window).chain(self.parts.iter().copied())
    }

    /// How many recorded samples lie in the last `window`: of each part at least so many.
    pub fn samples(&self, window: Duration) -> u32 {
        self.windows().map(|part| part.samples(window)).min().unwrap_or(0)
    }

    /// The `nth` newest sample's ends, summed over all parts; `None` where a part has not so many.
    pub fn newest(&self, nth: usize) -> Option<(f64, f64)> {
        let (low, high) = self.windows().try_fold((0.0, 0.0), |(low, high), part| {
            let sample = part.newest_samples().nth(nth)?;
            Some((low + sample.low, high + sample.high))
        })?;
        // A sum is rounded as a sum of means is.
        Some(if self.parts.is_empty() { (low, high) } else { (round_6(low), round_6(high)) })
    }

    /// Whether the two newest samples of each part are not more than its longest gap apart.
    fn newest_are_close(&self) -> bool {
        self.windows().all(|part| {
            let mut newest = part.newest_samples();
            let cap = Duration::from_secs(part.cap_s().unsigned_abs());
            match (newest.next(), newest.next()) {
                (Some(last), Some(before)) => last.t <= later(before.t, cap),
                _ => false,
            }
        })
    }

    fn two_in_a_row(&self, spec: &ScalerSpec, ready: f64) -> bool {
        let over = if self.parts.is_empty() {
            // Judged when they were recorded, by the pods that were ready then.
            let mut newest = self.window.newest_samples();
            newest.next().is_some_and(|last| last.over)
                && newest.next().is_some_and(|before| before.over)
        } else {
            let over = |nth| {
                self.newest(nth)
                    .is_some_and(|(low, _)| want(low, spec.target) / ready >= spec.panic_threshold)
            };
            over(0) && over(1)
        };
        over && self.newest_are_close()
    }

    /// The unlimited demands.
    pub fn wants(&self, spec: &ScalerSpec) -> Wants {
        Wants {
            stable: want(self.stable_low(), spec.target),
            panic: want(self.panic_low(), spec.target),
        }
    }

    /// The load of the stable window with what waits, as far as it was seen; 0 where that counts as
    /// none.
    fn stable_low(&self) -> f64 {
        if self.none_up_to.is_some() { 0.0 } else { self.stable.low + self.waiting.low }
    }

    fn stable_high(&self) -> f64 {
        if self.none_up_to.is_some() { 0.0 } else { self.stable.high + self.waiting.high }
    }

    fn panic_low(&self) -> f64 {
        if self.none_up_to.is_some() { 0.0 } else { self.panic.low + self.waiting.low }
    }
}

/// The sum of two parts' means; covered is what both cover. It is rounded as the means are, or else parts
/// of 0.1 and 0.2 would be a little more than three pods' worth of 0.1.
fn sum_of(one: CoveredAverage, other: CoveredAverage) -> CoveredAverage {
    CoveredAverage {
        low: round_6(one.low + other.low),
        high: round_6(one.high + other.high),
        covered_s: one.covered_s.min(other.covered_s),
    }
}

fn demand_of(spec: &ScalerSpec, pods: f64, reading: &Reading<'_>) -> Demand {
    Demand::new(spec, pods, reading.stable_low(), reading.panic_low(), saturating_i32)
}

/// Whether one sample alone asks for panic: `ceil(low / target)` against `ready` pods.
pub fn over_alone(spec: &ScalerSpec, low: f64, ready: i32) -> bool {
    want(low, spec.target) / f64::from(ready.max(1)) >= spec.panic_threshold
}

/// Whether the panic window asks for panic, with the evidence that thin data needs.
fn over_threshold(spec: &ScalerSpec, ready: f64, demand: &Demand, reading: &Reading<'_>) -> bool {
    if demand.wants.panic / ready < spec.panic_threshold {
        return false;
    }
    reading.samples_in_panic_window >= SAMPLES_FOR_PANIC
        || reading.two_in_a_row(spec, ready)
        || beyond_chance(spec, ready, reading)
}

/// Whether the panic average less three standard deviations of a Poisson process is still over.
fn beyond_chance(spec: &ScalerSpec, ready: f64, reading: &Reading<'_>) -> bool {
    let x = reading.panic.low;
    let deviation = match spec.metric {
        ScalingMetric::Concurrency => x.sqrt(),
        ScalingMetric::Rps | ScalingMetric::Events => {
            (x / reading.sample_span.as_secs_f64()).sqrt()
        }
        ScalingMetric::Backlog => return false,
    };
    let sure = (x - DEVIATIONS * deviation).max(0.0);
    want(sure + reading.waiting.sure, spec.target) / ready >= spec.panic_threshold
}

impl Decider {
    /// Nothing was heard yet: nothing changes.
    pub fn tick_starting(&mut self, ready: i32) -> Outcome {
        self.ready_at_last_tick = ready;
        self.unwanted_since = None;
        Outcome { desired: self.desired, reason: Reason::SignalStarting, ..Outcome::default() }
    }

    /// Nothing was heard for longer than the source's limit: replicas stay, panic's time runs on, and a
    /// target at zero whose wake path has been lost for long enough (`wake`) is raised to one.
    pub fn tick_lost(
        &mut self,
        now: Timestamp,
        spec: &ScalerSpec,
        ready: i32,
        wake: bool,
    ) -> Outcome {
        self.ready_at_last_tick = ready;
        self.unwanted_since = None;
        self.panic.leave_if_over(now, spec.stable_window);
        let before = self.desired;
        let wakes = wake && before == 0;
        if wakes {
            self.desired = 1;
        }
        if let Some(delay) = &mut self.delay {
            delay.record(now, self.desired);
        }
        let mut stages = Vec::new();
        push_stage(&mut stages, Stage::Knowledge, before, self.desired, || {
            Rule::Said("the source that would wake it is lost: one replica watches instead")
        });
        Outcome {
            desired: self.desired,
            reason: if wakes { Reason::WakePathLost } else { Reason::SignalLost },
            stages,
            ..Outcome::default()
        }
    }

    /// Evaluates at `now` with `ready` pods and a signal that is fresh or partial.
    pub fn tick_covered(
        &mut self,
        now: Timestamp,
        spec: &ScalerSpec,
        ready: i32,
        reading: &Reading<'_>,
    ) -> Outcome {
        self.ready_at_last_tick = ready;
        let pods = f64::from(ready.max(1));
        let demand = demand_of(spec, pods, reading);
        if over_threshold(spec, pods, &demand, reading) {
            self.panic.enter(now);
        } else {
            self.panic.leave_if_over(now, spec.stable_window);
        }
        let held = self.hold(&demand);
        let (known, lowering, known_reason) = self.limit_to_knowledge(now, spec, held, reading);
        let mut desired = known;
        if let Some(delay) = &mut self.delay {
            desired = delay.record(now, known);
        }
        self.desired = desired;
        let is_unwanted = self.is_unwanted(now, spec, &demand, reading);
        let unwanted_since = self.note_unwanted(now, spec, is_unwanted);
        let mut reason = reason_of(&demand, held, held, self.panic.is_on());
        let mut stages = Vec::new();
        push_dormant(&mut stages, spec, reading);
        push_demand(&mut stages, spec, &demand);
        push_stage(&mut stages, Stage::Panic, demand.stable, held, || panic_rule(&demand, held));
        push_stage(&mut stages, Stage::Knowledge, held, known, || {
            knowledge_rule(known_reason, known, reading, spec)
        });
        push_stage(&mut stages, Stage::ScaleDownDelay, known, desired, || {
            delay_rule(spec, desired)
        });
        if desired != known {
            reason = Reason::ScaleDownDelay;
        } else if known != held {
            reason = known_reason;
        }
        Outcome {
            valid: true,
            desired,
            excess_burst_capacity: burst_capacity(spec, ready, reading),
            wants: Some(demand.wants),
            lowering,
            stages,
            reason,
            unwanted_since,
        }
    }

    /// Evaluates because a sample arrived: panic may be entered and the desired scale raised, nothing
    /// else. `None` when nothing rises.
    pub fn arrive_covered(
        &mut self,
        now: Timestamp,
        spec: &ScalerSpec,
        ready: i32,
        reading: &Reading<'_>,
    ) -> Option<Outcome> {
        let pods = f64::from(ready.max(1));
        let demand = demand_of(spec, pods, reading);
        if over_threshold(spec, pods, &demand, reading) {
            self.panic.enter(now);
        }
        let held = self.hold(&demand);
        if held <= self.desired {
            return None;
        }
        if let Some(delay) = &mut self.delay {
            delay.record(now, held);
        }
        self.desired = held;
        self.unwanted_since = None;
        let mut stages = Vec::new();
        push_demand(&mut stages, spec, &demand);
        push_stage(&mut stages, Stage::Panic, demand.stable, held, || panic_rule(&demand, held));
        Some(Outcome {
            valid: true,
            desired: held,
            excess_burst_capacity: burst_capacity(spec, ready, reading),
            wants: Some(demand.wants),
            lowering: false,
            stages,
            reason: reason_of(&demand, held, held, self.panic.is_on()),
            unwanted_since: None,
        })
    }

    fn hold(&mut self, demand: &Demand) -> i32 {
        let candidate =
            if self.panic.is_on() { demand.stable.max(demand.panic) } else { demand.stable };
        self.panic.hold(candidate)
    }

    /// Lowers no further than the missing part of the signal may demand, and only with enough of the
    /// window covered or enough samples that agree. Returns the pods, whether lowering was allowed, and
    /// why the number differs.
    fn limit_to_knowledge(
        &self,
        now: Timestamp,
        spec: &ScalerSpec,
        held: i32,
        reading: &Reading<'_>,
    ) -> (i32, bool, Reason) {
        let wanted_by_high = want(reading.stable_high(), spec.target);
        if reading.lacks_part {
            return (held.max(self.desired), false, Reason::SignalPartial);
        }
        let keep = activation_scale(spec, wanted_by_high, saturating_i32(wanted_by_high));
        let lower = held.max(self.desired.min(keep));
        let allowed = self.is_covered(now, spec, keep, reading)
            && (lower >= self.desired || samples_agree(spec, lower, reading));
        if allowed {
            (lower, true, Reason::SignalPartial)
        } else {
            (held.max(self.desired), false, Reason::NotEnoughData)
        }
    }

    /// Whether it is known that nothing is wanted: what must be known to lower to zero, whatever a rate
    /// limit would still hold.
    fn is_unwanted(
        &self,
        now: Timestamp,
        spec: &ScalerSpec,
        demand: &Demand,
        reading: &Reading<'_>,
    ) -> bool {
        let highest = Wants { stable: want(reading.stable_high(), spec.target), ..demand.wants };
        demand.wants.is_nothing()
            && highest.is_nothing()
            && !self.panic.is_on()
            && !reading.lacks_part
            && self.is_covered(now, spec, 0, reading)
            && samples_agree(spec, 0, reading)
    }

    fn is_covered(
        &self,
        now: Timestamp,
        spec: &ScalerSpec,
        keep: i32,
        reading: &Reading<'_>,
    ) -> bool {
        let window_s = super::super::window::whole_seconds(spec.stable_window) as u64;
        let lived_s = u64::try_from(now.duration_since(self.created).as_secs()).unwrap_or(0);
        let needed_s = if keep == 0 { window_s } else { window_s.min(lived_s) };
        #[expect(clippy::cast_precision_loss, reason = "a window has at most 3,600 seconds")]
        let needed = COVERAGE_NEEDED * needed_s as f64;
        f64::from(reading.stable.covered_s) >= needed
    }
}

/// Records that what is seen counts as none.
fn push_dormant(stages: &mut Vec<StageRecord>, spec: &ScalerSpec, reading: &Reading<'_>) {
    if reading.none_up_to.is_some() {
        let seen = want(reading.stable.low + reading.waiting.low, spec.target);
        push_stage(stages, Stage::Demand, saturating_i32(seen), 0, || {
            Rule::Said("what is seen is not above activation-value and counts as none")
        });
    }
}

/// Where few samples fill the stable window, each of the newest ones must ask for no more than `lower`.
fn samples_agree(spec: &ScalerSpec, lower: i32, reading: &Reading<'_>) -> bool {
    let needed: u32 = if lower == 0 { 3 } else { 2 };
    let agrees = |high: f64| match reading.none_up_to {
        Some(limit) => high <= limit,
        None => want(high + reading.waiting.high, spec.target) <= f64::from(lower),
    };
    reading.samples(spec.stable_window) >= needed
        || (0..needed as usize).all(|nth| reading.newest(nth).is_some_and(|(_, high)| agrees(high)))
}

fn knowledge_rule(reason: Reason, kept: i32, reading: &Reading<'_>, spec: &ScalerSpec) -> Rule {
    if reading.lacks_part {
        Rule::UnknownPart(kept)
    } else if reason == Reason::SignalPartial {
        Rule::MayBeMore { high: reading.stable_high(), kept }
    } else {
        Rule::TooLittle {
            covered_s: reading.stable.covered_s,
            window_s: spec.stable_window.as_secs(),
            samples: reading.samples(spec.stable_window),
            kept,
        }
    }
}

/// Requests in flight are the only thing that a burst capacity is counted in.
fn burst_capacity(spec: &ScalerSpec, ready: i32, reading: &Reading<'_>) -> i32 {
    if spec.metric == ScalingMetric::Concurrency {
        excess_burst_capacity(spec, ready, reading.panic.low)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::source::Share;
    use super::*;

    #[test]
    fn parts_of_a_constant_load_sum_up_to_exactly_that_load() {
        let point = PointConfig {
            source: "part".into(),
            interval: Duration::from_secs(1),
            stale_after: Duration::from_secs(3),
            range: None,
            visible_at_zero: false,
            share: Share::Additive,
        };
        let spec = ScalerSpec { target: 0.1, ..ScalerSpec::default() };
        let windows = [0.1, 0.2].map(|value| {
            let mut window = CoveredSeconds::new(spec.stable_window, point.stale_after);
            for second in 1_700_000_000..1_700_000_100 {
                window.record(Timestamp::from_second(second).unwrap(), value, value, false);
            }
            window
        });
        let parts = windows.each_ref().map(|window| {
            Reading::new(&spec, &point, window, &Averages::of(&spec, &point, window))
        });
        let whole = parts.into_iter().reduce(Reading::plus).unwrap();
        assert_eq!(whole.wants(&spec), Wants { stable: 3.0, panic: 3.0 });
        assert_eq!(whole.newest(0), Some((0.3, 0.3)));
        assert_eq!(whole.samples_in_panic_window, 6);
    }
}
