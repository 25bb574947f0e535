//! Situations written down from the specification alone, before the code was read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use podswell::core::Timestamp;
use podswell::core::config::TargetConfig;
use podswell::core::decision::{Reason, SignalState, Trigger};
use podswell::core::engine::Engine;
use podswell::core::event::{Action, Event, Reading, Rival, Sample, WriteOutcome};
use podswell::core::policy::Mode;
use podswell::core::source::PointConfig;
use podswell::core::spec::{ScaleBounds, ScalerSpec, ScalingMetric, Semantics};
use podswell::core::target::TargetId;

use crate::world::{World, at, config, point, seconds};

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn with(spec: impl FnOnce(&mut ScalerSpec)) -> TargetConfig {
    let mut config = config();
    spec(&mut config.spec);
    config
}

fn every(interval_s: u64) -> TargetConfig {
    TargetConfig { points: vec![point("source", interval_s)], ..config() }
}

/// A queue that is seen at zero, ten items a pod.
fn queue(interval_s: u64) -> TargetConfig {
    let mut config = with(|spec| {
        spec.metric = ScalingMetric::Backlog;
        spec.target = 10.0;
        spec.total = 10.0;
    });
    config.points = vec![PointConfig { visible_at_zero: true, ..point("source", interval_s) }];
    config
}

fn signal(world: &World) -> SignalState {
    world.decision().observation.signal
}

/// Jitter that is the same in each run: 0 ..< `span` ms.
fn jitter(round: u64, span: u64) -> u64 {
    round.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23) % span
}

/// A target whose history begins at zero replicas, as after a restart of the process.
fn asleep(config: TargetConfig) -> World {
    World::new(config, 0)
}

// --- What is known -------------------------------------------------------------------------------

#[test]
fn silence_is_starting_and_then_lost_and_the_first_sample_ends_it() {
    let mut world = World::new(every(15), 4);
    world.pass(seconds(30));
    assert_eq!(signal(&world), SignalState::Starting);
    assert_eq!(world.decision().reason, Reason::SignalStarting);
    world.pass(seconds(10));
    assert_eq!(signal(&world), SignalState::Lost, "37.5 s since the creation");
    assert_eq!(world.decision().reason, Reason::SignalLost);
    world.sample(250.0);
    world.pass(seconds(2));
    assert_eq!(signal(&world), SignalState::Fresh);
    assert!(world.writes.is_empty(), "{:?}", world.writes);
}

#[test]
fn the_base_of_a_counter_is_an_answer_without_a_number() {
    let mut world = World::new(every(15), 4);
    world.pass(seconds(30));
    let (target, source) = (world.target.clone(), "source".into());
    let sample =
        Sample { target, source, age: Duration::ZERO, stamp_ms: None, reading: Reading::Base };
    world.tell(Event::Sampled { samples: vec![sample] });
    world.pass(seconds(30));
    assert_eq!(signal(&world), SignalState::Starting, "30 s since the base");
    assert_eq!(world.decision().observation.covered_s, 0);
    assert_eq!(world.decision().observation.stable, None);
    world.pass(seconds(10));
    assert_eq!(signal(&world), SignalState::Lost, "40 s since the base");
    assert!(world.writes.is_empty());
}

#[test]
fn a_repeated_stamp_is_a_heartbeat_and_its_data_grows_old() {
    let mut world = World::new(every(15), 3);
    let stamped = world.now;
    world.sample_aged("source", 200.0, 0, Duration::ZERO, Some(1_000));
    for round in 1..60 {
        world.pass(seconds(1));
        let age = u64::try_from(world.now.duration_since(stamped).as_millis()).expect("later");
        let age = (age + jitter(round, 400)).saturating_sub(200);
        world.sample_aged("source", 200.0, 0, millis(age), Some(1_000));
        match round {
            2..=36 => assert_eq!(signal(&world), SignalState::Fresh, "{round} s"),
            41.. => assert_eq!(signal(&world), SignalState::Lost, "{round} s"),
            _ => {}
        }
    }
    let counts = world.engine.status(&world.target).expect("a target").samples;
    assert_eq!((counts.recorded, counts.heartbeat, counts.late), (1, 59, 0));
    assert!(world.writes.is_empty());
}

#[test]
fn stamps_with_jittered_ages_read_the_constant_load_at_every_moment() {
    let mut world = World::new(every(15), 2);
    let origin = world.now;
    for second in 0..600_u64 {
        world.pass(seconds(1));
        if second % 5 == 3 {
            let stamp = second / 15 * 15;
            let taken = origin.checked_add(seconds(stamp)).expect("in range");
            let age = world.now.duration_since(taken).as_millis();
            let age = u64::try_from(age).expect("later") + jitter(second, 900);
            let stamp_ms = i64::try_from(stamp * 1000).expect("small");
            world.sample_aged("source", 140.0, 0, millis(age), Some(stamp_ms));
        }
        if second > 10 {
            let observation = &world.decision().observation;
            assert_eq!(observation.stable, Some(140.0), "{second} s");
            assert_eq!(observation.panic, Some(140.0), "{second} s");
            assert_eq!(observation.signal, SignalState::Fresh, "{second} s");
        }
    }
    assert_eq!(world.decision().observation.covered_s, 60);
    assert!(world.writes.is_empty(), "{:?}", world.writes);
}

