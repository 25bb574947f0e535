//! A gateway in front of the pods: it holds a request until a pod takes it, and tells Prometheus how
//! many it has, so that the first request is seen while no pod runs. A queue, of which nothing is ever
//! left over, stands beside it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::support::http::HttpClient;
use crate::support::table::PodTable;

/// How long a request takes at a pod.
const WORK_MS: u32 = 300;
/// Pause before a request is offered to a pod again.
const PAUSE: Duration = Duration::from_millis(20);

/// A running gateway; ends with this value.
pub(crate) struct Gateway {
    routes: Arc<Mutex<BTreeMap<String, Arc<Route>>>>,
    namespace: String,
    table: PodTable,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

/// What is counted for one Deployment.
#[derive(Debug, Default)]
struct Route {
    in_flight: AtomicU64,
    requests: AtomicU64,
    published: AtomicU64,
    /// Stays 0: every item is taken at once.
    waiting: AtomicU64,
    answered: AtomicU64,
    turn: AtomicUsize,
    /// Whether nothing is told of it.
    hidden: AtomicBool,
}

/// Load that goes on until this value is dropped.
pub(crate) struct Stream {
    route: Arc<Route>,
    tasks: JoinSet<()>,
}

impl Stream {
    /// Requests that were answered, ever.
    pub(crate) fn answered(&self) -> u64 {
        self.route.answered.load(Ordering::Relaxed)
    }

    /// How many of its senders have died; none should.
    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }
}

/// Counts a request in flight for as long as it lives.
struct InFlight(Arc<Route>);

impl InFlight {
    fn new(route: &Arc<Route>) -> Self {
        route.in_flight.fetch_add(1, Ordering::Relaxed);
        route.requests.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(route))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gateway {
    /// Starts one for the Deployments of a namespace.
    pub(crate) async fn start(namespace: &str, table: PodTable) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind a gateway");
        let address = listener.local_addr().expect("its own address");
        let routes = Arc::new(Mutex::new(BTreeMap::new()));
        let state = (namespace.to_owned(), Arc::clone(&routes));
        let router = Router::new().route("/metrics", get(metrics)).with_state(state);
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { routes, namespace: namespace.to_owned(), table, address, serving }
    }

    /// A job of Prometheus' configuration that scrapes it.
    pub(crate) fn scrape_config(&self) -> String {
        format!("- job_name: gateway\n  static_configs:\n  - targets: [\"{}\"]\n", self.address)
    }

    fn route(&self, deployment: &str) -> Arc<Route> {
        Arc::clone(self.routes.lock().entry(deployment.to_owned()).or_default())
    }

    /// Has the series of a Deployment from now on, all at 0.
    pub(crate) fn open(&self, deployment: &str) {
        self.route(deployment);
    }

    /// Tells nothing of a Deployment, or everything again.
    pub(crate) fn hide(&self, deployment: &str, hidden: bool) {
        self.route(deployment).hidden.store(hidden, Ordering::Relaxed);
    }

    /// One request, held until a pod has answered it.
    pub(crate) async fn request(&self, deployment: &str) {
        self.sender(deployment).request().await;
    }

    /// This many requests in flight, each followed by another when it is answered.
    pub(crate) fn in_flight(&self, deployment: &str, number: usize) -> Stream {
        let mut tasks = JoinSet::new();
        for _ in 0..number {
            let sender = self.sender(deployment);
            tasks.spawn(async move {
                loop {
                    sender.request().await;
                }
            });
        }
        Stream { route: self.route(deployment), tasks }
    }

    /// This many requests a second, whether or not earlier ones were answered.
    pub(crate) fn per_second(&self, deployment: &str, rate: f64) -> Stream {
        let sender = self.sender(deployment);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut requests = JoinSet::new();
            let mut ticks = tokio::time::interval(Duration::from_secs_f64(rate.recip()));
            loop {
                ticks.tick().await;
                while requests.try_join_next().is_some() {}
                let sender = sender.clone();
                requests.spawn(async move { sender.request().await });
            }
        });
        Stream { route: self.route(deployment), tasks }
    }

    /// This many items a second published to the queue of a Deployment.
    pub(crate) fn publish(&self, deployment: &str, rate: f64) -> Stream {
        let route = self.route(deployment);
        let mut tasks = JoinSet::new();
        let published = Arc::clone(&route);
        tasks.spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs_f64(rate.recip()));
            loop {
                ticks.tick().await;
                published.published.fetch_add(1, Ordering::Relaxed);
            }
        });
        Stream { route, tasks }
    }

    fn sender(&self, deployment: &str) -> Sender {
        Sender {
            namespace: self.namespace.clone(),
            deployment: deployment.to_owned(),
            route: self.route(deployment),
            table: self.table.clone(),
            client: HttpClient::new(),
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Clone)]
struct Sender {
    namespace: String,
    deployment: String,
    route: Arc<Route>,
    table: PodTable,
    client: HttpClient,
}

impl Sender {
    /// Offers a request to one pod after the other until it is answered.
    async fn request(&self) {
        let _in_flight = InFlight::new(&self.route);
        loop {
            let pods = self.table.ready(&self.namespace, &self.deployment);
            if !pods.is_empty() {
                let turn = self.route.turn.fetch_add(1, Ordering::Relaxed);
                let url = format!("http://{}:8080/work?ms={WORK_MS}", pods[turn % pods.len()].ip);
                if self.client.get(&url).await.is_ok_and(|answer| answer.status == 200) {
                    self.route.answered.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Reads one of the counts.
type Reader = fn(&Route) -> &AtomicU64;

type Shared = (String, Arc<Mutex<BTreeMap<String, Arc<Route>>>>);

async fn metrics(State((namespace, routes)): State<Shared>) -> String {
    let mut text = String::new();
    let families: [(&str, &str, Reader); 4] = [
        ("gateway_requests_in_flight", "gauge", |route| &route.in_flight),
        ("gateway_requests_total", "counter", |route| &route.requests),
        ("queue_published_total", "counter", |route| &route.published),
        ("queue_waiting", "gauge", |route| &route.waiting),
    ];
    for (name, kind, number) in families {
        let _ = writeln!(text, "# TYPE {name} {kind}");
        for (deployment, route) in &*routes.lock() {
            if route.hidden.load(Ordering::Relaxed) {
                continue;
            }
            let number = number(route).load(Ordering::Relaxed);
            let labels = format!("exported=\"gateway\",namespace=\"{namespace}\"");
            let _ = writeln!(text, "{name}{{{labels},deployment=\"{deployment}\"}} {number}");
        }
    }
    text
}
