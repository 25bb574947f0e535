//! The PromQL that a workload brings along (`podswell.dev/query`), narrowed to its own namespace.
//!
//! A server is asked with podswell's rights, so a workload could read everybody's series through it. Every
//! selector therefore gets a matcher on the label that holds the namespace; Prometheus takes all matchers of
//! a selector together, so no other one can widen it again. To know every selector for certain, the whole
//! expression is read here, and what this grammar does not know is refused.
//!
//! Grammar: <https://prometheus.io/docs/prometheus/latest/querying/basics/>, without subqueries, `offset` and
//! `@`, which ask for the past, and without comments.

use std::time::Duration;

use super::cursor::{
    Cursor, Item, Matcher, Quoted, is_label_byte, is_label_start, is_metric_byte, is_metric_start,
};
use crate::core::text::{did_you_mean, shown};

/// The most bytes of a query.
pub const MAX_BYTES: usize = 2048;
/// The most selectors of a query, and how deep its parentheses may go.
const MAX_SELECTORS: usize = 8;
const MAX_DEPTH: usize = 16;

/// Whose query it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant<'a> {
    /// The label of the server's series that holds the namespace.
    pub label: &'a str,
    /// The workload's namespace.
    pub namespace: &'a str,
    /// Its Deployment.
    pub deployment: &'a str,
}

/// A query that sees the series of one namespace only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NarrowQuery {
    /// What the server is asked.
    pub text: String,
    /// What it is asked about earlier moments: the same, but a sample that was stale by then counts for
    /// nothing. A server that was away would else fill that time with its last numbers.
    pub past: String,
    /// The longest range in it: each of its numbers says something about so long a time.
    pub range: Option<Duration>,
}

/// Why a query is not asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It reaches for the series of another namespace.
    #[error(
        "asks for {label}{operator}{value}, but a query sees the series of its own namespace only"
    )]
    Foreign {
        /// The label that holds the namespace.
        label: String,
        /// How it is compared.
        operator: &'static str,
        /// With what, in quotes.
        value: String,
    },
    /// It is no PromQL, or more of it than is allowed here.
    #[error("{0}")]
    Invalid(String),
}

const AGGREGATIONS: [&str; 12] = [
    "avg",
    "bottomk",
    "count",
    "count_values",
    "group",
    "max",
    "min",
    "quantile",
    "stddev",
    "stdvar",
    "sum",
    "topk",
];

/// Words that are no names of metrics, besides those of aggregations.
const KEYWORDS: [&str; 16] = [
    "and",
    "atan2",
    "bool",
    "by",
    "end",
    "group_left",
    "group_right",
    "ignoring",
    "inf",
    "limit_ratio",
    "limitk",
    "nan",
    "offset",
    "on",
    "or",
    "without",
];

const FUNCTIONS: &[&str] = &[
    "abs",
    "absent",
    "absent_over_time",
    "avg_over_time",
    "ceil",
    "changes",
    "clamp",
    "clamp_max",
    "clamp_min",
    "count_over_time",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "delta",
    "deriv",
    "exp",
    "floor",
    "histogram_avg",
    "histogram_count",
    "histogram_fraction",
    "histogram_quantile",
    "histogram_sum",
    "hour",
    "idelta",
    "increase",
    "irate",
    "label_join",
    "label_replace",
    "last_over_time",
    "ln",
    "log10",
    "log2",
    "max_over_time",
    "min_over_time",
    "minute",
    "month",
    "predict_linear",
    "present_over_time",
    "quantile_over_time",
    "rate",
    "resets",
    "round",
    "scalar",
    "sgn",
    "sort",
    "sort_desc",
    "sqrt",
    "stddev_over_time",
    "stdvar_over_time",
    "sum_over_time",
    "time",
    "timestamp",
    "vector",
    "year",
];

