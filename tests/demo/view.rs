//! The live view: what is there, what podswell makes of it, and what the API server says.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::screen::{Row, Screen};
use crate::stage::{ALL, Stage, Workload};

/// How often the row of the workload in focus is printed.
const FOCUS: Duration = Duration::from_secs(1);
/// How often the row of another workload is printed though nothing happens to it.
const OTHERS: Duration = Duration::from_secs(10);
/// How often a workload is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(200);

/// A workload at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Sight {
    pub(crate) replicas: i32,
    pub(crate) ready: i32,
    pub(crate) panicking: bool,
    /// The state of the signal, such as `fresh`.
    pub(crate) signal: String,
    /// Why a decision is not written, or nothing.
    pub(crate) gate: String,
    /// What podswell wants within the bounds; negative while it wants nothing yet.
    pub(crate) desired: i64,
    row: Row,
}

impl Sight {
    /// Whether podswell has nothing to write and no pod is missing.
    pub(crate) fn is_steady(&self) -> bool {
        self.desired == i64::from(self.replicas) && self.ready == self.replicas && !self.panicking
    }
}

/// All workloads of the story at one moment, by `namespace/name`.
pub(crate) type Sights = BTreeMap<String, Sight>;

/// Looks at every workload.
pub(crate) async fn look(stage: &Stage) -> Sights {
    let sights = ALL.map(|workload| async move { (workload.key(), sight(stage, workload).await) });
    futures::future::join_all(sights).await.into_iter().collect()
}

async fn sight(stage: &Stage, workload: Workload) -> Sight {
    let status = stage.status(workload).await;
    let decision = &status["decision"];
    let seen = stage.record.now(&workload.key());
    let (replicas, ready) = seen.map_or((0, 0), |seen| (seen.replicas, seen.ready));
    let signal = text(&decision["signal"]["state"]);
    let gate = text(&decision["gate"]);
    let panicking = !decision["panicMode"].is_null();
    let load = stage.node.table().in_flight(workload.namespace, workload.name);
    let reason = match (gate.as_str(), decision["reason"].as_str()) {
        ("", reason) => reason.unwrap_or("-").to_owned(),
        (gate, _) => gate.to_owned(),
    };
    Sight {
        replicas,
        ready,
        panicking,
        desired: decision["bounded"].as_i64().unwrap_or(-1),
        row: Row {
            workload: workload.key(),
            load,
            stable: decision["windows"]["stable"].as_f64(),
            partial: decision["windows"]["stable"] != decision["windows"]["stableHigh"],
            panic: decision["windows"]["panic"].as_f64(),
            desired: decision["bounded"].as_i64(),
            replicas,
            ready,
            reason,
            panicking,
            troubled: signal == "lost" || !gate.is_empty(),
        },
        signal,
        gate,
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Prints the row of the workload in focus each second, those of others when something happened.
#[derive(Debug)]
pub(crate) struct View {
    began: Instant,
    printed: BTreeMap<String, (Row, Instant)>,
}

impl View {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), printed: BTreeMap::new() }
    }

    /// How long the story has been going on.
    pub(crate) fn time(&self) -> Duration {
        self.began.elapsed()
    }

    /// Prints what is due.
    pub(crate) fn show(&mut self, screen: &Screen, sights: &Sights, focus: Option<Workload>) {
        let now = Instant::now();
        let focus = focus.map(Workload::key);
        for (key, sight) in sights {
            let pause = if focus.as_ref() == Some(key) { FOCUS } else { OTHERS };
            let due = self.printed.get(key).is_none_or(|(row, at)| {
                row.gist() != sight.row.gist() || now.duration_since(*at) >= pause
            });
            if due {
                screen.row(self.time(), &sight.row);
                self.printed.insert(key.clone(), (sight.row.clone(), now));
            }
        }
    }
}
