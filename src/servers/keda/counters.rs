//! What the external scaler counts of itself: for each scrape of `/metrics` a few numbers from closed
//! lists, never anything that a peer sent.

use std::sync::atomic::{AtomicU64, Ordering};

use tonic::Code;

/// The calls of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Whether there should be a replica.
    IsActive,
    /// The same, pushed.
    StreamIsActive,
    /// The metric's name and target.
    GetMetricSpec,
    /// The same, pushed.
    StreamMetricSpec,
    /// The metric's value.
    GetMetrics,
    /// Health, reflection, and whatever there is not.
    Other,
}

/// Every method, in the order of its numbers.
const METHODS: [Method; 6] = [
    Method::IsActive,
    Method::StreamIsActive,
    Method::GetMetricSpec,
    Method::StreamMetricSpec,
    Method::GetMetrics,
    Method::Other,
];

/// The methods that stream.
const STREAMS: [Method; 2] = [Method::StreamIsActive, Method::StreamMetricSpec];

impl Method {
    /// The method that a path names.
    pub fn of(path: &str) -> Self {
        match path.strip_prefix("/externalscaler.ExternalScaler/") {
            Some("IsActive") => Self::IsActive,
            Some("StreamIsActive") => Self::StreamIsActive,
            Some("GetMetricSpec") => Self::GetMetricSpec,
            Some("StreamMetricSpec") => Self::StreamMetricSpec,
            Some("GetMetrics") => Self::GetMetrics,
            _ => Self::Other,
        }
    }

    /// Its name, for labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IsActive => "IsActive",
            Self::StreamIsActive => "StreamIsActive",
            Self::GetMetricSpec => "GetMetricSpec",
            Self::StreamMetricSpec => "StreamMetricSpec",
            Self::GetMetrics => "GetMetrics",
            Self::Other => "Other",
        }
    }
}

/// The names of gRPC's codes, by their numbers.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There are too many.
    Full,
    /// There are too many from its address.
    FullOfAddress,
    /// It did not say in time that it speaks HTTP/2, over TLS where that is asked for.
    Silent,
    /// It had not said so yet, and too many others wait to say it.
    Displaced,
    /// TLS was not agreed upon.
    Handshake,
    /// Its certificate has none of the names that are listed.
    Name,
}

const REFUSALS: [Refusal; 6] = [
    Refusal::Full,
    Refusal::FullOfAddress,
    Refusal::Silent,
    Refusal::Displaced,
    Refusal::Handshake,
    Refusal::Name,
];

impl Refusal {
    /// Its name, for labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "Full",
            Self::FullOfAddress => "FullOfAddress",
            Self::Silent => "Silent",
            Self::Displaced => "Displaced",
            Self::Handshake => "Handshake",
            Self::Name => "Name",
        }
    }
}

/// A number for each combination of two closed lists.
type Table<const COLUMNS: usize, const ROWS: usize> = [[AtomicU64; COLUMNS]; ROWS];

/// All that is counted. Every method may be called from any task.
#[derive(Debug, Default)]
pub struct Counters {
    calls: Table<{ CODES.len() }, { METHODS.len() }>,
    opened: [AtomicU64; METHODS.len()],
    closed: [AtomicU64; METHODS.len()],
    pushed: [AtomicU64; METHODS.len()],
    connected: AtomicU64,
    disconnected: AtomicU64,
    refused: [AtomicU64; REFUSALS.len()],
}

impl Counters {
    /// A call was answered; a stream was opened or refused.
    pub fn called(&self, method: Method, code: Code) {
        let row = self.calls.get(method as usize);
        let code = usize::try_from(i32::from(code)).ok();
        add(row.zip(code).and_then(|(row, code)| row.get(code)));
    }

    /// A stream was opened.
    pub fn opened(&self, method: Method) {
        add(self.opened.get(method as usize));
    }

    /// A stream has ended.
    pub fn closed(&self, method: Method) {
        add(self.closed.get(method as usize));
    }

    /// A stream sent a message.
    pub fn pushed(&self, method: Method) {
        add(self.pushed.get(method as usize));
    }

    /// A connection speaks HTTP/2.
    pub fn connected(&self) {
        add(Some(&self.connected));
    }

    /// Such a connection has ended.
    pub fn disconnected(&self) {
        add(Some(&self.disconnected));
    }

    /// A connection was refused.
    pub fn refused(&self, why: Refusal) {
        add(self.refused.get(why as usize));
    }

    /// How many calls were answered, by method and code; none that there were not.
    pub fn calls(&self) -> Vec<(&'static str, &'static str, u64)> {
        let rows = METHODS.iter().zip(&self.calls);
        let all = rows.flat_map(|(method, row)| {
            CODES.iter().zip(row).map(|(code, count)| (method.as_str(), *code, read(count)))
        });
        all.filter(|(_, _, count)| *count > 0).collect()
    }

    /// How many streams are open, by method.
    pub fn streams(&self) -> Vec<(&'static str, u64)> {
        let open = |method: &Method| {
            // What was closed is read first, so that there are never fewer than none.
            let closed = self.closed.get(*method as usize).map_or(0, read);
            let opened = self.opened.get(*method as usize).map_or(0, read);
            (method.as_str(), opened.saturating_sub(closed))
        };
        STREAMS.iter().map(open).collect()
    }

    /// How many messages streams sent, by method.
    pub fn pushes(&self) -> Vec<(&'static str, u64)> {
        let sent = |method: &Method| self.pushed.get(*method as usize).map_or(0, read);
        STREAMS.iter().map(|method| (method.as_str(), sent(method))).collect()
    }

    /// How many connections there are.
    pub fn connections(&self) -> u64 {
        let gone = read(&self.disconnected);
        read(&self.connected).saturating_sub(gone)
    }

    /// How many connections were refused, by reason.
    pub fn refusals(&self) -> Vec<(&'static str, u64)> {
        let counts = REFUSALS.iter().zip(&self.refused);
        counts.map(|(why, count)| (why.as_str(), read(count))).collect()
    }
}

fn add(counter: Option<&AtomicU64>) {
    if let Some(counter) = counter {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_and_code_has_its_place() {
        let counters = Counters::default();
        for (at, method) in METHODS.into_iter().enumerate() {
            assert_eq!(method as usize, at);
            let path = format!("/externalscaler.ExternalScaler/{}", method.as_str());
            assert_eq!(Method::of(&path), method);
            for code in 0..CODES.len() {
                counters.called(method, Code::from_i32(i32::try_from(code).unwrap()));
            }
        }
        assert_eq!(counters.calls().len(), METHODS.len() * CODES.len());
        assert!(counters.calls().contains(&("GetMetrics", "UNAUTHENTICATED", 1)));
        for (at, why) in REFUSALS.into_iter().enumerate() {
            assert_eq!(why as usize, at);
        }
    }

    #[test]
    fn what_is_open_is_what_was_opened_and_not_closed() {
        let counters = Counters::default();
        for _ in 0..3 {
            counters.opened(Method::StreamIsActive);
            counters.connected();
        }
        counters.closed(Method::StreamIsActive);
        counters.disconnected();
        counters.pushed(Method::StreamMetricSpec);
        counters.refused(Refusal::Name);
        assert_eq!(counters.streams(), [("StreamIsActive", 2), ("StreamMetricSpec", 0)]);
        assert_eq!(counters.pushes(), [("StreamIsActive", 0), ("StreamMetricSpec", 1)]);
        assert_eq!(counters.connections(), 2);
        assert!(counters.refusals().contains(&("Name", 1)));
    }
}
