//! Knative's decisions from given averages.

use podswell::core::decider::Decider;
use podswell::core::spec::{ScalerSpec, ScalingMetric};
use serde_json::Value;

use crate::{Outcome, json};

pub(crate) fn replay(case: &Value) -> Outcome {
    let spec = spec(&case["spec"]);
    let created = json::i64(case, "created_unix_ms");
    let ready = json::i32(case, "created_ready");
    let mut decider = Decider::new_knative(json::unix_ms(created), &spec, ready);
    let mut outcome = Outcome::default();
    for step in json::list(case, "steps") {
        let at = created + json::i64(step, "t_ms");
        let averages = if step["no_data"].as_bool() == Some(true) {
            None
        } else {
            Some((json::f64(step, "stable"), json::f64(step, "panic")))
        };
        let found =
            decider.tick_knative(json::unix_ms(at), &spec, json::i32(step, "ready"), averages);
        check(&mut outcome, step, &found, &format!("at {} ms", json::i64(step, "t_ms")));
    }
    outcome
}

/// Compares what the vector names with what was found.
pub(crate) fn check(
    outcome: &mut Outcome,
    step: &Value,
    found: &podswell::core::decider::Outcome,
    what: &str,
) {
    outcome.check(&format!("valid {what}"), &step["valid"].as_bool(), &Some(found.valid));
    if !found.valid {
        return;
    }
    outcome.check(
        &format!("desired {what}"),
        &step["desired"].as_i64(),
        &Some(found.desired.into()),
    );
    outcome.check(
        &format!("excess burst capacity {what}"),
        &step["excess_burst_capacity"].as_i64(),
        &Some(found.excess_burst_capacity.into()),
    );
}

pub(crate) fn metric(text: &str) -> ScalingMetric {
    match text {
        "concurrency" => ScalingMetric::Concurrency,
        "rps" => ScalingMetric::Rps,
        "events" => ScalingMetric::Events,
        "backlog" => ScalingMetric::Backlog,
        other => panic!("unknown metric {other}"),
    }
}

fn spec(spec: &Value) -> ScalerSpec {
    ScalerSpec {
        metric: metric(json::text(spec, "metric")),
        target: json::f64(spec, "target"),
        total: json::f64(spec, "total"),
        target_burst_capacity: json::f64(spec, "target_burst_capacity"),
        panic_threshold: json::f64(spec, "panic_threshold"),
        stable_window: json::seconds(spec, "stable_window_s"),
        max_scale_up_rate: json::f64(spec, "max_scale_up_rate"),
        max_scale_down_rate: json::f64(spec, "max_scale_down_rate"),
        scale_down_delay: json::seconds(spec, "scale_down_delay_s"),
        initial_scale: json::i32(spec, "initial_scale"),
        activation_scale: json::i32(spec, "activation_scale"),
        reachable: spec["reachable"].as_bool().expect("reachable is a bool"),
        ..ScalerSpec::default()
    }
}
