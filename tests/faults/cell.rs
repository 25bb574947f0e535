//! One podswell process with its own way to the API server, and the workloads in its own namespace.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use podswell::core::decider::stages::{saturating_i32, want};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::footprint::Watch;
use crate::ledger::Ledger;
use crate::stage::{LIMIT, Stage};
use crate::support::deployment::{DeploymentRef, NewDeployment, ensure_namespace};
use crate::support::kubeconfig;
use crate::support::load::{Level, Load, LoadOptions};
use crate::support::podswell::{Podswell, PodswellOptions};
use crate::support::proxy::{Proxy, Upstream};
use crate::support::wait::{eventually, until};

/// The stable window of all workloads, the shortest that there is.
pub(crate) const WINDOW: Duration = Duration::from_secs(6);
/// Requests in flight that a pod of a workload can bear: the annotation. It shall carry 70 % of them.
const BEARS: i32 = 10;
const CARRIES: i32 = 7;
/// For how long nothing moves where a workload has settled.
const CALM: Duration = Duration::from_secs(2);
/// How long that is waited for.
const PATIENCE: Duration = Duration::from_secs(45);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// No workload may have more, whatever is said of its load.
pub(crate) const MOST: i32 = 13;
/// How its pods are scraped.
pub(crate) const SCRAPE: &str =
    r#"{"port":8080,"path":"/metrics","inFlight":"app_requests_in_flight"}"#;
/// How long the users stay: longer than the runs take on the slowest machine.
const LOAD_SPAN: Duration = Duration::from_secs(3600);
/// Beside the requests that stay in flight: short ones, to see that they are answered.
const SHORT_PER_SECOND: f64 = 5.0;
const SHORT_WORK: Duration = Duration::from_millis(10);
const SYSTEM: &str = "podswell-system";

/// How a cell differs from the others.
#[derive(Clone, Default)]
pub(crate) struct CellOptions {
    /// The `ConfigMap` podswell-sources: a document for each name.
    pub(crate) sources: Vec<(String, String)>,
    /// The field selector of what it sees; empty for the namespace of its name.
    pub(crate) scope: String,
    /// Acts as this user instead of the installation's service account.
    pub(crate) account: Option<Client>,
    /// More of the environment.
    pub(crate) environment: Vec<(String, String)>,
    /// More flags.
    pub(crate) flags: Vec<String>,
}

pub(crate) struct Cell {
    name: String,
    pub(crate) podswell: Arc<tokio::sync::Mutex<Podswell>>,
    pub(crate) proxy: Proxy,
    /// Its workloads that carry load.
    pub(crate) workloads: Vec<Workload>,
    watch: Mutex<Option<Watch>>,
    settled: AtomicUsize,
    unsettled: AtomicUsize,
    /// Other ways that its process goes, kept open.
    kept: Mutex<Vec<Proxy>>,
}

impl Cell {
    /// Starts the process and waits until it is ready. Its `ConfigMaps` and its lease are in `NAME-system`.
    pub(crate) async fn start(stage: &Arc<Stage>, name: &str, options: CellOptions) -> Self {
        let system = format!("{name}-system");
        prepare(stage, &system, &options.sources).await;
        Self::join(stage, name, &system, options).await
    }

    /// Starts a process in the system namespace of another cell.
    pub(crate) async fn join(
        stage: &Arc<Stage>,
        name: &str,
        system: &str,
        options: CellOptions,
    ) -> Self {
        let own = format!("metadata.namespace={name}");
        let scope = if options.scope.is_empty() { &own } else { &options.scope };
        let account = options.account.unwrap_or_else(|| stage.account.clone());
        let proxy = Proxy::start(Upstream::Kubernetes(account), Some(scope)).await;
        let path = stage.folder.join(format!("{}.kubeconfig", proxy.url().replace('/', "_")));
        kubeconfig::write(&path, &kubeconfig::plain(&proxy.url()));
        let options = PodswellOptions {
            namespace: system.to_owned(),
            flags: options.flags,
            environment: options.environment,
        };
        let podswell = Podswell::start_with(&stage.folder, &path, options).await;
        Self {
            name: name.to_owned(),
            podswell: Arc::new(podswell.into()),
            proxy,
            workloads: Vec::new(),
            watch: Mutex::default(),
            settled: AtomicUsize::new(0),
            unsettled: AtomicUsize::new(0),
            kept: Mutex::default(),
        }
    }

