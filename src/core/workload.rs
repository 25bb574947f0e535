//! One target inside the engine: what was observed of it, its measures, and one evaluation from samples to
//! the replicas it should have.

mod people;

use std::sync::Arc;
use std::time::Duration;

use super::Timestamp;
use super::config::{MeasureView, TargetConfig};
use super::decider::knative::push_stage;
use super::decider::panic::later;
use super::decider::zero::{ZeroInputs, ZeroState};
use super::decider::{Outcome, bounds};
use super::decision::{
    Decision, Reason, SampleCounts, Stage, StageRecord, TargetStatus, Trigger, WriteRecord,
};
use super::event::{Rival, Sample, SourceFault, WriteOutcome};
use super::measure::{Around, Measure, Verdict};
use super::policy::{Consent, Mode};
use super::problem::{Problem, ProblemCode};
use super::rival::{self, Writers};
use super::rule::Rule;
use super::snapshot::{Fate, SavedWindow};
use super::spec::{ScalingMetric, Semantics};
use super::target::{PodCounts, TargetId};
use super::window::covered::Recorded;

/// How long a target at zero waits after its wake path was lost, before the spread by name.
const WAKE_DELAY: Duration = Duration::from_secs(60);
/// How long a write may be on its way before it is forgotten and tried again.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// How many values of our own we recognise when they come back through the watch.
const OWN_WRITES: usize = 4;

/// A write that was asked for and not yet answered.
#[derive(Clone, Debug)]
pub(crate) struct PendingWrite {
    pub(crate) replicas: i32,
    pub(crate) from: i32,
    pub(crate) asked_at: Timestamp,
    pub(crate) note: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) target: TargetId,
    pub(crate) config: Arc<TargetConfig>,
    /// The first measure and the others, in the order of the configuration.
    first: Measure,
    further: Vec<Measure>,
    /// The zero machine; it exists, and the measures decide, once the object's replicas were observed.
    zero: Option<ZeroState>,
    pub(crate) replicas: i32,
    pub(crate) resource_version: Arc<str>,
    pub(crate) pods: PodCounts,
    pub(crate) rivals: Arc<[Rival]>,
    /// Boxed because few targets have one at a time.
    pub(crate) pending: Option<Box<PendingWrite>>,
    own_writes: [Option<i32>; OWN_WRITES],
    pub(crate) retry_at: Option<Timestamp>,
    pub(crate) last_write: Option<WriteRecord>,
    manual_zero: bool,
    /// What we wrote and nobody has changed since.
    stored: Option<i32>,
    /// Boxed because few targets have somebody who takes writes back.
    writers: Option<Box<Writers>>,
    /// Whether a pause with an end goes on.
    paused: bool,
    /// What the order for a lost signal came to, until it is carried out.
    order_due: Option<i32>,
    /// Whether the order for a lost signal was carried out in this loss.
    order_done: bool,
    pub(crate) decision: Option<Arc<Decision>>,
    problems: Vec<Problem>,
    pub(crate) next_tick: Timestamp,
    pub(crate) next_arrival: Option<Timestamp>,
    pub(crate) last_arrival: Option<Timestamp>,
    pub(crate) held_since: Option<Timestamp>,
    pub(crate) hold_announced: bool,
    /// Whether users were told of a panic that goes on.
    pub(crate) panic_told: bool,
}

impl Workload {
    pub(crate) fn new(
        now: Timestamp,
        target: TargetId,
        config: Arc<TargetConfig>,
        next_tick: Timestamp,
    ) -> Self {
        let (first, further) = make_measures(now, &config, Vec::new());
        Self {
            target,
            first,
            further,
            config,
            zero: None,
            replicas: 0,
            resource_version: Arc::from(""),
            pods: PodCounts::default(),
            rivals: Arc::default(),
            pending: None,
            own_writes: [None; OWN_WRITES],
            retry_at: None,
            last_write: None,
            manual_zero: false,
            stored: None,
            writers: None,
            paused: false,
            order_due: None,
            order_done: false,
            decision: None,
            problems: Vec::new(),
            next_tick,
            next_arrival: None,
            last_arrival: None,
            held_since: None,
            hold_announced: false,
            panic_told: false,
        }
    }

