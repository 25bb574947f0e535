//! Knative's windows.

use std::time::Duration;

use podswell::core::spec::Aggregation;
use podswell::core::window::buckets::BucketWindow;
use serde_json::Value;

use crate::{Outcome, json};

/// How far a weighted-exponential average may be off, relatively: it depends on the platform's `pow`.
const TOLERANCE: f64 = 1e-9;

pub(crate) fn replay(case: &Value) -> Outcome {
    let aggregation = match json::text(case, "algorithm") {
        "linear" => Aggregation::Linear,
        _ => Aggregation::WeightedExponential,
    };
    let window = Duration::from_secs(json::i64(case, "window_s").unsigned_abs());
    let mut window = BucketWindow::new(window, aggregation);
    let mut outcome = Outcome::default();
    for op in json::list(case, "ops") {
        let t = json::unix_ms(json::i64(case, "epoch_s") * 1000 + json::i64(op, "t_ms"));
        if json::text(op, "op") == "record" {
            window.record(t, json::f64(op, "value"));
            continue;
        }
        let what = format!("at {} ms", json::i64(op, "t_ms"));
        let (expected, found) = (json::f64(op, "average"), window.average(t));
        let close = (found - expected).abs() <= TOLERANCE * expected.abs();
        if aggregation == Aggregation::Linear || !close {
            outcome.check(&format!("average {what}"), &expected, &found);
        }
        outcome.check(&format!("empty {what}"), &op["empty"].as_bool(), &Some(window.is_empty(t)));
    }
    let newest = json::list(case, "ops").iter().map(|op| json::i64(op, "t_ms")).max();
    if outcome.steps == 0
        && let Some(newest) = newest
    {
        let t = json::unix_ms(json::i64(case, "epoch_s") * 1000 + newest);
        outcome.check("empty after records only", &false, &window.is_empty(t));
    }
    outcome
}
