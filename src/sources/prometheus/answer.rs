//! Reads the JSON of Prometheus' query API: only what we asked for, nothing that a peer could grow.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use serde::Deserialize;

use crate::core::Timestamp;
use crate::core::event::SourceFault;
use crate::sources::series::Point;

/// The most series that one answer may hold.
const MAX_SERIES: usize = 200_000;

/// What of each series is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Labels whose values are kept, in this order.
    pub(super) labels: Vec<String>,
    /// Whether the metric's name tells series apart. Functions drop it, so that the answers of two
    /// expressions can only be joined without it.
    pub(super) keep_name: bool,
}

/// One series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    /// All its labels in one text; equal for equal series.
    pub(super) key: Arc<str>,
    /// The values of the wanted labels, empty where it has none.
    pub(super) labels: Vec<Box<str>>,
    /// Its samples, oldest first; values may be anything.
    pub(super) points: Vec<Point>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    status: Text<'a>,
    #[serde(borrow)]
    data: Option<Data<'a>>,
    #[serde(borrow, default)]
    warnings: Vec<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data<'a> {
    #[serde(borrow)]
    Vector(Vec<WireSeries<'a>>),
    #[serde(borrow)]
    Matrix(Vec<WireSeries<'a>>),
    #[serde(borrow)]
    Scalar(WirePoint<'a>),
}

#[derive(Deserialize)]
struct WireSeries<'a> {
    #[serde(borrow)]
    metric: BTreeMap<Text<'a>, Text<'a>>,
    #[serde(borrow)]
    value: Option<WirePoint<'a>>,
    #[serde(borrow, default)]
    values: Vec<WirePoint<'a>>,
}

#[derive(Deserialize)]
struct WirePoint<'a>(f64, #[serde(borrow)] Text<'a>);

/// A text that is only copied where it holds escapes.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Decodes the answer to an instant query. A scalar counts as one series without labels.
///
/// # Errors
/// [`SourceFault::Malformed`] when it is not such an answer, [`SourceFault::PartialAnswer`] when it
/// carries warnings, [`SourceFault::TooLarge`] when it holds too many series.
pub(super) fn decode(body: &[u8], wanted: &Wanted) -> Result<Vec<Series>, SourceFault> {
    let envelope: Envelope<'_> =
        serde_json::from_slice(body).map_err(|_| SourceFault::Malformed)?;
    if envelope.status.0 != "success" {
        return Err(SourceFault::Malformed);
    }
    // Some versions send remarks on the expression as warnings; those do not say that data is missing.
    if envelope.warnings.iter().any(|warning| !warning.0.starts_with("PromQL info:")) {
        return Err(SourceFault::PartialAnswer);
    }
    let series = match envelope.data.ok_or(SourceFault::Malformed)? {
        Data::Vector(series) | Data::Matrix(series) => series,
        Data::Scalar(point) => {
            let points = vec![point_of(&point)?];
            let labels = vec![Box::default(); wanted.labels.len()];
            return Ok(vec![Series { key: "".into(), labels, points }]);
        }
    };
    if series.len() > MAX_SERIES {
        return Err(SourceFault::TooLarge);
    }
    series.iter().map(|series| series_of(series, wanted)).collect()
}

fn series_of(series: &WireSeries<'_>, wanted: &Wanted) -> Result<Series, SourceFault> {
    let mut key = String::new();
    for (label, value) in &series.metric {
        if wanted.keep_name || label.0 != "__name__" {
            // The separators do not occur in UTF-8 text of a label as Prometheus stores it.
            key.extend([label.0.as_ref(), "\u{1}", value.0.as_ref(), "\u{2}"]);
        }
    }
    let label = |name: &String| {
        let text = Text(Cow::Borrowed(name.as_str()));
        series.metric.get(&text).map(|value| Box::from(value.0.as_ref())).unwrap_or_default()
    };
    Ok(Series {
        key: key.into(),
        labels: wanted.labels.iter().map(label).collect(),
        points: series
            .value
            .iter()
            .chain(&series.values)
            .map(point_of)
            .collect::<Result<_, _>>()?,
    })
}

fn point_of(point: &WirePoint<'_>) -> Result<Point, SourceFault> {
    let at = stamp_of(point.0).ok_or(SourceFault::Malformed)?;
    let value = point.1.0.parse().map_err(|_| SourceFault::Malformed)?;
    Ok(Point { at, value })
}

/// A Unix time in seconds, rounded to milliseconds as Prometheus keeps it.
pub(super) fn stamp_of(seconds: f64) -> Option<Timestamp> {
    let rounded = SignedDuration::try_from_secs_f64(seconds + 0.000_5).ok()?;
    Timestamp::from_millisecond(i64::try_from(rounded.as_millis()).ok()?).ok()
}

