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
    /// Which trigger of which ScaledObject this decider answers; `None` for the one that the
    /// workload's own annotations configure.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub trigger: Option<Arc<str>>,
}

impl TargetId {
    /// The Deployment `name` in `namespace`.
    pub fn deployment(namespace: &str, name: &str) -> Self {
        let kind = TargetKind::Deployment;
        Self { namespace: namespace.into(), kind, name: name.into(), trigger: None }
    }

    /// The decider of `trigger` for the same workload.
    #[must_use]
    pub fn of_trigger(&self, trigger: &str) -> Self {
        Self { trigger: Some(trigger.into()), ..self.clone() }
    }

    /// The workload itself, without the trigger.
    #[must_use]
    pub fn workload(&self) -> Self {
        Self { trigger: None, ..self.clone() }
    }
}

/// `namespace/name`, the form that logs and Knative's keys use, and then the trigger if there is one.
impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)?;
        self.trigger.as_ref().map_or(Ok(()), |trigger| write!(f, " (trigger {trigger})"))
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
