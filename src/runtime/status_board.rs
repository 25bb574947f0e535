//! What readers see: the newest status of every target, published by the engine's task.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::history::{History, Moment};
use crate::core::decision::{Decision, Reason, SignalState, TargetStatus};
use crate::core::target::TargetId;

/// One writer (the engine's task), many short readers. Readers take `Arc`s out and let go of the lock,
/// so that a slow reader never holds up the engine.
#[derive(Debug, Default)]
pub struct StatusBoard {
    targets: RwLock<BTreeMap<TargetId, Arc<TargetStatus>>>,
    history: History,
    followers: RwLock<BTreeMap<TargetId, Follower>>,
}

/// What a follower of a target sees: its newest status, `None` while there is none.
pub type Followed = Option<Arc<TargetStatus>>;

type Follower = watch::Sender<Followed>;

impl StatusBoard {
    /// Puts up one status in place of the older one of the same target.
    pub fn publish(&self, status: Arc<TargetStatus>) {
        let (target, decision) = (status.target.clone(), status.decision.clone());
        let before = self.targets.write().insert(target.clone(), status.clone());
        self.show(&target, Some(status));
        let Some(decision) = decision else { return };
        let before = before.as_ref().and_then(|before| before.decision.as_ref());
        if !before.is_some_and(|before| Arc::ptr_eq(before, &decision)) {
            self.history.record(&target, before.map(Arc::as_ref), &decision);
        }
    }

    /// Takes down a target that is gone.
    pub fn remove(&self, target: &TargetId) {
        self.targets.write().remove(target);
        self.show(target, None);
    }

    /// Follows one target from its present status on. The newest status can be read at any time; the
    /// follower is woken by what may change an answer: the configuration, the first and the last replica,
    /// and whether there should be any. So a target whose numbers merely move costs its followers nothing.
    pub fn follow(&self, target: &TargetId) -> watch::Receiver<Followed> {
        let mut followers = self.followers.write();
        let now = || watch::Sender::new(self.get(target));
        followers.entry(target.clone()).or_insert_with(now).subscribe()
    }

    /// Forgets whom nobody follows any more: of a target that is gone nothing is shown that would find out.
    pub fn forget_unfollowed(&self) {
        self.followers.write().retain(|_, follower| follower.receiver_count() > 0);
    }

    /// Tells the followers of a target; without any left nobody is told from now on.
    fn show(&self, target: &TargetId, status: Followed) {
        let followers = self.followers.read();
        let Some(follower) = followers.get(target) else { return };
        follower.send_if_modified(|seen| {
            let news = is_news(seen.as_deref(), status.as_deref());
            *seen = status;
            news
        });
        if follower.receiver_count() > 0 {
            return;
        }
        drop(followers);
        let mut followers = self.followers.write();
        if followers.get(target).is_some_and(|follower| follower.receiver_count() == 0) {
            followers.remove(target);
        }
    }

    /// The newest status of one target.
    pub fn get(&self, target: &TargetId) -> Option<Arc<TargetStatus>> {
        self.targets.read().get(target).cloned()
    }

    /// What the target looked like lately, after `after`, oldest first; see [`History`].
    pub fn history(&self, target: &TargetId, after: Option<Timestamp>) -> Vec<Moment> {
        self.history.of(target, after)
    }

    /// The newest status of every target, ordered by namespace, kind and name.
    pub fn all(&self) -> Vec<Arc<TargetStatus>> {
        self.targets.read().values().cloned().collect()
    }

    /// The newest status of every decider of one workload: its annotations' first, then those of
    /// triggers, by name.
    pub fn of_workload(&self, workload: &TargetId) -> Vec<Arc<TargetStatus>> {
        let first = workload.workload();
        let targets = self.targets.read();
        let all = targets.range(&first..).map(|(_, status)| status);
        all.take_while(|status| status.target.workload() == first).cloned().collect()
    }

    /// How many targets there are.
    pub fn len(&self) -> usize {
        self.targets.read().len()
    }

    /// Whether there is no target.
    pub fn is_empty(&self) -> bool {
        self.targets.read().is_empty()
    }
}

