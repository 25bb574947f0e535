//! Several measures of one target, parts of one whole, and what waits beside what arrives.

use std::sync::Arc;
use std::time::Duration;

use podswell::core::config::{CompanionConfig, MeasureConfig, TargetConfig};
use podswell::core::decision::{MeasureRecord, Reason, SignalState};
use podswell::core::event::Event;
use podswell::core::policy::Consent;
use podswell::core::source::{PointConfig, Share};
use podswell::core::spec::{ScaleBounds, ScalerSpec, ScalingMetric, Semantics};
use proptest::prelude::*;

use crate::world::{World, config, point, seconds};

const HALF: Duration = Duration::from_millis(500);

fn spec(metric: ScalingMetric, target: f64) -> ScalerSpec {
    ScalerSpec { metric, target, total: target, ..ScalerSpec::default() }
}

fn at_zero(name: &str) -> PointConfig {
    PointConfig { visible_at_zero: true, ..point(name, 1) }
}

fn backlog(source: &str, target: f64) -> MeasureConfig {
    MeasureConfig {
        name: format!("backlog@{source}").into(),
        spec: spec(ScalingMetric::Backlog, target),
        points: vec![at_zero(source)],
        companion: None,
    }
}

/// Concurrency from `source` with 70 a pod, and the further measures.
fn with(further: Vec<MeasureConfig>) -> TargetConfig {
    TargetConfig { further, ..config() }
}

/// Requests of `source` and waiting items of `orders`, 50 a pod.
fn web_and_queue() -> TargetConfig {
    with(vec![backlog("orders", 50.0)])
}

/// Items published a second, 14 a pod, with what waits in `orders`.
fn events() -> TargetConfig {
    TargetConfig {
        spec: spec(ScalingMetric::Events, 14.0),
        points: vec![at_zero("source")],
        companion: Some(CompanionConfig {
            points: vec![at_zero("orders")],
            drain_time: seconds(60),
        }),
        bounds: ScaleBounds { min: 0, max: 40 },
        ..config()
    }
}

/// Complete samples of each source, each second for `span`.
fn run(world: &mut World, span: Duration, values: &[(&str, f64)]) {
    for _ in 0..span.as_secs() {
        world.pass(HALF);
        for (source, value) in values {
            world.sample_of(source, *value, 0);
        }
        world.pass(HALF);
    }
}

fn line<'a>(world: &'a World, name: &str) -> &'a MeasureRecord {
    let lines = &world.decision().measures;
    lines.iter().find(|line| &*line.name == name).expect("a line for each measure")
}

#[test]
fn the_measure_that_asks_for_most_decides() {
    let mut world = World::new(web_and_queue(), 1);
    run(&mut world, seconds(150), &[("source", 140.0), ("orders", 230.0)]);
    assert_eq!(world.replicas, 5, "ceil(230 / 50) and not ceil(140 / 70)");
    let decision = world.decision();
    assert_eq!((decision.metric, decision.reason), (ScalingMetric::Backlog, Reason::Steady));
    assert_eq!(decision.measures.iter().filter(|line| line.wins).count(), 1);
    assert_eq!(line(&world, "concurrency").desired, 2);
    assert!(line(&world, "backlog@orders").wins);
    run(&mut world, seconds(200), &[("source", 490.0), ("orders", 230.0)]);
    assert_eq!(world.replicas, 7);
    assert!(line(&world, "concurrency").wins);
    run(&mut world, seconds(200), &[("source", 490.0), ("orders", 0.0)]);
    assert_eq!(world.replicas, 7, "the other one asks for nothing and changes nothing");
    run(&mut world, seconds(300), &[("source", 70.0), ("orders", 0.0)]);
    assert_eq!(world.replicas, 1);
}

#[test]
fn a_single_measure_has_no_lines() {
    let mut world = World::new(config(), 1);
    world.run(seconds(10), 60.0);
    assert!(world.decision().measures.is_empty());
}

