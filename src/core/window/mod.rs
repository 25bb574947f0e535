//! Averages over time.
//!
//! [`covered`] is podswell's own window: one value a second or none, never a zero for what is unknown.
//! [`buckets`] holds Knative's windows, bit for bit, for `compat: knative`. [`max`] is the sliding
//! maximum behind scale-down-delay.

pub mod buckets;
pub mod covered;
pub mod max;

use super::Timestamp;

/// The whole second that a moment lies in, since the Unix epoch.
pub fn second_of(t: Timestamp) -> i64 {
    t.as_millisecond().div_euclid(1000)
}

/// Rounds to 6 decimals, half away from zero.
///
/// Source: Knative `aggregation/bucketing.go` `roundToNDigits(6, x)`, serving@98e5ef9. The order of the
/// operations is part of the contract.
pub fn round_6(x: f64) -> f64 {
    (x * 1e6).round() / 1e6
}

/// The largest value that a window takes: far above any real load, and small enough that no sum of a
/// window overflows.
pub const MAX_VALUE: f64 = 1e15;

/// Whether a value can be averaged: finite and of a plausible size.
pub fn is_recordable(value: f64) -> bool {
    value.abs() <= MAX_VALUE
}

/// The smoothing coefficient of a weighted-exponential window of `seconds` buckets, in [0.2, 1).
///
/// Source: Knative `aggregation/bucketing.go` `computeSmoothingCoeff`, serving@98e5ef9.
pub(crate) fn smoothing_coefficient(seconds: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a window has at most 3,600 seconds")]
    let n = seconds as f64;
    (1.0 - (1.0_f64 - 0.9999).powf(1.0 / n)).max(0.2)
}

/// A ring of one slot a second, addressed by the second itself.
#[derive(Clone, Debug)]
pub(crate) struct Ring<T> {
    slots: Box<[T]>,
}

impl<T: Copy> Ring<T> {
    /// A ring of at least one slot.
    pub(crate) fn new(len: usize, fill: T) -> Self {
        Self { slots: vec![fill; len.max(1)].into_boxed_slice() }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The number of slots as a span of seconds.
    pub(crate) fn span(&self) -> i64 {
        i64::try_from(self.slots.len()).unwrap_or(i64::MAX)
    }

    fn slot(&self, second: i64) -> usize {
        usize::try_from(second.rem_euclid(self.span())).unwrap_or(0)
    }

    /// The value at a second; `fallback` can only be seen if the ring were empty, which it never is.
    pub(crate) fn at(&self, second: i64, fallback: T) -> T {
        self.slots.get(self.slot(second)).copied().unwrap_or(fallback)
    }

    /// The values of the seconds from `first` to `last`, oldest first, the newest `span()` of them at most:
    /// two runs, because the ring's end may lie between them.
    pub(crate) fn between(&self, first: i64, last: i64) -> [&[T]; 2] {
        let first = first.max(last.saturating_sub(self.span()).saturating_add(1));
        let count = usize::try_from(last.saturating_sub(first).saturating_add(1)).unwrap_or(0);
        let (before, after) = self.slots.split_at(self.slot(first).min(self.slots.len()));
        let wrapped = before.get(..count.saturating_sub(after.len())).unwrap_or(before);
        [after.get(..count).unwrap_or(after), wrapped]
    }

    pub(crate) fn slot_mut(&mut self, second: i64) -> Option<&mut T> {
        let slot = self.slot(second);
        self.slots.get_mut(slot)
    }

    pub(crate) fn set(&mut self, second: i64, value: T) {
        if let Some(slot) = self.slot_mut(second) {
            *slot = value;
        }
    }

    /// A ring of `len` slots with the newest values of this one up to `newest`, and `fill` elsewhere.
    fn resized(&self, len: usize, fill: T, newest: Option<Timestamp>) -> Self {
        let mut ring = Self::new(len, fill);
        if let Some(last) = newest.map(second_of) {
            let kept = self.span().min(ring.span());
            for j in last - kept + 1..=last {
                ring.set(j, self.at(j, fill));
            }
        }
        ring
    }

    pub(crate) fn fill(&mut self, value: T) {
        self.slots.fill(value);
    }
}

/// Whole seconds of a duration, rounded up, at least 1; saturates.
pub fn whole_seconds(duration: std::time::Duration) -> usize {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    usize::try_from(seconds.max(1)).unwrap_or(usize::MAX)
}
