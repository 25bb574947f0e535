//! One target through the situations that users meet.

use std::time::Duration;

use podswell::core::config::TargetConfig;
use podswell::core::decision::{Reason, SignalState, Trigger};
use podswell::core::event::{Event, Rival, WriteOutcome};
use podswell::core::policy::{Consent, Mode};
use podswell::core::source::PointConfig;
use podswell::core::spec::{ScaleBounds, ScalerSpec, ScalingMetric, Semantics};

use crate::world::{World, config, point, seconds};

fn with(spec: impl FnOnce(&mut ScalerSpec)) -> TargetConfig {
    let mut config = config();
    spec(&mut config.spec);
    config
}

fn bounded(min: i32, max: i32) -> TargetConfig {
    TargetConfig { bounds: ScaleBounds { min, max }, ..config() }
}

fn queue() -> TargetConfig {
    let mut config = with(|spec| {
        spec.metric = ScalingMetric::Backlog;
        spec.target = 10.0;
        spec.total = 10.0;
    });
    config.points = vec![PointConfig { visible_at_zero: true, ..point("source", 1) }];
    config
}

#[test]
fn steady_load_reaches_its_pods_and_stays() {
    let mut world = World::new(config(), 1);
    world.run(seconds(200), 300.0);
    assert_eq!(world.replicas, 5, "ceil(300 / 70)");
    let before = world.writes.len();
    world.run(seconds(200), 300.0);
    assert_eq!(world.writes.len(), before, "constant load, constant scale");
    assert_eq!(world.decision().reason, Reason::Steady);
}

#[test]
fn a_burst_enters_panic_and_does_not_drop_before_the_stable_window_passed() {
    let mut world = World::new(config(), 1);
    world.run(seconds(90), 60.0);
    assert_eq!(world.replicas, 1);
    world.run(seconds(10), 600.0);
    let peak = world.replicas;
    assert!(peak >= 9, "{peak}");
    assert!(world.reasons().contains(&"PanicEntered"));
    let over = world.now;
    world.run(seconds(45), 60.0);
    assert_eq!(world.least_written_since(over).unwrap_or(peak), peak, "panic never lowers");
    world.run(seconds(120), 60.0);
    assert_eq!(world.replicas, 1);
    assert!(world.reasons().contains(&"PanicLeft"));
}

#[test]
fn a_raise_does_not_wait_for_the_tick() {
    let mut world = World::new(config(), 1);
    world.run(seconds(90), 60.0);
    let before = world.now;
    for _ in 0..4 {
        world.pass(Duration::from_millis(20));
        world.sample(6000.0);
        world.pass(Duration::from_millis(1));
        if world.replicas > 1 {
            break;
        }
        world.pass(Duration::from_millis(979));
    }
    assert!(world.replicas > 1);
    let raised = world.writes.last().expect("a write").0;
    assert!(raised.duration_since(before).as_millis() <= 3021);
}

#[test]
fn scale_down_follows_rate_and_delay() {
    let mut world = World::new(with(|spec| spec.scale_down_delay = seconds(30)), 16);
    world.run(seconds(90), 16.0 * 60.0);
    assert_eq!(world.replicas, 14, "ceil(960 / 70)");
    let idle = world.now;
    world.run(seconds(25), 0.0);
    assert_eq!(world.least_written_since(idle), None, "scale-down-delay holds");
    world.run(seconds(240), 0.0);
    let lowered: Vec<i32> =
        world.writes.iter().filter(|(at, _)| *at > idle).map(|&(_, replicas)| replicas).collect();
    assert_eq!(lowered.last(), Some(&1), "no wake path: one stays");
    assert!(
        lowered.windows(2).all(|pair| pair[1] >= pair[0] / 2),
        "never by more than half a tick: {lowered:?}"
    );
    assert_eq!(world.decision().reason, Reason::NoWakePath);
}

