//! How fast the simulator is, with tracing off: ticks a second in fluid mode, events a second request by
//! request, and the time that a sweep of 500 settings over 14 days takes on all cores.
//!
//! `cargo bench --bench sim --no-default-features -F simulator`, or `make bench`.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use podswell::sim::scenario::{Autoscaler, EngineOptions, Scenario};
use podswell::sim::simulation::{Simulation, run};

const FLUID: &str = "about: a day with noise, read every 15 s
seed: 1
duration: 24h
target: { annotations: { autoscaling.knative.dev/target: \"20\" } }
source: { interval: 15s }
load:
  - diurnal: { mean: 200, swing: 0.8, noise: 0.1 }
";

const REQUESTS: &str = "about: two hundred requests a second for ten minutes
seed: 1
duration: 10m
detail: requests
unit: rps
target: { annotations: { autoscaling.knative.dev/target: \"10\" } }
service: { exponential: 500ms }
load:
  - constant: { level: 200 }
policies: [ podswell ]
";

/// Targets and windows of the sweep, every combination of them.
const TARGETS: u32 = 25;
const WINDOWS: u32 = 20;

fn scenario(text: &str) -> Scenario {
    Scenario::parse(text, &mut |_| Err("no files".to_owned())).expect("a good scenario")
}

/// The scenario with one policy.
fn with_policy(text: &str, policy: &str) -> Scenario {
    scenario(&format!("{text}policies: [ {policy} ]\n"))
}

fn simulator(c: &mut Criterion) {
    let mut group = c.benchmark_group("simulator");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    // The share of the engine in a tick is the difference to a fixed size in the same world.
    for policy in ["podswell", "knative", "fixed: { pods: 10 }"] {
        let scenario = with_policy(FLUID, policy);
        // An engine ticks every 2 s.
        group.throughput(Throughput::Elements(scenario.duration.0.as_secs() / 2));
        let name = policy.split(':').next().unwrap_or_default();
        group.bench_function(BenchmarkId::new("fluid, ticks", name), |b| {
            b.iter(|| run("fluid", black_box(&scenario), None).expect("a run"));
        });
    }
    let scenario = scenario(REQUESTS);
    let events = run("requests", &scenario, None).expect("a run").outcomes.remove(0).events;
    group.throughput(Throughput::Elements(events));
    group.bench_function("request by request, events", |b| {
        b.iter(|| run("requests", black_box(&scenario), None).expect("a run"));
    });
    group.finish();
}

/// 14 days of one workload under 500 settings, on all cores.
fn sweep(c: &mut Criterion) {
    let mut scenario = with_policy(&FLUID.replace("24h", "336h"), "podswell");
    scenario.policies = (0..TARGETS * WINDOWS)
        .map(|number| {
            let (target, window_s) = (5 + number % TARGETS, 10 + 10 * (number / TARGETS));
            let annotations = [("target", target.to_string()), ("window", format!("{window_s}s"))];
            Autoscaler::Podswell(EngineOptions {
                name: Some(format!("target {target}, window {window_s} s")),
                annotations: annotations
                    .map(|(key, value)| (format!("autoscaling.knative.dev/{key}"), value))
                    .into(),
            })
        })
        .collect();
    let simulation = Simulation::new("sweep", &scenario, None).expect("a simulation");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("20 of {} settings over 14 days, {cores} cores:", scenario.policies.len());
    let mut group = c.benchmark_group("simulator");
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .measurement_time(Duration::from_secs(1));
    group.bench_function("sweep, 14 days of 20 settings", |b| {
        b.iter(|| play(&simulation, 20, cores));
    });
    group.finish();
}

/// Plays the first `count` policies on so many cores.
fn play(simulation: &Simulation<'_>, count: usize, cores: usize) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        break;
                    }
                    black_box(simulation.play(at).expect("a run"));
                }
            });
        }
    });
}

criterion_group!(benches, simulator, sweep);
criterion_main!(benches);
