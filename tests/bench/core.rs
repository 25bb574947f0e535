//! What the core costs: windows, one decision, and one second of an engine full of targets.
//!
//! `cargo bench --bench core`, or `make bench`.
#![expect(clippy::expect_used, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use podswell::core::Timestamp;
use podswell::core::config::TargetConfig;
use podswell::core::decider::Decider;
use podswell::core::decider::covered::{Averages, Reading};
use podswell::core::engine::Engine;
use podswell::core::event::{Event, Reading as SampleReading, Sample};
use podswell::core::policy::Consent;
use podswell::core::source::{PointConfig, Share};
use podswell::core::spec::{Aggregation, ScalerSpec};
use podswell::core::target::{PodCounts, TargetId};
use podswell::core::window::buckets::BucketWindow;
use podswell::core::window::covered::CoveredSeconds;

const MINUTE: Duration = Duration::from_secs(60);

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + ms).expect("a time within range")
}

fn point() -> PointConfig {
    PointConfig {
        source: "source".into(),
        interval: Duration::from_secs(1),
        stale_after: Duration::from_millis(2500),
        range: None,
        visible_at_zero: false,
        share: Share::Exclusive,
    }
}

fn windows(c: &mut Criterion) {
    let mut group = c.benchmark_group("window");
    let mut covered = CoveredSeconds::new(MINUTE, Duration::from_millis(2500));
    let mut buckets = BucketWindow::new(MINUTE, Aggregation::Linear);
    let mut ms = 0;
    for _ in 0..120 {
        ms += 1000;
        covered.record(at(ms), 300.0, 300.0, false);
        buckets.record(at(ms), 300.0);
    }
    group.bench_function("covered record", |b| {
        b.iter(|| {
            ms += 1000;
            covered.record(at(ms), black_box(300.0), 300.0, false)
        });
    });
    group.bench_function("covered average of 60 s", |b| {
        b.iter(|| covered.average(black_box(MINUTE)));
    });
    group.bench_function("buckets record", |b| {
        b.iter(|| {
            ms += 1000;
            buckets.record(at(ms), black_box(300.0));
        });
    });
    group.bench_function("buckets average of 60 s", |b| {
        b.iter(|| buckets.average(black_box(at(ms + 1000))));
    });
    group.finish();
}

fn decision(c: &mut Criterion) {
    let spec = ScalerSpec::default();
    let mut window = CoveredSeconds::new(MINUTE, Duration::from_millis(2500));
    for second in 0..120 {
        window.record(at(second * 1000), 300.0, 300.0, false);
    }
    let mut decider = Decider::new(at(0), &spec, 5);
    c.bench_function("decision, default", |b| {
        b.iter(|| {
            let point = point();
            let averages = Averages::of(&spec, &point, &window);
            let reading = Reading::new(&spec, &point, &window, &averages);
            decider.tick_covered(at(120_000), &spec, 5, &reading)
        });
    });
    let mut decider = Decider::new(at(0), &spec, 5);
    c.bench_function("decision, knative", |b| {
        b.iter(|| decider.tick_knative(at(120_000), &spec, 5, black_box(Some((300.0, 300.0)))));
    });
}

fn target(i: usize) -> TargetId {
    TargetId::deployment(&format!("team-{}", i % 100), &format!("function-{i}"))
}

fn engine_of(targets: &[TargetId]) -> Engine {
    let mut engine = Engine::new();
    engine.handle(at(0), Event::LeadershipChanged { leader: true });
    for target in targets {
        let config = TargetConfig {
            consent: Consent::Managed,
            points: vec![point()],
            ..TargetConfig::default()
        };
        engine.handle(
            at(0),
            Event::TargetApplied { target: target.clone(), config: Arc::new(config) },
        );
        engine.handle(
            at(0),
            Event::ReplicasObserved {
                target: target.clone(),
                replicas: 5,
                resource_version: "1".into(),
                newly_created: false,
            },
        );
        let pods = PodCounts { ready: 5, ..PodCounts::default() };
        engine.handle(at(0), Event::PodsObserved { target: target.clone(), pods });
    }
    engine
}

/// One second: a sample for every target, an evaluation by each arrival, a tick for every second one.
fn one_second(engine: &mut Engine, targets: &[TargetId], ms: i64) {
    let source: Arc<str> = "source".into();
    let samples = targets
        .iter()
        .map(|target| Sample {
            target: target.clone(),
            source: source.clone(),
            age: Duration::ZERO,
            stamp_ms: None,
            reading: SampleReading::Value { seen: 300.0, missing: 0 },
        })
        .collect();
    engine.handle(at(ms), Event::Sampled { samples });
    engine.handle_timeout(at(ms));
    engine.handle_timeout(at(ms + 999));
    while engine.poll_published().is_some() {}
    while engine.poll_action().is_some() {}
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    pages * 4096
}

fn engine(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine, one second");
    group.sample_size(20);
    for count in [1_000, 10_000, 50_000] {
        let targets: Vec<TargetId> = (0..count).map(target).collect();
        let before = resident_bytes();
        let mut engine = engine_of(&targets);
        let mut ms = 0;
        for _ in 0..70 {
            ms += 1000;
            one_second(&mut engine, &targets, ms);
        }
        let grown = resident_bytes().saturating_sub(before);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                ms += 1000;
                one_second(&mut engine, &targets, ms);
            });
        });
        let per_target = grown / count as u64;
        #[expect(clippy::print_stdout, reason = "this is its result")]
        {
            println!(
                "engine of {count} targets: resident memory grew by {grown} bytes, {per_target} a target"
            );
        }
    }
    group.finish();
}

criterion_group!(benches, windows, decision, engine);
criterion_main!(benches);
