//! The named sources of the ConfigMap `podswell-sources`: one YAML document a key, strictly parsed.
//!
//! Only administrators write these documents; tenants choose a source by its name. Every text that ends
//! up in a query comes from here, but for the queries that workloads bring to a source with `queries: true`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::core::duration::GoDuration;
use crate::core::source::{SCRAPE, Share, SourceFacts, SourceName};
use crate::core::spec::ScalingMetric;

use crate::core::promql;

/// The most definitions that one ConfigMap may hold.
pub const MAX_SOURCES: usize = 64;
/// The most bytes of one document.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024;
/// The most bytes of one expression.
const MAX_EXPRESSION_BYTES: usize = 4096;
/// The most extra headers, and the most labels that workloads may select by.
const MAX_LIST: usize = 16;
/// The longest staleness limit and the longest range of a rate.
const MAX_STALE_AFTER: Duration = Duration::from_secs(600);
const MAX_RANGE: Duration = Duration::from_secs(3600);

/// Why a document is not a source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{why}", Self::place(*.line))]
pub struct DefinitionError {
    /// The line of the document, from 1, where it is known.
    pub line: Option<u64>,
    /// What is wrong there, as a lower-case fragment that names the key.
    pub why: String,
}

impl DefinitionError {
    fn place(line: Option<u64>) -> String {
        line.map(|line| format!("line {line}: ")).unwrap_or_default()
    }
}

/// A source of samples as an administrator wrote it down; everything in it has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceDefinition {
    /// The key of the ConfigMap.
    pub name: SourceName,
    /// Whom to ask.
    pub server: Server,
    /// What it measures.
    pub kind: ScalingMetric,
    /// What to ask.
    pub query: Query,
    /// How the numbers are to be read.
    pub form: Form,
    /// How far apart samples are, 1 s ..= 60 s.
    pub interval: Duration,
    /// How old the newest sample may be, ≥ interval and ≤ 10 min.
    pub stale_after: Duration,
    /// Whose series it is.
    pub matching: Matching,
    /// What it means that a workload has no series.
    pub absent: Absent,
    /// Whether demand shows while the target has no pod.
    pub visible_at_zero: bool,
    /// Whether it sees the whole load of a workload or a part of it.
    pub share: Share,
}

/// A Prometheus server and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Base URL without a trailing slash, `http` or `https`, without user information and query.
    pub url: String,
    /// PEM bundle of the only authorities to trust; a path below the credentials directory.
    pub ca_file: Option<PathBuf>,
    /// How we show who we are.
    pub auth: Option<Auth>,
    /// Headers to add to every request, at most 16.
    pub headers: BTreeMap<String, String>,
}

/// Credentials; the paths lie below the credentials directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer` with the content of a file.
    Bearer {
        /// The file that holds the token.
        token_file: PathBuf,
    },
    /// `Authorization: Basic`.
    Basic {
        /// The user's name.
        username: String,
        /// The file that holds the password.
        password_file: PathBuf,
    },
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// A plain series selector, asked for raw samples.
    Selector(String),
    /// An expression, asked for an instant vector.
    Expression {
        /// The expression.
        text: String,
        /// From where the time of its samples is known.
        time: SampleTime,
    },
    /// What each workload says itself (`podswell.dev/query`), narrowed to the namespace that
    /// [`Matching::namespace`] holds.
    Brought,
}

/// From where the time of an expression's samples is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SampleTime {
    /// Another expression, whose value is the sample's Unix time in seconds.
    Expression(String),
    /// Not known; the value changes this often.
    Resolution(Duration),
}

/// How the numbers of a source are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The value is the load at the sample's time.
    Gauge,
    /// The value counts up; its increase per second is the load.
    Counter,
    /// The value already is the mean load over a range.
    Rate {
        /// The range, 1 s ..= 1 h.
        range: Duration,
    },
}

/// Whose series a series is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matching {
    /// The label that names the namespace; `None` only where workloads select their series themselves.
    pub namespace: Option<String>,
    /// The label that names the workload or the pod.
    pub by: MatchBy,
    /// Labels by which a workload may choose its series with `podswell.dev/source-match`.
    pub selectable: Vec<String>,
}