#[test]
fn samples_out_of_order_are_late_and_change_nothing() {
    let mut world = World::new(config(), 2);
    world.run(seconds(70), 140.0);
    let before = world.status.as_ref().expect("a status").samples;
    for age in [1, 10, 50] {
        world.sample_aged("source", 9000.0, 0, seconds(age), None);
    }
    world.run(seconds(10), 140.0);
    let after = world.status.as_ref().expect("a status").samples;
    assert_eq!(after.late - before.late, 3);
    assert_eq!(world.decision().observation.stable, Some(140.0));
    assert!(world.writes.is_empty());
}

#[test]
fn steps_of_our_wall_clock_lower_nothing_and_heal() {
    // Ages are differences to the wall clock: a step of ours changes all of them at once.
    for (step, signal_meanwhile) in [(3600_i64, SignalState::Lost), (-3600, SignalState::Fresh)] {
        let mut world = World::new(config(), 10);
        world.run(seconds(5), 700.0);
        let mut stamp = 5_000_i64;
        let rounds = |world: &mut World, rounds: u64, step: i64, stamp: &mut i64| {
            for round in 0..rounds {
                world.pass(seconds(1));
                *stamp += 1000;
                let age = step * 1000 + i64::try_from(jitter(round, 300)).expect("small");
                let age = millis(u64::try_from(age).unwrap_or(0));
                world.sample_aged("source", 700.0, 0, age, Some(*stamp));
            }
        };
        rounds(&mut world, 100, 0, &mut stamp);
        assert_eq!(signal(&world), SignalState::Fresh);
        rounds(&mut world, 100, step, &mut stamp);
        assert_eq!(signal(&world), signal_meanwhile, "step {step}");
        rounds(&mut world, 5, 0, &mut stamp);
        assert_eq!(signal(&world), SignalState::Fresh, "healed from {step}");
        rounds(&mut world, 200, 0, &mut stamp);
        assert_eq!(world.decision().observation.stable, Some(700.0));
        assert!(world.writes.is_empty(), "step {step}: {:?}", world.writes);
    }
}

#[test]
fn steps_of_the_senders_clock_lower_nothing_and_heal() {
    for step in [3_600_000_i64, -3_600_000] {
        let mut world = World::new(config(), 10);
        let mut true_ms = 0_i64;
        let rounds = |world: &mut World, rounds: u64, step: i64, true_ms: &mut i64| {
            for _ in 0..rounds {
                world.pass(seconds(1));
                *true_ms += 1000;
                let age = millis(u64::try_from(-step).unwrap_or(0));
                world.sample_aged("source", 700.0, 0, age, Some(*true_ms + step));
            }
        };
        rounds(&mut world, 100, 0, &mut true_ms);
        rounds(&mut world, 100, step, &mut true_ms);
        rounds(&mut world, 200, 0, &mut true_ms);
        assert!(world.writes.is_empty(), "step {step}: {:?}", world.writes);
        if step < 0 {
            assert_eq!(signal(&world), SignalState::Fresh);
            assert_eq!(world.decision().observation.stable, Some(700.0));
        }
    }
}

#[test]
fn what_is_missing_raises_nothing_and_keeps_the_last_item() {
    let mut world = World::new(config(), 2);
    for _ in 0..120 {
        world.pass(seconds(1));
        world.sample_of("source", 130.0, 3);
    }
    assert!(world.writes.is_empty(), "130 seen, up to 340 possible: {:?}", world.writes);
    assert_eq!(world.decision().observation.stable_high, Some(340.0));
    assert_eq!(world.decision().reason, Reason::Steady, "the load seen asks for two");

    let mut world = World::new(queue(1), 1);
    for _ in 0..300 {
        world.pass(seconds(1));
        world.sample_of("source", 0.0, 1);
    }
    assert!(world.writes.is_empty(), "an unseen endpoint may hold items");
    assert_eq!(world.decision().reason, Reason::SignalPartial);
}

#[test]
fn numbers_that_are_none_leave_no_trace() {
    let mut world = World::new(config(), 2);
    world.run(seconds(70), 140.0);
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
        world.pass(millis(100));
        world.sample(value);
    }
    world.pass(seconds(2));
    assert_eq!(world.status.as_ref().expect("a status").samples.invalid, 4);
    assert_eq!(world.decision().observation.stable, Some(140.0));
    assert!(world.writes.is_empty());
}

#[test]
fn absurd_numbers_stay_within_the_bounds() {
    for semantics in [Semantics::Default, Semantics::Knative] {
        let bounds = ScaleBounds { min: 0, max: 40 };
        let mut world = World::new(TargetConfig { semantics, bounds, ..config() }, 2);
        world.run(seconds(10), f64::MAX);
        world.run(seconds(10), f64::MIN_POSITIVE);
        world.run(seconds(10), 1e300);
        for missing in [u32::MAX, 1, u32::MAX] {
            world.pass(seconds(1));
            world.sample_of("source", 1e308, missing);
        }
        world.pass(seconds(3));
        assert!(world.writes.iter().all(|&(_, replicas)| (1..=40).contains(&replicas)));
        assert!(world.replicas >= 2, "{semantics:?}: absurd is no reason to lower");
        world.run(seconds(200), 140.0);
        assert_eq!(world.replicas, 2, "{semantics:?} is left poisoned");
    }
}

// --- Sources -------------------------------------------------------------------------------------

