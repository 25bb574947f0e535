//! Asks a source once, outside the controller: whether it answers, how old and how fine its data is.

use std::path::PathBuf;
use std::time::Duration;

use crate::core::Timestamp;
use crate::core::event::SourceFault;
use crate::runtime::clock::age_of;
use crate::sources::definition::{Query, SampleTime, SourceDefinition};

use super::ROUND_LIMIT;
use super::answer::{Series, Wanted, decode};
use super::members::wanted_labels;
use super::server::Connection;

/// What one question found out about a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// How many series answered.
    pub series: usize,
    /// How many of them lack the label that names their workload or pod.
    pub nameless: usize,
    /// How old the newest sample is; `None` without samples, or where their time is not known.
    pub age: Option<Duration>,
    /// How far apart samples really are, where the answer holds more than one of a series.
    pub spacing: Option<Duration>,
}

/// Asks the query of a definition once; credentials are read below `credentials_dir`.
///
/// # Errors
/// As in the controller: why there is no usable answer.
pub async fn probe(
    definition: &SourceDefinition,
    credentials_dir: Option<PathBuf>,
    wall: Timestamp,
) -> Result<Probe, SourceFault> {
    let (text, timed) = match &definition.query {
        Query::Selector(text) => {
            let range = (definition.interval * 6).max(definition.stale_after * 2).as_secs() + 1;
            (format!("{text}[{range}s]"), true)
        }
        Query::Expression { text, time: SampleTime::Resolution(_) } => (text.clone(), false),
        Query::Expression { time: SampleTime::Expression(stamps), .. } => (stamps.clone(), false),
        // What workloads ask is theirs; here only the server counts.
        Query::Brought => ("vector(1)".to_owned(), false),
    };
    let mut connection = Connection::new(definition.server.clone(), credentials_dir);
    let asked = connection.query(&text, None, ROUND_LIMIT);
    let body = tokio::time::timeout(ROUND_LIMIT, asked).await;
    let body = body.unwrap_or(Err(SourceFault::Timeout))?;
    let wanted = Wanted { labels: wanted_labels(&definition.matching), keep_name: true };
    let series = decode(&body, &wanted)?;
    let is_stamp =
        matches!(definition.query, Query::Expression { time: SampleTime::Expression(_), .. });
    let newest = if is_stamp {
        let stamps = series.iter().flat_map(|one| one.points.iter().map(|point| point.value));
        stamps.filter_map(super::answer::stamp_of).max()
    } else {
        let stamps = series.iter().flat_map(|one| one.points.iter().map(|point| point.at));
        stamps.max().filter(|_| timed)
    };
    let names_nobody = definition.query != Query::Brought;
    let is_nameless =
        |one: &&Series| names_nobody && one.labels.get(1).is_none_or(|label| label.is_empty());
    Ok(Probe {
        series: series.len(),
        nameless: series.iter().filter(is_nameless).count(),
        age: newest.map(|newest| age_of(newest, wall)),
        spacing: series.iter().filter_map(spacing).min(),
    })
}

/// The mean distance of a series' samples.
fn spacing(series: &Series) -> Option<Duration> {
    let (first, last) = (series.points.first()?, series.points.last()?);
    let gaps = u32::try_from(series.points.len().checked_sub(1)?).ok().filter(|gaps| *gaps > 0)?;
    Some(age_of(first.at, last.at) / gaps)
}

#[cfg(test)]
mod tests {
    use wiremock::matchers::path;
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    fn definition(url: &str, query: &str) -> SourceDefinition {
        let document = format!(
            "server: {{url: '{url}'}}\nkind: rps\n{query}\ninterval: 5s\n\
             match: {{namespace: ns, workload: app}}\n"
        );
        SourceDefinition::parse("one", &document).unwrap()
    }

    async fn asked(query: &str, answer: ResponseTemplate) -> Result<Probe, SourceFault> {
        let server = MockServer::start().await;
        Mock::given(path("/api/v1/query")).respond_with(answer).mount(&server).await;
        let wall = Timestamp::from_second(1_700_000_020).unwrap();
        probe(&definition(&server.uri(), query), None, wall).await
    }

    #[tokio::test]
    async fn age_and_fineness_are_those_of_the_samples() {
        let body = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"ns":"a","app":"b"},"values":[[1700000000,"1"],[1700000015,"2"]]},
            {"metric":{"ns":"a"},"values":[[1700000001,"1"]]}]}}"#;
        let answer = ResponseTemplate::new(200).set_body_string(body);
        let seen = asked("selector: a\nform: counter", answer).await.unwrap();
        let expected = Probe {
            series: 2,
            nameless: 1,
            age: Some(Duration::from_secs(5)),
            spacing: Some(Duration::from_secs(15)),
        };
        assert_eq!(seen, expected);
    }

    #[tokio::test]
    async fn the_stamps_of_an_expression_count() {
        let body = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"ns":"a","app":"b"},"value":[1700000020,"1700000008"]}]}}"#;
        let query =
            "expr: sum by (ns, app) (a)\ntimestamp: max by (ns, app) (timestamp(a))\nform: gauge";
        let answer = ResponseTemplate::new(200).set_body_string(body);
        let seen = asked(query, answer).await.unwrap();
        assert_eq!((seen.series, seen.age), (1, Some(Duration::from_secs(12))));
    }

    #[tokio::test]
    async fn faults_are_those_of_the_controller() {
        let fault = asked("selector: a\nform: gauge", ResponseTemplate::new(503)).await;
        assert_eq!(fault, Err(SourceFault::BadStatus));
    }
}
