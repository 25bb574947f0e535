//! The metadata of a ScaledObject's trigger: the same keys as annotations, without their prefix, and a
//! few that only a trigger has. What does not parse is an error of its key, because KEDA shows a
//! trigger's error to the user at once, and a guess would scale.

use std::collections::{BTreeMap, BTreeSet};

use super::annotations::CLASS_PODSWELL;
use super::config::{Provenance, TargetConfig};
use super::defaults::ClusterDefaults;
use super::keys::{self, KEYS, Key};
use super::policy::Consent;
use super::problem::ProblemCode;
use super::resolve::{Inputs, ProcessSettings, Resolved, resolve};
use super::text::{did_you_mean, shown};

/// Names the Deployment instead of the ScaledObject's `scaleTargetRef`.
pub const DEPLOYMENT: &str = "deployment";
/// Names the Deployment's namespace.
pub const NAMESPACE: &str = "namespace";
/// Chooses what is answered, see [`AnsweredValue`].
pub const VALUE: &str = "value";

/// The keys that only a trigger has.
const OWN_KEYS: [&str; 3] = [DEPLOYMENT, NAMESPACE, VALUE];

/// Keys that KEDA reads itself and passes on all the same.
const KEDA_KEYS: [&str; 8] = [
    "scalerAddress",
    "enableTLS",
    "unsafeSsl",
    "caCert",
    "tlsClientCert",
    "tlsClientKey",
    "tlsCertFile",
    "metricType",
];

/// What KEDA appends to a key whose value came from the environment of the workload's container.
const FROM_ENV: &str = "FromEnv";

/// The most pairs that a trigger may have.
const MOST_PAIRS: usize = 128;

/// The most bytes of all keys and values together.
const MOST_BYTES: usize = 16 * 1024;

/// What is answered to KEDA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnsweredValue {
    /// The desired replicas, with a target of 1: the HPA repeats our number.
    #[default]
    Desired,
    /// The mean over the stable window, with the real target.
    Stable,
    /// The mean over the panic window, with the real target.
    Panic,
    /// The higher one of both means, with the real target.
    Max,
}

impl AnsweredValue {
    /// The word that the metadata `value` takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Desired => "desired",
            Self::Stable => "stable",
            Self::Panic => "panic",
            Self::Max => "max",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Desired, Self::Stable, Self::Panic, Self::Max]
            .into_iter()
            .find(|value| value.as_str() == text)
    }
}

/// The metadata of one trigger, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TriggerMetadata {
    /// The Deployment, if it is named here.
    pub deployment: Option<String>,
    /// The Deployment's namespace, if it is named here.
    pub namespace: Option<String>,
    /// What is answered.
    pub value: AnsweredValue,
    /// The rest as annotations, under their canonical keys.
    pub annotations: BTreeMap<String, String>,
}

/// A pair that does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("trigger metadata {key}: {value}: {why}")]
pub struct MetadataError {
    /// The key as it was written, escaped and cut.
    pub key: String,
    /// Its value, escaped and cut.
    pub value: String,
    /// What is wrong with it.
    pub why: String,
}

impl MetadataError {
    fn new(key: &str, value: &str, why: impl Into<String>) -> Self {
        Self { key: shown(key), value: shown(value), why: why.into() }
    }
}

