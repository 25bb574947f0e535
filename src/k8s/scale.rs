//! Writes the scale subresource: the only thing that podswell ever changes on a workload.
//!
//! A write carries the `resourceVersion` that its decision has seen, so that the API server refuses it
//! when anybody changed the object since; what it then says is told to the engine, which decides again.
//! No old number is ever sent a second time on a hunch:
//!
//! - *Conflict* (409): the scale is read. Only while its replicas are still the ones that the decision
//!   started from (the version also changes with every status update, so many times a second during a
//!   roll-out) the same write is tried again, with the new version, three times at most.
//! - *Unknown* (5xx, time-out, broken connection): it may or may not have been stored. The scale is
//!   read before anything else is written, and the engine is told what it says.
//! - *Refused* (403, 422 and other 4xx) and *gone* (404): that target alone is left alone, for 5 s at
//!   first and up to 5 min. Too many requests (429) concerns all of our writes: none is sent until
//!   the time that the server asks for has passed.
//!
//! One value waits per target; a newer one replaces it. Every value that is taken up is answered with
//! [`Event::ScaleWritten`], except when this process may not write any more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::{Client, Resource};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::lease::Leadership;
use super::{FIELD_MANAGER, Uids};
use crate::core::decision::Reason;
use crate::core::event::{Action, Event, WriteOutcome};
use crate::core::target::TargetId;
use crate::runtime::clock::Clock;
use crate::runtime::engine_handle::EngineHandle;

/// How many writes are under way at once.
const IN_FLIGHT: usize = 32;

/// How often a write that met a conflict is tried again while its premise holds.
const RETRIES: u32 = 3;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The first and the longest pause after a refusal.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The second pause after a write with no clear answer (there is none after the first), and the longest.
const FIRST_UNCLEAR_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_UNCLEAR_PAUSE: Duration = Duration::from_secs(10);

/// The pause after 429 without a usable `Retry-After`; also the shortest one.
const SHORTEST_RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long after its pause a target's record is kept.
const MEMORY: SignedDuration = SignedDuration::from_mins(10);

/// How many records may gather before old ones are looked for.
const RECORDS: usize = 1024;

/// The largest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;

/// How long writes under way may go on after the stop.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// One wish: [`Action::Write`] as a struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleWrite {
    /// The target.
    pub target: TargetId,
    /// The replicas to write, ≥ 0.
    pub replicas: i32,
    /// The replicas that the decision has seen.
    pub from: i32,
    /// The version that the decision has seen.
    pub resource_version: Arc<str>,
    /// Why.
    pub reason: Reason,
}

impl ScaleWrite {
    /// The wish in an action; `None` for other actions.
    pub fn from_action(action: Action) -> Option<Self> {
        match action {
            Action::Write { target, replicas, from, resource_version, reason } => {
                Some(Self { target, replicas, from, resource_version, reason })
            }
            Action::Announce { .. } => None,
        }
    }
}

/// Hears of every write that was tried: how it ended, and how long that took from the submission on.
pub type WriteObserver = Arc<dyn Fn(&WriteOutcome, Duration) + Send + Sync>;

/// What a writer works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Who hears of outcomes.
    pub engine: EngineHandle,
    /// Engine time.
    pub clock: Arc<dyn Clock>,
    /// Whether this process may write; looked at when writing.
    pub leader: Arc<Leadership>,
    /// The uids of the targets' objects.
    pub uids: Arc<Uids>,
    /// Counts outcomes.
    pub observer: WriteObserver,
}

