//! Debian's `RabbitMQ` and NATS servers on loopback, and the program that publishes and consumes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;

use crate::support::binaries;
use crate::support::http::HttpClient;
use crate::support::ports::free_ports;
use crate::support::process::Process;
use crate::support::wait::eventually;

/// How long a server may take until it answers: generous, the machine may be busy.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A kind of queue server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    RabbitMq,
    Nats,
}

impl System {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RabbitMq => "rabbitmq",
            Self::Nats => "nats",
        }
    }

    /// The ready-made source.
    pub(super) fn source(self) -> &'static str {
        match self {
            Self::RabbitMq => "rabbitmq",
            Self::Nats => "nats-jetstream",
        }
    }

    /// How a workload chooses a queue; `published`: at the source of what is published, too.
    pub(super) fn source_match(self, queue: &str, published: bool) -> String {
        match self {
            Self::RabbitMq if published => format!("queue={queue},queue_vhost=/,vhost=/"),
            Self::RabbitMq => format!("queue={queue},vhost=/"),
            Self::Nats => format!("stream_name={queue},consumer_name=workers"),
        }
    }
}

/// Both servers; they end with this value.
#[derive(Debug)]
pub(super) struct Servers {
    amqp_port: u16,
    rabbitmq_metrics_port: u16,
    nats_port: u16,
    nats_monitor_port: u16,
    rabbitmq: Process,
    nats: Process,
    _epmd: Process,
    folder: TempDir,
}

impl Servers {
    pub(super) async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("podswell-queues-").tempdir();
        let folder = folder.expect("make a folder");
        let [amqp, metrics, distribution, epmd_port, nats_port, monitor] = free_ports();
        // The port mapper of Erlang, which RabbitMQ would otherwise leave behind.
        let arguments = ["-address", "127.0.0.1", "-port", &epmd_port.to_string()];
        let epmd = start("epmd", Path::new("/usr/bin/epmd"), &arguments, &[], folder.path());
        let rabbitmq = rabbitmq(folder.path(), amqp, metrics, distribution, epmd_port);
        let (port, monitor_port) = (nats_port.to_string(), monitor.to_string());
        let store = folder.path().join("nats").display().to_string();
        let arguments = ["-a", "127.0.0.1", "-p", &port, "-m", &monitor_port, "-js", "-sd", &store];
        let nats = start("nats", &binaries::nats(), &arguments, &[], folder.path());
        let mut this = Self {
            amqp_port: amqp,
            rabbitmq_metrics_port: metrics,
            nats_port,
            nats_monitor_port: monitor,
            rabbitmq,
            nats,
            _epmd: epmd,
            folder,
        };
        let pages = [
            format!("http://127.0.0.1:{metrics}/metrics/detailed?family=queue_coarse_metrics"),
            format!("http://127.0.0.1:{monitor}/jsz"),
        ];
        answers(&mut this.rabbitmq, &pages[0]).await;
        answers(&mut this.nats, &pages[1]).await;
        this
    }

    /// The scrape of `RabbitMQ`, as its ready-made source asks for it.
    pub(super) fn jobs(&self) -> String {
        format!(
            "- job_name: rabbitmq\n  metrics_path: /metrics/detailed\n  params: {{ family: \
             [queue_coarse_metrics, channel_queue_exchange_metrics] }}\n  static_configs:\n  - targets: \
             [\"127.0.0.1:{}\"]\n",
            self.rabbitmq_metrics_port
        )
    }
}

fn rabbitmq(folder: &Path, amqp: u16, metrics: u16, distribution: u16, epmd: u16) -> Process {
    let home = folder.join("rabbitmq");
    std::fs::create_dir(&home).expect("make RabbitMQ's folder");
    let config = format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}\nprometheus.tcp.ip = 127.0.0.1\n\
         prometheus.tcp.port = {metrics}\ncollect_statistics_interval = 1000\n"
    );
    let path = |name: &str| home.join(name).display().to_string();
    std::fs::write(path("rabbitmq.conf"), config).expect("write its configuration");
    std::fs::write(path("plugins"), "[rabbitmq_prometheus].\n").expect("write its plugins");
    let environment = [
        ("HOME", home.display().to_string()),
        ("HOSTNAME", "localhost".to_owned()),
        ("RABBITMQ_NODENAME", format!("podswell-{amqp}@localhost")),
        ("RABBITMQ_DIST_PORT", distribution.to_string()),
        ("RABBITMQ_MNESIA_BASE", path("mnesia")),
        ("RABBITMQ_LOG_BASE", path("log")),
        ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins")),
        ("ERL_EPMD_PORT", epmd.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        // The script becomes the server instead of starting it, so that it ends with its process id.
        ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
    ];
    start("rabbitmq", &binaries::rabbitmq(), &[], &environment, folder)
}

