//! Who else scales the same target, and what that means for our own writes.
//!
//! Autoscalers are objects that can be seen: beside one of them nothing is written. Other writers show
//! only by what they do. [`Writers`] counts, for each field manager, how often it took back what we had
//! written. One that does so three times in a day is not fought: nothing is lowered any more, so that
//! its number is never undercut, and raising goes on with growing pauses, so that load is still served
//! if it lets go. It is forgotten after a day without a revert.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Timestamp;
use super::decider::panic::later;
use super::decision::Reason;
use super::event::{NoticeReason, Rival};
use super::target::TargetId;

/// How many reverts by one manager within [`MEMORY`] make it a rival.
pub const REVERTS: usize = 3;
/// For how long reverts count, and how long after the last one a manager is a rival.
pub const MEMORY: Duration = Duration::from_secs(24 * 3600);
/// How long raising waits after the revert that made a manager a rival; each further one doubles it.
pub const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest wait between two raises.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// How many managers are remembered for one target.
const MOST_MANAGERS: usize = 8;

/// Why nothing is written beside these autoscalers: a true rival weighs more than one that follows us.
pub(crate) fn gate_of(rivals: &[Rival]) -> Option<Reason> {
    let follows = rivals.iter().all(|rival| rival.follows);
    rivals.first().map(|_| if follows { Reason::Followed } else { Reason::Rival })
}

/// What a user hears when the autoscalers beside us changed to these.
pub(crate) fn notice_of(rivals: &[Rival]) -> (NoticeReason, String) {
    let named = |follows| {
        let names = rivals.iter().filter(|rival| rival.follows == follows);
        names.map(|rival| format!("{} {}", rival.kind, rival.name)).collect::<Vec<_>>().join(", ")
    };
    match gate_of(rivals) {
        None => (NoticeReason::RivalGone, "no other autoscaler is left: writing again".to_owned()),
        Some(Reason::Followed) => {
            let note = format!("{} writes what podswell answers: not writing", named(true));
            (NoticeReason::Followed, note)
        }
        Some(_) => {
            let note = format!("{} also scales this Deployment: not writing", named(false));
            (NoticeReason::RivalFound, note)
        }
    }
}

/// A field manager that takes our writes back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Contest {
    /// Its name in `metadata.managedFields`.
    pub manager: Arc<str>,
    /// How often it took our writes back since it is known.
    pub reverts: u32,
    /// When it did so last.
    pub last: Timestamp,
    /// How long raising waits after a revert.
    pub pause: Duration,
    /// When the next raise may be written.
    pub raise_at: Timestamp,
}

impl Contest {
    /// When it is forgotten if it does nothing more.
    pub fn over_at(&self) -> Timestamp {
        later(self.last, MEMORY)
    }

    /// What helps, as a lower-case sentence fragment.
    pub fn hint(&self, target: &TargetId) -> String {
        match gitops_tool(&self.manager) {
            Some(tool) => format!(
                "podswell gitops --for {tool} deploy/{} -n {} prints how it leaves replicas alone",
                target.name, target.namespace
            ),
            None => "make it leave spec.replicas alone".to_owned(),
        }
    }
}

/// Which recipe of `podswell gitops` concerns a field manager, if one does.
pub fn gitops_tool(manager: &str) -> Option<&'static str> {
    let manager = manager.to_ascii_lowercase();
    let has = |part: &str| manager.contains(part);
    if has("argocd") || has("argo-cd") {
        Some("argocd")
    } else if manager == "helm" || has("helm-controller") || has("helm-operator") {
        Some("helm")
    } else if has("kustomize-controller") || has("flux") || has("gotk") {
        Some("flux")
    } else {
        None
    }
}

/// What one manager did.
#[derive(Clone, Debug)]
struct Reverts {
    count: u32,
    newest: [Option<Timestamp>; REVERTS],
}

/// Who took our writes back, and since when that is a contest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writers {
    managers: BTreeMap<Arc<str>, Reverts>,
    contest: Option<Contest>,
}

impl Writers {
    /// Notes at `now` that `manager` took our write back. Returns whether that begins a contest with it.
    pub(crate) fn reverted(&mut self, now: Timestamp, manager: &Arc<str>) -> bool {
        self.make_room(manager);
        let reverts = self
            .managers
            .entry(manager.clone())
            .or_insert_with(|| Reverts { count: 0, newest: [None; REVERTS] });
        reverts.count = reverts.count.saturating_add(1);
        reverts.newest.rotate_right(1);
        let [newest, .., oldest] = &mut reverts.newest;
        *newest = Some(now);
        if oldest.is_none_or(|oldest| later(oldest, MEMORY) < now) {
            return false;
        }
        let (count, old) = (reverts.count, self.contest.take());
        let pause = old.as_ref().map_or(FIRST_PAUSE, |old| (old.pause * 2).min(LONGEST_PAUSE));
        let begins = old.is_none_or(|old| old.manager != *manager);
        self.contest = Some(Contest {
            manager: manager.clone(),
            reverts: count,
            last: now,
            pause,
            raise_at: later(now, pause),
        });
        begins
    }

    /// Forgets the manager that was quiet for longest where there are too many.
    fn make_room(&mut self, manager: &Arc<str>) {
        if self.managers.len() < MOST_MANAGERS || self.managers.contains_key(manager) {
            return;
        }
        let newest = |reverts: &Reverts| reverts.newest.first().copied().flatten();
        let quietest = self.managers.iter().min_by_key(|(_, reverts)| newest(reverts));
        if let Some(name) = quietest.map(|(name, _)| name.clone()) {
            self.managers.remove(&name);
        }
    }

    /// Forgets at `now` what is too long ago. Returns the manager whose contest that ends.
    pub(crate) fn forget(&mut self, now: Timestamp) -> Option<Arc<str>> {
        self.managers.retain(|_, reverts| {
            reverts.newest.iter().flatten().next().is_some_and(|at| later(*at, MEMORY) >= now)
        });
        self.contest.take_if(|contest| contest.over_at() < now).map(|contest| contest.manager)
    }

    /// Whether a change from `current` to `wanted` replicas must not be written at `now`.
    pub(crate) fn forbid(&self, now: Timestamp, current: i32, wanted: i32) -> bool {
        self.contest
            .as_ref()
            .is_some_and(|contest| wanted < current || (wanted > current && now < contest.raise_at))
    }

    /// The contest that goes on, if one does.
    pub(crate) fn contest(&self) -> Option<&Contest> {
        self.contest.as_ref()
    }

    /// Whether nothing is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.managers.is_empty() && self.contest.is_none()
    }
}

#[cfg(test)]
mod tests;
