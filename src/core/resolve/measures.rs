//! What a target is measured by: the annotation `podswell.dev/measures`, or the one measure that
//! `autoscaling.knative.dev/metric` names.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::annotations::{Annotations, CLASS_PODSWELL};
use crate::core::config::MeasureName;
use crate::core::defaults::TARGET_MIN;
use crate::core::keys::{self, Key};
use crate::core::number;
use crate::core::problem::{Problem, ProblemCode};
use crate::core::spec::ScalingMetric;
use crate::core::text::{did_you_mean, escaped, shown};

/// The most measures of one target, and the most sources of one measure.
pub(super) const MOST_ITEMS: usize = 8;

const METRICS: [ScalingMetric; 4] =
    [ScalingMetric::Concurrency, ScalingMetric::Rps, ScalingMetric::Events, ScalingMetric::Backlog];

/// A measure as the user wishes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wish {
    /// Its name; unlike that of any other wish.
    pub(super) name: MeasureName,
    pub(super) metric: ScalingMetric,
    /// Its own sources; `None`: those of `podswell.dev/source`.
    pub(super) sources: Option<Vec<String>>,
    /// Where waiting items are seen; empty: nowhere.
    pub(super) companion: Vec<String>,
    /// What one pod can bear, as it is written there; `None`: not written there.
    pub(super) target: Option<String>,
    /// Whether it may be measured at all.
    pub(super) measurable: bool,
}

/// All wishes of a target, at least one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wishes {
    pub(super) list: Vec<Wish>,
    /// The annotation that holds them.
    pub(super) key: &'static Key,
}

impl Wishes {
    /// Whether `podswell.dev/measures` says what is measured.
    pub(super) fn are_listed(&self) -> bool {
        *self.key == keys::MEASURES
    }

    pub(super) fn first_metric(&self) -> ScalingMetric {
        self.list.first().map_or(ScalingMetric::Concurrency, |wish| wish.metric)
    }
}

/// Reads what is to be measured. An entry that cannot be read counts as a measure that is not heard:
/// nothing is lowered for lack of it.
pub(super) fn read(read: &mut Annotations) -> Wishes {
    let Some(text) = read.get(&keys::MEASURES).map(str::to_owned) else {
        let list = vec![single(read)];
        return Wishes { list, key: &keys::METRIC };
    };
    let mut list: Vec<Wish> = Vec::new();
    for (at, entry) in text.split(',').map(str::trim).enumerate() {
        let (problem, fallback) = match parse(entry) {
            _ if list.len() == MOST_ITEMS => {
                refuse(read, format!("more than {MOST_ITEMS} measures"), HOLDS);
                break;
            }
            Ok(wish) if list.iter().all(|known| known.name != wish.name) => {
                list.push(wish);
                continue;
            }
            Ok(wish) => (format!("{} is named twice", wish.name), "the first one counts"),
            Err(why) => (why, HOLDS),
        };
        if fallback == HOLDS {
            list.push(Wish::unreadable(at));
        }
        refuse(read, problem, fallback);
    }
    require(read, &mut list);
    report_unread(read, &list);
    Wishes { list, key: &keys::MEASURES }
}

/// What becomes of an entry that cannot be used.
const HOLDS: &str = "nothing is lowered until it is mended";

fn refuse(read: &mut Annotations, why: String, fallback: &str) {
    read.report(Problem {
        code: ProblemCode::InvalidAnnotation,
        key: keys::MEASURES.annotation(),
        why,
        fallback: fallback.to_owned(),
    });
}

impl Wish {
    fn unreadable(at: usize) -> Self {
        Self {
            name: format!("measure-{}", at + 1).into(),
            metric: ScalingMetric::Concurrency,
            sources: None,
            companion: Vec::new(),
            target: None,
            measurable: false,
        }
    }
}

/// The one measure of `autoscaling.knative.dev/metric`. `events` and `backlog` need our class and a target;
/// without them the metric stays, but nothing is measured for it, so that replicas stay as well.
fn single(read: &mut Annotations) -> Wish {
    let metric = match read.get(&keys::METRIC) {
        Some("rps") => ScalingMetric::Rps,
        Some("events") => ScalingMetric::Events,
        Some("backlog") => ScalingMetric::Backlog,
        _ => ScalingMetric::Concurrency,
    };
    let measurable = !counts_items(metric) || is_ours(read) && read.get(&keys::TARGET).is_some();
    if !measurable {
        read.report(Problem {
            code: ProblemCode::TargetRequired,
            key: keys::METRIC.annotation(),
            why: format!(
                "{} needs the class {CLASS_PODSWELL} and the annotation {}",
                metric.as_str(),
                keys::TARGET.annotation()
            ),
            fallback: "nothing is measured, replicas stay".to_owned(),
        });
    }
    let name = Arc::from(metric.as_str());
    Wish { name, metric, sources: None, companion: Vec::new(), target: None, measurable }
}

fn counts_items(metric: ScalingMetric) -> bool {
    matches!(metric, ScalingMetric::Events | ScalingMetric::Backlog)
}

fn is_ours(read: &Annotations) -> bool {
    read.get(&keys::CLASS) == Some(CLASS_PODSWELL)
}

