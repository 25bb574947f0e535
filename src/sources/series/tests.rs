use proptest::prelude::*;

use super::*;

fn t(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn points(samples: &[(i64, f64)]) -> Vec<Point> {
    samples.iter().map(|(at, value)| Point { at: t(*at), value: *value }).collect()
}

fn gauge(pod: Option<&str>) -> Origin {
    Origin { pod: pod.map(Into::into), is_counter: false, birth: None, most: 1e9 }
}

fn counter(pod: Option<&str>) -> Origin {
    Origin { pod: pod.map(Into::into), is_counter: true, birth: None, most: 1e9 }
}

fn value(seen: f64, missing: u32) -> Reading {
    Reading::Value { seen, missing }
}

type Case<'a> = (&'a str, Option<Birth>, &'a [(i64, f64)], &'a [Step]);

#[test]
fn counters() {
    let born =
        |millis, least, most| Some(Birth { at: t(millis), least: secs(least), most: secs(most) });
    let cases: &[Case<'_>] = &[
        ("first is base", None, &[(0, 5.0), (2_000, 9.0)], &[Step::Base, Step::Rate(2.0)]),
        (
            "a reset counts the new value",
            None,
            &[(0, 100.0), (1_000, 3.0), (2_000, 4.0)],
            &[Step::Base, Step::Rate(3.0), Step::Rate(1.0)],
        ),
        (
            "repeated and late stamps",
            None,
            &[(1_000, 5.0), (1_000, 7.0), (500, 6.0), (3_000, 9.0)],
            &[Step::Base, Step::Old, Step::Old, Step::Rate(2.0)],
        ),
        ("a quiet counter", None, &[(0, 5.0), (9_000, 5.0)], &[Step::Base, Step::Rate(0.0)]),
        ("born 4 s ago", born(-4_000, 1, 9), &[(0, 8.0)], &[Step::Rate(2.0)]),
        ("born just now", born(0, 2, 9), &[(0, 8.0)], &[Step::Rate(4.0)]),
        ("born in the future", born(5_000, 2, 9), &[(0, 8.0)], &[Step::Rate(4.0)]),
        ("born long ago", born(-99_000, 2, 4), &[(0, 8.0)], &[Step::Rate(2.0)]),
        ("least wins over most", born(0, 4, 2), &[(0, 8.0)], &[Step::Rate(2.0)]),
    ];
    for (name, birth, samples, expected) in cases {
        let mut counter = Counter::default();
        let steps: Vec<_> = points(samples)
            .into_iter()
            .map(|sample| counter.observe(sample.at, sample.value, *birth))
            .collect();
        assert_eq!(steps, *expected, "{name}");
    }
}

#[test]
fn gauges_of_pods_are_summed_as_they_come() {
    let mut book = Book::default();
    book.take("a", &gauge(Some("a")), &points(&[(2_000, 4.0), (17_000, 6.0)]));
    book.take("b", &gauge(Some("b")), &points(&[(7_000, 1.0), (22_000, 2.0)]));
    let readings = book.readings(t(7_000), secs(37), &[]);
    assert_eq!(
        readings,
        [(t(7_000), value(5.0, 0)), (t(17_000), value(7.0, 0)), (t(22_000), value(8.0, 0))]
    );
    // Asked again, nothing is new; then one series goes on and the other one gets too old.
    assert_eq!(book.take("b", &gauge(Some("b")), &points(&[(22_000, 2.0)])), None);
    assert!(book.readings(t(0), secs(37), &[]).is_empty());
    book.take("b", &gauge(Some("b")), &points(&[(54_000, 3.0), (55_000, 3.0)]));
    let absent = [AbsentPod { started_at: None, last_seen: Some(t(17_000)) }];
    assert_eq!(
        book.readings(t(0), secs(37), &absent),
        [(t(54_000), value(9.0, 0)), (t(55_000), value(3.0, 1))]
    );
}

#[test]
fn samples_of_one_second_make_one_reading() {
    let mut book = Book::default();
    book.take("a", &gauge(None), &points(&[(1_100, 1.0), (2_100, 1.0)]));
    book.take("b", &gauge(None), &points(&[(1_900, 2.0), (2_900, 3.0)]));
    assert_eq!(
        book.readings(t(0), secs(3), &[]),
        [(t(1_900), value(3.0, 0)), (t(2_900), value(4.0, 0))]
    );
}

