//! Durations as Go reads and writes them: annotations and ConfigMaps are Go's `time.ParseDuration`
//! grammar, and no crate at hand accepts exactly the same strings.

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

/// Nanoseconds of a microsecond, a millisecond and so on, as Go's unit table has them.
const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000 * MICROSECOND;
const SECOND: u64 = 1_000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// The magnitude of the most negative duration in nanoseconds: nothing larger can be written.
const LIMIT: u64 = 1 << 63;

/// A span of time in whole nanoseconds, −2⁶³ ..= 2⁶³ − 1, as Go's `time.Duration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(i64);

/// Why a text is not a duration; the words are Go's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// Not a sequence of numbers with units, or out of range.
    #[error("time: invalid duration {}", quote(.0))]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {}", quote(.0))]
    MissingUnit(String),
    /// A unit that Go does not have, for example `d`.
    #[error("time: unknown unit {} in duration {}", quote(.unit), quote(.text))]
    UnknownUnit {
        /// The unit as written.
        unit: String,
        /// The whole text.
        text: String,
    },
}

impl GoDuration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A duration of `nanos` nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// A duration of `secs` seconds; at most ±9,223,372,036 s, saturated beyond.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// The duration in nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// The duration in seconds, rounded to the nearest `f64`.
    #[expect(
        clippy::cast_precision_loss,
        reason = "as Go's Duration.Seconds, for display and tests"
    )]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The duration as the standard library has it; negative ones become zero.
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }

    /// A duration of the standard library; saturated at about 292 years.
    pub fn from_std(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }

    /// Rounded towards zero to whole seconds.
    #[must_use]
    pub const fn truncated_to_second(self) -> Self {
        Self(self.0 - self.0 % 1_000_000_000)
    }

    /// Rounded to whole seconds, half away from zero; saturated at the ends of the range.
    #[must_use]
    pub const fn rounded_to_second(self) -> Self {
        let second = 1_000_000_000;
        let rest = self.0 % second;
        if rest.unsigned_abs() * 2 < SECOND {
            return Self(self.0 - rest);
        }
        Self((self.0 - rest).saturating_add(second * self.0.signum()))
    }

    /// Reads a duration exactly as Go's `time.ParseDuration` does.
    ///
    /// # Errors
    /// Go's own words, for every text that Go refuses.
    ///
    /// Source: Go 1.26 `time/format.go` `ParseDuration`, including that fractions are scaled in `f64`
    /// and that the sum of two terms of 2⁶³ ns wraps to zero.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let invalid = || DurationError::Invalid(text.to_owned());
        let (negative, mut rest) = match text.as_bytes() {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] | rest => (false, rest),
        };
        if rest == b"0" {
            return Ok(Self::ZERO);
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut sum: u64 = 0;
        while !rest.is_empty() {
            let (term, after) = parse_term(text, rest)?;
            sum = sum.wrapping_add(term);
            if sum > LIMIT {
                return Err(invalid());
            }
            rest = after;
        }
        if negative {
            return Ok(Self(0_i64.wrapping_sub_unsigned(sum)));
        }
        i64::try_from(sum).map(Self).map_err(|_| invalid())
    }
}

/// Reads `<decimal><unit>` and returns its nanoseconds with what follows it.
fn parse_term<'a>(text: &str, bytes: &'a [u8]) -> Result<(u64, &'a [u8]), DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let digits = leading_digits(bytes);
    let (whole, mut rest) = bytes.split_at(digits);
    let value = whole_number(whole).ok_or_else(invalid)?;
    let (mut fraction, mut scale, mut fraction_digits) = (0, 1.0, 0);
    if let [b'.', after @ ..] = rest {
        fraction_digits = leading_digits(after);
        let (decimals, after) = after.split_at(fraction_digits);
        (fraction, scale) = fraction_of(decimals);
        rest = after;
    }
    if digits == 0 && fraction_digits == 0 {
        return Err(invalid());
    }
    let end = rest.iter().position(|b| *b == b'.' || b.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    if unit.is_empty() {
        return Err(DurationError::MissingUnit(text.to_owned()));
    }
    let unit = nanos_of(unit).ok_or_else(|| DurationError::UnknownUnit {
        unit: String::from_utf8_lossy(unit).into_owned(),
        text: text.to_owned(),
    })?;
    if value > LIMIT / unit {
        return Err(invalid());
    }
    let nanos = value * unit + scaled(fraction, unit, scale);
    if nanos > LIMIT { Err(invalid()) } else { Ok((nanos, rest)) }
}

/// The fraction of a unit in nanoseconds, in Go's order of operations.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the same conversions as Go; the product is in 0 ..= 3.6e12"
)]
fn scaled(fraction: u64, unit: u64, scale: f64) -> u64 {
    (fraction as f64 * (unit as f64 / scale)) as u64
}

fn leading_digits(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| !b.is_ascii_digit()).unwrap_or(bytes.len())
}

/// The value of a run of digits, at most 2⁶³.
fn whole_number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        value
            .checked_mul(10)
            .and_then(|value| value.checked_add(u64::from(digit - b'0')))
            .filter(|value| *value <= LIMIT)
    })
}

/// The digits behind the point as numerator and denominator; those that do not fit are ignored.
fn fraction_of(digits: &[u8]) -> (u64, f64) {
    let (mut value, mut scale) = (0_u64, 1.0);
    for digit in digits {
        if value > (LIMIT - 1) / 10 {
            break;
        }
        let next = value * 10 + u64::from(digit - b'0');
        if next > LIMIT {
            break;
        }
        value = next;
        scale *= 10.0;
    }
    (value, scale)
}

fn nanos_of(unit: &[u8]) -> Option<u64> {
    Some(match unit {
        b"ns" => 1,
        // Both Greek letters that look like the sign for micro: U+00B5 and U+03BC.
        b"us" | b"\xc2\xb5s" | b"\xce\xbcs" => MICROSECOND,
        b"ms" => MILLISECOND,
        b"s" => SECOND,
        b"m" => MINUTE,
        b"h" => HOUR,
        _ => return None,
    })
}

/// A text in Go's quotes: control and non-ASCII characters as `\x..`, byte by byte.
fn quote(text: &str) -> String {
    use fmt::Write as _;
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        if c < ' ' || !c.is_ascii() {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\x{byte:02x}");
            }
        } else {
            if c == '"' || c == '\\' {
                quoted.push('\\');
            }
            quoted.push(c);
        }
    }
    quoted.push('"');
    quoted
}

/// The form of Go's `Duration.String`: `1h0m0s`, `1.5s`, `300ms`, `0s`.
impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        let (unit, name) = match nanos {
            0 => return f.write_str("0s"),
            n if n < MICROSECOND => (1, "ns"),
            n if n < MILLISECOND => (MICROSECOND, "\u{b5}s"),
            n if n < SECOND => (MILLISECOND, "ms"),
            _ => (SECOND, "s"),
        };
        f.write_str(sign)?;
        let mut whole = nanos / unit;
        if unit == SECOND {
            let minutes = whole / 60;
            if minutes >= 60 {
                write!(f, "{}h", minutes / 60)?;
            }
            if minutes > 0 {
                write!(f, "{}m", minutes % 60)?;
            }
            whole %= 60;
        }
        write!(f, "{whole}")?;
        let fraction = nanos % unit;
        if fraction > 0 {
            let width = unit.ilog10() as usize;
            write!(f, ".{}", format!("{fraction:0width$}").trim_end_matches('0'))?;
        }
        f.write_str(name)
    }
}