#[test]
fn one_lost_measure_takes_away_lowering_and_nothing_else() {
    let mut world = World::new(web_and_queue(), 1);
    run(&mut world, seconds(150), &[("source", 280.0), ("orders", 90.0)]);
    assert_eq!(world.replicas, 4);
    let lost = world.now;
    run(&mut world, seconds(200), &[("source", 60.0)]);
    assert_eq!(world.replicas, 4, "the queue may be full");
    assert_eq!(line(&world, "backlog@orders").observation.signal, SignalState::Lost);
    assert_eq!(line(&world, "concurrency").observation.signal, SignalState::Fresh);
    assert_eq!(world.announced("SignalLost"), 1);
    assert_eq!(world.decision().reason, Reason::SignalLost);
    run(&mut world, seconds(100), &[("source", 560.0)]);
    assert_eq!(world.replicas, 8, "raising goes on");
    run(&mut world, seconds(300), &[("source", 60.0)]);
    assert_eq!(world.replicas, 8);
    assert_eq!(world.least_written_since(lost), Some(8));
    assert_eq!(world.announced("HoldLong"), 0, "the hold began with the fall of the load");
    run(&mut world, seconds(300), &[("source", 60.0), ("orders", 90.0)]);
    assert_eq!(world.replicas, 2, "both are heard: the queue asks for two");
    assert_eq!(world.announced("SignalBack"), 1);
}

#[test]
fn both_lost_keep_the_replicas() {
    let mut world = World::new(web_and_queue(), 1);
    run(&mut world, seconds(150), &[("source", 280.0), ("orders", 90.0)]);
    let before = world.writes.len();
    world.pass(seconds(1000));
    assert_eq!((world.replicas, world.writes.len()), (4, before));
    assert_eq!(world.decision().reason, Reason::SignalLost);
    assert_eq!(world.announced("SignalLost"), 2);
    assert_eq!(world.announced("HoldLong"), 1);
}

#[test]
fn a_measure_that_cannot_be_measured_holds_like_a_lost_one() {
    let broken = MeasureConfig { points: Vec::new(), ..backlog("orders", 50.0) };
    let mut world = World::new(with(vec![broken]), 4);
    run(&mut world, seconds(200), &[("source", 60.0)]);
    assert_eq!(world.replicas, 4);
    assert_eq!(line(&world, "backlog@orders").reason, Reason::NoSource);
    run(&mut world, seconds(200), &[("source", 560.0)]);
    assert_eq!(world.replicas, 8);
}

#[test]
fn a_new_measure_lowers_nothing_before_it_knows_and_a_removed_one_is_forgotten() {
    let mut world = World::new(config(), 1);
    run(&mut world, seconds(150), &[("source", 280.0)]);
    assert_eq!(world.replicas, 4);
    world.configure(web_and_queue());
    let added = world.now;
    run(&mut world, seconds(40), &[("source", 60.0), ("orders", 0.0)]);
    assert_eq!(world.least_written_since(added), None, "its window is not filled");
    run(&mut world, seconds(200), &[("source", 60.0), ("orders", 450.0)]);
    assert_eq!(world.replicas, 9);
    assert_eq!(world.decision().observation.covered_s, 60, "the first measure kept its window");
    world.configure(config());
    assert_eq!(world.replicas, 9);
    run(&mut world, seconds(200), &[("source", 60.0)]);
    assert_eq!(world.replicas, 1, "{:?}", world.decision());
    assert!(world.decision().measures.is_empty());
}

#[test]
fn the_order_of_measures_is_no_change() {
    let mut world = World::new(web_and_queue(), 1);
    run(&mut world, seconds(150), &[("source", 280.0), ("orders", 90.0)]);
    let queue = backlog("orders", 50.0);
    let turned = TargetConfig {
        measure: queue.name,
        spec: queue.spec,
        points: queue.points,
        further: vec![MeasureConfig {
            name: "concurrency".into(),
            spec: ScalerSpec::default(),
            points: vec![point("source", 1)],
            companion: None,
        }],
        ..config()
    };
    let before = world.writes.len();
    world.configure(turned);
    run(&mut world, seconds(4), &[("source", 280.0), ("orders", 90.0)]);
    assert_eq!(world.writes.len(), before);
    assert_eq!(line(&world, "concurrency").observation.covered_s, 60);
    assert_eq!(line(&world, "backlog@orders").observation.covered_s, 60);
}

