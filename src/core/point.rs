//! One measurement point of a target: a source's samples, averaged, and how much they are worth.

use std::time::Duration;

use super::Timestamp;
use super::decider::covered::{Averages, Reading};
use super::decider::panic::later;
use super::decision::{SampleCounts, SignalState};
use super::event::{self, Sample, SourceFault};
use super::problem::{Problem, ProblemCode};
use super::snapshot::{Fate, Run};
use super::source::PointConfig;
use super::spec::{ScalerSpec, Semantics};
use super::window::buckets::BucketWindow;
use super::window::covered::{CoveredSeconds, Recorded};
use super::window::{is_recordable, whole_seconds};

/// For how long a source may be slower than it says before that is a problem.
const SLOW_FOR: Duration = Duration::from_secs(300);
/// The share of covered seconds below which a source counts as slower than it says.
const SLOW_BELOW: f64 = 0.8;
/// After how many samples in a row that arrived too old the clocks are suspected.
const SKEWED_ARRIVALS: u32 = 3;
/// The longest window that is kept: the longest stable window there is. A source whose range is longer
/// is a configuration error and must not cost memory.
const LONGEST_WINDOW: Duration = Duration::from_secs(3600);
/// The least step between two samples whose stamps differ.
const STEP: Duration = Duration::from_millis(1);

#[derive(Clone, Debug)]
enum Windows {
    Covered { window: CoveredSeconds, averages: Averages },
    Buckets { stable: BucketWindow, panic: BucketWindow },
}

/// A source's samples for one target.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    config: PointConfig,
    windows: Windows,
    created: Timestamp,
    newest: Option<Timestamp>,
    newest_stamp_ms: Option<i64>,
    /// When the first reading of a counter came, while there is no rate yet.
    base_at: Option<Timestamp>,
    newest_value: f64,
    missing: u32,
    fault: Option<SourceFault>,
    counts: SampleCounts,
    slow_since: Option<Timestamp>,
    arrived_too_old: u32,
    age_on_arrival: Duration,
}

/// How much a point knows at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Signal {
    pub(crate) state: SignalState,
    pub(crate) age: Duration,
}

impl Signal {
    /// Whether there is something to decide by.
    pub(crate) fn is_heard(&self) -> bool {
        matches!(self.state, SignalState::Fresh | SignalState::Partial)
    }

    /// Of two parts that are both heard.
    pub(crate) fn plus(self, other: Self) -> Self {
        let complete = self.state == SignalState::Fresh && other.state == SignalState::Fresh;
        let state = if complete { SignalState::Fresh } else { SignalState::Partial };
        Self { state, age: self.age.max(other.age) }
    }

    /// Of two parts of which none is heard.
    pub(crate) fn or(self, other: Self) -> Self {
        let starting = [self.state, other.state].contains(&SignalState::Starting);
        let state = if starting { SignalState::Starting } else { SignalState::Lost };
        Self { state, age: self.age.min(other.age) }
    }
}

impl Point {
    pub(crate) fn new(
        now: Timestamp,
        config: PointConfig,
        spec: &ScalerSpec,
        semantics: Semantics,
    ) -> Self {
        Self {
            windows: Windows::new(&config, spec, semantics),
            config,
            created: now,
            newest: None,
            newest_stamp_ms: None,
            base_at: None,
            newest_value: 0.0,
            missing: 0,
            fault: None,
            counts: SampleCounts::default(),
            slow_since: None,
            arrived_too_old: 0,
            age_on_arrival: Duration::ZERO,
        }
    }

    pub(crate) fn config(&self) -> &PointConfig {
        &self.config
    }

    pub(crate) fn counts(&self) -> SampleCounts {
        self.counts
    }

    pub(crate) fn missing(&self) -> u32 {
        self.missing
    }

    pub(crate) fn fault(&self) -> Option<SourceFault> {
        self.fault
    }

    /// The value of the newest sample, 0 before the first one.
    pub(crate) fn newest_value(&self) -> f64 {
        self.newest_value
    }

