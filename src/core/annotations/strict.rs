//! podswell's own reading: what Knative's webhook would refuse, what is not finite and what nobody
//! knows is reported and counts as absent.

use std::collections::BTreeMap;

use super::admission::{Rule, rejections};
use super::merge::{Merged, Origins, merge};
use super::{CLASS_PODSWELL, Found, lookup};
use crate::core::defaults::ClusterDefaults;
use crate::core::duration::GoDuration;
use crate::core::keys::{self, KEYS, Key, Kind, Level};
use crate::core::number;
use crate::core::on_missing::OnMissing;
use crate::core::problem::{Problem, ProblemCode};
use crate::core::text::shown;

/// How many problems of one target are kept; the last one then says how many are not shown.
const MOST_PROBLEMS: usize = 32;

/// What becomes of a pause whose end cannot be read.
pub(crate) const NOTHING_LOWERED: &str = "nothing is lowered until it is corrected (paused-down)";

/// The annotations of one workload after the strict reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// What is accepted: every value parses, is in range and is finite. At most one spelling a key.
    pub accepted: BTreeMap<String, String>,
    /// Where each accepted value comes from.
    pub origins: Origins,
    /// What the user should mend.
    pub problems: Vec<Problem>,
}

impl Annotations {
    /// The accepted value of a key, as text.
    pub(crate) fn get(&self, key: &Key) -> Option<&str> {
        lookup(&self.accepted, key).map(|found| found.value)
    }

    /// Adds a problem, up to the most that are kept.
    pub(crate) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Cuts the list of problems to its bound.
    pub(crate) fn bounded_problems(mut self) -> Vec<Problem> {
        let count = self.problems.len();
        if count > MOST_PROBLEMS {
            self.problems.truncate(MOST_PROBLEMS - 1);
            self.problems.push(Problem {
                code: ProblemCode::UnknownAnnotation,
                key: "…".to_owned(),
                why: format!("{} more problems are not shown", count - MOST_PROBLEMS + 1),
                fallback: String::new(),
            });
        }
        // They are kept for as long as the workload, mostly one of them: room for more would be lost.
        self.problems.shrink_to_fit();
        self.problems
    }

    /// Drops the value of a key.
    pub(crate) fn refuse(&mut self, key: &Key, why: String) {
        let Some(found) = lookup(&self.accepted, key) else { return };
        let spelled = found.spelled.to_owned();
        self.accepted.remove(&spelled);
        self.origins.remove(&key.index());
        let fallback = match key.level {
            _ if *key == keys::PAUSED_UNTIL => NOTHING_LOWERED.to_owned(),
            _ if *key == keys::MODE => "nothing is written (observe)".to_owned(),
            _ if *key == keys::CLASS => "decisions are shown, but not written".to_owned(),
            Level::Both(default) => {
                format!("the default of {default} in config-autoscaler is used")
            }
            Level::Annotation | Level::ConfigMap | Level::Namespace => {
                "it counts as absent".to_owned()
            }
        };
        self.report(Problem { code: ProblemCode::InvalidAnnotation, key: spelled, why, fallback });
    }

    /// Checks the value of a key, if it has one.
    fn check(&mut self, key: &Key, rule: impl FnOnce(&str) -> Option<String>) {
        if let Some(why) = self.get(key).and_then(rule) {
            self.refuse(key, why);
        }
    }
}

/// Reads the annotations of a Deployment and of its pod template strictly.
///
/// Differs from Knative's webhook: non-finite numbers are refused; an unknown aggregation and an unknown
/// metric are refused whatever the class; `events` and `backlog` are metrics.
pub fn read(
    deployment: &BTreeMap<String, String>,
    template: &BTreeMap<String, String>,
    defaults: &ClusterDefaults,
) -> Annotations {
    let Merged { values, origins, problems } = merge(deployment, template);
    let mut annotations = Annotations { accepted: values, origins, problems };
    for rejection in rejections(&annotations.accepted, defaults) {
        // Bounds that contradict each other or the cluster's limit are mended when they are resolved,
        // and the metric has more values here than Knative's webhook knows.
        if rejection.rule == Rule::Value && rejection.key != keys::METRIC {
            let value = annotations.get(&rejection.key).unwrap_or_default();
            let why = rejection.shown(value);
            annotations.refuse(&rejection.key, why);
        }
    }
    annotations.check(&keys::METRIC, |value| {
        let known = matches!(value, "concurrency" | "rps" | "events" | "backlog");
        (!known).then(|| format!("{} is none of concurrency, rps, events, backlog", shown(value)))
    });
    annotations.check(&keys::AGGREGATION, |value| {
        let known = matches!(value, "" | "linear" | "weighted-exponential" | "weightedExponential");
        (!known).then(|| format!("{} is neither linear nor weighted-exponential", shown(value)))
    });
    annotations.check(&keys::INITIAL_SCALE, |value| {
        number::parse_i32(value).err().map(|_| format!("{} is above 2147483647", shown(value)))
    });
    for key in [
        &keys::TARGET,
        &keys::TARGET_UTILIZATION,
        &keys::TARGET_BURST_CAPACITY,
        &keys::PANIC_WINDOW,
        &keys::PANIC_THRESHOLD,
    ] {
        annotations.check(key, |value| {
            let finite = number::parse_float(value).is_ok_and(f64::is_finite);
            (!finite).then(|| format!("{} is not a finite number", shown(value)))
        });
    }
    check_own_keys(&mut annotations);
    lint_values(&mut annotations);
    annotations
}

