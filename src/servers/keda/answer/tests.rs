use std::sync::Arc;

use super::*;
use crate::core::config::ZeroConfig;
use crate::core::decision::{Observation, SampleCounts};
use crate::core::source::{PointConfig, Share};
use crate::core::spec::{ScaleBounds, ScalerSpec, ScalingMetric};
use crate::core::target::{PodCounts, TargetId};

#[expect(clippy::cast_precision_loss, reason = "small")]
fn whole(value: i64) -> f64 {
    value as f64
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

/// A status whose load is seen at zero, with 20 in flight on average and a target of 7.
fn status() -> TargetStatus {
    let point = PointConfig {
        source: "ingress".into(),
        interval: Duration::from_secs(1),
        stale_after: Duration::from_millis(2500),
        range: None,
        visible_at_zero: true,
        share: Share::Exclusive,
    };
    let spec = ScalerSpec { target: 7.0, total: 10.0, ..ScalerSpec::default() };
    let config = TargetConfig { points: vec![point], spec, ..TargetConfig::default() };
    let observation = Observation {
        signal: SignalState::Fresh,
        stable: Some(20.0),
        panic: Some(30.5),
        ..Observation::default()
    };
    let decision = Decision { at: at(0), bounded: 3, observation, ..Decision::default() };
    TargetStatus {
        target: TargetId::deployment("shop", "web").of_trigger("web.1"),
        config: Arc::new(config),
        replicas: 2,
        pods: PodCounts::default(),
        rivals: Arc::default(),
        contest: None,
        decision: Some(Arc::new(decision)),
        last_write: None,
        problems: Vec::new(),
        samples: SampleCounts::default(),
    }
}

fn configured(change: impl FnOnce(&mut TargetConfig)) -> TargetStatus {
    let mut status = status();
    change(Arc::make_mut(&mut status.config));
    status
}

fn decided(change: impl FnOnce(&mut Decision)) -> TargetStatus {
    let mut status = status();
    change(Arc::make_mut(status.decision.as_mut().unwrap()));
    status
}

#[test]
fn names_are_one_segment_and_short() {
    use AnsweredValue::{Desired, Max, Panic, Stable};
    for value in [Desired, Stable, Panic, Max] {
        for metric in [
            ScalingMetric::Concurrency,
            ScalingMetric::Rps,
            ScalingMetric::Events,
            ScalingMetric::Backlog,
        ] {
            let status = configured(|config| config.spec.metric = metric);
            let name = metric_name(&status.config, value);
            let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
            assert!(plain && name.len() <= 50, "{name}");
            assert_eq!(spec(&status.config, value).metric_name, name);
            assert_eq!(metric_value(&status, value, at(1)).unwrap().metric_name, name);
        }
    }
}

#[test]
fn both_kinds_of_numbers_give_the_same_replicas() {
    use AnsweredValue::{Desired, Max, Panic, Stable};
    for (target, value, ints, floats) in [
        (7.0, Desired, (1, 3), (1.0, 3.0)),
        (7.0, Stable, (7, 20), (7.0, 20.0)),
        (7.0, Panic, (7, 31), (7.0, 30.5)),
        (7.0, Max, (7, 31), (7.0, 30.5)),
        (0.5, Stable, (1, 40), (0.5, 20.0)),
        (0.3, Panic, (1, 102), (0.3, 30.5)),
        (70.7, Stable, (1, 1), (70.7, 20.0)),
        (0.001, Stable, (1, 2000), (0.01, 20.0)),
        (f64::NAN, Stable, (1, 2000), (0.01, 20.0)),
    ] {
        let status = configured(|config| config.spec.target = target);
        let spec = spec(&status.config, value);
        let read = metric_value(&status, value, at(1)).unwrap();
        assert_eq!((spec.target_size, read.metric_value), ints, "{target} {value:?}");
        let given = (spec.target_size_float, read.metric_value_float);
        assert!(
            (given.0 - floats.0).abs() < 1e-9 && (given.1 - floats.1).abs() < 1e-9,
            "{given:?}"
        );
        let by_ints = (whole(read.metric_value) / whole(spec.target_size)).ceil();
        let by_floats = (read.metric_value_float / spec.target_size_float).ceil();
        assert!((by_ints - by_floats).abs() < 1e-9, "{target} {value:?}");
    }
}

#[test]
fn extreme_values_stay_numbers() {
    for load in [0.0, f64::MAX, 1e-300] {
        let status = decided(|decision| decision.observation.stable = Some(load));
        let read = metric_value(&status, AnsweredValue::Stable, at(1)).unwrap();
        assert!(read.metric_value >= 0 && read.metric_value_float.is_finite(), "{read:?}");
        let none = load > 0.0;
        assert_eq!(read.metric_value > 0, none, "0 is 0 in both: {read:?}");
    }
    let status = decided(|decision| decision.observation.stable = Some(f64::NAN));
    let answer = metric_value(&status, AnsweredValue::Stable, at(1));
    assert_eq!(answer, Err(NoAnswer::Starting));
}

#[test]
fn what_is_not_known_is_not_answered() {
    let undecided = TargetStatus { decision: None, ..status() };
    let of = |signal| decided(|decision| decision.observation.signal = signal);
    for (status, now, expected) in [
        (undecided, at(1), Err(NoAnswer::Undecided)),
        (status(), at(11), Err(NoAnswer::Stale)),
        (of(SignalState::Starting), at(1), Err(NoAnswer::Starting)),
        (of(SignalState::Lost), at(1), Err(NoAnswer::Lost)),
        (of(SignalState::Partial), at(1), Ok(())),
        (status(), at(10), Ok(())),
        // The clock of another machine may be behind.
        (status(), at(-5), Ok(())),
    ] {
        let read = metric_value(&status, AnsweredValue::Desired, now).map(|_| ());
        assert_eq!((read, is_active(&status, now).map(|_| ())), (expected, expected));
        assert_eq!(spec(&status.config, AnsweredValue::Desired).target_size, 1);
    }
}

#[test]
fn activity_is_the_zero_machines() {
    let bounded =
        |pods, is_idle| decided(|decision| (decision.bounded, decision.idle) = (pods, is_idle));
    let idle = |change: fn(&mut TargetConfig)| {
        let mut status = bounded(0, true);
        change(Arc::make_mut(&mut status.config));
        status
    };
    let blind = |config: &mut TargetConfig| {
        config.points.iter_mut().for_each(|point| point.visible_at_zero = false);
    };
    for (what, status, expected) in [
        ("load", bounded(3, false), true),
        ("none", bounded(0, true), false),
        ("none but what a rate limit holds", bounded(1, true), false),
        ("min-scale", idle(|config| config.bounds = ScaleBounds { min: 1, max: 0 }), true),
        ("no wake path", idle(blind), true),
        ("no source", idle(|config| config.points.clear()), true),
        (
            "no scale to zero",
            idle(|config| config.zero = ZeroConfig { enabled: false, ..ZeroConfig::default() }),
            true,
        ),
    ] {
        assert_eq!(is_active(&status, at(1)), Ok(expected), "{what}");
    }
}

#[test]
fn who_cannot_be_seen_at_zero_is_raised_to_one() {
    let mut status = decided(|decision| decision.observation.signal = SignalState::Lost);
    status.replicas = 0;
    assert_eq!(metric_value(&status, AnsweredValue::Desired, at(1)), Err(NoAnswer::Lost));
    Arc::make_mut(&mut status.config).points.clear();
    for value in [AnsweredValue::Desired, AnsweredValue::Stable] {
        let read = metric_value(&status, value, at(1)).unwrap();
        let wanted = read.metric_value_float / spec(&status.config, value).target_size_float;
        assert!((wanted - 1.0).abs() < 1e-9, "{read:?}");
    }
    // A wake path that has been lost for long.
    let mut status = decided(|decision| {
        decision.observation.signal = SignalState::Lost;
        decision.reason = Reason::WakePathLost;
    });
    status.replicas = 0;
    assert_eq!(is_active(&status, at(1)), Ok(true));
    assert_eq!(metric_value(&status, AnsweredValue::Desired, at(1)).unwrap().metric_value, 1);
}
