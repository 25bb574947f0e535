//! `podswell demo`: the whole controller at work on one machine, without a cluster.
//!
//! Real: everything in this crate, its Kubernetes client, its Prometheus client, and the HTTP between
//! them. Played: the Kubernetes API ([`api`] over [`store`]), nodes and pods ([`town`]), the Prometheus
//! server ([`prometheus`]) and the load ([`cast`]). [`faults`] breaks any of these on demand.

mod api;
mod cast;
mod faults;
mod ghosts;
mod kinds;
mod openapi;
mod patch;
mod prometheus;
mod promises;
mod refusal;
mod scenario;
mod score;
mod selector;
mod store;
mod story;
mod strict;
mod table;
mod town;
mod valid;
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::runtime::args::Settings;
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::{self, Company};
use crate::sim::scenario::Scenario;
use api::Api;
use cast::Actor;
use faults::{DEFAULT_TIME, Faults};
use ghosts::Ghosts;
use kinds::{AUTOSCALERS, CONFIG_MAPS, DEPLOYMENTS, KINDS, Kind, NAMESPACES};
use prometheus::Prometheus;
use promises::Promises;
use scenario::Played;
use score::{Books, Score};
use store::{Key, Store};
use town::{Numbers, Town};

/// Where the demo's own objects live.
pub const NAMESPACE: &str = "podswell-system";

/// What the demo is told.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Chooses the noise of the load.
    pub seed: u64,
    /// The page's port; 0 takes a free one. The Kubernetes API gets the next one.
    pub port: u16,
    /// Ends by itself after this time with a summary; never if absent.
    pub duration: Option<Duration>,
    /// How many times faster than the clock the story runs; 1 ..= 10.
    pub speed: u8,
    /// A scenario whose load one more workload carries, with its name.
    pub scenario: Option<(String, Scenario)>,
}

/// The played half, as far as the other half has to know.
struct Stage {
    store: Arc<Store>,
    faults: Arc<Faults>,
    numbers: Arc<Mutex<BTreeMap<String, Numbers>>>,
    books: Arc<Mutex<Books>>,
    promises: Arc<Mutex<Promises>>,
    cast: Arc<[Actor]>,
    left_out: Vec<&'static str>,
    /// The time of the first second.
    began: Timestamp,
    api: SocketAddr,
    /// How long the start of the process took, once it has.
    ready: Arc<OnceLock<Duration>>,
    stop: CancellationToken,
}

/// Runs the demo until SIGTERM, SIGINT or the end of its time.
///
/// `settings_for` makes the controller's settings from the path of a kubeconfig and the page's address.
///
/// # Errors
/// If a port is taken, the scenario is refused, or the controller does not start or ends by itself.
pub fn run(
    options: &DemoOptions,
    settings_for: impl FnOnce(&std::path::Path, SocketAddr) -> anyhow::Result<Settings>,
) -> anyhow::Result<ExitCode> {
    let town = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the demo's runtime")?;
    let stage = town.block_on(Stage::set(options))?;
    let page = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), options.port);
    let folder = tempfile_folder()?;
    let kubeconfig = folder.join("kubeconfig");
    std::fs::write(&kubeconfig, stage.kubeconfig()).context("write the demo's kubeconfig")?;
    let settings = settings_for(&kubeconfig, page)?;
    say(&stage.invitation(options, &kubeconfig));
    let stop = CancellationToken::new();
    if let Some(duration) = options.duration {
        let stop = stop.clone();
        town.spawn(async move {
            tokio::time::sleep(duration).await;
            stop.cancel();
        });
    }
    let routes = Some(stage.routes(options, &kubeconfig));
    let (ready, is_ready) = oneshot::channel();
    town.spawn(tell_when_ready(is_ready, stage.ready.clone()));
    let ended = runtime::run_beside(settings, Company { stop, routes, ready: Some(ready) });
    say(&stage.summary(options.seed));
    stage.stop.cancel();
    town.shutdown_timeout(Duration::from_secs(2));
    // What is left behind is one small file in the folder for temporary files.
    let _ = std::fs::remove_dir_all(&folder);
    ended
}

