//! The `behavior` of a `HorizontalPodAutoscaler`, written as in its manifest.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::core::text::shown;

/// Which rules of Kubernetes' `autoscaling/v2` an HPA follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Behavior {
    /// Without a `behavior`: the highest recommendation of the stabilization window is taken, upwards
    /// too, and replicas at most double.
    None,
    /// With one, and the API's defaults in it.
    #[default]
    Defaults,
    /// With this one; what it leaves out is the API's default.
    Rules(Rules),
}

/// The rules of both directions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Rules {
    /// Upwards; by default 4 pods or 100 % in 15 s, whichever is more.
    pub scale_up: Direction,
    /// Downwards; by default freely after the stabilization window.
    pub scale_down: Direction,
}

/// The rules of one direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Direction {
    /// How far back recommendations hold replicas where they are, in seconds; by default 0 upwards and
    /// the `stabilization` downwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stabilization_window_seconds: Option<Whole<0, 3600>>,
    /// Which of the policies counts.
    pub select_policy: SelectPolicy,
    /// The policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<ScalingPolicy>>,
    /// How far the ratio may be from 1 without anything being done; by default the HPA's `tolerance`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Tolerance>,
}

/// Which of several policies counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectPolicy {
    /// The one that allows most.
    #[default]
    Max,
    /// The one that allows least.
    Min,
    /// None: nothing moves in this direction.
    Disabled,
}

/// No more than this within a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScalingPolicy {
    /// What `value` counts.
    #[serde(rename = "type")]
    pub counts: Counts,
    /// How much.
    pub value: Whole<1, 1_000_000_000>,
    /// Within how many seconds.
    pub period_seconds: Whole<1, 1800>,
}

/// What the value of a policy counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Counts {
    /// Pods.
    Pods,
    /// Percent of the pods at the start of the period.
    Percent,
}

/// A whole number in `LEAST ..= MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32")]
pub struct Whole<const LEAST: u32, const MOST: u32>(pub u32);

impl<const LEAST: u32, const MOST: u32> TryFrom<u32> for Whole<LEAST, MOST> {
    type Error = String;

    fn try_from(value: u32) -> Result<Self, String> {
        if (LEAST..=MOST).contains(&value) {
            Ok(Self(value))
        } else {
            Err(format!("{value} is not in {LEAST} ..= {MOST}"))
        }
    }
}

impl<const LEAST: u32, const MOST: u32> JsonSchema for Whole<LEAST, MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("From{LEAST}To{MOST}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": LEAST, "maximum": MOST })
    }
}

/// A ratio ≥ 0, as a number or as a Kubernetes quantity such as `50m`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tolerance(pub f64);

struct ToleranceVisitor;

impl Visitor<'_> for ToleranceVisitor {
    type Value = Tolerance;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of at least 0, or thousandths such as 50m")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Tolerance, E> {
        let fits = (0.0..=1e6).contains(&value);
        fits.then_some(Tolerance(value))
            .ok_or_else(|| E::custom(format!("{value} is not in 0 ..= 1000000")))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Tolerance, E> {
        self.visit_f64(super::super::number::real(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Tolerance, E> {
        let (digits, unit) = text.strip_suffix('m').map_or((text, 1.0), |digits| (digits, 1000.0));
        match digits.parse::<f64>() {
            Ok(value) => self.visit_f64(value / unit),
            Err(_not_a_number) => Err(E::custom(format!("{} is no quantity", shown(text)))),
        }
    }
}

impl<'de> Deserialize<'de> for Tolerance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ToleranceVisitor)
    }
}

impl JsonSchema for Tolerance {
    fn schema_name() -> Cow<'static, str> {
        "Tolerance".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["number", "string"], "minimum": 0, "pattern": "^[0-9]+(\\.[0-9]+)?m?$"
        })
    }
}

struct BehaviorVisitor;

impl<'de> Visitor<'de> for BehaviorVisitor {
    type Value = Behavior;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, or the behavior of an HPA")
    }

    fn visit_bool<E: Error>(self, with: bool) -> Result<Behavior, E> {
        Ok(if with { Behavior::Defaults } else { Behavior::None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Behavior, A::Error> {
        Rules::deserialize(MapAccessDeserializer::new(map)).map(Behavior::Rules)
    }
}

impl<'de> Deserialize<'de> for Behavior {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BehaviorVisitor)
    }
}

impl Serialize for Behavior {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_bool(false),
            Self::Defaults => serializer.serialize_bool(true),
            Self::Rules(rules) => rules.serialize(serializer),
        }
    }
}

impl JsonSchema for Behavior {
    fn schema_name() -> Cow<'static, str> {
        "Behavior".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rules = generator.subschema_for::<Rules>();
        json_schema!({ "anyOf": [{ "type": "boolean" }, rules] })
    }
}
