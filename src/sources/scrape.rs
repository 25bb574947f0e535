//! Scrapes the pods of every target that asks for it, once a second.
//!
//! One round asks every ready pod of every such target at the same time and gives one sample a target.
//! All samples of a round carry the time at which the round began, so that every second has exactly one.
//! Only addresses of the roster are asked, and a page that several deciders read is asked for once. Pods
//! that answer slowly are asked in a lane of their own, so that they cannot delay the others.
//!
//! The share of load that came through an activator is not subtracted: no activator reports to podswell,
//! so nothing is counted twice.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::{Mutex, RwLock};
use rand::seq::SliceRandom;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::core::Timestamp;
use crate::core::event::{Event, Reading, Sample, SourceFault};
use crate::core::pod_reading::{PodReadings, PodRound};
use crate::core::roster::Roster;
use crate::core::sample_size::sample_size;
use crate::core::source::{SCRAPE, ScrapeFormat, SourceName, Wiring};
use crate::core::target::TargetId;
use crate::runtime::clock::{Clock, age_of, instant};
use crate::runtime::engine_handle::EngineHandle;

use super::counters::SourceCounters;
use super::faults::FaultGate;
use fetch::{HttpClient, Page};
use pod::{Answer, Outcome, Watched};

mod counter;
mod fetch;
mod pod;

/// The most pods that are asked at the same time, and the most of them that were slow last time.
const LANES: [usize; 2] = [1024, 256];
/// An answer that takes longer than this share of a round is slow.
const SLOW_SHARE: u32 = 4;
/// How long finished targets wait for others before their samples are handed over.
const GATHER: Duration = Duration::from_millis(20);

/// How pods are scraped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrapeOptions {
    /// The time from one round to the next; 1 s but in tests. An answer has to be there shortly before
    /// the next round begins.
    pub period: Duration,
    /// Whether pods on loopback addresses are asked, which only tests have.
    pub allow_loopback: bool,
}

impl Default for ScrapeOptions {
    fn default() -> Self {
        Self { period: Duration::from_secs(1), allow_loopback: false }
    }
}

/// The task that scrapes pods.
pub struct Scraper {
    roster: Arc<RwLock<Roster>>,
    engine: EngineHandle,
    clock: Arc<dyn Clock>,
    counters: Arc<SourceCounters>,
    options: ScrapeOptions,
    client: HttpClient,
    name: SourceName,
    gate: FaultGate,
    watched: BTreeMap<TargetId, Watched>,
    readings: Arc<Mutex<PodReadings>>,
}

/// One target in one round.
struct Plan {
    target: TargetId,
    wiring: Arc<Wiring>,
    replicas: i32,
    watched: Watched,
    /// Answers that are still to come.
    waiting: usize,
    sampling: Option<Sampling>,
}

/// Knative's way of asking only some pods.
struct Sampling {
    /// Indices of pods that are asked next, should one fail.
    reserve: VecDeque<usize>,
    sum: f64,
    wanted: usize,
    answered: usize,
}

/// One pod's page that is to be asked for.
struct Probe {
    page: Page,
    slow: bool,
}

/// Who reads a page: a pod of a plan.
#[derive(Clone, Copy)]
struct Reader {
    plan: usize,
    pod: usize,
}

/// What came of it.
struct Done {
    probe: Probe,
    took: Duration,
    body: Result<Bytes, SourceFault>,
}

/// The samples and the state of one round.
struct Round {
    began: Timestamp,
    deadline: Instant,
    plans: Vec<Plan>,
    lanes: [VecDeque<Probe>; 2],
    /// Who waits for the pages that are asked for.
    readers: HashMap<Page, Vec<Reader>>,
    batch: Vec<Sample>,
}

impl Scraper {
    /// A scraper that is not running yet.
    pub fn new(
        roster: Arc<RwLock<Roster>>,
        engine: EngineHandle,
        clock: Arc<dyn Clock>,
        counters: Arc<SourceCounters>,
        options: ScrapeOptions,
    ) -> Self {
        Self {
            roster,
            engine,
            clock,
            counters,
            options,
            client: fetch::client(options.period),
            name: SCRAPE.into(),
            gate: FaultGate::default(),
            watched: BTreeMap::new(),
            readings: Arc::default(),
        }
    }

