//! Whether the simulator's numbers mean something: they are held against queueing theory, against sums made
//! by hand, and against what is known of other autoscalers' timing.

mod autoscalers;
mod figures;
mod queues;

use super::figures::Figures;
use super::number::length;
use super::scenario::Scenario;
use super::simulation::run;

/// A scenario from its text; what every scenario needs is added.
fn scenario(text: &str) -> Scenario {
    let text = format!("about: held against theory\nseed: 1\n{text}");
    Scenario::parse(&text, &mut |_| Err("no files".into())).unwrap()
}

/// The figures of a policy of a scenario under this seed.
fn figures(scenario: &Scenario, policy: &str, seed: u64) -> Figures {
    let report = run("validation", scenario, Some(seed)).unwrap();
    report.outcomes.iter().find(|outcome| outcome.policy == policy).unwrap().figures
}

/// The mean of at least two values and its 99.9 % confidence interval's half width, by the normal
/// distribution of many means.
fn mean_of(values: &[f64]) -> (f64, f64) {
    let count = length(values.len());
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, 3.3 * (variance / count).sqrt())
}

/// Asserts that `values` vary around `expected`.
#[track_caller]
fn around(what: &str, values: &[f64], expected: f64) {
    let (mean, half) = mean_of(values);
    assert!(
        (mean - expected).abs() <= half.max(1e-3 * expected),
        "{what}: {mean} ± {half}, not {expected}"
    );
    // An interval that is as wide as what it holds says nothing.
    assert!(half < 0.2 * expected, "{what}: {mean} ± {half}");
}