    pub(crate) fn failed(&mut self, fault: SourceFault) {
        self.fault = Some(fault);
    }

    /// Takes over changed settings; what was recorded stays, under other semantics second by second.
    pub(crate) fn reconfigure(
        &mut self,
        now: Timestamp,
        config: PointConfig,
        spec: &ScalerSpec,
        semantics: Semantics,
    ) {
        if semantics != self.windows.semantics() {
            self.windows = self.windows.converted(&config, spec, semantics);
        }
        match &mut self.windows {
            Windows::Covered { window, averages } => {
                window.resize(longest_window(&config, spec), config.stale_after);
                *averages = Averages::of(spec, &config, window);
            }
            Windows::Buckets { stable, panic } => {
                stable.resize(now, spec.stable_window);
                panic.resize(now, spec.panic_window);
                stable.set_aggregation(spec.aggregation);
                panic.set_aggregation(spec.aggregation);
            }
        }
        self.config = config;
    }

    /// Records a sample that arrives at `now`. Each missing endpoint may carry `worth`; `over` says whether
    /// the sample asks for panic on its own.
    pub(crate) fn record(
        &mut self,
        now: Timestamp,
        spec: &ScalerSpec,
        sample: &Sample,
        worth: f64,
        over: impl FnOnce(f64) -> bool,
    ) -> Recorded {
        let event::Reading::Value { seen, missing } = sample.reading else {
            self.base_at.get_or_insert(now);
            self.fault = None;
            self.counts.heartbeat += 1;
            return Recorded::Heartbeat;
        };
        if !is_recordable(seen) || seen < 0.0 {
            self.counts.invalid += 1;
            self.fault = Some(SourceFault::InvalidSample);
            return Recorded::Invalid;
        }
        let recorded = match self.time_of(now, sample) {
            Ok(t) => {
                let high = seen + f64::from(missing) * worth;
                self.record_at(t, spec, (seen, high), over(seen))
            }
            Err(refused) => refused,
        };
        if recorded != Recorded::Heartbeat {
            self.note_age(sample.age);
        }
        match recorded {
            Recorded::Ok => {
                self.newest_value = seen;
                self.missing = missing;
                self.newest_stamp_ms = sample.stamp_ms.or(self.newest_stamp_ms);
                self.counts.recorded += 1;
                self.fault = None;
            }
            Recorded::Heartbeat => {
                self.counts.heartbeat += 1;
                self.fault = None;
            }
            Recorded::Late => self.counts.late += 1,
            Recorded::Invalid => {
                self.counts.invalid += 1;
                self.fault = Some(SourceFault::InvalidSample);
            }
        }
        recorded
    }

    /// The engine time of a sample. Where the source stamps its samples, the stamps tell repeated and late
    /// ones, so that neither jitter of the network nor a step of the wall clock can. One stamp of the
    /// future must not silence a source until then: a sample that is younger than the newest one by more
    /// than the limit is believed whatever its stamp.
    fn time_of(&self, now: Timestamp, sample: &Sample) -> Result<Timestamp, Recorded> {
        let t = now.checked_sub(sample.age).unwrap_or(Timestamp::MIN);
        let Some(stamp) = sample.stamp_ms else { return Ok(t) };
        match (self.newest_stamp_ms, self.newest) {
            (Some(before), _) if stamp == before => Err(Recorded::Heartbeat),
            (Some(before), Some(newest))
                if stamp < before && t > later(newest, self.config.stale_after) =>
            {
                Ok(t)
            }
            (Some(before), _) if stamp < before => Err(Recorded::Late),
            (Some(_), Some(newest)) if t <= newest => {
                Ok(newest.checked_add(STEP).unwrap_or(newest))
            }
            _ => Ok(t),
        }
    }

    fn record_at(
        &mut self,
        t: Timestamp,
        spec: &ScalerSpec,
        (seen, high): (f64, f64),
        over: bool,
    ) -> Recorded {
        let recorded = match &mut self.windows {
            Windows::Covered { window, averages } => {
                let recorded = window.record(t, seen, high, over);
                if recorded == Recorded::Ok {
                    *averages = Averages::of(spec, &self.config, window);
                }
                recorded
            }
            Windows::Buckets { stable, panic } => {
                stable.record(t, seen);
                panic.record(t, seen);
                Recorded::Ok
            }
        };
        if recorded == Recorded::Ok {
            self.newest = Some(self.newest.map_or(t, |newest| newest.max(t)));
        }
        recorded
    }

