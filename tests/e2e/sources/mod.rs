//! The ready-made definitions of `deploy/sources`, as they are, against a real Prometheus that scrapes what
//! each exporter really prints: names, labels, and the traps that its file warns of.
//!
//! `PODSWELL_SOURCES=kafka,redis` looks only at the files whose name contains one of these words.

mod fixture;
mod readings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use podswell::core::roster::{Enrolled, Roster};
use podswell::core::source::Wiring;
use podswell::core::target::TargetId;
use podswell::runtime::clock::SystemClock;
use podswell::runtime::engine_handle::EngineHandle;
use podswell::sources::definition::{Absent, Form, Query, SourceDefinition};
use podswell::sources::{SourceOptions, Sources};

use crate::support::prometheus::{Prometheus, PrometheusOptions};
use crate::support::table::PodTable;
use crate::support::wait::eventually;
use fixture::{Expectation, Fixture, Moment, Pages};
use readings::Log;

/// How long it may take until every workload has been read often enough: generous, the machine may be busy.
const LIMIT: Duration = Duration::from_secs(240);
/// Ends the name of the twin of a definition whose proof of life never holds.
const UNPROVEN: &str = "-unproven";

/// One workload of a fixture.
struct Case {
    target: TargetId,
    source: String,
    form: Form,
    expected: Expectation,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_made_sources_read_what_their_exporters_print() {
    let files: Vec<_> = definitions().into_iter().filter(|(name, _)| is_wanted(name)).collect();
    let fixtures: BTreeMap<_, _> =
        files.iter().map(|(name, _)| (name.clone(), Fixture::read(name))).collect();
    let pages = Pages::serve(&fixtures).await;
    let options = PrometheusOptions { more_config: pages.jobs(), ..PrometheusOptions::default() };
    let prometheus = Prometheus::start(PodTable::new(), options).await;

    eventually(LIMIT, "Prometheus has scraped every page", || async {
        let scraped = prometheus.query("up").await?.len();
        if scraped == pages.count() { Ok(()) } else { Err(format!("{scraped} pages")) }
    })
    .await;
    let documents = documents(&files, &prometheus.url());
    let cases = cases(&fixtures, &documents);
    let log = Log::default();
    let _running: Vec<_> =
        documents.iter().map(|(name, text)| start(name, text, &cases, &log)).collect();

    // Each at its own time: on a busy machine a rate is now and then another one for a moment.
    let open: RwLock<Vec<_>> = RwLock::new(cases.iter().collect());
    eventually(LIMIT, "every workload reads as expected", || async {
        let mut open = open.write();
        open.retain(|case| case.disagrees(&log).is_some());
        let still: Vec<_> = open.iter().filter_map(|case| case.disagrees(&log)).collect();
        if open.is_empty() { Ok(()) } else { Err(still) }
    })
    .await;
    for case in &cases {
        case.never_read_anything_else(&log);
    }
    for (name, fixture) in &fixtures {
        for moment in &fixture.moments {
            gives(&prometheus, &documents[name], moment).await;
        }
    }
}

/// Whether the expression of a definition gives what it should at another moment.
async fn gives(prometheus: &Prometheus, document: &str, moment: &Moment) {
    let definition = SourceDefinition::parse("x", document).expect("a valid definition");
    let Query::Expression { text, .. } = definition.query else {
        panic!("only expressions give something at any moment");
    };
    let series = prometheus.query_at(&text, moment.at).await.expect("an answer");
    let ours: Vec<_> = series.iter().filter(|one| one.labels == moment.labels()).collect();
    assert!(
        matches!(ours.as_slice(), [one] if (one.value - moment.reads).abs() < 1e-6),
        "{moment:?}: {series:?}"
    );
}

/// The names and texts of `deploy/sources`.
fn definitions() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/sources");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("list deploy/sources")
        .map(|entry| entry.expect("list deploy/sources").path())
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        (name, std::fs::read_to_string(&path).expect("read a definition"))
    };
    paths.into_iter().map(read).collect()
}

fn is_wanted(name: &str) -> bool {
    std::env::var("PODSWELL_SOURCES")
        .map_or(true, |words| words.split(',').any(|word| name.contains(word)))
}

/// The definitions with this server; those that take absence for zero also with a proof that fails.
fn documents(files: &[(String, String)], url: &str) -> BTreeMap<String, String> {
    let mut documents = BTreeMap::new();
    for (name, text) in files {
        let here = with_line(text, "  url: ", url);
        let definition = SourceDefinition::parse(name, &here).expect("a valid definition");
        if let Absent::Zero { alive } = definition.absent {
            let unproven = with_line(&here, "alive: ", &format!("({alive}) * 0"));
            documents.insert(format!("{name}{UNPROVEN}"), unproven);
        }
        documents.insert(name.clone(), here);
    }
    documents
}

/// The text with another value on the one line that begins so.
fn with_line(text: &str, begins: &str, value: &str) -> String {
    let changed = |line: &str| {
        if line.starts_with(begins) { format!("{begins}{value}\n") } else { format!("{line}\n") }
    };
    assert_eq!(text.lines().filter(|line| line.starts_with(begins)).count(), 1, "{begins}");
    text.lines().map(changed).collect()
}

/// A workload for each expectation, and a second one where absence is taken for zero.
fn cases(fixtures: &BTreeMap<String, Fixture>, documents: &BTreeMap<String, String>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, fixture) in fixtures {
        for (at, expected) in fixture.workloads.iter().enumerate() {
            let twin = expected.absent.then(|| (format!("{name}{UNPROVEN}"), expected.unproven()));
            let of = (name.clone(), expected.clone());
            for (source, expected) in [Some(of), twin].into_iter().flatten() {
                let definition = SourceDefinition::parse(&source, &documents[&source]);
                let form = definition.expect("a valid definition").form;
                let target = expected.target(&source, at);
                cases.push(Case { target, source, form, expected });
            }
        }
    }
    cases
}

/// Starts one source with its workloads; it stops with the value. Each has a roster of its own, because the
/// same workload may stand in several fixtures.
fn start(name: &str, text: &str, cases: &[Case], log: &Log) -> Sources {
    let roster = Arc::new(RwLock::new(Roster::default()));
    for case in cases.iter().filter(|case| case.source == name) {
        let wiring = Wiring {
            sources: vec![name.into()],
            source_match: case.expected.labels(),
            stable_window: Duration::from_secs(60),
            ..Wiring::default()
        };
        let enrolled = Enrolled { wiring: Arc::new(wiring), replicas: 1, pods: Arc::default() };
        roster.write().enrol(&case.target, enrolled);
    }
    let (engine, events) = EngineHandle::channel();
    log.keep(events);
    let clock = Arc::new(SystemClock::new());
    let mut sources = Sources::new(roster, engine, clock, SourceOptions::default());
    let (facts, problems) = sources.apply(&BTreeMap::from([(name.to_owned(), text.to_owned())]));
    assert_eq!((facts.len(), problems), (1, Vec::new()), "{name}");
    sources
}
