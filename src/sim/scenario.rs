//! What a scenario file may say. Every key is described here; `simulations/scenario.schema.json` is made
//! from this file.

mod behavior;
mod fault;
mod load;
mod policy;
mod read;
mod values;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

pub use behavior::{Behavior, Counts, ScalingPolicy, SelectPolicy, Tolerance, Whole};
pub use behavior::{Direction as BehaviorDirection, Rules as BehaviorRules};
pub use fault::{Answer, During, Fault, Lie};
pub use load::{Part, Point, Recorded, Unit};
pub use policy::{
    Autoscaler, Bound, EngineOptions, Expectations, FixedPods, HpaOptions, KedaOptions,
    OptimumOptions, Within,
};
pub use read::{ScenarioError, schema_json};
pub use values::{Amount, Share, Span, Time};

/// The most copies of a workload.
pub const MOST_COPIES: u32 = 5000;

/// A scenario of podswell's simulator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "podswell scenario")]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What the scenario shows, in a sentence or two.
    pub about: String,
    /// What all chance is drawn from.
    pub seed: u64,
    /// How long it lasts; whole seconds.
    pub duration: Span,
    /// Whether load is a stream or single requests.
    #[serde(default)]
    pub detail: Detail,
    /// The workload that is scaled.
    #[serde(default)]
    pub target: Target,
    /// The ConfigMap `config-autoscaler`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// The load: the sum of its parts.
    #[serde(deserialize_with = "checked")]
    #[schemars(length(min = 1))]
    pub load: Vec<Part>,
    /// What the numbers in `load` count.
    #[serde(default)]
    pub unit: Unit,
    /// How requests arrive (only with `detail: requests`).
    #[serde(default)]
    pub arrivals: Arrivals,
    /// How long a pod works on a request.
    #[serde(default = "one_second")]
    pub service: Time,
    /// Where the load is read.
    #[serde(default)]
    pub source: Source,
    /// Pods and the API server.
    #[serde(default)]
    pub cluster: Cluster,
    /// What goes wrong, and when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// Who scales; each runs in a world of its own with the same load and the same chance. By default
    /// podswell, Knative's KPA, HPA, KEDA and the optimum.
    #[serde(
        default = "Autoscaler::all",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "checked"
    )]
    #[schemars(length(min = 1))]
    pub policies: Vec<Autoscaler>,
    /// What must come out, by the name of the policy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expect: BTreeMap<String, Expectations>,
}

/// A value that is checked as a whole while it is read, so that what is wrong is reported with its line.
struct Checked<T>(T);

/// What can be checked as a whole.
trait Check {
    /// What is wrong with it: the key, and why.
    fn check(&self) -> Result<(), String>;
}

impl<'de, T: Deserialize<'de> + Check> Deserialize<'de> for Checked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = T::deserialize(deserializer)?;
        value.check().map_err(D::Error::custom)?;
        Ok(Self(value))
    }
}

fn checked<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de> + Check,
    D: Deserializer<'de>,
{
    let values = Vec::<Checked<T>>::deserialize(deserializer)?;
    Ok(values.into_iter().map(|Checked(value)| value).collect())
}

fn one_second() -> Time {
    Time::Constant(Span::seconds(1))
}

/// Whether load is a stream or single requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// A stream: fast, exact for means, without the noise of single requests.
    #[default]
    Fluid,
    /// Every request with its own arrival, waiting and service.
    Requests,
}

/// How requests arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Independently of each other.
    #[default]
    Poisson,
    /// Evenly spaced.
    Regular,
}

/// The workload that is scaled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Target {
    /// Its annotations, as on the Deployment. Without a class it is `kpa.podswell.dev`.
    pub annotations: BTreeMap<String, String>,
    /// Replicas at the start, all of them ready.
    pub start: u16,
    /// How many such workloads there are, each with its own chance; at most 5000.
    #[schemars(range(min = 1, max = 5000))]
    pub copies: u32,
}

impl Default for Target {
    fn default() -> Self {
        Self { annotations: BTreeMap::new(), start: 1, copies: 1 }
    }
}

/// Where the load is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Source {
    /// How far apart samples are; 1s ..= 60s.
    pub interval: Span,
    /// The range of a PromQL rate, if each sample is a mean over such a range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<Span>,
    /// How old the newest sample may be before the signal counts as lost; 2.5 intervals by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_after: Option<Span>,
    /// How long a sample is on its way.
    pub delay: Time,
    /// The share of samples that never arrive.
    pub loss: Share,
    /// The relative standard deviation of what is read.
    pub noise: Share,
    /// Whether it sees demand while no pod runs.
    pub at_zero: bool,
    /// What it sees.
    pub sees: Sees,
    /// Whether samples carry a time stamp of the wall clock, so that their age is known on arrival.
    pub stamped: bool,
}

impl Default for Source {
    fn default() -> Self {
        Self {
            interval: Span::seconds(1),
            range: None,
            stale_after: None,
            delay: Time::Constant(Span::default()),
            loss: Share(0.0),
            noise: Share(0.0),
            at_zero: false,
            sees: Sees::All,
            stamped: true,
        }
    }
}

/// What a source sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sees {
    /// Waiting requests and those in service (a gateway, a queue, Knative's queue-proxies).
    #[default]
    All,
    /// Only what pods work at.
    Served,
}

/// Pods and the API server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// From the write of more replicas until a new pod is ready.
    pub pod_start: Time,
    /// Requests that a pod serves at once; more wait. By default what the target annotation says a pod
    /// can bear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Amount>,
    /// Whether requests are held while no pod is ready; otherwise they are lost.
    pub holds: bool,
    /// The most requests that wait; more are lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_limit: Option<Amount>,
    /// How long a removed pod may go on with the requests that it has; what is left then is lost.
    pub grace: Span,
    /// How long a write of replicas takes.
    pub write: Time,
    /// The most pods for which there is room; more stay pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<u32>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            pod_start: Time::Constant(Span::seconds(3)),
            capacity: None,
            holds: true,
            queue_limit: None,
            grace: Span::seconds(30),
            write: Time::Constant(Span::millis(10)),
            room: None,
        }
    }
}
