//! Every configuration key, as data: the parsers take their spellings from here, `podswell keys` and
//! `docs/annotations.md` print it, and `explain` names settings by it. A key that is not in this table
//! does not exist.

use std::fmt::Write as _;

/// The prefix of an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// `autoscaling.knative.dev/`: Knative's own keys.
    Autoscaling,
    /// `podswell.dev/`: what Knative lacks.
    Podswell,
}

impl Group {
    /// The prefix with its slash.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Autoscaling => "autoscaling.knative.dev/",
            Self::Podswell => "podswell.dev/",
        }
    }
}

/// Where a key may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// An annotation of the Deployment or of its pod template.
    Annotation,
    /// A key of the ConfigMap `config-autoscaler`.
    ConfigMap,
    /// An annotation, whose cluster-wide default is the named key of `config-autoscaler`.
    Both(&'static str),
    /// An annotation of the workload or of its namespace.
    Namespace,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A signed 32-bit decimal integer.
    Int,
    /// A float, in Go's spelling.
    Float,
    /// A float, in per cent.
    Percent,
    /// A duration, in Go's spelling.
    Duration,
    /// A truth value, in Go's spelling.
    Bool,
    /// One of a few words, or a name.
    Word,
    /// A moment, in RFC 3339.
    Time,
    /// Items, comma separated.
    List,
    /// A small JSON object.
    Json,
    /// An expression for a Prometheus server.
    PromQl,
}

impl Kind {
    /// The kind as the documentation names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Float => "float",
            Self::Percent => "percentage",
            Self::Duration => "duration",
            Self::Bool => "bool",
            Self::Word => "word",
            Self::Time => "time",
            Self::List => "list",
            Self::Json => "JSON",
            Self::PromQl => "PromQL",
        }
    }
}

/// One configuration key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The name without its group; unique in the table together with the group.
    pub name: &'static str,
    /// The group of the annotation; without meaning for a key of the ConfigMap alone.
    pub group: Group,
    /// Other spellings of the annotation's name, at most one today; looked up after `name`.
    pub aliases: &'static [&'static str],
    /// Where it may stand.
    pub level: Level,
    /// How the value is written.
    pub kind: Kind,
    /// Which values are accepted.
    pub range: &'static str,
    /// What applies where the key is absent.
    pub default: &'static str,
    /// What it does, in one or two sentences.
    pub doc: &'static str,
    /// Whose definition it is.
    pub source: &'static str,
}

impl Key {
    /// The annotation with its group.
    pub fn annotation(&self) -> String {
        format!("{}{}", self.group.prefix(), self.name)
    }

    /// All annotations that mean this key, in the order in which they are looked up.
    pub fn spellings(&self) -> impl Iterator<Item = String> {
        std::iter::once(self.name)
            .chain(self.aliases.iter().copied())
            .map(|name| format!("{}{name}", self.group.prefix()))
    }

    /// Whether the key may be an annotation.
    pub const fn is_annotation(&self) -> bool {
        !matches!(self.level, Level::ConfigMap)
    }

    /// Whether it may be an annotation of this name, which has no group.
    fn is_annotation_called(&self, name: &str) -> bool {
        self.is_annotation() && (self.name == name || self.aliases.contains(&name))
    }

    /// The key of `config-autoscaler` that is this key or its default.
    pub const fn config_map_key(&self) -> Option<&'static str> {
        match self.level {
            Level::ConfigMap => Some(self.name),
            Level::Both(key) => Some(key),
            Level::Annotation | Level::Namespace => None,
        }
    }

    /// The position in [`KEYS`].
    pub fn index(&self) -> u8 {
        let index = KEYS.iter().position(|key| key.name == self.name && key.group == self.group);
        index.and_then(|index| u8::try_from(index).ok()).unwrap_or(u8::MAX)
    }
}

/// The documentation of Knative's annotations and ConfigMap.
const KNATIVE: &str = "Knative, `pkg/apis/autoscaling`";
const CONFIG_AUTOSCALER: &str = "Knative, `config-autoscaler`";
const PODSWELL: &str = "podswell";