#[test]
fn a_slow_source_panics_on_evidence_only() {
    let calm = |world: &mut World| {
        for _ in 0..8 {
            world.pass(seconds(15));
            world.sample(50.0);
        }
        world.pass(seconds(15));
        assert_eq!(world.announced("PanicEntered"), 0);
    };
    let mut world = World::new(every(15), 1);
    calm(&mut world);
    world.sample(100.0);
    world.pass(seconds(14));
    assert_eq!(world.announced("PanicEntered"), 0, "100 − 3·√100 is one pod's worth");
    world.pass(seconds(1));
    world.sample(100.0);
    world.pass(seconds(2));
    assert_eq!(world.announced("PanicEntered"), 1, "two in a row");

    let mut world = World::new(every(15), 1);
    calm(&mut world);
    world.sample(1000.0);
    world.pass(seconds(2));
    assert_eq!(world.announced("PanicEntered"), 1, "no chance does this");
    assert_eq!(world.replicas, 15);
}

#[test]
fn a_rate_with_a_long_range_is_a_mean_already() {
    let mut config = with(|spec| {
        spec.metric = ScalingMetric::Rps;
        spec.target = 100.0;
        spec.total = 100.0;
        spec.target_burst_capacity = 0.0;
    });
    config.points = vec![PointConfig { range: Some(seconds(30)), ..point("source", 5) }];
    let mut world = World::new(config, 1);
    for _ in 0..30 {
        world.pass(seconds(5));
        world.sample(100.0);
    }
    assert_eq!(world.decision().observation.panic_window, seconds(30));
    assert_eq!(world.replicas, 1);
    for step in 1..=6 {
        world.pass(seconds(5));
        world.sample(100.0 + 50.0 * f64::from(step));
        world.pass(seconds(2));
        let panic = world.decision().observation.panic.expect("a value");
        let newest = 100.0 + 50.0 * f64::from(step);
        assert!((panic - newest).abs() < 1e-6, "the newest value is the panic value: {panic}");
        world.pass(Duration::ZERO);
    }
}

#[test]
fn the_first_fresh_source_is_used_and_comes_back() {
    let mut config = config();
    config.points = vec![point("gateway", 1), point("pods", 1)];
    let mut world = World::new(config, 5);
    for second in 0..400 {
        world.pass(seconds(1));
        if !(100..300).contains(&second) {
            world.sample_of("gateway", 300.0, 0);
        }
        world.sample_of("pods", 290.0, 0);
        let used = world.decisions.last().and_then(|d| d.observation.source.clone());
        match second {
            10..100 | 304.. => assert_eq!(used.as_deref(), Some("gateway"), "{second} s"),
            106..300 => assert_eq!(used.as_deref(), Some("pods"), "{second} s"),
            _ => {}
        }
    }
    assert!(world.writes.is_empty(), "{:?}", world.writes);
    assert_eq!(world.announced("SignalLost"), 0, "there was a fresh source all the time");
}

#[test]
fn zero_is_reached_and_left_by_the_source_that_sees_it() {
    let mut config = queue(1);
    let seeing = config.points.remove(0);
    let pods = point("pods", 1);
    // Pods are preferred; they are lost at zero, the queue is not.
    config.points = vec![pods.clone(), seeing.clone()];
    let mut world = World::new(config.clone(), 0);
    for _ in 0..300 {
        world.pass(seconds(1));
        world.sample_of("source", 0.0, 0);
    }
    assert!(world.writes.is_empty(), "asleep, with a wake path: {:?}", world.writes);
    world.pass(seconds(1));
    world.sample_of("source", 5.0, 0);
    world.pass(seconds(2));
    assert_eq!(world.replicas, 1);

    // The queue is preferred but silent; what the pods say does not reach zero.
    config.points = vec![seeing, pods];
    let mut world = World::new(config.clone(), 1);
    for _ in 0..300 {
        world.pass(seconds(1));
        world.sample_of("pods", 0.0, 0);
    }
    assert_eq!(world.replicas, 1);
    assert_eq!(world.decision().reason, Reason::NoWakePath);

    // At zero the queue goes silent: pods that are not there are no wake path.
    config.points.reverse();
    let mut world = World::new(config, 0);
    for _ in 0..100 {
        world.pass(seconds(1));
        world.sample_of("source", 0.0, 0);
    }
    world.pass(seconds(60));
    assert!(world.writes.is_empty(), "late, not at once: {:?}", world.writes);
    world.pass(seconds(65));
    assert_eq!(world.replicas, 1);

    // The same while something else is heard that would not see demand.
    world = World::new(world_config(&world), 0);
    for _ in 0..130 {
        world.pass(seconds(1));
        world.sample_of("pods", 0.0, 0);
    }
    assert_eq!(world.replicas, 1);
    assert_eq!(world.writes.len(), 1, "and stays: {:?}", world.writes);
}

fn world_config(world: &World) -> TargetConfig {
    (*world.status.as_ref().expect("a status").config).clone()
}

// --- Live changes --------------------------------------------------------------------------------