#[test]
fn bounds_hold_always() {
    let mut world = World::new(bounded(2, 4), 1);
    world.run(seconds(5), 0.0);
    assert_eq!(world.replicas, 2);
    world.run(seconds(20), 7000.0);
    assert_eq!(world.replicas, 4);
    assert_eq!(world.decision().reason, Reason::MaxScale);
}

#[test]
fn initial_scale_counts_for_new_objects_only() {
    let config = with(|spec| spec.initial_scale = 5);
    let mut world = World::new(config.clone(), 1);
    world.run(seconds(10), 1.0);
    assert_eq!(world.replicas, 1, "an old object counts as initialised");

    let mut world = World::new(config.clone(), 1);
    let target = world.target.clone();
    world.tell(Event::TargetDeleted { target: target.clone() });
    world.tell(Event::TargetApplied { target: target.clone(), config: config.into() });
    world.tell(Event::ReplicasObserved {
        target,
        replicas: 1,
        resource_version: "2".into(),
        newly_created: true,
    });
    world.observe_pods();
    world.pass(seconds(3));
    assert_eq!(world.replicas, 5, "without any data");
    world.run(seconds(200), 1.0);
    assert_eq!(world.replicas, 1, "once reached it does not bind");
}

#[test]
fn activation_scale_lifts_any_demand() {
    let mut world = World::new(with(|spec| spec.activation_scale = 4), 1);
    world.run(seconds(5), 1.0);
    assert_eq!(world.replicas, 4);
}

#[test]
fn a_lost_signal_keeps_the_replicas() {
    let mut world = World::new(config(), 1);
    world.run(seconds(100), 500.0);
    assert_eq!(world.replicas, 8);
    let before = world.writes.len();
    world.pass(seconds(400));
    assert_eq!(world.writes.len(), before);
    assert_eq!(world.decision().reason, Reason::SignalLost);
    assert_eq!(world.decision().observation.signal, SignalState::Lost);
    let reasons = world.reasons();
    assert_eq!(reasons.iter().filter(|reason| **reason == "SignalLost").count(), 1);
    assert_eq!(reasons.iter().filter(|reason| **reason == "HoldLong").count(), 1);
    world.run(seconds(60), 500.0);
    assert_eq!(world.replicas, 8, "an outage is not a zero");
    assert!(world.reasons().contains(&"SignalBack"));
}

#[test]
fn a_partial_signal_lowers_no_further_than_what_is_missing_may_demand() {
    let mut world = World::new(config(), 6);
    world.run(seconds(70), 6.0 * 60.0);
    assert_eq!(world.replicas, 6);
    for _ in 0..200 {
        world.pass(seconds(1));
        world.sample_of("source", 0.0, 3);
    }
    assert_eq!(world.replicas, 3, "three endpoints may carry three targets");
    assert_eq!(world.decision().observation.signal, SignalState::Partial);
    assert!(world.reasons().contains(&"SignalPartial"));
}

#[test]
fn nothing_is_lowered_before_anything_was_heard() {
    let mut world = World::new(config(), 7);
    world.pass(seconds(300));
    assert!(world.writes.is_empty());
}

#[test]
fn a_restart_under_load_lowers_nothing() {
    let mut world = World::new(config(), 9);
    world.run(seconds(59), 10.0);
    assert!(world.writes.is_empty(), "{:?}", world.writes);
}

#[test]
fn a_rival_stops_writes_and_its_end_resumes_them() {
    let mut world = World::new(config(), 1);
    let target = world.target.clone();
    let rival = Rival {
        kind: "HorizontalPodAutoscaler".to_owned(),
        name: "checkout".to_owned(),
        follows: false,
    };
    world.tell(Event::RivalsObserved { target: target.clone(), rivals: vec![rival] });
    world.run(seconds(30), 700.0);
    assert!(world.writes.is_empty());
    assert_eq!(world.decision().gate, Some(Reason::Rival));
    assert_eq!(world.decision().bounded, 10, "still decided");
    world.tell(Event::RivalsObserved { target, rivals: vec![] });
    world.run(seconds(5), 700.0);
    assert_eq!(world.replicas, 10);
    let reasons = world.reasons();
    assert!(reasons.contains(&"RivalFound") && reasons.contains(&"RivalGone"));
}

