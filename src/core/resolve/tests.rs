use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::core::annotations::validate;
use crate::core::config::Provenance as From;
use crate::core::decision::Reason;
use crate::core::effective::settings;
use crate::core::policy::Consent;
use crate::core::problem::ProblemCode as Code;
use crate::core::source::{SCRAPE, ScrapeFormat, Share};
use crate::core::spec::Aggregation;

const KN: &str = "autoscaling.knative.dev/";
const SCRAPE_BUSY: (&str, &str) = ("podswell.dev/scrape", r#"{"port":80,"inFlight":"busy"}"#);
const OURS: (&str, &str) = ("class", "kpa.podswell.dev");

type Pairs<'a> = &'a [(&'a str, &'a str)];

/// Everything that a test may want to vary; the rest is empty or at its default.
#[derive(Default)]
struct World {
    config_map: BTreeMap<String, String>,
    process: ProcessSettings,
    sources: BTreeMap<SourceName, SourceFacts>,
    namespace: BTreeMap<String, String>,
    template: BTreeMap<String, String>,
    owned_by_knative: bool,
    progress_deadline: Option<Duration>,
}

/// Annotations from pairs; a key without a group is Knative's.
fn map(pairs: Pairs<'_>) -> BTreeMap<String, String> {
    let full = |key: &str| if key.contains('/') { key.to_owned() } else { format!("{KN}{key}") };
    pairs.iter().map(|(key, value)| (full(key), (*value).to_owned())).collect()
}

fn plain(pairs: Pairs<'_>) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn source(name: &str, kind: ScalingMetric, interval_s: u64) -> (SourceName, SourceFacts) {
    let name: SourceName = Arc::from(name);
    let facts = SourceFacts {
        name: name.clone(),
        kind,
        interval: Duration::from_secs(interval_s),
        stale_after: Duration::from_millis(interval_s * 2500),
        range: None,
        visible_at_zero: false,
        share: Share::Exclusive,
        selectable_labels: vec!["queue".to_owned()],
        query_label: None,
    };
    (name, facts)
}

impl World {
    fn resolve_map(&self, annotations: &BTreeMap<String, String>) -> Option<Resolved> {
        let defaults = ClusterDefaults::parse(&self.config_map).expect("a valid config-autoscaler");
        resolve(&Inputs {
            defaults: &defaults,
            defaults_set: &self.config_map.keys().cloned().collect(),
            process: &self.process,
            sources: &self.sources,
            namespace: "shop",
            name: "cart",
            namespace_annotations: &self.namespace,
            annotations,
            template_annotations: &self.template,
            owned_by_knative: self.owned_by_knative,
            progress_deadline: self.progress_deadline,
        })
    }

    fn resolve(&self, annotations: Pairs<'_>) -> Resolved {
        self.resolve_map(&map(annotations)).expect("an annotated Deployment")
    }

    fn config(&self, annotations: Pairs<'_>) -> TargetConfig {
        self.resolve(annotations).config
    }
}

fn default_world() -> World {
    World::default()
}

fn codes(config: &TargetConfig) -> Vec<Code> {
    config.problems.iter().map(|problem| problem.code).collect()
}

/// The problems besides the two that a bare target always has.
fn complaints(config: &TargetConfig) -> Vec<String> {
    let usual = [Code::DefaultMaxScale, Code::NoSource];
    let others = config.problems.iter().filter(|problem| !usual.contains(&problem.code));
    others.map(ToString::to_string).collect()
}

fn origin(config: &TargetConfig, key: &Key) -> From {
    let index = key.index();
    config
        .provenance
        .iter()
        .find(|(known, _)| *known == index)
        .map_or(From::Default, |(_, from)| *from)
}

#[test]
fn a_deployment_without_knative_s_keys_is_not_looked_at() {
    let world = World { namespace: plain(&[("podswell.dev/mode", "apply")]), ..World::default() };
    assert_eq!(world.resolve_map(&BTreeMap::new()), None);
    assert_eq!(world.resolve_map(&plain(&[SCRAPE_BUSY])), None);
    assert!(world.resolve_map(&map(&[("targt", "5")])).is_some(), "any key of the group observes");
    let template = World { template: map(&[("target", "5")]), ..World::default() };
    assert!(template.resolve_map(&BTreeMap::new()).is_some());
}

#[test]
fn a_bare_target_is_knative_s_default_with_a_ceiling() {
    let Resolved { config, wiring } = default_world().resolve(&[OURS]);
    assert_eq!(config.spec, ScalerSpec::default());
    assert_eq!(config.bounds, ScaleBounds { min: 0, max: 100 });
    assert_eq!(config.zero, ZeroConfig::default());
    assert_eq!((config.consent, config.mode), (Consent::Managed, Mode::Apply));
    assert_eq!(codes(&config), [Code::NoSource, Code::DefaultMaxScale]);
    assert_eq!(origin(&config, &keys::MAX_SCALE), From::Flag);
    assert_eq!((wiring.scrape, wiring.sources.len(), wiring.sample_pods), (None, 0, false));
}

#[test]
fn consent_is_our_class_on_the_deployment() {
    use Consent::{Managed, Observed};
    let adopting = || {
        let adopt_namespaces = BTreeSet::from(["shop".to_owned()]);
        World {
            process: ProcessSettings { adopt_namespaces, ..ProcessSettings::default() },
            ..World::default()
        }
    };
    let elsewhere = || {
        let adopt_namespaces = BTreeSet::from(["other".to_owned()]);
        World {
            process: ProcessSettings { adopt_namespaces, ..ProcessSettings::default() },
            ..World::default()
        }
    };
    let owned = || World { owned_by_knative: true, ..adopting() };
    let in_template = || World { template: map(&[OURS]), ..World::default() };
    let kpa = ("class", "kpa.autoscaling.knative.dev");
    for (name, world, annotations, consent) in [
        ("ours", default_world(), &[OURS][..], Managed),
        ("none", default_world(), &[("target", "5")], Observed),
        ("knative's", default_world(), &[kpa], Observed),
        ("unknown", default_world(), &[("class", "foo.knative.dev")], Observed),
        ("another", default_world(), &[("class", "other.example.com")], Observed),
        ("case", default_world(), &[("class", "KPA.podswell.dev")], Observed),
        ("template", in_template(), &[("target", "5")], Observed),
        ("adopted", adopting(), &[kpa], Managed),
        ("adopted without class", adopting(), &[("target", "5")], Observed),
        ("adopted hpa", adopting(), &[("class", "hpa.autoscaling.knative.dev")], Observed),
        ("other namespace", elsewhere(), &[kpa], Observed),
        ("a Revision's", owned(), &[kpa], Observed),
    ] {
        assert_eq!(world.config(annotations).consent, consent, "{name}");
    }
    let config = in_template().config(&[("target", "5")]);
    assert_eq!(
        complaints(&config),
        [
            "InvalidAnnotation autoscaling.knative.dev/class: kpa.podswell.dev is set on the pod template, not \
         on the Deployment; decisions are shown, but not written"
        ]
    );
}

#[test]
fn the_strictest_mode_wins() {
    use Mode::{Apply, Observe, Paused, PausedDown, PausedUp};
    type Case = (Mode, bool, &'static str, &'static str, bool, Mode, From);
    let cases: &[Case] = &[
        (Apply, false, "", "", false, Apply, From::Default),
        (Apply, false, "", "apply", false, Apply, From::Default),
        (Observe, false, "apply", "apply", false, Observe, From::Flag),
        (Apply, false, "paused", "apply", false, Paused, From::Namespace),
        (Apply, false, "paused", "observe", false, Observe, From::Annotation),
        (Apply, false, "paused-up", "paused-down", false, Paused, From::Annotation),
        (PausedDown, false, "", "", false, PausedDown, From::Flag),
        (PausedUp, false, "", "apply", false, PausedUp, From::Flag),
        (Apply, true, "", "apply", false, Paused, From::ConfigMap),
        (Apply, true, "observe", "", false, Observe, From::Namespace),
        (Apply, false, "", "pausd", false, Observe, From::Annotation),
        (Apply, false, "off", "", false, Observe, From::Namespace),
        (Apply, false, "", "", true, Observe, From::Default),
        (Apply, false, "", "apply", true, Apply, From::Default),
        (Apply, false, "paused", "apply", true, Paused, From::Namespace),
    ];
    for (process, freeze, namespace, workload, owned_by_knative, mode, from) in
        cases.iter().copied()
    {
        let mut world = World { owned_by_knative, ..World::default() };
        world.process.mode = process;
        world.process.freeze = freeze;
        let mut annotations = map(&[OURS]);
        for (place, text) in [(&mut world.namespace, namespace), (&mut annotations, workload)] {
            if !text.is_empty() {
                place.insert("podswell.dev/mode".to_owned(), text.to_owned());
            }
        }
        let config = world.resolve_map(&annotations).unwrap().config;
        let name = format!("{process:?} {freeze} {namespace} {workload} {owned_by_knative}");
        assert_eq!((config.mode, origin(&config, &keys::MODE)), (mode, from), "{name}");
    }
}

#[test]
fn the_later_end_of_a_pause_counts() {
    const UNTIL: &str = "podswell.dev/paused-until";
    let (early, late) = ("2026-09-01T12:00:00Z", "2026-09-01T14:30:00+02:00");
    let instant = |text: &str| Some(text.parse::<crate::core::Timestamp>().unwrap());
    for (namespace, workload, until, from, mode) in [
        ("", "", None, From::Default, Mode::Apply),
        ("", early, instant(early), From::Annotation, Mode::Apply),
        (early, "", instant(early), From::Namespace, Mode::Apply),
        (early, late, instant(late), From::Annotation, Mode::Apply),
        (late, early, instant(late), From::Namespace, Mode::Apply),
        ("", "2026-09-01T12:00Z", instant(early), From::Annotation, Mode::Apply),
        ("", "tomorrow", None, From::Default, Mode::PausedDown),
        ("2026-09-01", "", None, From::Default, Mode::PausedDown),
        ("soon", early, instant(early), From::Annotation, Mode::PausedDown),
    ] {
        let mut world = default_world();
        let mut annotations = map(&[OURS]);
        for (place, text) in [(&mut world.namespace, namespace), (&mut annotations, workload)] {
            if !text.is_empty() {
                place.insert(UNTIL.to_owned(), text.to_owned());
            }
        }
        let config = world.resolve_map(&annotations).unwrap().config;
        let seen = (config.paused_until, origin(&config, &keys::PAUSED_UNTIL), config.mode);
        assert_eq!(seen, (until, from, mode), "{namespace} {workload}");
        assert_eq!(complaints(&config).len(), usize::from(mode != Mode::Apply));
    }
    let config = default_world().config(&[OURS, (UNTIL, "tomorrow")]);
    assert_eq!(
        complaints(&config),
        ["InvalidAnnotation podswell.dev/paused-until: \"tomorrow\" is not a time like \
         2026-09-01T12:00:00Z; nothing is lowered until it is corrected (paused-down)"]
    );
}

#[test]
fn orders_for_a_lost_signal_are_read() {
    const KEY: &str = "podswell.dev/on-missing";
    let order = default_world().config(&[OURS, (KEY, "at least 3 after 5m")]).on_missing.unwrap();
    assert_eq!((order.replicas, order.at_least, order.after.as_secs()), (3, true, 300));
    for (text, complains) in [("hold", 0), ("3 after never", 1), ("0 after 5m", 1)] {
        let config = default_world().config(&[OURS, (KEY, text)]);
        assert_eq!((config.on_missing, complaints(&config).len()), (None, complains), "{text}");
    }
}

#[test]
fn odd_modes_and_namespace_keys_are_reported() {
    let namespace = plain(&[
        ("podswell.dev/mode", "off"),
        ("podswell.dev/source", "a"),
        ("podswell.dev/x", ""),
    ]);
    let world = World { namespace, ..World::default() };
    assert_eq!(
        complaints(&world.config(&[OURS, ("podswell.dev/mode", "\u{1b}[2J")])),
        [
            "UnknownAnnotation podswell.dev/source: is not read from a namespace; it is ignored",
            "UnknownAnnotation podswell.dev/x: no such key; it is ignored",
            "InvalidAnnotation podswell.dev/mode: on the namespace: \"off\" is none of apply, paused-up, \
         paused-down, paused, observe; nothing is written (observe)",
            "InvalidAnnotation podswell.dev/mode: \"\\u{1b}[2J\" is none of apply, paused-up, paused-down, \
         paused, observe; nothing is written (observe)",
        ]
    );
}

#[test]
fn targets_are_resolved_as_knative_does() {
    let percentage = "container-concurrency-target-percentage";
    let cc = "podswell.dev/container-concurrency";
    let cases: &[(Pairs<'_>, Pairs<'_>, f64, f64)] = &[
        (&[(percentage, "1")], &[], 100.0, 100.0),
        (&[(percentage, "80")], &[], 80.0, 100.0),
        (&[(percentage, "80")], &[(cc, "12"), ("target-utilization-percentage", "75")], 9.0, 12.0),
        (&[(percentage, "80")], &[(cc, "1")], 0.8, 1.0),
        (
            &[(percentage, "0.1")],
            &[("target", "1"), ("target-utilization-percentage", "1")],
            0.01,
            1.0,
        ),
        (&[(percentage, "1")], &[(cc, "10"), ("target", "1")], 1.0, 1.0),
        (&[(percentage, "1")], &[(cc, "1"), ("target", "10")], 1.0, 1.0),
        (&[], &[("metric", "rps")], 140.0, 200.0),
        (&[], &[("metric", "rps"), ("target", "1")], 0.7, 1.0),
        (&[], &[("metric", "rps"), ("target-utilization-percentage", "75")], 150.0, 200.0),
        (&[], &[("metric", "rps"), ("target", "300"), (cc, "5")], 210.0, 300.0),
        (&[], &[(cc, "10"), ("target", "100")], 7.0, 10.0),
        (&[], &[OURS, ("metric", "events"), ("target", "50")], 35.0, 50.0),
        (&[], &[OURS, ("metric", "backlog"), ("target", "50")], 50.0, 50.0),
        (
            &[],
            &[
                OURS,
                ("metric", "backlog"),
                ("target", "50"),
                ("target-utilization-percentage", "80"),
            ],
            40.0,
            50.0,
        ),
    ];
    for (config_map, annotations, target, total) in cases {
        let world = World { config_map: plain(config_map), ..World::default() };
        let mut annotations = annotations.to_vec();
        annotations.push(("min-scale", "0"));
        let spec = world.config(&annotations).spec;
        assert!((spec.target - target).abs() < 1e-12, "{annotations:?}: {}", spec.target);
        assert!((spec.total - total).abs() < 1e-12, "{annotations:?}: {}", spec.total);
    }
}

#[test]
fn the_origin_of_a_target_is_what_sets_it() {
    let config_map =
        plain(&[("container-concurrency-target-default", "50"), ("stable-window", "30s")]);
    let world = World { config_map, template: map(&[("target", "5")]), ..World::default() };
    let cc = ("podswell.dev/container-concurrency", "2");
    assert_eq!(origin(&world.config(&[OURS]), &keys::TARGET), From::PodTemplate);
    assert_eq!(origin(&world.config(&[("target", "6")]), &keys::TARGET), From::Annotation);
    assert_eq!(origin(&world.config(&[OURS, cc]), &keys::TARGET), From::Annotation);
    assert_eq!(origin(&world.config(&[OURS]), &keys::WINDOW), From::ConfigMap);
    assert_eq!(
        origin(&world.config(&[("window", "5s")]), &keys::WINDOW),
        From::ConfigMap,
        "refused"
    );
    assert_eq!(origin(&world.config(&[OURS]), &keys::PANIC_WINDOW), From::Default);
    let bare = World { template: BTreeMap::new(), ..world };
    assert_eq!(origin(&bare.config(&[OURS]), &keys::TARGET), From::ConfigMap);
}

#[test]
fn windows_follow_the_percentage() {
    for (window, percentage, panic_s) in [
        ("25s", "10", 3),
        ("6s", "10", 1),
        ("60s", "51", 31),
        ("60s", "1", 1),
        ("60s", "100", 60),
        ("15s", "10", 2),
        ("45s", "10", 5),
    ] {
        let annotations = [("window", window), ("panic-window-percentage", percentage)];
        let spec = default_world().config(&annotations).spec;
        assert_eq!(spec.panic_window, Duration::from_secs(panic_s), "{window} {percentage}");
    }
}

#[test]
fn bounds_are_sane_whatever_their_origin() {
    type Case<'a> = (Pairs<'a>, Pairs<'a>, (i32, i32), &'a [Code]);
    let knative = ("podswell.dev/compat", "knative");
    let cases: &[Case<'_>] = &[
        (&[], &[("min-scale", "2"), ("max-scale", "5")], (2, 5), &[]),
        (&[], &[("min-scale", "5"), ("max-scale", "3")], (3, 3), &[Code::MinAboveMax]),
        (&[("min-scale", "5")], &[("max-scale", "3")], (3, 3), &[Code::MinAboveMax]),
        (&[("max-scale", "3")], &[("min-scale", "5")], (3, 3), &[Code::MinAboveMax]),
        (&[], &[("min-scale", "5"), ("max-scale", "0")], (5, 100), &[Code::DefaultMaxScale]),
        (&[], &[("min-scale", "500")], (100, 100), &[Code::DefaultMaxScale, Code::MinAboveMax]),
        (&[], &[knative], (0, 0), &[]),
        (&[], &[knative, ("min-scale", "5"), ("max-scale", "3")], (3, 3), &[Code::MinAboveMax]),
        (&[("max-scale", "9"), ("max-scale-limit", "10")], &[], (0, 9), &[]),
        (
            &[("max-scale", "9"), ("max-scale-limit", "10")],
            &[("max-scale", "20")],
            (0, 10),
            &[Code::InvalidAnnotation],
        ),
        (
            &[("max-scale", "9"), ("max-scale-limit", "10")],
            &[("max-scale", "0")],
            (0, 10),
            &[Code::InvalidAnnotation],
        ),
        (
            &[("max-scale", "9"), ("max-scale-limit", "10")],
            &[knative, ("max-scale", "0")],
            (0, 10),
            &[Code::InvalidAnnotation],
        ),
        (&[], &[("max-scale", "x")], (0, 100), &[Code::InvalidAnnotation, Code::DefaultMaxScale]),
        (
            &[],
            &[("max-scale", "2147483648")],
            (0, 100),
            &[Code::InvalidAnnotation, Code::DefaultMaxScale],
        ),
    ];
    for (config_map, annotations, (min, max), expected) in cases {
        let world = World { config_map: plain(config_map), ..World::default() };
        let annotations: Vec<_> = [OURS, SCRAPE_BUSY].iter().chain(*annotations).copied().collect();
        let config = world.config(&annotations);
        assert_eq!((config.bounds.min, config.bounds.max), (*min, *max), "{annotations:?}");
        assert_eq!(codes(&config), *expected, "{annotations:?}");
    }
}

