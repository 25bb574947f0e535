//! From the text of a file to a scenario, with the line of whatever is wrong.

use serde::{Deserialize, Serialize};

use super::load::{Part, Point, Recorded};
use super::values::Span;
use super::{MOST_COPIES, Scenario};
use crate::core::defaults::ClusterDefaults;
use crate::core::keys::{KEYS, Key};
use crate::core::text::{did_you_mean, shown};

/// The most bytes of a scenario.
const MOST_BYTES: usize = 1024 * 1024;
/// The most seconds of all copies together.
const MOST_STEPS: u64 = 100_000_000;
/// The most points of a recorded load.
const MOST_POINTS: usize = 5_000_000;

/// Why a text is not a scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{why}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct ScenarioError {
    /// The line, from 1, where it is known.
    pub line: Option<u64>,
    /// What is wrong there, naming the key.
    pub why: String,
}

impl ScenarioError {
    /// What the parser says, in the words of who writes scenarios, with the key that it is about.
    fn of(text: &str, error: &serde_saphyr::Error) -> Self {
        let shown = error.without_snippet().to_string();
        let why = shown.rsplit_once(" at line ").map_or(shown.as_str(), |(why, _)| why);
        let place = error.location().map(|location| (location.line(), location.column()));
        let line = place.map(|(line, _)| line);
        if text.lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#')) {
            return Self { line: None, why: "holds no scenario".to_owned() };
        }
        // A second document has no key of the scenario.
        let is_second = why.starts_with("multiple YAML documents");
        let key = place.filter(|_| !is_second).and_then(|place| key_at(text, place, why));
        let why = in_plain_words(why);
        let why = key.map_or_else(|| why.clone(), |key| format!("{key}: {why}"));
        Self { line, why }
    }
}

/// The parser's words, as far as they speak of its own inside.
fn in_plain_words(why: &str) -> String {
    let whole = |most: u64| format!("must be a whole number in 0 ..= {most}");
    match why {
        "invalid u16" => whole(u16::MAX.into()),
        "invalid u32" => whole(u32::MAX.into()),
        "invalid u64" => whole(u64::MAX),
        "expected mapping start" => "must be a mapping".to_owned(),
        "expected sequence start" => "must be a list".to_owned(),
        "expected string scalar" => "must be text".to_owned(),
        "expected end of mapping after enum variant value" => {
            "only one kind may stand here; the next one is a list item of its own".to_owned()
        }
        "unexpected end of input" => "the text ends too early".to_owned(),
        why if why.starts_with("invalid boolean") => "must be true or false".to_owned(),
        why if why.starts_with("multiple YAML documents") => {
            "a second document begins here".to_owned()
        }
        why if why.starts_with("non-finite float") => "must be a finite number".to_owned(),
        why => why.split(", set DuplicateKeyPolicy").next().unwrap_or_default().to_owned(),
    }
}

