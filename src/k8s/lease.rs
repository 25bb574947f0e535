//! The Lease object that decides which process writes: drives [`crate::core::lease`] against
//! coordination.k8s.io, and keeps the [`Leadership`] that every writer looks at when writing.
//!
//! Nothing but this module knows that there is an object: writers know a moment until which they may
//! write, and the engine hears when that begins and ends. That moment passes by itself, so a process that
//! was frozen, or whose task for the lease is stuck, has lost the lead when it wakes, before anything runs.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::core::DeserializeGuard;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{FIELD_MANAGER, request_reason};
use crate::core::event::Event;
use crate::core::lease::{
    Election, LeaseAction, LeaseAnswer, LeaseEvent, LeaseRecord, LeaseTiming, LeaseWish,
};
use crate::runtime::clock::{Clock, instant};
use crate::runtime::engine_handle::EngineHandle;
use crate::runtime::role::Peer;

/// The object's name.
pub const LEASE_NAME: &str = "podswell";

/// Where the holder answers other processes; an annotation of the object.
const PEER_ADDRESS: &str = "podswell.dev/peer-address";
/// The token that it asks them for. Who may read the object may read podswell's decisions.
const PEER_TOKEN: &str = "podswell.dev/peer-token";

/// How long a release may take; after that the lease simply runs out.
const RELEASE_LIMIT: Duration = Duration::from_secs(1);

/// Until when this process may write; looked at when writing.
#[derive(Debug, Default)]
pub struct Leadership(Mutex<Term>);

#[derive(Clone, Copy, Debug, Default)]
struct Term {
    until: Option<Timestamp>,
    closed: bool,
}

impl Leadership {
    /// Leadership without end, for a process that has no rival.
    pub fn endless() -> Self {
        Self(Mutex::new(Term { until: Some(Timestamp::MAX), closed: false }))
    }

    /// Whether this process may write at `now` (engine time, read just before).
    pub fn may_write(&self, now: Timestamp) -> bool {
        self.0.lock().until.is_some_and(|until| now < until)
    }

    /// Allows writing until `until` (engine time), or not at all; says nothing after [`Self::close`].
    pub fn set(&self, until: Option<Timestamp>) {
        let mut term = self.0.lock();
        if !term.closed {
            term.until = until;
        }
    }

    /// Forbids writing for good.
    pub fn close(&self) {
        *self.0.lock() = Term { until: None, closed: true };
    }
}

/// What readers see of the election.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseState {
    /// Who held the lease when it was last read.
    pub holder: Option<Arc<str>>,
    /// How often it changed hands until then.
    pub transitions: Option<i32>,
    /// Why the last request failed, a word of a closed list; `None` if it did not.
    pub fault: Option<&'static str>,
    /// Whether this process leads.
    pub leads: bool,
    /// Where the holder answers, if it is another process and says so.
    pub peer: Option<Peer>,
}

/// Hears of each change of what readers see.
pub type LeaseObserver = Box<dyn Fn(LeaseState) + Send + Sync>;

/// What the election works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Where the object is.
    pub namespace: String,
    /// This process's name in it; no other process's, not even an earlier one's.
    pub identity: Arc<str>,
    /// Where this process answers others while it holds the lease, if it does.
    pub peer: Option<Peer>,
    /// Engine time, and the wall clock for the stamps in the object.
    pub clock: Arc<dyn Clock>,
    /// What writers look at.
    pub leadership: Arc<Leadership>,
    /// Who hears of leadership.
    pub engine: EngineHandle,
    /// Who shows it.
    pub observer: LeaseObserver,
}

/// The task that stands for election.
pub struct Elector {
    context: Context,
    timing: LeaseTiming,
    api: Api<Lease>,
    /// The object as it was last read: what podswell does not know of it stays as it is.
    object: Lease,
    led: bool,
    state: LeaseState,
    oddity: Option<String>,
}

impl Elector {
    /// One that has asked nothing yet.
    pub fn new(context: Context) -> Self {
        let api = Api::namespaced(context.client.clone(), &context.namespace);
        Self {
            context,
            timing: LeaseTiming::DEFAULT,
            api,
            object: Lease::default(),
            led: false,
            state: LeaseState::default(),
            oddity: None,
        }
    }