#[test]
fn the_default_semantics_repair_what_knative_lets_pass() {
    let knative = ("podswell.dev/compat", "knative");
    // Initial scale above max-scale.
    let annotations = [OURS, ("initial-scale", "20"), ("max-scale", "8")];
    let config = default_world().config(&annotations);
    assert_eq!(config.spec.initial_scale, 8);
    assert_eq!(
        complaints(&config),
        [
            "InvalidAnnotation autoscaling.knative.dev/initial-scale: 20 is above max-scale 8; 8 is used"
        ]
    );
    let config = default_world().config(&[annotations[1], annotations[2], knative]);
    assert_eq!(config.spec.initial_scale, 20);
    // A panic threshold that would be panic for ever.
    for (text, threshold) in [("-5", 2.0), ("0", 2.0), ("2", 2.0), ("110", 1.1), ("2000", 20.0)] {
        let config_map = plain(&[("panic-threshold-percentage", text)]);
        let world = World { config_map, ..World::default() };
        let config = world.config(&[OURS]);
        assert!((config.spec.panic_threshold - threshold).abs() < 1e-12, "{text}");
        let annotated = world.config(&[OURS, ("panic-threshold-percentage", "150")]);
        assert!(
            (annotated.spec.panic_threshold - 1.5).abs() < 1e-12
                && complaints(&annotated).is_empty()
        );
        let compat = world.config(&[OURS, knative]).spec.panic_threshold;
        assert!((compat - text.parse::<f64>().unwrap() / 100.0).abs() < 1e-12, "{text}");
    }
    // An unknown aggregation, without an explicit class of Knative's.
    let config = default_world().config(&[("metric-aggregation-algorithm", "foo")]);
    assert_eq!(config.spec.aggregation, Aggregation::Linear);
    assert_eq!(complaints(&config).len(), 1);
}

