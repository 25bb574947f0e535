//! The measurement points of one measure: which of them speaks, and how parts of one whole are summed.

use std::fmt::Write as _;
use std::time::Duration;

use super::Timestamp;
use super::decider::covered::Reading;
use super::decision::{SampleCounts, SignalState};
use super::event::SourceFault;
use super::point::{Point, Signal};
use super::problem::Problem;
use super::snapshot::Run;
use super::source::{PointConfig, Share, SourceName};
use super::spec::{ScalerSpec, Semantics};

/// The points in the order in which they are preferred. Those that see a part of the load stand together
/// for the whole, in the place of the first of them.
#[derive(Clone, Debug)]
pub(crate) struct PointSet {
    points: Vec<Point>,
}

/// The point to decide by, or the parts of one whole, and what they say.
#[derive(Clone, Debug)]
pub(crate) struct Chosen<'a> {
    first: &'a Point,
    /// The other parts, heard or not.
    parts: Vec<&'a Point>,
    /// The averages; `None` under Knative's semantics.
    pub(crate) reading: Option<Reading<'a>>,
    /// How much is known of the whole.
    pub(crate) signal: Signal,
    /// How many parts are not heard.
    silent: u32,
    /// Why one of them has nothing to say, if it said so.
    silent_fault: Option<SourceFault>,
}

impl PointSet {
    pub(crate) fn new(
        now: Timestamp,
        configs: &[PointConfig],
        spec: &ScalerSpec,
        semantics: Semantics,
    ) -> Self {
        let point = |config: &PointConfig| Point::new(now, config.clone(), spec, semantics);
        Self { points: configs.iter().map(point).collect() }
    }

    /// Keeps the points of sources that stay, in the new order.
    pub(crate) fn rewire(
        &mut self,
        now: Timestamp,
        configs: &[PointConfig],
        spec: &ScalerSpec,
        semantics: Semantics,
    ) {
        let mut old = std::mem::take(&mut self.points);
        self.points.reserve_exact(configs.len());
        for config in configs {
            let kept = old.iter().position(|point| point.config().source == config.source);
            let point = match kept {
                Some(position) => {
                    let mut point = old.swap_remove(position);
                    point.reconfigure(now, config.clone(), spec, semantics);
                    point
                }
                None => Point::new(now, config.clone(), spec, semantics),
            };
            self.points.push(point);
        }
    }

    /// What can be kept over a restart, point by point.
    pub(crate) fn saved<'a>(
        &'a self,
        now: Timestamp,
        spec: &'a ScalerSpec,
    ) -> impl Iterator<Item = (&'a PointConfig, Timestamp, Vec<Run>)> + 'a {
        self.points.iter().filter_map(move |point| {
            let (newest, runs) = point.saved(now, spec)?;
            Some((point.config(), newest, runs))
        })
    }

    pub(crate) fn get_mut(&mut self, source: &str) -> Option<&mut Point> {
        self.points.iter_mut().find(|point| &*point.config().source == source)
    }

    /// The point to decide by: the first that is heard, else the first that may still be, else the first.
    pub(crate) fn chosen(&self, now: Timestamp, spec: &ScalerSpec) -> Option<Chosen<'_>> {
        let mut second_best: Option<Chosen<'_>> = None;
        let mut summed = false;
        for point in &self.points {
            let candidate = match point.config().share {
                Share::Exclusive => Chosen::of(now, point, spec),
                Share::Additive if summed => continue,
                Share::Additive => {
                    summed = true;
                    self.sum(now, spec)?
                }
            };
            if candidate.signal.is_heard() {
                return Some(candidate);
            }
            let better = second_best.as_ref().is_none_or(|best| {
                best.signal.state == SignalState::Lost
                    && candidate.signal.state == SignalState::Starting
            });
            if better {
                second_best = Some(candidate);
            }
        }
        second_best
    }

    /// The whole that the additive points are parts of; `None` where there are none.
    fn sum(&self, now: Timestamp, spec: &ScalerSpec) -> Option<Chosen<'_>> {
        let additive = |point: &&Point| point.config().share == Share::Additive;
        let parts = self.points.iter().filter(additive);
        parts.map(|point| Chosen::of(now, point, spec)).reduce(Chosen::plus)
    }

    /// The points that see demand while no pod runs.
    fn wake_path(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|point| point.config().visible_at_zero)
    }

    pub(crate) fn has_wake_path(&self) -> bool {
        self.wake_path().next().is_some()
    }

    pub(crate) fn hears_wake_path(&self, now: Timestamp) -> bool {
        self.wake_path().any(|point| point.signal(now, None).is_heard())
    }

    /// Whether every point of the wake path has been silent for longer than its limit and `delay`.
    pub(crate) fn is_deaf(&self, now: Timestamp, delay: Duration) -> bool {
        self.wake_path().all(|point| {
            let limit = point.config().stale_after.saturating_add(delay);
            point.signal(now, None).age > limit
        })
    }

    pub(crate) fn has_load(&self) -> bool {
        self.points.iter().any(|point| point.newest_value() > 0.0)
    }

    /// Adds what the points' own claims are worth at a tick.
    pub(crate) fn note_problems(
        &mut self,
        now: Timestamp,
        spec: &ScalerSpec,
        problems: &mut Vec<Problem>,
    ) {
        self.points.iter_mut().for_each(|point| point.note_problems(now, spec, problems));
    }

    pub(crate) fn counts(&self) -> impl Iterator<Item = SampleCounts> + '_ {
        self.points.iter().map(Point::counts)
    }
}

