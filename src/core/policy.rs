//! Who may write: consent, modes and their precedence.

/// Whether the user asked podswell to scale this target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum Consent {
    /// The class annotation names us: decided and written.
    Managed,
    /// Some autoscaling annotation is there, but not our class: decided and explained, never written.
    #[default]
    Observed,
    /// A ScaledObject asks us: decided and answered. KEDA writes, never we.
    Answered,
}

/// What podswell may do with its decision, least strict first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Mode {
    /// Decisions are written.
    #[default]
    Apply,
    /// Raising is suspended; lowering is written.
    PausedUp,
    /// Lowering is suspended; raising is written.
    PausedDown,
    /// Nothing is written; replicas stay.
    Paused,
    /// Nothing is written; decisions are shown only.
    Observe,
}

impl Mode {
    /// The mode as annotations and flags spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::PausedUp => "paused-up",
            Self::PausedDown => "paused-down",
            Self::Paused => "paused",
            Self::Observe => "observe",
        }
    }

    /// Parses the spelling of [`Mode::as_str`]; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Apply, Self::PausedUp, Self::PausedDown, Self::Paused, Self::Observe]
            .into_iter()
            .find(|mode| mode.as_str() == text)
    }

    /// The stricter of two modes. Paused up and paused down together are paused.
    #[must_use]
    pub fn strictest(self, other: Self) -> Self {
        match (self, other) {
            (Self::PausedUp, Self::PausedDown) | (Self::PausedDown, Self::PausedUp) => Self::Paused,
            (a, b) => a.max(b),
        }
    }

    /// Whether a change from `current` to `wanted` replicas may be written.
    pub fn allows(self, current: i32, wanted: i32) -> bool {
        match self {
            Self::Apply => true,
            Self::PausedUp => wanted <= current,
            Self::PausedDown => wanted >= current,
            Self::Paused | Self::Observe => false,
        }
    }
}
