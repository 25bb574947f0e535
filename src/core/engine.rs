//! All targets, their deadlines and what has to be done about them: the one machine that decides.
//!
//! The engine does no I/O. The controller's task and the simulator drive it in the same way:
//!
//! 1. [`Engine::handle`] for every fact, in the order in which they happened;
//! 2. sleep until [`Engine::poll_timeout`], then [`Engine::handle_timeout`];
//! 3. [`Engine::poll_action`] and [`Engine::poll_published`] until both give `None`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Timestamp;
use super::config::MeasureName;
use super::decider::panic::later;
use super::decision::{
    Decision, Observation, Reason, SampleCounts, SignalState, TargetStatus, WriteRecord,
};
use super::event::{Action, Event, Notice, NoticeReason, Sample, WriteOutcome};
use super::measure::Measure;
use super::problem::ProblemCode;
use super::rival;
use super::snapshot::{Restoration, Restoring, Snapshot};
use super::spec::Semantics;
use super::target::TargetId;
use super::window::covered::Recorded;
use super::workload::{PendingWrite, Workload, hash_of};

/// How often a target is evaluated in full.
pub const TICK: Duration = Duration::from_secs(2);
/// The least time between two evaluations by arrivals of one target.
pub const ARRIVAL_PAUSE: Duration = Duration::from_millis(50);
/// How many targets whose wake path is lost are raised to one in a second.
pub const WAKES_PER_SECOND: usize = 5;
/// After how long a hold for lack of knowledge is announced.
pub const LONG_HOLD: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Arrival,
    Tick,
}

/// What readers should see next.
#[derive(Clone, Debug)]
pub enum Published {
    /// The newest status of a target.
    Status(Arc<TargetStatus>),
    /// The target is gone.
    Gone(TargetId),
}

/// What the engine counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Decisions for more replicas than there are.
    pub raise: u64,
    /// Decisions for fewer.
    pub lower: u64,
    /// Decisions for as many, with data.
    pub hold: u64,
    /// Evaluations without data: replicas stay.
    pub unknown: u64,
    /// What became of all samples, of deleted targets too.
    pub samples: SampleCounts,
    /// Samples of targets or sources that the engine does not know.
    pub unknown_samples: u64,
}

/// All targets and their deadlines.
#[derive(Debug, Default)]
pub struct Engine {
    index: BTreeMap<TargetId, u32>,
    workloads: Vec<Option<Box<Workload>>>,
    free: Vec<u32>,
    deadlines: BTreeSet<(Timestamp, Due, u32)>,
    actions: VecDeque<Action>,
    published: VecDeque<Published>,
    leader: bool,
    counters: Counters,
    wakes: [Option<Timestamp>; WAKES_PER_SECOND],
    restoring: Option<Box<Restoring>>,
}

