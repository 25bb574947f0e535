//! Numbers as Go reads them: `strconv.ParseFloat`, `strconv.ParseInt` with base 10 and
//! `strconv.ParseBool`. Rust's own parsers accept other sets of strings (`1_000`, `0x1p3`, `+nan`).

/// Why a text is not a number; the words are Go's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NumberError {
    /// Not a number at all.
    #[error("invalid syntax")]
    Syntax,
    /// A number that the type cannot hold.
    #[error("value out of range")]
    Range,
}

/// Reads a float as Go's `strconv.ParseFloat(text, 64)`: decimal, exponent, hexadecimal, digits with
/// `_`, and `nan`, `inf`, `infinity` in any case (the latter two with a sign). The result may be NaN or
/// infinite only through those words.
///
/// # Errors
/// Where Go has an error; a finite number that only infinity could hold is out of range.
///
/// Source: Go 1.26 `internal/strconv/atof.go`.
pub fn parse_float(text: &str) -> Result<f64, NumberError> {
    if let Some(value) = special(text) {
        return Ok(value);
    }
    let negative = text.starts_with('-');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text).as_bytes();
    let (digits, hexadecimal) = match unsigned {
        [b'0', b'x' | b'X', digits @ ..] if !digits.is_empty() => (digits, true),
        digits => (digits, false),
    };
    let number = Scanned::scan(digits, hexadecimal)?;
    if !underscores_separate_digits(digits, hexadecimal) {
        return Err(NumberError::Syntax);
    }
    let magnitude = if hexadecimal { number.hexadecimal()? } else { number.decimal()? };
    Ok(if negative { -magnitude } else { magnitude })
}

/// Reads an integer as Go's `strconv.ParseInt(text, 10, 32)`: an optional sign and decimal digits.
///
/// # Errors
/// Where Go has an error. As in Go a text is out of range as soon as its first digits are.
pub fn parse_i32(text: &str) -> Result<i32, NumberError> {
    let value = parse_int(text, u64::from(u32::MAX))?;
    i32::try_from(value).map_err(|_| NumberError::Range)
}

/// Reads an integer as Go's `strconv.Atoi` on a 64-bit machine.
///
/// # Errors
/// Where Go has an error.
pub fn parse_i64(text: &str) -> Result<i64, NumberError> {
    i64::try_from(parse_int(text, u64::MAX)?).map_err(|_| NumberError::Range)
}

/// Reads a truth value as Go's `strconv.ParseBool`.
///
/// # Errors
/// For every other spelling.
pub fn parse_bool(text: &str) -> Result<bool, NumberError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(NumberError::Syntax),
    }
}

/// A signed integer whose magnitude is at most `most` while it is read.
fn parse_int(text: &str, most: u64) -> Result<i128, NumberError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() {
        return Err(NumberError::Syntax);
    }
    let mut value: u64 = 0;
    for byte in digits.bytes() {
        if !byte.is_ascii_digit() {
            return Err(NumberError::Syntax);
        }
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(u64::from(byte - b'0')))
            .filter(|value| *value <= most)
            .ok_or(NumberError::Range)?;
    }
    let value = i128::from(value);
    Ok(if text.starts_with('-') { -value } else { value })
}

/// The words for what is not finite.
fn special(text: &str) -> Option<f64> {
    if text.eq_ignore_ascii_case("nan") {
        return Some(f64::NAN);
    }
    let (value, word) = match text.strip_prefix('-') {
        Some(word) => (f64::NEG_INFINITY, word),
        None => (f64::INFINITY, text.strip_prefix('+').unwrap_or(text)),
    };
    ["inf", "infinity"].iter().any(|name| word.eq_ignore_ascii_case(name)).then_some(value)
}

/// Whether each underscore stands between two digits; a base prefix counts as one. `bytes` starts
/// behind the prefix.
fn underscores_separate_digits(bytes: &[u8], hexadecimal: bool) -> bool {
    let mut before = if hexadecimal { b'0' } else { b'^' };
    for byte in bytes {
        let digit = byte.is_ascii_digit() || (hexadecimal && byte.is_ascii_hexdigit());
        if (*byte == b'_' && before != b'0') || (!digit && *byte != b'_' && before == b'_') {
            return false;
        }
        before = if digit { b'0' } else { *byte };
    }
    before != b'_'
}

/// A float's text, taken apart; without sign and prefix.
struct Scanned {
    /// All digits of the mantissa, without the point and underscores; at least one.
    digits: String,
    /// How many of them stand behind the point.
    behind_point: i64,
    /// The written exponent (of ten or of two); cut off where Go stops reading it.
    exponent: i64,
}

