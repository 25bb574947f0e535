//! `resolved`: a decider's numbers from annotations and `config-autoscaler`.

use std::collections::{BTreeMap, BTreeSet};

use podswell::core::annotations::{RunTimeValues, knative_metric, validate};
use podswell::core::defaults::ClusterDefaults;
use podswell::core::keys;
use podswell::core::resolve::{Inputs, ProcessSettings, Resolved, resolve};
use podswell::core::spec::Semantics;
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
    if reachable && matches!(metric, "concurrency" | "rps") {
        check_resolver(case, &annotations, &defaults, &mut outcome);
    }
    outcome
}

/// The resolver of the running process gives the same numbers wherever Knative's webhook would have
/// accepted the annotations.
fn check_resolver(
    case: &Value,
    annotations: &BTreeMap<String, String>,
    defaults: &ClusterDefaults,
    outcome: &mut Outcome,
) {
    let mut annotations = annotations.clone();
    if validate(&annotations, defaults).is_err() || annotations.is_empty() {
        return;
    }
    if let Some(concurrency) = case.get("container_concurrency").filter(|value| **value != 0) {
        annotations.insert(keys::CONTAINER_CONCURRENCY.annotation(), concurrency.to_string());
    }
    let (process, none) = (
        ProcessSettings { compat: Semantics::Knative, ..ProcessSettings::default() },
        BTreeMap::new(),
    );
    let inputs = Inputs {
        defaults,
        defaults_set: &BTreeSet::new(),
        process: &process,
        sources: &BTreeMap::new(),
        namespace: "default",
        name: "default",
        namespace_annotations: &none,
        annotations: &annotations,
        template_annotations: &none,
        owned_by_knative: false,
        progress_deadline: None,
    };
    let Some(Resolved { config, .. }) = resolve(&inputs) else {
        outcome.fail("not resolved".to_owned());
        return;
    };
    let spec = &config.spec;
    let found = json!({
        "activation_scale": spec.activation_scale,
        "initial_scale": spec.initial_scale,
        "max_scale_down_rate": spec.max_scale_down_rate,
        "max_scale_up_rate": spec.max_scale_up_rate,
        "metric": spec.metric.as_str(),
        "panic_threshold": spec.panic_threshold,
        "scale_down_delay_s": spec.scale_down_delay.as_secs_f64(),
        "stable_window_s": spec.stable_window.as_secs_f64(),
        "target": spec.target,
        "target_burst_capacity": spec.target_burst_capacity,
        "total": spec.total,
    });
    for (key, found) in found.as_object().into_iter().flatten() {
        let expected = case.get("spec").and_then(|spec| spec.get(key));
        outcome.check_json(&format!("resolver {key}"), expected.unwrap_or(&Value::Null), found);
    }
    // min-scale above max-scale is mended; Knative's bounds would flap.
    let max = case.get("max_scale").and_then(Value::as_i64).unwrap_or(0);
    let min = case.get("min_scale").and_then(Value::as_i64).unwrap_or(0);
    let min = if max == 0 { min } else { min.min(max) };
    outcome.check(
        "resolver bounds",
        &(min, max),
        &(config.bounds.min.into(), config.bounds.max.into()),
    );
    let panic_window = spec.panic_window.as_secs_f64();
    let expected = case.get("panic_window_s").unwrap_or(&Value::Null);
    outcome.check_json("resolver panic_window_s", expected, &json!(panic_window));
}