impl Engine {
    /// An engine without targets that does not write until [`Event::LeadershipChanged`] allows it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over one fact at `now`. Never decides; cheap enough to call for every sample. A fact about a
    /// target that was not applied is ignored.
    pub fn handle(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::TargetApplied { target, config } => self.apply(now, &target, config),
            Event::TargetDeleted { target } => self.delete(&target),
            Event::ReplicasObserved { target, replicas, resource_version, newly_created } => {
                let workload = self.workload_mut(&target);
                let unanswered = workload.and_then(|of| {
                    of.observe_replicas(now, replicas, &resource_version, newly_created)
                });
                if let Some(from) = unanswered {
                    let notice = scaled(now, from, replicas, "by a write whose answer was lost");
                    self.actions.push_back(Action::Announce { target, notice });
                }
            }
            Event::PodsObserved { target, pods } => {
                if let Some(workload) = self.workload_mut(&target) {
                    workload.pods = pods;
                }
            }
            Event::Sampled { samples } => {
                for sample in &samples {
                    self.sampled(now, sample);
                }
            }
            Event::SourceFailed { target, source, fault } => {
                if let Some(workload) = self.workload_mut(&target) {
                    workload.source_failed(&source, fault);
                }
            }
            Event::ScaleWritten { target, replicas, outcome } => {
                self.written(now, &target, replicas, outcome);
            }
            Event::RivalsObserved { target, rivals } => self.rivals(now, &target, rivals),
            Event::ForeignWrite { target, manager, replicas } => {
                let workload = self.workload_mut(&target);
                let heard = workload.and_then(|of| of.foreign_write(now, &manager, replicas));
                if let Some((reason, note)) = heard {
                    let notice = Notice { at: now, reason, note };
                    self.actions.push_back(Action::Announce { target, notice });
                }
            }
            Event::LeadershipChanged { leader } => self.lead(leader),
            Event::Restored { snapshot, age } => {
                self.restoring = Some(Box::new(Restoring::new(now, snapshot, age)));
            }
        }
    }

    /// When [`Engine::handle_timeout`] is next due. Ask again after any other call.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|&(at, _, _)| at)
    }

    /// Evaluates every target that is due at `now`. Spurious calls are harmless, and ticks that a late
    /// call missed are not made up for.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some(&(at, due, slot)) = self.deadlines.first() {
            if at > now {
                break;
            }
            self.deadlines.pop_first();
            match due {
                Due::Tick => self.tick(now, slot),
                Due::Arrival => self.arrive(now, slot),
            }
        }
    }

    /// The next thing that the outside must do, oldest first. Call until `None`.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next status that readers should see, oldest first. Call until `None`.
    pub fn poll_published(&mut self) -> Option<Published> {
        self.published.pop_front()
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What the windows hold at `now`, for the next process.
    pub fn snapshot(&self, now: Timestamp) -> Snapshot {
        let known = self.index.values().filter_map(|slot| self.workloads.get(*slot as usize));
        Snapshot::of(now, known.flatten().flat_map(|workload| workload.saved(now)))
    }

    /// What became of [`Event::Restored`]: once, as soon as every entry found its target, or a minute later.
    pub fn poll_restoration(&mut self, now: Timestamp) -> Option<Restoration> {
        let over = self.restoring.take_if(|restoring| restoring.is_over(now))?;
        Some(over.into_counts())
    }

    /// How many targets there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no target.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The present status of a target.
    pub fn status(&self, target: &TargetId) -> Option<TargetStatus> {
        let slot = *self.index.get(target)?;
        self.workloads.get(slot as usize)?.as_ref().map(|workload| workload.status())
    }

    /// Takes over whether this process writes. While it does not, windows and decisions go on, and what
    /// changes is somebody else's doing: such a value stands for a stable window, also after a hand-over.
    fn lead(&mut self, leader: bool) {
        if self.leader && !leader {
            self.workloads.iter_mut().flatten().for_each(|workload| workload.forget_wishes());
        }
        self.leader = leader;
    }

    fn workload_mut(&mut self, target: &TargetId) -> Option<&mut Workload> {
        let slot = *self.index.get(target)?;
        self.at_mut(slot)
    }

    fn at_mut(&mut self, slot: u32) -> Option<&mut Workload> {
        self.workloads.get_mut(slot as usize)?.as_deref_mut()
    }

    fn apply(
        &mut self,
        now: Timestamp,
        target: &TargetId,
        config: Arc<super::config::TargetConfig>,
    ) {
        let old = self.workload_mut(target).map(|workload| workload.config.clone());
        self.announce_problems(now, target, old.as_deref(), &config);
        if let Some(workload) = self.workload_mut(target) {
            workload.reconfigure(now, config);
            self.publish(target);
            return;
        }
        let phase = Duration::from_millis(1 + hash_of(target) % 2000);
        let next_tick = later(now, phase);
        let mut workload = Box::new(Workload::new(now, target.clone(), config, next_tick));
        if let Some(restoring) = &mut self.restoring {
            for saved in restoring.take(target) {
                restoring.note(workload.restore(now, &saved));
            }
        }
        let slot = if let Some(slot) = self.free.pop() {
            slot
        } else {
            self.workloads.push(None);
            u32::try_from(self.workloads.len() - 1).unwrap_or(u32::MAX)
        };
        if let Some(place) = self.workloads.get_mut(slot as usize) {
            *place = Some(workload);
            self.index.insert(target.clone(), slot);
            self.deadlines.insert((next_tick, Due::Tick, slot));
            self.publish(target);
        }
    }

    /// Shows readers a configuration before anything is decided by it.
    fn publish(&mut self, target: &TargetId) {
        if let Some(status) = self.status(target) {
            self.published.push_back(Published::Status(Arc::new(status)));
        }
    }

    fn delete(&mut self, target: &TargetId) {
        let Some(slot) = self.index.remove(target) else { return };
        let Some(workload) = self.workloads.get_mut(slot as usize).and_then(Option::take) else {
            return;
        };
        self.deadlines.remove(&(workload.next_tick, Due::Tick, slot));
        if let Some(at) = workload.next_arrival {
            self.deadlines.remove(&(at, Due::Arrival, slot));
        }
        self.free.push(slot);
        self.published.push_back(Published::Gone(target.clone()));
    }

    fn sampled(&mut self, now: Timestamp, sample: &Sample) {
        let Some(&slot) = self.index.get(&sample.target) else {
            self.counters.unknown_samples += 1;
            return;
        };
        let Some(workload) = self.workloads.get_mut(slot as usize).and_then(Option::as_mut) else {
            return;
        };
        match workload.record(now, sample) {
            None => self.counters.unknown_samples += 1,
            Some(Recorded::Heartbeat) => self.counters.samples.heartbeat += 1,
            Some(Recorded::Late) => self.counters.samples.late += 1,
            Some(Recorded::Invalid) => self.counters.samples.invalid += 1,
            Some(Recorded::Ok) => {
                self.counters.samples.recorded += 1;
                let wanted = workload.config.semantics == Semantics::Default || workload.is_poked();
                if wanted && workload.next_arrival.is_none() {
                    let at = workload.last_arrival.map_or(now, |last| later(last, ARRIVAL_PAUSE));
                    let at = at.max(now);
                    workload.next_arrival = Some(at);
                    self.deadlines.insert((at, Due::Arrival, slot));
                }
            }
        }
    }

    fn tick(&mut self, now: Timestamp, slot: u32) {
        let may_wake = self.may_wake(now, slot);
        let Some(workload) = self.at_mut(slot) else { return };
        let mut next = later(workload.next_tick, TICK);
        if next <= now {
            let behind = now.duration_since(workload.next_tick).as_millis();
            let tick_ms = i128::try_from(TICK.as_millis()).unwrap_or(2000);
            let skipped = u64::try_from((behind / tick_ms + 1) * tick_ms).unwrap_or(0);
            next = later(workload.next_tick, Duration::from_millis(skipped));
        }
        workload.next_tick = next;
        let decision = workload.tick(now, may_wake);
        if next > now {
            // At the end of time nothing is due again.
            self.deadlines.insert((next, Due::Tick, slot));
        }
        if let Some(decision) = decision {
            self.decided(now, slot, decision);
        }
    }

    fn arrive(&mut self, now: Timestamp, slot: u32) {
        let Some(workload) = self.at_mut(slot) else { return };
        workload.next_arrival = None;
        workload.last_arrival = Some(now);
        let decision = match workload.config.semantics {
            Semantics::Default => workload.arrive(now),
            Semantics::Knative => workload.tick(now, false),
        };
        if let Some(decision) = decision {
            self.decided(now, slot, decision);
        }
    }

    /// Whether a target whose wake path is lost is to be woken now: only by who may write, and never more
    /// than [`WAKES_PER_SECOND`] in any second.
    fn may_wake(&mut self, now: Timestamp, slot: u32) -> bool {
        if !self.leader || !self.at_mut(slot).is_some_and(|workload| workload.sleeps_unheard(now)) {
            return false;
        }
        let [.., oldest] = self.wakes;
        if oldest.is_some_and(|oldest| later(oldest, Duration::from_secs(1)) > now) {
            return false;
        }
        self.wakes.rotate_right(1);
        let [newest, ..] = &mut self.wakes;
        *newest = Some(now);
        true
    }

    /// Keeps the decision, announces its transitions, asks for a write where one is due, and publishes.
    fn decided(&mut self, now: Timestamp, slot: u32, decision: Arc<Decision>) {
        self.count(&decision);
        let leader = self.leader;
        let Some(workload) = self.at_mut(slot) else { return };
        let previous = workload.decision.take();
        let mut notices = transitions(now, workload, previous.as_deref(), &decision);
        notices.extend(long_hold(now, workload, &decision));
        let write = leader.then(|| write_of(now, workload, &decision)).flatten();
        workload.decision = Some(decision);
        let status = Arc::new(workload.status());
        for notice in notices {
            self.actions.push_back(Action::Announce { target: status.target.clone(), notice });
        }
        self.actions.extend(write);
        self.published.push_back(Published::Status(status));
    }

    fn count(&mut self, decision: &Decision) {
        let counter = if decision.wants.is_none() {
            &mut self.counters.unknown
        } else if decision.bounded > decision.replicas {
            &mut self.counters.raise
        } else if decision.bounded < decision.replicas {
            &mut self.counters.lower
        } else {
            &mut self.counters.hold
        };
        *counter += 1;
    }

    fn written(&mut self, now: Timestamp, target: &TargetId, replicas: i32, outcome: WriteOutcome) {
        let Some(workload) = self.workload_mut(target) else { return };
        let ours = workload.pending.take_if(|pending| pending.replicas == replicas);
        let from = ours.as_ref().map_or(workload.replicas, |pending| pending.from);
        let notice = match &outcome {
            WriteOutcome::Written => {
                workload.retry_at = None;
                ours.map(|pending| scaled(now, from, replicas, &pending.note))
            }
            WriteOutcome::Refused { status, retry_after } => {
                workload.retry_at = Some(later(now, *retry_after));
                workload.forget_own(replicas);
                Some(Notice {
                    at: now,
                    reason: NoticeReason::WriteFailed,
                    note: format!(
                        "writing {replicas} replicas was refused with status {status}; next try in {} s",
                        retry_after.as_secs()
                    ),
                })
            }
            WriteOutcome::Conflict | WriteOutcome::Gone => {
                workload.forget_own(replicas);
                None
            }
            // It may have been seen before its answer was lost; if not, it is announced when it is.
            WriteOutcome::Unknown => ours
                .filter(|_| workload.replicas == replicas)
                .map(|pending| scaled(now, from, replicas, &pending.note)),
        };
        workload.last_write = Some(WriteRecord { at: now, from, replicas, outcome });
        let status = Arc::new(workload.status());
        self.published.push_back(Published::Status(status));
        if let Some(notice) = notice {
            self.actions.push_back(Action::Announce { target: target.clone(), notice });
        }
    }

    fn rivals(&mut self, now: Timestamp, target: &TargetId, rivals: Vec<super::event::Rival>) {
        let Some(workload) = self.workload_mut(target) else { return };
        if *workload.rivals == rivals {
            return;
        }
        let (reason, note) = rival::notice_of(&rivals);
        workload.observe_rivals(now, rivals);
        let notice = Notice { at: now, reason, note };
        self.actions.push_back(Action::Announce { target: target.clone(), notice });
    }

    fn announce_problems(
        &mut self,
        now: Timestamp,
        target: &TargetId,
        old: Option<&super::config::TargetConfig>,
        new: &super::config::TargetConfig,
    ) {
        let fresh: Vec<String> = new
            .problems
            .iter()
            .filter(|problem| problem.code != ProblemCode::DefaultMaxScale)
            .filter(|problem| old.is_none_or(|old| !old.problems.contains(problem)))
            .map(ToString::to_string)
            .collect();
        if !fresh.is_empty() {
            let note = fresh.join("; ");
            let notice = Notice { at: now, reason: NoticeReason::InvalidAnnotation, note };
            self.actions.push_back(Action::Announce { target: target.clone(), notice });
        }
    }
}

