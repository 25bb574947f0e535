//! From annotations, ConfigMaps and flags to one [`TargetConfig`], with the origin of every value.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::config::TargetConfig;
use super::defaults::ClusterDefaults;
use super::policy::Mode;
use super::source::{SourceFacts, SourceName, Wiring};
use super::spec::Semantics;

/// What the process itself was told by flags and by the ConfigMap `podswell`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProcessSettings {
    /// `--mode`.
    pub mode: Mode,
    /// `--compat`.
    pub compat: Semantics,
    /// `--default-max-scale`: the ceiling where max-scale is absent or 0 (not under Knative's
    /// semantics), ≥ 1.
    pub default_max_scale: i32,
    /// `--adopt-namespaces`: where Knative's own class values count as ours on Deployments that no
    /// Knative Revision owns.
    pub adopt_namespaces: BTreeSet<String>,
    /// `freeze` of the ConfigMap `podswell`: nothing is written anywhere.
    pub freeze: bool,
}

impl Default for ProcessSettings {
    fn default() -> Self {
        Self {
            mode: Mode::Apply,
            compat: Semantics::Default,
            default_max_scale: 100,
            adopt_namespaces: BTreeSet::new(),
            freeze: false,
        }
    }
}

/// Everything that decides the configuration of one target.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// `config-autoscaler`.
    pub defaults: &'a ClusterDefaults,
    /// The keys that `config-autoscaler` really holds, for the provenance of values.
    pub defaults_set: &'a BTreeSet<String>,
    /// Flags and the ConfigMap `podswell`.
    pub process: &'a ProcessSettings,
    /// The named sources.
    pub sources: &'a BTreeMap<SourceName, SourceFacts>,
    /// The namespace's name.
    pub namespace: &'a str,
    /// Annotations of the namespace.
    pub namespace_annotations: &'a BTreeMap<String, String>,
    /// Annotations of the Deployment.
    pub annotations: &'a BTreeMap<String, String>,
    /// Annotations of its pod template.
    pub template_annotations: &'a BTreeMap<String, String>,
    /// Whether a Knative Revision (or another Knative object) owns the Deployment.
    pub owned_by_knative: bool,
    /// `spec.progressDeadlineSeconds`.
    pub progress_deadline: Option<Duration>,
}

/// A target's configuration and what has to be asked on its behalf.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// For the engine.
    pub config: TargetConfig,
    /// For the sources.
    pub wiring: Wiring,
}

/// Merges all inputs. `None` when neither the Deployment nor its pod template carries an
/// `autoscaling.knative.dev/*` key: then podswell does not look at it at all.
pub fn resolve(inputs: &Inputs<'_>) -> Option<Resolved> {
    let _ = inputs;
    None
}
