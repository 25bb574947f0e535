//! What the sources did, counted for `/metrics`; the names of sources come from administrators, so the
//! number of series is bounded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;

use crate::core::event::{Reading, SourceFault};
use crate::core::source::SourceName;

/// Upper bounds of the request durations' buckets, in seconds.
pub const DURATION_BUCKETS: [f64; 10] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 3.0];

/// Every fault, in the order in which they are counted.
const FAULTS: [SourceFault; 13] = SourceFault::ALL;

/// The counters of one source. Adding is wait-free.
#[derive(Debug, Default)]
pub struct SourceCounters {
    values: AtomicU64,
    bases: AtomicU64,
    faults: [AtomicU64; FAULTS.len()],
    durations: [AtomicU64; DURATION_BUCKETS.len() + 1],
    duration_nanos: AtomicU64,
}

impl SourceCounters {
    /// Counts one sample handed to the engine.
    pub fn sampled(&self, reading: &Reading) {
        let counter = match reading {
            Reading::Value { .. } => &self.values,
            Reading::Base => &self.bases,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one answer, or one pod's answer, that gave no sample.
    pub fn failed(&self, fault: SourceFault) {
        let at = FAULTS.iter().position(|known| *known == fault);
        if let Some(counter) = at.and_then(|at| self.faults.get(at)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts one request, answered or not.
    pub fn requested(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = DURATION_BUCKETS.iter().take_while(|bound| seconds > **bound).count();
        if let Some(bucket) = self.durations.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.duration_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// A request that is under way since `began`; counts it when it is dropped.
    pub fn request(&self, began: Instant) -> Request<'_> {
        Request { counters: self, began }
    }

    /// The present numbers.
    pub fn snapshot(&self) -> CountersSnapshot {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut outcomes = vec![("Value", load(&self.values)), ("Base", load(&self.bases))];
        outcomes
            .extend(FAULTS.iter().zip(&self.faults).map(|(fault, n)| (fault.as_str(), load(n))));
        let nanos = Duration::from_nanos(load(&self.duration_nanos));
        CountersSnapshot {
            outcomes,
            duration_counts: self.durations.iter().map(load).collect(),
            duration_sum_s: nanos.as_secs_f64(),
        }
    }
}

/// A request that is under way, answered or not when it ends.
#[derive(Debug)]
pub struct Request<'a> {
    counters: &'a SourceCounters,
    began: Instant,
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.counters.requested(self.began.elapsed());
    }
}

/// The numbers of one source at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct CountersSnapshot {
    /// `Value`, `Base` and every fault, with how often each happened.
    pub outcomes: Vec<(&'static str, u64)>,
    /// Requests by duration: one number for each of [`DURATION_BUCKETS`] and one for those above; not
    /// cumulative.
    pub duration_counts: Vec<u64>,
    /// The sum of all durations in seconds.
    pub duration_sum_s: f64,
}

/// The counters of all sources. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SourceMetrics(Arc<RwLock<BTreeMap<SourceName, Arc<SourceCounters>>>>);

impl SourceMetrics {
    /// The counters of one source, made when they are first asked for.
    pub fn of(&self, source: &SourceName) -> Arc<SourceCounters> {
        self.0.write().entry(source.clone()).or_default().clone()
    }

    /// Forgets the sources that `keep` refuses.
    pub fn retain(&self, keep: impl Fn(&SourceName) -> bool) {
        self.0.write().retain(|source, _| keep(source));
    }

    /// The present numbers of every source, by name.
    pub fn snapshot(&self) -> Vec<(SourceName, CountersSnapshot)> {
        self.0.read().iter().map(|(name, counters)| (name.clone(), counters.snapshot())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_once() {
        let metrics = SourceMetrics::default();
        let name: SourceName = "api".into();
        let counters = metrics.of(&name);
        counters.sampled(&Reading::Base);
        counters.sampled(&Reading::Value { seen: 1.0, missing: 0 });
        counters.sampled(&Reading::Value { seen: 1.0, missing: 0 });
        for fault in FAULTS {
            counters.failed(fault);
        }
        for millis in [0, 1, 2, 3_000, 3_001] {
            counters.requested(Duration::from_millis(millis));
        }
        let (_, snapshot) = metrics.snapshot().remove(0);
        assert_eq!(snapshot.outcomes.iter().map(|(_, n)| n).sum::<u64>(), 3 + 13);
        assert_eq!(snapshot.outcomes[0], ("Value", 2));
        assert_eq!(snapshot.duration_counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert!((snapshot.duration_sum_s - 6.004).abs() < 1e-9);
        metrics.retain(|_| false);
        assert!(metrics.snapshot().is_empty());
    }
}
