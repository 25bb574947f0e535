//! Floats, annotations and ConfigMaps: what is accepted, what is refused, and in which words.

use std::collections::BTreeMap;

use podswell::core::annotations::validate;
use podswell::core::defaults::ClusterDefaults;
use podswell::core::keys::{KEYS, Key, Kind};
use podswell::core::number::parse_float;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use super::{Oracle, duration_text, pick, random};

const FLOATS: usize = 40_000;
const SETS: usize = 40_000;

/// Up to `most` random characters of an alphabet.
fn some(rng: &mut StdRng, alphabet: &str, most: usize) -> String {
    let alphabet: Vec<char> = alphabet.chars().collect();
    (0..rng.random_range(0..=most)).filter_map(|_| alphabet.choose(rng).copied()).collect()
}

/// Texts that are floats, or nearly.
fn float_text(rng: &mut StdRng) -> String {
    if rng.random_bool(0.1) {
        let words =
            ["nan", "NaN", "+nan", "inf", "-Inf", "+INFINITY", "infi", "", " 5", ".", "1e400"];
        return pick(rng, &words).to_owned();
    }
    let hexadecimal = rng.random_bool(0.5);
    let (prefix, digits, mark) =
        if hexadecimal { ("0x", "0123456789abcdefABCDEF", "pP") } else { ("", "0123456789", "eE") };
    let most = pick(rng, &[2, 5, 25]);
    let mut text = format!("{}{prefix}{}", pick(rng, &["", "+", "-"]), some(rng, digits, most));
    if rng.random_bool(0.5) {
        text = format!("{text}.{}", some(rng, digits, most));
    }
    if rng.random_bool(if hexadecimal { 0.9 } else { 0.3 }) {
        let length = pick(rng, &[1, 2, 3, 4, 5]);
        let exponent = some(rng, "0123456789", length);
        text = format!("{text}{}{}{exponent}", some(rng, mark, 1), pick(rng, &["", "+", "-"]));
    }
    if rng.random_bool(0.3) {
        let at = rng.random_range(0..=text.len());
        text.insert(at, pick(rng, &['_', '_', '.', 'e', 'x', '+', '0', ' ']));
    }
    text
}

fn int_text(rng: &mut StdRng) -> String {
    match rng.random_range(0..4) {
        0 => rng.random_range(-2..30_i32).to_string(),
        1 => rng.random_range(-5_000_000_000..5_000_000_000_i64).to_string(),
        2 => format!("{}{}", some(rng, "+-", 1), some(rng, "0123456789x_ ", 20)),
        _ => pick(rng, &["", "05", "-0", "+3", "1.5", "2147483647", "2147483648", "4294967296x"])
            .to_owned(),
    }
}

/// A value of the kind that a key has, often a sensible one.
fn value(rng: &mut StdRng, key: &Key) -> String {
    let common: &[&str] = match key.kind {
        Kind::Bool => &["true", "false", "T", "0", "yes", "", "tRUE"],
        Kind::Int => return int_text(rng),
        Kind::Duration => {
            &["6s", "5s", "6500ms", "60", "1h", "1h1ns", "0", "-1s", "500ms", "1m30s", "x", ""]
        }
        Kind::Float | Kind::Percent => &[
            "0.01", "0", "1", "-1", "-0.5", "100", "101", "110", "109.9", "1000", "1001", "1_0",
            "x", "",
        ],
        Kind::Word | Kind::Time | Kind::List | Kind::Json | Kind::PromQl => {
            let class = if rng.random_bool(0.5) { "kpa" } else { "hpa" };
            let words = [
                &format!("{class}.autoscaling.knative.dev"),
                "foo.knative.dev",
                "x.example.com",
                "",
                "concurrency",
                "rps",
                "cpu",
                "linear",
                "weighted-exponential",
                "weightedExponential",
            ];
            return pick(rng, &words).to_owned();
        }
    };
    match key.kind {
        Kind::Duration if rng.random_bool(0.4) => duration_text(rng),
        Kind::Float | Kind::Percent if rng.random_bool(0.4) => float_text(rng),
        _ => pick(rng, common).to_owned(),
    }
}

#[test]
fn floats_are_gos() {
    let mut rng = random("floats");
    let mut oracle = Oracle::start();
    let mut valid = 0;
    for _ in 0..FLOATS {
        let text = float_text(&mut rng);
        let theirs = oracle.try_ask(&json!({"op": "float", "text": text}));
        let ours = parse_float(&text).ok().map(|value| {
            if value.is_nan() { "nan".to_owned() } else { format!("{:x}", value.to_bits()) }
        });
        assert_eq!(
            ours.as_deref(),
            theirs.get("bits").and_then(Value::as_str),
            "{text:?}: {theirs}"
        );
        valid += usize::from(ours.is_some());
    }
    assert!(valid > FLOATS / 4, "too few of the texts are floats: {valid}");
}

#[test]
fn refusals_are_knatives() {
    let mut rng = random("annotations");
    let mut oracle = Oracle::start();
    let names: Vec<(&Key, String)> = KEYS
        .iter()
        .flat_map(|key| key.spellings().map(move |spelling| (key, spelling)))
        .filter(|(key, spelling)| key.is_annotation() && spelling.starts_with("autoscaling."))
        .collect();
    let config_keys: Vec<&Key> = KEYS.iter().filter(|key| key.config_map_key().is_some()).collect();
    let (mut refused, mut accepted) = (0, 0);
    for _ in 0..SETS {
        let mut annotations = BTreeMap::new();
        for _ in 0..rng.random_range(0..6) {
            let (key, name) = names.choose(&mut rng).expect("a key");
            annotations.insert(name.clone(), value(&mut rng, key));
        }
        let mut config_map = BTreeMap::new();
        for _ in 0..pick(&mut rng, &[0, 0, 1, 2]) {
            let key = config_keys.choose(&mut rng).expect("a key");
            let name = key.config_map_key().expect("a key of the ConfigMap");
            config_map.insert(name.to_owned(), value(&mut rng, key));
        }
        let question =
            json!({"op": "annotations", "annotations": annotations, "config_map": config_map});
        let theirs = oracle.try_ask(&question);
        let not_finite = |text: &String| parse_float(text).is_ok_and(|value| !value.is_finite());
        let defaults = match ClusterDefaults::parse(&config_map) {
            Ok(defaults) => defaults,
            Err(error) => {
                // What is not finite is refused here, and passes there.
                let repair = config_map.values().any(not_finite);
                assert!(repair || theirs.get("error").is_some(), "{error}: {question}");
                continue;
            }
        };
        let theirs = theirs.get("refused").unwrap_or_else(|| panic!("{question} gave {theirs}"));
        assert_eq!(
            validate(&annotations, &defaults).err().as_deref(),
            theirs.as_str(),
            "{question}"
        );
        if theirs.is_string() { refused += 1 } else { accepted += 1 }
    }
    assert!(
        refused.min(accepted) > SETS / 10,
        "too one-sided: {refused} refused, {accepted} accepted"
    );
}
