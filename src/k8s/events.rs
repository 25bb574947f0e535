//! Kubernetes Events on the Deployment: what `kubectl describe` shows of podswell.
//!
//! Events are a courtesy. They never delay a decision or a write, they are few (a bucket per target and
//! one for all), and a failure to write one is counted and forgotten. Each note keeps its own numbers:
//! only a repetition with the very same note becomes a series instead of another Event.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::lease::Leadership;
use super::{FIELD_MANAGER, K8sError, Uids};
use crate::core::event::{Notice, NoticeReason};
use crate::core::target::TargetId;
use crate::runtime::clock::Clock;

/// How many notices may wait; more are dropped and counted.
const QUEUE_LENGTH: usize = 1024;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Per target: so many at once, then one every so often.
const TARGET_LIMIT: Limit = Limit { burst: 10, refill: SignedDuration::from_secs(30) };

/// For all targets together.
const GLOBAL_LIMIT: Limit = Limit { burst: 100, refill: SignedDuration::from_millis(100) };

/// How long the same note counts as the same series.
const SERIES: SignedDuration = SignedDuration::from_mins(6);

/// How long nothing is sent after the API server said that it has too much to do.
const RELIEF: SignedDuration = SignedDuration::from_secs(30);

/// How many targets may gather before those without a recent notice are forgotten.
const RECORDS: usize = 4096;

/// The longest note that the API server takes, in bytes.
const NOTE_LIMIT: usize = 1024;

/// What an event writer works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Wall-clock and engine time.
    pub clock: Arc<dyn Clock>,
    /// Whether this process may write; others stay silent.
    pub leader: Arc<Leadership>,
    /// The uids of the targets' objects.
    pub uids: Arc<Uids>,
    /// Which process reports, for example the pod's name; at most 128 bytes are used.
    pub instance: String,
}

/// What became of the notices so far.
#[derive(Debug, Default)]
pub struct EventCounts {
    /// Stored as an Event, or as another one of a series.
    pub written: AtomicU64,
    /// Left out: too many, or too many waiting.
    pub limited: AtomicU64,
    /// Refused by the API server, or no answer.
    pub failed: AtomicU64,
}

/// The way into an event writer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EventQueue {
    notices: mpsc::Sender<(TargetId, Notice)>,
    counts: Arc<EventCounts>,
}

impl EventQueue {
    /// Hands over a notice without waiting; drops it when too many wait.
    pub fn announce(&self, target: TargetId, notice: Notice) {
        if self.notices.try_send((target, notice)).is_err() {
            self.counts.limited.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What became of the notices so far.
    pub fn counts(&self) -> &EventCounts {
        &self.counts
    }
}

/// How many Events there may be: `burst` at once, and one more for each `refill` that passes.
#[derive(Clone, Copy, Debug)]
struct Limit {
    burst: i64,
    refill: SignedDuration,
}

/// A token bucket, kept as the moment at which it was, or will be, empty.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    empty_at: Timestamp,
}

impl Bucket {
    const FULL: Self = Self { empty_at: Timestamp::UNIX_EPOCH };

    /// Takes one token if there is one.
    fn take(&mut self, now: Timestamp, limit: Limit) -> bool {
        let burst_ms = limit.refill.as_millis().saturating_mul(i128::from(limit.burst));
        let burst = SignedDuration::from_millis(i64::try_from(burst_ms).unwrap_or(i64::MAX));
        let oldest = now.checked_sub(burst).unwrap_or(now);
        let after = self.empty_at.max(oldest).checked_add(limit.refill).unwrap_or(Timestamp::MAX);
        let granted = after <= now;
        if granted {
            self.empty_at = after;
        }
        granted
    }
}

/// What is remembered of a target's Events.
#[derive(Debug)]
struct Record {
    bucket: Bucket,
    newest: Timestamp,
    last: BTreeMap<NoticeReason, Last>,
}

/// The last Event of a target and reason.
#[derive(Clone, Debug)]
struct Last {
    name: String,
    note: String,
    count: i32,
    at: Timestamp,
}

/// The task that writes Events. Made with [`EventWriter::new`], driven with [`EventWriter::run`].
pub struct EventWriter {
    context: Context,
    notices: mpsc::Receiver<(TargetId, Notice)>,
    counts: Arc<EventCounts>,
    records: BTreeMap<TargetId, Record>,
    global: Bucket,
    silent_until: Timestamp,
    serial: u64,
}

impl EventWriter {
    /// A writer and the way into it.
    pub fn new(context: Context) -> (EventQueue, Self) {
        let (sender, notices) = mpsc::channel(QUEUE_LENGTH);
        let counts = Arc::<EventCounts>::default();
        let queue = EventQueue { notices: sender, counts: counts.clone() };
        let writer = Self {
            context,
            notices,
            counts,
            records: BTreeMap::new(),
            global: Bucket::FULL,
            silent_until: Timestamp::UNIX_EPOCH,
            serial: 0,
        };
        (queue, writer)
    }

