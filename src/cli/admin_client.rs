//! Asks the admin listener of a running podswell: what every verb that reads from it shares.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use reqwest::header::HeaderMap;

use crate::runtime::args::read_token;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// How the server is reached.
#[derive(Args, Debug)]
pub(super) struct ServerArgs {
    /// Where podswell's admin listener is reached
    #[arg(
        long,
        env = "PODSWELL_SERVER",
        default_value = "http://127.0.0.1:8081",
        value_name = "URL"
    )]
    server: String,

    /// A file with the bearer token that the server asks for
    #[arg(long, env = "PODSWELL_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    #[command(flatten)]
    timeout: TimeoutArgs,
}

/// How long a verb that asks somebody waits.
#[derive(Args, Debug)]
pub(super) struct TimeoutArgs {
    /// How long to wait for each answer, in seconds
    #[arg(
        long,
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=300),
        value_name = "SECONDS"
    )]
    timeout: u64,
}

impl TimeoutArgs {
    pub(super) fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// A good answer.
pub(super) struct Fetched {
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl ServerArgs {
    /// Asks for `path`, which begins with a slash. Any status but success is an error.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Fetched> {
        let server = self.server.trim_end_matches('/');
        let mut builder = reqwest::Client::builder()
            .timeout(self.timeout.limit())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if server.starts_with("http:") {
            // Certificates are not needed, and an image without a bundle of them has none to load.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().context("make an HTTP client")?;
        let mut request = client.get(format!("{server}{path}"));
        if let Some(file) = &self.token_file {
            request = request.bearer_auth(read_token(file)?);
        }
        let response = request.send().await.with_context(|| unreachable_text(server))?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = read_bounded(response).await.context("read the answer")?;
        if !status.is_success() {
            bail!("{}", refusal_text(status.as_u16(), &body));
        }
        Ok(Fetched { headers, body })
    }
}

/// Runs one conversation to its end.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the I/O runtime")?;
    runtime.block_on(work)
}

async fn read_bounded(mut response: reqwest::Response) -> anyhow::Result<String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        ensure!(body.len() + chunk.len() <= MAX_ANSWER, "it is longer than {MAX_ANSWER} bytes");
        body.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8(body)?)
}

fn unreachable_text(server: &str) -> String {
    format!(
        "reach podswell at {server}; if it runs in a cluster, first run: kubectl -n podswell-system \
         port-forward deploy/podswell 8081 (or name the server with --server)"
    )
}

fn refusal_text(status: u16, body: &str) -> String {
    let document: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let message = document
        .as_ref()
        .and_then(|document| document.get("message"))
        .and_then(serde_json::Value::as_str)
        .unwrap_or("no reason given");
    let hint = if status == 401 { "; give the token with --token-file" } else { "" };
    format!("the server says {status}: {}{hint}", crate::core::explain::printable(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_token_is_asked_for() {
        assert!(refusal_text(401, "<html>").contains("--token-file"));
        assert!(!refusal_text(403, "<html>").contains("--token-file"));
    }
}
