//! `podswell lint`: reads manifests as the controller would, without a cluster, and says what it would
//! complain about there.

mod check;
mod document;

#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use self::check::Findings;
use self::document::{Document, split};
use super::explain::ATTENTION;
use super::print;
use crate::core::explain::printable;
use crate::servers::view::API_VERSION;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;

#[derive(Args, Debug)]
pub(super) struct LintArgs {
    /// Manifests and source definitions, YAML or JSON; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The namespace of objects that name none
    #[arg(short, long, default_value = "default", value_name = "NAME")]
    namespace: String,

    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One line a finding: where, how bad, which object, what is wrong
    Text,
    /// A versioned document
    Json,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// A part of a file could not be read.
    Error,
    /// Something to mend.
    Finding,
    /// A remark on something legitimate.
    Note,
}

/// What is wrong where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    file: String,
    line: Option<usize>,
    level: Level,
    object: String,
    code: &'static str,
    key: String,
    why: String,
    fallback: String,
}

impl Finding {
    fn text(&self) -> String {
        let line = self.line.map(|line| format!("{line}:")).unwrap_or_default();
        let level = match self.level {
            Level::Error => "error",
            Level::Finding => "finding",
            Level::Note => "note",
        };
        let parts = [&self.object, &self.key].map(|part| printable(part));
        let named = parts.iter().filter(|part| !part.is_empty()).map(|part| format!("{part}: "));
        let fallback = Some(&self.fallback).filter(|text| !text.is_empty());
        format!(
            "{}:{line} {level}: {}{}{} [{}]\n",
            printable(&self.file),
            named.collect::<String>(),
            printable(&self.why),
            fallback.map(|text| format!("; {}", printable(text))).unwrap_or_default(),
            self.code,
        )
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    api_version: &'static str,
    kind: &'static str,
    files: usize,
    workloads: usize,
    findings: &'a [Finding],
}

pub(super) fn lint(args: &LintArgs) -> anyhow::Result<ExitCode> {
    let mut texts = Vec::new();
    for file in &args.files {
        let text = read(file).with_context(|| format!("read {}", file.display()))?;
        texts.push((file.display().to_string(), text));
    }
    let findings = examine(&texts, &args.namespace);
    print(&render(&findings, texts.len(), args.output)?)?;
    Ok(match findings.list.iter().map(|finding| finding.level).min() {
        Some(Level::Error) => ExitCode::FAILURE,
        Some(Level::Finding) => ExitCode::from(ATTENTION),
        Some(Level::Note) | None => ExitCode::SUCCESS,
    })
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(file)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    }
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_FILE);
    ensure!(fits, "larger than {MAX_FILE} bytes");
    Ok(String::from_utf8(bytes)?)
}

/// Everything that is wrong with these files, in their order.
fn examine(texts: &[(String, String)], namespace: &str) -> Findings {
    let mut documents: Vec<Document> = Vec::new();
    let mut findings = Findings::default();
    for (file, text) in texts {
        for part in split(file, text) {
            match part {
                Ok(document) => documents.push(document),
                Err(unreadable) => findings.list.push(Finding {
                    file: file.clone(),
                    line: Some(unreadable.line),
                    level: Level::Error,
                    object: String::new(),
                    code: "Unreadable",
                    key: String::new(),
                    why: unreadable.why,
                    fallback: "this document was not looked at".to_owned(),
                }),
            }
        }
    }
    check::all(&documents, namespace, &mut findings);
    let place = |file: &str| texts.iter().position(|(name, _)| name == file);
    findings.list.sort_by_key(|finding| (place(&finding.file), finding.line));
    findings
}

fn render(findings: &Findings, files: usize, output: Output) -> anyhow::Result<String> {
    let list = &findings.list;
    if output == Output::Json {
        let report = Report {
            api_version: API_VERSION,
            kind: "LintReport",
            files,
            workloads: findings.workloads,
            findings: list,
        };
        return Ok(serde_json::to_string_pretty(&report).context("write the answer")? + "\n");
    }
    let count = |level| list.iter().filter(|finding| finding.level == level).count();
    let lines: String = list.iter().map(Finding::text).collect();
    let plural =
        |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    Ok(format!(
        "{lines}{}, {}, {} in {} with {}\n",
        plural(count(Level::Error), "error"),
        plural(count(Level::Finding), "finding"),
        plural(count(Level::Note), "note"),
        plural(files, "file"),
        plural(findings.workloads, "workload"),
    ))
}
