//! podswell's own engine, unchanged, in the simulated world; also Knative's KPA, which is the same engine
//! with `compat: knative`.

#[cfg(test)]
mod mutant;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
pub(crate) use mutant::Mutant;

use super::super::check::{Checker, Promise, Violation};
use super::super::number::Micros;
use super::super::plan::SOURCE;
use super::super::random::fnv;
use super::{Fact, Order, Policy, View};
use crate::core::Timestamp;
use crate::core::config::TargetConfig;
use crate::core::decision::{Decision, TargetStatus};
use crate::core::engine::{Engine, Published};
use crate::core::event::{Action, Event, NoticeReason, Reading, Rival, Sample, SourceFault};
use crate::core::problem::ProblemCode;
use crate::core::source::SourceName;
use crate::core::target::TargetId;

/// 2023-11-14T22:13:20Z, a whole second: when every simulation starts.
const EPOCH_US: i64 = 1_700_000_000_000_000;

/// How long an engine that lost the lease is watched at the end.
const AFTERMATH: Duration = Duration::from_secs(90);

/// The moment `at` on the engine's clock.
pub(crate) fn timestamp(at: Micros) -> Timestamp {
    let at = i64::try_from(at).unwrap_or(i64::MAX - EPOCH_US);
    Timestamp::from_microsecond(EPOCH_US + at).unwrap_or(Timestamp::MAX)
}

/// The engine's moment as simulated time.
fn micros_since_start(at: Timestamp) -> Micros {
    u64::try_from(at.as_microsecond() - EPOCH_US).unwrap_or(0)
}

/// podswell's engine with all its targets.
pub(crate) struct EnginePolicy {
    engine: Engine,
    alive: bool,
    leader: bool,
    targets: Vec<TargetId>,
    index: BTreeMap<TargetId, usize>,
    config: Arc<TargetConfig>,
    source: SourceName,
    stranger: SourceName,
    statuses: Vec<Option<Arc<TargetStatus>>>,
    orders: VecDeque<Order>,
    checker: Checker,
    panics: u64,
    digest: u64,
    #[cfg(test)]
    mutant: Mutant,
}

impl EnginePolicy {
    /// An engine with `copies` targets of this configuration, which holds the lease.
    pub(crate) fn new(config: TargetConfig, copies: usize) -> Self {
        Self::known_for(config, &vec![Duration::ZERO; copies])
    }

    /// An engine that has known each target of this configuration for so long when the simulation starts.
    /// Its ticks begin with that, so that a time below [`TICK`](crate::core::engine::TICK) is their phase.
    pub(crate) fn known_for(config: TargetConfig, ages: &[Duration]) -> Self {
        let copies = ages.len();
        let targets: Vec<TargetId> =
            (0..copies).map(|copy| TargetId::deployment("sim", &format!("w{copy}"))).collect();
        let index = targets.iter().enumerate().map(|(at, target)| (target.clone(), at)).collect();
        let mut policy = Self {
            engine: Engine::new(),
            alive: true,
            leader: true,
            statuses: vec![None; copies],
            targets,
            index,
            config: Arc::new(config),
            source: SOURCE.into(),
            stranger: "stranger".into(),
            orders: VecDeque::new(),
            checker: Checker::new(timestamp(0)),
            panics: 0,
            digest: 0xcbf2_9ce4_8422_2325,
            #[cfg(test)]
            mutant: Mutant::default(),
        };
        let since = |age: Duration| timestamp(0).checked_sub(age).unwrap_or(Timestamp::MIN);
        let mut known: Vec<(Timestamp, TargetId)> =
            ages.iter().map(|age| since(*age)).zip(policy.targets.clone()).collect();
        known.sort_by_key(|(since, _)| *since);
        let first = known.first().map_or_else(|| timestamp(0), |(since, _)| *since);
        policy.handle(first, Event::LeadershipChanged { leader: policy.leader });
        for (since, target) in known {
            policy.tick_until(since);
            policy.handle(since, Event::TargetApplied { target, config: policy.config.clone() });
        }
        policy.tick_until(timestamp(0));
        policy
    }

