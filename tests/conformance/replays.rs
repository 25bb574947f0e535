//! Whole runs of Knative's autoscaler: samples into both windows, a decision every 2 s.

use podswell::core::annotations::{RunTimeValues, knative_metric};
use podswell::core::decider::Decider;
use podswell::core::defaults::ClusterDefaults;
use podswell::core::spec::ScalerSpec;
use podswell::core::window::buckets::BucketWindow;
use serde_json::Value;

use crate::decisions::check;
use crate::vectors::string_map;
use crate::{Outcome, json};

pub(crate) fn replay(case: &Value) -> Outcome {
    let spec = spec(case);
    let ready = json::i32(case, "created_ready");
    let mut decider =
        Decider::new_knative(json::unix_ms(json::i64(case, "created_unix_ms")), &spec, ready);
    let mut stable = BucketWindow::new(spec.stable_window, spec.aggregation);
    let mut panic = BucketWindow::new(spec.panic_window, spec.aggregation);
    let start_ms = json::i64(case, "start_unix_s") * 1000;
    let offset_ms = json::i64(case, "stat_offset_ms");
    let mut stats = (0_i64..).zip(json::list(case, "stats")).peekable();
    let mut outcome = Outcome::default();
    for tick in json::list(case, "ticks") {
        let second = json::i64(tick, "s");
        let now_ms = start_ms + second * 1000 + json::i64(case, "tick_offset_ms");
        while let Some((i, value)) =
            stats.next_if(|(i, _)| start_ms + i * 1000 + offset_ms <= now_ms)
        {
            if let Some(value) = value.as_f64() {
                let t = json::unix_ms(start_ms + i * 1000 + offset_ms);
                stable.record(t, value);
                panic.record(t, value);
            }
        }
        let now = json::unix_ms(now_ms);
        let averages = (!stable.is_empty(now)).then(|| (stable.average(now), panic.average(now)));
        let found = decider.tick_knative(now, &spec, json::i32(tick, "ready"), averages);
        check(&mut outcome, tick, &found, &format!("at {second} s"));
    }
    outcome
}

fn spec(case: &Value) -> ScalerSpec {
    let defaults = ClusterDefaults::parse(&string_map(&case["config_map"])).expect("a valid map");
    let annotations = string_map(&case["annotations"]);
    let metric = knative_metric(&annotations);
    let values = RunTimeValues::read(&annotations, &defaults, metric, 0, true);
    ScalerSpec {
        metric: crate::decisions::metric(metric),
        target: values.target,
        total: values.total,
        target_burst_capacity: values.target_burst_capacity,
        panic_threshold: values.panic_threshold,
        stable_window: values.stable_window.to_std(),
        panic_window: values.panic_window.to_std(),
        aggregation: values.aggregation,
        max_scale_up_rate: defaults.max_scale_up_rate,
        max_scale_down_rate: defaults.max_scale_down_rate,
        scale_down_delay: values.scale_down_delay.to_std(),
        initial_scale: values.initial_scale,
        activation_scale: values.activation_scale,
        reachable: true,
    }
}
