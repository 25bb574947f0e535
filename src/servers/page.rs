//! The page: what people look at in a browser. Its files are part of the binary and need nothing else;
//! what they show comes from `/v1`, most of it as server-sent events.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::Stream;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Interval, MissedTickBehavior};

use super::view::Summary;
use crate::core::decision::TargetStatus;
use crate::core::target::TargetId;
use crate::runtime::status_board::StatusBoard;

/// How many streams one process feeds at once.
pub const MAX_STREAMS: usize = 32;

/// How often a stream tells what changed.
const EVERY: Duration = Duration::from_secs(1);

/// Nothing from elsewhere is loaded, run or asked, and nobody may frame the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, type and content of every file of the page.
const FILES: [(&str, &str, &str); 10] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/style.css", STYLE, include_str!("page/style.css")),
    ("/api.js", SCRIPT, include_str!("page/api.js")),
    ("/app.js", SCRIPT, include_str!("page/app.js")),
    ("/chart.js", SCRIPT, include_str!("page/chart.js")),
    ("/demo.js", SCRIPT, include_str!("page/demo.js")),
    ("/format.js", SCRIPT, include_str!("page/format.js")),
    ("/glossary.js", SCRIPT, include_str!("page/glossary.js")),
    ("/list.js", SCRIPT, include_str!("page/list.js")),
    ("/workload.js", SCRIPT, include_str!("page/workload.js")),
];

/// The routes of the page's files. They tell nothing about any workload, so they need no token.
pub fn files<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| {
        router.route(path, get(move || async move { file(kind, content) }))
    })
}

fn file(kind: &'static str, content: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, content).into_response()
}

/// Hands out places for streams.
#[derive(Clone, Debug)]
pub struct Streams {
    places: Arc<Semaphore>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_STREAMS)) }
    }
}

impl Streams {
    /// A stream of what changes on the board; the first event holds every target. `None` when all places
    /// are taken.
    pub fn open(&self, board: Arc<StatusBoard>) -> Option<Response> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let stream = changes(board, place);
        Some(Sse::new(stream).keep_alive(KeepAlive::default()).into_response())
    }
}

/// What one event of the stream says.
#[derive(Debug, Serialize)]
struct Change {
    /// The first event: what is not in it does not exist.
    complete: bool,
    items: Vec<Summary>,
    removed: Vec<Removed>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Removed {
    namespace: Arc<str>,
    name: Arc<str>,
}

/// What one reader was told.
struct Reader {
    board: Arc<StatusBoard>,
    told: BTreeMap<TargetId, Arc<TargetStatus>>,
    complete: bool,
    every: Interval,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    fn change(&mut self) -> Change {
        let complete = std::mem::replace(&mut self.complete, false);
        let mut before = std::mem::take(&mut self.told);
        let mut items = Vec::new();
        for status in self.board.all() {
            let known = before.remove(&status.target);
            if !known.is_some_and(|known| Arc::ptr_eq(&known, &status)) {
                items.push(Summary::of(&status));
            }
            self.told.insert(status.target.clone(), status);
        }
        let removed = before
            .into_keys()
            .map(|target| Removed { namespace: target.namespace, name: target.name })
            .collect();
        Change { complete, items, removed }
    }
}

fn changes(
    board: Arc<StatusBoard>,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reader = Reader { board, told: BTreeMap::new(), complete: true, every, _place: place };
    futures::stream::unfold(reader, |mut reader| async move {
        loop {
            reader.every.tick().await;
            let change = reader.change();
            if !change.complete && change.items.is_empty() && change.removed.is_empty() {
                continue;
            }
            // Numbers and text always serialise; should that ever fail, the reader asks again.
            let Ok(event) = Event::default().json_data(change) else { return None };
            return Some((Ok(event), reader));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_that_the_page_asks_for_is_there() {
        for (name, _, content) in FILES {
            for part in content.split("'./").skip(1) {
                let wanted = part.split('\'').next().unwrap();
                let known = |path: &str| path.strip_prefix('/') == Some(wanted);
                assert!(FILES.iter().any(|(path, ..)| known(path)), "{name} wants {wanted}");
            }
            for foreign in ["http://", "https://", "innerHTML", "eval("] {
                let content = content.replace("http://www.w3.org/2000/svg", "");
                assert!(!content.contains(foreign), "{name} has {foreign}");
            }
        }
    }
}
