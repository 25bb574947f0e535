//! Reads a few named gauges and counters out of a page in Prometheus text format 0.0.4 or OpenMetrics.
//!
//! A pod's page may hold thousands of series that do not concern us, so only the lines of the wanted
//! names are parsed; the others have to look like exposition, no more. Time stamps and exemplars are
//! ignored: what counts is the moment at which the pod answered.

use crate::core::event::SourceFault;

/// The most bytes that a page may have.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// What a page says about one wanted name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found {
    /// The name does not occur.
    Absent,
    /// The family is declared but has no series yet, as labelled counters before their first use.
    Declared,
    /// The sum over all label sets; finite and ≥ 0.
    Sum(f64),
}

/// Reads the `wanted` names from a page.
///
/// A name matches a sample of exactly that name, and of that name with `_total` where the page declares
/// the name as a counter. Series that differ in labels are summed, in the order of the page.
///
/// # Errors
/// [`SourceFault::TooLarge`] above [`MAX_TEXT_BYTES`]; [`SourceFault::Malformed`] when the page is not in
/// the text format or a wanted name is a histogram or summary; [`SourceFault::InvalidSample`] when a
/// wanted value is NaN, infinite or negative.
pub fn read<const N: usize>(body: &[u8], wanted: [&str; N]) -> Result<[Found; N], SourceFault> {
    if body.len() > MAX_TEXT_BYTES {
        return Err(SourceFault::TooLarge);
    }
    let mut seekers = wanted.map(Seeker::new);
    for line in body.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        match line.first() {
            None => {}
            Some(b'#') => {
                if line == b"# EOF" {
                    break;
                }
                for seeker in &mut seekers {
                    seeker.comment(line)?;
                }
            }
            Some(b'{') => {
                let (name, rest) = quoted_name(line)?;
                for seeker in &mut seekers {
                    seeker.sample(&name, rest)?;
                }
            }
            Some(first) if is_name_start(*first) => {
                let end = line.iter().position(|byte| !is_name(*byte)).unwrap_or(line.len());
                let (name, rest) = line.split_at(end);
                for seeker in &mut seekers {
                    seeker.sample(name, rest)?;
                }
            }
            Some(_) => return Err(SourceFault::Malformed),
        }
    }
    Ok(seekers.map(|seeker| seeker.found))
}

/// One wanted name and what has been found of it so far.
struct Seeker<'a> {
    name: &'a [u8],
    declared_counter: bool,
    found: Found,
}

impl<'a> Seeker<'a> {
    fn new(name: &'a str) -> Self {
        Self { name: name.as_bytes(), declared_counter: false, found: Found::Absent }
    }

    /// Looks at `# TYPE name kind`; other comments say nothing.
    fn comment(&mut self, line: &[u8]) -> Result<(), SourceFault> {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let (Some(b"#"), Some(b"TYPE"), Some(family), Some(kind)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Ok(());
        };
        if family == self.name {
            if !matches!(kind, b"counter" | b"gauge" | b"untyped" | b"unknown") {
                return Err(SourceFault::Malformed);
            }
            self.declared_counter = kind == b"counter";
            self.declare();
        } else if self.name.strip_prefix(family).is_some_and(|suffix| {
            suffix == b"_total" && kind == b"counter"
                || matches!(suffix, b"_count" | b"_sum")
                    && matches!(kind, b"histogram" | b"summary")
        }) {
            self.declare();
        }
        Ok(())
    }

    fn declare(&mut self) {
        if self.found == Found::Absent {
            self.found = Found::Declared;
        }
    }

    /// Adds the sample if the name is ours. `rest` is the line behind the name.
    fn sample(&mut self, name: &[u8], rest: &[u8]) -> Result<(), SourceFault> {
        let ours = name == self.name
            || self.declared_counter && name.strip_prefix(self.name) == Some(b"_total".as_slice());
        if !ours {
            return Ok(());
        }
        let value = value_behind_labels(rest)?;
        let before = if let Found::Sum(sum) = self.found { sum } else { 0.0 };
        let sum = before + value;
        if !value.is_finite() || value < 0.0 || !sum.is_finite() {
            return Err(SourceFault::InvalidSample);
        }
        self.found = Found::Sum(sum);
        Ok(())
    }
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':')
}

fn is_name(byte: u8) -> bool {
    is_name_start(byte) || byte.is_ascii_digit()
}

/// The value of a sample line, behind the name and the optional labels.
fn value_behind_labels(rest: &[u8]) -> Result<f64, SourceFault> {
    let rest = rest.trim_ascii_start();
    let rest = if rest.first() == Some(&b'{') { skip_labels(rest)? } else { rest };
    let word = rest
        .split(u8::is_ascii_whitespace)
        .find(|word| !word.is_empty())
        .ok_or(SourceFault::Malformed)?;
    std::str::from_utf8(word)
        .ok()
        .and_then(|word| word.parse::<f64>().ok())
        .ok_or(SourceFault::Malformed)
}

/// What follows the closing brace of a label set; braces inside quoted values do not close it.
fn skip_labels(labels: &[u8]) -> Result<&[u8], SourceFault> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in labels.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return labels.get(at + 1..).ok_or(SourceFault::Malformed),
            _ => {}
        }
    }
    Err(SourceFault::Malformed)
}