/// `events` and `backlog` need our class and a target; only the first measure has another place for it.
fn require(read: &mut Annotations, list: &mut [Wish]) {
    let ours = is_ours(read);
    let has_target = read.get(&keys::TARGET).is_some();
    for (at, wish) in list.iter_mut().enumerate().filter(|(_, wish)| counts_items(wish.metric)) {
        let has_target = wish.target.is_some() || at == 0 && has_target;
        wish.measurable &= ours && has_target;
        if !wish.measurable {
            read.report(Problem {
                code: ProblemCode::TargetRequired,
                key: keys::MEASURES.annotation(),
                why: format!(
                    "{} needs the class {CLASS_PODSWELL} and a target, for example {}=50",
                    wish.name, wish.name
                ),
                fallback: HOLDS.to_owned(),
            });
        }
    }
}

/// Annotations that the list of measures makes void.
fn report_unread(read: &mut Annotations, list: &[Wish]) {
    let mut ignored = |key: &Key, why: &str| {
        if read.get(key).is_some() {
            read.report(Problem {
                code: ProblemCode::InvalidAnnotation,
                key: key.annotation(),
                why: format!("{} {why}", keys::MEASURES.annotation()),
                fallback: "it is ignored".to_owned(),
            });
        }
    };
    ignored(&keys::METRIC, "says what is measured");
    if list.first().is_some_and(|wish| wish.target.is_some()) {
        ignored(&keys::TARGET, "gives the first measure its own target");
    }
}

/// Reads one entry, `metric[@source[/source]][+companion[/companion]][=target]`.
fn parse(entry: &str) -> Result<Wish, String> {
    let (what, target) = match entry.split_once('=') {
        Some((what, target)) => (what.trim(), Some(target_of(target.trim())?)),
        None => (entry, None),
    };
    let (what, companion) = match what.split_once('+') {
        Some((what, companion)) => (what.trim(), names_of(companion)?),
        None => (what, Vec::new()),
    };
    let (metric, sources) = match what.split_once('@') {
        Some((metric, sources)) => (metric.trim(), Some(names_of(sources)?)),
        None => (what, None),
    };
    let metric = metric_of(metric)?;
    if metric != ScalingMetric::Events && !companion.is_empty() {
        return Err(format!(
            "{} has no companion: only events are measured beside what waits",
            metric.as_str()
        ));
    }
    let mut name = metric.as_str().to_owned();
    for (mark, names) in [('@', sources.as_deref().unwrap_or_default()), ('+', &companion)] {
        if !names.is_empty() {
            name.push(mark);
            name.push_str(&names.join("/"));
        }
    }
    Ok(Wish { name: name.into(), metric, sources, companion, target, measurable: true })
}

fn metric_of(text: &str) -> Result<ScalingMetric, String> {
    if let Some(metric) = METRICS.into_iter().find(|metric| metric.as_str() == text) {
        return Ok(metric);
    }
    let meant = did_you_mean(text, METRICS.iter().map(|metric| metric.as_str()));
    Err(format!("{} is none of concurrency, rps, events, backlog{meant}", shown(text)))
}

/// What one pod can bear; kept as text, because Knative's own rules read it.
fn target_of(text: &str) -> Result<String, String> {
    let valid =
        number::parse_float(text).is_ok_and(|value| value.is_finite() && value >= TARGET_MIN);
    if valid {
        Ok(text.to_owned())
    } else {
        Err(format!("the target {} is not a number of at least {TARGET_MIN}", shown(text)))
    }
}

/// Names of sources between slashes.
fn names_of(text: &str) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    for name in text.split('/').map(str::trim) {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if name.is_empty() || name.len() > 63 || !name.bytes().all(fits) {
            return Err(format!("{} is not the name of a source", shown(name)));
        }
        if names.iter().any(|known| known == name) {
            return Err(format!("{} is named twice in one measure", escaped(name)));
        }
        names.push(name.to_owned());
        if names.len() > MOST_ITEMS {
            return Err(format!("more than {MOST_ITEMS} sources in one measure"));
        }
    }
    Ok(names)
}

/// The annotations from which the target of the measure at position `at` is read: its own target stands
/// in the place of `autoscaling.knative.dev/target`, which is the first measure's alone.
pub(super) fn annotations_of(
    read: &Annotations,
    at: usize,
    wish: &Wish,
) -> BTreeMap<String, String> {
    let mut accepted = read.accepted.clone();
    let key = keys::TARGET.annotation();
    match &wish.target {
        Some(target) => {
            accepted.insert(key, target.clone());
        }
        None if at > 0 => {
            accepted.remove(&key);
        }
        None => {}
    }
    accepted
}

/// Reports keys that no measure of the target reads.
pub(super) fn report_unused(read: &mut Annotations, wishes: &Wishes) {
    let items = wishes.list.iter().any(|wish| counts_items(wish.metric));
    let companion = wishes.list.iter().any(|wish| !wish.companion.is_empty());
    for (key, used, needs) in [
        (&keys::ACTIVATION_VALUE, items, "a measure of events or backlog"),
        (&keys::DRAIN_TIME, companion, "a measure of events with a companion"),
    ] {
        if !used && read.get(key).is_some() {
            read.report(Problem {
                code: ProblemCode::InvalidAnnotation,
                key: key.annotation(),
                why: format!("needs {needs}"),
                fallback: "it is ignored".to_owned(),
            });
        }
    }
}
