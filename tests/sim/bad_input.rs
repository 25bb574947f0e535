//! What a scenario gets wrong is said in one line with its place.

use podswell::sim::scenario::Scenario;
use podswell::sim::simulation::run;

const GOOD: &str = "about: a test
seed: 1
duration: 1m
target: { annotations: { autoscaling.knative.dev/target: \"10\" } }
load:
  - constant: { level: 5 }
";

fn error(text: &str) -> String {
    let mut read = |file: &str| match file {
        "good.csv" => Ok("0,1\n10,2\n".to_owned()),
        "back.csv" => Ok("10,1\n5,2\n".to_owned()),
        "words.csv" => Ok("0,1\nten,2\n".to_owned()),
        "many.json" => Ok(r#"{"data":{"result":[]}}"#.to_owned()),
        _ => Err("No such file".to_owned()),
    };
    match Scenario::parse(text, &mut read) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_good_scenario_is_read() {
    assert_eq!(error(GOOD), "");
    assert_eq!(error(&format!("{GOOD}  - csv: {{ file: good.csv }}\n")), "");
    // What begins in time may go on beyond the end.
    let lasting = "faults: [ { silence: { at: 59s, for: 1h } }, { crash: { at: 0s, pods: 1 } } ]\n";
    assert_eq!(error(&format!("{GOOD}{lasting}")), "");
}

/// What follows a good scenario, the line on which it is wrong, and words of what is said.
const SOMEWHERE: &[(&str, u64, &str)] = &[
    ("sead: 2\n", 7, "sead"),
    ("seed: 2\n", 7, "seed"),
    ("source: { interval: soon }\n", 7, "soon"),
    ("source: { interval: 90s }\n", 7, "interval"),
    ("source: { loss: 1.5 }\n", 7, "1.5"),
    ("cluster:\n  room: -3\n", 8, "room"),
    ("cluster:\n  pod_start: { log-normal: { mean: 3s } }\n", 8, "deviation"),
    ("  - ramp: { to: .nan, over: 1s }\n", 7, "NaN"),
    ("  - sawtooth: { high: 3, period: 0s }\n", 7, "period"),
    ("  - spike: { level: 3, at: 1s, hold: 2s, hight: 4 }\n", 7, "hight"),
    ("  - csv: { file: none.csv }\n", 7, "none.csv"),
    ("  - csv: { file: back.csv }\n", 7, "does not rise"),
    ("  - csv: { file: words.csv }\n", 7, "line 2"),
    ("  - prometheus: { file: many.json }\n", 7, "0 series"),
    ("policies: [ podswell, podswell ]\n", 7, "two are called"),
    ("policies: [ nobody ]\n", 7, "nobody"),
    ("expect:\n  nobody: { lost: 0 }\n", 7, "nobody"),
    ("expect:\n  podswell: { losses: 0 }\n", 8, "losses"),
    ("faults:\n  - silence: { at: 1s, lasts: 2s }\n", 8, "lasts"),
    ("source: { stale_after: 0s }\n", 7, "stale_after"),
    ("cluster: { pod_start: { log-normal: { mean: 0s, deviation: 3s } } }\n", 7, "above 0s"),
    ("config: { stabel-window: 60s }\n", 7, "did you mean stable-window?"),
    ("config:\n  stable-window: soon\n", 8, "stable-window: "),
    ("policies: [ podswell, { hpa: { sync: 0s } } ]\n", 7, "sync must be at least 1s"),
    ("policies:\n  - keda:\n      poll: 100ms\n", 8, "poll must be at least 1s"),
    ("  - constant: { level: 1, at: 9s, until: 3s }\n", 7, "until must be after 9s"),
    ("  - sawtooth: { high: 3, period: 9s }\n  - sawtooth: { high: 3, period: 0s }\n", 8, "period"),
    (
        "  - constant: { level: 3, at: 60s }\n",
        7,
        "constant: begins at 60s, but the scenario ends at 60s",
    ),
    ("  - cron: { level: 3, at: 2m, every: 1s, hold: 1s }\n", 7, "cron: begins at 120s"),
    ("faults: [ { crash: { at: 1m1s, pods: 1 } } ]\n", 7, "crash: begins at 61s"),
    (
        "faults:\n  - silence: { at: 1s, for: 2s }\n  - silence: { at: 90s, for: 2s }\n",
        9,
        "silence: begins at 90s",
    ),
    ("---\nabout: another\n", 8, "a second document begins here"),
    ("  - { constant: { level: 1 }, spike: { level: 1, at: 1s, hold: 1s } }\n", 7, "only one kind"),
];

/// What follows a good scenario, and what is said.
const EXACTLY: &[(&str, &str)] = &[
    ("policies:\n  - hpa:\n      tolerance: 3\n", "line 9: tolerance: 3 is not in 0 ..= 1"),
    (
        "policies: [ { hpa: { behavior: { scaleUp: { stabilizationWindowSeconds: -3 } } } } ]\n",
        "line 7: stabilizationWindowSeconds: must be a whole number in 0 ..= 4294967295",
    ),
    (
        "policies:\n  - hpa:\n      behavior:\n        scaleUp:\n          policies:\n            \
             - { type: Pods, value: 4.5, periodSeconds: 15 }\n",
        "line 12: value: must be a whole number in 0 ..= 4294967295",
    ),
    ("policies: 7\n", "line 7: policies: must be a list"),
    ("policies: [ { podswell: 3 } ]\n", "line 7: podswell: must be a mapping"),
    (
        "policies: [ { fixed: { name: a, pods: -1 } } ]\n",
        "line 7: pods: must be a whole number in 0 ..= 65535",
    ),
    (
        "cluster: { holds: true, capacity: 1e300 }\n",
        "line 7: capacity: 1e300 is not in 0 ..= 1000000000",
    ),
    ("cluster: { capacity: .inf }\n", "line 7: capacity: inf is not in 0 ..= 1000000000"),
    ("cluster: { room: 3, holds: maybe }\n", "line 7: holds: must be true or false"),
    (
        "cluster: { room: 1, write: 5 }\n",
        "line 7: write: invalid type: integer `5`, expected a duration, or one of constant, exponential and log-normal",
    ),
    (
        "cluster: { holds: true, pod_start: { gauss: 3s } }\n",
        "line 7: pod_start: unknown variant `gauss`, expected one of constant, exponential, log-normal",
    ),
    (
        "cluster: { pod_start: { log-normal: { mean: -3s, deviation: 3s } } }\n",
        "line 7: mean: \"-3s\" is not a duration such as 15s or 1m30s, up to 1440h",
    ),
    ("faults: [ { silence: { at: 1s } } ]\n", "line 7: silence: missing field `for`"),
    (
        "faults:\n  - crash:\n      at: 1s\n      pods: -1\n",
        "line 10: pods: must be a whole number in 0 ..= 4294967295",
    ),
    (
        "expect: { podswell: { lost: yes } }\n",
        "line 7: lost: invalid type: string \"yes\", expected a number, or a mapping with at_least or at_most",
    ),
    (
        "expect: { podswell: { lost: { at_least: .nan } } }\n",
        "line 7: at_least: must be a finite number",
    ),
    (
        "expect:\n  podswell:\n    lost:\n      least: 3\n",
        "line 10: lost: unknown field `least`, expected one of at_least, at_most",
    ),
    ("config: { stable-window: [ 3 ] }\n", "line 7: stable-window: must be text"),
    (
        "seed2: 3\nseed3: 3\n",
        "line 7: unknown field `seed2`, expected one of about, seed, duration, detail, target, config, load, unit, arrivals, service, source, cluster, faults, policies, expect",
    ),
];

#[test]
fn what_is_wrong_is_named_with_its_line_and_key() {
    for (more, line, words) in SOMEWHERE {
        let error = error(&format!("{GOOD}{more}"));
        assert!(error.starts_with(&format!("line {line}: ")), "{more}: {error:?}");
        assert!(error.contains(words), "{more}: {error:?}");
        assert!(!error.contains('\n'), "{error:?}");
    }
    for (more, exactly) in EXACTLY {
        assert_eq!(error(&format!("{GOOD}{more}")), *exactly, "{more}");
    }
    let short = GOOD.replace("autoscaling.knative.dev/target", "target");
    assert_eq!(error(&short), "line 4: target: is written autoscaling.knative.dev/target here");
    assert_eq!(error("# nothing\n"), "holds no scenario");
    assert!(error("about: x\n").contains("seed"), "{}", error("about: x\n"));
    assert!(!error("").is_empty() && !error("[").is_empty() && !error("- a\n").is_empty());
}

#[test]
fn what_cannot_be_played_is_refused_before_it_fills_the_memory() {
    for (more, words) in [
        ("  - constant: { level: 1e9 }\n", "load: needs 100000001 pods"),
        (
            "  - constant: { level: 1e8 }\ndetail: requests\n",
            "requests cannot be played one by one",
        ),
    ] {
        let scenario = Scenario::parse(&format!("{GOOD}{more}"), &mut |_| Err(String::new()));
        let why = run("large", &scenario.unwrap(), None).unwrap_err();
        assert!(why.contains(words), "{why}");
    }
}