    /// Tells what it hears of single pods to whoever asks `readings`.
    #[must_use]
    pub fn telling(mut self, readings: Arc<Mutex<PodReadings>>) -> Self {
        self.readings = readings;
        self
    }

    /// Scrapes until `cancel` is cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        // A quarter of a period after the second began, no hesitation of the timer moves a round into
        // the neighbouring second.
        let phase = self.clock.now().as_nanosecond() % nanos(self.options.period);
        let wait = (nanos(self.options.period) * 5 / 4 - phase) % nanos(self.options.period);
        let first = instant() + Duration::from_nanos(u64::try_from(wait).unwrap_or(0));
        let mut ticks = tokio::time::interval_at(first, self.options.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let round = async {
                ticks.tick().await;
                self.round().await;
            };
            if cancel.run_until_cancelled(round).await.is_none() {
                return;
            }
        }
    }

    /// One round, from reading the roster to the last sample.
    async fn round(&mut self) {
        let client = self.client.clone();
        let mut round = self.begin();
        let mut flights = FuturesUnordered::new();
        let mut aloft = [0_usize; 2];
        let mut hand_over_at = instant() + GATHER;
        loop {
            while let Some(probe) = round.next_probe(aloft) {
                if let Some(aloft) = aloft.get_mut(usize::from(probe.slow)) {
                    *aloft += 1;
                }
                flights.push(ask(&client, probe, round.deadline));
            }
            tokio::select! {
                biased;
                done = flights.next() => {
                    let Some(done) = done else { break };
                    if let Some(aloft) = aloft.get_mut(usize::from(done.probe.slow)) {
                        *aloft -= 1;
                    }
                    self.land(&mut round, done);
                }
                () = tokio::time::sleep_until(hand_over_at), if !round.batch.is_empty() => {
                    self.hand_over(&mut round);
                    hand_over_at = instant() + GATHER;
                }
            }
        }
        drop(flights);
        self.end(round);
    }

    /// Reads the roster and lines up the pods.
    fn begin(&mut self) -> Round {
        let began = self.clock.now();
        let margin = self.options.period / 20;
        let mut round = Round {
            began,
            deadline: instant() + self.options.period.saturating_sub(margin),
            plans: self.enlist(began),
            lanes: [VecDeque::new(), VecDeque::new()],
            readers: HashMap::new(),
            batch: Vec::new(),
        };
        self.gate.begin();
        for at in 0..round.plans.len() {
            self.line_up(&mut round, at);
        }
        round
    }

    /// All targets whose pods are scraped, with what is known of them.
    fn enlist(&mut self, now: Timestamp) -> Vec<Plan> {
        let enrolled: Vec<_> = self
            .roster
            .read()
            .iter()
            .filter(|(_, enrolled)| enrolled.wiring.scrape.is_some())
            .map(|(target, enrolled)| (target.clone(), enrolled.clone()))
            .collect();
        let mut known = std::mem::take(&mut self.watched);
        let plans: Vec<_> = enrolled
            .into_iter()
            .map(|(target, enrolled)| {
                let mut watched = known.remove(&target).unwrap_or_else(|| Watched::new(now));
                watched.update(&enrolled.wiring, &enrolled.pods, self.options.allow_loopback);
                Plan {
                    target,
                    wiring: enrolled.wiring,
                    replicas: enrolled.replicas,
                    watched,
                    waiting: 0,
                    sampling: None,
                }
            })
            .collect();
        self.gate.retain(|target| !known.contains_key(target));
        plans
    }

    /// Chooses the pods of one target that are asked; a target without any ends at once.
    fn line_up(&mut self, round: &mut Round, at: usize) {
        let Some(plan) = round.plans.get_mut(at) else { return };
        let all = plan.watched.pods.len();
        let mut chosen: VecDeque<usize> = (0..all).collect();
        if is_sampled(&plan.wiring) {
            chosen = plan.candidates(round.began);
            let reserve = chosen.split_off(sample_size(all).min(all));
            plan.sampling = Some(Sampling { reserve, sum: 0.0, wanted: chosen.len(), answered: 0 });
        }
        plan.waiting = chosen.len();
        if chosen.is_empty() {
            self.finish(round, at);
        }
        for pod in chosen {
            self.line_up_pod(round, at, pod);
        }
    }

    fn line_up_pod(&mut self, round: &mut Round, at: usize, pod: usize) {
        let Some(plan) = round.plans.get(at) else { return };
        let Some(watch) = plan.watched.pods.get(pod) else { return };
        let uri = match &watch.place {
            Ok(uri) => uri.clone(),
            Err(fault) => {
                let fault = *fault;
                return self.settle(round, at, pod, Err(fault));
            }
        };
        let spec = plan.wiring.scrape.as_ref();
        let is_stat = spec.is_some_and(|spec| spec.format == ScrapeFormat::QueueProxy);
        let (page, slow) = (Page { uri, is_stat }, watch.sluggish);
        let readers = round.readers.entry(page.clone()).or_default();
        readers.push(Reader { plan: at, pod });
        if readers.len() == 1 {
            let [quick, sluggish] = &mut round.lanes;
            if slow { sluggish } else { quick }.push_back(Probe { page, slow });
        }
    }

    /// Takes what came of one request.
    fn land(&mut self, round: &mut Round, done: Done) {
        let Done { probe, took, body } = done;
        self.counters.requested(took);
        for Reader { plan: at, pod } in round.readers.remove(&probe.page).unwrap_or_default() {
            let Some(plan) = round.plans.get_mut(at) else { continue };
            if let Some(watch) = plan.watched.pods.get_mut(pod) {
                watch.took = took;
                watch.sluggish = took > self.options.period / SLOW_SHARE;
            }
            let answer = body.as_ref().map_err(|fault| *fault).and_then(|body| {
                let spec = plan.wiring.scrape.as_ref().ok_or(SourceFault::Empty)?;
                pod::read(body, &spec.format, plan.wiring.metric)
            });
            self.settle(round, at, pod, answer);
        }
    }

    /// Takes the answer of one pod, and ends the round of its target if it was the last one.
    fn settle(
        &mut self,
        round: &mut Round,
        at: usize,
        pod: usize,
        answer: Result<Answer, SourceFault>,
    ) {
        let Some(plan) = round.plans.get_mut(at) else { return };
        let fault = plan.watched.heard(pod, self.clock.now(), answer, self.options.period);
        if let Some(fault) = fault {
            self.counters.failed(fault);
        }
        let substitute = match (&mut plan.sampling, fault, answer) {
            (Some(sampling), None, Ok(Answer::Load(load))) => {
                sampling.sum += load;
                sampling.answered += 1;
                None
            }
            (Some(sampling), Some(_), _) => sampling.reserve.pop_front(),
            _ => None,
        };
        if let Some(pod) = substitute {
            return self.line_up_pod(round, at, pod);
        }
        plan.waiting = plan.waiting.saturating_sub(1);
        if plan.waiting == 0 {
            self.finish(round, at);
        }
    }

    /// Makes the sample of one target.
    fn finish(&mut self, round: &mut Round, at: usize) {
        let Some(plan) = round.plans.get(at) else { return };
        let now = self.clock.now();
        match plan.outcome(now) {
            Outcome::Sampled(reading) => {
                self.counters.sampled(&reading);
                self.gate.clear(&plan.target);
                round.batch.push(Sample {
                    target: plan.target.clone(),
                    source: self.name.clone(),
                    age: Duration::ZERO,
                    stamp_ms: None,
                    reading,
                });
            }
            Outcome::Failed(fault) => {
                self.gate.tell(now, &plan.target, &self.name, fault, &self.engine);
            }
            Outcome::Idle => self.gate.clear(&plan.target),
        }
    }

    /// Sends what is finished to the engine, dated to the beginning of the round.
    fn hand_over(&self, round: &mut Round) {
        if round.batch.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut samples = std::mem::take(&mut round.batch);
        for sample in &mut samples {
            sample.age = age_of(round.began, now);
        }
        self.engine.offer(Event::Sampled { samples });
    }

    /// Gives up what could not even be asked in time, and keeps what was learnt for the next round.
    fn end(&mut self, mut round: Round) {
        while let Some(probe) = round.lanes.iter_mut().find_map(VecDeque::pop_front) {
            for reader in round.readers.remove(&probe.page).unwrap_or_default() {
                self.settle(&mut round, reader.plan, reader.pod, Err(SourceFault::Timeout));
            }
        }
        self.hand_over(&mut round);
        self.tell_pods(&round);
        self.watched = round.plans.into_iter().map(|plan| (plan.target, plan.watched)).collect();
    }
}

