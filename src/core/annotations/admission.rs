//! What Knative's webhook refuses, in its words.

use std::collections::{BTreeMap, BTreeSet};

use super::{CLASS_HPA, CLASS_KPA, Found, lookup};
use crate::core::defaults::{ClusterDefaults, TARGET_MIN, WINDOW_MAX, WINDOW_MIN};
use crate::core::duration::GoDuration;
use crate::core::keys::{self, Key};
use crate::core::number::{self, NumberError};
use crate::core::text::{escaped, shown};

/// Knative's words for a duration that is not in whole seconds.
const SECOND_PRECISION: &str = "must be specified with at most second precision";

/// Which rule refuses; podswell mends some by other means than dropping the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The value for itself, or beside others.
    Value,
    /// max-scale is below min-scale.
    MinAboveMax,
    /// max-scale against the cluster's limit.
    Limit,
}

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) rule: Rule,
    /// The key whose value is refused.
    pub(super) key: Key,
    /// The annotations that the message names.
    pub(super) paths: Vec<String>,
    /// The message before, in and after the value as the user wrote it.
    before: String,
    value: String,
    after: String,
}

impl Rejection {
    fn new(key: &Key, path: &str, before: impl Into<String>) -> Self {
        Self {
            rule: Rule::Value,
            key: *key,
            paths: vec![path.to_owned()],
            before: before.into(),
            value: String::new(),
            after: String::new(),
        }
    }

    fn invalid(key: &Key, found: Found<'_>) -> Self {
        Self { value: found.value.to_owned(), ..Self::new(key, found.spelled, "invalid value: ") }
    }

    fn out_of_bounds(key: &Key, found: Found<'_>, low: &str, high: &str) -> Self {
        Self {
            value: found.value.to_owned(),
            after: format!(" <= {high}"),
            ..Self::new(key, found.spelled, format!("expected {low} <= "))
        }
    }

    fn with_rule(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }

    /// Knative's message, with the value as it was written.
    fn message(&self) -> String {
        format!("{}{}{}", self.before, self.value, self.after)
    }

    /// The message with the value escaped and cut; Knative's message about precision names no value.
    pub(super) fn shown(&self, value: &str) -> String {
        let message = format!("{}{}{}", self.before, escaped(&self.value), self.after);
        if self.before == SECOND_PRECISION {
            format!("{}: {message}", shown(value))
        } else {
            message
        }
    }
}

/// Checks annotations as Knative's webhook does on a revision template.
///
/// Non-finite numbers pass wherever Knative lets them pass.
///
/// # Errors
/// Knative's message: one line for each kind of error, sorted; a line names all keys that share it.
///
/// Source: Knative `pkg/apis/autoscaling/annotation_validation.go`, serving@98e5ef9.
pub fn validate(
    annotations: &BTreeMap<String, String>,
    defaults: &ClusterDefaults,
) -> Result<(), String> {
    let mut lines: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rejection in rejections(annotations, defaults) {
        lines.entry(rejection.message()).or_default().extend(rejection.paths);
    }
    if lines.is_empty() {
        return Ok(());
    }
    let lines = lines.into_iter().map(|(message, paths)| {
        format!("{message}: {}", paths.into_iter().collect::<Vec<_>>().join(", "))
    });
    Err(lines.collect::<Vec<_>>().join("\n"))
}

/// Everything that the webhook refuses.
pub(super) fn rejections(
    annotations: &BTreeMap<String, String>,
    defaults: &ClusterDefaults,
) -> Vec<Rejection> {
    let mut all = Vec::new();
    all.extend(check_class(annotations));
    check_scales(annotations, defaults, &mut all);
    check_floats(annotations, &mut all);
    all.extend(check_window(annotations));
    all.extend(check_span(annotations, &keys::RETENTION, false));
    all.extend(check_span(annotations, &keys::SCALE_DOWN_DELAY, true));
    all.extend(check_metric(annotations, defaults));
    all.extend(check_aggregation(annotations));
    all.extend(check_initial_scale(annotations, defaults));
    all
}

fn check_class(annotations: &BTreeMap<String, String>) -> Option<Rejection> {
    let found = lookup(annotations, &keys::CLASS)?;
    let reserved = found.value.ends_with(".knative.dev");
    (reserved && found.value != CLASS_KPA && found.value != CLASS_HPA)
        .then(|| Rejection::invalid(&keys::CLASS, found))
}