/// The way into a writer. Cheap to clone.
#[derive(Clone)]
pub struct ScaleQueue {
    clock: Arc<dyn Clock>,
    waiting: Arc<Mutex<Waiting>>,
    wake: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Waiting {
    writes: BTreeMap<TargetId, (ScaleWrite, Timestamp)>,
    order: VecDeque<TargetId>,
}

impl ScaleQueue {
    /// Hands over a wish without waiting. It replaces one for the same target that was not taken up yet.
    pub fn submit(&self, write: ScaleWrite) {
        let now = self.clock.now();
        let mut waiting = self.waiting.lock();
        let target = write.target.clone();
        if waiting.writes.insert(target.clone(), (write, now)).is_none() {
            waiting.order.push_back(target);
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// The oldest wish of a target that is not `busy`.
    fn take(&self, busy: &BTreeSet<TargetId>) -> Option<(ScaleWrite, Timestamp)> {
        let mut waiting = self.waiting.lock();
        let position = waiting.order.iter().position(|target| !busy.contains(target))?;
        let target = waiting.order.remove(position)?;
        waiting.writes.remove(&target)
    }

    /// How many targets have a value waiting.
    pub fn len(&self) -> usize {
        self.waiting.lock().writes.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the scale subresource says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    replicas: i32,
    resource_version: Arc<str>,
    uid: Option<String>,
}

/// What the API server said to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Scale(Seen),
    Conflict,
    TooMany(Duration),
    Refused(u16),
    Gone,
    /// Nothing that tells whether a write was stored.
    Unclear(&'static str),
}

/// How a wish ended, and what was seen on the way.
#[derive(Debug)]
struct Report {
    outcome: WriteOutcome,
    seen: Option<Seen>,
}

impl Report {
    fn new(outcome: WriteOutcome, seen: Option<Seen>) -> Self {
        Self { outcome, seen }
    }
}

/// What is remembered of a target that did not take a write.
#[derive(Clone, Debug)]
struct Trouble {
    /// How many wishes failed in a row.
    failures: u32,
    /// Until when nothing is tried.
    until: Timestamp,
    /// How the last wish ended.
    outcome: WriteOutcome,
    /// The last write may have been stored and the scale was not read since: read first.
    unread: bool,
}

/// The task that writes. Made with [`ScaleWriter::new`], driven with [`ScaleWriter::run`].
pub struct ScaleWriter {
    context: Context,
    queue: ScaleQueue,
    timeout: Duration,
    troubles: Mutex<BTreeMap<TargetId, Trouble>>,
    paused_until: Mutex<Timestamp>,
    stopping: AtomicBool,
}

impl ScaleWriter {
    /// A writer with nothing to do.
    pub fn new(context: Context) -> Self {
        let clock = context.clock.clone();
        let queue = ScaleQueue { clock, waiting: Arc::default(), wake: Arc::default() };
        Self {
            context,
            queue,
            timeout: TIMEOUT,
            troubles: Mutex::default(),
            paused_until: Mutex::new(Timestamp::UNIX_EPOCH),
            stopping: AtomicBool::new(false),
        }
    }

    /// The way to hand it wishes while it runs.
    pub fn queue(&self) -> ScaleQueue {
        self.queue.clone()
    }

    /// Writes until `stop`; then nothing new is begun, and what is under way gets two seconds.
    pub async fn run(self, stop: CancellationToken) {
        let mut busy = BTreeSet::new();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < IN_FLIGHT {
                let Some((write, since)) = self.queue.take(&busy) else { break };
                busy.insert(write.target.clone());
                running.push(self.carry_out(write, since));
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(target) = running.next() => { busy.remove(&target); }
                () = self.queue.wake.notified() => {}
            }
        }
        self.stopping.store(true, Ordering::Relaxed);
        let rest = async { while running.next().await.is_some() {} };
        if tokio::time::timeout(STOP_GRACE, rest).await.is_err() {
            tracing::warn!("writes were still under way at the stop");
        }
    }

    async fn carry_out(&self, write: ScaleWrite, since: Timestamp) -> TargetId {
        let report = match self.held_back(&write.target) {
            Some(outcome) => Some(Report::new(outcome, None)),
            None => self.write(&write).await,
        };
        let target = write.target;
        if let Some(report) = report {
            let took = self.context.clock.now().duration_since(since);
            (self.context.observer)(&report.outcome, took.try_into().unwrap_or_default());
            log(&target, write.replicas, write.reason, &report.outcome);
            self.tell(&target, write.replicas, report).await;
        }
        target
    }

    async fn tell(&self, target: &TargetId, replicas: i32, report: Report) {
        let (target, outcome) = (target.clone(), report.outcome);
        let engine = &self.context.engine;
        engine.tell(Event::ScaleWritten { target: target.clone(), replicas, outcome }).await;
        if let Some(Seen { replicas, resource_version, .. }) = report.seen {
            let newly_created = false;
            engine
                .tell(Event::ReplicasObserved { target, replicas, resource_version, newly_created })
                .await;
        }
    }

    /// Whether this process may still write, asked at the moment of writing.
    fn may_write(&self) -> bool {
        self.context.leader.may_write(self.context.clock.now())
            && !self.stopping.load(Ordering::Relaxed)
    }

    /// The outcome of a wish that is not even tried now.
    fn held_back(&self, target: &TargetId) -> Option<WriteOutcome> {
        let now = self.context.clock.now();
        let paused_until = *self.paused_until.lock();
        if now < paused_until {
            return Some(refused(429, between(now, paused_until)));
        }
        let troubles = self.troubles.lock();
        let trouble = troubles.get(target).filter(|trouble| now < trouble.until)?;
        Some(match trouble.outcome {
            WriteOutcome::Refused { status, .. } => refused(status, between(now, trouble.until)),
            ref other => other.clone(),
        })
    }

    /// Tries a wish. `None` when this process may not write any more.
    async fn write(&self, write: &ScaleWrite) -> Option<Report> {
        let mut version = write.resource_version.clone();
        if self.must_read_first(&write.target) {
            match self.read(&write.target).await {
                Answer::Scale(seen) if self.premise_holds(write, &seen) => {
                    version = seen.resource_version;
                }
                answer => return Some(self.reread(&write.target, WriteOutcome::Conflict, answer)),
            }
        }
        let mut retries = RETRIES;
        loop {
            if !self.may_write() {
                return None;
            }
            match self.patch(write, &version).await {
                Answer::Scale(seen) => {
                    self.troubles.lock().remove(&write.target);
                    return Some(Report::new(WriteOutcome::Written, Some(seen)));
                }
                Answer::Conflict => match self.read(&write.target).await {
                    Answer::Scale(seen) if retries > 0 && self.premise_holds(write, &seen) => {
                        retries -= 1;
                        version = seen.resource_version;
                    }
                    answer => {
                        return Some(self.reread(&write.target, WriteOutcome::Conflict, answer));
                    }
                },
                Answer::Unclear(_) => {
                    let answer = self.read(&write.target).await;
                    return Some(self.reread(&write.target, WriteOutcome::Unknown, answer));
                }
                answer => return Some(self.fail(&write.target, &answer)),
            }
        }
    }

    /// Whether what the decision started from is still true: the replicas it saw, on the same object.
    fn premise_holds(&self, write: &ScaleWrite, seen: &Seen) -> bool {
        let known = self.context.uids.get(&write.target);
        known.is_some() && known.as_deref() == seen.uid.as_deref() && seen.replicas == write.from
    }

    /// The report after a read: what was seen with `outcome`, or the trouble with reading.
    fn reread(&self, target: &TargetId, outcome: WriteOutcome, answer: Answer) -> Report {
        let Answer::Scale(seen) = answer else {
            let report = self.fail(target, &answer);
            if let Some(trouble) = self.troubles.lock().get_mut(target) {
                trouble.unread = true;
            }
            return report;
        };
        if outcome == WriteOutcome::Unknown {
            self.note(target, unclear_pause, |_| WriteOutcome::Unknown);
        } else {
            self.troubles.lock().remove(target);
        }
        // What an object of the same name says is nothing to the target that the engine knows.
        let known = self.context.uids.get(target);
        let same = known.as_deref() == seen.uid.as_deref();
        Report::new(outcome, same.then_some(seen))
    }

    /// Notes what went wrong, and says so.
    fn fail(&self, target: &TargetId, answer: &Answer) -> Report {
        let outcome = match *answer {
            Answer::TooMany(pause) => {
                let now = self.context.clock.now();
                let mut until = self.paused_until.lock();
                *until = (*until).max(now.checked_add(pause).unwrap_or(Timestamp::MAX));
                drop(until);
                self.note(target, |_| Duration::ZERO, |_| refused(429, pause))
            }
            // Not the target's fault but our credentials': no reason to leave it alone for minutes.
            Answer::Refused(401) => self.note(target, |_| FIRST_PAUSE, |pause| refused(401, pause)),
            Answer::Refused(status) => {
                self.note(target, refusal_pause, |pause| refused(status, pause))
            }
            Answer::Gone => self.note(target, refusal_pause, |_| WriteOutcome::Gone),
            Answer::Scale(_) | Answer::Conflict | Answer::Unclear(_) => {
                self.note(target, unclear_pause, |_| WriteOutcome::Unknown)
            }
        };
        Report::new(outcome, None)
    }

    /// Remembers a failure, and for how long the target is left alone. Returns the outcome.
    fn note(
        &self,
        target: &TargetId,
        pause_after: fn(u32) -> Duration,
        outcome: impl FnOnce(Duration) -> WriteOutcome,
    ) -> WriteOutcome {
        let now = self.context.clock.now();
        let mut troubles = self.troubles.lock();
        if troubles.len() >= RECORDS {
            troubles.retain(|_, trouble| now.duration_since(trouble.until) < MEMORY);
        }
        let failures = troubles.get(target).map_or(0, |old| old.failures);
        let pause = pause_after(failures);
        let until = now.checked_add(pause).unwrap_or(Timestamp::MAX);
        let outcome = outcome(pause);
        let failures = failures.saturating_add(1);
        let trouble = Trouble { failures, until, outcome: outcome.clone(), unread: false };
        troubles.insert(target.clone(), trouble);
        outcome
    }

    fn must_read_first(&self, target: &TargetId) -> bool {
        self.troubles.lock().get(target).is_some_and(|trouble| trouble.unread)
    }

    async fn patch(&self, write: &ScaleWrite, version: &str) -> Answer {
        let patch = json!({
            "metadata": { "resourceVersion": version },
            "spec": { "replicas": write.replicas },
        });
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let request = requests(&write.target).patch_subresource(
            "scale",
            &write.target.name,
            &params,
            &Patch::Merge(patch),
        );
        self.ask(request).await
    }

    async fn read(&self, target: &TargetId) -> Answer {
        let request = requests(target).get_subresource("scale", &target.name);
        match self.ask(request).await {
            // A read that meets a conflict makes no sense, so it says nothing.
            Answer::Conflict => Answer::Unclear("conflict"),
            answer => answer,
        }
    }

    async fn ask(&self, request: Result<Request<Vec<u8>>, kube::core::request::Error>) -> Answer {
        let Ok(request) = request else { return Answer::Refused(400) };
        match tokio::time::timeout(self.timeout, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Answer::Unclear("timeout"),
        }
    }

    async fn exchange(&self, request: Request<Vec<u8>>) -> Answer {
        let response = match self.context.client.send(request.map(Into::into)).await {
            Ok(response) => response,
            // Nothing was sent: there is no valid token or certificate to send it with.
            Err(kube::Error::Auth(_)) => return Answer::Refused(401),
            Err(_) => return Answer::Unclear("transport"),
        };
        match response.status() {
            status if status.is_success() => {}
            StatusCode::CONFLICT => return Answer::Conflict,
            StatusCode::NOT_FOUND => return Answer::Gone,
            StatusCode::TOO_MANY_REQUESTS => {
                return Answer::TooMany(retry_after(response.headers()));
            }
            status if status.is_client_error() => return Answer::Refused(status.as_u16()),
            _ => return Answer::Unclear("server error"),
        }
        match Limited::new(response.into_body(), LONGEST_ANSWER).collect().await {
            Ok(body) => seen(&body.to_bytes()).map_or(Answer::Unclear("malformed"), Answer::Scale),
            Err(_) => Answer::Unclear("transport"),
        }
    }
}

fn requests(target: &TargetId) -> kube::core::Request {
    kube::core::Request::new(Deployment::url_path(&(), Some(&target.namespace)))
}

/// The pause after a refusal that `failures` others came before: 5 s, 10 s, … 5 min.
fn refusal_pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(8)).min(LONGEST_PAUSE)
}

/// The pause after a write with no clear answer: none, 2 s, 4 s, 8 s, 10 s. A server that is back is
/// used again soon.
fn unclear_pause(failures: u32) -> Duration {
    let pause = FIRST_UNCLEAR_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(8));
    if failures == 0 { Duration::ZERO } else { pause.min(LONGEST_UNCLEAR_PAUSE) }
}