fn check_own_keys(annotations: &mut Annotations) {
    for key in [&keys::MAX_SCALE_UP_RATE, &keys::MAX_SCALE_DOWN_RATE] {
        annotations.check(key, |value| {
            let valid = number::parse_float(value).is_ok_and(|rate| rate.is_finite() && rate > 1.0);
            (!valid).then(|| format!("{} is not a finite number above 1", shown(value)))
        });
    }
    annotations.check(&keys::CONTAINER_CONCURRENCY, |value| {
        let valid = number::parse_i32(value).is_ok_and(|limit| limit >= 0);
        (!valid).then(|| format!("{} is not an integer in 0 ..= 2147483647", shown(value)))
    });
    annotations.check(&keys::DRAIN_TIME, |value| {
        let allowed = GoDuration::from_secs(1)..=GoDuration::from_secs(3600);
        let valid = GoDuration::parse(value).is_ok_and(|span| allowed.contains(&span));
        (!valid).then(|| format!("{} is not a duration within 1s and 1h", shown(value)))
    });
    annotations.check(&keys::ACTIVATION_VALUE, |value| {
        let valid = number::parse_i32(value).is_ok_and(|items| items >= 0);
        (!valid).then(|| format!("{} is not an integer in 0 ..= 2147483647", shown(value)))
    });
    annotations.check(&keys::ON_MISSING, |value| OnMissing::parse(value).err());
    annotations.check(&keys::COMPAT, |value| {
        let known = matches!(value, "knative" | "default");
        (!known).then(|| format!("{} is neither knative nor default", shown(value)))
    });
    annotations.check(&keys::CLASS, |value| {
        let meant = value != CLASS_PODSWELL && value.trim().eq_ignore_ascii_case(CLASS_PODSWELL);
        meant.then(|| format!("{} is not {CLASS_PODSWELL}", shown(value)))
    });
}

/// Reports values that are accepted but written in a way that few people read rightly.
fn lint_values(annotations: &mut Annotations) {
    let mut unusual = Vec::new();
    for key in KEYS.iter().filter(|key| key.is_annotation()) {
        let Some(Found { spelled, value }) = lookup(&annotations.accepted, key) else { continue };
        let plain = match key.kind {
            Kind::Int => is_plain_int(value).then_some("").ok_or_else(|| {
                number::parse_i32(value).map_or_else(|_| String::new(), |value| value.to_string())
            }),
            Kind::Float | Kind::Percent => is_plain_float(value).then_some("").ok_or_else(|| {
                number::parse_float(value).map_or_else(|_| String::new(), |value| value.to_string())
            }),
            Kind::Duration => is_plain_duration(value).then_some("").ok_or_else(|| {
                GoDuration::parse(value).map_or_else(|_| String::new(), |value| value.to_string())
            }),
            Kind::Bool | Kind::Word | Kind::Time | Kind::List | Kind::Json | Kind::PromQl => Ok(""),
        };
        if let Err(plain) = plain {
            unusual.push(Problem {
                code: ProblemCode::UnusualSpelling,
                key: spelled.to_owned(),
                why: format!("{} is read as {plain}", shown(value)),
                fallback: String::new(),
            });
        }
    }
    annotations.problems.append(&mut unusual);
}

/// Digits without leading zeros.
fn is_plain_digits(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'))
}

fn is_plain_int(text: &str) -> bool {
    is_plain_digits(text.strip_prefix('-').unwrap_or(text))
}

fn is_plain_float(text: &str) -> bool {
    match text.split_once('.') {
        Some((whole, fraction)) => {
            is_plain_int(whole)
                && !fraction.is_empty()
                && fraction.bytes().all(|byte| byte.is_ascii_digit())
        }
        None => is_plain_int(text),
    }
}

/// Whole numbers of falling units, each once, milliseconds below a thousand: `1h30m`, `90s`, `500ms`.
fn is_plain_duration(text: &str) -> bool {
    let mut units = ["h", "m", "s", "ms"].into_iter();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(|byte| !byte.is_ascii_digit()).count();
        let Some((unit, after)) = after.split_at_checked(letters) else { return false };
        let plain = is_plain_digits(number) && (unit != "ms" || number.len() <= 3);
        if !plain || !units.any(|known| known == unit) {
            return text == "0";
        }
        rest = after;
    }
    !text.is_empty()
}
