//! The triggers of ScaledObjects that ask podswell: each has a decider of its own, beside the one of the
//! workload's annotations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::facts::ObjectKey;
use super::index::Resolution;
use crate::core::resolve::{Inputs, Resolved};
use crate::core::target::TargetId;
use crate::core::trigger::{TriggerMetadata, TriggerRefusal};

/// The most triggers of one ScaledObject.
const MOST_OF_OBJECT: usize = 16;

/// The most triggers of all.
const MOST: usize = 16_384;

/// One trigger.
#[derive(Debug)]
struct Trigger {
    object: ObjectKey,
    metadata: TriggerMetadata,
    /// Whether somebody asked by it, and nobody has said since that he stopped.
    asked: bool,
    /// Whether its ScaledObject has it.
    listed: bool,
    resolution: Option<Resolution>,
}

impl Trigger {
    fn resolve(
        &mut self,
        inputs: Option<&Inputs<'_>>,
        finish: impl Fn(Option<Resolution>, Resolved) -> Resolution,
    ) {
        let resolved = inputs.and_then(|inputs| self.metadata.resolve(inputs));
        let old = self.resolution.take();
        self.resolution = resolved.map(|resolved| finish(old, resolved));
    }
}

/// All triggers, by the target that decides for each.
#[derive(Debug, Default)]
pub(super) struct Triggers {
    all: BTreeMap<TargetId, Trigger>,
    of_workload: BTreeMap<TargetId, BTreeSet<TargetId>>,
    of_object: BTreeMap<ObjectKey, BTreeSet<TargetId>>,
}

impl Triggers {
    /// The target of a trigger, made if there is none.
    pub(super) fn enrol(
        &mut self,
        workload: &TargetId,
        object: &ObjectKey,
        metadata: &TriggerMetadata,
    ) -> Result<TargetId, TriggerRefusal> {
        let known = self.of_object.get(object);
        let mut same = known.into_iter().flatten().filter(|target| {
            target.workload() == *workload
                && self.all.get(*target).is_some_and(|trigger| trigger.metadata == *metadata)
        });
        if let Some(target) = same.next().cloned() {
            if let Some(trigger) = self.all.get_mut(&target) {
                trigger.asked = true;
            }
            return Ok(target);
        }
        if known.is_some_and(|known| known.len() >= MOST_OF_OBJECT) {
            return Err(TriggerRefusal::TooMany { bound: MOST_OF_OBJECT, of: "of a ScaledObject" });
        }
        if self.all.len() >= MOST {
            return Err(TriggerRefusal::TooMany { bound: MOST, of: "in all" });
        }
        let target = self.free_name(workload, object, metadata);
        let (object, metadata) = (object.clone(), metadata.clone());
        self.of_workload.entry(workload.clone()).or_default().insert(target.clone());
        self.of_object.entry(object.clone()).or_default().insert(target.clone());
        let trigger = Trigger { object, metadata, asked: true, listed: false, resolution: None };
        self.all.insert(target.clone(), trigger);
        Ok(target)
    }

    /// Takes over the triggers that a ScaledObject has: new ones get their decider before KEDA asks, and a
    /// changed one keeps the windows of the one that it replaces. Returns the targets that changed.
    pub(super) fn list(
        &mut self,
        object: &ObjectKey,
        wanted: &[(TargetId, TriggerMetadata)],
    ) -> Vec<TargetId> {
        let mut orphans: Vec<TargetId> = Vec::new();
        for target in self.of_object.get(object).into_iter().flatten() {
            let Some(trigger) = self.all.get_mut(target) else { continue };
            let workload = target.workload();
            let is_wanted = wanted
                .iter()
                .any(|(of, metadata)| *of == workload && *metadata == trigger.metadata);
            if trigger.listed && !is_wanted {
                orphans.push(target.clone());
            }
            trigger.listed = is_wanted;
        }
        let mut changed = Vec::new();
        for (workload, metadata) in wanted {
            if self.has(object, workload, metadata) {
                continue;
            }
            let heir = orphans.iter().position(|target| target.workload() == *workload);
            let target = match heir.map(|at| orphans.swap_remove(at)) {
                Some(target) => Some(target),
                None => self.enrol(workload, object, metadata).ok(),
            };
            let Some(target) = target else { continue };
            if let Some(trigger) = self.all.get_mut(&target) {
                trigger.metadata = metadata.clone();
                trigger.listed = true;
                trigger.asked = false;
            }
            changed.push(target);
        }
        for target in orphans {
            if self.all.get(&target).is_some_and(|trigger| !trigger.asked) {
                self.remove(&target);
                changed.push(target);
            }
        }
        changed
    }