    /// Writes Events until `stop`, or until nobody can announce anything any more.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                notice = self.notices.recv() => match notice {
                    Some((target, notice)) => self.write(&target, &notice).await,
                    None => return,
                },
            }
        }
    }

    async fn write(&mut self, target: &TargetId, notice: &Notice) {
        if !self.context.leader.may_write(self.context.clock.now()) {
            return;
        }
        let now = self.context.clock.now();
        if !self.may_send(now, target) {
            self.counts.limited.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let note = clean(&notice.note);
        let last = self.records.get(target).and_then(|record| record.last.get(&notice.reason));
        let repeated =
            last.filter(|last| last.note == note && now.duration_since(last.at) <= SERIES).cloned();
        let sent = match repeated {
            Some(last) => self.repeat(now, target, notice, last).await,
            None => self.create(now, target, notice, note).await,
        };
        match sent {
            Ok(last) => {
                self.counts.written.fetch_add(1, Ordering::Relaxed);
                if let Some(record) = self.records.get_mut(target) {
                    record.last.insert(notice.reason, last);
                }
            }
            Err(error) => self.failed(now, target, &error),
        }
    }

    fn may_send(&mut self, now: Timestamp, target: &TargetId) -> bool {
        if now < self.silent_until {
            return false;
        }
        if self.records.len() >= RECORDS && !self.records.contains_key(target) {
            self.forget_old(now);
        }
        let full = || Record { bucket: Bucket::FULL, newest: now, last: BTreeMap::new() };
        let record = self.records.entry(target.clone()).or_insert_with(full);
        record.newest = now;
        record.bucket.take(now, TARGET_LIMIT) && self.global.take(now, GLOBAL_LIMIT)
    }

    /// Forgets targets whose bucket is full again; if there are none, all of them: the global limit
    /// still holds.
    fn forget_old(&mut self, now: Timestamp) {
        let full = TARGET_LIMIT.refill.saturating_mul(10);
        self.records.retain(|_, record| now.duration_since(record.newest) < full);
        if self.records.len() >= RECORDS {
            self.records.clear();
        }
    }

    async fn create(
        &mut self,
        now: Timestamp,
        target: &TargetId,
        notice: &Notice,
        note: String,
    ) -> Result<Last, K8sError> {
        self.serial += 1;
        let unique = self.context.clock.wall().as_microsecond();
        let name = event_name(&target.name, unique, self.serial);
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(target.namespace.to_string()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(self.context.clock.wall())),
            reporting_controller: Some(FIELD_MANAGER.to_owned()),
            reporting_instance: Some(truncated(&self.context.instance, 128).to_owned()),
            action: Some(action_of(notice.reason).to_owned()),
            reason: Some(notice.reason.as_str().to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: Some(target.kind.as_str().to_owned()),
                namespace: Some(target.namespace.to_string()),
                name: Some(target.name.to_string()),
                uid: self.context.uids.get(target).map(|uid| uid.to_string()),
                ..ObjectReference::default()
            }),
            note: Some(note.clone()),
            type_: Some(if notice.reason.is_warning() { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        };
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), dry_run: false };
        let api = self.api(target);
        answered("create event", target, api.create(&params, &event)).await?;
        Ok(Last { name, note, count: 1, at: now })
    }

    /// Adds to the series of an Event; if it has expired, writes a new one.
    async fn repeat(
        &mut self,
        now: Timestamp,
        target: &TargetId,
        notice: &Notice,
        last: Last,
    ) -> Result<Last, K8sError> {
        let count = last.count.saturating_add(1);
        let observed = MicroTime(self.context.clock.wall());
        let patch =
            Patch::Merge(json!({ "series": { "count": count, "lastObservedTime": observed } }));
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let api = self.api(target);
        match answered("update event", target, api.patch(&last.name, &params, &patch)).await {
            Ok(_) => Ok(Last { count, at: now, ..last }),
            Err(error) if error.reason() == "NotFound" => {
                self.create(now, target, notice, last.note).await
            }
            Err(error) => Err(error),
        }
    }

    fn api(&self, target: &TargetId) -> Api<Event> {
        Api::namespaced(self.context.client.clone(), &target.namespace)
    }

    fn failed(&mut self, now: Timestamp, target: &TargetId, error: &K8sError) {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        if error.reason() == "TooManyRequests" {
            self.silent_until = now.checked_add(RELIEF).unwrap_or(now);
        }
        let source: &dyn std::error::Error = error;
        tracing::debug!(
            target.namespace = &*target.namespace,
            target.name = &*target.name,
            reason = error.reason(),
            error = source,
            "event not written"
        );
    }
}

async fn answered<T>(
    operation: &'static str,
    target: &TargetId,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, K8sError> {
    let target = target.clone();
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(K8sError::Request { operation, target, source: Box::new(source) }),
        Err(_) => Err(K8sError::Timeout { operation, target, limit: TIMEOUT }),
    }
}

/// `web.17c2a5b3d4e5f601`: the object's name and something that no other Event of it has. Names of
/// Deployments may be as long as names of Events may, so the name gives way.
fn event_name(target: &str, unique: i64, serial: u64) -> String {
    let suffix = format!(".{unique:x}{:02x}", serial % 256);
    let name = truncated(target, 253 - suffix.len()).trim_end_matches(['-', '.']);
    format!("{name}{suffix}")
}

/// The machine-readable kind of action behind a notice.
fn action_of(reason: NoticeReason) -> &'static str {
    use NoticeReason as R;
    match reason {
        R::ScaledUp | R::ScaledDown | R::ScaledToZero | R::WriteFailed => "Scale",
        R::PanicEntered | R::PanicLeft | R::HoldLong => "Decide",
        R::InvalidAnnotation => "Configure",
        R::SignalPartial | R::SignalLost | R::SignalBack => "Measure",
        R::RivalFound | R::Followed | R::RivalGone => "Yield",
    }
}

/// A note that the API server takes and that a terminal can show: parts of it were written by tenants.
fn clean(note: &str) -> String {
    let mut clean = String::with_capacity(note.len());
    for character in note.chars() {
        let hidden = character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if hidden {
            clean.extend(character.escape_unicode());
        } else {
            clean.push(character);
        }
        if clean.len() > NOTE_LIMIT {
            clean.truncate(truncated(&clean, NOTE_LIMIT - '…'.len_utf8()).len());
            clean.push('…');
            break;
        }
    }
    clean
}

/// The longest beginning of `text` that has at most `limit` bytes and only whole characters.
fn truncated(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests;
