//! The promises that podswell makes, checked at every step of every simulation by what went into the
//! engine and what came out of it, never by what it says of itself.
//!
//! P1 unknown never lowers · P2 never outside the bounds · P3 who does not hold the lease writes nothing ·
//! P4 constant load, constant replicas · P5 every workload is decided at every tick, whatever the others
//! do · P6 nothing but a workload's own samples moves it · P7 after faults have healed the end is the same ·
//! P8 a bounded number of actions · P9 an end changes nothing · P10 same seed, same decisions (checked by
//! running twice).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::number::pods;
use crate::core::Timestamp;
use crate::core::config::TargetConfig;
use crate::core::decision::{Decision, TargetStatus, Trigger};
use crate::core::event::{Action, Event, Reading, Sample, WriteOutcome};
use crate::core::policy::{Consent, Mode};
use crate::core::spec::{Aggregation, Semantics};
use crate::core::target::TargetId;
use crate::core::window::second_of;

/// The most violations that one run keeps; more are of the same kind.
const MOST_KEPT: usize = 20;
/// The longest time between two decisions of a workload.
const TICK: Duration = Duration::from_millis(2001);
/// The most actions that one fact or one tick of a workload may cause.
const MOST_ACTIONS: usize = 8;
/// How long after everything is steady replicas still may change, beside the windows.
const SETTLING: Duration = Duration::from_secs(40);

/// A promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Unknown never lowers.
    P1,
    /// Never outside the bounds.
    P2,
    /// Who does not hold the lease writes nothing.
    P3,
    /// Constant load, constant replicas.
    P4,
    /// One workload cannot delay another.
    P5,
    /// Only its own samples move a workload.
    P6,
    /// After faults have healed the end is the same.
    P7,
    /// Bounded actions.
    P8,
    /// An end changes nothing.
    P9,
    /// Same inputs and seed, same decisions.
    P10,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// Milliseconds since the start of the run.
    pub at_ms: i64,
    /// Whose.
    pub target: String,
    /// What happened, with its numbers.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { promise, at_ms, target, what } = self;
        write!(f, "{promise:?} at {at_ms} ms, {target}: {what}")
    }
}

/// What went in and out for one target.
#[derive(Clone, Debug)]
struct Watched {
    config: Arc<TargetConfig>,
    replicas: Option<i32>,
    /// The most that any sample or observed replicas ever asked for.
    most: i32,
    newest: Option<Timestamp>,
    /// When each sample was measured and the pods that its low end asks for.
    needs: VecDeque<(Timestamp, i32)>,
    /// The sum of the samples in the second of the newest one: what Knative's bucket holds.
    bucket: f64,
    last_tick: Option<Timestamp>,
    steady: Option<(Timestamp, f64)>,
    /// Since when every sample has asked for more than the replicas, which have not changed meanwhile.
    short_since: Option<Timestamp>,
    value: f64,
    /// Replicas that were asked for and not seen yet.
    asked: Vec<i32>,
    ready: i32,
}

/// Watches an engine.
#[derive(Clone, Debug)]
pub struct Checker {
    start: Timestamp,
    targets: BTreeMap<TargetId, Watched>,
    leader: bool,
    actions: usize,
    violations: Vec<Violation>,
}

