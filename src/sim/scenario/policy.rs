//! Who scales in a scenario, and what is expected of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::behavior::Behavior;
use super::values::{Share, Span};

macro_rules! autoscalers {
    ($($(#[doc = $doc:literal])+ $kind:ident($options:ty) $name:literal;)*) => {
        /// An autoscaler and its settings; a name alone means its defaults.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        pub enum Autoscaler {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $kind($options),)*
        }

        #[derive(Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        enum WithOptions {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $kind($options),)*
        }

        impl From<WithOptions> for Autoscaler {
            fn from(options: WithOptions) -> Self {
                match options { $(WithOptions::$kind(options) => Self::$kind(options),)* }
            }
        }

        impl Autoscaler {
            /// The names of all kinds.
            const KINDS: &[&str] = &[$($name),*];

            /// How reports name it.
            pub fn name(&self) -> String {
                let (name, kind) = match self { $(Self::$kind(options) => (&options.name, $name),)* };
                name.clone().unwrap_or_else(|| kind.to_owned())
            }
        }
    };
}

autoscalers! {
    /// podswell with its default semantics.
    Podswell(EngineOptions) "podswell";
    /// Knative's KPA: podswell's engine with `compat: knative`, reading its pods each second.
    Knative(EngineOptions) "knative";
    /// The `HorizontalPodAutoscaler` on the same measure, as an `AverageValue`.
    Hpa(HpaOptions) "hpa";
    /// KEDA: its own poll between 0 and 1, an HPA above.
    Keda(KedaOptions) "keda";
    /// Always as many.
    Fixed(FixedPods) "fixed";
    /// What a clairvoyant would have needed at least: a bound, not a policy.
    Optimum(OptimumOptions) "optimum";
}

/// The kind that is nothing without its options.
const NOT_ALONE: &str = "fixed";

impl Autoscaler {
    /// The default list.
    pub(crate) fn all() -> Vec<Self> {
        vec![
            Self::Podswell(EngineOptions::default()),
            Self::Knative(EngineOptions::default()),
            Self::Hpa(HpaOptions::default()),
            Self::Keda(KedaOptions::default()),
            Self::Optimum(OptimumOptions::default()),
        ]
    }
}

impl super::Check for Autoscaler {
    fn check(&self) -> Result<(), String> {
        let second = Span::seconds(1);
        let spans = match self {
            Self::Hpa(options) => vec![("sync", options.sync)],
            Self::Keda(options) => vec![("poll", options.poll), ("sync", options.hpa.sync)],
            _ => Vec::new(),
        };
        match spans.into_iter().find(|&(_, span)| span < second) {
            Some((key, _)) => Err(format!("{key} must be at least {second}")),
            None => Ok(()),
        }
    }
}

struct AutoscalerVisitor;

impl<'de> Visitor<'de> for AutoscalerVisitor {
    type Value = Autoscaler;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("podswell, knative, hpa, keda or optimum, or one of them or fixed with options")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Autoscaler, E> {
        if text == NOT_ALONE {
            return Err(E::custom(format!("{text} needs options")));
        }
        // As if it had been written with empty options.
        let options = MapDeserializer::new(std::iter::empty::<(&str, &str)>());
        let map = MapDeserializer::new(std::iter::once((text, options)));
        WithOptions::deserialize(MapAccessDeserializer::new(map)).map(Autoscaler::from)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Autoscaler, A::Error> {
        WithOptions::deserialize(MapAccessDeserializer::new(map)).map(Autoscaler::from)
    }
}

impl<'de> Deserialize<'de> for Autoscaler {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AutoscalerVisitor)
    }
}

impl JsonSchema for Autoscaler {
    fn schema_name() -> Cow<'static, str> {
        "Autoscaler".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let alone = Self::KINDS.iter().filter(|kind| **kind != NOT_ALONE).collect::<Vec<_>>();
        let options = generator.subschema_for::<WithOptions>();
        json_schema!({ "anyOf": [{ "type": "string", "enum": alone }, options] })
    }
}

/// Settings of podswell and of Knative's KPA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineOptions {
    /// How reports name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Annotations that replace those of the target.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Settings of the `HorizontalPodAutoscaler`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HpaOptions {
    /// How reports name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// From one sync to the next, at a random phase.
    pub sync: Span,
    /// How much older the metric is than the source's newest sample.
    pub metric_age: Span,
    /// How far the ratio may be from 1 without anything being done.
    pub tolerance: Share,
    /// How long the highest recommendation is held before replicas fall.
    pub stabilization: Span,
    /// The object's `behavior`: `true` for one with the API's defaults, `false` for none, or one as it
    /// stands in a manifest.
    pub behavior: Behavior,
}

