//! From annotations, ConfigMaps and flags to one [`TargetConfig`], with the origin of every value.

mod authority;
mod points;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::points::Measured;
use super::annotations::{self, Annotations, CLASS_PODSWELL, RunTimeValues};
use super::config::{Provenance, TargetConfig, ZeroConfig};
use super::defaults::{ClusterDefaults, TARGET_MIN};
use super::keys::{self, Group, KEYS, Key};
use super::number;
use super::policy::Mode;
use super::problem::{Problem, ProblemCode};
use super::source::{SourceFacts, SourceName, Wiring};
use super::spec::{ScaleBounds, ScalerSpec, ScalingMetric, Semantics};

/// What the process itself was told by flags and by the ConfigMap `podswell`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProcessSettings {
    /// `--mode`.
    pub mode: Mode,
    /// `--compat`.
    pub compat: Semantics,
    /// `--default-max-scale`: the ceiling where max-scale is absent or 0 (not under Knative's
    /// semantics), ≥ 1.
    pub default_max_scale: i32,
    /// `--adopt-namespaces`: where Knative's own class values count as ours on Deployments that no
    /// Knative Revision owns.
    pub adopt_namespaces: BTreeSet<String>,
    /// `freeze` of the ConfigMap `podswell`: nothing is written anywhere.
    pub freeze: bool,
    /// `--keda-addresses`: the `host:port` under which KEDA reaches this podswell, as `scalerAddress`
    /// spells it. A `ScaledObject` that asks there follows podswell; empty: none does.
    pub keda_addresses: BTreeSet<String>,
}

impl Default for ProcessSettings {
    fn default() -> Self {
        Self {
            mode: Mode::Apply,
            compat: Semantics::Default,
            default_max_scale: 100,
            adopt_namespaces: BTreeSet::new(),
            freeze: false,
            keda_addresses: BTreeSet::new(),
        }
    }
}

/// Everything that decides the configuration of one target.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// `config-autoscaler`.
    pub defaults: &'a ClusterDefaults,
    /// The keys that `config-autoscaler` really holds, for the provenance of values.
    pub defaults_set: &'a BTreeSet<String>,
    /// Flags and the ConfigMap `podswell`.
    pub process: &'a ProcessSettings,
    /// The named sources.
    pub sources: &'a BTreeMap<SourceName, SourceFacts>,
    /// The namespace's name.
    pub namespace: &'a str,
    /// Annotations of the namespace.
    pub namespace_annotations: &'a BTreeMap<String, String>,
    /// Annotations of the Deployment.
    pub annotations: &'a BTreeMap<String, String>,
    /// Annotations of its pod template.
    pub template_annotations: &'a BTreeMap<String, String>,
    /// Whether a Knative Revision (or another Knative object) owns the Deployment.
    pub owned_by_knative: bool,
    /// `spec.progressDeadlineSeconds`.
    pub progress_deadline: Option<Duration>,
}

/// A target's configuration and what has to be asked on its behalf.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// For the engine.
    pub config: TargetConfig,
    /// For the sources.
    pub wiring: Wiring,
}

/// The least panic threshold that is believed from the ConfigMap, a ratio; below it steady load alone
/// would be panic.
const PANIC_THRESHOLD_MIN: f64 = 1.1;

/// The panic threshold where the ConfigMap's is not believed.
const PANIC_THRESHOLD_DEFAULT: f64 = 2.0;

/// Kubernetes' own default of `spec.progressDeadlineSeconds`.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(600);

/// How much longer than the progress deadline a target may be activating.
const ACTIVATION_BUFFER: Duration = Duration::from_secs(30);

/// Merges all inputs. `None` when neither the Deployment nor its pod template carries an
/// `autoscaling.knative.dev/*` key: then podswell does not look at it at all.
pub fn resolve(inputs: &Inputs<'_>) -> Option<Resolved> {
    let prefix = Group::Autoscaling.prefix();
    let mut keys = inputs.annotations.keys().chain(inputs.template_annotations.keys());
    keys.find(|key| key.starts_with(prefix))?;

    let mut read =
        annotations::read(inputs.annotations, inputs.template_annotations, inputs.defaults);
    let mut forced = BTreeMap::new();
    let consent = authority::consent(inputs, &mut read);
    let (mode, mode_from) = authority::mode(inputs, &mut read);
    forced.insert(keys::MODE.index(), mode_from);

    let metric = metric(&mut read);
    let values = run_time_values(inputs, &read, metric);
    let measured = points::resolve(inputs, &mut read, metric, values.stable_window.to_std());
    let semantics = semantics(inputs, &mut read, &measured, &mut forced);
    let bounds = bounds(inputs, &mut read, &values, semantics, &mut forced);
    let spec = spec(inputs, &mut read, metric, &values, semantics, bounds);
    let zero = ZeroConfig {
        enabled: inputs.defaults.enable_scale_to_zero,
        retention: values.retention.to_std(),
        activation_timeout: inputs
            .progress_deadline
            .unwrap_or(PROGRESS_DEADLINE)
            .saturating_add(ACTIVATION_BUFFER),
        activation_value: 0,
    };
    let wiring = Wiring {
        metric,
        sources: measured.sources,
        source_match: measured.source_match,
        scrape: measured.scrape,
        sample_pods: semantics == Semantics::Knative,
        stable_window: spec.stable_window,
    };
    let provenance = provenance(inputs, &read, metric, &forced);
    let config = TargetConfig {
        consent,
        mode,
        semantics,
        spec,
        bounds,
        zero,
        points: measured.points,
        problems: read.bounded_problems(),
        provenance,
    };
    Some(Resolved { config, wiring })
}

