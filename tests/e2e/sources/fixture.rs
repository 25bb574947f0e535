//! What an exporter prints, and what has to be read from it, as data.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path as PathParams, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use podswell::core::target::TargetId;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::clock;

/// The pages of one exporter and the workloads that are measured by them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fixture {
    /// What Prometheus scrapes.
    targets: Vec<Target>,
    pub(super) workloads: Vec<Expectation>,
    /// What the expression gives at other moments than now.
    #[serde(default)]
    pub(super) moments: Vec<Moment>,
}

/// What an expression gives at one moment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Moment {
    pub(super) at: jiff::Timestamp,
    #[serde(rename = "match")]
    choice: String,
    pub(super) reads: f64,
}

impl Moment {
    /// The labels of the series that is meant.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        pairs(&self.choice)
    }
}

fn pairs(choice: &str) -> BTreeMap<String, String> {
    let pairs = choice.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(label, value)| (label.to_owned(), value.to_owned())).collect()
}

/// One target of a scrape.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    /// The labels that Prometheus adds, such as the job.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// What it answers. `{{+5}}` rises by 5 a second, `{{reset 5 7}}` too and begins
    /// again at 0 every 7 s, `{{ms -120}}` is the time 120 s ago in milliseconds.
    page: String,
}

/// One workload and what podswell has to read for it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expectation {
    /// `NAMESPACE/NAME`, where series are matched by it.
    workload: Option<String>,
    /// Its annotation podswell.dev/source-match.
    #[serde(default, rename = "match")]
    choice: String,
    /// The load that is read again and again.
    pub(super) reads: Option<f64>,
    /// The loads that may be read, where it depends on the hour.
    #[serde(default)]
    pub(super) one_of: Vec<f64>,
    /// The fault that is reported. Without `reads`, no load may ever be read.
    pub(super) fault: Option<String>,
    /// That load is zero because there is no series; without proof it must be a fault.
    #[serde(default)]
    pub(super) absent: bool,
}

impl Fixture {
    /// The fixture of a definition.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/e2e/sources/fixtures/{name}.yaml"));
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

impl Expectation {
    /// What is expected where the absence of series proves nothing.
    pub(super) fn unproven(&self) -> Self {
        Self { reads: None, fault: Some("Empty".to_owned()), absent: false, ..self.clone() }
    }

    /// The labels that it chooses.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        pairs(&self.choice)
    }

    /// The workload's identity; one of its own where series are not matched by it.
    pub(super) fn target(&self, source: &str, at: usize) -> TargetId {
        match self.workload.as_deref().and_then(|name| name.split_once('/')) {
            Some((namespace, name)) => TargetId::deployment(namespace, name),
            None => TargetId::deployment(source, &format!("workload-{at}")),
        }
    }
}

/// One local server that plays all exporters.
#[derive(Debug)]
pub(super) struct Pages {
    jobs: String,
    count: usize,
    serving: JoinHandle<()>,
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The pages by fixture and number, and when they began.
type Shelf = Arc<(Instant, BTreeMap<(String, usize), String>)>;

impl Pages {
    pub(super) async fn serve(fixtures: &BTreeMap<String, Fixture>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind a port");
        let address = listener.local_addr().expect("an address");
        let (mut pages, mut jobs) = (BTreeMap::new(), String::new());
        for (name, fixture) in fixtures {
            for (at, target) in fixture.targets.iter().enumerate() {
                // Equal labels in two fixtures would make one series of two.
                let mut labels = target.labels.clone();
                labels.insert("fixture".to_owned(), format!("{name}-{at}"));
                let labels = serde_json::to_string(&labels).expect("labels are text");
                let _ = write!(
                    jobs,
                    "- job_name: {name}-{at}\n  metrics_path: /{name}/{at}\n  static_configs:\n  \
                     - targets: [\"{address}\"]\n    labels: {labels}\n"
                );
                pages.insert((name.clone(), at), target.page.clone());
            }
        }
        let count = pages.len();
        let shelf: Shelf = Arc::new((Instant::now(), pages));
        let router = Router::new().route("/{name}/{at}", get(page)).with_state(shelf);
        let serving = tokio::spawn(async move {
            // Ends with the test.
            let _ = axum::serve(listener, router).await;
        });
        Self { jobs, count, serving }
    }

    /// How many pages there are to scrape.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// More entries of Prometheus' `scrape_configs`.
    pub(super) fn jobs(&self) -> String {
        self.jobs.clone()
    }
}

async fn page(
    State(shelf): State<Shelf>,
    PathParams(key): PathParams<(String, usize)>,
) -> Response {
    match shelf.1.get(&key) {
        Some(page) => render(page, shelf.0.elapsed().as_secs_f64()).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Fills in the numbers that depend on time, `elapsed` seconds after the start.
fn render(page: &str, elapsed: f64) -> String {
    let mut parts = page.split("{{");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (formula, rest) = part.split_once("}}").expect("a closed formula");
        text += &evaluate(formula, elapsed);
        text += rest;
    }
    text
}

fn evaluate(formula: &str, elapsed: f64) -> String {
    let number = |text: &str| text.parse::<f64>().expect("a number");
    match formula.split(' ').collect::<Vec<_>>().as_slice() {
        ["reset", rate, every] => format!("{:.3}", (elapsed % number(every)) * number(rate)),
        ["ms", seconds] => {
            let offset = seconds.parse::<i64>().expect("a number") * 1000;
            (clock::now().as_millisecond() + offset).to_string()
        }
        [rate] => format!("{:.3}", 1000.0 + elapsed * number(rate)),
        other => panic!("unknown formula {other:?}"),
    }
}
