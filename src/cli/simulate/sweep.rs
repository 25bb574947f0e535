//! `--sweep`: one policy for every combination of settings, and which of them nothing beats.

use std::collections::{BTreeMap, BTreeSet};

use super::files::BadInput;
use crate::core::keys::{KEYS, Key, find_by_name};
use crate::core::text::{columns, did_you_mean, shown};
use crate::sim::plot;
use crate::sim::report::Report;
use crate::sim::scenario::{Autoscaler, EngineOptions, OptimumOptions, Scenario};
use crate::sim::simulation::refused;

/// The most combinations.
const MOST: usize = 2000;

/// Settings by name, and as annotations.
type Combination = (Vec<String>, BTreeMap<String, String>);

/// The annotation that a short or full name means.
pub(super) fn annotation(name: &str) -> Result<String, BadInput> {
    find_by_name(name).map(Key::annotation).ok_or_else(|| {
        let known = KEYS.iter().filter(|key| key.is_annotation());
        let meant = did_you_mean(name, known.map(|key| key.name));
        BadInput::new("simulate", &format!("{} is no annotation{meant}", shown(name)))
    })
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
    let bad = |why: &str| BadInput::new("simulate", &format!("--sweep: {why}"));
    let mut combinations = vec![Combination::default()];
    let mut swept = BTreeSet::new();
    for setting in sweep {
        let (annotation, values) = pair(setting)?;
        if !swept.insert(annotation.clone()) {
            return Err(bad(&format!("{annotation} is swept twice")));
        }
        let short = annotation.rsplit('/').next().unwrap_or_default().to_owned();
        let mut seen = BTreeSet::new();
        for value in values.split(',') {
            let set = BTreeMap::from([(annotation.clone(), value.to_owned())]);
            if let Some(why) = refused(scenario, &set).map_err(|why| bad(&why))? {
                return Err(bad(&why));
            }
            if !seen.insert(value) {
                return Err(bad(&format!("{short}={value} stands there twice")));
            }
        }
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
            return Err(bad(&format!("more than {MOST} combinations")));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario() -> Scenario {
        let text = "about: a\nseed: 1\nduration: 1m\nload: [ { constant: { level: 1 } } ]\n";
        Scenario::parse(text, &mut |_| Err("no files".into())).unwrap()
    }

    fn applied(sweep: &[&str]) -> Result<Vec<String>, String> {
        let mut scenario = scenario();
        let sweep: Vec<String> = sweep.iter().map(ToString::to_string).collect();
        apply(&mut scenario, &sweep).map_err(|bad| format!("{bad:?}"))?;
        Ok(scenario.policies.iter().map(Autoscaler::name).collect())
    }

    #[test]
    fn every_combination_is_played_beside_the_optimum() {
        let names = applied(&["target=10,50", "window=30s"]).unwrap();
        assert_eq!(names, ["target=10 window=30s", "target=50 window=30s", "optimum"]);
        assert_eq!(applied(&["min-scale=1"]).unwrap(), ["min-scale=1", "optimum"]);
    }

    #[test]
    fn what_cannot_be_swept_is_said_before_anything_is_played() {
        for (sweep, words) in [
            (vec!["targett=10"], "did you mean target?"),
            (vec!["target"], "not KEY=VALUE"),
            (vec!["target=10,soon"], "target"),
            (vec!["target="], "target"),
            (vec!["window=1s"], "window"),
            (vec!["target=10,10"], "twice"),
            (vec!["target=10", "target=20"], "twice"),
        ] {
            let why = applied(&sweep).unwrap_err();
            assert!(why.contains(words), "{sweep:?}: {why}");
        }
        let many = (1..=50).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let why = applied(&[&format!("target={many}"), &format!("max-scale={many}")]).unwrap_err();
        assert!(why.contains("combinations"), "{why}");
    }
}
