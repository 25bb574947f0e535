//! podswell is killed or ended again and again, and finds its snapshot whole, broken, or from elsewhere.

use std::path::Path;
use std::sync::Arc;

use crate::cell::{Cell, CellOptions, NewWorkload};
use crate::dice::Dice;
use crate::stage::Stage;
use crate::support::podswell::Podswell;

/// What befalls the file while no process runs.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Kept,
    Cut,
    OtherVersion,
    Garbage,
    Lost,
}

fn befall(file: &Path, fate: Fate) {
    let text = std::fs::read_to_string(file).expect("a snapshot was written");
    let write = |text: &str| std::fs::write(file, text).expect("change the snapshot");
    match fate {
        Fate::Kept => {}
        Fate::Cut => write(&text[..text.len() * 2 / 3]),
        Fate::OtherVersion => write(&text.replace("\"version\":1", "\"version\":7")),
        Fate::Garbage => write("\u{0}\u{1b}[31m{{{"),
        Fate::Lost => std::fs::remove_file(file).expect("remove the snapshot"),
    }
}

/// How often a snapshot file had this outcome since the process began.
async fn files(podswell: &Podswell, outcome: &str) -> f64 {
    let series = format!("podswell_snapshot_files_total{{outcome=\"{outcome}\"}}");
    podswell.counted(&series).await
}

pub(crate) async fn with_a_snapshot(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let file = stage.folder.join("windows.json");
    let flags = vec![format!("--snapshot={}", file.display())];
    let options = CellOptions { flags, ..CellOptions::default() };
    let mut cell = Cell::start(&stage, "restart", options).await;
    cell.add(&stage, NewWorkload::new("restarted")).await;
    let workload = &cell.workloads[0];
    let fates = [Fate::Kept, Fate::Cut, Fate::OtherVersion, Fate::Garbage, Fate::Lost];
    for fate in dice.shuffled(fates.to_vec()) {
        let mut podswell = cell.podswell.lock().await;
        // A graceful end writes the file; a kill leaves it as it was, if it is there.
        assert!(podswell.terminate().await, "{}", podswell.log_tail(4000));
        befall(&file, fate);
        workload.endures(dice.millis(100..=2000)).await;
        podswell.restart().await;
        let refused = matches!(fate, Fate::Cut | Fate::OtherVersion | Fate::Garbage);
        assert_eq!(files(&podswell, "Refused").await > 0.0, refused, "{fate:?}");
        let read = matches!(fate, Fate::Kept);
        assert_eq!(files(&podswell, "Read").await > 0.0, read, "{fate:?}");
        drop(podswell);
        cell.hears_all().await;
        workload.endures(dice.millis(500..=3000)).await;
    }
    let mut podswell = cell.podswell.lock().await;
    podswell.kill();
    workload.endures(dice.millis(100..=2000)).await;
    podswell.restart().await;
    drop(podswell);
    cell.hears_all().await;
    cell.mark();
    workload.grows_to(7).await;
    workload.shrinks_to(5).await;
    workload.has_lost_nothing();
    vec![cell]
}