impl Scraper {
    /// Shows the pods of those targets that somebody looks at, and those of which nothing counts.
    fn tell_pods(&self, round: &Round) {
        let now = self.clock.now();
        let mut readings = self.readings.lock();
        readings.forget(now);
        for plan in &round.plans {
            if readings.is_wanted(now, &plan.target) {
                let pods = plan.watched.readings();
                readings.tell(&plan.target, PodRound { at: round.began, pods });
            }
            // Where only a sample of the pods is asked, the others are silent without a fault.
            readings.blame(now, &plan.target, &self.name, plan.watched.blamed());
        }
    }
}

impl Round {
    /// The next pod that may be asked now.
    fn next_probe(&mut self, aloft: [usize; 2]) -> Option<Probe> {
        if instant() >= self.deadline {
            return None;
        }
        self.lanes
            .iter_mut()
            .zip(aloft.into_iter().zip(LANES))
            .find(|(lane, (aloft, limit))| !lane.is_empty() && aloft < limit)
            .and_then(|(lane, _)| lane.pop_front())
    }
}

impl Plan {
    /// The pods in Knative's order: those that are older than the stable window first, in random order
    /// if there are enough of them, else followed by the younger ones in random order.
    fn candidates(&self, now: Timestamp) -> VecDeque<usize> {
        let pods = &self.watched.pods;
        let is_old = |at: &usize| {
            pods.get(*at)
                .and_then(|pod| pod.started_at)
                .is_some_and(|started| age_of(started, now) >= self.wiring.stable_window)
        };
        let (mut old, mut young): (Vec<usize>, Vec<usize>) = (0..pods.len()).partition(is_old);
        if old.len() < sample_size(pods.len()) {
            young.shuffle(&mut rand::rng());
        } else {
            old.shuffle(&mut rand::rng());
        }
        old.into_iter().chain(young).collect()
    }

