//! What podswell's sources said about each workload, and whether it is what the fixture says.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use podswell::core::event::{Event, Reading};
use podswell::sources::definition::Form;
use tokio::sync::mpsc::Receiver;

use super::Case;

/// What came for one source and target.
#[derive(Debug, Clone, Default)]
struct Heard {
    values: Vec<f64>,
    /// Of the newest one.
    missing: u32,
    faults: Vec<&'static str>,
}

impl Heard {
    /// The end of it, for a message.
    fn newest(&self) -> String {
        let from = self.values.len().saturating_sub(8);
        format!("{:?}, missing {}, {:?}", &self.values[from..], self.missing, self.faults)
    }
}

/// By source and target.
type ByCase = BTreeMap<(String, String), Heard>;

/// Everything that came.
#[derive(Debug, Clone, Default)]
pub(super) struct Log(Arc<Mutex<ByCase>>);

impl Log {
    /// Keeps everything that comes from one source, until it ends.
    pub(super) fn keep(&self, mut events: Receiver<Event>) {
        let kept = self.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                kept.take(event);
            }
        });
    }

    fn take(&self, event: Event) {
        let mut all = self.0.lock();
        match event {
            Event::Sampled { samples } => {
                for sample in samples {
                    let key = (sample.source.to_string(), sample.target.to_string());
                    let heard = all.entry(key).or_default();
                    if let Reading::Value { seen, missing } = sample.reading {
                        heard.values.push(seen);
                        heard.missing = missing;
                    }
                }
            }
            Event::SourceFailed { target, source, fault } => {
                let heard = all.entry((source.to_string(), target.to_string())).or_default();
                heard.faults.push(fault.as_str());
            }
            _ => {}
        }
    }

    fn of(&self, case: &Case) -> Heard {
        let key = (case.source.clone(), case.target.to_string());
        self.0.lock().get(&key).cloned().unwrap_or_default()
    }
}

impl Case {
    /// What is still different from what is expected, if anything is.
    pub(super) fn disagrees(&self, log: &Log) -> Option<String> {
        let heard = log.of(self);
        let agrees = match (self.expected.reads, self.expected.fault.as_deref()) {
            (_, Some(fault)) if !heard.faults.contains(&fault) => false,
            _ if !self.expected.one_of.is_empty() => !heard.values.is_empty(),
            (Some(value), _) => self.reads(&heard.values, value) && heard.missing == 0,
            (None, _) => true,
        };
        (!agrees)
            .then(|| format!("{}: {}, expected {:?}", self.source, heard.newest(), self.expected))
    }

    /// Whether the newest values are this one: exactly for levels; on average for rates, because a scrape
    /// is never exactly a second after the one before.
    fn reads(&self, values: &[f64], expected: f64) -> bool {
        let enough = if self.expected.absent { 1 } else { 5 };
        let Some(newest) = values.len().checked_sub(enough).map(|from| &values[from..]) else {
            return false;
        };
        if self.form == Form::Gauge || self.expected.absent {
            return newest.iter().all(|value| (value - expected).abs() < 1e-6);
        }
        let count = u32::try_from(newest.len()).map_or(f64::NAN, f64::from);
        let mean = newest.iter().sum::<f64>() / count;
        (mean - expected).abs() <= expected * 0.25 + 1e-6
    }

    /// Series of others, and samples that are no numbers, never became load of this workload.
    ///
    /// # Panics
    /// If they did.
    pub(super) fn never_read_anything_else(&self, log: &Log) {
        let heard = log.of(self);
        let Some(expected) = self.expected.reads else {
            let allowed =
                |value: &f64| self.expected.one_of.iter().any(|one| (one - value).abs() < 1e-6);
            if heard.values.iter().all(allowed) {
                return;
            }
            panic!("{}: {heard:?}, {:?}", self.source, self.expected);
        };
        // A counter's single step may be large where a scrape came late; a foreign series is far larger.
        let ceiling = if self.form == Form::Gauge { expected } else { expected * 20.0 };
        let most = heard.values.iter().copied().fold(0.0, f64::max);
        assert!(most <= ceiling + 1e-6, "{}: {heard:?}, {:?}", self.source, self.expected);
    }
}
