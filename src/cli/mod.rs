//! The command line: one file a verb. `docs/cli.md` describes it for users.
//!
//! Exit codes: 0 all well · 1 an error · 2 bad usage, or the answer asks for attention.

mod admin_client;
mod check;
mod completions;
mod demo;
mod explain;
mod gitops;
mod keys;
mod lint;
mod list;
mod man;
mod manifests;
mod rbac;
mod simulate;
mod table;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::runtime::args::RunArgs;

/// Knative's stable and panic windows for any Kubernetes Deployment
#[derive(Parser, Debug)]
#[command(name = "podswell", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  podswell manifests | kubectl apply -f -
  kubectl -n podswell-system port-forward deploy/podswell 8081 &
  podswell explain deploy/checkout -n shop

Exit codes: 0 all well, 1 an error, 2 bad usage or the answer asks for attention";

#[derive(Subcommand, Debug)]
enum Verb {
    /// Watch, decide and scale: the controller itself
    Run(Box<RunArgs>),
    /// Show all of it at work on a played cluster, in the browser: no cluster needed
    Demo(demo::DemoArgs),
    /// Tell why a Deployment has the replicas that it has
    Explain(explain::ExplainArgs),
    /// List all workloads with the state of their signal and what they are doing
    List(list::ListArgs),
    /// Check manifests and source definitions without a cluster
    Lint(lint::LintArgs),
    /// Print every annotation that is read, as a Markdown table
    Keys,
    /// Print the manifests of an installation
    Manifests(manifests::ManifestsArgs),
    /// Check whether a cluster is fit for podswell, before and after the installation
    Check(Box<check::CheckArgs>),
    /// Print the least rights that an installation needs, as manifests
    Rbac(rbac::RbacArgs),
    /// Print how Argo CD, Flux or Helm is told to leave replicas alone
    Gitops(gitops::GitopsArgs),
    /// Play what would happen: scenarios, recordings, other settings, other autoscalers
    Simulate(Box<simulate::SimulateArgs>),
    /// Print the version
    Version,
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Write a manual page for every verb
    Man(man::ManArgs),
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let verb = Cli::parse().verb;
    match dispatch(verb) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to be done if standard error is closed.
            let _ = writeln!(io::stderr(), "podswell: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Run(args) => crate::runtime::run(args.into_settings()?),
        Verb::Demo(args) => demo::demo(&args),
        Verb::Explain(args) => explain::explain(&args),
        Verb::List(args) => list::list(&args),
        Verb::Lint(args) => lint::lint(&args),
        Verb::Keys => print(&keys::table()),
        Verb::Manifests(args) => print(&manifests::install(&args)?),
        Verb::Check(args) => check::check(&args),
        Verb::Rbac(args) => print(&rbac::manifests(&args)),
        Verb::Gitops(args) => print(&gitops::recipe(&args)),
        Verb::Simulate(args) => simulate::simulate(&args),
        Verb::Version => print(&format!("podswell {}\n", env!("CARGO_PKG_VERSION"))),
        Verb::Completions(args) => print(&completions::script(&args, &mut Cli::command())),
        Verb::Man(args) => print(&man::pages(&args, Cli::command())?),
    }
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
