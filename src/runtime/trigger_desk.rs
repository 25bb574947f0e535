//! Where the server that answers KEDA asks for deciders, and the watches, which know the workloads, make
//! them: each trigger of a ScaledObject becomes a target of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::core::target::TargetId;
use crate::core::trigger::{TriggerMetadata, TriggerRefusal};

/// How many requests may wait.
const QUEUE_LENGTH: usize = 4096;

/// How long a request may take; the watches answer from memory.
const LIMIT: Duration = Duration::from_millis(800);

/// A request to the watches.
#[derive(Debug)]
pub enum DeskRequest {
    /// Make a decider, or find the one that there is.
    Enrol {
        /// Namespace and name of the ScaledObject.
        object: (Arc<str>, Arc<str>),
        /// Its trigger.
        metadata: Box<TriggerMetadata>,
        /// Who waits.
        reply: oneshot::Sender<Result<TargetId, TriggerRefusal>>,
    },
    /// Nobody has asked for this trigger for long.
    Release(TargetId),
}

/// The asking end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TriggerDesk(mpsc::Sender<DeskRequest>);

impl TriggerDesk {
    /// Both ends.
    pub fn channel() -> (Self, mpsc::Receiver<DeskRequest>) {
        let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
        (Self(sender), receiver)
    }

    /// The target that decides for a trigger of the ScaledObject `name` in `namespace`; it is made if
    /// there is none.
    ///
    /// # Errors
    /// If there cannot be one, or nobody answers within a second.
    pub async fn enrol(
        &self,
        namespace: &str,
        name: &str,
        metadata: TriggerMetadata,
    ) -> Result<TargetId, TriggerRefusal> {
        let (reply, answer) = oneshot::channel();
        let object = (namespace.into(), name.into());
        let request = DeskRequest::Enrol { object, metadata: Box::new(metadata), reply };
        self.0.try_send(request).map_err(|_full| TriggerRefusal::Busy)?;
        match tokio::time::timeout(LIMIT, answer).await {
            Ok(Ok(answer)) => answer,
            _ => Err(TriggerRefusal::Busy),
        }
    }

    /// Says that nobody has asked for a trigger for long.
    pub fn release(&self, target: TargetId) {
        // A full queue only means that it is said again later.
        let _ = self.0.try_send(DeskRequest::Release(target));
    }
}
