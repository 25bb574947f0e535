//! From annotations, ConfigMaps and flags to one [`TargetConfig`], with the origin of every value.

mod authority;
mod brought;
mod measures;
mod points;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use self::authority::namespace_problems;
use self::measures::Wish;
use self::points::{Measured, MeasuredPoints};
use super::annotations::{self, Annotations, RunTimeValues};
use super::config::{CompanionConfig, MeasureConfig, Provenance, TargetConfig, ZeroConfig};
use super::defaults::{ClusterDefaults, TARGET_MIN};
use super::duration::GoDuration;
use super::keys::{self, Group, KEYS, Key};
use super::number;
use super::on_missing::OnMissing;
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
    /// `--query-namespaces`: where workloads may bring their own PromQL (`podswell.dev/query`).
    #[cfg_attr(feature = "serde", serde(default))]
    pub query_namespaces: BTreeSet<String>,
    /// `--pod-plausibility-cap`: how many times its target one pod may claim to bear, ≥ 1.
    #[cfg_attr(feature = "serde", serde(default = "default_pod_plausibility_cap"))]
    pub pod_plausibility_cap: u32,
}

/// What no pod bears: a million times its target. What claims more is broken, or lies.
pub const DEFAULT_POD_PLAUSIBILITY_CAP: u32 = 1_000_000;

#[cfg(feature = "serde")]
fn default_pod_plausibility_cap() -> u32 {
    DEFAULT_POD_PLAUSIBILITY_CAP
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
            query_namespaces: BTreeSet::new(),
            pod_plausibility_cap: DEFAULT_POD_PLAUSIBILITY_CAP,
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
    /// The Deployment's name.
    pub name: &'a str,
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
    for problem in namespace_problems(inputs.namespace_annotations) {
        read.report(problem);
    }
    let pause = authority::pause(inputs, &mut read);
    if let Some((_, from)) = pause.until {
        forced.insert(keys::PAUSED_UNTIL.index(), from);
    }
    let (mode, mode_from) = authority::mode(inputs, &mut read, &pause);
    forced.insert(keys::MODE.index(), mode_from);

    let wishes = measures::read(&mut read);
    let metric = wishes.first_metric();
    let values: Vec<RunTimeValues> = wishes
        .list
        .iter()
        .enumerate()
        .map(|(at, wish)| run_time_values(inputs, &measures::annotations_of(&read, at, wish), wish))
        .collect();
    let first = values.first()?;
    let measured = points::resolve(inputs, &mut read, &wishes, first.stable_window.to_std());
    let semantics = semantics(inputs, &mut read, &measured, &mut forced);
    let bounds = bounds(inputs, &mut read, first, semantics, &mut forced);
    let spec = spec(inputs, &mut read, metric, first, semantics, bounds);
    measures::report_unused(&mut read, &wishes);
    let own_target = wishes.list.first().is_some_and(|wish| wish.target.is_some());
    if let Some(from) = read.origins.get(&keys::MEASURES.index()).filter(|_| own_target) {
        forced.insert(keys::TARGET.index(), *from);
    }
    let wiring = Wiring {
        metric: measured.scrape_metric.unwrap_or(metric),
        match_is_shared: wishes.are_listed(),
        sample_pods: semantics == Semantics::Knative,
        stable_window: spec.stable_window,
        most_per_pod: most_per_pod(&values, inputs.process.pod_plausibility_cap),
        ..measured.wiring
    };
    let drain_time = duration(&read, &keys::DRAIN_TIME).unwrap_or(spec.stable_window);
    let mut measures = wishes
        .list
        .iter()
        .zip(&values)
        .zip(measured.measures)
        .map(|((wish, values), points)| measure(wish, values, points, &spec, drain_time));
    let first = measures.next()?;
    let further = measures.collect();
    let config = TargetConfig {
        consent,
        mode,
        paused_until: pause.until.map(|(until, _)| until),
        on_missing: read.get(&keys::ON_MISSING).and_then(|text| OnMissing::parse(text).ok()?),
        semantics,
        measure: first.name,
        spec: first.spec,
        bounds,
        zero: zero(inputs, &read, values.first()?),
        points: first.points,
        companion: first.companion,
        further,
        provenance: provenance(inputs, &read, metric, &forced),
        problems: read.bounded_problems(),
    };
    Some(Resolved { config, wiring })
}

