//! What strikes everybody: kube-apiserver is killed and comes back.

use std::sync::Arc;

use serde_json::Value;

use crate::cell::{Cell, Workload};
use crate::dice::Dice;
use crate::stage::{LIMIT, Stage};
use crate::support::wait::until;

pub(crate) async fn of_the_api_server(stage: &Arc<Stage>, cells: &[Cell], mut dice: Dice) {
    let workloads = || cells.iter().flat_map(|cell| &cell.workloads);
    let settling =
        cells.iter().flat_map(|cell| cell.workloads.iter().map(|workload| cell.settles(workload)));
    futures::future::join_all(settling).await;
    stage.plane.write().await.kill_apiserver();
    tokio::time::sleep(dice.millis(0..=2000)).await;
    // The load rises while nothing can be written.
    workloads().for_each(|workload| workload.asks_for(7));
    for cell in cells {
        let says_so = |status: &Value| !status["lease"]["fault"].is_null();
        until(LIMIT, "the lease has a fault", says_so, || cell.of_itself()).await;
    }
    tokio::time::sleep(dice.millis(5000..=9000)).await;
    stage.plane.write().await.start_apiserver().await;
    futures::future::join_all(workloads().map(|workload| workload.reaches(7))).await;
    for cell in cells {
        cell.hears_all().await;
    }
    workloads().for_each(Workload::has_lost_nothing);
}