    /// Adds a workload of `pods` pods with the load for as many, and waits until that is known.
    pub(crate) async fn add(&mut self, stage: &Arc<Stage>, new: NewWorkload<'_>) {
        let workload = Workload::start(stage, &self.name, new).await;
        // The window has to know nothing of the time before the load.
        let what = format!("the window of {} is full of its load", workload.key);
        let least = f64::from(load_of(new.pods) - 2);
        let full = |status: &Value| {
            status["decision"]["signal"]["state"] == "fresh"
                && status["decision"]["windows"]["stable"].as_f64().is_some_and(|mean| mean > least)
        };
        until(LIMIT, &what, full, || self.status(&workload.namespace, &workload.name)).await;
        workload.reaches(new.pods).await;
        self.settles(&workload).await;
        self.workloads.push(workload);
    }

    /// Waits until the window of a workload is full of its load and nothing moves any more: as many
    /// replicas are decided, written and ready as that load needs. From then on fewer are wrong for as
    /// long as the load does not fall.
    ///
    /// On a machine so busy that pods cannot be asked each second this may never come. Then what can bear
    /// the load stays the floor, and [`Self::report`] says so.
    pub(crate) async fn settles(&self, workload: &Workload) {
        let pods = *workload.asked.lock();
        let began = Instant::now();
        let mut calm_since = None;
        while began.elapsed() < PATIENCE {
            // What was decided for another load may still be on its way; what has arrived is told.
            let writing = self.proxy.is_writing();
            let status = self.status(&workload.namespace, &workload.name).await;
            if writing || !workload.is_settled(pods, &status["decision"]) {
                calm_since = None;
            } else if calm_since.get_or_insert_with(Instant::now).elapsed() >= CALM {
                workload.ledger().raise_floor(&workload.key, decided_of(pods));
                self.settled.fetch_add(1, Ordering::Relaxed);
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.unsettled.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a workload was settled when it was waited for, and how often it was not.
    pub(crate) fn report(&self) -> [usize; 2] {
        [&self.settled, &self.unsettled].map(|count| count.load(Ordering::Relaxed))
    }

    /// What podswell says of a workload.
    pub(crate) async fn status(&self, namespace: &str, name: &str) -> Value {
        self.podswell.lock().await.target(namespace, name).await
    }

    /// Waits until podswell says that it hears the whole signal of each workload.
    pub(crate) async fn hears_all(&self) {
        for workload in &self.workloads {
            self.hears(workload, "fresh").await;
        }
    }

    /// Waits until podswell says that the signal of a workload is in this state.
    pub(crate) async fn hears(&self, workload: &Workload, state: &str) {
        let what = format!("the signal of {} is {state}", workload.key);
        let reached = |status: &Value| status["decision"]["signal"]["state"] == state;
        let status = || self.status(&workload.namespace, &workload.name);
        until(LIMIT, &what, reached, status).await;
    }

    /// Waits until podswell says this of the signal of a workload, and has counted more of these outcomes
    /// than `before`.
    pub(crate) async fn names(&self, workload: &Workload, told: Told, before: f64) {
        let what = format!("podswell says of {}: {told:?}", workload.key);
        let named = |(signal, counted): &(Value, f64)| {
            let says_so = signal["state"] == told.state && signal["fault"] == json!(told.fault);
            says_so && *counted > before
        };
        until(LIMIT, &what, named, || async {
            let status = self.status(&workload.namespace, &workload.name).await;
            (status["decision"]["signal"].clone(), self.counted(&told.series()).await)
        })
        .await;
    }

    /// Waits until the Kubernetes Events of a workload give all these reasons. Events are a courtesy: one
    /// that was left out, that the API server did not take in time, or that came while the process did not
    /// lead, is only in the log.
    pub(crate) async fn tells(&self, workload: &Workload, reasons: &[&str]) {
        let what = format!("Events of {} say {reasons:?}", workload.key);
        let all =
            |told: &Vec<String>| reasons.iter().all(|reason| told.iter().any(|t| t == reason));
        until(LIMIT, &what, all, || async {
            let mut told = workload.deployment.event_reasons().await;
            let log = self.podswell.lock().await.log_path().to_owned();
            let log = std::fs::read_to_string(log).expect("read its log");
            if self.has_lost_events(&log).await {
                told.extend(logged_notices(&log, &workload.name));
            }
            told
        })
        .await;
    }

    /// Whether there may be notices that never became Events.
    async fn has_lost_events(&self, log: &str) -> bool {
        if log.contains("leadership changed leader=false") {
            return true;
        }
        for outcome in ["Limited", "Failed"] {
            let series = format!("podswell_events_total{{outcome=\"{outcome}\"}}");
            if self.counted(&series).await > 0.0 {
                return true;
            }
        }
        false
    }

    /// The value of a series of podswell's metrics; 0 while there is none.
    pub(crate) async fn counted(&self, series: &str) -> f64 {
        self.podswell.lock().await.counted(series).await
    }

    /// What podswell answers at this path.
    pub(crate) async fn asked_for(&self, path: &str) -> Value {
        self.podswell.lock().await.get(path).await
    }

    /// What podswell says of itself.
    pub(crate) async fn of_itself(&self) -> Value {
        self.asked_for("/v1/status").await
    }

    /// Keeps a proxy for as long as the process.
    pub(crate) fn keep(&self, proxy: Proxy) {
        self.kept.lock().push(proxy);
    }

    /// From now on what the process holds is noted.
    pub(crate) fn mark(&self) {
        *self.watch.lock() = Some(Watch::start(Arc::clone(&self.podswell)));
    }

    /// Whether a fault is played, so that what the process holds counts.
    pub(crate) fn plays(&self, plays: bool) {
        self.watch.lock().iter().for_each(|watch| watch.counts(plays));
    }

    /// Sees to it that what the process held since [`Self::mark`] has no upward trend.
    ///
    /// # Panics
    /// If it grew.
    pub(crate) fn is_flat(&self) {
        let watch = self.watch.lock().take().expect("it was marked");
        watch.is_flat().unwrap_or_else(|grown| panic!("{}: {grown}", self.name));
    }
}

impl Drop for Cell {
    /// Shows what podswell said of a failure.
    #[expect(clippy::print_stdout, reason = "the message of a failed test")]
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(podswell) = self.podswell.try_lock()
        {
            println!("{}: the end of podswell's log:\n{}", self.name, podswell.log_tail(6000));
        }
    }
}

/// The reasons of the notices that a log has of a workload.
fn logged_notices(log: &str, name: &str) -> Vec<String> {
    let name = format!("target.name=\"{name}\"");
    let of_workload = log.lines().filter(|line| line.contains(&name));
    let notice = |line: &str| Some(line.split_once("notice=\"")?.1.split_once('"')?.0.to_owned());
    of_workload.filter_map(notice).collect()
}

/// Makes a system namespace with the installation's rights and these sources.
async fn prepare(stage: &Stage, system: &str, sources: &[(String, String)]) {
    let client = stage.client.clone();
    ensure_namespace(&client, system).await;
    copy::<Role>(&client, system).await;
    copy::<RoleBinding>(&client, system).await;
    let data: serde_json::Map<String, Value> =
        sources.iter().map(|(name, text)| (name.clone(), text.clone().into())).collect();
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "podswell-sources", "namespace": system },
        "data": data,
    });
    stage.plane.read().await.apply(&map.to_string()).await;
}

