//! Reads PromQL from left to right, in the way of Prometheus' own scanner; what it does not know is refused.

/// A place in a text.
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    /// The byte at which the rest begins.
    pub(super) at: usize,
}

/// What stands between the braces of a selector.
pub(super) enum Item<'a> {
    /// A quoted metric name.
    Name,
    /// A label, compared with a value.
    Matcher(Matcher<'a>),
}

/// A label, compared with a value.
pub(super) struct Matcher<'a> {
    /// The label as it is written, without quotes.
    pub(super) label: &'a str,
    /// `=`, `!=`, `=~` or `!~`.
    pub(super) operator: &'static str,
    pub(super) value: Quoted<'a>,
}

/// A string as it is written.
#[derive(Clone, Copy)]
pub(super) struct Quoted<'a> {
    pub(super) quote: char,
    /// What is between the quotes, with its escapes.
    pub(super) inside: &'a str,
    /// The byte at which the inside begins.
    pub(super) at: usize,
}

impl Item<'_> {
    /// Whether it leaves fewer series than there are.
    pub(super) fn narrows(&self) -> bool {
        let Self::Matcher(Matcher { operator, value, .. }) = self else { return true };
        match *operator {
            "=" => !value.inside.is_empty(),
            "=~" => !matches!(value.inside, "" | ".*"),
            _ => false,
        }
    }
}

pub(super) fn is_label_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

pub(super) fn is_label_byte(c: char) -> bool {
    is_label_start(c) || c.is_ascii_digit()
}

pub(super) fn is_metric_start(c: char) -> bool {
    is_label_start(c) || c == ':'
}

pub(super) fn is_metric_byte(c: char) -> bool {
    is_label_byte(c) || c == ':'
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`')
}

impl<'a> Cursor<'a> {
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn advance(&mut self, c: char) {
        self.at += c.len_utf8();
    }

    pub(super) fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.advance(wanted);
        }
        found
    }

    pub(super) fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    pub(super) fn word(&mut self, start: fn(char) -> bool, inside: fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        if !rest.starts_with(start) {
            return "";
        }
        let end = rest.find(|c| !inside(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    pub(super) fn complaint(&self, what: &str) -> String {
        let near: String = self.rest().chars().take(16).flat_map(char::escape_debug).collect();
        format!("{what} `{near}` at byte {}", self.at)
    }

    /// The matchers behind `{` up to and with `}`, each handed to `take`.
    pub(super) fn matchers(
        &mut self,
        mut take: impl FnMut(Item<'a>, &Self) -> Result<(), String>,
    ) -> Result<(), String> {
        loop {
            self.space();
            if self.eat('}') {
                return Ok(());
            }
            let item = self.matcher()?;
            take(item, self)?;
            self.space();
            if !self.eat(',') {
                if self.eat('}') {
                    return Ok(());
                }
                return Err(self.complaint("expected `,` or `}` before"));
            }
        }
    }

    /// One matcher, or a quoted metric name.
    fn matcher(&mut self) -> Result<Item<'a>, String> {
        let quoted = self.peek().is_some_and(is_quote);
        let label =
            if quoted { self.string()?.inside } else { self.word(is_label_start, is_label_byte) };
        if !quoted && label.is_empty() {
            return Err(self.complaint("expected a label name before"));
        }
        self.space();
        if quoted && matches!(self.peek(), Some(',' | '}')) {
            return Ok(Item::Name);
        }
        let operator = ["=~", "!~", "!=", "="]
            .into_iter()
            .find(|operator| self.rest().starts_with(operator))
            .ok_or_else(|| self.complaint("expected =, !=, =~ or !~ before"))?;
        self.at += operator.len();
        self.space();
        let value = self.string()?;
        Ok(Item::Matcher(Matcher { label, operator, value }))
    }

    /// A quoted string with its escapes.
    pub(super) fn string(&mut self) -> Result<Quoted<'a>, String> {
        let from = self.at;
        let Some(quote) = self.peek().filter(|c| is_quote(*c)) else {
            return Err(self.complaint("expected a quoted string before"));
        };
        self.advance(quote);
        let at = self.at;
        while let Some(c) = self.peek() {
            self.advance(c);
            if c == '\\' && quote != '`' {
                if let Some(escaped) = self.peek() {
                    self.advance(escaped);
                }
            } else if c == quote {
                let inside = self.text.get(at..self.at - 1).unwrap_or_default();
                return Ok(Quoted { quote, inside, at });
            } else if c == '\n' && quote != '`' {
                break;
            }
        }
        self.at = from;
        Err(self.complaint("the string is not closed:"))
    }
}
