//! Which triggers ask, and which decider answers each: a look-up by what KEDA sends, so that a call costs
//! no parsing after the first one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::Status;

use super::Context;
use super::counters::{Counters, Method};
use super::wire::ScaledObjectRef;
use crate::core::target::TargetId;
use crate::core::text::shown;
use crate::core::trigger::{AnsweredValue, TriggerMetadata, TriggerRefusal};
use crate::runtime::status_board::Followed;

/// After how long without a question a trigger is forgotten.
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(600);

/// How often forgetting is thought of.
const SWEEP: Duration = Duration::from_secs(30);

/// How long the engine may take to show a new decider.
const LIMIT: Duration = Duration::from_millis(800);

/// The most triggers that are remembered here; what is beyond is looked up anew with each call.
const MOST: usize = 16_384;

/// A trigger that asks.
#[derive(Debug)]
pub(super) struct Asked {
    /// What KEDA sends.
    pub(super) object: Arc<ScaledObjectRef>,
    /// Who decides for it.
    pub(super) target: TargetId,
    /// What it wants to know.
    pub(super) value: AnsweredValue,
    /// The newest status of that decider.
    newest: watch::Receiver<Followed>,
    last_ms: AtomicI64,
}

impl Asked {
    /// The newest status of who decides; `None` while there is none.
    pub(super) fn status(&self) -> Followed {
        self.newest.borrow().clone()
    }
}

/// All triggers that ask.
pub(super) struct Desk {
    pub(super) context: Context,
    asked: RwLock<HashMap<Arc<ScaledObjectRef>, Arc<Asked>>>,
    streams: Arc<Semaphore>,
}

/// The place of an open stream; it is given back when this is dropped.
pub(super) struct OpenStream {
    counters: Arc<Counters>,
    method: Method,
    _place: OwnedSemaphorePermit,
}

impl OpenStream {
    /// The stream sends a message.
    pub(super) fn pushes(&self) {
        self.counters.pushed(self.method);
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.counters.closed(self.method);
    }
}

impl Desk {
    pub(super) fn new(context: Context) -> Arc<Self> {
        let streams = Arc::new(Semaphore::new(context.max_streams.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { context, asked: RwLock::default(), streams })
    }

    /// A place for a stream.
    ///
    /// # Errors
    /// If there are as many as there may be.
    pub(super) fn open_stream(&self, method: Method) -> Result<OpenStream, Status> {
        let place = self.streams.clone().try_acquire_owned().map_err(|_full| {
            let most = self.context.max_streams;
            Status::resource_exhausted(format!("{most} streams are open (--keda-max-streams)"))
        })?;
        let counters = self.context.counters.clone();
        counters.opened(method);
        Ok(OpenStream { counters, method, _place: place })
    }

    /// The decider of a trigger, if it is known and alive.
    pub(super) fn known(&self, object: &ScaledObjectRef) -> Option<Arc<Asked>> {
        let asked = self.asked.read().get(object).cloned()?;
        asked.last_ms.store(self.context.clock.now().as_millisecond(), Ordering::Relaxed);
        Some(asked)
    }

    /// Sees to it that a trigger that another process is asked for has a decider here as well, should this
    /// process have to take over: the ScaledObject alone does not show it where its values come from the
    /// environment of a container, which only KEDA reads.
    pub(super) fn keep_warm(self: &Arc<Self>, object: &ScaledObjectRef) {
        if self.known(object).is_some() {
            return;
        }
        let (desk, object) = (self.clone(), object.clone());
        // What is wrong with it is said by who answers.
        tokio::spawn(async move { desk.find(&object).await.is_ok() });
    }

    /// The decider of a trigger; it is made if there is none.
    ///
    /// # Errors
    /// What the caller is to be told.
    pub(super) async fn find(&self, object: &ScaledObjectRef) -> Result<Arc<Asked>, Status> {
        if let Some(asked) = self.known(object)
            && asked.newest.borrow().is_some()
        {
            return Ok(asked);
        }
        self.check_ready()?;
        let metadata = TriggerMetadata::read(&object.scaler_metadata)
            .map_err(|why| Status::invalid_argument(why.to_string()))?;
        self.check_namespaces(object, &metadata)?;
        let value = metadata.value;
        let enrolled = self.context.desk.enrol(&object.namespace, &object.name, metadata).await;
        let target = enrolled.map_err(|why| refusal(&why))?;
        // The engine shows a new target at once, decided or not.
        let mut newest = self.context.board.follow(&target);
        let appears = newest.wait_for(Option::is_some);
        if tokio::time::timeout(LIMIT, appears).await.is_err() {
            return Err(refusal(&TriggerRefusal::Busy));
        }
        let last_ms = AtomicI64::new(self.context.clock.now().as_millisecond());
        let object = Arc::new(object.clone());
        let asked = Arc::new(Asked { object: object.clone(), target, value, newest, last_ms });
        let mut all = self.asked.write();
        if all.len() < MOST || all.contains_key(&object) {
            all.insert(object, asked.clone());
        }
        Ok(asked)
    }

    /// Until everything was read once, nobody can know that something does not exist.
    pub(super) fn check_ready(&self) -> Result<(), Status> {
        let missing = self.context.health.missing();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Status::unavailable(format!("not ready: {}", missing.join(", "))))
    }

    /// Whether the namespaces may be asked for. A ScaledObject reaches into another namespace than its
    /// own only where the administrator listed that one.
    fn check_namespaces(
        &self,
        object: &ScaledObjectRef,
        metadata: &TriggerMetadata,
    ) -> Result<(), Status> {
        let listed = &self.context.namespaces;
        let allowed = |name: &str| listed.is_empty() || listed.contains(name);
        let named = metadata.namespace.as_deref().unwrap_or(&object.namespace);
        for name in [&object.namespace, named] {
            if !allowed(name) {
                let why = format!("namespace {} is not in --keda-namespaces", shown(name));
                return Err(Status::permission_denied(why));
            }
        }
        if named != object.namespace && listed.is_empty() {
            let why = format!(
                "a ScaledObject of namespace {} may not ask for namespace {} unless \
                 --keda-namespaces lists both",
                shown(&object.namespace),
                shown(named)
            );
            return Err(Status::permission_denied(why));
        }
        Ok(())
    }

    /// Forgets triggers that nobody has asked for, until the drain begins.
    pub(super) async fn sweep(&self) {
        let drain = self.context.drain.clone();
        while drain.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
            self.forget_idle(self.context.clock.now());
        }
    }

    fn forget_idle(&self, now: Timestamp) {
        let limit_ms = i64::try_from(IDLE_LIMIT.as_millis()).unwrap_or(i64::MAX);
        let oldest_ms = now.as_millisecond().saturating_sub(limit_ms);
        let mut idle = Vec::new();
        self.asked.write().retain(|_, asked| {
            // A stream holds its trigger.
            let used = Arc::strong_count(asked) > 1;
            let keep = used || asked.last_ms.load(Ordering::Relaxed) >= oldest_ms;
            if !keep {
                idle.push(asked.target.clone());
            }
            keep
        });
        for target in idle {
            self.context.desk.release(target);
        }
        self.context.board.forget_unfollowed();
    }
}

fn refusal(why: &TriggerRefusal) -> Status {
    let text = why.to_string();
    match why {
        TriggerRefusal::NoDeployment { .. } | TriggerRefusal::NoTarget { .. } => {
            Status::not_found(text)
        }
        TriggerRefusal::TooMany { .. } => Status::resource_exhausted(text),
        TriggerRefusal::Busy => Status::unavailable(text),
    }
}
