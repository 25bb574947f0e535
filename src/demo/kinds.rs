//! The kinds of object that the demo's API server serves.

/// One kind, as discovery tells it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    /// Empty for the core group.
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) plural: &'static str,
    pub(super) name: &'static str,
    pub(super) short: &'static str,
    pub(super) namespaced: bool,
}

pub(super) const NAMESPACES: Kind = core("namespaces", "Namespace", "ns", false);
pub(super) const CONFIG_MAPS: Kind = core("configmaps", "ConfigMap", "cm", true);
pub(super) const PODS: Kind = core("pods", "Pod", "po", true);
pub(super) const DEPLOYMENTS: Kind = grouped("apps", "v1", "deployments", "Deployment", "deploy");
pub(super) const REPLICA_SETS: Kind = grouped("apps", "v1", "replicasets", "ReplicaSet", "rs");
pub(super) const AUTOSCALERS: Kind =
    grouped("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", "hpa");
pub(super) const LEASES: Kind = grouped("coordination.k8s.io", "v1", "leases", "Lease", "");
pub(super) const EVENTS: Kind = grouped("events.k8s.io", "v1", "events", "Event", "ev");

/// All of them.
pub(super) static KINDS: [Kind; 8] =
    [NAMESPACES, CONFIG_MAPS, PODS, DEPLOYMENTS, REPLICA_SETS, AUTOSCALERS, LEASES, EVENTS];

const fn core(
    plural: &'static str,
    name: &'static str,
    short: &'static str,
    namespaced: bool,
) -> Kind {
    Kind { group: "", version: "v1", plural, name, short, namespaced }
}

const fn grouped(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    name: &'static str,
    short: &'static str,
) -> Kind {
    Kind { group, version, plural, name, short, namespaced: true }
}

impl Kind {
    /// The kind with this plural in this group and version, if it is served.
    pub(super) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Self> {
        KINDS
            .iter()
            .find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
    }

    /// `v1`, `apps/v1`.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}
