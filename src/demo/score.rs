//! What the demo's workloads cost and what that was good for, beside what a `HorizontalPodAutoscaler` would
//! have made of the same load: the first is added up while the demo runs, the second is computed by the
//! simulator from the load that was recorded on the way.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::cast::Actor;
use super::town::{Pods, full_name};
use crate::core::duration::GoDuration;
use crate::core::keys;
use crate::sim::number;
use crate::sim::scenario::{
    Amount, Arrivals, Autoscaler, Cluster, Detail, EngineOptions, HpaOptions, Part, Point,
    Recorded, Scenario, Source, Span, Target, Time, Unit,
};
use crate::sim::simulation;

/// The longest stretch that is written down, in seconds; what comes later is not part of the score.
const LONGEST: usize = 3600;

/// The shortest stretch of which a score says anything, in seconds.
pub(super) const SHORTEST: usize = 30;

/// How the numbers came about; stands beside them.
pub(super) const HOW: &str = "Measured: what happened here. Computed: the simulator of podswell simulate \
    on the load recorded here, second by second, with the same pods' start-up time and bounds, and \
    without the faults; requests that find no place wait there. HPA: 15 s sync, 10 % tolerance, 300 s \
    stabilization; because this story is short, also with a stabilization as short as podswell's window. \
    Pod-seconds: pods that exist, times seconds. Unmet: pods that the load would have needed and that \
    were not ready, times seconds.";

/// One second of a workload's load.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Level {
    /// The sum of what was seen.
    sum: f64,
    /// How often it was looked at.
    count: u32,
    /// Whether who asks heard nothing of it.
    pub(super) silent: bool,
}

impl Level {
    /// The mean of what was seen in this second, ≥ 0.
    pub(super) fn mean(self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / f64::from(self.count) }
    }
}

/// A moment of one workload, as it is written down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Seconds of the demo, ≥ 0.
    pub(super) second: f64,
    /// How long nothing has changed, in seconds, ≥ 0.
    pub(super) span_s: f64,
    /// The load, in the unit of the workload's metric, ≥ 0.
    pub(super) load: f64,
    /// What one pod bears of it, > 0.
    pub(super) per_pod: f64,
    /// Whether who asks hears nothing of the load.
    pub(super) silent: bool,
    pub(super) pods: Pods,
}

/// The books of one workload.
#[derive(Clone, Debug)]
pub(super) struct Book {
    /// The second of the demo at which it begins.
    pub(super) began: f64,
    /// Ready pods at the beginning.
    start: usize,
    /// Its load, second by second.
    pub(super) levels: Vec<Level>,
    pod_s: f64,
    unmet_s: f64,
    starts: u64,
    most: usize,
}

/// The books of all workloads, by `namespace/name`.
#[derive(Debug, Default)]
pub(super) struct Books(BTreeMap<String, Book>);

impl Books {
    /// A pod of the workload was started.
    pub(super) fn started(&mut self, name: &str) {
        if let Some(book) = self.0.get_mut(name).filter(|book| book.levels.len() < LONGEST) {
            book.starts += 1;
        }
    }

    /// The last seconds of a workload. The books begin when all its pods are ready for the first time.
    pub(super) fn span(&mut self, name: &str, entry: Entry) {
        if let Some(book) = self.0.get_mut(name) {
            book.span(entry);
            return;
        }
        let Entry { second, pods, .. } = entry;
        if pods.ready > 0 && pods.ready >= pods.placed {
            let book = Book {
                began: second,
                start: pods.ready,
                levels: Vec::new(),
                pod_s: 0.0,
                unmet_s: 0.0,
                starts: 0,
                most: pods.ready,
            };
            self.0.insert(name.to_owned(), book);
        }
    }

    /// A copy of one workload's books.
    pub(super) fn of(&self, actor: &Actor) -> Option<Book> {
        self.0.get(&full_name(&actor.namespace, &actor.name)).cloned()
    }
}