#[test]
fn what_is_not_finite_is_refused_in_both_semantics() {
    for compat in ["default", "knative"] {
        for key in [
            "target",
            "target-utilization-percentage",
            "target-burst-capacity",
            "panic-window-percentage",
            "panic-threshold-percentage",
        ] {
            for value in ["NaN", "inf", "+Infinity", "-inf"] {
                let config =
                    default_world().config(&[(key, value), ("podswell.dev/compat", compat)]);
                assert_eq!(config.spec, ScalerSpec::default(), "{key} {value}");
                assert_eq!(complaints(&config).len(), 1, "{key} {value}");
            }
        }
        for key in ["podswell.dev/max-scale-up-rate", "podswell.dev/max-scale-down-rate"] {
            for value in ["NaN", "inf", "1", "0.5", "x"] {
                let config =
                    default_world().config(&[OURS, (key, value), ("podswell.dev/compat", compat)]);
                assert_eq!(config.spec, ScalerSpec::default(), "{key} {value}");
                assert_eq!(complaints(&config).len(), 1, "{key} {value}");
            }
        }
    }
    let rates = [
        OURS,
        ("podswell.dev/max-scale-up-rate", "1.5"),
        ("podswell.dev/max-scale-down-rate", "3"),
    ];
    let spec = default_world().config(&rates).spec;
    assert!(
        (spec.max_scale_up_rate - 1.5).abs() < 1e-12
            && (spec.max_scale_down_rate - 3.0).abs() < 1e-12
    );
}

