//! What people and their tools do beside podswell: writes that are taken back, pauses that end, orders
//! for the time in which nothing is known.

use std::time::Duration;

use podswell::core::Timestamp;
use podswell::core::config::TargetConfig;
use podswell::core::decision::{Reason, SignalState};
use podswell::core::event::Event;
use podswell::core::on_missing::OnMissing;
use podswell::core::policy::Mode;
use podswell::core::spec::{ScaleBounds, Semantics};

use crate::world::{World, config, seconds};

const ARGO: &str = "argocd-controller";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Somebody else sets the replicas, and the object says who.
fn foreign(world: &mut World, manager: &str, replicas: i32) {
    world.set_pods(replicas);
    let target = world.target.clone();
    world.tell(Event::ForeignWrite { target, manager: manager.into(), replicas });
}

/// Lets podswell raise to ten, and `manager` take that back each time, until podswell stops trying.
fn fight(world: &mut World, manager: &str) -> usize {
    let mut reverts = 0;
    for _ in 0..60 {
        world.run(seconds(1), 700.0);
        if world.replicas != 10 {
            continue;
        }
        foreign(world, manager, 2);
        reverts += 1;
    }
    reverts
}

fn later(at: Timestamp, span: Duration) -> Timestamp {
    at.checked_add(span).expect("a time within range")
}

#[test]
fn who_takes_writes_back_three_times_is_named_and_not_fought() {
    let mut world = World::new(config(), 2);
    let reverts = fight(&mut world, ARGO);
    assert_eq!(reverts, 4, "three at once, one more after half a minute, then a minute's pause");
    assert_eq!(world.announced("RivalFound"), 1, "{:?}", world.notices);
    let note = &world.notices.iter().find(|one| one.reason.as_str() == "RivalFound").unwrap().note;
    assert!(note.contains(ARGO) && note.contains("podswell gitops --for argocd"), "{note}");
    assert_eq!(world.decision().gate, Some(Reason::Contested));
    let status = world.status.clone().unwrap();
    let contest = status.contest.as_ref().expect("a contest");
    assert_eq!((&*contest.manager, contest.reverts, contest.pause), (ARGO, 4, seconds(60)));

    // It ends: the next raise stays.
    world.run(seconds(70), 700.0);
    assert_eq!(world.replicas, 10);
    // But nothing is lowered for a day after the last revert.
    world.run(seconds(300), 70.0);
    assert_eq!((world.replicas, world.decision().gate), (10, Some(Reason::Contested)));
    assert!(world.decision().bounded < 10, "it would fall");
    // More load is served at once.
    world.run(seconds(15), 1400.0);
    assert_eq!(world.replicas, 20);
}

#[test]
fn raising_waits_longer_and_longer_up_to_ten_minutes() {
    let mut world = World::new(config(), 2);
    let mut raised = Vec::new();
    for _ in 0..4000 {
        world.run(seconds(1), 700.0);
        if world.replicas == 10 {
            raised.push(world.writes.last().unwrap().0);
            foreign(&mut world, ARGO, 2);
        }
    }
    let pauses: Vec<i64> =
        raised.windows(2).skip(2).map(|pair| pair[1].duration_since(pair[0]).as_secs()).collect();
    let least = [30, 60, 120, 240, 480, 600, 600];
    for (pause, least) in pauses.iter().zip(least) {
        assert!((least - 1..=least + 4).contains(pause), "{pauses:?}");
    }
    assert!(pauses.len() >= 7, "{pauses:?}");
}

#[test]
fn a_day_without_reverts_is_forgotten() {
    let mut world = World::new(config(), 2);
    fight(&mut world, ARGO);
    world.run(seconds(70), 700.0);
    assert_eq!(world.replicas, 10);
    let quiet = world.now;
    // Windows need no samples meanwhile, so this is a day of silence, and then data again.
    world.pass(DAY);
    world.run(seconds(10), 70.0);
    assert_eq!(world.announced("RivalGone"), 1);
    assert!(world.status.as_ref().unwrap().contest.is_none());
    world.run(seconds(200), 70.0);
    assert_eq!(world.replicas, 1);
    assert!(world.least_written_since(later(quiet, DAY)).is_some());
}

#[test]
fn a_pause_that_somebody_lifts_begins_anew() {
    let mut world = World::new(config(), 2);
    fight(&mut world, ARGO);
    world.configure(TargetConfig { mode: Mode::Paused, ..config() });
    world.run(seconds(5), 700.0);
    world.configure(config());
    world.run(seconds(5), 700.0);
    assert_eq!((world.replicas, world.decision().gate), (10, None));
    assert!(world.status.as_ref().unwrap().contest.is_none());
}

#[test]
fn single_writes_and_different_writers_are_no_contest() {
    let mut world = World::new(config(), 2);
    for manager in ["kubectl", "helm", "kubectl", "somebody", "helm", "somebody"] {
        world.run(seconds(5), 700.0);
        assert_eq!(world.replicas, 10);
        foreign(&mut world, manager, 2);
    }
    // Many writes in a row, with none of ours between them, take nothing back.
    for replicas in 3..9 {
        foreign(&mut world, "kubectl", replicas);
    }
    world.run(seconds(5), 700.0);
    assert_eq!((world.replicas, world.announced("RivalFound")), (10, 0));
}

#[test]
fn who_only_watches_is_never_contested() {
    let mut world = World::new(TargetConfig { mode: Mode::Observe, ..config() }, 2);
    for replicas in 3..20 {
        foreign(&mut world, ARGO, replicas);
        world.run(seconds(2), 700.0);
    }
    assert!(world.status.as_ref().unwrap().contest.is_none());
}

