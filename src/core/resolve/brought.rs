//! The query that a workload brings along (`podswell.dev/query`), and whether it may.

use super::Inputs;
use crate::core::annotations::Annotations;
use crate::core::keys;
use crate::core::problem::{Problem, ProblemCode};

/// What the annotation says.
#[derive(Debug)]
pub(super) enum Brought {
    Nothing,
    /// The namespace is not listed; that has been reported.
    NotAllowed,
    Query {
        text: String,
        /// Whether a source of the target asks it.
        used: bool,
    },
}

/// Reads the annotation; only the administrator's list opens it.
pub(super) fn read(inputs: &Inputs<'_>, read: &mut Annotations) -> Brought {
    let Some(text) = read.get(&keys::QUERY).map(str::to_owned) else { return Brought::Nothing };
    if inputs.process.query_namespaces.contains(inputs.namespace) {
        return Brought::Query { text, used: false };
    }
    read.report(Problem {
        code: ProblemCode::QueryNotAllowed,
        key: keys::QUERY.annotation(),
        why: format!(
            "the administrator does not list the namespace {} in query-namespaces",
            inputs.namespace
        ),
        fallback: "it is not asked".to_owned(),
    });
    Brought::NotAllowed
}