#[test]
fn panic_is_each_measures_own() {
    let mut world = World::new(web_and_queue(), 1);
    run(&mut world, seconds(120), &[("source", 60.0), ("orders", 40.0)]);
    run(&mut world, seconds(10), &[("source", 60.0), ("orders", 400.0)]);
    assert!(line(&world, "backlog@orders").panic_mode.is_some());
    assert!(line(&world, "concurrency").panic_mode.is_none());
    assert_eq!(world.announced("PanicEntered"), 1);
    let peak = world.replicas;
    run(&mut world, seconds(40), &[("source", 60.0), ("orders", 0.0)]);
    assert_eq!(world.replicas, peak, "panic never lowers");
    run(&mut world, seconds(200), &[("source", 60.0), ("orders", 0.0)]);
    assert_eq!((world.replicas, world.announced("PanicLeft")), (1, 1));
}

#[test]
fn an_arrival_raises_by_any_measure() {
    let mut world = World::new(web_and_queue(), 2);
    run(&mut world, seconds(120), &[("source", 60.0), ("orders", 90.0)]);
    assert_eq!(world.replicas, 2);
    world.pass(Duration::from_millis(100));
    world.sample_of("orders", 60_000.0, 0);
    world.pass(Duration::ZERO);
    assert!(world.replicas > 2, "{}", world.replicas);
}

#[test]
fn zero_needs_every_measure_to_be_seen_there() {
    let quiet = [("source", 0.0), ("orders", 0.0)];
    let mut deaf = World::new(web_and_queue(), 1);
    run(&mut deaf, seconds(300), &quiet);
    assert_eq!((deaf.replicas, deaf.decision().reason), (1, Reason::NoWakePath));
    let mut seen = web_and_queue();
    seen.points = vec![at_zero("source")];
    let mut world = World::new(seen, 1);
    run(&mut world, seconds(300), &quiet);
    assert_eq!((world.replicas, world.decision().reason), (0, Reason::Idle));
    run(&mut world, seconds(1), &[("source", 0.0), ("orders", 1.0)]);
    assert_eq!(world.replicas, 1, "one item wakes it");
}

#[test]
fn at_zero_one_deaf_measure_wakes() {
    let mut config = web_and_queue();
    config.points = vec![at_zero("source")];
    let mut world = World::new(config, 0);
    run(&mut world, seconds(200), &[("source", 0.0), ("orders", 0.0)]);
    assert_eq!(world.replicas, 0);
    run(&mut world, seconds(150), &[("source", 0.0)]);
    assert_eq!(world.replicas, 1, "the queue may be full");
}

/// Two gateways that each see a part of the requests.
fn gateways() -> TargetConfig {
    let part = |name| PointConfig { share: Share::Additive, ..point(name, 1) };
    TargetConfig { points: vec![part("north"), part("south"), point("pods", 1)], ..config() }
}

#[test]
fn parts_are_summed() {
    let mut world = World::new(gateways(), 1);
    run(&mut world, seconds(150), &[("north", 200.0), ("south", 90.0), ("pods", 5.0)]);
    assert_eq!(world.replicas, 5, "ceil(290 / 70)");
    let seen = &world.decision().observation;
    assert_eq!((seen.stable, seen.source.as_deref()), (Some(290.0), Some("north+south")));
    assert_eq!(seen.signal, SignalState::Fresh);
    run(&mut world, seconds(200), &[("north", 0.0), ("south", 290.0)]);
    assert_eq!(world.replicas, 5, "load that moves from part to part is the same load");
    assert_eq!(world.announced("PanicEntered"), 1, "at the start only");
}

#[test]
fn a_part_that_is_not_heard_lowers_nothing() {
    let mut world = World::new(gateways(), 1);
    run(&mut world, seconds(150), &[("north", 200.0), ("south", 90.0)]);
    assert_eq!(world.replicas, 5);
    let lost = world.now;
    run(&mut world, seconds(120), &[("south", 60.0), ("pods", 1.0)]);
    let seen = &world.decision().observation;
    assert_eq!((seen.signal, seen.missing), (SignalState::Partial, 1), "{seen:?}");
    assert_eq!((world.replicas, world.decision().reason), (5, Reason::SignalPartial));
    run(&mut world, seconds(30), &[("south", 700.0)]);
    assert_eq!(world.replicas, 10, "what is seen still raises");
    run(&mut world, seconds(200), &[("south", 60.0)]);
    assert_eq!(world.replicas, 10);
    assert!(world.least_written_since(lost).is_none_or(|least| least > 5));
    // The hole is past, but has not left the window yet.
    let back = world.now;
    run(&mut world, seconds(40), &[("north", 60.0), ("south", 60.0)]);
    assert_eq!(world.least_written_since(back), None);
    run(&mut world, seconds(120), &[("north", 60.0), ("south", 60.0)]);
    assert_eq!(world.replicas, 2);
    // While no part is heard, the next source speaks.
    run(&mut world, seconds(90), &[("pods", 250.0)]);
    assert_eq!(world.decision().observation.source.as_deref(), Some("pods"));
    assert_eq!(world.replicas, 4);
}

