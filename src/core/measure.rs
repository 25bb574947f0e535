//! One measure of a target: its points, its companion and its decider. A target has one or several, and
//! the one that asks for most decides ([`Verdict`]).

use std::sync::Arc;
use std::time::Duration;

use super::Timestamp;
use super::config::MeasureView;
use super::decider::covered::{Waiting, over_alone};
use super::decider::{Decider, Outcome};
use super::decision::{
    MeasureRecord, Observation, PanicRecord, Reason, SampleCounts, SignalState, WaitingSeen,
};
use super::event::{Sample, SourceFault};
use super::points::{Chosen, PointSet};
use super::problem::Problem;
use super::snapshot::{Fate, Place, SavedWindow};
use super::source::PointConfig;
use super::spec::{ScalerSpec, ScalingMetric, Semantics};
use super::target::TargetId;
use super::window::covered::Recorded;

/// What a measure has to know of its target at an evaluation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    pub(crate) now: Timestamp,
    /// Ready pods.
    pub(crate) ready: i32,
    /// The number of waiting items up to which they count as none; 0 where the target cannot reach zero.
    pub(crate) activation_value: f64,
    /// Whether a measure that is deaf at zero may wake the target, and after how long.
    pub(crate) wake_after: Option<Duration>,
    /// Why a measure without any point has none.
    pub(crate) unmeasured: Reason,
}

/// A measure and the state that lives from one evaluation to the next.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    points: PointSet,
    /// Boxed because few measures have one.
    companion: Option<Box<PointSet>>,
    /// Exists once the object's replicas were observed.
    decider: Option<Decider>,
    /// What users were told last about its signal: fresh, partial or lost.
    pub(crate) signal_told: SignalState,
}

/// One evaluation of one measure.
#[derive(Clone, Debug)]
pub(crate) struct Evaluation {
    pub(crate) outcome: Outcome,
    pub(crate) observation: Observation,
    pub(crate) panic_mode: Option<PanicRecord>,
}

impl Evaluation {
    /// Whether there was anything to decide by.
    fn is_heard(&self) -> bool {
        self.outcome.wants.is_some()
    }
}

impl Measure {
    pub(crate) fn new(now: Timestamp, view: MeasureView<'_>, semantics: Semantics) -> Self {
        let companion = view
            .companion
            .map(|companion| Box::new(PointSet::new(now, &companion.points, view.spec, semantics)));
        Self {
            points: PointSet::new(now, view.points, view.spec, semantics),
            companion,
            decider: None,
            signal_told: SignalState::Fresh,
        }
    }

    /// Takes over changed settings of the same measure; what was recorded stays.
    pub(crate) fn rewire(&mut self, now: Timestamp, view: MeasureView<'_>, semantics: Semantics) {
        self.points.rewire(now, view.points, view.spec, semantics);
        let configs: Option<&[PointConfig]> = view.companion.map(|companion| &*companion.points);
        self.companion = match (self.companion.take(), configs) {
            (Some(mut points), Some(configs)) => {
                points.rewire(now, configs, view.spec, semantics);
                Some(points)
            }
            (None, Some(configs)) => {
                Some(Box::new(PointSet::new(now, configs, view.spec, semantics)))
            }
            (_, None) => None,
        };
    }

    /// Begins to decide, from `replicas`.
    pub(crate) fn start(&mut self, now: Timestamp, spec: &ScalerSpec, replicas: i32) {
        self.decider = Some(Decider::new(now, spec, replicas));
    }

    /// The decider, once it decides.
    pub(crate) fn decider_mut(&mut self) -> Option<&mut Decider> {
        self.decider.as_mut()
    }

    /// What its decider asks for; `None` before it decides.
    pub(crate) fn desired(&self) -> Option<i32> {
        self.decider.as_ref().map(Decider::desired)
    }

    /// Whether panic was entered because of load, not because of a start or of somebody's write.
    pub(crate) fn is_panicking_for_load(&self) -> bool {
        self.decider.as_ref().is_some_and(|decider| {
            let panic = decider.panic_mode();
            panic.is_on() && !panic.is_seeded()
        })
    }