/// Says how long the start took, once the controller sees the cluster and may write.
async fn tell_when_ready(is_ready: oneshot::Receiver<()>, ready: Arc<OnceLock<Duration>>) {
    let (Ok(()), Some(age)) = (is_ready.await, process_age()) else { return };
    // It becomes ready once.
    let _ = ready.set(age);
    say(&ready_line(age));
}

fn ready_line(age: Duration) -> String {
    format!("ready {:.2} s after the start of the process\n", age.as_secs_f64())
}

/// How long this process has existed, to a hundredth of a second; `None` where the system does not say.
/// Fields and units: proc(5).
fn process_age() -> Option<Duration> {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let began: f64 = after_name.split_whitespace().nth(19)?.parse().ok()?;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let up_s: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(up_s - began / TICKS_A_SECOND).ok()
}

/// A folder of this process alone.
fn tempfile_folder() -> anyhow::Result<std::path::PathBuf> {
    let folder = std::env::temp_dir().join(format!("podswell-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

fn say(text: &str) {
    // Nobody reads a closed terminal, and the demo is still on the page.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

impl Stage {
    async fn set(options: &DemoOptions) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (store, stop) = (Arc::new(Store::new()), CancellationToken::new());
        let faults = Arc::new(Faults::new(clock.clone()));
        // The page's listener is the controller's; here it is only seen whether its port is free, so that
        // whoever started the demo is told of --port.
        drop(bind(options.port).await?);
        let api_port = if options.port == 0 { 0 } else { options.port + 1 };
        let api_listener = bind(api_port).await?;
        let prometheus_listener = bind(0).await?;
        let api = api_listener.local_addr().context("the address of the demo's API")?;
        let prometheus = prometheus_listener.local_addr().context("the address of Prometheus")?;
        let played = options.scenario.as_ref().map(|(name, scenario)| Played::of(name, scenario));
        let played = played.transpose().map_err(anyhow::Error::msg)?;
        let cast = cast::cast(options.speed, played.as_ref());
        furnish(&store, clock.as_ref(), &cast, &sources(prometheus, played.as_ref()));
        let town =
            Town::new(store.clone(), faults.clone(), clock.clone(), (cast.clone(), options.seed));
        let (numbers, books, promises) = (town.numbers(), town.books(), town.promises());
        let began = clock.wall();
        let routes =
            api::routes(Api { store: store.clone(), faults: faults.clone(), clock: clock.clone() });
        tokio::spawn(crate::servers::http::serve(api_listener, routes, stop.clone()));
        let routes = prometheus::routes(Prometheus {
            numbers: numbers.clone(),
            faults: faults.clone(),
            clock,
            cast: cast.clone(),
        });
        tokio::spawn(crate::servers::http::serve(prometheus_listener, routes, stop.clone()));
        tokio::spawn(town.run(stop.clone()));
        let left_out = played.map(|played| played.left_out).unwrap_or_default();
        let ready = Arc::default();
        Ok(Self {
            store,
            faults,
            numbers,
            books,
            promises,
            cast,
            left_out,
            began,
            api,
            ready,
            stop,
        })
    }

    fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "demo",
            "clusters": [{ "name": "demo", "cluster": { "server": format!("http://{}", self.api) } }],
            "users": [{ "name": "demo", "user": {} }],
            "contexts": [{ "name": "demo", "context": { "cluster": "demo", "user": "demo", "namespace": "shop" } }],
        })
        .to_string()
    }

    fn invitation(&self, options: &DemoOptions, kubeconfig: &std::path::Path) -> String {
        let (port, config) = (options.port, kubeconfig.display());
        format!(
            "podswell demo: {} workloads, seed {}, speed {}; the cluster is played, the controller is the real \
             one\n{}\n  \
             open  http://127.0.0.1:{port}\n  \
             try   podswell explain deploy/checkout -n shop --server http://127.0.0.1:{port}\n  \
             try   kubectl --kubeconfig {config} get deploy -w\n  \
             try   curl -X POST http://127.0.0.1:{port}/v1/demo/faults/prometheus-down\n\n\
             Ctrl-C ends it.\n",
            self.cast.len(),
            options.seed,
            options.speed,
            self.left_out_line(),
        )
    }

    /// What of the scenario's file is not played, as a line; empty where there is no scenario.
    fn left_out_line(&self) -> String {
        if self.left_out.is_empty() {
            return String::new();
        }
        let keys = self.left_out.join(", ");
        format!(
            "scenario: its load, target, source and pods' start are played; left to podswell simulate: {keys}\n"
        )
    }

    fn summary(&self, seed: u64) -> String {
        let mut text =
            format!("\nseed {seed}\n{:<22} {:>13} {:>8}\n", "workload", "most replicas", "changes");
        for actor in self.cast.iter() {
            let name = town::full_name(&actor.namespace, &actor.name);
            let mine = self.numbers.lock().get(&name).copied().unwrap_or_default();
            let line = format!("{name:<22} {:>13} {:>8}\n", mine.most_replicas, mine.changes);
            text.push_str(&line);
        }
        text.extend(self.ready.get().copied().map(ready_line));
        text
    }

    /// What the page and scripts ask of the demo.
    fn routes(&self, options: &DemoOptions, kubeconfig: &std::path::Path) -> Router {
        let server = format!("http://127.0.0.1:{}", options.port);
        let state = Arc::new(Backstage {
            faults: self.faults.clone(),
            store: self.store.clone(),
            books: self.books.clone(),
            promises: self.promises.clone(),
            began: self.began,
            cast: self.cast.clone(),
            left_out: self.left_out.clone(),
            story: story::steps(&server, &kubeconfig.display().to_string()),
            ready: self.ready.clone(),
            seed: options.seed,
            speed: options.speed,
        });
        Router::new()
            .route("/v1/demo", get(about))
            .route("/v1/demo/score", get(score))
            .route("/v1/demo/ghosts/{namespace}/{name}", get(ghosts))
            .route("/v1/demo/faults/{name}", post(order))
            .with_state(state)
    }
}