#[test]
fn parts_of_different_intervals_may_be_mixed() {
    let mut config = gateways();
    config.points[1] = PointConfig { share: Share::Additive, ..point("south", 15) };
    let mut world = World::new(config, 5);
    for second in 0..300 {
        world.pass(HALF);
        world.sample_of("north", 200.0, 0);
        if second % 15 == 0 {
            world.sample_of("south", 90.0, 0);
        }
        world.pass(HALF);
    }
    let seen = &world.decision().observation;
    assert_eq!((seen.stable, seen.panic), (Some(290.0), Some(290.0)));
    assert!(world.writes.is_empty(), "a constant load is constant: {:?}", world.writes);
}

#[test]
fn knative_semantics_sum_parts_too() {
    let mut config = gateways();
    config.semantics = Semantics::Knative;
    config.bounds.max = 0;
    let mut world = World::new(config, 1);
    run(&mut world, seconds(150), &[("north", 200.0), ("south", 90.0)]);
    assert_eq!(world.replicas, 5);
}

#[test]
fn what_waits_is_worked_off_within_the_drain_time() {
    let mut world = World::new(events(), 1);
    run(&mut world, seconds(150), &[("source", 100.0), ("orders", 0.0)]);
    assert_eq!(world.replicas, 8, "ceil(100 / 14)");
    run(&mut world, seconds(10), &[("source", 100.0), ("orders", 1200.0)]);
    assert_eq!(world.replicas, 9, "ceil((100 + 1200 / 60) / 14)");
    let waiting = world.decision().observation.waiting.expect("a companion that is heard");
    assert!((waiting.items - 1200.0).abs() < f64::EPSILON);
    assert_eq!(world.decision().observation.stable, Some(100.0));
    run(&mut world, seconds(120), &[("source", 100.0), ("orders", 0.0)]);
    assert_eq!(world.replicas, 8);
}

#[test]
fn a_lost_companion_takes_away_lowering() {
    let mut world = World::new(events(), 1);
    run(&mut world, seconds(150), &[("source", 100.0), ("orders", 1200.0)]);
    assert_eq!(world.replicas, 9);
    run(&mut world, seconds(200), &[("source", 10.0)]);
    assert_eq!((world.replicas, world.decision().reason), (9, Reason::SignalPartial));
    assert_eq!(world.decision().observation.signal, SignalState::Partial);
    run(&mut world, seconds(100), &[("source", 200.0)]);
    assert_eq!(world.replicas, 15, "what arrives still raises");
    run(&mut world, seconds(300), &[("source", 10.0), ("orders", 0.0)]);
    assert_eq!(world.replicas, 1);
}

#[test]
fn events_go_to_zero_when_nothing_arrives_and_nothing_waits() {
    let mut world = World::new(events(), 1);
    run(&mut world, seconds(150), &[("source", 100.0), ("orders", 500.0)]);
    run(&mut world, seconds(200), &[("source", 0.0), ("orders", 3.0)]);
    assert_eq!(world.replicas, 1, "three items still wait");
    run(&mut world, seconds(200), &[("source", 0.0), ("orders", 0.0)]);
    assert_eq!((world.replicas, world.decision().reason), (0, Reason::Idle));
    run(&mut world, seconds(1), &[("source", 0.0), ("orders", 1.0)]);
    assert_eq!(world.replicas, 1, "an item that waits wakes it");
}

#[test]
fn events_alone_do_not_show_what_waits() {
    let mut world = World::new(TargetConfig { companion: None, ..events() }, 1);
    run(&mut world, seconds(300), &[("source", 0.0)]);
    assert_eq!((world.replicas, world.decision().reason), (1, Reason::WaitingUnknown));
    let status = world.status.clone().expect("a status");
    assert!(status.problems.iter().any(|problem| problem.code.as_str() == "WaitingUnknown"));
    // A measure of what waits beside it shows it as well.
    world.configure(TargetConfig {
        companion: None,
        further: vec![backlog("orders", 50.0)],
        ..events()
    });
    run(&mut world, seconds(300), &[("source", 0.0), ("orders", 0.0)]);
    assert_eq!(world.replicas, 0);
}