    /// Records a sample that arrives at `now`; says what became of it, or nothing if the measure does not
    /// use that source.
    pub(crate) fn record(
        &mut self,
        now: Timestamp,
        view: MeasureView<'_>,
        sample: &Sample,
    ) -> Option<Recorded> {
        let spec = view.spec;
        let ready = self.decider.as_ref().map_or(0, Decider::ready_at_last_tick);
        let taken = self.points.get_mut(&sample.source).map(|point| {
            point.record(now, spec, sample, spec.target, |seen| over_alone(spec, seen, ready))
        });
        let waiting = view.companion.and_then(|companion| {
            let point = self.companion.as_mut()?.get_mut(&sample.source)?;
            let worth = spec.target * companion.drain_time.as_secs_f64();
            Some(point.record(now, spec, sample, worth, |_| false))
        });
        taken.or(waiting)
    }

    pub(crate) fn source_failed(&mut self, source: &str, fault: SourceFault) {
        for points in self.all_points_mut() {
            if let Some(point) = points.get_mut(source) {
                point.failed(fault);
            }
        }
    }

    /// What can be kept over a restart.
    pub(crate) fn saved<'a>(
        &'a self,
        now: Timestamp,
        target: &'a TargetId,
        view: MeasureView<'a>,
    ) -> impl Iterator<Item = SavedWindow> + 'a {
        let companion = self.companion.as_deref().map(|points| (true, points));
        let sets = std::iter::once((false, &self.points)).chain(companion);
        sets.flat_map(move |(companion, points)| {
            points.saved(now, view.spec).map(move |(config, newest, runs)| SavedWindow {
                target: target.clone(),
                place: Place::new(view.name, companion, config),
                newest,
                runs,
            })
        })
    }

    /// Takes over what an earlier process measured, if it is of one of the points as they are now.
    pub(crate) fn restore(
        &mut self,
        now: Timestamp,
        view: MeasureView<'_>,
        saved: &SavedWindow,
    ) -> Fate {
        let SavedWindow { place, newest, runs, .. } = saved;
        let points =
            if place.companion { self.companion.as_deref_mut() } else { Some(&mut self.points) };
        let Some(point) = points.and_then(|points| points.get_mut(&place.source)) else {
            return Fate::Changed;
        };
        if *place != Place::new(view.name, place.companion, point.config()) {
            return Fate::Changed;
        }
        point.restore(now, view.spec, *newest, runs)
    }

    fn all_points(&self) -> impl Iterator<Item = &PointSet> {
        std::iter::once(&self.points).chain(self.companion.as_deref())
    }

    fn all_points_mut(&mut self) -> impl Iterator<Item = &mut PointSet> {
        std::iter::once(&mut self.points).chain(self.companion.as_deref_mut())
    }

    /// Whether there is load on a target at zero, so that Knative's semantics ask for an evaluation.
    pub(crate) fn is_poked(&self) -> bool {
        self.desired() == Some(0) && self.all_points().any(PointSet::has_load)
    }

    /// Whether anything would show its demand while no pod runs.
    pub(crate) fn has_wake_path(&self) -> bool {
        self.all_points().any(PointSet::has_wake_path)
    }

    pub(crate) fn hears_wake_path(&self, now: Timestamp) -> bool {
        self.all_points().any(|points| points.hears_wake_path(now))
    }

    /// Whether all that would show its demand at zero has been silent for `delay` longer than its limit.
    pub(crate) fn is_deaf(&self, now: Timestamp, delay: Duration) -> bool {
        self.has_wake_path() && self.all_points().all(|points| points.is_deaf(now, delay))
    }

    /// Whether it shows what still waits: the level of a queue itself, or beside what arrives.
    pub(crate) fn sees_waiting(&self, metric: ScalingMetric) -> bool {
        metric == ScalingMetric::Backlog || self.companion.is_some()
    }

    /// Whether the newest samples show no work: nothing that arrives, and not more than `activation_value`
    /// that waits.
    pub(crate) fn nothing_waits(
        &self,
        now: Timestamp,
        spec: &ScalerSpec,
        activation_value: f64,
    ) -> bool {
        let newest = || self.points.chosen(now, spec).map_or(0.0, |chosen| chosen.newest_value());
        match spec.metric {
            ScalingMetric::Concurrency | ScalingMetric::Rps => true,
            ScalingMetric::Backlog => newest() <= activation_value,
            ScalingMetric::Events => {
                let waiting = self.companion.as_ref().is_none_or(|points| {
                    points.chosen(now, spec).is_some_and(|chosen| {
                        chosen.signal.is_heard() && chosen.newest_value() <= activation_value
                    })
                });
                newest() <= 0.0 && waiting
            }
        }
    }

    /// Adds what the points' own claims are worth at a tick.
    pub(crate) fn note_problems(
        &mut self,
        now: Timestamp,
        spec: &ScalerSpec,
        problems: &mut Vec<Problem>,
    ) {
        self.all_points_mut().for_each(|points| points.note_problems(now, spec, problems));
    }

    pub(crate) fn counts(&self) -> impl Iterator<Item = SampleCounts> + '_ {
        self.all_points().flat_map(PointSet::counts)
    }

    /// One full evaluation; `None` before it decides.
    pub(crate) fn tick(&mut self, view: MeasureView<'_>, around: &Around) -> Option<Evaluation> {
        let Around { now, ready, .. } = *around;
        let deaf = around.wake_after.is_some_and(|delay| self.is_deaf(now, delay));
        let heard = Heard::of(&self.points, self.companion.as_deref(), view, around);
        let (decider, spec) = (self.decider.as_mut()?, view.spec);
        let Some(heard) = heard else {
            // Nothing will ever be heard, so panic's time runs on as after a loss.
            let mut outcome = decider.tick_lost(now, spec, ready, false);
            outcome.reason = around.unmeasured;
            return Some(evaluation(decider, spec, outcome, Observation::default()));
        };
        let outcome = match (&heard.chosen.reading, heard.state) {
            _ if deaf => decider.tick_lost(now, spec, ready, true),
            (None, _) => {
                let buckets = heard.buckets_with_waiting();
                let mut outcome = decider.tick_knative(now, spec, ready, buckets);
                if buckets.is_none() && heard.state == SignalState::Lost {
                    outcome.reason = Reason::SignalLost;
                }
                outcome
            }
            (Some(_), SignalState::Starting) => decider.tick_starting(ready),
            (Some(_), SignalState::Lost) => decider.tick_lost(now, spec, ready, false),
            (Some(reading), SignalState::Fresh | SignalState::Partial) => {
                decider.tick_covered(now, spec, ready, reading)
            }
        };
        let observation = heard.observation(spec);
        Some(evaluation(decider, spec, outcome, observation))
    }

    /// Evaluates because samples arrived; only a raise gives an evaluation.
    pub(crate) fn raise(&mut self, view: MeasureView<'_>, around: &Around) -> Option<Evaluation> {
        let heard = Heard::of(&self.points, self.companion.as_deref(), view, around)?;
        let reading = heard
            .chosen
            .reading
            .as_ref()
            .filter(|_| matches!(heard.state, SignalState::Fresh | SignalState::Partial))?;
        let decider = self.decider.as_mut()?;
        let outcome = decider.arrive_covered(around.now, view.spec, around.ready, reading)?;
        let observation = heard.observation(view.spec);
        Some(evaluation(decider, view.spec, outcome, observation))
    }

    /// What it asks for without an evaluation: what it asked for last, and what is known now.
    pub(crate) fn look(&self, view: MeasureView<'_>, around: &Around) -> Option<Evaluation> {
        let decider = self.decider.as_ref()?;
        let heard = Heard::of(&self.points, self.companion.as_deref(), view, around);
        let reason = match heard.as_ref().map(|heard| heard.state) {
            None => around.unmeasured,
            Some(SignalState::Starting) => Reason::SignalStarting,
            Some(SignalState::Lost) => Reason::SignalLost,
            Some(SignalState::Fresh | SignalState::Partial) => Reason::Steady,
        };
        let reading = heard.as_ref().and_then(|heard| heard.chosen.reading.as_ref());
        let wants =
            reading.filter(|_| reason == Reason::Steady).map(|reading| reading.wants(view.spec));
        let outcome = Outcome { desired: decider.desired(), wants, reason, ..Outcome::default() };
        let observation = heard.map(|heard| heard.observation(view.spec)).unwrap_or_default();
        Some(evaluation(decider, view.spec, outcome, observation))
    }
}

