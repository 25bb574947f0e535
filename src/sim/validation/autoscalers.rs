//! Other autoscalers' timing: what their loops make of a step, over many phases.

use super::super::figures::Figures;
use super::{figures, scenario};

const SEEDS: u64 = 40;

/// The least, the mean and the most of a figure over many seeds.
fn spread(text: &str, get: impl Fn(&Figures) -> Option<f64>) -> (f64, f64, f64) {
    let scenario = scenario(text);
    let name = scenario.policies.first().unwrap().name();
    let values: Vec<f64> =
        (0..SEEDS).map(|seed| get(&figures(&scenario, &name, seed)).unwrap()).collect();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    (least, super::mean_of(&values).0, values.iter().copied().fold(0.0, f64::max))
}

/// A step from `from` to `to` pods' worth of load at 100 s, with pods that start at once and short requests.
fn step(policy: &str, from: u16, to: u16) -> String {
    format!(
        "duration: 220s\nservice: 10ms\n\
         load: [ {{ constant: {{ level: {}, until: 100s }} }}, {{ constant: {{ level: {}, at: 100s }} }} ]\n\
         target: {{ start: {from}, annotations: {{ autoscaling.knative.dev/target: \"10\", \
         autoscaling.knative.dev/target-utilization-percentage: \"100\", \
         autoscaling.knative.dev/max-scale: \"1000\" }} }}\n\
         source: {{ at_zero: true }}\ncluster: {{ pod_start: 0s, write: 0s, capacity: 10 }}\n\
         policies: [ {policy} ]\n",
        from * 10,
        to * 10
    )
}

#[test]
fn an_hpa_needs_as_many_syncs_as_its_behavior_says() {
    // So many syncs; the first one at any time after the step, and up to a
    // second and a half until a sample shows all of it.
    for (policy, from, to, syncs, sync_s, age_s) in [
        ("hpa", 1, 5, 1.0, 15.0, 0.0),
        ("hpa", 1, 10, 2.0, 15.0, 0.0),
        ("hpa", 1, 100, 6.0, 15.0, 0.0),
        ("hpa", 10, 100, 4.0, 15.0, 0.0),
        ("{ hpa: { metric_age: 10s } }", 1, 10, 2.0, 15.0, 10.0),
        ("{ hpa: { sync: 30s } }", 1, 5, 1.0, 30.0, 0.0),
        ("{ hpa: { behavior: false } }", 1, 20, 4.0, 15.0, 0.0),
    ] {
        let (least, mean, most) = spread(&step(policy, from, to), |one| one.full_scale_s);
        let (low, high) = ((syncs - 1.0) * sync_s + age_s, syncs * sync_s + age_s + 1.5);
        assert!(low <= least && most <= high, "{policy} {from} to {to}: {least} .. {most}");
        // Every phase is as likely as any other.
        assert!(
            (mean - f64::midpoint(low, high)).abs() < sync_s / 6.0,
            "{policy} {from} to {to}: {mean}"
        );
    }
}

#[test]
fn an_hpa_reads_prometheus_late() {
    let text = step("hpa", 1, 5).replace("at_zero: true", "interval: 15s, at_zero: true");
    let (least, mean, most) = spread(&text, |one| one.full_scale_s);
    assert!(least >= 0.0 && most <= 31.0 && (10.0..=26.0).contains(&mean), "{least} {mean} {most}");
}

#[test]
fn within_its_tolerance_an_hpa_does_nothing() {
    for (policy, from, to, writes) in [
        ("hpa", 20, 21, 0.0),
        ("hpa", 20, 22, 0.0),
        ("hpa", 20, 23, 1.0),
        ("{ hpa: { tolerance: 0 } }", 20, 21, 1.0),
        ("{ hpa: { tolerance: 0.3 } }", 20, 25, 0.0),
    ] {
        // Nothing waits, or what waits would add to the ratio.
        let text = step(policy, from, to).replace("capacity: 10", "capacity: 20");
        let (least, _, most) = spread(&text, |one| one.writes);
        let is = |writes: f64, value: f64| (writes - value).abs() < 1e-9;
        // A sample in the middle of the step may take it in two.
        assert!(is(least, writes) && most <= writes * 2.0, "{policy} {to}: {least} .. {most}");
    }
}

#[test]
fn an_hpa_falls_when_the_highest_recommendation_is_old_enough() {
    let text = step("hpa", 10, 2).replace("220s", "10m");
    let pod_s = |one: &Figures| one.idle_pod_seconds;
    // Eight pods too many, for the 300 s of the window and until the next sync.
    let (least, mean, most) = spread(&text, pod_s);
    assert!(least >= 8.0 * 300.0 - 8.0 * 15.0 && most <= 8.0 * 316.5, "{least} .. {most}");
    assert!((mean / 8.0 - 300.0).abs() < 10.0, "{}", mean / 8.0);
}

#[test]
fn keda_wakes_at_its_poll() {
    for (policy, poll_s) in [("keda", 30.0), ("{ keda: { poll: 10s } }", 10.0)] {
        let (least, mean, most) = spread(&step(policy, 0, 1), |one| one.full_scale_s);
        assert!(least >= 0.0 && most <= poll_s + 1.5, "{policy}: {least} .. {most}");
        assert!((mean - poll_s / 2.0).abs() < poll_s * 0.15 + 1.0, "{policy}: {mean}");
    }
}

#[test]
fn keda_sleeps_after_its_cooldown() {
    // The last active poll is up to 30 s before the end of the load, and the cooldown ends at a poll.
    for (policy, cooldown_s, poll_s) in
        [("keda", 300.0, 30.0), ("{ keda: { cooldown: 60s, poll: 10s } }", 60.0, 10.0)]
    {
        let text = step(policy, 1, 0).replace("220s", "10m");
        let (least, _, most) = spread(&text, |one| one.zero_at_s.map(|at| at - 100.0));
        let (low, high) = (cooldown_s - poll_s, cooldown_s + poll_s + 1.5);
        assert!(low <= least && most <= high, "{policy}: {least} .. {most}");
    }
}

#[test]
fn podswell_and_knative_are_there_within_seconds() {
    for policy in ["podswell", "knative"] {
        let (_, _, most) = spread(&step(policy, 10, 100), |one| one.full_scale_s);
        // Knative's own code: 6.4 s on average, 7.35 s at most.
        assert!(most <= 7.5, "{policy}: {most}");
    }
}

#[test]
fn knative_reacts_at_its_next_tick() {
    // What waits shows in the sample half a second after the step, and the next tick comes at any time
    // within two seconds of it. From stat to decision Knative's own code takes 1.00 s (median) to 1.99 s.
    let (least, mean, most) = spread(&step("knative", 10, 100), |one| one.full_scale_s);
    assert!(least >= 0.5 && most <= 2.5, "{least} .. {most}");
    assert!(most - least > 1.5 && (mean - 1.5).abs() < 0.3, "{mean}");
}
