//! `make bench-cluster`: how quickly replicas follow the load, side by side on a real control plane.
//!
//! The same Deployments, the same load and the same played pods (three seconds from bound to ready) for
//! each autoscaler: podswell with 1 s scraping, podswell with a Prometheus of 15 s, and the
//! HPA at its stock settings (a look each 15 s). The HPA gets its External metric from a server in this
//! process that reads the played pods at that very moment: better data than any pipeline would give it. Prints a table for `BENCHMARKS.md`.
//!
//! `PODSWELL_BENCH_RUNS` (5) runs of each; `PODSWELL_BENCH_PEERS` and `PODSWELL_BENCH_SCENARIOS` choose by
//! words of their names; `PODSWELL_BENCH_WORKLOADS` (1000) is the number of those that wake at once.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program for whoever measures: what goes wrong is its end, and it prints what it found"
)]

mod external;
mod peer;
mod record;
mod scenario;
mod size;
#[expect(dead_code, reason = "a library: not every program uses all of it")]
#[path = "../../support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use peer::{Peer, Stage};
use record::Figures;
use scenario::Scenario;

fn main() {
    // `cargo test --benches` runs this too, and must not measure anything.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("start the runtime").block_on(measure());
}

fn is_wanted(variable: &str, name: &str) -> bool {
    std::env::var(variable).map_or(true, |words| words.split(',').any(|word| name.contains(word)))
}

fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

async fn measure() {
    let runs = number("PODSWELL_BENCH_RUNS", 5);
    let mut rows: BTreeMap<(Scenario, Peer), Vec<Figures>> = BTreeMap::new();
    for peer in Peer::ALL.into_iter().filter(|peer| is_wanted("PODSWELL_BENCH_PEERS", peer.name()))
    {
        let stage = Stage::set(peer).await;
        for scenario in Scenario::ALL {
            for run in 0..runs {
                if is_wanted("PODSWELL_BENCH_SCENARIOS", scenario.name()) {
                    let figures = scenario::play(&stage, scenario, run).await;
                    println!("{}, {}, run {run}: {figures:?}", scenario.name(), peer.name());
                    rows.entry((scenario, peer)).or_default().push(figures);
                }
            }
        }
    }
    println!("\n{} runs each: median (smallest to largest)\n\n{}", runs, Figures::head());
    for ((scenario, peer), figures) in rows {
        println!("{}", record::row(scenario.name(), peer.name(), &figures));
    }
    if is_wanted("PODSWELL_BENCH_SCENARIOS", "size") {
        size::measure().await;
    }
}
