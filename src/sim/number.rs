//! Conversions between counts and real numbers, in one place so that their limits are stated once: the
//! simulator counts far below 2^53, where all of them are exact.

use std::time::Duration;

/// Simulated time in microseconds since the start of a run.
pub(crate) type Micros = u64;

/// A second in [`Micros`].
pub(crate) const SECOND: Micros = 1_000_000;

/// A count as a real number; exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}

/// A collection's length as a real number.
pub(crate) fn length(count: usize) -> f64 {
    real(u64::try_from(count).unwrap_or(u64::MAX))
}

/// A real number ≥ 0 as a count, without its fraction; what is below 0 or NaN gives 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, which is what is wanted"
)]
pub(crate) fn count(value: f64) -> u64 {
    value as u64
}

/// The least whole number of pods ≥ `value`, at most [`i32::MAX`]; a millionth above a whole number is a
/// rounding error and not another pod.
pub(crate) fn pods(value: f64) -> i32 {
    i32::try_from(count((value - 1e-6).ceil())).unwrap_or(i32::MAX)
}

/// An index or number of pods as a list position.
pub(crate) fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Microseconds of a span; a span beyond 500,000 years counts as that.
pub(crate) fn micros(span: Duration) -> Micros {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX / 4)
}

/// Seconds as microseconds, rounded; negative counts as zero.
pub(crate) fn micros_of(seconds: f64) -> Micros {
    count((seconds * 1e6).round())
}

/// Microseconds as seconds.
pub(crate) fn seconds(at: Micros) -> f64 {
    real(at) / 1e6
}
