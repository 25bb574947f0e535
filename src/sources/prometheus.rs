//! Asks Prometheus servers: one task a source, one query for all workloads of the source.
//!
//! A selector is asked for raw samples over a short range, so every sample keeps its own time, counters
//! keep their resets, and the same query with a longer range fills the windows at the start and when a
//! workload appears. An expression is asked for an instant vector; the time of its samples comes from a
//! second expression, or is the time of the evaluation. With such a second expression both can be asked
//! about earlier moments as well.
//!
//! What a tenant chose only filters the answer; it is never part of a query.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::core::Timestamp;
use crate::core::event::{Event, Reading, Sample, SourceFault};
use crate::core::pod_reading::BlamedPod;
use crate::core::roster::PodFacts;
use crate::runtime::clock::{age_of, instant};

use super::Surroundings;
use super::counters::SourceCounters;
use super::definition::{Absent, Form, MatchBy, Query, SampleTime, SourceDefinition};
use super::faults::FaultGate;
use super::series::{AbsentPod, Birth, Book, Origin, Point};
use answer::{Series, Wanted};
use fills::Fills;
use members::{Member, Members};
use past::Moments;
use server::{Connection, MAX_ANSWER_BYTES};

mod answer;
mod fills;
mod members;
mod past;
pub(super) mod probe;
pub(super) mod queries;
pub(super) mod server;

/// How long all queries of one round may take together.
const ROUND_LIMIT: Duration = Duration::from_secs(3);
/// How long the questions about the past may take of it, which an expression can do without.
const PAST_LIMIT: Duration = Duration::from_millis(1500);
/// A failing server is asked at least this often.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest range of raw samples: the longest stable window and twice the longest staleness limit.
const LONGEST_RANGE: Duration = Duration::from_secs(3600 + 2 * 600);
/// After this long a range that was too long is tried again.
const FORGIVEN: Duration = Duration::from_secs(600);
/// A stamp further ahead of our clock than this is no time of a sample.
const FUTURE_LIMIT: Duration = Duration::from_secs(3600);
/// The shortest time from the end of one round to the next.
const REST: Duration = Duration::from_millis(200);
/// How often a sleeping task looks for workloads that have begun to use its source.
const LOOK: Duration = Duration::from_secs(1);

/// The task of one source.
pub(super) struct Poller {
    definition: SourceDefinition,
    around: Surroundings,
    counters: Arc<SourceCounters>,
    connection: Connection,
    wanted: Wanted,
    gate: FaultGate,
    entries: BTreeMap<crate::core::target::TargetId, Entry>,
    /// The newest stamp of any series.
    newest: Option<Timestamp>,
    /// The longest range that the server is able to answer, and since when that is less than the longest
    /// that we would ask.
    longest: Duration,
    shortened_at: Option<Instant>,
    answered_at: Option<Instant>,
    /// When a long range may be asked for. Not counted is what was asked for in vain because the server is
    /// away.
    fills: Fills,
    /// How many long ranges failed in a row.
    failed_fills: u32,
    failures: u32,
}

/// What is known of one workload.
struct Entry {
    book: Book,
    /// The beginning of what was asked for: a series of a pod that started later began at zero.
    since: Timestamp,
    /// Readings begin here: every series that lives has a sample by then.
    from: Timestamp,
    /// When the absence of series was last taken as zero.
    zero_at: Option<Timestamp>,
}

/// What one round asks.
#[derive(Clone, Copy)]
struct Plan {
    /// The range of raw samples.
    range: Duration,
    /// Whether workloads that are new may begin with this answer.
    fills: bool,
    /// Whether the range is longer than the next sample needs.
    is_long: bool,
}

/// What one round learnt.
struct Answer {
    series: Vec<Series>,
    /// The first moment of the past that an expression was asked about.
    past_since: Option<Timestamp>,
    /// The time at which absence was proven to be zero.
    alive: Option<Timestamp>,
}

