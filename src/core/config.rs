//! What the engine is told about a target.

use std::sync::Arc;
use std::time::Duration;

use super::Timestamp;
use super::decision::Reason;
use super::on_missing::OnMissing;
use super::policy::{Consent, Mode};
use super::problem::{Problem, ProblemCode};
use super::source::PointConfig;
use super::spec::{ScaleBounds, ScalerSpec, Semantics};

/// How far and how fast a target may go to zero.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ZeroConfig {
    /// `enable-scale-to-zero`.
    pub enabled: bool,
    /// How long the last pod stays after the target became inactive.
    pub retention: Duration,
    /// How long a target may be activating before a desired scale of 0 is applied (progress deadline +
    /// 30 s).
    pub activation_timeout: Duration,
    /// The value at or below which newest waiting items count as none (`backlog`, `events`), ≥ 0.
    pub activation_value: u32,
}

impl Default for ZeroConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            retention: Duration::ZERO,
            activation_timeout: Duration::from_secs(630),
            activation_value: 0,
        }
    }
}

/// Where an effective value comes from; the order is the precedence, lowest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Provenance {
    /// Built in.
    #[default]
    Default,
    /// A flag of the process or its environment variable.
    Flag,
    /// A key of a ConfigMap.
    ConfigMap,
    /// An annotation of the namespace.
    Namespace,
    /// An annotation of the pod template.
    PodTemplate,
    /// An annotation of the Deployment.
    Annotation,
    /// The metadata of a ScaledObject's trigger.
    Trigger,
}

/// One line of the effective configuration, for `explain` and `/v1/targets`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Setting {
    /// The key without its group, for example `target`.
    pub name: &'static str,
    /// The effective value as text.
    pub value: String,
    /// Where it comes from.
    pub from: Provenance,
}

/// How a measure is called: the metric and its sources as the user wrote them, for example
/// `backlog@orders`; tells the measures of a target apart.
pub type MeasureName = Arc<str>;

/// A level that a measure of `events` drains besides what arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CompanionConfig {
    /// Where the waiting items are seen, most preferred first.
    pub points: Vec<PointConfig>,
    /// The span in which what waits is to be worked off, ≥ 1 s.
    pub drain_time: Duration,
}

/// One more measure of a target, beside its first one.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MeasureConfig {
    /// Its name, unlike that of any other measure of the target.
    pub name: MeasureName,
    /// The decider's numbers; what concerns the target as a whole is the same in all of its measures.
    pub spec: ScalerSpec,
    /// Measurement points, most preferred first; empty: it cannot be measured, and takes away lowering.
    pub points: Vec<PointConfig>,
    /// What waits besides, if that is measured.
    pub companion: Option<CompanionConfig>,
}

/// A measure of a target, first or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeasureView<'a> {
    /// Its name.
    pub name: &'a MeasureName,
    /// The decider's numbers.
    pub spec: &'a ScalerSpec,
    /// Measurement points, most preferred first.
    pub points: &'a [PointConfig],
    /// What waits besides, if that is measured.
    pub companion: Option<&'a CompanionConfig>,
}

impl MeasureView<'_> {
    /// All points, those of the companion last.
    pub fn all_points(&self) -> impl Iterator<Item = &PointConfig> {
        self.points.iter().chain(self.companion.iter().flat_map(|companion| &companion.points))
    }
}

/// The whole configuration of one target, resolved: events carry it, so a recording replays by itself.
///
/// `measure`, `spec`, `points` and `companion` are its first measure, which every target has and most have
/// alone; [`TargetConfig::measures`] gives all of them.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TargetConfig {
    /// Whether the user asked us to write.
    pub consent: Consent,
    /// The strictest mode of process, namespace, workload and freeze.
    pub mode: Mode,
    /// Until when nothing is written at all, whatever the mode.
    pub paused_until: Option<Timestamp>,
    /// What is ordered for a lost signal; `None`: replicas stay.
    pub on_missing: Option<OnMissing>,
    /// Whose arithmetic decides.
    pub semantics: Semantics,
    /// The name of the first measure.
    #[cfg_attr(feature = "serde", serde(default = "first_measure"))]
    pub measure: MeasureName,
    /// The decider's numbers.
    pub spec: ScalerSpec,
    /// Least and most replicas, already sane (min ≤ max where max ≠ 0).
    pub bounds: ScaleBounds,
    /// The rules for zero.
    pub zero: ZeroConfig,
    /// Measurement points, most preferred first; empty: nothing can be measured.
    pub points: Vec<PointConfig>,
    /// What waits besides, if that is measured.
    #[cfg_attr(feature = "serde", serde(default))]
    pub companion: Option<CompanionConfig>,
    /// The other measures; the highest desired scale of all wins.
    #[cfg_attr(feature = "serde", serde(default))]
    pub further: Vec<MeasureConfig>,
    /// What the user should mend.
    pub problems: Vec<Problem>,
    /// Where each value came from: pairs of the index into [`super::keys::KEYS`] and its provenance;
    /// absent keys are [`Provenance::Default`].
    pub provenance: Vec<(u8, Provenance)>,
}

/// The name of the measure of a target that has no more than one by any source.
fn first_measure() -> MeasureName {
    MeasureName::from("concurrency")
}

impl Default for TargetConfig {
    fn default() -> Self {
        Self {
            consent: Consent::default(),
            mode: Mode::default(),
            paused_until: None,
            on_missing: None,
            semantics: Semantics::default(),
            measure: first_measure(),
            spec: ScalerSpec::default(),
            bounds: ScaleBounds::default(),
            zero: ZeroConfig::default(),
            points: Vec::new(),
            companion: None,
            further: Vec::new(),
            problems: Vec::new(),
            provenance: Vec::new(),
        }
    }
}

impl TargetConfig {
    /// The first measure.
    pub fn first(&self) -> MeasureView<'_> {
        MeasureView {
            name: &self.measure,
            spec: &self.spec,
            points: &self.points,
            companion: self.companion.as_ref(),
        }
    }

    /// Every measure, the first one first.
    pub fn measures(&self) -> impl Iterator<Item = MeasureView<'_>> {
        let further = self.further.iter().map(|measure| MeasureView {
            name: &measure.name,
            spec: &measure.spec,
            points: &measure.points,
            companion: measure.companion.as_ref(),
        });
        std::iter::once(self.first()).chain(further)
    }

    /// Why a measure without any point has none.
    pub fn unmeasured(&self) -> Reason {
        let denied = |problem: &Problem| problem.code == ProblemCode::QueryNotAllowed;
        if self.problems.iter().any(denied) { Reason::QueryNotAllowed } else { Reason::NoSource }
    }

    /// Whether a pause with an end goes on at `now`.
    pub fn is_paused_at(&self, now: Timestamp) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }
}
