//! Runs scenarios: every policy in a world of its own, on the same load and the same chance.

use std::collections::BTreeMap;
use std::time::Duration;

use super::figures::Figures;
use super::number::{micros_of, real};
use super::optimum::optimum;
use super::plan::{Plan, target_config};
use super::policy::{EnginePolicy, Fact, HpaPolicy, KedaPolicy, Limits, Order, Policy, View};
use super::random::Random;
use super::report::{Outcome, Report};
use super::scenario::{Autoscaler, Detail, EngineOptions, Scenario, Span};
use super::world::World;
use crate::core::engine::TICK;
use crate::core::keys;
use crate::core::spec::ScalingMetric;

/// A scenario under one seed, ready to be played: its policies may be played in any order, and on several
/// threads.
pub struct Simulation<'a> {
    name: &'a str,
    scenario: &'a Scenario,
    plan: Plan,
}

impl<'a> Simulation<'a> {
    /// Draws the load. `name` stands in the report; without a seed it is the scenario's own.
    ///
    /// # Errors
    /// If the scenario's ConfigMap is refused; the text names the key.
    pub fn new(name: &'a str, scenario: &'a Scenario, seed: Option<u64>) -> Result<Self, String> {
        let plan = Plan::new(scenario, seed.unwrap_or(scenario.seed))?;
        Ok(Self { name, scenario, plan })
    }

    /// Plays the policy at this place of the scenario's list, in a world of its own; `None` beyond the last.
    ///
    /// # Errors
    /// If the policy's configuration is refused; the text names the key.
    pub fn play(&self, at: usize) -> Result<Option<Outcome>, String> {
        let policy = self.scenario.policies.get(at);
        policy.map(|policy| run_policy(&self.plan, policy)).transpose()
    }

    /// Compares the outcomes of all policies, in their order, and judges them; under another seed than
    /// the scenario's own nothing is judged.
    pub fn report(&self, mut outcomes: Vec<Outcome>) -> Report {
        let Self { name, scenario, plan } = self;
        let bound = bound(plan, Span::default()).figures.pod_seconds.filter(|pod_s| *pod_s > 0.0);
        for outcome in &mut outcomes {
            let pod_s = outcome.figures.pod_seconds;
            outcome.figures.of_optimum = pod_s.zip(bound).map(|(pod_s, bound)| pod_s / bound);
        }
        let judged = plan.seed == scenario.seed;
        let failures = if judged { judge(scenario, &outcomes) } else { Vec::new() };
        Report {
            name: (*name).to_owned(),
            about: scenario.about.trim().to_owned(),
            seed: plan.seed,
            outcomes,
            failures,
        }
    }
}

/// Runs every policy of a scenario, one after the other, and judges the outcome.
///
/// # Errors
/// If the scenario's ConfigMap is refused; the text names the key.
pub fn run(name: &str, scenario: &Scenario, seed: Option<u64>) -> Result<Report, String> {
    let simulation = Simulation::new(name, scenario, seed)?;
    let mut outcomes = Vec::new();
    while let Some(outcome) = simulation.play(outcomes.len())? {
        outcomes.push(outcome);
    }
    Ok(simulation.report(outcomes))
}

/// Why one of these annotations is not taken as it stands; `None` if all of them are.
///
/// # Errors
/// If the scenario's ConfigMap is refused; the text names the key.
pub fn refused(
    scenario: &Scenario,
    annotations: &BTreeMap<String, String>,
) -> Result<Option<String>, String> {
    let config = target_config(scenario, annotations, scenario.source.interval)?;
    let mut problems = config.problems.iter();
    let problem = problems.find(|problem| annotations.contains_key(&problem.key));
    Ok(problem.map(|problem| format!("{}: {}", problem.key, problem.why)))
}

/// A scenario's load as others than the simulator can play it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// Requests a second of the first copy, for each second of the run; ≥ 0.
    pub rates: Vec<f64>,
    /// The mean service time of a request in seconds, > 0.
    pub service_s: f64,
    /// Requests that one pod serves at once, > 0.
    pub capacity: f64,
    /// What the target's annotations say is measured.
    pub metric: ScalingMetric,
}

/// The load of a scenario under `seed`, as a stream whatever the scenario's detail is.
///
/// # Errors
/// If the scenario's ConfigMap is refused; the text names the key.
pub fn stream(scenario: &Scenario, seed: u64) -> Result<Stream, String> {
    let mut fluid = scenario.clone();
    fluid.detail = Detail::Fluid;
    fluid.target.copies = 1;
    let Plan { mut loads, service_s, capacity, config, .. } = Plan::new(&fluid, seed)?;
    let rates = loads.pop().map(|load| load.rates).unwrap_or_default();
    Ok(Stream { rates, service_s, capacity, metric: config.spec.metric })
}

/// What was expected and did not come out.
fn judge(scenario: &Scenario, outcomes: &[Outcome]) -> Vec<String> {
    let mut failures = Vec::new();
    for (policy, expectations) in &scenario.expect {
        let Some(outcome) = outcomes.iter().find(|outcome| outcome.policy == *policy) else {
            continue;
        };
        for (key, bound) in expectations.bounds() {
            let value = outcome.figures.get(key);
            if !value.is_some_and(|value| bound.holds(value)) {
                let is = value.map_or_else(|| "not there".to_owned(), |value| format!("{value}"));
                failures.push(format!("{policy}: {key} {bound}, is {is}"));
            }
        }
    }
    failures
}

