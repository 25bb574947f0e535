//! `make bench-cluster`: how quickly replicas follow the load, side by side on a real control plane.
//!
//! The same load on the same Deployments with the same played pods (three seconds from bound to ready) for
//! each autoscaler, all at the same time in one cluster: podswell with 1 s scraping, podswell with a
//! Prometheus of 15 s, Knative's own autoscaler as shipped and with its client's limit raised, and the HPA
//! at its stock settings (a look each 15 s). The HPA gets its External metric from a server in this process
//! that reads the played pods at that very moment: better data than any pipeline would give it. Prints a
//! table for `BENCHMARKS.md`, and how busy the machine was.
//!
//! `PODSWELL_BENCH_RUNS` (5) runs of each; `PODSWELL_BENCH_PEERS` and `PODSWELL_BENCH_SCENARIOS` choose by
//! words of their names; `PODSWELL_BENCH_WORKLOADS` (200) is the number of those that wake at once for each
//! autoscaler; `PODSWELL_BENCH_ALONE=1` plays one autoscaler after the other, each in a cluster of its own.
//! What many workloads cost is the word `size`: `PODSWELL_BENCH_SIZE` (3000) scraped workloads with five pods
//! each, and `PODSWELL_BENCH_QUEUES` (50000) that are read from Prometheus.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program for whoever measures: what goes wrong is its end, and it prints what it found"
)]

mod audit;
mod busy;
mod figures;
mod knative;
mod peer;
mod queues;
mod record;
mod scenario;
mod size;
#[expect(dead_code, reason = "a library: not every program uses all of it")]
#[path = "../../support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use figures::Figures;
use peer::{Peer, Stage};
use scenario::{Run, Scenario};
use support::external;

fn main() {
    support::bench::play(measure());
}

fn is_wanted(variable: &str, name: &str) -> bool {
    std::env::var(variable).map_or(true, |words| words.split(',').any(|word| name.contains(word)))
}

fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

async fn measure() {
    let peers = Peer::ALL.into_iter().filter(|peer| is_wanted("PODSWELL_BENCH_PEERS", peer.name()));
    let peers: Vec<_> = peers.collect();
    let scenarios = Scenario::ALL.into_iter();
    let scenarios: Vec<_> =
        scenarios.filter(|one| is_wanted("PODSWELL_BENCH_SCENARIOS", one.name())).collect();
    let casts = if std::env::var_os("PODSWELL_BENCH_ALONE").is_some() {
        peers.iter().map(|peer| vec![*peer]).collect()
    } else {
        vec![peers]
    };
    let mut table = Table::default();
    for cast in casts.iter().filter(|_| !scenarios.is_empty()) {
        let stage = Stage::set(cast).await;
        for scenario in &scenarios {
            for run in 0..number("PODSWELL_BENCH_RUNS", 5) {
                table.add(*scenario, run, scenario::play(&stage, *scenario, run).await);
            }
        }
    }
    table.print();
    if is_wanted("PODSWELL_BENCH_SCENARIOS", "size") {
        println!("\n{}", size::head());
        println!("{}", size::scraped().await);
        println!("{}", size::queued().await);
    }
}

/// The figures of all runs.
#[derive(Default)]
struct Table(BTreeMap<(Scenario, Peer), Vec<Figures>>);

impl Table {
    fn add(&mut self, scenario: Scenario, run: u32, played: Run) {
        let Run { figures, busy, busiest_second } = played;
        let name = scenario.name();
        println!(
            "{name}, run {run}: processors busy {busy:.0} %, in the worst second {busiest_second:.0} %"
        );
        for (peer, figures) in figures {
            println!("  {}: {figures:?}", peer.name());
            self.0.entry((scenario, peer)).or_default().push(figures);
        }
    }

    fn print(&self) {
        if let Some(runs) = self.0.values().next() {
            println!("\n{} runs: median (smallest to largest)\n\n{}", runs.len(), Figures::head());
        }
        for ((scenario, peer), figures) in &self.0 {
            println!("{}", figures::row(scenario.name(), peer.name(), figures));
        }
    }
}
