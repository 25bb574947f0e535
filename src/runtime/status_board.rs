//! What readers see: the newest status of every target, published by the engine's task.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;

use super::history::{History, Moment};
use crate::core::decision::TargetStatus;
use crate::core::target::TargetId;

/// One writer (the engine's task), many short readers. Readers take `Arc`s out and let go of the lock,
/// so that a slow reader never holds up the engine.
#[derive(Debug, Default)]
pub struct StatusBoard {
    targets: RwLock<BTreeMap<TargetId, Arc<TargetStatus>>>,
    history: History,
}

impl StatusBoard {
    /// Puts up one status in place of the older one of the same target.
    pub fn publish(&self, status: Arc<TargetStatus>) {
        let (target, decision) = (status.target.clone(), status.decision.clone());
        let before = self.targets.write().insert(target.clone(), status);
        let Some(decision) = decision else { return };
        let before = before.as_ref().and_then(|before| before.decision.as_ref());
        if !before.is_some_and(|before| Arc::ptr_eq(before, &decision)) {
            self.history.record(&target, before.map(Arc::as_ref), &decision);
        }
    }

    /// Takes down a target that is gone.
    pub fn remove(&self, target: &TargetId) {
        self.targets.write().remove(target);
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

    /// How many targets there are.
    pub fn len(&self) -> usize {
        self.targets.read().len()
    }

    /// Whether there is no target.
    pub fn is_empty(&self) -> bool {
        self.targets.read().is_empty()
    }
}
