//! `podswell check`: whether a cluster is fit for podswell, before and after it is installed there.

mod cluster;
mod lease;
mod report;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::Serialize;

use self::cluster::Inspection;
use self::report::{Category, Verdict, text, worst};
use super::admin_client::{TimeoutArgs, block_on};
use super::explain::ATTENTION;
use super::print;
use crate::k8s;
use crate::runtime::args::{DEFAULT_NAMESPACE, parse_namespace};
use crate::servers::view::API_VERSION;

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    /// Before the installation: whether you may install it, not what it may do
    #[arg(long)]
    pre: bool,

    /// The namespace of podswell itself
    #[arg(short, long, env = "PODSWELL_NAMESPACE", default_value = DEFAULT_NAMESPACE, value_name = "NAME", value_parser = parse_namespace)]
    namespace: String,

    /// Look at workloads and rights in these namespaces only; by default in all
    #[arg(long, value_delimiter = ',', value_name = "NAME,..", value_parser = parse_namespace)]
    namespaces: Vec<String>,

    /// Check the rights of this service account of podswell's namespace; by default your own
    #[arg(long, value_name = "NAME", value_parser = parse_namespace)]
    service_account: Option<String>,

    /// Do not ask the sources, for example because only podswell's pod reaches them
    #[arg(long)]
    no_sources: bool,

    /// The only directory from which sources may read credential files
    #[arg(long, env = "PODSWELL_CREDENTIALS_DIR", value_name = "DIR")]
    credentials_dir: Option<PathBuf>,

    /// The kubeconfig file; by default KUBECONFIG, ~/.kube/config or the pod's service account
    #[arg(long, env = "PODSWELL_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig file
    #[arg(long, env = "PODSWELL_CONTEXT", value_name = "NAME")]
    context: Option<String>,

    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    timeout: TimeoutArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One line a check, with a hint where something is wrong
    Table,
    /// A versioned document
    Json,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    api_version: &'static str,
    kind: &'static str,
    success: bool,
    categories: &'a [Category],
}

pub(super) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let categories = block_on(inspect(args))?;
    print(&render(&categories, args.output)?)?;
    Ok(match worst(&categories) {
        Verdict::Success => ExitCode::SUCCESS,
        Verdict::Warning => ExitCode::from(ATTENTION),
        Verdict::Error => ExitCode::FAILURE,
    })
}

fn render(categories: &[Category], output: Output) -> anyhow::Result<String> {
    if output == Output::Table {
        return Ok(text(categories));
    }
    let success = worst(categories) != Verdict::Error;
    let document = Document { api_version: API_VERSION, kind: "CheckReport", success, categories };
    Ok(serde_json::to_string_pretty(&document).context("write the answer")? + "\n")
}

async fn inspect(args: &CheckArgs) -> anyhow::Result<Vec<Category>> {
    let client = k8s::connect(args.kubeconfig.as_deref(), args.context.as_deref()).await?;
    let mut inspection = Inspection::new(client, args, args.timeout.limit());
    let mut categories =
        vec![Category { category_name: "kubernetes-api", checks: inspection.api().await }];
    if worst(&categories) == Verdict::Error {
        // Everything else would only repeat that.
        return Ok(categories);
    }
    let mut add = |category_name, checks| categories.push(Category { category_name, checks });
    if args.pre {
        add("permissions", inspection.installer().await);
    } else {
        add("permissions", inspection.rights().await);
        let controller = [inspection.controller().await, inspection.lease().await].concat();
        add("controller", controller);
        add("configuration", inspection.configuration().await);
        if !args.no_sources {
            add("sources", inspection.sources().await);
        }
    }
    add("workloads", inspection.workloads().await);
    Ok(categories)
}
