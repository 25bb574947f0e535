//! One target inside the engine: what was observed of it, its measure, and one evaluation from samples to
//! the replicas it should have.

use std::sync::Arc;
use std::time::Duration;

use super::Timestamp;
use super::config::TargetConfig;
use super::decider::bounds;
use super::decider::covered::Reading;
use super::decider::knative::push_stage;
use super::decider::panic::later;
use super::decider::zero::{ZeroInputs, ZeroState};
use super::decider::{Decider, Outcome};
use super::decision::{
    Decision, Observation, Reason, SampleCounts, SignalState, Stage, StageRecord, TargetStatus,
    Trigger, WriteRecord,
};
use super::event::{Rival, Sample};
use super::point::{Point, Signal};
use super::policy::{Consent, Mode};
use super::problem::{Problem, ProblemCode};
use super::rival;
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

/// The decider and the zero machine; they exist once the object's replicas were observed.
#[derive(Clone, Debug)]
struct Live {
    decider: Decider,
    zero: ZeroState,
}

#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) target: TargetId,
    pub(crate) config: Arc<TargetConfig>,
    points: Vec<Point>,
    live: Option<Live>,
    pub(crate) replicas: i32,
    pub(crate) resource_version: Arc<str>,
    pub(crate) pods: PodCounts,
    #[expect(clippy::rc_buffer, reason = "shared with the status as it is")]
    pub(crate) rivals: Arc<Vec<Rival>>,
    /// Boxed because few targets have one at a time.
    pub(crate) pending: Option<Box<PendingWrite>>,
    own_writes: [Option<i32>; OWN_WRITES],
    pub(crate) retry_at: Option<Timestamp>,
    pub(crate) last_write: Option<WriteRecord>,
    manual_zero: bool,
    pub(crate) decision: Option<Arc<Decision>>,
    problems: Vec<Problem>,
    pub(crate) next_tick: Timestamp,
    pub(crate) next_arrival: Option<Timestamp>,
    pub(crate) last_arrival: Option<Timestamp>,
    pub(crate) held_since: Option<Timestamp>,
    pub(crate) hold_announced: bool,
    /// What users were told last about the signal: fresh, partial or lost.
    pub(crate) signal_told: SignalState,
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
        let points = make_points(now, &config);
        Self {
            target,
            points,
            config,
            live: None,
            replicas: 0,
            resource_version: Arc::from(""),
            pods: PodCounts::default(),
            rivals: Arc::new(Vec::new()),
            pending: None,
            own_writes: [None; OWN_WRITES],
            retry_at: None,
            last_write: None,
            manual_zero: false,
            decision: None,
            problems: Vec::new(),
            next_tick,
            next_arrival: None,
            last_arrival: None,
            held_since: None,
            hold_announced: false,
            signal_told: SignalState::Fresh,
            panic_told: false,
        }
    }

    /// Takes over a changed configuration. What was measured stays, as far as it still means the same.
    pub(crate) fn reconfigure(&mut self, now: Timestamp, config: Arc<TargetConfig>) {
        let old = std::mem::replace(&mut self.config, config);
        let spec = &self.config.spec;
        let same_measure = old.spec.metric == spec.metric;
        if same_measure {
            self.rewire(now);
        } else {
            self.points = make_points(now, &self.config);
        }
        let Some(live) = &mut self.live else { return };
        let spec = &self.config.spec;
        if !same_measure {
            live.decider = Decider::new(now, spec, self.replicas);
        } else if resumes(&old, &self.config) {
            live.decider.reseed(now, spec, self.replicas);
        } else if old.spec.scale_down_delay != spec.scale_down_delay {
            live.decider.reconfigure_delay(now, spec);
        }
    }

    /// Keeps the points of sources that stay, in the new order.
    fn rewire(&mut self, now: Timestamp) {
        let mut old = std::mem::take(&mut self.points);
        let spec = &self.config.spec;
        for config in &self.config.points {
            let kept = old.iter().position(|point| point.config().source == config.source);
            let point = match kept {
                Some(position) => {
                    let mut point = old.swap_remove(position);
                    point.reconfigure(now, config.clone(), spec, self.config.semantics);
                    point
                }
                None => Point::new(now, config.clone(), spec, self.config.semantics),
            };
            self.points.push(point);
        }
    }

    /// Whether panic was entered because of load, not because of a start or of somebody's write.
    pub(crate) fn is_panicking_for_load(&self) -> bool {
        self.live.as_ref().is_some_and(|live| {
            let panic = live.decider.panic_mode();
            panic.is_on() && !panic.is_seeded()
        })
    }

    /// Takes over what the object says. Returns whether anything changed.
    pub(crate) fn observe_replicas(
        &mut self,
        now: Timestamp,
        replicas: i32,
        resource_version: &Arc<str>,
        newly_created: bool,
    ) -> bool {
        if self.live.is_some() && is_older(resource_version, &self.resource_version) {
            return false;
        }
        self.resource_version = resource_version.clone();
        if self.live.is_none() {
            self.start(now, replicas, newly_created);
            return true;
        }
        let changed = replicas != self.replicas;
        let own = changed && self.recognise_own(replicas);
        self.replicas = replicas;
        if replicas > 0 {
            self.manual_zero = false;
        }
        if changed && !own {
            self.accept_foreign(now, replicas);
        }
        changed
    }

    fn start(&mut self, now: Timestamp, replicas: i32, newly_created: bool) {
        self.replicas = replicas;
        let initialised = !newly_created || self.config.spec.initial_scale <= 1;
        self.live = Some(Live {
            decider: Decider::new(now, &self.config.spec, replicas),
            zero: ZeroState::new(now, replicas, initialised),
        });
        self.manual_zero = replicas == 0 && !newly_created && self.least() > 0;
    }

    /// Somebody else set the replicas: their value stands until a decision differs.
    fn accept_foreign(&mut self, now: Timestamp, replicas: i32) {
        self.manual_zero = replicas == 0 && self.least() > 0;
        self.own_writes = [None; OWN_WRITES];
        if self.config.semantics == Semantics::Default
            && let Some(live) = &mut self.live
        {
            live.decider.reseed(now, &self.config.spec, replicas);
        }
    }

    /// The fewest replicas that are the rule.
    fn least(&self) -> i32 {
        let (floor, _) = ZeroState::floor(&self.config.zero, self.has_wake_path());
        self.config.bounds.min.max(floor)
    }

    fn has_wake_path(&self) -> bool {
        self.wake_path().next().is_some()
    }

    pub(crate) fn observe_rivals(&mut self, now: Timestamp, rivals: Vec<Rival>) {
        let gone = rivals.is_empty() && !self.rivals.is_empty();
        self.rivals = Arc::new(rivals);
        if gone && let Some(live) = &mut self.live {
            live.decider.reseed(now, &self.config.spec, self.replicas);
        }
    }

    /// Records a sample that arrives at `now`; says what became of it, or nothing if the target does not
    /// use that source.
    pub(crate) fn record(&mut self, now: Timestamp, sample: &Sample) -> Option<Recorded> {
        let ready = self.live.as_ref().map_or(0, |live| live.decider.ready_at_last_tick());
        let point = self.points.iter_mut().find(|point| point.config().source == sample.source)?;
        Some(point.record(now, sample, &self.config.spec, ready))
    }

    pub(crate) fn source_failed(&mut self, source: &str, fault: super::event::SourceFault) {
        if let Some(point) = self.points.iter_mut().find(|point| &*point.config().source == source)
        {
            point.failed(fault);
        }
    }

    /// Whether Knative's semantics ask for an evaluation at once: load on a target at zero.
    pub(crate) fn is_poked(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.decider.desired() == 0)
            && self.points.iter().any(|point| point.newest_value() > 0.0)
    }

    /// The point to decide by: the first that is heard, else the first that may still be, else the first.
    fn chosen(&self, now: Timestamp) -> Option<(&Point, Option<Reading<'_>>, Signal)> {
        let mut second_best = None;
        for point in &self.points {
            let reading = point.reading(&self.config.spec);
            let signal = point.signal(now, reading.as_ref());
            match signal.state {
                SignalState::Fresh | SignalState::Partial => return Some((point, reading, signal)),
                SignalState::Starting | SignalState::Lost => {
                    let better =
                        second_best.as_ref().is_none_or(|(_, _, best): &(_, _, Signal)| {
                            best.state == SignalState::Lost && signal.state == SignalState::Starting
                        });
                    if better {
                        second_best = Some((point, reading, signal));
                    }
                }
            }
        }
        second_best
    }

    /// One full evaluation. `may_wake` says whether the engine's budget of woken targets allows one more.
    pub(crate) fn tick(&mut self, now: Timestamp, may_wake: bool) -> Option<Decision> {
        let mut live = self.live.take()?;
        let (outcome, observation) = self.evaluate(now, &mut live.decider, may_wake);
        self.problems = self.watch_points(now);
        let decision = self.conclude(now, &mut live, outcome, observation, Trigger::Tick);
        self.live = Some(live);
        Some(decision)
    }

    fn watch_points(&mut self, now: Timestamp) -> Vec<Problem> {
        let spec = &self.config.spec;
        self.points.iter_mut().flat_map(|point| point.problems(now, spec)).collect()
    }

    fn evaluate(
        &self,
        now: Timestamp,
        decider: &mut Decider,
        may_wake: bool,
    ) -> (Outcome, Observation) {
        let spec = &self.config.spec;
        let ready = self.pods.ready;
        let Some((point, reading, signal)) = self.chosen(now) else {
            // Nothing will ever be heard, so panic's time runs on as after a loss.
            let mut outcome = decider.tick_lost(now, spec, ready, false);
            outcome.reason = Reason::NoSource;
            return (outcome, Observation::default());
        };
        let mut observation = self.observation(now, point, reading.as_ref(), signal);
        let outcome = match (&reading, signal.state) {
            _ if may_wake => decider.tick_lost(now, spec, ready, true),
            (None, _) => {
                let averages = point.bucket_averages(now);
                let mut outcome = decider.tick_knative(now, spec, ready, averages);
                if averages.is_none() && signal.state == SignalState::Lost {
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
        observation.stable_window = spec.stable_window;
        (outcome, observation)
    }

    /// A minute, spread over another one by the target's name.
    fn wake_delay(&self) -> Duration {
        WAKE_DELAY + Duration::from_secs(hash_of(&self.target) % 60)
    }

    /// Whether this tick would wake the target if the engine's budget allows: it is at zero, and every
    /// source that sees it there has been lost for long enough. Knative lets it sleep.
    pub(crate) fn sleeps_unheard(&self, now: Timestamp) -> bool {
        self.config.semantics == Semantics::Default
            && self.replicas == 0
            && self.live.as_ref().is_some_and(|live| live.decider.desired() == 0)
            && self.has_wake_path()
            && self.wake_path().all(|point| {
                let limit = point.config().stale_after.saturating_add(self.wake_delay());
                point.signal(now, None).age > limit
            })
    }

    /// The points that see demand while no pod runs.
    fn wake_path(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|point| point.config().visible_at_zero)
    }

    fn hears_wake_path(&self, now: Timestamp) -> bool {
        self.wake_path().any(|point| {
            matches!(point.signal(now, None).state, SignalState::Fresh | SignalState::Partial)
        })
    }

    fn observation(
        &self,
        now: Timestamp,
        point: &Point,
        reading: Option<&Reading<'_>>,
        signal: Signal,
    ) -> Observation {
        let spec = &self.config.spec;
        let mut observation = Observation {
            source: Some(point.config().source.clone()),
            signal: signal.state,
            age: signal.age,
            fault: point.fault(),
            stable_window: spec.stable_window,
            panic_window: spec.panic_window,
            missing: point.missing(),
            ..Observation::default()
        };
        if let Some(reading) = reading {
            observation.panic_window = reading.panic_window;
            observation.covered_s = reading.stable.covered_s;
            observation.samples_in_panic_window = reading.window.samples(reading.panic_window);
            if reading.stable.covered_s > 0 {
                observation.stable = Some(reading.stable.low);
                observation.stable_high = Some(reading.stable.high);
                observation.panic = Some(reading.panic.low);
            }
        } else if let Some((stable, panic)) = point.bucket_averages(now) {
            observation.stable = Some(stable);
            observation.stable_high = Some(stable);
            observation.panic = Some(panic);
        }
        observation
    }

    /// Evaluates because samples arrived; only a raise gives a decision.
    pub(crate) fn arrive(&mut self, now: Timestamp) -> Option<Decision> {
        let mut live = self.live.take()?;
        let raised = self.raise(now, &mut live.decider);
        let decision = raised.map(|(outcome, observation)| {
            self.conclude(now, &mut live, outcome, observation, Trigger::Arrival)
        });
        self.live = Some(live);
        decision
    }

    fn raise(&self, now: Timestamp, decider: &mut Decider) -> Option<(Outcome, Observation)> {
        let (point, reading, signal) = self.chosen(now)?;
        let reading = reading?;
        if !matches!(signal.state, SignalState::Fresh | SignalState::Partial) {
            return None;
        }
        let outcome = decider.arrive_covered(now, &self.config.spec, self.pods.ready, &reading)?;
        Some((outcome, self.observation(now, point, Some(&reading), signal)))
    }

    /// Bounds, the rules for zero and the gates, and the record of it all.
    fn conclude(
        &mut self,
        now: Timestamp,
        live: &mut Live,
        outcome: Outcome,
        observation: Observation,
        trigger: Trigger,
    ) -> Decision {
        let config = self.config.clone();
        let spec = &config.spec;
        let mut stages = outcome.stages;
        let wanted = self.kept_unheard(outcome.wants.is_some(), outcome.desired);
        push_stage(&mut stages, Stage::Knowledge, outcome.desired, wanted, || {
            format!("nothing is lowered without data: keeps {wanted}")
        });
        let bounded = bounds::apply(
            spec,
            config.bounds,
            config.semantics,
            live.zero.is_initialised(),
            wanted,
        );
        stages.extend(bounded.stages);
        let mut reason = bounded.reason.unwrap_or(outcome.reason);
        let mut pods = bounded.pods;
        if pods < 0 {
            pods = self.replicas;
        } else {
            let min_ready = self.min_ready(live.zero.is_initialised());
            // What is only kept for lack of data does not count as wanted.
            let wished = if wanted == outcome.desired {
                pods
            } else {
                outcome.desired.max(config.bounds.min)
            };
            live.zero.observe(now, wished, self.pods.ready, min_ready, spec.stable_window);
            if pods == 0 {
                (pods, reason) = live.zero.to_zero(now, &self.zero_inputs(now));
                if pods != 0 {
                    stages.push(StageRecord {
                        stage: Stage::Zero,
                        before: 0,
                        after: pods,
                        rule: zero_rule(reason).to_owned(),
                    });
                }
            }
        }
        if reason == Reason::NoWakePath && !self.has_wake_path() {
            self.problems.push(no_wake_path());
        }
        if reason == Reason::StableDemand && pods == self.replicas {
            reason = Reason::Steady;
        }
        Decision {
            at: now,
            trigger,
            semantics: config.semantics,
            metric: spec.metric,
            target: spec.target,
            ready: self.pods.ready,
            observation,
            wants: outcome.wants,
            stages,
            panic_mode: live.decider.panic_mode().record(spec.stable_window),
            desired: outcome.desired,
            bounded: pods,
            replicas: self.replicas,
            excess_burst_capacity: outcome.excess_burst_capacity,
            reason,
            gate: self.gate(pods),
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

    fn zero_inputs(&self, now: Timestamp) -> ZeroInputs<'_> {
        let config = &*self.config;
        let counts_items =
            matches!(config.spec.metric, ScalingMetric::Events | ScalingMetric::Backlog);
        let waiting = self.chosen(now).map_or(0.0, |(point, _, _)| point.newest_value());
        ZeroInputs {
            config: &config.zero,
            stable_window: config.spec.stable_window,
            has_wake_path: self.has_wake_path(),
            wake_path_heard: self.hears_wake_path(now),
            nothing_waits: !counts_items || waiting <= f64::from(config.zero.activation_value),
            replicas: self.replicas,
        }
    }

    /// Why `pods` must not be written, if it must not.
    fn gate(&self, pods: i32) -> Option<Reason> {
        let config = &self.config;
        if config.consent == Consent::Observed || config.mode == Mode::Observe {
            Some(Reason::ObserveOnly)
        } else if let Some(reason) = rival::gate_of(&self.rivals) {
            Some(reason)
        } else if self.manual_zero {
            Some(Reason::ManualZero)
        } else if pods != self.replicas && !config.mode.allows(self.replicas, pods)
            || config.mode == Mode::Paused
        {
            Some(Reason::Paused)
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
        self.points.iter().fold(SampleCounts::default(), |sum, point| {
            let counts = point.counts();
            SampleCounts {
                recorded: sum.recorded + counts.recorded,
                heartbeat: sum.heartbeat + counts.heartbeat,
                late: sum.late + counts.late,
                invalid: sum.invalid + counts.invalid,
            }
        })
    }

    pub(crate) fn status(&self) -> TargetStatus {
        TargetStatus {
            target: self.target.clone(),
            config: self.config.clone(),
            replicas: self.replicas,
            pods: self.pods,
            rivals: self.rivals.clone(),
            decision: self.decision.clone(),
            last_write: self.last_write.clone(),
            problems: self.problems.clone(),
            samples: self.sample_counts(),
        }
    }
}

fn make_points(now: Timestamp, config: &TargetConfig) -> Vec<Point> {
    config
        .points
        .iter()
        .map(|point| Point::new(now, point.clone(), &config.spec, config.semantics))
        .collect()
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
