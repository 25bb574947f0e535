//! Where a target is measured: the ordered list of its points, and what the sources need to know.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Inputs;
use super::brought::{self, Brought};
use super::measures::{MOST_ITEMS, Wish, Wishes};
use crate::core::annotations::Annotations;
use crate::core::keys::{self, Key};
use crate::core::problem::{Problem, ProblemCode};
use crate::core::promql;
use crate::core::promql::query::{self, QueryError, Tenant};
use crate::core::source::{OwnQuery, PointConfig, SCRAPE, ScrapeSpec, Share, SourceFacts, Wiring};
use crate::core::spec::ScalingMetric;
use crate::core::text::{did_you_mean, escaped, shown};

/// The longest label value, in bytes.
const MOST_LABEL_BYTES: usize = 256;

/// How far apart scrape rounds are.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

/// After how long without a round the pods' signal is lost: 2.5 rounds.
const SCRAPE_STALE_AFTER: Duration = Duration::from_millis(2500);

/// The usable points of one measure, most preferred first.
#[derive(Debug, Default)]
pub(super) struct MeasuredPoints {
    pub(super) points: Vec<PointConfig>,
    pub(super) companion: Vec<PointConfig>,
}

/// What can be measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// For each wish, in the same order.
    pub(super) measures: Vec<MeasuredPoints>,
    /// What the sources need to know of the points: the named ones among them, each once, the labels that
    /// choose the target's series, its queries, and how pods are scraped.
    pub(super) wiring: Wiring,
    /// What they are scraped for.
    pub(super) scrape_metric: Option<ScalingMetric>,
}

impl Measured {
    /// The points of all measures and companions.
    pub(super) fn all_points(&self) -> impl Iterator<Item = &PointConfig> {
        self.measures.iter().flat_map(|one| one.points.iter().chain(&one.companion))
    }
}

/// What is known while the points of all measures are resolved.
struct Resolver<'a, 'b> {
    inputs: &'b Inputs<'a>,
    read: &'b mut Annotations,
    wishes: &'b Wishes,
    /// The names of `podswell.dev/source`, or scraping.
    names: Vec<String>,
    /// Which of them no measure takes, so far.
    untaken: Vec<String>,
    scrape: Option<ScrapeSpec>,
    labels: BTreeMap<String, String>,
    labels_are_valid: bool,
    brought: Brought,
    /// Whether a source is named that nobody knows.
    names_unknown: bool,
    stable_window: Duration,
    measured: Measured,
}

/// Resolves `podswell.dev/source`, `source-match` and `scrape` for each wish. A point that cannot give the
/// metric is reported and left out; nothing is guessed.
pub(super) fn resolve(
    inputs: &Inputs<'_>,
    read: &mut Annotations,
    wishes: &Wishes,
    stable_window: Duration,
) -> Measured {
    if wishes.list.iter().all(|wish| !wish.measurable) {
        let measures = wishes.list.iter().map(|_| MeasuredPoints::default()).collect();
        return Measured { measures, ..Measured::default() };
    }
    let scrape = scrape(inputs, read, wishes);
    let names = names(read);
    let (labels, labels_are_valid) = labels(read);
    let brought = brought::read(inputs, read);
    let mut resolver = Resolver {
        inputs,
        read,
        wishes,
        untaken: names.clone(),
        names,
        scrape,
        labels,
        labels_are_valid,
        brought,
        names_unknown: false,
        stable_window,
        measured: Measured::default(),
    };
    for wish in &wishes.list {
        let points = resolver.points_of(wish);
        resolver.measured.measures.push(points);
    }
    resolver.finish()
}

