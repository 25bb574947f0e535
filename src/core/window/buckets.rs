//! Knative's windows of one-second buckets, linear and weighted-exponential, bit for bit.
//!
//! Values of the same second add up, holes inside the data count as zero, missing seconds at the end
//! shrink the divisor. The order of the floating-point operations is part of the contract and must not
//! be "simplified".

use std::time::Duration;

use super::super::Timestamp;
use super::super::spec::Aggregation;
use super::{Ring, is_recordable, round_6, second_of, smoothing_coefficient, whole_seconds};

/// A window of one-second buckets.
///
/// Source: Knative `aggregation/bucketing.go` `TimedFloat64Buckets` and `WeightedFloat64Buckets`,
/// serving@98e5ef9.
/// Differs: a live resize keeps the time of the first write instead of back-dating it, because on a
/// Deployment the window annotation may change at any time and Knative's resize would dilute the
/// average. Non-finite values are refused.
#[derive(Clone, Debug)]
pub struct BucketWindow {
    aggregation: Aggregation,
    coefficient: f64,
    ring: Ring<f64>,
    total: f64,
    first: Option<i64>,
    last: Option<i64>,
}

impl BucketWindow {
    /// An empty window over `window`, which is rounded up to whole seconds.
    pub fn new(window: Duration, aggregation: Aggregation) -> Self {
        let n = whole_seconds(window);
        Self {
            aggregation,
            coefficient: smoothing_coefficient(n),
            ring: Ring::new(n, 0.0),
            total: 0.0,
            first: None,
            last: None,
        }
    }

    /// Adds `value` to the bucket of `t`; a value late by a whole window or more, and a value that
    /// [`is_recordable`] refuses, is dropped.
    pub fn record(&mut self, t: Timestamp, value: f64) {
        if !is_recordable(value) {
            return;
        }
        let b = second_of(t);
        if self.last != Some(b) {
            if self.last.is_some_and(|last| b + self.ring.span() <= last) {
                return;
            }
            if self.first.is_none_or(|first| first > b) {
                self.first = Some(b);
            }
            if self.last.is_none_or(|last| b > last) {
                self.advance(b);
            }
        }
        if let Some(slot) = self.ring.slot_mut(b) {
            *slot += value;
        }
        self.total += value;
    }

    fn advance(&mut self, b: i64) {
        match self.last {
            Some(last) if b - last < self.ring.span() => {
                for j in last + 1..=b {
                    self.total -= self.ring.at(j, 0.0);
                    self.ring.set(j, 0.0);
                }
            }
            _ => {
                self.first = Some(b);
                self.ring.fill(0.0);
                self.total = 0.0;
            }
        }
        self.last = Some(b);
    }

    /// The average at `now`, in the unit of the recorded values; 0 when nothing lies in the window.
    ///
    /// Linear: rounded to 6 decimals. Weighted-exponential: neither rounded nor normalised, so a window
    /// that is not full reads too low, as Knative's does.
    pub fn average(&self, now: Timestamp) -> f64 {
        match self.aggregation {
            Aggregation::Linear => self.average_linear(second_of(now)),
            Aggregation::WeightedExponential => self.average_weighted(second_of(now)),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "spans are at most 3,600 seconds")]
    fn average_linear(&self, m: i64) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        let written = last - self.first.unwrap_or(i64::MIN / 2) + 1;
        let d = m - last;
        if d <= 0 {
            round_6(self.total / written.min(self.ring.span()) as f64)
        } else if d < self.ring.span() {
            let mut sum = self.total;
            for j in last + 1..=m {
                sum -= self.ring.at(j, 0.0);
            }
            round_6(sum / written.min(self.ring.span() - d) as f64)
        } else {
            0.0
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "spans are at most 3,600 seconds")]
    fn average_weighted(&self, m: i64) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        if m - last > self.ring.span() {
            return 0.0;
        }
        let keep = 1.0 - self.coefficient;
        let mut weight = self.coefficient;
        let mut count = self.ring.span();
        if m > last {
            weight *= keep.powf((m - last) as f64);
            count -= m - last;
        }
        let mut result = 0.0;
        for i in 0..count {
            result += self.ring.at(last - i, 0.0) * weight;
            weight *= keep;
        }
        result
    }

    /// Whether nothing was recorded within the window before `now`. One second longer than the window
    /// holds data: at exactly the window's age the average is a valid 0, as in Knative.
    pub fn is_empty(&self, now: Timestamp) -> bool {
        self.last.is_none_or(|last| second_of(now) - last > self.ring.span())
    }

    /// The buckets since the first write, oldest first; holes are zeros, as they count here.
    pub fn seconds(&self) -> impl Iterator<Item = (i64, f64)> + '_ {
        let last = self.last.unwrap_or(0);
        let first = match (self.first, self.last) {
            (Some(first), Some(_)) => first.max(last - self.ring.span() + 1),
            _ => last + 1,
        };
        (first..=last).map(|j| (j, self.ring.at(j, 0.0)))
    }

    /// Changes the window's length at `now` and keeps the newest buckets.
    pub fn resize(&mut self, now: Timestamp, window: Duration) {
        let n = whole_seconds(window);
        if n == self.ring.len() {
            return;
        }
        let mut ring = Ring::new(n, 0.0);
        let mut total = 0.0;
        let kept = self.ring.span().min(ring.span());
        match self.last {
            Some(last) if second_of(now) - last <= self.ring.span() => {
                for j in (last - kept + 1..=last).rev() {
                    let value = self.ring.at(j, 0.0);
                    ring.set(j, value);
                    total += value;
                }
                self.first = self.first.map(|first| first.max(last - kept + 1));
            }
            _ => self.first = None,
        }
        self.coefficient = smoothing_coefficient(n);
        self.ring = ring;
        self.total = total;
    }

    /// Changes how the window averages; the buckets stay.
    pub fn set_aggregation(&mut self, aggregation: Aggregation) {
        self.aggregation = aggregation;
    }
}
