//! `--swarm`: drawn scenarios, and the one command that replays a failure.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use super::{Failure, jobs};
use crate::cli::print;
use crate::sim::swarm::{Finding, play};

/// Plays `count` seeds from `first` on; the scenarios of failures are printed, or written to `out`.
pub(super) fn run(first: u64, count: u64, out: Option<&Path>) -> Result<ExitCode, Failure> {
    let (text, is_clean) = hunt(first, count, out, play)?;
    print(&text)?;
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What `play` finds, as text, and whether that is nothing.
fn hunt(
    first: u64,
    count: u64,
    out: Option<&Path>,
    play: impl Fn(u64) -> Result<Option<Finding>, String> + Sync,
) -> anyhow::Result<(String, bool)> {
    let seeds: Vec<u64> = (0..count).map(|seed| first.wrapping_add(seed)).collect();
    let played = jobs::each(&seeds, |seed| play(*seed)).map_err(anyhow::Error::msg)?;
    let findings: Vec<&Finding> = played.iter().flatten().collect();
    let mut text = String::new();
    for finding in &findings {
        text.push_str(&describe(finding, out)?);
    }
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(text, "{count} seeds from {first} on, {} break a promise", findings.len());
    Ok((text, findings.is_empty()))
}

fn describe(finding: &Finding, out: Option<&Path>) -> anyhow::Result<String> {
    let Finding { seed, violations, scenario } = finding;
    let mut text = format!("seed {seed}: podswell simulate --swarm 1 --seed {seed}\n");
    for violation in violations {
        let _ = writeln!(text, "  {violation}");
    }
    let yaml = scenario.to_yaml().map_err(anyhow::Error::msg)?;
    match out {
        Some(folder) => {
            let file = folder.join(format!("swarm-{seed}.yaml"));
            std::fs::create_dir_all(folder)
                .and_then(|()| std::fs::write(&file, yaml))
                .with_context(|| format!("write {}", file.display()))?;
            let _ = writeln!(text, "  made small: {}", file.display());
        }
        None => {
            let _ = write!(text, "  made small:\n{yaml}");
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::files;
    use super::*;
    use crate::cli::{Cli, Verb};
    use crate::sim::check::{Promise, Violation};
    use crate::sim::scenario::Scenario;
    use crate::sim::swarm::draw;

    /// A world in which two seeds break a promise.
    fn two_of_all(seed: u64) -> Option<Finding> {
        let violations = vec![Violation {
            promise: Promise::P1,
            at_ms: 7,
            target: "sim/w0".to_owned(),
            what: "5 → 3".to_owned(),
        }];
        let is_broken = [7, u64::MAX].contains(&seed);
        is_broken.then(|| Finding { seed, violations, scenario: draw(seed) })
    }

    #[test]
    fn the_printed_command_plays_the_failure_again() {
        for (first, seed) in [(5, 7), (u64::MAX - 1, u64::MAX)] {
            let (text, is_clean) = hunt(first, 4, None, |seed| Ok(two_of_all(seed))).unwrap();
            let (told, last) = text.trim_end().rsplit_once('\n').unwrap();
            assert_eq!(last, format!("4 seeds from {first} on, 1 break a promise"));
            assert!(!is_clean && told.contains("\n  P1 at 7 ms, sim/w0: 5 → 3\n"), "{told}");
            let command = told.lines().next().unwrap().strip_prefix(&format!("seed {seed}: "));
            let command = command.unwrap().split(' ');
            let Verb::Simulate(args) = Cli::try_parse_from(command).unwrap().verb else {
                panic!("another verb");
            };
            let (again, _) =
                hunt(args.seed.unwrap(), args.swarm.unwrap(), None, |seed| Ok(two_of_all(seed)))
                    .unwrap();
            assert!(again.starts_with(&format!("{told}\n1 seeds from {seed} on")), "{again}");
            let (_, yaml) = told.split_once("  made small:\n").unwrap();
            let small = Scenario::parse(yaml, &mut |_| Err("no files".to_owned()));
            assert_eq!(small.unwrap(), draw(seed));
        }
        let (text, is_clean) = hunt(100, 3, None, |seed| Ok(two_of_all(seed))).unwrap();
        assert_eq!((text.as_str(), is_clean), ("3 seeds from 100 on, 0 break a promise\n", true));
    }

    #[test]
    fn failures_are_kept_as_scenario_files() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("found");
        let (text, _) = hunt(7, 1, Some(&out), |seed| Ok(two_of_all(seed))).unwrap();
        let file = out.join("swarm-7.yaml");
        assert!(text.contains(&format!("made small: {}\n", file.display())), "{text}");
        assert_eq!(files::load(&file).unwrap(), ("swarm-7".to_owned(), draw(7)));
    }
}
