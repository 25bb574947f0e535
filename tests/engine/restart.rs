//! A process ends and another one begins, with the snapshot of the first or without.

use std::time::Duration;

use podswell::core::config::TargetConfig;
use podswell::core::decision::SignalState;
use podswell::core::engine::Engine;
use podswell::core::event::Event;
use podswell::core::snapshot::{Restoration, Snapshot};
use podswell::core::source::PointConfig;
use podswell::core::target::TargetId;

use crate::world::{World, at, config, point, seconds};

/// How long no process runs.
const DOWN: Duration = Duration::from_secs(5);

/// The world goes on with a new engine, which is told of `snapshot` first.
fn restart(world: &mut World, config: TargetConfig, snapshot: Option<Snapshot>, down: Duration) {
    world.now += down;
    world.engine = Engine::new();
    if let Some(snapshot) = snapshot {
        world.tell(Event::Restored { snapshot, age: down });
    }
    world.tell(Event::LeadershipChanged { leader: true });
    world.configure(config);
    world.observe(world.replicas);
    world.observe_pods();
}

fn visible_at_zero() -> TargetConfig {
    let points = vec![PointConfig { visible_at_zero: true, ..point("source", 1) }];
    TargetConfig { points, ..config() }
}

fn stable(world: &World) -> f64 {
    let status = world.status.as_ref().expect("a status");
    status.decision.as_ref().and_then(|decision| decision.observation.stable).expect("a mean")
}

#[test]
fn an_idle_function_goes_down_within_a_window_of_its_restart() {
    // The steps are halvings, and each has its delay.
    let cases = [(1, 1, 0), (1, 1, 20), (4, 3, 0), (4, 3, 20)];
    let cases = cases.into_iter().flat_map(|case| [(case, true), (case, false)]);
    for ((replicas, steps, delay), has_snapshot) in cases {
        let mut config = visible_at_zero();
        config.spec.scale_down_delay = seconds(delay);
        let mut world = World::new(config.clone(), replicas);
        world.run(seconds(30), 0.0);
        assert_eq!(world.replicas, replicas, "not yet idle for a window");
        let snapshot = has_snapshot.then(|| world.engine.snapshot(world.now));
        restart(&mut world, config, snapshot, DOWN);
        let before = world.writes.len();
        world.run(seconds(55), 0.0);
        assert_eq!(world.writes.len(), before, "a restart alone lowers nothing");
        // The rest of the window, a tick for each step, and two for the phases on the way to zero.
        world.run(seconds(5 + steps * (delay + 2) + 4), 0.0);
        assert_eq!(world.replicas, 0, "{replicas} replicas, {delay} s, snapshot {has_snapshot}");
    }
}

#[test]
fn what_was_measured_counts_on() {
    for has_snapshot in [true, false] {
        let mut world = World::new(config(), 2);
        world.run(seconds(60), 100.0);
        let snapshot = has_snapshot.then(|| world.engine.snapshot(world.now));
        restart(&mut world, config(), snapshot, DOWN);
        world.pass(seconds(2));
        let status = world.status.clone().expect("a status");
        let decision = status.decision.as_ref().expect("a decision");
        assert_eq!(decision.observation.signal, SignalState::Starting, "nothing is heard by that");
        world.run(seconds(5), 40.0);
        // Of the last minute, 5 s bring 40, 7 s nothing, and the others brought 100.
        let expected = if has_snapshot { (48.0 * 100.0 + 5.0 * 40.0) / 53.0 } else { 40.0 };
        assert!((stable(&world) - expected).abs() < 2.0, "{} {expected}", stable(&world));
        assert_eq!(world.replicas, 2);
    }
}

#[test]
fn what_means_nothing_any_more_is_counted_and_left() {
    let saved = || {
        let mut world = World::new(config(), 2);
        world.run(seconds(60), 100.0);
        let snapshot = world.engine.snapshot(world.now);
        (world, snapshot)
    };
    let (mut world, snapshot) = saved();
    restart(&mut world, config(), Some(snapshot), seconds(61));
    let old = Restoration { old: 1, ..Restoration::default() };
    assert_eq!(world.engine.poll_restoration(world.now), Some(old));
    assert_eq!(world.engine.poll_restoration(world.now), None, "once");

    let other_source = TargetConfig { points: vec![point("other", 1)], ..config() };
    let mut other_metric = config();
    other_metric.measure = "rps".into();
    let other_interval = TargetConfig { points: vec![point("source", 5)], ..config() };
    for config in [other_source, other_metric, other_interval] {
        let (mut world, snapshot) = saved();
        restart(&mut world, config, Some(snapshot), DOWN);
        let changed = Restoration { changed: 1, ..Restoration::default() };
        assert_eq!(world.engine.poll_restoration(world.now), Some(changed));
    }

    let (mut world, mut snapshot) = saved();
    snapshot.windows[0].target = TargetId::deployment("shop", "deleted");
    restart(&mut world, config(), Some(snapshot), DOWN);
    assert_eq!(world.engine.poll_restoration(world.now), None, "it may still appear");
    world.run(seconds(60), 40.0);
    let gone = Restoration { gone: 1, ..Restoration::default() };
    assert_eq!(world.engine.poll_restoration(world.now), Some(gone));
}

#[test]
fn numbers_that_cannot_be_are_not_taken_over() {
    for load in [(-1.0, 1.0), (f64::NAN, 1.0), (2.0, 1.0), (1.0, 1e300)] {
        let mut world = World::new(config(), 2);
        world.run(seconds(60), 100.0);
        let mut snapshot = world.engine.snapshot(world.now);
        snapshot.windows[0].runs[0].load = Some(load);
        restart(&mut world, config(), Some(snapshot), DOWN);
        world.run(seconds(4), 40.0);
        assert!((stable(&world) - 40.0).abs() < 1e-9, "{load:?}");
    }
}

#[test]
fn who_keeps_its_own_history_is_not_kept() {
    let mut world = World::new(config(), 2);
    for second in 0..20 {
        world.sample_aged("source", 100.0, 0, Duration::ZERO, Some(second * 1000));
        world.pass(seconds(1));
    }
    assert!(world.engine.snapshot(world.now).windows.is_empty());
    assert_eq!(Engine::new().snapshot(at(0)).windows, []);
}
