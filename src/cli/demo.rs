//! `podswell demo`: the controller at work on a played cluster.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Parser as _};

use super::explain::ATTENTION;
use super::simulate::{complain, load};
use super::{Cli, Verb};
use crate::core::duration::GoDuration;
use crate::demo::{self, DemoOptions, NAMESPACE};
use crate::runtime::args::Settings;

/// What the demo plays and where.
#[derive(Args, Debug)]
pub(super) struct DemoArgs {
    /// Chooses the noise of the load; the same seed plays the same load
    #[arg(long, default_value_t = 7)]
    seed: u64,

    /// Port of the page on 127.0.0.1; the played Kubernetes API gets the next one
    #[arg(long, default_value_t = 8686, value_parser = clap::value_parser!(u16).range(1..=65534))]
    port: u16,

    /// End by itself after this time, with a summary
    #[arg(long, value_name = "DURATION")]
    duration: Option<String>,

    /// How many times faster than the clock the story runs: its load, the start of its pods, and the
    /// annotated windows and delays as far as podswell takes them (no window below 6 s)
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=10))]
    speed: u8,

    /// A scenario of podswell simulate, whose load one more workload gets, again and again
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,

    /// error, warn, info, debug, trace, or a list of MODULE=LEVEL
    #[arg(long, default_value = "error", value_name = "LEVEL")]
    log_level: String,
}

pub(super) fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let duration = args.duration.as_deref().map(parse_duration).transpose()?;
    let scenario = match args.scenario.as_deref().map(load).transpose() {
        Ok(scenario) => scenario,
        Err(bad) => {
            complain(&bad);
            return Ok(ExitCode::from(ATTENTION));
        }
    };
    let (seed, port, speed) = (args.seed, args.port, args.speed);
    let options = DemoOptions { seed, port, duration, speed, scenario };
    demo::run(&options, |kubeconfig, page| settings(kubeconfig, page, &args.log_level))
}

fn parse_duration(text: &str) -> anyhow::Result<Duration> {
    let parsed = GoDuration::parse(text).with_context(|| format!("--duration {text:?}"))?.to_std();
    if parsed.is_zero() {
        bail!("--duration {text:?}: must be longer than nothing");
    }
    Ok(parsed)
}

/// What `podswell run` would be told, so that the demo has no way of its own to be configured.
fn settings(kubeconfig: &Path, page: SocketAddr, log_level: &str) -> anyhow::Result<Settings> {
    let kubeconfig = kubeconfig.display().to_string();
    let page = page.to_string();
    let cli = Cli::try_parse_from([
        "podswell",
        "run",
        "--namespace",
        NAMESPACE,
        "--kubeconfig",
        &kubeconfig,
        "--admin-listen",
        &page,
        "--listen",
        "127.0.0.1:0",
        "--scrape-allow-loopback",
        "--log-format",
        "text",
        "--log-level",
        log_level,
    ])
    .context("the demo's own flags")?;
    match cli.verb {
        Verb::Run(args) => Ok(args.into_settings()?),
        _ => bail!("the demo's flags are not those of run, which is a bug"),
    }
}