fn refused(status: u16, retry_after: Duration) -> WriteOutcome {
    WriteOutcome::Refused { status, retry_after }
}

fn between(now: Timestamp, until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or_default()
}

/// The pause that the server asks for, in seconds; its other form, a date, counts as absent.
fn retry_after(headers: &http::HeaderMap) -> Duration {
    let value = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds = value.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    seconds.unwrap_or_default().clamp(SHORTEST_RETRY_AFTER, LONGEST_PAUSE)
}

/// The few fields of a Scale that are read.
#[derive(Deserialize)]
struct Scale {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
    uid: Option<String>,
}

#[derive(Default, Deserialize)]
struct Spec {
    /// Left out when 0.
    #[serde(default)]
    replicas: i32,
}

fn seen(body: &[u8]) -> Option<Seen> {
    let scale: Scale = serde_json::from_slice(body).ok()?;
    Some(Seen {
        replicas: scale.spec.replicas.max(0),
        resource_version: scale.metadata.resource_version.into(),
        uid: scale.metadata.uid,
    })
}

fn log(target: &TargetId, replicas: i32, reason: Reason, outcome: &WriteOutcome) {
    let (namespace, name) = (&*target.namespace, &*target.name);
    let reason = reason.as_str();
    match outcome {
        WriteOutcome::Written => {
            // The engine's task tells of it with the numbers behind it.
            tracing::debug!(
                target.namespace = namespace,
                target.name = name,
                replicas,
                reason,
                "scale written"
            );
        }
        WriteOutcome::Conflict => {
            tracing::debug!(
                target.namespace = namespace,
                target.name = name,
                replicas,
                "scale changed meanwhile"
            );
        }
        other => {
            tracing::warn!(target.namespace = namespace, target.name = name, replicas, reason, outcome = ?other, "scale not written");
        }
    }
}

#[cfg(test)]
mod tests;
