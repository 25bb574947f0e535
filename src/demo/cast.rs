//! Who plays in the demo: six workloads with the load that makes each of them worth watching, and one more
//! whose load a scenario file tells. Pure and seeded, so that the same seed plays the same load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg32;

use super::scenario::Played;
use crate::core::annotations::lookup;
use crate::core::duration::GoDuration;
use crate::core::keys;
use crate::core::number::parse_i32;

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
    /// Prometheus has what a scenario file tells.
    Scenario,
}

/// The shortest window that podswell takes; no speed makes one shorter.
const SHORTEST_WINDOW: Duration = Duration::from_secs(6);

/// Annotations whose value is a time of the story.
const TIMES: [&keys::Key; 3] = [&keys::WINDOW, &keys::SCALE_DOWN_DELAY, &keys::RETENTION];

/// What the load of a workload is at a moment of the story.
#[derive(Clone, Debug)]
enum Shape {
    /// By a formula of the second.
    Formula(fn(second: f64) -> f64),
    /// A level for each second, from the beginning again when they are over.
    Seconds(Arc<[f64]>),
}

impl Shape {
    fn at(&self, second: f64) -> f64 {
        match self {
            Self::Formula(formula) => formula(second),
            Self::Seconds(levels) => {
                let at = whole(second).checked_rem(levels.len()).unwrap_or(0);
                levels.get(at).copied().unwrap_or(0.0)
            }
        }
    }
}

/// A second ≥ 0 of the story without its fraction.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a story has few seconds, none negative"
)]
fn whole(second: f64) -> usize {
    second.max(0.0) as usize
}

/// One workload of the demo.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) about: String,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) replicas: i32,
    /// How long its pods take to become ready.
    pub(super) pod_start: Duration,
    pub(super) seen: Seen,
    /// How much load one pod bears.
    pub(super) per_pod: f64,
    /// How many items one of its pods finishes in a second, where it works on a queue.
    pub(super) items_per_pod: Option<f64>,
    /// Whether an HPA works on it as well.
    pub(super) has_hpa: bool,
    shape: Shape,
    /// How much faster than the clock its story runs, 1 ..= 10.
    speed: u8,
    /// The largest share by which chance moves the load.
    noise: f64,
}

/// What is written of one workload before anybody chooses a speed.
struct Role {
    namespace: &'static str,
    name: &'static str,
    about: &'static str,
    annotations: &'static [(&'static str, &'static str)],
    replicas: i32,
    pod_start: Duration,
    seen: Seen,
    per_pod: f64,
    /// Requests in flight, requests a second or arriving items a second, `second` seconds into the story.
    shape: fn(second: f64) -> f64,
    has_hpa: bool,
}

const CLASS: (&str, &str) = ("autoscaling.knative.dev/class", "kpa.podswell.dev");
const UTILIZATION: (&str, &str) = ("autoscaling.knative.dev/target-utilization-percentage", "100");
const WINDOW: (&str, &str) = ("autoscaling.knative.dev/window", "15s");
const SCRAPE: (&str, &str) = (
    "podswell.dev/scrape",
    r#"{"port": 9090, "path": "/metrics", "inFlight": "app_requests_in_flight"}"#,
);

/// How many items one pod of the queue's worker finishes in a second.
const ITEMS_PER_POD: f64 = 5.0;

/// The cast as it plays at speed 1.
static ROLES: [Role; 6] = [
    Role {
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
        per_pod: 10.0,
        has_hpa: false,
    },
    Role {
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
        per_pod: 10.0,
        has_hpa: false,
    },
    Role {
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
        per_pod: 20.0,
        has_hpa: false,
    },
    Role {
        namespace: "office",
        name: "report-jvm",
        about: "pods that need 25 s to start: panic holds until they are there, a delay keeps them for the next rush",
        annotations: &[
            CLASS,
            UTILIZATION,
            WINDOW,
            SCRAPE,
            ("autoscaling.knative.dev/target", "10"),
            ("autoscaling.knative.dev/max-scale", "12"),
            ("autoscaling.knative.dev/scale-down-delay", "30s"),
        ],
        replicas: 1,
        pod_start: Duration::from_secs(25),
        seen: Seen::AtThePods,
        shape: |second| if (45.0..80.0).contains(&(second % 110.0)) { 60.0 } else { 8.0 },
        per_pod: 10.0,
        has_hpa: false,
    },
    Role {
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
        per_pod: 20.0,
        has_hpa: false,
    },
    Role {
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
        per_pod: 10.0,
        has_hpa: true,
    },
];

/// The cast at this speed, with the workload of a scenario if there is one.
pub(super) fn cast(speed: u8, played: Option<&Played>) -> Arc<[Actor]> {
    let actors = ROLES.iter().map(|role| role.at(speed));
    actors.chain(played.map(|played| Actor::of_scenario(played, speed))).collect()
}

impl Role {
    fn at(&self, speed: u8) -> Actor {
        let annotations =
            self.annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Actor {
            namespace: self.namespace.to_owned(),
            name: self.name.to_owned(),
            about: self.about.to_owned(),
            annotations: sped(annotations.collect(), speed),
            replicas: self.replicas,
            pod_start: self.pod_start / u32::from(speed),
            seen: self.seen,
            per_pod: self.per_pod,
            items_per_pod: (self.seen == Seen::Queue).then(|| ITEMS_PER_POD * f64::from(speed)),
            has_hpa: self.has_hpa,
            shape: Shape::Formula(self.shape),
            speed,
            noise: 0.05,
        }
    }
}

