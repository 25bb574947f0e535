//! Load on the pods of a Deployment, as users would make it: straight to the ready pods.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use super::http::HttpClient;
use super::stat::float;
use super::table::PodTable;

/// Requests in flight of an open loop, beyond which it makes no more.
const OPEN_LOOP_LIMIT: usize = 5_000;

/// Pause after a failure, so that nothing is hammered.
const PAUSE: Duration = Duration::from_millis(10);

/// How much load there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Level {
    /// None.
    Idle,
    /// This many requests in flight: each that ends is followed by another at once. Between the
    /// two the number is one short for a moment, longer on a busy machine.
    InFlight(usize),
    /// Exactly this many requests in flight: they do not end, but are broken off when the level
    /// falls, and moved so that all ready pods have the same share. They count as no outcome.
    Held(usize),
    /// This many requests a second, whether or not the earlier ones have ended.
    PerSecond(f64),
}

/// Where the load goes and what bounds it.
#[derive(Debug, Clone)]
pub(crate) struct LoadOptions {
    pub(crate) namespace: String,
    pub(crate) deployment: String,
    /// Port of the application.
    pub(crate) port: u16,
    /// How long each request takes at the pod.
    pub(crate) work: Duration,
    /// Ends the load, however high the level.
    pub(crate) max_requests: u64,
    /// Ends the load, however high the level.
    pub(crate) max_time: Duration,
}

impl LoadOptions {
    /// Requests of 200 ms to port 8080; at most a million and for fifty minutes: longer than any test, however
    /// busy the machine.
    pub(crate) fn new(namespace: &str, deployment: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            deployment: deployment.to_owned(),
            port: 8080,
            work: Duration::from_millis(200),
            max_requests: 1_000_000,
            max_time: Duration::from_secs(3000),
        }
    }
}

/// What came of the requests so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Answered with 200.
    pub(crate) ok: u64,
    /// Answered with anything else, or not at all.
    pub(crate) failed: u64,
    /// Found no ready pod, so were not made: tries of a closed loop, lost ones of an open loop.
    pub(crate) no_pod: u64,
}

/// A load that goes on until this value is dropped or a bound is reached.
#[derive(Debug)]
pub(crate) struct Load {
    level: watch::Sender<Level>,
    counts: Arc<Counts>,
    durations: Durations,
    driver: JoinHandle<()>,
}

/// When each request ended that was answered with 200, and how many seconds it took.
type Durations = Arc<Mutex<Vec<(Instant, f64)>>>;

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    ok: AtomicU64,
    failed: AtomicU64,
    no_pod: AtomicU64,
}

impl Load {
    /// Starts at this level.
    pub(crate) fn start(table: PodTable, options: LoadOptions, level: Level) -> Self {
        let counts = Arc::<Counts>::default();
        let (sender, receiver) = watch::channel(level);
        let target = Arc::new(Target {
            table,
            options,
            client: HttpClient::new(),
            in_flight: Mutex::default(),
            counts: Arc::clone(&counts),
            durations: Arc::default(),
        });
        let durations = Arc::clone(&target.durations);
        Self { level: sender, counts, durations, driver: tokio::spawn(drive(target, receiver)) }
    }

    /// Changes the level. A lower number in flight is reached as requests end.
    pub(crate) fn set(&self, level: Level) {
        self.level.send_replace(level);
    }

    /// What came of the requests so far.
    pub(crate) fn outcome(&self) -> Outcome {
        Outcome {
            ok: self.counts.ok.load(Ordering::Relaxed),
            failed: self.counts.failed.load(Ordering::Relaxed),
            no_pod: self.counts.no_pod.load(Ordering::Relaxed),
        }
    }

    /// How many seconds each request took that was answered with 200 after `from`, until `to`.
    pub(crate) fn durations_between(&self, from: Instant, to: Instant) -> Vec<f64> {
        let durations = self.durations.lock();
        let wanted = durations.iter().filter(|(ended, _)| *ended > from && *ended <= to);
        wanted.map(|(_, took)| *took).collect()
    }

    /// Ends the load at once, breaking off the requests in flight.
    pub(crate) fn stop(self) -> Outcome {
        self.outcome()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Where requests go and how they are spread.
struct Target {
    table: PodTable,
    options: LoadOptions,
    client: HttpClient,
    in_flight: Mutex<BTreeMap<Ipv4Addr, usize>>,
    counts: Arc<Counts>,
    durations: Durations,
}

/// A request's place at a pod, given back when it is dropped.
struct Place<'a> {
    target: &'a Target,
    ip: Ipv4Addr,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut in_flight = self.target.in_flight.lock();
        if let Some(count) = in_flight.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                in_flight.remove(&self.ip);
            }
        }
    }
}

impl Target {
    /// A place at the ready pod with the fewest of our requests.
    fn place(&self) -> Option<Place<'_>> {
        let pods = self.table.ready(&self.options.namespace, &self.options.deployment);
        let mut in_flight = self.in_flight.lock();
        let least = |ip: &Ipv4Addr| in_flight.get(ip).copied().unwrap_or(0);
        let ip = pods.iter().map(|pod| pod.ip).min_by_key(least)?;
        *in_flight.entry(ip).or_default() += 1;
        Some(Place { target: self, ip })
    }

    /// Makes one request at the best pod.
    ///
    /// Returns whether there may be another: `false` once the bound is reached.
    async fn request(&self, work: Duration) -> bool {
        let Some(place) = self.place() else {
            self.counts.no_pod.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
            return true;
        };
        if self.counts.begun.fetch_add(1, Ordering::Relaxed) >= self.options.max_requests {
            return false;
        }
        let asked = Instant::now();
        let answer = self.client.get(&self.url(place.ip, work)).await;
        if answer.is_ok_and(|answer| answer.status == http::StatusCode::OK) {
            self.counts.ok.fetch_add(1, Ordering::Relaxed);
            self.durations.lock().push((Instant::now(), asked.elapsed().as_secs_f64()));
        } else {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
        true
    }

    fn url(&self, ip: Ipv4Addr, work: Duration) -> String {
        format!("http://{ip}:{}/work?ms={}", self.options.port, work.as_millis())
    }
}