impl Scenario {
    /// Parses and checks a scenario. `read` gives the text of a file that the scenario names.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line and key.
    pub fn parse(
        text: &str,
        read: &mut dyn FnMut(&str) -> Result<String, String>,
    ) -> Result<Self, ScenarioError> {
        if text.len() > MOST_BYTES {
            return Err(ScenarioError {
                line: None,
                why: format!("larger than {MOST_BYTES} bytes"),
            });
        }
        let options = serde_saphyr::options! {
            duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
            merge_keys: serde_saphyr::MergeKeyPolicy::Error,
            strict_booleans: true,
            with_snippet: false,
        };
        let mut scenario: Self = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| ScenarioError::of(text, &error))?;
        let at = |key: &str| line_of(text, key);
        scenario
            .check()
            .map_err(|(key, why)| ScenarioError { line: at(key), why: format!("{key}: {why}") })?;
        scenario
            .check_names()
            .map_err(|(key, why)| ScenarioError { line: at(&key), why: format!("{key}: {why}") })?;
        scenario.check_beginnings(text)?;
        for part in &mut scenario.load {
            attach(part, read).map_err(|(file, why)| ScenarioError {
                line: line_holding(text, &file),
                why: format!("file: {}: {why}", shown(&file)),
            })?;
        }
        Ok(scenario)
    }

    /// The scenario as YAML that [`Scenario::parse`] reads back.
    ///
    /// # Errors
    /// Never in practice: a scenario is made of strings and numbers.
    pub fn to_yaml(&self) -> Result<String, String> {
        serde_saphyr::to_string(self).map_err(|error| error.to_string())
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        let whole = |key, span: Span, least: u64, most: u64| {
            let seconds = span.0.as_secs();
            let fits = span.0.subsec_nanos() == 0 && (least..=most).contains(&seconds);
            fits.then_some(())
                .ok_or_else(|| (key, format!("must be whole seconds in {least}s ..= {most}s")))
        };
        if self.about.trim().is_empty() {
            return Err(("about", "must say what the scenario shows".to_owned()));
        }
        whole("duration", self.duration, 1, 60 * 24 * 3600)?;
        whole("interval", self.source.interval, 1, 60)?;
        if !(1..=MOST_COPIES).contains(&self.target.copies) {
            return Err(("copies", format!("must be in 1 ..= {MOST_COPIES}")));
        }
        let steps = self.duration.0.as_secs().saturating_mul(u64::from(self.target.copies));
        if steps > MOST_STEPS {
            return Err(("duration", format!("times copies is above {MOST_STEPS} seconds")));
        }
        if self.load.is_empty() {
            return Err(("load", "needs at least one part".to_owned()));
        }
        if self.service.mean().as_millis() < 1 {
            return Err(("service", "must be at least 1ms".to_owned()));
        }
        if self.cluster.capacity.is_some_and(|capacity| capacity.0 < 0.01) {
            return Err(("capacity", "must be at least 0.01".to_owned()));
        }
        let spans = [("range", self.source.range), ("stale_after", self.source.stale_after)];
        let is_zero = |span: Option<Span>| span.is_some_and(|span| span.0.is_zero());
        if let Some((key, _)) = spans.into_iter().find(|&(_, span)| is_zero(span)) {
            return Err((key, "must be above 0s".to_owned()));
        }
        self.check_policies()
    }

    /// Every key of the ConfigMap is one of Knative's or podswell's, and every annotation that is meant for
    /// podswell says so.
    fn check_names(&self) -> Result<(), (String, String)> {
        let known: Vec<&str> = KEYS.iter().filter_map(Key::config_map_key).collect();
        if let Some(key) = self.config.keys().find(|key| !known.contains(&key.as_str())) {
            let meant = did_you_mean(key, known.iter().copied());
            return Err((key.clone(), format!("is no key of config-autoscaler{meant}")));
        }
        ClusterDefaults::parse(&self.config).map_err(|why| {
            let key = if self.config.contains_key(why.key()) { why.key() } else { "config" };
            (key.to_owned(), why.to_string())
        })?;
        for key in self.target.annotations.keys() {
            if let Some(meant) = KEYS.iter().find(|k| k.is_annotation() && k.name == key) {
                return Err((key.clone(), format!("is written {} here", meant.annotation())));
            }
        }
        Ok(())
    }

    /// Nothing begins when the scenario is over: it would be played as if it did not stand there.
    fn check_beginnings(&self, text: &str) -> Result<(), ScenarioError> {
        let late = |list, late: Option<Late>| {
            late.map_or(Ok(()), |Late { kind, number, at }| {
                let end = self.duration;
                let why = format!("{kind}: begins at {at}, but the scenario ends at {end}");
                Err(ScenarioError { line: line_of_item(text, list, &kind, number), why })
            })
        };
        late("load", first_late(&self.load, self.duration))?;
        late("faults", first_late(&self.faults, self.duration))
    }

    /// Takes away what begins when the scenario is over, and so does nothing.
    pub(crate) fn forget_latecomers(&mut self) {
        let end = self.duration;
        self.load.retain(|part| first_late(std::slice::from_ref(part), end).is_none());
        self.faults.retain(|fault| first_late(std::slice::from_ref(fault), end).is_none());
    }

    fn check_policies(&self) -> Result<(), (&'static str, String)> {
        let names: Vec<String> = self.policies.iter().map(super::Autoscaler::name).collect();
        for (at, name) in names.iter().enumerate() {
            if names.iter().take(at).any(|other| other == name) {
                return Err((
                    "policies",
                    format!("two are called {}; name one of them", shown(name)),
                ));
            }
        }
        if let Some(name) = self.expect.keys().find(|name| !names.contains(name)) {
            return Err(("expect", format!("no policy is called {}", shown(name))));
        }
        if names.is_empty() {
            return Err(("policies", "needs at least one".to_owned()));
        }
        Ok(())
    }
}