async fn bind(port: u16) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} (choose other ports with --port)"))
}

/// The objects with which the story begins.
fn furnish(store: &Store, clock: &dyn Clock, cast: &[Actor], sources: &BTreeMap<&str, String>) {
    let put = |wanted: &Kind, namespace: &str, name: &str, object: Value| {
        let Some(kind) = KINDS.iter().find(|kind| *kind == wanted) else { return };
        // Each object is named once, so none is there before.
        let _ = store.create(clock.wall(), &Key::new(kind, namespace, name), object);
    };
    let namespaces = cast.iter().map(|actor| actor.namespace.as_str());
    for name in namespaces.chain([NAMESPACE]).collect::<BTreeSet<_>>() {
        put(&NAMESPACES, "", name, json!({}));
    }
    put(&CONFIG_MAPS, NAMESPACE, "podswell-sources", json!({ "data": sources }));
    for actor in cast {
        let labels = json!({ "app": actor.name });
        put(
            &DEPLOYMENTS,
            &actor.namespace,
            &actor.name,
            json!({
                "metadata": { "annotations": actor.annotations, "labels": labels },
                "spec": {
                    "replicas": actor.replicas,
                    "selector": { "matchLabels": labels },
                    "template": {
                        "metadata": { "labels": labels },
                        "spec": { "containers": [{ "name": "app", "image": "played" }] },
                    },
                },
            }),
        );
        if actor.has_hpa {
            put(
                &AUTOSCALERS,
                &actor.namespace,
                &actor.name,
                json!({ "spec": {
                    "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": actor.name },
                    "minReplicas": actor.replicas, "maxReplicas": 10,
                }}),
            );
        }
    }
}

