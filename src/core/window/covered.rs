//! The default window: every second is covered by data or it is not, and only what is covered is
//! averaged.
//!
//! A sample covers the seconds since the previous one, unless that is too long ago. The average ends at
//! the newest covered second, not at the clock, so a constant load reads as exactly that load through a
//! slow, late or interrupted source, in both windows and at every moment.

use std::time::Duration;

use super::super::Timestamp;
use super::super::snapshot::Run;
use super::{Ring, is_recordable, round_6, second_of, smoothing_coefficient, whole_seconds};

/// How many of the newest samples are kept one by one.
const KEPT_SAMPLES: usize = 3;

/// The longest run of alike seconds that is believed: the longest window.
const LONGEST_RUN: u32 = 3600;

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It covers seconds now.
    Ok,
    /// It is the newest sample once more: the source lives, its data is as old as before.
    Heartbeat,
    /// It is older than the newest sample.
    Late,
    /// It is not a number that can be averaged.
    Invalid,
}

/// A recorded sample, as it came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeptSample {
    /// Its time.
    pub t: Timestamp,
    /// What was seen.
    pub low: f64,
    /// The most that it may have been.
    pub high: f64,
    /// Whether it was over the panic threshold on its own when it was recorded.
    pub over: bool,
}

/// A mean over covered seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CoveredAverage {
    /// Mean of what was seen.
    pub low: f64,
    /// Mean of the most that it may have been.
    pub high: f64,
    /// How many seconds of the window are covered; 0 means that the means say nothing.
    pub covered_s: u32,
}

/// What is known of one second; both ends are NaN where nothing is.
#[derive(Clone, Copy, Debug)]
struct Second {
    low: f64,
    high: f64,
}

const UNCOVERED: Second = Second { low: f64::NAN, high: f64::NAN };

/// One value a second, or none.
///
/// Time is that of the samples; nothing here reads or is given a clock.
#[derive(Clone, Debug)]
pub struct CoveredSeconds {
    /// NaN marks a second without data; recorded values are finite.
    lows: Ring<f64>,
    /// The upper ends, while there is a second in the ring whose ends may differ; else they are the lower
    /// ones. Most targets answer completely all the time, and this is half of a window's memory.
    highs: Option<Ring<f64>>,
    /// The newest second whose ends differ, while `highs` is there.
    last_partial: i64,
    /// Samples whose time lies in each second, saturating.
    samples: Ring<u8>,
    /// The longest gap in seconds that a sample covers, ≥ 1.
    cap_s: i64,
    newest: Option<Timestamp>,
    sum_in_last: Second,
    count_in_last: f64,
    kept: [Option<KeptSample>; KEPT_SAMPLES],
}

impl CoveredSeconds {
    /// An empty window that can be read over up to `window`, for a source whose data is lost after
    /// `stale_after`.
    pub fn new(window: Duration, stale_after: Duration) -> Self {
        let n = whole_seconds(window);
        Self {
            lows: Ring::new(n, f64::NAN),
            highs: None,
            last_partial: 0,
            samples: Ring::new(n, 0),
            cap_s: i64::try_from(whole_seconds(stale_after)).unwrap_or(i64::MAX),
            newest: None,
            sum_in_last: UNCOVERED,
            count_in_last: 0.0,
            kept: [None; KEPT_SAMPLES],
        }
    }

    /// The time of the newest recorded sample.
    pub fn newest(&self) -> Option<Timestamp> {
        self.newest
    }

    /// The newest samples, newest first, at most three.
    pub fn newest_samples(&self) -> impl Iterator<Item = &KeptSample> {
        self.kept.iter().flatten()
    }

    /// The longest gap in whole seconds that a sample covers, ≥ 1.
    pub fn cap_s(&self) -> i64 {
        self.cap_s
    }

