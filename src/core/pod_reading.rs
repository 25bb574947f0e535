//! What was heard of single pods, for people: the engine knows sums only. Kept for those targets alone that
//! somebody looks at, so that it costs nothing where nobody does, and for some of those that have a pod of
//! which nothing counts. The lock around it belongs to the runtime.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Timestamp;
use super::event::SourceFault;
use super::source::SourceName;
use super::target::TargetId;

/// The most targets whose pods are shown at the same time; more wait until others are no longer asked for.
pub const MOST_TARGETS: usize = 64;

/// The most pods that are blamed of one target.
pub const MOST_BLAMED: usize = 16;

/// How long a question counts as interest, and a complaint as true.
pub const INTEREST: Duration = Duration::from_secs(10);

/// What was heard of one ready pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodReading {
    /// The pod's name.
    pub name: Arc<str>,
    /// `status.startTime`.
    pub started_at: Option<Timestamp>,
    /// Its load in the unit of the metric, ≥ 0, as far as it counts now; `None`: unknown.
    pub load: Option<f64>,
    /// How many rounds in a row it gave nothing; its last value counts for three of them.
    pub misses: u8,
    /// Why it gave nothing in the last round.
    pub fault: Option<SourceFault>,
}

/// A pod of which nothing counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlamedPod {
    /// The pod's name.
    pub name: Arc<str>,
    /// Why.
    pub fault: SourceFault,
}

/// The pods of one target of which nothing counts, as far as one source is concerned.
#[derive(Clone, Debug)]
struct Blame {
    at: Timestamp,
    pods: Vec<BlamedPod>,
}

/// The pods of one target after a round.
#[derive(Clone, Debug, PartialEq)]
pub struct PodRound {
    /// When the round began (engine time).
    pub at: Timestamp,
    /// Its ready pods, by name.
    pub pods: Arc<[PodReading]>,
}

/// The newest rounds of the targets that are asked for.
#[derive(Clone, Debug, Default)]
pub struct PodReadings {
    asked: BTreeMap<TargetId, (Timestamp, Option<PodRound>)>,
    blamed: BTreeMap<(TargetId, SourceName), Blame>,
}

impl PodReadings {
    /// What was heard last; notes that somebody wants to know. `None` at first: the next round tells.
    pub fn ask(&mut self, now: Timestamp, target: &TargetId) -> Option<PodRound> {
        if let Some((at, round)) = self.asked.get_mut(target) {
            *at = now;
            return round.clone();
        }
        self.forget(now);
        if self.asked.len() < MOST_TARGETS {
            self.asked.insert(target.clone(), (now, None));
        }
        None
    }

    /// Whether anybody asked for this target lately.
    pub fn is_wanted(&self, now: Timestamp, target: &TargetId) -> bool {
        self.asked.get(target).is_some_and(|(at, _)| is_recent(*at, now))
    }

    /// Takes what a round heard, if anybody wants to know.
    pub fn tell(&mut self, target: &TargetId, round: PodRound) {
        if let Some((_, known)) = self.asked.get_mut(target) {
            *known = Some(round);
        }
    }

    /// Takes which pods of a target gave a source nothing that counts; with none, all is well again. The
    /// first [`MOST_BLAMED`] are kept, and [`MOST_TARGETS`] targets.
    pub fn blame(
        &mut self,
        now: Timestamp,
        target: &TargetId,
        source: &SourceName,
        pods: impl Iterator<Item = BlamedPod>,
    ) {
        let pods: Vec<_> = pods.take(MOST_BLAMED).collect();
        if pods.is_empty() && self.blamed.is_empty() {
            return;
        }
        let key = (target.clone(), source.clone());
        if pods.is_empty() {
            self.blamed.remove(&key);
        } else if self.blamed.len() < MOST_TARGETS || self.blamed.contains_key(&key) {
            self.blamed.insert(key, Blame { at: now, pods });
        }
    }

    /// The pods of a target of which nothing counts now.
    pub fn blamed(&self, now: Timestamp, target: &TargetId) -> Vec<BlamedPod> {
        let of_target = self.blamed.iter().filter(|((of, _), _)| of == target);
        let recent = of_target.filter(|(_, blame)| is_recent(blame.at, now));
        recent.flat_map(|(_, blame)| blame.pods.iter().cloned()).collect()
    }

    /// Forgets what nobody has asked for lately, and old complaints.
    pub fn forget(&mut self, now: Timestamp) {
        self.asked.retain(|_, (at, _)| is_recent(*at, now));
        self.blamed.retain(|_, blame| is_recent(blame.at, now));
    }
}

fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at).unsigned_abs() <= INTEREST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn only_what_is_asked_for_is_kept() {
        let (mut readings, web) = (PodReadings::default(), TargetId::deployment("shop", "web"));
        let round = PodRound { at: second(1), pods: Arc::from([]) };
        readings.tell(&web, round.clone());
        assert_eq!(readings.ask(second(2), &web), None, "nobody had asked");
        assert!(readings.is_wanted(second(12), &web) && !readings.is_wanted(second(13), &web));
        readings.tell(&web, round.clone());
        assert_eq!(readings.ask(second(5), &web), Some(round));
        readings.forget(second(16));
        assert_eq!(readings.ask(second(16), &web), None);
    }

    #[test]
    fn complaints_end_when_they_are_mended_or_old() {
        let (mut readings, web) = (PodReadings::default(), TargetId::deployment("shop", "web"));
        let [scrape, other] = ["scrape", "other"].map(SourceName::from);
        let pod = |name: &str| BlamedPod { name: name.into(), fault: SourceFault::Implausible };
        readings.blame(second(1), &web, &scrape, [pod("a"), pod("b")].into_iter());
        readings.blame(second(1), &web, &other, [pod("c")].into_iter());
        assert_eq!(readings.blamed(second(2), &web), [pod("c"), pod("a"), pod("b")]);
        assert_eq!(readings.blamed(second(2), &TargetId::deployment("shop", "other")), []);
        readings.blame(second(9), &web, &scrape, std::iter::empty());
        assert_eq!(readings.blamed(second(9), &web), [pod("c")]);
        assert_eq!(readings.blamed(second(12), &web), []);
        readings.forget(second(12));
        let many = (0..100).map(|number| pod(&number.to_string()));
        readings.blame(second(12), &web, &scrape, many);
        assert_eq!(readings.blamed(second(12), &web).len(), MOST_BLAMED);
        for number in 0..=MOST_TARGETS {
            let target = TargetId::deployment("shop", &number.to_string());
            readings.blame(second(12), &target, &scrape, [pod("a")].into_iter());
        }
        assert_eq!(readings.blamed.len(), MOST_TARGETS);
    }

    #[test]
    fn many_askers_are_bounded() {
        let mut readings = PodReadings::default();
        let target = |number: usize| TargetId::deployment("shop", &format!("web-{number}"));
        for number in 0..=MOST_TARGETS {
            assert_eq!(readings.ask(second(0), &target(number)), None);
        }
        assert!(!readings.is_wanted(second(0), &target(MOST_TARGETS)));
        assert_eq!(readings.ask(second(20), &target(MOST_TARGETS)), None);
        assert!(readings.is_wanted(second(20), &target(MOST_TARGETS)), "there is room again");
    }
}