/// Copies podswell's own object of this kind into another namespace.
async fn copy<K>(client: &Client, to: &str)
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let mut object: K =
        Api::namespaced(client.clone(), SYSTEM).get("podswell").await.expect("it is installed");
    *object.meta_mut() = kube::core::ObjectMeta {
        name: Some("podswell".to_owned()),
        ..kube::core::ObjectMeta::default()
    };
    let api: Api<K> = Api::namespaced(client.clone(), to);
    api.create(&PostParams::default(), &object).await.expect("copy an object");
}

/// What podswell says of a signal under a fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) source: &'static str,
    /// The state of the signal.
    pub(crate) state: &'static str,
    /// Why it is lost; none where what is heard is right, but perhaps not all.
    pub(crate) fault: Option<&'static str>,
    /// What is counted, for each answer or each pod.
    pub(crate) outcome: &'static str,
}

impl Told {
    /// The series that counts it.
    pub(crate) fn series(&self) -> String {
        let Self { source, outcome, .. } = self;
        format!("podswell_samples_total{{source=\"{source}\",outcome=\"{outcome}\"}}")
    }
}

/// A workload to be added to a cell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewWorkload<'a> {
    pub(crate) name: &'a str,
    /// The namespace; empty for that of the cell's name.
    pub(crate) namespace: &'a str,
    pub(crate) pods: i32,
    /// The named source; empty to scrape the pods.
    pub(crate) source: &'a str,
}