/// A scale that is at least 0, or 0 if it is absent or refused.
fn scale(annotations: &BTreeMap<String, String>, key: &Key, all: &mut Vec<Rejection>) -> i32 {
    let Some(found) = lookup(annotations, key) else { return 0 };
    match number::parse_i32(found.value) {
        Ok(value) if value >= 0 => value,
        Ok(_) | Err(NumberError::Range) => {
            all.push(Rejection::out_of_bounds(key, found, "0", "2147483647"));
            0
        }
        Err(NumberError::Syntax) => {
            all.push(Rejection::invalid(key, found));
            0
        }
    }
}

fn check_scales(
    annotations: &BTreeMap<String, String>,
    defaults: &ClusterDefaults,
    all: &mut Vec<Rejection>,
) {
    let min = scale(annotations, &keys::MIN_SCALE, all);
    let max = scale(annotations, &keys::MAX_SCALE, all);
    if max != 0 && max < min {
        let message = format!("max-scale={max} is less than min-scale={min}");
        let mut rejection =
            Rejection::new(&keys::MAX_SCALE, &keys::MAX_SCALE.annotation(), message)
                .with_rule(Rule::MinAboveMax);
        rejection.paths.push(keys::MIN_SCALE.annotation());
        all.push(rejection);
    }
    let limit = defaults.max_scale_limit;
    if let Some(found) = lookup(annotations, &keys::MAX_SCALE)
        && limit != 0
    {
        let refuse = |message: String| {
            Rejection::new(&keys::MAX_SCALE, found.spelled, message).with_rule(Rule::Limit)
        };
        if max > limit {
            all.push(refuse(format!("expected 1 <= {max} <= {limit}")));
        }
        if max == 0 {
            all.push(refuse(format!("max-scale=0 (unlimited), must be less than {limit}")));
        }
    }
    all.extend(check_activation_scale(annotations, min, max));
}

fn check_activation_scale(
    annotations: &BTreeMap<String, String>,
    min: i32,
    max: i32,
) -> Option<Rejection> {
    let found = lookup(annotations, &keys::ACTIVATION_SCALE)?;
    let Ok(value) = number::parse_i32(found.value) else {
        return Some(Rejection::invalid(&keys::ACTIVATION_SCALE, found));
    };
    let message = if min > value {
        format!("min-scale={min} is greater than activation-scale={value}")
    } else if max < value && max != 0 {
        format!("max-scale={max} is less than activation-scale={value}")
    } else if value < 2 {
        format!("activation-scale={value} must be greater than 1")
    } else {
        return None;
    };
    Some(Rejection::new(&keys::ACTIVATION_SCALE, found.spelled, message))
}

fn check_floats(annotations: &BTreeMap<String, String>, all: &mut Vec<Rejection>) {
    // NaN passes every comparison, so the ranges are written as Knative writes them.
    for (key, low, high) in [
        (&keys::PANIC_WINDOW, 1.0, 100.0),
        (&keys::PANIC_THRESHOLD, 110.0, 1000.0),
        (&keys::TARGET_UTILIZATION, 1.0, 100.0),
    ] {
        let Some(found) = lookup(annotations, key) else { continue };
        match number::parse_float(found.value) {
            Err(_) => all.push(Rejection::invalid(key, found)),
            Ok(value) if value < low || value > high => {
                all.push(Rejection::out_of_bounds(key, found, &low.to_string(), &high.to_string()));
            }
            Ok(_) => {}
        }
    }
    if let Some(found) = lookup(annotations, &keys::TARGET) {
        match number::parse_float(found.value) {
            Err(_) => all.push(Rejection::invalid(&keys::TARGET, found)),
            Ok(value) if value < TARGET_MIN => all.push(Rejection {
                value: found.value.to_owned(),
                after: format!(" should be at least {TARGET_MIN}"),
                ..Rejection::new(&keys::TARGET, found.spelled, "target ")
            }),
            Ok(_) => {}
        }
    }
    if let Some(found) = lookup(annotations, &keys::TARGET_BURST_CAPACITY) {
        let unlimited = (-1.0_f64).to_bits();
        let refused = number::parse_float(found.value)
            .map_or(true, |value| value < 0.0 && value.to_bits() != unlimited);
        if refused {
            all.push(Rejection::invalid(&keys::TARGET_BURST_CAPACITY, found));
        }
    }
}

