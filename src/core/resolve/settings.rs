//! The effective configuration in words: one line a key, with its origin.

use std::time::Duration;

use crate::core::config::{Provenance, Setting, TargetConfig};
use crate::core::duration::GoDuration;
use crate::core::keys::{self, Key};
use crate::core::policy::Consent;
use crate::core::spec::{Aggregation, Semantics};

/// The effective configuration of a target, in the order of [`keys::KEYS`].
pub fn settings(config: &TargetConfig) -> Vec<Setting> {
    let (spec, bounds, zero) = (&config.spec, config.bounds, &config.zero);
    let utilization = decimal(spec.target / spec.total * 100.0);
    let named = |names: &mut dyn Iterator<Item = &str>| {
        let joined = names.collect::<Vec<_>>().join(", ");
        if joined.is_empty() { "none".to_owned() } else { joined }
    };
    let values: [(&Key, String); 20] = [
        (&keys::CLASS, consent(config.consent).to_owned()),
        (&keys::METRIC, spec.metric.as_str().to_owned()),
        (
            &keys::TARGET,
            format!("{} \u{d7} {utilization}% = {}", decimal(spec.total), decimal(spec.target)),
        ),
        (&keys::TARGET_UTILIZATION, format!("{utilization}%")),
        (&keys::TARGET_BURST_CAPACITY, burst(spec.target_burst_capacity)),
        (&keys::WINDOW, span(spec.stable_window)),
        (&keys::PANIC_WINDOW, span(spec.panic_window)),
        (&keys::PANIC_THRESHOLD, format!("{}%", decimal(spec.panic_threshold * 100.0))),
        (&keys::MIN_SCALE, bounds.min.to_string()),
        (&keys::MAX_SCALE, or_word(bounds.max, 0, "no ceiling")),
        (&keys::INITIAL_SCALE, spec.initial_scale.to_string()),
        (&keys::ACTIVATION_SCALE, or_word(spec.activation_scale, 1, "off")),
        (&keys::SCALE_DOWN_DELAY, span(spec.scale_down_delay)),
        (&keys::RETENTION, span(zero.retention)),
        (&keys::AGGREGATION, aggregation(spec.aggregation).to_owned()),
        (&keys::MODE, config.mode.as_str().to_owned()),
        (&keys::COMPAT, semantics(config.semantics).to_owned()),
        (&keys::SOURCE, named(&mut config.points.iter().map(|point| &*point.source))),
        (&keys::MAX_SCALE_UP_RATE, decimal(spec.max_scale_up_rate)),
        (&keys::MAX_SCALE_DOWN_RATE, decimal(spec.max_scale_down_rate)),
    ];
    let mut settings: Vec<Setting> =
        values.into_iter().map(|(key, value)| setting(config, key, value)).collect();
    settings.push(setting(config, &keys::ENABLE_SCALE_TO_ZERO, zero.enabled.to_string()));
    settings
}

fn setting(config: &TargetConfig, key: &Key, value: String) -> Setting {
    let index = key.index();
    let from = config.provenance.iter().find(|(known, _)| *known == index);
    Setting { name: key.name, value, from: from.map_or(Provenance::Default, |(_, from)| *from) }
}

fn consent(consent: Consent) -> &'static str {
    match consent {
        Consent::Managed => "managed",
        Consent::Observed => "observed",
    }
}

fn semantics(semantics: Semantics) -> &'static str {
    match semantics {
        Semantics::Default => "default",
        Semantics::Knative => "knative",
    }
}

fn aggregation(aggregation: Aggregation) -> &'static str {
    match aggregation {
        Aggregation::Linear => "linear",
        Aggregation::WeightedExponential => "weighted-exponential",
    }
}

fn burst(capacity: f64) -> String {
    if capacity < 0.0 { "unlimited".to_owned() } else { decimal(capacity) }
}

/// A scale, or a word where it is not above `least`.
fn or_word(scale: i32, least: i32, word: &str) -> String {
    if scale > least { scale.to_string() } else { word.to_owned() }
}

fn span(duration: Duration) -> String {
    GoDuration::from_std(duration).to_string()
}

/// A number with at most six decimals: the artefacts of binary fractions do not help a reader.
pub(super) fn decimal(value: f64) -> String {
    let text = format!("{value:.6}");
    let trimmed = text.trim_end_matches('0').trim_end_matches('.');
    trimmed.to_owned()
}