impl Checker {
    /// A checker of a run that starts at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self { start, targets: BTreeMap::new(), leader: false, actions: 0, violations: Vec::new() }
    }

    /// The broken promises so far.
    pub fn take(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }

    /// The engine is about to take over a fact.
    pub fn event(&mut self, now: Timestamp, event: &Event) {
        self.actions = 0;
        match event {
            Event::TargetApplied { target, config } => self.applied(target, config),
            Event::TargetDeleted { target } => {
                self.targets.remove(target);
            }
            Event::ReplicasObserved { target, replicas, .. } => self.observed(target, *replicas),
            Event::PodsObserved { target, pods } => {
                self.unsettle(target);
                if let Some(watched) = self.targets.get_mut(target) {
                    watched.ready = pods.ready;
                }
            }
            Event::SourceFailed { target, .. }
            | Event::ForeignWrite { target, .. }
            | Event::RivalsObserved { target, .. } => self.unsettle(target),
            Event::Sampled { samples } => {
                for sample in samples {
                    self.sampled(now, sample);
                }
            }
            Event::ScaleWritten { target, replicas, outcome } => {
                self.written(target, *replicas, outcome);
            }
            Event::LeadershipChanged { leader } => {
                self.leader = *leader;
                self.targets.values_mut().for_each(Watched::unsettle);
            }
            // It is told before any target.
            Event::Restored { .. } => {}
        }
    }

    fn applied(&mut self, target: &TargetId, config: &Arc<TargetConfig>) {
        let watched = self.targets.entry(target.clone()).or_insert_with(|| Watched {
            config: config.clone(),
            replicas: None,
            most: 1,
            newest: None,
            needs: VecDeque::new(),
            bucket: 0.0,
            last_tick: None,
            steady: None,
            short_since: None,
            value: 0.0,
            asked: Vec::new(),
            ready: 0,
        });
        watched.config = config.clone();
        watched.unsettle();
        let spec = &config.spec;
        watched.most =
            watched.most.max(config.bounds.min).max(spec.initial_scale).max(spec.activation_scale);
    }

    fn observed(&mut self, target: &TargetId, replicas: i32) {
        let Some(watched) = self.targets.get_mut(target) else { return };
        let own = watched.asked.iter().position(|asked| *asked == replicas);
        if let Some(own) = own {
            // What was asked for before that was never stored.
            watched.asked.drain(..=own);
        } else if watched.replicas != Some(replicas) {
            watched.most = watched.most.max(replicas);
            watched.steady = None;
        }
        if watched.replicas != Some(replicas) {
            watched.short_since = None;
        }
        watched.replicas = Some(replicas);
    }

    fn written(&mut self, target: &TargetId, replicas: i32, outcome: &WriteOutcome) {
        if *outcome == WriteOutcome::Written {
            return;
        }
        self.unsettle(target);
        if *outcome != WriteOutcome::Unknown
            && let Some(watched) = self.targets.get_mut(target)
        {
            watched.asked.retain(|asked| *asked != replicas);
        }
    }

    fn unsettle(&mut self, target: &TargetId) {
        if let Some(watched) = self.targets.get_mut(target) {
            watched.unsettle();
        }
    }

    fn sampled(&mut self, now: Timestamp, sample: &Sample) {
        let Some(watched) = self.targets.get_mut(&sample.target) else { return };
        let config = watched.config.clone();
        let Some(point) = config.points.iter().find(|point| point.source == sample.source) else {
            return;
        };
        let Reading::Value { seen, missing } = sample.reading else { return };
        if !seen.is_finite() || seen < 0.0 {
            return;
        }
        // A sample may be taken or dropped as late; the bounds below allow both.
        let at = now.checked_sub(sample.age).unwrap_or(now);
        let at = watched.newest.map_or(at, |newest| at.max(newest));
        let target = config.spec.target;
        let gap = watched.has_gap_before(at, point.stale_after);
        let asks = watched.asks_with(at, seen);
        watched.newest = Some(at);
        // Knative's exponential average is not rounded and may lie a hair above a whole number of pods.
        let asked = pods(asks / target + f64::from(missing) + 2e-6);
        watched.most = watched.most.max(asked);
        // A sample may fall into a second whose mean is rounded; a millionth less is still enough.
        watched.needs.push_back((at, pods(seen / target - 1e-6)));
        let window = config.spec.stable_window + Duration::from_secs(1);
        let oldest = at.checked_sub(window).unwrap_or(Timestamp::MIN);
        while watched.needs.front().is_some_and(|&(at, _)| at < oldest) {
            watched.needs.pop_front();
        }
        let same = watched
            .steady
            .is_some_and(|(_, value)| (value - seen).abs() <= 1e-9 * value.abs().max(1.0));
        // A source that always looks old is as good as none: nothing can be expected then.
        if gap || missing > 0 || sample.age > point.stale_after {
            watched.unsettle();
        } else {
            if !same {
                watched.steady = Some((now, seen));
            }
            watched.short_since =
                watched.is_short_of(seen).then(|| watched.short_since.unwrap_or(now));
        }
        watched.value = seen;
    }

    /// The engine published a status.
    pub fn published(&mut self, now: Timestamp, status: &TargetStatus) {
        let Some(decision) = status.decision.as_deref() else { return };
        let Some(watched) = self.targets.get_mut(&status.target) else { return };
        let mut broken: Vec<(Promise, String)> = Vec::new();
        if decision.at == now && decision.trigger == Trigger::Tick {
            let late = watched.last_tick.replace(now).and_then(|last| {
                Duration::try_from(now.duration_since(last)).ok().filter(|pause| *pause > TICK)
            });
            broken.extend(late.map(|pause| (Promise::P5, format!("no tick for {pause:?}"))));
        }
        broken.extend(watched.check(decision).map(|what| (Promise::P6, what)));
        for (promise, what) in broken {
            self.report(promise, now, &status.target, what);
        }
    }

    /// The engine asks for something.
    pub fn action(&mut self, now: Timestamp, action: &Action) {
        self.actions += 1;
        let Action::Write { target, replicas, from, .. } = action else { return };
        let mut broken: Vec<(Promise, String)> = Vec::new();
        if !self.leader {
            broken.push((Promise::P3, format!("asks for {replicas} without the lease")));
        }
        if self.actions > MOST_ACTIONS * self.targets.len().max(1) {
            broken.push((Promise::P8, format!("{} actions at once", self.actions)));
        }
        if let Some(watched) = self.targets.get_mut(target) {
            broken.extend(watched.check_bounds(*replicas).map(|what| (Promise::P2, what)));
            broken.extend(watched.check_knowledge(now, *from, *replicas).map(|w| (Promise::P1, w)));
            broken.extend(watched.check_steady(now, *from, *replicas).map(|w| (Promise::P4, w)));
            if !watched.asked.contains(replicas) {
                watched.asked.push(*replicas);
            }
        }
        for (promise, what) in broken {
            self.report(promise, now, target, what);
        }
    }

    /// A step begins: actions are counted anew.
    pub fn step(&mut self) {
        self.actions = 0;
    }

    /// The process died; whoever takes over starts to decide anew.
    pub fn died(&mut self) {
        self.leader = false;
        for watched in self.targets.values_mut() {
            watched.last_tick = None;
            watched.unsettle();
            watched.replicas = None;
            watched.asked.clear();
        }
    }

    /// The run is over: every target must have been decided lately, and one whose load has been constant
    /// for long must have what it needs.
    pub fn finish(&mut self, now: Timestamp) {
        let mut broken = Vec::new();
        for (target, watched) in &self.targets {
            let silent = watched.last_tick.is_none_or(|last| {
                Duration::try_from(now.duration_since(last)).unwrap_or_default() > TICK
            });
            if silent && watched.replicas.is_some() {
                broken.push((target.clone(), Promise::P5, "no tick at the end".to_owned()));
            }
            let ended = watched.check_end(now).or_else(|| watched.check_growth(now));
            broken.extend(ended.map(|what| (target.clone(), Promise::P7, what)));
        }
        for (target, promise, what) in broken {
            self.report(promise, now, &target, what);
        }
    }

    /// Notes a broken promise.
    pub fn report(&mut self, promise: Promise, now: Timestamp, target: &TargetId, what: String) {
        if self.violations.len() < MOST_KEPT {
            let at_ms = now.as_millisecond() - self.start.as_millisecond();
            self.violations.push(Violation { promise, at_ms, target: target.to_string(), what });
        }
    }
}

