//! An exporter of numbers that the test sets, which can be broken.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::NAMESPACE;

/// A page of series, each as Prometheus writes it, with its value.
#[derive(Clone)]
pub(super) struct Exporter(Arc<Mutex<Page>>);

struct Page {
    series: BTreeMap<String, u32>,
    broken: bool,
    read: Instant,
}

impl Exporter {
    pub(super) fn new(series: &[(&str, u32)]) -> Self {
        let series = series.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Self(Arc::new(Mutex::new(Page { series, broken: false, read: Instant::now() })))
    }

    /// Serves its page; returns a job that scrapes it, for Prometheus.
    pub(super) async fn serve(&self, job: &str) -> String {
        let router = Router::new().route("/metrics", get(page)).with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!(
            "- job_name: {job}\n  static_configs:\n  - targets: ['{address}']\n    labels: {{owner: {NAMESPACE}}}\n"
        )
    }

    pub(super) fn set(&self, series: &str, value: u32) {
        self.0.lock().series.insert(series.to_owned(), value);
    }

    pub(super) fn remove(&self, series: &str) {
        self.0.lock().series.remove(series);
    }

    /// Answers with an error from now on, or with its page again.
    pub(super) fn set_broken(&self, broken: bool) {
        self.0.lock().broken = broken;
    }

    /// When its page was read for the last time.
    pub(super) fn last_read(&self) -> Instant {
        self.0.lock().read
    }
}

async fn page(State(exporter): State<Exporter>) -> Response {
    let mut page = exporter.0.lock();
    if page.broken {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    page.read = Instant::now();
    let mut text = String::new();
    for (series, value) in &page.series {
        writeln!(text, "{series} {value}").expect("a string takes everything");
    }
    ([("content-type", "text/plain; version=0.0.4")], text).into_response()
}
