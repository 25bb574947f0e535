//! `--replay`: a recording through the engine again, with what was recorded and with another setting.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::Failure;
use super::files::{self, BadInput};
use super::sweep::pair;
use crate::cli::print;
use crate::core::text::columns;
use crate::sim::replay::{Replay, Replayed, replay};

/// Replays a file and says what came out; ends with failure if a decision did not come out again although
/// the recording is complete.
pub(super) fn run(file: &Path, set: &[String]) -> Result<ExitCode, Failure> {
    let shown = file.display().to_string();
    let text = files::read(file).map_err(|why| BadInput::new(&shown, &why))?;
    let set = set
        .iter()
        .map(|text| pair(text).map(|(key, value)| (key, value.to_owned())))
        .collect::<Result<BTreeMap<_, _>, _>>()?;
    let replayed = replay(&text, &set)
        .map_err(|error| BadInput::new(&format!("{shown}:{}", error.line), &error.why))?;
    print(&report(&replayed))?;
    let (_, different) = replayed.counts();
    Ok(if different == 0 || !replayed.complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