#[test]
fn the_deployment_wins_over_its_pod_template() {
    let template = map(&[("min-scale", "5"), ("max-scale", "9"), ("window", "30s")]);
    let world = World { template, ..World::default() };
    // The old spelling on the Deployment still wins over the new one below it.
    let config = world.config(&[OURS, ("minScale", "3"), ("max-scale", "9")]);
    assert_eq!(config.bounds, ScaleBounds { min: 3, max: 9 });
    assert_eq!(config.spec.stable_window, Duration::from_secs(30));
    assert_eq!(origin(&config, &keys::MIN_SCALE), From::Annotation);
    assert_eq!(origin(&config, &keys::WINDOW), From::PodTemplate);
    assert_eq!(
        complaints(&config),
        [
            "AnnotationsDiffer autoscaling.knative.dev/minScale: the Deployment says \"3\", its pod template \
         \"5\"; the Deployment's value is used",
            "UnusualSpelling autoscaling.knative.dev/minScale: is an old spelling of \
         autoscaling.knative.dev/min-scale",
        ]
    );
}

#[test]
fn bad_values_fall_back_and_say_so() {
    let config_map = plain(&[("stable-window", "30s"), ("min-scale", "2")]);
    let world = World { config_map, ..World::default() };
    let config = world.config(&[
        ("min-scale", ""),
        ("minScale", "3"),
        ("window", "5s"),
        ("target", "\u{1b}[31m0\0"),
        ("activation-scale", "1"),
        ("scale-down-delay", "1500ms"),
        ("metric", "cpu"),
        ("initial-scale", "4294967296"),
        ("podswell.dev/container-concurrency", "-1"),
        ("podswell.dev/compat", "Knative"),
        ("max-scale-down", "3"),
        ("podswell.dev/sorce", "x"),
        ("podswell.dev/max-scale", "3"),
        ("tick-interval", "2s"),
    ]);
    let spec = ScalerSpec {
        stable_window: Duration::from_secs(30),
        panic_window: Duration::from_secs(3),
        ..ScalerSpec::default()
    };
    assert_eq!((&config.spec, config.bounds.min), (&spec, 2), "the alias is not consulted");
    let knative = |key: &str, why: &str| format!("InvalidAnnotation {KN}{key}: {why}");
    let absent = "it counts as absent";
    let unknown = |key: &str| format!("UnknownAnnotation {key}: no such key");
    let words = [
        format!("UnusualSpelling {KN}minScale: is ignored because {KN}min-scale is set"),
        unknown("autoscaling.knative.dev/max-scale-down") + "; it is ignored",
        unknown("autoscaling.knative.dev/tick-interval") + "; it is ignored",
        unknown("podswell.dev/max-scale")
            + &format!("; did you mean {KN}max-scale?; it is ignored"),
        unknown("podswell.dev/sorce") + "; did you mean podswell.dev/source?; it is ignored",
        knative(
            "min-scale",
            "invalid value: ; the default of min-scale in config-autoscaler is used",
        ),
        knative(
            "activation-scale",
            &format!("activation-scale=1 must be greater than 1; {absent}"),
        ),
        knative("target", &format!("invalid value: \\u{{1b}}[31m0\\0; {absent}")),
        knative(
            "window",
            "expected 6s <= 5s <= 1h0m0s; the default of stable-window in config-autoscaler is used",
        ),
        knative(
            "scale-down-delay",
            "\"1500ms\": must be specified with at most second precision; \
             the default of scale-down-delay in config-autoscaler is used",
        ),
        knative(
            "metric",
            &format!("\"cpu\" is none of concurrency, rps, events, backlog; {absent}"),
        ),
        knative(
            "initial-scale",
            "\"4294967296\" is above 2147483647; the default of initial-scale in config-autoscaler is used",
        ),
        format!(
            "InvalidAnnotation podswell.dev/container-concurrency: \"-1\" is not an integer in \
             0 ..= 2147483647; {absent}"
        ),
        format!(
            "InvalidAnnotation podswell.dev/compat: \"Knative\" is neither knative nor default; {absent}"
        ),
    ];
    assert_eq!(complaints(&config), words);
}

#[test]
fn unusual_spellings_work_and_are_reported() {
    let cases = [
        ("target", "1e2", "\"1e2\" is read as 100"),
        ("target", "1_00", "\"1_00\" is read as 100"),
        ("target", "0x64p0", "\"0x64p0\" is read as 100"),
        ("target", "+100", "\"+100\" is read as 100"),
        ("target", "100.", "\"100.\" is read as 100"),
        ("window", "1.5m", "\"1.5m\" is read as 1m30s"),
        ("window", "90000ms", "\"90000ms\" is read as 1m30s"),
        ("min-scale", "+5", "\"+5\" is read as 5"),
        ("min-scale", "05", "\"05\" is read as 5"),
    ];
    for (key, value, words) in cases {
        let config = default_world().config(&[(key, value)]);
        let problem = format!("UnusualSpelling {KN}{key}: {words}");
        assert_eq!(complaints(&config), [problem], "{value}");
    }
    for (key, value) in [
        ("target", "100.50"),
        ("target", "0.5"),
        ("window", "1h"),
        ("window", "1m30s"),
        ("window", "90s"),
        ("scale-to-zero-pod-retention-period", "500ms"),
        ("scale-to-zero-pod-retention-period", "0"),
        ("target-burst-capacity", "-1"),
    ] {
        assert_eq!(complaints(&default_world().config(&[(key, value)])), [""; 0], "{key} {value}");
    }
}

#[test]
fn huge_values_are_cut_in_messages() {
    let huge = "9".repeat(262_144);
    let keys = [
        "target",
        "window",
        "min-scale",
        "metric",
        "class",
        "podswell.dev/mode",
        "podswell.dev/source",
        "podswell.dev/scrape",
        "podswell.dev/source-match",
    ];
    for key in keys {
        let config = default_world().config(&[OURS, (key, &huge)]);
        assert!(!complaints(&config).is_empty() || key == "class", "{key}");
        for problem in &config.problems {
            assert!(problem.to_string().len() < 500, "{key}: {}", problem.to_string().len());
        }
    }
    let many: Vec<(String, String)> =
        (0..500).map(|i| (format!("{KN}no-such-key-{i}"), String::new())).collect();
    let config = default_world().resolve_map(&many.into_iter().collect()).unwrap().config;
    assert_eq!(config.problems.len(), 32);
}