/// An item of a list that begins too late: its kind, how many of that kind stand before it, and when.
struct Late {
    kind: String,
    number: usize,
    at: Span,
}

/// The first item that begins when `end` is reached, of parts of the load or of faults.
fn first_late<T: Serialize>(items: &[T], end: Span) -> Option<Late> {
    let items: Vec<(String, Span)> = items.iter().filter_map(beginning).collect();
    let (place, (kind, at)) = items.iter().enumerate().find(|(_, (_, at))| *at >= end)?;
    let number = items.iter().take(place).filter(|(other, _)| other == kind).count();
    Some(Late { kind: kind.clone(), number, at: *at })
}

/// The kind of an item, and when it begins: what its key `at` says.
fn beginning<T: Serialize>(item: &T) -> Option<(String, Span)> {
    let value = serde_json::to_value(item).ok()?;
    let (kind, options) = value.as_object()?.iter().next()?;
    let at = options.get("at").cloned().map_or_else(|| Ok(Span::default()), serde_json::from_value);
    Some((kind.clone(), at.ok()?))
}

/// A file and what is wrong with it.
type FileError = (String, String);

/// From the text of a file to its points.
type Parse = fn(&str) -> Result<Vec<Point>, String>;

fn attach(
    part: &mut Part,
    read: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<(), FileError> {
    let (recorded, parse): (&mut Recorded, Parse) = match part {
        Part::Csv(recorded) => (recorded, csv),
        Part::Prometheus(recorded) => (recorded, prometheus),
        _ => return Ok(()),
    };
    let failed = |why: String| (recorded.file.clone(), why);
    let text = read(&recorded.file).map_err(failed)?;
    let points = parse(&text).map_err(failed)?;
    checked(&points).map_err(failed)?;
    recorded.points = points;
    Ok(())
}

fn checked(points: &[Point]) -> Result<(), String> {
    if points.is_empty() {
        return Err("holds no point".to_owned());
    }
    if points.len() > MOST_POINTS {
        return Err(format!("holds more than {MOST_POINTS} points"));
    }
    for (before, after) in points.iter().zip(points.iter().skip(1)) {
        if after.at_s <= before.at_s {
            return Err(format!("time does not rise after {} s", before.at_s));
        }
    }
    match points.iter().find(|point| !point.value.is_finite() || point.value < 0.0) {
        Some(point) => Err(format!("{} at {} s is not a load", point.value, point.at_s)),
        None => Ok(()),
    }
}

/// Lines of `seconds,level`; one heading may stand in front, `#` starts a comment.
fn csv(text: &str) -> Result<Vec<Point>, String> {
    let mut points: Vec<Point> = Vec::new();
    let mut headings = 0;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut cells = line.split(',').map(|cell| cell.trim().parse::<f64>());
        match (cells.next(), cells.next()) {
            (Some(Ok(at_s)), Some(Ok(value))) => points.push(Point { at_s, value }),
            _ if points.is_empty() && headings == 0 => headings += 1,
            _ => return Err(format!("line {} is not `seconds,level`", at + 1)),
        }
    }
    Ok(from_zero(points))
}

fn from_zero(mut points: Vec<Point>) -> Vec<Point> {
    let first = points.first().map_or(0.0, |point| point.at_s);
    for point in &mut points {
        point.at_s -= first;
    }
    points
}

#[derive(Deserialize)]
struct RangeAnswer {
    data: RangeData,
}

#[derive(Deserialize)]
struct RangeData {
    result: Vec<RangeSeries>,
}

#[derive(Deserialize)]
struct RangeSeries {
    values: Vec<(f64, String)>,
}

fn prometheus(text: &str) -> Result<Vec<Point>, String> {
    let answer: RangeAnswer =
        serde_json::from_str(text).map_err(|why| format!("is no range answer: {why}"))?;
    let [series] = answer.data.result.as_slice() else {
        return Err(format!("holds {} series instead of one", answer.data.result.len()));
    };
    let points = series.values.iter().map(|(at_s, value)| {
        value
            .parse()
            .map(|value| Point { at_s: *at_s, value })
            .map_err(|_why| format!("{} is no number", shown(value)))
    });
    Ok(from_zero(points.collect::<Result<_, _>>()?))
}