    fn outcome(&self, now: Timestamp) -> Outcome {
        let ready = self.watched.pods.len();
        let Some(sampling) = self.sampling.as_ref().filter(|_| ready > 0) else {
            return self.watched.combine(now, self.replicas);
        };
        if sampling.answered < sampling.wanted {
            return Outcome::Failed(self.watched.commonest_fault());
        }
        // Knative's order of operations: first divided, then multiplied.
        let seen = sampling.sum / as_f64(sampling.answered) * as_f64(ready);
        if seen.is_finite() {
            Outcome::Sampled(Reading::Value { seen, missing: 0 })
        } else {
            Outcome::Failed(SourceFault::InvalidSample)
        }
    }
}

/// Whether only some pods are asked. Never where a rate is made from a counter, because that needs the
/// same pod in every round.
fn is_sampled(wiring: &Wiring) -> bool {
    let counts = |format: &ScrapeFormat| matches!(format, ScrapeFormat::Requests { .. });
    wiring.sample_pods && wiring.scrape.as_ref().is_some_and(|spec| !counts(&spec.format))
}

async fn ask(client: &HttpClient, probe: Probe, deadline: Instant) -> Done {
    let began = instant();
    let answer = fetch::fetch(client, probe.page.clone());
    let body = tokio::time::timeout_at(deadline, answer).await;
    let body = body.unwrap_or(Err(SourceFault::Timeout));
    Done { probe, took: began.elapsed(), body }
}

fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(1).max(1)
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
