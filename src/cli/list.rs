//! `podswell list`: all workloads at a glance, on two axes: how good the signal is, and what the target
//! is doing.

use std::cmp::Reverse;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::admin_client::{ServerArgs, block_on};
use super::explain::{ATTENTION, is_name};
use super::print;
use super::table::csv_line;
use crate::core::explain::printable;
use crate::core::text::columns;
use crate::servers::view::API_VERSION;

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    /// Only this namespace; by default all of them
    #[arg(short, long, value_name = "NAME", conflicts_with = "all_namespaces")]
    namespace: Option<String>,

    /// All namespaces (the default)
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    /// What stands first
    #[arg(long, value_enum, default_value_t = Sort::Name)]
    sort: Sort,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// The columns that matter, with a row of totals
    Table,
    /// All columns
    Wide,
    /// A versioned document
    Json,
    /// Comma-separated values, without totals
    Csv,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// Namespace and name
    Name,
    /// What needs a person, then by name
    Attention,
    /// The most replicas, then by name
    Replicas,
}

/// The list as the server sends it.
#[derive(Debug, Deserialize)]
struct TargetList {
    items: Vec<Item>,
}

/// One workload as the server sends it; what a newer server adds is not read.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    target: Target,
    attention: bool,
    mode: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused_until: Option<String>,
    managed: bool,
    replicas: i32,
    ready: i32,
    desired: Option<i32>,
    reason: Option<String>,
    gate: Option<String>,
    signal: Option<String>,
    panic: bool,
    problems: u64,
    /// Ours: what the target is doing.
    #[serde(skip_deserializing)]
    state: &'static str,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Target {
    namespace: String,
    kind: String,
    name: String,
}

/// The document of `-o json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    api_version: &'static str,
    kind: &'static str,
    items: &'a [Item],
    totals: Totals,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Totals {
    targets: usize,
    attention: usize,
    replicas: i64,
    ready: i64,
    desired: i64,
    problems: u64,
}

impl Totals {
    fn of(items: &[Item]) -> Self {
        Self {
            targets: items.len(),
            attention: items.iter().filter(|item| item.attention).count(),
            replicas: items.iter().map(|item| i64::from(item.replicas)).sum(),
            ready: items.iter().map(|item| i64::from(item.ready)).sum(),
            desired: items.iter().filter_map(|item| item.desired).map(i64::from).sum(),
            problems: items.iter().map(|item| item.problems).sum(),
        }
    }
}

impl Item {
    /// What the target is doing, in one word; what stands in the way of a write comes first.
    fn state(&self) -> &'static str {
        match self.gate.as_deref() {
            Some("Rival" | "Contested") => return "Conflict",
            Some("Followed") => return "Followed",
            Some("ManualZero" | "Paused") => return "Paused",
            _ => {}
        }
        if !self.managed || self.mode == "observe" || self.gate.as_deref() == Some("ObserveOnly") {
            return "Observed";
        }
        let Some(desired) = self.desired else { return "Starting" };
        match self.reason.as_deref() {
            Some(
                "SignalStarting" | "SignalLost" | "SignalPartial" | "NoSource" | "QueryNotAllowed",
            ) => "Held",
            _ if self.panic => "Panicking",
            Some("MaxScale" | "MinScale") => "Limited",
            _ if desired != self.replicas => "Scaling",
            Some("Idle") => "Idle",
            _ => "Steady",
        }
    }

    fn cells(&self, wide: bool) -> Vec<String> {
        let text = |value: Option<&str>| value.map_or_else(|| "-".to_owned(), printable);
        let yes = |value: bool| if value { "yes" } else { "-" }.to_owned();
        let mut cells = vec![
            printable(&self.target.namespace),
            printable(&self.target.name),
            self.replicas.to_string(),
            self.ready.to_string(),
            self.desired.map_or_else(|| "-".to_owned(), |desired| desired.to_string()),
            text(self.signal.as_deref()),
            self.state.to_owned(),
            text(self.reason.as_deref()),
            if self.attention { "!" } else { "-" }.to_owned(),
        ];
        if wide {
            cells.extend([
                match &self.paused_until {
                    Some(until) => format!("paused until {}", printable(until)),
                    None => printable(&self.mode),
                },
                yes(self.managed),
                text(self.gate.as_deref()),
                yes(self.panic),
                self.problems.to_string(),
            ]);
        }
        cells
    }
}

