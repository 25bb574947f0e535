//! The course of a run for charts and reports, at no more points than a chart can show.

use super::number::{Micros, SECOND};
use super::policy::View;

/// The most points of a chart.
const MOST_POINTS: u64 = 2000;
/// The most markers of a chart.
const MOST_MARKS: usize = 400;

/// The first workload at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Micros,
    /// Requests a second that come.
    pub(crate) rate: f64,
    /// What would be in flight if nothing had to wait.
    pub(crate) offered: f64,
    /// What is there, waiting or in service.
    pub(crate) inside: f64,
    pub(crate) needed: i32,
    pub(crate) ready: i32,
    pub(crate) replicas: i32,
    pub(crate) view: View,
}

/// A write that was stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) at: Micros,
    pub(crate) replicas: i32,
    pub(crate) reason: &'static str,
}

/// The course of a run.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    step: Micros,
    pub(crate) moments: Vec<Moment>,
    pub(crate) marks: Vec<Mark>,
}

impl Series {
    /// For a run of this length.
    pub(crate) fn new(length: Micros) -> Self {
        let step = (length / MOST_POINTS).max(SECOND).next_multiple_of(SECOND);
        Self { step, moments: Vec::new(), marks: Vec::new() }
    }

    /// How far apart moments are.
    pub(crate) fn step(&self) -> Micros {
        self.step
    }

    pub(crate) fn note(&mut self, moment: Moment) {
        self.moments.push(moment);
    }

    pub(crate) fn mark(&mut self, at: Micros, replicas: i32, reason: &'static str) {
        if self.marks.len() < MOST_MARKS {
            self.marks.push(Mark { at, replicas, reason });
        }
    }
}
