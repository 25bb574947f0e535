//! The cluster-wide tunables: Knative's `config-autoscaler` ConfigMap.

use std::collections::BTreeMap;
use std::time::Duration;

use super::duration::GoDuration;
use super::keys::{self, Key};
use super::number;
use super::text::shown;

/// The keys of `config-autoscaler`, parsed and checked; defaults are Knative's.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ClusterDefaults {
    /// `pod-autoscaler-class`.
    pub pod_autoscaler_class: String,
    /// `enable-scale-to-zero`.
    pub enable_scale_to_zero: bool,
    /// `allow-zero-initial-scale`.
    pub allow_zero_initial_scale: bool,
    /// `max-scale-up-rate`, a ratio > 1.
    pub max_scale_up_rate: f64,
    /// `max-scale-down-rate`, a ratio > 1.
    pub max_scale_down_rate: f64,
    /// `container-concurrency-target-percentage` as a fraction in (0, 1].
    pub container_concurrency_target_fraction: f64,
    /// `container-concurrency-target-default`, requests in flight per pod.
    pub container_concurrency_target_default: f64,
    /// `requests-per-second-target-default`, requests per second and pod.
    pub rps_target_default: f64,
    /// `target-burst-capacity`, requests in flight, or −1 for unlimited.
    pub target_burst_capacity: f64,
    /// `panic-window-percentage` of the stable window, 1 ..= 100.
    pub panic_window_percentage: f64,
    /// `panic-threshold-percentage`.
    pub panic_threshold_percentage: f64,
    /// `activator-capacity`, requests in flight, ≥ 1.
    pub activator_capacity: f64,
    /// `initial-scale`.
    pub initial_scale: i32,
    /// `min-scale`.
    pub min_scale: i32,
    /// `max-scale`; 0 = none.
    pub max_scale: i32,
    /// `max-scale-limit`; 0 = none.
    pub max_scale_limit: i32,
    /// `stable-window`, whole seconds in 6 s ..= 1 h.
    pub stable_window: Duration,
    /// `scale-down-delay`, whole seconds.
    pub scale_down_delay: Duration,
    /// `scale-to-zero-grace-period`, > 0.
    pub scale_to_zero_grace_period: Duration,
    /// `scale-to-zero-pod-retention-period`.
    pub scale_to_zero_pod_retention_period: Duration,
}

impl Default for ClusterDefaults {
    fn default() -> Self {
        Self {
            pod_autoscaler_class: "kpa.autoscaling.knative.dev".to_owned(),
            enable_scale_to_zero: true,
            allow_zero_initial_scale: false,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            container_concurrency_target_fraction: 0.7,
            container_concurrency_target_default: 100.0,
            rps_target_default: 200.0,
            target_burst_capacity: 211.0,
            panic_window_percentage: 10.0,
            panic_threshold_percentage: 200.0,
            activator_capacity: 100.0,
            initial_scale: 1,
            min_scale: 0,
            max_scale: 0,
            max_scale_limit: 0,
            stable_window: Duration::from_secs(60),
            scale_down_delay: Duration::ZERO,
            scale_to_zero_grace_period: Duration::from_secs(30),
            scale_to_zero_pod_retention_period: Duration::ZERO,
        }
    }
}

/// Why a `config-autoscaler` is refused. The rejections are Knative's, the words are ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DefaultsError {
    /// A value cannot be read.
    #[error("read {key} = {value}: {why}")]
    Read {
        /// The key.
        key: &'static str,
        /// The value, escaped and cut.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// A value can be read but is not accepted.
    #[error("check {key} = {value}: must be {accepted}")]
    Range {
        /// The key.
        key: &'static str,
        /// The value as it was understood.
        value: String,
        /// Which values are accepted.
        accepted: String,
    },
}

impl DefaultsError {
    /// The key whose value is wrong; it need not be in the map.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Read { key, .. } | Self::Range { key, .. } => key,
        }
    }
}