/// The metric name of a line such as `{"http.requests",code="200"} 1`, unescaped, and the line itself,
/// whose braces then count as labels.
fn quoted_name(line: &[u8]) -> Result<(Vec<u8>, &[u8]), SourceFault> {
    let inner = line.get(1..).unwrap_or_default().trim_ascii_start();
    let Some(text) = inner.strip_prefix(b"\"") else {
        return Err(SourceFault::Malformed);
    };
    let mut name = Vec::new();
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return Ok((name, line)),
            b'\\' => match bytes.next() {
                Some(b'n') => name.push(b'\n'),
                Some(escaped @ (b'"' | b'\\')) => name.push(*escaped),
                _ => return Err(SourceFault::Malformed),
            },
            other => name.push(*other),
        }
    }
    Err(SourceFault::Malformed)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;

    fn one(page: &str, name: &str) -> Result<Found, SourceFault> {
        read(page.as_bytes(), [name]).map(|[found]| found)
    }

    type Case<'a> = (&'a str, &'a str, Result<Found, SourceFault>);

    #[test]
    fn pages() {
        let cases: &[Case<'_>] = &[
            ("", "x", Ok(Found::Absent)),
            ("x 3", "x", Ok(Found::Sum(3.0))),
            ("x 3\r\n", "x", Ok(Found::Sum(3.0))),
            ("x 1.5e2 1700000000000\n", "x", Ok(Found::Sum(150.0))),
            ("xy 3\nx_total 4\n", "x", Ok(Found::Absent)),
            ("# TYPE x counter\nx_total 4\n# EOF\nx_total 9", "x", Ok(Found::Sum(4.0))),
            ("# TYPE x counter\nx_total 4\nx_created 1.7e9\n", "x_total", Ok(Found::Sum(4.0))),
            ("x{a=\"1\"} 1\nx{a=\"2\"} 2\nx { } 4", "x", Ok(Found::Sum(7.0))),
            ("x{a=\"}\\\"} 7\",b=\"\\\\\"} 2\n", "x", Ok(Found::Sum(2.0))),
            ("x{a=\"1\"} 5 # {trace_id=\"a\"} 9 1.7\n", "x", Ok(Found::Sum(5.0))),
            ("{\"http.requests\",code=\"200\"} 8\n", "http.requests", Ok(Found::Sum(8.0))),
            ("# HELP x y\n# TYPE x counter\n", "x", Ok(Found::Declared)),
            ("# TYPE d histogram\n", "d_count", Ok(Found::Declared)),
            (
                "# TYPE d histogram\nd_bucket{le=\"+Inf\"} 3\nd_sum 1\nd_count 3\n",
                "d_count",
                Ok(Found::Sum(3.0)),
            ),
            ("y NaN\nx 1\n", "x", Ok(Found::Sum(1.0))),
            // What is refused.
            ("# TYPE d summary\nd{quantile=\"0.5\"} 3\n", "d", Err(SourceFault::Malformed)),
            ("x NaN\n", "x", Err(SourceFault::InvalidSample)),
            ("x +Inf\n", "x", Err(SourceFault::InvalidSample)),
            ("x -1\n", "x", Err(SourceFault::InvalidSample)),
            ("x 1e308\nx{a=\"1\"} 1e308\n", "x", Err(SourceFault::InvalidSample)),
            ("x\n", "x", Err(SourceFault::Malformed)),
            ("x{a=\"1\n", "x", Err(SourceFault::Malformed)),
            ("x five\n", "x", Err(SourceFault::Malformed)),
            ("<html><body>x 5</body></html>", "x", Err(SourceFault::Malformed)),
            ("{a=\"1\"} 5\n", "x", Err(SourceFault::Malformed)),
        ];
        for (page, name, expected) in cases {
            assert_eq!(one(page, name), *expected, "{page:?}");
        }
    }

    #[test]
    fn two_names_in_one_pass() {
        let page = "started{code=\"a\"} 5\nfinished 3\nstarted{code=\"b\"} 1\n";
        assert_eq!(
            read(page.as_bytes(), ["started", "finished"]),
            Ok([Found::Sum(6.0), Found::Sum(3.0)])
        );
    }

    #[test]
    fn a_page_above_the_limit_is_not_read() {
        let page = vec![b'#'; MAX_TEXT_BYTES + 1];
        assert_eq!(read(&page, ["x"]), Err(SourceFault::TooLarge));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(page in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&page, ["x", "_"]);
        }

        #[test]
        fn no_near_miss_panics(page in "([x#{}\"\\\\ =,\n0-9aE.+-]|TYPE|counter|_total|NaN|Inf){0,60}") {
            for found in read(page.as_bytes(), ["x"]).into_iter().flatten() {
                if let Found::Sum(sum) = found {
                    prop_assert!(sum.is_finite() && sum >= 0.0);
                }
            }
        }

        #[test]
        fn what_is_written_is_read(
            values in proptest::collection::vec((0.0_f64..1e9, "[ -~]{0,12}"), 1..20)
        ) {
            let mut page = String::from("# TYPE load gauge\n");
            let mut sum = 0.0;
            for (value, label) in &values {
                let label = label.replace('\\', "\\\\").replace('"', "\\\"");
                let _ = write!(page, "load{{a=\"{label}\"}} {value}\nother 7\n");
                sum += value;
            }
            prop_assert_eq!(one(&page, "load"), Ok(Found::Sum(sum)));
        }
    }
}
