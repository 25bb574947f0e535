//! Who plays in the demo: five workloads with the load that makes each of them worth watching. Pure and
//! seeded, so that the same seed plays the same load.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg32;

/// How the load of a workload is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Each pod tells its requests in flight.
    AtThePods,
    /// Prometheus has the requests in flight.
    RequestsInFlight,
    /// Prometheus has the requests a second.
    RequestRate,
    /// Prometheus has the items that wait or are being worked on.
    Queue,
}

/// One workload of the demo.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) namespace: &'static str,
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) annotations: &'static [(&'static str, &'static str)],
    pub(super) replicas: i32,
    /// How long its pods take to become ready.
    pub(super) pod_start: Duration,
    pub(super) seen: Seen,
    /// Requests in flight, requests a second or arriving items a second, `second` seconds into the story.
    shape: fn(second: f64) -> f64,
    /// Whether an HPA works on it as well.
    pub(super) has_hpa: bool,
}

const CLASS: (&str, &str) = ("autoscaling.knative.dev/class", "kpa.podswell.dev");
const UTILIZATION: (&str, &str) = ("autoscaling.knative.dev/target-utilization-percentage", "100");
const WINDOW: (&str, &str) = ("autoscaling.knative.dev/window", "15s");
const SCRAPE: (&str, &str) = (
    "podswell.dev/scrape",
    r#"{"port": 9090, "path": "/metrics", "inFlight": "app_requests_in_flight"}"#,
);

/// How many items one pod of the queue's worker finishes in a second.
pub(super) const ITEMS_PER_POD: f64 = 5.0;

/// The cast.
pub(super) static CAST: [Actor; 5] = [
    Actor {
        namespace: "shop",
        name: "checkout",
        about: "a flash sale of ten times the load every 75 s",
        annotations: &[
            CLASS,
            UTILIZATION,
            WINDOW,
            SCRAPE,
            ("autoscaling.knative.dev/target", "10"),
            ("autoscaling.knative.dev/min-scale", "1"),
            ("autoscaling.knative.dev/max-scale", "60"),
        ],
        replicas: 2,
        pod_start: Duration::from_secs(2),
        seen: Seen::AtThePods,
        shape: |second| {
            if second % 75.0 < 20.0 || second < 35.0 {
                20.0
            } else if second % 75.0 < 45.0 {
                200.0
            } else {
                30.0
            }
        },
        has_hpa: false,
    },
    Actor {
        namespace: "shop",
        name: "search",
        about: "a day in two minutes",
        annotations: &[
            CLASS,
            UTILIZATION,
            WINDOW,
            ("autoscaling.knative.dev/target", "10"),
            ("autoscaling.knative.dev/max-scale", "20"),
            ("podswell.dev/source", "gateway"),
        ],
        replicas: 3,
        pod_start: Duration::from_secs(3),
        seen: Seen::RequestsInFlight,
        shape: |second| 60.0 - 40.0 * libm::cos(second * core::f64::consts::TAU / 120.0),
        has_hpa: false,
    },
    Actor {
        namespace: "media",
        name: "thumbnails",
        about: "short bursts of requests, no more than five pods",
        annotations: &[
            CLASS,
            UTILIZATION,
            WINDOW,
            ("autoscaling.knative.dev/metric", "rps"),
            ("autoscaling.knative.dev/target", "20"),
            ("autoscaling.knative.dev/max-scale", "5"),
            ("podswell.dev/source", "ingress"),
        ],
        replicas: 1,
        pod_start: Duration::from_secs(2),
        seen: Seen::RequestRate,
        shape: |second| if second % 40.0 < 8.0 { 150.0 } else { 10.0 },
        has_hpa: false,
    },
    Actor {
        namespace: "batch",
        name: "nightly-sync",
        about: "200 items once a minute; sleeps at zero between them",
        annotations: &[
            CLASS,
            WINDOW,
            ("autoscaling.knative.dev/metric", "backlog"),
            ("autoscaling.knative.dev/target", "20"),
            ("autoscaling.knative.dev/max-scale", "10"),
            ("podswell.dev/source", "queue"),
        ],
        replicas: 0,
        pod_start: Duration::from_secs(2),
        seen: Seen::Queue,
        shape: |second| if second % 60.0 >= 15.0 && second % 60.0 < 17.0 { 100.0 } else { 0.0 },
        has_hpa: false,
    },
    Actor {
        namespace: "shop",
        name: "legacy-api",
        about: "an HPA works on it: podswell watches and does not write",
        annotations: &[
            CLASS,
            UTILIZATION,
            WINDOW,
            SCRAPE,
            ("autoscaling.knative.dev/target", "10"),
        ],
        replicas: 4,
        pod_start: Duration::from_secs(8),
        seen: Seen::AtThePods,
        shape: |second| 25.0 + 15.0 * libm::sin(second * core::f64::consts::TAU / 90.0),
        has_hpa: true,
    },
];

impl Actor {
    /// The load at a moment: the shape with up to 5 % of noise that holds for a second. ≥ 0.
    pub(super) fn load(&self, seed: u64, second: f64) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a story has few seconds, none negative"
        )]
        let whole = second.max(0.0) as u64;
        let mut noise = Pcg32::seed_from_u64(seed ^ whole.rotate_left(17) ^ self.name.len() as u64);
        let factor: f64 = noise.random_range(0.95..1.05);
        ((self.shape)(second) * factor).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_plays_the_same_load() {
        for actor in &CAST {
            for second in 0..300 {
                let second = f64::from(second);
                let load = actor.load(7, second);
                assert!(load.is_finite() && load >= 0.0, "{}: {load}", actor.name);
                assert_eq!(load.to_bits(), actor.load(7, second).to_bits());
            }
            let of = |seed: u64| {
                (0..60)
                    .map(|second| actor.load(seed, f64::from(second)).to_bits())
                    .collect::<Vec<_>>()
            };
            assert_ne!(of(7), of(8), "{}", actor.name);
        }
    }
}