    fn note_age(&mut self, age: Duration) {
        self.age_on_arrival = age;
        if age > self.config.stale_after {
            self.arrived_too_old = self.arrived_too_old.saturating_add(1);
        } else {
            self.arrived_too_old = 0;
        }
    }

    /// The window's seconds and the time of its newest sample, if the source keeps no history of its own
    /// (one that stamps its samples does) and anything of it lies in the window at `now`.
    pub(crate) fn saved(&self, now: Timestamp, spec: &ScalerSpec) -> Option<(Timestamp, Vec<Run>)> {
        let Windows::Covered { window, .. } = &self.windows else { return None };
        let newest = window.newest().filter(|newest| later(*newest, spec.stable_window) > now)?;
        self.newest_stamp_ms.is_none().then(|| (newest, window.runs()))
    }

    /// Takes over what an earlier process measured; nothing counts as heard by that.
    pub(crate) fn restore(
        &mut self,
        now: Timestamp,
        spec: &ScalerSpec,
        newest: Timestamp,
        runs: &[Run],
    ) -> Fate {
        let Windows::Covered { window, averages } = &mut self.windows else {
            return Fate::Changed;
        };
        if later(newest, spec.stable_window) <= now {
            Fate::Old
        } else if newest <= now && window.restore(newest, runs) {
            *averages = Averages::of(spec, &self.config, window);
            Fate::Restored
        } else {
            Fate::Changed
        }
    }

    /// How much is known at `now`.
    ///
    /// `reading` is what [`Point::reading`] gives at this moment.
    pub(crate) fn signal(&self, now: Timestamp, reading: Option<&Reading<'_>>) -> Signal {
        let since = self.newest.or(self.base_at).unwrap_or(self.created);
        let age = Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO);
        let state = if age > self.config.stale_after {
            SignalState::Lost
        } else if self.newest.is_none() {
            SignalState::Starting
        } else {
            match reading {
                #[expect(clippy::float_cmp, reason = "complete samples give the same bits")]
                Some(reading) if reading.stable.low != reading.stable.high => SignalState::Partial,
                _ => SignalState::Fresh,
            }
        };
        Signal { state, age }
    }

    /// The averages of the default mode; `None` under Knative's semantics.
    pub(crate) fn reading(&self, spec: &ScalerSpec) -> Option<Reading<'_>> {
        match &self.windows {
            Windows::Covered { window, averages } => {
                Some(Reading::new(spec, &self.config, window, averages))
            }
            Windows::Buckets { .. } => None,
        }
    }

    /// Knative's stable and panic averages at `now`; `None` when the stable window is empty, and in the
    /// default mode.
    pub(crate) fn bucket_averages(&self, now: Timestamp) -> Option<(f64, f64)> {
        match &self.windows {
            Windows::Buckets { stable, panic } if !stable.is_empty(now) => {
                Some((stable.average(now), panic.average(now)))
            }
            _ => None,
        }
    }

    /// Watches the point's own claims at a tick: is it as fast as it says, are its clocks right?
    pub(crate) fn note_problems(
        &mut self,
        now: Timestamp,
        spec: &ScalerSpec,
        problems: &mut Vec<Problem>,
    ) {
        if self.arrived_too_old >= SKEWED_ARRIVALS {
            problems.push(Problem {
                code: ProblemCode::ClockSkew,
                key: self.config.source.to_string(),
                why: format!(
                    "samples arrive {:.1} s old, older than the limit of {:.1} s",
                    self.age_on_arrival.as_secs_f64(),
                    self.config.stale_after.as_secs_f64()
                ),
                fallback: "the signal counts as lost; compare the clocks, or raise staleAfter"
                    .to_owned(),
            });
        }
        if self.is_slower_than_it_says(now, spec) {
            problems.push(Problem {
                code: ProblemCode::SourceSlower,
                key: self.config.source.to_string(),
                why: format!(
                    "for five minutes less than 80% of the seconds were covered; samples come every {:.1} s, \
                     not every {:.1} s",
                    self.observed_interval().as_secs_f64(),
                    self.config.interval.as_secs_f64()
                ),
                fallback: "nothing is lowered meanwhile; set the source's interval to what it is"
                    .to_owned(),
            });
        }
    }

    fn is_slower_than_it_says(&mut self, now: Timestamp, spec: &ScalerSpec) -> bool {
        let lived = Duration::try_from(now.duration_since(self.created)).unwrap_or(Duration::ZERO);
        // Over no more than those five minutes, so that a long outage is not held against the source for
        // the rest of a long window.
        let span = spec.stable_window.min(SLOW_FOR).min(lived.max(Duration::from_secs(1)));
        let needed = whole_seconds(span);
        let covered = match &self.windows {
            Windows::Covered { averages, .. } if span == spec.stable_window => {
                Some(averages.stable.covered_s)
            }
            Windows::Covered { window, .. } => Some(window.covered_s(span)),
            Windows::Buckets { .. } => None,
        };
        #[expect(clippy::cast_precision_loss, reason = "a window has at most 3,600 seconds")]
        let slow = covered
            .is_some_and(|covered| covered > 0 && f64::from(covered) < SLOW_BELOW * needed as f64);
        if !slow {
            self.slow_since = None;
            return false;
        }
        let since = *self.slow_since.get_or_insert(now);
        Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO) >= SLOW_FOR
    }

    fn observed_interval(&self) -> Duration {
        let Windows::Covered { window, .. } = &self.windows else { return self.config.interval };
        let times: Vec<Timestamp> = window.newest_samples().map(|sample| sample.t).collect();
        match (times.first(), times.last()) {
            (Some(newest), Some(oldest)) if times.len() > 1 => {
                let gaps = u32::try_from(times.len() - 1).unwrap_or(1);
                Duration::try_from(newest.duration_since(*oldest)).unwrap_or(Duration::ZERO) / gaps
            }
            _ => self.config.interval,
        }
    }
}

