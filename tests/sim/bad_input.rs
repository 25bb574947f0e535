//! What a scenario gets wrong is said in one line with its place.

use podswell::sim::scenario::Scenario;

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
}

#[test]
fn what_is_wrong_is_named_with_its_line_and_key() {
    for (more, line, words) in [
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
    ] {
        let error = error(&format!("{GOOD}{more}"));
        assert!(error.starts_with(&format!("line {line}: ")), "{more}: {error:?}");
        assert!(error.contains(words), "{more}: {error:?}");
        assert!(!error.contains('\n'), "{error:?}");
    }
    assert!(error("about: x\n").contains("seed"), "{}", error("about: x\n"));
    assert!(!error("").is_empty() && !error("[").is_empty() && !error("- a\n").is_empty());
}
