//! Two processes: the holder is killed, frozen, or cut off from the API server.

use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::Value;

use crate::cell::{Cell, CellOptions, NewWorkload};
use crate::dice::Dice;
use crate::stage::{LIMIT, Stage};
use crate::support::ports::free_ports;
use crate::support::proxy::{Trouble, all};
use crate::support::wait::until;

/// What befalls the holder.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Killed,
    Frozen,
    CutOff,
}

async fn leads(cell: &Cell) -> bool {
    cell.of_itself().await["leader"] == true
}

/// How often the lease went from one to the other.
async fn transitions(stage: &Stage) -> Option<i32> {
    let leases: Api<Lease> = Api::namespaced(stage.client.clone(), "pair-system");
    leases.get("podswell").await.expect("read the lease").spec?.lease_transitions
}

async fn takes_over(cell: &Cell) {
    let leading = |status: &Value| status["leader"] == true;
    until(LIMIT, "it leads", leading, || cell.of_itself()).await;
}

/// Who stands by passes on what the holder says.
fn with_peers() -> CellOptions {
    let [port] = free_ports();
    CellOptions {
        flags: vec!["--peer-listen".to_owned(), format!("127.0.0.1:{port}")],
        ..CellOptions::default()
    }
}

pub(crate) async fn killed_frozen_cut_off(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let mut first = Cell::start(&stage, "pair", with_peers()).await;
    first.add(&stage, NewWorkload::new("led")).await;
    let second = Cell::join(&stage, "pair", "pair-system", with_peers()).await;
    until(
        LIMIT,
        "one of them leads",
        |leads| *leads,
        || async { leads(&first).await || leads(&second).await },
    )
    .await;
    second.settles(&first.workloads[0]).await;
    first.mark();
    second.mark();
    let workload = &first.workloads[0];
    let mut pods = 5;
    for fate in dice.shuffled(vec![Fate::Killed, Fate::Frozen, Fate::CutOff]) {
        let [holder, heir] =
            if leads(&first).await { [&first, &second] } else { [&second, &first] };
        let written = heir.proxy.scale_writes();
        match fate {
            Fate::Killed => holder.podswell.lock().await.kill(),
            Fate::Frozen => holder.podswell.lock().await.signal("STOP"),
            Fate::CutOff => holder.proxy.set(&[(all, Trouble::Silence)]),
        }
        pods = if pods == 5 { 8 } else { 5 };
        workload.asks_for(pods);
        takes_over(heir).await;
        if matches!(fate, Fate::CutOff) {
            let says_so = |status: &Value| status["lease"]["fault"] == "Timeout";
            until(LIMIT, "it says why it leads no more", says_so, || holder.of_itself()).await;
            assert!(holder.proxy.struck()[0] > 0, "nothing was cut off");
        }
        if pods == 8 {
            workload.reaches(8).await;
            assert!(heir.proxy.scale_writes() > written, "somebody else wrote");
        }
        let (written, before) = (holder.proxy.scale_writes(), transitions(&stage).await);
        match fate {
            Fate::Killed => holder.podswell.lock().await.restart().await,
            Fate::Frozen => holder.podswell.lock().await.signal("CONT"),
            Fate::CutOff => holder.proxy.heal(),
        }
        workload.endures(dice.millis(3000..=5000)).await;
        // On a busy machine the heir may lose the lease in its turn; then the old holder may write again.
        let now = holder.proxy.scale_writes();
        if leads(heir).await && transitions(&stage).await == before {
            assert_eq!(now, written, "{fate:?}: an old holder writes");
        }
        holder.hears_all().await;
        if pods == 5 {
            workload.comes_down_to(5).await;
        }
        tokio::join!(first.settles(workload), second.settles(workload));
    }
    workload.shrinks_to(5).await;
    workload.has_lost_nothing();
    vec![first, second]
}
