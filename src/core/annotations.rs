//! Annotations as Knative reads them, and as podswell does. Knative has two readers: its webhook
//! refuses what is out of range ([`validate`]), its controllers only parse and fall back
//! ([`RunTimeValues`]). podswell has no webhook: it reads strictly ([`read`]), so that what the webhook
//! would refuse is reported and counts as absent, and gives what is left to the same run-time reader.

mod admission;
mod merge;
mod run_time;
mod strict;

use std::collections::BTreeMap;

pub use admission::validate;
pub use merge::Origins;
pub(crate) use merge::unknown_key;
pub use run_time::{RunTimeValues, knative_metric};
pub(crate) use strict::NOTHING_LOWERED;
pub use strict::{Annotations, read};

use super::keys::Key;

/// Our own class: the only one whose Deployments podswell writes to unasked.
pub const CLASS_PODSWELL: &str = "kpa.podswell.dev";
/// The class of Knative's own autoscaler.
pub const CLASS_KPA: &str = "kpa.autoscaling.knative.dev";
/// The class with which Knative delegates to a `HorizontalPodAutoscaler`.
pub const CLASS_HPA: &str = "hpa.autoscaling.knative.dev";

/// An annotation as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    /// The key as it is spelled there.
    pub(crate) spelled: &'a str,
    /// Its value.
    pub(crate) value: &'a str,
}

/// Looks a key up by its spellings in order: the first one that is present wins, whatever its value.
pub(crate) fn lookup<'a>(
    annotations: &'a BTreeMap<String, String>,
    key: &Key,
) -> Option<Found<'a>> {
    key.spellings().find_map(|spelling| {
        let (spelled, value) = annotations.get_key_value(&spelling)?;
        Some(Found { spelled, value })
    })
}
