//! Rules at their edges.

use super::*;

const NONE: Tolerance = Tolerance { up: 0.0, down: 0.0 };

#[test]
fn proposals_are_those_of_the_controller() {
    let tenth = Tolerance { up: 0.1, down: 0.1 };
    // One unit a pod: what a real controller was seen to do.
    for (usage, current, wanted) in [
        (11_000, 10, 10),
        (9_000, 10, 10),
        (21_000, 20, 20),
        (22_000, 20, 20),
        (21_000, 23, 23),
        (110_000, 109, 109),
        (109_000, 100, 100),
        (110_000, 100, 100),
        (111_000, 100, 111),
        (10_000, 9, 10),
        (8_000, 9, 8),
        (3_000, 1, 3),
        (0, 5, 0),
        (7_000, 0, 7),
    ] {
        assert_eq!(proposal(usage, 1000, current, tenth), wanted, "{usage} on {current}");
    }
    // Without a tolerance every whole number is met exactly.
    for current in 1..300 {
        for wanted in [1_i32, current - 1, current, current + 1, 299] {
            let got = proposal(u64::from(wanted.unsigned_abs()) * 1000, 1000, current, NONE);
            assert_eq!(got, wanted, "{current} to {wanted}");
        }
    }
    assert_eq!(proposal(75_000, 700, 5, tenth), 108);
}

fn rules(with_behavior: bool) -> Rules {
    let stabilization = 300 * SECOND;
    Rules {
        target_milli: 1000,
        limits: Limits { min: 1, max: 300 },
        tolerance: NONE,
        stabilization,
        behavior: with_behavior.then(|| Behavior::of_the_api(stabilization)),
    }
}

/// One sync of `hpa` at `now`, with so many pods and so many units of load.
fn sync(hpa: &mut Hpa, now: Micros, replicas: i32, load: u64, with_behavior: bool) -> i32 {
    let sight = Sight { now, replicas, current: replicas, usage_milli: Some(load * 1000) };
    hpa.sync(sight, &rules(with_behavior)).unwrap()
}

/// The replicas after each sync, 15 s apart, towards a constant load.
fn climb(from: i32, load: u64, with_behavior: bool) -> Vec<i32> {
    let mut hpa = Hpa::default();
    let mut replicas = from;
    let mut seen = Vec::new();
    for number in 1..30 {
        let wanted = sync(&mut hpa, number * 15 * SECOND, replicas, load, with_behavior);
        if wanted == replicas {
            break;
        }
        replicas = wanted;
        seen.push(replicas);
    }
    seen
}

#[test]
fn climbs_are_as_steep_as_the_controllers() {
    assert_eq!(climb(1, 10, true), [5, 10]);
    assert_eq!(climb(1, 100, true), [5, 10, 20, 40, 80, 100]);
    assert_eq!(climb(10, 100, true), [20, 40, 80, 100]);
    assert_eq!(climb(1, 20, false), [4, 8, 16, 20]);
    assert_eq!(climb(1, 1000, false).last(), Some(&300));
}

#[test]
fn replicas_fall_after_the_stabilization_window() {
    // A recommendation of exactly the window's age counts only without a behavior.
    for (with_behavior, last) in [(true, 285), (false, 300)] {
        let mut hpa = Hpa::default();
        assert_eq!(sync(&mut hpa, 0, 20, 20, with_behavior), 20);
        for now in (15..=last).step_by(15) {
            assert_eq!(sync(&mut hpa, now * SECOND, 20, 3, with_behavior), 20, "{now}");
        }
        assert_eq!(sync(&mut hpa, (last + 15) * SECOND, 20, 3, with_behavior), 3);
    }
}

#[test]
fn without_a_behavior_an_old_recommendation_lifts_again() {
    for (with_behavior, wanted) in [(false, [4, 8, 16, 20]), (true, [1, 1, 1, 1])] {
        let mut hpa = Hpa::default();
        sync(&mut hpa, 0, 20, 20, with_behavior);
        // Somebody wrote 1, and one is all that the load asks for.
        let mut replicas = 1;
        for (number, wanted) in (1..).zip(wanted) {
            replicas = sync(&mut hpa, number * 15 * SECOND, replicas, 1, with_behavior);
            assert_eq!(replicas, wanted, "behavior: {with_behavior}");
        }
    }
}

#[test]
fn nothing_falls_at_once_after_a_start() {
    for with_behavior in [true, false] {
        assert_eq!(sync(&mut Hpa::default(), 0, 20, 3, with_behavior), 20);
    }
}