/// The write that a decision asks for, if one is due.
fn write_of(now: Timestamp, workload: &mut Workload, decision: &Decision) -> Option<Action> {
    let replicas = decision.bounded;
    if decision.gate.is_some() || replicas == workload.replicas || !workload.may_ask(now, replicas)
    {
        return None;
    }
    workload.remember_own(replicas);
    workload.pending = Some(Box::new(PendingWrite {
        replicas,
        from: workload.replicas,
        asked_at: now,
        note: numbers_of(decision),
    }));
    Some(Action::Write {
        target: workload.target.clone(),
        replicas,
        from: workload.replicas,
        resource_version: workload.resource_version.clone(),
        reason: decision.reason,
    })
}

/// The numbers behind a decision, for its Kubernetes Event.
fn numbers_of(decision: &Decision) -> String {
    let observation = &decision.observation;
    match (observation.stable, observation.panic) {
        (Some(stable), Some(panic)) => format!(
            "{}: {} stable {stable:.3} ({} s), panic {panic:.3} ({} s), target {} per pod, {} ready",
            decision.reason.as_str(),
            decision.metric.as_str(),
            observation.stable_window.as_secs(),
            observation.panic_window.as_secs(),
            decision.target,
            decision.ready
        ),
        _ => format!("{}: no data, {} ready", decision.reason.as_str(), decision.ready),
    }
}

