//! What the core knows about a source of samples; how it is asked is the adapter's business.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::spec::ScalingMetric;

/// The name of a source: a key of the ConfigMap `podswell-sources`, or [`SCRAPE`].
pub type SourceName = Arc<str>;

/// The reserved name of pod scraping.
pub const SCRAPE: &str = "scrape";

/// How a source relates to the others of the same measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum Share {
    /// It sees the whole load by itself; the first such source that is heard is used.
    #[default]
    Exclusive,
    /// It sees a part of the load: all additive sources of a measure are summed.
    Additive,
}

impl Share {
    /// The word of a source's definition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Additive => "additive",
        }
    }
}

/// The facts about a named source that decide how its samples are averaged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SourceFacts {
    /// The source's name.
    pub name: SourceName,
    /// What it measures.
    pub kind: ScalingMetric,
    /// How far apart its samples are, 1 s ..= 60 s.
    pub interval: Duration,
    /// How old the newest sample may be before the signal is lost; 2.5 × interval by default.
    pub stale_after: Duration,
    /// The range of a PromQL `rate`, if each sample already is a mean over such a range.
    pub range: Option<Duration>,
    /// Whether the source still sees demand while the target has no pod.
    pub visible_at_zero: bool,
    /// Whether it sees the whole load or a part of it.
    #[cfg_attr(feature = "serde", serde(default))]
    pub share: Share,
    /// Labels by which a workload may choose its series (`podswell.dev/source-match`).
    pub selectable_labels: Vec<String>,
    /// Where workloads bring their own query (`podswell.dev/query`): the label that holds the namespace of
    /// a series, and to which every query is narrowed.
    #[cfg_attr(feature = "serde", serde(default))]
    pub query_label: Option<String>,
}

/// One measurement point of a target, in the order in which the points are preferred.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PointConfig {
    /// The source of this point.
    pub source: SourceName,
    /// How far apart samples are, ≥ 1 s.
    pub interval: Duration,
    /// How old the newest sample may be before the signal is lost.
    pub stale_after: Duration,
    /// The range of a PromQL `rate`, see [`SourceFacts::range`].
    pub range: Option<Duration>,
    /// Whether the source still sees demand while the target has no pod.
    pub visible_at_zero: bool,
    /// Whether it sees the whole load or a part of it.
    #[cfg_attr(feature = "serde", serde(default))]
    pub share: Share,
}

/// How the in-flight requests or the request rate of a pod are read from its own page.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ScrapeFormat {
    /// Knative's queue-proxy: one protobuf `Stat`.
    QueueProxy,
    /// Prometheus text: one gauge of requests in flight.
    InFlight {
        /// Name of the gauge.
        metric: String,
    },
    /// Prometheus text: requests in flight as the difference of two counters of the same pod.
    StartedFinished {
        /// Name of the counter of started requests.
        started: String,
        /// Name of the counter of finished requests.
        finished: String,
    },
    /// Prometheus text: one counter of requests.
    Requests {
        /// Name of the counter.
        metric: String,
    },
}

/// Where and how each pod of a target is scraped (`podswell.dev/scrape`, or `prometheus.io/*`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ScrapeSpec {
    /// TCP port on the pod's address, 1 ..= 65535.
    pub port: u16,
    /// Absolute path, starts with `/`.
    pub path: String,
    /// What is read there.
    pub format: ScrapeFormat,
}

/// PromQL that a target brings along, narrowed to its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OwnQuery {
    /// What is asked about this moment.
    pub text: Arc<str>,
    /// What is asked about earlier ones, to fill a window.
    pub past: Arc<str>,
}

/// What the adapters must ask for on behalf of one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Wiring {
    /// What is measured.
    pub metric: ScalingMetric,
    /// Named sources, most preferred first.
    pub sources: Vec<SourceName>,
    /// Label values that choose this target's series, from `podswell.dev/source-match`.
    pub source_match: BTreeMap<String, String>,
    /// What is asked of each source to which the target brings its own query: PromQL, narrowed to its
    /// namespace.
    #[cfg_attr(feature = "serde", serde(default))]
    pub queries: BTreeMap<SourceName, OwnQuery>,
    /// The most load that one pod may claim, in the metric's unit; more is no load but a mistake. `None`: no
    /// limit.
    #[cfg_attr(feature = "serde", serde(default))]
    pub most_per_pod: Option<u64>,
    /// Whether those labels are meant for several sources, each of which takes the ones that it lists.
    #[cfg_attr(feature = "serde", serde(default))]
    pub match_is_shared: bool,
    /// How its pods are scraped, if they are.
    pub scrape: Option<ScrapeSpec>,
    /// Scrape a sample of the pods as Knative does instead of every pod (`compat: knative`).
    pub sample_pods: bool,
    /// The stable window: how far a window is backfilled, and which pods count as old for sampling.
    pub stable_window: Duration,
}
