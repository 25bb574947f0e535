//! Ways in which the engine could be broken, so that tests see the checker notice each of them: the checker
//! goes on to be told the truth, the engine or those who listen to it are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::super::check::Checker;
use super::super::super::number::{Micros, SECOND};
use super::{SOURCE, micros_since_start};
use crate::core::Timestamp;
use crate::core::event::{Action, Event, Reading};

/// How the engine is broken.
#[derive(Clone, Debug, Default)]
pub(crate) enum Mutant {
    /// Not at all.
    #[default]
    Faithful,
    /// A source that cannot be reached reads as zero.
    SilenceIsIdleness,
    /// Every write asks for more than any limit allows.
    Boundless,
    /// The loss of the lease is not heard.
    KeepsTheLease,
    /// Half of the load is not seen, for 100 s out of 200.
    SeesHalf,
    /// It decides five seconds late.
    Sluggish,
    /// Samples of any name count as its own.
    Believes,
    /// After the first failure of a source no sample is heard any more.
    Sulks {
        /// Whether there was one.
        hurt: bool,
    },
    /// Every action is asked for twenty times.
    Babbles,
    /// What is seen depends on how often any run has asked.
    Remembers(Arc<AtomicU64>),
}

impl Mutant {
    /// What the engine hears of a fact.
    pub(super) fn hears(&mut self, now: Timestamp, event: Event) -> Option<Event> {
        match (self, event) {
            (Self::SilenceIsIdleness, Event::SourceFailed { target, source, .. }) => {
                let reading = Reading::Value { seen: 0.0, missing: 0 };
                Some(super::sampled(target, &source, reading, std::time::Duration::ZERO, None))
            }
            (Self::KeepsTheLease, Event::LeadershipChanged { leader: false }) => None,
            (Self::SeesHalf, Event::Sampled { samples }) => {
                let half = (micros_since_start(now) / (100 * SECOND)).is_multiple_of(2);
                let factor = if half { 0.5 } else { 1.0 };
                Some(scaled(Event::Sampled { samples }, factor))
            }
            (Self::Believes, Event::Sampled { mut samples }) => {
                for sample in &mut samples {
                    sample.source = SOURCE.into();
                }
                Some(Event::Sampled { samples })
            }
            (Self::Sulks { hurt }, event) => {
                *hurt |= matches!(event, Event::SourceFailed { .. });
                let sampled = matches!(event, Event::Sampled { .. });
                (!(*hurt && sampled)).then_some(event)
            }
            (Self::Remembers(asked), event) => {
                let odd = asked.fetch_add(1, Ordering::Relaxed) % 7 == 0;
                Some(scaled(event, if odd { 1.01 } else { 1.0 }))
            }
            (_, event) => Some(event),
        }
    }

    /// What others hear of an action.
    pub(super) fn says(&self, now: Timestamp, action: Action, checker: &mut Checker) -> Action {
        match (self, action) {
            (Self::Boundless, Action::Write { target, from, resource_version, reason, .. }) => {
                Action::Write { target, replicas: 1000, from, resource_version, reason }
            }
            (Self::Babbles, action) => {
                (0..20).for_each(|_| checker.action(now, &action));
                action
            }
            (_, action) => action,
        }
    }

    /// How late it decides.
    pub(super) fn lags(&self) -> Micros {
        if matches!(self, Self::Sluggish) { 5 * SECOND } else { 0 }
    }
}

/// The samples of an event multiplied by `factor`.
fn scaled(mut event: Event, factor: f64) -> Event {
    if let Event::Sampled { samples } = &mut event {
        for sample in samples {
            if let Reading::Value { seen, .. } = &mut sample.reading {
                *seen *= factor;
            }
        }
    }
    event
}