#[test]
fn rates_are_taken_per_series_so_that_one_reset_is_no_burst() {
    let mut book = Book::default();
    book.take("a", &counter(Some("a")), &points(&[(0, 1e6), (1_000, 1e6 + 10.0), (2_000, 4.0)]));
    book.take(
        "b",
        &counter(Some("b")),
        &points(&[(0, 1e6), (1_000, 1e6 + 5.0), (2_000, 1e6 + 6.0)]),
    );
    assert_eq!(
        book.readings(t(0), secs(3), &[]),
        [(t(0), Reading::Base), (t(1_000), value(15.0, 0)), (t(2_000), value(5.0, 0))]
    );
}

#[test]
fn a_series_without_a_rate_is_missing_beside_others() {
    let mut book = Book::default();
    book.take("a", &counter(Some("a")), &points(&[(0, 1.0), (1_000, 3.0)]));
    book.take("b", &counter(Some("b")), &points(&[(1_000, 1e6)]));
    assert_eq!(book.readings(t(1_000), secs(3), &[]), [(t(1_000), value(2.0, 1))]);
    // A second series of a pod that has a rate does not make the pod missing.
    book.take("a2", &counter(Some("a")), &points(&[(2_000, 9.0)]));
    book.take("a", &counter(Some("a")), &points(&[(2_000, 5.0)]));
    book.take("b", &counter(Some("b")), &points(&[(2_000, 1e6 + 1.0)]));
    assert_eq!(book.readings(t(0), secs(3), &[]), [(t(2_000), value(3.0, 0))]);
}

#[test]
fn a_series_born_with_its_pod_starts_at_zero() {
    let mut book = Book::default();
    let birth = Some(Birth { at: t(1_000), least: secs(1), most: secs(9) });
    book.take("b", &Origin { birth, ..counter(Some("b")) }, &points(&[(3_000, 6.0), (4_000, 7.0)]));
    assert_eq!(
        book.readings(t(0), secs(3), &[]),
        [(t(3_000), value(3.0, 0)), (t(4_000), value(1.0, 0))]
    );
}

#[test]
fn what_is_not_a_load_is_skipped() {
    let mut book = Book::default();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
        let refused = book.take("a", &gauge(None), &points(&[(1_000, bad)]));
        assert_eq!(refused, Some(SourceFault::InvalidSample), "{bad}");
    }
    assert!(book.readings(t(0), secs(3), &[]).is_empty());
    let both = points(&[(1_000, f64::NAN), (2_000, 1.0)]);
    assert_eq!(book.take("a", &gauge(None), &both), None);
    assert_eq!(book.readings(t(0), secs(3), &[]), [(t(2_000), value(1.0, 0))]);
    // A sum that is infinite is no reading.
    book.take("a", &gauge(None), &points(&[(3_000, f64::MAX)]));
    book.take("b", &gauge(None), &points(&[(3_000, f64::MAX)]));
    assert!(book.readings(t(0), secs(3), &[]).is_empty());
}

#[test]
fn a_late_sample_is_used_by_the_next_reading() {
    let mut book = Book::default();
    book.take("a", &gauge(None), &points(&[(10_000, 1.0)]));
    book.readings(t(0), secs(30), &[]);
    book.take("b", &gauge(None), &points(&[(9_900, 5.0)]));
    assert!(book.readings(t(0), secs(30), &[]).is_empty());
    book.take("a", &gauge(None), &points(&[(20_000, 2.0)]));
    assert_eq!(book.readings(t(0), secs(30), &[]), [(t(20_000), value(7.0, 0))]);
}

#[test]
fn a_pod_cannot_have_been_missing_before_it_started() {
    let mut book = Book::default();
    book.take("a", &gauge(Some("a")), &points(&[(1_000, 1.0), (5_000, 1.0)]));
    let absent = [AbsentPod { started_at: Some(t(3_000)), last_seen: None }];
    assert_eq!(
        book.readings(t(0), secs(30), &absent),
        [(t(1_000), value(1.0, 0)), (t(5_000), value(1.0, 1))]
    );
}

