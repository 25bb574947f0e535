//! Each promise can be broken, and is noticed: the same worlds are played with an engine that is broken in
//! one way, and with one that is not.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::super::plan::Plan;
use super::super::policy::{EnginePolicy, Mutant};
use super::super::scenario::Scenario;
use super::super::swarm::repeated;
use super::super::world::{Ended, World};
use super::*;

/// Plays a scenario with an engine that is broken in this way.
fn play(scenario: &str, mutant: Mutant) -> Ended {
    let head = "about: a world\nseed: 1\n";
    let scenario =
        Scenario::parse(&format!("{head}{scenario}"), &mut |_| Err("no files".into())).unwrap();
    let plan = Plan::new(&scenario, scenario.seed).unwrap();
    let policy = EnginePolicy::new(plan.config.clone(), plan.loads.len()).broken(mutant);
    World::new(&plan, Box::new(policy), scenario.source.interval.0).run()
}

/// The promises that are broken, each once.
fn broken(ended: &Ended) -> Vec<Promise> {
    let mut promises: Vec<Promise> = ended.violations.iter().map(|one| one.promise).collect();
    promises.sort();
    promises.dedup();
    promises
}

const TARGET: &str = "target: { start: 4, annotations: { autoscaling.knative.dev/target: \"10\", \
    autoscaling.knative.dev/target-utilization-percentage: \"100\", autoscaling.knative.dev/window: 10s, \
    autoscaling.knative.dev/max-scale: \"40\" } }\n";

#[test]
fn every_promise_can_be_broken_and_is_noticed() {
    use Promise::{P1, P2, P3, P4, P5, P6, P7, P8, P9};
    let away = "duration: 3m\nload: [ { constant: { level: 40 } } ]\n\
        faults: [ { unreachable: { at: 60s, for: 60s } } ]\n";
    let step = "duration: 3m\nload: [ { constant: { level: 40 } }, { constant: { level: 100, at: 60s } } ]\n";
    let lease = "duration: 3m\nload: [ { constant: { level: 40 } }, { constant: { level: 100, at: 60s } } ]\n\
        faults: [ { leader-lost: { at: 55s, for: 60s } } ]\n";
    let rest = "duration: 8m\nload: [ { constant: { level: 40 } } ]\n";
    let stranger = "duration: 3m\nload: [ { constant: { level: 40 } } ]\n\
        faults: [ { stranger: { at: 60s, for: 30s } } ]\n";
    let heals = "duration: 5m\nload: [ { constant: { level: 40 } }, { constant: { level: 60, at: 70s } } ]\n\
        faults: [ { unreachable: { at: 60s, for: 30s } } ]\n";
    // To Knative the silence after the end is idleness, and lowers replicas.
    let ends = "duration: 3m
load: [ { constant: { level: 40 } } ]
";
    for (promise, world, mutant) in [
        (P1, away, Mutant::SilenceIsIdleness),
        (P2, step, Mutant::Boundless),
        (P3, lease, Mutant::KeepsTheLease),
        (P4, rest, Mutant::SeesHalf),
        (P5, step, Mutant::Sluggish),
        (P6, stranger, Mutant::Believes),
        (P7, heals, Mutant::Sulks { hurt: false }),
        (P8, step, Mutant::Babbles),
        (P9, ends, Mutant::KeepsTheLease),
    ] {
        let mut world = format!("{world}{TARGET}");
        if promise == P9 {
            world = world.replace("annotations: {", "annotations: { podswell.dev/compat: knative,");
        }
        let faithful = play(&world, Mutant::Faithful);
        assert!(faithful.violations.is_empty(), "{promise:?}: {:?}", faithful.violations);
        let ended = play(&world, mutant.clone());
        assert!(broken(&ended).contains(&promise), "{promise:?}: {:?}", ended.violations);
    }
}

#[test]
fn two_runs_that_differ_are_noticed() {
    let world = format!("duration: 2m\nload: [ {{ constant: {{ level: 40 }} }} ]\n{TARGET}");
    let digest = |mutant: &Mutant| [play(&world, mutant.clone()).digest];
    let remembers = Mutant::Remembers(Arc::new(AtomicU64::new(0)));
    let found = repeated(&digest(&remembers), &digest(&remembers));
    assert_eq!(found.map(|violation| violation.promise), Some(Promise::P10));
    assert_eq!(repeated(&digest(&Mutant::Faithful), &digest(&Mutant::Faithful)), None);
}