impl<'a> NewWorkload<'a> {
    /// One of five pods in the cell's own namespace that are scraped.
    pub(crate) fn new(name: &'a str) -> Self {
        Self { name, namespace: "", pods: 5, source: "" }
    }

    /// One that is measured by this named source.
    pub(crate) fn from(name: &'a str, source: &'a str) -> Self {
        Self { source, ..Self::new(name) }
    }
}

/// A Deployment with users, whose load is known.
pub(crate) struct Workload {
    stage: Arc<Stage>,
    /// `namespace/name`
    pub(crate) key: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) deployment: DeploymentRef,
    /// Requests that stay in flight.
    held: Load,
    /// Short requests.
    short: Load,
    /// The pods that its load is the work of.
    asked: Mutex<i32>,
}

/// Requests in flight that are the work of so many pods, with room on both sides.
fn load_of(pods: i32) -> i32 {
    pods * CARRIES - 2
}

/// That load, which stays in flight.
fn level_of(pods: i32) -> Level {
    Level::Held(usize::try_from(load_of(pods)).expect("at least one pod"))
}

/// What is decided for the load of so many pods while nothing moves: the same number.
fn decided_of(pods: i32) -> i32 {
    saturating_i32(want(f64::from(load_of(pods)), f64::from(CARRIES)))
}

/// The fewest pods that can bear the load of so many: what is between them and those that are decided is
/// room for how a load shows while it moves from pod to pod on a busy machine. Requests that have left a
/// pod which was asked before, and have come to one that is asked no more, are seen nowhere.
fn needed_of(pods: i32) -> i32 {
    (load_of(pods) + BEARS - 1) / BEARS
}

impl Workload {
    /// Makes it with as many pods as its load needs.
    async fn start(stage: &Arc<Stage>, cell: &str, new: NewWorkload<'_>) -> Self {
        let namespace = if new.namespace.is_empty() { cell } else { new.namespace };
        let made = NewDeployment::new(namespace, new.name, new.pods)
            .annotation("autoscaling.knative.dev/class", "kpa.podswell.dev")
            .annotation("autoscaling.knative.dev/target", &BEARS.to_string())
            .annotation("autoscaling.knative.dev/window", "6s")
            .annotation("autoscaling.knative.dev/max-scale", &MOST.to_string());
        let made = match new.source {
            "" => made.annotation("podswell.dev/scrape", SCRAPE),
            source => made.annotation("podswell.dev/source", source),
        };
        made.create(&stage.client).await;
        let ready = || async { stage.node.table().ready(namespace, new.name).len() };
        let wanted = usize::try_from(new.pods).expect("not negative");
        until(LIMIT, "its pods are ready", |ready| *ready >= wanted, ready).await;
        let options = LoadOptions { max_time: LOAD_SPAN, ..LoadOptions::new(namespace, new.name) };
        let short = LoadOptions { work: SHORT_WORK, ..options.clone() };
        let table = || stage.node.table();
        Self {
            held: Load::start(table(), options, level_of(new.pods)),
            short: Load::start(table(), short, Level::PerSecond(SHORT_PER_SECOND)),
            key: format!("{namespace}/{}", new.name),
            namespace: namespace.to_owned(),
            name: new.name.to_owned(),
            deployment: DeploymentRef::new(&stage.client, namespace, new.name),
            asked: Mutex::new(new.pods),
            stage: stage.clone(),
        }
    }