/// What is measured. `events` and `backlog` need our class and a target; without them the metric stays,
/// but nothing is measured for it ([`measurable`]), so that replicas stay as well.
fn metric(read: &mut Annotations) -> ScalingMetric {
    let metric = match read.get(&keys::METRIC) {
        Some("rps") => ScalingMetric::Rps,
        Some("events") => ScalingMetric::Events,
        Some("backlog") => ScalingMetric::Backlog,
        _ => ScalingMetric::Concurrency,
    };
    if !measurable(read, metric) {
        read.report(Problem {
            code: ProblemCode::TargetRequired,
            key: keys::METRIC.annotation(),
            why: format!(
                "{} needs the class {CLASS_PODSWELL} and the annotation {}",
                metric.as_str(),
                keys::TARGET.annotation()
            ),
            fallback: "nothing is measured, replicas stay".to_owned(),
        });
    }
    metric
}

/// Whether a metric may be measured with these annotations.
fn measurable(read: &Annotations, metric: ScalingMetric) -> bool {
    match metric {
        ScalingMetric::Concurrency | ScalingMetric::Rps => true,
        ScalingMetric::Events | ScalingMetric::Backlog => {
            read.get(&keys::CLASS) == Some(CLASS_PODSWELL) && read.get(&keys::TARGET).is_some()
        }
    }
}

/// Knative's numbers, with targets for the metrics that it lacks.
fn run_time_values(
    inputs: &Inputs<'_>,
    read: &Annotations,
    metric: ScalingMetric,
) -> RunTimeValues {
    let concurrency = container_concurrency(read);
    let mut values = RunTimeValues::read(
        &read.accepted,
        inputs.defaults,
        metric.as_str(),
        i64::from(concurrency),
        true,
    );
    let utilization = match metric {
        ScalingMetric::Concurrency | ScalingMetric::Rps => return values,
        ScalingMetric::Events => 0.7,
        ScalingMetric::Backlog => 1.0,
    };
    values.total = float(read, &keys::TARGET).unwrap_or(1.0);
    values.utilization =
        float(read, &keys::TARGET_UTILIZATION).map_or(utilization, |percentage| percentage / 100.0);
    values.target = (values.total * values.utilization).max(TARGET_MIN);
    values
}

fn float(read: &Annotations, key: &Key) -> Option<f64> {
    number::parse_float(read.get(key)?).ok()
}

fn container_concurrency(read: &Annotations) -> i32 {
    read.get(&keys::CONTAINER_CONCURRENCY)
        .and_then(|text| number::parse_i32(text).ok())
        .unwrap_or(0)
}

/// Whose arithmetic decides. Knative's needs one sample a second from every point.
fn semantics(
    inputs: &Inputs<'_>,
    read: &mut Annotations,
    measured: &Measured,
    forced: &mut BTreeMap<u8, Provenance>,
) -> Semantics {
    let wanted = match read.get(&keys::COMPAT) {
        Some("knative") => Semantics::Knative,
        Some(_) => Semantics::Default,
        None => {
            if inputs.process.compat != Semantics::Default {
                forced.insert(keys::COMPAT.index(), Provenance::Flag);
            }
            inputs.process.compat
        }
    };
    if wanted == Semantics::Default {
        return wanted;
    }
    let second = Duration::from_secs(1);
    let Some(slow) = measured.points.iter().find(|point| point.interval != second) else {
        return wanted;
    };
    read.report(Problem {
        code: ProblemCode::CompatNeedsOneSecond,
        key: keys::COMPAT.annotation(),
        why: format!(
            "knative needs one sample a second, the source {} gives one every {} s",
            slow.source,
            slow.interval.as_secs_f64()
        ),
        fallback: "the default semantics decide".to_owned(),
    });
    Semantics::Default
}

