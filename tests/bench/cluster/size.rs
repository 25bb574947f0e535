//! What a large cluster costs: CPU time and memory of `podswell run` that scrapes all pods each second.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;

use crate::number;
use crate::peer::{Peer, Stage};
use crate::support::wait::until;

/// Pods of each workload.
const PODS: i32 = 5;
/// How long it is watched.
const SPAN: Duration = Duration::from_secs(60);

/// Measures `PODSWELL_BENCH_SIZE` workloads (3,000 with 15,000 pods; each pod has two sockets, so the limit of
/// open files has to be four times the number of pods).
pub(crate) async fn measure() {
    let workloads = number("PODSWELL_BENCH_SIZE", 3000);
    let stage = Stage::set(Peer::Scrape).await;
    let created = stream::iter(0..workloads).map(|number| {
        let (stage, name) = (&stage, format!("w{number}"));
        async move { stage.create("size", &name, PODS, 10).await }
    });
    created.buffer_unordered(8).collect::<Vec<()>>().await;
    let all = usize::try_from(workloads).unwrap_or(0) * usize::try_from(PODS).unwrap_or(0);
    let table = stage.node.table();
    let ready = || async { table.all().iter().filter(|pod| pod.ready).count() };
    until(Duration::from_secs(1200), "the pods are ready", |seen| *seen == all, ready).await;
    tokio::time::sleep(SPAN / 2).await;
    let before = stage.cpu();
    tokio::time::sleep(SPAN).await;
    let cores = (stage.cpu() - before) / SPAN.as_secs_f64();
    println!("\n| workloads | pods | cores | resident memory |\n|--:|--:|--:|--:|");
    println!("| {workloads} | {all} | {cores:.2} | {} MiB |", stage.resident_mib());
}
