//! What Knative's controllers make of annotations: a value that does not parse is as good as absent,
//! ranges are not looked at again.

use std::collections::BTreeMap;

use super::{CLASS_HPA, CLASS_KPA, lookup};
use crate::core::defaults::{ClusterDefaults, TARGET_MIN};
use crate::core::duration::GoDuration;
use crate::core::keys::{self, Key};
use crate::core::number;
use crate::core::spec::Aggregation;

/// The share of the rps target that a pod carries unless an annotation says otherwise; no ConfigMap key
/// sets it.
pub(crate) const RPS_UTILIZATION: f64 = 0.7;

/// One workload's numbers as Knative's controllers hold them. Nothing is checked: with annotations that
/// were not validated a number may be of any size and sign, or not finite.
#[derive(Clone, Debug, PartialEq)]
pub struct RunTimeValues {
    /// What a decision divides by, ≥ 0.01.
    pub target: f64,
    /// What one pod can bear.
    pub total: f64,
    /// The share of it that a pod carries.
    pub utilization: f64,
    /// Requests in flight to absorb at once; −1 = unlimited.
    pub target_burst_capacity: f64,
    /// A ratio, 2.0 = 200 %.
    pub panic_threshold: f64,
    /// The stable window.
    pub stable_window: GoDuration,
    /// The panic window, whole seconds, ≥ 1 s.
    pub panic_window: GoDuration,
    /// How windows average.
    pub aggregation: Aggregation,
    /// For how long the highest decision is held.
    pub scale_down_delay: GoDuration,
    /// How long the last pod stays.
    pub retention: GoDuration,
    /// Replicas that a new workload must reach once.
    pub initial_scale: i32,
    /// Replicas that any demand asks for at least; 0 = off.
    pub activation_scale: i32,
    /// Least replicas.
    pub min_scale: i32,
    /// Most replicas; 0 = no ceiling.
    pub max_scale: i32,
}

/// The metric's name: the annotation as written, or what its class measures by default.
///
/// Source: Knative `pkg/apis/autoscaling/v1alpha1/pa_lifecycle.go` `Metric`.
pub fn knative_metric(annotations: &BTreeMap<String, String>) -> &str {
    if let Some(metric) = lookup(annotations, &keys::METRIC) {
        return metric.value;
    }
    match lookup(annotations, &keys::CLASS).map_or(CLASS_KPA, |class| class.value) {
        CLASS_KPA => "concurrency",
        CLASS_HPA => "cpu",
        _ => "",
    }
}

impl RunTimeValues {
    /// Merges annotations and defaults. `metric` is the metric's name ([`knative_metric`]),
    /// `container_concurrency` the most requests a pod takes at once (0 = no limit), `reachable` whether
    /// the workload may receive requests.
    ///
    /// Source: Knative `pkg/reconciler/autoscaling/resources/{target,metric}.go`,
    /// `kpa/resources/decider.go`, serving@98e5ef9.
    pub fn read(
        annotations: &BTreeMap<String, String>,
        defaults: &ClusterDefaults,
        metric: &str,
        container_concurrency: i64,
        reachable: bool,
    ) -> Self {
        let reader = Reader { annotations };
        let (total, utilization) = reader.target(defaults, metric, container_concurrency);
        let stable_window = reader
            .duration(&keys::WINDOW)
            .unwrap_or_else(|| GoDuration::from_std(defaults.stable_window));
        let percentage =
            reader.float(&keys::PANIC_WINDOW).unwrap_or(defaults.panic_window_percentage);
        let threshold =
            reader.float(&keys::PANIC_THRESHOLD).unwrap_or(defaults.panic_threshold_percentage);
        let retention = reader
            .duration(&keys::RETENTION)
            .unwrap_or_else(|| GoDuration::from_std(defaults.scale_to_zero_pod_retention_period));
        let min_scale = reader.int(&keys::MIN_SCALE).unwrap_or(defaults.min_scale);
        Self {
            // The order of the operations is Knative's.
            target: (total * utilization).max(TARGET_MIN),
            total,
            utilization,
            target_burst_capacity: reader
                .float(&keys::TARGET_BURST_CAPACITY)
                .unwrap_or(defaults.target_burst_capacity),
            panic_threshold: threshold / 100.0,
            stable_window,
            panic_window: panic_window(stable_window, percentage),
            aggregation: reader.aggregation(),
            scale_down_delay: reader
                .duration(&keys::SCALE_DOWN_DELAY)
                .unwrap_or_else(|| GoDuration::from_std(defaults.scale_down_delay)),
            retention: if reachable { retention } else { GoDuration::ZERO },
            initial_scale: reader
                .int(&keys::INITIAL_SCALE)
                .filter(|scale| *scale != 0 || defaults.allow_zero_initial_scale)
                .unwrap_or(defaults.initial_scale),
            activation_scale: reader.int(&keys::ACTIVATION_SCALE).unwrap_or(0),
            min_scale: if reachable { min_scale } else { 0 },
            max_scale: reader.int(&keys::MAX_SCALE).unwrap_or(defaults.max_scale),
        }
    }
}

/// The panic window: the percentage of the stable one, rounded to seconds, at least one.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "the same conversions as Knative; windows are far below 2⁵³ ns"
)]
fn panic_window(stable: GoDuration, percentage: f64) -> GoDuration {
    let nanos = (stable.as_nanos() as f64 * percentage / 100.0) as i64;
    GoDuration::from_nanos(nanos).rounded_to_second().max(GoDuration::from_secs(1))
}

struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
}

impl Reader<'_> {
    fn int(&self, key: &Key) -> Option<i32> {
        number::parse_i32(lookup(self.annotations, key)?.value).ok()
    }

    fn float(&self, key: &Key) -> Option<f64> {
        number::parse_float(lookup(self.annotations, key)?.value).ok()
    }

    fn duration(&self, key: &Key) -> Option<GoDuration> {
        GoDuration::parse(lookup(self.annotations, key)?.value).ok()
    }

    fn aggregation(&self) -> Aggregation {
        match lookup(self.annotations, &keys::AGGREGATION).map(|found| found.value) {
            Some("weighted-exponential" | "weightedExponential") => {
                Aggregation::WeightedExponential
            }
            _ => Aggregation::Linear,
        }
    }

    /// Total and utilization.
    #[expect(clippy::cast_precision_loss, reason = "the same conversion as Knative")]
    fn target(&self, defaults: &ClusterDefaults, metric: &str, concurrency: i64) -> (f64, f64) {
        let limit = concurrency as f64;
        let (mut total, utilization) = if metric == "rps" {
            (defaults.rps_target_default, RPS_UTILIZATION)
        } else {
            let total = if concurrency == 0 {
                defaults.container_concurrency_target_default
            } else {
                limit
            };
            (total, defaults.container_concurrency_target_fraction)
        };
        if let Some(target) = self.float(&keys::TARGET) {
            let limited = metric == "concurrency" && concurrency != 0;
            total = if limited { target.min(limit) } else { target };
        }
        let percentage = self.float(&keys::TARGET_UTILIZATION);
        (total, percentage.map_or(utilization, |percentage| percentage / 100.0))
    }
}
