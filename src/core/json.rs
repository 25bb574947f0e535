//! A reader for the one JSON that a user writes into an annotation: a flat object of strings and
//! numbers. The core has no JSON library, and the strictness wanted here (no duplicate, no nesting, a
//! bound on the length) is less than a hundred lines.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// The longest text that is read, in bytes.
pub const MOST_BYTES: usize = 4096;

/// A value of a flat object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// A string, unescaped.
    Text(String),
    /// A number, as written.
    Number(String),
}

/// Why a text is not a flat object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// More than [`MOST_BYTES`].
    #[error("longer than {MOST_BYTES} bytes")]
    TooLong,
    /// Not JSON, or not a flat object; where, counted in characters from 1, and what belongs there.
    #[error("expected {expected} at character {at}")]
    Expected {
        /// The character's position.
        at: usize,
        /// What belongs there.
        expected: &'static str,
    },
    /// A key stands there twice.
    #[error("the key {0:?} stands there twice")]
    Duplicate(String),
}

/// Reads a JSON object whose values are strings and numbers.
///
/// # Errors
/// For everything else, also for other kinds of value and for keys that stand there twice.
pub fn flat_object(text: &str) -> Result<BTreeMap<String, Scalar>, JsonError> {
    if text.len() > MOST_BYTES {
        return Err(JsonError::TooLong);
    }
    let mut reader = Reader { chars: text.chars().peekable(), at: 1 };
    let mut object = BTreeMap::new();
    reader.symbol('{', "{")?;
    if !reader.skip('}') {
        loop {
            reader.symbol('"', "a key in quotes")?;
            let key = reader.string()?;
            reader.symbol(':', ":")?;
            let value = reader.scalar()?;
            if object.insert(key.clone(), value).is_some() {
                return Err(JsonError::Duplicate(key));
            }
            if !reader.skip(',') {
                break;
            }
        }
        reader.symbol('}', ", or }")?;
    }
    reader.space();
    if reader.chars.peek().is_some() { Err(reader.expected("the end")) } else { Ok(object) }
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    at: usize,
}

impl Reader<'_> {
    fn expected(&self, expected: &'static str) -> JsonError {
        JsonError::Expected { at: self.at, expected }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        self.at += 1;
        Some(c)
    }

    fn next_if(&mut self, wanted: impl Fn(char) -> bool) -> Option<char> {
        let c = self.chars.next_if(|c| wanted(*c))?;
        self.at += 1;
        Some(c)
    }

    fn space(&mut self) {
        while self.next_if(|c| matches!(c, ' ' | '\t' | '\n' | '\r')).is_some() {}
    }

    /// Steps over space and `symbol`, if it is there.
    fn skip(&mut self, symbol: char) -> bool {
        self.space();
        self.next_if(|c| c == symbol).is_some()
    }

    fn symbol(&mut self, symbol: char, expected: &'static str) -> Result<(), JsonError> {
        if self.skip(symbol) { Ok(()) } else { Err(self.expected(expected)) }
    }

    fn scalar(&mut self) -> Result<Scalar, JsonError> {
        if self.skip('"') {
            return self.string().map(Scalar::Text);
        }
        let mut number = String::new();
        while let Some(c) = self.next_if(|c| c.is_ascii_digit() || "+-.eE".contains(c)) {
            number.push(c);
        }
        if is_number(&number) {
            Ok(Scalar::Number(number))
        } else {
            Err(self.expected("a string or a number"))
        }
    }

    /// The rest of a string, behind its opening quote.
    fn string(&mut self) -> Result<String, JsonError> {
        let mut text = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escape()?),
                Some(c) if c >= ' ' => text.push(c),
                _ => return Err(self.expected("the closing quote")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        Ok(match self.next() {
            Some(c @ ('"' | '\\' | '/')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let unit = self.four_digits()?;
                let code = if (0xd800..0xdc00).contains(&unit) {
                    let pair = self.next() == Some('\\') && self.next() == Some('u');
                    let low = if pair { self.four_digits()? } else { 0 };
                    match low.checked_sub(0xdc00) {
                        Some(low) if low < 0x400 => 0x1_0000 + ((unit - 0xd800) << 10) + low,
                        _ => unit,
                    }
                } else {
                    unit
                };
                char::from_u32(code).ok_or_else(|| self.expected("a character's code"))?
            }
            _ => return Err(self.expected("an escape sequence")),
        })
    }

    fn four_digits(&mut self) -> Result<u32, JsonError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.next().and_then(|c| c.to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.expected("four hexadecimal digits"))?;
        }
        Ok(code)
    }
}