impl TriggerMetadata {
    /// Reads the pairs of a trigger. A key may carry the suffix `FromEnv`; the same key without it wins.
    ///
    /// # Errors
    /// The first pair, in the order of the keys, that nobody knows or whose value does not parse.
    pub fn read(pairs: &BTreeMap<String, String>) -> Result<Self, MetadataError> {
        let bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        if pairs.len() > MOST_PAIRS || bytes > MOST_BYTES {
            let why = format!("more than {MOST_PAIRS} pairs or {MOST_BYTES} bytes");
            return Err(MetadataError::new("", "", why));
        }
        let mut metadata = Self::default();
        let mut written: BTreeMap<String, (&str, &str)> = BTreeMap::new();
        for (key, value) in pairs {
            let name = key.strip_suffix(FROM_ENV).unwrap_or(key);
            let shadowed = name != key && pairs.contains_key(name);
            if shadowed || KEDA_KEYS.contains(&name) {
                continue;
            }
            if OWN_KEYS.contains(&name) {
                metadata
                    .take_own(name, value)
                    .map_err(|why| MetadataError::new(key, value, why))?;
            } else {
                let known = keys::find_by_name(name).ok_or_else(|| {
                    MetadataError::new(key, value, format!("no such key{}", meant(name)))
                })?;
                let annotation = known.annotation();
                if let Some((other, _)) = written.get(&annotation) {
                    let why = format!("is the same as {}", shown(other));
                    return Err(MetadataError::new(key, value, why));
                }
                written.insert(annotation.clone(), (key.as_str(), value.as_str()));
                metadata.annotations.insert(annotation, value.clone());
            }
        }
        metadata.check(&written)?;
        Ok(metadata)
    }

    /// Reads the pairs as they stand in a ScaledObject. `None` if they do not parse, or if KEDA would take
    /// a value that matters from the environment of the workload's container.
    pub fn read_unresolved(pairs: &BTreeMap<String, String>) -> Option<Self> {
        let from_env = |key: &String| {
            key.strip_suffix(FROM_ENV).is_some_and(|name| !KEDA_KEYS.contains(&name))
        };
        if pairs.keys().any(from_env) { None } else { Self::read(pairs).ok() }
    }

    fn take_own(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        match name {
            VALUE => {
                let parsed = AnsweredValue::parse(value);
                self.value = parsed.ok_or("is none of desired, stable, panic, max")?;
            }
            DEPLOYMENT => self.deployment = Some(object_name(value)?),
            _ => self.namespace = Some(object_name(value)?),
        }
        Ok(())
    }

    /// Lets the reader of annotations judge the values. What depends on the cluster (a source that does
    /// not exist, a limit of the ConfigMap) is a problem of the target, as for an annotation.
    fn check(&self, written: &BTreeMap<String, (&str, &str)>) -> Result<(), MetadataError> {
        let nothing = BTreeMap::new();
        let defaults =
            ClusterDefaults { allow_zero_initial_scale: true, ..ClusterDefaults::default() };
        let inputs = Inputs {
            defaults: &defaults,
            defaults_set: &BTreeSet::new(),
            process: &ProcessSettings::default(),
            sources: &BTreeMap::new(),
            namespace: "",
            name: "",
            namespace_annotations: &nothing,
            annotations: &self.annotations,
            template_annotations: &nothing,
            owned_by_knative: false,
            progress_deadline: None,
        };
        let problems =
            self.resolve(&inputs).map(|resolved| resolved.config.problems).unwrap_or_default();
        for problem in problems.iter().filter(|one| one.code == ProblemCode::InvalidAnnotation) {
            if let Some((key, value)) = written.get(&problem.key) {
                return Err(MetadataError::new(key, value, problem.why.clone()));
            }
        }
        Ok(())
    }

    /// The configuration of the trigger's own decider: the metadata over the annotations of `inputs`.
    /// `None` as for [`resolve`].
    pub fn resolve(&self, inputs: &Inputs<'_>) -> Option<Resolved> {
        let mut annotations = inputs.annotations.clone();
        let mut template = inputs.template_annotations.clone();
        for key in self.keys().chain([&keys::CLASS]) {
            for spelling in key.spellings() {
                annotations.remove(&spelling);
                template.remove(&spelling);
            }
        }
        annotations.extend(self.annotations.clone());
        // A trigger is consent enough: whatever a measure asks of the class is given.
        annotations.insert(keys::CLASS.annotation(), CLASS_PODSWELL.to_owned());
        let inputs =
            Inputs { annotations: &annotations, template_annotations: &template, ..*inputs };
        let mut resolved = resolve(&inputs)?;
        self.mark(&mut resolved.config);
        Some(resolved)
    }

