//! Asks the queries that workloads bring along: one question for each workload, because each is its own.
//!
//! Whoever brings an expensive query waits for it alone: the queries of one namespace are asked one after
//! the other, those of different namespaces side by side, and one that fails is asked more and more seldom.
//! The texts come narrowed to their namespace ([`crate::core::promql::query`]).
//!
//! After a start, and after a pause of the server, a query is also asked about the time that the window
//! lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rand::RngExt;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::core::Timestamp;
use crate::core::event::{Event, Reading, Sample, SourceFault};
use crate::core::source::OwnQuery;
use crate::core::target::TargetId;
use crate::runtime::clock::{age_of, instant};
use crate::sources::Surroundings;
use crate::sources::counters::SourceCounters;
use crate::sources::definition::SourceDefinition;
use crate::sources::faults::FaultGate;
use crate::sources::series::Point;

use super::answer::{self, Series, Wanted};
use super::past::{self, Moments};
use super::server::{Asker, Connection};

/// How long one query may take.
const QUERY_LIMIT: Duration = Duration::from_secs(3);
/// The most bytes of an answer: it is one number.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The most namespaces that are asked for at the same time.
const MAX_NAMESPACES: usize = 16;
/// The most bytes of an answer about the past: a number for each second of the longest window.
const MAX_PAST_BYTES: usize = 1 << 20;
/// A workload's past is not asked for more often than this, however often a tenant changes its mind.
const FILL_PAUSE: Duration = Duration::from_secs(30);
/// How often it is looked what is due.
const LOOK: Duration = Duration::from_secs(1);
/// The pause after the first failure of a query, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The task of one source with `queries: true`.
pub(in crate::sources) struct QueryAsker {
    definition: SourceDefinition,
    around: Surroundings,
    counters: Arc<SourceCounters>,
    connection: Connection,
    gate: FaultGate,
    turns: BTreeMap<TargetId, Turn>,
    /// Namespaces whose queries are being asked.
    busy: BTreeSet<Arc<str>>,
}

/// When a workload's query is asked next.
struct Turn {
    query: OwnQuery,
    window: Duration,
    due: Instant,
    failures: u32,
    /// When a number was last heard, of this query or of the one before.
    heard_at: Option<Instant>,
    /// When its past was last asked for.
    filled_at: Option<Instant>,
}

/// One query that is due.
struct Question {
    target: TargetId,
    query: OwnQuery,
    /// How much of the past is asked for, and in which steps.
    past: Option<(Duration, Duration)>,
}

/// What is answered to a question: numbers of the past, oldest first, and that of the present.
struct Numbers {
    past: Vec<Point>,
    present: Point,
}

/// What came of the queries of one namespace.
struct Answers {
    namespace: Arc<str>,
    given: Vec<(Question, Duration, Result<Numbers, SourceFault>)>,
}

impl QueryAsker {
    pub(in crate::sources) fn new(definition: SourceDefinition, around: Surroundings) -> Self {
        let credentials_dir = around.options.credentials_dir.clone();
        Self {
            counters: around.metrics.of(&definition.name),
            connection: Connection::new(definition.server.clone(), credentials_dir),
            definition,
            around,
            gate: FaultGate::default(),
            turns: BTreeMap::new(),
            busy: BTreeSet::new(),
        }
    }

    /// Asks until `cancel` is cancelled.
    pub(in crate::sources) async fn run(mut self, cancel: CancellationToken) {
        let work = async {
            let mut looks = tokio::time::interval(LOOK);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut asked = FuturesUnordered::new();
            loop {
                tokio::select! {
                    Some(answers) = asked.next() => self.take(answers),
                    _ = looks.tick() => asked.extend(self.begin().await),
                }
            }
        };
        cancel.run_until_cancelled(work).await;
    }

