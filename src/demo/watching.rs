//! Watches of the played API: what is there, what changes, bookmarks, and the end of a watch that asks for
//! what is forgotten.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::api::{Api, Call, Place, is_true, selector, typed};
use super::kinds::Kind;
use super::refusal::{Refusal, status_document};
use super::selector::Selector;
use super::store::{Change, StoreError};
use super::table;
use crate::runtime::clock::instant;

/// How long a watch lasts where the client names no time.
const WATCH_TIME: Duration = Duration::from_secs(300);

/// How long a watch may not notice that a fault was switched on.
const WATCH_LOOKS: Duration = Duration::from_millis(500);

/// What one watch has told and still has to tell.
struct Watching {
    api: Api,
    kind: &'static Kind,
    namespace: Option<String>,
    selector: Selector,
    version: u64,
    /// What is told before any change: all that there is, where the client names no version.
    first: String,
    news: watch::Receiver<u64>,
    until: Instant,
    bookmarks: bool,
    as_table: bool,
}

/// Answers a watch.
pub(super) fn watch_objects(api: &Api, place: &Place, call: &Call) -> Result<Response, Refusal> {
    let asked = call.parameters.resource_version.as_deref().unwrap_or_default();
    let from_now = matches!(asked, "" | "0");
    let news = api.store.subscribe();
    let (items, now) = api.store.list(place.kind, place.namespace.as_deref());
    let version = if from_now {
        now
    } else {
        let why = |_| Refusal::Malformed(format!("resourceVersion: Invalid value: {asked:?}"));
        asked.parse().map_err(why)?
    };
    let lasts = call.parameters.timeout_seconds.map_or(WATCH_TIME, Duration::from_secs);
    let mut watching = Watching {
        api: api.clone(),
        kind: place.kind,
        namespace: place.namespace.clone(),
        selector: selector(call)?,
        version,
        first: String::new(),
        news,
        until: instant() + lasts,
        bookmarks: is_true(call.parameters.allow_watch_bookmarks.as_deref()),
        as_table: table::is_wanted(&call.headers),
    };
    if from_now {
        let there = items.into_iter().filter(|object| watching.selector.matches(object));
        watching.first = there.map(|object| watching.line_with("ADDED", object)).collect();
    }
    let body = Body::from_stream(watching.lines());
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

impl Watching {
    fn lines(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        futures::stream::unfold(Some(self), |watching| async move {
            let mut watching = watching?;
            loop {
                if watching.api.faults.drops_watches() {
                    return None;
                }
                match watching.next_lines() {
                    Err(gone) => {
                        let status = status_document(410, "Expired", &gone.to_string());
                        return Some((Ok(line("ERROR", &status).into()), None));
                    }
                    Ok(lines) if !lines.is_empty() => {
                        return Some((Ok(lines.into()), Some(watching)));
                    }
                    Ok(_) => {}
                }
                let looks = watching.until.min(instant() + WATCH_LOOKS);
                // What ended the wait does not matter: the loop looks what there is.
                let _ = tokio::time::timeout_at(looks, watching.news.changed()).await;
                if instant() >= watching.until {
                    let last = watching.bookmarks.then(|| Ok(watching.bookmark().into()));
                    return last.map(|line| (line, None));
                }
            }
        })
    }

    fn next_lines(&mut self) -> Result<String, StoreError> {
        if self.api.faults.expires_watches() {
            return Err(StoreError::Gone);
        }
        self.news.mark_unchanged();
        let (changes, version) =
            self.api.store.since(self.version, self.kind, self.namespace.as_deref())?;
        self.version = version;
        let mut lines = std::mem::take(&mut self.first);
        lines.extend(changes.into_iter().filter_map(|change| self.line_of(change)));
        Ok(lines)
    }

    /// An object that enters or leaves the selection is added or deleted as far as this watch is
    /// concerned.
    fn line_of(&self, change: Change) -> Option<String> {
        let was = change.before.as_ref().is_some_and(|before| self.selector.matches(before));
        let is = change.what != "DELETED" && self.selector.matches(&change.object);
        let what = match (was, is) {
            (false, false) => return None,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        Some(self.line_with(what, change.object))
    }

    fn line_with(&self, what: &str, object: Value) -> String {
        let object = typed(self.kind, object);
        if self.as_table {
            return line(what, &table::of(self.kind, &[object], self.api.clock.wall()));
        }
        line(what, &object)
    }

    fn bookmark(&self) -> String {
        let metadata = json!({ "resourceVersion": self.version.to_string() });
        line("BOOKMARK", &typed(self.kind, json!({ "metadata": metadata })))
    }
}

fn line(what: &str, object: &Value) -> String {
    format!("{}\n", json!({ "type": what, "object": object }))
}