    /// Everything that is due before `end`.
    fn tick_until(&mut self, end: Timestamp) {
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due < end) {
            self.checker.step();
            self.engine.handle_timeout(due);
            self.drain(due);
        }
    }

    /// The same engine, broken in this way.
    #[cfg(test)]
    pub(crate) fn broken(self, mutant: Mutant) -> Self {
        Self { mutant, ..self }
    }

    fn introduce(&mut self, now: Timestamp) {
        self.handle(now, Event::LeadershipChanged { leader: self.leader });
        for target in self.targets.clone() {
            self.handle(now, Event::TargetApplied { target, config: self.config.clone() });
        }
    }

    fn handle(&mut self, now: Timestamp, event: Event) {
        self.checker.event(now, &event);
        #[cfg(test)]
        let Some(event) = self.mutant.hears(now, event) else { return };
        self.engine.handle(now, event);
        self.drain(now);
    }

    fn drain(&mut self, now: Timestamp) {
        while let Some(published) = self.engine.poll_published() {
            if let Published::Status(status) = published {
                self.checker.published(now, &status);
                self.take_over(status);
            }
        }
        while let Some(action) = self.engine.poll_action() {
            #[cfg(test)]
            let action = self.mutant.says(now, action, &mut self.checker);
            self.checker.action(now, &action);
            match action {
                Action::Announce { notice, .. } => {
                    self.panics += u64::from(notice.reason == NoticeReason::PanicEntered);
                }
                Action::Write { target, replicas, resource_version, reason, .. } => {
                    if let Some(&site) = self.index.get(&target) {
                        let version = resource_version.parse().ok();
                        let reason = reason.as_str();
                        self.orders.push_back(Order { site, replicas, version, reason });
                    }
                }
            }
        }
    }

    fn take_over(&mut self, status: Arc<TargetStatus>) {
        let Some(&site) = self.index.get(&status.target) else { return };
        let Some(slot) = self.statuses.get_mut(site) else { return };
        let old = slot.as_ref().and_then(|old| old.decision.as_ref());
        if let Some(decision) = &status.decision
            && old.is_none_or(|old| !Arc::ptr_eq(old, decision))
        {
            self.digest = fold(self.digest, site, decision);
        }
        *slot = Some(status);
    }

    fn event_of(&self, fact: Fact) -> Option<Event> {
        let target = |site: usize| self.targets.get(site).cloned();
        Some(match fact {
            Fact::Replicas { site, replicas, version } => Event::ReplicasObserved {
                target: target(site)?,
                replicas,
                resource_version: version.to_string().into(),
                newly_created: false,
            },
            Fact::Pods { site, counts, .. } => {
                Event::PodsObserved { target: target(site)?, pods: counts }
            }
            Fact::Sample { site, seen, missing, age, stamp } => {
                let stamp_ms = stamp.map(|stamp| timestamp(stamp).as_millisecond());
                sampled(
                    target(site)?,
                    &self.source,
                    Reading::Value { seen, missing },
                    age,
                    stamp_ms,
                )
            }
            Fact::Stranger { site, seen } => {
                let reading = Reading::Value { seen, missing: 0 };
                sampled(target(site)?, &self.stranger, reading, Duration::ZERO, None)
            }
            Fact::Unreachable { site } => Event::SourceFailed {
                target: target(site)?,
                source: self.source.clone(),
                fault: SourceFault::Unreachable,
            },
            Fact::Written { site, replicas, outcome } => {
                Event::ScaleWritten { target: target(site)?, replicas, outcome }
            }
            Fact::Leader(leader) => Event::LeadershipChanged { leader },
            Fact::Rival { site, present } => {
                let (kind, name) = ("HorizontalPodAutoscaler".into(), "rival".into());
                let rival = Rival { kind, name, follows: false };
                let rivals = if present { vec![rival] } else { Vec::new() };
                Event::RivalsObserved { target: target(site)?, rivals }
            }
            Fact::Died | Fact::Born => return None,
        })
    }
}

