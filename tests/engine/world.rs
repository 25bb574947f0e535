//! A cluster that does what the engine asks: writes succeed, pods become ready after a delay.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use podswell::core::Timestamp;
use podswell::core::config::TargetConfig;
use podswell::core::decision::{Decision, TargetStatus};
use podswell::core::engine::{Engine, Published};
use podswell::core::event::{Action, Event, Notice, Reading, Sample, WriteOutcome};
use podswell::core::policy::Consent;
use podswell::core::source::{PointConfig, Share};
use podswell::core::target::{PodCounts, TargetId};

/// 2023-11-14T22:13:20Z, a whole second.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// One target in a cluster that obeys.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) now: Timestamp,
    pub(crate) target: TargetId,
    pub(crate) replicas: i32,
    pub(crate) ready: i32,
    version: u64,
    /// How long a pod takes to become ready.
    pub(crate) pod_start: Duration,
    starting: VecDeque<(Timestamp, i32)>,
    /// Every write that was asked for: when, and how many replicas.
    pub(crate) writes: Vec<(Timestamp, i32)>,
    /// The `resourceVersion` that each write demanded.
    pub(crate) preconditions: Vec<String>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) decisions: Vec<Arc<Decision>>,
    pub(crate) status: Option<Arc<TargetStatus>>,
    /// What the API server answers.
    pub(crate) answer: WriteOutcome,
    /// Whether nothing at all comes of writes.
    pub(crate) silent: bool,
}

pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(EPOCH_MS + ms).expect("a time within range")
}

pub(crate) fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// A managed target with one point of one sample a second.
pub(crate) fn config() -> TargetConfig {
    TargetConfig {
        consent: Consent::Managed,
        points: vec![point("source", 1)],
        ..TargetConfig::default()
    }
}

pub(crate) fn point(name: &str, interval_s: u64) -> PointConfig {
    PointConfig {
        source: name.into(),
        interval: seconds(interval_s),
        stale_after: Duration::from_millis(interval_s * 2500),
        range: None,
        visible_at_zero: false,
        share: Share::Exclusive,
    }
}

impl World {
    pub(crate) fn new(config: TargetConfig, replicas: i32) -> Self {
        let target = TargetId::deployment("shop", "checkout");
        let mut world = Self {
            engine: Engine::new(),
            now: at(0),
            target: target.clone(),
            replicas,
            ready: replicas,
            version: 1,
            pod_start: Duration::ZERO,
            starting: VecDeque::new(),
            writes: Vec::new(),
            preconditions: Vec::new(),
            notices: Vec::new(),
            decisions: Vec::new(),
            status: None,
            answer: WriteOutcome::Written,
            silent: false,
        };
        world.tell(Event::LeadershipChanged { leader: true });
        world.tell(Event::TargetApplied { target, config: Arc::new(config) });
        world.observe(replicas);
        world.observe_pods();
        world
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.engine.handle(self.now, event);
        self.drain();
    }

    pub(crate) fn configure(&mut self, config: TargetConfig) {
        let target = self.target.clone();
        self.tell(Event::TargetApplied { target, config: Arc::new(config) });
    }

    /// Somebody sets the replicas.
    pub(crate) fn observe(&mut self, replicas: i32) {
        self.observe_as(replicas, false);
    }

    /// What the object says; `newly_created` where it was created while we watched.
    pub(crate) fn observe_as(&mut self, replicas: i32, newly_created: bool) {
        self.version += 1;
        self.replicas = replicas;
        let (target, version) = (self.target.clone(), self.version.to_string());
        self.tell(Event::ReplicasObserved {
            target,
            replicas,
            resource_version: version.into(),
            newly_created,
        });
    }

    pub(crate) fn observe_pods(&mut self) {
        let pods = PodCounts { ready: self.ready, ..PodCounts::default() };
        let target = self.target.clone();
        self.tell(Event::PodsObserved { target, pods });
    }

    /// Somebody sets the replicas, and the pods follow at once.
    pub(crate) fn set_pods(&mut self, replicas: i32) {
        self.observe(replicas);
        self.ready = replicas;
        self.observe_pods();
    }

