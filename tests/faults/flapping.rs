//! Somebody cannot make up their mind: annotations change again and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cell::{Cell, CellOptions, NewWorkload, SCRAPE, Workload};
use crate::dice::Dice;
use crate::stage::Stage;

/// For how long.
const SPAN: Duration = Duration::from_secs(25);

pub(crate) async fn annotations(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let mut cell = Cell::start(&stage, "flapping", CellOptions::default()).await;
    cell.add(&stage, NewWorkload::new("undecided")).await;
    cell.add(&stage, NewWorkload::new("neighbour")).await;
    cell.mark();
    let [undecided, neighbour] = &cell.workloads[..] else { panic!("two workloads") };
    // With the higher target its load is the work of fewer.
    undecided.moves();
    let (changes, began) = (stage.ledger.changes(&undecided.key), Instant::now());
    let flaps = [
        ("autoscaling.knative.dev/target", [Some("12"), Some("10")]),
        ("autoscaling.knative.dev/window", [Some("9s"), Some("6s")]),
        ("autoscaling.knative.dev/scale-down-delay", [Some("4s"), None]),
        ("autoscaling.knative.dev/max-scale", [Some("no number"), Some("13")]),
        ("podswell.dev/scrape", [Some("{broken"), Some(SCRAPE)]),
        ("podswell.dev/mode", [Some("paused"), None]),
    ];
    let mut rounds = 0;
    while began.elapsed() < SPAN {
        for (key, values) in dice.shuffled(flaps.to_vec()) {
            let value = values[rounds % 2];
            undecided.deployment.annotate(key, value).await.expect("annotate");
        }
        rounds += 1;
        tokio::time::sleep(dice.millis(400..=1000)).await;
        undecided.has_lost_nothing();
    }
    for (key, [_, value]) in flaps {
        undecided.deployment.annotate(key, value).await.expect("annotate");
    }
    let changes = stage.ledger.changes(&undecided.key) - changes;
    // A busy machine comes to fewer rounds than there are decisions, one each two seconds.
    let decisions = usize::try_from(began.elapsed().as_secs() / 2).expect("some seconds");
    let most = rounds.max(decisions) + 5;
    assert!(changes <= most, "{changes} changes in {rounds} rounds");
    neighbour.grows_to(7).await;
    neighbour.shrinks_to(5).await;
    undecided.reaches(5).await;
    undecided.grows_to(7).await;
    undecided.shrinks_to(5).await;
    cell.workloads.iter().for_each(Workload::has_lost_nothing);
    vec![cell]
}
