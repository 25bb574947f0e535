//! From raw samples of single series to readings of a whole workload.
//!
//! Counters become rates series by series, never as the difference of an aggregate, so that a reset of
//! one pod cannot be mistaken for load. Pure: time is an argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::Timestamp;
use crate::core::event::{Reading, SourceFault};
use crate::runtime::clock::age_of;

/// For how long a silent series is remembered, so that its next sample has a base.
const REMEMBERED: Duration = Duration::from_secs(900);

/// A number at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When it was so.
    pub at: Timestamp,
    /// What it was.
    pub value: f64,
}

/// How a series that is seen for the first time began, if that is known: at zero, no later than its
/// first sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// When it was zero.
    pub at: Timestamp,
    /// The increase up to the first sample took at least this long.
    pub least: Duration,
    /// The increase up to the first sample took at most this long, ≥ `least`.
    pub most: Duration,
}

/// What one sample of a counter says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Not newer than the sample before.
    Old,
    /// The first one: there is no rate yet.
    Base,
    /// Mean increase per second since the sample before; finite and ≥ 0.
    Rate(f64),
}

/// One counter of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counter {
    last: Option<Point>,
}

impl Counter {
    /// Takes one sample; `value` is finite and ≥ 0. A smaller value than before is a reset: the counter
    /// began again at zero and all of the new value has been counted since.
    pub fn observe(&mut self, at: Timestamp, value: f64, birth: Option<Birth>) -> Step {
        let Some(last) = self.last else {
            self.last = Some(Point { at, value });
            return birth.map_or(Step::Base, |birth| {
                let took = age_of(birth.at, at).clamp(birth.least, birth.most.max(birth.least));
                Step::Rate(per_second(value, took))
            });
        };
        if at <= last.at {
            return Step::Old;
        }
        self.last = Some(Point { at, value });
        let increase = if value < last.value { value } else { value - last.value };
        Step::Rate(per_second(increase, age_of(last.at, at)))
    }

    /// The sample from which the next increase is measured.
    pub fn last(&self) -> Option<Point> {
        self.last
    }
}

/// Mean increase per second of an `increase` ≥ 0 that took so long.
pub fn per_second(increase: f64, took: Duration) -> f64 {
    // Two stamps lie at least a millisecond apart.
    increase / took.as_secs_f64().max(0.001)
}

/// One series of a workload.
#[derive(Clone, Debug)]
struct Track {
    pod: Option<Arc<str>>,
    counter: Counter,
    /// The newest load that has been combined.
    newest: Option<Point>,
    /// The stamp of the newest raw sample that has been combined, with a load or without.
    combined: Option<Timestamp>,
    /// The stamp of the newest raw sample.
    seen: Timestamp,
    /// What has been read but not combined, oldest first; no value for a counter's base.
    waiting: Vec<(Timestamp, Option<f64>)>,
}

/// A pod that should have a series but has none now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentPod {
    /// When the pod started; it cannot have been missing earlier.
    pub started_at: Option<Timestamp>,
    /// When it was last seen.
    pub last_seen: Option<Timestamp>,
}

/// How the samples of one series are to be taken.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The pod whose series it is, where series belong to pods.
    pub pod: Option<Arc<str>>,
    /// Whether it counts up.
    pub is_counter: bool,
    /// How it began, should it be new.
    pub birth: Option<Birth>,
    /// The most load that is believed.
    pub most: f64,
}

/// All series of one workload at one source.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// Boxed because most workloads have one series at a source, and a node of the map has room for eleven.
    tracks: BTreeMap<Arc<str>, Box<Track>>,
    combined: Option<Timestamp>,
}

impl Book {
    /// Takes raw samples of one series, oldest first; those not newer than what is known are skipped.
    /// Returns why the newest one was refused, if it was: not a number, infinite, negative, or more than is
    /// believed. Such samples are skipped.
    pub fn take(
        &mut self,
        series: &str,
        origin: &Origin,
        samples: &[Point],
    ) -> Option<SourceFault> {
        let mut refused = None;
        for sample in samples {
            refused = if !(sample.value.is_finite() && sample.value >= 0.0) {
                Some(SourceFault::InvalidSample)
            } else if !origin.is_counter && sample.value > origin.most {
                Some(SourceFault::Implausible)
            } else {
                self.take_one(series, origin, *sample)
            };
        }
        refused
    }

    fn take_one(&mut self, series: &str, origin: &Origin, sample: Point) -> Option<SourceFault> {
        let known = self.tracks.get(series).map(|track| track.seen);
        if known.is_some_and(|seen| sample.at <= seen) {
            return None;
        }
        if known.is_none() {
            let track = Track {
                pod: origin.pod.clone(),
                counter: Counter::default(),
                newest: None,
                combined: None,
                seen: sample.at,
                waiting: Vec::new(),
            };
            self.tracks.insert(series.into(), Box::new(track));
        }
        let track = self.tracks.get_mut(series)?;
        track.seen = sample.at;
        let mut refused = None;
        let load = if origin.is_counter {
            match track.counter.observe(sample.at, sample.value, origin.birth) {
                Step::Old => return None,
                Step::Base => None,
                Step::Rate(rate) if rate > origin.most => {
                    refused = Some(SourceFault::Implausible);
                    None
                }
                Step::Rate(rate) => Some(rate),
            }
        } else {
            Some(sample.value)
        };
        track.waiting.push((sample.at, load));
        refused
    }

