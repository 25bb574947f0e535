//! `podswell.dev/scrape`: how each pod's own page is read, as a small JSON object. What the object
//! leaves out is taken from the pod template's `prometheus.io/*`, but never which number is meant.

use std::collections::BTreeMap;

use super::json::{JsonError, Scalar, flat_object};
use super::source::{ScrapeFormat, ScrapeSpec};
use super::spec::ScalingMetric;
use super::text::shown;

/// The port of Knative's queue-proxy.
const QUEUE_PROXY_PORT: u16 = 9090;

/// The path where the object and the pod template name none.
const DEFAULT_PATH: &str = "/metrics";

/// The keys of the object.
const KNOWN: [&str; 7] = ["port", "path", "format", "inFlight", "started", "finished", "requests"];

/// The longest metric name and path, in bytes.
const MOST_BYTES: usize = 512;

/// Why pods cannot be scraped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScrapeError {
    /// The annotation is not a flat JSON object.
    #[error("not a JSON object: {0}")]
    Json(JsonError),
    /// A key that does not exist; which ones do.
    #[error("unknown key {0}; known are port, path, format, inFlight, started, finished, requests")]
    UnknownKey(String),
    /// A value is not accepted.
    #[error("{key} = {value}: {why}")]
    Value {
        /// The key, of the object or of the pod template.
        key: &'static str,
        /// The value, escaped and cut.
        value: String,
        /// What it must be.
        why: &'static str,
    },
    /// Neither the object nor the pod template names a port.
    #[error("no port: name one, or set prometheus.io/port on the pod template")]
    NoPort,
    /// Not exactly one way to read the load.
    #[error(
        "exactly one of inFlight, started with finished, requests and format: queue-proxy is needed"
    )]
    NotOneFormat,
}

impl ScrapeFormat {
    /// Whether the page gives this metric.
    pub fn measures(&self, metric: ScalingMetric) -> bool {
        match self {
            Self::QueueProxy => {
                matches!(metric, ScalingMetric::Concurrency | ScalingMetric::Rps)
            }
            Self::InFlight { .. } | Self::StartedFinished { .. } => {
                metric == ScalingMetric::Concurrency
            }
            Self::Requests { .. } => metric == ScalingMetric::Rps,
        }
    }
}

impl ScrapeSpec {
    /// Reads the annotation `podswell.dev/scrape`. Where it names no port, port and path may come from
    /// `prometheus.io/port` and `prometheus.io/path` of `template_annotations`; `prometheus.io/scheme`
    /// must then be `http`.
    ///
    /// # Errors
    /// For unknown keys, values out of range, and where it is not clear what is read.
    pub fn parse(
        text: &str,
        template_annotations: &BTreeMap<String, String>,
    ) -> Result<Self, ScrapeError> {
        let mut object = flat_object(text).map_err(ScrapeError::Json)?;
        if let Some(key) = object.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(ScrapeError::UnknownKey(shown(key)));
        }
        let port = object.remove("port").map(|value| port_of("port", &value)).transpose()?;
        let path = object.remove("path").map(|value| path_of("path", &value)).transpose()?;
        let format = format_of(&mut object)?;
        let (port, hinted_path) = match (port, &format) {
            (Some(port), _) => (port, None),
            (None, ScrapeFormat::QueueProxy) => (QUEUE_PROXY_PORT, None),
            (None, _) => hints(template_annotations)?,
        };
        let path = path.or(hinted_path).unwrap_or_else(|| DEFAULT_PATH.to_owned());
        Ok(Self { port, path, format })
    }
}

/// Port and path as the pod template offers them to Prometheus.
fn hints(template: &BTreeMap<String, String>) -> Result<(u16, Option<String>), ScrapeError> {
    if let Some(scheme) = template.get("prometheus.io/scheme").filter(|scheme| *scheme != "http") {
        return Err(refused("prometheus.io/scheme", scheme, "only http is scraped"));
    }
    let port = template.get("prometheus.io/port").ok_or(ScrapeError::NoPort)?;
    let port = port_of("prometheus.io/port", &Scalar::Number(port.clone()))?;
    let path = template
        .get("prometheus.io/path")
        .map(|path| path_of("prometheus.io/path", &Scalar::Text(path.clone())))
        .transpose()?;
    Ok((port, path))
}

