//! The sliding maximum behind scale-down-delay.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::Timestamp;
use super::second_of;

/// The width of a slot in seconds: Knative's tick.
const SLOT_S: i64 = 2;

/// The highest decision of the delay, in slots of 2 s.
///
/// Source: Knative `aggregation/max/window.go` and `timewindow.go`, serving@98e5ef9.
#[derive(Clone, Debug)]
pub struct MaxWindow {
    slots: i64,
    /// Slots and values, newest last; values fall from front to back, so its length is at most `slots`.
    entries: VecDeque<(i64, i32)>,
}

impl MaxWindow {
    /// An empty window; `delay` > 0 is rounded up to whole slots.
    pub fn new(delay: Duration) -> Self {
        let slots = delay.as_millis().div_ceil(u128::from(SLOT_S.unsigned_abs()) * 1000);
        Self { slots: i64::try_from(slots.max(1)).unwrap_or(i64::MAX), entries: VecDeque::new() }
    }

    /// Records `value` at `now` and returns the maximum of the window.
    pub fn record(&mut self, now: Timestamp, value: i32) -> i32 {
        let slot = second_of(now).div_euclid(SLOT_S);
        while self.entries.back().is_some_and(|&(_, newest)| newest <= value) {
            self.entries.pop_back();
        }
        while self.entries.front().is_some_and(|&(oldest, _)| slot - oldest >= self.slots) {
            self.entries.pop_front();
        }
        if self.entries.back().is_none_or(|&(newest, _)| newest != slot) {
            self.entries.push_back((slot, value));
        }
        self.entries.front().map_or(value, |&(_, max)| max)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
    }

    #[test]
    fn holds_the_maximum_for_the_delay() {
        let mut window = MaxWindow::new(Duration::from_secs(6));
        let maxima: Vec<i32> = [(0, 10), (2000, 1), (4000, 1), (5999, 1), (6000, 1)]
            .map(|(ms, value)| window.record(at(ms), value))
            .to_vec();
        assert_eq!(maxima, [10, 10, 10, 10, 1]);
    }

    #[test]
    fn an_odd_phase_shortens_the_delay() {
        let mut window = MaxWindow::new(Duration::from_secs(5));
        let maxima: Vec<i32> = [(1000, 10), (3000, 1), (5000, 1), (5999, 1), (6000, 1)]
            .map(|(ms, value)| window.record(at(ms), value))
            .to_vec();
        assert_eq!(maxima, [10, 10, 10, 10, 1]);
    }

    #[test]
    fn the_same_slot_keeps_the_larger_value() {
        let mut window = MaxWindow::new(Duration::from_secs(1));
        assert_eq!(window.record(at(0), 10), 10);
        assert_eq!(window.record(at(1000), 3), 10);
        assert_eq!(window.record(at(2000), 2), 2);
    }

    #[test]
    fn maxima_of_a_window_of_five() {
        let mut window = MaxWindow::new(Duration::from_secs(10));
        let values = [5, 8, 5, 7, 5, 5, 1, 4, 4, 4, 4, 9, 3, 4, 2, 1, 0];
        let maxima: Vec<i32> =
            (0..).zip(values).map(|(i, v)| window.record(at(i * 2000), v)).collect();
        assert_eq!(maxima, [5, 8, 8, 8, 8, 8, 7, 7, 5, 5, 4, 9, 9, 9, 9, 9, 4]);
    }
}
