//! Scenarios drawn from seeds: load, faults and configuration of every kind, in worlds where podswell must
//! keep its promises. What fails is made as small as it can be.

use std::collections::BTreeMap;

use super::check::{Promise, Violation};
use super::number::real;
use super::random::Random;
use super::scenario::{
    Amount, Answer, Autoscaler, Cluster, Detail, During, EngineOptions, Fault, Lie, Part, Scenario,
    Share, Source, Span, Target, Time,
};
use super::simulation::run;
use crate::core::keys::{self, Key};

/// Every how many seeds a run is repeated to see whether it is the same (P10).
const REPEATS: u64 = 8;
/// The most runs that making a failure smaller may take.
const MOST_TRIES: usize = 300;

/// A seed whose scenario broke a promise.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The seed.
    pub seed: u64,
    /// What was broken, in the scenario as it was drawn.
    pub violations: Vec<Violation>,
    /// The smallest scenario found that still breaks the first of these promises.
    pub scenario: Scenario,
}

/// Plays the scenario of a seed; gives what was found, made small.
///
/// # Errors
/// If the drawn scenario cannot be run, which is a bug.
pub fn play(seed: u64) -> Result<Option<Finding>, String> {
    let scenario = draw(seed);
    let violations = violations(&scenario, seed.is_multiple_of(REPEATS))?;
    let Some(first) = violations.first() else { return Ok(None) };
    let promise = first.promise;
    let scenario = shrink(scenario, &mut |smaller| {
        let broken = self::violations(smaller, promise == Promise::P10);
        broken.is_ok_and(|all| all.iter().any(|one| one.promise == promise))
    });
    Ok(Some(Finding { seed, violations, scenario }))
}

/// What a scenario breaks; `twice` also compares two runs.
fn violations(scenario: &Scenario, twice: bool) -> Result<Vec<Violation>, String> {
    let report = run("swarm", scenario, None)?;
    let mut found: Vec<Violation> =
        report.outcomes.iter().flat_map(|outcome| outcome.violations.clone()).collect();
    if twice {
        let again = run("swarm", scenario, None)?;
        let digests = |report: &super::report::Report| -> Vec<u64> {
            report.outcomes.iter().map(|outcome| outcome.digest).collect()
        };
        found.extend(repeated(&digests(&report), &digests(&again)));
    }
    Ok(found)
}

/// What two runs of the same scenario break by their fingerprints.
pub(crate) fn repeated(once: &[u64], again: &[u64]) -> Option<Violation> {
    (once != again).then(|| Violation {
        promise: Promise::P10,
        at_ms: 0,
        target: "all".to_owned(),
        what: "two runs of the same seed decided differently".to_owned(),
    })
}

/// The scenario of a seed: a time of trouble, then a constant load for long enough that everything must
/// have come to rest.
pub fn draw(seed: u64) -> Scenario {
    let mut random = Random::new(seed, "swarm", 0);
    let knative = random.happens(0.2);
    let mut annotations = BTreeMap::new();
    let (target, rest_s) = draw_annotations(&mut random, &mut annotations);
    let least = annotations.get(&keys::MIN_SCALE.annotation());
    let trouble_s = 60 + random.below(120);
    let source = draw_source(&mut random, knative);
    let may_sleep = source.at_zero && least.is_some_and(|least| least == "0");
    let metric = if source.at_zero && random.happens(0.15) {
        "backlog"
    } else if random.happens(0.2) {
        "rps"
    } else {
        "concurrency"
    };
    annotations.insert(keys::METRIC.annotation(), metric.to_owned());
    let options = EngineOptions { name: None, annotations: BTreeMap::new() };
    let rest_s = rest_s + 3 * source.interval.0.as_secs();
    Scenario {
        about: format!("drawn from the seed {seed}"),
        seed,
        duration: Span::seconds(trouble_s + rest_s),
        detail: Detail::Fluid,
        target: Target {
            annotations,
            // Zero replicas where one is the least are a pause that nothing ends.
            start: u16::try_from(random.below(6)).unwrap_or(1).max(u16::from(!may_sleep)),
            copies: if random.happens(0.15) { 3 } else { 1 },
        },
        config: BTreeMap::new(),
        load: draw_load(&mut random, target, trouble_s),
        unit: super::scenario::Unit::default(),
        arrivals: super::scenario::Arrivals::default(),
        service: Time::Constant(Span::seconds(1)),
        faults: draw_faults(&mut random, trouble_s),
        cluster: draw_cluster(&mut random),
        source,
        policies: vec![if knative {
            Autoscaler::Knative(options)
        } else {
            Autoscaler::Podswell(options)
        }],
        expect: BTreeMap::new(),
    }
}

