//! What goes into the engine and what comes out.
//!
//! Events are facts, complete in themselves and serialisable, so that a recording of them replays.

use std::sync::Arc;
use std::time::Duration;

use super::Timestamp;
use super::config::TargetConfig;
use super::decision::Reason;
use super::snapshot::Snapshot;
use super::source::SourceName;
use super::target::{PodCounts, TargetId};

/// One round of one measurement point, over all pods or senders of a target.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Sample {
    /// Whose load it is.
    pub target: TargetId,
    /// Which source saw it.
    pub source: SourceName,
    /// How old the sample was on the wall clock when it arrived, ≥ 0; a stamp of the future counts as 0.
    pub age: Duration,
    /// The source's own stamp in milliseconds since the Unix epoch, if it stamps its samples; it tells a
    /// repeated sample from a new one.
    pub stamp_ms: Option<i64>,
    /// What was read.
    pub reading: Reading,
}

/// What a sample says.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Reading {
    /// The whole workload's load as far as it was seen (in flight, or per second), and how many
    /// endpoints that should have answered did not.
    Value {
        /// The sum over everything that answered; non-finite and negative values are refused.
        #[cfg_attr(feature = "serde", serde(deserialize_with = "number_or_nan"))]
        seen: f64,
        /// How many endpoints are missing, each worth up to one target value.
        missing: u32,
    },
    /// The first reading of a counter: the source answers, but there is no rate yet.
    Base,
}

/// JSON has no word for what is not finite and says `null`: as a number that is refused again.
#[cfg(feature = "serde")]
fn number_or_nan<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let number: Option<f64> = serde::Deserialize::deserialize(from)?;
    Ok(number.unwrap_or(f64::NAN))
}

/// Why a source has no sample for a target: a closed set, used as a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum SourceFault {
    /// The server or every pod did not answer.
    Unreachable,
    /// The answer took longer than the limit.
    Timeout,
    /// The status was not 2xx.
    BadStatus,
    /// The body was larger than the limit.
    TooLarge,
    /// The body was not what the protocol says.
    Malformed,
    /// The answer held no series for the target.
    Empty,
    /// The value was NaN, infinite or negative.
    InvalidSample,
    /// Several series where one was expected.
    Ambiguous,
    /// The answer carried warnings: it is not complete.
    PartialAnswer,
    /// The newest sample was older than the staleness limit.
    Stale,
    /// The address is not allowed to be scraped.
    AddressRefused,
    /// The server refused the query: it is not PromQL, or asks for too much.
    QueryRefused,
    /// A pod claims more load than one pod can have.
    Implausible,
}

impl SourceFault {
    /// Every fault, each once, in the order of their declaration.
    pub const ALL: [Self; 13] = [
        Self::Unreachable,
        Self::Timeout,
        Self::BadStatus,
        Self::TooLarge,
        Self::Malformed,
        Self::Empty,
        Self::InvalidSample,
        Self::Ambiguous,
        Self::PartialAnswer,
        Self::Stale,
        Self::AddressRefused,
        Self::QueryRefused,
        Self::Implausible,
    ];

    /// The fault as it shows in labels and `explain`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "Unreachable",
            Self::Timeout => "Timeout",
            Self::BadStatus => "BadStatus",
            Self::TooLarge => "TooLarge",
            Self::Malformed => "Malformed",
            Self::Empty => "Empty",
            Self::InvalidSample => "InvalidSample",
            Self::Ambiguous => "Ambiguous",
            Self::PartialAnswer => "PartialAnswer",
            Self::Stale => "Stale",
            Self::AddressRefused => "AddressRefused",
            Self::QueryRefused => "QueryRefused",
            Self::Implausible => "Implausible",
        }
    }
}

/// Another object that scales the same target.
///
/// One that follows podswell is no rival in earnest: it carries out what podswell answers, so podswell
/// leaves the writing to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Rival {
    /// Its kind, for example `HorizontalPodAutoscaler`.
    pub kind: String,
    /// Its name; it lives in the target's namespace.
    pub name: String,
    /// Whether it takes its number from podswell.
    #[cfg_attr(feature = "serde", serde(default))]
    pub follows: bool,
}

/// How a write of the scale subresource ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum WriteOutcome {
    /// The API server stored it.
    Written,
    /// The object changed since we read it; what it says now follows as an observation.
    Conflict,
    /// The API server refused it; another try makes sense only after the pause.
    Refused {
        /// The HTTP status, for example 403.
        status: u16,
        /// How long to leave this target alone.
        retry_after: Duration,
    },
    /// No answer, or an answer that does not say whether it was stored.
    Unknown,
    /// The object is gone.
    Gone,
}

impl WriteOutcome {
    /// The outcome as labels and the HTTP API spell it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Written => "Written",
            Self::Conflict => "Conflict",
            Self::Refused { .. } => "Refused",
            Self::Unknown => "Unknown",
            Self::Gone => "Gone",
        }
    }
}

