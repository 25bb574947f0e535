//! The pods of one Deployment, each with what it said: where the numbers of a decision come from.

use serde::Serialize;

use crate::core::Timestamp;
use crate::core::event::SourceFault;
use crate::core::pod_reading::{PodReading, PodRound};
use crate::runtime::clock::age_of;

/// What was heard of the pods of one target.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTable {
    /// Whether its pods are asked themselves; otherwise its source tells one number for all of them.
    scraped: bool,
    /// How old the newest round is, in seconds; `null` until one was heard since somebody asked.
    age_seconds: Option<f64>,
    items: Vec<PodRow>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodRow {
    name: String,
    started_at: Option<String>,
    load: Option<f64>,
    misses: u8,
    fault: Option<&'static str>,
}

impl PodTable {
    /// The table of a target whose pods are asked (`scraped`) or are not.
    pub fn of(now: Timestamp, scraped: bool, round: Option<&PodRound>) -> Self {
        Self {
            scraped,
            age_seconds: round.map(|round| age_of(round.at, now).as_secs_f64()),
            items: round.iter().flat_map(|round| round.pods.iter()).map(PodRow::of).collect(),
        }
    }
}

impl PodRow {
    fn of(pod: &PodReading) -> Self {
        Self {
            name: pod.name.to_string(),
            started_at: pod.started_at.map(|at| at.to_string()),
            load: pod.load,
            misses: pod.misses,
            fault: pod.fault.map(SourceFault::as_str),
        }
    }
}