const COLUMNS: [&str; 14] = [
    "NAMESPACE",
    "NAME",
    "REPLICAS",
    "READY",
    "WANTS",
    "SIGNAL",
    "TARGET",
    "REASON",
    "ATTENTION",
    "MODE",
    "MANAGED",
    "GATE",
    "PANIC",
    "PROBLEMS",
];

/// How many of the columns the plain table shows.
const NARROW: usize = 9;

pub(super) fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    if let Some(namespace) = &args.namespace {
        ensure!(is_name(namespace), "{namespace:?} is not the name of a namespace");
    }
    let items = block_on(ask(args))?;
    print(&render(&items, args.output)?)?;
    let attention = items.iter().any(|item| item.attention);
    Ok(if attention { ExitCode::from(ATTENTION) } else { ExitCode::SUCCESS })
}

async fn ask(args: &ListArgs) -> anyhow::Result<Vec<Item>> {
    let fetched = args.server.get("/v1/targets").await?;
    let list: TargetList = serde_json::from_str(&fetched.body).context("parse the answer")?;
    let mut items = list.items;
    if let Some(namespace) = &args.namespace {
        items.retain(|item| item.target.namespace == *namespace);
    }
    for item in &mut items {
        item.state = item.state();
    }
    items.sort_by(|a, b| {
        let name = |item: &Item| (item.target.namespace.clone(), item.target.name.clone());
        let first = match args.sort {
            Sort::Name => std::cmp::Ordering::Equal,
            Sort::Attention => Reverse(a.attention).cmp(&Reverse(b.attention)),
            Sort::Replicas => Reverse(a.replicas).cmp(&Reverse(b.replicas)),
        };
        first.then_with(|| name(a).cmp(&name(b)))
    });
    Ok(items)
}

fn render(items: &[Item], output: Output) -> anyhow::Result<String> {
    let totals = Totals::of(items);
    match output {
        Output::Json => {
            let document =
                Document { api_version: API_VERSION, kind: "WorkloadList", items, totals };
            Ok(serde_json::to_string_pretty(&document).context("write the answer")? + "\n")
        }
        Output::Csv => {
            let header = COLUMNS.map(str::to_lowercase);
            let lines = items.iter().map(|item| csv_line(&item.cells(true)));
            Ok(csv_line(&header) + &lines.collect::<String>())
        }
        Output::Table | Output::Wide => Ok(table(items, totals, output == Output::Wide)),
    }
}

