//! Recognises a plain PromQL series selector, the only query that can be asked for raw samples.
//!
//! `name{label="value", …}` and nothing else: no function, no operator, no range, no offset. The range is
//! ours to add.

/// Checks that `text` is a plain series selector.
///
/// # Errors
/// A lower-case fragment that says what is wrong and at which byte.
pub(super) fn check(text: &str) -> Result<(), String> {
    let mut cursor = Cursor { text, at: 0 };
    let name = cursor.word(is_metric_start, is_metric_byte);
    cursor.space();
    let mut anchored = !name.is_empty();
    if cursor.eat('{') {
        anchored |= cursor.matchers(name.is_empty())?;
        cursor.space();
    }
    if cursor.at < text.len() {
        return Err(cursor.complaint("a plain series selector ends before"));
    }
    if anchored { Ok(()) } else { Err("names no metric and matches every series".into()) }
}

/// Whether `text` is a valid label name.
pub(super) fn is_label_name(text: &str) -> bool {
    let mut cursor = Cursor { text, at: 0 };
    !cursor.word(is_label_start, is_label_byte).is_empty() && cursor.at == text.len()
}

/// The identifiers of a PromQL expression outside quoted strings, in order.
pub(super) fn identifiers(expression: &str) -> Vec<&str> {
    let mut cursor = Cursor { text: expression, at: 0 };
    let mut found = Vec::new();
    while let Some(next) = cursor.peek() {
        if matches!(next, '"' | '\'' | '`') {
            if cursor.string().is_err() {
                break;
            }
        } else if is_metric_start(next) {
            found.push(cursor.word(is_metric_start, is_metric_byte));
        } else {
            cursor.advance(next);
        }
    }
    found
}

fn is_label_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_label_byte(c: char) -> bool {
    is_label_start(c) || c.is_ascii_digit()
}

fn is_metric_start(c: char) -> bool {
    is_label_start(c) || c == ':'
}

fn is_metric_byte(c: char) -> bool {
    is_label_byte(c) || c == ':'
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn advance(&mut self, c: char) {
        self.at += c.len_utf8();
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.advance(wanted);
        }
        found
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn word(&mut self, start: fn(char) -> bool, inside: fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        if !rest.starts_with(start) {
            return "";
        }
        let end = rest.find(|c| !inside(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn complaint(&self, what: &str) -> String {
        let near: String = self.rest().chars().take(16).flat_map(char::escape_debug).collect();
        format!("{what} `{near}` at byte {}", self.at)
    }

    /// The matchers behind `{` up to and with `}`. Returns whether one of them narrows the choice.
    fn matchers(&mut self, name_allowed: bool) -> Result<bool, String> {
        let mut anchored = false;
        loop {
            self.space();
            if self.eat('}') {
                return Ok(anchored);
            }
            anchored |= self.matcher(name_allowed)?;
            self.space();
            if !self.eat(',') {
                if self.eat('}') {
                    return Ok(anchored);
                }
                return Err(self.complaint("expected `,` or `}` before"));
            }
        }
    }

    /// One matcher, or a quoted metric name. Returns whether it narrows the choice.
    fn matcher(&mut self, name_allowed: bool) -> Result<bool, String> {
        let quoted = matches!(self.peek(), Some('"' | '\'' | '`'));
        if quoted {
            self.string()?;
        } else if self.word(is_label_start, is_label_byte).is_empty() {
            return Err(self.complaint("expected a label name before"));
        }
        self.space();
        if quoted && matches!(self.peek(), Some(',' | '}')) {
            if name_allowed {
                return Ok(true);
            }
            return Err(self.complaint("a second metric name before"));
        }
        let operator = ["=~", "!~", "!=", "="]
            .into_iter()
            .find(|operator| self.rest().starts_with(operator))
            .ok_or_else(|| self.complaint("expected =, !=, =~ or !~ before"))?;
        self.at += operator.len();
        self.space();
        let value = self.string()?;
        Ok(match operator {
            "=" => !value.is_empty(),
            "=~" => !matches!(value, "" | ".*"),
            _ => false,
        })
    }

    /// A quoted string with its escapes; returns what is between the quotes.
    fn string(&mut self) -> Result<&'a str, String> {
        let from = self.at;
        let Some(quote @ ('"' | '\'' | '`')) = self.peek() else {
            return Err(self.complaint("expected a quoted string before"));
        };
        self.advance(quote);
        let inside = self.at;
        while let Some(c) = self.peek() {
            self.advance(c);
            if c == '\\' && quote != '`' {
                if let Some(escaped) = self.peek() {
                    self.advance(escaped);
                }
            } else if c == quote {
                return Ok(self.text.get(inside..self.at - 1).unwrap_or_default());
            } else if c == '\n' && quote != '`' {
                break;
            }
        }
        self.at = from;
        Err(self.complaint("the string is not closed:"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_selectors_pass() {
        for text in [
            "up",
            "http_requests_total",
            "job:load:sum",
            "x{}",
            "x { }",
            "x{a=\"1\"}",
            "x{a=\"1\",}",
            "x{ a =~ \"b.*\" , c != 'd', e !~ `f` }",
            "{job=\"api\"}",
            "{\"http.requests\", code=\"200\"}",
            "x{\"a.b\"=\"c\"}",
            "x{a=\"}[5m]\"}",
            "x{a=\"\\\"\"}",
            "sum{a=\"1\"}",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn everything_else_does_not() {
        for text in [
            "",
            " ",
            "{}",
            "{a!=\"b\"}",
            "{a=~\".*\"}",
            "rate(x[5m])",
            "sum(x)",
            "x[5m]",
            "x{a=\"1\"}[5m]",
            "x offset 5m",
            "x @ 5",
            "x + y",
            "x{a=\"1\"} or y",
            "x{a=1}",
            "x{a}",
            "x{=\"1\"}",
            "x{a==\"1\"}",
            "x{a=\"1\"",
            "x{a=\"1}",
            "x{a=\"1\" b=\"2\"}",
            "x{\"y\"}",
            "x;y",
            "1",
            "(x)",
            "x#comment",
            "é{a=\"1\"}",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
    }

    #[test]
    fn identifiers_skip_strings() {
        assert_eq!(identifiers("sum by (a) (x{b=\"max(\"}) / 2"), ["sum", "by", "a", "x", "b"]);
        assert_eq!(identifiers("x{a=\"unclosed"), ["x", "a"]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[a-z{}=!~,\"'`\\\\ \n]{0,40}") {
            let _ = check(&text);
            let _ = identifiers(&text);
            let _ = is_label_name(&text);
        }
    }
}
