//! What the windows hold, as the next process of this podswell can take it over.
//!
//! A restart forgets all that was measured. Where a source keeps its own history (Prometheus) the
//! windows are filled from there; for what was scraped or pushed this is the only memory. It never
//! decides anything: what is taken over counts as measured at its time, nothing counts as heard before
//! the first live sample, and a workload without a usable entry starts like any other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Timestamp;
use super::source::{PointConfig, SourceName};
use super::target::TargetId;

/// How long entries wait for their targets after a restart.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The windows of every target that can be taken over, and when they were read.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Snapshot {
    /// The engine's time at which it was taken.
    pub taken_at: Timestamp,
    /// One entry for each window, in the order of their targets.
    pub windows: Vec<SavedWindow>,
    /// How many windows had no room.
    pub left_out: u64,
}

impl Snapshot {
    /// The most runs of all windows together: some 20,000 windows of a minute in which every second differs.
    pub const MOST_RUNS: usize = 1_200_000;

    /// Those of `windows` that have room.
    pub(crate) fn of(taken_at: Timestamp, windows: impl Iterator<Item = SavedWindow>) -> Self {
        let (mut snapshot, mut runs) = (Self { taken_at, ..Self::default() }, 0);
        for window in windows {
            runs += window.runs.len();
            if runs <= Self::MOST_RUNS {
                snapshot.windows.push(window);
            } else {
                snapshot.left_out += 1;
            }
        }
        snapshot
    }
}

/// One window of one measurement point.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SavedWindow {
    /// Whose load it is.
    pub target: TargetId,
    /// Which of its windows.
    pub place: Place,
    /// The time of the newest sample, not after [`Snapshot::taken_at`].
    pub newest: Timestamp,
    /// The seconds up to that of `newest`, oldest first, without a gap; at most 3,600 in all.
    pub runs: Vec<Run>,
}

/// What has to be the same for a window to mean the same.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Place {
    /// The measure's name.
    pub measure: Arc<str>,
    /// Whether it is the companion level of that measure.
    #[cfg_attr(feature = "serde", serde(default))]
    pub companion: bool,
    /// The source.
    pub source: SourceName,
    /// How far apart its samples are.
    pub interval: Duration,
    /// The range of a rate, if its samples are means.
    pub range: Option<Duration>,
}

impl Place {
    pub(crate) fn new(measure: &Arc<str>, companion: bool, config: &PointConfig) -> Self {
        Self {
            measure: measure.clone(),
            companion,
            source: config.source.clone(),
            interval: config.interval,
            range: config.range,
        }
    }
}

/// Seconds that follow each other and are alike.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Run {
    /// How many, ≥ 1.
    pub seconds: u32,
    /// What was seen, and the most that it may have been; `None` where nothing is known.
    pub load: Option<(f64, f64)>,
    /// How many samples lie in each of them.
    pub samples: u8,
}

/// What became of the entries of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restoration {
    /// Taken over.
    pub restored: u64,
    /// Nothing of it lies within the window any more.
    pub old: u64,
    /// The target has no such measure, source or interval any more, or has heard a sample already.
    pub changed: u64,
    /// The target did not appear within a minute.
    pub gone: u64,
}

/// Entries that wait for their targets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Restoring {
    until: Timestamp,
    waiting: BTreeMap<TargetId, Vec<SavedWindow>>,
    counts: Restoration,
}

impl Restoring {
    /// Takes a snapshot at `now` that was written `age` ago by the wall clock.
    pub(crate) fn new(now: Timestamp, snapshot: Snapshot, age: Duration) -> Self {
        let mut waiting = BTreeMap::<TargetId, Vec<SavedWindow>>::new();
        let Snapshot { taken_at, windows, .. } = snapshot;
        let then = now.checked_sub(age).unwrap_or(Timestamp::MIN);
        for mut window in windows {
            let before = Duration::try_from(taken_at.duration_since(window.newest));
            window.newest = then.checked_sub(before.unwrap_or_default()).unwrap_or(Timestamp::MIN);
            waiting.entry(window.target.clone()).or_default().push(window);
        }
        let until = super::decider::panic::later(now, PATIENCE);
        Self { until, waiting, counts: Restoration::default() }
    }

    /// The entries of a target that has just appeared.
    pub(crate) fn take(&mut self, target: &TargetId) -> Vec<SavedWindow> {
        self.waiting.remove(target).unwrap_or_default()
    }

    /// Notes what became of an entry.
    pub(crate) fn note(&mut self, outcome: Fate) {
        let count = match outcome {
            Fate::Restored => &mut self.counts.restored,
            Fate::Old => &mut self.counts.old,
            Fate::Changed => &mut self.counts.changed,
        };
        *count += 1;
    }

    /// Whether nothing is waited for any more at `now`.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.waiting.is_empty() || now >= self.until
    }

    /// What became of all entries; those that still wait are gone.
    pub(crate) fn into_counts(self) -> Restoration {
        let gone = self.waiting.values().map(Vec::len).sum::<usize>();
        Restoration { gone: u64::try_from(gone).unwrap_or(u64::MAX), ..self.counts }
    }
}

/// What became of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Restored,
    Old,
    Changed,
}