    /// The covered seconds with what was seen in them, oldest first.
    pub fn seconds(&self) -> impl Iterator<Item = (i64, f64)> + '_ {
        let last = self.newest.map_or(0, second_of);
        let first = if self.newest.is_some() { last - self.lows.span() + 1 } else { last + 1 };
        (first..=last).map(|j| (j, self.lows.at(j, f64::NAN))).filter(|(_, low)| !low.is_nan())
    }

    /// Records the load interval [`low`, `high`], `low` ≤ `high`, of the whole workload at time `t`; `over`
    /// says whether it asks for panic on its own.
    pub fn record(&mut self, t: Timestamp, low: f64, high: f64, over: bool) -> Recorded {
        if !(is_recordable(low) && is_recordable(high)) {
            return Recorded::Invalid;
        }
        match self.newest {
            Some(newest) if t == newest => return Recorded::Heartbeat,
            Some(newest) if t < newest => return Recorded::Late,
            _ => {}
        }
        let at = second_of(t);
        match self.newest.map(second_of) {
            Some(last) if last == at => self.mean_into_last(at, low, high),
            Some(last) if at - last <= self.cap_s => self.cover(last + 1, at, low, high),
            Some(last) => {
                self.uncover(last + 1, at - 1);
                self.cover(at, at, low, high);
            }
            None => self.cover(at, at, low, high),
        }
        if let Some(count) = self.samples.slot_mut(at) {
            *count = count.saturating_add(1);
        }
        if self.highs.is_some() && at - self.last_partial >= self.lows.span() {
            self.highs = None;
        }
        self.newest = Some(t);
        self.kept.rotate_right(1);
        if let Some(slot) = self.kept.first_mut() {
            *slot = Some(KeptSample { t, low, high, over });
        }
        Recorded::Ok
    }

    /// The seconds of the window as runs, oldest first, up to the newest sample's; empty before the first
    /// sample.
    pub fn runs(&self) -> Vec<Run> {
        let Some(last) = self.newest.map(second_of) else { return Vec::new() };
        let mut runs: Vec<Run> = Vec::new();
        for j in last - self.lows.span() + 1..=last {
            let Second { low, high } = self.second(j);
            let load = (!low.is_nan()).then_some((low, high));
            let samples = self.samples.at(j, 0);
            match runs.last_mut() {
                Some(run) if run.load == load && run.samples == samples => run.seconds += 1,
                _ => runs.push(Run { seconds: 1, load, samples }),
            }
        }
        if runs.first().is_some_and(|run| run.load.is_none()) {
            runs.remove(0);
        }
        runs
    }

    /// Fills an empty window with seconds that end at that of `newest`, oldest first. Says whether it did:
    /// not after a sample, and not with numbers that cannot be. What is older than the window is left out.
    pub fn restore(&mut self, newest: Timestamp, runs: &[Run]) -> bool {
        let sane = |run: &Run| {
            (1..=LONGEST_RUN).contains(&run.seconds)
                && run.load.is_none_or(|(low, high)| {
                    is_recordable(low) && is_recordable(high) && 0.0 <= low && low <= high
                })
        };
        let known = runs.last().and_then(|run| run.load);
        let (Some((low, high)), None, true) = (known, self.newest, runs.iter().all(sane)) else {
            return false;
        };
        self.newest = Some(newest);
        let last = second_of(newest);
        let mut j = last - runs.iter().map(|run| i64::from(run.seconds)).sum::<i64>();
        for run in runs {
            for _ in 0..run.seconds {
                j += 1;
                if last - j < self.lows.span() {
                    let second = run.load.map_or(UNCOVERED, |(low, high)| Second { low, high });
                    self.set(j, second);
                    self.samples.set(j, run.samples);
                }
            }
        }
        // The newest second was filled by this much, as far as is known.
        self.sum_in_last = Second { low, high };
        self.count_in_last = 1.0;
        true
    }

    fn mean_into_last(&mut self, at: i64, low: f64, high: f64) {
        self.sum_in_last.low += low;
        self.sum_in_last.high += high;
        self.count_in_last += 1.0;
        self.set(
            at,
            Second {
                low: self.sum_in_last.low / self.count_in_last,
                high: self.sum_in_last.high / self.count_in_last,
            },
        );
    }

    fn second(&self, j: i64) -> Second {
        let low = self.lows.at(j, f64::NAN);
        Second { low, high: self.highs.as_ref().map_or(low, |highs| highs.at(j, low)) }
    }

    fn set(&mut self, j: i64, second: Second) {
        if second.high > second.low {
            self.highs.get_or_insert_with(|| self.lows.clone());
            self.last_partial = j;
        }
        self.lows.set(j, second.low);
        if let Some(highs) = &mut self.highs {
            highs.set(j, second.high);
        }
    }

    fn cover(&mut self, from: i64, to: i64, low: f64, high: f64) {
        for j in from.max(to - self.lows.span() + 1)..=to {
            self.set(j, Second { low, high });
            self.samples.set(j, 0);
        }
        self.sum_in_last = Second { low, high };
        self.count_in_last = 1.0;
    }

    fn uncover(&mut self, from: i64, to: i64) {
        for j in from.max(to - self.lows.span() + 1)..=to {
            self.set(j, UNCOVERED);
            self.samples.set(j, 0);
        }
    }

    /// The seconds of a window of `window` that ends at the newest covered second.
    fn span_of(&self, window: Duration) -> Option<std::ops::RangeInclusive<i64>> {
        let last = second_of(self.newest?);
        let n = i64::try_from(whole_seconds(window)).unwrap_or(i64::MAX).min(self.lows.span());
        Some(last - n + 1..=last)
    }

    /// The mean over the covered seconds of the last `window`, both ends rounded to 6 decimals.
    pub fn average(&self, window: Duration) -> CoveredAverage {
        let Some(span) = self.span_of(window) else { return CoveredAverage::default() };
        let (first, last) = span.into_inner();
        let (low, covered_s) = sum_of_covered(self.lows.between(first, last));
        // A second is covered at both ends or at none.
        let highs = self.highs.as_ref().map(|highs| sum_of_covered(highs.between(first, last)));
        let high = highs.map_or(low, |(high, _)| high);
        mean(low, high, f64::from(covered_s), covered_s)
    }

    /// How many seconds of the last `window` are covered.
    pub fn covered_s(&self, window: Duration) -> u32 {
        let Some(span) = self.span_of(window) else { return 0 };
        let runs = self.lows.between(*span.start(), *span.end());
        runs.into_iter().flatten().map(|low| u32::from(!low.is_nan())).sum()
    }

    /// The weighted-exponential mean over the covered seconds of the last `window`, normalised by the
    /// weights of what is covered, both ends rounded to 6 decimals.
    ///
    /// Source: the weights are Knative's `WeightedFloat64Buckets`, serving@98e5ef9.
    /// Differs: normalised, so that a window that is not full reads right; rounded, so that a constant
    /// load reads as exactly that load, and one of exactly so many pods' worth does not ask for one more.
    pub fn average_weighted(&self, window: Duration) -> CoveredAverage {
        let Some(span) = self.span_of(window) else { return CoveredAverage::default() };
        let coefficient = smoothing_coefficient(whole_seconds(window));
        let mut weight = coefficient;
        let (mut low, mut high, mut weights, mut covered_s) = (0.0, 0.0, 0.0, 0_u32);
        for j in span.rev() {
            let second = self.second(j);
            if !second.low.is_nan() {
                low += second.low * weight;
                high += second.high * weight;
                weights += weight;
                covered_s += 1;
            }
            weight *= 1.0 - coefficient;
        }
        if weights <= 0.0 {
            return CoveredAverage { covered_s, ..CoveredAverage::default() };
        }
        CoveredAverage { low: round_6(low / weights), high: round_6(high / weights), covered_s }
    }

    /// The mean of samples that are `range` apart, newest first, for a source whose samples are means
    /// over `range` already. `covered_s` still counts every covered second of the window.
    pub fn average_apart(&self, window: Duration, range: Duration) -> CoveredAverage {
        let covered_s = self.covered_s(window);
        let Some(span) = self.span_of(window) else { return CoveredAverage::default() };
        let (mut low, mut high, mut count) = (0.0, 0.0, 0.0);
        for j in span.rev().step_by(whole_seconds(range)) {
            let second = self.second(j);
            if !second.low.is_nan() {
                low += second.low;
                high += second.high;
                count += 1.0;
            }
        }
        mean(low, high, count, covered_s)
    }

    /// The newest sample as an average over one second.
    pub fn newest_value(&self) -> CoveredAverage {
        self.average(Duration::from_secs(1))
    }

    /// How many recorded samples lie in the last `window`.
    pub fn samples(&self, window: Duration) -> u32 {
        let Some(span) = self.span_of(window) else { return 0 };
        let runs = self.samples.between(*span.start(), *span.end());
        runs.into_iter().flatten().map(|count| u32::from(*count)).sum()
    }

    /// Changes how far back the window can be read and after which gap data is lost; keeps what fits.
    pub fn resize(&mut self, window: Duration, stale_after: Duration) {
        self.cap_s = i64::try_from(whole_seconds(stale_after)).unwrap_or(i64::MAX);
        let n = whole_seconds(window);
        if n == self.lows.len() {
            return;
        }
        self.lows = self.lows.resized(n, f64::NAN, self.newest);
        self.highs = self.highs.as_ref().map(|highs| highs.resized(n, f64::NAN, self.newest));
        self.samples = self.samples.resized(n, 0, self.newest);
    }
}

/// The sum of the values that are there, in their order, and how many they are.
fn sum_of_covered(runs: [&[f64]; 2]) -> (f64, u32) {
    let covered = runs.into_iter().flatten().filter(|value| !value.is_nan());
    covered.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1))
}

fn mean(low: f64, high: f64, count: f64, covered_s: u32) -> CoveredAverage {
    if count < 1.0 {
        return CoveredAverage { covered_s, ..CoveredAverage::default() };
    }
    CoveredAverage { low: round_6(low / count), high: round_6(high / count), covered_s }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_load_reads_as_exactly_that_load_however_it_is_averaged() {
        for value in [1.0, 7.3, 10.0, 100.0, 357.865_346] {
            let mut window = CoveredSeconds::new(Duration::from_secs(60), Duration::from_secs(3));
            for second in 0..300 {
                let t = Timestamp::from_millisecond(1_700_000_000_500 + second * 1000).unwrap();
                window.record(t, value, value, false);
                for length in [6, 10, 45, 60].map(Duration::from_secs) {
                    for average in [window.average(length), window.average_weighted(length)] {
                        assert_eq!((average.low, average.high), (value, value), "{length:?}");
                    }
                }
            }
        }
    }
}
