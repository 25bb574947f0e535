//! The only place that reads a clock.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Where adapters get the time from.
pub trait Clock: Send + Sync + 'static {
    /// Engine time: wall-clock time anchored once, then monotonic; never runs backwards, however the
    /// wall clock is set.
    fn now(&self) -> Timestamp;
    /// The wall clock as it stands, for comparing with the stamps of other machines.
    fn wall(&self) -> Timestamp;
}

/// The machine's clocks.
#[derive(Clone, Debug)]
pub struct SystemClock {
    anchor_wall: Timestamp,
    anchor: Instant,
}

impl SystemClock {
    /// Anchors engine time at the wall clock's present.
    #[expect(clippy::disallowed_methods, reason = "this is the place that reads the clocks")]
    pub fn new() -> Self {
        Self { anchor_wall: Timestamp::now(), anchor: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = self.anchor.elapsed();
        self.anchor_wall.checked_add(since).unwrap_or(self.anchor_wall)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the place that reads the clocks")]
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The monotonic clock, for deadlines and for how long something took.
pub fn instant() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// How old a sample stamped `stamp` is at wall-clock time `wall`: at least zero, because a stamp of the
/// future counts as now.
pub fn age_of(stamp: Timestamp, wall: Timestamp) -> Duration {
    Duration::try_from(wall.duration_since(stamp)).unwrap_or(Duration::ZERO)
}
