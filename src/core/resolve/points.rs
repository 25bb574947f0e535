//! Where a target is measured: the ordered list of its points, and what the sources need to know.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Inputs, measurable};
use crate::core::annotations::Annotations;
use crate::core::keys;
use crate::core::problem::{Problem, ProblemCode};
use crate::core::source::{PointConfig, SCRAPE, ScrapeSpec, SourceFacts, SourceName};
use crate::core::spec::ScalingMetric;
use crate::core::text::{escaped, nearest, shown};

/// The most sources of one target, and the most labels that choose its series.
const MOST_ITEMS: usize = 8;

/// The longest label value, in bytes.
const MOST_LABEL_BYTES: usize = 256;

/// How far apart scrape rounds are.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

/// After how long without a round the pods' signal is lost: 2.5 rounds.
const SCRAPE_STALE_AFTER: Duration = Duration::from_millis(2500);

/// What can be measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// The usable points, most preferred first.
    pub(super) points: Vec<PointConfig>,
    /// The named sources among them.
    pub(super) sources: Vec<SourceName>,
    /// Label values that choose the target's series.
    pub(super) source_match: BTreeMap<String, String>,
    /// How pods are scraped, if that is one of the points.
    pub(super) scrape: Option<ScrapeSpec>,
}

/// Resolves `podswell.dev/source`, `source-match` and `scrape`. A point that cannot give the metric is
/// reported and left out; nothing is guessed.
pub(super) fn resolve(
    inputs: &Inputs<'_>,
    read: &mut Annotations,
    metric: ScalingMetric,
    stable_window: Duration,
) -> Measured {
    let mut measured = Measured::default();
    if !measurable(read, metric) {
        return measured;
    }
    let scrape = scrape(inputs, read, metric);
    let names = names(read);
    let (labels, labels_are_valid) = labels(read);
    for name in &names {
        let point = if name == SCRAPE {
            scrape_point(scrape.as_ref(), read)
        } else if labels_are_valid {
            named_point(inputs, read, name, metric, stable_window)
                .filter(|facts| labels_are_listed(read, facts, &labels))
                .map(|facts| PointConfig {
                    source: facts.name.clone(),
                    interval: facts.interval,
                    stale_after: facts.stale_after,
                    range: facts.range,
                    visible_at_zero: facts.visible_at_zero,
                })
        } else {
            None
        };
        let Some(point) = point else { continue };
        if &*point.source == SCRAPE {
            measured.scrape.clone_from(&scrape);
        } else {
            measured.sources.push(point.source.clone());
        }
        measured.points.push(point);
    }
    if !measured.sources.is_empty() {
        measured.source_match = labels;
    }
    report_unused_scrape(read, &names);
    if measured.points.is_empty() {
        read.report(Problem {
            code: ProblemCode::NoSource,
            key: keys::SOURCE.annotation(),
            why: if names.is_empty() {
                "neither a source nor a scrape configuration says where the load is read".to_owned()
            } else {
                "none of the sources can be used".to_owned()
            },
            fallback: "nothing is measured, replicas stay".to_owned(),
        });
    }
    measured
}

/// The names in order. Without a list, pods are scraped if it is said how.
fn names(read: &mut Annotations) -> Vec<String> {
    let Some(list) = read.get(&keys::SOURCE).map(str::to_owned) else {
        let scraped = read.get(&keys::SCRAPE).is_some();
        return if scraped { vec![SCRAPE.to_owned()] } else { Vec::new() };
    };
    let mut names: Vec<String> = Vec::new();
    let complain = |read: &mut Annotations, why: String| {
        read.report(Problem {
            code: ProblemCode::InvalidAnnotation,
            key: keys::SOURCE.annotation(),
            why,
            fallback: "it is skipped".to_owned(),
        });
    };
    for name in list.split(',').map(str::trim) {
        if name.is_empty() {
            complain(read, format!("{} holds an empty name", shown(&list)));
        } else if names.iter().any(|known| known == name) {
            complain(read, format!("{} is named twice", shown(name)));
        } else if names.len() == MOST_ITEMS {
            complain(
                read,
                format!("more than {MOST_ITEMS} sources: what follows the last of them"),
            );
            break;
        } else {
            names.push(name.to_owned());
        }
    }
    names
}

/// How pods are scraped, if the annotation says so and the page gives the metric.
fn scrape(
    inputs: &Inputs<'_>,
    read: &mut Annotations,
    metric: ScalingMetric,
) -> Option<ScrapeSpec> {
    let parsed = ScrapeSpec::parse(read.get(&keys::SCRAPE)?, inputs.template_annotations);
    let (code, why) = match parsed {
        Ok(spec) if spec.format.measures(metric) => return Some(spec),
        Ok(_) => {
            (ProblemCode::SourceKindMismatch, format!("what it reads is not {}", metric.as_str()))
        }
        Err(error) => (ProblemCode::InvalidAnnotation, error.to_string()),
    };
    read.report(Problem {
        code,
        key: keys::SCRAPE.annotation(),
        why,
        fallback: "pods are not scraped".to_owned(),
    });
    None
}

