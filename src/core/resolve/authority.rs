//! Who may write: consent from the class, and the strictest of all modes.

use std::collections::BTreeMap;

use super::Inputs;
use crate::core::Timestamp;
use crate::core::annotations::{
    Annotations, CLASS_KPA, CLASS_PODSWELL, NOTHING_LOWERED, unknown_key,
};
use crate::core::config::Provenance;
use crate::core::keys::{self, Group, Key, Level};
use crate::core::policy::{Consent, Mode};
use crate::core::problem::{Problem, ProblemCode};
use crate::core::text::{did_you_mean, shown};

/// Whether the user asked us to write. Our class counts on the Deployment itself only: a pod template is
/// copied by too many tools to be a word from the Deployment's owner.
pub(super) fn consent(inputs: &Inputs<'_>, read: &mut Annotations) -> Consent {
    let class = read.get(&keys::CLASS);
    let from = read.origins.get(&keys::CLASS.index());
    if class == Some(CLASS_PODSWELL) {
        if from == Some(&Provenance::Annotation) {
            return Consent::Managed;
        }
        read.report(Problem {
            code: ProblemCode::InvalidAnnotation,
            key: keys::CLASS.annotation(),
            why: format!("{CLASS_PODSWELL} is set on the pod template, not on the Deployment"),
            fallback: "decisions are shown, but not written".to_owned(),
        });
        return Consent::Observed;
    }
    let adopted = class == Some(CLASS_KPA)
        && !inputs.owned_by_knative
        && inputs.process.adopt_namespaces.contains(inputs.namespace);
    if adopted { Consent::Managed } else { Consent::Observed }
}

/// A pause with an end, and where it comes from.
#[derive(Debug, Default)]
pub(super) struct Pause {
    /// Its end: the later one of namespace and workload.
    pub(super) until: Option<(Timestamp, Provenance)>,
    /// Where an end stands that cannot be read.
    unreadable: Option<Provenance>,
}

/// The pause with an end. One that cannot be read was meant to keep what runs, so nothing is lowered;
/// but nobody meant to starve a workload for ever by a slip of the pen, so raising goes on.
pub(super) fn pause(inputs: &Inputs<'_>, read: &mut Annotations) -> Pause {
    let mut pause = Pause::default();
    if let Some(text) = inputs.namespace_annotations.get(&keys::PAUSED_UNTIL.annotation()) {
        match text.trim().parse() {
            Ok(until) => pause.until = Some((until, Provenance::Namespace)),
            Err::<Timestamp, _>(_) => pause.unreadable = Some(Provenance::Namespace),
        }
    }
    let from = read.origins.get(&keys::PAUSED_UNTIL.index()).copied().unwrap_or_default();
    match read.get(&keys::PAUSED_UNTIL).map(|text| (text.trim().parse(), shown(text))) {
        Some((Ok(until), _)) => {
            let longer = pause.until.is_none_or(|(other, _)| until >= other);
            pause.until = if longer { Some((until, from)) } else { pause.until };
        }
        Some((Err::<Timestamp, _>(_), text)) => {
            read.refuse(&keys::PAUSED_UNTIL, not_a_time(&text));
            pause.unreadable = Some(from);
        }
        None => {}
    }
    pause
}

fn not_a_time(text: &str) -> String {
    format!("{text} is not a time like 2026-09-01T12:00:00Z")
}

/// The strictest mode and where it comes from.
pub(super) fn mode(
    inputs: &Inputs<'_>,
    read: &mut Annotations,
    pause: &Pause,
) -> (Mode, Provenance) {
    let mut candidates = vec![(inputs.process.mode, Provenance::Flag)];
    candidates.extend(pause.unreadable.map(|from| (Mode::PausedDown, from)));
    if inputs.process.freeze {
        candidates.push((Mode::Paused, Provenance::ConfigMap));
    }
    if let Some(text) = inputs.namespace_annotations.get(&keys::MODE.annotation()) {
        candidates.push((Mode::parse(text).unwrap_or(Mode::Observe), Provenance::Namespace));
    }
    let from = read.origins.get(&keys::MODE.index()).copied().unwrap_or_default();
    match read.get(&keys::MODE).map(|text| Mode::parse(text).ok_or_else(|| not_a_mode(text))) {
        Some(Ok(mode)) => candidates.push((mode, from)),
        Some(Err(why)) => {
            read.refuse(&keys::MODE, why);
            candidates.push((Mode::Observe, from));
        }
        None if inputs.owned_by_knative => candidates.push((Mode::Observe, Provenance::Default)),
        None => {}
    }
    let start = (Mode::Apply, Provenance::Default);
    candidates.into_iter().fold(start, |(mode, from), (other, other_from)| {
        let strictest = mode.strictest(other);
        if strictest == mode { (mode, from) } else { (strictest, other_from) }
    })
}

fn not_a_mode(text: &str) -> String {
    const MODES: [&str; 5] = ["apply", "paused-up", "paused-down", "paused", "observe"];
    let meant = did_you_mean(text.trim(), MODES.into_iter());
    format!("{} is none of {}{meant}", shown(text), MODES.join(", "))
}

/// What is wrong with the annotations of a namespace, for all of its workloads.
pub fn namespace_problems(annotations: &BTreeMap<String, String>) -> Vec<Problem> {
    let ours = annotations.keys().filter(|key| key.starts_with(Group::Podswell.prefix()));
    let mut problems: Vec<Problem> = ours.filter_map(|key| not_read_here(key)).collect();
    let mut refuse = |key: &Key, why: String, fallback: &str| {
        problems.push(Problem {
            code: ProblemCode::InvalidAnnotation,
            key: key.annotation(),
            why: format!("on the namespace: {why}"),
            fallback: fallback.to_owned(),
        });
    };
    let value = |key: &Key| annotations.get(&key.annotation());
    if let Some(text) = value(&keys::MODE).filter(|text| Mode::parse(text).is_none()) {
        refuse(&keys::MODE, not_a_mode(text), "nothing is written (observe)");
    }
    if let Some(text) =
        value(&keys::PAUSED_UNTIL).filter(|text| text.trim().parse::<Timestamp>().is_err())
    {
        refuse(&keys::PAUSED_UNTIL, not_a_time(&shown(text)), NOTHING_LOWERED);
    }
    problems
}

/// A complaint about a key that a namespace cannot set, or that nobody knows.
fn not_read_here(key: &str) -> Option<Problem> {
    let Some(known) = keys::find(key) else { return unknown_key(key) };
    (known.level != Level::Namespace).then(|| Problem {
        code: ProblemCode::UnknownAnnotation,
        key: known.annotation(),
        why: "is not read from a namespace".to_owned(),
        fallback: "it is ignored".to_owned(),
    })
}
