//! An API server made of a closure, and a clock that stands still: for the tests of this folder.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::core::config::TargetConfig;
use crate::core::policy::Mode;
use crate::core::problem::{Problem, ProblemCode};
use crate::core::resolve::{Inputs, Resolved};
use crate::core::source::Wiring;
use crate::runtime::clock::Clock;

/// A request as the fake server sees it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) content_type: String,
    pub(super) body: Value,
}

impl Asked {
    /// `GET /path`, the form in which most tests compare.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What the fake server answers.
pub(super) struct Reply {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: BoxStream<'static, Result<Frame<Bytes>, Infallible>>,
}

impl Reply {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, body.to_string())
    }

    pub(super) fn text(status: u16, body: impl Into<Bytes>) -> Self {
        let frame = Ok(Frame::data(body.into()));
        Self { status, headers: Vec::new(), body: stream::iter([frame]).boxed() }
    }

    /// Lines that are sent at once; then the answer neither goes on nor ends.
    pub(super) fn watch(lines: &[Value]) -> Self {
        let lines: Vec<_> =
            lines.iter().map(|line| Ok(Frame::data(Bytes::from(format!("{line}\n"))))).collect();
        Self {
            status: 200,
            headers: Vec::new(),
            body: stream::iter(lines).chain(stream::pending()).boxed(),
        }
    }

    /// One line, sent when `open` becomes true; then the answer neither goes on nor ends.
    pub(super) fn watch_when(mut open: watch::Receiver<bool>, line: Value) -> Self {
        let line = async move {
            open.wait_for(|open| *open).await.unwrap();
            Ok(Frame::data(Bytes::from(format!("{line}\n"))))
        };
        let body = stream::once(line).chain(stream::pending()).boxed();
        Self { status: 200, headers: Vec::new(), body }
    }

    pub(super) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// What was asked so far.
pub(super) type Journal = Arc<Mutex<Vec<Asked>>>;

/// A client whose requests `answer` answers, and the journal of them.
pub(super) fn api_server<F>(
    answer: impl Fn(Asked) -> F + Send + Sync + 'static,
) -> (Client, Journal)
where
    F: Future<Output = Reply> + Send + 'static,
{
    let journal = Journal::default();
    let (written, answer) = (journal.clone(), Arc::new(answer));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (journal, answer) = (written.clone(), answer.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let content_type = parts.headers.get("content-type");
            let asked = Asked {
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                content_type: content_type.map_or("", |of| of.to_str().unwrap()).to_owned(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            };
            journal.lock().push(asked.clone());
            let reply = answer(asked).await;
            let mut response = Response::builder().status(reply.status);
            for (name, value) in reply.headers {
                response = response.header(name, value);
            }
            Ok::<_, Infallible>(response.body(StreamBody::new(reply.body)).unwrap())
        }
    });
    (Client::new(service, "podswell-system"), journal)
}

/// A clock that tests move by hand.
#[derive(Debug, Default)]
pub(super) struct HandClock(AtomicI64);

impl HandClock {
    pub(super) fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + self.0.load(Ordering::SeqCst)).unwrap()
    }

    fn wall(&self) -> Timestamp {
        self.now()
    }
}

pub(super) const CLASS: &str = "autoscaling.knative.dev/class";
pub(super) const TARGET: &str = "autoscaling.knative.dev/target";
pub(super) const MODE: &str = "podswell.dev/mode";

/// Stands in for the real resolution: enough of it to see which inputs reach it.
pub(super) fn toy_resolver(inputs: &Inputs<'_>) -> Option<Resolved> {
    inputs.annotations.get(CLASS).or_else(|| inputs.template_annotations.get(CLASS))?;
    let mut config = TargetConfig::default();
    config.spec.target = inputs.defaults.container_concurrency_target_default;
    if let Some(text) = inputs.annotations.get(TARGET) {
        match text.parse() {
            Ok(target) => config.spec.target = target,
            Err(_) => config.problems.push(problem(TARGET)),
        }
    }
    for annotations in [inputs.namespace_annotations, inputs.annotations] {
        let mode = annotations.get(MODE).and_then(|text| Mode::parse(text)).unwrap_or_default();
        config.mode = config.mode.strictest(mode);
    }
    if inputs.process.freeze {
        config.mode = Mode::Paused;
    }
    let wiring = Wiring { sources: inputs.sources.keys().cloned().collect(), ..Wiring::default() };
    Some(Resolved { config, wiring })
}

pub(super) fn problem(key: &str) -> Problem {
    Problem {
        code: ProblemCode::InvalidAnnotation,
        key: key.to_owned(),
        why: "bad".to_owned(),
        fallback: String::new(),
    }
}
