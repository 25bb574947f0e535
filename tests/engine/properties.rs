//! What holds for all inputs.

use std::time::Duration;

use podswell::core::config::TargetConfig;
use podswell::core::decider::Decider;
use podswell::core::decider::covered::{Averages, Reading, over_alone};
use podswell::core::decision::{SignalState, Trigger};
use podswell::core::event::{Event, WriteOutcome};
use podswell::core::source::PointConfig;
use podswell::core::spec::{Aggregation, ScaleBounds, ScalerSpec, ScalingMetric, Semantics};
use podswell::core::window::buckets::BucketWindow;
use podswell::core::window::covered::CoveredSeconds;
use proptest::prelude::*;

use crate::world::{World, at, config, point, seconds};

/// One thing that happens to a source's samples.
#[derive(Clone, Debug)]
enum Trouble {
    None,
    Missing,
    Double,
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![8 => Just(Trouble::None), 1 => Just(Trouble::Missing), 1 => Just(Trouble::Double)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A constant load reads as itself in both windows at every moment, whatever the source's interval,
    /// with jitter, double and missing samples and an outage of 40 s; and it never changes the scale.
    #[test]
    fn a_constant_load_reads_as_itself(
        interval_s in prop::sample::select(vec![1_u64, 2, 5, 10, 15]),
        load in prop::sample::select(vec![0.5, 7.25, 69.9, 300.0, 12_345.678]),
        jitter in prop::collection::vec(0_u64..900, 60),
        troubles in prop::collection::vec(trouble(), 60),
        outage_from_s in 100_u64..150,
        aggregation in prop::sample::select(vec![Aggregation::Linear, Aggregation::WeightedExponential]),
    ) {
        let mut config = config();
        config.points = vec![point("source", interval_s)];
        config.spec.aggregation = aggregation;
        #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
        let needed = (load / config.spec.target).ceil() as i32;
        let mut world = World::new(config, needed);
        let mut next = 0;
        for (jitter_ms, trouble) in jitter.iter().zip(&troubles).cycle().take(300 / usize::try_from(interval_s).expect("small")) {
            next += interval_s * 1000;
            let due = at(i64::try_from(next + jitter_ms).expect("small"));
            let wait = Duration::try_from(due.duration_since(world.now)).unwrap_or_default();
            world.pass(wait);
            let silent = (outage_from_s * 1000..outage_from_s * 1000 + 40_000).contains(&next);
            if silent || matches!(trouble, Trouble::Missing) {
                continue;
            }
            world.sample(load);
            if matches!(trouble, Trouble::Double) {
                world.pass(Duration::from_millis(7));
                world.sample(load);
            }
        }
        for decision in &world.decisions {
            for average in [decision.observation.stable, decision.observation.panic, decision.observation.stable_high].into_iter().flatten() {
                prop_assert!((average - load).abs() <= 2e-6 * load.max(1.0), "{average} is not {load}");
            }
        }
        prop_assert!(world.writes.is_empty(), "constant load, constant scale: {:?}", world.writes);
    }

    /// With exactly one complete sample in every second, both semantics read the same averages at every
    /// tick and, from the first full stable window on, decide the same.
    #[test]
    fn both_semantics_agree_on_one_sample_a_second(
        loads in prop::collection::vec((0.0..600.0_f64, 5_usize..60), 2..8),
        offset_ms in 0_i64..500,
    ) {
        let spec = ScalerSpec::default();
        let point = PointConfig { interval: seconds(1), ..point("source", 1) };
        let mut stable = BucketWindow::new(spec.stable_window, Aggregation::Linear);
        let mut panic = BucketWindow::new(spec.panic_window, Aggregation::Linear);
        let mut covered = CoveredSeconds::new(spec.stable_window, point.stale_after);
        let mut knative = Decider::new(at(0), &spec, 1);
        let mut ours = Decider::new(at(0), &spec, 1);
        let mut ready = 1;
        let mut same_so_far = true;
        let values = loads.iter().flat_map(|&(load, times)| std::iter::repeat_n(load, times));
        for (second, load) in (0_i64..).zip(values) {
            let t = at(second * 1000 + offset_ms);
            stable.record(t, load);
            panic.record(t, load);
            covered.record(t, load, load, over_alone(&spec, load, ready));
            if second % 2 == 1 {
                continue;
            }
            let now = at(second * 1000 + offset_ms + 400);
            let reading = Reading::new(&spec, &point, &covered, &Averages::of(&spec, &point, &covered));
            prop_assert!((reading.stable.low - stable.average(now)).abs() < 2e-6);
            prop_assert!((reading.panic.low - panic.average(now)).abs() < 2e-6);
            let theirs = knative.tick_knative(now, &spec, ready, Some((stable.average(now), panic.average(now))));
            let mine = ours.tick_covered(now, &spec, ready, &reading);
            // Windows may differ in the last digit, which matters only at a whole number of pods.
            let edge = [reading.stable.low, reading.panic.low].iter().any(|average| {
                let pods = average / spec.target;
                (pods - pods.round()).abs() < 1e-6
            });
            same_so_far &= !edge;
            if second >= 62 && same_so_far && mine.lowering {
                prop_assert_eq!(theirs.desired, mine.desired, "at {} s", second);
            }
            ready = theirs.desired.max(1);
        }
    }
}

/// Anything that can happen to a target.
#[derive(Clone, Debug)]
enum Happening {
    Sample { seen: f64, missing: u32, age_ms: u64, stamp_ms: Option<i64> },
    Pass(u64),
    Replicas(i32),
    Ready(i32),
    Answer(WriteOutcome),
    Configure(Box<TargetConfig>),
    Leader(bool),
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => 0.0..2000.0_f64,
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        1 => Just(-5.0),
        1 => Just(1e308),
        1 => Just(f64::MIN_POSITIVE),
        2 => Just(0.0),
    ]
}