macro_rules! keys {
    ($($id:ident = $name:literal, $group:ident, $aliases:expr, $level:expr, $kind:ident {
        $range:literal, $default:literal, $source:ident, $doc:literal
    })*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $doc)]
            pub const $id: Key = Key {
                name: $name,
                group: Group::$group,
                aliases: &$aliases,
                level: $level,
                kind: Kind::$kind,
                range: $range,
                default: $default,
                doc: $doc,
                source: $source,
            };
        )*

        /// The table of all keys, annotations first; at most 255.
        pub const KEYS: &[Key] = &[$($id),*];
    };
}

keys! {
    CLASS = "class", Autoscaling, [], Level::Both("pod-autoscaler-class"), Word {
        "any; values of `knative.dev` only `kpa.autoscaling.knative.dev` and `hpa.autoscaling.knative.dev`", "`kpa.autoscaling.knative.dev`", KNATIVE,
        "Who scales the workload. Only `kpa.podswell.dev` on the Deployment itself lets podswell write replicas; with anything else it decides, explains and writes nothing."
    }
    METRIC = "metric", Autoscaling, [], Level::Annotation, Word {
        "`concurrency`, `rps`; with the class `kpa.podswell.dev` also `events`, `backlog`", "`concurrency`", KNATIVE,
        "What is measured: requests in flight, requests a second, items published a second, or items waiting."
    }
    TARGET = "target", Autoscaling, [], Level::Annotation, Float {
        "≥ 0.01", "concurrency: `container-concurrency-target-default`; rps: `requests-per-second-target-default`; events and backlog: none, it is required", KNATIVE,
        "What one pod can bear, in the metric's unit. Decisions divide by this times the target utilization."
    }
    TARGET_UTILIZATION = "target-utilization-percentage", Autoscaling, ["targetUtilizationPercentage"], Level::Annotation, Percent {
        "1 ..= 100", "concurrency: `container-concurrency-target-percentage`; rps and events: 70; backlog: 100", KNATIVE,
        "The share of the target that a pod should carry."
    }
    TARGET_BURST_CAPACITY = "target-burst-capacity", Autoscaling, ["targetBurstCapacity"], Level::Both("target-burst-capacity"), Float {
        "≥ 0, or -1 for unlimited", "211", KNATIVE,
        "Requests in flight that the workload should absorb at once; it only enters the excess burst capacity that is reported."
    }
    WINDOW = "window", Autoscaling, [], Level::Both("stable-window"), Duration {
        "6s ..= 1h, whole seconds", "60s", KNATIVE,
        "The stable window: the span over which the load is averaged."
    }
    PANIC_WINDOW = "panic-window-percentage", Autoscaling, ["panicWindowPercentage"], Level::Both("panic-window-percentage"), Percent {
        "1 ..= 100", "10", KNATIVE,
        "The panic window as a share of the stable window, rounded to whole seconds, at least 1s."
    }
    PANIC_THRESHOLD = "panic-threshold-percentage", Autoscaling, ["panicThresholdPercentage"], Level::Both("panic-threshold-percentage"), Percent {
        "110 ..= 1000", "200", KNATIVE,
        "How many times the ready pods must be wanted over the panic window before panic mode begins."
    }
    MIN_SCALE = "min-scale", Autoscaling, ["minScale"], Level::Both("min-scale"), Int {
        "0 ..= 2147483647", "0", KNATIVE,
        "Never fewer replicas than this. A value above max-scale counts as max-scale."
    }
    MAX_SCALE = "max-scale", Autoscaling, ["maxScale"], Level::Both("max-scale"), Int {
        "0 ..= 2147483647; with a `max-scale-limit`, 1 ..= that limit", "0: `--default-max-scale`, or no ceiling with `compat: knative`", KNATIVE,
        "Never more replicas than this."
    }
    INITIAL_SCALE = "initial-scale", Autoscaling, ["initialScale"], Level::Both("initial-scale"), Int {
        "≥ 1, or 0 where `allow-zero-initial-scale` is true", "1", KNATIVE,
        "Replicas that a new workload must reach once before demand alone decides."
    }
    ACTIVATION_SCALE = "activation-scale", Autoscaling, [], Level::Annotation, Int {
        "≥ 2, not below min-scale, not above max-scale", "off", KNATIVE,
        "Replicas that any demand above zero asks for at least."
    }
    SCALE_DOWN_DELAY = "scale-down-delay", Autoscaling, ["scaleDownDelay"], Level::Both("scale-down-delay"), Duration {
        "0s ..= 1h, whole seconds", "0s", KNATIVE,
        "For how long the highest decision is held before replicas fall."
    }
    RETENTION = "scale-to-zero-pod-retention-period", Autoscaling, ["scaleToZeroPodRetentionPeriod"], Level::Both("scale-to-zero-pod-retention-period"), Duration {
        "0s ..= 1h", "0s", KNATIVE,
        "How long the last pod stays after the workload became inactive."
    }
    AGGREGATION = "metric-aggregation-algorithm", Autoscaling, ["metricAggregationAlgorithm"], Level::Annotation, Word {
        "`linear`, `weighted-exponential` (also `weightedExponential`)", "`linear`", KNATIVE,
        "How a window averages: every second weighs the same, or the newest weighs most."
    }
    MODE = "mode", Podswell, [], Level::Namespace, Word {
        "`apply`, `paused-up`, `paused-down`, `paused`, `observe`", "`apply`; `observe` on objects that Knative owns", PODSWELL,
        "What podswell may do with its decisions. The strictest of `--mode`, the namespace, the workload and the freeze of the ConfigMap `podswell` wins; a value that is none of these counts as `observe`."
    }
    PAUSED_UNTIL = "paused-until", Podswell, [], Level::Namespace, Time {
        "RFC 3339 with an offset, for example `2026-09-01T12:00:00Z`", "none", PODSWELL,
        "A pause with an end: nothing is written until then, and it resumes by itself. Of the namespace's and the workload's the later one counts, and a stricter mode still holds. A value that is no time does not pause for ever: nothing is lowered until it is corrected (as `paused-down`), raising goes on."
    }
    ON_MISSING = "on-missing", Podswell, [], Level::Annotation, Word {
        "`hold`; `N after D`; `at least N after D`; N ≥ 1, D in 10s ..= 24h", "`hold`", PODSWELL,
        "What happens when nothing is heard of the load. `hold`: replicas stay. `3 after 5m`: after 5 minutes without a sample exactly 3 replicas, **fewer than now, too, because this says so**; min-scale and max-scale still hold. `at least 3 after 5m` only raises. The order is carried out once in each loss; what somebody sets after that stands."
    }
    COMPAT = "compat", Podswell, [], Level::Annotation, Word {
        "`knative`, `default`", "`--compat`", PODSWELL,
        "Whose arithmetic decides: Knative's, bit for bit, which needs sources of one sample a second; or the default windows, which average slow and broken sources truly."
    }
    SOURCE = "source", Podswell, [], Level::Annotation, List {
        "names of the ConfigMap `podswell-sources`, and `scrape`; at most 8", "`scrape` where `podswell.dev/scrape` is set, else none", PODSWELL,
        "Where the load is read, most preferred first: the first source with a fresh sample is used. Only sources that their definition calls additive are summed."
    }
    SOURCE_MATCH = "source-match", Podswell, [], Level::Annotation, List {
        "`label=value` pairs on labels that the source lists; at most 8", "none", PODSWELL,
        "Chooses this workload's series in its named sources where the names of namespace and workload do not."
    }
    QUERY = "query", Podswell, [], Level::Annotation, PromQl {
        "an expression that gives one number, without subqueries, `offset` and `@`; at most 2048 bytes", "none", PODSWELL,
        "What is asked of a source with `queries: true`, in namespaces that the administrator lists (`query-namespaces`) only. Every selector sees the workload's own namespace alone; `$namespace` and `$deployment` stand for its names. See sources.md."
    }
    MEASURES = "measures", Podswell, [], Level::Annotation, List {
        "`metric[@source[/source]][+companion][=target]`; at most 8", "one measure, from `metric`, `target` and `podswell.dev/source`", PODSWELL,
        "Several measures of one workload, for example `concurrency, backlog@orders=50`: each has its own windows and target, the highest wins. See measures.md."
    }
    DRAIN_TIME = "drain-time", Podswell, [], Level::Annotation, Duration {
        "1s ..= 1h", "the stable window", PODSWELL,
        "How fast a measure of events works off what waits in its companion."
    }
    ACTIVATION_VALUE = "activation-value", Podswell, [], Level::Annotation, Int {
        "0 ..= 2147483647", "0", PODSWELL,
        "So many waiting items count as none where zero replicas are possible: the workload may go to zero, and more than this wakes it."
    }
    SCRAPE = "scrape", Podswell, [], Level::Annotation, Json {
        "`port`, `path`, and exactly one of `inFlight`, `started` with `finished`, `requests`, or `format: queue-proxy`", "none: pods are not scraped", PODSWELL,
        "How each pod's own page is read: `{\"port\":8080,\"path\":\"/metrics\",\"inFlight\":\"http_in_flight\"}`. Without a port, `prometheus.io/port` and `prometheus.io/path` of the pod template are used; the path is `/metrics` by default."
    }
    CONTAINER_CONCURRENCY = "container-concurrency", Podswell, [], Level::Annotation, Int {
        "≥ 0", "0: no limit", PODSWELL,
        "The most requests that one pod takes at once (Knative's `containerConcurrency`); a target of concurrency is never above it."
    }
    MAX_SCALE_UP_RATE = "max-scale-up-rate", Podswell, [], Level::Both("max-scale-up-rate"), Float {
        "> 1", "1000", PODSWELL,
        "One decision asks for at most this many times the ready pods."
    }
    MAX_SCALE_DOWN_RATE = "max-scale-down-rate", Podswell, [], Level::Both("max-scale-down-rate"), Float {
        "> 1", "2", PODSWELL,
        "One decision keeps at least the ready pods divided by this."
    }
    ENABLE_SCALE_TO_ZERO = "enable-scale-to-zero", Autoscaling, [], Level::ConfigMap, Bool {
        "Go's truth values", "`true`", CONFIG_AUTOSCALER,
        "Whether any workload may reach zero replicas."
    }
    ALLOW_ZERO_INITIAL_SCALE = "allow-zero-initial-scale", Autoscaling, [], Level::ConfigMap, Bool {
        "Go's truth values", "`false`", CONFIG_AUTOSCALER,
        "Whether an initial scale of 0 is accepted."
    }
    CC_TARGET_PERCENTAGE = "container-concurrency-target-percentage", Autoscaling, [], Level::ConfigMap, Percent {
        "above 0, up to 100; values up to 1 are fractions", "70", CONFIG_AUTOSCALER,
        "The target utilization of concurrency."
    }
    CC_TARGET_DEFAULT = "container-concurrency-target-default", Autoscaling, [], Level::ConfigMap, Float {
        "times the fraction above ≥ 0.01", "100", CONFIG_AUTOSCALER,
        "The concurrency target of workloads without target and container concurrency."
    }
    RPS_TARGET_DEFAULT = "requests-per-second-target-default", Autoscaling, [], Level::ConfigMap, Float {
        "≥ 0.01", "200", CONFIG_AUTOSCALER,
        "The rps target of workloads without a target."
    }
    ACTIVATOR_CAPACITY = "activator-capacity", Autoscaling, [], Level::ConfigMap, Float {
        "≥ 1", "100", CONFIG_AUTOSCALER,
        "Requests in flight that one activator bears; read, but nothing depends on it yet."
    }
    MAX_SCALE_LIMIT = "max-scale-limit", Autoscaling, [], Level::ConfigMap, Int {
        "≥ 0; 0 = off", "0", CONFIG_AUTOSCALER,
        "No workload's max-scale may be above this."
    }
    GRACE_PERIOD = "scale-to-zero-grace-period", Autoscaling, [], Level::ConfigMap, Duration {
        "> 0s", "30s", CONFIG_AUTOSCALER,
        "How long the network gets to take a workload off its last pod; read, but nothing depends on it without an activator."
    }
}

