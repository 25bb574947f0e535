//! What may go wrong in a scenario.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{Amount, Span};

/// From when on and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct During {
    /// When it begins.
    pub at: Span,
    /// How long it lasts.
    #[serde(rename = "for")]
    pub lasts: Span,
}

/// What a source says instead of the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Lie {
    /// Not a number.
    Nan,
    /// Infinity.
    Infinite,
    /// Less than nothing.
    Negative,
    /// Nothing at all.
    Zero,
    /// Ten times as much.
    TenTimes,
}

/// What the API server answers to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The object changed in between (409).
    Conflict,
    /// Too many requests (429).
    Throttled,
    /// Not allowed (403).
    Forbidden,
    /// A fault of its own (500).
    Broken,
    /// None: nobody knows whether it was stored (it was not).
    None,
    /// None, but it was stored.
    Lost,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Samples get lost without a word.
    Silence(During),
    /// The source says that it cannot be reached.
    Unreachable(During),
    /// Samples arrive late.
    Late {
        /// When it begins.
        at: Span,
        /// How long it lasts.
        #[serde(rename = "for")]
        lasts: Span,
        /// How much later.
        by: Span,
    },
    /// The source says something else.
    Lying {
        /// When it begins.
        at: Span,
        /// How long it lasts.
        #[serde(rename = "for")]
        lasts: Span,
        /// What.
        says: Lie,
    },
    /// Some endpoints do not answer; what they carry is not seen.
    Missing {
        /// When it begins.
        at: Span,
        /// How long it lasts.
        #[serde(rename = "for")]
        lasts: Span,
        /// How many, at most as many as there are ready pods.
        endpoints: u32,
    },
    /// A stranger sends samples under a name that is no source of the workload.
    Stranger(During),
    /// The API server does not store writes.
    Api {
        /// When it begins.
        at: Span,
        /// How long it lasts.
        #[serde(rename = "for")]
        lasts: Span,
        /// What it answers.
        answer: Answer,
    },
    /// Another process holds the lease; this one keeps its windows warm.
    LeaderLost(During),
    /// The process dies and a new one without memory takes over afterwards.
    Restart(During),
    /// The wall clock of podswell's machine steps.
    ClockStep {
        /// When.
        at: Span,
        /// How far forwards.
        #[serde(default)]
        forwards: Span,
        /// How far backwards.
        #[serde(default)]
        backwards: Span,
    },
    /// Pods crash; they start again.
    Crash {
        /// When.
        at: Span,
        /// How many.
        pods: u32,
    },
    /// There is no room for pods that are not ready yet.
    NoRoom(During),
    /// Somebody writes replicas.
    Writes {
        /// When.
        at: Span,
        /// How many.
        replicas: u16,
    },
    /// An HPA works on the same target.
    Rival(During),
    /// Samples are off by up to this share to either side.
    Noise {
        /// When it begins.
        at: Span,
        /// How long it lasts.
        #[serde(rename = "for")]
        lasts: Span,
        /// The relative standard deviation.
        deviation: Amount,
    },
}

impl Fault {
    /// When it begins and when it is over; equal for what happens at once.
    pub fn span(&self) -> (Span, Span) {
        let (at, lasts) = match *self {
            Self::Silence(during)
            | Self::Unreachable(during)
            | Self::Stranger(during)
            | Self::LeaderLost(during)
            | Self::Restart(during)
            | Self::NoRoom(during)
            | Self::Rival(during) => (during.at, during.lasts),
            Self::Late { at, lasts, .. }
            | Self::Lying { at, lasts, .. }
            | Self::Missing { at, lasts, .. }
            | Self::Api { at, lasts, .. }
            | Self::Noise { at, lasts, .. } => (at, lasts),
            Self::ClockStep { at, .. } | Self::Crash { at, .. } | Self::Writes { at, .. } => {
                (at, Span::default())
            }
        };
        (at, Span(at.0.saturating_add(lasts.0)))
    }
}
