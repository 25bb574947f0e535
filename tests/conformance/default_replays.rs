//! Whole runs of the default mode, through the same decider and window that the engine uses.

use std::time::Duration;

use podswell::core::Timestamp;
use podswell::core::decider::Decider;
use podswell::core::decider::covered::{Averages, Reading, over_alone};
use podswell::core::decision::SignalState;
use podswell::core::source::{PointConfig, Share};
use podswell::core::spec::ScalerSpec;
use podswell::core::window::covered::CoveredSeconds;
use serde_json::Value;

use crate::decisions::metric;
use crate::default_windows::{check_average, word};
use crate::{Outcome, json};

struct Run {
    spec: ScalerSpec,
    point: PointConfig,
    wake_after: Duration,
    created: Timestamp,
    window: CoveredSeconds,
    decider: Decider,
}

pub(crate) fn replay(case: &Value) -> Outcome {
    let mut run = Run::new(case);
    let mut outcome = Outcome::default();
    for event in json::list(case, "events") {
        let t = json::unix_ms(json::i64(event, "t_ms"));
        let what = format!("at {} ms", json::i64(event, "t_ms") - json::i64(case, "created_ms"));
        if json::text(event, "op") == "sample" {
            let low = json::f64(event, "low");
            let over = over_alone(&run.spec, low, run.decider.ready_at_last_tick());
            let found = run.window.record(t, low, json::f64(event, "high"), over);
            outcome.check(&format!("sample {what}"), &json::text(event, "result"), &word(found));
        } else {
            run.tick(&mut outcome, event, t, &what);
        }
    }
    outcome
}

impl Run {
    fn new(case: &Value) -> Self {
        let spec = spec(&case["spec"]);
        let interval = json::seconds(&case["spec"], "interval_s");
        let stale_after = json::seconds(&case["spec"], "stale_after_s");
        let created = json::unix_ms(json::i64(case, "created_ms"));
        let longest = spec.stable_window.max(spec.panic_window).max(interval);
        Self {
            decider: Decider::new(created, &spec, json::i32(case, "replicas")),
            window: CoveredSeconds::new(longest, stale_after),
            wake_after: json::seconds(&case["spec"], "wake_after_s"),
            point: PointConfig {
                source: "vector".into(),
                interval,
                stale_after,
                range: None,
                visible_at_zero: true,
                share: Share::Exclusive,
            },
            created,
            spec,
        }
    }

    fn tick(&mut self, outcome: &mut Outcome, event: &Value, now: Timestamp, what: &str) {
        let averages = Averages::of(&self.spec, &self.point, &self.window);
        let reading = Reading::new(&self.spec, &self.point, &self.window, &averages);
        let since = self.window.newest().unwrap_or(self.created);
        let age = Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO);
        let ready = json::i32(event, "ready");
        let signal = if age > self.point.stale_after {
            SignalState::Lost
        } else if self.window.newest().is_none() {
            SignalState::Starting
        } else if reading.stable.low == reading.stable.high {
            SignalState::Fresh
        } else {
            SignalState::Partial
        };
        let found = match signal {
            SignalState::Starting => self.decider.tick_starting(ready),
            SignalState::Lost => {
                let wake = age > self.point.stale_after + self.wake_after;
                self.decider.tick_lost(now, &self.spec, ready, wake)
            }
            SignalState::Fresh | SignalState::Partial => {
                self.decider.tick_covered(now, &self.spec, ready, &reading)
            }
        };
        outcome.check(&format!("signal {what}"), &json::text(event, "signal"), &signal.as_str());
        if found.valid {
            check_average(
                outcome,
                &event["stable"],
                Some(reading.stable.low),
                &format!("stable {what}"),
            );
            check_average(
                outcome,
                &event["stable_high"],
                Some(reading.stable.high),
                &format!("stable high {what}"),
            );
            check_average(
                outcome,
                &event["panic"],
                Some(reading.panic.low),
                &format!("panic {what}"),
            );
            outcome.check(
                &format!("covered {what}"),
                &event["covered_s"].as_i64(),
                &Some(reading.stable.covered_s.into()),
            );
            outcome.check(
                &format!("lowering {what}"),
                &event["lowering"].as_bool(),
                &Some(found.lowering),
            );
        }
        outcome.check(
            &format!("desired {what}"),
            &event["desired"].as_i64(),
            &Some(found.desired.into()),
        );
        outcome.check(
            &format!("panic mode {what}"),
            &event["panic_mode"].as_bool(),
            &Some(self.decider.panic_mode().is_on()),
        );
    }
}

fn spec(spec: &Value) -> ScalerSpec {
    ScalerSpec {
        metric: metric(json::text(spec, "kind")),
        target: json::f64(spec, "target"),
        stable_window: json::seconds(spec, "stable_window_s"),
        panic_window: json::seconds(spec, "panic_window_s"),
        panic_threshold: json::f64(spec, "panic_threshold"),
        max_scale_up_rate: json::f64(spec, "max_scale_up_rate"),
        max_scale_down_rate: json::f64(spec, "max_scale_down_rate"),
        scale_down_delay: json::seconds(spec, "scale_down_delay_s"),
        activation_scale: json::i32(spec, "activation_scale"),
        ..ScalerSpec::default()
    }
}