/// Draws annotations; gives the value per pod and after how many seconds of rest nothing may change.
fn draw_annotations(random: &mut Random, into: &mut BTreeMap<String, String>) -> (f64, u64) {
    let mut set = |key: &Key, value: String| {
        into.insert(key.annotation(), value);
    };
    let mut pick = |choices: &[u64]| random.one_of(choices).unwrap_or(1);
    let window = pick(&[6, 10, 20, 30, 45]);
    let target = pick(&[1, 5, 10, 70, 100]);
    set(&keys::WINDOW, format!("{window}s"));
    set(&keys::TARGET, target.to_string());
    set(&keys::TARGET_UTILIZATION, pick(&[70, 70, 50, 100]).to_string());
    set(&keys::PANIC_WINDOW, pick(&[10, 10, 20, 50, 100]).to_string());
    set(&keys::PANIC_THRESHOLD, pick(&[110, 200, 200, 400]).to_string());
    let min = pick(&[0, 0, 1, 2]);
    set(&keys::MIN_SCALE, min.to_string());
    set(&keys::MAX_SCALE, pick(&[3, 20, 100]).to_string());
    if pick(&[0, 0, 0, 1]) == 1 {
        set(&keys::ACTIVATION_SCALE, pick(&[2, 3]).max(min).to_string());
    }
    set(&keys::MAX_SCALE_UP_RATE, pick(&[2, 10, 1000]).to_string());
    set(&keys::MAX_SCALE_DOWN_RATE, pick(&[2, 2, 10]).to_string());
    if pick(&[0, 0, 1]) == 1 {
        set(&keys::AGGREGATION, "weighted-exponential".to_owned());
    }
    let delay = pick(&[0, 0, 0, 20]);
    set(&keys::SCALE_DOWN_DELAY, format!("{delay}s"));
    let retention = pick(&[0, 0, 15]);
    set(&keys::RETENTION, format!("{retention}s"));
    // Windows, delay and retention, the settling of the checker, falling by halves, and some air.
    (real(target), 4 * window + delay + retention + 120)
}

fn draw_source(random: &mut Random, knative: bool) -> Source {
    let at_zero = random.happens(0.5);
    if knative {
        return Source { at_zero, ..Source::default() };
    }
    let interval = random.one_of(&[1, 1, 1, 5, 15]).unwrap_or(1);
    let delay = match random.below(4) {
        0 => Time::Constant(Span::millis(300)),
        1 => Time::Exponential(Span::millis(200)),
        _ => Time::Constant(Span::default()),
    };
    Source {
        interval: Span::seconds(interval),
        delay,
        loss: Share(if random.happens(0.2) { 0.15 } else { 0.0 }),
        at_zero,
        stamped: random.happens(0.8),
        ..Source::default()
    }
}

fn draw_cluster(random: &mut Random) -> Cluster {
    let pod_start = match random.below(3) {
        0 => Time::LogNormal { mean: Span::seconds(3), deviation: Span::seconds(3) },
        1 => Time::Constant(Span::seconds(8)),
        _ => Time::Constant(Span::seconds(1)),
    };
    let write = if random.happens(0.3) {
        Time::Exponential(Span::millis(400))
    } else {
        Time::Constant(Span::millis(10))
    };
    let room = random.happens(0.15).then_some(12);
    Cluster { pod_start, write, room, ..Cluster::default() }
}