impl Policy for EnginePolicy {
    fn tell(&mut self, now: Micros, fact: Fact) {
        let now = timestamp(now);
        match fact {
            Fact::Leader(leader) => self.leader = leader,
            Fact::Died => {
                self.alive = false;
                self.engine = Engine::new();
                self.checker.died();
                self.orders.clear();
            }
            Fact::Born => {
                self.alive = true;
                self.introduce(now);
            }
            _ => {}
        }
        if self.alive
            && let Some(event) = self.event_of(fact)
        {
            self.handle(now, event);
        }
    }

    fn due(&self) -> Option<Micros> {
        let due = self.engine.poll_timeout().filter(|_| self.alive).map(micros_since_start);
        #[cfg(test)]
        let due = due.map(|due| due + self.mutant.lags());
        due
    }

    fn act(&mut self, now: Micros) {
        let now = timestamp(now);
        self.checker.step();
        self.engine.handle_timeout(now);
        self.drain(now);
    }

    fn order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    fn view(&self, site: usize) -> View {
        let status = self.statuses.get(site).and_then(Option::as_ref);
        let Some(decision) = status.and_then(|status| status.decision.as_ref()) else {
            return View::default();
        };
        View {
            stable: decision.observation.stable,
            panic: decision.observation.panic,
            desired: Some(decision.bounded),
            panicking: decision.panic_mode.is_some(),
        }
    }

    fn panics(&self) -> u64 {
        self.panics
    }

    fn violations(&mut self, now: Micros) -> Vec<Violation> {
        let at = timestamp(now);
        if self.alive {
            self.checker.finish(at);
            // Without the lease nothing is written any more, however long it goes on.
            self.handle(at, Event::LeadershipChanged { leader: false });
            let end = at.checked_add(AFTERMATH).unwrap_or(at);
            self.orders.clear();
            self.tick_until(end);
            let order = self.orders.front().map(|order| (order, self.targets.get(order.site)));
            if let Some((order, Some(target))) = order {
                let what = format!("asks for {} after the end", order.replicas);
                self.checker.report(Promise::P9, at, target, what);
            }
        }
        self.checker.take()
    }

    fn digest(&self) -> u64 {
        self.digest
    }

    fn remark(&self) -> Option<String> {
        let remarks = self
            .config
            .problems
            .iter()
            .filter(|problem| !matches!(problem.code, ProblemCode::DefaultMaxScale));
        let texts: Vec<String> =
            remarks.map(|problem| format!("{}: {}", problem.key, problem.why)).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}

/// A batch of one sample.
fn sampled(
    target: TargetId,
    source: &SourceName,
    reading: Reading,
    age: Duration,
    stamp_ms: Option<i64>,
) -> Event {
    let source = source.clone();
    Event::Sampled { samples: vec![Sample { target, source, age, stamp_ms, reading }] }
}

/// A fingerprint that goes on with one more decision.
fn fold(digest: u64, site: usize, decision: &Decision) -> u64 {
    let observation = &decision.observation;
    let averages = [observation.stable, observation.panic].map(|mean| mean.map_or(1, f64::to_bits));
    let numbers = [
        u64::try_from(site).unwrap_or(u64::MAX),
        u64::from_le_bytes(decision.at.as_microsecond().to_le_bytes()),
        u64::from(decision.bounded.unsigned_abs()),
        u64::from(decision.desired.unsigned_abs()),
        u64::from(decision.replicas.unsigned_abs()),
        averages[0],
        averages[1],
    ];
    let bytes = numbers.into_iter().flat_map(u64::to_le_bytes);
    bytes.chain(decision.reason.as_str().bytes()).fold(digest, fnv)
}