#[test]
fn points_are_the_listed_sources_in_order() {
    let mut world = World {
        sources: BTreeMap::from([
            source("gateway", ScalingMetric::Concurrency, 1),
            source("prometheus", ScalingMetric::Concurrency, 15),
            source("orders", ScalingMetric::Backlog, 5),
        ]),
        ..World::default()
    };
    let Resolved { config, wiring } = world.resolve(&[
        OURS,
        SCRAPE_BUSY,
        ("podswell.dev/source", "prometheus, scrape,gateway"),
        ("podswell.dev/source-match", "queue=orders"),
    ]);
    let names: Vec<&str> = config.points.iter().map(|point| &*point.source).collect();
    assert_eq!(names, ["prometheus", SCRAPE, "gateway"]);
    assert_eq!(
        wiring.sources.iter().map(|name| &**name).collect::<Vec<_>>(),
        ["prometheus", "gateway"]
    );
    assert_eq!(wiring.source_match, plain(&[("queue", "orders")]));
    assert_eq!(wiring.scrape.unwrap().format, ScrapeFormat::InFlight { metric: "busy".to_owned() });
    assert_eq!(wiring.stable_window, Duration::from_secs(60));
    assert_eq!(config.points[0].stale_after, Duration::from_millis(37_500));
    assert_eq!(config.points[1].stale_after, Duration::from_millis(2500));
    assert_eq!(codes(&config), [Code::DefaultMaxScale]);

    // A rate over more than the stable window cannot be averaged.
    let range = Some(Duration::from_secs(61));
    world
        .sources
        .insert("wide".into(), SourceFacts { range, ..source("wide", ScalingMetric::Rps, 15).1 });
    let config = world.config(&[OURS, ("metric", "rps"), ("podswell.dev/source", "wide")]);
    assert_eq!(codes(&config), [Code::RangeAboveWindow, Code::NoSource, Code::DefaultMaxScale]);
    let annotations = [OURS, ("metric", "rps"), ("podswell.dev/source", "wide"), ("window", "2m")];
    assert_eq!(world.config(&annotations).points.len(), 1);
}

/// What a case adds to our class, how many points are left, and the complaints.
type PointCase<'a> = (Pairs<'a>, usize, &'a [&'a str]);