/// The annotation key that `text` spells, with or without alias.
pub fn find(text: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| {
        text.strip_prefix(key.group.prefix()).is_some_and(|name| key.is_annotation_called(name))
    })
}

/// The annotation key that `text` spells, also without the prefix of its group.
pub fn find_by_name(text: &str) -> Option<&'static Key> {
    find(text).or_else(|| KEYS.iter().find(|key| key.is_annotation_called(text)))
}

/// The whole table as Markdown: `podswell keys` prints it and `docs/annotations.md` holds it.
pub fn markdown() -> String {
    let mut text = String::from(concat!(
        "# Annotations and ConfigMap keys\n\n",
        "Printed by `podswell keys`; do not edit.\n\n",
        "Annotations stand on the Deployment or on its pod template; where both have one, the ",
        "Deployment's is used and a difference is reported. Durations, floats and integers are ",
        "written as Go reads them (`1m30s`, `0.5`, `10`); values that are not finite are refused. ",
        "A value that is not accepted is reported and counts as absent.\n",
    ));
    for (group, about) in [
        (Group::Autoscaling, "Knative's keys, with Knative's ranges."),
        (Group::Podswell, "Keys that Knative lacks."),
    ] {
        // Writing to a String cannot fail, here and below.
        let _ = write!(
            text,
            "\n## `{}`\n\n{about}\n\n| annotation | also | type | accepted | default | ConfigMap key | what it does |\n|---|---|---|---|---|---|---|\n",
            group.prefix()
        );
        for key in KEYS.iter().filter(|key| key.is_annotation() && key.group == group) {
            let default_key = match key.level {
                Level::Both(config_map_key) => format!("`{config_map_key}`"),
                Level::Namespace => "– (also on the namespace)".to_owned(),
                Level::Annotation | Level::ConfigMap => "–".to_owned(),
            };
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} | {default_key} | {} |",
                key.name,
                aliases(key),
                key.kind.as_str(),
                key.range,
                key.default,
                key.doc
            );
        }
    }
    text.push_str(concat!(
        "\n## ConfigMap `config-autoscaler`\n\n",
        "Knative's keys; others are ignored. An invalid map is refused as a whole and the last good ",
        "one stays.\n\n| key | type | accepted | default | what it does |\n|---|---|---|---|---|\n",
    ));
    for key in KEYS {
        let Some(name) = key.config_map_key() else { continue };
        let doc = match key.level {
            Level::Both(_) => format!("The default of `{}{}`.", key.group.prefix(), key.name),
            Level::ConfigMap | Level::Annotation | Level::Namespace => key.doc.to_owned(),
        };
        let _ = writeln!(
            text,
            "| `{name}` | {} | {} | {} | {doc} |",
            key.kind.as_str(),
            config_map_range(key),
            key.default,
        );
    }
    text
}

