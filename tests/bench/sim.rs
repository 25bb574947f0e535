//! How fast the simulator is: evaluations a second in fluid mode, events a second request by request.
//!
//! `cargo bench --bench sim --no-default-features -F simulator`, or `make bench`.
#![expect(clippy::expect_used, reason = "a benchmark")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use podswell::sim::scenario::Scenario;
use podswell::sim::simulation::run;

const FLUID: &str = "about: a day with noise, read every 15 s
seed: 1
duration: 24h
target: { annotations: { autoscaling.knative.dev/target: \"20\" } }
source: { interval: 15s }
load:
  - diurnal: { mean: 200, swing: 0.8, noise: 0.1 }
policies: [ podswell ]
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

fn scenario(text: &str) -> Scenario {
    Scenario::parse(text, &mut |_| Err("no files".to_owned())).expect("a good scenario")
}

fn simulator(c: &mut Criterion) {
    let mut group = c.benchmark_group("simulator");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for (name, text) in [("fluid, ticks", FLUID), ("request by request, events", REQUESTS)] {
        let scenario = scenario(text);
        let events = run(name, &scenario, None).expect("a run").outcomes.remove(0).events;
        let ticks = scenario.duration.0.as_secs() / 2;
        let elements = if name.starts_with("fluid") { ticks } else { events };
        group.throughput(Throughput::Elements(elements));
        group.bench_function(name, |b| {
            b.iter(|| run(name, black_box(&scenario), None).expect("a run"));
        });
    }
    group.finish();
}

criterion_group!(benches, simulator);
criterion_main!(benches);
