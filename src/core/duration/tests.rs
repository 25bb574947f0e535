use proptest::prelude::*;

use super::*;

const S: i64 = 1_000_000_000;

#[test]
fn reads_what_go_reads() {
    let cases: &[(&str, i64)] = &[
        ("0", 0),
        ("5s", 5 * S),
        ("30s", 30 * S),
        ("1478s", 1478 * S),
        ("-5s", -5 * S),
        ("+5s", 5 * S),
        ("-0", 0),
        ("+0", 0),
        ("5.0s", 5 * S),
        ("5.6s", 5_600_000_000),
        ("5.s", 5 * S),
        (".5s", S / 2),
        (".5m", 30 * S),
        ("1.0s", S),
        ("1.00s", S),
        ("1.004s", 1_004_000_000),
        ("1.0040s", 1_004_000_000),
        ("100.00100s", 100_001_000_000),
        ("10ns", 10),
        ("11us", 11_000),
        ("12\u{b5}s", 12_000),
        ("12\u{3bc}s", 12_000),
        ("13ms", 13_000_000),
        ("14s", 14 * S),
        ("15m", 15 * 60 * S),
        ("16h", 16 * 3600 * S),
        ("3h30m", 12_600 * S),
        ("10.5s4m", 250_500_000_000),
        ("-2m3.4s", -123_400_000_000),
        ("1h2m3s4ms5us6ns", 3_723_004_005_006),
        ("39h9m14.425s", 140_954_425_000_000),
        ("52763797000ns", 52_763_797_000),
        ("0.3333333333333333333h", 20 * 60 * S),
        ("9007199254740993ns", 9_007_199_254_740_993),
        ("9223372036854775807ns", i64::MAX),
        ("9223372036854775.807us", i64::MAX),
        ("9223372036s854ms775us807ns", i64::MAX),
        ("-9223372036854775808ns", i64::MIN),
        ("-9223372036854775.808us", i64::MIN),
        ("-9223372036s854ms775us808ns", i64::MIN),
        ("-2562047h47m16.854775808s", i64::MIN),
        ("0.100000000000000000000h", 360 * S),
        ("0.830103483285477580700h", 2_988_372_539_827),
        // Two terms of 2⁶³ ns wrap to nothing in Go, and so here.
        ("9223372036854775808ns9223372036854775808ns", 0),
    ];
    for (text, nanos) in cases {
        assert_eq!(GoDuration::parse(text).map(GoDuration::as_nanos), Ok(*nanos), "{text}");
    }
}

#[test]
fn refuses_what_go_refuses() {
    let cases: &[(&str, &str)] = &[
        ("", r#"time: invalid duration """#),
        ("3", r#"time: missing unit in duration "3""#),
        ("60", r#"time: missing unit in duration "60""#),
        ("-", r#"time: invalid duration "-""#),
        ("s", r#"time: invalid duration "s""#),
        (".", r#"time: invalid duration ".""#),
        ("-.", r#"time: invalid duration "-.""#),
        (".s", r#"time: invalid duration ".s""#),
        ("+.s", r#"time: invalid duration "+.s""#),
        ("1d", r#"time: unknown unit "d" in duration "1d""#),
        ("---5s", r#"time: invalid duration "---5s""#),
        ("5 s", r#"time: unknown unit " s" in duration "5 s""#),
        ("\u{fffd}", r#"time: invalid duration "\xef\xbf\xbd""#),
        ("1\"", r#"time: unknown unit "\"" in duration "1\"""#),
        ("9223372036854775810ns", r#"time: invalid duration "9223372036854775810ns""#),
        ("9223372036854775808ns", r#"time: invalid duration "9223372036854775808ns""#),
        ("-9223372036854775809ns", r#"time: invalid duration "-9223372036854775809ns""#),
        ("9223372036854776us", r#"time: invalid duration "9223372036854776us""#),
        ("3000000h", r#"time: invalid duration "3000000h""#),
        ("9223372036854775.808us", r#"time: invalid duration "9223372036854775.808us""#),
        ("9223372036854ms775us808ns", r#"time: invalid duration "9223372036854ms775us808ns""#),
        ("PT5S", r#"time: invalid duration "PT5S""#),
        ("5min", r#"time: unknown unit "min" in duration "5min""#),
    ];
    for (text, words) in cases {
        let error = GoDuration::parse(text).expect_err(text);
        assert_eq!(error.to_string(), *words, "{text}");
    }
}

#[test]
fn writes_what_go_writes() {
    let cases: &[(i64, &str)] = &[
        (0, "0s"),
        (1, "1ns"),
        (-1, "-1ns"),
        (1_100, "1.1\u{b5}s"),
        (2_200_000, "2.2ms"),
        (300_000_000, "300ms"),
        (3_300_000_000, "3.3s"),
        (6 * S, "6s"),
        (6_500_000_000, "6.5s"),
        (60 * S, "1m0s"),
        (245 * S, "4m5s"),
        (245_001_000_000, "4m5.001s"),
        (3600 * S, "1h0m0s"),
        (7200 * S, "2h0m0s"),
        (18_367_001_000_000, "5h6m7.001s"),
        (480_000_000_001, "8m0.000000001s"),
        (i64::MAX, "2562047h47m16.854775807s"),
        (i64::MIN, "-2562047h47m16.854775808s"),
    ];
    for (nanos, text) in cases {
        assert_eq!(GoDuration::from_nanos(*nanos).to_string(), *text);
    }
}

#[test]
fn rounds_half_away_from_zero() {
    for (nanos, rounded) in [
        (0, 0),
        (499_999_999, 0),
        (500_000_000, S),
        (-499_999_999, 0),
        (-500_000_000, -S),
        (1_500_000_000, 2 * S),
        (i64::MAX, i64::MAX),
        (i64::MIN, i64::MIN),
    ] {
        assert_eq!(GoDuration::from_nanos(nanos).rounded_to_second().as_nanos(), rounded);
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        if let Err(error) = GoDuration::parse(&text) {
            let _ = error.to_string();
        }
    }

    #[test]
    fn text_like_a_duration_never_panics(text in "[-+]?([0-9]{0,22}(\\.[0-9]{0,25})?(ns|us|ms|s|m|h|d)?){0,4}") {
        let _ = GoDuration::parse(&text);
    }

    #[test]
    fn milliseconds_survive_a_round_trip(millis in any::<i32>()) {
        let duration = GoDuration::from_nanos(i64::from(millis) * 1_000_000);
        prop_assert_eq!(GoDuration::parse(&duration.to_string()), Ok(duration));
    }
}