#[test]
fn another_metric_starts_anew_and_holds() {
    let mut world = World::new(config(), 10);
    world.run(seconds(100), 700.0);
    assert!(world.writes.is_empty());
    let mut rps = with(|spec| {
        spec.metric = ScalingMetric::Rps;
        spec.target = 200.0;
        spec.total = 200.0;
    });
    rps.points = vec![point("rates", 1)];
    world.configure(rps.clone());
    let changed = world.now;
    world.pass(seconds(2));
    assert_eq!(world.decision().observation.stable, None, "requests in flight are no rate");
    for _ in 0..55 {
        world.pass(seconds(1));
        world.sample_of("rates", 100.0, 0);
    }
    assert_eq!(world.written_since(changed), 0, "held for a stable window: {:?}", world.writes);
    for _ in 0..60 {
        world.pass(seconds(1));
        world.sample_of("rates", 100.0, 0);
    }
    assert_eq!(world.replicas, 1);

    // The same source name, another kind.
    let mut world = World::new(config(), 10);
    world.run(seconds(100), 700.0);
    rps.points = vec![point("source", 1)];
    world.configure(rps);
    world.pass(seconds(2));
    assert_eq!(world.decision().observation.stable, None);
}

#[test]
fn a_changed_source_list_keeps_what_stays_in_it() {
    let mut world = World::new(config(), 10);
    world.run(seconds(100), 700.0);
    world.configure(TargetConfig {
        points: vec![point("other", 1), point("source", 1)],
        ..config()
    });
    world.run(seconds(3), 700.0);
    assert_eq!(world.decision().observation.source.as_deref(), Some("source"));
    assert_eq!(world.decision().observation.covered_s, 60);
    world.configure(TargetConfig { points: vec![point("other", 1)], ..config() });
    world.pass(seconds(30));
    assert_eq!(world.decision().reason, Reason::SignalLost);
    world.configure(TargetConfig { points: vec![], ..config() });
    world.pass(seconds(30));
    assert_eq!(world.decision().reason, Reason::NoSource);
    assert!(world.writes.is_empty(), "{:?}", world.writes);
}

#[test]
fn switching_the_semantics_moves_nothing() {
    let mut world = World::new(config(), 10);
    world.run(seconds(80), 700.0);
    for round in 0..20_u64 {
        let semantics = if round % 2 == 0 { Semantics::Knative } else { Semantics::Default };
        world.configure(TargetConfig { semantics, ..config() });
        world.run(seconds(1 + round), 700.0);
    }
    world.run(seconds(100), 700.0);
    assert!(world.writes.is_empty(), "{:?}", world.writes);
}

#[test]
fn windows_change_while_the_load_stays() {
    let mut world = World::new(config(), 10);
    world.run(seconds(80), 700.0);
    for window in [6, 600, 60, 3600, 30] {
        world.configure(with(|spec| {
            spec.stable_window = seconds(window);
            spec.panic_window = seconds((window / 10).max(1));
        }));
        world.run(seconds(7), 700.0);
        assert_eq!(world.decision().observation.stable, Some(700.0), "{window} s");
        assert!(world.decision().observation.covered_s >= 6);
    }
    assert!(world.writes.is_empty(), "{:?}", world.writes);
}

#[test]
fn bounds_bind_also_while_nothing_is_known() {
    let mut world = World::new(config(), 10);
    world.run(seconds(80), 700.0);
    world.pass(seconds(60));
    assert_eq!(world.decision().reason, Reason::SignalLost);
    world.configure(TargetConfig { bounds: ScaleBounds { min: 12, max: 20 }, ..config() });
    world.pass(seconds(4));
    assert_eq!(world.replicas, 12);
    world.configure(TargetConfig { bounds: ScaleBounds { min: 1, max: 3 }, ..config() });
    world.pass(seconds(4));
    assert_eq!(world.replicas, 3);
}

// --- Zero ----------------------------------------------------------------------------------------

#[test]
fn a_target_that_never_becomes_ready_is_given_up() {
    let mut world = World::new(queue(1), 1);
    world.ready = 0;
    world.observe_pods();
    world.run(seconds(620), 0.0);
    assert!(world.writes.is_empty(), "activating: {:?}", world.writes);
    world.run(seconds(30), 0.0);
    assert_eq!(world.replicas, 0, "630 s were enough");

    // With demand it is never given up.
    let mut world = World::new(queue(1), 1);
    world.ready = 0;
    world.observe_pods();
    world.run(seconds(700), 5.0);
    assert!(world.writes.is_empty(), "{:?}", world.writes);
}

#[test]
fn demand_during_retention_starts_it_anew() {
    let mut config = queue(1);
    config.zero.retention = seconds(120);
    let mut world = World::new(config, 1);
    world.run(seconds(150), 0.0);
    assert_eq!(world.decision().reason, Reason::ScaleToZeroPending);
    world.run(seconds(1), 8.0);
    world.run(seconds(165), 0.0);
    assert_eq!(world.replicas, 1, "60 s of window and 120 s of retention since the item");
    world.run(seconds(30), 0.0);
    assert_eq!(world.replicas, 0);
    assert_eq!(world.writes.len(), 1, "{:?}", world.writes);
}

#[test]
fn a_restart_while_asleep_keeps_asleep() {
    let mut config = queue(1);
    config.spec.initial_scale = 3;
    let mut world = asleep(config);
    world.run(seconds(300), 0.0);
    assert!(world.writes.is_empty(), "{:?}", world.writes);
    world.run(seconds(2), 1.0);
    assert_eq!(world.replicas, 1, "an old object counts as initialised");

    let mut world = asleep(queue(1));
    world.pass(seconds(60));
    assert!(world.writes.is_empty(), "lost, but late");
    world.pass(seconds(65));
    assert_eq!(world.replicas, 1, "within 2.5 s + 120 s and a tick");
    world.ready = 1;
    world.pass(seconds(400));
    assert_eq!(world.writes.len(), 1, "once: {:?}", world.writes);
}