    /// Whether a series has been seen before.
    pub fn knows(&self, series: &str) -> bool {
        self.tracks.contains_key(series)
    }

    /// The stamp of the newest raw sample of any series.
    pub fn newest(&self) -> Option<Timestamp> {
        self.tracks.values().map(|track| track.seen).max()
    }

    /// When each pod that has a series was last sampled.
    pub fn pods(&self) -> BTreeMap<&str, Timestamp> {
        let mut pods = BTreeMap::new();
        for track in self.tracks.values() {
            if let Some(pod) = &track.pod {
                let seen = pods.entry(&**pod).or_insert(track.seen);
                *seen = track.seen.max(*seen);
            }
        }
        pods
    }

    /// Forgets series of pods that are gone, and those silent for a quarter of an hour before `now`.
    pub fn retain(&mut self, now: Timestamp, keep_pod: impl Fn(&str) -> bool) {
        self.tracks.retain(|_, track| {
            track.pod.as_deref().is_none_or(&keep_pod) && age_of(track.seen, now) <= REMEMBERED
        });
    }

    /// Combines what has been taken: one reading for each second in which some series has a new sample,
    /// at the newest stamp of that second, oldest first. The load is the sum of the newest loads of all
    /// series that are not older than `stale_after` at that moment.
    ///
    /// `from` – readings before it are not given out, because series may have older samples that were
    /// not asked for.
    /// `absent` – pods without a series now; those that were silent for a while are known here.
    pub fn readings(
        &mut self,
        from: Timestamp,
        stale_after: Duration,
        absent: &[AbsentPod],
    ) -> Vec<(Timestamp, Reading)> {
        let mut readings = Vec::new();
        for at in self.moments() {
            for track in self.tracks.values_mut() {
                track.advance(at);
            }
            self.combined = Some(at);
            if at < from {
                continue;
            }
            if let Some(reading) = self.reading_at(at, stale_after, absent) {
                readings.push((at, reading));
            }
        }
        // What came too late to be combined still is the newest of its series.
        if let Some(combined) = self.combined {
            for track in self.tracks.values_mut() {
                track.advance(combined);
            }
        }
        readings
    }

    /// The newest new stamp of each second, oldest first.
    fn moments(&self) -> Vec<Timestamp> {
        let mut by_second = BTreeMap::new();
        for (at, _) in self.tracks.values().flat_map(|track| &track.waiting) {
            if self.combined.is_none_or(|combined| *at > combined) {
                let newest = by_second.entry(at.as_second()).or_insert(*at);
                *newest = (*newest).max(*at);
            }
        }
        by_second.into_values().collect()
    }

    fn reading_at(
        &self,
        at: Timestamp,
        stale_after: Duration,
        absent: &[AbsentPod],
    ) -> Option<Reading> {
        let fresh = |stamp: Timestamp| age_of(stamp, at) <= stale_after;
        let mut seen = 0.0;
        let mut valued: Vec<Option<&str>> = Vec::new();
        let mut bare: Vec<Option<&str>> = Vec::new();
        for track in self.tracks.values() {
            match track.newest.filter(|newest| fresh(newest.at)) {
                Some(newest) => {
                    seen += newest.value;
                    valued.push(track.pod.as_deref());
                }
                None if track.combined.is_some_and(fresh) || track.is_silent() => {
                    bare.push(track.pod.as_deref());
                }
                None => {}
            }
        }
        if valued.is_empty() {
            return (!bare.is_empty()).then_some(Reading::Base);
        }
        if !f64::is_finite(seen) {
            return None;
        }
        bare.retain(|pod| pod.is_none() || !valued.contains(pod));
        bare.sort_unstable();
        bare.dedup();
        let gone = absent.iter().filter(|pod| {
            pod.started_at.is_none_or(|started| started <= at)
                && pod.last_seen.is_none_or(|last| !fresh(last))
        });
        let missing = u32::try_from(bare.len() + gone.count()).unwrap_or(u32::MAX);
        Some(Reading::Value { seen, missing })
    }
}

impl Track {
    /// Whether it is a pod's that was heard before and is heard again later: at this moment it is absent,
    /// though by now it is not.
    fn is_silent(&self) -> bool {
        self.pod.is_some() && self.combined.is_some() && !self.waiting.is_empty()
    }

    /// Makes the newest sample up to `at` the load that counts.
    fn advance(&mut self, at: Timestamp) {
        let ripe = self.waiting.partition_point(|(stamp, _)| *stamp <= at);
        for (stamp, load) in self.waiting.drain(..ripe) {
            self.combined = Some(stamp);
            if let Some(value) = load {
                self.newest = Some(Point { at: stamp, value });
            }
        }
    }
}

#[cfg(test)]
mod tests;