fn start(
    name: &str,
    program: &Path,
    arguments: &[&str],
    environment: &[(&str, String)],
    folder: &Path,
) -> Process {
    let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    Process::start(name, program, &arguments, environment, &folder.join(format!("{name}.log")))
}

/// Waits until a server answers.
async fn answers(process: &mut Process, url: &str) {
    let client = HttpClient::new();
    eventually(START_LIMIT, &format!("{} answers", process.name()), || {
        let ended = process.ended();
        assert!(ended.is_none(), "it ended: {ended:?}\n{}", process.log_tail(4000));
        let client = client.clone();
        async move {
            let answer = client.get(url).await?;
            if answer.status == http::StatusCode::OK { Ok(()) } else { Err(answer.text()) }
        }
    })
    .await;
}

/// What was published to a queue and worked off.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Counts {
    /// Items that the server confirmed.
    pub(super) published: u64,
    /// A publisher is at work.
    pub(super) publishing: bool,
    /// Different items that were worked off.
    pub(super) distinct: u64,
    /// Items worked off, repetitions too.
    pub(super) deliveries: u64,
    /// Items that nobody published.
    pub(super) foreign: u64,
    /// Consumers that run.
    pub(super) consumers: u64,
}

/// The program of `tests/queues`: publishers and consumers with the official clients, and NATS' numbers under
/// the exporter's names. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct QueueApp {
    port: u16,
    client: HttpClient,
    _process: Arc<Process>,
}

impl QueueApp {
    pub(super) async fn start(servers: &Servers) -> Self {
        let [port] = free_ports();
        let arguments = [
            "-listen".to_owned(),
            format!("127.0.0.1:{port}"),
            "-amqp".to_owned(),
            format!("amqp://guest:guest@127.0.0.1:{}/", servers.amqp_port),
            "-nats".to_owned(),
            format!("nats://127.0.0.1:{}", servers.nats_port),
            "-nats-monitor".to_owned(),
            format!("http://127.0.0.1:{}", servers.nats_monitor_port),
        ];
        let log = servers.folder.path().join("queue-app.log");
        let program = binaries::path("queue-app");
        let mut process = Process::start("queue-app", &program, &arguments, &[], &log);
        answers(&mut process, &format!("http://127.0.0.1:{port}/metrics")).await;
        Self { port, client: HttpClient::new(), _process: Arc::new(process) }
    }

    /// The scrape of NATS' numbers.
    pub(super) fn job(&self) -> String {
        format!("- job_name: nats\n  static_configs:\n  - targets: [\"127.0.0.1:{}\"]\n", self.port)
    }

    pub(super) async fn declare(&self, system: System, queue: &str) {
        self.ask(&format!("declare?system={}&queue={queue}", system.name())).await;
    }

    /// Publishes in the background; `rate` 0: as fast as the server takes it.
    pub(super) async fn publish(&self, system: System, queue: &str, items: u32, rate: u32) {
        let system = system.name();
        self.ask(&format!("publish?system={system}&queue={queue}&items={items}&rate={rate}")).await;
    }

    pub(super) async fn consume(
        &self,
        system: System,
        queue: &str,
        pod: &str,
        service: Duration,
        prefetch: u32,
    ) {
        let (system, us) = (system.name(), service.as_micros());
        self.ask(&format!(
            "consume?system={system}&queue={queue}&pod={pod}&us={us}&prefetch={prefetch}"
        ))
        .await;
    }

    pub(super) async fn stop(&self, pod: &str) {
        self.ask(&format!("stop?pod={pod}")).await;
    }

    pub(super) async fn counts(&self, system: System, queue: &str) -> Counts {
        let body = self.ask(&format!("counts?system={}&queue={queue}", system.name())).await;
        serde_json::from_slice(&body).expect("counts as JSON")
    }

    async fn ask(&self, request: &str) -> bytes::Bytes {
        let url = format!("http://127.0.0.1:{}/{request}", self.port);
        let answer = self.client.get(&url).await.expect("queue-app answers");
        assert!(answer.status.is_success(), "{request}: {}", answer.text());
        answer.body
    }
}