fn any_config() -> impl Strategy<Value = TargetConfig> {
    let spec = (
        prop::sample::select(vec![
            ScalingMetric::Concurrency,
            ScalingMetric::Rps,
            ScalingMetric::Events,
            ScalingMetric::Backlog,
        ]),
        prop::sample::select(vec![0.01, 1.0, 70.0]),
        prop::sample::select(vec![6_u64, 60, 3600]),
        prop::sample::select(vec![1.1, 2.0]),
        0_u64..120,
        0_i32..4,
    );
    let rest =
        (0_i32..4, 0_i32..9, any::<bool>(), any::<bool>(), prop::sample::select(vec![1_u64, 15]));
    (spec, rest).prop_map(|(spec, (min, more, zero, knative, interval))| {
        let (metric, target, window, rate, delay, activation) = spec;
        let mut config = config();
        config.spec = ScalerSpec {
            metric,
            target,
            total: target,
            stable_window: seconds(window),
            panic_window: seconds((window / 10).max(1)),
            max_scale_down_rate: rate,
            scale_down_delay: seconds(delay),
            activation_scale: activation,
            ..ScalerSpec::default()
        };
        config.bounds = ScaleBounds { min, max: min + more + 1 };
        config.points = vec![PointConfig { visible_at_zero: zero, ..point("source", interval) }];
        config.semantics = if knative { Semantics::Knative } else { Semantics::Default };
        config
    })
}

fn any_happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => (any_value(), 0_u32..4, 0_u64..4000, prop::option::of(0_i64..100_000)).prop_map(
            |(seen, missing, age_ms, stamp_ms)| Happening::Sample { seen, missing, age_ms, stamp_ms }
        ),
        8 => (0_u64..5000).prop_map(Happening::Pass),
        1 => (60_000_u64..400_000).prop_map(Happening::Pass),
        1 => prop_oneof![0_i32..20, Just(i32::MAX)].prop_map(Happening::Replicas),
        1 => prop_oneof![0_i32..20, Just(i32::MAX), Just(-1)].prop_map(Happening::Ready),
        1 => prop::sample::select(vec![
            WriteOutcome::Written,
            WriteOutcome::Conflict,
            WriteOutcome::Unknown,
            WriteOutcome::Gone,
            WriteOutcome::Refused { status: 403, retry_after: Duration::from_secs(5) },
        ]).prop_map(Happening::Answer),
        1 => any_config().prop_map(|config| Happening::Configure(Box::new(config))),
        1 => any::<bool>().prop_map(Happening::Leader),
    ]
}

