//! Requests in front of pods are an M/G/c queue; theory knows its means.

use super::super::plan::Plan;
use super::super::policy::HpaPolicy;
use super::super::scenario::{HpaOptions, Scenario};
use super::super::simulation::Simulation;
use super::super::world::{Ended, World};
use super::{around, figures, scenario};

const SEEDS: u64 = 16;

/// So many pods with so many slots, 20 services a second and slot, `rps` requests a second.
fn queue(pods: u16, slots: u16, rps: f64, service: &str, arrivals: &str) -> Scenario {
    scenario(&format!(
        "duration: 5m\ndetail: requests\nunit: rps\narrivals: {arrivals}\nservice: {service}\n\
         load: [ {{ constant: {{ level: {rps} }} }} ]\ntarget: {{ start: {pods} }}\n\
         cluster: {{ capacity: {slots} }}\npolicies: [ {{ fixed: {{ pods: {pods} }} }} ]\n"
    ))
}

/// The run of a scenario whose replicas nobody changes.
fn unscaled(scenario: &Scenario, seed: u64) -> Ended {
    let plan = Plan::new(scenario, seed).unwrap();
    let limits = super::super::policy::Limits { min: 1, max: 1 };
    let nobody = HpaPolicy::new(&HpaOptions::default(), 1.0, limits, &[]);
    World::new(&plan, Box::new(nobody), scenario.source.interval.0).run()
}

/// Erlang's C formula: the share of requests that wait at `servers` with `offered` erlangs.
fn erlang_c(servers: u16, offered: f64) -> f64 {
    // By the recursion of the B formula, which does not overflow.
    let blocked = (1..=servers)
        .fold(1.0, |blocked, server| offered * blocked / (f64::from(server) + offered * blocked));
    let load = offered / f64::from(servers);
    blocked / (1.0 - load * (1.0 - blocked))
}

#[test]
fn the_formula_gives_tabulated_values() {
    for (servers, offered, waits) in [(1, 0.7, 0.7), (2, 1.0, 1.0 / 3.0), (10, 8.0, 0.409_18)] {
        assert!((erlang_c(servers, offered) - waits).abs() < 1e-5, "{servers}, {offered}");
    }
}

#[test]
fn waiting_is_as_erlang_says() {
    const MEAN_S: f64 = 0.05;
    for (pods, slots, load) in [(1, 1, 0.6), (4, 1, 0.7), (1, 4, 0.7), (3, 2, 0.8)] {
        let servers = pods * slots;
        let rps = load * f64::from(servers) / MEAN_S;
        let queue = queue(pods, slots, rps, "{ exponential: 50ms }", "poisson");
        let waits = erlang_c(servers, rps * MEAN_S);
        let drain = f64::from(servers) / MEAN_S - rps;
        let (mut shares, mut means) = (Vec::new(), Vec::new());
        for seed in 0..SEEDS {
            let ledger = unscaled(&queue, seed).ledger;
            shares.push(ledger.delayed / ledger.requests);
            means.push(ledger.mean_latency_s());
        }
        let what = format!("{pods} pods with {slots} slots");
        // What waits for less than a millisecond is no delay.
        around(&format!("{what}: delayed"), &shares, waits * (-drain * 0.001).exp());
        around(&format!("{what}: mean"), &means, MEAN_S + waits / drain);
    }
}

#[test]
fn response_times_have_the_distribution_of_m_m_1() {
    let queue = queue(1, 1, 12.0, "{ exponential: 50ms }", "poisson");
    let runs: Vec<_> = (0..SEEDS).map(|seed| figures(&queue, "fixed", seed)).collect();
    // Exponential with rate 20 - 12.
    let all = |get: fn(&super::Figures) -> Option<f64>| -> Vec<f64> {
        runs.iter().filter_map(get).collect()
    };
    around("median", &all(|one| one.p50_s), 2.0_f64.ln() / 8.0);
    around("99th percentile", &all(|one| one.p99_s), 100.0_f64.ln() / 8.0);
}

#[test]
fn the_mean_wait_is_pollaczek_and_khinchines() {
    const RPS: f64 = 12.0;
    // The second moment of the service time: σ² + mean².
    for (service, deviation) in [
        ("50ms", 0.0),
        ("{ exponential: 50ms }", 0.05),
        ("{ log-normal: { mean: 50ms, deviation: 75ms } }", 0.075),
    ] {
        let queue = queue(1, 1, RPS, service, "poisson");
        let means: Vec<f64> =
            (0..SEEDS).map(|seed| unscaled(&queue, seed).ledger.mean_latency_s()).collect();
        let second_moment = 0.05 * 0.05 + deviation * deviation;
        around(service, &means, 0.05 + RPS * second_moment / (2.0 * (1.0 - RPS * 0.05)));
    }
}

#[test]
fn what_the_source_reads_is_littles_law() {
    // Over a run: the mean number inside = rate × mean response time. The charts hold what is inside.
    let queue = queue(2, 3, 80.0, "{ exponential: 50ms }", "poisson");
    let differences: Vec<f64> = (0..SEEDS)
        .map(|seed| {
            let ended = unscaled(&queue, seed);
            let moments = &ended.series.moments;
            let inside: f64 = moments.iter().map(|moment| moment.inside).sum();
            let rate = ended.ledger.requests / 300.0;
            inside / super::length(moments.len()) / (rate * ended.ledger.mean_latency_s())
        })
        .collect();
    around("inside", &differences, 1.0);
}

#[test]
fn streams_cost_what_single_requests_cost() {
    let text = |detail: &str| {
        scenario(&format!(
            "duration: 5m\ndetail: {detail}\nservice: {{ exponential: 2s }}\n\
             load: [ {{ constant: {{ level: 100 }} }}, {{ constant: {{ level: 250, at: 1m, until: 2m }} }} ]\n\
             target: {{ start: 5, annotations: {{ autoscaling.knative.dev/target: \"50\" }} }}\n\
             policies: [ podswell, knative, hpa, {{ fixed: {{ pods: 8 }} }} ]\n"
        ))
    };
    let (stream, single) = (text("fluid"), text("requests"));
    for policy in 0..4 {
        let [stream, single] = [&stream, &single].map(|scenario| {
            let simulation = Simulation::new("validation", scenario, None).unwrap();
            simulation.play(policy).unwrap().unwrap()
        });
        let ratio = stream.figures.pod_seconds.unwrap() / single.figures.pod_seconds.unwrap();
        assert!((ratio - 1.0).abs() < 0.06, "{}: {ratio}", stream.policy);
    }
}