    /// Whether this decision, and what is stored and ready, is what the load of so many pods comes to.
    fn is_settled(&self, pods: i32, decision: &Value) -> bool {
        let windows = &decision["windows"];
        let replicas = self.replicas();
        decision["signal"]["state"] == "fresh"
            && windows["coveredSeconds"] == WINDOW.as_secs()
            && windows["stable"].as_f64().is_some_and(|mean| mean >= f64::from(load_of(pods)))
            && decision["panicMode"].is_null()
            // On a busy machine the short requests may be enough for one more.
            && (replicas == pods || replicas == pods + 1)
            && ["replicas", "desired", "ready"].iter().all(|key| decision[key] == replicas)
    }

    fn ledger(&self) -> &Ledger {
        &self.stage.ledger
    }

    pub(crate) fn replicas(&self) -> i32 {
        self.ledger().replicas(&self.key)
    }

    /// Sets the load that is the work of so many pods and waits for nothing.
    pub(crate) fn asks_for(&self, pods: i32) {
        let before = std::mem::replace(&mut *self.asked.lock(), pods);
        if pods < before {
            self.moves();
        }
        self.held.set(level_of(pods));
    }

    /// From now on its load may move from pod to pod, or show as less than it is, until it has settled
    /// again: fewer replicas than can bear it are wrong.
    pub(crate) fn moves(&self) {
        let pods = *self.asked.lock();
        self.ledger().set_floor(&self.key, needed_of(pods));
    }

    /// Waits until there are at least so many replicas; from then on fewer than bear the load are wrong.
    pub(crate) async fn reaches(&self, pods: i32) {
        self.reaches_within(LIMIT, pods).await;
    }

    /// [`Self::reaches`], with another limit.
    pub(crate) async fn reaches_within(&self, limit: Duration, pods: i32) {
        eventually(limit, &format!("{} has {pods} replicas", self.key), || async {
            let enough = self.replicas() >= pods;
            if enough { Ok(()) } else { Err(self.ledger().story(&self.key)) }
        })
        .await;
        self.ledger().raise_floor(&self.key, needed_of(pods));
    }

    /// Sets a higher load and waits until it is carried.
    pub(crate) async fn grows_to(&self, pods: i32) {
        self.asks_for(pods);
        self.reaches(pods).await;
    }

    /// Sets a lower load and waits until what is too much is gone: that it is idle is known.
    pub(crate) async fn shrinks_to(&self, pods: i32) {
        self.asks_for(pods);
        self.comes_down_to(pods).await;
    }

    /// Waits until no more replicas are left than so many pods' load may ask for.
    pub(crate) async fn comes_down_to(&self, pods: i32) {
        eventually(LIMIT, &format!("{} has about {pods} replicas", self.key), || async {
            // As many as a workload may settle on where the machine is busy.
            let few = self.replicas() <= pods + 1;
            if few { Ok(()) } else { Err(self.ledger().story(&self.key)) }
        })
        .await;
    }

    /// Sees to it that nothing was lost so far: there never were fewer replicas than are right, and every
    /// request was answered.
    ///
    /// # Panics
    /// If something was lost.
    pub(crate) fn has_lost_nothing(&self) {
        self.ledger().verdict(&self.key).unwrap_or_else(|why| panic!("{why}"));
        let now = self.short.outcome();
        assert_eq!((now.failed, now.no_pod), (0, 0), "{}: {now:?}", self.key);
        assert!(self.replicas() <= MOST, "{}: {} replicas", self.key, self.replicas());
    }

    /// [`Self::has_lost_nothing`] after this time, which goes by under a fault, and in which requests are
    /// answered.
    pub(crate) async fn endures(&self, span: Duration) {
        let before = self.short.outcome().ok;
        tokio::time::sleep(span).await;
        let what = format!("requests to {} are answered", self.key);
        let answered = || async { self.short.outcome().ok };
        until(LIMIT, &what, |answered| *answered > before, answered).await;
        self.has_lost_nothing();
    }
}
