//! KEDA's external scaler: the gRPC service that a ScaledObject's trigger of type `external` or
//! `external-push` asks.
//!
//! Answers come from memory, the newest published decision of the trigger's own decider; no handler ever
//! waits on a source. KEDA keeps the replicas: podswell says how many there should be (or, with the
//! metadata `value`, how high the load is) and whether there should be any at all.
//!
//! Every process answers with the decision of the one that holds the lease: the others ask it. While it
//! cannot be asked, and before everything was read once, the answer is `UNAVAILABLE`, on which KEDA keeps
//! what there is.
//!
//! | KEDA asks | answer |
//! |---|---|
//! | `GetMetricSpec`, `StreamMetricSpec` | one metric: target 1 for desired replicas, else the target of the metric; never fails for lack of data |
//! | `GetMetrics` | one value; `UNAVAILABLE` when nothing was heard for longer than the source's limit |
//! | `IsActive` | whether the scale-to-zero machine wants at least one replica; always where nothing would wake the workload |
//! | `StreamIsActive` | `true` at once when load appears, repeated each second while there is no replica, else silence |

pub mod answer;
pub mod codec;
pub mod connections;
pub mod counters;
mod desk;
mod probes;
mod relay;
mod service;
mod stream;
pub mod transport;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::runtime::clock::Clock;
use crate::runtime::health::Health;
use crate::runtime::role::RoleBoard;
use crate::runtime::status_board::StatusBoard;
use crate::runtime::trigger_desk::TriggerDesk;

use counters::Counters;
pub use service::{DECISION, FORWARDED, Scaler};

/// The messages and the service as they are on the wire; `proto/externalscaler.proto` explains them.
#[expect(
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    reason = "generated code"
)]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/externalscaler.rs"));

    /// The description of the above for the reflection service.
    pub(super) const DESCRIPTORS: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/externalscaler.bin"));
}

/// What the service works with.
#[derive(Clone)]
pub struct Context {
    /// The newest decisions.
    pub board: Arc<StatusBoard>,
    /// Where deciders of triggers are asked for.
    pub desk: TriggerDesk,
    /// Whether the caches are filled.
    pub health: Arc<Health>,
    /// Whose decisions are answered.
    pub role: Arc<RoleBoard>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The namespaces that may be asked for; empty: all.
    pub namespaces: Arc<BTreeSet<String>>,
    /// Ends every stream.
    pub drain: CancellationToken,
    /// How many streams may be open at once; what comes beyond is refused with `RESOURCE_EXHAUSTED`.
    pub max_streams: usize,
    /// What is counted.
    pub counters: Arc<Counters>,
}
