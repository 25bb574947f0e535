//! What a user has to mend: a closed list of codes, each with the words that say how.

use std::fmt;

/// The kinds of problem that podswell reports on a target. Stable names: they are metric labels, show
/// in `explain` and are anchors in `docs/problems.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ProblemCode {
    /// An annotation's value is not valid; the fallback is used.
    InvalidAnnotation,
    /// A key of a known group that nobody reads, probably misspelt.
    UnknownAnnotation,
    /// The pod template's annotation differs from the Deployment's; the Deployment's is used.
    AnnotationsDiffer,
    /// The value is valid Go but unusual (for example `1e3` or a camelCase key).
    UnusualSpelling,
    /// min-scale is above max-scale; max-scale is used as the ceiling.
    MinAboveMax,
    /// No max-scale: the process-wide ceiling applies.
    DefaultMaxScale,
    /// No source and no scrape configuration: nothing can be measured.
    NoSource,
    /// `podswell.dev/source` names a source that does not exist.
    UnknownSource,
    /// The source measures another kind than the target's metric.
    SourceKindMismatch,
    /// `compat: knative` needs a source of one sample a second; the default semantics apply.
    CompatNeedsOneSecond,
    /// Samples always arrive older than the source's staleness limit.
    ClockSkew,
    /// The source answers more slowly than its definition says.
    SourceSlower,
    /// Replicas cannot reach zero because nothing would wake the target.
    NoWakePath,
    /// Replicas cannot reach zero because nothing shows what still waits.
    WaitingUnknown,
    /// The range of the source's rate is longer than the stable window.
    RangeAboveWindow,
    /// `config-autoscaler` is invalid; the last good one is used.
    InvalidConfigMap,
    /// The metric needs the class `kpa.podswell.dev` and a target annotation.
    TargetRequired,
    /// `podswell.dev/query` in a namespace that the administrator does not list.
    QueryNotAllowed,
    /// An annotation reaches for series of another namespace.
    ForeignSeries,
}

impl ProblemCode {
    /// Every code.
    pub const ALL: [Self; 19] = [
        Self::InvalidAnnotation,
        Self::UnknownAnnotation,
        Self::AnnotationsDiffer,
        Self::UnusualSpelling,
        Self::MinAboveMax,
        Self::DefaultMaxScale,
        Self::NoSource,
        Self::UnknownSource,
        Self::SourceKindMismatch,
        Self::CompatNeedsOneSecond,
        Self::ClockSkew,
        Self::SourceSlower,
        Self::NoWakePath,
        Self::WaitingUnknown,
        Self::RangeAboveWindow,
        Self::InvalidConfigMap,
        Self::TargetRequired,
        Self::QueryNotAllowed,
        Self::ForeignSeries,
    ];

    /// The code as it shows in labels, `explain` and the docs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidAnnotation => "InvalidAnnotation",
            Self::UnknownAnnotation => "UnknownAnnotation",
            Self::AnnotationsDiffer => "AnnotationsDiffer",
            Self::UnusualSpelling => "UnusualSpelling",
            Self::MinAboveMax => "MinAboveMax",
            Self::DefaultMaxScale => "DefaultMaxScale",
            Self::NoSource => "NoSource",
            Self::UnknownSource => "UnknownSource",
            Self::SourceKindMismatch => "SourceKindMismatch",
            Self::CompatNeedsOneSecond => "CompatNeedsOneSecond",
            Self::ClockSkew => "ClockSkew",
            Self::SourceSlower => "SourceSlower",
            Self::NoWakePath => "NoWakePath",
            Self::WaitingUnknown => "WaitingUnknown",
            Self::RangeAboveWindow => "RangeAboveWindow",
            Self::InvalidConfigMap => "InvalidConfigMap",
            Self::TargetRequired => "TargetRequired",
            Self::QueryNotAllowed => "QueryNotAllowed",
            Self::ForeignSeries => "ForeignSeries",
        }
    }
}

/// One thing that a user should mend. The target keeps running on the fallback.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Problem {
    /// What kind of problem it is.
    pub code: ProblemCode,
    /// The key (annotation, ConfigMap key or source name) that is concerned.
    pub key: String,
    /// What is wrong, as a lower-case sentence fragment that names the value.
    pub why: String,
    /// What podswell does instead, as a lower-case sentence fragment; may be empty.
    pub fallback: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code.as_str(), self.key, self.why)?;
        if self.fallback.is_empty() { Ok(()) } else { write!(f, "; {}", self.fallback) }
    }
}
