//! One scenario under many seeds: medians and how sure they are.

use std::fmt::Write as _;

use statrs::statistics::{Data, OrderStatistics};

use super::figures::{FIGURES, Figures};
use super::number::index;
use super::random::Random;
use super::report::{Report, cell};

/// How often the sample is drawn again for an interval.
const RESAMPLES: usize = 1000;

/// A figure over all seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The 95 % interval of the median (bootstrap): its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Spread {
    /// The spread of at least one value.
    fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let mut random = Random::new(0, "bootstrap", 0);
        let length = u64::try_from(values.len()).unwrap_or(1);
        let medians: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let drawn = (0..values.len())
                    .filter_map(|_| values.get(index(random.below(length))).copied());
                Data::new(drawn.collect::<Vec<_>>()).median()
            })
            .collect();
        let mut medians = Data::new(medians);
        let median = Data::new(values.to_vec()).median();
        Some(Self { median, low: medians.quantile(0.025), high: medians.quantile(0.975) })
    }
}

/// A table over the seeds of one scenario: the heading, then a row for each policy, each cell the median
/// and its interval.
pub fn rows(reports: &[Report]) -> Vec<Vec<String>> {
    let Some(first) = reports.first() else { return Vec::new() };
    let policies = first.outcomes.iter().enumerate().map(|(at, outcome)| {
        let all: Vec<Figures> = reports
            .iter()
            .filter_map(|report| report.outcomes.get(at))
            .map(|outcome| outcome.figures)
            .collect();
        (outcome.policy.clone(), all)
    });
    let policies: Vec<(String, Vec<Figures>)> = policies.collect();
    let shown: Vec<_> = FIGURES
        .iter()
        .filter(|figure| {
            policies.iter().any(|(_, all)| all.iter().any(|one| figure.of(one).is_some()))
        })
        .collect();
    let heading = shown.iter().map(|figure| figure.heading.to_owned());
    let mut rows = vec![std::iter::once("POLICY".to_owned()).chain(heading).collect::<Vec<_>>()];
    for (policy, all) in &policies {
        let cells = shown.iter().map(|figure| {
            let values: Vec<f64> = all.iter().filter_map(|one| figure.of(one)).collect();
            Spread::of(&values).map_or_else(
                || "-".to_owned(),
                |Spread { median, low, high }| {
                    let [median, low, high] =
                        [median, low, high].map(|value| cell(Some(value), figure.digits));
                    if low == high { median } else { format!("{median} [{low}, {high}]") }
                },
            )
        });
        rows.push(std::iter::once(policy.clone()).chain(cells).collect());
    }
    rows
}

/// The promises that were broken under any of the seeds: a median hides them.
pub fn broken(reports: &[Report]) -> String {
    let mut text = String::new();
    for Report { seed, outcomes, .. } in reports {
        for outcome in outcomes {
            for violation in &outcome.violations {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "seed {seed}: {}: BROKEN {violation}", outcome.policy);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::check::{Promise, Violation};
    use super::super::scenario::Scenario;
    use super::super::simulation::run;
    use super::*;

    #[test]
    fn a_promise_that_one_seed_breaks_is_told() {
        let text = "about: a\nseed: 1\nduration: 10s\nload: [ { constant: { level: 1 } } ]\npolicies: [ podswell ]\n";
        let scenario = Scenario::parse(text, &mut |_| Err("no files".into())).unwrap();
        let mut reports = [1, 2, 3].map(|seed| run("a", &scenario, Some(seed)).unwrap());
        assert_eq!(broken(&reports), "");
        assert!(reports.iter().all(Report::is_as_expected));
        reports[1].outcomes[0].violations.push(Violation {
            promise: Promise::P2,
            at_ms: 5,
            target: "sim/w0".to_owned(),
            what: "asks for 9".to_owned(),
        });
        let told = "podswell: BROKEN P2 at 5 ms, sim/w0: asks for 9\n";
        assert_eq!(broken(&reports), format!("seed 2: {told}"));
        assert_eq!(reports[1].remarks(), told);
        // Nothing was expected of this seed; a promise is kept all the same.
        assert_eq!(reports.each_ref().map(Report::is_as_expected), [true, false, true]);
    }

    #[test]
    fn an_interval_holds_its_median_and_is_the_same_each_time() {
        let values: Vec<f64> = (0..20_u32).map(|n| f64::from(n * n % 17)).collect();
        let spread = Spread::of(&values).unwrap();
        assert!(spread.low <= spread.median && spread.median <= spread.high, "{spread:?}");
        assert!(spread.low < spread.high);
        assert_eq!(Spread::of(&values), Some(spread));
        let alone = Spread { median: 2.0, low: 2.0, high: 2.0 };
        assert_eq!(Spread::of(&[2.0]), Some(alone));
        assert_eq!(Spread::of(&[]), None);
    }
}