/// The label that names the owner of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MatchBy {
    /// This label holds the workload's name.
    Workload(String),
    /// This label holds a pod's name.
    Pod(String),
    /// There is none: only workloads with `podswell.dev/source-match` have series here.
    Selected,
    /// Whoever asks gets the one number of the answer.
    Asker,
}

/// What it means that a workload has no series in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Nothing is known.
    Unknown,
    /// There is no load, provided that this expression gave 1 in the same round.
    Zero {
        /// The expression.
        alive: String,
    },
}

impl SourceDefinition {
    /// Parses and checks one document; `name` is its key.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key and line.
    pub fn parse(name: &str, document: &str) -> Result<Self, DefinitionError> {
        let plain = |why: String| DefinitionError { line: None, why };
        check_name(name).map_err(plain)?;
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err(plain(format!("the document is larger than {MAX_DOCUMENT_BYTES} bytes")));
        }
        let options = serde_saphyr::options! {
            duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
            merge_keys: serde_saphyr::MergeKeyPolicy::Error,
            strict_booleans: true,
            with_snippet: false,
        };
        let wire: Wire =
            serde_saphyr::from_str_with_options(document, options).map_err(|error| {
                let shown = error.without_snippet().to_string();
                // The place stands in front of our own text, and a missing key has none.
                let why = shown.rsplit_once(" at line ").map_or(shown.as_str(), |(why, _)| why);
                let why = why.split(", set DuplicateKeyPolicy").next().unwrap_or_default();
                let missing = why.starts_with("missing field");
                let line = error.location().filter(|_| !missing).map(|location| location.line());
                DefinitionError { line, why: brief(why) }
            })?;
        wire.check(name.into()).map_err(|(key, why)| DefinitionError {
            line: line_of(document, key),
            why: format!("{key}: {why}"),
        })
    }

    /// What the core needs to know of this source.
    pub fn facts(&self) -> SourceFacts {
        SourceFacts {
            name: self.name.clone(),
            kind: self.kind,
            interval: self.spacing(),
            stale_after: self.stale_after,
            range: match self.form {
                Form::Rate { range } => Some(range),
                Form::Gauge | Form::Counter => None,
            },
            visible_at_zero: self.visible_at_zero,
            share: self.share,
            selectable_labels: self.matching.selectable.clone(),
            query_label: self.matching.namespace.clone().filter(|_| self.query == Query::Brought),
        }
    }

    /// How far apart samples really are: the interval, or the resolution where that is longer.
    pub fn spacing(&self) -> Duration {
        match self.query {
            Query::Expression { time: SampleTime::Resolution(resolution), .. } => {
                self.interval.max(resolution)
            }
            _ => self.interval,
        }
    }
}

/// The JSON schema of one document, indented, with a final newline.
///
/// # Errors
/// Never in practice: the schema is made of strings and numbers.
pub fn schema_json() -> Result<String, serde_json::Error> {
    let schema = schemars::schema_for!(Wire);
    serde_json::to_string_pretty(&schema).map(|text| text + "\n")
}

/// A length of time ≥ 0 in a document, as Go writes it, for example `15s` or `1m30s`.
#[derive(Clone, Copy, Debug)]
struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match GoDuration::parse(&text) {
            Ok(span) if span.as_nanos() >= 0 => Ok(Self(span.to_std())),
            _ => Err(serde::de::Error::custom(format!(
                "`{}` is not a duration such as 15s or 1m30s",
                brief(&text)
            ))),
        }
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "a duration as Go writes it, for example 15s or 1m30s",
            "pattern": "^\\+?(0|([0-9]+\\.?[0-9]*|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$"
        })
    }
}

