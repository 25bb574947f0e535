//! The parts that a scenario's load is the sum of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{Amount, Share, Span};

/// What the numbers in `load` count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Requests in flight, if nothing had to wait.
    #[default]
    Concurrency,
    /// Requests a second.
    Rps,
}

/// A moment of a recorded load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Seconds since the first point, ≥ 0, ascending.
    pub at_s: f64,
    /// The load from here to the next point, ≥ 0.
    pub value: f64,
}

/// A part of the load. Levels are in the scenario's unit; times count from the start; nothing is there
/// before `at`, and after `until` where a part has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Part {
    /// The same all the time; several of them make steps.
    Constant {
        /// How much.
        level: Amount,
        /// From when on.
        #[serde(default)]
        at: Span,
        /// Until when; by default the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Span>,
    },
    /// From one level to another, which then stays.
    Ramp {
        /// The level at first.
        #[serde(default)]
        from: Amount,
        /// The level at last.
        to: Amount,
        /// From when on.
        #[serde(default)]
        at: Span,
        /// How long the way takes.
        over: Span,
        /// Until when; by default the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Span>,
    },
    /// Up, a while there, down.
    Spike {
        /// How much.
        level: Amount,
        /// When it begins.
        at: Span,
        /// How long it stays up.
        hold: Span,
        /// How long the way up takes.
        #[serde(default)]
        rise: Span,
        /// How long the way down takes.
        #[serde(default)]
        fall: Span,
    },
    /// Rises evenly and drops at once, again and again.
    Sawtooth {
        /// The level after a drop.
        #[serde(default)]
        low: Amount,
        /// The level before it.
        high: Amount,
        /// From drop to drop.
        period: Span,
        /// From when on.
        #[serde(default)]
        at: Span,
        /// Until when; by default the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Span>,
    },
    /// A sine, cut off at zero.
    Sine {
        /// Its mean.
        mean: Amount,
        /// How far it swings to either side.
        amplitude: Amount,
        /// From crest to crest.
        period: Span,
        /// From when on; it starts at the mean, rising.
        #[serde(default)]
        at: Span,
    },
    /// Bursts at random times.
    Bursts {
        /// How much each adds.
        level: Amount,
        /// The mean time from the end of one to the next (exponential).
        every: Span,
        /// How long each lasts.
        hold: Span,
    },
    /// Bursts by the clock.
    Cron {
        /// How much each adds.
        level: Amount,
        /// From one to the next.
        every: Span,
        /// When the first one begins.
        #[serde(default)]
        at: Span,
        /// How long each lasts.
        hold: Span,
        /// How late each may be at most.
        #[serde(default)]
        jitter: Span,
    },
    /// Days and nights with noise.
    Diurnal {
        /// The mean over a day.
        mean: Amount,
        /// How far day and night lie from it, as a share of the mean.
        swing: Share,
        /// The length of a day.
        #[serde(default = "a_day")]
        day: Span,
        /// The relative standard deviation of the noise, which remembers about ten minutes.
        #[serde(default)]
        noise: Share,
    },
    /// Rare short calls at random; each copy of the workload draws its own mean gap.
    Sporadic {
        /// How much a call is.
        level: Amount,
        /// How long a call lasts.
        hold: Span,
        /// The shortest mean gap that a copy may draw.
        shortest: Span,
        /// The longest; drawn evenly on a logarithmic scale.
        longest: Span,
    },
    /// A table: one line a point, seconds and level separated by a comma; each holds until the next.
    Csv(Recorded),
    /// The answer of Prometheus to a range query with one series, as JSON.
    Prometheus(Recorded),
}

/// A load that was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// The file, relative to the scenario's.
    pub file: String,
    /// What each value is multiplied by.
    #[serde(default = "one")]
    pub scale: Amount,
    /// From when on.
    #[serde(default)]
    pub at: Span,
    /// What the file holds.
    #[serde(skip)]
    pub points: Vec<Point>,
}

impl super::Check for Part {
    fn check(&self) -> Result<(), String> {
        let above = |key: &str, span: Span, least: Span| {
            if span < least { Err(format!("{key} must be at least {least}")) } else { Ok(()) }
        };
        let second = Span::seconds(1);
        match *self {
            Self::Constant { at, until: Some(until), .. }
            | Self::Ramp { at, until: Some(until), .. } => after("until", at, until),
            Self::Sawtooth { period, at, until, .. } => {
                above("period", period, second)?;
                until.map_or(Ok(()), |until| after("until", at, until))
            }
            Self::Sine { period, .. } => above("period", period, second),
            Self::Bursts { every, .. } | Self::Cron { every, .. } => above("every", every, second),
            Self::Diurnal { day, .. } => above("day", day, second),
            Self::Sporadic { shortest, longest, .. } => {
                above("shortest", shortest, second)?;
                above("longest", longest, shortest)
            }
            _ => Ok(()),
        }
    }
}

fn after(key: &str, at: Span, until: Span) -> Result<(), String> {
    if until > at { Ok(()) } else { Err(format!("{key} must be after {at}, when it begins")) }
}

fn one() -> Amount {
    Amount(1.0)
}

fn a_day() -> Span {
    Span::seconds(24 * 3600)
}
