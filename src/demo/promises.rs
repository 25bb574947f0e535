//! Which of podswell's promises can be seen kept while the demo plays, from outside: by what is written on the
//! played cluster while things break. Those that nobody can see from there say where they are proved.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::cast::bounds;
use super::store::at;
use crate::k8s::FIELD_MANAGER;

/// What was decided before a fault may still be written within this time.
const GRACE: Duration = Duration::from_secs(10);

/// Each promise: its name, its words, and where it is proved if it cannot be seen here.
const PROMISES: [(&str, &str, &str); 10] = [
    ("P1", "Unknown never lowers replicas", ""),
    ("P2", "Never outside min-scale and max-scale", ""),
    ("P3", "One writer: without the lease, or beside a rival, nothing is written", ""),
    ("P4", "Constant load, constant replicas", "each run of podswell simulate checks it"),
    (
        "P5",
        "One bad workload delays no other by more than a tick",
        "each run of podswell simulate checks it",
    ),
    ("P6", "A stranger's numbers move nothing", ""),
    ("P7", "Killed at any point, the same end", "podswell simulate --swarm kills it"),
    ("P8", "Bounded memory, whatever a peer does", "tests send floods to each listener and client"),
    ("P9", "Its end changes nothing", "tests end it under load"),
    ("P10", "Same inputs and seed, same decisions", "podswell simulate compares bytes"),
];

/// What is broken at the moment, as far as promises are about it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Situation {
    /// For how long the workload's source has said nothing of use.
    pub(super) silent: Option<Duration>,
    /// For how long another process has held the lease.
    pub(super) rival_leads: Option<Duration>,
    /// Another autoscaler works on the workload.
    pub(super) has_hpa: bool,
    /// A pod that is not the workload's claims its load.
    pub(super) impostor: bool,
    /// The most pods that its load has ever needed.
    pub(super) most_needed: i64,
}

/// How one promise stands.
#[derive(Clone, Debug, Default)]
struct Tally {
    /// How many writes, or moments in which one would have been wrong, were looked at.
    looks: u64,
    broken: Option<String>,
}

/// The fewest and the most replicas.
type Bounds = (i64, i64);

/// The promises, and what they are compared with.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// Replicas and their bounds, as each workload had them at the last look.
    seen: BTreeMap<String, (i64, Bounds)>,
    tallies: BTreeMap<&'static str, Tally>,
}

impl Promises {
    /// Looks at a Deployment as it is stored now.
    pub(super) fn look(&mut self, name: &str, deployment: &Value, now: Situation) {
        let to = at(deployment, "/spec/replicas").as_i64().unwrap_or(1);
        let annotations = at(deployment, "/metadata/annotations");
        let (least, most) = bounds(&BTreeMap::deserialize(annotations).unwrap_or_default());
        let bounds = (i64::from(least), i64::from(most));
        let Some((from, before)) = self.seen.insert(name.to_owned(), (to, bounds)) else { return };
        let wrote = from != to && is_by_podswell(deployment);
        let told = || format!("{name}: {from} → {to}");
        if now.silent.is_some_and(|since| since > GRACE) {
            self.tally("P1", !(wrote && to < from), told);
        }
        if now.has_hpa || now.rival_leads.is_some_and(|since| since > GRACE) {
            self.tally("P3", !wrote, told);
        }
        if now.impostor {
            // Load that moves to pods that have just started may be counted twice for a moment.
            self.tally("P6", !wrote || to <= (2 * now.most_needed).max(bounds.0), told);
        }
        if wrote {
            // What is below the floor is raised to it, if need be in steps.
            let keeps = |(least, most)| to <= most && (to >= least || to > from);
            // Bounds that were changed since the last look may be younger than the write.
            self.tally("P2", keeps(bounds) || keeps(before), told);
        }
    }

    fn tally(&mut self, promise: &'static str, kept: bool, told: impl FnOnce() -> String) {
        let tally = self.tallies.entry(promise).or_default();
        tally.looks += 1;
        if !kept && tally.broken.is_none() {
            tally.broken = Some(told());
        }
    }

    /// All promises, each with how it stands.
    pub(super) fn show(&self) -> Vec<Value> {
        let show = |(name, words, elsewhere): &(&'static str, &str, &str)| {
            let tally = self.tallies.get(name).cloned().unwrap_or_default();
            let state = match (&tally.broken, tally.looks) {
                (Some(_), _) => "broken",
                (None, 0) if !elsewhere.is_empty() => "elsewhere",
                (None, 0) => "waiting",
                (None, _) => "kept",
            };
            json!({
                "name": name, "promise": words, "state": state, "looks": tally.looks,
                "elsewhere": elsewhere, "broken": tally.broken,
            })
        };
        PROMISES.iter().map(show).collect()
    }
}

/// Whether it was podswell who wrote the replicas last.
fn is_by_podswell(deployment: &Value) -> bool {
    let owners = at(deployment, "/metadata/managedFields").as_array();
    let mut owners = owners.into_iter().flatten();
    owners.any(|owner| owner["manager"] == FIELD_MANAGER && owner["subresource"] == "scale")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::keys;

    fn written(replicas: i64, manager: &str) -> Value {
        json!({
            "metadata": {
                "annotations": {
                    keys::MIN_SCALE.annotation(): "2", keys::MAX_SCALE.annotation(): "9",
                },
                "managedFields": [{ "manager": manager, "subresource": "scale" }],
            },
            "spec": { "replicas": replicas },
        })
    }

    #[test]
    fn a_broken_promise_is_seen() {
        let long = Some(Duration::from_secs(11));
        let calm = Situation { most_needed: 5, ..Situation::default() };
        let silent = Situation { silent: long, ..calm };
        let short = Situation { silent: Some(Duration::from_secs(9)), ..calm };
        let stranger = Situation { impostor: true, ..calm };
        for (from, to, now, promise, state) in [
            (5, 4, calm, "P1", "waiting"),
            (5, 4, silent, "P1", "broken"),
            (5, 6, silent, "P1", "kept"),
            (5, 4, short, "P1", "waiting"),
            (5, 9, calm, "P2", "kept"),
            (5, 10, calm, "P2", "broken"),
            (5, 1, calm, "P2", "broken"),
            (0, 1, calm, "P2", "kept"),
            (5, 6, Situation { rival_leads: long, ..calm }, "P3", "broken"),
            (5, 5, Situation { rival_leads: long, ..calm }, "P3", "kept"),
            (5, 6, Situation { has_hpa: true, ..calm }, "P3", "broken"),
            (5, 6, stranger, "P6", "kept"),
            (5, 9, Situation { most_needed: 4, ..stranger }, "P6", "broken"),
            (5, 4, calm, "P10", "elsewhere"),
        ] {
            let state_of = |manager: &str| {
                let mut promises = Promises::default();
                promises.look("shop/web", &written(from, manager), now);
                promises.look("shop/web", &written(to, manager), now);
                let shown = promises.show();
                let found = shown.iter().find(|shown| shown["name"] == promise).unwrap();
                found["state"].as_str().unwrap().to_owned()
            };
            assert_eq!(state_of(FIELD_MANAGER), state, "{promise}: {from} -> {to} {now:?}");
            assert_ne!(state_of("somebody"), "broken", "others promise nothing");
        }
    }
}
