//! The windows against naive models of what they promise.

use std::collections::BTreeMap;

use podswell::core::spec::Aggregation;
use podswell::core::window::buckets::BucketWindow;
use podswell::core::window::covered::{CoveredSeconds, Recorded};
use podswell::core::window::max::MaxWindow;
use podswell::core::window::round_6;
use proptest::prelude::*;

use crate::world::{at, seconds};

/// Sums of what must be equal but may be added in another order.
fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 2e-6 * (1.0 + a.abs().max(b.abs()))
}

proptest! {
    /// A window that was kept and taken over says the same as the one that was never lost, now and after
    /// every later sample.
    #[test]
    fn a_window_taken_over_is_the_same_window(
        kept in prop::collection::vec((1_i64..9, 0.0..1000.0_f64, 0.0..100.0_f64), 1..60),
        later in prop::collection::vec((1_i64..9, 0.0..1000.0_f64, 0.0..100.0_f64), 0..20),
    ) {
        let new = || CoveredSeconds::new(seconds(30), seconds(3));
        let (mut lived, mut t) = (new(), 0);
        for (step, low, more) in kept {
            t += step;
            lived.record(at(t * 1000), low, low + more, false);
        }
        let mut restored = new();
        prop_assert!(restored.restore(lived.newest().expect("a sample"), &lived.runs()));
        prop_assert!(!restored.restore(at(t * 1000), &lived.runs()), "only once");
        for (step, low, more) in later {
            for window_s in [1, 6, 30, 60] {
                let span = seconds(window_s);
                prop_assert_eq!(restored.average(span), lived.average(span));
                prop_assert_eq!(restored.samples(span), lived.samples(span));
            }
            t += step;
            lived.record(at(t * 1000), low, low + more, false);
            restored.record(at(t * 1000), low, low + more, false);
        }
        prop_assert_eq!(restored.runs(), lived.runs());
    }

    /// A linear window is the sum of the buckets that lie in it, over the seconds from the first write
    /// since it was last empty, or over its length less the silent seconds at the end.
    #[test]
    fn buckets_are_sums(
        window_s in 6_i64..40,
        steps in prop::collection::vec((0_i64..5, 0.0..1000.0_f64), 1..80),
        silence in 0_i64..60,
    ) {
        let mut window = BucketWindow::new(seconds(window_s.unsigned_abs()), Aggregation::Linear);
        let mut buckets: BTreeMap<i64, f64> = BTreeMap::new();
        let (mut t, mut first) = (0, 0);
        for (i, (step, value)) in steps.into_iter().enumerate() {
            if i == 0 || step >= window_s {
                first = t + step;
            }
            t += step;
            window.record(at(t * 1000), value);
            *buckets.entry(t).or_default() += value;
        }
        let now = t + silence;
        let sum: f64 = buckets.range(now - window_s + 1..).map(|(_, value)| value).sum();
        let expected = if silence >= window_s {
            0.0
        } else {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let divisor = (t - first + 1).min(window_s - silence) as f64;
            round_6(sum / divisor)
        };
        let found = window.average(at(now * 1000));
        prop_assert!(close(found, expected), "{found} {expected}");
        prop_assert_eq!(window.is_empty(at(now * 1000)), silence > window_s);
    }

    /// A live resize never changes what the seconds say that both windows hold.
    #[test]
    fn a_resize_does_not_dilute(value in 0.1..1e6_f64, lived in 1_i64..60, to in 6_u64..240) {
        let mut window = BucketWindow::new(seconds(60), Aggregation::Linear);
        for second in 0..lived {
            window.record(at(second * 1000), value);
        }
        let now = at((lived - 1) * 1000);
        window.resize(now, seconds(to));
        prop_assert!(close(window.average(now), value));
    }

    /// A covered window holds, for each second, the mean of its samples or the value of the sample that
    /// reached back over it.
    #[test]
    fn covered_seconds_are_what_samples_reach(
        window_s in 3_i64..40,
        cap_s in 1_i64..20,
        steps in prop::collection::vec((0_i64..9000, 0.0..1000.0_f64, 0.0..50.0_f64), 1..60),
    ) {
        let mut window = CoveredSeconds::new(
            seconds(window_s.unsigned_abs()),
            seconds(cap_s.unsigned_abs()),
        );
        let mut model: BTreeMap<i64, Vec<(f64, f64)>> = BTreeMap::new();
        let mut t = 500;
        let mut newest: Option<i64> = None;
        for (step, low, more) in steps {
            t += step;
            let high = low + more;
            let recorded = window.record(at(t), low, high, false);
            if newest == Some(t) {
                prop_assert_eq!(recorded, Recorded::Heartbeat);
                continue;
            }
            prop_assert_eq!(recorded, Recorded::Ok);
            let second = t / 1000;
            match newest.map(|newest| newest / 1000) {
                Some(last) if last == second => {
                    model.get_mut(&second).expect("covered").push((low, high));
                }
                Some(last) if second - last <= cap_s => {
                    for filled in last + 1..=second {
                        model.insert(filled, vec![(low, high)]);
                    }
                }
                _ => {
                    model.insert(second, vec![(low, high)]);
                }
            }
            newest = Some(t);
            let covered: Vec<&Vec<(f64, f64)>> =
                model.range(second - window_s + 1..).map(|(_, samples)| samples).collect();
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let mean = |of: fn(&(f64, f64)) -> f64| {
                covered
                    .iter()
                    .map(|samples| samples.iter().map(of).sum::<f64>() / samples.len() as f64)
                    .sum::<f64>()
                    / covered.len() as f64
            };
            let found = window.average(seconds(window_s.unsigned_abs()));
            prop_assert_eq!(found.covered_s as usize, covered.len());
            prop_assert!(close(found.low, mean(|sample| sample.0)));
            prop_assert!(close(found.high, mean(|sample| sample.1)));
        }
    }

    /// The sliding maximum is the maximum of the slots that lie in it.
    #[test]
    fn the_maximum_is_the_maximum(
        delay_s in 1_u64..30,
        steps in prop::collection::vec((0_i64..7000, 0_i32..100), 1..80),
    ) {
        let mut window = MaxWindow::new(seconds(delay_s));
        let slots = i64::try_from(delay_s.div_ceil(2)).expect("small");
        let mut model: Vec<(i64, i32)> = Vec::new();
        let mut t = 0;
        for (step, value) in steps {
            t += step;
            // The epoch of the tests is an even second, so slots of 2 s start there.
            let slot = t / 2000;
            model.push((slot, value));
            let expected =
                model.iter().filter(|(s, _)| slot - s < slots).map(|&(_, v)| v).max().expect("one");
            prop_assert_eq!(window.record(at(t), value), expected);
        }
    }
}

