//! KEDA's `ScaledObjects` as plain data: what they scale, by what, and whether that is podswell's answer.
//!
//! The Kubernetes adapter writes this, the engine's rivals come from it, and whoever answers KEDA reads
//! it. The lock around it belongs to the runtime.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::resolve::ProcessSettings;
use super::target::TargetId;

/// The kind, as users see it.
pub const KIND: &str = "ScaledObject";

/// The types of trigger that ask a gRPC server.
const EXTERNAL_TYPES: [&str; 2] = ["external", "external-push"];

/// The trigger metadata that names the server.
const SCALER_ADDRESS: &str = "scalerAddress";
/// What makes the client of old versions of KEDA resolve a name to all of its addresses.
const DNS_SCHEME: &str = "dns:///";

/// Namespace and name of a `ScaledObject`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ScaledObjectId {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// One entry of `spec.triggers`, with nothing left out that a server may be asked by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Trigger {
    /// Its type, for example `external-push`.
    pub kind: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its metadata, unresolved: a key that ends in `FromEnv` holds the variable's name.
    pub metadata: BTreeMap<String, String>,
    /// `AverageValue`, `Value` or `Utilization`; absent counts as `AverageValue`.
    pub metric_type: Option<String>,
}

/// What is kept of a `ScaledObject` that scales a Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ScaledObject {
    /// Which one it is.
    pub id: ScaledObjectId,
    /// The Deployment that it scales.
    pub target: TargetId,
    /// Whether KEDA leaves its target alone: paused, and not at a number of its own.
    pub paused: bool,
    /// Its triggers in order.
    pub triggers: Vec<Trigger>,
}

/// All `ScaledObjects` that scale Deployments. Empty where the cluster has no KEDA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScaledObjects(BTreeMap<ScaledObjectId, Arc<ScaledObject>>);

impl ScaledObjects {
    /// Adds one or replaces what is known of it.
    pub fn insert(&mut self, object: Arc<ScaledObject>) {
        self.0.insert(object.id.clone(), object);
    }

    /// Forgets one.
    pub fn remove(&mut self, id: &ScaledObjectId) {
        self.0.remove(id);
    }

    /// What is known of one.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<ScaledObject>> {
        self.0.get(&ScaledObjectId { namespace: namespace.into(), name: name.into() })
    }

    /// All in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ScaledObject>> {
        self.0.values()
    }
}

/// Whether KEDA takes a number from podswell for this object: then podswell answers, and does not write.
pub fn follows_us(object: &ScaledObject, process: &ProcessSettings) -> bool {
    object.triggers.iter().any(|trigger| asks_us(trigger, process))
}

/// Whether a trigger asks this podswell: an external one whose server is one of
/// [`ProcessSettings::keda_addresses`].
pub fn asks_us(trigger: &Trigger, process: &ProcessSettings) -> bool {
    EXTERNAL_TYPES.contains(&trigger.kind.as_str())
        && trigger
            .metadata
            .get(SCALER_ADDRESS)
            .is_some_and(|address| process.keda_addresses.contains(without_scheme(address)))
}

/// An address as the process's settings name it: for KEDA's client it is a name to resolve in any case.
fn without_scheme(address: &str) -> &str {
    let address = address.trim();
    address.strip_prefix(DNS_SCHEME).unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(kind: &str, address: Option<&str>) -> Trigger {
        let metadata =
            address.map(|address| (SCALER_ADDRESS.to_owned(), address.to_owned())).into_iter();
        Trigger { kind: kind.to_owned(), metadata: metadata.collect(), ..Trigger::default() }
    }

    fn object(triggers: Vec<Trigger>) -> ScaledObject {
        ScaledObject {
            id: ScaledObjectId { namespace: "shop".into(), name: "web".into() },
            target: TargetId::deployment("shop", "web"),
            paused: false,
            triggers,
        }
    }

    #[test]
    fn who_follows_us_is_a_matter_of_type_and_address() {
        let ours = "podswell-keda.podswell-system:9090";
        let process = ProcessSettings {
            keda_addresses: [ours.to_owned()].into(),
            ..ProcessSettings::default()
        };
        for (triggers, want) in [
            (vec![trigger("external", Some(ours))], true),
            (vec![trigger("external-push", Some(ours))], true),
            (vec![trigger("external", Some(" podswell-keda.podswell-system:9090 "))], true),
            (vec![trigger("external", Some("dns:///podswell-keda.podswell-system:9090"))], true),
            (vec![trigger("external", Some("unix:///podswell-keda.podswell-system:9090"))], false),
            (vec![trigger("cpu", None), trigger("external", Some(ours))], true),
            (vec![trigger("external", Some("other:9090"))], false),
            (vec![trigger("external", None)], false),
            (vec![trigger("prometheus", Some(ours))], false),
            (vec![], false),
        ] {
            assert_eq!(follows_us(&object(triggers.clone()), &process), want, "{triggers:?}");
            let nobody = ProcessSettings::default();
            assert!(!follows_us(&object(triggers), &nobody), "no address, no follower");
        }
    }
}