fn scaled(now: Timestamp, from: i32, to: i32, numbers: &str) -> Notice {
    let reason = match to {
        _ if to > from => NoticeReason::ScaledUp,
        0 => NoticeReason::ScaledToZero,
        _ => NoticeReason::ScaledDown,
    };
    Notice { at: now, reason, note: format!("{from} → {to} replicas, {numbers}") }
}

/// What changed since the last notice that a user wants to hear of.
fn transitions(
    now: Timestamp,
    workload: &mut Workload,
    before: Option<&Decision>,
    after: &Decision,
) -> Vec<Notice> {
    let panic = panic_transition(now, workload, before, after);
    let signals =
        workload.measures_mut().zip(after.observations()).filter_map(|(measure, (name, seen))| {
            signal_transition(now, measure, name, seen, after.semantics)
        });
    let mut notices: Vec<Notice> = panic.into_iter().chain(signals).collect();
    let peace = workload.forget_reverts(now);
    notices.extend(peace.map(|(reason, note)| Notice { at: now, reason, note }));
    notices
}

/// Panic that begins with a start or with somebody else's write is a hold that nobody has to hear of.
fn panic_transition(
    now: Timestamp,
    workload: &mut Workload,
    before: Option<&Decision>,
    after: &Decision,
) -> Option<Notice> {
    let (reason, note) = match (workload.panic_told, after.any_panic()) {
        (false, Some(_)) if workload.is_panicking_for_load() => {
            (NoticeReason::PanicEntered, numbers_of(after))
        }
        (true, None) => {
            let high_water =
                before.and_then(Decision::any_panic).map_or(0, |panic| panic.high_water);
            let note = format!("high-water mark was {high_water}; {}", numbers_of(after));
            (NoticeReason::PanicLeft, note)
        }
        _ => return None,
    };
    workload.panic_told = reason == NoticeReason::PanicEntered;
    Some(Notice { at: now, reason, note })
}

