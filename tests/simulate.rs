//! `podswell simulate` as its user meets it: what it prints, what it writes, what it ends with.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const GOOD: &str = "about: a step
seed: 1
duration: 2m
target: { start: 2, annotations: { autoscaling.knative.dev/target: \"10\" } }
load:
  - constant: { level: 10 }
  - constant: { level: 90, at: 30s }
";

/// A folder with scenario files.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("good.yaml", GOOD);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Runs `podswell simulate` here.
    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_podswell"))
            .arg("simulate")
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    /// What it prints where it succeeds.
    fn prints(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*errors), (Some(0), ""), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one line that it complains with, and its exit code; it prints nothing else.
    fn complains(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.run(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?}");
        assert_eq!(errors.lines().count(), 1, "{arguments:?}: {errors}");
        (output.status.code(), errors.trim_end().to_owned())
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_report_has_a_table_a_page_and_a_chart_for_each_policy() {
    let folder = Folder::new();
    let table = folder.prints(&["good.yaml", "--out", "report"]);
    let heading = table.lines().find(|line| line.starts_with("POLICY")).unwrap();
    let columns: BTreeSet<&str> = heading.split_whitespace().collect();
    for column in ["POD-S", "COLD", "DELAYED", "P50", "P99", "UNMET-S", "IDLE-S", "STARTS"] {
        assert!(columns.contains(column), "{column} in {heading}");
    }
    for column in ["TURNS", "SHORT", "×OPT", "LOST", "BROKEN"] {
        assert!(columns.contains(column), "{column} in {heading}");
    }
    for policy in ["podswell", "knative", "hpa", "keda", "optimum"] {
        assert!(table.lines().any(|line| line.starts_with(policy)), "{policy} in {table}");
    }
    let charts = ["podswell", "knative", "hpa", "keda"].map(|policy| format!("good-{policy}.svg"));
    let written = names(&folder.path("report"));
    assert_eq!(written, charts.iter().cloned().chain(["report.html".to_owned()]).collect());
    let chart = fs::read_to_string(folder.path("report").join(&charts[0])).unwrap();
    for curve in ["offered", "stable average", "panic average", "target of the ready pods"] {
        assert!(chart.contains(curve), "{curve}");
    }
    for curve in ["needed", "desired", "replicas", "ready"] {
        assert!(chart.contains(curve), "{curve}");
    }
    assert!(chart.contains("<circle"), "a dot for each write");
    let shaded = |line: &&str| line.starts_with("<rect") && line.contains("opacity=\"0.08\"");
    assert!(chart.lines().filter(shaded).count() >= 2, "panic mode in both panels");
    let page = fs::read_to_string(folder.path("report/report.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), charts.len());
    for outside in ["http://", "https://", "<script"] {
        let own = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!own.contains(outside), "the page needs {outside}");
    }
}

#[test]
fn json_and_csv_hold_every_figure() {
    let folder = Folder::new();
    let document: Value =
        serde_json::from_str(&folder.prints(&["good.yaml", "-o", "json"])).unwrap();
    assert_eq!(document["kind"], "SimulationReport");
    let outcomes = document["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.len(), 5);
    let csv = folder.prints(&["good.yaml", "-o=csv", "--seed=9"]);
    let mut lines = csv.lines();
    let keys: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!(keys[..3], ["scenario", "seed", "policy"]);
    for key in &keys[3..] {
        assert!(outcomes[0].get(*key).is_some(), "{key} is in both");
    }
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|row| row.len() == keys.len() && row[..2] == ["good", "9"]), "{csv}");
}

#[test]
fn seeds_give_medians_with_intervals_and_a_sweep_its_front() {
    let folder = Folder::new();
    let noisy = GOOD.replace("duration", "detail: requests\nduration");
    folder.write("noisy.yaml", &noisy);
    let table = folder.prints(&["noisy.yaml", "--seeds", "5"]);
    assert!(table.starts_with("noisy (5 seeds)\n"), "{table}");
    let row = table.lines().find(|line| line.starts_with("hpa")).unwrap();
    assert!(row.contains(" [") && row.contains(", ") && row.contains(']'), "{row}");
    let sweep = ["good.yaml", "--sweep", "target=5,10", "window=10s,60s", "--out", "sweep"];
    let table = folder.prints(&sweep);
    let settings = table.lines().filter(|line| line.starts_with("target=")).count();
    assert_eq!(settings, 4, "{table}");
    assert!(table.lines().any(|line| line.starts_with("target=") && line.contains('*')), "{table}");
    let front = fs::read_to_string(folder.path("sweep/good-front.svg")).unwrap();
    assert!(front.contains("pod-seconds") && front.contains("optimum"), "{front}");
}

#[test]
fn what_was_expected_and_did_not_come_ends_with_1() {
    let folder = Folder::new();
    folder.write("no.yaml", &format!("{GOOD}expect: {{ podswell: {{ starts: 0 }} }}\n"));
    let output = folder.run(&["no.yaml"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert!(table.contains("EXPECTED podswell: starts exactly 0, is "), "{table}");
    // Of another seed nothing is expected.
    assert!(!folder.prints(&["no.yaml", "--seed", "2"]).contains("EXPECTED"));
}

#[test]
fn bad_input_is_one_line_with_its_place_and_leaves_no_report() {
    let folder = Folder::new();
    for (name, text, words) in [
        ("key.yaml", GOOD.replace("seed", "sead"), "key.yaml:2: "),
        ("number.yaml", GOOD.replace("90", "-90"), "number.yaml:7: level: "),
        ("late.yaml", GOOD.replace("30s", "30m"), "late.yaml:7: constant: begins at 1800s"),
        (
            "file.yaml",
            format!("{GOOD}  - csv: {{ file: none.csv }}\n"),
            "file.yaml:8: file: \"none.csv\"",
        ),
    ] {
        folder.write(name, &text);
        // A good file beside it is not played either.
        let (code, line) = folder.complains(&["good.yaml", name, "--out", "report"]);
        assert_eq!(code, Some(2), "{line}");
        assert!(line.starts_with("podswell: ") && line.contains(words), "{line}");
        assert!(!folder.path("report").exists(), "{name} left a report");
    }
    for (arguments, words) in [
        (vec!["nowhere.yaml"], "nowhere.yaml: No such file"),
        (vec!["good.yaml", "--sweep", "targett=1"], "did you mean target?"),
        (vec!["good.yaml", "--out", "good.yaml"], "good.yaml: cannot hold a report"),
        (vec!["--replay", "good.yaml"], "good.yaml:1: "),
        (vec!["--replay", "nowhere.jsonl"], "nowhere.jsonl: No such file"),
        (vec![], "names no scenario file"),
    ] {
        let (code, line) = folder.complains(&arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {line}");
        assert!(line.contains(words), "{arguments:?}: {line}");
    }
}

#[test]
fn the_swarm_counts_what_it_played() {
    let folder = Folder::new();
    let told = folder.prints(&["--swarm", "3", "--seed", "5"]);
    assert_eq!(told, "3 seeds from 5 on, 0 break a promise\n");
}