impl Book {
    fn span(&mut self, entry: Entry) {
        let Entry { second, span_s, load, per_pod, silent, pods } = entry;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the seconds since the beginning are ≥ 0 and few"
        )]
        let at = (second - self.began).max(0.0) as usize;
        if at >= LONGEST {
            return;
        }
        // A second in which nobody looked was like the one before it.
        let now = Level { sum: load, count: 1, silent };
        let before = self.levels.last().copied().unwrap_or(now);
        while self.levels.len() < at {
            self.levels.push(before);
        }
        if self.levels.len() == at {
            self.levels.push(Level::default());
        }
        if let Some(level) = self.levels.get_mut(at) {
            level.sum += load;
            level.count += 1;
            level.silent |= silent;
        }
        let needed = f64::from(number::pods(load / per_pod));
        self.pod_s += real(pods.placed) * span_s;
        self.unmet_s += (needed - real(pods.ready)).max(0.0) * span_s;
        self.most = self.most.max(pods.placed);
    }

    fn measured(&self) -> Value {
        json!({
            "who": "podswell", "how": "measured", "podSeconds": self.pod_s.round(),
            "unmetPodSeconds": self.unmet_s.round(), "starts": self.starts, "most": self.most,
        })
    }

    /// The same load as a scenario.
    pub(super) fn scenario(&self, actor: &Actor, seed: u64) -> Scenario {
        let points = self.levels.iter().enumerate();
        let points =
            points.map(|(at, level)| Point { at_s: real(at), value: level.mean() }).collect();
        let part =
            Recorded { file: "measured".into(), scale: Amount(1.0), at: Span::default(), points };
        let is_rate = actor
            .annotations
            .get(&keys::METRIC.annotation())
            .is_some_and(|metric| ["rps", "events"].contains(&metric.as_str()));
        Scenario {
            about: String::new(),
            seed,
            duration: Span::seconds(u64::try_from(self.levels.len()).unwrap_or(0)),
            detail: Detail::Fluid,
            target: Target {
                annotations: without_sources(&actor.annotations),
                start: u16::try_from(self.start).unwrap_or(u16::MAX),
                copies: 1,
            },
            config: BTreeMap::new(),
            load: vec![Part::Csv(part)],
            unit: if is_rate { Unit::Rps } else { Unit::Concurrency },
            arrivals: Arrivals::default(),
            service: Time::Constant(Span::seconds(1)),
            source: Source::default(),
            cluster: Cluster {
                pod_start: Time::Constant(Span(actor.pod_start)),
                capacity: Some(Amount(actor.per_pod)),
                grace: Span::seconds(1),
                ..Cluster::default()
            },
            faults: Vec::new(),
            policies: policies(actor),
            expect: BTreeMap::new(),
        }
    }
}

/// The simulator has a source of its own.
fn without_sources(annotations: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut annotations = annotations.clone();
    for key in [&keys::SOURCE, &keys::SCRAPE] {
        annotations.remove(&key.annotation());
    }
    annotations
}

fn policies(actor: &Actor) -> Vec<Autoscaler> {
    let window = actor.annotations.get(&keys::WINDOW.annotation());
    let window = window.and_then(|text| GoDuration::parse(text).ok());
    let window = window.map_or(Duration::from_secs(60), GoDuration::to_std);
    let quick = HpaOptions {
        name: Some(format!("HPA, {} s stabilization", window.as_secs())),
        stabilization: Span(window),
        ..HpaOptions::default()
    };
    let usual = HpaOptions { name: Some("HPA".into()), ..HpaOptions::default() };
    vec![
        Autoscaler::Podswell(EngineOptions::default()),
        Autoscaler::Hpa(usual),
        Autoscaler::Hpa(quick),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "pods and seconds are few")]
fn real(count: usize) -> f64 {
    count as f64
}

/// Whether there is anything to compare: podswell scales it, and an HPA could.
pub(super) fn is_compared(actor: &Actor) -> bool {
    !actor.has_hpa && actor.items_per_pod.is_none()
}

/// What is needed for the scores, copied so that nobody waits while they are computed.
pub(super) struct Score {
    workloads: Vec<(Actor, Book)>,
    seed: u64,
}

