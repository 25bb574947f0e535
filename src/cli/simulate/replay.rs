//! `--replay`: a recording through the engine again, with what was recorded and with another setting.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::Failure;
use super::files::{self, BadInput};
use super::sweep::pair;
use crate::cli::print;
use crate::core::text::columns;
use crate::sim::replay::{Replay, ReplayError, Replayed, replay};

/// Replays the parts of a recording, the oldest first, and says what came out; ends with failure if a
/// decision did not come out again although the recording is complete.
pub(super) fn run(files: &[PathBuf], set: &[String]) -> Result<ExitCode, Failure> {
    let set = set
        .iter()
        .map(|text| pair(text).map(|(key, value)| (key, value.to_owned())))
        .collect::<Result<BTreeMap<_, _>, _>>()?;
    let mut parts = Vec::new();
    for file in files {
        let shown = file.display().to_string();
        let text = files::read(file).map_err(|why| BadInput::new(&shown, &why))?;
        parts.push((shown, text));
    }
    let texts: Vec<&str> = parts.iter().map(|(_, text)| text.as_str()).collect();
    let replayed = replay(&in_a_row(&texts), &set).map_err(|ReplayError { line, why }| {
        let (part, line) = place(&texts, line);
        let file = parts.get(part).map_or("", |(shown, _)| shown);
        BadInput::new(&format!("{file}:{line}"), &why)
    })?;
    print(&report(&replayed))?;
    let (_, different) = replayed.counts();
    Ok(if different == 0 || !replayed.complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The parts as one text. Only the last one may end in the middle of a line.
fn in_a_row(parts: &[&str]) -> String {
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(part);
    }
    text
}

/// The part in which a line of the whole stands, and its line there, from 1.
fn place(parts: &[&str], line: usize) -> (usize, usize) {
    let mut left = line;
    for (part, text) in parts.iter().enumerate() {
        let lines = text.lines().count();
        if left <= lines || part + 1 == parts.len() {
            return (part, left);
        }
        left -= lines;
    }
    (0, line)
}

fn report(replayed: &Replay) -> String {
    let mut rows = vec![
        ["TARGET", "DECISIONS", "DIFFERENT", "MOST", "POD-S", "WRITES"].map(str::to_owned).to_vec(),
    ];
    for (target, was) in &replayed.targets {
        rows.push(row(&target.to_string(), was, true));
        if let Some(other) = replayed.otherwise.get(target) {
            rows.push(row("  with the other setting", other, false));
        }
    }
    let mut text = columns(&rows);
    let (all, different) = replayed.counts();
    let events = replayed.events;
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "\n{events} facts over {:.1} s; {} of {all} decisions came out again",
        replayed.span_s,
        all - different,
    );
    for line in replayed.first_difference.iter().map(|first| format!("first difference: {first}")) {
        let _ = writeln!(text, "{line}");
    }
    for remark in &replayed.remarks {
        let _ = writeln!(text, "{remark}");
    }
    if !replayed.otherwise.is_empty() {
        text.push_str(
            "The other setting decided on the load, pods and replicas of the recording.\n",
        );
    }
    text
}

fn row(name: &str, books: &Replayed, compared: bool) -> Vec<String> {
    let count = |value: u64| if compared { value.to_string() } else { "-".to_owned() };
    vec![
        name.to_owned(),
        count(books.decisions),
        count(books.different),
        books.most.to_string(),
        format!("{:.0}", books.pod_s),
        books.writes.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_whole_is_found_in_its_part() {
        let parts = ["a\nb\n", "c", "d\ne"];
        assert_eq!(in_a_row(&parts), "a\nb\nc\nd\ne");
        for (line, found) in [(1, (0, 1)), (2, (0, 2)), (3, (1, 1)), (4, (2, 1)), (5, (2, 2))] {
            assert_eq!(place(&parts, line), found);
        }
    }
}