fn signal_transition(
    now: Timestamp,
    measure: &mut Measure,
    name: Option<&MeasureName>,
    observation: &Observation,
    semantics: Semantics,
) -> Option<Notice> {
    use SignalState::{Fresh, Lost, Partial, Starting};
    let is = observation.signal;
    if is == Starting || is == measure.signal_told {
        return None;
    }
    measure.signal_told = is;
    let source = observation.source.as_deref().unwrap_or("no source");
    let source = name.map_or_else(|| source.to_owned(), |name| format!("{name} by {source}"));
    let fault = observation.fault.map_or(String::new(), |fault| format!(" ({})", fault.as_str()));
    let (reason, note) = match is {
        Partial => {
            let what = match observation.missing {
                // All answer now, but not all of what the window holds is known.
                0 => "not everything answered a moment ago".to_owned(),
                1 => "1 endpoint does not answer".to_owned(),
                many => format!("{many} endpoints do not answer"),
            };
            (NoticeReason::SignalPartial, format!("{source}: {what}{fault}"))
        }
        Lost => (
            NoticeReason::SignalLost,
            format!(
                "{source}: nothing heard for {} s{fault}; {}",
                observation.age.as_secs(),
                match semantics {
                    Semantics::Default => "replicas stay",
                    Semantics::Knative => "Knative goes by what is left of the window",
                }
            ),
        ),
        Starting | Fresh => {
            (NoticeReason::SignalBack, format!("{source}: every endpoint answers again"))
        }
    };
    Some(Notice { at: now, reason, note })
}

/// The announcement of a hold for lack of knowledge that has lasted for five minutes, once.
fn long_hold(now: Timestamp, workload: &mut Workload, decision: &Decision) -> Option<Notice> {
    let holds = matches!(
        decision.reason,
        Reason::SignalLost | Reason::SignalPartial | Reason::NotEnoughData
    ) && decision.bounded > 0;
    if !holds {
        workload.held_since = None;
        workload.hold_announced = false;
        return None;
    }
    let since = *workload.held_since.get_or_insert(now);
    if workload.hold_announced || later(since, LONG_HOLD) > now {
        return None;
    }
    workload.hold_announced = true;
    Some(Notice {
        at: now,
        reason: NoticeReason::HoldLong,
        note: format!(
            "{} replicas have been held for {} minutes for lack of data ({})",
            decision.bounded,
            LONG_HOLD.as_secs() / 60,
            decision.reason.as_str()
        ),
    })
}