    /// Notes what came from the trigger, and that KEDA writes.
    fn mark(&self, config: &mut TargetConfig) {
        config.consent = Consent::Answered;
        for key in self.keys() {
            let index = key.index();
            if let Some((_, from)) = config
                .provenance
                .iter_mut()
                .find(|(of, from)| *of == index && *from == Provenance::Annotation)
            {
                *from = Provenance::Trigger;
            }
        }
    }

    fn keys(&self) -> impl Iterator<Item = &'static Key> {
        self.annotations.keys().filter_map(|annotation| keys::find(annotation))
    }
}

/// Why a trigger gets no decider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TriggerRefusal {
    /// What it scales does not exist.
    #[error("no Deployment {namespace}/{name}")]
    NoDeployment {
        /// The namespace.
        namespace: String,
        /// The Deployment's name.
        name: String,
    },
    /// Neither the metadata nor a ScaledObject that we know names what is scaled.
    #[error(
        "no ScaledObject {namespace}/{name} that scales a Deployment: name the Deployment in the \
         trigger's metadata as deployment"
    )]
    NoTarget {
        /// The ScaledObject's namespace.
        namespace: String,
        /// The ScaledObject's name.
        name: String,
    },
    /// The bound on triggers is reached.
    #[error("too many triggers: {bound} at most {of}")]
    TooMany {
        /// How many there may be.
        bound: usize,
        /// Of what.
        of: &'static str,
    },
    /// Nobody answers in time.
    #[error("the caches are busy")]
    Busy,
}

fn meant(name: &str) -> String {
    let known = KEYS.iter().filter(|key| key.is_annotation()).map(|key| key.name);
    did_you_mean(name, known.chain(OWN_KEYS).chain(KEDA_KEYS))
}