/// A fact for the engine.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Event {
    /// A target appeared or its configuration changed.
    TargetApplied {
        /// The target.
        target: TargetId,
        /// Its whole configuration.
        config: Arc<TargetConfig>,
    },
    /// A target is gone, or nothing asks us to look at it any more.
    TargetDeleted {
        /// The target.
        target: TargetId,
    },
    /// What the object's `spec.replicas` says (absent counts as 1).
    ReplicasObserved {
        /// The target.
        target: TargetId,
        /// `spec.replicas`, ≥ 0.
        replicas: i32,
        /// The object's `resourceVersion`, the precondition of the next write.
        resource_version: Arc<str>,
        /// Whether the object was created while we watched, so that its initial scale is still to be
        /// reached.
        newly_created: bool,
    },
    /// The target's pods changed.
    PodsObserved {
        /// The target.
        target: TargetId,
        /// How many there are.
        pods: PodCounts,
    },
    /// Samples arrived; one batch per round of a source. Oldest first within a target and source.
    Sampled {
        /// The samples.
        samples: Vec<Sample>,
    },
    /// A source could not give a sample for a target.
    SourceFailed {
        /// The target.
        target: TargetId,
        /// The source.
        source: SourceName,
        /// Why.
        fault: SourceFault,
    },
    /// A write was tried.
    ScaleWritten {
        /// The target.
        target: TargetId,
        /// The replicas that were to be written.
        replicas: i32,
        /// How it ended.
        outcome: WriteOutcome,
    },
    /// The objects that also scale this target, all of them; empty when there are none.
    RivalsObserved {
        /// The target.
        target: TargetId,
        /// Sorted by kind and name.
        rivals: Vec<Rival>,
    },
    /// What an earlier process measured, told before any target.
    Restored {
        /// What its windows held.
        snapshot: Snapshot,
        /// How long ago it was written, by the wall clock, ≥ 0.
        age: Duration,
    },
    /// Somebody else than podswell changed `spec.replicas`; follows the observation of that value.
    ForeignWrite {
        /// The target.
        target: TargetId,
        /// The field manager that owns the value; `unknown` where the object does not say.
        manager: Arc<str>,
        /// What it wrote, ≥ 0.
        replicas: i32,
    },
    /// Whether this process may write (holder of the lease, caches synced).
    LeadershipChanged {
        /// True: decisions are written from now on.
        leader: bool,
    },
}

/// What the outside must do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Action {
    /// Write the scale subresource. The newest action of a target replaces an older one.
    Write {
        /// The target.
        target: TargetId,
        /// The replicas to write, ≥ 0.
        replicas: i32,
        /// What we last saw there.
        from: i32,
        /// The precondition.
        resource_version: Arc<str>,
        /// Why.
        reason: Reason,
    },
    /// Tell the user about a transition (a Kubernetes Event and a log line).
    Announce {
        /// The target.
        target: TargetId,
        /// What happened.
        notice: Notice,
    },
}

/// The transitions that a user hears of: reasons of Kubernetes Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum NoticeReason {
    /// More replicas were written.
    ScaledUp,
    /// Fewer replicas were written.
    ScaledDown,
    /// Zero replicas were written.
    ScaledToZero,
    /// The target entered panic mode.
    PanicEntered,
    /// The target left panic mode.
    PanicLeft,
    /// The configuration has a new problem.
    InvalidAnnotation,
    /// Some endpoints do not answer.
    SignalPartial,
    /// Nothing was heard for longer than the source's limit.
    SignalLost,
    /// The signal is complete again.
    SignalBack,
    /// Another autoscaler works on this target: we do not write.
    RivalFound,
    /// Another autoscaler takes its number from us: it writes, we answer.
    Followed,
    /// The other autoscaler is gone: we write again.
    RivalGone,
    /// A write was refused by the API server.
    WriteFailed,
    /// Replicas have been held for more than five minutes for lack of knowledge.
    HoldLong,
}

impl NoticeReason {
    /// Every reason.
    pub const ALL: [Self; 14] = [
        Self::ScaledUp,
        Self::ScaledDown,
        Self::ScaledToZero,
        Self::PanicEntered,
        Self::PanicLeft,
        Self::InvalidAnnotation,
        Self::SignalPartial,
        Self::SignalLost,
        Self::SignalBack,
        Self::RivalFound,
        Self::Followed,
        Self::RivalGone,
        Self::WriteFailed,
        Self::HoldLong,
    ];

    /// The reason as it shows on the Kubernetes Event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScaledUp => "ScaledUp",
            Self::ScaledDown => "ScaledDown",
            Self::ScaledToZero => "ScaledToZero",
            Self::PanicEntered => "PanicEntered",
            Self::PanicLeft => "PanicLeft",
            Self::InvalidAnnotation => "InvalidAnnotation",
            Self::SignalPartial => "SignalPartial",
            Self::SignalLost => "SignalLost",
            Self::SignalBack => "SignalBack",
            Self::RivalFound => "RivalFound",
            Self::Followed => "Followed",
            Self::RivalGone => "RivalGone",
            Self::WriteFailed => "WriteFailed",
            Self::HoldLong => "HoldLong",
        }
    }

    /// Whether the Kubernetes Event is of type Warning.
    pub fn is_warning(self) -> bool {
        matches!(
            self,
            Self::InvalidAnnotation
                | Self::SignalPartial
                | Self::SignalLost
                | Self::RivalFound
                | Self::WriteFailed
                | Self::HoldLong
        )
    }
}

/// One transition with its own numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Notice {
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub reason: NoticeReason,
    /// One sentence with the numbers.
    pub note: String,
}