#[test]
fn what_is_not_a_number_leaves_no_trace() {
    let mut covered = CoveredSeconds::new(seconds(10), seconds(3));
    let mut buckets = BucketWindow::new(seconds(10), Aggregation::Linear);
    for (i, value) in [1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.0].into_iter().enumerate()
    {
        let t = at(i64::try_from(i).expect("small") * 1000);
        let expected = if value.is_finite() { Recorded::Ok } else { Recorded::Invalid };
        assert_eq!(covered.record(t, value, value, false), expected);
        buckets.record(t, value);
    }
    assert!(close(covered.average(seconds(10)).low, 1.0));
    assert!(close(buckets.average(at(4000)), 0.4), "the holes inside are Knative's zeros");
}

#[test]
fn upper_ends_are_kept_as_long_as_they_differ() {
    let mut window = CoveredSeconds::new(seconds(10), seconds(3));
    let mut naive = Vec::new();
    for second in 0..100_i64 {
        let high = if matches!(second, 12 | 20..=23 | 60) { 9.0 } else { 3.0 };
        window.record(at(second * 1000), 3.0, high, false);
        naive.push(high);
        let last: Vec<f64> = naive.iter().rev().take(10).copied().collect();
        let expected = last.iter().sum::<f64>() / f64::from(u8::try_from(last.len()).expect("ten"));
        let average = window.average(seconds(10));
        assert!(close(average.low, 3.0), "{second} s: {average:?}");
        assert!(close(average.high, expected), "{second} s: {average:?}");
        if second == 65 {
            window.resize(seconds(20), seconds(3));
            assert!(window.average(seconds(10)).high > 3.0, "a resize keeps both ends");
            window.resize(seconds(10), seconds(3));
        }
    }
}
