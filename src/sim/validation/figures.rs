//! Figures of worlds so small that they can be worked out by hand.

use super::{figures, scenario};

/// Plays `text` with the first of its policies, and compares what comes out.
#[track_caller]
fn comes_out(text: &str, expected: &[(&str, f64)]) {
    let scenario = scenario(text);
    let name = scenario.policies.first().unwrap().name();
    let found = figures(&scenario, &name, 1);
    for &(key, value) in expected {
        let is = found.get(key);
        assert!(
            is.is_some_and(|is| (is - value).abs() < 1e-6),
            "{key}: {is:?}, not {value}, in\n{text}"
        );
    }
}

const TEN: &str = "autoscaling.knative.dev/target: \"10\"";

#[test]
fn pods_that_are_missing_then_spare() {
    // Two pods are needed for 20 s. One runs; two more are there from 5 s on.
    comes_out(
        &format!(
            "duration: 20s\nload: [ {{ constant: {{ level: 15 }} }} ]\n\
             target: {{ start: 1, annotations: {{ {TEN} }} }}\n\
             cluster: {{ pod_start: 5s, write: 0s }}\npolicies: [ {{ fixed: {{ pods: 3 }} }} ]\n"
        ),
        &[
            ("pod_seconds", 60.0),
            ("unmet_pod_seconds", 5.0),
            ("idle_pod_seconds", 15.0),
            ("full_scale_s", 5.0),
            ("starts", 2.0),
            ("writes", 1.0),
            ("direction_changes", 0.0),
            ("requests", 300.0),
            ("lost", 0.0),
            ("cold_starts", 0.0),
            ("max_scale", 3.0),
            ("final_scale", 3.0),
            // Two pods all the time; the second cannot be started before the beginning.
            ("of_optimum", 60.0 / 40.0),
        ],
    );
}

#[test]
fn requests_that_find_no_pod() {
    // Two requests a second; the only pod is ready after 4 s.
    let world = |holds: bool| {
        format!(
            "duration: 10s\nunit: rps\nload: [ {{ constant: {{ level: 2 }} }} ]\n\
             target: {{ start: 0, annotations: {{ {TEN} }} }}\n\
             cluster: {{ pod_start: 4s, write: 0s, holds: {holds} }}\n\
             policies: [ {{ fixed: {{ pods: 1 }} }} ]\n"
        )
    };
    let both = [
        ("pod_seconds", 10.0),
        ("unmet_pod_seconds", 4.0),
        ("full_scale_s", 4.0),
        ("requests", 20.0),
        ("cold_starts", 8.0),
        ("starts", 1.0),
    ];
    comes_out(&world(true), &both);
    comes_out(&world(true), &[("delayed", 8.0), ("lost", 0.0)]);
    comes_out(&world(false), &both);
    comes_out(&world(false), &[("delayed", 0.0), ("lost", 8.0)]);
}

#[test]
fn turns_of_the_replicas() {
    // 2, 4, 1 and 3 pods: up, down, up. Each of the three that end stays for its service time of 1 s.
    comes_out(
        &format!(
            "duration: 20s\nload: [ {{ constant: {{ level: 5 }} }} ]\n\
             target: {{ start: 2, annotations: {{ {TEN} }} }}\n\
             cluster: {{ pod_start: 0s, write: 0s }}\npolicies: [ {{ fixed: {{ pods: 2 }} }} ]\n\
             faults: [ {{ writes: {{ at: 5s, replicas: 4 }} }}, {{ writes: {{ at: 10s, replicas: 1 }} }}, \
             {{ writes: {{ at: 15s, replicas: 3 }} }} ]\n"
        ),
        &[
            ("direction_changes", 2.0),
            ("pod_seconds", 10.0 + 20.0 + 5.0 + 3.0 + 15.0),
            ("idle_pod_seconds", 5.0 + 15.0 + 0.0 + 10.0),
            ("starts", 4.0),
            ("max_scale", 4.0),
            ("final_scale", 3.0),
            // A write of the replicas that are there already.
            ("writes", 1.0),
        ],
    );
}

#[test]
fn a_line_in_front_of_one_pod() {
    // Every half second a request, from 0.5 s to 10 s, each of which takes a second: the k-th one waits
    // for (k - 1) / 2 seconds.
    let text = "duration: 30s\ndetail: requests\narrivals: regular\nunit: rps\nservice: 1s\n\
         load: [ { constant: { level: 2, until: 10s } } ]\ncluster: { capacity: 1 }\n\
         policies: [ { fixed: { pods: 1 } } ]\n";
    comes_out(text, &[("requests", 20.0), ("delayed", 19.0), ("lost", 0.0), ("pod_seconds", 30.0)]);
    let scenario = scenario(text);
    let found = figures(&scenario, "fixed", 1);
    // Three digits of the histogram.
    for (is, should) in [(found.p50_s, 5.5), (found.p99_s, 10.5)] {
        assert!((is.unwrap() / should - 1.0).abs() < 0.001, "{is:?}, not {should}");
    }
}

#[test]
fn a_queue_with_a_limit() {
    // No pod for 4 s, room for three: five of eight are lost.
    comes_out(
        "duration: 10s\nunit: rps\nload: [ { constant: { level: 2 } } ]\n\
         target: { start: 0 }\ncluster: { pod_start: 4s, write: 0s, queue_limit: 3 }\n\
         policies: [ { fixed: { pods: 1 } } ]\n",
        &[("cold_starts", 8.0), ("lost", 5.0), ("delayed", 3.0)],
    );
}

#[test]
fn room_for_two() {
    // Four are wanted; two of them stay without a node and cost nothing.
    comes_out(
        &format!(
            "duration: 10s\nload: [ {{ constant: {{ level: 40 }} }} ]\n\
             target: {{ start: 1, annotations: {{ {TEN} }} }}\n\
             cluster: {{ pod_start: 1s, write: 0s, room: 2 }}\npolicies: [ {{ fixed: {{ pods: 4 }} }} ]\n"
        ),
        &[
            ("pod_seconds", 20.0),
            ("unmet_pod_seconds", 21.0),
            ("starts", 1.0),
            ("final_scale", 4.0),
        ],
    );
}