#[test]
fn a_pause_with_an_end_ends_by_itself() {
    for semantics in [Semantics::Default, Semantics::Knative] {
        let mut world = World::new(TargetConfig { semantics, ..config() }, 1);
        let until = later(world.now, seconds(60));
        let paused = TargetConfig { paused_until: Some(until), semantics, ..config() };
        world.configure(paused);
        world.run(seconds(58), 700.0);
        assert!(world.writes.is_empty(), "{semantics:?}");
        assert_eq!(world.decision().gate, Some(Reason::Paused));
        assert_eq!(world.decision().bounded, 10, "still decided");
        world.run(seconds(5), 700.0);
        assert_eq!(world.replicas, 10);
        assert!(world.writes[0].0 >= until, "{semantics:?}");
        assert_eq!(world.decision().gate, None);
    }
}

#[test]
fn nothing_falls_the_moment_a_pause_ends() {
    let mut world = World::new(config(), 10);
    let until = later(world.now, seconds(120));
    world.configure(TargetConfig { paused_until: Some(until), ..config() });
    world.run(seconds(121), 70.0);
    let left = world.now;
    world.run(seconds(50), 70.0);
    assert_eq!(world.least_written_since(left), None, "what was found stands for a window");
    world.run(seconds(120), 70.0);
    assert_eq!(world.replicas, 1);
}

#[test]
fn a_pause_that_is_over_and_a_stricter_mode_change_nothing() {
    let past = Some(Timestamp::UNIX_EPOCH);
    let mut world = World::new(TargetConfig { paused_until: past, ..config() }, 1);
    world.run(seconds(5), 700.0);
    assert_eq!(world.replicas, 10);
    world.configure(TargetConfig { paused_until: past, mode: Mode::Paused, ..config() });
    world.run(seconds(5), 1400.0);
    assert_eq!((world.replicas, world.decision().gate), (10, Some(Reason::Paused)));
}

fn ordering(text: &str) -> TargetConfig {
    TargetConfig { on_missing: OnMissing::parse(text).expect("an order"), ..config() }
}

/// A target with ten pods and load for them, whose source falls silent.
fn silenced(config: TargetConfig) -> World {
    let mut world = World::new(config, 10);
    world.run(seconds(130), 690.0);
    assert_eq!(world.replicas, 10);
    world
}

#[test]
fn without_an_order_a_lost_signal_holds() {
    let mut world = silenced(config());
    world.pass(seconds(3600));
    assert_eq!((world.replicas, world.decision().reason), (10, Reason::SignalLost));
}

#[test]
fn an_order_is_carried_out_when_its_time_has_come() {
    for (text, want) in [
        ("3 after 5m", 3),
        ("20 after 5m", 20),
        ("at least 3 after 5m", 10),
        ("at least 20 after 5m", 20),
    ] {
        let mut world = silenced(ordering(text));
        world.pass(seconds(295));
        assert_eq!((world.replicas, world.decision().reason), (10, Reason::SignalLost), "{text}");
        world.pass(seconds(10));
        assert_eq!((world.replicas, world.decision().reason), (want, Reason::OnMissing), "{text}");
        assert_eq!(world.decision().observation.signal, SignalState::Lost);
        let before = world.writes.len();
        world.pass(seconds(3600));
        assert_eq!((world.replicas, world.writes.len()), (want, before), "once: {text}");
    }
}

#[test]
fn an_order_stays_within_the_bounds_and_below_the_mode() {
    let bounds = ScaleBounds { min: 4, max: 12 };
    for (text, mode, want) in [
        ("3 after 5m", Mode::Apply, 4),
        ("20 after 5m", Mode::Apply, 12),
        ("3 after 5m", Mode::PausedDown, 10),
        ("3 after 5m", Mode::Paused, 10),
    ] {
        let mut world = silenced(TargetConfig { bounds, mode, ..ordering(text) });
        world.pass(seconds(400));
        assert_eq!(world.replicas, want, "{text} {mode:?}");
    }
}

#[test]
fn what_somebody_sets_after_an_order_stands() {
    let mut world = silenced(ordering("3 after 1m"));
    world.pass(seconds(70));
    assert_eq!(world.replicas, 3);
    foreign(&mut world, "kubectl", 7);
    world.pass(seconds(3600));
    assert_eq!(world.replicas, 7);
    // The signal comes back and is lost again: a new loss, a new order.
    world.run(seconds(130), 480.0);
    assert_eq!(world.replicas, 7);
    world.pass(seconds(70));
    assert_eq!(world.replicas, 3);
}

#[test]
fn what_somebody_sets_right_after_an_order_stands_as_well() {
    for semantics in [Semantics::Default, Semantics::Knative] {
        let mut world = silenced(TargetConfig { semantics, ..ordering("3 after 1m") });
        while world.replicas == 10 {
            world.pass(Duration::from_millis(100));
        }
        assert_eq!(world.replicas, 3);
        // Before another decision is due.
        foreign(&mut world, "kubectl", 7);
        world.pass(seconds(3600));
        assert_eq!(world.replicas, 7, "{semantics:?}");
    }
}

#[test]
fn a_signal_that_returns_decides_again() {
    let mut world = silenced(ordering("3 after 1m"));
    world.pass(seconds(70));
    world.run(seconds(10), 690.0);
    assert_eq!(world.replicas, 10);
    assert_ne!(world.decision().reason, Reason::OnMissing);
}

#[test]
fn knative_s_arithmetic_obeys_an_order_too() {
    let mut world =
        silenced(TargetConfig { semantics: Semantics::Knative, ..ordering("3 after 5m") });
    world.pass(seconds(310));
    assert_eq!((world.replicas, world.decision().reason), (3, Reason::OnMissing));
}
