//! What readers see: the newest status of every target, published by the engine's task.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::history::{History, Moment};
use crate::core::decision::TargetStatus;
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

    /// Follows one target from its present status on. Who is slow misses statuses, never the newest.
    pub fn follow(&self, target: &TargetId) -> watch::Receiver<Followed> {
        let mut followers = self.followers.write();
        let now = || watch::Sender::new(self.get(target));
        followers.entry(target.clone()).or_insert_with(now).subscribe()
    }

    /// Tells the followers of a target; without any left nobody is told from now on.
    fn show(&self, target: &TargetId, status: Followed) {
        let followers = self.followers.read();
        let Some(follower) = followers.get(target) else { return };
        follower.send_replace(status);
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