    /// Takes over a changed configuration. What was measured stays, as far as it still means the same.
    pub(crate) fn reconfigure(&mut self, now: Timestamp, config: Arc<TargetConfig>) {
        let old = std::mem::replace(&mut self.config, config);
        let resumes = resumes(&old, &self.config);
        let delay_changed = old.spec.scale_down_delay != self.config.spec.scale_down_delay;
        let measures = std::iter::once(&self.first).chain(&self.further).cloned();
        let known = measures.zip(old.measures()).map(|(measure, view)| (view, measure)).collect();
        (self.first, self.further) = make_measures(now, &self.config, known);
        if self.zero.is_none() {
            return;
        }
        if resumes {
            // Whoever paused and resumes it has looked after those who took writes back.
            self.writers = None;
        }
        let replicas = self.replicas;
        self.each(|measure, view| match measure.decider_mut() {
            None => measure.start(now, view.spec, replicas),
            Some(decider) if resumes => decider.reseed(now, view.spec, replicas),
            Some(decider) if delay_changed => decider.reconfigure_delay(now, view.spec),
            Some(_) => {}
        });
    }

    /// What can be kept over a restart.
    pub(crate) fn saved(&self, now: Timestamp) -> impl Iterator<Item = SavedWindow> + '_ {
        self.measures().flat_map(move |(measure, view)| measure.saved(now, &self.target, view))
    }

    /// Takes over what an earlier process measured; says what became of it.
    pub(crate) fn restore(&mut self, now: Timestamp, saved: &SavedWindow) -> Fate {
        let measures = std::iter::once(&mut self.first).chain(&mut self.further);
        let mut named = measures.zip(self.config.measures());
        let found = named.find(|(_, view)| *view.name == saved.place.measure);
        found.map_or(Fate::Changed, |(measure, view)| measure.restore(now, view, saved))
    }

    fn measures(&self) -> impl Iterator<Item = (&Measure, MeasureView<'_>)> {
        std::iter::once(&self.first).chain(&self.further).zip(self.config.measures())
    }

    fn each(&mut self, mut act: impl FnMut(&mut Measure, MeasureView<'_>)) {
        let measures = std::iter::once(&mut self.first).chain(&mut self.further);
        measures.zip(self.config.measures()).for_each(|(measure, view)| act(measure, view));
    }

    /// Every measure with what users were told last about its signal.
    pub(crate) fn measures_mut(&mut self) -> impl Iterator<Item = &mut Measure> {
        std::iter::once(&mut self.first).chain(&mut self.further)
    }

    /// Whether panic was entered because of load, not because of a start or of somebody's write.
    pub(crate) fn is_panicking_for_load(&self) -> bool {
        self.measures().any(|(measure, _)| measure.is_panicking_for_load())
    }

    /// Takes over what the object says. Returns from how many replicas a write of ours has led to these, if
    /// its answer was lost and nobody has heard of it.
    pub(crate) fn observe_replicas(
        &mut self,
        now: Timestamp,
        replicas: i32,
        resource_version: &Arc<str>,
        newly_created: bool,
    ) -> Option<i32> {
        if self.zero.is_some() && is_older(resource_version, &self.resource_version) {
            return None;
        }
        self.resource_version = resource_version.clone();
        if self.zero.is_none() {
            self.start(now, replicas, newly_created);
            return None;
        }
        let changed = replicas != self.replicas;
        let own = changed && self.recognise_own(replicas);
        self.replicas = replicas;
        if replicas > 0 {
            self.manual_zero = false;
        }
        if changed && !own && self.is_ours() {
            self.accept_foreign(now, replicas);
        }
        // Whoever changes it before the next decision has the last word as well.
        if own && self.order_due == Some(replicas) {
            self.note_order(now, replicas);
        }
        self.last_write.as_ref().filter(|_| own).and_then(|last| self.unanswered(replicas, last))
    }

    /// Where the last write began, if it was one of these replicas and its answer was lost. If the same is
    /// on its way once more, that one's answer tells.
    fn unanswered(&self, replicas: i32, last: &WriteRecord) -> Option<i32> {
        let again = self.pending.as_ref().is_some_and(|pending| pending.replicas == replicas);
        let lost = last.replicas == replicas && last.outcome == WriteOutcome::Unknown;
        (lost && !again).then_some(last.from)
    }

    fn start(&mut self, now: Timestamp, replicas: i32, newly_created: bool) {
        self.replicas = replicas;
        let initialised = !newly_created || self.config.spec.initial_scale <= 1;
        self.zero = Some(ZeroState::new(now, replicas, initialised));
        self.each(|measure, view| measure.start(now, view.spec, replicas));
        self.manual_zero = self.is_ours() && replicas == 0 && !newly_created && self.least() > 0;
    }

    /// Whether replicas that somebody else sets are a word to us: where KEDA writes they only follow.
    fn is_ours(&self) -> bool {
        self.config.consent != Consent::Answered
    }

    /// Somebody else set the replicas: their value stands until a decision differs.
    fn accept_foreign(&mut self, now: Timestamp, replicas: i32) {
        self.manual_zero = replicas == 0 && self.least() > 0;
        self.own_writes = [None; OWN_WRITES];
        if self.config.semantics == Semantics::Default {
            self.reseed(now);
        }
    }

    /// Lets every measure start again from the replicas that there are.
    fn reseed(&mut self, now: Timestamp) {
        let replicas = self.replicas;
        self.each(|measure, view| {
            if let Some(decider) = measure.decider_mut() {
                decider.reseed(now, view.spec, replicas);
            }
        });
    }

    /// The fewest replicas that are the rule.
    fn least(&self) -> i32 {
        let zero = &self.config.zero;
        let (floor, _) = ZeroState::floor(zero, self.has_wake_path(), self.sees_waiting());
        self.config.bounds.min.max(floor)
    }

    /// Whether every measure has a point that would show its demand while no pod runs.
    fn has_wake_path(&self) -> bool {
        self.measures().all(|(measure, _)| measure.has_wake_path())
    }

    /// Whether, if items arrive, something shows those that still wait.
    fn sees_waiting(&self) -> bool {
        self.config.measures().all(|view| view.spec.metric != ScalingMetric::Events)
            || self.measures().any(|(measure, view)| measure.sees_waiting(view.spec.metric))
    }

    pub(crate) fn observe_rivals(&mut self, now: Timestamp, rivals: Vec<Rival>) {
        let gone = rivals.is_empty() && !self.rivals.is_empty();
        self.rivals = rivals.into();
        if gone {
            self.reseed(now);
        }
    }

    /// Records a sample that arrives at `now`; says what became of it, or nothing if the target does not
    /// use that source.
    pub(crate) fn record(&mut self, now: Timestamp, sample: &Sample) -> Option<Recorded> {
        let mut result = None;
        self.each(|measure, view| {
            let recorded = measure.record(now, view, sample);
            if result != Some(Recorded::Ok) {
                result = recorded.or(result);
            }
        });
        result
    }

    pub(crate) fn source_failed(&mut self, source: &str, fault: SourceFault) {
        self.each(|measure, _| measure.source_failed(source, fault));
    }

    /// Whether Knative's semantics ask for an evaluation at once: load on a target at zero.
    pub(crate) fn is_poked(&self) -> bool {
        self.measures().any(|(measure, _)| measure.is_poked())
    }

    /// One full evaluation. `may_wake` says whether the engine's budget of woken targets allows one more.
    pub(crate) fn tick(&mut self, now: Timestamp, may_wake: bool) -> Option<Arc<Decision>> {
        self.zero.as_ref()?;
        self.watch_pause(now);
        let around = self.around(now, may_wake);
        let several = !self.further.is_empty();
        let (mut verdict, mut problems) = (Verdict::default(), std::mem::take(&mut self.problems));
        problems.clear();
        self.each(|measure, view| {
            if let Some(evaluation) = measure.tick(view, &around) {
                verdict.add(view, evaluation, several);
            }
            measure.note_problems(now, view.spec, &mut problems);
        });
        self.problems = problems;
        self.conclude(now, verdict, Trigger::Tick)
    }

    fn around(&self, now: Timestamp, may_wake: bool) -> Around {
        let zero_is_possible = self.least() == 0;
        let activation_value = if zero_is_possible { self.config.zero.activation_value } else { 0 };
        Around {
            now,
            ready: self.pods.ready,
            activation_value: f64::from(activation_value),
            wake_after: may_wake.then(|| self.wake_delay()),
            unmeasured: self.config.unmeasured(),
        }
    }

    /// A minute, spread over another one by the target's name.
    fn wake_delay(&self) -> Duration {
        WAKE_DELAY + Duration::from_secs(hash_of(&self.target) % 60)
    }

    /// Whether this tick would wake the target if the engine's budget allows: it is at zero, and every
    /// source that sees one of its measures there has been lost for long enough. Knative lets it sleep.
    pub(crate) fn sleeps_unheard(&self, now: Timestamp) -> bool {
        self.config.semantics == Semantics::Default
            && self.replicas == 0
            && self.zero.is_some()
            && self.measures().all(|(measure, _)| measure.desired() == Some(0))
            && self.has_wake_path()
            && self.measures().any(|(measure, _)| measure.is_deaf(now, self.wake_delay()))
    }

    /// Evaluates because samples arrived; only a raise gives a decision.
    pub(crate) fn arrive(&mut self, now: Timestamp) -> Option<Arc<Decision>> {
        let before = self.measures().filter_map(|(measure, _)| measure.desired()).max()?;
        let around = self.around(now, false);
        let several = !self.further.is_empty();
        let was_idle = self.is_told_to_be_idle();
        let mut verdict = Verdict::default();
        self.each(|measure, view| {
            let raised = measure.raise(view, &around);
            let look = || measure.look(view, &around);
            let evaluation = if several || was_idle { raised.or_else(look) } else { raised };
            if let Some(evaluation) = evaluation {
                verdict.add(view, evaluation, several);
            }
        });
        let raises = verdict.desired().is_some_and(|desired| desired > before);
        let wakes = was_idle && verdict.wants_any;
        if raises || wakes { self.conclude(now, verdict, Trigger::Arrival) } else { None }
    }

    /// Whether another autoscaler is told that nothing is wanted of the replicas that there are. It may
    /// take them all away, so it must hear at once when something is.
    fn is_told_to_be_idle(&self) -> bool {
        self.config.consent == Consent::Answered
            && self.replicas > 0
            && self.decision.as_ref().is_some_and(|decision| decision.idle)
    }

    /// Bounds, the rules for zero and the gates, and the record of it all.
    fn conclude(
        &mut self,
        now: Timestamp,
        mut verdict: Verdict,
        trigger: Trigger,
    ) -> Option<Arc<Decision>> {
        let config = self.config.clone();
        let mut winner = verdict.winner.take()?;
        let spec = config.measures().nth(verdict.winner_at())?.spec;
        let stages = std::mem::take(&mut winner.outcome.stages);
        let (unheard, silence) = (verdict.unheard, verdict.silence);
        let settled = self.settle(now, &winner.outcome, unheard, silence, stages)?;
        let idle = settled.pods == 0 || self.is_idle(now, verdict.unwanted_since);
        let mut reason = settled.reason;
        if reason == Reason::StableDemand && settled.pods == self.replicas {
            reason = Reason::Steady;
        }
        self.report_floor(reason);
        Some(Arc::new(Decision {
            at: now,
            trigger,
            semantics: config.semantics,
            metric: spec.metric,
            target: spec.target,
            ready: self.pods.ready,
            observation: winner.observation,
            wants: winner.outcome.wants,
            stages: settled.stages,
            panic_mode: winner.panic_mode,
            desired: winner.outcome.desired,
            bounded: settled.pods,
            replicas: self.replicas,
            excess_burst_capacity: winner.outcome.excess_burst_capacity,
            reason,
            gate: self.gate(now, settled.pods),
            idle,
            measures: verdict.into_records(),
        }))
    }

    /// From what is desired to the replicas to have; `unheard` is why a measure is not heard, if one is
    /// not, `silence` for how long nothing at all was heard.
    fn settle(
        &mut self,
        now: Timestamp,
        outcome: &Outcome,
        unheard: Option<Reason>,
        silence: Option<Duration>,
        mut stages: Vec<StageRecord>,
    ) -> Option<Settled> {
        let config = self.config.clone();
        let initialised = self.zero.as_ref()?.is_initialised();
        let wanted = self.kept_unheard(unheard.is_none(), outcome.desired);
        push_stage(&mut stages, Stage::Knowledge, outcome.desired, wanted, || Rule::NoData(wanted));
        let kept = wanted != outcome.desired;
        let ordered = self.ordered(silence, wanted, &mut stages);
        let decided = unheard.filter(|_| kept).unwrap_or(outcome.reason);
        let decided = ordered.map_or(decided, |_| Reason::OnMissing);
        let wanted = ordered.unwrap_or(wanted);
        let bounded = bounds::apply(
            &config.spec,
            config.bounds,
            config.semantics,
            initialised,
            wanted,
            &mut stages,
        );
        let mut settled =
            Settled { pods: bounded.pods, reason: bounded.reason.unwrap_or(decided), stages };
        if ordered.is_some() {
            self.note_order(now, settled.pods);
        }
        if settled.pods < 0 {
            settled.pods = self.replicas;
            return Some(settled);
        }
        // What is only kept for lack of data does not count as wanted.
        let wished = if kept { outcome.desired.max(config.bounds.min) } else { settled.pods };
        let (ready, min_ready) = (self.pods.ready, self.min_ready(initialised));
        let inputs = self.zero_inputs(now, &config);
        let zero = self.zero.as_mut()?;
        zero.observe(now, wished, ready, min_ready, config.spec.stable_window);
        if settled.pods == 0 {
            (settled.pods, settled.reason) = zero.to_zero(now, &inputs);
            push_stage(&mut settled.stages, Stage::Zero, 0, settled.pods, || {
                Rule::Said(zero_rule(settled.reason))
            });
        }
        Some(settled)
    }

    /// Whether only a rate limit keeps replicas, if nothing has been wanted since a moment.
    fn is_idle(&self, now: Timestamp, unwanted_since: Option<Timestamp>) -> bool {
        let Some((zero, since)) = self.zero.as_ref().zip(unwanted_since) else { return false };
        self.config.bounds.min == 0
            && zero.is_idle(now, &self.zero_inputs(now, &self.config), since)
    }

    /// Says what keeps the last replica, where the user can do something about it.
    fn report_floor(&mut self, reason: Reason) {
        if reason == Reason::NoWakePath && !self.has_wake_path() {
            self.problems.push(no_wake_path());
        } else if reason == Reason::WaitingUnknown {
            self.problems.push(waiting_unknown());
        }
    }

    /// What the default mode wants without data: what was desired, but no less than what runs, because a
    /// wish that could not be written in time is not knowledge.
    fn kept_unheard(&self, heard: bool, desired: i32) -> i32 {
        if !heard && self.config.semantics == Semantics::Default {
            desired.max(self.replicas)
        } else {
            desired
        }
    }

    /// The ready pods from which on the target counts as active, and as having reached its initial scale.
    /// A ceiling below the initial scale is all that can be reached, but for Knative's semantics, where
    /// the initial scale wins.
    fn min_ready(&self, initialised: bool) -> i32 {
        let (bounds, initial) = (self.config.bounds, self.config.spec.initial_scale);
        if initialised {
            bounds.min.max(1)
        } else if bounds.max > 0 && self.config.semantics == Semantics::Default {
            bounds.min.max(initial.min(bounds.max))
        } else {
            bounds.min.max(initial)
        }
    }

    fn zero_inputs<'a>(&self, now: Timestamp, config: &'a TargetConfig) -> ZeroInputs<'a> {
        let activation_value = f64::from(config.zero.activation_value);
        ZeroInputs {
            config: &config.zero,
            stable_window: config.spec.stable_window,
            has_wake_path: self.has_wake_path(),
            wake_path_heard: self.measures().all(|(measure, _)| measure.hears_wake_path(now)),
            sees_waiting: self.sees_waiting(),
            nothing_waits: self
                .measures()
                .all(|(measure, view)| measure.nothing_waits(now, view.spec, activation_value)),
            replicas: self.replicas,
        }
    }

    /// Why `pods` must not be written, if it must not.
    fn gate(&self, now: Timestamp, pods: i32) -> Option<Reason> {
        let config = &self.config;
        if config.consent == Consent::Answered {
            Some(Reason::Followed)
        } else if config.consent == Consent::Observed || config.mode == Mode::Observe {
            Some(Reason::ObserveOnly)
        } else if let Some(reason) = rival::gate_of(&self.rivals) {
            Some(reason)
        } else if self.manual_zero {
            Some(Reason::ManualZero)
        } else if pods != self.replicas && !config.mode.allows(self.replicas, pods)
            || config.mode == Mode::Paused
            || config.is_paused_at(now)
        {
            Some(Reason::Paused)
        } else if self.writers.as_ref().is_some_and(|of| of.forbid(now, self.replicas, pods)) {
            Some(Reason::Contested)
        } else {
            None
        }
    }

    /// Remembers a value that we are about to write, to know it when it comes back.
    pub(crate) fn remember_own(&mut self, replicas: i32) {
        self.own_writes.rotate_right(1);
        if let Some(slot) = self.own_writes.first_mut() {
            *slot = Some(replicas);
        }
    }

    /// Whether a value that was just observed is one that we wrote. It and what we wrote before it are
    /// forgotten: whoever writes them from now on is somebody else.
    fn recognise_own(&mut self, replicas: i32) -> bool {
        let Some(age) = self.own_writes.iter().position(|own| *own == Some(replicas)) else {
            return false;
        };
        for slot in self.own_writes.iter_mut().skip(age) {
            *slot = None;
        }
        self.stored = Some(replicas);
        true
    }

    /// Forgets a value that was refused: whoever writes it is somebody else.
    pub(crate) fn forget_own(&mut self, replicas: i32) {
        if let Some(slot) = self.own_writes.iter_mut().find(|own| **own == Some(replicas)) {
            *slot = None;
        }
    }

    /// Forgets what was asked for: it may have been dropped without a word, and whatever is observed from
    /// now on counts as somebody else's.
    pub(crate) fn forget_wishes(&mut self) {
        self.pending = None;
        self.stored = None;
        self.own_writes = [None; OWN_WRITES];
    }

    /// Whether `replicas` should be asked for now: nothing like it is on its way, and the target is not
    /// left alone after a refusal.
    pub(crate) fn may_ask(&self, now: Timestamp, replicas: i32) -> bool {
        let on_its_way = self.pending.as_ref().is_some_and(|pending| {
            pending.replicas == replicas && later(pending.asked_at, WRITE_LIMIT) > now
        });
        !on_its_way && self.retry_at.is_none_or(|at| at <= now)
    }

    pub(crate) fn sample_counts(&self) -> SampleCounts {
        let counts = self.measures().flat_map(|(measure, _)| measure.counts());
        counts.fold(SampleCounts::default(), |sum, counts| SampleCounts {
            recorded: sum.recorded + counts.recorded,
            heartbeat: sum.heartbeat + counts.heartbeat,
            late: sum.late + counts.late,
            invalid: sum.invalid + counts.invalid,
        })
    }

    pub(crate) fn status(&self) -> TargetStatus {
        TargetStatus {
            target: self.target.clone(),
            config: self.config.clone(),
            replicas: self.replicas,
            pods: self.pods,
            rivals: self.rivals.clone(),
            contest: self.writers.as_ref().and_then(|of| of.contest()).cloned(),
            decision: self.decision.clone(),
            last_write: self.last_write.clone(),
            problems: self.problems.clone(),
            samples: self.sample_counts(),
        }
    }
}

