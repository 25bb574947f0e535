//! The lines of a recording: every fact that an engine was told and every moment at which it decided, in
//! their order. `podswell run --record` writes them, `podswell simulate --replay` reads them.
//!
//! A line is one JSON object. Facts are complete in themselves, so a recording that begins with the
//! process replays exactly; one that was rotated begins with the facts known then, but without windows.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::decision::Decision;
use super::event::Event;
use super::target::TargetId;

/// The version of the form; a recording of another one is not replayed.
pub const FORMAT: u32 = 1;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first line of a file.
    Start {
        /// [`FORMAT`].
        format: u32,
        /// The program's version.
        version: String,
        /// Whether the engine had a past that this file does not hold.
        continued: bool,
    },
    /// The engine was told a fact.
    Event {
        /// When, on the engine's clock.
        at: Timestamp,
        /// What.
        event: Event,
    },
    /// The engine decided what was due.
    Due {
        /// When, on the engine's clock.
        at: Timestamp,
    },
    /// What it decided for one target, to compare a replay with.
    Decided {
        /// When, on the engine's clock.
        at: Timestamp,
        /// Whose.
        target: TargetId,
        /// What the target should have.
        bounded: i32,
        /// A fingerprint of the whole decision.
        digest: Digest,
    },
    /// Lines were lost here: the disk was too slow.
    Gap {
        /// How many.
        lines: u64,
    },
}

/// A fingerprint of a decision: equal for equal decisions, in every part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(u64);

impl Digest {
    /// The fingerprint of a decision: FNV-1a over its JSON.
    pub fn of(decision: &Decision) -> Self {
        // A decision is made of numbers, strings and lists, which JSON can hold.
        let bytes = serde_json::to_vec(decision).unwrap_or_default();
        let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, fold))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        u64::from_str_radix(&text, 16).map(Self).map_err(|why| format!("digest {text:?}: {why}"))
    }
}

/// Which fact an event states that holds until the next one of its kind, with its target; `None` for
/// what happens once. A rotated file begins with these.
pub fn standing(event: &Event) -> Option<(Option<TargetId>, u8)> {
    Some(match event {
        Event::LeadershipChanged { .. } => (None, 0),
        Event::TargetApplied { target, .. } => (Some(target.clone()), 1),
        Event::ReplicasObserved { target, .. } => (Some(target.clone()), 2),
        Event::PodsObserved { target, .. } => (Some(target.clone()), 3),
        Event::RivalsObserved { target, .. } => (Some(target.clone()), 4),
        _ => return None,
    })
}

impl Line {
    /// The line as it stands in a file, with its newline; `None` for what JSON cannot hold, which no line
    /// has.
    pub fn to_text(&self) -> Option<String> {
        serde_json::to_string(self).ok().map(|text| text + "\n")
    }

    /// Reads a line without its newline.
    ///
    /// # Errors
    /// If it is no line of a recording of this version.
    pub fn parse(text: &str) -> Result<Self, String> {
        let line: Self = serde_json::from_str(text).map_err(|why| {
            let why = why.to_string().replace(" at line 1 column", ", column");
            format!("is no line of a recording: {why}")
        })?;
        match line {
            Self::Start { format, ref version, .. } if format != FORMAT => Err(format!(
                "the recording has the form {format} (podswell {version}), this is {FORMAT}"
            )),
            line => Ok(line),
        }
    }
}