#[test]
fn a_zero_with_a_floor_is_somebodys_pause_also_after_a_restart() {
    let mut config = queue(1);
    config.bounds.min = 1;
    let mut world = asleep(config);
    world.run(seconds(100), 50.0);
    assert!(world.writes.is_empty(), "{:?}", world.writes);
    assert_eq!(world.decision().gate, Some(Reason::ManualZero));
}

#[test]
fn our_own_zero_is_no_pause() {
    let mut world = World::new(queue(1), 1);
    world.run(seconds(200), 0.0);
    assert_eq!(world.replicas, 0);
    let mut raised = queue(1);
    raised.bounds.min = 2;
    world.configure(raised);
    world.run(seconds(4), 0.0);
    assert_eq!(world.replicas, 2, "the floor was raised above our own zero");
}

#[test]
fn a_thousand_lost_wake_paths_wake_five_a_second() {
    let mut engine = Engine::new();
    engine.handle(at(0), Event::LeadershipChanged { leader: true });
    let config = Arc::new(queue(1));
    let mut versions: BTreeMap<TargetId, u64> = BTreeMap::new();
    for number in 0..1000 {
        let target = TargetId::deployment("shop", &format!("queue-{number}"));
        engine
            .handle(at(0), Event::TargetApplied { target: target.clone(), config: config.clone() });
        engine.handle(
            at(0),
            Event::ReplicasObserved {
                target: target.clone(),
                replicas: 0,
                resource_version: "1".into(),
                newly_created: false,
            },
        );
        versions.insert(target, 1);
    }
    let end = at(400_000);
    let mut woken: Vec<Timestamp> = Vec::new();
    while let Some(now) = engine.poll_timeout().filter(|at| *at < end) {
        engine.handle_timeout(now);
        while engine.poll_published().is_some() {}
        while let Some(action) = engine.poll_action() {
            let Action::Write { target, replicas, .. } = action else { continue };
            assert_eq!(replicas, 1);
            woken.push(now);
            let version = versions.get_mut(&target).expect("one of ours");
            *version += 1;
            let outcome = WriteOutcome::Written;
            engine.handle(now, Event::ScaleWritten { target: target.clone(), replicas, outcome });
            engine.handle(
                now,
                Event::ReplicasObserved {
                    target,
                    replicas,
                    resource_version: version.to_string().into(),
                    newly_created: false,
                },
            );
        }
    }
    assert_eq!(woken.len(), 1000, "each once");
    assert!(woken.first().expect("a write") > &at(62_000), "the limit and the delay first");
    for six in woken.windows(6) {
        let span = six[5].duration_since(six[0]).as_millis();
        assert!(span >= 1000, "six within {span} ms at {}", six[0]);
    }
    assert!(versions.values().all(|version| *version == 2));
}

// --- Others who write ----------------------------------------------------------------------------

#[test]
fn somebody_who_writes_what_we_wrote_before_is_somebody() {
    let mut world = World::new(config(), 10);
    world.run(seconds(70), 700.0);
    world.run(seconds(130), 100.0);
    assert_eq!(world.replicas, 2);
    let mut ours = world.writes.iter().rev().map(|write| write.1);
    assert_eq!((ours.next(), ours.next(), ours.next()), (Some(2), Some(3), Some(4)));
    let foreign = world.now;
    world.set_pods(4);
    world.run(seconds(50), 100.0);
    assert_eq!(world.written_since(foreign), 0, "accepted as anybody's: {:?}", world.writes);
}

#[test]
fn somebody_who_undoes_our_write_at_once_is_somebody() {
    let mut world = World::new(config(), 10);
    world.run(seconds(180), 100.0);
    assert_eq!(world.replicas, 2);
    // Up by our own write, and back down by somebody, then up again to the very same value.
    world.run(seconds(3), 700.0);
    let ours = world.replicas;
    assert!(ours > 2);
    world.set_pods(2);
    let undone = world.now;
    world.run(seconds(4), 700.0);
    assert!(world.written_since(undone) >= 1, "the load asks for more than two");
    assert!(world.written_since(undone) <= 3, "no fight: {:?}", world.writes);
}

#[test]
fn one_sided_pauses_and_the_delay_after_them() {
    let paused = |mode| {
        let mut config = with(|spec| spec.scale_down_delay = seconds(120));
        config.mode = mode;
        config
    };
    let mut world = World::new(paused(Mode::Apply), 10);
    world.run(seconds(70), 700.0);
    world.configure(paused(Mode::Paused));
    world.run(seconds(300), 0.0);
    assert!(world.writes.is_empty());
    world.configure(paused(Mode::Apply));
    let resumed = world.now;
    world.run(seconds(175), 0.0);
    assert_eq!(world.written_since(resumed), 0, "panic, and then the delay, hold what runs");
    world.run(seconds(500), 0.0);
    assert_eq!(world.replicas, 1);

    let mut world = World::new(paused(Mode::PausedDown), 10);
    world.run(seconds(300), 0.0);
    world.run(seconds(20), 1400.0);
    assert_eq!(world.replicas, 20);
    assert_eq!(world.announced("ScaledUp"), 1);
}