/// A constant load, and up to three parts more that end with the trouble.
fn draw_load(random: &mut Random, target: f64, trouble_s: u64) -> Vec<Part> {
    let mut level = |most: f64| {
        let quiet = random.happens(0.3);
        let pods = random.between(0.0, most);
        // A third of all loads is nothing at all, or exactly so many pods' worth.
        Amount(if quiet { target * pods.floor().min(2.0) } else { target * pods })
    };
    let mut parts = vec![Part::Constant { level: level(8.0), at: Span::default(), until: None }];
    let more = [level(20.0), level(40.0), level(10.0)];
    let until = Some(Span::seconds(trouble_s));
    for level in more.into_iter().take(usize::try_from(random.below(4)).unwrap_or(0)) {
        let at = Span::seconds(random.below(trouble_s / 2));
        parts.push(match random.below(4) {
            0 => Part::Spike {
                level,
                at,
                hold: Span::seconds(1 + random.below(20)),
                rise: Span::default(),
                fall: Span::seconds(random.below(10)),
            },
            1 => Part::Ramp {
                from: Amount(0.0),
                to: level,
                at,
                over: Span::seconds(5 + random.below(60)),
                until,
            },
            2 => Part::Sawtooth {
                low: Amount(0.0),
                high: level,
                period: Span::seconds(3 + random.below(60)),
                at,
                until,
            },
            _ => Part::Constant { level, at, until },
        });
    }
    parts
}

fn draw_faults(random: &mut Random, trouble_s: u64) -> Vec<Fault> {
    let count = random.below(5);
    let mut faults = Vec::new();
    for _ in 0..count {
        // Everything heals before the rest begins.
        let at_s = 5 + random.below(trouble_s - 10);
        let lasts_s = (1 + random.below(40)).min(trouble_s - at_s);
        let (at, lasts) = (Span::seconds(at_s), Span::seconds(lasts_s));
        let during = During { at, lasts };
        let fault = match random.below(16) {
            0 | 1 => Fault::Silence(during),
            2 => Fault::Unreachable(during),
            3 => Fault::Late { at, lasts, by: Span::millis(random.below(20_000)) },
            4 | 5 => {
                let lies = [Lie::Nan, Lie::Infinite, Lie::Negative, Lie::Zero, Lie::TenTimes];
                Fault::Lying { at, lasts, says: random.one_of(&lies).unwrap_or(Lie::Nan) }
            }
            6 => {
                let endpoints = u32::try_from(1 + random.below(3)).unwrap_or(1);
                Fault::Missing { at, lasts, endpoints }
            }
            7 => Fault::Stranger(during),
            8 | 9 => {
                let answers = [
                    Answer::Conflict,
                    Answer::Throttled,
                    Answer::Forbidden,
                    Answer::Broken,
                    Answer::None,
                    Answer::Lost,
                ];
                Fault::Api { at, lasts, answer: random.one_of(&answers).unwrap_or(Answer::None) }
            }
            10 => Fault::LeaderLost(during),
            11 => Fault::Restart(during),
            12 => {
                let by = Span::seconds(random.below(7200));
                let (forwards, backwards) =
                    if random.happens(0.5) { (by, Span::default()) } else { (Span::default(), by) };
                // A step forwards makes stamped samples old for good, so it is taken back.
                faults.push(Fault::ClockStep {
                    at: Span::seconds(at_s + lasts_s),
                    forwards: backwards,
                    backwards: forwards,
                });
                Fault::ClockStep { at, forwards, backwards }
            }
            13 => Fault::Crash { at, pods: u32::try_from(1 + random.below(4)).unwrap_or(1) },
            14 => {
                let replicas = u16::try_from(1 + random.below(30)).unwrap_or(1);
                Fault::Writes { at, replicas }
            }
            _ => match random.below(3) {
                0 => Fault::NoRoom(during),
                1 => Fault::Rival(during),
                _ => Fault::Noise { at, lasts, deviation: Amount(0.3) },
            },
        };
        faults.push(fault);
    }
    faults
}

/// Takes away from a scenario what it does not need to be `broken`.
fn shrink(mut scenario: Scenario, broken: &mut dyn FnMut(&Scenario) -> bool) -> Scenario {
    let mut tries = 0;
    let mut still = |smaller: &Scenario| {
        tries += 1;
        tries <= MOST_TRIES && broken(smaller)
    };
    loop {
        let smaller = candidates(&scenario).into_iter().find(|smaller| still(smaller));
        match smaller {
            Some(smaller) => scenario = smaller,
            None => return scenario,
        }
    }
}