impl<'a> Resolver<'a, '_> {
    fn points_of(&mut self, wish: &Wish) -> MeasuredPoints {
        if !wish.measurable {
            return MeasuredPoints::default();
        }
        let key = if wish.sources.is_some() { self.wishes.key } else { &keys::SOURCE };
        let names = wish.sources.clone().unwrap_or_else(|| self.names.clone());
        let points: Vec<_> =
            names.iter().filter_map(|name| self.point(name, wish, wish.metric, key)).collect();
        let companion: Vec<_> = wish
            .companion
            .iter()
            .filter_map(|name| self.point(name, wish, ScalingMetric::Backlog, self.wishes.key))
            .collect();
        if points.is_empty() {
            self.report_no_source(wish, names.is_empty());
        }
        if companion.is_empty() && !wish.companion.is_empty() {
            self.report_no_source(wish, false);
        }
        MeasuredPoints { points, companion }
    }

    fn report_no_source(&mut self, wish: &Wish, nothing_named: bool) {
        if matches!(self.brought, Brought::NotAllowed) {
            // That says enough.
            return;
        }
        let listed = self.wishes.are_listed();
        let why = if nothing_named {
            "neither a source nor a scrape configuration says where the load is read".to_owned()
        } else {
            "none of the sources can be used".to_owned()
        };
        self.read.report(Problem {
            code: ProblemCode::NoSource,
            key: if listed { keys::MEASURES } else { keys::SOURCE }.annotation(),
            why: if listed { format!("{}: {why}", wish.name) } else { why },
            fallback: if listed {
                "nothing is lowered"
            } else {
                "nothing is measured, replicas stay"
            }
            .to_owned(),
        });
    }

    /// The point `name` for a measure of `metric`, if it can give that.
    fn point(
        &mut self,
        name: &str,
        wish: &Wish,
        metric: ScalingMetric,
        key: &Key,
    ) -> Option<PointConfig> {
        // A source that all measures may take is taken by those whose metric it gives.
        let shared = self.wishes.are_listed() && wish.sources.is_none() && *key == keys::SOURCE;
        if shared && !self.gives(name, metric) {
            return None;
        }
        self.untaken.retain(|untaken| untaken != name);
        let point = if name == SCRAPE {
            self.scrape_point(metric, key)
        } else if self.labels_are_valid {
            self.named_point(name, metric, key)
                .filter(|facts| self.labels_are_listed(facts))
                .and_then(|facts| self.with_query(facts))
        } else {
            None
        }?;
        if name == SCRAPE {
            self.measured.wiring.scrape.clone_from(&self.scrape);
            self.measured.scrape_metric = Some(metric);
        } else if !self.measured.wiring.sources.contains(&point.source) {
            self.measured.wiring.sources.push(point.source.clone());
        }
        Some(point)
    }

    /// Whether a source is worth a try for `metric`; one that does not exist is, once.
    fn gives(&self, name: &str, metric: ScalingMetric) -> bool {
        let free = self.untaken.iter().any(|untaken| untaken == name);
        match self.inputs.sources.get(name) {
            Some(facts) => facts.kind == metric,
            None if name == SCRAPE => {
                let fits = self.scrape.as_ref().is_none_or(|spec| spec.format.measures(metric));
                fits && free
            }
            None => free,
        }
    }

    fn scrape_point(&mut self, metric: ScalingMetric, key: &Key) -> Option<PointConfig> {
        if self.scrape.is_none() && self.read.get(&keys::SCRAPE).is_none() {
            self.skip(
                ProblemCode::UnknownSource,
                key,
                format!("{SCRAPE} needs {}", keys::SCRAPE.annotation()),
            );
        }
        let spec = self.scrape.as_ref()?;
        if !spec.format.measures(metric) {
            let why = format!("what {SCRAPE} reads is not {}", metric.as_str());
            self.skip(ProblemCode::SourceKindMismatch, key, why);
            return None;
        }
        if let Some(other) = self.measured.scrape_metric {
            let why = format!("pods are scraped for {} already", other.as_str());
            self.skip(ProblemCode::SourceKindMismatch, key, why);
            return None;
        }
        Some(PointConfig {
            source: SCRAPE.into(),
            interval: SCRAPE_INTERVAL,
            stale_after: SCRAPE_STALE_AFTER,
            range: None,
            visible_at_zero: false,
            share: Share::Exclusive,
        })
    }

    fn skip(&mut self, code: ProblemCode, key: &Key, why: String) {
        let fallback = "it is skipped".to_owned();
        self.read.report(Problem { code, key: key.annotation(), why, fallback });
    }

    /// The facts of a named source, if it can measure the target.
    fn named_point(
        &mut self,
        name: &str,
        metric: ScalingMetric,
        key: &Key,
    ) -> Option<&'a SourceFacts> {
        let sources = self.inputs.sources;
        self.names_unknown |= !sources.contains_key(name);
        let (code, why) = match sources.get(name) {
            None => {
                let meant = did_you_mean(name, sources.keys().map(|name| &**name));
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
            Some(facts) => match self.too_long(facts.range) {
                None => return Some(facts),
                Some(spans) => (
                    ProblemCode::RangeAboveWindow,
                    format!("the rate of the source {name} spans {spans}"),
                ),
            },
        };
        self.skip(code, key, why);
        None
    }

    /// What is longer than what, where a range is longer than the stable window.
    fn too_long(&self, range: Option<Duration>) -> Option<String> {
        let range = range.filter(|range| *range > self.stable_window)?;
        let (range, window) = (range.as_secs_f64(), self.stable_window.as_secs_f64());
        Some(format!("{range} s, the stable window {window} s"))
    }

    /// The point of a source, with the target's own query where the source asks that.
    fn with_query(&mut self, facts: &SourceFacts) -> Option<PointConfig> {
        let Some(label) = &facts.query_label else { return Some(point_of(facts)) };
        let text = match &mut self.brought {
            // That it is not allowed has been said.
            Brought::NotAllowed => return None,
            Brought::Nothing => {
                let why = format!("the source {} asks what it says, and it is absent", facts.name);
                self.skip(ProblemCode::InvalidAnnotation, &keys::QUERY, why);
                return None;
            }
            Brought::Query { text, used } => {
                *used = true;
                text.clone()
            }
        };
        let Inputs { namespace, name: deployment, .. } = *self.inputs;
        let tenant = Tenant { label, namespace, deployment };
        let query = match query::narrow(&text, tenant, facts.stale_after) {
            Ok(query) => query,
            Err(error) => {
                let code = match error {
                    QueryError::Foreign { .. } => ProblemCode::ForeignSeries,
                    QueryError::Invalid(_) => ProblemCode::InvalidAnnotation,
                };
                self.skip(code, &keys::QUERY, error.to_string());
                return None;
            }
        };
        if let Some(spans) = self.too_long(query.range) {
            let why = format!("the longest range in it spans {spans}");
            self.skip(ProblemCode::RangeAboveWindow, &keys::QUERY, why);
            return None;
        }
        let own = OwnQuery { text: query.text.into(), past: query.past.into() };
        self.measured.wiring.queries.insert(facts.name.clone(), own);
        Some(PointConfig { range: query.range, ..point_of(facts) })
    }

    /// Whether a source lets workloads choose by the labels that are chosen. With several measures each
    /// source takes those that it lists.
    fn labels_are_listed(&mut self, facts: &SourceFacts) -> bool {
        if self.wishes.are_listed() {
            return true;
        }
        let mut labels = self.labels.keys();
        let Some(label) = labels.find(|label| !facts.selectable_labels.contains(label)) else {
            return true;
        };
        let why = format!("the source {} does not let workloads choose by {label}", facts.name);
        let code = code_of_label(label);
        self.skip(code, &keys::SOURCE_MATCH, why);
        false
    }

    fn finish(mut self) -> Measured {
        if !self.measured.wiring.sources.is_empty() {
            self.measured.wiring.source_match.clone_from(&self.labels);
        }
        if self.wishes.are_listed() {
            self.report_untaken();
            self.report_unlisted_labels();
        }
        self.report_unused_scrape();
        self.report_unused_query();
        self.measured
    }

    fn report_untaken(&mut self) {
        for name in std::mem::take(&mut self.untaken) {
            let why = format!("no measure takes {}", shown(&name));
            self.skip(ProblemCode::SourceKindMismatch, &keys::SOURCE, why);
        }
    }

    /// Labels that no source of the target lists.
    fn report_unlisted_labels(&mut self) {
        let lists = |label: &String| {
            let mut used = self
                .measured
                .wiring
                .sources
                .iter()
                .filter_map(|name| self.inputs.sources.get(name));
            used.any(|facts| facts.selectable_labels.contains(label))
        };
        let unlisted: Vec<String> =
            self.labels.keys().filter(|label| !lists(label)).cloned().collect();
        for label in unlisted {
            let why = format!("no source of the target lets workloads choose by {label}");
            self.skip(code_of_label(&label), &keys::SOURCE_MATCH, why);
        }
    }

    /// A query that no source of the target asks.
    fn report_unused_query(&mut self) {
        let unused = matches!(self.brought, Brought::Query { used: false, .. });
        if unused && !self.names_unknown {
            self.read.report(Problem {
                code: ProblemCode::InvalidAnnotation,
                key: keys::QUERY.annotation(),
                why: "no source of the target asks it: name one with queries: true".to_owned(),
                fallback: "it is not asked".to_owned(),
            });
        }
    }

    /// A scrape configuration that no list of sources names.
    fn report_unused_scrape(&mut self) {
        let of_wishes = self.wishes.list.iter().filter_map(|wish| wish.sources.as_ref()).flatten();
        let named = of_wishes.chain(&self.names).any(|name| name == SCRAPE);
        if self.read.get(&keys::SCRAPE).is_some() && !named {
            let by = if self.wishes.are_listed() { keys::MEASURES } else { keys::SOURCE };
            self.read.report(Problem {
                code: ProblemCode::InvalidAnnotation,
                key: keys::SCRAPE.annotation(),
                why: format!("{} does not name {SCRAPE}", by.annotation()),
                fallback: "pods are not scraped".to_owned(),
            });
        }
    }
}