async fn drive(target: Arc<Target>, mut level: watch::Receiver<Level>) {
    let deadline = Instant::now() + target.options.max_time;
    let mut closed = ClosedLoop::new(Arc::clone(&target));
    let mut open = JoinSet::new();
    let mut held = Held::new(Arc::clone(&target));
    loop {
        let current = *level.borrow_and_update();
        held.wanted = if let Level::Held(number) = current { number } else { 0 };
        closed.resize(if let Level::InFlight(number) = current { number } else { 0 });
        let work = async {
            match current {
                Level::PerSecond(rate) if rate > 0.0 => open_loop(&target, rate, &mut open).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = held.keep() => {}
            changed = level.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(deadline) => return,
            () = work => {}
        }
    }
}

/// As many tasks as there shall be requests in flight.
struct ClosedLoop {
    target: Arc<Target>,
    slots: Arc<Mutex<Slots>>,
    tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Slots {
    wanted: usize,
    /// Tasks that run; more than wanted until some have ended their request.
    running: usize,
}

impl ClosedLoop {
    fn new(target: Arc<Target>) -> Self {
        Self { target, slots: Arc::default(), tasks: JoinSet::new() }
    }

    fn resize(&mut self, wanted: usize) {
        let mut slots = self.slots.lock();
        slots.wanted = wanted;
        while slots.running < wanted {
            slots.running += 1;
            // The first requests are of all lengths, so that not all end at the same moment.
            let first = self.target.options.work.mul_f64(share(slots.running, wanted));
            self.tasks.spawn(work(Arc::clone(&self.target), Arc::clone(&self.slots), first));
        }
        while self.tasks.try_join_next().is_some() {}
    }
}

/// One request after the other while the slot is wanted.
async fn work(target: Arc<Target>, slots: Arc<Mutex<Slots>>, first: Duration) {
    let mut more = target.request(first).await;
    loop {
        {
            let mut slots = slots.lock();
            if !more || slots.running > slots.wanted {
                slots.running -= 1;
                return;
            }
        }
        more = target.request(target.options.work).await;
    }
}

/// Requests that stay in flight for as long as they are wanted.
struct Held {
    target: Arc<Target>,
    wanted: usize,
    /// A task for each request, by the pod that it is at.
    requests: BTreeMap<Ipv4Addr, Vec<JoinHandle<()>>>,
}

impl Held {
    fn new(target: Arc<Target>) -> Self {
        Self { target, wanted: 0, requests: BTreeMap::new() }
    }

    /// Keeps the wanted number in flight, evenly, whatever becomes of the pods.
    async fn keep(&mut self) {
        let mut changes = self.target.table.changes();
        loop {
            self.level();
            tokio::select! {
                _ = changes.changed() => {}
                // A request that was broken off by its pod is made again.
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Breaks off what is too much and begins what is missing, pod by pod.
    fn level(&mut self) {
        let LoadOptions { namespace, deployment, max_time, .. } = &self.target.options;
        let pods = self.target.table.ready(namespace, deployment);
        self.requests.retain(|ip, requests| {
            let ready = pods.iter().any(|pod| pod.ip == *ip);
            requests.iter().filter(|_| !ready).for_each(JoinHandle::abort);
            ready
        });
        for (index, pod) in pods.iter().enumerate() {
            let part = self.wanted / pods.len() + usize::from(index < self.wanted % pods.len());
            let requests = self.requests.entry(pod.ip).or_default();
            requests.retain(|request| !request.is_finished());
            requests.drain(part.min(requests.len())..).for_each(|request| request.abort());
            while requests.len() < part {
                let url = self.target.url(pod.ip, *max_time);
                let client = self.target.client.clone();
                requests.push(tokio::spawn(async move {
                    let _ = client.get(&url).await;
                }));
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.requests.values().flatten().for_each(JoinHandle::abort);
    }
}

/// Requests at a steady pace; they go on in `requests` when this future is dropped.
async fn open_loop(target: &Arc<Target>, rate: f64, requests: &mut JoinSet<bool>) {
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(rate.recip()));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        ticks.tick().await;
        while requests.try_join_next().is_some() {}
        if requests.len() < OPEN_LOOP_LIMIT {
            let target = Arc::clone(target);
            requests.spawn(async move { target.request(target.options.work).await });
        }
    }
}

/// Part of a whole, from 0 to 1.
fn share(part: usize, whole: usize) -> f64 {
    let float = |number: usize| u32::try_from(number).map_or(f64::MAX, f64::from);
    float(part) / float(whole)
}

/// Requests a second between two outcomes that lie `span` apart.
pub(crate) fn rate(before: Outcome, after: Outcome, span: Duration) -> f64 {
    float(after.ok - before.ok) / span.as_secs_f64()
}
