//! What an expression would have answered at earlier moments, so that a restart or a pause of the server
//! need not begin its windows anew.
//!
//! Only what the server knew then counts: moments without a sample stay uncovered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::Timestamp;
use crate::sources::series::Point;

use super::answer::{Series, stamp_of};

/// The most moments that are asked about at once, a third of what Prometheus answers at most.
const MAX_MOMENTS: f64 = 4200.0;

/// Moments at which an expression is evaluated: `first`, then every `step` until `last`, Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moments {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) step: Duration,
}

impl Moments {
    /// Those of `span` before `at`; `step` is at least a second.
    pub(super) fn before(at: Timestamp, span: Duration, step: Duration) -> Self {
        let step = step.max(Duration::from_secs(1));
        let count = span.div_duration_f64(step).floor().min(MAX_MOMENTS);
        let last = at.as_second();
        let reach = i64::try_from(step.mul_f64(count).as_secs()).unwrap_or(0);
        Self { first: last.saturating_sub(reach), last, step }
    }
}

/// The one number of each moment, oldest first. As in an answer about the present, a moment with several
/// numbers, or with one that is no load, says nothing.
pub(super) fn numbers(series: &[Series]) -> Vec<Point> {
    let mut at_moments: BTreeMap<Timestamp, Option<f64>> = BTreeMap::new();
    for point in series.iter().flat_map(|one| &one.points) {
        let is_load = point.value.is_finite() && point.value >= 0.0;
        at_moments
            .entry(point.at)
            .and_modify(|value| *value = None)
            .or_insert_with(|| Some(point.value).filter(|_| is_load));
    }
    at_moments.into_iter().filter_map(|(at, value)| Some(Point { at, value: value? })).collect()
}

/// Puts the numbers of the second expression, Unix times in seconds, in the place of the times of
/// evaluation. Values without such a number are left out.
pub(super) fn stamped(values: Vec<Series>, stamps: &[Series]) -> Vec<Series> {
    let stamps: BTreeMap<&str, &[Point]> =
        stamps.iter().map(|one| (&*one.key, &*one.points)).collect();
    let stamp = |mut one: Series| {
        let stamps = *stamps.get(&*one.key)?;
        // One value and one stamp belong together, however the server spells the time of evaluation.
        let only = match (stamps, &*one.points) {
            ([only], [_]) => Some(only),
            _ => None,
        };
        // A server answers in the order of time.
        let of_moment = |moment| {
            let at = stamps.binary_search_by_key(&moment, |stamp| stamp.at).ok()?;
            stamps.get(at)
        };
        one.points.retain_mut(|point| {
            let Some(stamp) = only.or_else(|| of_moment(point.at)) else { return false };
            // What is not a time makes the sample invalid, not absent.
            point.at = stamp_of(stamp.value).unwrap_or(Timestamp::MAX);
            true
        });
        (!one.points.is_empty()).then_some(one)
    };
    values.into_iter().filter_map(stamp).collect()
}

/// The series of the past with their present, and those that are new.
pub(super) fn followed_by(past: Vec<Series>, present: Vec<Series>) -> Vec<Series> {
    let mut all: BTreeMap<Arc<str>, Series> =
        past.into_iter().map(|one| (one.key.clone(), one)).collect();
    for mut one in present {
        match all.get_mut(&one.key) {
            Some(known) => known.points.append(&mut one.points),
            None => drop(all.insert(one.key.clone(), one)),
        }
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn series(key: &str, points: &[(i64, f64)]) -> Series {
        let points = points.iter().map(|(s, value)| Point { at: at(*s), value: *value });
        Series { key: key.into(), labels: Vec::new(), points: points.collect() }
    }

    #[test]
    fn moments_lie_a_step_apart_and_end_at_the_present() {
        let seconds = Duration::from_secs;
        for (span, step, first) in [
            (seconds(60), seconds(15), 940),
            (seconds(70), seconds(15), 940),
            (seconds(10), seconds(15), 1000),
            (seconds(60), Duration::from_millis(100), 940),
            (seconds(3600), Duration::from_millis(1500), -2600),
            (seconds(1_000_000), seconds(2), 1000 - 8400),
        ] {
            let moments = Moments::before(at(1000), span, step);
            assert_eq!((moments.first, moments.last), (first, 1000), "{span:?} {step:?}");
            assert!(moments.step >= seconds(1));
        }
    }

    #[test]
    fn a_moment_has_one_number_or_none() {
        let one = series("", &[(1, 1.0), (2, 2.0), (3, f64::NAN), (4, -1.0), (6, 6.0), (7, 7.0)]);
        let other = series("", &[(2, 0.0), (5, 5.0), (7, f64::INFINITY)]);
        let found: Vec<_> = numbers(&[one, other])
            .iter()
            .map(|point| (point.at.as_second(), point.value))
            .collect();
        assert_eq!(found, [(1, 1.0), (5, 5.0), (6, 6.0)]);
        assert!(numbers(&[]).is_empty());
    }

    #[test]
    fn samples_have_their_own_times() {
        let values = vec![
            series("a", &[(10, 1.0), (20, 1.0), (30, 2.0), (40, 3.0)]),
            series("no stamp", &[(10, 1.0)]),
        ];
        // The sample of 8 is still the newest at 20; nothing is known of 40.
        let stamps = [series("a", &[(10, 8.0), (20, 8.0), (30, 28.0)])];
        let past = stamped(values, &stamps);
        let present = vec![series("a", &[(38, 4.0)]), series("b", &[(38, 9.0)])];
        let all = followed_by(past, present);
        let expected =
            [series("a", &[(8, 1.0), (8, 1.0), (28, 2.0), (38, 4.0)]), series("b", &[(38, 9.0)])];
        assert_eq!(all, expected);
        let odd = stamped(vec![series("a", &[(1, 5.0)])], &[series("a", &[(1, f64::NAN)])]);
        assert_eq!(odd[0].points[0].at, Timestamp::MAX);
    }
}
