//! What is the same for every policy of a run: the load of each copy second by second, its requests, and
//! the pods that it needs. Drawn once from the seed, so that policies are compared on equal chance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::number::{Micros, SECOND, count, index, length, micros_of, pods, real, seconds};
use super::random::Random;
use super::scenario::{Amount, Arrivals, Detail, Part, Point, Scenario, Span, Unit};
use crate::core::annotations::CLASS_PODSWELL;
use crate::core::config::TargetConfig;
use crate::core::defaults::ClusterDefaults;
use crate::core::keys;
use crate::core::resolve::{Inputs, ProcessSettings, resolve};
use crate::core::source::{SourceFacts, SourceName};
use crate::core::spec::ScalingMetric;

/// The name of the simulated source.
pub(crate) const SOURCE: &str = "load";

/// The most requests of one workload that are played one by one.
const MOST_REQUESTS: f64 = 50e6;
/// The most pods that a load may need.
const MOST_PODS: i32 = 100_000;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) at: Micros,
    pub(crate) service: Micros,
}

/// The load of one copy of the workload.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load {
    /// Requests a second, for each second of the run.
    pub(crate) rates: Vec<f64>,
    /// Every request in the order of arrival; empty in fluid mode.
    pub(crate) requests: Vec<Request>,
    /// The pods that serve it without waiting, for each second.
    pub(crate) needed: Vec<i32>,
}

/// Everything about a run that does not depend on who scales.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    pub(crate) seed: u64,
    pub(crate) length: Micros,
    pub(crate) loads: Vec<Load>,
    /// The mean service time in seconds.
    pub(crate) service_s: f64,
    /// Requests that a pod serves at once.
    pub(crate) capacity: f64,
    /// podswell's configuration of the target.
    pub(crate) config: TargetConfig,
}

impl Plan {
    /// The plan of `scenario` under `seed`.
    ///
    /// # Errors
    /// If the ConfigMap is refused, or the load is more than can be played.
    pub(crate) fn new(scenario: &Scenario, seed: u64) -> Result<Self, String> {
        let config = target_config(scenario, &BTreeMap::new(), scenario.source.interval)?;
        let service_s = scenario.service.mean().as_secs_f64();
        let capacity = capacity(scenario, &config, service_s);
        let copies = u64::from(scenario.target.copies);
        let loads = (0..copies)
            .map(|copy| Load::draw(scenario, seed, copy, capacity))
            .collect::<Result<_, _>>()?;
        let length = scenario.duration.micros();
        Ok(Self { scenario: scenario.clone(), seed, length, loads, service_s, capacity, config })
    }
}

/// What a pod serves at once where the scenario does not say: what the target says that it bears.
fn capacity(scenario: &Scenario, config: &TargetConfig, service_s: f64) -> f64 {
    let borne = match config.spec.metric {
        ScalingMetric::Concurrency | ScalingMetric::Backlog => config.spec.total,
        ScalingMetric::Rps | ScalingMetric::Events => config.spec.total * service_s,
    };
    scenario.cluster.capacity.map_or(borne, |capacity| capacity.0).max(0.01)
}

/// The configuration that podswell resolves from the scenario's annotations, with `more` in front.
pub(crate) fn target_config(
    scenario: &Scenario,
    more: &BTreeMap<String, String>,
    interval: Span,
) -> Result<TargetConfig, String> {
    let mut annotations = scenario.target.annotations.clone();
    annotations.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
    annotations.entry(keys::CLASS.annotation()).or_insert_with(|| CLASS_PODSWELL.to_owned());
    annotations.insert(keys::SOURCE.annotation(), SOURCE.to_owned());
    let kind = match annotations.get(&keys::METRIC.annotation()).map(String::as_str) {
        Some("rps") => ScalingMetric::Rps,
        Some("events") => ScalingMetric::Events,
        Some("backlog") => ScalingMetric::Backlog,
        _ => ScalingMetric::Concurrency,
    };
    let defaults =
        ClusterDefaults::parse(&scenario.config).map_err(|why| format!("config: {why}"))?;
    let name = SourceName::from(SOURCE);
    let source = &scenario.source;
    let facts = SourceFacts {
        name: name.clone(),
        kind,
        interval: interval.0,
        stale_after: source.stale_after.map_or(interval.0 * 5 / 2, |limit| limit.0),
        range: source.range.map(|range| range.0),
        visible_at_zero: source.at_zero,
        share: crate::core::source::Share::Exclusive,
        selectable_labels: Vec::new(),
        query_label: None,
    };
    let defaults_set: BTreeSet<String> = scenario.config.keys().cloned().collect();
    let none = BTreeMap::new();
    let resolved = resolve(&Inputs {
        defaults: &defaults,
        defaults_set: &defaults_set,
        process: &ProcessSettings::default(),
        sources: &BTreeMap::from([(name, facts)]),
        namespace: "sim",
        name: "sim",
        namespace_annotations: &none,
        annotations: &annotations,
        template_annotations: &none,
        owned_by_knative: false,
        progress_deadline: None,
    });
    Ok(resolved.map(|resolved| resolved.config).unwrap_or_default())
}