/// A source of the ConfigMap podswell-sources; the key of the document is the source's name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "podswell source")]
struct Wire {
    /// The Prometheus server to ask.
    server: WireServer,
    /// What the source measures.
    kind: Kind,
    /// A plain series selector, asked for raw samples with their own time stamps. Either this or expr.
    #[schemars(length(max = 4096))]
    selector: Option<String>,
    /// A PromQL expression, asked for an instant vector. Needs timestamp or resolution.
    #[schemars(length(max = 4096))]
    expr: Option<String>,
    /// Workloads bring their own expression (podswell.dev/query), in namespaces that are listed for it.
    /// Instead of selector and expr; match then holds namespace alone, to which every query is narrowed.
    #[serde(default)]
    queries: bool,
    /// How the numbers are to be read. rate only with expr, and then with range.
    form: WireForm,
    /// The range of the rate in expr.
    range: Option<Span>,
    /// An expression with the labels of expr whose value is the Unix time of the sample in seconds.
    #[schemars(length(max = 4096))]
    timestamp: Option<String>,
    /// How often the value of expr changes, where its time is not known.
    resolution: Option<Span>,
    /// How far apart samples are: the scrape interval of the series. 1s to 60s.
    interval: Span,
    /// How old the newest sample may be before the signal counts as lost. Default: 2.5 times interval.
    stale_after: Option<Span>,
    /// Whose series a series is.
    #[serde(rename = "match")]
    matching: WireMatch,
    /// What it means that a workload has no series: unknown, or zero while alive gives 1.
    #[serde(default)]
    absent: WireAbsent,
    /// An expression that gives 1 while the absence of a series proves that there is no load.
    #[schemars(length(max = 4096))]
    alive: Option<String>,
    /// Whether the source still sees demand while the workload has no pod.
    #[serde(default)]
    visible_at_zero: bool,
    /// Whether the source sees the whole load, or a part that is summed with the other additive sources.
    #[serde(default)]
    share: WireShare,
}

/// A Prometheus server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Server")]
struct WireServer {
    /// Base URL, http or https, without user information, query and fragment.
    url: String,
    /// PEM bundle of the only authorities to trust, below the credentials directory.
    ca_file: Option<PathBuf>,
    /// File with a bearer token, below the credentials directory.
    bearer_token_file: Option<PathBuf>,
    /// User name and password.
    basic_auth: Option<WireBasicAuth>,
    /// Headers to add to every request.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// A user name with the file that holds its password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "BasicAuth")]
struct WireBasicAuth {
    /// The user's name.
    username: String,
    /// File with the password, below the credentials directory.
    password_file: PathBuf,
}

/// Which labels name the owner of a series.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Match")]
struct WireMatch {
    /// The label that holds the namespace.
    namespace: Option<String>,
    /// The label that holds the name of the workload. Either this or pod.
    workload: Option<String>,
    /// The label that holds the name of the pod. Either this or workload.
    pod: Option<String>,
    /// Labels by which a workload may choose its series with podswell.dev/source-match.
    #[serde(default)]
    selectable: Vec<String>,
}

/// What a source measures.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// Requests in flight.
    Concurrency,
    /// Requests per second.
    Rps,
    /// Items published per second.
    Events,
    /// Items waiting or delivered but not acknowledged.
    Backlog,
}

/// How the numbers are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Form")]
enum WireForm {
    /// The load at the sample's time.
    Gauge,
    /// A number that counts up.
    Counter,
    /// The mean over a range.
    Rate,
}

/// What it means that a workload has no series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Absent")]
enum WireAbsent {
    /// Nothing is known.
    #[default]
    Unknown,
    /// There is no load.
    Zero,
}

/// How the source relates to the other sources of a measure.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Share")]
enum WireShare {
    /// It sees the whole load; the first such source that is heard is used.
    #[default]
    Exclusive,
    /// It sees a part of the load; all such sources of a measure are summed.
    Additive,
}