fn aliases(key: &Key) -> String {
    if key.aliases.is_empty() {
        return "–".to_owned();
    }
    key.aliases.iter().map(|alias| format!("`{alias}`")).collect::<Vec<_>>().join(", ")
}

/// Where the ConfigMap accepts other values than the annotation.
fn config_map_range(key: &Key) -> &'static str {
    match key.name {
        "class" => "any",
        "panic-threshold-percentage" => {
            "any finite number; below 110 counts as 200, except with `compat: knative`"
        }
        "max-scale" => "≥ 0; with a `max-scale-limit`, 1 ..= that limit",
        "min-scale" => "≥ 0, not above a `max-scale`",
        "scale-down-delay" => "≥ 0s, whole seconds",
        "scale-to-zero-pod-retention-period" => "≥ 0s",
        _ => key.range,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn spellings_are_unique_and_indices_fit() {
        let mut seen = BTreeSet::new();
        for (index, key) in KEYS.iter().enumerate() {
            assert_eq!(usize::from(key.index()), index, "{}", key.name);
            assert!(key.aliases.len() <= 1, "{}", key.name);
            if key.is_annotation() {
                for spelling in key.spellings() {
                    assert_eq!(find(&spelling).map(|key| key.name), Some(key.name));
                    assert!(seen.insert(spelling), "{}", key.name);
                }
            }
        }
        let config_map: Vec<_> = KEYS.iter().filter_map(Key::config_map_key).collect();
        assert_eq!(config_map.iter().collect::<BTreeSet<_>>().len(), config_map.len());
        assert_eq!(config_map.len(), 20, "Knative reads 20 keys (and we add none)");
    }

    #[test]
    fn every_key_is_documented() {
        for key in KEYS {
            for text in [key.range, key.default, key.doc, key.source] {
                assert!(!text.is_empty() && !text.contains(['|', '\n']), "{}: {text:?}", key.name);
            }
            assert!(key.doc.ends_with('.'), "{}", key.name);
        }
    }

    #[test]
    fn the_document_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/annotations.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).expect("write docs/annotations.md");
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == markdown(), "docs/annotations.md is stale; run with UPDATE_DOCS=1");
    }
}
