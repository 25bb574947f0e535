//! The pods of one workload: they start, become ready, end and crash.

use std::collections::BTreeMap;

use crate::core::target::PodCounts;

/// What a pod is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// There is no room for it.
    Pending,
    /// On its way to ready.
    Starting,
    /// Takes requests.
    Ready,
    /// Finishes what it has.
    Ending,
}

/// One pod.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pod {
    pub(crate) phase: Phase,
    /// Requests that it works at (requests mode only).
    pub(crate) busy: u32,
}

/// What the world must schedule after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// This pod starts now.
    Starts(u64),
    /// This pod was ready and ends now.
    Ends(u64),
}

/// All pods of one workload; numbers are never used again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pods {
    list: BTreeMap<u64, Pod>,
    next: u64,
    room: Option<u32>,
    /// Pods that were ever started.
    pub(crate) starts: u64,
    ready: i32,
    /// Pods that are to become ready: pending or starting.
    waiting: i32,
    pending: i32,
    ending: i32,
}

impl Pods {
    /// `ready` pods that run already, and room for so many.
    pub(crate) fn new(ready: u16, room: Option<u32>) -> Self {
        let pod = Pod { phase: Phase::Ready, busy: 0 };
        let next = u64::from(ready);
        let list = (0..next).map(|number| (number, pod)).collect();
        Self { list, next, room, ready: i32::from(ready), ..Self::default() }
    }

    pub(crate) fn ready(&self) -> i32 {
        self.ready
    }

    /// Pods that exist, whatever they do, but for those without room.
    pub(crate) fn placed(&self) -> u64 {
        u64::try_from(self.ready + self.waiting - self.pending + self.ending).unwrap_or(0)
    }

    /// Pods that the replicas ask for: all but the ending ones. The HPA's `status.replicas`.
    pub(crate) fn current(&self) -> i32 {
        self.ready + self.waiting
    }

    pub(crate) fn counts(&self) -> PodCounts {
        PodCounts {
            ready: self.ready,
            not_ready: self.waiting + self.ending,
            pending: self.pending,
            terminating: self.ending,
        }
    }

    pub(crate) fn phase(&self, number: u64) -> Option<Phase> {
        self.list.get(&number).map(|pod| pod.phase)
    }

    pub(crate) fn busy(&self, number: u64) -> u32 {
        self.list.get(&number).map_or(0, |pod| pod.busy)
    }

    /// Adds a request to a pod, or takes one away.
    pub(crate) fn occupy(&mut self, number: u64, more: bool) {
        if let Some(pod) = self.list.get_mut(&number) {
            pod.busy = if more { pod.busy + 1 } else { pod.busy.saturating_sub(1) };
        }
    }

    /// Makes as many pods as the replicas say. Pods that are not ready go first, then the youngest.
    pub(crate) fn resize(&mut self, replicas: i32) -> Vec<Change> {
        let mut changes = Vec::new();
        let surplus = usize::try_from(self.current() - replicas).unwrap_or(0);
        let order = |phase| match phase {
            Phase::Pending => 0,
            Phase::Starting => 1,
            Phase::Ready | Phase::Ending => 2,
        };
        if surplus > 0 {
            let mut alive: Vec<(u8, u64)> = self
                .list
                .iter()
                .filter(|(_, pod)| pod.phase != Phase::Ending)
                .map(|(number, pod)| (order(pod.phase), *number))
                .collect();
            alive.sort_unstable_by_key(|&(phase, number)| (phase, std::cmp::Reverse(number)));
            for (phase, number) in alive.into_iter().take(surplus) {
                if phase == 2 {
                    self.ready -= 1;
                    self.ending += 1;
                    if let Some(pod) = self.list.get_mut(&number) {
                        pod.phase = Phase::Ending;
                    }
                    changes.push(Change::Ends(number));
                } else {
                    self.waiting -= 1;
                    self.pending -= i32::from(phase == 0);
                    self.list.remove(&number);
                }
            }
        }
        while self.current() < replicas {
            self.list.insert(self.next, Pod { phase: Phase::Pending, busy: 0 });
            self.next += 1;
            self.waiting += 1;
            self.pending += 1;
        }
        changes.extend(self.place());
        changes
    }

    /// Starts pending pods as far as there is room.
    pub(crate) fn place(&mut self) -> Vec<Change> {
        if self.pending == 0 {
            return Vec::new();
        }
        let mut free =
            self.room.map_or(u64::MAX, |room| u64::from(room).saturating_sub(self.placed()));
        let mut changes = Vec::new();
        for (number, pod) in &mut self.list {
            if free == 0 {
                break;
            }
            if pod.phase == Phase::Pending {
                pod.phase = Phase::Starting;
                self.pending -= 1;
                self.starts += 1;
                free -= 1;
                changes.push(Change::Starts(*number));
            }
        }
        changes
    }

    /// A pod that starts becomes ready; says whether it did.
    pub(crate) fn become_ready(&mut self, number: u64) -> bool {
        match self.list.get_mut(&number) {
            Some(pod) if pod.phase == Phase::Starting => {
                pod.phase = Phase::Ready;
                self.ready += 1;
                self.waiting -= 1;
                true
            }
            _ => false,
        }
    }

    /// An ending pod is gone; gives the requests that it still had.
    pub(crate) fn remove(&mut self, number: u64) -> u32 {
        if self.phase(number) != Some(Phase::Ending) {
            return 0;
        }
        self.ending -= 1;
        self.list.remove(&number).map_or(0, |pod| pod.busy)
    }

    /// The `pods` youngest ready pods fall back to starting; gives them and what they worked at.
    pub(crate) fn crash(&mut self, pods: u32) -> Vec<(u64, u32)> {
        let wanted = usize::try_from(pods).unwrap_or(usize::MAX);
        let crashed: Vec<(u64, u32)> = self
            .list
            .iter_mut()
            .rev()
            .filter(|(_, pod)| pod.phase == Phase::Ready)
            .take(wanted)
            .map(|(number, pod)| {
                pod.phase = Phase::Starting;
                (*number, std::mem::take(&mut pod.busy))
            })
            .collect();
        for _ in &crashed {
            self.ready -= 1;
            self.waiting += 1;
        }
        crashed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_come_and_go_as_a_replica_set_makes_them() {
        let mut pods = Pods::new(2, Some(4));
        assert_eq!(pods.resize(5), [Change::Starts(2), Change::Starts(3)]);
        assert_eq!((pods.ready(), pods.current(), pods.placed()), (2, 5, 4));
        assert!(pods.become_ready(2));
        assert!(!pods.become_ready(4), "no room");
        // Pending, then starting, then the youngest ready one.
        assert_eq!(pods.resize(2), [Change::Ends(2)]);
        assert_eq!((pods.ready(), pods.current()), (2, 2));
        assert_eq!(pods.counts().terminating, 1);
        pods.occupy(2, true);
        assert_eq!(pods.remove(2), 1);
        assert_eq!(pods.crash(1), [(1, 0)]);
        assert_eq!((pods.ready(), pods.current()), (1, 2));
        assert_eq!(pods.starts, 2);
    }
}