#[test]
fn a_lost_answer_is_not_an_answer() {
    let mut world = World::new(config(), 1);
    world.answer = WriteOutcome::Unknown;
    world.run(seconds(10), 650.0);
    let asked = world.writes.len();
    assert!((1..=6).contains(&asked), "the arrival, and then once a tick: {asked}");
    assert_eq!(world.announced("ScaledUp"), 0, "nobody knows whether it was stored");
    // The first one had been stored.
    world.set_pods(10);
    world.answer = WriteOutcome::Written;
    world.run(seconds(60), 650.0);
    assert_eq!(world.replicas, 10);
    assert_eq!(world.writes.len(), asked, "nothing to do: {:?}", world.writes);
    assert_eq!(world.announced("ScaledUp"), 1, "it was ours");
    // What somebody else sets later is not.
    world.set_pods(12);
    world.set_pods(10);
    assert_eq!(world.announced("ScaledUp"), 1);
}

#[test]
fn a_conflict_is_read_and_decided_anew() {
    let mut world = World::new(config(), 1);
    world.answer = WriteOutcome::Conflict;
    world.run(seconds(1), 650.0);
    world.pass(seconds(2));
    assert!(!world.writes.is_empty());
    world.answer = WriteOutcome::Written;
    world.set_pods(6);
    let seen = world.version();
    world.run(seconds(4), 650.0);
    assert_eq!(world.replicas, 10);
    assert_eq!(world.preconditions.last(), Some(&seen), "the version that was read");
}

#[test]
fn rivals_are_announced_once_each_way() {
    let mut world = World::new(config(), 4);
    let target = world.target.clone();
    let rival = |name: &str| Rival {
        kind: "ScaledObject".to_owned(),
        name: name.to_owned(),
        follows: false,
    };
    for rivals in [vec![rival("a")], vec![rival("a")], vec![rival("a"), rival("b")]] {
        world.tell(Event::RivalsObserved { target: target.clone(), rivals });
        world.run(seconds(10), 700.0);
    }
    assert!(world.writes.is_empty());
    assert!((1..=2).contains(&world.announced("RivalFound")));
    // The rival lowered it meanwhile; what it left behind stands as a foreign value does.
    world.set_pods(12);
    world.tell(Event::RivalsObserved { target, rivals: vec![] });
    let gone = world.now;
    world.run(seconds(50), 100.0);
    assert_eq!(world.announced("RivalGone"), 1);
    assert_eq!(world.written_since(gone), 0, "writing resumes from what is there");
}

// --- Lifetimes and time --------------------------------------------------------------------------

#[test]
fn a_target_that_comes_again_has_no_past() {
    let mut world = World::new(config(), 10);
    world.run(seconds(70), 700.0);
    // With an arrival and a tick pending.
    world.sample(9000.0);
    let target = world.target.clone();
    world.tell(Event::TargetDeleted { target: target.clone() });
    assert_eq!(world.engine.poll_timeout(), None, "nothing is due for nobody");
    assert!(world.engine.is_empty());
    world.configure(config());
    world.set_pods(3);
    let again = world.decisions.len();
    world.pass(seconds(20));
    assert!(world.writes.is_empty(), "{:?}", world.writes);
    assert!((9..=11).contains(&(world.decisions.len() - again)), "one a tick");
    assert_eq!(world.decision().observation.stable, None);
    assert_eq!(world.decision().desired, 3);
}

#[test]
fn facts_about_a_target_that_is_gone_are_ignored() {
    let mut world = World::new(config(), 2);
    let target = world.target.clone();
    world.tell(Event::TargetDeleted { target: target.clone() });
    world.sample(1.0);
    world.observe(7);
    world.observe_pods();
    let outcome = WriteOutcome::Written;
    world.tell(Event::ScaleWritten { target: target.clone(), replicas: 3, outcome });
    world.tell(Event::RivalsObserved { target: target.clone(), rivals: vec![] });
    world.tell(Event::TargetDeleted { target });
    assert_eq!(world.engine.poll_timeout(), None);
    assert!(world.engine.is_empty());
}

#[test]
fn an_hour_without_a_tick_is_one_decision() {
    let mut world = World::new(config(), 10);
    world.run(seconds(70), 700.0);
    let before = world.decisions.len();
    world.now = world.now.checked_add(seconds(3600)).expect("in range");
    world.engine.handle_timeout(world.now);
    world.pass(Duration::ZERO);
    assert_eq!(world.decisions.len(), before + 1);
    assert_eq!(signal(&world), SignalState::Lost);
    world.run(seconds(40), 1.0);
    assert!(world.writes.is_empty(), "one second of data lowers nothing: {:?}", world.writes);
    world.run(seconds(120), 1.0);
    assert_eq!(world.replicas, 1);
}

#[test]
fn arrivals_are_paced_and_only_raise() {
    let mut world = World::new(config(), 10);
    world.run(seconds(100), 700.0);
    let before = world.engine.counters();
    let started = world.now;
    let evaluated = world.decisions.len();
    for _ in 0..100 {
        world.pass(millis(10));
        world.sample(100.0);
    }
    assert_eq!(world.least_written_since(started), None);
    let arrivals = world.decisions[evaluated..]
        .iter()
        .filter(|decision| decision.trigger == Trigger::Arrival)
        .count();
    assert!(arrivals <= 21, "{arrivals} in a second");
    let _ = before;
}

