//! Faults, each under real load on the real control plane: nothing is lost, and nothing scales down for
//! lack of knowledge.
//!
//! All runs share one control plane. Each has a podswell process, a namespace and a way to the API
//! server of its own, so that its fault touches no other run; what strikes everybody comes last. A
//! ledger reads every change of every Deployment from the API server and knows at each moment how many
//! replicas the load needs at least.
//!
//! Order, moments and numbers come from a seed, which is printed. `PODSWELL_FAULT_SEED=N` plays it
//! again, `PODSWELL_FAULTS=clock,rights` plays only the runs whose name contains one of these words.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test support: what goes wrong here is the test's failure"
)]

mod api_server;
mod cell;
mod clock;
mod crowd;
mod dice;
mod flapping;
mod footprint;
mod ledger;
mod outage;
mod pair;
mod pods;
mod prometheus;
mod restart;
mod rights;
mod stage;

#[expect(dead_code, reason = "a library: not every test uses all of it")]
#[path = "../support/mod.rs"]
mod support;

use std::ops::Not as _;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;

use cell::Cell;
use dice::Dice;
use stage::Stage;

/// A run and its name; it ends with what it started, whole again.
type Run = (&'static str, BoxFuture<'static, Vec<Cell>>);

fn run<F: Future<Output = Vec<Cell>> + Send + 'static>(
    stage: &Arc<Stage>,
    name: &'static str,
    seed: u64,
    play: impl FnOnce(Arc<Stage>, Dice) -> F,
) -> Run {
    (name, play(stage.clone(), Dice::new(seed, name)).boxed())
}

fn all(stage: &Arc<Stage>, seed: u64) -> Vec<Run> {
    vec![
        run(stage, "prometheus killed", seed, prometheus::killed),
        run(stage, "prometheus lying", seed, prometheus::lying),
        run(stage, "prometheus silent", seed, prometheus::silent),
        run(stage, "pods unscrapable", seed, pods::unscrapable),
        run(stage, "pods lying", seed, pods::lying),
        run(stage, "writes refused", seed, api_server::refused_writes),
        run(stage, "writes unclear", seed, api_server::unclear_writes),
        run(stage, "watches broken", seed, api_server::broken_watches),
        run(stage, "watches silent", seed, api_server::silent_watches),
        run(stage, "rights", seed, rights::taken_away),
        run(stage, "clock", seed, clock::stepped),
        run(stage, "pair", seed, pair::killed_frozen_cut_off),
        run(stage, "flapping", seed, flapping::annotations),
        run(stage, "restart", seed, restart::with_a_snapshot),
        run(stage, "crowd", seed, crowd::changed_at_once),
    ]
}

fn is_wanted(name: &str) -> bool {
    std::env::var("PODSWELL_FAULTS")
        .is_ok_and(|words| !words.split(',').any(|word| name.contains(word)))
        .not()
}

fn seed() -> u64 {
    match std::env::var("PODSWELL_FAULT_SEED") {
        Ok(text) => text.parse().expect("PODSWELL_FAULT_SEED is a whole number"),
        Err(_) => rand::random::<u32>().into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_whatever_fails() {
    let seed = seed();
    report(&format!("PODSWELL_FAULT_SEED={seed}"));
    let began = Instant::now();
    let stage = Arc::new(Stage::start().await);
    let playing: Vec<_> = all(&stage, seed)
        .into_iter()
        .filter(|(name, _)| is_wanted(name))
        .map(|(name, play)| {
            let played = async move {
                let cells = play.await;
                for cell in &cells {
                    cell.plays(false);
                }
                report(&format!("{name}: ok, after {} s", began.elapsed().as_secs()));
                cells
            };
            (name, tokio::spawn(played))
        })
        .collect();
    let (mut cells, mut failed) = (Vec::new(), Vec::new());
    for (name, played) in playing {
        match played.await {
            Ok(played) => cells.extend(played),
            Err(_) => failed.push(name),
        }
    }
    assert!(failed.is_empty(), "failed with PODSWELL_FAULT_SEED={seed}: {failed:?}");
    for cell in &cells {
        cell.plays(true);
    }
    outage::of_the_api_server(&stage, &cells, Dice::new(seed, "outage")).await;
    report(&format!("outage: ok, after {} s", began.elapsed().as_secs()));
    let [settled, unsettled] =
        cells.iter().map(Cell::report).fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]]);
    report(&format!("settled {settled} times, {unsettled} times not in time"));
    cells.iter().for_each(Cell::is_flat);
}

#[expect(clippy::print_stdout, reason = "the progress of a long test")]
fn report(line: &str) {
    println!("{line}");
}