/// Scenarios that are smaller by one step, the largest steps first.
fn candidates(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut without = |change: &dyn Fn(&mut Scenario)| {
        let mut smaller = scenario.clone();
        change(&mut smaller);
        if smaller != *scenario {
            all.push(smaller);
        }
    };
    for fault in 0..scenario.faults.len() {
        without(&|smaller| {
            smaller.faults.remove(fault);
        });
    }
    for part in 1..scenario.load.len() {
        without(&|smaller| {
            smaller.load.remove(part);
        });
    }
    without(&|smaller| smaller.target.copies = 1);
    without(&|smaller| smaller.source.loss = Share(0.0));
    without(&|smaller| smaller.source.delay = Time::Constant(Span::default()));
    without(&|smaller| smaller.source.stamped = true);
    without(&|smaller| smaller.cluster = Cluster::default());
    without(&|smaller| smaller.source.interval = Span::seconds(1));
    for annotation in scenario.target.annotations.keys() {
        without(&|smaller| {
            smaller.target.annotations.remove(annotation);
        });
    }
    without(&|smaller| {
        let seconds = smaller.duration.0.as_secs();
        smaller.duration = Span::seconds((seconds * 3 / 4).max(30));
        smaller.forget_latecomers();
    });
    without(&|smaller| smaller.target.start = smaller.target.start.min(1));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawn_scenario_can_be_written_and_read_again() {
        for seed in 0..50 {
            let scenario = draw(seed);
            let yaml = scenario.to_yaml().unwrap();
            let read = Scenario::parse(&yaml, &mut |_| Err("no files".to_owned()));
            assert_eq!(read.unwrap_or_else(|why| panic!("{why} in\n{yaml}")), scenario);
        }
    }

    #[test]
    fn shrinking_leaves_only_what_breaks_it() {
        let silent = |scenario: &Scenario| {
            scenario.faults.iter().any(|fault| matches!(fault, Fault::Silence(_)))
        };
        let long = |scenario: &Scenario| scenario.duration >= Span::seconds(100);
        let window = keys::WINDOW.annotation();
        let mut shrunk = 0;
        for scenario in (0..200).map(draw) {
            let mut tries = 0;
            let mut broken = |smaller: &Scenario| {
                tries += 1;
                let keeps = smaller.target.annotations.contains_key(&window);
                silent(smaller) && keeps && long(smaller) && smaller.load.len() >= 2
            };
            if !broken(&scenario) {
                continue;
            }
            let small = shrink(scenario, &mut broken);
            shrunk += 1;
            assert_eq!(small.faults.len(), 1, "{small:?}");
            assert_eq!(small.load.len(), 2, "{small:?}");
            assert_eq!(small.target.annotations.keys().collect::<Vec<_>>(), [&window]);
            assert!(silent(&small) && long(&small));
            // A quarter less would be too short, or over before the silence begins.
            let shorter = Span::seconds(small.duration.0.as_secs() * 3 / 4);
            assert!(shorter < Span::seconds(100) || shorter <= small.faults[0].span().0);
            let yaml = small.to_yaml().unwrap();
            let read = Scenario::parse(&yaml, &mut |_| Err("no files".to_owned()));
            assert_eq!(read.unwrap_or_else(|why| panic!("{why} in\n{yaml}")), small);
            assert_eq!((small.target.copies, small.target.start.min(1)), (1, small.target.start));
            assert_eq!(
                (&small.cluster, small.source.interval.0.as_secs()),
                (&Cluster::default(), 1)
            );
            assert!(tries <= MOST_TRIES + 1);
        }
        assert!(shrunk > 20, "{shrunk}");
    }

    #[test]
    fn shrinking_ends_however_long_it_could_go_on() {
        let mut tries = 0;
        let _ = shrink(draw(3), &mut |_| {
            tries += 1;
            true
        });
        assert!(tries <= MOST_TRIES, "{tries}");
    }
}
