//! Tells the engine about a fault when it changes, not each time it happens.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::Timestamp;
use crate::core::event::{Event, SourceFault};
use crate::core::source::SourceName;
use crate::core::target::TargetId;
use crate::runtime::engine_handle::EngineHandle;

/// The shortest time between two faults of one target.
const PAUSE: Duration = Duration::from_secs(1);
/// After this long an unchanged fault is told again, should the engine have missed it.
const REPEAT: Duration = Duration::from_secs(30);
/// The most faults told at once, so that one dead server cannot fill the engine's queue; the rest follows
/// with the next round.
const MAX_AT_ONCE: usize = 4096;

/// What the engine was last told about each target of one source.
#[derive(Debug, Default)]
pub(super) struct FaultGate {
    told: BTreeMap<TargetId, (SourceFault, Timestamp)>,
    budget: usize,
}

impl FaultGate {
    /// Begins a round.
    pub(super) fn begin(&mut self) {
        self.budget = MAX_AT_ONCE;
    }

    /// Tells the engine that `target` has no sample because of `fault`, unless it knows.
    pub(super) fn tell(
        &mut self,
        now: Timestamp,
        target: &TargetId,
        source: &SourceName,
        fault: SourceFault,
        engine: &EngineHandle,
    ) {
        if self.budget > 0 && self.is_news(now, target, fault) {
            self.budget -= 1;
            self.told.insert(target.clone(), (fault, now));
            engine.offer(Event::SourceFailed {
                target: target.clone(),
                source: source.clone(),
                fault,
            });
        }
    }

    fn is_news(&self, now: Timestamp, target: &TargetId, fault: SourceFault) -> bool {
        self.told.get(target).is_none_or(|(known, at)| {
            let since = crate::runtime::clock::age_of(*at, now);
            since >= if *known == fault { REPEAT } else { PAUSE }
        })
    }

    /// Notes that `target` has a sample again.
    pub(super) fn clear(&mut self, target: &TargetId) {
        self.told.remove(target);
    }

    /// Forgets the targets that `keep` refuses.
    pub(super) fn retain(&mut self, keep: impl Fn(&TargetId) -> bool) {
        self.told.retain(|target, _| keep(target));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_and_repetitions_are_not() {
        let (engine, mut told) = EngineHandle::channel();
        let (target, source) = (TargetId::deployment("ns", "a"), SourceName::from("api"));
        let mut gate = FaultGate::default();
        let cases = [
            (0, SourceFault::Timeout, true),
            (900, SourceFault::Timeout, false),
            (950, SourceFault::Empty, false),
            (1_000, SourceFault::Empty, true),
            (2_500, SourceFault::Empty, false),
            (31_000, SourceFault::Empty, true),
        ];
        for (millis, fault, expected) in cases {
            gate.begin();
            let now = Timestamp::from_millisecond(millis).unwrap();
            gate.tell(now, &target, &source, fault, &engine);
            assert_eq!(told.try_recv().is_ok(), expected, "{millis} {fault:?}");
        }
        gate.clear(&target);
        let now = Timestamp::from_millisecond(31_100).unwrap();
        gate.tell(now, &target, &source, SourceFault::Empty, &engine);
        assert!(told.try_recv().is_ok());
    }

    #[test]
    fn a_dead_server_does_not_flood_the_engine() {
        let (engine, mut told) = EngineHandle::channel();
        let source = SourceName::from("api");
        let mut gate = FaultGate::default();
        let targets: Vec<_> =
            (0..MAX_AT_ONCE + 10).map(|n| TargetId::deployment("ns", &n.to_string())).collect();
        let mut rounds = Vec::new();
        for _ in 0..2 {
            gate.begin();
            for target in &targets {
                gate.tell(Timestamp::UNIX_EPOCH, target, &source, SourceFault::Timeout, &engine);
            }
            let mut count = 0;
            while told.try_recv().is_ok() {
                count += 1;
            }
            rounds.push(count);
        }
        assert_eq!(rounds, [MAX_AT_ONCE, 10]);
    }
}
