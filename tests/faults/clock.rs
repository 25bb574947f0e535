//! The wall clock of podswell's machine is stepped by an hour, in both directions.

use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use podswell::runtime::clock::{Clock as _, SystemClock};

use crate::cell::{Cell, CellOptions, NewWorkload, WINDOW, Workload};
use crate::dice::Dice;
use crate::prometheus;
use crate::stage::{LIMIT, Stage};
use crate::support::binaries;
use crate::support::wait::until;

/// Sets how many seconds the wall clock of the process is off.
fn step(file: &Path, seconds: i64) {
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{seconds:+}\n")).expect("write the offset");
    std::fs::rename(&new, file).expect("move the offset into place");
}

/// Waits until podswell writes times into its lease that are so many seconds off.
async fn is_off_by(stage: &Stage, seconds: i64) {
    let leases: Api<Lease> = Api::namespaced(stage.client.clone(), "clock-system");
    let off = || async {
        let renewed = leases.get("podswell").await.ok()?.spec?.renew_time?.0;
        Some(renewed.as_second() - SystemClock::new().wall().as_second())
    };
    let near = |off: &Option<i64>| off.is_some_and(|off| (off - seconds).abs() < 600);
    until(LIMIT, "podswell's clock is stepped", near, off).await;
}

pub(crate) async fn stepped(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let file = stage.folder.join("clock");
    step(&file, 0);
    let options = CellOptions {
        sources: vec![prometheus::source(&stage.steady.url())],
        environment: [
            ("LD_PRELOAD", binaries::faketime().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec(),
        ..CellOptions::default()
    };
    let mut cell = Cell::start(&stage, "clock", options).await;
    cell.add(&stage, NewWorkload::new("scraped")).await;
    cell.add(&stage, NewWorkload::from("asked", "requests")).await;
    cell.mark();
    let [scraped, asked] = &cell.workloads[..] else { panic!("two workloads") };
    for seconds in dice.shuffled(vec![3600, -3600]) {
        let told = prometheus::lost("Stale");
        let before = cell.counted(&told.series()).await;
        step(&file, seconds);
        is_off_by(&stage, seconds).await;
        if seconds > 0 {
            // What was stamped by another clock looks too old.
            cell.names(asked, told, before).await;
        }
        asked.endures(WINDOW + dice.millis(1000..=3000)).await;
        // What needs no stamps goes on as if nothing had been.
        scraped.grows_to(7).await;
        scraped.shrinks_to(5).await;
        step(&file, 0);
        is_off_by(&stage, 0).await;
        cell.hears_all().await;
        asked.grows_to(7).await;
        asked.shrinks_to(5).await;
    }
    cell.workloads.iter().for_each(Workload::has_lost_nothing);
    vec![cell]
}