impl<'a> Chosen<'a> {
    fn of(now: Timestamp, point: &'a Point, spec: &ScalerSpec) -> Self {
        let reading = point.reading(spec);
        let signal = point.signal(now, reading.as_ref());
        let heard = signal.is_heard();
        Self {
            first: point,
            parts: Vec::new(),
            reading,
            signal,
            silent: u32::from(!heard),
            silent_fault: point.fault().filter(|_| !heard),
        }
    }

    /// The whole of which both are parts. A part that is not heard leaves no upper end.
    fn plus(mut self, other: Self) -> Self {
        self.parts.push(other.first);
        self.silent += other.silent;
        self.silent_fault = self.silent_fault.or(other.silent_fault);
        let heard = (self.signal.is_heard(), other.signal.is_heard());
        self.signal = match heard {
            (true, true) => self.signal.plus(other.signal),
            (false, false) => self.signal.or(other.signal),
            (true, false) => Signal { state: SignalState::Partial, ..self.signal },
            (false, true) => Signal { state: SignalState::Partial, ..other.signal },
        };
        self.reading = match (self.reading, other.reading) {
            (Some(one), Some(other)) if heard == (true, true) => Some(one.plus(other)),
            (_, other) if heard == (false, true) => other,
            (one, _) => one,
        };
        if heard.0 != heard.1
            && let Some(reading) = &mut self.reading
        {
            reading.lacks_part = true;
        }
        self
    }

    fn all(&self) -> impl Iterator<Item = &'a Point> + '_ {
        std::iter::once(self.first).chain(self.parts.iter().copied())
    }

    /// The source's name; of parts, all names.
    pub(crate) fn source(&self) -> SourceName {
        let mut name = self.first.config().source.clone();
        if !self.parts.is_empty() {
            let mut all = name.to_string();
            for part in &self.parts {
                // Writing to a String cannot fail.
                let _ = write!(all, "+{}", part.config().source);
            }
            name = all.into();
        }
        name
    }

    /// Endpoints that did not answer, and parts that are not heard.
    pub(crate) fn missing(&self) -> u32 {
        let parts = if self.signal.is_heard() { self.silent } else { 0 };
        self.all().map(Point::missing).fold(parts, u32::saturating_add)
    }

    pub(crate) fn fault(&self) -> Option<SourceFault> {
        self.silent_fault.or_else(|| self.all().find_map(Point::fault))
    }

    /// The sum of the newest values, heard or not.
    pub(crate) fn newest_value(&self) -> f64 {
        self.all().map(Point::newest_value).sum()
    }

    /// Knative's averages; `None` when no part's window holds anything, and in the default mode.
    pub(crate) fn bucket_averages(&self, now: Timestamp) -> Option<(f64, f64)> {
        let parts = self.all().filter_map(|point| point.bucket_averages(now));
        parts.reduce(|one, other| (one.0 + other.0, one.1 + other.1))
    }
}