/// Whether a text of digits, signs, points and `e` is a JSON number: Rust also reads `+1`, `01`, `1.`
/// and `.5`.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, _) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, ""));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let starts_well = whole == "0" || whole.starts_with(|c: char| matches!(c, '1'..='9'));
    starts_well && !fraction.is_empty() && text.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn flat_objects_are_read() {
        let object =
            flat_object(" { \"port\" : 8080 ,\"path\":\"/m\\u0065trics\\n\\ud83d\\ude00\"}\n");
        let expected = BTreeMap::from([
            ("path".to_owned(), Scalar::Text("/metrics\n\u{1f600}".to_owned())),
            ("port".to_owned(), Scalar::Number("8080".to_owned())),
        ]);
        assert_eq!(object, Ok(expected));
        assert_eq!(flat_object("{}"), Ok(BTreeMap::new()));
    }

    #[test]
    fn everything_else_is_refused() {
        for (text, words) in [
            ("", "expected { at character 1"),
            ("[]", "expected { at character 1"),
            ("8080", "expected { at character 1"),
            ("{", "expected a key in quotes at character 2"),
            ("{port:1}", "expected a key in quotes at character 2"),
            ("{\"a\"}", "expected : at character 5"),
            ("{\"a\":}", "expected a string or a number at character 6"),
            ("{\"a\":true}", "expected a string or a number at character 6"),
            ("{\"a\":{}}", "expected a string or a number at character 6"),
            ("{\"a\":.5}", "expected a string or a number at character 8"),
            ("{\"a\":1 2}", "expected , or } at character 8"),
            ("{\"a\":1,}", "expected a key in quotes at character 8"),
            ("{\"a\":1}x", "expected the end at character 8"),
            ("{\"a\":\"\\x\"}", "expected an escape sequence at character 9"),
            ("{\"a\":\"\\ud800\"}", "expected a character's code at character 14"),
            ("{\"a\":\"b", "expected the closing quote at character 8"),
            ("{\"a\":\"\0\"}", "expected the closing quote at character 8"),
            ("{\"a\":1,\"a\":2}", "the key \"a\" stands there twice"),
        ] {
            assert_eq!(flat_object(text).expect_err(text).to_string(), words, "{text}");
        }
        assert_eq!(flat_object(&" ".repeat(5000)), Err(JsonError::TooLong));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[{}:,\"\\\\u0-9a-f .+e-]{0,40}|\\PC*") {
            let _ = flat_object(&text);
        }

        #[test]
        fn agrees_with_a_json_library(text in "\\{(\"[a-c]\":(\"(\\\\n|\\\\u00[0-9a-f]{2}|[ -!#-\\[\\]-~])*\"|-?[0-9]{1,3}(\\.[0-9]+)?),?){0,3}\\}") {
            let library: Result<serde_json::Map<String, serde_json::Value>, _> =
                serde_json::from_str(&text);
            match (flat_object(&text), library) {
                (Ok(object), Ok(library)) => {
                    prop_assert_eq!(object.len(), library.len());
                    for (key, value) in object {
                        match value {
                            Scalar::Text(text) => {
                                prop_assert_eq!(library[&key].as_str(), Some(&*text));
                            }
                            Scalar::Number(number) => {
                                prop_assert_eq!(library[&key].as_f64(), number.parse().ok());
                            }
                        }
                    }
                }
                (Err(JsonError::Duplicate(_)), Ok(_)) | (Err(_), Err(_)) => {}
                (object, library) => prop_assert!(false, "{:?} but {:?}", object, library),
            }
        }
    }
}
