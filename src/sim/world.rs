//! The discrete-event world around an autoscaler: what happens next is taken from a heap, time jumps
//! there, and everything that follows is put on the heap again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::check::Violation;
use super::cluster::{Change, Phase};
use super::ledger::Ledger;
use super::number::{Micros, SECOND, index, micros, micros_of, real};
use super::plan::Plan;
use super::policy::{Fact, Order, Policy};
use super::random::Random;
use super::scenario::{Answer, Detail, Fault, Lie};
use super::series::Series;
use super::site::Site;
use crate::core::event::WriteOutcome;

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    FaultBegins(usize),
    FaultEnds(usize),
    PodReady { site: usize, pod: u64 },
    PodGone { site: usize, pod: u64 },
    RequestDone { site: usize, number: u64 },
    RequestComes { site: usize },
    WriteEnds { site: usize },
    Measure { site: usize },
    SampleArrives { site: usize, number: u64 },
    Plot,
}

/// A sample on its way.
#[derive(Clone, Copy, Debug)]
struct OnItsWay {
    seen: f64,
    missing: u32,
    measured: Micros,
}

/// One workload and what is on its way for it.
struct Place {
    site: Site,
    writing: Option<Order>,
    next_write: Option<Order>,
    samples: std::collections::BTreeMap<u64, OnItsWay>,
    sent: u64,
    noise: Random,
    writes: Random,
}

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) ledger: Ledger,
    pub(crate) series: Series,
    pub(crate) starts: u64,
    pub(crate) replicas: i32,
    pub(crate) panics: u64,
    pub(crate) violations: Vec<Violation>,
    pub(crate) digest: u64,
    pub(crate) remark: Option<String>,
    /// What happened, counted.
    pub(crate) events: u64,
}

/// The world of one policy.
pub(crate) struct World<'a> {
    plan: &'a Plan,
    policy: Box<dyn Policy>,
    interval: Micros,
    now: Micros,
    heap: BinaryHeap<Reverse<(Micros, u64, Item)>>,
    pushed: u64,
    places: Vec<Place>,
    leader: bool,
    alive: bool,
    clock_offset_us: i64,
    active: Vec<bool>,
    series: Series,
    events: u64,
}