/// A name that an object of Kubernetes may have.
fn object_name(text: &str) -> Result<String, &'static str> {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if !text.is_empty() && text.len() <= 253 && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("is not the name of an object")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn read(list: &[(&str, &str)]) -> Result<TriggerMetadata, MetadataError> {
        TriggerMetadata::read(&pairs(list))
    }

    #[test]
    fn keys_are_those_of_annotations_without_prefix() {
        let metadata = read(&[
            ("scalerAddress", "podswell-keda:9090"),
            ("enableTLS", "true"),
            ("unsafeSsl", "false"),
            ("metricType", "AverageValue"),
            ("deployment", "web"),
            ("namespace", "shop"),
            ("value", "max"),
            ("target", "7.5"),
            ("minScale", "2"),
            ("windowFromEnv", "30s"),
            ("podswell.dev/source", "ingress"),
            ("metricFromEnv", "rps"),
            ("metric", "concurrency"),
        ])
        .unwrap();
        assert_eq!(metadata.deployment.as_deref(), Some("web"));
        assert_eq!(metadata.namespace.as_deref(), Some("shop"));
        assert_eq!(metadata.value, AnsweredValue::Max);
        assert_eq!(
            metadata.annotations,
            pairs(&[
                ("autoscaling.knative.dev/target", "7.5"),
                ("autoscaling.knative.dev/min-scale", "2"),
                ("autoscaling.knative.dev/window", "30s"),
                ("podswell.dev/source", "ingress"),
                ("autoscaling.knative.dev/metric", "concurrency"),
            ])
        );
        assert_eq!(read(&[]), Ok(TriggerMetadata::default()));
    }

    #[test]
    fn every_annotation_is_taken_with_and_without_its_prefix() {
        for key in KEYS.iter().filter(|key| key.is_annotation()) {
            for spelling in key.spellings() {
                let (_, bare) = spelling.split_once('/').unwrap();
                for written in [spelling.clone(), bare.to_owned(), format!("{bare}FromEnv")] {
                    match read(&[(&written, "1")]) {
                        Ok(metadata) => {
                            assert_eq!(metadata.annotations, pairs(&[(&key.annotation(), "1")]));
                        }
                        // It is the value that is judged.
                        Err(error) => assert!(!error.why.starts_with("no such key"), "{error}"),
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_parse_names_key_and_value() {
        for (list, words) in [
            (&[("target", "none")][..], &["\"target\"", "\"none\""][..]),
            (&[("target", "0.001")], &["\"target\"", "0.01"]),
            (&[("target", "NaN")], &["\"target\"", "NaN"]),
            (&[("windowFromEnv", "1s")], &["\"windowFromEnv\"", "\"1s\""]),
            (&[("metric", "latency")], &["\"metric\"", "\"latency\""]),
            (&[("scrape", "{}")], &["\"scrape\"", "\"{}\""]),
            (&[("source-match", "a")], &["\"source-match\"", "\"a\""]),
            (&[("value", "mean")], &["\"value\"", "\"mean\"", "desired, stable, panic, max"]),
            (&[("deployment", "Web/../x")], &["\"deployment\""]),
            (&[("namespace", "")], &["\"namespace\"", "\"\""]),
            (&[("tagret", "5")], &["\"tagret\"", "did you mean target?"]),
            (&[("scaleraddress", "a:1")], &["did you mean scalerAddress?"]),
            (&[("min-scale", "1"), ("minScale", "2")], &["\"minScale\"", "\"min-scale\""]),
            (&[("zzz", "5")], &["\"zzz\"", "no such key"]),
        ] {
            let error = read(list).unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "{list:?}: {error}");
            }
        }
        let many = (0..200).map(|n| (format!("k{n}"), String::new())).collect();
        assert!(TriggerMetadata::read(&many).is_err());
        let long = pairs(&[("target", &"1".repeat(20_000))]);
        let error = TriggerMetadata::read(&long).unwrap_err().to_string();
        assert!(error.len() < 200, "{error}");
    }

    #[test]
    fn metadata_wins_over_annotations_and_says_so() {
        let metadata = read(&[("target", "5"), ("min-scale", "1")]).unwrap();
        let (annotations, template) = (
            pairs(&[
                ("autoscaling.knative.dev/target", "50"),
                ("autoscaling.knative.dev/minScale", "9"),
                ("autoscaling.knative.dev/max-scale", "20"),
                ("autoscaling.knative.dev/class", "hpa.autoscaling.knative.dev"),
            ]),
            pairs(&[("autoscaling.knative.dev/target", "60")]),
        );
        let inputs = Inputs {
            defaults: &ClusterDefaults::default(),
            defaults_set: &BTreeSet::new(),
            process: &ProcessSettings::default(),
            sources: &BTreeMap::new(),
            namespace: "shop",
            name: "cart",
            namespace_annotations: &BTreeMap::new(),
            annotations: &annotations,
            template_annotations: &template,
            owned_by_knative: false,
            progress_deadline: None,
        };
        let config = metadata.resolve(&inputs).unwrap().config;
        assert_eq!(config.consent, Consent::Answered);
        assert!((config.spec.total - 5.0).abs() < 1e-9, "{config:?}");
        assert_eq!((config.bounds.min, config.bounds.max), (1, 20));
        let from = |name| crate::core::effective::provenance(&config, name);
        assert_eq!(from("target"), Provenance::Trigger);
        assert_eq!(from("min-scale"), Provenance::Trigger);
        assert_eq!(from("max-scale"), Provenance::Annotation);
        let codes: Vec<_> = config.problems.iter().map(|problem| problem.code).collect();
        assert_eq!(codes, [ProblemCode::NoSource]);
        // A workload without any annotation of its own is decided as well.
        let bare = Inputs { annotations: &BTreeMap::new(), ..inputs };
        assert!(read(&[]).unwrap().resolve(&bare).is_some());
    }
}
