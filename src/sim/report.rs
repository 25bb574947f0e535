//! What came out of a scenario, and its text for terminals and snapshots.

use std::fmt::Write as _;

use serde::Serialize;

use super::check::Violation;
use super::figures::{FIGURES, Figures};
use super::series::Series;
use crate::core::spec::ScalingMetric;
use crate::core::text::columns;

/// A scenario's outcome.
#[derive(Clone, Debug)]
pub struct Report {
    /// The scenario's name: that of its file.
    pub name: String,
    /// What the scenario shows.
    pub about: String,
    /// The seed that was used.
    pub seed: u64,
    /// One for each policy, in the scenario's order.
    pub outcomes: Vec<Outcome>,
    /// What was expected and did not come out.
    pub failures: Vec<String>,
}

/// One policy's outcome.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The policy.
    pub policy: String,
    /// Its figures.
    pub figures: Figures,
    /// Broken promises, the first ones.
    pub violations: Vec<Violation>,
    /// A fingerprint of every decision; 0 where nothing decides.
    pub digest: u64,
    /// What the user should know about the policy's configuration.
    pub remark: Option<String>,
    /// How many events the run took.
    pub events: u64,
    /// The course of the first workload.
    pub(crate) series: Option<Series>,
    /// The value per pod that a chart draws as the target line.
    pub(crate) target: f64,
    /// What the averages in a chart count.
    pub(crate) metric: ScalingMetric,
}

/// The form of an outcome in JSON.
#[derive(Serialize)]
struct Wire<'a> {
    scenario: &'a str,
    seed: u64,
    policy: &'a str,
    digest: String,
    #[serde(flatten)]
    figures: &'a Figures,
    violations_first: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    api_version: &'static str,
    kind: &'static str,
    outcomes: Vec<Wire<'a>>,
    failures: Vec<String>,
}

impl Report {
    /// The heading of a table and one row for each policy, as cells.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let shown: Vec<_> = FIGURES
            .iter()
            .filter(|figure| self.outcomes.iter().any(|o| figure.of(&o.figures).is_some()))
            .collect();
        let heading = shown.iter().map(|figure| figure.heading.to_owned());
        let mut rows = vec![std::iter::once("POLICY".to_owned()).chain(heading).collect()];
        rows.extend(self.outcomes.iter().map(|outcome| {
            let cells = shown.iter().map(|figure| cell(figure.of(&outcome.figures), figure.digits));
            std::iter::once(outcome.policy.clone()).chain(cells).collect::<Vec<_>>()
        }));
        rows
    }

    /// Lines below the table: remarks, broken promises and failed expectations.
    pub fn remarks(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for outcome in &self.outcomes {
            if let Some(remark) = &outcome.remark {
                let _ = writeln!(text, "{}: {remark}", outcome.policy);
            }
            for violation in &outcome.violations {
                let _ = writeln!(text, "{}: BROKEN {violation}", outcome.policy);
            }
        }
        for failure in &self.failures {
            let _ = writeln!(text, "EXPECTED {failure}");
        }
        text
    }

    /// Whether everything that was expected came out and every promise was kept, expected or not.
    pub fn is_as_expected(&self) -> bool {
        self.failures.is_empty() && self.outcomes.iter().all(|one| one.violations.is_empty())
    }
}

/// The report as text: what it is about, the table, and what is to be said below it.
pub fn text(report: &Report) -> String {
    let Report { name, about, seed, .. } = report;
    format!("{name} (seed {seed})\n{about}\n\n{}{}", columns(&report.rows()), report.remarks())
}

/// A number for a table.
pub(crate) fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// All reports as one JSON document.
///
/// # Errors
/// Never in practice: it is made of strings and finite numbers.
pub fn json(reports: &[Report]) -> Result<String, serde_json::Error> {
    let outcomes = reports.iter().flat_map(|report| {
        report.outcomes.iter().map(|outcome| Wire {
            scenario: &report.name,
            seed: report.seed,
            policy: &outcome.policy,
            digest: format!("{:016x}", outcome.digest),
            figures: &outcome.figures,
            violations_first: outcome.violations.iter().map(ToString::to_string).collect(),
        })
    });
    let failures = reports.iter().flat_map(|report| {
        report.failures.iter().map(|failure| format!("{}: {failure}", report.name))
    });
    let document = Document {
        api_version: "podswell.dev/v1",
        kind: "SimulationReport",
        outcomes: outcomes.collect(),
        failures: failures.collect(),
    };
    serde_json::to_string_pretty(&document).map(|text| text + "\n")
}

/// The heading and the rows of a table of all outcomes with every figure, in full precision.
pub fn flat_rows(reports: &[Report]) -> Vec<Vec<String>> {
    let heading = ["scenario", "seed", "policy"].into_iter().chain(FIGURES.iter().map(|f| f.key));
    let mut rows = vec![heading.map(str::to_owned).collect::<Vec<_>>()];
    for report in reports {
        for outcome in &report.outcomes {
            let names = [report.name.clone(), report.seed.to_string(), outcome.policy.clone()];
            let values = FIGURES.iter().map(|figure| {
                figure.of(&outcome.figures).map_or_else(String::new, |value| value.to_string())
            });
            rows.push(names.into_iter().chain(values).collect());
        }
    }
    rows
}
