//! `resolved`: a decider's numbers from annotations and `config-autoscaler`.

use podswell::core::annotations::{RunTimeValues, knative_metric};
use podswell::core::defaults::ClusterDefaults;
use serde_json::{Value, json};

use crate::Outcome;
use crate::vectors::string_map;

/// Replays one workload.
pub(crate) fn replay(case: &Value) -> Outcome {
    let mut outcome = Outcome::default();
    let defaults = match ClusterDefaults::parse(&string_map(&case["config_map"])) {
        Ok(defaults) => defaults,
        Err(error) => {
            outcome.fail(format!("config_map refused: {error}"));
            return outcome;
        }
    };
    let annotations = string_map(&case["annotations"]);
    let spec = &case["spec"];
    let metric = knative_metric(&annotations);
    let concurrency = case["container_concurrency"].as_i64().unwrap_or(0);
    let reachable = spec["reachable"].as_bool().unwrap_or(true);
    let values = RunTimeValues::read(&annotations, &defaults, metric, concurrency, reachable);
    let found = json!({
        "activation_scale": values.activation_scale,
        "initial_scale": values.initial_scale,
        "max_scale_down_rate": defaults.max_scale_down_rate,
        "max_scale_up_rate": defaults.max_scale_up_rate,
        "metric": metric,
        "panic_threshold": values.panic_threshold,
        "reachable": reachable,
        "scale_down_delay_s": values.scale_down_delay.as_secs_f64(),
        "stable_window_s": values.stable_window.as_secs_f64(),
        "target": values.target,
        "target_burst_capacity": values.target_burst_capacity,
        "total": values.total,
    });
    for (key, expected) in spec.as_object().into_iter().flatten() {
        outcome.check_json(key, expected, found.get(key).unwrap_or(&Value::Null));
    }
    let found = json!({
        "min_scale": values.min_scale,
        "max_scale": values.max_scale,
        "panic_window_s": values.panic_window.as_secs_f64(),
        "scale_to_zero_pod_retention_s": values.retention.as_secs_f64(),
    });
    for (key, found) in found.as_object().into_iter().flatten() {
        outcome.check_json(key, case.get(key).unwrap_or(&Value::Null), found);
    }
    outcome
}
