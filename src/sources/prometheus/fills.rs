//! How often windows may be filled: a long range is the dearest question that a server is asked.

use std::time::Duration;

use tokio::time::Instant;

/// Windows are not filled more often than this on average, however often tenants change their minds.
const PAUSE: Duration = Duration::from_secs(5);
/// How many fills may follow each other without a pause, so that a workload that is new does not wait for
/// its first number.
const AT_ONCE: u32 = 3;

/// What is left of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fills {
    /// When the pauses of all fills are over, if each began with the end of the one before.
    rested: Option<Instant>,
}

impl Fills {
    /// Whether windows may be filled at `now`.
    pub(super) fn allow(&self, now: Instant) -> bool {
        let credit = PAUSE * (AT_ONCE - 1);
        self.rested.is_none_or(|at| at <= now + credit)
    }

    /// Notes one that the server bore.
    pub(super) fn succeed(&mut self, now: Instant) {
        self.rested = Some(self.rested.map_or(now, |at| at.max(now)) + PAUSE);
    }

    /// Notes one that may have been too much for the server: none for a whole pause.
    pub(super) fn fail(&mut self, now: Instant) {
        self.rested = Some(now + PAUSE * AT_ONCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_follow_each_other_and_then_one_each_pause() {
        let start = Instant::now();
        let mut fills = Fills::default();
        let mut filled = Vec::new();
        for second in 0..=20 {
            let now = start + Duration::from_secs(second);
            while fills.allow(now) && filled.len() < 100 {
                fills.succeed(now);
                filled.push(second);
            }
        }
        assert_eq!(filled, [0, 0, 0, 5, 10, 15, 20]);
        let later = start + Duration::from_secs(60);
        assert!(fills.allow(later));
        fills.fail(later);
        assert!(!fills.allow(later + PAUSE / 2), "a server that could not bear it has its rest");
        assert!(fills.allow(later + PAUSE));
    }
}
