//! Replays recorded vectors against the core and prints, for each file, how many cases, steps and
//! mismatches it holds.
//!
//! The vectors lie gzipped in `tests/knative/vectors`. `PODSWELL_VECTORS=DIR` reads another folder
//! instead (`KIND*.jsonl` or `KIND*.jsonl.gz`); it fails when that folder holds no case. A positional
//! argument replays only the kinds whose name contains it:
//! `cargo test --test conformance annotations`.
//!
//! To add a kind: one module with `pub(crate) fn replay(case: &Value) -> Outcome`, one line in
//! [`KINDS`].

#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::float_cmp,
    reason = "a broken vector ends the test, and numbers must be equal"
)]

mod annotations;
mod configs;
mod decisions;
mod default_replays;
mod default_windows;
mod json;
mod replays;
mod resolved;
mod vectors;
mod windows;

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::Value;

/// What the replay of one case, or of a whole file, found.
#[derive(Default)]
pub(crate) struct Outcome {
    /// How many expectations were compared.
    pub(crate) steps: u64,
    /// One line for each expectation that was not met: what, expected, found.
    pub(crate) mismatches: Vec<String>,
}

impl Outcome {
    /// Counts one step and keeps a mismatch when `found` is not `expected`.
    pub(crate) fn check<T: PartialEq + std::fmt::Debug>(
        &mut self,
        what: &str,
        expected: &T,
        found: &T,
    ) {
        self.steps += 1;
        if expected != found {
            self.mismatches.push(format!("{what}: expected {expected:?}, found {found:?}"));
        }
    }

    /// As [`Outcome::check`] for JSON values; numbers are equal when their `f64` are (`1` is `1.0`).
    pub(crate) fn check_json(&mut self, what: &str, expected: &Value, found: &Value) {
        match (expected.as_f64(), found.as_f64()) {
            (Some(expected), Some(found)) => self.check(what, &expected, &found),
            _ => self.check(what, expected, found),
        }
    }

    /// Counts one step that failed.
    pub(crate) fn fail(&mut self, mismatch: String) {
        self.steps += 1;
        self.mismatches.push(mismatch);
    }
}

/// Replays one case of a file.
type Replay = fn(&Value) -> Outcome;

/// Every kind of file and what replays it.
const KINDS: &[(&str, Replay)] = &[
    ("annotations", annotations::replay),
    ("configs", configs::replay),
    ("resolved", resolved::replay),
    ("windows", windows::replay),
    ("decisions", decisions::replay),
    ("replays", replays::replay),
    ("default_windows", default_windows::replay),
    ("default_replays", default_replays::replay),
];

/// How many mismatches of a file are printed in full.
const SHOWN: usize = 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut out = io::stdout().lock();
    let passed = if arguments.iter().any(|a| a == "--list") {
        list(&mut out, &arguments)
    } else {
        run(&mut out, &arguments)
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(out, "error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The listing that cargo-nextest asks for.
fn list(out: &mut impl Write, arguments: &[String]) -> io::Result<bool> {
    if !arguments.iter().any(|a| a == "--ignored") {
        for (kind, _) in KINDS {
            writeln!(out, "{kind}: test")?;
        }
    }
    Ok(true)
}

/// Whether the filters of the command line, if there are any, select the kind.
fn selected(kind: &str, arguments: &[String]) -> bool {
    let exact = arguments.iter().any(|a| a == "--exact");
    let mut filters = arguments.iter().filter(|a| !a.starts_with('-')).peekable();
    filters.peek().is_none()
        || filters.any(|filter| if exact { filter == kind } else { kind.contains(filter.as_str()) })
}

fn run(out: &mut impl Write, arguments: &[String]) -> io::Result<bool> {
    let folder = vectors::folder();
    let kinds: Vec<&'static str> = KINDS.iter().map(|(kind, _)| *kind).collect();
    let files = vectors::files(&folder, &kinds)?;
    let mut passed = true;
    let mut filtered_out = false;
    let mut all_cases = 0;
    for file in &files {
        if !selected(file.kind, arguments) {
            filtered_out = true;
            continue;
        }
        let Some((_, replay)) = KINDS.iter().find(|(kind, _)| *kind == file.kind) else { continue };
        let (cases, outcome) = replay_file(file, *replay)?;
        all_cases += cases;
        writeln!(
            out,
            "{}: {cases} cases, {} steps, {} mismatches",
            file.name,
            outcome.steps,
            outcome.mismatches.len()
        )?;
        for mismatch in outcome.mismatches.iter().take(SHOWN) {
            writeln!(out, "  {mismatch}")?;
        }
        passed &= outcome.mismatches.is_empty() && (cases == 0 || outcome.steps > 0);
    }
    // A filter that is meant for other tests (`cargo test core::`) leaves nothing to do here.
    if all_cases == 0 && !filtered_out {
        writeln!(out, "error: no case in {}", folder.display())?;
        passed = false;
    }
    Ok(passed)
}

fn replay_file(file: &vectors::File, replay: Replay) -> io::Result<(u64, Outcome)> {
    let mut cases = 0;
    let mut total = Outcome::default();
    file.for_each(|number, case| {
        cases += 1;
        let outcome = replay(case);
        let id = case.get("id").and_then(Value::as_str).unwrap_or("?");
        total.steps += outcome.steps;
        total.mismatches.extend(
            outcome.mismatches.into_iter().map(|text| format!("line {number} ({id}): {text}")),
        );
    })?;
    Ok((cases, total))
}