    fn has(&self, object: &ObjectKey, workload: &TargetId, metadata: &TriggerMetadata) -> bool {
        self.of_object.get(object).into_iter().flatten().any(|target| {
            target.workload() == *workload
                && self.all.get(target).is_some_and(|trigger| trigger.metadata == *metadata)
        })
    }

    /// Nobody asks by a trigger any more: it goes unless its ScaledObject still has it. Returns whether it
    /// went.
    pub(super) fn release(&mut self, target: &TargetId) -> bool {
        let Some(trigger) = self.all.get_mut(target) else { return false };
        trigger.asked = false;
        !trigger.listed && self.remove(target)
    }

    fn remove(&mut self, target: &TargetId) -> bool {
        let Some(trigger) = self.all.remove(target) else { return false };
        remove_of(&mut self.of_workload, &target.workload(), target);
        remove_of(&mut self.of_object, &trigger.object, target);
        true
    }

    /// The triggers of a workload, in order.
    pub(super) fn of(&self, workload: &TargetId) -> Vec<TargetId> {
        self.of_workload.get(workload).into_iter().flatten().cloned().collect()
    }

    /// What a trigger was resolved to.
    pub(super) fn resolution(&self, target: &TargetId) -> Option<&Resolution> {
        self.all.get(target)?.resolution.as_ref()
    }

    /// Resolves all triggers of a workload; without inputs none of them is looked at.
    pub(super) fn resolve(
        &mut self,
        workload: &TargetId,
        inputs: Option<&Inputs<'_>>,
        finish: impl Fn(Option<Resolution>, Resolved) -> Resolution,
    ) {
        for target in self.of_workload.get(workload).into_iter().flatten() {
            if let Some(trigger) = self.all.get_mut(target) {
                trigger.resolve(inputs, &finish);
            }
        }
    }

    /// Resolves one of them.
    pub(super) fn resolve_one(
        &mut self,
        target: &TargetId,
        inputs: Option<&Inputs<'_>>,
        finish: impl Fn(Option<Resolution>, Resolved) -> Resolution,
    ) {
        if let Some(trigger) = self.all.get_mut(target) {
            trigger.resolve(inputs, finish);
        }
    }

    /// The ScaledObject's name and a mark of the metadata, so that every process finds the same name.
    fn free_name(
        &self,
        workload: &TargetId,
        object: &ObjectKey,
        metadata: &TriggerMetadata,
    ) -> TargetId {
        let mut mark = mark_of(metadata);
        loop {
            let target = workload.of_trigger(&format!("{}.{mark:08x}", object.name));
            if !self.all.contains_key(&target) {
                return target;
            }
            mark = mark.wrapping_add(1);
        }
    }
}

fn remove_of<K: Ord>(all: &mut BTreeMap<K, BTreeSet<TargetId>>, key: &K, target: &TargetId) {
    if let Some(of_key) = all.get_mut(key) {
        of_key.remove(target);
        if of_key.is_empty() {
            all.remove(key);
        }
    }
}

/// FNV-1a over the metadata.
fn mark_of(metadata: &TriggerMetadata) -> u32 {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(text, "{metadata:?}");
    text.bytes().fold(0x811c_9dc5, |mark, byte| (mark ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