/// Checks cases in a world with the sources `gateway` and `orders`.
fn check_points(cases: &[PointCase<'_>]) {
    let world = World {
        sources: BTreeMap::from([
            source("gateway", ScalingMetric::Concurrency, 1),
            source("orders", ScalingMetric::Backlog, 5),
        ]),
        ..World::default()
    };
    for (annotations, points, words) in cases {
        let annotations: Vec<_> =
            std::iter::once(OURS).chain(annotations.iter().copied()).collect();
        let Resolved { config, wiring } = world.resolve(&annotations);
        assert_eq!(complaints(&config), *words, "{annotations:?}");
        assert_eq!(config.points.len(), *points, "{annotations:?}");
        assert_eq!(wiring.sources.len() + usize::from(wiring.scrape.is_some()), *points);
    }
}

#[test]
fn sources_that_cannot_measure_are_left_out() {
    check_points(&[
        (
            &[("podswell.dev/source", "gatway")],
            0,
            &[
                "UnknownSource podswell.dev/source: no source \"gatway\"; did you mean gateway?; it is skipped",
            ],
        ),
        (
            &[("podswell.dev/source", "orders,gateway")],
            1,
            &[
                "SourceKindMismatch podswell.dev/source: the source orders measures backlog, the target \
               concurrency; it is skipped",
            ],
        ),
        (
            &[("podswell.dev/source", "gateway,,gateway")],
            1,
            &[
                "InvalidAnnotation podswell.dev/source: \"gateway,,gateway\" holds an empty name; it is skipped",
                "InvalidAnnotation podswell.dev/source: \"gateway\" is named twice; it is skipped",
            ],
        ),
        (
            &[("metric", "backlog"), ("podswell.dev/source", "orders")],
            0,
            &[
                "TargetRequired autoscaling.knative.dev/metric: backlog needs the class kpa.podswell.dev and \
               the annotation autoscaling.knative.dev/target; nothing is measured, replicas stay",
            ],
        ),
        (&[("metric", "backlog"), ("target", "5"), ("podswell.dev/source", "orders")], 1, &[]),
    ]);
    // Without our class there is no backlog.
    let world = World {
        sources: BTreeMap::from([source("orders", ScalingMetric::Backlog, 5)]),
        ..World::default()
    };
    let config =
        world.config(&[("metric", "backlog"), ("target", "5"), ("podswell.dev/source", "orders")]);
    assert_eq!((codes(&config)[0], config.points.len()), (Code::TargetRequired, 0));
}

#[test]
fn labels_that_choose_nothing_leave_named_sources_out() {
    let gateway = ("podswell.dev/source", "gateway");
    let skipped = "named sources are skipped";
    for (labels, why, fallback) in [
        ("queue", "\"queue\" is not a label=value pair", skipped),
        ("", "\"\" is not a label=value pair", skipped),
        ("queue=", "queue= must have a value of 1 ..= 256 visible bytes", skipped),
        ("9a=b", "\"9a\" is not the name of a label", skipped),
        ("queue=a,queue=b", "the label queue stands there twice", skipped),
        ("a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1", "more than 8 labels", skipped),
        ("pod=a", "the source gateway does not let workloads choose by pod", "it is skipped"),
    ] {
        let words = format!("InvalidAnnotation podswell.dev/source-match: {why}; {fallback}");
        check_points(&[(&[gateway, ("podswell.dev/source-match", labels)], 0, &[&words])]);
    }
    check_points(&[(&[gateway, ("podswell.dev/source-match", "queue=a=b")], 1, &[])]);
}

#[test]
fn scrapes_that_cannot_measure_are_left_out() {
    check_points(&[
        (
            &[("podswell.dev/source", "scrape")],
            0,
            &["UnknownSource podswell.dev/source: scrape needs podswell.dev/scrape; it is skipped"],
        ),
        (
            &[("podswell.dev/source", "gateway"), SCRAPE_BUSY],
            1,
            &[
                "InvalidAnnotation podswell.dev/scrape: podswell.dev/source does not name scrape; pods are \
               not scraped",
            ],
        ),
        (
            &[SCRAPE_BUSY, ("metric", "rps")],
            0,
            &[
                "SourceKindMismatch podswell.dev/scrape: what it reads is not rps; pods are not scraped",
            ],
        ),
        (
            &[("podswell.dev/scrape", "{}")],
            0,
            &[
                "InvalidAnnotation podswell.dev/scrape: exactly one of inFlight, started with finished, \
               requests and format: queue-proxy is needed; pods are not scraped",
            ],
        ),
        (&[("podswell.dev/scrape", r#"{"format":"queue-proxy"}"#), ("metric", "rps")], 1, &[]),
    ]);
}

#[test]
fn compat_needs_sources_of_one_second() {
    let mut world = World {
        sources: BTreeMap::from([
            source("gateway", ScalingMetric::Concurrency, 1),
            source("prometheus", ScalingMetric::Concurrency, 15),
        ]),
        ..World::default()
    };
    let knative = ("podswell.dev/compat", "knative");
    let Resolved { config, wiring } = world.resolve(&[OURS, knative, SCRAPE_BUSY]);
    assert_eq!(
        (config.semantics, config.bounds.max, wiring.sample_pods),
        (Semantics::Knative, 0, true)
    );
    let slow = [OURS, knative, ("podswell.dev/source", "gateway,prometheus")];
    let Resolved { config, wiring } = world.resolve(&slow);
    assert_eq!(
        (config.semantics, config.bounds.max, wiring.sample_pods),
        (Semantics::Default, 100, false)
    );
    assert_eq!(
        complaints(&config),
        [
            "CompatNeedsOneSecond podswell.dev/compat: knative needs one sample a second, the source \
         prometheus gives one every 15 s; the default semantics decide"
        ]
    );
    world.process.compat = Semantics::Knative;
    let config = world.config(&[OURS, SCRAPE_BUSY]);
    assert_eq!(
        (config.semantics, origin(&config, &keys::COMPAT)),
        (Semantics::Knative, From::Flag)
    );
    let config = world.config(&[OURS, SCRAPE_BUSY, ("podswell.dev/compat", "default")]);
    assert_eq!(
        (config.semantics, origin(&config, &keys::COMPAT)),
        (Semantics::Default, From::Annotation)
    );
}

#[test]
fn the_way_to_zero_comes_from_the_cluster_and_the_deployment() {
    let config_map =
        plain(&[("enable-scale-to-zero", "false"), ("scale-to-zero-pod-retention-period", "1m")]);
    let progress_deadline = Some(Duration::from_secs(120));
    let world = World { config_map, progress_deadline, ..World::default() };
    let zero = world.config(&[OURS]).zero;
    assert!(!zero.enabled);
    assert_eq!(zero.retention, Duration::from_secs(60));
    assert_eq!(zero.activation_timeout, Duration::from_secs(150));
    let zero = world.config(&[OURS, ("scale-to-zero-pod-retention-period", "0")]).zero;
    assert_eq!(zero.retention, Duration::ZERO, "an annotation of 0 cancels the cluster's");
}

/// What a case says in `podswell.dev/measures` and beside it, each measure as `name=target by points`, and
/// the complaints.
type MeasureCase<'a> = (&'a str, Pairs<'a>, &'a [&'a str], &'a [&'a str]);

fn measures_world() -> World {
    let (north, mut facts) = source("north", ScalingMetric::Concurrency, 5);
    facts.share = Share::Additive;
    let mut named = source("invoices", ScalingMetric::Backlog, 5);
    named.1.selectable_labels.clear();
    World {
        sources: BTreeMap::from([
            (north, facts),
            source("gateway", ScalingMetric::Concurrency, 1),
            source("orders", ScalingMetric::Backlog, 5),
            source("published", ScalingMetric::Events, 5),
            named,
        ]),
        ..World::default()
    }
}

fn measured(config: &TargetConfig) -> Vec<String> {
    let names = |points: &[super::super::source::PointConfig]| {
        points.iter().map(|point| &*point.source).collect::<Vec<_>>().join("/")
    };
    let line = |view: super::super::config::MeasureView<'_>| {
        let companion = view.companion.map(|one| format!("+{}", names(&one.points)));
        format!(
            "{}={} by {}{}",
            view.name,
            view.spec.target,
            names(view.points),
            companion.unwrap_or_default()
        )
    };
    config.measures().map(line).collect()
}

fn check_measures(cases: &[MeasureCase<'_>]) {
    for (measures, beside, expected, words) in cases {
        let mut annotations = vec![OURS, ("podswell.dev/measures", *measures)];
        annotations.extend(beside.iter().copied());
        let config = measures_world().config(&annotations);
        assert_eq!(measured(&config), *expected, "{measures}");
        assert_eq!(complaints(&config), *words, "{measures}");
    }
}

#[test]
fn each_measure_has_its_own_target_and_sources() {
    check_measures(&[
        (
            "concurrency, backlog@orders=50",
            &[SCRAPE_BUSY],
            &["concurrency=70 by scrape", "backlog@orders=50 by orders"],
            &[],
        ),
        (
            "concurrency@gateway/scrape, backlog@orders = 50",
            &[SCRAPE_BUSY, ("target", "10")],
            &["concurrency@gateway/scrape=7 by gateway/scrape", "backlog@orders=50 by orders"],
            &[],
        ),
        (
            "backlog@orders,concurrency",
            &[("target", "30"), ("podswell.dev/source", "gateway,north")],
            &["backlog@orders=30 by orders", "concurrency=70 by gateway/north"],
            &[],
        ),
        (
            "events@published+orders/invoices=20",
            &[("podswell.dev/drain-time", "2m"), ("podswell.dev/activation-value", "5")],
            &["events@published+orders/invoices=14 by published+orders/invoices"],
            &[],
        ),
        (
            "events@published+orders=20, backlog@orders=50",
            &[("target-utilization-percentage", "50")],
            &["events@published+orders=10 by published+orders", "backlog@orders=25 by orders"],
            &[],
        ),
        (
            "backlog@orders=50,backlog@invoices=10",
            &[],
            &["backlog@orders=50 by orders", "backlog@invoices=10 by invoices"],
            &[],
        ),
    ]);
}

#[test]
fn an_entry_that_cannot_be_read_is_a_measure_that_is_not_heard() {
    const KEY: &str = "InvalidAnnotation podswell.dev/measures: ";
    const HOLDS: &str = "; nothing is lowered until it is mended";
    for (entry, why) in [
        ("", "\"\" is none of concurrency, rps, events, backlog"),
        (
            "backlogs@orders=50",
            "\"backlogs\" is none of concurrency, rps, events, backlog; did you mean backlog?",
        ),
        ("backlog@orders=0", "the target \"0\" is not a number of at least 0.01"),
        ("backlog@orders=NaN", "the target \"NaN\" is not a number of at least 0.01"),
        ("backlog@=5", "\"\" is not the name of a source"),
        ("backlog@or ders=5", "\"or ders\" is not the name of a source"),
        ("backlog@orders/orders=5", "orders is named twice in one measure"),
        (
            "backlog@orders+invoices=5",
            "backlog has no companion: only events are measured beside what waits",
        ),
    ] {
        let words = format!("{KEY}{why}{HOLDS}");
        check_measures(&[(
            &format!("concurrency@gateway,{entry}"),
            &[],
            &["concurrency@gateway=70 by gateway", "measure-2=70 by "],
            &[&words],
        )]);
    }
    let many = vec!["concurrency@gateway"; 1].into_iter().chain((1..=9).map(|_| "x"));
    let config = measures_world()
        .config(&[OURS, ("podswell.dev/measures", &many.collect::<Vec<_>>().join(","))]);
    assert_eq!(config.measures().count(), 8);
    check_measures(&[(
        "concurrency@gateway,concurrency@gateway=5",
        &[],
        &["concurrency@gateway=70 by gateway"],
        &[
            "InvalidAnnotation podswell.dev/measures: concurrency@gateway is named twice; the first one counts",
        ],
    )]);
}

#[test]
fn a_measure_without_a_source_or_a_target_is_named() {
    check_measures(&[
        (
            "concurrency@gateway, backlog@order=50",
            &[],
            &["concurrency@gateway=70 by gateway", "backlog@order=50 by "],
            &[
                "UnknownSource podswell.dev/measures: no source \"order\"; did you mean orders?; it is skipped",
            ],
        ),
        (
            "concurrency@orders",
            &[],
            &["concurrency@orders=70 by "],
            &[
                "SourceKindMismatch podswell.dev/measures: the source orders measures backlog, the target \
                 concurrency; it is skipped",
            ],
        ),
        (
            "concurrency@gateway, backlog@orders",
            &[("target", "30")],
            &["concurrency@gateway=21 by gateway", "backlog@orders=1 by "],
            &[
                "TargetRequired podswell.dev/measures: backlog@orders needs the class kpa.podswell.dev and a \
                 target, for example backlog@orders=50; nothing is lowered until it is mended",
            ],
        ),
        (
            "concurrency@gateway=10",
            &[("target", "30"), ("metric", "rps"), ("podswell.dev/source", "orders")],
            &["concurrency@gateway=7 by gateway"],
            &[
                "InvalidAnnotation autoscaling.knative.dev/metric: podswell.dev/measures says what is \
                 measured; it is ignored",
                "InvalidAnnotation autoscaling.knative.dev/target: podswell.dev/measures gives the first \
                 measure its own target; it is ignored",
                "SourceKindMismatch podswell.dev/source: no measure takes \"orders\"; it is skipped",
            ],
        ),
        (
            "concurrency, rps",
            &[("podswell.dev/scrape", r#"{"format":"queue-proxy"}"#)],
            &["concurrency=70 by scrape", "rps=140 by "],
            &[],
        ),
    ]);
}

#[test]
fn each_measure_without_a_point_is_named() {
    let measures = ("podswell.dev/measures", "concurrency@gateway,backlog@order=50,rps");
    let problems = measures_world().config(&[OURS, measures]).problems;
    let without = problems.iter().filter(|problem| problem.code == Code::NoSource);
    assert_eq!(
        without.map(ToString::to_string).collect::<Vec<_>>(),
        [
            "NoSource podswell.dev/measures: backlog@order: none of the sources can be used; nothing is \
             lowered",
            "NoSource podswell.dev/measures: rps: neither a source nor a scrape configuration says where the \
             load is read; nothing is lowered",
        ]
    );
}

#[test]
fn keys_that_no_measure_reads_are_named() {
    let unread =
        |key: &str, value: &str| complaints(&measures_world().config(&[OURS, (key, value)]));
    assert_eq!(
        unread("podswell.dev/activation-value", "5"),
        [
            "InvalidAnnotation podswell.dev/activation-value: needs a measure of events or backlog; it is ignored"
        ]
    );
    assert_eq!(
        unread("podswell.dev/drain-time", "5m"),
        [
            "InvalidAnnotation podswell.dev/drain-time: needs a measure of events with a companion; it is ignored"
        ]
    );
    for (key, value) in [("drain-time", "0s"), ("drain-time", "61m"), ("activation-value", "-1")] {
        let key = format!("podswell.dev/{key}");
        let measures = ("podswell.dev/measures", "events@published+orders=20");
        let config = measures_world().config(&[OURS, measures, (&key, value)]);
        assert_eq!(codes(&config).first(), Some(&Code::InvalidAnnotation), "{key} {value}");
        let companion = config.companion.expect("a companion");
        assert_eq!(companion.drain_time, Duration::from_secs(60));
        assert_eq!(config.zero.activation_value, 0);
    }
}

#[test]
fn labels_are_for_the_sources_that_list_them() {
    let world = measures_world();
    let resolved = |labels| {
        world.resolve(&[
            OURS,
            ("podswell.dev/measures", "concurrency@gateway, backlog@invoices=5, backlog@orders=50"),
            ("podswell.dev/source-match", labels),
        ])
    };
    let Resolved { config, wiring } = resolved("queue=orders");
    assert_eq!((complaints(&config), config.further.len()), (Vec::<String>::new(), 2));
    assert_eq!((wiring.sources.len(), wiring.match_is_shared), (3, true));
    assert_eq!(wiring.source_match, plain(&[("queue", "orders")]));
    assert_eq!(
        complaints(&resolved("pod=a").config),
        [
            "InvalidAnnotation podswell.dev/source-match: no source of the target lets workloads choose by \
             pod; it is skipped"
        ]
    );
}

/// Values that are odd in every way that a parser may trip over.
fn odd_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[-+]?[0-9]{0,11}",
        "[-+]?[0-9]{0,4}(\\.[0-9]{0,3})?([eE][-+]?[0-9]{1,4})?",
        "([0-9]{1,5}(h|m|s|ms|us)){0,3}",
        "(NaN|[-+]?[iI]nf(inity)?|concurrency|rps|events|backlog|linear|apply|knative|scrape|a,b)",
        "((concurrency|rps|events|backlog)(@[a-z]{1,3}(/[a-z]{1,3})?)?(\\+[a-z]{1,3})?(=[0-9.]{1,4})?,? ?){1,10}",
        "(kpa|hpa)\\.(podswell\\.dev|autoscaling\\.knative\\.dev)",
        "\\{(\"(port|path|inFlight|requests)\":(\"/?[a-z]{0,6}\"|[0-9]{1,6}),?){0,3}\\}",
        any::<String>(),
    ]
}

fn odd_annotations(most: usize) -> impl Strategy<Value = BTreeMap<String, String>> {
    let names = KEYS.iter().filter(|key| key.is_annotation()).flat_map(Key::spellings);
    let key = prop_oneof![
        20 => proptest::sample::select(names.collect::<Vec<_>>()),
        1 => "(autoscaling\\.knative|podswell)\\.dev/[a-zA-Z-]{0,20}",
    ];
    proptest::collection::btree_map(key, odd_value(), 0..=most)
}

proptest! {
    #[test]
    fn whatever_is_written_the_configuration_is_sound(
        annotations in odd_annotations(12),
        template in odd_annotations(12),
        namespace in odd_annotations(12),
        owned_by_knative in any::<bool>(),
        freeze in any::<bool>(),
    ) {
        let mut world = World { namespace, template, owned_by_knative, ..World::default() };
        world.process.freeze = freeze;
        let Some(Resolved { config, wiring }) = world.resolve_map(&annotations) else { return Ok(()) };
        let (spec, bounds) = (&config.spec, config.bounds);
        prop_assert!(spec.target.is_finite() && spec.target >= 0.01);
        prop_assert!(spec.total.is_finite() && spec.total > 0.0);
        prop_assert!(spec.panic_threshold >= 1.1 && spec.panic_threshold <= 10.0);
        let burst = spec.target_burst_capacity;
        prop_assert!(burst.is_finite() && (burst >= 0.0 || (burst + 1.0).abs() < f64::EPSILON));
        prop_assert!((6..=3600).contains(&spec.stable_window.as_secs()));
        prop_assert_eq!(spec.stable_window.subsec_nanos() + spec.panic_window.subsec_nanos(), 0);
        prop_assert!(spec.panic_window <= spec.stable_window && spec.panic_window.as_secs() >= 1);
        prop_assert!(spec.scale_down_delay.as_secs() <= 3600);
        prop_assert!(spec.max_scale_up_rate > 1.0 && spec.max_scale_up_rate.is_finite());
        prop_assert!(spec.max_scale_down_rate > 1.0 && spec.max_scale_down_rate.is_finite());
        prop_assert!(spec.initial_scale >= 1 && spec.activation_scale >= 0);
        prop_assert!(bounds.min >= 0 && bounds.max >= 0);
        prop_assert!(bounds.max == 0 || bounds.min <= bounds.max);
        prop_assert!(bounds.max > 0 || config.semantics == Semantics::Knative);
        prop_assert!(!freeze || !config.mode.allows(1, 2));
        let used: BTreeSet<&str> = config
            .measures()
            .flat_map(|view| view.points.iter().chain(view.companion.into_iter().flat_map(|one| &one.points)))
            .map(|point| &*point.source)
            .collect();
        prop_assert_eq!(used.len(), wiring.sources.len() + usize::from(wiring.scrape.is_some()));
        let names: BTreeSet<_> = config.measures().map(|view| view.name.clone()).collect();
        prop_assert_eq!(names.len(), config.measures().count());
        for view in config.measures() {
            prop_assert!(view.spec.target.is_finite() && view.spec.target >= 0.01);
            prop_assert!(view.companion.is_none_or(|companion| (1..=3600).contains(&companion.drain_time.as_secs())));
        }
        prop_assert!(config.problems.len() <= 32);
        for problem in &config.problems {
            prop_assert!(problem.to_string().len() < 2000);
            prop_assert!(!problem.to_string().chars().any(char::is_control));
        }
        let _ = settings(&config);
        let _ = validate(&annotations, &ClusterDefaults::default());
    }

    #[test]
    fn what_the_webhook_accepts_is_not_refused(annotations in odd_annotations(2)) {
        let knative: BTreeMap<String, String> =
            annotations.into_iter().filter(|(key, _)| key.starts_with(KN)).collect();
        prop_assume!(validate(&knative, &ClusterDefaults::default()).is_ok());
        let Some(resolved) = default_world().resolve_map(&knative) else { return Ok(()) };
        for problem in resolved.config.problems.iter().filter(|p| p.code == Code::InvalidAnnotation) {
            let stricter = ["finite", "is none of", "is neither", "is above", "is set on the pod template", "is not kpa.podswell.dev"];
            prop_assert!(stricter.iter().any(|words| problem.why.contains(words)), "{}", problem);
        }
    }
}

/// A world with a source that asks what workloads bring, and the namespaces that may.
fn open_world(allowed: &[&str]) -> World {
    let mut world = World::default();
    let (name, facts) = source("own", ScalingMetric::Concurrency, 15);
    let facts = SourceFacts { query_label: Some("namespace".to_owned()), ..facts };
    world.sources.insert(name, SourceFacts { selectable_labels: Vec::new(), ..facts });
    world.sources.extend([source("queue", ScalingMetric::Concurrency, 15)]);
    world.process.query_namespaces = allowed.iter().map(|name| (*name).to_owned()).collect();
    world
}

#[test]
fn a_query_needs_the_administrator_s_word() {
    let wish = [
        OURS,
        ("max-scale", "9"),
        ("podswell.dev/source", "own"),
        ("podswell.dev/query", "sum(x{queue=\"$deployment\"})"),
    ];
    for allowed in [&[][..], &["shops", "blog"]] {
        let Resolved { config, wiring } = open_world(allowed).resolve(&wish);
        assert_eq!(codes(&config), [Code::QueryNotAllowed], "{:?}", config.problems);
        assert!(config.problems[0].why.contains("the namespace shop"), "{:?}", config.problems);
        assert_eq!(config.unmeasured(), Reason::QueryNotAllowed);
        assert!(config.points.is_empty() && wiring.queries.is_empty());
    }
    let Resolved { config, wiring } = open_world(&["shop"]).resolve(&wish);
    assert_eq!(codes(&config), []);
    assert_eq!(&*config.points[0].source, "own");
    let asked = "sum(x{namespace=\"shop\",queue=\"cart\"})";
    assert_eq!(&*wiring.queries["own"].text, asked);
    // The source is stale after 37.5 s.
    let past = "sum(last_over_time(x{namespace=\"shop\",queue=\"cart\"}[37500ms]))";
    assert_eq!(&*wiring.queries["own"].past, past);
}

#[test]
fn a_query_that_cannot_be_asked_has_one_reason() {
    for (query, sources, expected) in [
        ("x{namespace=\"other\"}", "own", Code::ForeignSeries),
        ("x} or up{namespace=\"other\"", "own", Code::InvalidAnnotation),
        ("rate(x[2m])", "own", Code::RangeAboveWindow),
        ("sum(x", "own", Code::InvalidAnnotation),
        ("x", "queue", Code::InvalidAnnotation),
        ("", "own", Code::InvalidAnnotation),
    ] {
        let config = open_world(&["shop"]).config(&[
            OURS,
            ("max-scale", "9"),
            ("podswell.dev/source", sources),
            ("podswell.dev/query", query),
        ]);
        let found: Vec<_> =
            codes(&config).into_iter().filter(|code| *code != Code::NoSource).collect();
        assert_eq!(found, [expected], "{query}: {:?}", config.problems);
    }
    let config = open_world(&["shop"]).config(&[OURS, ("podswell.dev/source", "own")]);
    assert!(complaints(&config)[0].contains("podswell.dev/query"), "{:?}", config.problems);
}

#[test]
fn the_range_of_a_query_is_that_of_its_point() {
    let config = open_world(&["shop"]).config(&[
        OURS,
        ("podswell.dev/source", "own"),
        ("podswell.dev/query", "sum(rate(x[30s])) + max_over_time(y[10s])"),
    ]);
    assert_eq!(config.points[0].range, Some(Duration::from_secs(30)));
}

/// Whatever a tenant writes into an annotation, it reaches its own series or none, with one reason.
#[test]
fn nobody_reaches_another_tenant_s_series() {
    let injection = "queue=x\"} or up{namespace=\"other";
    for (key, value, expected) in [
        ("podswell.dev/source-match", "namespace=other", Code::ForeignSeries),
        ("podswell.dev/source-match", "queue=orders,exported_namespace=other", Code::ForeignSeries),
        ("podswell.dev/source-match", injection, Code::ForeignSeries),
        ("podswell.dev/source-match", "queue=a`}) or up{b=`c", Code::ForeignSeries),
        ("podswell.dev/source-match", "secret=x", Code::InvalidAnnotation),
        ("podswell.dev/source", "queue{namespace=\"other\"}", Code::UnknownSource),
        (
            "podswell.dev/measures",
            "concurrency@queue{namespace=\"other\"}=5",
            Code::InvalidAnnotation,
        ),
        ("podswell.dev/measures", "events@a+up{namespace=\"b\"}=5", Code::InvalidAnnotation),
    ] {
        let mut annotations = vec![OURS, ("max-scale", "9"), ("target", "50"), (key, value)];
        if key == "podswell.dev/source-match" {
            annotations.push(("podswell.dev/source", "queue"));
        }
        let Resolved { config, wiring } = open_world(&[]).resolve(&annotations);
        assert!(codes(&config).contains(&expected), "{value}: {:?}", config.problems);
        assert!(config.points.is_empty() && wiring.sources.is_empty(), "{value}: {wiring:?}");
    }
    // A brace of a route is no query.
    let route =
        [OURS, ("podswell.dev/source", "queue"), ("podswell.dev/source-match", "queue=/a/{id}")];
    assert_eq!(open_world(&[]).config(&route).points.len(), 1);
}

#[test]
fn a_pod_may_claim_a_million_targets_or_what_the_administrator_says() {
    let mut strict = default_world();
    strict.process.pod_plausibility_cap = 20;
    assert_eq!(strict.resolve(&[OURS]).wiring.most_per_pod, Some(2000));
    let most = |pairs: Pairs<'_>| default_world().resolve(pairs).wiring.most_per_pod;
    assert_eq!(most(&[OURS]), Some(100_000_000));
    assert_eq!(most(&[OURS, ("target", "0.01")]), Some(10_000));
    assert_eq!(most(&[OURS, ("target", "1e300")]), Some(u64::MAX));
}
