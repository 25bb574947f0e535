//! Requests one by one: a queue in front, and pods that each serve so many at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::cluster::{Phase, Pods};
use super::number::Micros;
use super::plan::Request;

/// A request that a pod works at.
#[derive(Clone, Copy, Debug)]
struct Served {
    pod: u64,
}

/// The requests of one workload.
#[derive(Clone, Debug, Default)]
pub(crate) struct Single {
    next: usize,
    waiting: VecDeque<Request>,
    serving: BTreeMap<u64, Served>,
    number: u64,
    /// Ready pods that may take a request, by how busy they are.
    open: BTreeSet<(u32, u64)>,
    slots: u32,
}

/// A request began: which one, when it is done, and when it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    pub(crate) number: u64,
    pub(crate) done: Micros,
    pub(crate) came: Micros,
    pub(crate) service: Micros,
}

impl Single {
    /// Requests in front of pods that take `slots` at once, at least one.
    pub(crate) fn new(slots: u64) -> Self {
        let slots = u32::try_from(slots.max(1)).unwrap_or(u32::MAX);
        Self { slots, ..Self::default() }
    }

    /// Requests that wait.
    pub(crate) fn queued(&self) -> usize {
        self.waiting.len()
    }

    /// Requests in service.
    pub(crate) fn serving(&self) -> usize {
        self.serving.len()
    }

    /// When the next request comes.
    pub(crate) fn next(&self, requests: &[Request]) -> Option<Micros> {
        requests.get(self.next).map(|request| request.at)
    }

    /// Takes the next request into the queue if `takes`; says which it is.
    pub(crate) fn arrive(&mut self, requests: &[Request], takes: bool) {
        if let Some(request) = requests.get(self.next) {
            self.next += 1;
            if takes {
                self.waiting.push_back(*request);
            }
        }
    }

    /// A pod became ready.
    pub(crate) fn open(&mut self, pod: u64) {
        self.open.insert((0, pod));
    }

    /// A pod takes no more requests.
    pub(crate) fn close(&mut self, pods: &Pods, pod: u64) {
        self.open.remove(&(pods.busy(pod), pod));
    }

    /// Whether a pod could take a request at once.
    pub(crate) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// A pod that was this busy crashed.
    pub(crate) fn forget(&mut self, pod: u64, busy: u32) {
        self.open.remove(&(busy, pod));
    }

    /// Gives the oldest waiting request to the least busy pod, if there is one.
    pub(crate) fn begin(&mut self, now: Micros, pods: &mut Pods) -> Option<Begun> {
        let request = *self.waiting.front()?;
        let (busy, pod) = self.open.pop_first()?;
        self.waiting.pop_front();
        pods.occupy(pod, true);
        if busy + 1 < self.slots {
            self.open.insert((busy + 1, pod));
        }
        self.number += 1;
        self.serving.insert(self.number, Served { pod });
        let Request { at, service } = request;
        Some(Begun { number: self.number, done: now + service, came: at, service })
    }

    /// A request is done, unless its pod died; gives the pod.
    pub(crate) fn finish(&mut self, number: u64, pods: &mut Pods) -> Option<u64> {
        let Served { pod, .. } = self.serving.remove(&number)?;
        let busy = pods.busy(pod);
        if pods.phase(pod) == Some(Phase::Ready) {
            self.open.remove(&(busy, pod));
            self.open.insert((busy.saturating_sub(1), pod));
        }
        pods.occupy(pod, false);
        Some(pod)
    }

    /// A pod died with all that it worked at; gives how many requests that were.
    pub(crate) fn lose(&mut self, pod: u64) -> usize {
        let before = self.serving.len();
        self.serving.retain(|_, served| served.pod != pod);
        before - self.serving.len()
    }
}
