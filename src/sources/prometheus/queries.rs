//! Asks the queries that workloads bring along: one question for each workload, because each is its own.
//!
//! Whoever brings an expensive query waits for it alone: the queries of one namespace are asked one after
//! the other, those of different namespaces side by side, and one that fails is asked more and more seldom.
//! The texts come narrowed to their namespace ([`crate::core::promql::query`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rand::RngExt;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::core::event::{Event, Reading, Sample, SourceFault};
use crate::core::target::TargetId;
use crate::runtime::clock::instant;
use crate::sources::Surroundings;
use crate::sources::counters::SourceCounters;
use crate::sources::definition::SourceDefinition;
use crate::sources::faults::FaultGate;

use super::answer::{self, Series, Wanted};
use super::server::{Asker, Connection};

/// How long one query may take.
const QUERY_LIMIT: Duration = Duration::from_secs(3);
/// The most bytes of an answer: it is one number.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The most namespaces that are asked for at the same time.
const MAX_NAMESPACES: usize = 16;
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
    text: Arc<str>,
    due: Instant,
    failures: u32,
}

/// One query that is due.
struct Question {
    target: TargetId,
    text: Arc<str>,
}

/// What came of the queries of one namespace.
struct Answers {
    namespace: Arc<str>,
    given: Vec<(Question, Duration, Result<f64, SourceFault>)>,
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
            let Some(text) = enrolled.wiring.queries.get(&self.definition.name) else { continue };
            let turn = known.remove(target).filter(|turn| turn.text == *text);
            let now = || Turn { text: text.clone(), due: instant(), failures: 0 };
            self.turns.insert(target.clone(), turn.unwrap_or_else(now));
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
                let question = Question { target: target.clone(), text: turn.text.clone() };
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
    fn settle(&mut self, question: Question, answer: Result<f64, SourceFault>) {
        let Question { target, text } = question;
        // The workload may have changed its mind meanwhile.
        let Some(turn) = self.turns.get_mut(&target).filter(|turn| turn.text == text) else {
            return;
        };
        match answer {
            Ok(seen) => {
                turn.failures = 0;
                let jitter = rand::rng().random_range(0.9..1.0);
                turn.due = instant() + self.definition.interval.mul_f64(jitter);
                let reading = Reading::Value { seen, missing: 0 };
                self.counters.sampled(&reading);
                self.gate.clear(&target);
                let source = self.definition.name.clone();
                // The server evaluates it now, and its clock may differ from ours.
                let age = Duration::ZERO;
                let sample = Sample { target, source, age, stamp_ms: None, reading };
                self.around.engine.offer(Event::Sampled { samples: vec![sample] });
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

/// Asks the queries of one namespace, one after the other.
async fn ask_all(asker: Asker, namespace: Arc<str>, questions: Vec<Question>) -> Answers {
    let mut given = Vec::new();
    for question in questions {
        let began = instant();
        let answer = asker.query(&question.text, None, QUERY_LIMIT, MAX_ANSWER_BYTES);
        let answer = tokio::time::timeout(QUERY_LIMIT, answer).await;
        let body = answer.unwrap_or(Err(SourceFault::Timeout));
        let number = body.and_then(|body| number_of(&answer::decode(&body, &Wanted::default())?));
        given.push((question, began.elapsed(), number));
    }
    Answers { namespace, given }
}

/// The one number of an answer.
fn number_of(series: &[Series]) -> Result<f64, SourceFault> {
    let points = match series {
        [] => return Err(SourceFault::Empty),
        [one] => one.points.as_slice(),
        _ => return Err(SourceFault::Ambiguous),
    };
    match points {
        [] => Err(SourceFault::Empty),
        [point] if point.value.is_finite() && point.value >= 0.0 => Ok(point.value),
        [_] => Err(SourceFault::InvalidSample),
        _ => Err(SourceFault::Ambiguous),
    }
}

#[cfg(test)]
mod tests;