impl ClusterDefaults {
    /// Reads a `config-autoscaler`. Keys that Knative does not read are ignored. As in Knative the first
    /// error is the only one.
    ///
    /// # Errors
    /// What Knative refuses, and besides every value that is not finite: Knative lets NaN pass all its
    /// range checks, and such a number would poison each decision.
    ///
    /// Source: Knative `pkg/autoscaler/config/config.go`, serving@98e5ef9.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, DefaultsError> {
        let map = Reader { data };
        let mut config = Self::default();
        if let Some((_, class)) = map.raw(&keys::CLASS) {
            class.trim().clone_into(&mut config.pod_autoscaler_class);
        }
        map.bool(&keys::ENABLE_SCALE_TO_ZERO, &mut config.enable_scale_to_zero)?;
        map.bool(&keys::ALLOW_ZERO_INITIAL_SCALE, &mut config.allow_zero_initial_scale)?;
        config.read_floats(&map)?;
        map.int(&keys::INITIAL_SCALE, &mut config.initial_scale)?;
        map.int(&keys::MIN_SCALE, &mut config.min_scale)?;
        map.int(&keys::MAX_SCALE, &mut config.max_scale)?;
        map.int(&keys::MAX_SCALE_LIMIT, &mut config.max_scale_limit)?;
        let stable_window = map.duration(&keys::WINDOW, config.stable_window)?;
        let delay = map.duration(&keys::SCALE_DOWN_DELAY, config.scale_down_delay)?;
        let grace = map.duration(&keys::GRACE_PERIOD, config.scale_to_zero_grace_period)?;
        let retention = map.duration(&keys::RETENTION, Duration::ZERO)?;

        // Values above 1 are percentages; `1` itself means all of it.
        if config.container_concurrency_target_fraction > 1.0 {
            config.container_concurrency_target_fraction /= 100.0;
        }

        require(&keys::GRACE_PERIOD, grace > GoDuration::ZERO, grace, "above 0s")?;
        require(&keys::SCALE_DOWN_DELAY, delay >= GoDuration::ZERO, delay, "at least 0s")?;
        require_seconds(&keys::SCALE_DOWN_DELAY, delay)?;
        require(&keys::RETENTION, retention >= GoDuration::ZERO, retention, "at least 0s")?;
        config.check_floats()?;
        let in_range = (WINDOW_MIN..=WINDOW_MAX).contains(&stable_window);
        require(&keys::WINDOW, in_range, stable_window, "6s ..= 1h0m0s")?;
        require_seconds(&keys::WINDOW, stable_window)?;
        let percentage = config.panic_window_percentage;
        require(&keys::PANIC_WINDOW, (1.0..=100.0).contains(&percentage), percentage, "1 ..= 100")?;
        config.check_scales()?;

        config.stable_window = stable_window.to_std();
        config.scale_down_delay = delay.to_std();
        config.scale_to_zero_grace_period = grace.to_std();
        config.scale_to_zero_pod_retention_period = retention.to_std();
        Ok(config)
    }

    fn read_floats(&mut self, map: &Reader<'_>) -> Result<(), DefaultsError> {
        map.float(&keys::MAX_SCALE_UP_RATE, &mut self.max_scale_up_rate)?;
        map.float(&keys::MAX_SCALE_DOWN_RATE, &mut self.max_scale_down_rate)?;
        map.float(&keys::CC_TARGET_PERCENTAGE, &mut self.container_concurrency_target_fraction)?;
        map.float(&keys::CC_TARGET_DEFAULT, &mut self.container_concurrency_target_default)?;
        map.float(&keys::RPS_TARGET_DEFAULT, &mut self.rps_target_default)?;
        map.float(&keys::TARGET_BURST_CAPACITY, &mut self.target_burst_capacity)?;
        map.float(&keys::PANIC_WINDOW, &mut self.panic_window_percentage)?;
        map.float(&keys::ACTIVATOR_CAPACITY, &mut self.activator_capacity)?;
        map.float(&keys::PANIC_THRESHOLD, &mut self.panic_threshold_percentage)
    }

    fn check_floats(&self) -> Result<(), DefaultsError> {
        let burst = self.target_burst_capacity;
        let burst_is_valid = burst >= 0.0 || burst.to_bits() == (-1.0_f64).to_bits();
        require(&keys::TARGET_BURST_CAPACITY, burst_is_valid, burst, "at least 0, or -1")?;
        let fraction = self.container_concurrency_target_fraction;
        let fraction_is_valid = fraction > 0.0 && fraction <= 1.0;
        require(&keys::CC_TARGET_PERCENTAGE, fraction_is_valid, fraction, "above 0, up to 100 %")?;
        let target = fraction * self.container_concurrency_target_default;
        let accepted = "such that it yields a target of at least 0.01 with the percentage";
        require(&keys::CC_TARGET_DEFAULT, target >= TARGET_MIN, target, accepted)?;
        let rps = self.rps_target_default;
        require(&keys::RPS_TARGET_DEFAULT, rps >= TARGET_MIN, rps, "at least 0.01")?;
        let capacity = self.activator_capacity;
        require(&keys::ACTIVATOR_CAPACITY, capacity >= 1.0, capacity, "at least 1")?;
        let (up, down) = (self.max_scale_up_rate, self.max_scale_down_rate);
        require(&keys::MAX_SCALE_UP_RATE, up > 1.0, up, "above 1")?;
        require(&keys::MAX_SCALE_DOWN_RATE, down > 1.0, down, "above 1")
    }

    fn check_scales(&self) -> Result<(), DefaultsError> {
        let least = i32::from(!self.allow_zero_initial_scale);
        let initial = self.initial_scale;
        require(&keys::INITIAL_SCALE, initial >= least, initial, &format!("at least {least}"))?;
        let (min, max, limit) = (self.min_scale, self.max_scale, self.max_scale_limit);
        require(&keys::MIN_SCALE, min >= 0, min, "at least 0")?;
        if limit > 0 {
            let accepted = format!("1 ..= {limit} (max-scale-limit)");
            require(&keys::MAX_SCALE, (1..=limit).contains(&max), max, &accepted)?;
        }
        require(&keys::MAX_SCALE, max >= 0, max, "at least 0")?;
        require(&keys::MAX_SCALE_LIMIT, limit >= 0, limit, "at least 0")?;
        let accepted = format!("at most {max} (max-scale)");
        require(&keys::MIN_SCALE, max == 0 || min <= max, min, &accepted)
    }
}