/// The least and the most replicas: the cluster's limit and the process-wide ceiling apply, and min is
/// never above max.
fn bounds(
    inputs: &Inputs<'_>,
    read: &mut Annotations,
    values: &RunTimeValues,
    semantics: Semantics,
    forced: &mut BTreeMap<u8, Provenance>,
) -> ScaleBounds {
    let (mut min, mut max) = (values.min_scale, values.max_scale);
    let limit = inputs.defaults.max_scale_limit;
    if limit > 0 && (max == 0 || max > limit) {
        let written = if max == 0 { "0 (no ceiling)".to_owned() } else { max.to_string() };
        read.report(Problem {
            code: ProblemCode::InvalidAnnotation,
            key: keys::MAX_SCALE.annotation(),
            why: format!("{written} is above the cluster's max-scale-limit {limit}"),
            fallback: format!("{limit} is the ceiling"),
        });
        forced.insert(keys::MAX_SCALE.index(), Provenance::ConfigMap);
        max = limit;
    }
    if max == 0 && semantics == Semantics::Default {
        max = inputs.process.default_max_scale.max(1);
        read.report(Problem {
            code: ProblemCode::DefaultMaxScale,
            key: keys::MAX_SCALE.annotation(),
            why: "no max-scale is set".to_owned(),
            fallback: format!("the process-wide ceiling of {max} applies"),
        });
        forced.insert(keys::MAX_SCALE.index(), Provenance::Flag);
    }
    if max != 0 && min > max {
        read.report(Problem {
            code: ProblemCode::MinAboveMax,
            key: keys::MIN_SCALE.annotation(),
            why: format!("min-scale {min} is above max-scale {max}"),
            fallback: format!("{max} is the ceiling and the floor"),
        });
        min = max;
    }
    ScaleBounds { min, max }
}

/// The decider's numbers, with the repairs of the default semantics.
fn spec(
    inputs: &Inputs<'_>,
    read: &mut Annotations,
    metric: ScalingMetric,
    values: &RunTimeValues,
    semantics: Semantics,
    bounds: ScaleBounds,
) -> ScalerSpec {
    let mut panic_threshold = values.panic_threshold;
    let mut initial_scale = values.initial_scale;
    if semantics == Semantics::Default {
        if panic_threshold < PANIC_THRESHOLD_MIN {
            read.report(Problem {
                code: ProblemCode::InvalidConfigMap,
                key: keys::PANIC_THRESHOLD.name.to_owned(),
                why: format!("{} would be panic for ever", panic_threshold * 100.0),
                fallback: "200 is used".to_owned(),
            });
            panic_threshold = PANIC_THRESHOLD_DEFAULT;
        }
        if bounds.max != 0 && initial_scale > bounds.max {
            if read.get(&keys::INITIAL_SCALE).is_some() {
                read.report(Problem {
                    code: ProblemCode::InvalidAnnotation,
                    key: keys::INITIAL_SCALE.annotation(),
                    why: format!("{initial_scale} is above max-scale {}", bounds.max),
                    fallback: format!("{} is used", bounds.max),
                });
            }
            initial_scale = bounds.max;
        }
    }
    ScalerSpec {
        metric,
        target: values.target,
        total: values.total,
        target_burst_capacity: values.target_burst_capacity,
        panic_threshold,
        stable_window: values.stable_window.to_std(),
        panic_window: values.panic_window.to_std(),
        aggregation: values.aggregation,
        max_scale_up_rate: float(read, &keys::MAX_SCALE_UP_RATE)
            .unwrap_or(inputs.defaults.max_scale_up_rate),
        max_scale_down_rate: float(read, &keys::MAX_SCALE_DOWN_RATE)
            .unwrap_or(inputs.defaults.max_scale_down_rate),
        scale_down_delay: values.scale_down_delay.to_std(),
        initial_scale,
        activation_scale: values.activation_scale,
        reachable: true,
    }
}

/// Where each value comes from, by key; keys that are at their built-in default have no entry.
fn provenance(
    inputs: &Inputs<'_>,
    read: &Annotations,
    metric: ScalingMetric,
    forced: &BTreeMap<u8, Provenance>,
) -> Vec<(u8, Provenance)> {
    let from_config_map = |key: &Key| {
        let name = match (key.name, metric) {
            (name, ScalingMetric::Concurrency) if name == keys::TARGET.name => {
                keys::CC_TARGET_DEFAULT.name
            }
            (name, ScalingMetric::Rps) if name == keys::TARGET.name => {
                keys::RPS_TARGET_DEFAULT.name
            }
            (name, ScalingMetric::Concurrency) if name == keys::TARGET_UTILIZATION.name => {
                keys::CC_TARGET_PERCENTAGE.name
            }
            _ => key.config_map_key()?,
        };
        inputs.defaults_set.contains(name).then_some(Provenance::ConfigMap)
    };
    let mut origins: BTreeMap<u8, Provenance> = KEYS
        .iter()
        .filter_map(|key| {
            let index = key.index();
            let origin = read.origins.get(&index).copied().or_else(|| from_config_map(key))?;
            Some((index, origin))
        })
        .collect();
    // The most requests that a pod takes at once may be what sets the target.
    let concurrency = keys::CONTAINER_CONCURRENCY.index();
    let limit = container_concurrency(read);
    let limits = metric == ScalingMetric::Concurrency
        && limit != 0
        && float(read, &keys::TARGET).is_none_or(|target| target > f64::from(limit));
    if let Some(origin) = origins.get(&concurrency).copied().filter(|_| limits) {
        origins.insert(keys::TARGET.index(), origin);
    }
    for (key, origin) in forced {
        if *origin == Provenance::Default {
            origins.remove(key);
        } else {
            origins.insert(*key, *origin);
        }
    }
    origins.into_iter().collect()
}