impl Score {
    /// Of those workloads of the cast that can be compared and have run for long enough.
    pub(super) fn of(cast: &[Actor], books: &Books, seed: u64) -> Self {
        let compared = cast.iter().filter(|actor| is_compared(actor));
        let workloads = compared
            .filter_map(|actor| Some((actor.clone(), books.of(actor)?)))
            .filter(|(_, book)| book.levels.len() >= SHORTEST)
            .collect();
        Self { workloads, seed }
    }

    /// Computes and shows them.
    pub(super) fn show(&self) -> Value {
        let workloads = self.workloads.iter().map(|(actor, book)| {
            let mut rows = vec![book.measured()];
            match simulation::run("score", &book.scenario(actor, self.seed), None) {
                Ok(report) => rows.extend(report.outcomes.iter().map(|outcome| {
                    let figures = &outcome.figures;
                    json!({
                        "who": outcome.policy, "how": "computed",
                        "podSeconds": figures.pod_seconds.map(f64::round),
                        "unmetPodSeconds": figures.unmet_pod_seconds.map(f64::round),
                        "starts": figures.starts, "most": figures.max_scale,
                    })
                })),
                Err(why) => rows.push(json!({ "who": "simulator", "how": why })),
            }
            json!({
                "namespace": actor.namespace, "name": actor.name, "seconds": book.levels.len(),
                "rows": rows,
            })
        });
        json!({
            "apiVersion": "podswell.dev/v1", "kind": "DemoScore", "how": HOW, "seed": self.seed,
            "shortestSeconds": SHORTEST, "workloads": workloads.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::cast::cast;

    fn entry(second: f64, load: f64, pods: usize) -> Entry {
        let pods = Pods { ready: pods, placed: pods };
        Entry { second, span_s: 0.2, load, per_pod: 10.0, silent: false, pods }
    }

    /// Sixty calm seconds and sixty of ten times the load, served by as many pods as are needed, at once.
    fn played() -> (Books, Vec<Actor>) {
        let mut books = Books::default();
        let name = "shop/checkout";
        books.span(name, entry(0.0, 20.0, 2));
        for step in 1..=600_u32 {
            let second = f64::from(step) * 0.2;
            let burst = second > 60.0;
            let (load, pods) = if burst { (200.0, 20) } else { (20.0, 2) };
            books.span(name, entry(second, load, pods));
        }
        for _ in 0..18 {
            books.started(name);
        }
        (books, cast(1, None).to_vec())
    }

    #[test]
    fn the_hpa_is_computed_on_the_recorded_load() {
        let (books, cast) = played();
        let shown = Score::of(&cast, &books, 7).show();
        let workloads = shown["workloads"].as_array().unwrap();
        assert_eq!(workloads.len(), 1, "the others have no books: {shown}");
        let rows = workloads[0]["rows"].as_array().unwrap();
        let of = |who: &str, how: &str| {
            let row = rows.iter().find(|row| row["who"] == who && row["how"] == how).unwrap();
            let number = |key: &str| row[key].as_f64().unwrap();
            (number("podSeconds"), number("unmetPodSeconds"), number("starts"))
        };
        let measured = of("podswell", "measured");
        assert!((measured.0 - 1320.0).abs() < 10.0, "{measured:?}");
        assert_eq!((measured.1, measured.2), (0.0, 18.0), "{measured:?}");
        let (computed, hpa) = (of("podswell", "computed"), of("HPA", "computed"));
        assert!(computed.1 > 0.0 && computed.1 < hpa.1, "{computed:?} beside {hpa:?}");
        assert!(computed.2 >= 18.0, "{computed:?}");
    }

    #[test]
    fn a_short_stretch_has_no_score() {
        let (mut books, cast) = (Books::default(), cast(1, None));
        for second in 0..20_u32 {
            books.span("shop/checkout", entry(f64::from(second), 20.0, 2));
        }
        let shown = Score::of(&cast, &books, 7).show();
        assert!(shown["workloads"].as_array().unwrap().is_empty(), "{shown}");
    }
}