#[test]
fn modes_and_consent_gate_writes_only() {
    for (mode, consent, load, expected) in [
        (Mode::Observe, Consent::Managed, 700.0, 5),
        (Mode::Paused, Consent::Managed, 700.0, 5),
        (Mode::Apply, Consent::Observed, 700.0, 5),
        (Mode::PausedUp, Consent::Managed, 700.0, 5),
        (Mode::PausedUp, Consent::Managed, 1.0, 1),
        (Mode::PausedDown, Consent::Managed, 700.0, 10),
        (Mode::PausedDown, Consent::Managed, 1.0, 5),
    ] {
        let mut world = World::new(TargetConfig { mode, consent, ..config() }, 5);
        world.run(seconds(200), load);
        assert_eq!(world.replicas, expected, "{mode:?} {consent:?} {load}");
        assert!(world.decision().wants.is_some(), "decided all the same");
    }
}

#[test]
fn resuming_starts_from_what_is_there() {
    let mut world = World::new(TargetConfig { mode: Mode::Paused, ..config() }, 2);
    world.run(seconds(100), 1.0);
    world.observe(12);
    world.ready = 12;
    world.observe_pods();
    world.configure(config());
    world.run(seconds(55), 1.0);
    assert!(world.writes.is_empty(), "held for a stable window: {:?}", world.writes);
    world.run(seconds(60), 1.0);
    assert_eq!(world.replicas, 1);
}

#[test]
fn a_foreign_value_stands_until_a_decision_differs() {
    let mut world = World::new(config(), 1);
    world.run(seconds(100), 100.0);
    assert_eq!(world.replicas, 2);
    let before = world.writes.len();
    world.observe(6);
    world.run(seconds(50), 100.0);
    assert_eq!(world.writes.len(), before);
    world.run(seconds(60), 100.0);
    assert_eq!(world.replicas, 2);
}

#[test]
fn a_foreign_zero_is_a_pause() {
    let mut world = World::new(bounded(1, 0), 3);
    world.run(seconds(10), 100.0);
    world.observe(0);
    world.ready = 0;
    world.observe_pods();
    let before = world.writes.len();
    world.run(seconds(200), 500.0);
    assert_eq!(world.writes.len(), before);
    assert_eq!(world.decision().gate, Some(Reason::ManualZero));
    world.observe(1);
    world.ready = 1;
    world.observe_pods();
    world.run(seconds(20), 500.0);
    assert!(world.replicas > 1);
}

#[test]
fn a_queue_goes_to_zero_and_back() {
    let mut world = World::new(queue(), 1);
    world.pod_start = seconds(3);
    world.run(seconds(100), 45.0);
    assert_eq!(world.replicas, 5);
    world.run(seconds(200), 0.0);
    assert_eq!(world.replicas, 0);
    assert!(world.reasons().contains(&"ScaledToZero"));
    world.run(seconds(2), 1.0);
    assert_eq!(world.replicas, 1, "one item wakes it");
}

/// A target that three pods serve, whose replicas another autoscaler sets, and which was idle for `span`
/// after a load for two of them.
fn answered(span: Duration, change: impl FnOnce(&mut TargetConfig)) -> World {
    let mut config = queue();
    config.consent = Consent::Answered;
    change(&mut config);
    let load = 1.5 * config.spec.target;
    let mut world = World::new(config, 3);
    world.run(seconds(180), load);
    assert!(!world.decision().idle, "{:?}", world.decision());
    world.run(span, 0.0);
    world
}

