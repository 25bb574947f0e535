//! Windows of covered seconds.

use std::time::Duration;

use podswell::core::window::covered::{CoveredSeconds, Recorded};
use serde_json::Value;

use crate::{Outcome, json};

/// How far an average may be off.
pub(crate) const TOLERANCE: f64 = 1.5e-6;

pub(crate) fn replay(case: &Value) -> Outcome {
    let window_s = Duration::from_secs(json::i64(case, "window_s").unsigned_abs());
    let mut window = CoveredSeconds::new(window_s, json::seconds(case, "stale_after_s"));
    let mut outcome = Outcome::default();
    for (i, op) in json::list(case, "ops").iter().enumerate() {
        if json::text(op, "op") == "record" {
            let t = json::unix_ms(json::i64(case, "epoch_s") * 1000 + json::i64(op, "t_ms"));
            let found = window.record(t, json::f64(op, "low"), json::f64(op, "high"), false);
            outcome.check(&format!("result of {i}"), &json::text(op, "result"), &word(found));
            continue;
        }
        let average = window.average(window_s);
        outcome.check(
            &format!("covered at {i}"),
            &op["covered_s"].as_i64(),
            &Some(average.covered_s.into()),
        );
        let read = average.covered_s > 0;
        check_average(
            &mut outcome,
            &op["low"],
            read.then_some(average.low),
            &format!("low at {i}"),
        );
        check_average(
            &mut outcome,
            &op["high"],
            read.then_some(average.high),
            &format!("high at {i}"),
        );
        if read && case["constant"].is_number() {
            check_average(&mut outcome, &case["constant"], Some(average.low), "constant");
        }
    }
    outcome
}

pub(crate) fn word(recorded: Recorded) -> &'static str {
    match recorded {
        Recorded::Ok => "ok",
        Recorded::Heartbeat => "heartbeat",
        Recorded::Late => "late",
        Recorded::Invalid => "invalid",
    }
}

pub(crate) fn check_average(
    outcome: &mut Outcome,
    expected: &Value,
    found: Option<f64>,
    what: &str,
) {
    let expected = expected.as_f64();
    let close = match (expected, found) {
        (Some(expected), Some(found)) => (expected - found).abs() <= TOLERANCE,
        (None, None) => true,
        _ => false,
    };
    outcome.check(what, &true, &close);
    if !close && let Some(last) = outcome.mismatches.last_mut() {
        *last = format!("{what}: expected {expected:?}, found {found:?}");
    }
}