fn evaluation(
    decider: &Decider,
    spec: &ScalerSpec,
    outcome: Outcome,
    observation: Observation,
) -> Evaluation {
    let panic_mode = decider.panic_mode().record(spec.stable_window);
    Evaluation { outcome, observation, panic_mode }
}

/// What the points and the companion of a measure say at a moment.
struct Heard<'a> {
    chosen: Chosen<'a>,
    /// Boxed because few measures have one.
    companion: Option<Box<Chosen<'a>>>,
    state: SignalState,
    /// Knative's averages.
    buckets: Option<(f64, f64)>,
    waiting: Option<WaitingSeen>,
}

impl<'a> Heard<'a> {
    fn of(
        points: &'a PointSet,
        companion: Option<&'a PointSet>,
        view: MeasureView<'_>,
        around: &Around,
    ) -> Option<Self> {
        let spec = view.spec;
        let chosen = points.chosen(around.now, spec)?;
        let buckets = chosen.bucket_averages(around.now);
        let state = chosen.signal.state;
        let mut heard = Self { chosen, companion: None, state, buckets, waiting: None };
        if let (Some(points), Some(config)) = (companion, view.companion) {
            heard.join(points.chosen(around.now, spec), config.drain_time);
        }
        heard.judge_dormancy(spec, around.activation_value);
        Some(heard)
    }

