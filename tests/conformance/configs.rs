//! `configs`: a `config-autoscaler` gives Knative's configuration, or is refused where Knative refuses.

use podswell::core::defaults::ClusterDefaults;
use serde_json::{Value, json};

use crate::Outcome;
use crate::vectors::string_map;

/// Replays one map.
pub(crate) fn replay(case: &Value) -> Outcome {
    let mut outcome = Outcome::default();
    let found = ClusterDefaults::parse(&string_map(&case["data"]));
    match (&case["error"], found) {
        (Value::Null, Ok(config)) => {
            let found = as_json(&config);
            for (key, expected) in case["config"].as_object().into_iter().flatten() {
                outcome.check_json(key, expected, found.get(key).unwrap_or(&Value::Null));
            }
        }
        (Value::Null, Err(error)) => outcome.fail(format!("refused: {error}")),
        (Value::String(error), Ok(_)) => outcome.fail(format!("accepted, but Knative: {error}")),
        (_, Err(_)) => outcome.steps += 1,
        (other, Ok(_)) => outcome.fail(format!("strange expectation {other}")),
    }
    outcome
}

fn as_json(config: &ClusterDefaults) -> Value {
    json!({
        "pod_autoscaler_class": config.pod_autoscaler_class,
        "enable_scale_to_zero": config.enable_scale_to_zero,
        "allow_zero_initial_scale": config.allow_zero_initial_scale,
        "max_scale_up_rate": config.max_scale_up_rate,
        "max_scale_down_rate": config.max_scale_down_rate,
        "container_concurrency_target_fraction": config.container_concurrency_target_fraction,
        "container_concurrency_target_default": config.container_concurrency_target_default,
        "rps_target_default": config.rps_target_default,
        "target_burst_capacity": config.target_burst_capacity,
        "panic_window_percentage": config.panic_window_percentage,
        "panic_threshold_percentage": config.panic_threshold_percentage,
        "activator_capacity": config.activator_capacity,
        "initial_scale": config.initial_scale,
        "min_scale": config.min_scale,
        "max_scale": config.max_scale,
        "max_scale_limit": config.max_scale_limit,
        "stable_window_s": config.stable_window.as_secs_f64(),
        "scale_down_delay_s": config.scale_down_delay.as_secs_f64(),
        "scale_to_zero_grace_period_s": config.scale_to_zero_grace_period.as_secs_f64(),
        "scale_to_zero_pod_retention_period_s":
            config.scale_to_zero_pod_retention_period.as_secs_f64(),
    })
}