fn apply(world: &mut World, happening: Happening) {
    match happening {
        Happening::Sample { seen, missing, age_ms, stamp_ms } => {
            world.sample_aged("source", seen, missing, Duration::from_millis(age_ms), stamp_ms);
        }
        Happening::Pass(ms) => world.pass(Duration::from_millis(ms)),
        Happening::Replicas(replicas) => world.observe(replicas),
        Happening::Ready(ready) => {
            world.ready = ready;
            world.observe_pods();
        }
        Happening::Answer(answer) => world.answer = answer,
        Happening::Configure(config) => world.configure(*config),
        Happening::Leader(leader) => world.tell(Event::LeadershipChanged { leader }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Nothing that happens makes the engine panic, write outside the bounds, lower on an arrival or lower
    /// (in the default mode) what a lost or starting signal leaves unknown; and afterwards it still works.
    #[test]
    fn whatever_happens(
        first in any_config(),
        replicas in 0_i32..20,
        happenings in prop::collection::vec(any_happening(), 1..60),
    ) {
        let mut world = World::new(first.clone(), replicas);
        let mut current = first;
        for happening in happenings {
            if let Happening::Configure(config) = &happening {
                current = (**config).clone();
            }
            let (decided, wrote) = (world.decisions.len(), world.writes.len());
            apply(&mut world, happening);
            for decision in world.decisions.iter().skip(decided) {
                if decision.trigger == Trigger::Arrival && decision.semantics == Semantics::Default {
                    prop_assert!(decision.stages.iter().all(|stage| stage.stage.as_str() != "knowledge"));
                }
                let unknown = matches!(decision.observation.signal, SignalState::Lost | SignalState::Starting);
                if unknown
                    && decision.semantics == Semantics::Default
                    && decision.bounded < decision.replicas
                {
                    let ceiling = decision.bounded == current.bounds.max;
                    prop_assert!(ceiling, "lowered without knowing: {decision:?}");
                }
                for average in [decision.observation.stable, decision.observation.panic].into_iter().flatten() {
                    prop_assert!(average.is_finite(), "{decision:?}");
                }
            }
            for &(_, written) in world.writes.iter().skip(wrote) {
                prop_assert!(written >= 0 && written <= current.bounds.max, "{written} of {:?}", current.bounds);
            }
        }
        world.answer = WriteOutcome::Written;
        world.tell(Event::LeadershipChanged { leader: true });
        world.configure(config());
        world.observe(1);
        world.ready = 1;
        world.observe_pods();
        world.pass(Duration::from_secs(4000));
        world.run(Duration::from_secs(200), 300.0);
        prop_assert_eq!(world.replicas, 5, "{:?}", world.decision());
    }

    /// An arrival never lowers.
    #[test]
    fn arrivals_never_lower(values in prop::collection::vec(0.0..3000.0_f64, 5..80), replicas in 1_i32..30) {
        let mut world = World::new(config(), replicas);
        for value in values {
            world.pass(seconds(1));
            let (before, wrote) = (world.replicas, world.writes.len());
            world.sample(value);
            let arrival = world.engine.poll_timeout();
            if arrival == Some(world.now) {
                world.engine.handle_timeout(world.now);
            }
            world.pass(Duration::ZERO);
            for &(_, written) in world.writes.iter().skip(wrote) {
                let by_tick = world.decision().trigger == Trigger::Tick;
                prop_assert!(by_tick || written > before);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// While endpoints are missing, no tick goes below what they may demand, unless it already was.
    #[test]
    fn a_partial_signal_is_lowered_to_its_high_end_at_most(
        rounds in prop::collection::vec((0.0..1500.0_f64, 0_u32..5), 20..150),
        replicas in 1_i32..40,
    ) {
        let mut world = World::new(config(), replicas);
        for (seen, missing) in rounds {
            world.pass(seconds(1));
            world.sample_of("source", seen, missing);
        }
        for pair in world.decisions.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            if let Some(high) = after.observation.stable_high {
                let demand = (high / after.target).ceil();
                let kept = f64::from(after.desired) >= demand.min(f64::from(before.desired));
                prop_assert!(kept, "{before:?} {after:?}");
            }
        }
    }
}
