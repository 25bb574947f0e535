//! Ghost lines on the chart of a workload: what others would have made of the load that it had. An HPA is
//! computed by the simulator; a scaler that takes silence for idleness needs no simulator.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cast::{Actor, Seen, bounds};
use super::score::{Book, is_compared};
use crate::sim::number;
use crate::sim::scenario::{Autoscaler, HpaOptions};
use crate::sim::simulation;

/// What is needed for the lines of one workload, copied so that nobody waits while they are computed.
pub(super) struct Ghosts {
    actor: Actor,
    book: Book,
    seed: u64,
    /// The time of the demo's first second.
    began: Timestamp,
}

/// Replicas from a moment on, in seconds after the books began.
type Line = Vec<(f64, i32)>;

/// The lines of a workload; those of one that nobody knows are none.
pub(super) fn show(ghosts: Option<&Ghosts>) -> Value {
    let lines = ghosts.map(Ghosts::lines).unwrap_or_default();
    json!({ "apiVersion": "podswell.dev/v1", "kind": "DemoGhosts", "ghosts": lines })
}

impl Ghosts {
    pub(super) fn new(actor: Actor, book: Book, (seed, began): (u64, Timestamp)) -> Self {
        Self { actor, book, seed, began }
    }

    /// Computes the lines that say something of this workload.
    fn lines(&self) -> Vec<Value> {
        let mut ghosts = Vec::new();
        if is_compared(&self.actor) && !self.book.levels.is_empty() {
            let about = "an HPA on the same load: 15 s sync, 10 % tolerance, 300 s stabilization";
            ghosts.push(self.ghost("HPA", about, &self.hpa()));
        }
        if self.actor.seen != Seen::AtThePods && self.actor.items_per_pod.is_none() {
            let about = "a scaler that takes silence for idleness";
            ghosts.push(self.ghost("silence is zero", about, &self.naive()));
        }
        ghosts
    }

    fn ghost(&self, who: &str, about: &str, line: &Line) -> Value {
        let mut before = None;
        let last = line.len().saturating_sub(1);
        let points = line.iter().enumerate().filter_map(|(at, (second, replicas))| {
            let is_new = before.replace(*replicas) != Some(*replicas);
            (is_new || at == last)
                .then(|| json!({ "at": self.time(*second), "replicas": replicas }))
        });
        json!({ "who": who, "about": about, "points": points.collect::<Vec<_>>() })
    }

    fn time(&self, second: f64) -> String {
        let since = Duration::try_from_secs_f64(self.book.began + second).unwrap_or_default();
        self.began.checked_add(since).unwrap_or(self.began).to_string()
    }

    fn hpa(&self) -> Line {
        let mut scenario = self.book.scenario(&self.actor, self.seed);
        scenario.policies = vec![Autoscaler::Hpa(HpaOptions::default())];
        let outcomes = simulation::run("ghost", &scenario, None).map(|report| report.outcomes);
        // A load that the simulator refuses has no line.
        let outcomes = outcomes.unwrap_or_default();
        let series = outcomes.first().and_then(|outcome| outcome.series.as_ref());
        let moments = series.into_iter().flat_map(|series| &series.moments);
        moments.map(|moment| (number::seconds(moment.at), moment.replicas)).collect()
    }

    fn naive(&self) -> Line {
        let (_, most) = bounds(&self.actor.annotations);
        let wanted = |heard: f64| number::pods(heard / self.actor.per_pod).clamp(1, most);
        let levels = (0_u32..).zip(&self.book.levels);
        levels
            .map(|(second, level)| {
                let heard = if level.silent { 0.0 } else { level.mean() };
                (f64::from(second), wanted(heard))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::cast::cast;
    use crate::demo::score::{Books, Entry};
    use crate::demo::town::Pods;

    fn lines(name: &str, silent_from: u32) -> Vec<(String, Vec<f64>)> {
        let cast = cast(1, None);
        let actor = cast.iter().find(|actor| actor.name == name).unwrap();
        let mut books = Books::default();
        for second in 0..120_u32 {
            let load = if second < 60 { 20.0 } else { 80.0 };
            let pods = Pods { ready: 2, placed: 2 };
            let silent = second > silent_from;
            let entry =
                Entry { second: f64::from(second), span_s: 1.0, load, per_pod: 10.0, silent, pods };
            books.span(&format!("{}/{name}", actor.namespace), entry);
        }
        let Some(book) = books.of(actor) else { return Vec::new() };
        let ghosts = Ghosts::new(actor.clone(), book, (1, Timestamp::UNIX_EPOCH));
        let shown = show(Some(&ghosts));
        let ghosts = shown["ghosts"].as_array().unwrap().iter();
        ghosts
            .map(|ghost| {
                let points = ghost["points"].as_array().unwrap();
                assert!(
                    points[0]["at"].as_str().unwrap().starts_with("1970-01-01T00:0"),
                    "{ghost}"
                );
                let replicas = points.iter().map(|point| point["replicas"].as_f64().unwrap());
                (ghost["who"].as_str().unwrap().to_owned(), replicas.collect())
            })
            .collect()
    }

    #[test]
    fn each_workload_has_the_ghosts_that_fit_it() {
        let search = lines("search", 90);
        let who: Vec<_> = search.iter().map(|(who, _)| who.as_str()).collect();
        assert_eq!(who, ["HPA", "silence is zero"]);
        assert!(search[0].1.last().is_some_and(|last| *last > 2.0), "the HPA rises: {search:?}");
        assert_eq!(search[1].1, [2.0, 8.0, 1.0, 1.0], "it falls when it hears nothing");
        let checkout = lines("checkout", 90);
        assert_eq!(checkout.len(), 1, "{checkout:?}");
        assert!(lines("nightly-sync", 90).is_empty());
        assert!(lines("legacy-api", 90).is_empty(), "it has an HPA in earnest");
    }
}
