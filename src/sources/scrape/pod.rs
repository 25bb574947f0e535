//! What is known of the pods of one target between the rounds. Pure: time is an argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use crate::core::Timestamp;
use crate::core::event::{Reading, SourceFault};
use crate::core::pod_reading::{BlamedPod, PodReading};
use crate::core::roster::PodFacts;
use crate::core::source::{ScrapeFormat, ScrapeSpec, Wiring};
use crate::core::spec::ScalingMetric;
use crate::runtime::clock::age_of;
use crate::sources::exposition::{self, Found};
use crate::sources::series::Birth;
use crate::sources::stat;

use super::counter::{Asked, AskedCounter};
use super::fetch;

/// For how many rounds a silent pod keeps its last value.
const KEPT_ROUNDS: u8 = 3;
/// The longest time that the first value of a new pod's counter is spread over, in rounds.
const BIRTH_ROUNDS: f64 = 2.5;

/// What a pod's page says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    /// The load.
    Load(f64),
    /// A number that counts up.
    Count(f64),
    /// The page is fine, but the metric is not on it.
    Blank,
}

/// Reads a pod's page.
pub(super) fn read(
    body: &[u8],
    format: &ScrapeFormat,
    metric: ScalingMetric,
) -> Result<Answer, SourceFault> {
    let one = |name: &str| exposition::read(body, [name]).map(|[found]| found);
    Ok(match format {
        ScrapeFormat::QueueProxy => Answer::Load(stat::load(&stat::decode(body)?, metric)?),
        ScrapeFormat::InFlight { metric } => match one(metric)? {
            Found::Sum(load) => Answer::Load(load),
            Found::Declared => Answer::Load(0.0),
            Found::Absent => Answer::Blank,
        },
        ScrapeFormat::Requests { metric } => match one(metric)? {
            Found::Sum(count) => Answer::Count(count),
            Found::Declared => Answer::Count(0.0),
            Found::Absent => Answer::Blank,
        },
        ScrapeFormat::StartedFinished { started, finished } => {
            let sum = |found| if let Found::Sum(sum) = found { sum } else { 0.0 };
            match exposition::read(body, [started.as_str(), finished.as_str()])? {
                [Found::Absent, _] => Answer::Blank,
                // A labelled counter of finished requests is not there before the first one; and the
                // two are not read in one instant, so a small negative difference is none.
                [started, finished] => Answer::Load((sum(started) - sum(finished)).max(0.0)),
            }
        }
    })
}

/// What was heard of a pod in the present round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Heard {
    #[default]
    Nothing,
    Base,
    Load,
}

/// One ready pod.
#[derive(Debug)]
pub(super) struct PodWatch {
    name: Arc<str>,
    /// Where it is asked, or why it is not.
    pub(super) place: Result<Uri, SourceFault>,
    pub(super) started_at: Option<Timestamp>,
    counter: AskedCounter,
    /// How long its last answer took.
    pub(super) took: Duration,
    /// When its page was last seen without the metric, before the metric ever showed.
    blank_at: Option<Timestamp>,
    kept: Option<f64>,
    misses: u8,
    heard: Heard,
    fault: Option<SourceFault>,
    /// Whether its last answer was slow or late: such pods are asked after all others.
    pub(super) sluggish: bool,
}

impl PodWatch {
    fn new(facts: &PodFacts, spec: &ScrapeSpec, allow_loopback: bool) -> Self {
        let place = facts.ip.ok_or(SourceFault::Unreachable).and_then(|ip| {
            if fetch::is_allowed(ip, allow_loopback) {
                fetch::uri_of(ip, spec).ok_or(SourceFault::AddressRefused)
            } else {
                Err(SourceFault::AddressRefused)
            }
        });
        Self {
            name: facts.name.clone(),
            place,
            started_at: facts.started_at,
            counter: AskedCounter::default(),
            took: Duration::ZERO,
            blank_at: None,
            kept: None,
            misses: 0,
            heard: Heard::Nothing,
            fault: None,
            sluggish: false,
        }
    }

    /// Takes the pod's answer of this round.
    fn heard(
        &mut self,
        at: Timestamp,
        answer: Answer,
        (since, most): (Timestamp, Option<u64>),
        period: Duration,
    ) {
        let load = match answer {
            Answer::Load(load) => Some(load),
            Answer::Count(count) => {
                let birth = self.birth(since, period);
                self.counter.observe(Asked { at, took: self.took, count }, birth, self.kept)
            }
            Answer::Blank => {
                if !self.counter.is_known() {
                    self.blank_at = Some(at);
                }
                return self.missed(SourceFault::Empty);
            }
        };
        #[expect(clippy::cast_precision_loss, reason = "a limit of that size need not be exact")]
        if most.zip(load).is_some_and(|(most, load)| load > most as f64) {
            return self.missed(SourceFault::Implausible);
        }
        self.misses = 0;
        self.fault = None;
        self.kept = load;
        self.heard = if load.is_some() { Heard::Load } else { Heard::Base };
    }

    /// How the counter began, if it is known to have begun while we watched.
    fn birth(&self, since: Timestamp, period: Duration) -> Option<Birth> {
        let started = self.started_at.filter(|started| *started >= since);
        self.blank_at.or(started).map(|at| Birth {
            at,
            least: period,
            most: period.mul_f64(BIRTH_ROUNDS),
        })
    }