fn table(items: &[Item], totals: Totals, wide: bool) -> String {
    if items.is_empty() {
        return "no workload carries autoscaling.knative.dev annotations here\n".to_owned();
    }
    let shown = if wide { COLUMNS.len() } else { NARROW };
    let mut rows = vec![COLUMNS.iter().take(shown).map(|name| (*name).to_owned()).collect()];
    rows.extend(items.iter().map(|item| item.cells(wide)));
    let mut sums = vec![
        "*".to_owned(),
        totals.targets.to_string(),
        totals.replicas.to_string(),
        totals.ready.to_string(),
        totals.desired.to_string(),
        String::new(),
        String::new(),
        String::new(),
        totals.attention.to_string(),
    ];
    if wide {
        sums.extend([const { String::new() }; 4]);
        sums.push(totals.problems.to_string());
    }
    rows.push(sums);
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;
    use wiremock::matchers::path;
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: ListArgs,
    }

    fn item(name: &str, more: &serde_json::Value) -> serde_json::Value {
        let mut item = json!({
            "target": {"namespace": "shop", "kind": "Deployment", "name": name},
            "attention": false, "mode": "apply", "managed": true, "replicas": 3, "ready": 3,
            "desired": 3, "reason": "Steady", "gate": null, "signal": "fresh", "panic": false,
            "problems": 0, "added later": 1,
        });
        for (key, value) in more.as_object().unwrap() {
            item[key] = value.clone();
        }
        item
    }

    async fn listed(more: &[&str]) -> (Vec<Item>, Output) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = MockServer::start().await;
        let other = json!({"namespace": "blog", "kind": "Deployment", "name": "web"});
        let items = json!([
            item(
                "checkout",
                &json!({"replicas": 9, "desired": 12, "panic": true,
                "reason": "PanicDemand"})
            ),
            item(
                "basket",
                &json!({"attention": true, "signal": "lost", "reason": "SignalLost",
                "problems": 2})
            ),
            item(
                "web",
                &json!({"target": other, "desired": null, "reason": null,
                "signal": null, "ready": 1})
            ),
        ]);
        let body = json!({"apiVersion": "podswell.dev/v1", "kind": "TargetList", "items": items});
        Mock::given(path("/v1/targets"))
            .respond_with(ResponseTemplate::new(200).set_body_json(&body))
            .mount(&server)
            .await;
        let uri = server.uri();
        let args = [&["list", "--server", uri.as_str()], more].concat();
        let args = Wrapper::try_parse_from(args).unwrap().args;
        (ask(&args).await.unwrap(), args.output)
    }

    #[tokio::test]
    async fn the_table_has_two_axes_and_totals() {
        let (items, output) = listed(&[]).await;
        insta::assert_snapshot!("table", render(&items, output).unwrap());
    }

    #[tokio::test]
    async fn namespaces_and_order() {
        for (more, names) in [
            (&["-n", "shop"][..], &["basket", "checkout"][..]),
            (&["-A"], &["web", "basket", "checkout"]),
            (&["--sort", "attention"], &["basket", "web", "checkout"]),
            (&["--sort", "replicas"], &["checkout", "web", "basket"]),
            (&["-n", "none"], &[]),
        ] {
            let (items, _) = listed(more).await;
            let seen: Vec<_> = items.iter().map(|item| item.target.name.as_str()).collect();
            assert_eq!(seen, names, "{more:?}");
        }
    }

    #[tokio::test]
    async fn machines_get_documents() {
        let (items, _) = listed(&["-n", "shop"]).await;
        let text = render(&items, Output::Json).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["apiVersion"], API_VERSION);
        assert_eq!(document["items"][1]["state"], "Panicking");
        assert_eq!(document["totals"]["desired"], 15);
        insta::assert_snapshot!("csv", render(&items, Output::Csv).unwrap());
    }

    #[test]
    fn what_stands_in_the_way_comes_first() {
        for (more, state) in [
            (json!({}), "Steady"),
            (json!({"desired": 4}), "Scaling"),
            (json!({"reason": "MaxScale"}), "Limited"),
            (json!({"reason": "Idle"}), "Idle"),
            (json!({"managed": false, "desired": 4}), "Observed"),
            (json!({"gate": "Rival", "panic": true}), "Conflict"),
            (json!({"gate": "ManualZero"}), "Paused"),
            (json!({"gate": "Paused", "managed": false}), "Paused"),
            (json!({"desired": null}), "Starting"),
            (json!({"reason": "SignalPartial"}), "Held"),
        ] {
            let item: Item = serde_json::from_value(item("a", &more)).unwrap();
            assert_eq!(item.state(), state, "{more}");
        }
    }

    #[test]
    fn a_name_from_a_stranger_cannot_paint_the_terminal() {
        let evil = json!({"reason": "\u{1b}[31m"});
        let item: Item = serde_json::from_value(item("a", &evil)).unwrap();
        assert!(!render(&[item], Output::Wide).unwrap().contains('\u{1b}'));
        assert!(render(&[], Output::Table).unwrap().starts_with("no workload"));
    }
}
