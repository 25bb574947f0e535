//! Debian's Prometheus on loopback, scraping the pods that the node player runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::binaries;
use super::http::HttpClient;
use super::ports::free_ports;
use super::process::Process;
use super::table::PodTable;
use super::wait::eventually;

/// How long it may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The least time between two versions of the list of targets.
const BETWEEN_WRITES: Duration = Duration::from_millis(100);

/// How it scrapes.
#[derive(Debug, Clone)]
pub(crate) struct PrometheusOptions {
    /// Also the interval of rules.
    pub(crate) scrape_interval: Duration,
    /// Port of the pods' text `/metrics`.
    pub(crate) port: u16,
    /// The only namespace whose pods are scraped, if not all.
    pub(crate) namespace: Option<String>,
    /// More of the configuration file, YAML at its top level, such as `rule_files:`.
    pub(crate) more_config: String,
}

impl Default for PrometheusOptions {
    fn default() -> Self {
        Self {
            scrape_interval: Duration::from_secs(1),
            port: 8080,
            namespace: None,
            more_config: String::new(),
        }
    }
}

/// A running Prometheus; ends with this value. Each series of a pod has the labels `namespace`,
/// `pod` and `deployment`.
#[derive(Debug)]
pub(crate) struct Prometheus {
    process: Process,
    targets: JoinHandle<()>,
    client: HttpClient,
    port: u16,
    folder: TempDir,
}

/// A series of an instant query's answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Prometheus {
    /// Starts it with all pods of the table as targets, which follow the table from then on.
    pub(crate) async fn start(table: PodTable, options: PrometheusOptions) -> Self {
        let folder = tempfile::Builder::new().prefix("podswell-prometheus-").tempdir();
        let folder = folder.expect("make a folder");
        let [port] = free_ports();
        let targets = folder.path().join("targets.json");
        write_targets(&targets, &table, &options);
        let config = config(&options, &targets);
        std::fs::write(folder.path().join("prometheus.yml"), config).expect("write its config");
        let mut this = Self {
            process: start(folder.path(), port),
            targets: tokio::spawn(follow(targets, table, options)),
            client: HttpClient::new(),
            port,
            folder,
        };
        this.wait_until_ready().await;
        this
    }

    /// Its address, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGSTOP: connections stay, nothing answers.
    pub(crate) fn freeze(&self) {
        self.process.signal("STOP");
    }

    /// SIGCONT after [`Self::freeze`].
    pub(crate) fn thaw(&self) {
        self.process.signal("CONT");
    }

    /// Starts it again, on the same port and with what it had stored, and waits until it answers.
    pub(crate) async fn restart(&mut self) {
        self.process.kill();
        self.process = start(self.folder.path(), self.port);
        self.wait_until_ready().await;
    }

    /// Starts it again, on the same port and with nothing stored, and waits until it answers.
    pub(crate) async fn restart_empty(&mut self) {
        self.process.kill();
        std::fs::remove_dir_all(self.folder.path().join("data")).expect("remove what it stored");
        self.restart().await;
    }

    /// An instant query, at this moment.
    ///
    /// # Errors
    /// The text says what failed, or what was answered.
    pub(crate) async fn query(&self, promql: &str) -> Result<Vec<Sample>, String> {
        self.answer(&format!("query={}", escape(promql))).await
    }

    /// An instant query at another moment.
    ///
    /// # Errors
    /// The text says what failed, or what was answered.
    pub(crate) async fn query_at(
        &self,
        promql: &str,
        at: jiff::Timestamp,
    ) -> Result<Vec<Sample>, String> {
        self.answer(&format!("query={}&time={}", escape(promql), at.as_second())).await
    }

    async fn answer(&self, parameters: &str) -> Result<Vec<Sample>, String> {
        let url = format!("{}/api/v1/query?{parameters}", self.url());
        let answer = self.client.get(&url).await?;
        let parsed: QueryAnswer = serde_json::from_slice(&answer.body)
            .map_err(|error| format!("{error}: {}", answer.text()))?;
        parsed.data.result.into_iter().map(QuerySeries::sample).collect()
    }

    /// An instant query that gives one number.
    ///
    /// # Errors
    /// Fails also if it gives none or several.
    pub(crate) async fn number(&self, promql: &str) -> Result<f64, String> {
        match self.query(promql).await?.as_slice() {
            [one] => Ok(one.value),
            other => Err(format!("{promql}: {} series", other.len())),
        }
    }

    async fn wait_until_ready(&mut self) {
        let (client, url) = (self.client.clone(), format!("{}/-/ready", self.url()));
        let process = &mut self.process;
        eventually(START_LIMIT, "Prometheus is ready", || {
            let ended = process.ended();
            assert!(ended.is_none(), "Prometheus ended: {ended:?}\n{}", process.log_tail(4000));
            let (client, url) = (client.clone(), url.clone());
            async move {
                let answer = client.get(&url).await?;
                if answer.status == http::StatusCode::OK { Ok(()) } else { Err(answer.text()) }
            }
        })
        .await;
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.targets.abort();
    }
}