    /// Stands for election until `stop`; then releases the lease if it is ours, within a second. Whoever
    /// stops it has to see to it before that nothing is being written any more.
    pub async fn run(mut self, stop: CancellationToken) {
        let clock = self.context.clock.clone();
        let mut election = Election::new(clock.now(), self.context.identity.clone(), self.timing);
        let mut request: Option<BoxFuture<'static, Answered>> = None;
        let mut end: Option<Instant> = None;
        while !election.is_over() && end.is_none_or(|end| instant() < end) {
            if let Some(action) = election.poll_action(clock.now()) {
                request = Some(self.send(action));
            }
            self.publish(&election).await;
            let wake = election.poll_timeout().map(|at| until(clock.now(), at));
            let wake = wake.map_or(RELEASE_LIMIT, |wake| wake.min(RELEASE_LIMIT));
            let answered = tokio::select! {
                answered = answer(&mut request) => Some(answered),
                () = tokio::time::sleep(wake) => None,
                () = stop.cancelled(), if end.is_none() => {
                    end = Some(instant() + RELEASE_LIMIT);
                    election.handle(clock.now(), LeaseEvent::Release);
                    None
                }
            };
            // A lead that ended meanwhile has to be told of before it may begin again.
            self.publish(&election).await;
            if let Some(answered) = answered {
                request = None;
                let answer = self.take(answered);
                election.handle(clock.now(), LeaseEvent::Answered(answer));
            }
        }
        self.publish(&election).await;
        if end.is_some() {
            tracing::debug!(released = election.is_over(), "election ended");
        }
    }

    /// Tells writers, the engine and readers what changed.
    async fn publish(&mut self, election: &Election) {
        let leads_until = election.leads_until(self.context.clock.now());
        self.context.leadership.set(leads_until);
        let leader = leads_until.is_some();
        let (holder, transitions) = (election.holder().cloned(), election.transitions());
        let peer = self.peer_of(holder.as_ref());
        let state =
            LeaseState { holder, transitions, fault: self.state.fault, leads: leader, peer };
        if state != self.state {
            if state.holder != self.state.holder {
                tracing::info!(holder = state.holder.as_deref(), "lease read");
            }
            self.show(state);
        }
        if leader != self.led {
            self.led = leader;
            self.context.engine.tell(Event::LeadershipChanged { leader }).await;
        }
    }

    /// Where the holder answers by what the object said when it was last read.
    fn peer_of(&self, holder: Option<&Arc<str>>) -> Option<Peer> {
        if *holder? == self.context.identity {
            return None;
        }
        let annotations = self.object.metadata.annotations.as_ref()?;
        let word = |key| annotations.get(key).map(|text| Arc::from(text.as_str()));
        Some(Peer { address: word(PEER_ADDRESS)?, token: word(PEER_TOKEN)? })
    }

    fn show(&mut self, state: LeaseState) {
        self.state = state.clone();
        (self.context.observer)(state);
    }

