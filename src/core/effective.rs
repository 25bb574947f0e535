//! The effective configuration of a target as text: every value that a user may set, with where it
//! comes from. `explain` and the HTTP API show it.

use std::time::Duration;

use super::config::{Provenance, Setting, TargetConfig};
use super::keys::KEYS;
use super::spec::{Aggregation, Semantics};

/// Every setting of a target, in the order of the documentation.
pub fn settings(config: &TargetConfig) -> Vec<Setting> {
    let spec = &config.spec;
    let semantics = match config.semantics {
        Semantics::Default => "default",
        Semantics::Knative => "knative",
    };
    let algorithm = match spec.aggregation {
        Aggregation::Linear => "linear",
        Aggregation::WeightedExponential => "weighted-exponential",
    };
    let sources: Vec<&str> = config.points.iter().map(|point| &*point.source).collect();
    let companion = config.measures().find_map(|view| view.companion);
    let drain_time = companion.map_or(spec.stable_window, |companion| companion.drain_time);
    let panic_share = spec.panic_window.as_secs_f64() / spec.stable_window.as_secs_f64();
    [
        ("mode", config.mode.as_str().to_owned()),
        ("compat", semantics.to_owned()),
        ("source", sources.join(",")),
        ("measures", measures(config)),
        ("metric", spec.metric.as_str().to_owned()),
        ("target", number(spec.total)),
        ("target-utilization-percentage", number(100.0 * spec.target / spec.total)),
        ("target-burst-capacity", number(spec.target_burst_capacity)),
        ("window", go_duration(spec.stable_window)),
        ("panic-window-percentage", number(100.0 * panic_share)),
        ("panic-threshold-percentage", number(100.0 * spec.panic_threshold)),
        ("metric-aggregation-algorithm", algorithm.to_owned()),
        ("max-scale-up-rate", number(spec.max_scale_up_rate)),
        ("max-scale-down-rate", number(spec.max_scale_down_rate)),
        ("scale-down-delay", go_duration(spec.scale_down_delay)),
        ("min-scale", config.bounds.min.to_string()),
        ("max-scale", config.bounds.max.to_string()),
        ("initial-scale", spec.initial_scale.to_string()),
        ("activation-scale", spec.activation_scale.to_string()),
        ("scale-to-zero-pod-retention-period", go_duration(config.zero.retention)),
        ("activation-value", config.zero.activation_value.to_string()),
        ("drain-time", go_duration(drain_time)),
    ]
    .into_iter()
    .chain(config.paused_until.map(|until| ("paused-until", until.to_string())))
    .chain(config.on_missing.map(|order| ("on-missing", order.to_string())))
    .map(|(name, value)| Setting { name, value, from: provenance(config, name) })
    .collect()
}

/// All measures with their targets, as the annotation spells them.
fn measures(config: &TargetConfig) -> String {
    let measures =
        config.measures().map(|view| format!("{}={}", view.name, number(view.spec.total)));
    measures.collect::<Vec<_>>().join(", ")
}

/// Where the effective value of the key `name` (without its group) comes from.
pub fn provenance(config: &TargetConfig, name: &str) -> Provenance {
    let Some(key) = KEYS.iter().find(|key| key.name == name) else { return Provenance::Default };
    let index = key.index();
    let found = config.provenance.iter().find(|(of, _)| *of == index);
    found.map_or(Provenance::Default, |(_, from)| *from)
}

impl Provenance {
    /// The origin as `explain` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Flag => "flag",
            Self::ConfigMap => "ConfigMap",
            Self::Namespace => "namespace annotation",
            Self::PodTemplate => "pod template",
            Self::Annotation => "annotation",
            Self::Trigger => "trigger metadata",
        }
    }
}

/// A number for people: no more than two decimals, none where there are none.
pub fn number(value: f64) -> String {
    if value.abs() >= 1e15 {
        return format!("{value:e}");
    }
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// A duration for people: `45 s`, `2 m`, `1 h 30 m`, `0.8 s`.
pub fn duration(value: Duration) -> String {
    let whole_s = value.as_secs();
    if whole_s < 120 {
        return format!("{} s", tenths(value));
    }
    let parts = [(whole_s / 3600, "h"), (whole_s / 60 % 60, "m"), (whole_s % 60, "s")];
    let shown: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n} {unit}")).collect();
    shown.join(" ")
}

/// A duration as annotations spell it: `90s`, `0.5s`.
fn go_duration(value: Duration) -> String {
    format!("{}s", value.as_secs_f64())
}

fn tenths(value: Duration) -> String {
    let tenths = value.as_millis() / 100;
    if tenths.is_multiple_of(10) {
        (tenths / 10).to_string()
    } else {
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Timestamp;
    use crate::core::on_missing::OnMissing;

    #[test]
    fn every_setting_is_a_key_and_knows_its_origin() {
        let all = TargetConfig {
            paused_until: Some(Timestamp::UNIX_EPOCH),
            on_missing: OnMissing::parse("3 after 5m").unwrap(),
            ..TargetConfig::default()
        };
        for setting in settings(&all) {
            let key = KEYS.iter().find(|key| key.name == setting.name);
            let index = key.map(super::super::keys::Key::index);
            assert!(index.is_some(), "{} is not in the table", setting.name);
            let from = Provenance::Annotation;
            let config = TargetConfig {
                provenance: index.into_iter().map(|index| (index, from)).collect(),
                ..TargetConfig::default()
            };
            assert_eq!(provenance(&config, setting.name), from);
            assert_eq!(setting.from, Provenance::Default);
        }
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (70.0, "70"),
            (0.7, "0.7"),
            (214.342, "214.34"),
            (0.001, "0"),
            (-0.001, "0"),
            (-1.0, "-1"),
            (1e300, "1e300"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn durations_are_short() {
        for (ms, text) in [
            (0, "0 s"),
            (800, "0.8 s"),
            (1099, "1 s"),
            (119_999, "119.9 s"),
            (120_000, "2 m"),
            (5_430_000, "1 h 30 m 30 s"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }
}