/// What an answer says about one workload.
#[derive(Clone, Default)]
struct Found {
    present: bool,
    ambiguous: bool,
    /// Why a newest sample was refused.
    refused: Option<SourceFault>,
    /// The pods whose newest samples were.
    blamed: Vec<BlamedPod>,
}

impl Poller {
    pub(super) fn new(definition: SourceDefinition, around: Surroundings) -> Self {
        let wanted = Wanted {
            labels: members::wanted_labels(&definition.matching),
            keep_name: matches!(definition.query, Query::Selector(_)),
        };
        Self {
            counters: around.metrics.of(&definition.name),
            connection: Connection::new(
                definition.server.clone(),
                around.options.credentials_dir.clone(),
            ),
            definition,
            around,
            wanted,
            gate: FaultGate::default(),
            entries: BTreeMap::new(),
            newest: None,
            longest: LONGEST_RANGE,
            shortened_at: None,
            answered_at: None,
            fills: Fills::default(),
            failed_fills: 0,
            failures: 0,
        }
    }

    /// Polls until `cancel` is cancelled.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let work = async {
            loop {
                let began = instant();
                self.poll().await;
                // A slow server has some rest, too.
                let end = (began + self.pause()).max(instant() + REST);
                self.sleep_until(end).await;
            }
        };
        cancel.run_until_cancelled(work).await;
    }

    /// The time from the beginning of one round to the next. A few rounds for each sample, so that a new
    /// one is seen soon; where the samples' time is not known, one round is one sample.
    fn cadence(&self) -> Duration {
        match self.definition.query {
            Query::Expression { time: SampleTime::Resolution(_), .. } => self.definition.spacing(),
            _ => (self.definition.interval / 4).clamp(LOOK, LONGEST_PAUSE),
        }
    }

    fn pause(&self) -> Duration {
        let pause = if self.failures > 0 {
            let doubled = LOOK * 2_u32.saturating_pow((self.failures - 1).min(8));
            doubled.min(LONGEST_PAUSE)
        } else if self.entries.is_empty() {
            LOOK
        } else {
            self.cadence()
        };
        pause.mul_f64(rand::rng().random_range(0.95..1.0))
    }

    /// Sleeps, but not when a workload has begun to use this source.
    async fn sleep_until(&self, end: Instant) {
        loop {
            let now = instant();
            tokio::time::sleep((end - now).min(LOOK)).await;
            if instant() >= end || self.failures == 0 && self.has_new_member() {
                return;
            }
        }
    }

    fn has_new_member(&self) -> bool {
        let roster = self.around.roster.read();
        roster.iter().any(|(target, enrolled)| {
            enrolled.wiring.sources.contains(&self.definition.name)
                && !self.entries.contains_key(target)
        })
    }

    /// One round.
    async fn poll(&mut self) {
        self.gate.begin();
        let (source, matching) = (&self.definition.name, &self.definition.matching);
        let members = Members::of(&self.around.roster.read(), source, matching);
        self.forget(&members);
        if members.list.is_empty() {
            self.failures = 0;
            return;
        }
        let plan = self.plan(&members);
        let deadline = instant() + ROUND_LIMIT;
        let asked = tokio::time::timeout_at(deadline, self.ask(plan)).await;
        match asked.unwrap_or(Err(SourceFault::Timeout)) {
            Ok(answer) => {
                if self.failures > 0 {
                    tracing::info!(source = %self.definition.name, "source answers again");
                }
                self.failures = 0;
                self.answered_at = Some(instant());
                if self.shortened_at.is_some_and(|at| at.elapsed() > FORGIVEN) {
                    self.longest = LONGEST_RANGE;
                    self.shortened_at = None;
                }
                if plan.is_long && self.is_raw() {
                    self.fills.succeed(instant());
                    self.failed_fills = 0;
                }
                self.take(&members, answer, plan);
            }
            Err(fault) => self.fail(&members, plan, fault),
        }
    }

    fn forget(&mut self, members: &Members) {
        let targets: BTreeSet<_> = members.list.iter().map(|member| &member.target).collect();
        self.entries.retain(|target, _| targets.contains(target));
        self.gate.retain(|target| targets.contains(target));
    }

    /// Whether raw samples are asked for.
    fn is_raw(&self) -> bool {
        matches!(self.definition.query, Query::Selector(_))
    }

    /// How far back this round has to ask: over a pause of the server, and where workloads are new, over
    /// their windows. Such long ranges are asked for at bounded intervals, so that neither tenants nor a
    /// server that cannot bear them keep the others from their samples.
    fn plan(&self, members: &Members) -> Plan {
        let stale_after = self.definition.stale_after;
        let silence = self.answered_at.map(|at| at.elapsed()).unwrap_or_default();
        let live = stale_after + self.cadence() + Duration::from_secs(2);
        let rested = self.fills.allow(instant());
        let may_be_long = rested || self.entries.is_empty();
        if self.is_raw() && !may_be_long {
            return Plan { range: live, fills: false, is_long: false };
        }
        let is_new = |member: &&Member| !self.entries.contains_key(&member.target);
        let window =
            members.list.iter().filter(is_new).map(|member| member.wiring.stable_window).max();
        // A window ends at the newest sample, which may lag by one staleness limit; the series that count
        // at its beginning may be older by another.
        let filling = window.map(|window| window + stale_after * 2).unwrap_or_default();
        let range = (silence + live).max(filling).min(self.longest);
        // Rounds are not exactly as far apart as they should be.
        let is_long = may_be_long && range > live + self.cadence() * 2;
        let range = if is_long { range } else { live };
        Plan { range, fills: window.is_some(), is_long }
    }

    /// Notes a round without an answer.
    fn fail(&mut self, members: &Members, plan: Plan, fault: SourceFault) {
        if self.failures == 0 {
            tracing::warn!(source = %self.definition.name, fault = fault.as_str(), "source fails");
        }
        self.failures = self.failures.saturating_add(1);
        let perhaps_too_long =
            matches!(fault, SourceFault::TooLarge | SourceFault::Timeout | SourceFault::BadStatus)
                || fault == SourceFault::QueryRefused;
        if plan.is_long && self.is_raw() && perhaps_too_long {
            self.fills.fail(instant());
            self.failed_fills += 1;
            // A server that is merely busy gets a second and a third chance.
            if fault == SourceFault::TooLarge || self.failed_fills >= 3 {
                self.shorten(plan);
            }
        }
        self.counters.failed(fault);
        let now = self.around.clock.now();
        for member in &members.list {
            let (source, engine) = (&self.definition.name, &self.around.engine);
            self.gate.tell(now, &member.target, source, fault, engine);
        }
    }

    fn shorten(&mut self, plan: Plan) {
        self.longest = plan.range / 2;
        self.shortened_at = Some(instant());
    }

    /// Asks everything that belongs to one round.
    async fn ask(&mut self, plan: Plan) -> Result<Answer, SourceFault> {
        let mut past_since = None;
        let (series, time) = match self.definition.query.clone() {
            // Asked for each workload, by another task.
            Query::Brought => return Err(SourceFault::Malformed),
            Query::Selector(text) => {
                let seconds = plan.range.as_secs() + u64::from(plan.range.subsec_nanos() > 0);
                (self.query(&format!("{text}[{seconds}s]"), None).await?, None)
            }
            Query::Expression { text, time: SampleTime::Resolution(_) } => {
                let series = self.query(&text, None).await?;
                let time = evaluated_at(&series);
                (series, time)
            }
            Query::Expression { text, time: SampleTime::Expression(stamps) } => {
                // The stamps come first: should a sample arrive in between, its value is seen early and
                // is taken again with its own stamp in the next round.
                let newest = self.query(&stamps, None).await?;
                let time = evaluated_at(&newest);
                let values = self.query(&text, time).await?;
                let mut series = past::stamped(values, &newest);
                if let Some(now) = time.filter(|_| plan.is_long) {
                    let moments = Moments::before(now, plan.range, self.definition.interval);
                    if let Some(past) = self.ask_past(&text, &stamps, moments, plan).await {
                        series = past::followed_by(past, series);
                        past_since = Timestamp::from_second(moments.first).ok();
                    }
                }
                (series, time)
            }
        };
        let alive = match self.definition.absent.clone() {
            Absent::Unknown => None,
            Absent::Zero { alive } => proven(&self.query(&alive, time).await?),
        };
        Ok(Answer { series, past_since, alive })
    }

    /// What an expression gave at earlier moments; without an answer windows begin with the present.
    async fn ask_past(
        &mut self,
        text: &str,
        stamps: &str,
        moments: Moments,
        plan: Plan,
    ) -> Option<Vec<Series>> {
        // Should this be too much for the round, the next one goes without.
        let before = self.fills;
        self.fills.fail(instant());
        let asker = self.connection.opened().await.ok()?;
        let ask = async |text: &str| {
            let answer = asker.query_range(text, moments, PAST_LIMIT, MAX_ANSWER_BYTES);
            decoded(answer.await?, self.wanted.clone()).await
        };
        let both = async { Ok::<_, SourceFault>((ask(text).await?, ask(stamps).await?)) };
        let answer = tokio::time::timeout(PAST_LIMIT, both).await;
        match answer.unwrap_or(Err(SourceFault::Timeout)) {
            Ok((values, stamps)) => {
                self.fills = before;
                self.fills.succeed(instant());
                Some(past::stamped(values, &stamps))
            }
            Err(fault) => {
                let (source, fault) = (&self.definition.name, fault.as_str());
                tracing::debug!(%source, fault, "the past of a source is not known");
                self.shorten(plan);
                None
            }
        }
    }

    async fn query(
        &mut self,
        text: &str,
        time: Option<Timestamp>,
    ) -> Result<Vec<Series>, SourceFault> {
        // A round that takes too long drops its query, which counts all the same.
        let request = self.counters.request(instant());
        let body = self.connection.query(text, time, ROUND_LIMIT).await;
        drop(request);
        decoded(body?, self.wanted.clone()).await
    }

    /// Takes an answer and hands the samples to the engine.
    fn take(&mut self, members: &Members, answer: Answer, plan: Plan) {
        let wall = self.around.clock.wall();
        self.open_entries(members, &answer, plan, wall);
        let found = self.distribute(members, answer.series, wall);
        let (mut samples, mut blamed) = (Vec::new(), Vec::new());
        for (member, found) in members.list.iter().zip(found) {
            self.conclude(member, &found, answer.alive, wall, &mut samples);
            blamed.push((member, found.blamed));
        }
        {
            let now = self.around.clock.now();
            let mut readings = self.around.readings.lock();
            for (member, blamed) in blamed {
                readings.blame(now, &member.target, &self.definition.name, blamed.into_iter());
            }
        }
        self.newest = self.entries.values().filter_map(|entry| entry.book.newest()).max();
        if !samples.is_empty() {
            self.around.engine.offer(Event::Sampled { samples });
        }
    }

    /// Begins with the workloads that are new, if this answer goes back far enough for them.
    fn open_entries(&mut self, members: &Members, answer: &Answer, plan: Plan, wall: Timestamp) {
        if !plan.fills {
            return;
        }
        let stamps = answer.series.iter().filter_map(|series| series.points.last());
        let now = stamps.map(|point| point.at).filter(|at| is_time(*at, wall)).max();
        let now = now.map_or(wall, |now| now.max(wall));
        let (since, from) = if self.is_raw() {
            let since = before(now, plan.range);
            (since, since.checked_add(self.definition.stale_after).unwrap_or(since))
        } else {
            (now, answer.past_since.unwrap_or(Timestamp::MIN))
        };
        for member in &members.list {
            self.entries.entry(member.target.clone()).or_insert_with(|| Entry {
                book: Book::default(),
                since,
                from,
                zero_at: None,
            });
        }
    }

    /// Gives every series to its owners.
    fn distribute(
        &mut self,
        members: &Members,
        series: Vec<Series>,
        wall: Timestamp,
    ) -> Vec<Found> {
        let mut found = vec![Found::default(); members.list.len()];
        let mut owners = Vec::new();
        let mut keys = HashSet::new();
        let repeated: HashSet<_> =
            series.iter().map(|one| &one.key).filter(|key| !keys.insert(*key)).cloned().collect();
        for mut one in series {
            members.owners(&self.definition.matching, &one.labels, &mut owners);
            let all = one.points.len();
            one.points.retain(|point| is_time(point.at, wall));
            for (at, pod) in &owners {
                let (Some(member), Some(found)) = (members.list.get(*at), found.get_mut(*at))
                else {
                    continue;
                };
                let Some(entry) = self.entries.get_mut(&member.target) else { continue };
                found.present |= all > 0;
                if one.points.len() < all {
                    found.refused = Some(SourceFault::InvalidSample);
                }
                if repeated.contains(&one.key) {
                    found.ambiguous = true;
                    continue;
                }
                let pod = pod.and_then(|pod| member.pods.get(pod));
                let is_new = !entry.book.knows(&one.key);
                let birth = one.points.first().filter(|_| is_new).and_then(|first| {
                    let started_at = pod.and_then(|pod| pod.started_at);
                    birth(&self.definition, entry, started_at, self.newest, first.at)
                });
                let origin = Origin {
                    pod: pod.map(|pod| pod.name.clone()),
                    is_counter: self.definition.form == Form::Counter,
                    birth,
                    most: most_of(member, pod),
                };
                let refused = entry.book.take(&one.key, &origin, &one.points);
                let blamed = origin.pod.zip(refused).map(|(name, fault)| BlamedPod { name, fault });
                found.blamed.extend(blamed);
                found.refused = refused.or(found.refused);
            }
        }
        found
    }

    /// Ends the round for one workload: its samples, or the reason why there is none.
    fn conclude(
        &mut self,
        member: &Member,
        found: &Found,
        alive: Option<Timestamp>,
        wall: Timestamp,
        samples: &mut Vec<Sample>,
    ) {
        let definition = &self.definition;
        let is_raw = self.is_raw();
        let Some(entry) = self.entries.get_mut(&member.target) else { return };
        let absent = if matches!(definition.matching.by, MatchBy::Pod(_)) {
            let names: BTreeSet<&str> = member.pods.iter().map(|pod| &*pod.name).collect();
            entry.book.retain(wall, |pod| names.contains(pod));
            absent_pods(member, &entry.book, definition.stale_after, self.around.clock.now())
        } else {
            entry.book.retain(wall, |_| true);
            Vec::new()
        };
        let mut readings = entry.book.readings(entry.from, definition.stale_after, &absent);
        let newest = entry.book.newest();
        let is_fresh = newest.is_some_and(|at| age_of(at, wall) <= definition.stale_after);
        let is_absent = if is_raw { !is_fresh } else { !found.present };
        if is_absent && let Some(at) = alive {
            let due = definition.spacing().mul_f64(0.9);
            if entry.zero_at.is_none_or(|zero_at| age_of(zero_at, at) >= due) {
                entry.zero_at = Some(at);
                readings.push((at, Reading::Value { seen: 0.0, missing: 0 }));
            }
        } else if !readings.is_empty() {
            entry.zero_at = None;
        }
        for (at, reading) in readings {
            self.counters.sampled(&reading);
            samples.push(Sample {
                target: member.target.clone(),
                source: definition.name.clone(),
                age: age_of(at, wall),
                stamp_ms: Some(at.as_millisecond()),
                reading,
            });
        }
        let fault = match newest {
            _ if found.ambiguous => Some(SourceFault::Ambiguous),
            _ if found.refused.is_some() => found.refused,
            _ if is_absent && alive.is_some() => None,
            // What there is may be too old to be remembered.
            None if found.present => Some(SourceFault::Stale),
            None => Some(SourceFault::Empty),
            Some(_) if !is_raw && !found.present => Some(SourceFault::Empty),
            Some(_) if !is_fresh => Some(SourceFault::Stale),
            Some(_) => None,
        };
        let Some(fault) = fault else { return self.gate.clear(&member.target) };
        self.counters.failed(fault);
        let now = self.around.clock.now();
        self.gate.tell(now, &member.target, &definition.name, fault, &self.around.engine);
    }
}

