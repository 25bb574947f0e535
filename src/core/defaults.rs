//! The cluster-wide tunables: Knative's `config-autoscaler` ConfigMap.

use std::time::Duration;

/// The keys of `config-autoscaler`, parsed and checked; defaults are Knative's.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ClusterDefaults {
    /// `pod-autoscaler-class`.
    pub pod_autoscaler_class: String,
    /// `enable-scale-to-zero`.
    pub enable_scale_to_zero: bool,
    /// `allow-zero-initial-scale`.
    pub allow_zero_initial_scale: bool,
    /// `max-scale-up-rate`, a ratio > 1.
    pub max_scale_up_rate: f64,
    /// `max-scale-down-rate`, a ratio > 1.
    pub max_scale_down_rate: f64,
    /// `container-concurrency-target-percentage` as a fraction in (0, 1].
    pub container_concurrency_target_fraction: f64,
    /// `container-concurrency-target-default`, requests in flight per pod.
    pub container_concurrency_target_default: f64,
    /// `requests-per-second-target-default`, requests per second and pod.
    pub rps_target_default: f64,
    /// `target-burst-capacity`, requests in flight, or −1 for unlimited.
    pub target_burst_capacity: f64,
    /// `panic-window-percentage` of the stable window, 1 ..= 100.
    pub panic_window_percentage: f64,
    /// `panic-threshold-percentage`.
    pub panic_threshold_percentage: f64,
    /// `activator-capacity`, requests in flight, ≥ 1.
    pub activator_capacity: f64,
    /// `initial-scale`.
    pub initial_scale: i32,
    /// `min-scale`.
    pub min_scale: i32,
    /// `max-scale`; 0 = none.
    pub max_scale: i32,
    /// `max-scale-limit`; 0 = none.
    pub max_scale_limit: i32,
    /// `stable-window`, whole seconds in 6 s ..= 1 h.
    pub stable_window: Duration,
    /// `scale-down-delay`, whole seconds.
    pub scale_down_delay: Duration,
    /// `scale-to-zero-grace-period`, > 0.
    pub scale_to_zero_grace_period: Duration,
    /// `scale-to-zero-pod-retention-period`.
    pub scale_to_zero_pod_retention_period: Duration,
}

impl Default for ClusterDefaults {
    fn default() -> Self {
        Self {
            pod_autoscaler_class: "kpa.autoscaling.knative.dev".to_owned(),
            enable_scale_to_zero: true,
            allow_zero_initial_scale: false,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            container_concurrency_target_fraction: 0.7,
            container_concurrency_target_default: 100.0,
            rps_target_default: 200.0,
            target_burst_capacity: 211.0,
            panic_window_percentage: 10.0,
            panic_threshold_percentage: 200.0,
            activator_capacity: 100.0,
            initial_scale: 1,
            min_scale: 0,
            max_scale: 0,
            max_scale_limit: 0,
            stable_window: Duration::from_secs(60),
            scale_down_delay: Duration::ZERO,
            scale_to_zero_grace_period: Duration::from_secs(30),
            scale_to_zero_pod_retention_period: Duration::ZERO,
        }
    }
}