/// All of it may be read at once, after an outage of the server.
#[test]
fn a_pod_was_missing_in_a_gap_that_is_over() {
    for is_counter in [false, true] {
        let origin = |pod| if is_counter { counter(Some(pod)) } else { gauge(Some(pod)) };
        let mut book = Book::default();
        let steady: Vec<_> = (0_u8..10).map(|s| (i64::from(s) * 1_000, f64::from(s))).collect();
        book.take("a", &origin("a"), &points(&steady));
        book.take("b", &origin("b"), &points(&[steady[0], steady[1], steady[8], steady[9]]));
        let missing =
            |reading| if let Reading::Value { missing, .. } = reading { missing } else { 9 };
        let readings = book.readings(t(1_000), secs(2), &[]);
        let missing: Vec<_> = readings.into_iter().map(|(_, reading)| missing(reading)).collect();
        assert_eq!(missing, [0, 0, 0, 1, 1, 1, 1, 0, 0]);
    }
}

#[test]
fn series_of_gone_pods_are_forgotten() {
    let mut book = Book::default();
    book.take("a", &gauge(Some("a")), &points(&[(1_000, 1.0)]));
    book.take("b", &gauge(Some("b")), &points(&[(1_000, 1.0)]));
    book.retain(t(2_000), |pod| pod == "a");
    assert!(book.knows("a") && !book.knows("b"));
    book.retain(t(902_000), |_| true);
    assert!(!book.knows("a"));
}

proptest! {
    /// Whatever a server sends, readings are finite, in order, and one a second.
    #[test]
    fn readings_are_sound(
        batches in proptest::collection::vec(
            proptest::collection::vec((0_usize..4, -5_000_i64..60_000, any::<f64>()), 0..20), 1..6),
        counts in any::<bool>(),
    ) {
        let mut book = Book::default();
        let mut last: Option<Timestamp> = None;
        for batch in batches {
            for (series, at, value) in batch {
                let origin = if counts { counter(None) } else { gauge(None) };
                book.take(&series.to_string(), &origin, &points(&[(at, value)]));
            }
            let mut second = None;
            for (at, reading) in book.readings(t(-10_000), secs(10), &[]) {
                prop_assert!(last.is_none_or(|last| last < at));
                prop_assert!(second != Some(at.as_second()));
                (last, second) = (Some(at), Some(at.as_second()));
                if let Reading::Value { seen, .. } = reading {
                    prop_assert!(seen.is_finite() && seen >= 0.0);
                }
            }
        }
    }

    /// Fed in any batching, a steady counter reads as its rate.
    #[test]
    fn a_steady_counter_reads_as_its_rate(
        rate in 0.0_f64..1e4, interval in 1_i64..20, cuts in proptest::collection::vec(1_usize..5, 10)
    ) {
        let mut book = Book::default();
        let mut at = 0_i64;
        for cut in cuts {
            for _ in 0..cut {
                let value = 7.0 + rate * f64::from(i32::try_from(at).unwrap());
                book.take("a", &counter(None), &points(&[(at * 1_000, value)]));
                at += interval;
            }
            for (_, reading) in book.readings(t(0), secs(50), &[]) {
                if let Reading::Value { seen, .. } = reading {
                    prop_assert!((seen - rate).abs() <= 1e-6 * rate.max(1.0), "{seen} {rate}");
                }
            }
        }
    }
}

#[test]
fn a_pod_that_claims_too_much_counts_as_missing() {
    let limit = Some(SourceFault::Implausible);
    let mut book = Book::default();
    let honest = |book: &mut Book, at| book.take("a", &gauge(Some("a")), &points(&[(at, 5.0)]));
    honest(&mut book, 0);
    assert_eq!(book.take("b", &gauge(Some("b")), &points(&[(0, 2e9)])), limit);
    let absent = AbsentPod { started_at: None, last_seen: None };
    assert_eq!(book.readings(t(0), secs(5), &[absent]), [(t(0), value(5.0, 1))]);
    // A counter that leaps has no rate; its pod is not taken for idle.
    let mut book = Book::default();
    honest(&mut book, 2_000);
    let leap = points(&[(1_000, 0.0), (2_000, 2e9)]);
    assert_eq!(book.take("b", &counter(Some("b")), &leap), limit);
    assert_eq!(book.readings(t(2_000), secs(5), &[]), [(t(2_000), value(5.0, 1))]);
}