impl Watched {
    /// Something changed beside the load: what has been steady until now says nothing any more.
    fn unsettle(&mut self) {
        self.steady = None;
        self.short_since = None;
    }

    /// Whether a sample asks for more replicas than there are, as far as the rate lets them rise.
    fn is_short_of(&self, seen: f64) -> bool {
        let (bounds, spec) = (self.config.bounds, &self.config.spec);
        let need = pods(seen / spec.target - 1e-6);
        let need = if bounds.max > 0 { need.min(bounds.max) } else { need };
        let reachable = pods(spec.max_scale_up_rate * f64::from(self.ready.max(1)));
        self.replicas.is_some_and(|replicas| replicas < need.min(reachable))
    }

    /// Whether a sample of this moment leaves something unknown behind it. To Knative a second without
    /// a sample is a zero, and one with two of them is twice the load.
    fn has_gap_before(&self, at: Timestamp, stale_after: Duration) -> bool {
        self.newest.is_none_or(|newest| match self.config.semantics {
            Semantics::Default => {
                Duration::try_from(at.duration_since(newest)).unwrap_or_default() > stale_after
            }
            Semantics::Knative => second_of(at) - second_of(newest) != 1,
        })
    }

    /// The load that a sample of this moment makes an average ask for at the most: its own, or under
    /// Knative's semantics the sum of its second.
    fn asks_with(&mut self, at: Timestamp, seen: f64) -> f64 {
        let same = self.newest.map(second_of) == Some(second_of(at));
        self.bucket = if same { self.bucket + seen } else { seen };
        match self.config.semantics {
            Semantics::Default => seen,
            Semantics::Knative => self.bucket,
        }
    }

    /// No decision asks for more than samples, bounds and other writers ever asked for.
    fn check(&self, decision: &Decision) -> Option<String> {
        let asked = decision.bounded;
        (asked > self.most)
            .then(|| format!("decides {asked}, but nothing ever asked for more than {}", self.most))
    }

