//! The task that owns the engine: events in, decisions out. Nobody else touches the engine, so nothing
//! about a decision needs a lock.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::health::Health;
use super::metrics::Metrics;
use super::recorder::Recorder;
use super::snapshot::PERIOD;
use super::status_board::StatusBoard;
use crate::core::decider::panic::later;
use crate::core::decision::{Decision, TargetStatus};
use crate::core::engine::{Engine, Published};
use crate::core::event::{Action, Event, Notice, NoticeReason};
use crate::core::snapshot::{Restoration, Snapshot};
use crate::core::target::TargetId;

/// How many events are taken from the queue at once; decisions that are due come between two batches.
const BATCH: usize = 1024;

/// The longest sleep, so that the loop's heart beats while nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What becomes of the engine's actions. Called from the engine's task: must not block.
pub trait Outlet: Send + 'static {
    /// Hands over [`Action::Write`].
    fn write(&mut self, write: Action);
    /// Hands over a transition that the user should hear of.
    fn announce(&mut self, target: TargetId, notice: Notice);
}

/// The engine with everything that it talks to.
pub struct EngineTask<O> {
    engine: Engine,
    events: mpsc::Receiver<Event>,
    outlet: O,
    board: Arc<StatusBoard>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    clock: Arc<dyn Clock>,
    snapshots: Option<Snapshots>,
    recorder: Option<Recorder>,
}

/// Where snapshots go, and when the next one is due.
struct Snapshots {
    sender: mpsc::Sender<Snapshot>,
    due: Timestamp,
}

/// What the engine's task shares with the rest of the process.
#[derive(Clone)]
pub struct Shared {
    /// Where statuses are put up.
    pub board: Arc<StatusBoard>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The heart's beat.
    pub health: Arc<Health>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl<O: Outlet> EngineTask<O> {
    /// A task around a new engine, which does not write before [`Event::LeadershipChanged`] says so.
    pub fn new(events: mpsc::Receiver<Event>, outlet: O, shared: Shared) -> Self {
        let Shared { board, metrics, health, clock } = shared;
        let engine = Engine::new();
        let (snapshots, recorder) = (None, None);
        Self { engine, events, outlet, board, metrics, health, clock, snapshots, recorder }
    }

    /// Writes down from now on what the engine is told and decides.
    #[must_use]
    pub fn recording(mut self, recorder: Option<Recorder>) -> Self {
        self.recorder = recorder;
        self
    }

    /// Hands out what the windows hold every ten seconds, as far as `sender` takes it, and at the end.
    #[must_use]
    pub fn with_snapshots(mut self, sender: mpsc::Sender<Snapshot>) -> Self {
        let due = later(self.clock.now(), PERIOD);
        self.snapshots = Some(Snapshots { sender, due });
        self
    }

    /// Runs until `stop`, or until nobody can send an event any more.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let pause = self.pause();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                received = self.events.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        break;
                    }
                }
                () = tokio::time::sleep(pause) => {}
            }
            self.turn(&mut batch);
        }
        if let Some(snapshots) = self.snapshots.take() {
            // Nobody who takes it is nobody who would miss it.
            let _ = snapshots.sender.send(self.engine.snapshot(self.clock.now())).await;
        }
    }

    /// How long nothing is due.
    fn pause(&self) -> Duration {
        let Some(due) = self.engine.poll_timeout() else { return HEARTBEAT };
        let left = due.duration_since(self.clock.now());
        Duration::try_from(left).unwrap_or(Duration::ZERO).min(HEARTBEAT)
    }

    /// Takes in what arrived, decides what is due, hands on what follows.
    fn turn(&mut self, batch: &mut Vec<Event>) {
        let now = self.clock.now();
        self.health.beat(now);
        for event in batch.drain(..) {
            self.metrics.arrived(&event);
            if let Event::LeadershipChanged { leader } = event {
                self.health.set_leader(leader);
                tracing::info!(leader, "leadership changed");
            }
            if let Some(recorder) = &mut self.recorder {
                recorder.event(now, &event);
            }
            self.engine.handle(now, event);
        }
        if self.engine.poll_timeout().is_some_and(|due| due <= now) {
            if let Some(recorder) = &mut self.recorder {
                recorder.due(now);
            }
            self.engine.handle_timeout(now);
            self.metrics.ticked(since(now, self.clock.now()));
        }
        self.metrics.set_unknown_samples(self.engine.counters().unknown_samples);
        self.publish();
        self.act();
        self.hand_out_snapshot(now);
    }

    /// Hands out a snapshot that is due, and tells what became of the one that was taken over.
    fn hand_out_snapshot(&mut self, now: Timestamp) {
        if let Some(restoration) = self.engine.poll_restoration(now) {
            self.metrics.restored(&restoration);
            let Restoration { restored, old, changed, gone } = restoration;
            tracing::info!(restored, old, changed, gone, "windows of the snapshot taken over");
        }
        let Some(snapshots) = self.snapshots.as_mut().filter(|snapshots| snapshots.due <= now)
        else {
            return;
        };
        snapshots.due = later(now, PERIOD);
        // The last one may still be on its way to the disk: then this one is left out.
        if let Ok(place) = snapshots.sender.try_reserve() {
            place.send(self.engine.snapshot(now));
        }
    }

    fn publish(&mut self) {
        while let Some(published) = self.engine.poll_published() {
            match published {
                Published::Status(status) => {
                    self.count(&status);
                    self.board.publish(status);
                }
                Published::Gone(target) => self.board.remove(&target),
            }
        }
    }

    /// Counts the status's decision unless the board shows it already.
    fn count(&mut self, status: &TargetStatus) {
        let Some(decision) = &status.decision else { return };
        let old = self.board.get(&status.target);
        let shown = old.as_ref().and_then(|old| old.decision.as_ref());
        if shown.is_some_and(|shown| Arc::ptr_eq(shown, decision)) {
            return;
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.decided(status);
        }
        self.metrics.decided(decision.gate.unwrap_or(decision.reason));
        self.check(&status.target, decision);
        log_decision(&status.target, decision);
    }

    /// What must hold of every decision, whatever came in. A violation is a bug: it is counted, said
    /// once for each decision, and what follows from it is not written.
    fn check(&self, target: &TargetId, decision: &Decision) {
        let seen = &decision.observation;
        let averages = [seen.stable, seen.stable_high, seen.panic];
        for (site, broken) in [
            ("decision-negative", decision.bounded < 0),
            ("average-not-finite", averages.iter().flatten().any(|mean| !mean.is_finite())),
        ] {
            if broken {
                self.metrics.violated(site);
                tracing::error!(
                    target.namespace = &*target.namespace,
                    target.name = &*target.name,
                    site,
                    "invariant violated, please report"
                );
            }
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Write { replicas, .. } if replicas < 0 => {
                    self.metrics.violated("write-negative");
                }
                Action::Write { .. } => self.outlet.write(action),
                Action::Announce { target, notice } => {
                    let status = self.board.get(&target);
                    log_notice(
                        &target,
                        &notice,
                        status.as_ref().and_then(|s| s.decision.as_deref()),
                    );
                    self.outlet.announce(target, notice);
                }
            }
        }
    }
}

fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or(Duration::ZERO)
}

fn log_decision(target: &TargetId, decision: &Decision) {
    tracing::debug!(
        target.namespace = &*target.namespace,
        target.name = &*target.name,
        replicas = decision.replicas,
        desired = decision.bounded,
        ready = decision.ready,
        stable = decision.observation.stable,
        panic = decision.observation.panic,
        signal = decision.observation.signal.as_str(),
        reason = decision.reason.as_str(),
        gate = decision.gate.map(crate::core::decision::Reason::as_str),
        "decided"
    );
}

fn log_notice(target: &TargetId, notice: &Notice, decision: Option<&Decision>) {
    let (namespace, name) = (&*target.namespace, &*target.name);
    let (notice_reason, note) = (notice.reason.as_str(), notice.note.as_str());
    let reason = decision.map(|decision| decision.reason.as_str());
    let desired = decision.map(|decision| decision.bounded);
    let ready = decision.map(|decision| decision.ready);
    let stable = decision.and_then(|decision| decision.observation.stable);
    let panic = decision.and_then(|decision| decision.observation.panic);
    // The level is part of a record's static description, hence two of them.
    if notice.reason.is_warning() {
        tracing::warn!(
            target.namespace = namespace,
            target.name = name,
            notice = notice_reason,
            desired,
            ready,
            stable,
            panic,
            reason,
            note,
            "{}",
            phrase(notice.reason)
        );
    } else {
        tracing::info!(
            target.namespace = namespace,
            target.name = name,
            notice = notice_reason,
            desired,
            ready,
            stable,
            panic,
            reason,
            note,
            "{}",
            phrase(notice.reason)
        );
    }
}

/// The constant message of a transition's log record.
fn phrase(reason: NoticeReason) -> &'static str {
    match reason {
        NoticeReason::ScaledUp => "scaled up",
        NoticeReason::ScaledDown => "scaled down",
        NoticeReason::ScaledToZero => "scaled to zero",
        NoticeReason::PanicEntered => "panic entered",
        NoticeReason::PanicLeft => "panic left",
        NoticeReason::InvalidAnnotation => "configuration has a problem",
        NoticeReason::SignalPartial => "signal partial",
        NoticeReason::SignalLost => "signal lost",
        NoticeReason::SignalBack => "signal back",
        NoticeReason::RivalFound => "rival found",
        NoticeReason::Followed => "followed",
        NoticeReason::RivalGone => "rival gone",
        NoticeReason::WriteFailed => "write failed",
        NoticeReason::HoldLong => "replicas held for long",
    }
}

#[cfg(test)]
mod tests;