/// Operators, longer ones first.
const OPERATORS: [&str; 12] = ["==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "^", ">", "<"];

/// Reads a query and narrows it to the namespace of its workload. `$namespace` and `$deployment` in the
/// values of matchers are replaced, escaped as the place needs it.
///
/// `stale_after` – how old a sample may be that counts at an earlier moment.
///
/// # Errors
/// The first thing that is wrong.
pub fn narrow(
    text: &str,
    tenant: Tenant<'_>,
    stale_after: Duration,
) -> Result<NarrowQuery, QueryError> {
    if text.len() > MAX_BYTES {
        return Err(invalid(format!("is longer than {MAX_BYTES} bytes")));
    }
    let cursor = Cursor { text, at: 0 };
    let mut reader = Reader {
        cursor,
        tenant,
        out: String::new(),
        copied: 0,
        selectors: 0,
        depth: 0,
        range: None,
        instants: Vec::new(),
        asks_for_stamps: false,
    };
    reader.expression()?;
    reader.cursor.space();
    if reader.cursor.at < text.len() {
        return Err(reader.complaint("an operator should stand before"));
    }
    reader.copy_up_to(text.len());
    let past = reader.of_the_past(stale_after);
    Ok(NarrowQuery { text: reader.out, past, range: reader.range })
}

fn invalid(why: impl Into<String>) -> QueryError {
    QueryError::Invalid(why.into())
}

/// A recursive descent; precedence does not matter, because nothing is evaluated.
struct Reader<'a> {
    cursor: Cursor<'a>,
    tenant: Tenant<'a>,
    out: String,
    /// Up to which byte the text is in `out`.
    copied: usize,
    selectors: usize,
    depth: usize,
    range: Option<Duration>,
    /// Where selectors without a range stand in `out`, first byte and first byte behind.
    instants: Vec<(usize, usize)>,
    /// Whether the times of samples are asked for, which a function over a range would change.
    asks_for_stamps: bool,
}

impl<'a> Reader<'a> {
    fn complaint(&self, what: &str) -> QueryError {
        invalid(self.cursor.complaint(what))
    }

    fn copy_up_to(&mut self, at: usize) {
        self.out.push_str(self.cursor.text.get(self.copied..at).unwrap_or_default());
        self.copied = at;
    }

    /// The query with no sample older than `stale_after` in it.
    fn of_the_past(&self, stale_after: Duration) -> String {
        let range = format!("[{}ms])", stale_after.as_millis().max(1));
        let mut past = String::new();
        let mut copied = 0;
        for (from, to) in &self.instants {
            let part = |from: usize, to: usize| self.out.get(from..to).unwrap_or_default();
            past.extend([part(copied, *from), "last_over_time(", part(*from, *to), &range]);
            copied = *to;
        }
        past.push_str(self.out.get(copied..).unwrap_or_default());
        past
    }

    /// The next character that is no space.
    fn next(&mut self) -> Option<char> {
        self.cursor.space();
        self.cursor.peek()
    }

    fn expect(&mut self, wanted: char) -> Result<(), QueryError> {
        self.cursor.space();
        if self.cursor.eat(wanted) {
            return Ok(());
        }
        Err(self.complaint(&format!("expected `{wanted}` before")))
    }

    /// The next word in lower case, as Prometheus reads its keywords, without taking it.
    fn keyword(&mut self) -> String {
        self.cursor.space();
        let at = self.cursor.at;
        let word = self.cursor.word(is_metric_start, is_metric_byte).to_ascii_lowercase();
        self.cursor.at = at;
        word
    }

    fn take_keyword(&mut self, words: &[&str]) -> bool {
        let word = self.keyword();
        let found = words.contains(&word.as_str());
        if found {
            self.cursor.at += word.len();
        }
        found
    }