impl Load {
    fn draw(scenario: &Scenario, seed: u64, copy: u64, capacity: f64) -> Result<Self, String> {
        let steps = index(scenario.duration.0.as_secs());
        let mut rates = vec![0.0; steps];
        for (number, part) in scenario.load.iter().enumerate() {
            let mut random = Random::new(seed, &format!("load-{number}"), copy);
            add(part, &mut rates, &mut random);
        }
        let service_s = scenario.service.mean().as_secs_f64();
        if scenario.unit == Unit::Concurrency {
            for rate in &mut rates {
                *rate /= service_s;
            }
        }
        let requests: f64 = rates.iter().sum();
        if scenario.detail == Detail::Requests && requests > MOST_REQUESTS {
            return Err(format!(
                "load: {requests:.0} requests cannot be played one by one, {MOST_REQUESTS} can; \
                 detail: fluid plays a stream"
            ));
        }
        let requests = match scenario.detail {
            Detail::Fluid => Vec::new(),
            Detail::Requests => draw_requests(scenario, &rates, seed, copy),
        };
        let needed: Vec<i32> = if scenario.detail == Detail::Fluid {
            rates.iter().map(|rate| pods(rate * service_s / capacity)).collect()
        } else {
            overlap(&requests, steps).iter().map(|mean| pods(mean / capacity)).collect()
        };
        match needed.iter().find(|needed| **needed > MOST_PODS) {
            Some(needed) => {
                Err(format!("load: needs {needed} pods; no more than {MOST_PODS} can be played"))
            }
            None => Ok(Self { rates, requests, needed }),
        }
    }
}

/// Adds a part to the level of every second.
fn add(part: &Part, levels: &mut [f64], random: &mut Random) {
    match *part {
        Part::Constant { level, at, until } => {
            during(levels, at, until, |_| level.0);
        }
        Part::Ramp { from, to, at, over, until } => during(levels, at, until, |t| {
            let share = if over.0.is_zero() { 1.0 } else { (t / over.0.as_secs_f64()).min(1.0) };
            from.0 + (to.0 - from.0) * share
        }),
        Part::Spike { level, at, hold, rise, fall } => {
            let (rise, hold, fall) =
                (rise.0.as_secs_f64(), hold.0.as_secs_f64(), fall.0.as_secs_f64());
            during(levels, at, None, |t| level.0 * trapezium(t, rise, hold, fall));
        }
        Part::Sawtooth { low, high, period, at, until } => {
            let period = period.0.as_secs_f64();
            during(levels, at, until, |t| {
                let share = t / period - (t / period).floor();
                low.0 + (high.0 - low.0) * share
            });
        }
        Part::Sine { mean, amplitude, period, at } => {
            let turn = std::f64::consts::TAU / period.0.as_secs_f64();
            during(levels, at, None, |t| (mean.0 + amplitude.0 * libm::sin(turn * t)).max(0.0));
        }
        Part::Bursts { level, every, hold } => {
            let mean = every.0.as_secs_f64();
            let gaps = || random.exponential(mean);
            bursts(levels, level, hold, gaps);
        }
        Part::Sporadic { level, hold, shortest, longest } => {
            let (low, high) = (shortest.0.as_secs_f64(), longest.0.as_secs_f64());
            let mean = low * libm::exp(random.share() * libm::log(high / low));
            bursts(levels, level, hold, || random.exponential(mean));
        }
        Part::Cron { level, every, at, hold, jitter } => {
            let mut start = at;
            while index(start.0.as_secs()) < levels.len() {
                let late = Duration::from_secs_f64(random.share() * jitter.0.as_secs_f64());
                let from = Span(start.0 + late);
                during(levels, from, Some(Span(from.0 + hold.0)), |_| level.0);
                start = Span(start.0 + every.0);
            }
        }
        Part::Diurnal { mean, swing, day, noise } => {
            let turn = std::f64::consts::TAU / day.0.as_secs_f64();
            // Noise that forgets over ten minutes: an AR(1) with the wanted deviation.
            let memory = libm::exp(-1.0 / 600.0);
            let fresh = (1.0 - memory * memory).sqrt();
            let mut state = random.normal();
            during(levels, Span::default(), None, |t| {
                state = memory * state + fresh * random.normal();
                let level = mean.0 * (1.0 - swing.0 * libm::cos(turn * t));
                (level * (1.0 + noise.0 * state)).max(0.0)
            });
        }
        Part::Csv(ref recorded) | Part::Prometheus(ref recorded) => {
            let mut points = recorded.points.iter().peekable();
            let mut value = 0.0;
            during(levels, recorded.at, None, |t| {
                while let Some(point) = points.next_if(|point: &&Point| point.at_s <= t) {
                    value = point.value;
                }
                value * recorded.scale.0
            });
        }
    }
}