/// A wish within all bounds.
struct Settled {
    pods: i32,
    reason: Reason,
    stages: Vec<StageRecord>,
}

/// The measures of a configuration. Of those that are `known` the ones that stay are kept: the same name
/// of the same metric, else the same metric.
fn make_measures(
    now: Timestamp,
    config: &TargetConfig,
    mut known: Vec<(MeasureView<'_>, Measure)>,
) -> (Measure, Vec<Measure>) {
    let mut make = |view: MeasureView<'_>| {
        let same = |(old, _): &(MeasureView<'_>, Measure)| {
            old.spec.metric == view.spec.metric && old.name == view.name
        };
        let alike = |(old, _): &(MeasureView<'_>, Measure)| {
            old.spec.metric == view.spec.metric
                && config.measures().all(|other| other.name != old.name)
        };
        let kept = known.iter().position(same).or_else(|| known.iter().position(alike));
        match kept {
            Some(position) => {
                let (_, mut measure) = known.swap_remove(position);
                measure.rewire(now, view, config.semantics);
                measure
            }
            None => Measure::new(now, view, config.semantics),
        }
    };
    let first = make(config.first());
    (first, config.measures().skip(1).map(&mut make).collect())
}

/// Whether raising or lowering was not allowed before and is now.
fn resumes(old: &TargetConfig, new: &TargetConfig) -> bool {
    let writes = |config: &TargetConfig, wanted| {
        config.consent == Consent::Managed && config.mode.allows(1, wanted)
    };
    [0, 2].into_iter().any(|wanted| writes(new, wanted) && !writes(old, wanted))
}

