//! Drawn scenarios: podswell keeps its promises in all of them.

use podswell::sim::swarm::play;

/// How many seeds one test run plays; `PODSWELL_SWARM` plays more, `PODSWELL_SWARM_FROM` others.
const SEEDS: u64 = 1000;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[test]
fn every_seed_keeps_the_promises() {
    let first = from_environment("PODSWELL_SWARM_FROM", 0);
    let end = first + from_environment("PODSWELL_SWARM", SEEDS);
    let seeds: Vec<u64> = (first..end).collect();
    let findings: Vec<String> = crate::each(&seeds, |seed| play(*seed).unwrap())
        .into_iter()
        .flatten()
        .map(|finding| {
            format!(
                "podswell simulate --swarm 1 --seed {}\n{:#?}\n{}",
                finding.seed,
                finding.violations,
                finding.scenario.to_yaml().unwrap()
            )
        })
        .collect();
    assert!(findings.is_empty(), "{} seeds fail\n{}", findings.len(), findings.join("\n"));
}