/// Whether the followers of a target have to look.
fn is_news(before: Option<&TargetStatus>, now: Option<&TargetStatus>) -> bool {
    let (Some(before), Some(now)) = (before, now) else { return before.is_some() || now.is_some() };
    let wish = |status: &TargetStatus| status.decision.as_deref().map(wish);
    !Arc::ptr_eq(&before.config, &now.config)
        || (before.replicas == 0) != (now.replicas == 0)
        || wish(before) != wish(now)
}

/// What a decision says about the first replica: whether it is wanted, whether that is known, and whether
/// it is wanted for want of knowledge.
fn wish(decision: &Decision) -> (bool, bool, bool) {
    let heard = |state| matches!(state, SignalState::Fresh | SignalState::Partial);
    let is_heard = decision.observations().any(|(_, seen)| heard(seen.signal));
    (!decision.idle, is_heard, decision.reason == Reason::WakePathLost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::decision::{Observation, SampleCounts};
    use crate::core::target::PodCounts;

    fn status(decision: Option<Decision>) -> TargetStatus {
        TargetStatus {
            target: TargetId::deployment("shop", "web"),
            config: Arc::default(),
            replicas: 2,
            pods: PodCounts::default(),
            rivals: Arc::default(),
            contest: None,
            decision: decision.map(Arc::new),
            last_write: None,
            problems: Vec::new(),
            samples: SampleCounts::default(),
        }
    }

    fn decided(bounded: i32, signal: SignalState, reason: Reason) -> TargetStatus {
        let observation = Observation { signal, ..Observation::default() };
        let idle = bounded == 0;
        status(Some(Decision { observation, bounded, reason, idle, ..Decision::default() }))
    }

    #[test]
    fn nobody_follows_for_ever_what_is_gone() {
        let (board, target) = (StatusBoard::default(), TargetId::deployment("shop", "checkout"));
        let follower = board.follow(&target);
        board.remove(&target);
        board.forget_unfollowed();
        assert_eq!(board.followers.read().len(), 1);
        drop(follower);
        board.forget_unfollowed();
        assert!(board.followers.read().is_empty());
    }

    #[test]
    fn followers_are_woken_by_what_may_change_an_answer() {
        use SignalState::{Fresh, Lost, Partial};
        let steady = || decided(2, Fresh, Reason::Steady);
        for (now, expected) in [
            (steady(), false),
            (decided(7, Fresh, Reason::StableDemand), false),
            (decided(2, Partial, Reason::Steady), false),
            (decided(0, Fresh, Reason::Steady), true),
            (decided(2, Lost, Reason::Steady), true),
            (decided(2, Fresh, Reason::WakePathLost), true),
            (status(None), true),
            (TargetStatus { replicas: 3, ..steady() }, false),
            (TargetStatus { replicas: 0, ..steady() }, true),
        ] {
            let before = steady();
            let now = TargetStatus { config: before.config.clone(), ..now };
            assert_eq!(is_news(Some(&before), Some(&now)), expected, "{now:?}");
        }
        let configured = TargetStatus { config: Arc::default(), ..steady() };
        assert!(is_news(Some(&steady()), Some(&configured)), "another configuration");
        assert!(is_news(None, Some(&steady())));
        assert!(is_news(Some(&steady()), None));
        assert!(!is_news(None, None));
    }

    #[test]
    fn a_follower_that_sleeps_on_reads_the_newest_status_all_the_same() {
        let board = StatusBoard::default();
        let first = decided(2, SignalState::Fresh, Reason::Steady);
        let (target, config) = (first.target.clone(), first.config.clone());
        let mut follower = board.follow(&target);
        board.publish(Arc::new(first));
        assert!(follower.has_changed().unwrap());
        follower.mark_unchanged();
        let second = decided(5, SignalState::Fresh, Reason::Steady);
        board.publish(Arc::new(TargetStatus { config, ..second }));
        assert!(!follower.has_changed().unwrap());
        let newest = follower.borrow().clone().unwrap();
        assert_eq!(newest.decision.as_ref().unwrap().bounded, 5);
        board.remove(&target);
        assert!(follower.has_changed().unwrap());
    }
}