/// A queue with consumers: what arrives waits until a ready pod takes it.
struct Queue {
    waiting: f64,
    per_pod: f64,
}

impl Queue {
    fn second(&mut self, world: &mut World, arrivals: f64) {
        world.pass(HALF);
        self.waiting += arrivals;
        let taken = self.waiting.min(self.per_pod * f64::from(world.ready));
        world.sample_of("source", arrivals, 0);
        world.sample_of("orders", self.waiting, 0);
        self.waiting -= taken;
        world.pass(HALF);
    }
}

/// `metric: backlog` of `orders`, `target` a pod.
fn queue(target: f64, max: i32) -> TargetConfig {
    TargetConfig {
        consent: Consent::Managed,
        spec: spec(ScalingMetric::Backlog, target),
        points: vec![at_zero("orders")],
        bounds: ScaleBounds { min: 0, max },
        ..TargetConfig::default()
    }
}

#[test]
fn a_backlog_goes_from_zero_to_n_and_back() {
    let mut world = World::new(queue(10.0, 20), 0);
    world.pod_start = seconds(3);
    let mut orders = Queue { waiting: 0.0, per_pod: 10.0 };
    for _ in 0..60 {
        orders.second(&mut world, 0.0);
    }
    assert_eq!(world.replicas, 0);
    for _ in 0..120 {
        orders.second(&mut world, 55.0);
    }
    assert!((4..=10).contains(&world.replicas), "{}", world.replicas);
    for _ in 0..400 {
        orders.second(&mut world, 0.0);
    }
    assert_eq!(world.replicas, 0);
    assert!(orders.waiting <= 0.0, "not an item is left");
}

#[test]
fn a_consumer_that_is_slower_than_thought_gets_more_pods() {
    // The target says 14 a second; a pod really takes 8.
    let mut world = World::new(events(), 1);
    world.pod_start = seconds(3);
    let mut orders = Queue { waiting: 0.0, per_pod: 8.0 };
    for _ in 0..900 {
        orders.second(&mut world, 100.0);
    }
    assert!(world.replicas >= 12, "{} pods of 8 a second keep up with 100", world.replicas);
    assert!(orders.waiting < 100.0 * 60.0, "what waits is bounded: {}", orders.waiting);
    let steady = world.now;
    for _ in 0..300 {
        orders.second(&mut world, 100.0);
    }
    assert!(world.least_written_since(steady).is_none_or(|least| least >= 12));
}

#[test]
fn a_poison_burst_is_worked_off_without_swinging() {
    for config in [queue(50.0, 30), events()] {
        let max = config.bounds.max;
        let mut world = World::new(config, 0);
        world.pod_start = seconds(3);
        let mut orders = Queue { waiting: 0.0, per_pod: 20.0 };
        for _ in 0..120 {
            orders.second(&mut world, 0.0);
        }
        orders.second(&mut world, 100_000.0);
        let mut worked_off = 0;
        while orders.waiting > 0.0 {
            orders.second(&mut world, 0.0);
            worked_off += 1;
            assert!(world.replicas <= max && worked_off < 2000, "{}", world.replicas);
        }
        for _ in 0..400 {
            orders.second(&mut world, 0.0);
        }
        assert_eq!(world.replicas, 0);
        assert_eq!((world.announced("PanicEntered"), world.announced("PanicLeft")), (1, 1));
        let top = world.writes.iter().position(|(_, replicas)| *replicas == max).expect("a peak");
        let (up, down) = world.writes.split_at(top + 1);
        assert!(up.is_sorted_by_key(|(_, replicas)| *replicas), "{up:?}");
        assert!(down.is_sorted_by_key(|(_, replicas)| -replicas), "{down:?}");
    }
}

