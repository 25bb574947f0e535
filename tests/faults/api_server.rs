//! What an API server can do to a controller: refuse, ask for patience, fail, say nothing, store without
//! saying so, forget versions, drop watches, be late with events.

use std::sync::Arc;

use crate::cell::{Cell, CellOptions, NewWorkload, WINDOW};
use crate::dice::Dice;
use crate::stage::Stage;
use crate::support::proxy::{self, Matcher, Trouble};

/// The scale cannot be written, or it is not known whether it was.
pub(crate) async fn writes(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let mut cell = Cell::start(&stage, "writes", CellOptions::default()).await;
    cell.add(&stage, NewWorkload::new("written")).await;
    cell.mark().await;
    let troubles: Vec<(Matcher, Trouble)> = vec![
        (proxy::scale_writes, Trouble::Status(409, None)),
        (proxy::scale_writes, Trouble::Status(429, Some(dice.number(1..=3)))),
        (proxy::scale_writes, Trouble::Status(500, None)),
        (proxy::scales, Trouble::Status(503, None)),
        (proxy::scale_writes, Trouble::Silence),
        (proxy::scale_writes, Trouble::Closed),
        (proxy::scale_writes, Trouble::Unanswered),
        (proxy::scales, Trouble::Late(dice.millis(500..=3000))),
    ];
    let workload = &cell.workloads[0];
    let mut pods = 5;
    for trouble in dice.shuffled(troubles) {
        let before = cell.proxy.scale_writes();
        cell.proxy.set(&[trouble]);
        // Up and down in turn, so that each kind of write meets some trouble.
        pods = if pods == 5 { 8 } else { 5 };
        workload.asks_for(pods);
        workload.endures(dice.millis(4000..=7000)).await;
        let tried = cell.proxy.scale_writes() - before;
        assert!(tried <= 80, "{tried} writes, one after the other");
        cell.proxy.heal();
        if pods == 8 {
            workload.reaches(8).await;
        }
    }
    workload.shrinks_to(5).await;
    workload.has_lost_nothing();
    vec![cell]
}

/// What happens in the cluster is heard late, or not at all, or everything has to be read anew.
pub(crate) async fn watches(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let mut cell = Cell::start(&stage, "watches", CellOptions::default()).await;
    cell.add(&stage, NewWorkload::new("watched")).await;
    cell.mark().await;
    let troubles: Vec<Vec<(Matcher, Trouble)>> = vec![
        vec![(proxy::watches, Trouble::Gone)],
        vec![(proxy::watches, Trouble::Gone), (proxy::lists, Trouble::Status(500, None))],
        vec![(proxy::watches, Trouble::Late(dice.millis(1000..=4000)))],
        vec![(proxy::watches, Trouble::Silence)],
        vec![(proxy::watches, Trouble::Closed)],
        vec![(proxy::watches, Trouble::Status(429, Some(1)))],
        vec![(proxy::all, Trouble::Silence)],
        vec![(proxy::all, Trouble::Status(500, None))],
        // Every open watch breaks, again and again.
        Vec::new(),
    ];
    let workload = &cell.workloads[0];
    let mut pods = 5;
    for trouble in dice.shuffled(troubles) {
        let (asked, cuts) = (cell.proxy.requests(), trouble.is_empty());
        cell.proxy.set(&trouble);
        pods = if pods == 5 { 7 } else { 5 };
        workload.asks_for(pods);
        for _ in 0..4 {
            if cuts {
                cell.proxy.cut();
            }
            workload.endures(dice.millis(1000..=1700)).await;
        }
        let asked = cell.proxy.requests() - asked;
        assert!(asked <= 1500, "{asked} requests in {WINDOW:?}: {trouble:?}");
        cell.proxy.heal();
        if pods == 7 {
            workload.reaches(7).await;
        }
    }
    workload.shrinks_to(5).await;
    workload.has_lost_nothing();
    vec![cell]
}