#[test]
fn a_rate_limit_that_nobody_carries_out_hides_no_idleness() {
    let mut world = answered(seconds(150), |_| {});
    let last = world.decision();
    assert_eq!((last.bounded, last.idle), (1, true), "3 / 2: {last:?}");
    assert_eq!(last.reason, Reason::ScaleDownRate);
    world.sample(1.0);
    world.pass(Duration::from_millis(100));
    let last = world.decision();
    assert_eq!((last.idle, last.trigger), (false, Trigger::Arrival), "told at once: {last:?}");
    // A source that is lost, a part that is missing, a delay, a retention: not idle.
    let mut lost = answered(seconds(150), |_| {});
    lost.pass(seconds(10));
    assert!(!lost.decision().idle, "{:?}", lost.decision());
    let mut partial = answered(seconds(150), |_| {});
    partial.sample_of("source", 0.0, 1);
    partial.pass(seconds(2));
    assert!(!partial.decision().idle, "{:?}", partial.decision());
    let delay = |config: &mut TargetConfig| config.spec.scale_down_delay = seconds(300);
    assert!(!answered(seconds(300), delay).decision().idle);
    assert!(answered(seconds(400), delay).decision().idle);
    let retention = |config: &mut TargetConfig| config.zero.retention = seconds(300);
    assert!(!answered(seconds(300), retention).decision().idle);
    assert!(answered(seconds(500), retention).decision().idle);
    let floor = |config: &mut TargetConfig| config.bounds.min = 1;
    assert!(!answered(seconds(150), floor).decision().idle);
    let blind = |config: &mut TargetConfig| config.points = vec![point("source", 1)];
    assert!(!answered(seconds(150), blind).decision().idle, "nothing would wake it");
}

#[test]
fn zero_needs_a_wake_path_and_the_switch() {
    let mut no_path = queue();
    no_path.points = vec![point("source", 1)];
    let mut disabled = queue();
    disabled.zero.enabled = false;
    for (config, reason) in [(no_path, Reason::NoWakePath), (disabled, Reason::ScaleToZeroDisabled)]
    {
        let mut world = World::new(config, 1);
        world.run(seconds(300), 0.0);
        assert_eq!(world.replicas, 1);
        assert_eq!(world.decision().reason, reason);
    }
}

#[test]
fn the_last_pod_is_retained() {
    let mut config = queue();
    config.zero.retention = seconds(120);
    let mut world = World::new(config, 1);
    world.run(seconds(170), 0.0);
    assert_eq!(world.replicas, 1);
    assert_eq!(world.decision().reason, Reason::ScaleToZeroPending);
    world.run(seconds(30), 0.0);
    assert_eq!(world.replicas, 0);
}

#[test]
fn a_lost_wake_path_wakes_a_target_at_zero() {
    let mut world = World::new(queue(), 1);
    world.run(seconds(200), 0.0);
    assert_eq!(world.replicas, 0);
    world.pass(seconds(60));
    assert_eq!(world.replicas, 0, "not at once");
    world.pass(seconds(80));
    assert_eq!(world.replicas, 1);
    assert!(world.decisions.iter().any(|decision| decision.reason == Reason::WakePathLost));
}

#[test]
fn the_second_source_is_used_while_the_first_is_lost() {
    let mut config = config();
    config.points = vec![point("gateway", 1), point("pods", 1)];
    let mut world = World::new(config, 1);
    for _ in 0..30 {
        world.pass(seconds(1));
        world.sample_of("gateway", 300.0, 0);
        world.sample_of("pods", 200.0, 0);
    }
    assert_eq!(world.decision().observation.source.as_deref(), Some("gateway"));
    assert_eq!(world.replicas, 5);
    for _ in 0..30 {
        world.pass(seconds(1));
        world.sample_of("pods", 200.0, 0);
    }
    assert_eq!(world.decision().observation.source.as_deref(), Some("pods"));
    assert_eq!(world.decision().observation.signal, SignalState::Fresh);
}

#[test]
fn live_changes_keep_the_history() {
    let mut world = World::new(config(), 1);
    world.run(seconds(100), 300.0);
    let changed = with(|spec| {
        spec.stable_window = seconds(120);
        spec.panic_window = seconds(12);
        spec.target = 30.0;
        spec.total = 30.0;
    });
    world.configure(changed);
    world.pass(seconds(3));
    let observation = &world.decision().observation;
    assert_eq!(observation.stable, Some(300.0));
    assert!(observation.covered_s >= 59, "{}", observation.covered_s);
    assert_eq!(world.replicas, 10);
}

