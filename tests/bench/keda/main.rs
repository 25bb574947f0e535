//! `make bench-keda`: what KEDA's calls and streams cost, asked by the official Go client
//! (`tests/keda/v2.21/measure*_test.go`), beside the least that a server on its stubs can be. Prints
//! tables for `BENCHMARKS.md`. Wants a quiet machine with at least two cores: the servers have the first
//! one. `PODSWELL_BENCH_KEDA` is the part to run, `Calls`, `Streams` or `Cases`.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a program for whoever measures: what goes wrong is its end"
)]

#[expect(dead_code, reason = "a library: KEDA itself is not started here")]
#[path = "../../keda/operator.rs"]
mod operator;
#[path = "../../keda/programs.rs"]
mod programs;
#[expect(dead_code, reason = "a library: not every program uses all of it")]
#[path = "../../support/mod.rs"]
mod support;

fn main() {
    support::bench::play(measure());
}

async fn measure() {
    let (plane, _node) = programs::start().await;
    let part = std::env::var("PODSWELL_BENCH_KEDA").unwrap_or_default();
    let only = format!("-test.run=TestMeasure{part}");
    let arguments = ["-test.v", &only, "-test.timeout=900s"];
    programs::run(&plane, "keda-tests-2.21", &arguments, true).await;
}