#[test]
fn the_activation_value_counts_as_none() {
    let mut config = queue(1.0, 20);
    config.zero.activation_value = 5;
    let mut world = World::new(config.clone(), 0);
    run(&mut world, seconds(120), &[("orders", 5.0)]);
    assert_eq!(world.replicas, 0, "five are none");
    run(&mut world, seconds(1), &[("orders", 6.0)]);
    assert_eq!(world.replicas, 6, "six are not");
    run(&mut world, seconds(100), &[("orders", 6.0)]);
    assert_eq!(world.replicas, 6);
    run(&mut world, seconds(300), &[("orders", 4.0)]);
    assert_eq!((world.replicas, world.decision().reason), (0, Reason::Idle));
    assert_eq!(world.decision().observation.stable, Some(4.0), "what is seen is told as it is");
    // Where zero is not possible the value means nothing.
    config.bounds.min = 1;
    world.configure(config);
    run(&mut world, seconds(200), &[("orders", 4.0)]);
    assert_eq!(world.replicas, 4);

    let mut config = events();
    config.zero.activation_value = 5;
    let mut world = World::new(config, 2);
    run(&mut world, seconds(300), &[("source", 0.0), ("orders", 5.0)]);
    assert_eq!(world.replicas, 0);
    run(&mut world, seconds(60), &[("source", 0.0), ("orders", 5.0)]);
    assert_eq!(world.replicas, 0);
    run(&mut world, seconds(2), &[("source", 0.0), ("orders", 6.0)]);
    assert_eq!(world.replicas, 1);
}

#[test]
fn a_delay_holds_also_before_the_activation_value() {
    let mut config = queue(1.0, 20);
    config.zero.activation_value = 5;
    config.spec.scale_down_delay = seconds(300);
    let mut world = World::new(config, 1);
    run(&mut world, seconds(100), &[("orders", 8.0)]);
    assert_eq!(world.replicas, 8);
    run(&mut world, seconds(250), &[("orders", 1.0)]);
    assert_eq!(world.replicas, 8);
    // Each halving waits for the delay.
    run(&mut world, seconds(4 * 320), &[("orders", 1.0)]);
    assert_eq!(world.replicas, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// With complete samples of every measure, what is desired is the highest of what engines with one of
    /// the measures each desire.
    #[test]
    fn several_measures_desire_the_highest_of_each(
        loads in prop::collection::vec((0.0..900.0_f64, 0.0..400.0_f64, 1_usize..40), 2..8),
        ready in 1_i32..12,
        delay in prop::sample::select(vec![0_u64, 30]),
    ) {
        let mut both = web_and_queue();
        both.spec.scale_down_delay = seconds(delay);
        both.further[0].spec.scale_down_delay = seconds(delay);
        let mut web = config();
        web.spec = both.spec.clone();
        let queue = TargetConfig {
            spec: both.further[0].spec.clone(),
            points: both.further[0].points.clone(),
            ..config()
        };
        // Nothing is ever written, so that all three see the same pods.
        let mut worlds: Vec<World> = [both, web, queue]
            .into_iter()
            .map(|config| {
                let mut world = World::new(TargetConfig { consent: Consent::Observed, ..config }, ready);
                let target = world.target.clone();
                world.tell(Event::PodsObserved { target, pods: podswell::core::target::PodCounts {
                    ready, ..podswell::core::target::PodCounts::default()
                } });
                world
            })
            .collect();
        let seconds = loads.iter().flat_map(|&(web, queue, times)| std::iter::repeat_n((web, queue), times));
        for (load, items) in seconds {
            for world in &mut worlds {
                world.pass(HALF);
                world.sample_of("source", load, 0);
                world.sample_of("orders", items, 0);
                world.pass(HALF);
            }
            let desired: Vec<Option<i32>> = worlds
                .iter()
                .map(|world| world.decisions.last().map(|decision| decision.desired))
                .collect();
            prop_assert_eq!(desired[0], desired[1].max(desired[2]), "{:?}", desired);
        }
    }
}

#[test]
fn a_recording_without_measures_still_replays() {
    let config = Arc::new(web_and_queue());
    let event =
        Event::TargetApplied { target: World::new(config.as_ref().clone(), 1).target, config };
    let text = serde_json::to_string(&event).expect("an event is serialisable");
    assert_eq!(serde_json::from_str::<Event>(&text).expect("and comes back"), event);
    let mut old: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let fields = old["TargetApplied"]["config"].as_object_mut().expect("an object");
    for field in ["measure", "companion", "further"] {
        assert!(fields.remove(field).is_some(), "{field}");
    }
    let old: Event = serde_json::from_value(old).expect("a recording of an older version");
    let Event::TargetApplied { config, .. } = old else { panic!("the same event") };
    assert_eq!(*config, TargetConfig { further: Vec::new(), ..web_and_queue() });
}