    /// The namespaces in which something is due, each as a question to come.
    async fn begin(&mut self) -> Vec<BoxFuture<'static, Answers>> {
        self.gate.begin();
        self.read_roster();
        let due = self.due();
        if due.is_empty() {
            return Vec::new();
        }
        match self.connection.opened().await {
            Ok(asker) => {
                self.busy.extend(due.keys().cloned());
                let ask = |(namespace, questions)| {
                    Box::pin(ask_all(asker.clone(), namespace, questions)) as BoxFuture<'static, _>
                };
                due.into_iter().map(ask).collect()
            }
            Err(fault) => {
                for question in due.into_values().flatten() {
                    self.settle(question, Err(fault));
                }
                Vec::new()
            }
        }
    }

    /// Takes up who is new and forgets who is gone.
    fn read_roster(&mut self) {
        let mut known = std::mem::take(&mut self.turns);
        for (target, enrolled) in self.around.roster.read().iter() {
            let Some(query) = enrolled.wiring.queries.get(&self.definition.name) else { continue };
            let window = enrolled.wiring.stable_window;
            let turn = match known.remove(target) {
                Some(turn) if turn.query == *query => Turn { window, ..turn },
                before => Turn {
                    query: query.clone(),
                    window,
                    due: instant(),
                    failures: 0,
                    heard_at: before.as_ref().and_then(|turn| turn.heard_at),
                    filled_at: before.and_then(|turn| turn.filled_at),
                },
            };
            self.turns.insert(target.clone(), turn);
        }
        let turns = &self.turns;
        self.gate.retain(|target| turns.contains_key(target));
    }

    /// What is to be asked now by namespace, the longest due first.
    fn due(&self) -> BTreeMap<Arc<str>, Vec<Question>> {
        let now = instant();
        let mut turns: Vec<_> = self.turns.iter().filter(|(_, turn)| turn.due <= now).collect();
        turns.sort_by_key(|(_, turn)| turn.due);
        let mut due: BTreeMap<Arc<str>, Vec<Question>> = BTreeMap::new();
        let room = MAX_NAMESPACES.saturating_sub(self.busy.len());
        for (target, turn) in turns {
            let namespace = &target.namespace;
            let fits = due.len() < room || due.contains_key(namespace);
            if fits && !self.busy.contains(namespace) {
                let question = Question {
                    target: target.clone(),
                    query: turn.query.clone(),
                    past: turn.lacks(now, &self.definition),
                };
                due.entry(namespace.clone()).or_default().push(question);
            }
        }
        due
    }

    fn take(&mut self, answers: Answers) {
        self.busy.remove(&answers.namespace);
        for (question, took, answer) in answers.given {
            self.counters.requested(took);
            self.settle(question, answer);
        }
    }

    /// Ends one question: a sample, or why there is none.
    fn settle(&mut self, question: Question, answer: Result<Numbers, SourceFault>) {
        let Question { target, query, past } = question;
        // The workload may have changed its mind meanwhile.
        let Some(turn) = self.turns.get_mut(&target).filter(|turn| turn.query == query) else {
            return;
        };
        match answer {
            Ok(numbers) => {
                let now = instant();
                turn.failures = 0;
                turn.heard_at = Some(now);
                turn.filled_at = past.map(|_| now).or(turn.filled_at);
                let jitter = rand::rng().random_range(0.9..1.0);
                turn.due = now + self.definition.interval.mul_f64(jitter);
                self.gate.clear(&target);
                let source = &self.definition.name;
                let sampled = numbers.readings().map(|(age, reading)| {
                    self.counters.sampled(&reading);
                    let (target, source) = (target.clone(), source.clone());
                    Sample { target, source, age, stamp_ms: None, reading }
                });
                self.around.engine.offer(Event::Sampled { samples: sampled.collect() });
            }
            Err(fault) => {
                let pause = FIRST_PAUSE * 2_u32.saturating_pow(turn.failures.min(8));
                turn.failures = turn.failures.saturating_add(1);
                turn.due = instant() + pause.min(LONGEST_PAUSE);
                self.counters.failed(fault);
                let (now, source) = (self.around.clock.now(), &self.definition.name);
                self.gate.tell(now, &target, source, fault, &self.around.engine);
            }
        }
    }
}

impl Turn {
    /// How much of the past the window lacks, and in which steps it is to be asked for: all of it at first,
    /// and after a pause the time of the pause.
    fn lacks(&self, now: Instant, definition: &SourceDefinition) -> Option<(Duration, Duration)> {
        let is_rested = self.filled_at.is_none_or(|at| now - at >= FILL_PAUSE);
        let silence = self.heard_at.map_or(Duration::MAX, |at| now - at);
        // A window ends at the newest number, and what counts at its beginning may be older.
        let most = self.window + definition.stale_after;
        let lacks = is_rested && silence > definition.stale_after;
        lacks.then_some((silence.min(most), definition.interval))
    }
}

impl Numbers {
    /// Each number with its age, oldest first. The present is that of the server, whose clock may differ
    /// from ours.
    fn readings(&self) -> impl Iterator<Item = (Duration, Reading)> + '_ {
        let now = self.present.at;
        let past = self.past.iter().filter(move |point| point.at < now);
        past.chain([&self.present]).map(move |point| {
            (age_of(point.at, now), Reading::Value { seen: point.value, missing: 0 })
        })
    }
}

/// Asks the queries of one namespace, one after the other.
async fn ask_all(asker: Asker, namespace: Arc<str>, questions: Vec<Question>) -> Answers {
    let mut given = Vec::new();
    for question in questions {
        let began = instant();
        let present = asker.query(&question.query.text, None, QUERY_LIMIT, MAX_ANSWER_BYTES);
        let present = within_limit(present).await.and_then(|series| number_of(&series));
        let took = began.elapsed();
        let numbers = match present {
            Ok(present) => {
                Ok(Numbers { past: ask_past(&asker, &question, present.at).await, present })
            }
            Err(fault) => Err(fault),
        };
        given.push((question, took, numbers));
    }
    Answers { namespace, given }
}

/// The numbers before `now`. Without an answer the window begins with the present.
async fn ask_past(asker: &Asker, question: &Question, now: Timestamp) -> Vec<Point> {
    let Some((span, step)) = question.past else { return Vec::new() };
    let (text, moments) = (&question.query.past, Moments::before(now, span, step));
    let answer = asker.query_range(text, moments, QUERY_LIMIT, MAX_PAST_BYTES);
    match within_limit(answer).await {
        Ok(series) => past::numbers(&series),
        Err(fault) => {
            let target = &question.target;
            tracing::debug!(%target, fault = fault.as_str(), "the past of a query is not known");
            Vec::new()
        }
    }
}

async fn within_limit(
    answer: impl Future<Output = Result<Bytes, SourceFault>>,
) -> Result<Vec<Series>, SourceFault> {
    let body = tokio::time::timeout(QUERY_LIMIT, answer).await;
    answer::decode(&body.unwrap_or(Err(SourceFault::Timeout))?, &Wanted::default())
}

/// The one number of an answer.
fn number_of(series: &[Series]) -> Result<Point, SourceFault> {
    let points = match series {
        [] => return Err(SourceFault::Empty),
        [one] => one.points.as_slice(),
        _ => return Err(SourceFault::Ambiguous),
    };
    match points {
        [] => Err(SourceFault::Empty),
        [point] if point.value.is_finite() && point.value >= 0.0 => Ok(*point),
        [_] => Err(SourceFault::InvalidSample),
        _ => Err(SourceFault::Ambiguous),
    }
}

#[cfg(test)]
mod tests;
