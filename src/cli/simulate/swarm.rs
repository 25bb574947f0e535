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
    let seeds: Vec<u64> = (0..count).map(|seed| first.wrapping_add(seed)).collect();
    let played = jobs::each(&seeds, |seed| play(*seed)).map_err(anyhow::Error::msg)?;
    let findings: Vec<&Finding> = played.iter().flatten().collect();
    for finding in &findings {
        print(&describe(finding, out)?)?;
    }
    print(&format!("{count} seeds from {first} on, {} break a promise\n", findings.len()))?;
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn describe(finding: &Finding, out: Option<&Path>) -> anyhow::Result<String> {
    let Finding { seed, violations, scenario } = finding;
    let mut text = format!("seed {seed}: podswell simulate --swarm 1 --seed {seed}\n");
    for violation in violations {
        // Writing to a String cannot fail, here and below.
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
