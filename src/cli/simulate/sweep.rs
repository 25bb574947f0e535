//! `--sweep`: one policy for every combination of settings, and which of them nothing beats.

use std::collections::BTreeMap;

use super::files::BadInput;
use crate::core::keys::{KEYS, find};
use crate::core::text::{columns, nearest, shown};
use crate::sim::plot;
use crate::sim::report::Report;
use crate::sim::scenario::{Autoscaler, EngineOptions, OptimumOptions, Scenario};

/// The most combinations.
const MOST: usize = 2000;

/// Settings by name, and as annotations.
type Combination = (Vec<String>, BTreeMap<String, String>);

/// The annotation that a short or full name means.
pub(super) fn annotation(name: &str) -> Result<String, BadInput> {
    if let Some(key) = find(name) {
        return Ok(key.annotation());
    }
    let known = KEYS.iter().filter(|key| key.is_annotation());
    if let Some(key) = known.clone().find(|key| key.name == name || key.aliases.contains(&name)) {
        return Ok(key.annotation());
    }
    let meant = nearest(name, known.map(|key| key.name))
        .map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
    Err(BadInput::new("simulate", &format!("{} is no annotation{meant}", shown(name))))
}

/// Splits `KEY=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, &str), BadInput> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(BadInput::new("simulate", &format!("{} is not KEY=VALUE", shown(text))));
    };
    Ok((annotation(name)?, value))
}

/// Replaces the scenario's policies by podswell with every combination of settings, and the optimum.
pub(super) fn apply(scenario: &mut Scenario, sweep: &[String]) -> Result<(), BadInput> {
    if sweep.is_empty() {
        return Ok(());
    }
    let mut combinations = vec![Combination::default()];
    for setting in sweep {
        let (annotation, values) = pair(setting)?;
        let short = annotation.rsplit('/').next().unwrap_or_default().to_owned();
        let longer = combinations.iter().flat_map(|(names, annotations)| {
            values.split(',').map(|value| {
                let (mut names, mut annotations) = (names.clone(), annotations.clone());
                names.push(format!("{short}={value}"));
                annotations.insert(annotation.clone(), value.to_owned());
                (names, annotations)
            })
        });
        let longer: Vec<_> = longer.collect();
        if longer.len() > MOST {
            return Err(BadInput::new(
                "simulate",
                &format!("--sweep: more than {MOST} combinations"),
            ));
        }
        combinations = longer;
    }
    let policies = combinations.into_iter().map(|(names, annotations)| {
        Autoscaler::Podswell(EngineOptions { name: Some(names.join(" ")), annotations })
    });
    scenario.policies = policies.collect();
    scenario.policies.push(Autoscaler::Optimum(OptimumOptions::default()));
    scenario.expect.clear();
    Ok(())
}

/// The table of a sweep; a star marks what nothing beats in both cost and unmet demand.
pub(super) fn text(report: &Report) -> String {
    let settings: Vec<_> =
        report.outcomes.iter().filter(|outcome| outcome.policy != "optimum").cloned().collect();
    let front = plot::pareto(&settings);
    let mut rows = report.rows();
    for (row, on_front) in rows.iter_mut().skip(1).zip(&front) {
        if let Some(name) = row.first_mut().filter(|_| *on_front) {
            name.push_str(" *");
        }
    }
    let Report { name, about, seed, .. } = report;
    let table = columns(&rows);
    format!(
        "{name} (seed {seed})\n{about}\n\n{table}{}* nothing beats it in both pod-seconds and unmet pod-seconds\n",
        report.remarks()
    )
}