fn scrape_point(scrape: Option<&ScrapeSpec>, read: &mut Annotations) -> Option<PointConfig> {
    if scrape.is_none() && read.get(&keys::SCRAPE).is_none() {
        read.report(Problem {
            code: ProblemCode::UnknownSource,
            key: keys::SOURCE.annotation(),
            why: format!("{SCRAPE} needs {}", keys::SCRAPE.annotation()),
            fallback: "it is skipped".to_owned(),
        });
    }
    scrape.map(|_| PointConfig {
        source: SCRAPE.into(),
        interval: SCRAPE_INTERVAL,
        stale_after: SCRAPE_STALE_AFTER,
        range: None,
        visible_at_zero: false,
    })
}

/// A scrape configuration that the list of sources leaves out.
fn report_unused_scrape(read: &mut Annotations, names: &[String]) {
    if read.get(&keys::SCRAPE).is_some() && !names.iter().any(|name| name == SCRAPE) {
        read.report(Problem {
            code: ProblemCode::InvalidAnnotation,
            key: keys::SCRAPE.annotation(),
            why: format!("{} does not name {SCRAPE}", keys::SOURCE.annotation()),
            fallback: "pods are not scraped".to_owned(),
        });
    }
}

/// The facts of a named source, if it can measure the target.
fn named_point<'a>(
    inputs: &Inputs<'a>,
    read: &mut Annotations,
    name: &str,
    metric: ScalingMetric,
    stable_window: Duration,
) -> Option<&'a SourceFacts> {
    let (code, why) = match inputs.sources.get(name) {
        None => {
            let meant = nearest(name, inputs.sources.keys().map(|name| &**name))
                .map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
            (ProblemCode::UnknownSource, format!("no source {}{meant}", shown(name)))
        }
        Some(facts) if facts.kind != metric => (
            ProblemCode::SourceKindMismatch,
            format!(
                "the source {name} measures {}, the target {}",
                facts.kind.as_str(),
                metric.as_str()
            ),
        ),
        Some(facts) => match facts.range.filter(|range| *range > stable_window) {
            None => return Some(facts),
            Some(range) => (
                ProblemCode::RangeAboveWindow,
                format!(
                    "the rate of the source {name} spans {} s, the stable window {} s",
                    range.as_secs_f64(),
                    stable_window.as_secs_f64()
                ),
            ),
        },
    };
    read.report(Problem {
        code,
        key: keys::SOURCE.annotation(),
        why,
        fallback: "it is skipped".to_owned(),
    });
    None
}

/// The labels that choose the target's series, and whether they are usable. Named sources are left out
/// where they are not: another workload's series would be worse than none.
fn labels(read: &mut Annotations) -> (BTreeMap<String, String>, bool) {
    let Some(text) = read.get(&keys::SOURCE_MATCH) else { return (BTreeMap::new(), true) };
    match parse_labels(text) {
        Ok(labels) => (labels, true),
        Err(why) => {
            read.report(Problem {
                code: ProblemCode::InvalidAnnotation,
                key: keys::SOURCE_MATCH.annotation(),
                why,
                fallback: "named sources are skipped".to_owned(),
            });
            (BTreeMap::new(), false)
        }
    }
}

fn parse_labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut labels = BTreeMap::new();
    for pair in text.split(',') {
        let Some((label, value)) = pair.trim().split_once('=') else {
            return Err(format!("{} is not a label=value pair", shown(pair)));
        };
        let name_is_valid = label.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !name_is_valid {
            return Err(format!("{} is not the name of a label", shown(label)));
        }
        if value.is_empty() || value.len() > MOST_LABEL_BYTES || value.chars().any(char::is_control)
        {
            return Err(format!(
                "{label}={} must have a value of 1 ..= {MOST_LABEL_BYTES} visible bytes",
                escaped(value)
            ));
        }
        if labels.insert(label.to_owned(), value.to_owned()).is_some() {
            return Err(format!("the label {label} stands there twice"));
        }
        if labels.len() > MOST_ITEMS {
            return Err(format!("more than {MOST_ITEMS} labels"));
        }
    }
    Ok(labels)
}

/// Whether a source lets workloads choose by all these labels.
fn labels_are_listed(
    read: &mut Annotations,
    facts: &SourceFacts,
    labels: &BTreeMap<String, String>,
) -> bool {
    let Some(label) = labels.keys().find(|label| !facts.selectable_labels.contains(label)) else {
        return true;
    };
    read.report(Problem {
        code: ProblemCode::InvalidAnnotation,
        key: keys::SOURCE_MATCH.annotation(),
        why: format!("the source {} does not let workloads choose by {label}", facts.name),
        fallback: "it is skipped".to_owned(),
    });
    false
}