    /// The newest `resourceVersion`.
    pub(crate) fn version(&self) -> String {
        self.version.to_string()
    }

    /// How often `reason` was announced.
    pub(crate) fn announced(&self, reason: &str) -> usize {
        self.reasons().iter().filter(|announced| **announced == reason).count()
    }

    /// How many writes since `since`.
    pub(crate) fn written_since(&self, since: Timestamp) -> usize {
        self.writes.iter().filter(|(at, _)| *at >= since).count()
    }

    /// A complete sample of the source `source`.
    pub(crate) fn sample(&mut self, value: f64) {
        self.sample_of("source", value, 0);
    }

    pub(crate) fn sample_of(&mut self, source: &str, seen: f64, missing: u32) {
        self.sample_aged(source, seen, missing, Duration::ZERO, None);
    }

    pub(crate) fn sample_aged(
        &mut self,
        source: &str,
        seen: f64,
        missing: u32,
        age: Duration,
        stamp_ms: Option<i64>,
    ) {
        let sample = Sample {
            target: self.target.clone(),
            source: source.into(),
            age,
            stamp_ms,
            reading: Reading::Value { seen, missing },
        };
        self.tell(Event::Sampled { samples: vec![sample] });
    }

    /// Lets time pass, with every deadline on the way.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.now.checked_add(span).expect("a time within range");
        loop {
            let pod = self.starting.front().map(|&(at, _)| at);
            let next = [self.engine.poll_timeout(), pod, Some(end)].into_iter().flatten().min();
            let next = next.expect("the end at least").max(self.now);
            self.now = next.min(end);
            self.start_pods();
            self.engine.handle_timeout(self.now);
            self.drain();
            if self.now >= end && self.engine.poll_timeout().is_none_or(|at| at > end) {
                return;
            }
        }
    }

    /// A complete sample of `value` each second for `span`, the first in half a second.
    pub(crate) fn run(&mut self, span: Duration, value: f64) {
        for _ in 0..span.as_secs() {
            self.pass(Duration::from_millis(500));
            self.sample(value);
            self.pass(Duration::from_millis(500));
        }
    }

    fn start_pods(&mut self) {
        while self.starting.front().is_some_and(|&(at, _)| at <= self.now) {
            let (_, pods) = self.starting.pop_front().expect("just seen");
            self.ready = pods.min(self.replicas);
            self.observe_pods();
        }
    }

    fn drain(&mut self) {
        while let Some(published) = self.engine.poll_published() {
            if let Published::Status(status) = published {
                if let Some(decision) = &status.decision
                    && self.decisions.last().is_none_or(|last| !Arc::ptr_eq(last, decision))
                {
                    self.decisions.push(decision.clone());
                }
                self.status = Some(status);
            }
        }
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Announce { notice, .. } => self.notices.push(notice),
                Action::Write { replicas, resource_version, .. } => {
                    self.preconditions.push(resource_version.to_string());
                    self.write(replicas);
                }
            }
        }
    }

    fn write(&mut self, replicas: i32) {
        self.writes.push((self.now, replicas));
        if self.silent {
            return;
        }
        let (target, outcome) = (self.target.clone(), self.answer.clone());
        let written = outcome == WriteOutcome::Written;
        self.tell(Event::ScaleWritten { target, replicas, outcome });
        if written {
            self.observe(replicas);
            if replicas < self.ready {
                self.ready = replicas;
                self.starting.clear();
                self.observe_pods();
            } else {
                let at = self.now.checked_add(self.pod_start).expect("a time within range");
                self.starting.push_back((at, replicas));
                self.start_pods();
            }
        }
    }

    pub(crate) fn decision(&self) -> &Decision {
        self.decisions.last().expect("a decision")
    }

    /// The notices so far, by reason.
    pub(crate) fn reasons(&self) -> Vec<&'static str> {
        self.notices.iter().map(|notice| notice.reason.as_str()).collect()
    }

    /// The fewest replicas at any moment since `since`.
    pub(crate) fn least_written_since(&self, since: Timestamp) -> Option<i32> {
        self.writes.iter().filter(|(at, _)| *at >= since).map(|&(_, replicas)| replicas).min()
    }
}