fn point_of(facts: &SourceFacts) -> PointConfig {
    PointConfig {
        source: facts.name.clone(),
        interval: facts.interval,
        stale_after: facts.stale_after,
        range: facts.range,
        visible_at_zero: facts.visible_at_zero,
        share: facts.share,
    }
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

/// How pods are scraped, if the annotation says so and the page gives the metric of a measure.
fn scrape(inputs: &Inputs<'_>, read: &mut Annotations, wishes: &Wishes) -> Option<ScrapeSpec> {
    let parsed = ScrapeSpec::parse(read.get(&keys::SCRAPE)?, inputs.template_annotations);
    let mut metrics = wishes.list.iter().filter(|wish| wish.measurable).map(|wish| wish.metric);
    let (code, why) = match parsed {
        Ok(spec) if metrics.any(|metric| spec.format.measures(metric)) => return Some(spec),
        Ok(_) => {
            (ProblemCode::SourceKindMismatch, format!("what it reads is not {}", words(wishes)))
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

/// The metrics of all measures, for a message.
fn words(wishes: &Wishes) -> String {
    let words: BTreeSet<&str> = wishes.list.iter().map(|wish| wish.metric.as_str()).collect();
    words.into_iter().collect::<Vec<_>>().join(" or ")
}

/// The labels that choose the target's series, and whether they are usable. Named sources are left out
/// where they are not: another workload's series would be worse than none.
fn labels(read: &mut Annotations) -> (BTreeMap<String, String>, bool) {
    let Some(text) = read.get(&keys::SOURCE_MATCH) else { return (BTreeMap::new(), true) };
    match parse_labels(text) {
        Ok(labels) => (labels, true),
        Err((code, why)) => {
            read.report(Problem {
                code,
                key: keys::SOURCE_MATCH.annotation(),
                why,
                fallback: "named sources are skipped".to_owned(),
            });
            (BTreeMap::new(), false)
        }
    }
}

/// Whether a text is meant to end a string of a query and go on with a selector of its own.
fn is_promql(value: &str) -> bool {
    value.contains(['"', '\'', '`']) && value.contains(['{', '}'])
}

/// A label that holds a namespace reaches for another one.
fn code_of_label(label: &str) -> ProblemCode {
    if promql::names_namespace(label) {
        ProblemCode::ForeignSeries
    } else {
        ProblemCode::InvalidAnnotation
    }
}

fn parse_labels(text: &str) -> Result<BTreeMap<String, String>, (ProblemCode, String)> {
    if is_promql(text) {
        let why = format!("{} is PromQL: values are compared, never asked", shown(text));
        return Err((ProblemCode::ForeignSeries, why));
    }
    parse_pairs(text).map_err(|why| (ProblemCode::InvalidAnnotation, why))
}

fn parse_pairs(text: &str) -> Result<BTreeMap<String, String>, String> {
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