    /// Notes that the pod gave nothing in this round.
    fn missed(&mut self, fault: SourceFault) {
        self.misses = self.misses.saturating_add(1);
        self.fault = Some(fault);
        self.heard = Heard::Nothing;
        if self.misses > KEPT_ROUNDS {
            self.kept = None;
        }
    }
}

/// One target between the rounds.
#[derive(Debug)]
#[expect(clippy::rc_buffer, reason = "the roster's own list, recognised by its pointer")]
pub(super) struct Watched {
    facts: Arc<Vec<PodFacts>>,
    wiring: Arc<Wiring>,
    /// Since when this target is watched: pods that started later are known from their beginning.
    since: Timestamp,
    /// The ready pods, by name.
    pub(super) pods: Vec<PodWatch>,
}

/// How a round of one target ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    /// There is a sample.
    Sampled(Reading),
    /// There is none, and that is a fault.
    Failed(SourceFault),
    /// There is none, and nothing was to be expected.
    Idle,
}

impl Watched {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { facts: Arc::default(), wiring: Arc::default(), since: now, pods: Vec::new() }
    }

    /// Takes over what the roster says now. Pods that are still there under the same address keep their
    /// history.
    #[expect(clippy::rc_buffer, reason = "the roster's own list, recognised by its pointer")]
    pub(super) fn update(
        &mut self,
        wiring: &Arc<Wiring>,
        facts: &Arc<Vec<PodFacts>>,
        allow_loopback: bool,
    ) {
        if self.wiring.scrape != wiring.scrape || self.wiring.metric != wiring.metric {
            self.pods.clear();
            self.facts = Arc::default();
        }
        self.wiring = wiring.clone();
        if Arc::ptr_eq(&self.facts, facts) {
            return;
        }
        self.facts = facts.clone();
        let Some(spec) = &wiring.scrape else { return };
        let mut old: BTreeMap<_, _> =
            self.pods.drain(..).map(|pod| (pod.name.clone(), pod)).collect();
        for facts in facts.iter().filter(|facts| facts.ready && !facts.terminating) {
            let fresh = PodWatch::new(facts, spec, allow_loopback);
            let known = old
                .remove(&fresh.name)
                .filter(|known| known.place == fresh.place && known.started_at == fresh.started_at);
            self.pods.push(known.unwrap_or(fresh));
        }
    }

    /// Takes the answer of one pod. Returns the fault that is to be counted, if it gave none.
    pub(super) fn heard(
        &mut self,
        pod: usize,
        at: Timestamp,
        answer: Result<Answer, SourceFault>,
        period: Duration,
    ) -> Option<SourceFault> {
        let known = (self.since, self.wiring.most_per_pod);
        let pod = self.pods.get_mut(pod)?;
        match answer {
            Ok(answer) => pod.heard(at, answer, known, period),
            Err(fault) => pod.missed(fault),
        }
        pod.fault
    }

    /// Pods that were ready within the stable window and no longer are; those being deleted do not
    /// count.
    fn lost(&self, now: Timestamp) -> usize {
        let recently = |since: Timestamp| age_of(since, now) <= self.wiring.stable_window;
        self.facts
            .iter()
            .filter(|pod| !pod.ready && !pod.terminating && pod.unready_since.is_some_and(recently))
            .count()
    }

    /// The outcome of a round in which every pod was asked.
    pub(super) fn combine(&self, now: Timestamp, replicas: i32) -> Outcome {
        if self.pods.is_empty() {
            return if replicas > 0 {
                Outcome::Failed(SourceFault::Unreachable)
            } else {
                Outcome::Idle
            };
        }
        let seen: f64 = self.pods.iter().filter_map(|pod| pod.kept).sum();
        let silent = self.pods.iter().filter(|pod| pod.kept.is_none()).count();
        if !seen.is_finite() {
            return Outcome::Failed(SourceFault::InvalidSample);
        }
        if silent < self.pods.len() {
            let missing = u32::try_from(silent + self.lost(now)).unwrap_or(u32::MAX);
            return Outcome::Sampled(Reading::Value { seen, missing });
        }
        if self.pods.iter().any(|pod| pod.heard == Heard::Base) {
            return Outcome::Sampled(Reading::Base);
        }
        Outcome::Failed(self.commonest_fault())
    }

    /// What was heard of each ready pod.
    pub(super) fn readings(&self) -> Arc<[PodReading]> {
        let readings = self.pods.iter().map(|pod| PodReading {
            name: pod.name.clone(),
            started_at: pod.started_at,
            load: pod.kept,
            misses: pod.misses,
            fault: pod.fault,
        });
        readings.collect()
    }

    /// The ready pods of which nothing counts, and why.
    pub(super) fn blamed(&self) -> impl Iterator<Item = BlamedPod> + '_ {
        let silent = self.pods.iter().filter(|pod| {
            pod.heard == Heard::Nothing
                && (pod.kept.is_none() || pod.fault == Some(SourceFault::Implausible))
        });
        silent.filter_map(|pod| Some(BlamedPod { name: pod.name.clone(), fault: pod.fault? }))
    }

    /// The fault that most pods have; the first one of several.
    pub(super) fn commonest_fault(&self) -> SourceFault {
        let count = |fault| self.pods.iter().filter(|pod| pod.fault == Some(fault)).count();
        self.pods
            .iter()
            .filter_map(|pod| pod.fault)
            .rev()
            .max_by_key(|fault| count(*fault))
            .unwrap_or(SourceFault::Unreachable)
    }
}

#[cfg(test)]
mod tests;