    /// Adds what waits. While nothing is heard of it, nothing is known of the upper end of the load.
    fn join(&mut self, companion: Option<Chosen<'a>>, drain_time: Duration) {
        let level = companion.as_ref().filter(|companion| companion.signal.is_heard());
        let Some(level) = level else {
            if let Some(reading) = &mut self.chosen.reading {
                reading.lacks_part = true;
            }
            if self.state == SignalState::Fresh {
                self.state = SignalState::Partial;
            }
            self.companion = companion.map(Box::new);
            return;
        };
        let items = level.newest_value();
        let drain_s = drain_time.as_secs_f64();
        self.waiting = Some(WaitingSeen { items, drain_time });
        if let (Some(reading), Some(seen)) = (&mut self.chosen.reading, &level.reading) {
            let (low, high) = seen.newest(0).unwrap_or((items, items));
            let before = seen.newest(1).map_or(0.0, |(low, _)| low);
            reading.waiting = Waiting {
                low: low / drain_s,
                high: high / drain_s,
                sure: low.min(before) / drain_s,
            };
            reading.lacks_part |= seen.lacks_part;
            if self.state == SignalState::Fresh && (high > low || seen.lacks_part) {
                self.state = SignalState::Partial;
            }
        }
        self.companion = companion.map(Box::new);
    }

    /// Knative's averages with what waits.
    fn buckets_with_waiting(&self) -> Option<(f64, f64)> {
        let Some(WaitingSeen { items, drain_time }) = self.waiting else { return self.buckets };
        let rate = items / drain_time.as_secs_f64();
        self.buckets.map(|(stable, panic)| (stable + rate, panic + rate))
    }

    /// Where nothing arrives and no more than the activation value waits, in the newest sample and over the
    /// stable window, there is no demand.
    fn judge_dormancy(&mut self, spec: &ScalerSpec, activation_value: f64) {
        let Some(reading) = &mut self.chosen.reading else { return };
        if activation_value <= 0.0 || reading.lacks_part {
            return;
        }
        let limit = match spec.metric {
            ScalingMetric::Concurrency | ScalingMetric::Rps => return,
            ScalingMetric::Backlog => activation_value,
            ScalingMetric::Events => match self.waiting {
                Some(waiting) if waiting.items <= activation_value => 0.0,
                _ => return,
            },
        };
        let newest = reading.newest(0).is_some_and(|(_, high)| high <= limit);
        if newest && reading.stable.high <= limit {
            reading.none_up_to = Some(limit);
        }
    }

