//! Many runs on all cores, with a progress bar where somebody watches.

use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use crate::sim::report::Report;
use crate::sim::scenario::Scenario;
use crate::sim::simulation::{self, Simulation};

/// A report for each seed, in their order; of several errors the first.
pub(super) fn seeds(
    name: &str,
    scenario: &Scenario,
    seeds: impl Iterator<Item = u64>,
) -> Result<Vec<Report>, String> {
    let seeds: Vec<u64> = seeds.collect();
    each(&seeds, |seed| simulation::run(name, scenario, Some(*seed)))
}

/// One report, for which the policies are played side by side.
pub(super) fn policies(
    name: &str,
    scenario: &Scenario,
    seed: Option<u64>,
) -> Result<Report, String> {
    let simulation = Simulation::new(name, scenario, seed)?;
    let places: Vec<usize> = (0..scenario.policies.len()).collect();
    let outcomes = each(&places, |at| simulation.play(*at))?;
    Ok(simulation.report(outcomes.into_iter().flatten().collect()))
}

/// A result and the place of its item.
type Numbered<R> = (usize, Result<R, String>);

/// Calls `work` for every item on all cores; results come in the order of the items.
pub(super) fn each<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, String> + Sync,
) -> Result<Vec<R>, String> {
    let bar = bar(items.len());
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::<Numbered<R>>::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let result = work(item);
                    results.lock().push((at, result));
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut results = results.into_inner();
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// A bar on standard error; nothing is drawn where that is no terminal.
fn bar(length: usize) -> ProgressBar {
    if length < 2 {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::try_from(length).unwrap_or(u64::MAX));
    match ProgressStyle::with_template("{bar:40} {pos}/{len} runs, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
