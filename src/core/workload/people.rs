//! What people and their tools do to one target: writes that are taken back, pauses that end, and
//! orders for the time in which nothing is known.

use std::sync::Arc;
use std::time::Duration;

use super::Workload;
use crate::core::Timestamp;
use crate::core::decider::knative::push_stage;
use crate::core::decision::{Stage, StageRecord};
use crate::core::effective;
use crate::core::event::NoticeReason;
use crate::core::rule::Rule;
use crate::core::spec::Semantics;

impl Workload {
    /// Somebody else wrote `replicas`. If our own write stood until then, that takes it back; returns
    /// what a user hears when a manager does so once too often.
    pub(crate) fn foreign_write(
        &mut self,
        now: Timestamp,
        manager: &Arc<str>,
        replicas: i32,
    ) -> Option<(NoticeReason, String)> {
        self.stored.take().filter(|ours| *ours != replicas)?;
        let writers = self.writers.get_or_insert_default();
        if !writers.reverted(now, manager) {
            return None;
        }
        let contest = writers.contest()?;
        let note = format!(
            "{manager} took the replicas back {} times: not lowering, raising at most every {}; {}",
            contest.reverts,
            effective::duration(contest.pause),
            contest.hint(&self.target)
        );
        Some((NoticeReason::RivalFound, note))
    }

    /// Forgets reverts that are too long ago; what a user hears if that ends a contest.
    pub(crate) fn forget_reverts(&mut self, now: Timestamp) -> Option<(NoticeReason, String)> {
        let writers = self.writers.as_mut()?;
        let manager = writers.forget(now);
        if writers.is_empty() {
            self.writers = None;
        }
        let note =
            |manager| format!("{manager} has left the replicas alone for a day: lowering again");
        manager.map(|manager| (NoticeReason::RivalGone, note(manager)))
    }

    /// Notes whether a pause with an end goes on. What runs when it has ended is where decisions begin.
    pub(super) fn watch_pause(&mut self, now: Timestamp) {
        let paused = self.config.is_paused_at(now);
        if self.paused && !paused {
            self.reseed(now);
        }
        self.paused = paused;
    }

    /// The replicas that are kept without data, or those that the user ordered for this case. Whoever
    /// sets something else after the order was carried out has the last word.
    pub(super) fn ordered(
        &mut self,
        silence: Option<Duration>,
        kept: i32,
        stages: &mut Vec<StageRecord>,
    ) -> Option<i32> {
        self.order_due = None;
        let Some(silence) = silence else {
            self.order_done = false;
            return None;
        };
        let order = self.config.on_missing.filter(|order| silence >= order.after)?;
        let wanted = if self.order_done { self.replicas } else { order.replicas(kept) };
        push_stage(stages, Stage::Knowledge, kept, wanted, || Rule::OnMissing(order));
        Some(wanted)
    }

    /// Notes what an order came to, and whether it is carried out. Decisions begin from there.
    pub(super) fn note_order(&mut self, now: Timestamp, pods: i32) {
        if self.order_done {
            return;
        }
        if pods != self.replicas {
            self.order_due = Some(pods);
            return;
        }
        self.order_done = true;
        self.order_due = None;
        if self.config.semantics == Semantics::Default {
            self.reseed(now);
        }
    }
}