/// The annotations with their times divided by the speed, as far as podswell takes them.
fn sped(mut annotations: BTreeMap<String, String>, speed: u8) -> BTreeMap<String, String> {
    for key in TIMES {
        let Some(value) = annotations.get_mut(&key.annotation()) else { continue };
        // What is no time stays as it is: podswell says on the page what is wrong with it.
        let Ok(time) = GoDuration::parse(value) else { continue };
        let least = if key.name == keys::WINDOW.name { SHORTEST_WINDOW } else { Duration::ZERO };
        let time = (time.to_std() / u32::from(speed)).max(least.min(time.to_std()));
        *value = GoDuration::from_std(time).to_string();
    }
    annotations
}

/// The ceiling of a workload that names none.
const USUAL_MAX: i32 = 100;

/// The fewest and the most pods that a workload's annotations allow.
pub(super) fn bounds(annotations: &BTreeMap<String, String>) -> (i32, i32) {
    let number = |key| lookup(annotations, key).and_then(|found| parse_i32(found.value).ok());
    let most = number(&keys::MAX_SCALE).filter(|most| *most > 0).unwrap_or(USUAL_MAX);
    (number(&keys::MIN_SCALE).unwrap_or(0).min(most), most)
}

impl Actor {
    fn of_scenario(played: &Played, speed: u8) -> Self {
        Self {
            namespace: super::scenario::NAMESPACE.to_owned(),
            name: played.name.clone(),
            about: played.about.clone(),
            annotations: sped(played.annotations.clone(), speed),
            replicas: played.replicas,
            pod_start: played.pod_start / u32::from(speed),
            seen: Seen::Scenario,
            per_pod: played.per_pod,
            items_per_pod: played.items_per_pod.map(|items| items * f64::from(speed)),
            has_hpa: false,
            shape: Shape::Seconds(played.levels.clone()),
            speed,
            noise: 0.0,
        }
    }

    /// Whether it is the workload of these names.
    pub(super) fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }

    /// The load, this many seconds of the clock after the start: the shape with up to 5 % of noise that
    /// holds for a second of the story; what a scenario tells has no more noise than it tells. ≥ 0. Items
    /// arrive as much faster as the story runs, so that their number stays the same.
    pub(super) fn load(&self, seed: u64, elapsed: f64) -> f64 {
        let second = elapsed * f64::from(self.speed);
        let moment = u64::try_from(whole(second)).unwrap_or(u64::MAX);
        let mut noise =
            Pcg32::seed_from_u64(seed ^ moment.rotate_left(17) ^ self.name.len() as u64);
        let factor = 1.0 + self.noise * noise.random_range(-1.0..1.0);
        let pace = if self.items_per_pod.is_some() { f64::from(self.speed) } else { 1.0 };
        (self.shape.at(second) * pace * factor).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_controller() {
        for (annotations, expected) in [
            (&[][..], (0, 100)),
            (&[("min-scale", "2"), ("max-scale", "9")], (2, 9)),
            (&[("minScale", "2"), ("maxScale", "190")], (2, 190)),
            (&[("max-scale", "0")], (0, 100)),
            (&[("min-scale", "9"), ("max-scale", "5")], (5, 5)),
            (&[("max-scale", "nan")], (0, 100)),
        ] {
            let annotations = annotations.iter().map(|(key, value)| {
                (format!("autoscaling.knative.dev/{key}"), (*value).to_owned())
            });
            assert_eq!(bounds(&annotations.collect()), expected);
        }
    }

    #[test]
    fn the_same_seed_plays_the_same_load() {
        for actor in cast(1, None).iter() {
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

    #[test]
    fn speed_shortens_the_story_and_what_podswell_waits_for() {
        let (slow, fast) = (cast(1, None), cast(10, None));
        for (slow, fast) in slow.iter().zip(fast.iter()) {
            let pace = if slow.seen == Seen::Queue { 10.0 } else { 1.0 };
            for second in 0..20 {
                let second = f64::from(second);
                let (usual, sooner) = (slow.load(7, second * 10.0), fast.load(7, second));
                assert!((usual * pace - sooner).abs() < 1e-9, "{}: {usual} {sooner}", slow.name);
            }
            assert_eq!(slow.annotations[&keys::WINDOW.annotation()], "15s");
            assert_eq!(fast.annotations[&keys::WINDOW.annotation()], "6s");
            assert_eq!(fast.pod_start * 10, slow.pod_start);
        }
    }

    #[test]
    fn a_scenario_begins_again_when_it_is_over() {
        let played = Played {
            name: "steps".to_owned(),
            about: String::new(),
            annotations: BTreeMap::new(),
            metric: "concurrency",
            replicas: 1,
            pod_start: Duration::ZERO,
            per_pod: 10.0,
            items_per_pod: None,
            visible_at_zero: false,
            levels: [1.0, 2.0, 3.0].into(),
            left_out: Vec::new(),
        };
        let actors = cast(2, Some(&played));
        let loads = |at: &[f64]| at.iter().map(|at| actors[6].load(1, *at)).collect::<Vec<_>>();
        assert_eq!(loads(&[0.0, 0.5, 1.0, 1.4, 1.5, 2.0]), [1.0, 2.0, 3.0, 3.0, 1.0, 2.0]);
    }
}
