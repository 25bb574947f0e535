//! What the targets looked like lately: one ring for all of them, bounded however many there are.
//!
//! The page draws its charts from it. It is a convenience of one process: nothing is decided by it, and it
//! begins anew with the process.

use std::collections::VecDeque;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::core::decision::{Decision, Reason, SignalState};
use crate::core::target::TargetId;

/// The most moments that are kept over all targets, about 6 MB.
pub const CAPACITY: usize = 32_768;

/// A target whose numbers do not change is kept once in so many seconds.
const UNCHANGED_EVERY_S: i64 = 10;

/// One target at one decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// Whose decision it was.
    pub target: TargetId,
    /// When.
    pub at: Timestamp,
    /// Mean over the stable window; `None` while nothing is known.
    pub stable: Option<f64>,
    /// Mean over the panic window; `None` while nothing is known.
    pub panic: Option<f64>,
    /// The load that one pod should carry, > 0.
    pub target_value: f64,
    /// Ready pods, ≥ 0.
    pub ready: i32,
    /// `spec.replicas`, ≥ 0.
    pub replicas: i32,
    /// What the target should have, after bounds and zero rules.
    pub desired: i32,
    /// Whether panic mode was on.
    pub panicking: bool,
    /// How much was known.
    pub signal: SignalState,
    /// Why `desired` is what it is.
    pub reason: Reason,
    /// Why it was not written although it may differ.
    pub gate: Option<Reason>,
}

impl Moment {
    fn of(target: &TargetId, decision: &Decision) -> Self {
        let seen = &decision.observation;
        Self {
            target: target.clone(),
            at: decision.at,
            stable: seen.stable,
            panic: seen.panic,
            target_value: decision.target,
            ready: decision.ready,
            replicas: decision.replicas,
            desired: decision.bounded,
            panicking: decision.panic_mode.is_some(),
            signal: seen.signal,
            reason: decision.reason,
            gate: decision.gate,
        }
    }
}

/// The ring. One writer (the engine's task), few readers.
#[derive(Debug, Default)]
pub struct History {
    ring: Mutex<VecDeque<Moment>>,
}

impl History {
    /// Keeps a decision, unless it says what `before`, the target's decision before it, said and another
    /// such moment is due soon.
    pub fn record(&self, target: &TargetId, before: Option<&Decision>, decision: &Decision) {
        let moment = Moment::of(target, decision);
        if before.is_some_and(|before| !is_worth_keeping(&Moment::of(target, before), &moment)) {
            return;
        }
        let mut ring = self.ring.lock();
        if ring.len() == CAPACITY {
            ring.pop_front();
        }
        ring.push_back(moment);
    }

    /// The moments of one target after `after`, oldest first.
    pub fn of(&self, target: &TargetId, after: Option<Timestamp>) -> Vec<Moment> {
        let ring = self.ring.lock();
        let newer = |moment: &&Moment| after.is_none_or(|after| moment.at > after);
        ring.iter().filter(|moment| moment.target == *target).filter(newer).cloned().collect()
    }
}

fn is_worth_keeping(before: &Moment, now: &Moment) -> bool {
    let same = Moment { at: before.at, ..now.clone() } == *before;
    !same || now.at.as_second() / UNCHANGED_EVERY_S != before.at.as_second() / UNCHANGED_EVERY_S
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(second: i64, bounded: i32) -> Decision {
        let at = Timestamp::from_second(second).unwrap();
        Decision { at, bounded, target: 1.0, ..Decision::default() }
    }

    fn play(history: &History, target: &TargetId, decisions: &[Decision]) {
        let mut before = None;
        for decision in decisions {
            history.record(target, before, decision);
            before = Some(decision);
        }
    }

    #[test]
    fn changes_are_kept_and_calm_is_thinned() {
        let (history, target) = (History::default(), TargetId::deployment("a", "web"));
        let calm: Vec<_> = (0..60).step_by(2).map(|second| decision(second, 3)).collect();
        play(&history, &target, &calm);
        let kept = history.of(&target, None);
        assert_eq!(kept.len(), 6, "{kept:?}");
        history.record(&target, calm.last(), &decision(60, 4));
        history.record(&target, Some(&decision(60, 4)), &decision(62, 5));
        let since = history.of(&target, kept.last().map(|moment| moment.at));
        assert_eq!(since.iter().map(|moment| moment.desired).collect::<Vec<_>>(), [4, 5]);
    }

    #[test]
    fn targets_do_not_see_each_other() {
        let history = History::default();
        let (one, other) = (TargetId::deployment("a", "web"), TargetId::deployment("b", "web"));
        play(&history, &one, &[decision(0, 1), decision(2, 2)]);
        play(&history, &other, &[decision(0, 9)]);
        assert_eq!(history.of(&one, None).len(), 2);
        assert_eq!(history.of(&other, None).len(), 1);
        assert!(history.of(&TargetId::deployment("c", "web"), None).is_empty());
    }

    #[test]
    fn the_oldest_moments_make_room() {
        let (history, target) = (History::default(), TargetId::deployment("a", "web"));
        for second in 0..=CAPACITY {
            let second = i64::try_from(second).unwrap();
            history.record(&target, None, &decision(second, 1));
        }
        let kept = history.of(&target, None);
        assert_eq!(kept.len(), CAPACITY);
        assert_eq!(kept.first().unwrap().at, Timestamp::from_second(1).unwrap());
    }
}
