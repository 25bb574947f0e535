//! `podswell explain`: asks a running podswell and shows its answer.

use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};

use super::admin_client::{ServerArgs, block_on};
use super::print;
use crate::servers::admin::ATTENTION_HEADER;

/// The exit code that asks for attention.
pub(super) const ATTENTION: u8 = 2;

#[derive(Args, Debug)]
pub(super) struct ExplainArgs {
    /// The Deployment: deploy/NAME or NAME
    #[arg(value_name = "deploy/NAME", value_parser = parse_target)]
    target: String,

    /// Its namespace
    #[arg(short, long, default_value = "default", value_name = "NAME")]
    namespace: String,

    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One screen of plain words
    Text,
    /// The whole status (docs/http-api.md)
    Json,
}

pub(super) fn parse_target(text: &str) -> Result<String, String> {
    let name = match text.split_once('/') {
        Some(("deploy" | "deployment" | "deployments" | "deployment.apps", name)) => name,
        Some((kind, _)) => return Err(format!("{kind:?} is not a kind that podswell scales")),
        None => text,
    };
    if is_name(name) { Ok(name.to_owned()) } else { Err("not the name of an object".to_owned()) }
}

pub(super) fn is_name(text: &str) -> bool {
    let good = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.'
    };
    (1..=253).contains(&text.len()) && text.bytes().all(good) && !text.starts_with('.')
}

pub(super) fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    ensure!(is_name(&args.namespace), "{:?} is not the name of a namespace", args.namespace);
    let answer = block_on(ask(args))?;
    print(&answer.text)?;
    Ok(if answer.attention { ExitCode::from(ATTENTION) } else { ExitCode::SUCCESS })
}

struct Answer {
    text: String,
    attention: bool,
}

async fn ask(args: &ExplainArgs) -> anyhow::Result<Answer> {
    let suffix = match args.output {
        Output::Text => "/explain",
        Output::Json => "",
    };
    let path = format!("/v1/targets/{}/{}{suffix}", args.namespace, args.target);
    let fetched = args.server.get(&path).await?;
    let flagged = fetched.headers.get(ATTENTION_HEADER).is_some_and(|value| value == "true");
    let body = fetched.body;
    match args.output {
        Output::Text => Ok(Answer { text: body, attention: flagged }),
        Output::Json => {
            let document: serde_json::Value =
                serde_json::from_str(&body).context("parse the answer")?;
            let attention = document.get("attention").and_then(serde_json::Value::as_bool);
            let text = serde_json::to_string_pretty(&document).context("write the answer")? + "\n";
            Ok(Answer { text, attention: attention.unwrap_or(false) })
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use wiremock::matchers::{header, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: ExplainArgs,
    }

    fn args(server: &str, more: &[&str]) -> ExplainArgs {
        let base = ["explain", "deploy/checkout", "-n", "shop", "--server", server];
        Wrapper::try_parse_from([&base, more].concat()).unwrap().args
    }

    async fn server(at: &str, answer: ResponseTemplate) -> MockServer {
        // A process has one provider; another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = MockServer::start().await;
        Mock::given(path(at)).respond_with(answer).mount(&server).await;
        server
    }

    #[test]
    fn targets() {
        for (text, name) in [
            ("deploy/a", Some("a")),
            ("deployment.apps/a-1", Some("a-1")),
            ("a.b", Some("a.b")),
            ("sts/a", None),
            ("deploy/", None),
            ("deploy/a/b", None),
            ("../a", None),
            ("A", None),
        ] {
            assert_eq!(parse_target(text).ok().as_deref(), name, "{text}");
        }
    }

    #[tokio::test]
    async fn shows_the_screen_and_asks_for_attention() {
        let answer = ResponseTemplate::new(200)
            .set_body_string("checkout (shop)\n")
            .insert_header(ATTENTION_HEADER, "true");
        let server = server("/v1/targets/shop/checkout/explain", answer).await;
        let answer = ask(&args(&server.uri(), &[])).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.attention), ("checkout (shop)\n", true));
    }

    #[tokio::test]
    async fn json_is_the_whole_document() {
        let body = serde_json::json!({"kind": "Target", "attention": false});
        let answer = ResponseTemplate::new(200).set_body_json(&body);
        let server = server("/v1/targets/shop/checkout", answer).await;
        let answer = ask(&args(&server.uri(), &["-o", "json"])).await.unwrap();
        assert!(!answer.attention);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&answer.text).unwrap(), body);
    }

    #[tokio::test]
    async fn the_token_travels_as_a_header() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "s3cret\n").unwrap();
        let server = MockServer::start().await;
        Mock::given(header("authorization", "Bearer s3cret"))
            .respond_with(ResponseTemplate::new(200).set_body_string("ok"))
            .mount(&server)
            .await;
        let file = file.to_str().unwrap();
        assert!(ask(&args(&server.uri(), &["--token-file", file])).await.is_ok());
    }

    #[tokio::test]
    async fn errors_say_what_to_do() {
        let body = serde_json::json!({"kind": "Error", "message": "no \u{1b}[31mtarget"});
        let answer = ResponseTemplate::new(404).set_body_json(&body);
        let server = server("/v1/targets/shop/checkout/explain", answer).await;
        let error = ask(&args(&server.uri(), &[])).await.err().unwrap().to_string();
        assert_eq!(error, "the server says 404: no \\u{1b}[31mtarget");
        let error = ask(&args("http://127.0.0.1:1", &[])).await.err().unwrap().to_string();
        assert!(error.contains("port-forward"), "{error}");
    }
}