#[test]
fn the_ends_of_time_are_survived() {
    for (semantics, delay) in [(Semantics::Default, 0), (Semantics::Knative, 3600)] {
        let mut config = with(|spec| spec.scale_down_delay = seconds(delay));
        config.semantics = semantics;
        config.points.push(PointConfig {
            interval: Duration::MAX,
            stale_after: Duration::MAX,
            range: Some(Duration::MAX),
            ..point("slow", 1)
        });
        for now in [Timestamp::MIN, at(0), Timestamp::MAX] {
            let mut world = World::new(config.clone(), i32::MAX);
            world.ready = i32::MAX;
            world.observe_pods();
            world.run(seconds(5), 70.0);
            world.now = now;
            for source in ["source", "slow"] {
                for age in [Duration::ZERO, seconds(1 << 40), Duration::MAX] {
                    for stamp in [None, Some(i64::MIN), Some(i64::MAX)] {
                        world.sample_aged(source, 70.0, u32::MAX, age, stamp);
                        world.engine.handle_timeout(now);
                    }
                }
            }
            world.observe(0);
            world.engine.handle_timeout(now);
            while world.engine.poll_published().is_some() {}
            while world.engine.poll_action().is_some() {}
        }
    }
}

// --- New objects ---------------------------------------------------------------------------------

#[test]
fn a_new_object_reaches_its_initial_scale_below_the_ceiling_once() {
    let mut config = with(|spec| spec.initial_scale = 20);
    config.bounds = ScaleBounds { min: 0, max: 8 };
    let mut world = World::new(config.clone(), 1);
    let target = world.target.clone();
    world.tell(Event::TargetDeleted { target });
    world.configure(config);
    world.observe_as(1, true);
    world.observe_pods();
    world.pod_start = seconds(5);
    world.pass(seconds(3));
    assert_eq!(world.replicas, 8, "the ceiling wins");
    world.run(seconds(200), 1.0);
    assert_eq!(world.replicas, 1, "eight ready were all that could be reached");
}

// --- Holding -------------------------------------------------------------------------------------

#[test]
fn the_delay_goes_on_while_the_signal_is_lost() {
    let mut world = World::new(with(|spec| spec.scale_down_delay = seconds(60)), 10);
    world.run(seconds(100), 700.0);
    world.pass(seconds(300));
    assert!(world.writes.is_empty());
    let back = world.now;
    world.run(seconds(55), 0.0);
    assert_eq!(world.written_since(back), 0, "the outage recorded ten: {:?}", world.writes);
    world.run(seconds(400), 0.0);
    assert_eq!(world.replicas, 1);
}

#[test]
fn a_long_hold_is_told_once_a_hold() {
    let mut world = World::new(config(), 10);
    world.run(seconds(70), 700.0);
    for hold in 1..=2 {
        world.pass(seconds(900));
        assert_eq!(world.announced("HoldLong"), hold);
        assert_eq!(world.announced("SignalLost"), hold);
        world.run(seconds(70), 700.0);
        assert_eq!(world.announced("SignalBack"), hold);
    }
    assert!(world.writes.is_empty());
}

// --- What the reading of the code added ----------------------------------------------------------

#[test]
fn nothing_goes_to_zero_unheard() {
    let mut config = queue(1);
    config.zero.retention = seconds(120);
    let mut world = World::new(config, 1);
    world.run(seconds(140), 0.0);
    assert_eq!(world.decision().reason, Reason::ScaleToZeroPending);
    world.pass(seconds(300));
    assert!(world.writes.is_empty(), "retention passed, but nobody knows: {:?}", world.writes);
    assert_eq!(world.decision().reason, Reason::SignalLost);
    world.run(seconds(60), 0.0);
    assert_eq!(world.replicas, 0, "known again");
}

#[test]
fn what_was_not_written_in_time_is_not_lowered_unheard() {
    let mut world = World::new(config(), 10);
    world.run(seconds(50), 1.0);
    world.tell(Event::LeadershipChanged { leader: false });
    world.run(seconds(50), 1.0);
    assert!(world.decision().bounded < 10);
    world.pass(seconds(10));
    world.tell(Event::LeadershipChanged { leader: true });
    world.pass(seconds(300));
    assert!(world.writes.is_empty(), "{:?}", world.writes);
    assert_eq!(world.decision().bounded, 10);
}

#[test]
fn one_stamp_of_the_future_does_not_silence_a_source() {
    let mut world = World::new(config(), 10);
    let mut stamp = 0;
    for second in 0..300 {
        world.pass(seconds(1));
        stamp += 1000;
        let far = if second == 100 { 1_000_000_000_000 } else { 0 };
        world.sample_aged("source", 700.0, 0, Duration::ZERO, Some(stamp + far));
        if second > 110 {
            assert_eq!(signal(&world), SignalState::Fresh, "{second} s");
        }
    }
    assert!(world.writes.is_empty());
}

#[test]
fn a_dead_source_whose_last_sample_is_repeated_has_no_skewed_clock() {
    let mut world = World::new(config(), 3);
    world.run(seconds(3), 100.0);
    for second in 0..60 {
        world.pass(seconds(1));
        world.sample_aged("source", 100.0, 0, seconds(second), Some(7));
    }
    let status = world.status.as_ref().expect("a status");
    assert_eq!(signal(&world), SignalState::Lost);
    assert!(status.problems.is_empty(), "{:?}", status.problems);
}