/// The most load that is believed of one pod: that of the measure with the highest target.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturating is meant: a target that large limits nothing"
)]
fn most_per_pod(values: &[RunTimeValues], cap: u32) -> Option<u64> {
    let highest = values.iter().map(|values| values.total).reduce(f64::max)?;
    Some((highest * f64::from(cap.max(1))).ceil() as u64)
}

fn zero(inputs: &Inputs<'_>, read: &Annotations, values: &RunTimeValues) -> ZeroConfig {
    let activation_value = read
        .get(&keys::ACTIVATION_VALUE)
        .and_then(|text| u32::try_from(number::parse_i32(text).ok()?).ok());
    ZeroConfig {
        enabled: inputs.defaults.enable_scale_to_zero,
        retention: values.retention.to_std(),
        activation_timeout: inputs
            .progress_deadline
            .unwrap_or(PROGRESS_DEADLINE)
            .saturating_add(ACTIVATION_BUFFER),
        activation_value: activation_value.unwrap_or(0),
    }
}

/// One measure: its own metric and target, and `spec`'s numbers for all else.
fn measure(
    wish: &Wish,
    values: &RunTimeValues,
    points: MeasuredPoints,
    spec: &ScalerSpec,
    drain_time: Duration,
) -> MeasureConfig {
    let spec = ScalerSpec {
        metric: wish.metric,
        target: values.target,
        total: values.total,
        ..spec.clone()
    };
    let companion = (!wish.companion.is_empty())
        .then_some(CompanionConfig { points: points.companion, drain_time });
    MeasureConfig { name: wish.name.clone(), spec, points: points.points, companion }
}

/// Knative's numbers for one measure, with targets for the metrics that it lacks.
fn run_time_values(
    inputs: &Inputs<'_>,
    accepted: &BTreeMap<String, String>,
    wish: &Wish,
) -> RunTimeValues {
    let concurrency = container_concurrency(accepted);
    let mut values = RunTimeValues::read(
        accepted,
        inputs.defaults,
        wish.metric.as_str(),
        i64::from(concurrency),
        true,
    );
    let utilization = match wish.metric {
        ScalingMetric::Concurrency | ScalingMetric::Rps => return values,
        ScalingMetric::Events => 0.7,
        ScalingMetric::Backlog => 1.0,
    };
    values.total = float(accepted, &keys::TARGET).unwrap_or(1.0);
    values.utilization = float(accepted, &keys::TARGET_UTILIZATION)
        .map_or(utilization, |percentage| percentage / 100.0);
    values.target = (values.total * values.utilization).max(TARGET_MIN);
    values
}

fn float(accepted: &BTreeMap<String, String>, key: &Key) -> Option<f64> {
    number::parse_float(annotations::lookup(accepted, key)?.value).ok()
}

fn duration(read: &Annotations, key: &Key) -> Option<Duration> {
    GoDuration::parse(read.get(key)?).ok().map(GoDuration::to_std)
}

fn container_concurrency(accepted: &BTreeMap<String, String>) -> i32 {
    annotations::lookup(accepted, &keys::CONTAINER_CONCURRENCY)
        .and_then(|found| number::parse_i32(found.value).ok())
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
    let Some(slow) = measured.all_points().find(|point| point.interval != second) else {
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
        max_scale_up_rate: float(&read.accepted, &keys::MAX_SCALE_UP_RATE)
            .unwrap_or(inputs.defaults.max_scale_up_rate),
        max_scale_down_rate: float(&read.accepted, &keys::MAX_SCALE_DOWN_RATE)
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
    let limit = container_concurrency(&read.accepted);
    let limits = metric == ScalingMetric::Concurrency
        && limit != 0
        && float(&read.accepted, &keys::TARGET).is_none_or(|target| target > f64::from(limit));
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