impl Scanned {
    fn scan(bytes: &[u8], hexadecimal: bool) -> Result<Self, NumberError> {
        let mut digits = String::new();
        let mut behind_point = None;
        let mut rest = bytes.iter();
        let mut mark = None;
        for byte in rest.by_ref() {
            match byte {
                b'_' => {}
                b'.' if behind_point.is_none() => behind_point = Some(0_i64),
                digit if digit.is_ascii_digit() || (hexadecimal && digit.is_ascii_hexdigit()) => {
                    digits.push(char::from(*digit));
                    behind_point = behind_point.map(|count| count + 1);
                }
                other => {
                    mark = Some(other.to_ascii_lowercase());
                    break;
                }
            }
        }
        let exponent = match mark {
            Some(b'p') if hexadecimal => scan_exponent(rest.as_slice())?,
            Some(b'e') if !hexadecimal => scan_exponent(rest.as_slice())?,
            // A hexadecimal number must have an exponent.
            None if !hexadecimal => 0,
            _ => return Err(NumberError::Syntax),
        };
        if digits.is_empty() {
            return Err(NumberError::Syntax);
        }
        Ok(Self { digits, behind_point: behind_point.unwrap_or(0), exponent })
    }

    fn decimal(&self) -> Result<f64, NumberError> {
        let plain = format!("{}e{}", self.digits, self.exponent - self.behind_point);
        let value: f64 = plain.parse().map_err(|_| NumberError::Syntax)?;
        if value.is_finite() { Ok(value) } else { Err(NumberError::Range) }
    }

    fn hexadecimal(&self) -> Result<f64, NumberError> {
        let digits = self.digits.trim_start_matches('0');
        let (mut mantissa, mut exponent, mut inexact) = (0_u64, self.exponent, false);
        exponent -= 4 * self.behind_point;
        for (index, digit) in digits.chars().enumerate() {
            let digit = u64::from(digit.to_digit(16).unwrap_or(0));
            if index < 16 {
                mantissa = mantissa << 4 | digit;
            } else {
                inexact |= digit != 0;
                exponent += 4;
            }
        }
        scale_by_two(mantissa, exponent, inexact)
    }
}

/// The digits behind the exponent mark.
fn scan_exponent(bytes: &[u8]) -> Result<i64, NumberError> {
    let (sign, digits) = match bytes {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] | digits => (1, digits),
    };
    if !digits.first().is_some_and(u8::is_ascii_digit) {
        return Err(NumberError::Syntax);
    }
    let mut exponent: i64 = 0;
    for byte in digits {
        match byte {
            b'_' => {}
            // Go stops adding digits here: no float is so large or so small.
            b'0'..=b'9' if exponent >= 10_000 => {}
            b'0'..=b'9' => exponent = exponent * 10 + i64::from(byte - b'0'),
            _ => return Err(NumberError::Syntax),
        }
    }
    Ok(sign * exponent)
}