    fn check_bounds(&self, replicas: i32) -> Option<String> {
        let (bounds, spec) = (self.config.bounds, &self.config.spec);
        let most = match self.config.semantics {
            Semantics::Default => bounds.max,
            Semantics::Knative => bounds.max.max(spec.initial_scale),
        };
        let zero = self.config.zero.enabled
            && self.config.points.iter().any(|point| point.visible_at_zero);
        if replicas < bounds.min || bounds.max > 0 && replicas > most {
            Some(format!("asks for {replicas} outside {} ..= {}", bounds.min, bounds.max))
        } else if replicas == 0 && !zero {
            Some("asks for 0, and nothing would wake it".to_owned())
        } else {
            None
        }
    }

    /// Lowering needs a sample that is fresh, and goes no lower than the least that any sample of the
    /// stable window asks for. Knative's semantics count silence as zero by design.
    fn check_knowledge(&self, now: Timestamp, from: i32, replicas: i32) -> Option<String> {
        let config = &self.config;
        let lowers = replicas < from && replicas != config.bounds.max;
        if !lowers || config.semantics == Semantics::Knative {
            return None;
        }
        let limit = config.points.iter().map(|point| point.stale_after).max().unwrap_or_default();
        let fresh = self.newest.is_some_and(|newest| {
            Duration::try_from(now.duration_since(newest)).unwrap_or_default() <= limit
        });
        if !fresh {
            return Some(format!("{from} → {replicas} without a sample for {limit:?}"));
        }
        let least = self.needs.iter().map(|&(_, need)| need).min().unwrap_or(i32::MAX);
        let least = if config.bounds.max > 0 { least.min(config.bounds.max) } else { least };
        (replicas < least).then(|| {
            format!("{from} → {replicas}, but no sample of the window asks for less than {least}")
        })
    }

    /// How long after the last change of anything replicas may still change.
    fn settling(&self) -> Duration {
        let (spec, zero) = (&self.config.spec, &self.config.zero);
        spec.stable_window * 2 + spec.scale_down_delay + zero.retention + SETTLING
    }

    fn steady_for(&self, now: Timestamp) -> Option<Duration> {
        let (since, _) = self.steady?;
        Duration::try_from(now.duration_since(since)).ok()
    }

    /// Knative's exponential average reads less than a constant load, and not always the same.
    fn averages_truly(&self) -> bool {
        let config = &self.config;
        config.semantics == Semantics::Default || config.spec.aggregation == Aggregation::Linear
    }

    fn check_steady(&self, now: Timestamp, from: i32, replicas: i32) -> Option<String> {
        let config = &self.config;
        let steady = self.steady_for(now).filter(|steady| *steady > self.settling())?;
        // To Knative every second without a sample is a zero at once.
        let silent = config.semantics == Semantics::Knative
            && self.newest.is_some_and(|newest| second_of(now) - second_of(newest) > 1);
        if silent || !self.averages_truly() {
            return None;
        }
        Some(format!("{from} → {replicas} after {} s of constant load", steady.as_secs()))
    }

    /// Whether its decisions are written.
    fn is_written(&self) -> bool {
        self.config.consent == Consent::Managed && self.config.mode == Mode::Apply
    }

    /// Too few pods let a queue grow, and then no load is constant; but it asks for more all the time.
    fn check_growth(&self, now: Timestamp) -> Option<String> {
        let since = self.short_since.filter(|_| self.is_written() && self.averages_truly())?;
        let short = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let replicas = self.replicas.unwrap_or(0);
        (short > self.settling()).then(|| {
            let short = short.as_secs();
            format!("ends with {replicas} replicas, while every sample of {short} s asks for more")
        })
    }

    fn check_end(&self, now: Timestamp) -> Option<String> {
        let config = &self.config;
        if !self.is_written()
            || !self.averages_truly()
            || self.steady_for(now).is_none_or(|steady| steady <= self.settling())
        {
            return None;
        }
        let (bounds, spec) = (config.bounds, &config.spec);
        let can_sleep = config.zero.enabled && config.points.iter().any(|p| p.visible_at_zero);
        let wanted = |value: f64| {
            let need = pods(value / spec.target);
            let need = if need > 0 { need.max(spec.activation_scale) } else { need };
            let need = need.max(bounds.min).max(i32::from(!can_sleep));
            if bounds.max > 0 { need.min(bounds.max) } else { need }
        };
        let (low, high) = (wanted(self.value * 0.999_999), wanted(self.value * 1.000_001));
        let replicas = self.replicas.unwrap_or(0);
        // While the pods that there is room for cannot carry it, panic goes on and nothing falls.
        let high = if self.ready < low { high.max(replicas) } else { high };
        (!(low..=high).contains(&replicas)).then(|| {
            format!(
                "ends with {replicas} replicas, its constant load {} asks for {high}",
                self.value
            )
        })
    }
}

#[cfg(test)]
mod tests;