impl Default for HpaOptions {
    fn default() -> Self {
        Self {
            name: None,
            sync: Span::seconds(15),
            metric_age: Span::default(),
            tolerance: Share(0.1),
            stabilization: Span::seconds(300),
            behavior: Behavior::Defaults,
        }
    }
}

/// Settings of KEDA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KedaOptions {
    /// How reports name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// KEDA's `pollingInterval`, at a random phase.
    pub poll: Span,
    /// KEDA's `cooldownPeriod`.
    pub cooldown: Span,
    /// The HPA that it makes.
    pub hpa: HpaOptions,
}

impl Default for KedaOptions {
    fn default() -> Self {
        Self {
            name: None,
            poll: Span::seconds(30),
            cooldown: Span::seconds(300),
            hpa: HpaOptions { behavior: Behavior::None, ..HpaOptions::default() },
        }
    }
}

/// A fixed size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixedPods {
    /// How reports name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How many.
    pub pods: u16,
}

/// Settings of the lower bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OptimumOptions {
    /// How reports name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What a start costs, in time of a running pod.
    pub start_price: Span,
}

/// What a number must be: exactly this, or within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Bound {
    /// Exactly.
    Exactly(f64),
    /// Within.
    Within(Within),
}

struct BoundVisitor;

impl<'de> Visitor<'de> for BoundVisitor {
    type Value = Bound;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a mapping with at_least or at_most")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Bound, E> {
        Ok(Bound::Exactly(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Bound, E> {
        self.visit_f64(super::super::number::real(value))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Bound, A::Error> {
        Within::deserialize(MapAccessDeserializer::new(map)).map(Bound::Within)
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BoundVisitor)
    }
}

/// Bounds of a number, both inclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Within {
    /// Not less.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "finite")]
    pub at_least: Option<f64>,
    /// Not more.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "finite")]
    pub at_most: Option<f64>,
}

fn finite<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let value = Option::<f64>::deserialize(deserializer)?;
    if value.is_none_or(f64::is_finite) {
        Ok(value)
    } else {
        Err(D::Error::custom("must be a finite number"))
    }
}

impl Bound {
    /// Whether `value` is within.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::Exactly(wanted) => (value - wanted).abs() <= 1e-9 * wanted.abs().max(1.0),
            Self::Within(Within { at_least, at_most }) => {
                at_least.is_none_or(|least| value >= least)
                    && at_most.is_none_or(|most| value <= most)
            }
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exactly(value) => write!(f, "exactly {value}"),
            Self::Within(Within { at_least, at_most }) => match (at_least, at_most) {
                (Some(least), Some(most)) => write!(f, "{least} ..= {most}"),
                (Some(least), None) => write!(f, "at least {least}"),
                (None, Some(most)) => write!(f, "at most {most}"),
                (None, None) => f.write_str("anything"),
            },
        }
    }
}

macro_rules! expectations {
    ($($(#[doc = $doc:literal])+ $name:ident;)*) => {
        /// What must come out of a policy: bounds on the figures of its report.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct Expectations {
            $($(#[doc = $doc])+ #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<Bound>,)*
        }

        impl Expectations {
            /// All bounds with the name of the figure that each holds for.
            pub(crate) fn bounds(&self) -> Vec<(&'static str, Bound)> {
                [$((stringify!($name), self.$name),)*]
                    .into_iter()
                    .filter_map(|(name, bound)| Some((name, bound?)))
                    .collect()
            }
        }
    };
}

expectations! {
    /// Pods that were paid for, from their creation to their end, times seconds.
    pod_seconds;
    /// Pods that were ready but not needed, times seconds.
    idle_pod_seconds;
    /// Pods that were needed but not ready, times seconds.
    unmet_pod_seconds;
    /// The longest time with too few ready pods, in seconds.
    full_scale_s;
    /// Pods that were started.
    starts;
    /// How often replicas turned from rising to falling or back.
    direction_changes;
    /// Writes of replicas that were stored.
    writes;
    /// Requests that found no ready pod.
    cold_starts;
    /// Requests that waited for longer than a millisecond.
    delayed;
    /// Requests that were lost.
    lost;
    /// All requests.
    requests;
    /// The median response time in seconds.
    p50_s;
    /// The 99th percentile of the response time in seconds.
    p99_s;
    /// The most replicas.
    max_scale;
    /// The replicas at the end.
    final_scale;
    /// How often panic mode was entered.
    panic_entries;
    /// When replicas were 0 for the first time, in seconds.
    zero_at_s;
    /// Pod-seconds divided by those of the optimum.
    of_optimum;
    /// Broken promises.
    violations;
}
