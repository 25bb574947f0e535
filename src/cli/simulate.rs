//! `podswell simulate`: plays scenarios, replays recordings, and hunts for broken promises.

mod files;
mod jobs;
mod replay;
mod swarm;
mod sweep;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use self::files::BadInput;
pub(super) use self::files::{complain, load};
use super::explain::ATTENTION;
use super::print;
use super::table::csv_line;
use crate::core::text::columns;
use crate::sim::report::{Report, flat_rows, json, text};
use crate::sim::seeds;

#[derive(Args, Debug)]
pub(super) struct SimulateArgs {
    /// Scenario files, YAML
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    /// Write report.html and a chart for every policy to this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Another seed than the scenario's; then nothing is expected of the outcome
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,

    /// Run under so many seeds and print medians with their 95 % intervals
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=10_000))]
    seeds: Option<u64>,

    /// Compare settings of podswell: every combination of these annotations' values
    #[arg(long, num_args = 1.., value_name = "KEY=VALUE,..", conflicts_with = "seeds")]
    sweep: Vec<String>,

    /// Play so many drawn scenarios and look for broken promises; --seed is the first
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..),
        conflicts_with_all = ["files", "seeds", "sweep", "output"]
    )]
    swarm: Option<u64>,

    /// Replay a recording of podswell run --record; of a rotated one all parts, the oldest first
    #[arg(
        long,
        num_args = 1..,
        value_name = "FILE",
        conflicts_with_all = ["files", "seeds", "sweep", "swarm", "seed", "out", "output"]
    )]
    replay: Vec<PathBuf>,

    /// With --replay: what another value of an annotation would have decided
    #[arg(
        long,
        num_args = 1..,
        value_name = "KEY=VALUE",
        requires = "replay",
        conflicts_with_all = ["files", "seeds", "sweep", "swarm"]
    )]
    set: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table for each scenario
    Table,
    /// A versioned document
    Json,
    /// One line for each policy and seed
    Csv,
}

/// Why nothing was simulated.
enum Failure {
    /// What was asked for makes no sense; one line says where.
    Input(BadInput),
    /// Something else went wrong.
    Other(anyhow::Error),
}

impl From<BadInput> for Failure {
    fn from(bad: BadInput) -> Self {
        Self::Input(bad)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

pub(super) fn simulate(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let outcome = if !args.replay.is_empty() {
        replay::run(&args.replay, &args.set)
    } else if let Some(count) = args.swarm {
        swarm::run(args.seed.unwrap_or(0), count, args.out.as_deref())
    } else {
        play(args)
    };
    match outcome {
        Ok(code) => Ok(code),
        Err(Failure::Other(error)) => Err(error),
        Err(Failure::Input(bad)) => {
            complain(&bad);
            Ok(ExitCode::from(ATTENTION))
        }
    }
}

/// Plays scenario files.
fn play(args: &SimulateArgs) -> Result<ExitCode, Failure> {
    if args.files.is_empty() {
        return Err(BadInput::new("simulate", "names no scenario file").into());
    }
    let mut scenarios = Vec::new();
    for file in &args.files {
        let (name, mut scenario) = load(file)?;
        sweep::apply(&mut scenario, &args.sweep)?;
        scenarios.push((file.display().to_string(), name, scenario));
    }
    if let Some(folder) = &args.out {
        files::prepare(folder)?;
    }
    let mut played = Vec::new();
    for (file, name, scenario) in &scenarios {
        let reports = match args.seeds {
            Some(seeds) => {
                let first = args.seed.unwrap_or(scenario.seed);
                jobs::seeds(name, scenario, (0..seeds).map(|seed| first.wrapping_add(seed)))
            }
            None => jobs::policies(name, scenario, args.seed).map(|report| vec![report]),
        };
        played.push(reports.map_err(|why| BadInput::new(file, &why))?);
    }
    print(&render(args, &played)?)?;
    if let Some(folder) = &args.out {
        files::write_report(folder, &played, !args.sweep.is_empty())?;
    }
    let good = played.iter().flatten().all(Report::is_as_expected);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render(args: &SimulateArgs, played: &[Vec<Report>]) -> anyhow::Result<String> {
    let all = || -> Vec<Report> { played.iter().flatten().cloned().collect() };
    Ok(match args.output {
        Output::Json => json(&all())?,
        Output::Csv => flat_rows(&all()).iter().map(|row| csv_line(row)).collect(),
        Output::Table => {
            let tables = played.iter().map(|reports| match reports.as_slice() {
                [only] if !args.sweep.is_empty() => sweep::text(only),
                [only] => text(only),
                several => {
                    let about = several.first().map_or("", |report| &report.name);
                    let count = several.len();
                    let (table, broken) = (columns(&seeds::rows(several)), seeds::broken(several));
                    format!("{about} ({count} seeds)\n\n{table}{broken}")
                }
            });
            tables.collect::<Vec<_>>().join("\n")
        }
    })
}
