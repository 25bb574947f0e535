//! The scalar values of a scenario: checked while they are read, so that an impossible one is reported
//! with its line.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::number::{Micros, micros, micros_of};
use super::super::random::Random;
use crate::core::duration::GoDuration;
use crate::core::text::shown;

/// The longest span that a scenario may name.
const LONGEST: Duration = Duration::from_secs(60 * 24 * 3600);

/// The largest number that a scenario may name.
const LARGEST: f64 = 1e9;

/// A length of time as Go writes it, for example `15s` or `1m30s`; 0 ..= 60 days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// A whole number of seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A whole number of milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    pub(crate) fn micros(self) -> Micros {
        micros(self.0)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_span(&String::deserialize(deserializer)?)
    }
}

fn parse_span<E: Error>(text: &str) -> Result<Span, E> {
    let span = GoDuration::parse(text)
        .ok()
        .filter(|span| span.as_nanos() >= 0 && span.to_std() <= LONGEST);
    span.map(|span| Span(span.to_std())).ok_or_else(|| {
        E::custom(format!("{} is not a duration such as 15s or 1m30s, up to 1440h", shown(text)))
    })
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.subsec_nanos() == 0 {
            write!(f, "{}s", self.0.as_secs())
        } else {
            write!(f, "{}us", self.0.as_micros())
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "a duration as Go writes it, for example 15s or 1m30s",
            "pattern": "^\\+?(0|([0-9]+\\.?[0-9]*|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$"
        })
    }
}

/// A number as it may stand in a line of text: not with hundreds of digits.
fn number(value: f64) -> String {
    if value.abs() < 1e15 { value.to_string() } else { format!("{value:e}") }
}

/// A finite number in 0 ..= 1,000,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64")]
pub struct Amount(pub f64);

impl TryFrom<f64> for Amount {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        if (0.0..=LARGEST).contains(&value) {
            Ok(Self(value))
        } else {
            Err(format!("{} is not in 0 ..= {LARGEST}", number(value)))
        }
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "maximum": 1e9 })
    }
}

/// A probability or a relative amount in 0 ..= 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64")]
pub struct Share(pub f64);

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&value) {
            Ok(Self(value))
        } else {
            Err(format!("{} is not in 0 ..= 1", number(value)))
        }
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
}

/// How long something takes: always the same, or drawn anew each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Always as long.
    Constant(Span),
    /// Exponential with this mean.
    Exponential(Span),
    /// Log-normal.
    LogNormal {
        /// The mean of the times themselves.
        mean: Span,
        /// Their standard deviation.
        deviation: Span,
    },
}

/// The form of a [`Time`] that is drawn.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Drawn {
    /// Always as long.
    Constant(Span),
    /// Exponential with this mean.
    Exponential(Span),
    /// Log-normal.
    LogNormal(LogNormal),
}

/// A log-normal distribution by the mean and standard deviation of its values.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogNormal {
    /// The mean of the times themselves.
    mean: Span,
    /// Their standard deviation.
    deviation: Span,
}

impl Time {
    /// The mean.
    pub fn mean(self) -> Duration {
        match self {
            Self::Constant(mean) | Self::Exponential(mean) | Self::LogNormal { mean, .. } => mean.0,
        }
    }

    pub(crate) fn draw(self, random: &mut Random) -> Micros {
        match self {
            Self::Constant(span) => span.micros(),
            Self::Exponential(mean) => micros_of(random.exponential(mean.0.as_secs_f64())),
            Self::LogNormal { mean, deviation } => {
                micros_of(random.log_normal(mean.0.as_secs_f64(), deviation.0.as_secs_f64()))
            }
        }
    }
}

struct TimeVisitor;

impl<'de> Visitor<'de> for TimeVisitor {
    type Value = Time;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration, or one of constant, exponential and log-normal")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
        parse_span(text).map(Time::Constant)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Time, A::Error> {
        Ok(match Drawn::deserialize(MapAccessDeserializer::new(map))? {
            Drawn::Constant(span) => Time::Constant(span),
            Drawn::Exponential(mean) => Time::Exponential(mean),
            Drawn::LogNormal(LogNormal { mean, .. }) if mean.0.is_zero() => {
                return Err(A::Error::custom("the mean of log-normal must be above 0s"));
            }
            Drawn::LogNormal(LogNormal { mean, deviation }) => Time::LogNormal { mean, deviation },
        })
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeVisitor)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Constant(span) => span.serialize(serializer),
            Self::Exponential(mean) => Drawn::Exponential(mean).serialize(serializer),
            Self::LogNormal { mean, deviation } => {
                Drawn::LogNormal(LogNormal { mean, deviation }).serialize(serializer)
            }
        }
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let span = generator.subschema_for::<Span>();
        let drawn = generator.subschema_for::<Drawn>();
        json_schema!({ "anyOf": [span, drawn] })
    }
}