/// The most that is believed of one series: only those of pods have a limit.
fn most_of(member: &Member, pod: Option<&PodFacts>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a limit of that size need not be exact")]
    let limit = member.wiring.most_per_pod.filter(|_| pod.is_some()).map(|most| most as f64);
    limit.unwrap_or(f64::INFINITY)
}

/// How a counter that was never seen before began, if that is known: with its pod, if that started after
/// the beginning of what we asked for, or at a moment at which its absence was proven to be zero. The
/// first value is spread over no more time than it can have taken unseen.
fn birth(
    definition: &SourceDefinition,
    entry: &Entry,
    started_at: Option<Timestamp>,
    newest: Option<Timestamp>,
    first: Timestamp,
) -> Option<Birth> {
    let at = started_at.filter(|started_at| *started_at >= entry.since).or(entry.zero_at)?;
    let unseen = newest.map_or(LONGEST_RANGE, |newest| age_of(newest, first));
    Some(Birth { at, least: definition.interval, most: unseen.max(definition.stale_after) })
}

/// The pods that should have a series, as those that are ready or were within the stable window, and
/// whose series is older than the newest one by more than the staleness limit.
fn absent_pods(
    member: &Member,
    book: &Book,
    stale_after: Duration,
    now: Timestamp,
) -> Vec<AbsentPod> {
    let Some(newest) = book.newest() else { return Vec::new() };
    let seen = book.pods();
    let window = member.wiring.stable_window;
    member
        .pods
        .iter()
        .filter(|pod| {
            let was_ready = pod.unready_since.is_some_and(|since| age_of(since, now) <= window);
            !pod.terminating && (pod.ready || was_ready)
        })
        .map(|pod| AbsentPod {
            started_at: pod.started_at,
            last_seen: seen.get(&*pod.name).copied(),
        })
        .filter(|pod| pod.last_seen.is_none_or(|last| age_of(last, newest) > stale_after))
        .collect()
}

/// The time at which an instant query was evaluated.
fn evaluated_at(series: &[Series]) -> Option<Timestamp> {
    series.first()?.points.first().map(|point| point.at)
}

/// Whether the answer of an `alive` expression is the one value 1, and when it was.
fn proven(series: &[Series]) -> Option<Timestamp> {
    let [Series { points, .. }] = series else { return None };
    let [Point { at, value }] = points.as_slice() else { return None };
    ((value - 1.0).abs() < f64::EPSILON).then_some(*at)
}

/// Decodes an answer, a large one beside the other tasks.
async fn decoded(body: Bytes, wanted: Wanted) -> Result<Vec<Series>, SourceFault> {
    if body.len() < 256 * 1024 {
        return answer::decode(&body, &wanted);
    }
    tokio::task::spawn_blocking(move || answer::decode(&body, &wanted))
        .await
        .unwrap_or(Err(SourceFault::Malformed))
}

/// Whether a stamp can be the time of a sample.
fn is_time(at: Timestamp, wall: Timestamp) -> bool {
    age_of(wall, at) <= FUTURE_LIMIT
}

fn before(at: Timestamp, span: Duration) -> Timestamp {
    at.checked_sub(span).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests;