/// The least value that a decision divides by.
pub(crate) const TARGET_MIN: f64 = 0.01;

/// The shortest stable window.
pub(crate) const WINDOW_MIN: GoDuration = GoDuration::from_secs(6);

/// The longest stable window, scale-down delay and retention period of an annotation.
pub(crate) const WINDOW_MAX: GoDuration = GoDuration::from_secs(3600);

/// Typed access to the map. Absent keys leave the default alone.
struct Reader<'a> {
    data: &'a BTreeMap<String, String>,
}

impl Reader<'_> {
    fn raw(&self, key: &Key) -> Option<(&'static str, &str)> {
        let name = key.config_map_key()?;
        self.data.get(name).map(|value| (name, value.as_str()))
    }

    fn bool(&self, key: &Key, slot: &mut bool) -> Result<(), DefaultsError> {
        let Some((key, text)) = self.raw(key) else { return Ok(()) };
        *slot = number::parse_bool(text).map_err(|why| unreadable(key, text, &why))?;
        Ok(())
    }

    fn int(&self, key: &Key, slot: &mut i32) -> Result<(), DefaultsError> {
        let Some((key, text)) = self.raw(key) else { return Ok(()) };
        *slot = number::parse_i32(text).map_err(|why| unreadable(key, text, &why))?;
        Ok(())
    }

    fn float(&self, key: &Key, slot: &mut f64) -> Result<(), DefaultsError> {
        let Some((key, text)) = self.raw(key) else { return Ok(()) };
        let value = number::parse_float(text).map_err(|why| unreadable(key, text, &why))?;
        if !value.is_finite() {
            return Err(unreadable(key, text, &"not a finite number"));
        }
        *slot = value;
        Ok(())
    }

    fn duration(&self, key: &Key, default: Duration) -> Result<GoDuration, DefaultsError> {
        let Some((key, text)) = self.raw(key) else { return Ok(GoDuration::from_std(default)) };
        // The words of the error repeat the text, which may be long.
        GoDuration::parse(text).map_err(|_| unreadable(key, text, &"not a duration such as 1m30s"))
    }
}

fn unreadable(key: &'static str, text: &str, why: &dyn std::fmt::Display) -> DefaultsError {
    DefaultsError::Read { key, value: shown(text), why: why.to_string() }
}

fn require(
    key: &Key,
    valid: bool,
    value: impl std::fmt::Display,
    accepted: &str,
) -> Result<(), DefaultsError> {
    if valid {
        return Ok(());
    }
    let key = key.config_map_key().unwrap_or_default();
    Err(DefaultsError::Range { key, value: value.to_string(), accepted: accepted.to_owned() })
}