#[derive(Debug, Deserialize)]
struct QueryAnswer {
    data: QueryData,
}

#[derive(Debug, Deserialize)]
struct QueryData {
    result: Vec<QuerySeries>,
}

#[derive(Debug, Deserialize)]
struct QuerySeries {
    metric: BTreeMap<String, String>,
    /// Unix seconds and the value, as text.
    value: (f64, String),
}

impl QuerySeries {
    fn sample(self) -> Result<Sample, String> {
        let value = self.value.1.parse().map_err(|error| format!("{}: {error}", self.value.1))?;
        Ok(Sample { labels: self.metric, value })
    }
}

fn start(folder: &Path, port: u16) -> Process {
    let arguments = [
        format!("--config.file={}", folder.join("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", folder.join("data").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--log.level=warn".to_owned(),
    ];
    let log = folder.join("prometheus.log");
    Process::start("prometheus", &binaries::prometheus(), &arguments, &[], &log)
}

fn config(options: &PrometheusOptions, targets: &Path) -> String {
    let interval = options.scrape_interval.as_millis();
    let timeout = interval.min(10_000);
    format!(
        "global:\n  scrape_interval: {interval}ms\n  scrape_timeout: {timeout}ms\n  \
         evaluation_interval: {interval}ms\n\
         scrape_configs:\n- job_name: pods\n  file_sd_configs:\n  - files: [{}]\n    \
         refresh_interval: 1s\n{}\n",
        targets.display(),
        options.more_config
    )
}

/// Rewrites the targets whenever the table has changed.
async fn follow(path: PathBuf, table: PodTable, options: PrometheusOptions) {
    let mut changes = table.changes();
    while changes.changed().await.is_ok() {
        write_targets(&path, &table, &options);
        // Hundreds of pods come at once: not a file for each of them.
        tokio::time::sleep(BETWEEN_WRITES).await;
    }
}

fn write_targets(path: &Path, table: &PodTable, options: &PrometheusOptions) {
    let PrometheusOptions { port, namespace, .. } = options;
    let targets: Vec<_> = table
        .all()
        .into_iter()
        .filter(|pod| namespace.as_ref().is_none_or(|wanted| *wanted == pod.namespace))
        .map(|pod| {
            json!({
                "targets": [format!("{}:{port}", pod.ip)],
                "labels": {
                    "namespace": pod.namespace,
                    "pod": pod.name,
                    "deployment": pod.deployment,
                },
            })
        })
        .collect();
    let text = serde_json::Value::from(targets).to_string();
    // Never half a file: written beside it and moved into its place.
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("write the targets");
    std::fs::rename(&new, path).expect("move the targets into place");
}

/// Percent-encodes all that is not a letter or digit.
fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}
