//! Reading scenarios and writing reports. A report is complete or not there at all.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::core::explain::printable;
use crate::sim::html;
use crate::sim::plot;
use crate::sim::report::Report;
use crate::sim::scenario::Scenario;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// Input that makes no sense: where, and what is wrong there.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct BadInput {
    place: String,
    why: String,
}

impl BadInput {
    pub(super) fn new(place: &str, why: &str) -> Self {
        Self { place: place.to_owned(), why: why.to_owned() }
    }
}

/// Says in one line what is wrong.
pub(in crate::cli) fn complain(bad: &BadInput) {
    let line = format!("{}: {}", bad.place, bad.why);
    // Nothing is left to be done if standard error is closed.
    let _ = writeln!(io::stderr(), "podswell: {}", printable(&line).replace('\n', " "));
}

/// A file's text.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|why| why.to_string())?;
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|why| why.to_string())?;
    let fits = u64::try_from(text.len()).is_ok_and(|length| length <= MAX_FILE);
    if fits { Ok(text) } else { Err(format!("larger than {MAX_FILE} bytes")) }
}

/// A scenario and its name.
pub(in crate::cli) fn load(path: &Path) -> Result<(String, Scenario), BadInput> {
    let shown = path.display().to_string();
    let text = read(path).map_err(|why| BadInput::new(&shown, &why))?;
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let scenario = Scenario::parse(&text, &mut |file| read(&folder.join(file)));
    let scenario = scenario.map_err(|error| {
        let place = error.line.map_or_else(|| shown.clone(), |line| format!("{shown}:{line}"));
        BadInput::new(&place, &error.why)
    })?;
    let name = path.file_stem().map_or_else(|| shown.clone(), |stem| stem.display().to_string());
    Ok((name, scenario))
}

/// Makes sure that a report can be written to `folder`, before hours are spent on it.
pub(super) fn prepare(folder: &Path) -> Result<(), BadInput> {
    let probe = folder.join(".podswell.part");
    let outcome = fs::create_dir_all(folder)
        .and_then(|()| fs::write(&probe, ""))
        .and_then(|()| fs::remove_file(&probe));
    let place = folder.display().to_string();
    outcome.map_err(|why| BadInput::new(&place, &format!("cannot hold a report: {why}")))
}

/// Writes `report.html` and the charts. Every file is finished under another name before any of them gets
/// its own.
pub(super) fn write_report(
    folder: &Path,
    played: &[Vec<Report>],
    swept: bool,
) -> anyhow::Result<()> {
    let mut files: Vec<(String, String)> = Vec::new();
    let mut sections: Vec<(&Report, Vec<String>)> = Vec::new();
    // Of many seeds the first one is shown.
    for report in played.iter().filter_map(|reports| reports.first()) {
        let mut charts = Vec::new();
        if swept {
            let svg = plot::front(&report.outcomes, &plot::pareto(&report.outcomes))
                .map_err(anyhow::Error::msg)?;
            files.push((format!("{}-front.svg", file_name(&report.name)), svg.clone()));
            charts.push(svg);
        }
        for outcome in &report.outcomes {
            let Some(svg) = plot::chart(report, outcome).map_err(anyhow::Error::msg)? else {
                continue;
            };
            let name = format!("{}-{}.svg", report.name, outcome.policy);
            files.push((file_name(&name), svg.clone()));
            charts.push(svg);
        }
        sections.push((report, charts));
    }
    files.push(("report.html".to_owned(), html::page(&sections)));
    let files = with_names_of_their_own(files);
    store(folder, &files).with_context(|| format!("write the report to {}", folder.display()))
}

/// A name without anything that means something to a file system.
fn file_name(text: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
    text.chars().map(safe).collect()
}

/// Two scenarios of one name, or names that differ only in what a file system must not see, do not share
/// their files.
fn with_names_of_their_own(files: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut taken = BTreeSet::new();
    let own = |(name, text): (String, String)| {
        let (stem, end) = name.rsplit_once('.').unwrap_or((&name, ""));
        let others = (2..).map(|number| format!("{stem}-{number}.{end}"));
        let name =
            std::iter::once(name.clone()).chain(others).find(|name| taken.insert(name.clone()));
        (name.unwrap_or_default(), text)
    };
    files.into_iter().map(own).collect()
}

fn store(folder: &Path, files: &[(String, String)]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut written: Vec<(PathBuf, PathBuf)> = Vec::new();
    let outcome = files.iter().try_for_each(|(name, text)| {
        let paths = (folder.join(format!(".{name}.part")), folder.join(name));
        let stored = fs::write(&paths.0, text);
        written.push(paths);
        stored
    });
    let is_whole = outcome.is_ok();
    let outcome =
        outcome.and_then(|()| written.iter().try_for_each(|(from, to)| fs::rename(from, to)));
    if outcome.is_err() {
        // What is left of a report that could not be finished. One that was there before goes only where
        // some of its files have been replaced already.
        for (part, whole) in &written {
            let _ = fs::remove_file(part);
            if is_whole {
                let _ = fs::remove_file(whole);
            }
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_equal_names_do_not_meet() {
        let files = ["a.svg", "b.svg", "a.svg", "a-2.svg", "a.svg"];
        let named = files.map(|name| (name.to_owned(), String::new())).to_vec();
        let names = with_names_of_their_own(named).into_iter().map(|(name, _)| name);
        let expected = ["a.svg", "b.svg", "a-2.svg", "a-2-2.svg", "a-3.svg"];
        assert_eq!(names.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_report_is_complete_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        // A folder stands where the second file should be.
        fs::create_dir_all(folder.path().join("b.svg")).unwrap();
        let files = ["a.svg", "b.svg"].map(|name| (name.to_owned(), "x".to_owned()));
        assert!(store(folder.path(), &files).is_err());
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["b.svg"]);
    }
}