/// Adds `level(seconds since at)` to every second that begins in [at, until).
fn during(levels: &mut [f64], at: Span, until: Option<Span>, mut level: impl FnMut(f64) -> f64) {
    let first = index(count(at.0.as_secs_f64().ceil()));
    let end = until.map_or(levels.len(), |until| index(count(until.0.as_secs_f64().ceil())));
    let at_s = at.0.as_secs_f64();
    for (second, slot) in levels.iter_mut().enumerate().take(end).skip(first) {
        *slot += level(length(second) - at_s);
    }
}

fn trapezium(t: f64, rise: f64, hold: f64, fall: f64) -> f64 {
    if t < rise {
        t / rise
    } else if t < rise + hold {
        1.0
    } else if t < rise + hold + fall {
        1.0 - (t - rise - hold) / fall
    } else {
        0.0
    }
}

fn bursts(levels: &mut [f64], level: Amount, hold: Span, mut gap: impl FnMut() -> f64) {
    let mut at = gap();
    while at < length(levels.len()) {
        let from = Span(Duration::from_secs_f64(at.min(1e7)));
        // A burst that is shorter than a second still fills the second in which it begins.
        let held = hold.0.max(Duration::from_secs(1));
        during(levels, from, Some(Span(from.0 + held)), |_| level.0);
        at += held.as_secs_f64() + gap().max(1e-3);
    }
}

/// Draws requests by the rates of the seconds.
fn draw_requests(scenario: &Scenario, rates: &[f64], seed: u64, copy: u64) -> Vec<Request> {
    let mut gaps = Random::new(seed, "arrivals", copy);
    let mut services = Random::new(seed, "service", copy);
    let mut requests = Vec::new();
    let mut gap = || match scenario.arrivals {
        Arrivals::Poisson => gaps.exponential(1.0),
        Arrivals::Regular => 1.0,
    };
    // How many expected arrivals are left until the next request.
    let mut left = gap();
    for (second, &rate) in rates.iter().enumerate() {
        let mut within = 0.0;
        while rate > 0.0 && left <= rate * (1.0 - within) {
            within += left / rate;
            let at = micros_of(length(second) + within);
            requests.push(Request { at, service: scenario.service.draw(&mut services).max(1) });
            left = gap();
        }
        left -= rate * (1.0 - within);
    }
    requests
}

/// How many requests would be in flight in each second, on average, if none had to wait.
fn overlap(requests: &[Request], steps: usize) -> Vec<f64> {
    // The change of the number at each moment, then the area in each second.
    let mut changes: Vec<(Micros, i64)> = requests
        .iter()
        .flat_map(|request| [(request.at, 1), (request.at + request.service, -1)])
        .collect();
    changes.sort_unstable();
    let mut areas = vec![0.0; steps];
    let (mut now, mut running) = (0, 0_i64);
    for (at, change) in changes.into_iter().chain([(real_end(steps), 0)]) {
        while now < at {
            let second = now / SECOND;
            let until = at.min((second + 1) * SECOND);
            let Some(area) = areas.get_mut(index(second)) else { break };
            *area += real(u64::try_from(running).unwrap_or(0)) * seconds(until - now);
            now = until;
        }
        now = now.max(at);
        running += change;
    }
    areas
}

fn real_end(steps: usize) -> Micros {
    u64::try_from(steps).unwrap_or(0) * SECOND
}
