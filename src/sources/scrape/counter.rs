//! A counter that is asked for. The pod reads it at some moment between the question and the answer; where
//! that span is long beside the time between two readings, their quotient says little, because the pod or
//! podswell itself may have stood still in between.

use std::time::Duration;

use crate::core::Timestamp;
use crate::runtime::clock::age_of;
use crate::sources::series::{Birth, Counter, Step, per_second};

/// Two answers may differ in how long they took by this part of the time between them.
const BELIEVED_PART: u32 = 4;

/// A reading of a counter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// When the answer was had.
    pub(super) at: Timestamp,
    /// How long it took.
    pub(super) took: Duration,
    /// Finite and ≥ 0.
    pub(super) count: f64,
}

/// The counter of one pod.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AskedCounter {
    counter: Counter,
    /// How long the answer took from which the next increase is measured.
    took: Duration,
}

impl AskedCounter {
    /// Takes a reading and returns the load, the mean increase per second; `None` while there is none.
    /// `kept` is the load before.
    ///
    /// Answers that took the same time, however long, lie as far apart as the moments that they are of. Where
    /// they differ by more than a quarter of that, there is no quotient: a late answer raises the load to what
    /// it proves at least, and the next one is measured from the one before it; after a late first answer the
    /// next one is the first. So what they differ by makes a rate wrong by a quarter at most.
    pub(super) fn observe(
        &mut self,
        asked: Asked,
        birth: Option<Birth>,
        kept: Option<f64>,
    ) -> Option<f64> {
        let Asked { at, took, count } = asked;
        let base = self.counter.last().filter(|base| base.at < at && base.value <= count);
        if let Some(base) = base {
            let span = age_of(base.at, at);
            if took.abs_diff(self.took) * BELIEVED_PART > span {
                if took < self.took {
                    self.counter = Counter::default();
                    self.counter.observe(at, count, None);
                    self.took = took;
                    return kept;
                }
                let least = per_second(count - base.value, span + self.took);
                return kept.map(|kept| kept.max(least));
            }
        }
        match self.counter.observe(at, count, birth) {
            Step::Old => kept,
            step => {
                self.took = took;
                if let Step::Rate(rate) = step { Some(rate) } else { None }
            }
        }
    }

    /// Whether a reading has been taken.
    pub(super) fn is_known(&self) -> bool {
        self.counter.last().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at_ms: i64, took_ms: u64, count: f64) -> Asked {
        let at = Timestamp::from_millisecond(1_700_000_000_000 + at_ms).unwrap();
        Asked { at, took: Duration::from_millis(took_ms), count }
    }

    /// Readings as (when the answer was had, how long it took, the count), all after one of 100 that was had
    /// at once at second 0 and one of 110 at second 1, and the load after each.
    #[test]
    fn an_answer_that_may_be_of_another_moment_is_no_rate() {
        type Reading = (i64, u64, f64);
        type Case = (&'static str, &'static [Reading], &'static [f64]);
        let cases: [Case; 8] = [
            ("prompt", &[(2_000, 5, 120.0), (3_000, 9, 140.0)], &[10.0, 20.0]),
            ("a little late", &[(2_200, 200, 122.0)], &[10.0]),
            ("late and prompt again", &[(2_900, 900, 125.0), (3_000, 5, 130.0)], &[10.0, 10.0]),
            // 31 requests that arrived in a second were once taken for those of 50 ms.
            ("podswell stood still", &[(3_450, 1_450, 120.0), (3_500, 0, 135.0)], &[10.0, 10.0]),
            ("late, and more at once", &[(2_900, 900, 300.0), (3_000, 5, 310.0)], &[100.0, 100.0]),
            ("late, and less", &[(2_900, 900, 111.0), (3_000, 5, 112.0)], &[10.0, 1.0]),
            (
                "late for good",
                &[
                    (2_900, 900, 129.0),
                    (3_900, 900, 139.0),
                    (4_900, 900, 149.0),
                    (5_900, 905, 159.0),
                ],
                &[10.0, 10.0, 10.0, 10.0],
            ),
            ("begun again", &[(2_900, 900, 4.0), (3_900, 900, 14.0)], &[2.1, 10.0]),
        ];
        for (what, readings, expected) in cases {
            let mut counter = AskedCounter::default();
            assert_eq!(counter.observe(reading(0, 0, 100.0), None, None), None);
            let mut load = counter.observe(reading(1_000, 5, 110.0), None, None);
            assert_eq!(load, Some(10.0));
            for (reading_of, expected) in readings.iter().zip(expected) {
                let (at, took, count) = *reading_of;
                load = counter.observe(reading(at, took, count), None, load);
                let load = load.expect("a load stays");
                assert!((load - expected).abs() < expected * 0.1, "{what} at {at}: {load}");
            }
        }
    }

    #[test]
    fn what_follows_a_late_first_answer_is_the_first() {
        let mut counter = AskedCounter::default();
        assert!(!counter.is_known());
        assert_eq!(counter.observe(reading(900, 900, 100.0), None, None), None);
        assert_eq!(counter.observe(reading(1_000, 5, 110.0), None, None), None, "not 100 a second");
        assert_eq!(counter.observe(reading(2_000, 5, 120.0), None, None), Some(10.0));
        // A late answer proves nothing of the whole while there is no load before it.
        let mut counter = AskedCounter::default();
        assert_eq!(counter.observe(reading(0, 0, 100.0), None, None), None);
        assert_eq!(counter.observe(reading(1_900, 900, 110.0), None, None), None);
        assert_eq!(counter.observe(reading(2_000, 5, 120.0), None, None), Some(10.0));
        assert_eq!(counter.observe(reading(2_000, 5, 120.0), None, Some(10.0)), Some(10.0), "old");
    }
}
