//! Every scenario file: what it expects comes out, and its report is kept as a snapshot.

use std::fs;
use std::path::{Path, PathBuf};

use podswell::sim::report::{Report, json, text};
use podswell::sim::scenario::{Scenario, schema_json};
use podswell::sim::simulation::run;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("simulations")
}

/// The scenario files, sorted by name.
fn files() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    files
}

fn load(path: &Path) -> Scenario {
    let text = fs::read_to_string(path).unwrap();
    let mut read =
        |file: &str| fs::read_to_string(folder().join(file)).map_err(|why| why.to_string());
    Scenario::parse(&text, &mut read).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn report(path: &Path) -> Report {
    let name = path.file_stem().unwrap().to_str().unwrap();
    run(name, &load(path), None).unwrap()
}

#[test]
fn every_scenario_comes_out_as_expected() {
    let mut failures = Vec::new();
    for report in crate::each(&files(), |file| report(file)) {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(folder().join("reports"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(report.name.clone(), text(&report)));
        failures
            .extend(report.failures.iter().map(|failure| format!("{}: {failure}", report.name)));
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for name in ["s03-spikes.yaml", "s08-heavy-tail.yaml"] {
        let once = json(&[report(&folder().join(name))]).unwrap();
        assert_eq!(once, json(&[report(&folder().join(name))]).unwrap());
        let other = run("other", &load(&folder().join(name)), Some(99)).unwrap();
        assert_ne!(once, json(&[other]).unwrap());
    }
}

#[test]
fn every_scenario_expects_something_of_podswell() {
    for file in files() {
        let scenario = load(&file);
        assert!(!scenario.about.trim().is_empty(), "{}", file.display());
        assert!(scenario.expect.contains_key("podswell"), "{}", file.display());
    }
}

#[test]
fn the_published_schema_is_the_codes() {
    let path = folder().join("scenario.schema.json");
    let schema = schema_json().unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &schema).unwrap();
    }
    let published = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(published, schema, "run UPDATE_DOCS=1 cargo test --test sim");
}