    fn expression(&mut self) -> Result<(), QueryError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(invalid(format!("is nested more than {MAX_DEPTH} levels deep")));
        }
        self.signed_operand()?;
        while self.operator()? {
            self.signed_operand()?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// A binary operator with its modifiers, if there is one.
    fn operator(&mut self) -> Result<bool, QueryError> {
        self.cursor.space();
        let rest = self.cursor.rest();
        if let Some(symbol) = OPERATORS.iter().find(|symbol| rest.starts_with(**symbol)) {
            self.cursor.at += symbol.len();
        } else if !self.take_keyword(&["and", "or", "unless", "atan2"]) {
            return Ok(false);
        }
        self.take_keyword(&["bool"]);
        if self.take_keyword(&["on", "ignoring"]) {
            self.labels()?;
            if self.take_keyword(&["group_left", "group_right"]) && self.next() == Some('(') {
                self.labels()?;
            }
        }
        Ok(true)
    }

    fn signed_operand(&mut self) -> Result<(), QueryError> {
        while matches!(self.next(), Some('+' | '-')) {
            self.cursor.at += 1;
        }
        self.operand()
    }

    fn operand(&mut self) -> Result<(), QueryError> {
        match self.next() {
            Some('(') => {
                self.cursor.at += 1;
                self.expression()?;
                self.expect(')')
            }
            Some('{') => self.selector(),
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if is_metric_start(c) => self.named(),
            _ => Err(self.complaint("a metric, a number or a function should stand before")),
        }
    }

    fn number(&mut self) -> Result<(), QueryError> {
        let at = self.cursor.at;
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
        let mut number = self.cursor.word(inside, inside).to_owned();
        let is_hex = number.starts_with("0x") || number.starts_with("0X");
        if !is_hex && number.ends_with(['e', 'E']) && matches!(self.cursor.peek(), Some('+' | '-'))
        {
            self.cursor.at += 1;
            number.push('0');
            number.push_str(self.cursor.word(inside, inside));
        }
        let digits = number.replace('_', "");
        let hex = digits.get(2..).filter(|_| is_hex);
        let valid = match hex {
            Some(hex) => u64::from_str_radix(hex, 16).is_ok(),
            None => digits.parse::<f64>().is_ok() || duration(&digits).is_some(),
        };
        if valid {
            return Ok(());
        }
        self.cursor.at = at;
        Err(self.complaint("is no number:"))
    }

    /// What begins with a word: a number, an aggregation, a function or a selector.
    fn named(&mut self) -> Result<(), QueryError> {
        let (at, keyword) = (self.cursor.at, self.keyword());
        let word = self.cursor.word(is_metric_start, is_metric_byte);
        if matches!(keyword.as_str(), "inf" | "nan") {
            return Ok(());
        }
        let called = self.next() == Some('(');
        if AGGREGATIONS.contains(&keyword.as_str()) {
            return self.aggregation(at);
        }
        if called {
            if !FUNCTIONS.contains(&word) {
                self.cursor.at = at;
                let known = FUNCTIONS.iter().chain(&AGGREGATIONS).copied();
                let meant = did_you_mean(word, known);
                return Err(invalid(format!("there is no function {}{meant}", shown(word))));
            }
            let outside = self.asks_for_stamps;
            self.asks_for_stamps |= word == "timestamp";
            self.arguments()?;
            self.asks_for_stamps = outside;
            return Ok(());
        }
        self.cursor.at = at;
        if KEYWORDS.contains(&keyword.as_str()) || matches!(&*keyword, "unless" | "start") {
            return Err(self.complaint("a metric, a number or a function should stand before"));
        }
        self.selector()
    }

    fn aggregation(&mut self, at: usize) -> Result<(), QueryError> {
        let grouped = self.take_keyword(&["by", "without"]);
        if grouped {
            self.labels()?;
        }
        if self.next() != Some('(') {
            self.cursor.at = at;
            return Err(self.complaint("parentheses should follow the aggregation"));
        }
        self.arguments()?;
        if !grouped && self.take_keyword(&["by", "without"]) {
            self.labels()?;
        }
        Ok(())
    }

    fn arguments(&mut self) -> Result<(), QueryError> {
        self.expect('(')?;
        while self.next() != Some(')') {
            if matches!(self.next(), Some('"' | '\'' | '`')) {
                self.cursor.string().map_err(invalid)?;
            } else {
                self.expression()?;
            }
            if self.next() != Some(')') {
                self.expect(',')?;
            }
        }
        self.expect(')')
    }

    /// Names of labels in parentheses.
    fn labels(&mut self) -> Result<(), QueryError> {
        self.expect('(')?;
        while self.next() != Some(')') {
            if self.cursor.word(is_label_start, is_label_byte).is_empty() {
                return Err(self.complaint("expected the name of a label before"));
            }
            if self.next() != Some(')') {
                self.expect(',')?;
            }
        }
        self.expect(')')
    }

    /// A selector with its range. The matcher on the namespace is put in front of all others.
    fn selector(&mut self) -> Result<(), QueryError> {
        self.selectors += 1;
        if self.selectors > MAX_SELECTORS {
            return Err(invalid(format!("has more than {MAX_SELECTORS} selectors")));
        }
        self.copy_up_to(self.cursor.at);
        let begin = self.out.len();
        let name = self.cursor.word(is_metric_start, is_metric_byte);
        let end_of_name = self.cursor.at;
        let Tenant { label, namespace, .. } = self.tenant;
        let ours = format!("{label}=\"{}\"", escaped(namespace, '"'));
        if self.next() == Some('{') {
            self.cursor.at += 1;
            self.copy_up_to(self.cursor.at);
            self.out.push_str(&ours);
            self.out.push(',');
            self.matchers(!name.is_empty())?;
            self.copy_up_to(self.cursor.at);
        } else {
            self.cursor.at = end_of_name;
            self.copy_up_to(end_of_name);
            self.out.extend(["{", &ours, "}"]);
        }
        let end = self.out.len();
        if self.next() == Some('[') {
            self.range_of_selector()?;
        } else if !self.asks_for_stamps {
            self.instants.push((begin, end));
        }
        if self.next() == Some('@') || self.keyword() == "offset" {
            return Err(self.complaint("a query asks for now, not for another time:"));
        }
        Ok(())
    }

    /// The matchers behind `{`; those on the namespace have to name the workload's own.
    fn matchers(&mut self, mut named: bool) -> Result<(), QueryError> {
        let mut found = Vec::new();
        let read = self.cursor.matchers(|item, cursor| {
            match item {
                Item::Name if std::mem::replace(&mut named, true) => {
                    return Err(cursor.complaint("a second metric name before"));
                }
                Item::Name => {}
                Item::Matcher(matcher) => found.push(matcher),
            }
            Ok(())
        });
        read.map_err(invalid)?;
        for Matcher { label, operator, value } in found {
            if label.contains('\\') {
                return Err(invalid(format!("the label {} holds an escape", shown(label))));
            }
            let replaced = self.with_names(value, operator);
            self.copy_up_to(value.at);
            if label == self.tenant.label && (operator != "=" || replaced != self.tenant.namespace)
            {
                return Err(QueryError::Foreign {
                    label: label.to_owned(),
                    operator,
                    value: shown(value.inside),
                });
            }
            self.out.push_str(&replaced);
            self.copied = value.at + value.inside.len();
        }
        Ok(())
    }

    /// The inside of a string with `$namespace` and `$deployment` replaced.
    fn with_names(&self, value: Quoted<'a>, operator: &str) -> String {
        let mut text = String::new();
        let mut rest = value.inside;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            let end = after.find(|c| !is_label_byte(c)).unwrap_or(after.len());
            let (word, behind) = after.split_at_checked(end).unwrap_or((after, ""));
            let name = match word {
                "namespace" => Some(self.tenant.namespace),
                "deployment" => Some(self.tenant.deployment),
                _ => None,
            };
            let Some(name) = name else {
                text.push('$');
                rest = after;
                continue;
            };
            let literal = if operator.contains('~') { of_regex(name) } else { name.to_owned() };
            text.push_str(&escaped(&literal, value.quote));
            rest = behind;
        }
        text.push_str(rest);
        text
    }

    /// `[5m]`; a subquery is refused.
    fn range_of_selector(&mut self) -> Result<(), QueryError> {
        self.expect('[')?;
        self.cursor.space();
        let at = self.cursor.at;
        let inside = |c: char| c.is_ascii_alphanumeric();
        let Some(range) = duration(self.cursor.word(inside, inside)) else {
            self.cursor.at = at;
            return Err(self.complaint("expected a range such as 1m before"));
        };
        if self.next() == Some(':') {
            return Err(self.complaint("subqueries are not asked:"));
        }
        self.range = self.range.max(Some(range));
        self.expect(']')
    }
}

/// A text as it stands between such quotes.
fn escaped(text: &str, quote: char) -> String {
    if quote == '`' {
        // Names of Kubernetes hold none; one that did would end the string.
        return text.replace('`', "");
    }
    text.replace('\\', "\\\\").replace(quote, &format!("\\{quote}")).replace('\n', "\\n")
}

/// A regular expression that matches this text only.
fn of_regex(text: &str) -> String {
    let mut expression = String::new();
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            expression.push('\\');
        }
        expression.push(c);
    }
    expression
}

/// A duration as PromQL spells it: `1h30m`, above zero.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, behind) = after.split_at_checked(letters)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "y" => 365 * 86_400_000,
            _ => return None,
        };
        let span = number.parse::<u64>().ok()?.checked_mul(millis)?;
        sum = sum.checked_add(Duration::from_millis(span))?;
        rest = behind;
    }
    Some(sum).filter(|sum| !sum.is_zero())
}

#[cfg(test)]
mod tests;