#[test]
fn a_one_sided_resumption_starts_from_what_is_there() {
    let paused = |mode| TargetConfig { mode, ..config() };
    let mut world = World::new(paused(Mode::Paused), 2);
    world.run(seconds(100), 1.0);
    world.set_pods(12);
    world.run(seconds(100), 1.0);
    world.configure(paused(Mode::PausedUp));
    let resumed = world.now;
    world.run(seconds(55), 1.0);
    assert_eq!(world.written_since(resumed), 0, "{:?}", world.writes);
    world.run(seconds(60), 1.0);
    assert_eq!(world.replicas, 1);
}

#[test]
fn panic_is_told_when_load_asks_for_it_only() {
    let mut world = World::new(config(), 1);
    world.run(seconds(100), 100.0);
    assert_eq!(world.replicas, 2);
    let so_far = (world.announced("PanicEntered"), world.announced("PanicLeft"));
    world.set_pods(6);
    world.run(seconds(100), 100.0);
    assert_eq!((world.announced("PanicEntered"), world.announced("PanicLeft")), so_far);
    world.run(seconds(10), 2000.0);
    assert_eq!(world.announced("PanicEntered"), so_far.0 + 1);
    world.run(seconds(200), 100.0);
    assert_eq!(world.announced("PanicLeft"), so_far.1 + 1);
}

#[test]
fn the_way_back_is_told_also_through_a_new_source() {
    let mut world = World::new(config(), 2);
    world.run(seconds(20), 100.0);
    world.pass(seconds(20));
    assert_eq!(world.announced("SignalLost"), 1);
    world.configure(TargetConfig { points: vec![point("other", 15)], ..config() });
    world.pass(seconds(5));
    assert_eq!(signal(&world), SignalState::Starting);
    world.sample_of("other", 100.0, 0);
    world.pass(seconds(3));
    assert_eq!(world.announced("SignalBack"), 1);
}

#[test]
fn a_source_that_is_never_heard_is_told_even_if_the_first_look_is_late() {
    let mut world = World::new(config(), 2);
    world.now = world.now.checked_add(seconds(30)).expect("in range");
    world.pass(seconds(2));
    assert_eq!(world.announced("SignalLost"), 1);
}

#[test]
fn a_long_partial_hold_is_told() {
    let mut world = World::new(config(), 6);
    world.run(seconds(70), 6.0 * 60.0);
    for _ in 0..500 {
        world.pass(seconds(1));
        world.sample_of("source", 0.0, 3);
    }
    assert_eq!(world.replicas, 3);
    assert_eq!(world.decision().reason, Reason::SignalPartial);
    assert_eq!(world.announced("HoldLong"), 1);
}

#[test]
fn knative_semantics_neither_wake_nor_sleep_unheard() {
    let knative = || {
        let mut config = queue(1);
        config.spec = ScalerSpec::default();
        config.semantics = Semantics::Knative;
        config.zero.retention = seconds(120);
        config
    };
    let mut world = World::new(knative(), 0);
    world.run(seconds(10), 0.0);
    world.pass(seconds(300));
    assert!(world.writes.is_empty(), "asleep: {:?}", world.writes);

    let mut world = World::new(knative(), 1);
    world.run(seconds(140), 0.0);
    world.pass(seconds(300));
    assert!(world.writes.is_empty(), "unheard: {:?}", world.writes);
}

#[test]
fn a_scaling_is_told_also_when_the_watch_is_faster_than_the_answer() {
    let mut engine = Engine::new();
    let target = TargetId::deployment("shop", "checkout");
    let observed = |replicas, version: &str| Event::ReplicasObserved {
        target: target.clone(),
        replicas,
        resource_version: version.into(),
        newly_created: false,
    };
    let (leader, config) = (true, Arc::new(config()));
    engine.handle(at(0), Event::LeadershipChanged { leader });
    engine.handle(at(0), Event::TargetApplied { target: target.clone(), config });
    engine.handle(at(0), observed(1, "1"));
    let (mut asked, mut told) = (None, Vec::new());
    for second in 1..=20 {
        let now = at(second * 1000);
        let reading = Reading::Value { seen: 650.0, missing: 0 };
        let (source, age, stamp_ms) = ("source".into(), Duration::ZERO, None);
        let sample = Sample { target: target.clone(), source, age, stamp_ms, reading };
        engine.handle(now, Event::Sampled { samples: vec![sample] });
        engine.handle_timeout(now);
        while let Some(action) = engine.poll_action() {
            match action {
                Action::Write { replicas, .. } => {
                    assert_eq!(asked, None, "asked once");
                    asked = Some((replicas, second));
                    engine.handle(now, observed(replicas, "2"));
                }
                Action::Announce { notice, .. } => told.push(notice.reason.as_str()),
            }
        }
        if let Some((replicas, at_second)) = asked
            && second == at_second + 5
        {
            let (target, outcome) = (target.clone(), WriteOutcome::Written);
            engine.handle(now, Event::ScaleWritten { target, replicas, outcome });
        }
        while engine.poll_published().is_some() {}
    }
    assert_eq!(asked.map(|(replicas, _)| replicas), Some(10));
    assert_eq!(told.iter().filter(|reason| **reason == "ScaledUp").count(), 1, "{told:?}");
}
