//! Two engines on the same samples, of which one writes: what becomes of the replicas when the other one
//! takes over.

use std::time::Duration;

use podswell::core::decision::Reason;
use podswell::core::event::Event;

use crate::world::{World, config, seconds};

/// The process that writes and the one that stands by.
struct Pair {
    holder: World,
    standby: World,
    told: usize,
}

impl Pair {
    fn new(replicas: i32) -> Self {
        let (holder, mut standby) =
            (World::new(config(), replicas), World::new(config(), replicas));
        standby.tell(Event::LeadershipChanged { leader: false });
        Self { holder, standby, told: 0 }
    }

    /// Both hear `value` each second; what the holder writes, the other one sees.
    fn run(&mut self, span: Duration, value: f64) {
        for _ in 0..span.as_secs() {
            self.holder.run(seconds(1), value);
            for (_, replicas) in self.holder.writes.drain(..).skip(std::mem::take(&mut self.told)) {
                self.standby.set_pods(replicas);
            }
            self.standby.run(seconds(1), value);
        }
        assert!(self.standby.writes.is_empty(), "{:?}", self.standby.writes);
    }

    /// The holder is gone, the other one takes over.
    fn hand_over(mut self) -> World {
        self.standby.tell(Event::LeadershipChanged { leader: true });
        self.standby
    }
}

#[test]
fn a_calm_hand_over_changes_nothing_and_waits_for_nothing() {
    let mut pair = Pair::new(1);
    pair.run(seconds(200), 700.0);
    let mut heir = pair.hand_over();
    heir.run(seconds(60), 700.0);
    assert!(heir.writes.is_empty(), "{:?}", heir.writes);
    assert_eq!((heir.replicas, heir.decision().reason), (10, Reason::Steady));
    // Its windows are warm: it raises at once,
    let now = heir.now;
    heir.run(seconds(8), 2100.0);
    assert!(heir.replicas > 15, "{:?}", heir.writes);
    assert_eq!(heir.least_written_since(now), heir.writes.first().map(|write| write.1));
}

#[test]
fn a_calm_heir_lowers_as_the_holder_would_have() {
    let mut pair = Pair::new(10);
    pair.run(seconds(200), 700.0);
    let mut alone = World::new(config(), 10);
    alone.run(seconds(200), 700.0);
    let mut heir = pair.hand_over();
    heir.run(seconds(100), 140.0);
    alone.run(seconds(100), 140.0);
    assert_eq!((heir.writes.len(), heir.replicas), (alone.writes.len(), alone.replicas));
    assert_eq!(heir.replicas, 2);
}

#[test]
fn a_hand_over_right_after_a_raise_lowers_nothing_for_a_window() {
    let mut pair = Pair::new(1);
    pair.run(seconds(100), 70.0);
    pair.run(seconds(20), 1400.0);
    let raised = pair.holder.replicas;
    assert!(raised >= 15 && pair.standby.replicas == raised, "{raised}");
    let mut alone = World::new(config(), 1);
    alone.run(seconds(100), 70.0);
    alone.run(seconds(20), 1400.0);
    // The burst is over as the lead changes.
    let (mut heir, since) = (pair.hand_over(), alone.now);
    heir.run(seconds(30), 70.0);
    assert!(heir.writes.is_empty() && heir.replicas == raised, "{:?}", heir.writes);
    heir.run(seconds(200), 70.0);
    alone.run(seconds(230), 70.0);
    let lowered = |world: &World| world.writes.iter().find(|(at, _)| *at >= since).copied();
    assert!(lowered(&heir) >= lowered(&alone), "{:?} {:?}", heir.writes, alone.writes);
    assert_eq!(heir.replicas, 1, "it does go down in the end: {:?}", heir.writes);
}

#[test]
fn a_person_s_value_stands_for_the_heir_too() {
    let mut pair = Pair::new(2);
    pair.run(seconds(100), 140.0);
    // Set while one stands by; a moment later that one has to decide.
    pair.holder.set_pods(9);
    pair.standby.set_pods(9);
    pair.run(seconds(5), 140.0);
    let mut heir = pair.hand_over();
    heir.run(seconds(50), 140.0);
    assert!(heir.writes.is_empty(), "{:?}", heir.writes);
    heir.run(seconds(60), 140.0);
    assert_eq!(heir.replicas, 2);
}

#[test]
fn lowering_in_steps_pauses_at_a_hand_over_and_goes_on() {
    let mut pair = Pair::new(40);
    pair.run(seconds(66), 70.0);
    let (lowered, seen) = (pair.holder.replicas, pair.standby.replicas);
    assert!(lowered < 40 && lowered == seen, "{lowered} {seen}");
    let mut heir = pair.hand_over();
    heir.run(seconds(300), 70.0);
    assert_eq!(heir.replicas, 1, "{:?}", heir.writes);
    assert!(heir.writes.is_sorted_by(|a, b| a.1 > b.1), "{:?}", heir.writes);
}

#[test]
fn a_wish_that_was_lost_with_the_lead_is_asked_for_again() {
    let mut world = World::new(config(), 1);
    world.run(seconds(100), 70.0);
    world.silent = true;
    world.run(seconds(20), 700.0);
    let asked = world.writes.len();
    assert!(asked > 0);
    world.silent = false;
    world.tell(Event::LeadershipChanged { leader: false });
    world.pass(Duration::from_millis(100));
    world.tell(Event::LeadershipChanged { leader: true });
    world.run(seconds(3), 700.0);
    assert_eq!(world.replicas, 10, "not only after the limit of a write: {:?}", world.writes);
}
