//! What the engine is told about a target.

use std::time::Duration;

use super::policy::{Consent, Mode};
use super::problem::Problem;
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

/// The whole configuration of one target, resolved: events carry it, so a recording replays by itself.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TargetConfig {
    /// Whether the user asked us to write.
    pub consent: Consent,
    /// The strictest mode of process, namespace, workload and freeze.
    pub mode: Mode,
    /// Whose arithmetic decides.
    pub semantics: Semantics,
    /// The decider's numbers.
    pub spec: ScalerSpec,
    /// Least and most replicas, already sane (min ≤ max where max ≠ 0).
    pub bounds: ScaleBounds,
    /// The rules for zero.
    pub zero: ZeroConfig,
    /// Measurement points, most preferred first; empty: nothing can be measured.
    pub points: Vec<PointConfig>,
    /// What the user should mend.
    pub problems: Vec<Problem>,
    /// Where each value came from: pairs of the index into [`super::keys::KEYS`] and its provenance;
    /// absent keys are [`Provenance::Default`].
    pub provenance: Vec<(u8, Provenance)>,
}