fn refused(key: &'static str, value: &str, why: &'static str) -> ScrapeError {
    ScrapeError::Value { key, value: shown(value), why }
}

fn port_of(key: &'static str, value: &Scalar) -> Result<u16, ScrapeError> {
    let (Scalar::Number(text) | Scalar::Text(text)) = value;
    let plain = matches!(value, Scalar::Number(_)) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|port| plain && *port > 0)
        .ok_or_else(|| refused(key, text, "must be a number in 1 ..= 65535"))
}

fn path_of(key: &'static str, value: &Scalar) -> Result<String, ScrapeError> {
    match value {
        Scalar::Text(path)
            if path.starts_with('/')
                && path.len() <= MOST_BYTES
                && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') =>
        {
            Ok(path.clone())
        }
        Scalar::Text(text) | Scalar::Number(text) => {
            Err(refused(key, text, "must be an absolute path of visible ASCII characters"))
        }
    }
}

/// Takes the keys that say what is read out of the object.
fn format_of(object: &mut BTreeMap<String, Scalar>) -> Result<ScrapeFormat, ScrapeError> {
    let mut name = |key: &'static str| -> Result<Option<String>, ScrapeError> {
        object.remove(key).map(|value| name_of(key, value)).transpose()
    };
    let (in_flight, requests) = (name("inFlight")?, name("requests")?);
    let (started, finished) = (name("started")?, name("finished")?);
    let format = object.remove("format");
    if let Some(Scalar::Text(text) | Scalar::Number(text)) =
        format.as_ref().filter(|format| **format != Scalar::Text("queue-proxy".to_owned()))
    {
        return Err(refused("format", text, "must be queue-proxy"));
    }
    match (in_flight, requests, started, finished, format) {
        (Some(metric), None, None, None, None) => Ok(ScrapeFormat::InFlight { metric }),
        (None, Some(metric), None, None, None) => Ok(ScrapeFormat::Requests { metric }),
        (None, None, Some(started), Some(finished), None) => {
            Ok(ScrapeFormat::StartedFinished { started, finished })
        }
        (None, None, None, None, Some(_)) => Ok(ScrapeFormat::QueueProxy),
        _ => Err(ScrapeError::NotOneFormat),
    }
}