fn check_window(annotations: &BTreeMap<String, String>) -> Option<Rejection> {
    let found = lookup(annotations, &keys::WINDOW)?;
    match GoDuration::parse(found.value) {
        Err(_) => Some(Rejection::invalid(&keys::WINDOW, found)),
        Ok(window) if !(WINDOW_MIN..=WINDOW_MAX).contains(&window) => {
            let (low, high) = (WINDOW_MIN.to_string(), WINDOW_MAX.to_string());
            Some(Rejection::out_of_bounds(&keys::WINDOW, found, &low, &high))
        }
        Ok(window) if window.truncated_to_second() != window => {
            Some(not_in_seconds(&keys::WINDOW, found))
        }
        Ok(_) => None,
    }
}

/// A duration from nothing to an hour.
fn check_span(
    annotations: &BTreeMap<String, String>,
    key: &Key,
    whole_seconds: bool,
) -> Option<Rejection> {
    let found = lookup(annotations, key)?;
    match GoDuration::parse(found.value) {
        Err(_) => Some(Rejection::invalid(key, found)),
        Ok(span) if !(GoDuration::ZERO..=WINDOW_MAX).contains(&span) => {
            let (low, high) = (GoDuration::ZERO.to_string(), WINDOW_MAX.to_string());
            Some(Rejection::out_of_bounds(key, found, &low, &high))
        }
        Ok(span) if whole_seconds && span.rounded_to_second() != span => {
            Some(not_in_seconds(key, found))
        }
        Ok(_) => None,
    }
}

fn not_in_seconds(key: &Key, found: Found<'_>) -> Rejection {
    Rejection::new(key, found.spelled, SECOND_PRECISION)
}

fn check_metric(
    annotations: &BTreeMap<String, String>,
    defaults: &ClusterDefaults,
) -> Option<Rejection> {
    let found = lookup(annotations, &keys::METRIC)?;
    let class = lookup(annotations, &keys::CLASS)
        .map_or(defaults.pod_autoscaler_class.as_str(), |class| class.value);
    let refused = match class {
        CLASS_KPA => !matches!(found.value, "concurrency" | "rps"),
        CLASS_HPA => found.value.is_empty(),
        // Other classes are left alone.
        _ => false,
    };
    refused.then(|| Rejection::invalid(&keys::METRIC, found))
}

fn check_aggregation(annotations: &BTreeMap<String, String>) -> Option<Rejection> {
    // The class must be there and be Knative's own: other autoscalers may know other algorithms.
    lookup(annotations, &keys::CLASS).filter(|class| class.value == CLASS_KPA)?;
    let found = lookup(annotations, &keys::AGGREGATION)?;
    let known =
        matches!(found.value, "" | "linear" | "weighted-exponential" | "weightedExponential");
    (!known).then(|| Rejection::invalid(&keys::AGGREGATION, found))
}

