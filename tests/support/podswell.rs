//! The program under test, as its Deployment would run it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::http::HttpClient;
use super::ports::free_ports;
use super::process::Process;
use super::wait::eventually;

/// How long it may take until it is ready: generous, the machine may be busy.
const LIMIT: Duration = Duration::from_secs(150);

/// How it is started, beside what every test needs.
#[derive(Debug, Clone, Default)]
pub(crate) struct PodswellOptions {
    /// Where its `ConfigMaps` and its lease are; empty for `podswell-system`.
    pub(crate) namespace: String,
    /// More flags.
    pub(crate) flags: Vec<String>,
    /// More of the environment.
    pub(crate) environment: Vec<(String, String)>,
}

/// A running `podswell run`; ends with this value.
#[derive(Debug)]
pub(crate) struct Podswell {
    process: Process,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    health_port: u16,
    admin_port: u16,
    client: HttpClient,
}

impl Podswell {
    /// Starts it with this kubeconfig and more flags, and waits until it is ready.
    pub(crate) async fn start(folder: &Path, kubeconfig: &Path, more: &[&str]) -> Self {
        let flags = more.iter().map(|flag| (*flag).to_owned()).collect();
        Self::start_with(folder, kubeconfig, PodswellOptions { flags, ..Default::default() }).await
    }

    /// Starts it with this kubeconfig, and waits until it is ready.
    pub(crate) async fn start_with(
        folder: &Path,
        kubeconfig: &Path,
        options: PodswellOptions,
    ) -> Self {
        let PodswellOptions { namespace, flags, environment } = options;
        let namespace = if namespace.is_empty() { "podswell-system" } else { &namespace };
        let [health_port, admin_port] = free_ports();
        let mut arguments: Vec<String> = [
            "run",
            "--kubeconfig",
            &kubeconfig.display().to_string(),
            "--namespace",
            namespace,
            "--listen",
            &format!("127.0.0.1:{health_port}"),
            "--admin-listen",
            &format!("127.0.0.1:{admin_port}"),
            "--scrape-allow-loopback",
            "--log-format",
            "text",
        ]
        .map(ToOwned::to_owned)
        .to_vec();
        arguments.extend(flags);
        let log = folder.join(format!("podswell-{health_port}.log"));
        let mut this = Self {
            process: spawn(&arguments, &environment, &log),
            arguments,
            environment,
            log,
            health_port,
            admin_port,
            client: HttpClient::new(),
        };
        this.wait_until_ready().await;
        this
    }

    async fn wait_until_ready(&mut self) {
        let url = format!("http://127.0.0.1:{}/readyz", self.health_port);
        let (process, client) = (&mut self.process, &self.client);
        eventually(LIMIT, "podswell is ready", || {
            let ended = process
                .ended()
                .map(|status| panic!("podswell ended with {status}:\n{}", process.log_tail(4000)));
            let (url, client) = (url.clone(), client.clone());
            async move {
                let () = ended.unwrap_or(());
                match client.get(&url).await {
                    Ok(answer) if answer.status == 200 => Ok(()),
                    Ok(answer) => Err(String::from_utf8_lossy(&answer.body).into_owned()),
                    Err(error) => Err(format!("{error:?}")),
                }
            }
        })
        .await;
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends a signal by name, such as `STOP` or `CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Starts it again after [`Self::kill`], with the same flags.
    pub(crate) async fn restart(&mut self) {
        self.process = spawn(&self.arguments, &self.environment, &self.log);
        self.wait_until_ready().await;
    }

    /// SIGTERM; whether it ended with 0 in time.
    pub(crate) async fn terminate(&mut self) -> bool {
        self.process.terminate(LIMIT).await.is_some_and(|status| status.success())
    }

    /// Where `/v1` is served.
    pub(crate) fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin_port)
    }

    /// `GET` of an admin path as JSON; `Null` while there is none.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.admin_url());
        let mut answer = self.client.get(&url).await;
        if answer.is_err() {
            // It may close a connection that was idle for long at the very moment of the question.
            answer = self.client.get(&url).await;
        }
        match answer {
            Ok(answer) if answer.status == 200 => {
                serde_json::from_slice(&answer.body).expect("an answer in JSON")
            }
            _ => Value::Null,
        }
    }

    /// What it says of a target; `Null` while it knows nothing of it.
    pub(crate) async fn target(&self, namespace: &str, name: &str) -> Value {
        self.get(&format!("/v1/targets/{namespace}/{name}")).await
    }

    /// The text of `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        let url = format!("http://127.0.0.1:{}/metrics", self.health_port);
        // It may close a connection that was idle for long at the very moment of the question.
        let answer = eventually(LIMIT, "podswell's metrics", || self.client.get(&url)).await;
        String::from_utf8_lossy(&answer.body).into_owned()
    }

    /// The value of one series of its metrics, named with all its labels as the page has them; 0 while
    /// there is none.
    pub(crate) async fn counted(&self, series: &str) -> f64 {
        let metrics = self.metrics().await;
        let values =
            metrics.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        values.map(|value| value.parse::<f64>().expect("a number")).sum()
    }

    /// Whether a Kubernetes Event may be missing. They are a courtesy: one that an API server on a busy machine
    /// does not take in time, and one of too many at once, is counted and never written.
    pub(crate) async fn left_events_out(&self) -> bool {
        let mut left_out = 0.0;
        for outcome in ["Failed", "Limited"] {
            left_out +=
                self.counted(&format!("podswell_events_total{{outcome=\"{outcome}\"}}")).await;
        }
        left_out > 0.0
    }

    /// Runs `podswell explain` against this process; returns its output.
    pub(crate) fn explain(&self, namespace: &str, name: &str) -> String {
        self.ask(&["explain", &format!("deploy/{name}"), "-n", namespace])
    }

    /// Runs `podswell list` with more flags against this process; returns its output.
    pub(crate) fn list(&self, more: &[&str]) -> String {
        self.ask(&[&["list"], more].concat())
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_podswell"))
            .args(arguments)
            .args(["--server", &self.admin_url()])
            .output()
            .expect("run podswell");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Seconds of processor time that it has used, by the usual hundred ticks a second.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let path = format!("/proc/{}/stat", self.process.id());
        let text = std::fs::read_to_string(path).expect("it runs");
        // The name in parentheses may hold anything; the times are the 12th and 13th field behind it.
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
        ticks.sum::<f64>() / 100.0
    }

    /// Memory that it holds, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        resident_kib(self.process.id()).expect("it runs")
    }

    /// Where both of its outputs go.
    pub(crate) fn log_path(&self) -> &Path {
        &self.log
    }

    /// The end of its log, for a failure's message.
    pub(crate) fn log_tail(&self, bytes: u64) -> String {
        self.process.log_tail(bytes)
    }
}

fn spawn(arguments: &[String], environment: &[(String, String)], log: &Path) -> Process {
    let program = Path::new(env!("CARGO_BIN_EXE_podswell"));
    let environment: Vec<_> =
        environment.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    Process::start("podswell", program, arguments, &environment, log)
}

/// Memory that a process holds, in KiB; `None` once it has ended.
pub(crate) fn resident_kib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