impl Windows {
    fn new(config: &PointConfig, spec: &ScalerSpec, semantics: Semantics) -> Self {
        match semantics {
            Semantics::Default => Self::Covered {
                window: CoveredSeconds::new(longest_window(config, spec), config.stale_after),
                averages: Averages::default(),
            },
            Semantics::Knative => Self::Buckets {
                stable: BucketWindow::new(spec.stable_window, spec.aggregation),
                panic: BucketWindow::new(spec.panic_window, spec.aggregation),
            },
        }
    }
}

impl Windows {
    fn semantics(&self) -> Semantics {
        match self {
            Self::Covered { .. } => Semantics::Default,
            Self::Buckets { .. } => Semantics::Knative,
        }
    }

    /// The same seconds in the windows of other semantics.
    fn converted(&self, config: &PointConfig, spec: &ScalerSpec, semantics: Semantics) -> Self {
        let mut converted = Self::new(config, spec, semantics);
        let seconds: Vec<(i64, f64)> = match self {
            Self::Covered { window, .. } => window.seconds().collect(),
            Self::Buckets { stable, .. } => stable.seconds().collect(),
        };
        for (second, value) in seconds {
            let Ok(t) = Timestamp::from_second(second) else { continue };
            match &mut converted {
                Self::Covered { window, .. } => {
                    window.record(t, value, value, false);
                }
                Self::Buckets { stable, panic } => {
                    stable.record(t, value);
                    panic.record(t, value);
                }
            }
        }
        converted
    }
}

/// The stable window, or the panic window where a slow source makes that the longer one.
fn longest_window(config: &PointConfig, spec: &ScalerSpec) -> Duration {
    let panic = super::decider::covered::effective_panic_window(spec, config);
    spec.stable_window.max(panic).min(LONGEST_WINDOW)
}