fn check_initial_scale(
    annotations: &BTreeMap<String, String>,
    defaults: &ClusterDefaults,
) -> Option<Rejection> {
    let key = &keys::INITIAL_SCALE;
    let found = lookup(annotations, key)?;
    let complaint = match number::parse_i64(found.value) {
        Err(_) => "",
        Ok(value) if value < 0 => " must be greater than 0",
        Ok(0) if !defaults.allow_zero_initial_scale => "=0 not allowed by cluster",
        Ok(_) => return None,
    };
    let mut rejection = Rejection::invalid(key, found);
    rejection.paths = vec![format!("{}{complaint}", found.spelled)];
    Some(rejection)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::keys::KEYS;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| (format!("autoscaling.knative.dev/{key}"), (*value).to_owned()))
            .collect()
    }

    fn check(config_map: &[(&str, &str)], annotations: &[(&str, &str)], error: Option<&str>) {
        let data = config_map.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let defaults = ClusterDefaults::parse(&data.collect()).expect("a valid config-autoscaler");
        let found = validate(&map(annotations), &defaults).err();
        let error = error.map(|error| error.replace("KN/", "autoscaling.knative.dev/"));
        assert_eq!(found, error, "{annotations:?}");
    }

    #[test]
    fn scales_are_checked_against_each_other() {
        for (annotations, error) in [
            (&[("min-scale", ""), ("minScale", "3")][..], Some("invalid value: : KN/min-scale")),
            (
                &[("max-scale", "3"), ("min-scale", "5")],
                Some("max-scale=3 is less than min-scale=5: KN/max-scale, KN/min-scale"),
            ),
            (&[("max-scale", "0"), ("min-scale", "5")], None),
            (
                &[("minScale", "4294967296x")],
                Some("expected 0 <= 4294967296x <= 2147483647: KN/minScale"),
            ),
            (
                &[("min-scale", "x"), ("max-scale", "x")],
                Some("invalid value: x: KN/max-scale, KN/min-scale"),
            ),
            (
                &[("activation-scale", "1")],
                Some("activation-scale=1 must be greater than 1: KN/activation-scale"),
            ),
            (
                &[("activation-scale", "2"), ("min-scale", "3")],
                Some("min-scale=3 is greater than activation-scale=2: KN/activation-scale"),
            ),
            (
                &[("activation-scale", "2"), ("max-scale", "1")],
                Some("max-scale=1 is less than activation-scale=2: KN/activation-scale"),
            ),
            (
                &[("initial-scale", "0")],
                Some("invalid value: 0: KN/initial-scale=0 not allowed by cluster"),
            ),
            (
                &[("initialScale", "-01")],
                Some("invalid value: -01: KN/initialScale must be greater than 0"),
            ),
        ] {
            check(&[], annotations, error);
        }
        let limit = [("max-scale-limit", "10"), ("max-scale", "5")];
        let unlimited = "max-scale=0 (unlimited), must be less than 10: KN/max-scale";
        check(&limit, &[("max-scale", "0")], Some(unlimited));
        check(&limit, &[("maxScale", "011")], Some("expected 1 <= 11 <= 10: KN/maxScale"));
        check(&limit, &[], None);
        check(&[("allow-zero-initial-scale", "1")], &[("initial-scale", "-0")], None);
    }

    #[test]
    fn numbers_and_durations_are_checked() {
        for (annotations, error) in [
            (&[("target", "0")][..], Some("target 0 should be at least 0.01: KN/target")),
            (&[("target", "1_000")], None),
            (&[("target", "1e400")], Some("invalid value: 1e400: KN/target")),
            (&[("target", "nan"), ("panic-threshold-percentage", "NaN")], None),
            (&[("target", "+Inf"), ("target-burst-capacity", "inf")], None),
            (&[("target", "-inf")], Some("target -inf should be at least 0.01: KN/target")),
            (
                &[("panic-window-percentage", "inf")],
                Some("expected 1 <= inf <= 100: KN/panic-window-percentage"),
            ),
            (&[("target-burst-capacity", "-0x1p0")], None),
            (
                &[("target-burst-capacity", "-1.5")],
                Some("invalid value: -1.5: KN/target-burst-capacity"),
            ),
            (&[("window", "5s")], Some("expected 6s <= 5s <= 1h0m0s: KN/window")),
            (&[("window", "6s")], None),
            (
                &[("window", "6500ms"), ("scaleDownDelay", "1500ms")],
                Some(
                    "must be specified with at most second precision: KN/scaleDownDelay, KN/window",
                ),
            ),
            (&[("scale-to-zero-pod-retention-period", "1500ms")], None),
            (
                &[("scale-down-delay", "-1s")],
                Some("expected 0s <= -1s <= 1h0m0s: KN/scale-down-delay"),
            ),
        ] {
            check(&[], annotations, error);
        }
    }

    #[test]
    fn words_depend_on_the_class() {
        let (kpa, hpa) = (("class", CLASS_KPA), ("class", CLASS_HPA));
        let hpa_cluster = [("pod-autoscaler-class", CLASS_HPA)];
        let (cpu, refused) = (("metric", "cpu"), Some("invalid value: cpu: KN/metric"));
        check(&[], &[cpu], refused);
        check(&hpa_cluster, &[cpu], None);
        check(&hpa_cluster, &[cpu, kpa], refused);
        check(&[], &[cpu, hpa], None);
        check(&[], &[("metric", ""), hpa], Some("invalid value: : KN/metric"));
        check(&[], &[("metric", "x"), ("class", "kpa.podswell.dev")], None);
        check(
            &[],
            &[("class", "foo.knative.dev")],
            Some("invalid value: foo.knative.dev: KN/class"),
        );
        let foo = ("metric-aggregation-algorithm", "foo");
        check(&[], &[foo], None);
        let refused = "invalid value: foo: KN/metric-aggregation-algorithm";
        check(&[], &[foo, kpa], Some(refused));
        check(&[], &[("metricAggregationAlgorithm", "weightedExponential"), kpa], None);
    }

    proptest! {
        #[test]
        fn no_annotation_panics(
            values in proptest::collection::btree_map(0..KEYS.len(), any::<String>(), 0..8),
        ) {
            let annotations =
                values.into_iter().map(|(index, value)| (KEYS[index].annotation(), value)).collect();
            let _ = validate(&annotations, &ClusterDefaults::default());
        }
    }
}