/// The name of a metric in Prometheus' text format.
fn name_of(key: &'static str, value: Scalar) -> Result<String, ScrapeError> {
    match value {
        Scalar::Text(name)
            if name.len() <= MOST_BYTES
                && name.starts_with(|c: char| c.is_ascii_alphabetic() || "_:".contains(c))
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c)) =>
        {
            Ok(name)
        }
        Scalar::Text(text) | Scalar::Number(text) => {
            Err(refused(key, &text, "must be the name of a metric, without labels"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str, template: &[(&str, &str)]) -> Result<ScrapeSpec, ScrapeError> {
        let template = template.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        ScrapeSpec::parse(text, &template.collect())
    }

    #[test]
    fn each_form_is_read() {
        let spec = |port, path: &str, format| ScrapeSpec { port, path: path.to_owned(), format };
        let in_flight = || ScrapeFormat::InFlight { metric: "busy".to_owned() };
        let hints = [("prometheus.io/port", "8081"), ("prometheus.io/path", "/prom")];
        for (text, template, expected) in [
            (
                r#"{"port":8080,"path":"/m","inFlight":"busy"}"#,
                &[][..],
                spec(8080, "/m", in_flight()),
            ),
            (r#"{"port":8080,"inFlight":"busy"}"#, &hints[..], spec(8080, "/metrics", in_flight())),
            (r#"{"inFlight":"busy"}"#, &hints[..], spec(8081, "/prom", in_flight())),
            (r#"{"inFlight":"busy","path":"/m"}"#, &hints[..1], spec(8081, "/m", in_flight())),
            (
                r#"{"port":80,"started":"s_total","finished":"f_total"}"#,
                &[],
                spec(
                    80,
                    "/metrics",
                    ScrapeFormat::StartedFinished {
                        started: "s_total".to_owned(),
                        finished: "f_total".to_owned(),
                    },
                ),
            ),
            (
                r#"{"port":80,"requests":"r_total"}"#,
                &[],
                spec(80, "/metrics", ScrapeFormat::Requests { metric: "r_total".to_owned() }),
            ),
            (
                r#"{"format":"queue-proxy"}"#,
                &hints[..],
                spec(9090, "/metrics", ScrapeFormat::QueueProxy),
            ),
            (
                r#"{"port":9091,"format":"queue-proxy"}"#,
                &[],
                spec(9091, "/metrics", ScrapeFormat::QueueProxy),
            ),
        ] {
            assert_eq!(parse(text, template), Ok(expected), "{text}");
        }
    }

    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

    fn refuses(cases: &[Case<'_>]) {
        for (text, template, words) in cases {
            assert_eq!(parse(text, template).expect_err(text).to_string(), *words, "{text}");
        }
    }

    #[test]
    fn refused_ports_and_paths_say_what_to_mend() {
        refuses(&[
            (r#"{"port":0,"inFlight":"a"}"#, &[], "port = \"0\": must be a number in 1 ..= 65535"),
            (
                r#"{"port":"80","inFlight":"a"}"#,
                &[],
                "port = \"80\": must be a number in 1 ..= 65535",
            ),
            (
                r#"{"port":8e1,"inFlight":"a"}"#,
                &[],
                "port = \"8e1\": must be a number in 1 ..= 65535",
            ),
            (
                r#"{"port":65536,"inFlight":"a"}"#,
                &[],
                "port = \"65536\": must be a number in 1 ..= 65535",
            ),
            (
                r#"{"port":80,"path":"metrics","inFlight":"a"}"#,
                &[],
                "path = \"metrics\": must be an absolute path of visible ASCII characters",
            ),
            (
                r#"{"inFlight":"a"}"#,
                &[],
                "no port: name one, or set prometheus.io/port on the pod template",
            ),
            (
                r#"{"inFlight":"a"}"#,
                &[("prometheus.io/scheme", "https"), ("prometheus.io/port", "80")],
                "prometheus.io/scheme = \"https\": only http is scraped",
            ),
            (
                r#"{"inFlight":"a"}"#,
                &[("prometheus.io/port", "http")],
                "prometheus.io/port = \"http\": must be a number in 1 ..= 65535",
            ),
        ]);
    }

    #[test]
    fn refused_formats_say_what_to_mend() {
        let not_one = ScrapeError::NotOneFormat.to_string();
        let known = "known are port, path, format, inFlight, started, finished, requests";
        refuses(&[
            ("http_in_flight", &[], "not a JSON object: expected { at character 1"),
            (r#"{"port":80}"#, &[], &not_one),
            (r#"{"port":80,"started":"a"}"#, &[], &not_one),
            (r#"{"port":80,"inFlight":"a","requests":"b"}"#, &[], &not_one),
            (r#"{"port":80,"inFlight":"a","format":"queue-proxy"}"#, &[], &not_one),
            (r#"{"port":80,"format":"text"}"#, &[], "format = \"text\": must be queue-proxy"),
            (r#"{"port":80,"inflight":"a"}"#, &[], &format!("unknown key \"inflight\"; {known}")),
            (
                r#"{"port":80,"inFlight":"a","host":"evil"}"#,
                &[],
                &format!("unknown key \"host\"; {known}"),
            ),
            (
                r#"{"port":80,"inFlight":"a{b=\"c\"}"}"#,
                &[],
                r#"inFlight = "a{b=\"c\"}": must be the name of a metric, without labels"#,
            ),
        ]);
    }

    proptest! {
        #[test]
        fn no_text_panics(
            text in "\\{(\"(port|path|inFlight|requests|started|finished|format)\":(\"[/a-z-]{0,12}\"|[0-9]{1,6}),?){0,4}\\}|\\PC*",
            port in "\\PC{0,6}",
        ) {
            let template = BTreeMap::from([("prometheus.io/port".to_owned(), port)]);
            if let Ok(spec) = ScrapeSpec::parse(&text, &template) {
                prop_assert!(spec.port > 0 && spec.path.starts_with('/'));
            }
        }
    }
}