fn sources(prometheus: SocketAddr, played: Option<&Played>) -> BTreeMap<&'static str, String> {
    let source = |kind: &str, metric: &str, more: &str| {
        format!(
            "server: {{ url: \"http://{prometheus}\" }}\nkind: {kind}\nexpr: {metric}\nform: gauge\n\
             interval: 1s\nresolution: 1s\n{more}match: {{ namespace: namespace, workload: deployment }}\n"
        )
    };
    let mut sources = BTreeMap::from([
        ("gateway", source("concurrency", "gateway_requests_in_flight", "")),
        ("ingress", source("rps", "ingress_requests_per_second", "")),
        ("queue", source("backlog", "queue_items", "visibleAtZero: true\n")),
    ]);
    if let Some(played) = played {
        let seen = if played.visible_at_zero { "visibleAtZero: true\n" } else { "" };
        sources.insert(scenario::SOURCE, source(played.metric, "scenario_load", seen));
    }
    sources
}

/// What the routes of the page work with.
struct Backstage {
    faults: Arc<Faults>,
    store: Arc<Store>,
    books: Arc<Mutex<Books>>,
    promises: Arc<Mutex<Promises>>,
    began: Timestamp,
    cast: Arc<[Actor]>,
    left_out: Vec<&'static str>,
    story: Vec<Value>,
    ready: Arc<OnceLock<Duration>>,
    seed: u64,
    speed: u8,
}

async fn about(State(backstage): State<Arc<Backstage>>) -> Json<Value> {
    let faults = faults::NAMES.iter().map(
        |(name, what)| json!({ "name": name, "about": what, "on": backstage.faults.is_on(name) }),
    );
    let cast = backstage.cast.iter().map(
        |actor| json!({ "namespace": actor.namespace, "name": actor.name, "about": actor.about }),
    );
    let Some(deployments) = KINDS.iter().find(|kind| **kind == DEPLOYMENTS) else {
        return Json(Value::Null);
    };
    Json(json!({
        "apiVersion": "podswell.dev/v1", "kind": "Demo", "seed": backstage.seed,
        "speed": backstage.speed, "scenarioLeftOut": backstage.left_out, "story": backstage.story,
        "readySeconds": backstage.ready.get().map(Duration::as_secs_f64),
        "deployments": backstage.store.list(deployments, None).0.len(),
        "promises": backstage.promises.lock().show(),
        "faults": faults.collect::<Vec<_>>(), "cast": cast.collect::<Vec<_>>(),
    }))
}

async fn score(State(backstage): State<Arc<Backstage>>) -> Response {
    let score = Score::of(&backstage.cast, &backstage.books.lock(), backstage.seed);
    computed(move || score.show()).await
}

/// An answer that takes some time to compute.
async fn computed(compute: impl FnOnce() -> Value + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(compute).await {
        Ok(shown) => Json(shown).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn ghosts(
    State(backstage): State<Arc<Backstage>>,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    let actor = backstage.cast.iter().find(|actor| actor.is(&namespace, &name));
    let book = actor.and_then(|actor| backstage.books.lock().of(actor));
    let ghosts = actor
        .zip(book)
        .map(|(actor, book)| Ghosts::new(actor.clone(), book, (backstage.seed, backstage.began)));
    computed(move || ghosts::show(ghosts.as_ref())).await
}

/// For how long a fault is ordered.
#[derive(Debug, Deserialize)]
struct Time {
    seconds: Option<u64>,
}

async fn order(
    State(backstage): State<Arc<Backstage>>,
    Path(name): Path<String>,
    Query(Time { seconds }): Query<Time>,
) -> Response {
    let time = seconds.map_or(DEFAULT_TIME, Duration::from_secs);
    if backstage.faults.order(&name, time) {
        return StatusCode::NO_CONTENT.into_response();
    }
    let known: Vec<_> = faults::NAMES.iter().map(|(name, _)| *name).collect();
    (StatusCode::NOT_FOUND, format!("no such fault; there are: {}\n", known.join(", ")))
        .into_response()
}
