//! What the real kube-controller-manager did at each sync, the model does, too.
//!
//! `tests/sim/hpa.jsonl` is a recording of kube-controller-manager 1.36 (`make record-hpa`): first the
//! specification of each HPA, then its syncs.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::super::super::scenario::{Behavior, HpaOptions};
use super::{Hpa, Limits, Rules, Sight};

const RECORDING: &str = include_str!("../../../../../tests/sim/hpa.jsonl");
/// A quantity without a unit or in thousandths.
fn quantity(value: &Value) -> f64 {
    let text = value.as_str().unwrap();
    match text.strip_suffix('m') {
        Some(milli) => milli.parse::<f64>().unwrap() / 1000.0,
        None => text.parse().unwrap(),
    }
}

fn int(value: &Value) -> i32 {
    value.as_i64().and_then(|value| i32::try_from(value).ok()).unwrap()
}

/// The rules that a scenario makes of the same specification.
fn rules(spec: &Value) -> Rules {
    let behavior = match spec.get("behavior") {
        Some(behavior) => serde_json::from_value(behavior.clone()).unwrap(),
        None => Behavior::None,
    };
    let target = quantity(&spec["metrics"][0]["external"]["target"]["averageValue"]);
    let limits = Limits { min: int(&spec["minReplicas"]), max: int(&spec["maxReplicas"]) };
    super::super::rules(target, limits, &HpaOptions { behavior, ..HpaOptions::default() })
}

#[test]
fn every_recorded_sync_comes_out_again() {
    let mut hpas: BTreeMap<String, (Rules, Hpa, u32)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for line in RECORDING.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let name = line["hpa"].as_str().unwrap().to_owned();
        if line["spec"].is_object() {
            hpas.insert(name, (rules(&line["spec"]), Hpa::default(), 0));
            continue;
        }
        let (rules, hpa, syncs) = hpas.get_mut(&name).unwrap();
        *syncs += 1;
        let replicas = int(&line["replicas"]);
        let within = (rules.limits.min..=rules.limits.max).contains(&replicas);
        assert_eq!(line["asked"], within, "{line}");
        let sight = Sight {
            now: line["at_ms"].as_u64().unwrap() * 1000,
            replicas,
            current: int(&line["current"]),
            usage_milli: line["metric_milli"].as_u64(),
        };
        let wanted = hpa.sync(sight, rules).unwrap_or(replicas);
        if wanted != int(&line["desired"]) {
            wrong.push(format!("{wanted} instead of {line}"));
        }
    }
    assert!(wrong.is_empty(), "{} syncs differ\n{}", wrong.len(), wrong.join("\n"));
    assert!(hpas.len() >= 8 && hpas.values().all(|(.., syncs)| *syncs >= 60));
}