#[test]
fn other_semantics_keep_the_history() {
    let knative = TargetConfig { semantics: Semantics::Knative, ..config() };
    let mut world = World::new(config(), 1);
    world.run(seconds(100), 300.0);
    let (ours, theirs) = (config(), knative);
    for config in [&theirs, &ours, &theirs] {
        let before = world.writes.len();
        world.configure(config.clone());
        world.pass(seconds(2));
        assert_eq!(world.decision().semantics, config.semantics);
        assert_eq!(world.decision().observation.stable, Some(300.0), "{:?}", config.semantics);
        world.run(seconds(70), 300.0);
        assert_eq!(world.writes.len(), before, "{:?}", &world.writes);
    }
}

#[test]
fn a_long_outage_is_not_held_against_its_source() {
    let mut world = World::new(with(|spec| spec.stable_window = seconds(3600)), 5);
    world.run(seconds(600), 300.0);
    world.pass(seconds(900));
    for _ in 0..40 {
        world.run(seconds(30), 300.0);
        let status = world.status.as_ref().expect("a status");
        assert!(status.problems.is_empty(), "{:?}", status.problems);
    }
}

#[test]
fn a_changed_delay_holds_what_is_desired() {
    let mut world = World::new(config(), 1);
    world.run(seconds(100), 700.0);
    assert_eq!(world.replicas, 10);
    world.configure(with(|spec| spec.scale_down_delay = seconds(60)));
    let idle = world.now;
    world.run(seconds(50), 0.0);
    assert_eq!(world.least_written_since(idle), None);
}

#[test]
fn knative_semantics_poke_from_zero() {
    let mut config = queue();
    config.spec = ScalerSpec::default();
    config.semantics = Semantics::Knative;
    let mut world = World::new(config, 1);
    world.run(seconds(200), 0.0);
    assert_eq!(world.replicas, 0);
    world.sample(1.0);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.replicas, 1, "at once, not at the tick");
}

#[test]
fn refused_writes_back_off_and_are_announced() {
    let mut world = World::new(config(), 1);
    world.answer = WriteOutcome::Refused { status: 403, retry_after: seconds(20) };
    world.run(seconds(30), 700.0);
    assert_eq!(world.writes.len(), 2, "{:?}", world.writes);
    assert!(world.reasons().contains(&"WriteFailed"));
    world.answer = WriteOutcome::Written;
    world.run(seconds(30), 700.0);
    assert_eq!(world.replicas, 10);
}

#[test]
fn nobody_writes_without_the_lead() {
    let mut world = World::new(config(), 1);
    world.tell(Event::LeadershipChanged { leader: false });
    world.run(seconds(60), 700.0);
    assert!(world.writes.is_empty());
    assert_eq!(world.decision().bounded, 10, "windows and decisions stay warm");
}

#[test]
fn nothing_to_measure_with_changes_nothing() {
    let mut world = World::new(TargetConfig { points: vec![], ..config() }, 4);
    world.pass(seconds(300));
    assert!(world.writes.is_empty());
    assert_eq!(world.decision().reason, Reason::NoSource);
}

#[test]
fn a_source_that_is_always_late_is_a_problem() {
    let mut world = World::new(config(), 2);
    for i in 0..10 {
        world.pass(seconds(1));
        world.sample_aged("source", 100.0, 0, seconds(3600), Some(i * 1000));
    }
    let status = world.status.as_ref().expect("a status");
    assert!(status.problems.iter().any(|problem| problem.code.as_str() == "ClockSkew"));
    assert!(world.writes.is_empty());
}

#[test]
fn a_stalled_process_decides_once() {
    let mut world = World::new(config(), 1);
    world.run(seconds(10), 1.0);
    let before = world.decisions.len();
    world.now = world.now.checked_add(seconds(30)).expect("a time within range");
    world.engine.handle_timeout(world.now);
    world.pass(Duration::ZERO);
    assert_eq!(world.decisions.len(), before + 1);
}
