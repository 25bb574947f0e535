//! One set of annotations from two places: the Deployment's own win over its pod template's.

use std::collections::{BTreeMap, BTreeSet};

use super::lookup;
use crate::core::config::Provenance;
use crate::core::keys::{self, Group, KEYS, Key};
use crate::core::problem::{Problem, ProblemCode};
use crate::core::text::{escaped, nearest, shown, suggestion};

/// Where the value of each key comes from, by its position in [`KEYS`]; absent keys have no entry.
pub type Origins = BTreeMap<u8, Provenance>;

/// The winners of both places.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// For each key at most one annotation, under the spelling that was found.
    pub(super) values: BTreeMap<String, String>,
    pub(super) origins: Origins,
    pub(super) problems: Vec<Problem>,
}

/// Merges the annotations of a Deployment and of its pod template.
pub(super) fn merge(
    deployment: &BTreeMap<String, String>,
    template: &BTreeMap<String, String>,
) -> Merged {
    let mut merged = Merged::default();
    for key in KEYS.iter().filter(|key| key.is_annotation()) {
        let (above, below) = (lookup(deployment, key), lookup(template, key));
        let (found, place, from) = match (above, below) {
            (Some(found), _) => (found, deployment, Provenance::Annotation),
            (None, Some(found)) => (found, template, Provenance::PodTemplate),
            (None, None) => continue,
        };
        if let Some(below) = below.filter(|below| below.value != found.value) {
            merged.problems.push(Problem {
                code: ProblemCode::AnnotationsDiffer,
                key: found.spelled.to_owned(),
                why: format!(
                    "the Deployment says {}, its pod template {}",
                    shown(found.value),
                    shown(below.value)
                ),
                fallback: "the Deployment's value is used".to_owned(),
            });
        }
        merged.problems.extend(old_spelling(key, found.spelled, place));
        merged.values.insert(found.spelled.to_owned(), found.value.to_owned());
        merged.origins.insert(key.index(), from);
    }
    let unknown: BTreeSet<&String> = deployment.keys().chain(template.keys()).collect();
    merged.problems.extend(unknown.into_iter().filter_map(|key| unknown_key(key)));
    merged
}

/// A complaint about an alias that is used, or that is ignored beside the canonical name.
fn old_spelling(key: &Key, spelled: &str, place: &BTreeMap<String, String>) -> Option<Problem> {
    let canonical = key.annotation();
    let problem = |key: String, why: String| Problem {
        code: ProblemCode::UnusualSpelling,
        key,
        why,
        fallback: String::new(),
    };
    if spelled != canonical {
        return Some(problem(spelled.to_owned(), format!("is an old spelling of {canonical}")));
    }
    let ignored = key.spellings().skip(1).find(|spelling| place.contains_key(spelling))?;
    Some(problem(ignored, format!("is ignored because {canonical} is set")))
}

/// A complaint about a key of our groups that nobody reads.
pub(crate) fn unknown_key(key: &str) -> Option<Problem> {
    let group = [Group::Autoscaling, Group::Podswell]
        .into_iter()
        .find(|group| key.starts_with(group.prefix()))?;
    if keys::find(key).is_some() {
        return None;
    }
    let name = key.strip_prefix(group.prefix()).unwrap_or(key);
    if name == "freeze" {
        return Some(Problem {
            code: ProblemCode::UnknownAnnotation,
            key: escaped(key),
            why:
                "freeze is a key of the ConfigMap podswell; did you mean podswell.dev/mode: paused?"
                    .to_owned(),
            fallback: "it is ignored".to_owned(),
        });
    }
    // A key may also stand under the wrong group, so both are searched.
    let annotations = KEYS.iter().filter(|key| key.is_annotation());
    let meant = nearest(name, annotations.clone().map(|key| key.name)).and_then(|meant| {
        annotations
            .filter(|key| key.name == meant)
            .min_by_key(|key| key.group != group)
            .map(Key::annotation)
    });
    Some(Problem {
        code: ProblemCode::UnknownAnnotation,
        key: escaped(key),
        why: format!("no such key{}", suggestion(meant)),
        fallback: "it is ignored".to_owned(),
    })
}