/// `mantissa` × 2^`exponent`, rounded to the nearest float, half to even. `inexact`: the true mantissa
/// is a little larger.
fn scale_by_two(mantissa: u64, exponent: i64, inexact: bool) -> Result<f64, NumberError> {
    if mantissa == 0 {
        return Ok(0.0);
    }
    let shift = mantissa.leading_zeros();
    let mantissa = u128::from(mantissa << shift);
    // The value is 1.xxx × 2^power.
    let power = exponent - i64::from(shift) + 63;
    if power > 1023 {
        return Err(NumberError::Range);
    }
    // 53 bits are kept, fewer where the number is subnormal; with 65 dropped bits nothing is left.
    let dropped = (11 + (-1022 - power).max(0)).min(65);
    let kept = mantissa >> dropped;
    let rest = mantissa & ((1 << dropped) - 1);
    let half = 1 << (dropped - 1);
    let up = rest > half || (rest == half && (inexact || kept & 1 == 1));
    let kept = u64::try_from(kept).unwrap_or(0) + u64::from(up);
    // The leading bit adds one to the exponent, and so does a carry out of the mantissa.
    let bits = match u64::try_from(power + 1022) {
        Ok(biased) => (biased << 52) + kept,
        Err(_) => kept,
    };
    let value = f64::from_bits(bits);
    if value.is_finite() { Ok(value) } else { Err(NumberError::Range) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn floats_are_go_s() {
        let cases: &[(&str, f64)] = &[
            ("5", 5.0),
            ("+5", 5.0),
            ("-0", -0.0),
            ("05", 5.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1E+3", 1000.0),
            ("1e-3", 0.001),
            ("1_000", 1000.0),
            ("1_0.2_5", 10.25),
            ("1e1_0", 1e10),
            ("0x1p3", 8.0),
            ("0X1P-1", 0.5),
            ("0x.8p1", 1.0),
            ("0x1.fp0", 1.9375),
            ("0x_1p0", 1.0),
            ("0x1_0p0", 16.0),
            ("-0x1p-1074", -5e-324),
            ("0x1p-1075", 0.0),
            ("0x1.8p-1075", 5e-324),
            ("0x1.fffffffffffffp1023", f64::MAX),
            ("0x1.fffffffffffff7p1023", f64::MAX),
            ("0x1.00000000000008p0", 1.0),
            ("0x1.000000000000080000001p0", 1.000_000_000_000_000_2),
            ("0x1.00000000000018p0", 1.000_000_000_000_000_4),
            ("0x0p99999", 0.0),
            ("1e-400", 0.0),
            ("0e99999", 0.0),
            ("4.9e-324", 5e-324),
        ];
        for (text, value) in cases {
            let found = parse_float(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(found.to_bits(), value.to_bits(), "{text}: {found}");
        }
        for text in ["inf", "+Inf", "INFINITY", "+infinity"] {
            assert_eq!(parse_float(text), Ok(f64::INFINITY), "{text}");
        }
        assert_eq!(parse_float("-inf"), Ok(f64::NEG_INFINITY));
        assert!(parse_float("NaN").is_ok_and(f64::is_nan));
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "", " 5", "5 ", "+", "-", ".", "e5", "1e", "1e+", "1.2.3", "+nan", "-nan", "infi",
            "in", "0x", "0x1", "0xp1", "0x.p1", "1p3", "0b1", "_1", "1_", "1__0", "1_.5", "1._5",
            "1e_5", "1e5_", "1_e5", "0_x1p3", "0x1p3_", "--5", "5f", "\u{665}", "1,000", "\0",
        ] {
            assert_eq!(parse_float(text), Err(NumberError::Syntax), "{text}");
        }
        for text in ["1e400", "-1e309", "0x1p1024", "0x1.fffffffffffff8p1023", "1e99999"] {
            assert_eq!(parse_float(text), Err(NumberError::Range), "{text}");
        }
    }

    #[test]
    fn integers_are_go_s() {
        use NumberError::{Range, Syntax};
        let cases: &[(&str, Result<i32, NumberError>)] = &[
            ("5", Ok(5)),
            ("+5", Ok(5)),
            ("05", Ok(5)),
            ("-0", Ok(0)),
            ("2147483647", Ok(i32::MAX)),
            ("-2147483648", Ok(i32::MIN)),
            ("2147483648", Err(Range)),
            ("-2147483649", Err(Range)),
            // Out of range before the letter is seen.
            ("4294967296x", Err(Range)),
            ("4294967295x", Err(Syntax)),
            ("", Err(Syntax)),
            ("-", Err(Syntax)),
            ("1_000", Err(Syntax)),
            ("0x10", Err(Syntax)),
            (" 5", Err(Syntax)),
            ("5.0", Err(Syntax)),
            ("\u{665}", Err(Syntax)),
        ];
        for (text, value) in cases {
            assert_eq!(parse_i32(text), *value, "{text}");
        }
        assert_eq!(parse_i64("4294967296"), Ok(4_294_967_296));
        assert_eq!(parse_i64("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(parse_i64("9223372036854775808"), Err(Range));
        assert_eq!(parse_i64("99999999999999999999x"), Err(Range));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = (parse_float(&text), parse_i32(&text), parse_i64(&text), parse_bool(&text));
        }

        #[test]
        fn text_like_a_number_never_panics(
            text in "[-+]?(0[xX])?[0-9a-f_]{0,40}\\.?[0-9a-f_]{0,30}([pe][-+]?[0-9_]{0,8})?",
        ) {
            let _ = (parse_float(&text), parse_i32(&text), parse_i64(&text));
        }

        #[test]
        fn hexadecimal_round_trips(value in any::<f64>()) {
            prop_assume!(value.is_finite());
            let bits = value.abs().to_bits();
            let (fraction, biased) = (bits & ((1 << 52) - 1), bits >> 52);
            let (whole, power) =
                if biased == 0 { (0, -1022) } else { (1, i64::try_from(biased).unwrap() - 1023) };
            let text = format!("0x{whole}.{fraction:013x}p{power}");
            prop_assert_eq!(parse_float(&text).map(f64::to_bits), Ok(bits), "{}", text);
        }

        #[test]
        fn decimals_round_trip(value in any::<f64>()) {
            prop_assume!(value.is_finite());
            prop_assert_eq!(parse_float(&format!("{value:e}")), Ok(value));
        }
    }
}