fn zero_rule(reason: Reason) -> &'static str {
    match reason {
        Reason::NoWakePath => "nothing would wake it from zero: one replica stays",
        Reason::WaitingUnknown => "nothing shows what still waits: one replica stays",
        Reason::ScaleToZeroDisabled => "enable-scale-to-zero is false: one replica stays",
        _ => "idle, but not yet for the stable window and the last pod's retention",
    }
}

fn no_wake_path() -> Problem {
    Problem {
        code: ProblemCode::NoWakePath,
        key: "min-scale".to_owned(),
        why: "zero replicas are allowed, but no source sees demand while no pod runs".to_owned(),
        fallback: "one replica stays; use a source with visibleAtZero, or set min-scale to 1"
            .to_owned(),
    }
}

fn waiting_unknown() -> Problem {
    Problem {
        code: ProblemCode::WaitingUnknown,
        key: "min-scale".to_owned(),
        why: "zero replicas are allowed, but no source shows what still waits when nothing arrives"
            .to_owned(),
        fallback: "one replica stays; name a companion, or set min-scale to 1".to_owned(),
    }
}

/// Whether `seen` is an older version than `known`. Kubernetes' resource versions of one resource grow as
/// decimal numbers; what does not parse counts as newer.
fn is_older(seen: &str, known: &str) -> bool {
    match (seen.parse::<u64>(), known.parse::<u64>()) {
        (Ok(seen), Ok(known)) => seen < known,
        _ => false,
    }
}

/// FNV-1a over `namespace/name`: spreads ticks and wakes in the same way on every machine.
pub(crate) fn hash_of(target: &TargetId) -> u64 {
    target
        .namespace
        .bytes()
        .chain(*b"/")
        .chain(target.name.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}