impl<'a> World<'a> {
    /// A world in which `policy` scales; its source is read every `interval`.
    pub(crate) fn new(plan: &'a Plan, policy: Box<dyn Policy>, interval: Duration) -> Self {
        let copies = plan.loads.len();
        let places = (0..copies).map(|copy| {
            let copy = u64::try_from(copy).unwrap_or(0);
            Place {
                site: Site::new(plan),
                writing: None,
                next_write: None,
                samples: std::collections::BTreeMap::new(),
                sent: 0,
                noise: Random::new(plan.seed, "source", copy),
                writes: Random::new(plan.seed, "writes", copy),
            }
        });
        let places = places.collect();
        let faults = plan.scenario.faults.len();
        let mut world = Self {
            plan,
            policy,
            interval: micros(interval),
            now: 0,
            heap: BinaryHeap::new(),
            pushed: 0,
            places,
            leader: true,
            alive: true,
            clock_offset_us: 0,
            active: vec![false; faults],
            series: Series::new(plan.length),
            events: 0,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for (number, fault) in self.plan.scenario.faults.iter().enumerate() {
            let (from, to) = fault.span();
            self.push(from.micros(), Item::FaultBegins(number));
            self.push(to.micros(), Item::FaultEnds(number));
        }
        for site in 0..self.places.len() {
            self.introduce(site);
            // Rounds of different workloads are spread over the interval, the first one's begins at 0.5 s.
            let mut random = Random::new(self.plan.seed, "phase", u64::try_from(site).unwrap_or(0));
            let phase = if site == 0 {
                SECOND / 2
            } else {
                micros_of(random.share() * real(self.interval) / 1e6)
            };
            self.push(phase, Item::Measure { site });
            self.schedule_arrival(site);
        }
        self.push(0, Item::Plot);
    }

    fn introduce(&mut self, site: usize) {
        let Some(place) = self.places.get(site) else { return };
        let Site { replicas, version, .. } = place.site;
        self.policy.tell(self.now, Fact::Replicas { site, replicas, version });
        self.tell_pods(site);
    }

    fn push(&mut self, at: Micros, item: Item) {
        if at <= self.plan.length {
            self.pushed += 1;
            self.heap.push(Reverse((at, self.pushed, item)));
        }
    }

    /// Runs until the end and gives the books.
    pub(crate) fn run(mut self) -> Ended {
        loop {
            let item = self.heap.peek().map(|Reverse((at, _, _))| *at);
            let due = self.policy.due().filter(|due| *due <= self.plan.length);
            match (item, due) {
                (Some(at), due) if due.is_none_or(|due| at <= due) => {
                    let Some(Reverse((at, _, item))) = self.heap.pop() else { break };
                    self.now = at;
                    self.happen(item);
                }
                (_, Some(due)) => {
                    self.now = self.now.max(due);
                    self.policy.act(self.now);
                }
                (_, None) => break,
            }
            self.events += 1;
            self.take_orders();
        }
        self.end()
    }

    fn end(mut self) -> Ended {
        self.now = self.plan.length;
        (0..self.places.len()).for_each(|site| self.advance(site));
        let mut ledger = Ledger::new(0);
        let (mut starts, mut replicas) = (0, 0);
        for place in &self.places {
            ledger.add(&place.site.ledger);
            starts += place.site.pods.starts;
            replicas += place.site.replicas;
        }
        Ended {
            ledger,
            starts,
            replicas,
            panics: self.policy.panics(),
            violations: self.policy.violations(self.plan.length),
            digest: self.policy.digest(),
            remark: self.policy.remark(),
            series: self.series,
            events: self.events,
        }
    }

    fn advance(&mut self, site: usize) {
        let (Some(place), Some(load)) = (self.places.get_mut(site), self.plan.loads.get(site))
        else {
            return;
        };
        place.site.advance(self.plan, load, self.now);
    }

    fn happen(&mut self, item: Item) {
        match item {
            Item::FaultBegins(number) => self.fault(number, true),
            Item::FaultEnds(number) => self.fault(number, false),
            Item::PodReady { site, pod } => self.pod_ready(site, pod),
            Item::PodGone { site, pod } => self.pod_gone(site, pod),
            Item::RequestComes { site } => self.request_comes(site),
            Item::RequestDone { site, number } => self.request_done(site, number),
            Item::WriteEnds { site } => self.write_ends(site),
            Item::Measure { site } => self.measure(site),
            Item::SampleArrives { site, number } => self.sample_arrives(site, number),
            Item::Plot => self.plot(),
        }
    }

    /// Whether a fault of this kind is on now.
    fn find<T>(&self, wanted: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        let faults = self.plan.scenario.faults.iter().zip(&self.active);
        faults.filter(|(_, active)| **active).find_map(|(fault, _)| wanted(fault))
    }

    fn fault(&mut self, number: usize, begins: bool) {
        if let Some(active) = self.active.get_mut(number) {
            *active = begins;
        }
        let Some(fault) = self.plan.scenario.faults.get(number).copied() else { return };
        match fault {
            Fault::LeaderLost(_) => {
                self.leader = !begins;
                // A process that is dead now still finds the lease as it is when it comes back.
                self.policy.tell(self.now, Fact::Leader(self.leader));
            }
            Fault::Restart(_) if begins => {
                self.alive = false;
                self.policy.tell(self.now, Fact::Died);
            }
            Fault::Restart(_) => {
                self.alive = true;
                self.policy.tell(self.now, Fact::Born);
                (0..self.places.len()).for_each(|site| self.introduce(site));
            }
            Fault::ClockStep { forwards, backwards, .. } if begins => {
                let [forwards, backwards] =
                    [forwards, backwards].map(|by| i64::try_from(by.micros()).unwrap_or(0));
                self.clock_offset_us += forwards - backwards;
            }
            Fault::Crash { pods, .. } if begins => {
                (0..self.places.len()).for_each(|site| self.crash(site, pods));
            }
            Fault::Writes { replicas, .. } if begins => {
                (0..self.places.len()).for_each(|site| self.store(site, i32::from(replicas)));
            }
            Fault::Rival(_) => {
                for site in 0..self.places.len() {
                    self.policy.tell(self.now, Fact::Rival { site, present: begins });
                }
            }
            _ => {}
        }
    }

    fn take_orders(&mut self) {
        while let Some(order) = self.policy.order() {
            let Some(place) = self.places.get_mut(order.site) else { continue };
            let site = order.site;
            if place.writing.is_some() {
                // Only the newest wish waits.
                place.next_write = Some(order);
                continue;
            }
            let takes = self.plan.scenario.cluster.write.draw(&mut place.writes);
            place.writing = Some(order);
            self.push(self.now + takes, Item::WriteEnds { site });
        }
    }

    fn write_ends(&mut self, site: usize) {
        let Some(place) = self.places.get_mut(site) else { return };
        let Some(order) = place.writing.take() else { return };
        let version = place.site.version;
        if let Some(next) = place.next_write.take() {
            let takes = self.plan.scenario.cluster.write.draw(&mut place.writes);
            place.writing = Some(next);
            self.push(self.now + takes, Item::WriteEnds { site });
        }
        // The writer looks at its lease at the moment of writing, and drops what it must not write.
        if order.version.is_some() && !(self.leader && self.alive) {
            return;
        }
        let answer = self.find(|fault| match fault {
            Fault::Api { answer, .. } => Some(*answer),
            _ => None,
        });
        let refused = |status, pause_s| WriteOutcome::Refused {
            status,
            retry_after: Duration::from_secs(pause_s),
        };
        let stale = order.version.is_some_and(|expected| expected != version);
        let (stored, outcome) = match answer {
            None if stale => (false, WriteOutcome::Conflict),
            None => (true, WriteOutcome::Written),
            Some(Answer::Conflict) => (false, WriteOutcome::Conflict),
            Some(Answer::Throttled) => (false, refused(429, 2)),
            Some(Answer::Forbidden) => (false, refused(403, 30)),
            Some(Answer::Broken) => (false, refused(500, 2)),
            Some(Answer::None) => (false, WriteOutcome::Unknown),
            Some(Answer::Lost) => (!stale, WriteOutcome::Unknown),
        };
        if stored && let Some(place) = self.places.get_mut(site) {
            place.site.ledger.writes += 1;
            if site == 0 {
                self.series.mark(self.now, order.replicas, order.reason);
            }
        }
        let replicas = order.replicas;
        if self.alive {
            self.policy.tell(self.now, Fact::Written { site, replicas, outcome });
        }
        if stored {
            self.store(site, replicas);
        } else if stale {
            self.introduce(site);
        }
    }

    /// The object has other replicas from now on.
    fn store(&mut self, site: usize, replicas: i32) {
        self.advance(site);
        let Some(place) = self.places.get_mut(site) else { return };
        let before = place.site.replicas;
        place.site.replicas = replicas;
        place.site.version += 1;
        let version = place.site.version;
        place.site.ledger.replicas(self.now, before, replicas);
        let changes = place.site.pods.resize(replicas);
        self.tell(Fact::Replicas { site, replicas, version });
        self.follow(site, &changes);
        self.tell_pods(site);
    }

    fn tell(&mut self, fact: Fact) {
        if self.alive {
            self.policy.tell(self.now, fact);
        }
    }

    fn tell_pods(&mut self, site: usize) {
        let Some(place) = self.places.get(site) else { return };
        let pods = &place.site.pods;
        let fact = Fact::Pods { site, counts: pods.counts(), current: pods.current() };
        self.tell(fact);
    }

    /// Schedules what follows from changed pods.
    fn follow(&mut self, site: usize, changes: &[Change]) {
        for change in changes {
            match *change {
                Change::Starts(pod) => self.start_pod(site, pod),
                Change::Ends(pod) => {
                    let Some(place) = self.places.get_mut(site) else { return };
                    place.site.single.close(&place.site.pods, pod);
                    let requests = self.plan.scenario.detail == Detail::Requests;
                    let grace = self.plan.scenario.cluster.grace.micros();
                    let idle = place.site.pods.busy(pod) == 0;
                    let leaves = match (requests, idle) {
                        (true, true) => 0,
                        (true, false) => grace,
                        (false, _) => grace.min(micros_of(self.plan.service_s)),
                    };
                    self.push(self.now + leaves, Item::PodGone { site, pod });
                }
            }
        }
    }

    fn start_pod(&mut self, site: usize, pod: u64) {
        // A pod's start depends on its number alone, so that it is the same for every policy.
        let name = format!("start-{pod}");
        let copy = u64::try_from(site).unwrap_or(0);
        let takes = self.plan.scenario.cluster.pod_start.draw(&mut Random::new(
            self.plan.seed,
            &name,
            copy,
        ));
        self.push(self.now + takes, Item::PodReady { site, pod });
    }

    fn pod_ready(&mut self, site: usize, pod: u64) {
        self.advance(site);
        if self.find(|fault| matches!(fault, Fault::NoRoom(_)).then_some(())).is_some() {
            self.push(self.now + SECOND, Item::PodReady { site, pod });
            return;
        }
        let Some(place) = self.places.get_mut(site) else { return };
        if place.site.pods.become_ready(pod) {
            place.site.single.open(pod);
            self.serve(site);
            self.tell_pods(site);
        }
    }

    fn pod_gone(&mut self, site: usize, pod: u64) {
        self.advance(site);
        let Some(place) = self.places.get_mut(site) else { return };
        if place.site.pods.phase(pod) != Some(Phase::Ending) {
            return;
        }
        place.site.pods.remove(pod);
        let lost = place.site.single.lose(pod);
        place.site.ledger.lost += super::number::length(lost);
        let changes = place.site.pods.place();
        self.follow(site, &changes);
        self.tell_pods(site);
    }

    fn crash(&mut self, site: usize, pods: u32) {
        self.advance(site);
        let Some(place) = self.places.get_mut(site) else { return };
        let mut started = Vec::new();
        for (pod, busy) in place.site.pods.crash(pods) {
            place.site.single.forget(pod, busy);
            let lost = place.site.single.lose(pod);
            place.site.ledger.lost += super::number::length(lost);
            started.push(pod);
        }
        for pod in started {
            self.start_pod(site, pod);
        }
        self.tell_pods(site);
    }

    fn schedule_arrival(&mut self, site: usize) {
        let (Some(place), Some(load)) = (self.places.get(site), self.plan.loads.get(site)) else {
            return;
        };
        if let Some(at) = place.site.single.next(&load.requests) {
            self.push(at.max(self.now), Item::RequestComes { site });
        }
    }

    fn request_comes(&mut self, site: usize) {
        self.advance(site);
        let (Some(place), Some(load)) = (self.places.get_mut(site), self.plan.loads.get(site))
        else {
            return;
        };
        let cluster = &self.plan.scenario.cluster;
        let limit = cluster.queue_limit.map_or(f64::INFINITY, |limit| limit.0);
        let fits = super::number::length(place.site.single.queued()) < limit
            || place.site.single.has_open();
        let taken = fits && (cluster.holds || place.site.pods.ready() > 0);
        place.site.count_arrival(taken);
        place.site.single.arrive(&load.requests, taken);
        self.serve(site);
        self.schedule_arrival(site);
    }

    fn request_done(&mut self, site: usize, number: u64) {
        self.advance(site);
        let Some(place) = self.places.get_mut(site) else { return };
        let Some(pod) = place.site.single.finish(number, &mut place.site.pods) else { return };
        place.site.count_finish();
        let gone =
            place.site.pods.phase(pod) == Some(Phase::Ending) && place.site.pods.busy(pod) == 0;
        if gone {
            self.push(self.now, Item::PodGone { site, pod });
        }
        self.serve(site);
    }

    fn serve(&mut self, site: usize) {
        let Some(place) = self.places.get_mut(site) else { return };
        let mut begun = Vec::new();
        while let Some(request) = place.site.single.begin(self.now, &mut place.site.pods) {
            let wait_s = real(self.now - request.came) / 1e6;
            place.site.ledger.began(wait_s, real(request.service) / 1e6, 1.0);
            begun.push((request.done, request.number));
        }
        for (done, number) in begun {
            self.push(done, Item::RequestDone { site, number });
        }
    }

    fn measure(&mut self, site: usize) {
        self.advance(site);
        self.push(self.now + self.interval, Item::Measure { site });
        let source = &self.plan.scenario.source;
        let said = self.find(|fault| match fault {
            Fault::Lying { says, .. } => Some(*says),
            _ => None,
        });
        let late = self.find(|fault| match fault {
            Fault::Late { by, .. } => Some(by.micros()),
            _ => None,
        });
        let missing = self.find(|fault| match fault {
            Fault::Missing { endpoints, .. } => Some(*endpoints),
            _ => None,
        });
        let noise = self.find(|fault| match fault {
            Fault::Noise { deviation, .. } => Some(deviation.0),
            _ => None,
        });
        let on = |fault: fn(&Fault) -> bool| self.find(|f| fault(f).then_some(())).is_some();
        let silent = on(|fault| matches!(fault, Fault::Silence(_)));
        let unreachable = on(|fault| matches!(fault, Fault::Unreachable(_)));
        let stranger = on(|fault| matches!(fault, Fault::Stranger(_)));
        let Some(place) = self.places.get_mut(site) else { return };
        let ready = place.site.pods.ready();
        let mut seen = place.site.read(self.plan);
        // Chance is drawn whether it is used or not, so that faults do not shift it.
        let error = place.noise.normal_of(source.noise.0 + noise.unwrap_or(0.0));
        let lost = place.noise.happens(source.loss.0);
        let delay = source.delay.draw(&mut place.noise);
        seen = (seen * (1.0 + error)).max(0.0);
        let missing =
            missing.map_or(0, |endpoints| endpoints.min(u32::try_from(ready).unwrap_or(0)));
        if missing > 0 {
            seen *= 1.0 - f64::from(missing) / f64::from(ready.max(1));
        }
        seen = said.map_or(seen, |lie| told(lie, seen));
        place.sent += 1;
        let number = place.sent;
        let sees = source.at_zero || ready > 0;
        if stranger {
            self.tell(Fact::Stranger { site, seen: 1e6 });
        }
        if unreachable {
            self.tell(Fact::Unreachable { site });
        } else if !silent && !lost && sees {
            let sample = OnItsWay { seen, missing, measured: self.now };
            let delay = delay + late.unwrap_or(0);
            if delay == 0 {
                self.tell_sample(site, sample);
            } else if let Some(place) = self.places.get_mut(site) {
                place.samples.insert(number, sample);
                self.push(self.now + delay, Item::SampleArrives { site, number });
            }
        }
    }

    fn sample_arrives(&mut self, site: usize, number: u64) {
        let Some(place) = self.places.get_mut(site) else { return };
        if let Some(sample) = place.samples.remove(&number) {
            self.tell_sample(site, sample);
        }
    }

    fn tell_sample(&mut self, site: usize, sample: OnItsWay) {
        let OnItsWay { seen, missing, measured } = sample;
        let stamped = self.plan.scenario.source.stamped;
        let travelled = i64::try_from(self.now - measured).unwrap_or(i64::MAX);
        let age = travelled.saturating_add(self.clock_offset_us);
        let age = if stamped { u64::try_from(age).unwrap_or(0) } else { 0 };
        let age = Duration::from_micros(age);
        self.tell(Fact::Sample { site, seen, missing, age, stamp: stamped.then_some(measured) });
    }

    /// Notes the first workload's state for the charts.
    fn plot(&mut self) {
        self.advance(0);
        self.push(self.now + self.series.step(), Item::Plot);
        let (Some(place), Some(load)) = (self.places.first(), self.plan.loads.first()) else {
            return;
        };
        let second = index(self.now / SECOND);
        let rate = load.rates.get(second).copied().unwrap_or(0.0);
        let offered = rate * self.plan.service_s;
        let pods = &place.site.pods;
        let (ready, replicas) = (pods.ready(), place.site.replicas);
        let needed = load.needed.get(second).copied().unwrap_or(0);
        self.series.note(super::series::Moment {
            at: self.now,
            rate,
            offered,
            inside: place.site.inside(self.plan.scenario.detail),
            needed,
            ready,
            replicas,
            view: self.policy.view(0),
        });
    }
}

/// What a lying source says instead of `seen`.
fn told(lie: Lie, seen: f64) -> f64 {
    match lie {
        Lie::Nan => f64::NAN,
        Lie::Infinite => f64::INFINITY,
        Lie::Negative => -1.0,
        Lie::Zero => 0.0,
        Lie::TenTimes => seen * 10.0,
    }
}