/// The key to which the value at a place (line and column, from 1) belongs, or that of the mapping in
/// which something is missing or too much.
fn key_at<'a>(text: &'a str, (line, column): (u64, u64), why: &str) -> Option<&'a str> {
    let at = usize::try_from(line).ok()?.checked_sub(1)?;
    let lines: Vec<&str> = text.lines().take(at + 1).collect();
    let last = *lines.last()?;
    let column = usize::try_from(column).ok()?.checked_sub(1)?;
    let split = last.char_indices().nth(column).map_or(last.len(), |(at, _)| at);
    let (before, value) = last.split_at_checked(split)?;
    let is_of_a_kind = why.starts_with("invalid type");
    if let Some(own) = key_of(value).filter(|_| is_of_a_kind) {
        return Some(own);
    }
    innermost_key(before).or_else(|| {
        // The mapping was opened further up, where lines stand further to the left.
        let indent = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
        let mut left = indent(last);
        if before.trim_matches([' ', '-']).is_empty() && left == 0 {
            return None;
        }
        lines.iter().rev().skip(1).find_map(|line| {
            let is_outer = !line.trim().is_empty() && indent(line) < left;
            left = if is_outer { indent(line) } else { left };
            key_of(line.trim_start_matches([' ', '-', '{'])).filter(|_| is_outer)
        })
    })
}

/// The key that a text begins with.
fn key_of(text: &str) -> Option<&str> {
    let (key, _) = text.split_once(':')?;
    let key = key.trim_matches('"');
    let is_key = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    (!key.is_empty() && key.chars().all(is_key)).then_some(key)
}

/// The key whose value, or whose mapping's inside, follows on a line that begins so.
fn innermost_key(before: &str) -> Option<&str> {
    // For each open bracket the key before it; the last one is what follows now.
    let mut open: Vec<Option<&str>> = vec![None];
    let mut start = 0;
    for (at, c) in before.char_indices() {
        match c {
            ':' if before
                .get(at + 1..)
                .is_none_or(|rest| rest.is_empty() || rest.starts_with(' ')) =>
            {
                let key = before.get(start..at)?.trim_matches([' ', '-', '"', '\'']);
                *open.last_mut()? = Some(key);
            }
            '{' | '[' => open.push(None),
            '}' | ']' if open.len() > 1 => {
                open.pop();
            }
            ',' => *open.last_mut()? = None,
            _ => continue,
        }
        start = at + 1;
    }
    open.into_iter().rev().flatten().next()
}

/// The first line on which `key` stands as a key.
fn line_of(text: &str, key: &str) -> Option<u64> {
    place(text, |line| keys_in(line, key) > 0)
}

/// The line of the item of a list that has `number` of its kind before it.
fn line_of_item(text: &str, list: &str, kind: &str, number: usize) -> Option<u64> {
    let begins = text.lines().position(|line| keys_in(line, list) > 0)?;
    let mut before = 0;
    let place = text.lines().skip(begins).position(|line| {
        before += keys_in(line, kind);
        before > number
    });
    u64::try_from(begins + place? + 1).ok()
}

/// How often `key` stands as a key on a line.
fn keys_in(line: &str, key: &str) -> usize {
    let is_key = |at: usize| {
        line.get(..at)
            .is_some_and(|before| before.is_empty() || before.ends_with([' ', '{', ',', '-', '"']))
    };
    line.match_indices(&format!("{key}:")).filter(|(at, _)| is_key(*at)).count()
}

fn line_holding(text: &str, words: &str) -> Option<u64> {
    place(text, |line| line.contains(words))
}

fn place(text: &str, is_meant: impl Fn(&&str) -> bool) -> Option<u64> {
    let at = text.lines().position(|line| is_meant(&line))?;
    u64::try_from(at + 1).ok()
}

/// The JSON schema of a scenario, indented, with a final newline.
///
/// # Errors
/// Never in practice: the schema is made of strings and numbers.
pub fn schema_json() -> Result<String, serde_json::Error> {
    let schema = schemars::schema_for!(Scenario);
    serde_json::to_string_pretty(&schema).map(|text| text + "\n")
}