/// The key that is wrong and why.
type Complaint = (&'static str, String);

fn complain<T>(key: &'static str, why: impl Into<String>) -> Result<T, Complaint> {
    Err((key, why.into()))
}

impl Wire {
    fn check(self, name: SourceName) -> Result<SourceDefinition, Complaint> {
        within("interval", self.interval.0, Duration::from_secs(1), Duration::from_secs(60))?;
        let query = self.query()?;
        let form = self.form(&query)?;
        let absent = match (self.absent, &self.alive) {
            (WireAbsent::Zero, Some(alive)) => Absent::Zero { alive: expression("alive", alive)? },
            (WireAbsent::Zero, None) => {
                return complain("absent", "zero needs an alive expression that proves it");
            }
            (WireAbsent::Unknown, None) => Absent::Unknown,
            (WireAbsent::Unknown, Some(_)) => {
                return complain("alive", "is only read with absent: zero");
            }
        };
        let matching = self.matching.check(self.queries)?;
        if self.visible_at_zero && matches!(matching.by, MatchBy::Pod(_)) {
            return complain("visibleAtZero", "series matched by pod do not exist without pods");
        }
        let mut definition = SourceDefinition {
            name,
            server: self.server.check()?,
            kind: match self.kind {
                Kind::Concurrency => ScalingMetric::Concurrency,
                Kind::Rps => ScalingMetric::Rps,
                Kind::Events => ScalingMetric::Events,
                Kind::Backlog => ScalingMetric::Backlog,
            },
            query,
            form,
            interval: self.interval.0,
            stale_after: Duration::ZERO,
            matching,
            absent,
            visible_at_zero: self.visible_at_zero,
            share: match self.share {
                WireShare::Exclusive => Share::Exclusive,
                WireShare::Additive => Share::Additive,
            },
        };
        let spacing = definition.spacing();
        definition.stale_after = self.stale_after.map_or(spacing * 5 / 2, |span| span.0);
        within("staleAfter", definition.stale_after, spacing, MAX_STALE_AFTER)?;
        Ok(definition)
    }

    fn query(&self) -> Result<Query, Complaint> {
        let (selector, expr) = (self.selector.as_deref(), self.expr.as_deref());
        if self.queries {
            return self.brought();
        }
        match (selector, expr) {
            (Some(_), Some(_)) => complain("expr", "a source has selector or expr, not both"),
            (None, None) => complain("selector", "a source needs selector, expr or queries"),
            (Some(text), None) => {
                if self.timestamp.is_some() {
                    return complain("timestamp", "raw samples carry their own time");
                }
                if self.resolution.is_some() {
                    return complain("resolution", "raw samples carry their own time");
                }
                let text = expression("selector", text)?;
                promql::check_selector(&text).map_err(|why| ("selector", why))?;
                Ok(Query::Selector(text))
            }
            (None, Some(text)) => {
                let text = expression("expr", text)?;
                let time = match (&self.timestamp, self.resolution) {
                    (Some(timestamp), None) => {
                        SampleTime::Expression(expression("timestamp", timestamp)?)
                    }
                    (None, Some(Span(resolution))) => {
                        let second = Duration::from_secs(1);
                        within("resolution", resolution, second, 60 * second)?;
                        SampleTime::Resolution(resolution)
                    }
                    (Some(_), Some(_)) => {
                        return complain("resolution", "is not read with timestamp");
                    }
                    (None, None) => {
                        return complain("expr", "needs timestamp or resolution");
                    }
                };
                Ok(Query::Expression { text, time })
            }
        }
    }

    /// Nothing about a workload's own query can be said beforehand.
    fn brought(&self) -> Result<Query, Complaint> {
        let unread = [
            ("selector", self.selector.is_some()),
            ("expr", self.expr.is_some()),
            ("timestamp", self.timestamp.is_some()),
            ("resolution", self.resolution.is_some()),
            ("range", self.range.is_some()),
            ("absent", self.absent == WireAbsent::Zero),
        ];
        match unread.into_iter().find(|(_, there)| *there) {
            Some((key, _)) => complain(key, "is not read with queries: true"),
            None if self.form != WireForm::Gauge => {
                complain("form", "an expression of a workload gives its load: gauge")
            }
            None => Ok(Query::Brought),
        }
    }

    fn form(&self, query: &Query) -> Result<Form, Complaint> {
        if self.range.is_some() && self.form != WireForm::Rate {
            return complain("range", "is only read with form: rate");
        }
        match (self.form, query) {
            (WireForm::Gauge, _) | (_, Query::Brought) => Ok(Form::Gauge),
            (WireForm::Rate, Query::Selector(_)) => {
                complain("form", "a selector gives raw samples: gauge or counter")
            }
            (WireForm::Rate, Query::Expression { .. }) => {
                let Some(Span(range)) = self.range else {
                    return complain("form", "rate needs range, the range of the rate in expr");
                };
                within("range", range, Duration::from_secs(1), MAX_RANGE)?;
                Ok(Form::Rate { range })
            }
            (WireForm::Counter, Query::Selector(_)) => Ok(Form::Counter),
            (WireForm::Counter, Query::Expression { time: SampleTime::Resolution(_), .. }) => {
                complain("form", "a counter needs timestamp, the time of its samples")
            }
            (WireForm::Counter, Query::Expression { text, .. }) => {
                const AGGREGATIONS: [&str; 6] = ["sum", "avg", "min", "max", "count", "group"];
                match promql::identifiers(text).iter().find(|word| AGGREGATIONS.contains(word)) {
                    Some(word) => complain(
                        "form",
                        format!(
                            "resets cannot be seen in an aggregated counter ({word}): use selector"
                        ),
                    ),
                    None => Ok(Form::Counter),
                }
            }
        }
    }
}

/// A label that may be chosen must not say whose a series is, or a workload could take everybody's.
fn check_choosable(labels: &[String], namespace: Option<&String>) -> Result<(), Complaint> {
    let foreign = |label: &&String| Some(*label) == namespace || promql::names_namespace(label);
    match labels.iter().find(foreign) {
        Some(label) => complain(
            "selectable",
            format!(
                "{label} holds a namespace: workloads could choose another one's series; name it as \
                 match.namespace"
            ),
        ),
        None => Ok(()),
    }
}

impl WireMatch {
    fn check(self, queries: bool) -> Result<Matching, Complaint> {
        let labels =
            [("namespace", &self.namespace), ("workload", &self.workload), ("pod", &self.pod)];
        for (key, label) in labels {
            if label.as_ref().is_some_and(|label| !promql::is_label_name(label)) {
                return complain(key, "is not a label name");
            }
        }
        if self.selectable.len() > MAX_LIST {
            return complain("selectable", format!("at most {MAX_LIST} labels"));
        }
        if self.selectable.iter().any(|label| !promql::is_label_name(label)) {
            return complain("selectable", "holds what is not a label name");
        }
        check_choosable(&self.selectable, self.namespace.as_ref())?;
        for (key, label) in [("workload", &self.workload), ("pod", &self.pod)] {
            if label.is_some() && *label == self.namespace {
                return complain(key, "is the label that holds the namespace");
            }
        }
        if queries {
            return self.of_askers();
        }
        let by = match (self.workload, self.pod) {
            (Some(_), Some(_)) => return complain("match", "has workload or pod, not both"),
            (Some(workload), None) => MatchBy::Workload(workload),
            (None, Some(pod)) => MatchBy::Pod(pod),
            (None, None) if self.selectable.is_empty() => {
                return complain("match", "needs workload, pod or selectable");
            }
            (None, None) => MatchBy::Selected,
        };
        if self.namespace.is_none() && by != MatchBy::Selected {
            return complain("match", "needs the label that holds the namespace");
        }
        Ok(Matching { namespace: self.namespace, by, selectable: self.selectable })
    }

    /// The one label that is needed where workloads bring their queries.
    fn of_askers(self) -> Result<Matching, Complaint> {
        if self.workload.is_some() || self.pod.is_some() || !self.selectable.is_empty() {
            return complain("match", "holds namespace alone where queries is true");
        }
        if self.namespace.is_none() {
            return complain(
                "match",
                "needs the label that holds the namespace, to narrow queries",
            );
        }
        Ok(Matching { namespace: self.namespace, by: MatchBy::Asker, selectable: Vec::new() })
    }
}

impl WireServer {
    fn check(self) -> Result<Server, Complaint> {
        let url = reqwest::Url::parse(&self.url).map_err(|error| ("url", error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return complain("url", "is neither http nor https");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return complain("url", "must not hold credentials: use basicAuth");
        }
        if url.query().is_some() || url.fragment().is_some() || !url.has_host() {
            return complain("url", "must be scheme, host, port and path only");
        }
        if self.ca_file.is_some() && url.scheme() != "https" {
            return complain("caFile", "is only read with https");
        }
        let ca_file = self.ca_file.map(|path| plain_path("caFile", path)).transpose()?;
        let auth = match (self.bearer_token_file, self.basic_auth) {
            (Some(_), Some(_)) => {
                return complain("basicAuth", "is not read with bearerTokenFile");
            }
            (Some(path), None) => {
                Some(Auth::Bearer { token_file: plain_path("bearerTokenFile", path)? })
            }
            (None, Some(basic)) => {
                if basic.username.contains(':') || basic.username.chars().any(char::is_control) {
                    return complain("username", "must not hold a colon or control characters");
                }
                let password_file = plain_path("passwordFile", basic.password_file)?;
                Some(Auth::Basic { username: basic.username, password_file })
            }
            (None, None) => None,
        };
        check_headers(&self.headers, auth.is_some())?;
        Ok(Server {
            url: url.as_str().trim_end_matches('/').to_owned(),
            ca_file,
            auth,
            headers: self.headers,
        })
    }
}

fn check_headers(headers: &BTreeMap<String, String>, authenticated: bool) -> Result<(), Complaint> {
    const OURS: [&str; 8] = [
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "proxy-authorization",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    if headers.len() > MAX_LIST {
        return complain("headers", format!("at most {MAX_LIST} headers"));
    }
    for (name, value) in headers {
        let lower = name.to_ascii_lowercase();
        if http::HeaderName::from_bytes(name.as_bytes()).is_err()
            || http::HeaderValue::from_str(value).is_err()
            || value.len() > 1024
        {
            return complain("headers", format!("{} is not a valid header", brief(name)));
        }
        if OURS.contains(&lower.as_str()) || authenticated && lower == "authorization" {
            return complain("headers", format!("{lower} is set by podswell itself"));
        }
    }
    Ok(())
}

/// A path that cannot leave the credentials directory by its own words; links are checked when it is read.
fn plain_path(key: &'static str, path: PathBuf) -> Result<PathBuf, Complaint> {
    let plain = |path: &Path| {
        path.components().all(|part| {
            matches!(part, Component::Normal(_) | Component::RootDir | Component::CurDir)
        })
    };
    if path.as_os_str().is_empty() || path.as_os_str().len() > 1024 || !plain(&path) {
        return complain(key, "must be a path below the credentials directory, without `..`");
    }
    Ok(path)
}

fn expression(key: &'static str, text: &str) -> Result<String, Complaint> {
    let text = text.trim();
    if text.is_empty() {
        return complain(key, "is empty");
    }
    if text.len() > MAX_EXPRESSION_BYTES {
        return complain(key, format!("is longer than {MAX_EXPRESSION_BYTES} bytes"));
    }
    if text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace()) {
        return complain(key, "holds control characters");
    }
    Ok(text.to_owned())
}

fn within(
    key: &'static str,
    value: Duration,
    low: Duration,
    high: Duration,
) -> Result<(), Complaint> {
    if value < low || value > high {
        return complain(key, format!("{value:?} is not within {low:?} and {high:?}"));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let plain = name.bytes().all(|byte| fits(byte) || matches!(byte, b'-' | b'.' | b'_'))
        && name.bytes().next().is_some_and(fits)
        && name.bytes().last().is_some_and(fits);
    if !plain || name.len() > 63 {
        return Err(format!(
            "`{}` is not a source's name: at most 63 of a-z, 0-9, `-`, `_` and `.`",
            brief(name)
        ));
    }
    if name == SCRAPE {
        Err(format!("`{SCRAPE}` is the reserved name of pod scraping"))
    } else {
        Ok(())
    }
}

/// The line of the document, from 1, on which `key` stands first.
fn line_of(document: &str, key: &str) -> Option<u64> {
    let starts = |line: &str| {
        let rest = line.trim_start().trim_start_matches(['-', '{', ' ', '"', '\'']);
        rest.strip_prefix(key)
            .is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
    };
    document.lines().position(starts).and_then(|at| u64::try_from(at + 1).ok())
}

/// A text of a peer or user, safe to show: one line, no control characters, at most 200 characters.
pub(super) fn brief(text: &str) -> String {
    let mut shown: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    if shown.len() < text.len() && text.chars().count() > 200 {
        shown.push('…');
    }
    shown
}

/// Parses all documents. Bad ones are returned with their errors; the others are not affected.
pub fn parse_all(
    documents: &BTreeMap<String, String>,
) -> BTreeMap<SourceName, Result<SourceDefinition, DefinitionError>> {
    documents
        .iter()
        .enumerate()
        .map(|(at, (name, document))| {
            let parsed = if at < MAX_SOURCES {
                SourceDefinition::parse(name, document)
            } else {
                Err(DefinitionError { line: None, why: format!("more than {MAX_SOURCES} sources") })
            };
            (Arc::from(name.as_str()), parsed)
        })
        .collect()
}

#[cfg(test)]
mod tests;