fn run_policy(plan: &Plan, autoscaler: &Autoscaler) -> Result<Outcome, String> {
    let name = autoscaler.name();
    let source = plan.scenario.source.interval;
    let (policy, interval): (Box<dyn Policy>, Span) = match autoscaler {
        Autoscaler::Podswell(options) => (engine(plan, options, source, false)?, source),
        Autoscaler::Knative(options) => {
            let second = Span::seconds(1);
            (engine(plan, options, second, true)?, second)
        }
        Autoscaler::Hpa(options) => {
            let phases: Vec<f64> = phases(plan, "hpa");
            let policy = HpaPolicy::new(options, plan.config.spec.target, limits(plan), &phases);
            (Box::new(policy), source)
        }
        Autoscaler::Keda(options) => {
            let polls = phases(plan, "keda").into_iter();
            let phases: Vec<(f64, f64)> = polls.zip(phases(plan, "hpa")).collect();
            let target = plan.config.spec.target;
            let at_zero = plan.scenario.source.at_zero;
            let policy = KedaPolicy::new(options.clone(), target, limits(plan), at_zero, &phases);
            (Box::new(policy), source)
        }
        Autoscaler::Fixed(options) => (Box::new(Fixed::new(plan, i32::from(options.pods))), source),
        Autoscaler::Optimum(options) => {
            return Ok(Outcome { policy: name, ..bound(plan, options.start_price) });
        }
    };
    let ended = World::new(plan, policy, interval.0).run();
    Ok(Outcome {
        policy: name,
        figures: Figures::of(&ended),
        violations: ended.violations,
        digest: ended.digest,
        remark: ended.remark,
        events: ended.events,
        series: Some(ended.series),
        target: plan.config.spec.target,
        metric: plan.config.spec.metric,
    })
}

fn engine(
    plan: &Plan,
    options: &EngineOptions,
    interval: Span,
    knative: bool,
) -> Result<Box<dyn Policy>, String> {
    let mut annotations: BTreeMap<String, String> = options.annotations.clone();
    if knative {
        annotations.insert(keys::COMPAT.annotation(), "knative".to_owned());
    }
    let config = target_config(&plan.scenario, &annotations, interval)?;
    if !knative {
        return Ok(Box::new(EnginePolicy::new(config, plan.loads.len())));
    }
    // Knative decides at its ticks alone, so the answer depends on how they fall; podswell also decides
    // when samples come.
    let phases = phases(plan, "knative").into_iter();
    let ages = phases.map(|share| Duration::from_micros(micros_of(share * TICK.as_secs_f64())));
    Ok(Box::new(EnginePolicy::known_for(config, &ages.collect::<Vec<_>>())))
}

fn limits(plan: &Plan) -> Limits {
    let bounds = plan.config.bounds;
    Limits { min: bounds.min, max: if bounds.max > 0 { bounds.max } else { i32::MAX } }
}

/// Where each workload's loop begins within its period.
fn phases(plan: &Plan, of: &str) -> Vec<f64> {
    let copies = 0..u64::try_from(plan.loads.len()).unwrap_or(0);
    copies.map(|copy| Random::new(plan.seed, of, copy).share()).collect()
}

/// The lower bound, as an outcome.
fn bound(plan: &Plan, price: Span) -> Outcome {
    let start_s = plan.scenario.cluster.pod_start.mean().as_secs_f64();
    let running = i32::from(plan.scenario.target.start);
    let (mut pod_s, mut starts, mut most, mut end) = (0.0, 0, 0, 0);
    for load in &plan.loads {
        let floor = plan.config.bounds.min;
        let found = optimum(load, start_s, price.0.as_secs_f64(), running, floor);
        pod_s += found.pod_s;
        starts += found.starts;
        most += load.needed.iter().copied().max().unwrap_or(0);
        end += load.needed.last().copied().unwrap_or(0);
    }
    let figures = Figures {
        pod_seconds: Some(pod_s),
        unmet_pod_seconds: Some(0.0),
        starts: Some(real(starts)),
        max_scale: Some(f64::from(most)),
        final_scale: Some(f64::from(end)),
        ..Figures::default()
    };
    Outcome {
        policy: String::new(),
        figures,
        violations: Vec::new(),
        digest: 0,
        remark: None,
        events: 0,
        series: None,
        target: plan.config.spec.target,
        metric: plan.config.spec.metric,
    }
}

/// Always as many replicas.
struct Fixed {
    orders: Vec<Order>,
    pods: i32,
}

impl Fixed {
    fn new(plan: &Plan, pods: i32) -> Self {
        let orders = (0..plan.loads.len()).map(|site| Order {
            site,
            replicas: pods,
            version: None,
            reason: "fixed",
        });
        Self { orders: orders.collect(), pods }
    }
}

impl Policy for Fixed {
    fn tell(&mut self, _now: u64, _fact: Fact) {}

    fn due(&self) -> Option<u64> {
        None
    }

    fn act(&mut self, _now: u64) {}

    fn order(&mut self) -> Option<Order> {
        self.orders.pop()
    }

    fn view(&self, _site: usize) -> View {
        View { desired: Some(self.pods), ..View::default() }
    }
}
