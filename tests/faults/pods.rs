//! Half of the pods cannot be scraped; a single one lies.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use serde_json::Value;

use crate::cell::{Cell, CellOptions, MOST, NewWorkload, Told};
use crate::dice::Dice;
use crate::stage::{LIMIT, Stage};
use crate::support::app::Fault;
use crate::support::table::RunningPod;
use crate::support::wait::{eventually, until};

/// Pause between two looks for pods that are gone.
const PAUSE: Duration = Duration::from_millis(100);

/// What podswell says of a pod.
#[derive(Debug, Clone, Copy)]
enum Said {
    /// That it has this fault; the load is known in part.
    Fault(&'static str),
    /// Its own number, which is believed: so many replicas follow from it.
    Replicas(i32),
}

/// Half of the pods give no number, each in its own way.
pub(crate) async fn unscrapable(stage: Arc<Stage>, dice: Dice) -> Vec<Cell> {
    let cases = vec![
        (Fault::Closed, Said::Fault("Unreachable")),
        (Fault::Status(StatusCode::INTERNAL_SERVER_ERROR), Said::Fault("BadStatus")),
        (Fault::Slow(Duration::from_secs(5)), Said::Fault("Timeout")),
        (Fault::Garbage, Said::Fault("Malformed")),
        (Fault::Huge(16 << 20), Said::Fault("TooLarge")),
    ];
    faulty(&stage, "pods", |pods| pods / 2, cases, dice).await
}

/// One pod gives numbers that are not true. Who says 0 is believed, and the others can bear that; so is
/// who says what can be, within max-scale. The limit of that is a million times the target.
pub(crate) async fn lying(stage: Arc<Stage>, dice: Dice) -> Vec<Cell> {
    let cases = vec![
        (Fault::NotANumber, Said::Fault("InvalidSample")),
        (Fault::Number(-1e6), Said::Fault("InvalidSample")),
        (Fault::Number(1e308), Said::Fault("Implausible")),
        (Fault::Number(1e9), Said::Fault("Implausible")),
        (Fault::Number(1e6), Said::Replicas(MOST)),
        (Fault::Number(0.0), Said::Replicas(4)),
    ];
    faulty(&stage, "liars", |_| 1, cases, dice).await
}

/// Goes through the faults one after the other: of one pod that is believed or not, or of half of them.
async fn faulty(
    stage: &Arc<Stage>,
    name: &str,
    how_many: fn(pods: usize) -> usize,
    cases: Vec<(Fault, Said)>,
    mut dice: Dice,
) -> Vec<Cell> {
    let mut cell = Cell::start(stage, name, CellOptions::default()).await;
    cell.add(stage, NewWorkload::new("scraped")).await;
    cell.mark();
    let workload = &cell.workloads[0];
    for (fault, said) in dice.shuffled(cases) {
        let pods = dice.shuffled(stage.node.table().ready(name, "scraped"));
        let told = match said {
            Said::Fault(fault) => {
                Some(Told { source: "scrape", state: "partial", fault: None, outcome: fault })
            }
            Said::Replicas(_) => None,
        };
        let before = match told {
            Some(told) => cell.counted(&told.series()).await,
            None => 0.0,
        };
        if told.is_none() {
            // The load seems to be another one.
            workload.moves();
        }
        let changes = stage.ledger.changes(&workload.key);
        let struck = Struck::new(pods, fault, how_many);
        let all_told = async {
            is_told(stage, &cell, (&struck, changes), said).await;
            if let Some(told) = told {
                cell.names(workload, told, before).await;
            }
        };
        tokio::select! {
            () = all_told => {}
            () = struck.keep(stage, name) => {}
        }
        workload.endures(dice.millis(3000..=5000)).await;
        for pod in stage.node.table().of(name, "scraped") {
            pod.app.set_fault(Fault::None);
        }
        cell.hears_all().await;
        cell.settles(workload).await;
    }
    workload.grows_to(7).await;
    workload.shrinks_to(5).await;
    workload.has_lost_nothing();
    vec![cell]
}

/// The pods that have a fault.
struct Struck {
    pods: Mutex<Vec<RunningPod>>,
    fault: Fault,
    how_many: fn(pods: usize) -> usize,
}

impl Struck {
    /// The first ones of these.
    fn new(mut pods: Vec<RunningPod>, fault: Fault, how_many: fn(usize) -> usize) -> Self {
        pods.truncate(how_many(pods.len()));
        for pod in &pods {
            pod.app.set_fault(fault.clone());
        }
        Self { pods: pods.into(), fault, how_many }
    }

    /// Replaces those that go, for ever: there may have been a pod more than the load needs.
    async fn keep(&self, stage: &Stage, name: &str) {
        loop {
            tokio::time::sleep(PAUSE).await;
            let ready = stage.node.table().ready(name, "scraped");
            let (number, mut pods) = ((self.how_many)(ready.len()), self.pods.lock());
            pods.retain(|pod| ready.iter().any(|one| one.name == pod.name));
            for pod in ready {
                if pods.len() < number && pods.iter().all(|one| one.name != pod.name) {
                    pod.app.set_fault(self.fault.clone());
                    pods.push(pod);
                }
            }
        }
    }
}

/// Waits until podswell says this of the pods that have a fault.
async fn is_told(stage: &Stage, cell: &Cell, (struck, changes): (&Struck, usize), said: Said) {
    let workload = &cell.workloads[0];
    let name = &*workload.namespace;
    let what = format!("{:?} is told as {said:?}", struck.fault);
    match said {
        Said::Fault(fault) => {
            let path = format!("/v1/targets/{name}/scraped/pods");
            let named = |table: &Value| {
                struck.pods.lock().iter().all(|pod| has_fault(table, &pod.name, fault))
            };
            until(LIMIT, &what, named, || cell.asked_for(&path)).await;
            eventually(LIMIT, &what, || async {
                let screen = cell.podswell.lock().await.explain(name, "scraped");
                let pods = struck.pods.lock();
                let first = pods.first().map(|pod| format!("{} {fault}", pod.name));
                if first.is_some_and(|line| screen.contains(&line)) { Ok(()) } else { Err(screen) }
            })
            .await;
        }
        Said::Replicas(replicas) => {
            let had = || async { stage.ledger.had(&workload.key, changes) };
            until(LIMIT, &what, |had: &Vec<i32>| had.contains(&replicas), had).await;
        }
    }
}

/// Whether podswell's table of pods says so of this one.
fn has_fault(table: &Value, pod: &str, fault: &str) -> bool {
    let mut rows = table["items"].as_array().into_iter().flatten();
    rows.any(|row| row["name"] == pod && row["fault"] == fault)
}