    /// Begins a request. It is given up after the election's limit.
    fn send(&self, action: LeaseAction) -> BoxFuture<'static, Answered> {
        let (api, limit) = (self.api.clone(), self.timing.request_limit());
        let reader: Api<DeserializeGuard<Lease>> =
            Api::namespaced(self.context.client.clone(), &self.context.namespace);
        let object = match &action {
            LeaseAction::Read => Lease::default(),
            LeaseAction::Create(wish) => self.written(Lease::default(), wish, None),
            LeaseAction::Update(wish, version) => {
                self.written(self.object.clone(), wish, Some(version))
            }
        };
        let exchange = async move {
            let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), dry_run: false };
            match action {
                LeaseAction::Read => reader.get(LEASE_NAME).await.map(Into::into),
                LeaseAction::Create(_) => {
                    let created = api.create(&params, &object).await;
                    created.map(Into::into).map_err(not_absent)
                }
                LeaseAction::Update(..) => {
                    api.replace(LEASE_NAME, &params, &object).await.map(Into::into)
                }
            }
        };
        tokio::time::timeout(limit, exchange)
            .map(|answered| {
                answered.map_or(Answered::Late, |result| Answered::Of(Box::new(result)))
            })
            .boxed()
    }

    /// The object as the wish wants it; all else in it stays.
    fn written(&self, mut lease: Lease, wish: &LeaseWish, version: Option<&Arc<str>>) -> Lease {
        let now = MicroTime(self.context.clock.wall());
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = wish.holder.as_deref().map(str::to_owned);
        spec.lease_duration_seconds = Some(wish.duration_s);
        spec.lease_transitions = Some(wish.transitions);
        spec.renew_time = Some(now.clone());
        if wish.acquires || spec.acquire_time.is_none() {
            spec.acquire_time = Some(now);
        }
        let annotations = lease.metadata.annotations.get_or_insert_default();
        for key in [PEER_ADDRESS, PEER_TOKEN] {
            annotations.remove(key);
        }
        if let Some(peer) = self.context.peer.as_ref().filter(|_| wish.holder.is_some()) {
            annotations.insert(PEER_ADDRESS.to_owned(), peer.address.to_string());
            annotations.insert(PEER_TOKEN.to_owned(), peer.token.to_string());
        }
        lease.metadata = ObjectMeta {
            name: Some(LEASE_NAME.to_owned()),
            resource_version: version.map(ToString::to_string),
            managed_fields: None,
            ..lease.metadata
        };
        lease
    }

    /// Says once what a hand, or another program, did to the object.
    fn note_oddity(&mut self, oddity: Option<String>) {
        if let Some(why) = oddity.as_deref().filter(|_| oddity != self.oddity) {
            tracing::warn!(why, "the lease was edited by somebody else");
        }
        self.oddity = oddity;
    }

    /// What an answer means, with its fault shown.
    fn take(&mut self, answered: Answered) -> LeaseAnswer {
        let (answer, fault) = match answered {
            Answered::Late => (LeaseAnswer::Failed, Some("Timeout")),
            Answered::Of(result) => match *result {
                Ok(Understood { lease, nonsense }) => {
                    let record = record_of(&lease);
                    self.note_oddity(nonsense.or_else(|| record.oddity().map(str::to_owned)));
                    self.object = lease;
                    (LeaseAnswer::Found(record), None)
                }
                Err(kube::Error::Api(status)) if status.code == 404 => (LeaseAnswer::Absent, None),
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    (LeaseAnswer::Conflict, None)
                }
                Err(error) => (LeaseAnswer::Failed, Some(request_reason(&error))),
            },
        };
        if fault != self.state.fault {
            if let Some(fault) = fault {
                tracing::warn!(fault, "the lease cannot be read or written");
            }
            self.show(LeaseState { fault, ..self.state.clone() });
        }
        answer
    }
}

/// What of a Lease can be understood. One that a hand filled with nonsense, such as a time that no clock
/// shows, must not keep everybody out for ever: it counts as one without a holder, is waited out like
/// any other one and then replaced.
struct Understood {
    lease: Lease,
    /// What cannot be understood.
    nonsense: Option<String>,
}

impl From<Lease> for Understood {
    fn from(lease: Lease) -> Self {
        Self { lease, nonsense: None }
    }
}

impl From<DeserializeGuard<Lease>> for Understood {
    fn from(guard: DeserializeGuard<Lease>) -> Self {
        guard.0.map_or_else(
            |invalid| Self {
                lease: Lease { metadata: invalid.metadata, ..Lease::default() },
                nonsense: Some(format!("nonsense, it will be replaced: {}", invalid.error)),
            },
            Self::from,
        )
    }
}

/// What came back.
enum Answered {
    /// Nothing in time.
    Late,
    Of(Box<kube::Result<Understood>>),
}

async fn answer(request: &mut Option<BoxFuture<'static, Answered>>) -> Answered {
    match request {
        Some(request) => request.await,
        None => std::future::pending().await,
    }
}

/// A creation that finds nothing lacks its namespace: no reason to try again at once.
fn not_absent(error: kube::Error) -> kube::Error {
    match error {
        kube::Error::Api(mut status) if status.code == 404 => {
            status.code = 422;
            kube::Error::Api(status)
        }
        other => other,
    }
}

/// What of the object counts.
pub(crate) fn record_of(lease: &Lease) -> LeaseRecord {
    let LeaseSpec { holder_identity, lease_duration_seconds, lease_transitions, .. } =
        lease.spec.clone().unwrap_or_default();
    LeaseRecord {
        holder: holder_identity.filter(|holder| !holder.is_empty()).map(Arc::from),
        duration_s: lease_duration_seconds.unwrap_or(0),
        transitions: lease_transitions.unwrap_or(0),
        version: lease.metadata.resource_version.as_deref().unwrap_or_default().into(),
    }
}

/// The time from `now` to `at`, rounded up to a millisecond so that it has passed after a sleep.
fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default() + Duration::from_millis(1)
}

#[cfg(test)]
mod tests;
