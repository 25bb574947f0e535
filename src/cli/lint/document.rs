//! The YAML documents of a file, each with the place where it begins, so that a finding can name a line.

use std::collections::BTreeMap;

use serde_json::Value;

/// One document of a file.
pub(super) struct Document {
    /// The file as it was named.
    pub(super) file: String,
    /// The line of the file on which the document begins, from 1.
    first: usize,
    text: String,
    pub(super) value: Value,
}

/// Why a part of a file is no document.
pub(super) struct Unreadable {
    pub(super) line: usize,
    pub(super) why: String,
}

/// Splits a file at its `---` lines and parses every part.
pub(super) fn split(file: &str, text: &str) -> Vec<Result<Document, Unreadable>> {
    let mut parts: Vec<(usize, String)> = vec![(1, String::new())];
    for (at, line) in text.lines().enumerate() {
        let separator = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r']));
        if separator {
            // Content may follow on the same line; it keeps its place as a line of its own.
            let rest = line.get(3..).unwrap_or_default();
            parts.push((at + 1, format!("{rest}\n")));
        } else if let Some((_, part)) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    parts.into_iter().filter_map(|(first, text)| parse(file, first, text)).collect()
}

/// `None` where there is nothing but comments and space.
fn parse(file: &str, first: usize, text: String) -> Option<Result<Document, Unreadable>> {
    let is_empty = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(is_empty) {
        return None;
    }
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        with_snippet: false,
    };
    let parsed = serde_saphyr::from_str_with_options::<Value>(&text, options);
    Some(match parsed {
        Ok(Value::Null) => return None,
        Ok(value) => Ok(Document { file: file.to_owned(), first, text, value }),
        Err(error) => {
            let within =
                error.location().and_then(|location| usize::try_from(location.line()).ok());
            let shown = error.without_snippet().to_string();
            let why = shown.rsplit_once(" at line ").map_or(shown.as_str(), |(why, _)| why);
            let why = why.split(", set DuplicateKeyPolicy").next().unwrap_or_default();
            Err(Unreadable { line: first + within.unwrap_or(1) - 1, why: why.to_owned() })
        }
    })
}

impl Document {
    /// The line of the file on which `key` stands as a key, if that is only one line.
    pub(super) fn line_of(&self, key: &str) -> Option<usize> {
        let only = |is_meant: &dyn Fn(&str) -> bool| {
            let mut lines = self.text.lines().enumerate().filter(|(_, line)| is_meant(line));
            let (at, _) = lines.next()?;
            lines.next().is_none().then_some(self.first + at)
        };
        let within = [format!(" {key}:"), format!("{{{key}:"), format!("\"{key}\":")];
        only(&|line| is_key(line, key))
            .or_else(|| only(&|line| within.iter().any(|text| line.contains(text))))
    }

    /// The first line of the file on which something has this name.
    pub(super) fn line_naming(&self, name: &str) -> Option<usize> {
        let named = |line: &str| {
            let value = line.split_once("name:").or_else(|| line.split_once("\"name\":"));
            let rest = value.map(|(_, rest)| rest.trim_start().trim_start_matches(['"', '\'']));
            rest.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| {
                !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
            })
        };
        self.text.lines().position(named).map(|at| self.first + at)
    }

    /// The line of the file that is line `within` (from 1) of the block of text under `key`.
    pub(super) fn line_within(&self, key: &str, within: Option<u64>) -> Option<usize> {
        let line = self.line_of(key)?;
        let text = self.text.lines().nth(line - self.first)?;
        let value = text.split_once(':')?.1.trim_start();
        let within = within.and_then(|within| usize::try_from(within).ok());
        Some(if value.starts_with('|') { line + within.unwrap_or(0) } else { line })
    }

    /// The line of the file that is line `within` (from 1) of the document itself.
    pub(super) fn line_at(&self, within: Option<u64>) -> usize {
        let within = within.and_then(|within| usize::try_from(within).ok()).unwrap_or(1);
        self.first + within.max(1) - 1
    }

    /// The text of the document.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

fn is_key(line: &str, key: &str) -> bool {
    let rest = line.trim_start().trim_start_matches(['-', '{', ' ', '"', '\'']);
    rest.strip_prefix(key)
        .is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
}

/// A map of strings below `pointer`; what is no string is named in the second part.
pub(super) fn strings(value: &Value, pointer: &str) -> (BTreeMap<String, String>, Vec<String>) {
    let (mut texts, mut others) = (BTreeMap::new(), Vec::new());
    let Some(map) = value.pointer(pointer).and_then(Value::as_object) else {
        return (texts, others);
    };
    for (key, value) in map {
        match value {
            Value::String(text) => {
                texts.insert(key.clone(), text.clone());
            }
            _ => others.push(key.clone()),
        }
    }
    (texts, others)
}
