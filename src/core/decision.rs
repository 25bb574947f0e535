//! The record of one evaluation. The same struct feeds `explain`, the HTTP API, logs, Kubernetes Events,
//! metrics and tests; the text that a user reads is generated from it alone.

use std::sync::Arc;
use std::time::Duration;

use super::Timestamp;
use super::config::{MeasureName, TargetConfig};
use super::event::{Rival, SourceFault, WriteOutcome};
use super::problem::Problem;
use super::rival::Contest;
use super::rule::Rule;
use super::source::SourceName;
use super::spec::{ScalingMetric, Semantics};
use super::target::{PodCounts, TargetId};

/// What made the engine evaluate a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum Trigger {
    /// The regular evaluation, every 2 s.
    #[default]
    Tick,
    /// A sample arrived; such an evaluation may only raise.
    Arrival,
}

/// How much is known about the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum SignalState {
    /// Nothing was heard yet, and the staleness limit has not passed: replicas stay.
    #[default]
    Starting,
    /// Every endpoint answered.
    Fresh,
    /// Some endpoints are missing: the load is an interval.
    Partial,
    /// Nothing was heard for longer than the staleness limit: replicas stay.
    Lost,
}

impl SignalState {
    /// The state as labels and `explain` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Fresh => "fresh",
            Self::Partial => "partial",
            Self::Lost => "lost",
        }
    }
}

/// What the decision knew.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Observation {
    /// The source that was used, if any.
    pub source: Option<SourceName>,
    /// How much is known.
    pub signal: SignalState,
    /// Age of the newest sample; before the first one, of the decider.
    pub age: Duration,
    /// Why the source has no newer sample, if it said so.
    pub fault: Option<SourceFault>,
    /// Mean of what was seen over the stable window; `None` before the first sample.
    pub stable: Option<f64>,
    /// Mean of the most that it may have been; equals `stable` when everything answered.
    pub stable_high: Option<f64>,
    /// Mean of what was seen over the effective panic window.
    pub panic: Option<f64>,
    /// The stable window.
    pub stable_window: Duration,
    /// The effective panic window: the configured one, the source's interval or its range, whichever is
    /// longest.
    pub panic_window: Duration,
    /// How many seconds of the stable window are covered by samples.
    pub covered_s: u32,
    /// How many samples lie in the effective panic window.
    pub samples_in_panic_window: u32,
    /// Endpoints that did not answer in the newest round, and parts of the load that are not heard.
    pub missing: u32,
    /// What waits besides the load, where a companion measures it; `None` where none does or is heard.
    #[cfg_attr(feature = "serde", serde(default))]
    pub waiting: Option<WaitingSeen>,
}

/// What waited in the newest sample of a companion.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct WaitingSeen {
    /// Items, ≥ 0.
    pub items: f64,
    /// The span in which they are to be worked off.
    pub drain_time: Duration,
}

/// The steps of an evaluation, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Stage {
    /// `ceil(stable / target)`.
    Demand,
    /// The most and the least that one decision may change.
    RateLimit,
    /// At least so many as soon as there is any demand.
    ActivationScale,
    /// The high-water mark while panicking.
    Panic,
    /// No lowering beyond what the missing part of the signal may demand, nor without evidence.
    Knowledge,
    /// The highest decision of the delay window.
    ScaleDownDelay,
    /// Replicas that a new target must reach once.
    InitialScale,
    /// min-scale and max-scale.
    Bounds,
    /// The rules for zero.
    Zero,
    /// What the mode lets through.
    Mode,
}

impl Stage {
    /// The stage as `explain` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Demand => "demand",
            Self::RateLimit => "rate limit",
            Self::ActivationScale => "activation-scale",
            Self::Panic => "panic",
            Self::Knowledge => "knowledge",
            Self::ScaleDownDelay => "scale-down-delay",
            Self::InitialScale => "initial-scale",
            Self::Bounds => "bounds",
            Self::Zero => "zero",
            Self::Mode => "mode",
        }
    }
}

/// What one stage made of the number before it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StageRecord {
    /// The stage.
    pub stage: Stage,
    /// Replicas before it.
    pub before: i32,
    /// Replicas after it.
    pub after: i32,
    /// The rule that applied.
    pub rule: Rule,
}

/// Panic mode as it stands after the evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PanicRecord {
    /// The newest evaluation that was over the threshold, or the creation of the decider.
    pub since: Timestamp,
    /// Panic lasts until this moment has passed without another evaluation over the threshold.
    pub until: Timestamp,
    /// The highest desired scale since panic began.
    pub high_water: i32,
}