/// A moment as the query API takes it.
pub(super) fn seconds_of(at: Timestamp) -> String {
    let millis = at.as_millisecond();
    format!("{}.{:03}", millis.div_euclid(1000), millis.rem_euclid(1000))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &str) -> Result<Vec<Series>, SourceFault> {
        let wanted = Wanted { labels: vec!["ns".into(), "pod".into()], keep_name: false };
        decode(body.as_bytes(), &wanted)
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    #[test]
    fn vectors_matrices_and_scalars() {
        let vector = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"__name__":"x","pod":"a\"b","ns":"n"},"value":[1700000000.123,"1.5"]}]}}"#;
        let series = read(vector).unwrap();
        assert_eq!(series[0].labels, ["n".into(), "a\"b".into()] as [Box<str>; 2]);
        assert_eq!(series[0].points, [Point { at: at(1_700_000_000_123), value: 1.5 }]);
        assert!(!series[0].key.contains("__name__"));
        let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"pod":"a"},"values":[[1700000000,"1"],[1700000001.001,"+Inf"]]},
            {"metric":{"pod":"h"},"histograms":[[1,{"count":"1"}]]}]},"infos":["x"]}"#;
        let series = read(matrix).unwrap();
        assert_eq!(series[0].labels, ["".into(), "a".into()] as [Box<str>; 2]);
        assert_eq!(series[0].points.len(), 2);
        assert_eq!(series[0].points[1].at, at(1_700_000_001_001));
        assert!(series[0].points[1].value.is_infinite());
        assert!(series[1].points.is_empty());
        let scalar = r#"{"data":{"result":[1,"NaN"],"resultType":"scalar"},"status":"success"}"#;
        assert!(read(scalar).unwrap()[0].points[0].value.is_nan());
    }

    #[test]
    fn the_name_counts_where_it_is_kept() {
        let body = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"__name__":"x"},"value":[1,"1"]},{"metric":{"__name__":"y"},"value":[1,"1"]}]}}"#;
        let keys = |keep_name| -> std::collections::BTreeSet<Arc<str>> {
            let wanted = Wanted { labels: Vec::new(), keep_name };
            decode(body.as_bytes(), &wanted).unwrap().into_iter().map(|one| one.key).collect()
        };
        assert_eq!((keys(true).len(), keys(false).len()), (2, 1));
    }

    #[test]
    fn what_is_refused() {
        let cases = [
            ("", SourceFault::Malformed),
            ("<html>", SourceFault::Malformed),
            ("[]", SourceFault::Malformed),
            (r#"{"status":"success"}"#, SourceFault::Malformed),
            (r#"{"status":"error","errorType":"timeout","error":"x"}"#, SourceFault::Malformed),
            (
                r#"{"status":"success","data":{"resultType":"string","result":[1,"x"]}}"#,
                SourceFault::Malformed,
            ),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"x"]}]}}"#,
                SourceFault::Malformed,
            ),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1e300,"1"]}]}}"#,
                SourceFault::Malformed,
            ),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["remote read failed"]}"#,
                SourceFault::PartialAnswer,
            ),
        ];
        for (body, fault) in cases {
            assert_eq!(read(body), Err(fault), "{body}");
        }
        let remark = r#"{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["PromQL info: metric might not be a counter"]}"#;
        assert_eq!(read(remark), Ok(Vec::new()));
        assert_eq!(read(&"[".repeat(100_000)), Err(SourceFault::Malformed));
    }

    #[test]
    fn stamps() {
        assert_eq!(stamp_of(1_700_000_000.123), Some(at(1_700_000_000_123)));
        assert_eq!(stamp_of(0.0), Some(at(0)));
        for bad in [f64::NAN, f64::INFINITY, 1e300, -1e300] {
            assert_eq!(stamp_of(bad), None, "{bad}");
        }
        assert_eq!(seconds_of(at(1_700_000_000_023)), "1700000000.023");
    }

    proptest! {
        #[test]
        fn every_stamp_survives(millis in 0_i64..4_000_000_000_000) {
            let text: f64 = seconds_of(at(millis)).parse().unwrap();
            prop_assert_eq!(stamp_of(text), Some(at(millis)));
        }

        #[test]
        fn no_body_panics(body in "(\\{|\\}|\\[|\\]|\"|:|,|status|success|data|resultType|result|vector|metric|value|1|e|\\\\){0,60}") {
            let _ = read(&body);
        }
    }
}
