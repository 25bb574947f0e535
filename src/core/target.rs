//! What is scaled.

use std::fmt;
use std::sync::Arc;

/// The kinds of object that podswell scales.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TargetKind {
    /// `apps/v1` Deployment.
    #[default]
    Deployment,
}

impl TargetKind {
    /// The kind as Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
        }
    }
}

/// The workload being scaled: what Knative calls a revision and KEDA a `scaleTargetRef`.
///
/// Cheap to clone. Ordered by namespace, then kind, then name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TargetId {
    /// The Kubernetes namespace.
    pub namespace: Arc<str>,
    /// What kind of object it is.
    #[cfg_attr(feature = "serde", serde(default))]
    pub kind: TargetKind,
    /// The object's name, unique within namespace and kind.
    pub name: Arc<str>,
}

impl TargetId {
    /// The Deployment `name` in `namespace`.
    pub fn deployment(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), kind: TargetKind::Deployment, name: name.into() }
    }
}

/// `namespace/name`, the form that logs and Knative's keys use.
impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How many pods a target has, by state; each number ≥ 0.
///
/// Counted as Knative's `pkg/resources/pods.go` does: phase Pending is pending and not ready; Running
/// with a deletion time stamp is terminating and not ready; Running with condition Ready is ready;
/// Running otherwise is not ready; other phases are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PodCounts {
    /// Running, not being deleted, condition Ready.
    pub ready: i32,
    /// Everything counted that is not ready.
    pub not_ready: i32,
    /// Phase Pending.
    pub pending: i32,
    /// Running with a deletion time stamp.
    pub terminating: i32,
}