/// Why the result is what it is: a closed list, each explained in `docs/reasons.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Reason {
    /// Replicas equal what the load asks for.
    #[default]
    Steady,
    /// The stable window asks for this.
    StableDemand,
    /// Panic mode: the panic window asks for more, or its high-water mark is held.
    PanicDemand,
    /// The panic window's demand or a restart is over, but panic still holds the high-water mark.
    PanicHold,
    /// max-scale-up-rate limits.
    ScaleUpRate,
    /// max-scale-down-rate limits.
    ScaleDownRate,
    /// activation-scale lifts.
    ActivationScale,
    /// scale-down-delay holds.
    ScaleDownDelay,
    /// initial-scale is still to be reached.
    InitialScale,
    /// min-scale lifts.
    MinScale,
    /// max-scale caps.
    MaxScale,
    /// Nothing was heard yet.
    SignalStarting,
    /// Nothing was heard for too long; replicas stay.
    SignalLost,
    /// Nothing was heard for as long as `on-missing` says: the replicas that it orders.
    OnMissing,
    /// The missing part of the signal may demand what runs now.
    SignalPartial,
    /// Too little of the stable window is covered, or too few samples ask for less.
    NotEnoughData,
    /// A target at zero whose wake path is lost was raised to one.
    WakePathLost,
    /// Nothing would wake the target from zero: one replica stays.
    NoWakePath,
    /// Nothing shows what still waits: one replica stays.
    WaitingUnknown,
    /// `enable-scale-to-zero` is false: one replica stays.
    ScaleToZeroDisabled,
    /// Idle, but not yet for long enough to go to zero.
    ScaleToZeroPending,
    /// Idle for long enough: zero.
    Idle,
    /// Nothing can be measured: no source and no scrape configuration.
    NoSource,
    /// Nothing can be measured, because the target's own query is not allowed in its namespace.
    QueryNotAllowed,
    /// Observed only, or `mode: observe`.
    ObserveOnly,
    /// `mode: paused` or one of its halves.
    Paused,
    /// Another autoscaler works on this target.
    Rival,
    /// A field manager takes our writes back: nothing is lowered, and raising has pauses.
    Contested,
    /// Another autoscaler takes its number from podswell: it writes, podswell answers.
    Followed,
    /// Somebody wrote 0 replicas where at least one is the rule: a pause until somebody writes ≥ 1.
    ManualZero,
}

impl Reason {
    /// The reason as labels, `explain` and the docs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Steady => "Steady",
            Self::StableDemand => "StableDemand",
            Self::PanicDemand => "PanicDemand",
            Self::PanicHold => "PanicHold",
            Self::ScaleUpRate => "ScaleUpRate",
            Self::ScaleDownRate => "ScaleDownRate",
            Self::ActivationScale => "ActivationScale",
            Self::ScaleDownDelay => "ScaleDownDelay",
            Self::InitialScale => "InitialScale",
            Self::MinScale => "MinScale",
            Self::MaxScale => "MaxScale",
            Self::SignalStarting => "SignalStarting",
            Self::SignalLost => "SignalLost",
            Self::OnMissing => "OnMissing",
            Self::SignalPartial => "SignalPartial",
            Self::NotEnoughData => "NotEnoughData",
            Self::WakePathLost => "WakePathLost",
            Self::NoWakePath => "NoWakePath",
            Self::WaitingUnknown => "WaitingUnknown",
            Self::ScaleToZeroDisabled => "ScaleToZeroDisabled",
            Self::ScaleToZeroPending => "ScaleToZeroPending",
            Self::Idle => "Idle",
            Self::NoSource => "NoSource",
            Self::QueryNotAllowed => "QueryNotAllowed",
            Self::ObserveOnly => "ObserveOnly",
            Self::Paused => "Paused",
            Self::Rival => "Rival",
            Self::Contested => "Contested",
            Self::Followed => "Followed",
            Self::ManualZero => "ManualZero",
        }
    }
}

/// What one of several measures of a target asks for.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MeasureRecord {
    /// Its name.
    pub name: MeasureName,
    /// What is measured.
    pub metric: ScalingMetric,
    /// The value per pod that was divided by.
    pub target: f64,
    /// What was known.
    pub observation: Observation,
    /// The unlimited demands; `None` without data.
    pub wants: Option<Wants>,
    /// Panic mode afterwards; `None` when calm.
    pub panic_mode: Option<PanicRecord>,
    /// What its decider asks for.
    pub desired: i32,
    /// Why.
    pub reason: Reason,
    /// Whether it is the one that decides: the rest of the decision is about it.
    pub wins: bool,
}

