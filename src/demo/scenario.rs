//! A workload whose load a scenario file of the simulator tells: how much of the file can be played on the
//! clock, and what is left to `podswell simulate`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::annotations::CLASS_PODSWELL;
use crate::core::keys;
use crate::core::spec::ScalingMetric;
use crate::sim::scenario::Scenario;
use crate::sim::simulation;

/// The namespace of the workload.
pub(super) const NAMESPACE: &str = "scenario";

/// The name of the source that sees it.
pub(super) const SOURCE: &str = "scenario";

/// What is played of a scenario.
#[derive(Clone, Debug)]
pub(super) struct Played {
    /// The workload's name.
    pub(super) name: String,
    pub(super) about: String,
    pub(super) annotations: BTreeMap<String, String>,
    /// `concurrency`, `rps`, `events` or `backlog`.
    pub(super) metric: &'static str,
    pub(super) replicas: i32,
    pub(super) pod_start: Duration,
    /// How much load one pod bears, in the metric's unit.
    pub(super) per_pod: f64,
    /// Items that a pod finishes in a second, where the metric is a backlog.
    pub(super) items_per_pod: Option<f64>,
    /// Whether the load is seen while no pod runs.
    pub(super) visible_at_zero: bool,
    /// The load of each second, in the metric's unit.
    pub(super) levels: Arc<[f64]>,
    /// Keys of the file that are not played.
    pub(super) left_out: Vec<&'static str>,
}

impl Played {
    /// What is played of `scenario`, whose file is called `name`.
    ///
    /// # Errors
    /// If the simulator refuses the scenario's ConfigMap.
    pub(super) fn of(name: &str, scenario: &Scenario) -> Result<Self, String> {
        let stream = simulation::stream(scenario, scenario.seed)?;
        let metric = stream.metric;
        let in_flight = matches!(metric, ScalingMetric::Concurrency);
        let factor = if in_flight { stream.service_s } else { 1.0 };
        let finishes = stream.capacity / stream.service_s.max(0.001);
        let mut annotations = scenario.target.annotations.clone();
        annotations.entry(keys::CLASS.annotation()).or_insert_with(|| CLASS_PODSWELL.to_owned());
        annotations.insert(keys::SOURCE.annotation(), SOURCE.to_owned());
        let per_pod = match metric {
            ScalingMetric::Concurrency | ScalingMetric::Backlog => stream.capacity,
            ScalingMetric::Rps | ScalingMetric::Events => finishes,
        };
        Ok(Self {
            name: label(name),
            about: scenario.about.trim().to_owned(),
            annotations,
            metric: metric.as_str(),
            replicas: i32::from(scenario.target.start),
            pod_start: scenario.cluster.pod_start.mean(),
            per_pod,
            items_per_pod: (metric == ScalingMetric::Backlog).then_some(finishes),
            visible_at_zero: scenario.source.at_zero,
            levels: stream.rates.iter().map(|rate| rate * factor).collect(),
            left_out: left_out(scenario),
        })
    }
}

/// The keys of the file that only the simulator plays.
fn left_out(scenario: &Scenario) -> Vec<&'static str> {
    let mut keys = vec!["policies"];
    for (key, is_set) in [
        ("faults", !scenario.faults.is_empty()),
        ("config", !scenario.config.is_empty()),
        ("expect", !scenario.expect.is_empty()),
        ("target.copies", scenario.target.copies > 1),
    ] {
        if is_set {
            keys.push(key);
        }
    }
    keys
}

/// A file's name as the name of a Deployment: lower-case letters, digits and hyphens, at most 40.
fn label(name: &str) -> String {
    let name = name.to_lowercase();
    let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    let label: String = plain.take(40).collect();
    let label = label.trim_matches('-');
    if label.is_empty() { "scenario".to_owned() } else { label.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(more: &str) -> Played {
        let text = format!(
            "about: a step\nseed: 1\nduration: 20s\nservice: 500ms\n{more}\n\
             load:\n  - constant: {{ level: 10 }}\n  - constant: {{ level: 30, at: 10s }}\n"
        );
        let scenario = Scenario::parse(&text, &mut |_| Err("no file".to_owned())).unwrap();
        Played::of("A step_2", &scenario).unwrap()
    }

    #[test]
    fn the_load_is_in_the_unit_of_the_metric() {
        let metric = |metric: &str, target: &str| {
            format!(
                "target: {{ annotations: {{ autoscaling.knative.dev/metric: {metric}, \
                 autoscaling.knative.dev/target: \"{target}\" }} }}"
            )
        };
        // 10 requests in flight that take half a second are 20 requests a second.
        for (more, first, last, per_pod) in [
            (metric("concurrency", "10"), 10.0, 40.0, 10.0),
            (metric("rps", "20"), 20.0, 80.0, 20.0),
            (format!("unit: rps\n{}", metric("rps", "20")), 10.0, 40.0, 20.0),
        ] {
            let played = played(&more);
            assert_eq!(played.levels.len(), 20);
            assert_eq!((played.levels[0], played.levels[19]), (first, last), "{more}");
            assert!((played.per_pod - per_pod).abs() < 1e-9, "{more}: {}", played.per_pod);
        }
        let queue = played(&format!("unit: rps\n{}", metric("backlog", "20")));
        assert_eq!((queue.levels[0], queue.items_per_pod), (10.0, Some(40.0)));
    }

    #[test]
    fn a_file_s_name_names_a_deployment() {
        let played = played("");
        assert_eq!(
            (played.name.as_str(), played.left_out.as_slice()),
            ("a-step-2", &["policies"][..])
        );
        assert_eq!(label("---"), "scenario");
        assert_eq!(label(&"x".repeat(90)).len(), 40);
    }
}