fn require_seconds(key: &Key, value: GoDuration) -> Result<(), DefaultsError> {
    require(key, value.rounded_to_second() == value, value, "in whole seconds")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<ClusterDefaults, DefaultsError> {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        ClusterDefaults::parse(&data.collect())
    }

    #[test]
    fn an_empty_map_is_the_default() {
        assert_eq!(parse(&[]), Ok(ClusterDefaults::default()));
        assert_eq!(
            parse(&[("_example", "x"), ("tick-interval", "x")]),
            Ok(ClusterDefaults::default())
        );
    }

    #[test]
    fn percentages_and_fractions_are_told_apart() {
        for (text, fraction) in
            [("0.7", 0.7), ("70", 0.7), ("1", 1.0), ("100", 1.0), ("85.5", 0.855)]
        {
            let config = parse(&[("container-concurrency-target-percentage", text)]).unwrap();
            assert!(
                (config.container_concurrency_target_fraction - fraction).abs() < 1e-12,
                "{text}"
            );
        }
    }

    #[test]
    fn refusals_name_the_key() {
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a str);
        let cases: &[Case<'_>] = &[
            (
                &[("stable-window", "60")],
                "read stable-window = \"60\": not a duration such as 1m30s",
            ),
            (&[("stable-window", "5s")], "check stable-window = 5s: must be 6s ..= 1h0m0s"),
            (
                &[("stable-window", "6500ms")],
                "check stable-window = 6.5s: must be in whole seconds",
            ),
            (
                &[("enable-scale-to-zero", "yes")],
                "read enable-scale-to-zero = \"yes\": invalid syntax",
            ),
            (&[("max-scale", " 5")], "read max-scale = \" 5\": invalid syntax"),
            (&[("max-scale-limit", "5")], "check max-scale = 0: must be 1 ..= 5 (max-scale-limit)"),
            (&[("max-scale-limit", "-1")], "check max-scale-limit = -1: must be at least 0"),
            (&[("max-scale", "-1")], "check max-scale = -1: must be at least 0"),
            (
                &[("min-scale", "3"), ("max-scale", "2")],
                "check min-scale = 3: must be at most 2 (max-scale)",
            ),
            (&[("initial-scale", "0")], "check initial-scale = 0: must be at least 1"),
            (
                &[("panic-threshold-percentage", "NaN")],
                "read panic-threshold-percentage = \"NaN\": not a finite number",
            ),
            (
                &[("target-burst-capacity", "-0.5")],
                "check target-burst-capacity = -0.5: must be at least 0, or -1",
            ),
            (
                &[("container-concurrency-target-percentage", "142")],
                "check container-concurrency-target-percentage = 1.42: must be above 0, up to 100 %",
            ),
            // Knative's order: what is read comes before what is checked, the grace period first.
            (
                &[("max-scale-limit", "x"), ("min-scale", "-1")],
                "read max-scale-limit = \"x\": invalid syntax",
            ),
            (
                &[("scale-to-zero-grace-period", "0s"), ("stable-window", "1s")],
                "check scale-to-zero-grace-period = 0s: must be above 0s",
            ),
        ];
        for (pairs, text) in cases {
            assert_eq!(parse(pairs).expect_err(text).to_string(), *text);
        }
    }

    #[test]
    fn an_initial_scale_of_zero_can_be_allowed() {
        let config = parse(&[("initial-scale", "0"), ("allow-zero-initial-scale", "true")]);
        assert_eq!(config.map(|config| config.initial_scale), Ok(0));
    }

    proptest! {
        #[test]
        fn no_map_panics(values in proptest::collection::vec(("[-+0-9.eEx_a-zA-Z ]{0,12}|\\PC*", 0..keys::KEYS.len()), 0..6)) {
            let data = values
                .into_iter()
                .filter_map(|(value, index)| Some((keys::KEYS[index].config_map_key()?.to_owned(), value)))
                .collect();
            if let Ok(config) = ClusterDefaults::parse(&data) {
                prop_assert!(config.max_scale_up_rate.is_finite());
                prop_assert!(config.stable_window >= Duration::from_secs(6));
            }
        }
    }
}
