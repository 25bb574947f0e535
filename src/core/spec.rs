//! The numbers that a decider works with, after annotations, ConfigMaps and defaults were merged.

use std::time::Duration;

/// What is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum ScalingMetric {
    /// Requests in flight, averaged over time.
    #[default]
    Concurrency,
    /// Requests per second.
    Rps,
    /// Items published per second, seen at the producer's side.
    Events,
    /// Items waiting plus items delivered but not acknowledged.
    Backlog,
}

impl ScalingMetric {
    /// The value of `autoscaling.knative.dev/metric` that selects this kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Concurrency => "concurrency",
            Self::Rps => "rps",
            Self::Events => "events",
            Self::Backlog => "backlog",
        }
    }

    /// Whether the value counts things per second.
    pub fn is_rate(self) -> bool {
        matches!(self, Self::Rps | Self::Events)
    }
}

/// How a window averages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Aggregation {
    /// Every second weighs the same.
    #[default]
    Linear,
    /// The newest second weighs most.
    WeightedExponential,
}

/// Whose arithmetic decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum Semantics {
    /// Knative's stages on windows of covered seconds: true averages from slow and broken sources.
    #[default]
    Default,
    /// Knative's buckets, tick and gaps, bit for bit.
    Knative,
}

/// Everything that one decider needs to know (Knative's `DeciderSpec`).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ScalerSpec {
    /// What is measured.
    pub metric: ScalingMetric,
    /// What the decision divides by: the value one pod should carry, ≥ 0.01.
    pub target: f64,
    /// What one pod can bear (target = total × utilization), > 0.
    pub total: f64,
    /// Requests in flight that the workload should absorb at once; −1 = unlimited, 0 = none.
    pub target_burst_capacity: f64,
    /// How many times the ready pods' capacity must be wanted for panic; a ratio, 2.0 = 200 %.
    pub panic_threshold: f64,
    /// The stable window, whole seconds in 6 s ..= 1 h.
    pub stable_window: Duration,
    /// The panic window, whole seconds, ≥ 1 s and ≤ the stable window.
    pub panic_window: Duration,
    /// How windows average.
    pub aggregation: Aggregation,
    /// The most that one decision may multiply the ready pods by, > 1.
    pub max_scale_up_rate: f64,
    /// The most that one decision may divide the ready pods by, > 1.
    pub max_scale_down_rate: f64,
    /// For how long the highest decision is held; zero = off.
    pub scale_down_delay: Duration,
    /// Replicas that a new target must reach once, ≥ 0.
    pub initial_scale: i32,
    /// Replicas that any demand above zero asks for at least; ≤ 1 = off.
    pub activation_scale: i32,
    /// Whether the target may receive requests; Knative's reachability (unknown counts as reachable).
    pub reachable: bool,
}

impl Default for ScalerSpec {
    /// Knative's defaults for concurrency (`config-autoscaler` untouched, no annotations).
    fn default() -> Self {
        Self {
            metric: ScalingMetric::Concurrency,
            target: 70.0,
            total: 100.0,
            target_burst_capacity: 211.0,
            panic_threshold: 2.0,
            stable_window: Duration::from_secs(60),
            panic_window: Duration::from_secs(6),
            aggregation: Aggregation::Linear,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            scale_down_delay: Duration::ZERO,
            initial_scale: 1,
            activation_scale: 0,
            reachable: true,
        }
    }
}

/// The least and the most replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ScaleBounds {
    /// At least this many, ≥ 0.
    pub min: i32,
    /// At most this many; 0 = no ceiling.
    pub max: i32,
}
