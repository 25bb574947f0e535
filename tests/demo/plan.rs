//! How long everything lasts.

use std::time::Duration;

/// The variable that stretches the story.
const VARIABLE: &str = "PODSWELL_DEMO_SECONDS";
/// How long the story lasts on an idle machine if nothing else is asked for.
const USUAL: f64 = 110.0;
const SHORTEST: f64 = 60.0;
const LONGEST: f64 = 1200.0;

/// The pace of the story.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// 1 for the usual length.
    stretch: f64,
}

impl Plan {
    pub(crate) fn from_environment() -> Result<Self, String> {
        let seconds = match std::env::var(VARIABLE) {
            Err(_) => USUAL,
            Ok(text) if text.is_empty() => USUAL,
            Ok(text) => text
                .parse()
                .ok()
                .filter(|seconds| (SHORTEST..=LONGEST).contains(seconds))
                .ok_or_else(|| {
                    format!("{VARIABLE} is {text:?}, not a number from {SHORTEST} to {LONGEST}")
                })?,
        };
        Ok(Self { stretch: seconds / USUAL })
    }

    /// The stable window of all workloads, in whole seconds; Knative allows none below 6 s.
    pub(crate) fn window(self) -> Duration {
        Duration::from_secs(self.lasting(12.0).as_secs().clamp(6, 60))
    }

    /// A span of the story that lasts this many seconds at the usual pace.
    pub(crate) fn lasting(self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds * self.stretch)
    }
}