/// One evaluation of one target, complete.
///
/// With several measures it is the record of the one that asks for most, and `measures` holds a line for
/// each.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// What made us look.
    pub trigger: Trigger,
    /// Whose arithmetic.
    pub semantics: Semantics,
    /// What is measured.
    pub metric: ScalingMetric,
    /// The value per pod that was divided by.
    pub target: f64,
    /// Ready pods at that moment.
    pub ready: i32,
    /// What was known.
    pub observation: Observation,
    /// `ceil(stable / target)` and `ceil(panic / target)`, unlimited; `None` without data.
    pub wants: Option<Wants>,
    /// Each stage in order.
    pub stages: Vec<StageRecord>,
    /// Panic mode afterwards; `None` when calm.
    pub panic_mode: Option<PanicRecord>,
    /// What the decider asks for, before bounds and modes; −1 = unknown (`compat: knative` only).
    pub desired: i32,
    /// What the target should have, after bounds and zero rules, before the mode.
    pub bounded: i32,
    /// `spec.replicas` at that moment.
    pub replicas: i32,
    /// Spare burst capacity in units of the metric; below 0 a request-holding proxy should be in the
    /// path. Knative's EBC; 0 where it has no meaning.
    pub excess_burst_capacity: i32,
    /// Why `bounded` is what it is.
    pub reason: Reason,
    /// Why `bounded` is not written although it may differ; `None` when writing is allowed.
    pub gate: Option<Reason>,
    /// Whether the rules for zero would have no replica, but for what max-scale-down-rate still holds:
    /// what is told to who goes from some replicas to none by itself, as KEDA does.
    pub idle: bool,
    /// All measures in the order of the configuration; empty where there is only one.
    pub measures: Vec<MeasureRecord>,
}

impl Decision {
    /// Panic mode of the measure that decides, or of another one that panics.
    pub fn any_panic(&self) -> Option<&PanicRecord> {
        let others = self.measures.iter().filter_map(|measure| measure.panic_mode.as_ref());
        self.panic_mode.as_ref().into_iter().chain(others).next()
    }

    /// How much is known of the measure of which least is known.
    pub fn worst_signal(&self) -> SignalState {
        let states = self.observations().map(|(_, seen)| seen.signal);
        let rank = |state: &SignalState| match state {
            SignalState::Fresh => 0,
            SignalState::Partial => 1,
            SignalState::Starting => 2,
            SignalState::Lost => 3,
        };
        states.max_by_key(rank).unwrap_or_default()
    }

    /// What was known of each measure, with its name where there are several.
    pub fn observations(&self) -> impl Iterator<Item = (Option<&MeasureName>, &Observation)> {
        let alone = self.measures.is_empty().then_some((None, &self.observation));
        let several =
            self.measures.iter().map(|measure| (Some(&measure.name), &measure.observation));
        alone.into_iter().chain(several)
    }
}

/// The unlimited demands, in pods.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Wants {
    /// `ceil(stable / target)`, ≥ 0.
    pub stable: f64,
    /// `ceil(panic / target)`, ≥ 0.
    pub panic: f64,
}

impl Wants {
    /// Whether neither window asks for a pod.
    pub fn is_nothing(&self) -> bool {
        self.stable <= 0.0 && self.panic <= 0.0
    }
}

/// The last write that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct WriteRecord {
    /// When its outcome was known.
    pub at: Timestamp,
    /// What was seen before it.
    pub from: i32,
    /// The replicas that were to be written.
    pub replicas: i32,
    /// How it ended.
    pub outcome: WriteOutcome,
}

/// Everything that can be said about a target at a moment; what readers get.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TargetStatus {
    /// The target.
    pub target: TargetId,
    /// Its effective configuration.
    pub config: Arc<TargetConfig>,
    /// `spec.replicas` as last observed.
    pub replicas: i32,
    /// Its pods.
    pub pods: PodCounts,
    /// Other autoscalers on the same target.
    pub rivals: Arc<[Rival]>,
    /// Who takes our writes back, if somebody does.
    pub contest: Option<Contest>,
    /// The newest full decision; `None` before the first tick.
    pub decision: Option<Arc<Decision>>,
    /// The last write that was tried.
    pub last_write: Option<WriteRecord>,
    /// Problems that showed while running (configuration problems are in `config.problems`).
    pub problems: Vec<Problem>,
    /// How many samples of this target were taken, repeated, late and refused.
    pub samples: SampleCounts,
}

impl TargetStatus {
    /// All problems, those of the configuration first.
    pub fn all_problems(&self) -> impl Iterator<Item = &Problem> {
        self.config.problems.iter().chain(&self.problems)
    }
}

/// What became of the samples of a target since it appeared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SampleCounts {
    /// Recorded.
    pub recorded: u64,
    /// Seen before: the source lives, its data is as old as before.
    pub heartbeat: u64,
    /// Older than the newest one.
    pub late: u64,
    /// Not a finite number ≥ 0.
    pub invalid: u64,
}