    fn observation(&self, spec: &ScalerSpec) -> Observation {
        let chosen = &self.chosen;
        let silent = self.companion.as_deref().filter(|companion| !companion.signal.is_heard());
        let level = self.companion.as_deref();
        let mut observation = Observation {
            source: Some(chosen.source()),
            signal: self.state,
            age: chosen.signal.age,
            fault: silent.and_then(Chosen::fault).or_else(|| chosen.fault()),
            stable_window: spec.stable_window,
            panic_window: spec.panic_window,
            missing: chosen
                .missing()
                .saturating_add(level.map_or(0, Chosen::missing))
                .saturating_add(u32::from(silent.is_some())),
            waiting: self.waiting,
            ..Observation::default()
        };
        if let Some(reading) = &chosen.reading {
            observation.panic_window = reading.panic_window;
            observation.covered_s = reading.stable.covered_s;
            observation.samples_in_panic_window = reading.samples_in_panic_window;
            if reading.stable.covered_s > 0 {
                observation.stable = Some(reading.stable.low);
                observation.stable_high = Some(reading.stable.high);
                observation.panic = Some(reading.panic.low);
            }
        } else if let Some((stable, panic)) = self.buckets {
            observation.stable = Some(stable);
            observation.stable_high = Some(stable);
            observation.panic = Some(panic);
        }
        observation
    }
}

/// What all measures of a target say together.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// The evaluation that asks for most; of equals the first that is heard.
    pub(crate) winner: Option<Evaluation>,
    winner_at: usize,
    count: usize,
    /// Why a measure is not heard, if one is not.
    pub(crate) unheard: Option<Reason>,
    /// Since when no measure has wanted anything, if all know that.
    pub(crate) unwanted_since: Option<Timestamp>,
    /// For how long nothing at all was heard, if the signal of every measure is lost.
    pub(crate) silence: Option<Duration>,
    /// Whether a measure asks for a pod.
    pub(crate) wants_any: bool,
    records: Vec<MeasureRecord>,
}

impl Verdict {
    /// Adds the next measure; a line for each is only kept where there are `several`.
    pub(crate) fn add(&mut self, view: MeasureView<'_>, next: Evaluation, several: bool) {
        if several {
            self.records.push(MeasureRecord {
                name: Arc::clone(view.name),
                metric: view.spec.metric,
                target: view.spec.target,
                observation: next.observation.clone(),
                wants: next.outcome.wants,
                panic_mode: next.panic_mode,
                desired: next.outcome.desired,
                reason: next.outcome.reason,
                wins: false,
            });
        }
        let lost = next.observation.signal == SignalState::Lost;
        let silence = lost.then_some(next.observation.age);
        self.silence = if self.count == 0 { silence } else { self.silence.min(silence) };
        let since = next.outcome.unwanted_since;
        let both = self.unwanted_since.zip(since).map(|(before, since)| before.max(since));
        self.unwanted_since = if self.count == 0 { since } else { both };
        self.wants_any |= next.outcome.wants.is_some_and(|wants| !wants.is_nothing());
        if !next.is_heard() && self.unheard.is_none() {
            self.unheard = Some(next.outcome.reason);
        }
        let wins = self.winner.as_ref().is_none_or(|best| {
            let (ours, theirs) = (next.outcome.desired, best.outcome.desired);
            ours > theirs || ours == theirs && next.is_heard() && !best.is_heard()
        });
        if wins {
            self.winner = Some(next);
            self.winner_at = self.count;
        }
        self.count += 1;
    }

    /// The highest desired scale of all measures.
    pub(crate) fn desired(&self) -> Option<i32> {
        self.winner.as_ref().map(|winner| winner.outcome.desired)
    }

    /// The position of the measure that wins.
    pub(crate) fn winner_at(&self) -> usize {
        self.winner_at
    }

    /// The line of each measure, with the winner marked.
    pub(crate) fn into_records(mut self) -> Vec<MeasureRecord> {
        if let Some(winner) = self.records.get_mut(self.winner_at) {
            winner.wins = true;
        }
        self.records
    }
}
