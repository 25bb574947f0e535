//! Reads the three ConfigMaps: Knative's tunables, the settings of the process, the named sources.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::defaults::ClusterDefaults;
use crate::core::policy::Mode;
use crate::core::problem::Problem;
use crate::core::resolve::ProcessSettings;
use crate::core::source::{SourceFacts, SourceName};
use crate::core::spec::Semantics;
use crate::core::text::shown;
use crate::k8s::watch::ConfigReader;
use crate::runtime::args::parse_host_port;
use crate::sources::Sources;

/// Knative's name for a key that only documents; nobody reads it.
const EXAMPLE: &str = "_example";

/// The reader that the watches use. It owns the sources, because a new definition starts a task.
pub struct Reader {
    flags: ProcessSettings,
    sources: Sources,
}

impl Reader {
    /// A reader on top of what the flags say.
    pub fn new(flags: ProcessSettings, sources: Sources) -> Self {
        Self { flags, sources }
    }
}

impl ConfigReader for Reader {
    fn defaults(&mut self, data: &BTreeMap<String, String>) -> Result<ClusterDefaults, String> {
        ClusterDefaults::parse(data).map_err(|why| why.to_string())
    }

    fn process(&mut self, data: &BTreeMap<String, String>) -> Result<ProcessSettings, String> {
        process_settings(&self.flags, data)
    }

    fn asks_for_freeze(&self, data: &BTreeMap<String, String>) -> bool {
        data.get("freeze").is_some_and(|text| !means_false(text.trim()))
    }

    fn sources(
        &mut self,
        data: &BTreeMap<String, String>,
    ) -> (BTreeMap<SourceName, SourceFacts>, Vec<Problem>) {
        let documents = data.iter().filter(|(name, _)| *name != EXAMPLE);
        self.sources.apply(&documents.map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

/// What the flags and the ConfigMap `podswell` say together: the strictest mode, otherwise the
/// ConfigMap where it says something.
///
/// # Errors
/// The first key that is wrong, as a lower-case fragment; the map then counts for nothing.
pub fn process_settings(
    flags: &ProcessSettings,
    data: &BTreeMap<String, String>,
) -> Result<ProcessSettings, String> {
    let mut settings = flags.clone();
    for (key, value) in data {
        let text = value.trim();
        let wrong = |expected: &str| format!("{key}: {} is not {expected}", shown(text));
        match key.as_str() {
            "freeze" => settings.freeze = !means_false(text),
            "mode" => {
                let modes = "apply, paused-up, paused-down, paused or observe";
                let mode = Mode::parse(text).ok_or_else(|| wrong(modes))?;
                settings.mode = flags.mode.strictest(mode);
            }
            "compat" => {
                settings.compat = match text {
                    "default" => Semantics::Default,
                    "knative" => Semantics::Knative,
                    _ => return Err(wrong("default or knative")),
                };
            }
            "default-max-scale" => {
                let ceiling = text.parse::<i32>().ok().filter(|ceiling| *ceiling >= 1);
                settings.default_max_scale = ceiling.ok_or_else(|| wrong("a number ≥ 1"))?;
            }
            "pod-plausibility-cap" => {
                let cap = text.parse::<u32>().ok().filter(|cap| *cap >= 1);
                settings.pod_plausibility_cap = cap.ok_or_else(|| wrong("a number ≥ 1"))?;
            }
            "adopt-namespaces" => settings.adopt_namespaces = names_of(text),
            "query-namespaces" => settings.query_namespaces = names_of(text),
            "keda-addresses" => {
                let addresses = text.split(',').map(str::trim).filter(|one| !one.is_empty());
                settings.keda_addresses = addresses
                    .map(|address| parse_host_port(address).map_err(|_| wrong("HOST:PORT,..")))
                    .collect::<Result<_, _>>()?;
            }
            EXAMPLE => {}
            _ => return Err(format!("unknown key {}", shown(key))),
        }
    }
    Ok(settings)
}

/// Names between commas.
fn names_of(text: &str) -> BTreeSet<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Only these words lift a freeze; whatever else somebody writes in a hurry freezes.
fn means_false(text: &str) -> bool {
    ["", "false", "f", "no", "n", "off", "0"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &[(&str, &str)]) -> Result<ProcessSettings, String> {
        let flags = ProcessSettings { mode: Mode::PausedUp, ..ProcessSettings::default() };
        let data = data.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        process_settings(&flags, &data)
    }

    #[test]
    fn the_map_is_laid_over_the_flags() {
        let settings = read(&[
            ("_example", "anything: at all"),
            ("adopt-namespaces", "a, b,"),
            ("compat", "knative"),
            ("default-max-scale", "7"),
            ("keda-addresses", "a:1, b.c:9090"),
            ("mode", "paused-down"),
            ("pod-plausibility-cap", "50"),
            ("query-namespaces", "shop ,blog"),
        ])
        .unwrap();
        assert_eq!(settings.mode, Mode::Paused);
        assert_eq!((settings.compat, settings.default_max_scale), (Semantics::Knative, 7));
        assert_eq!(Vec::from_iter(settings.adopt_namespaces), ["a", "b"]);
        assert_eq!(Vec::from_iter(settings.query_namespaces), ["blog", "shop"]);
        assert_eq!(Vec::from_iter(settings.keda_addresses), ["a:1", "b.c:9090"]);
        assert_eq!(settings.pod_plausibility_cap, 50);
        assert!(!settings.freeze);
    }

    #[test]
    fn a_map_cannot_loosen_the_flag() {
        assert_eq!(read(&[("mode", "apply")]).unwrap().mode, Mode::PausedUp);
    }

    #[test]
    fn in_doubt_a_freeze_freezes() {
        for (text, frozen) in [
            ("true", true),
            ("yes", true),
            ("ture", true),
            ("False", false),
            ("off", false),
            ("", false),
        ] {
            assert_eq!(read(&[("freeze", text)]).unwrap().freeze, frozen, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (key, value) in [
            ("mode", "off"),
            ("compat", "keda"),
            ("default-max-scale", "0"),
            ("pod-plausibility-cap", "0"),
            ("frieze", "true"),
            ("keda-addresses", "podswell"),
        ] {
            assert!(read(&[(key, value)]).unwrap_err().contains(key), "{key}");
        }
    }
}
