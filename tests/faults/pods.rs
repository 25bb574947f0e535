//! Half of the pods cannot be scraped; a single one lies.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::cell::{Cell, CellOptions, NewWorkload};
use crate::dice::Dice;
use crate::stage::{LIMIT, Stage};
use crate::support::app::Fault;
use crate::support::wait::eventually;

pub(crate) async fn unscrapable_and_lying(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let mut cell = Cell::start(&stage, "pods", CellOptions::default()).await;
    cell.add(&stage, NewWorkload::new("scraped")).await;
    cell.mark().await;
    let workload = &cell.workloads[0];
    let half = [
        Fault::Closed,
        Fault::Status(StatusCode::INTERNAL_SERVER_ERROR),
        Fault::Slow(Duration::from_secs(5)),
        Fault::Garbage,
        Fault::Huge(16 << 20),
    ];
    // Who says 0 is believed, and the others can bear that; a large number is bounded by max-scale.
    let one = [
        Fault::NotANumber,
        Fault::Number(-1e6),
        Fault::Number(1e308),
        Fault::Number(1e9),
        Fault::Number(0.0),
    ];
    let faults = half.map(|fault| (fault, true)).into_iter();
    let faults = faults.chain(one.map(|fault| (fault, false))).collect();
    for (fault, is_half) in dice.shuffled(faults) {
        let pods = dice.shuffled(stage.node.table().ready("pods", "scraped"));
        let number = if is_half { pods.len() / 2 } else { 1 };
        for pod in pods.iter().take(number) {
            pod.app.set_fault(fault.clone());
        }
        workload.endures(dice.millis(4000..=6000)).await;
        // A lie that is a number is told from silence; the limit is a million times the target.
        if matches!(fault, Fault::Number(number) if number > 1e7) {
            let named = format!("{} Implausible", pods[0].name);
            eventually(LIMIT, "the pod that lies is named", || async {
                let screen = cell.podswell.lock().await.explain("pods", "scraped");
                if screen.contains(&named) { Ok(()) } else { Err(screen) }
            })
            .await;
        }
        for pod in pods {
            pod.app.set_fault(Fault::None);
        }
        cell.hears_all().await;
    }
    workload.grows_to(7).await;
    workload.shrinks_to(5).await;
    workload.has_lost_nothing();
    vec![cell]
}
