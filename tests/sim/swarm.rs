//! Drawn scenarios: podswell keeps its promises in all of them.

use podswell::sim::swarm::play;

/// How many seeds one test run plays; `PODSWELL_SWARM` plays more, `PODSWELL_SWARM_FROM` others.
const SEEDS: u64 = 500;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[test]
fn every_seed_keeps_the_promises() {
    let first = from_environment("PODSWELL_SWARM_FROM", 0);
    let end = first + from_environment("PODSWELL_SWARM", SEEDS);
    let threads = 2;
    let findings: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let seeds = (first..end).filter(|seed| seed % threads == thread);
                    seeds
                        .filter_map(|seed| play(seed).unwrap())
                        .map(|finding| {
                            format!(
                                "podswell simulate --swarm 1 --seed {}\n{:#?}\n{}",
                                finding.seed,
                                finding.violations,
                                finding.scenario.to_yaml().unwrap()
                            )
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(findings.is_empty(), "{} seeds fail\n{}", findings.len(), findings.join("\n"));
}
