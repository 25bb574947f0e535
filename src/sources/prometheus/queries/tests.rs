use parking_lot::RwLock;
use tokio::sync::mpsc::Receiver;
use wiremock::matchers::{path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::core::event::Event;
use crate::core::roster::{Enrolled, Roster};
use crate::core::source::{OwnQuery, Wiring};
use crate::runtime::clock::SystemClock;
use crate::runtime::engine_handle::EngineHandle;
use crate::sources::{SourceOptions, Sources};

use super::*;

const WINDOW: Duration = Duration::from_secs(60);

/// A server that answers each query by its text.
async fn server(answers: &[(&str, ResponseTemplate)]) -> MockServer {
    let server = MockServer::start().await;
    for (query, answer) in answers {
        let mock = Mock::given(query_param("query", *query)).respond_with(answer.clone());
        mock.mount(&server).await;
    }
    server
}

fn vector(values: &[&str]) -> ResponseTemplate {
    let series: Vec<_> = values
        .iter()
        .enumerate()
        .map(|(at, value)| format!(r#"{{"metric":{{"a":"{at}"}},"value":[1700000000,"{value}"]}}"#))
        .collect();
    answer("vector", &format!("[{}]", series.join(",")))
}

fn answer(kind: &str, result: &str) -> ResponseTemplate {
    let text =
        format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#);
    ResponseTemplate::new(200).set_body_string(text)
}

/// A source whose workloads bring these queries; each workload is named by its query.
fn start(url: &str, queries: &[(&str, &str)]) -> (Sources, Receiver<Event>) {
    let roster = Arc::new(RwLock::new(Roster::default()));
    for (namespace, query) in queries {
        let wiring = Wiring {
            sources: vec!["own".into()],
            queries: BTreeMap::from([(
                "own".into(),
                OwnQuery { text: (*query).into(), past: format!("past of {query}").into() },
            )]),
            stable_window: WINDOW,
            ..Wiring::default()
        };
        let enrolled = Enrolled { wiring: Arc::new(wiring), replicas: 1, pods: Arc::default() };
        roster.write().enrol(&TargetId::deployment(namespace, query), enrolled);
    }
    let (engine, events) = EngineHandle::channel();
    let clock = Arc::new(SystemClock::new());
    let mut sources = Sources::new(roster, engine, clock, SourceOptions::default());
    let document = format!(
        "server: {{ url: \"{url}\" }}\nkind: backlog\nqueries: true\nform: gauge\n\
         interval: 1s\nmatch: {{ namespace: namespace }}\n"
    );
    let (facts, problems) = sources.apply(&BTreeMap::from([("own".to_owned(), document)]));
    assert_eq!((facts.len(), problems), (1, Vec::new()));
    (sources, events)
}

/// What is heard first of each of so many workloads.
async fn first_words(
    events: &mut Receiver<Event>,
    count: usize,
) -> BTreeMap<String, Result<f64, SourceFault>> {
    let mut heard = BTreeMap::new();
    while heard.len() < count {
        let event = tokio::time::timeout(Duration::from_secs(60), events.recv()).await;
        match event.expect("an event in time").expect("the source runs") {
            Event::Sampled { samples } => {
                for sample in samples {
                    let Reading::Value { seen, missing: 0 } = sample.reading else {
                        panic!("{sample:?}");
                    };
                    heard.entry(sample.target.name.to_string()).or_insert(Ok(seen));
                }
            }
            Event::SourceFailed { target, fault, .. } => {
                heard.entry(target.name.to_string()).or_insert(Err(fault));
            }
            other => panic!("{other:?}"),
        }
    }
    heard
}

#[tokio::test]
async fn an_answer_is_one_number_or_a_reason() {
    let cases = [
        ("one", vector(&["3.5"]), Ok(3.5)),
        ("scalar", answer("scalar", r#"[1700000000,"7"]"#), Ok(7.0)),
        ("none", vector(&[]), Err(SourceFault::Empty)),
        ("two", vector(&["1", "2"]), Err(SourceFault::Ambiguous)),
        ("nan", vector(&["NaN"]), Err(SourceFault::InvalidSample)),
        ("infinite", vector(&["+Inf"]), Err(SourceFault::InvalidSample)),
        ("negative", vector(&["-1"]), Err(SourceFault::InvalidSample)),
        ("text", answer("string", r#"[1700000000,"x"]"#), Err(SourceFault::Malformed)),
        ("no-promql", ResponseTemplate::new(400), Err(SourceFault::QueryRefused)),
        ("too-dear", ResponseTemplate::new(422), Err(SourceFault::QueryRefused)),
        ("broken", ResponseTemplate::new(500), Err(SourceFault::BadStatus)),
        (
            "huge",
            ResponseTemplate::new(200).set_body_string(" ".repeat(MAX_ANSWER_BYTES + 1)),
            Err(SourceFault::TooLarge),
        ),
        (
            "range",
            answer("matrix", r#"[{"metric":{},"values":[[1700000000,"1"],[1700000001,"1"]]}]"#),
            Err(SourceFault::Ambiguous),
        ),
    ];
    let answers: Vec<_> = cases.iter().map(|(query, answer, _)| (*query, answer.clone())).collect();
    let server = server(&answers).await;
    let queries: Vec<_> = cases.iter().map(|(query, ..)| ("shop", *query)).collect();
    let (_sources, mut events) = start(&server.uri(), &queries);
    let heard = first_words(&mut events, cases.len()).await;
    for (query, _, expected) in cases {
        assert_eq!(heard[query], expected, "{query}");
    }
}

#[tokio::test]
async fn a_slow_query_holds_up_its_own_namespace_only() {
    let slow = vector(&["1"]).set_delay(Duration::from_secs(3600));
    let answers = [("slow-1", slow.clone()), ("slow-2", slow), ("quick", vector(&["2"]))];
    let server = server(&answers).await;
    let queries = [("a", "slow-1"), ("a", "slow-2"), ("shop", "quick")];
    let is_quick = |event: &Option<Event>| matches!(event, Some(Event::Sampled { samples }) if &*samples[0].target.name == "quick");
    let mut tries = 0;
    // The quick one is heard again and again before the slow ones have run into their limit. On a machine
    // that stands still for seconds they may all at once: then once more.
    let (_sources, mut events) = loop {
        let (sources, mut events) = start(&server.uri(), &queries);
        let heard = [events.recv().await, events.recv().await];
        if heard.iter().all(is_quick) {
            break (sources, events);
        }
        tries += 1;
        assert!(tries < 5, "{heard:?}");
    };
    let heard = first_words(&mut events, 3).await;
    assert_eq!(heard["slow-1"], Err(SourceFault::Timeout));
    assert_eq!(heard["slow-2"], Err(SourceFault::Timeout));
}

/// What the first samples of the query `load` say: age in seconds and load, in the order of their coming.
async fn first_samples(events: &mut Receiver<Event>) -> Vec<(f64, f64)> {
    let event = tokio::time::timeout(Duration::from_secs(60), events.recv()).await;
    let Event::Sampled { samples } = event.expect("in time").expect("the source runs") else {
        panic!("no samples");
    };
    let read = samples.into_iter().map(|sample| match sample.reading {
        Reading::Value { seen, missing: 0 } => (sample.age.as_secs_f64(), seen),
        other => panic!("{other:?}"),
    });
    read.collect()
}

#[tokio::test]
async fn the_past_comes_before_the_present_and_once() {
    let past = r#"[{"metric":{},"values":[[1699999940,"1"],[1699999941,"NaN"],[1699999999,"2"],
        [1700000000,"3"]]}]"#;
    let matrix = answer("matrix", past);
    for (name, answer, expected) in [
        ("the past", matrix, &[(60.0, 1.0), (1.0, 2.0), (0.0, 5.0)][..]),
        ("no past", answer("matrix", "[]"), &[(0.0, 5.0)]),
        ("a refused past", ResponseTemplate::new(422), &[(0.0, 5.0)]),
        ("a broken past", ResponseTemplate::new(500), &[(0.0, 5.0)]),
    ] {
        let server = server(&[("load", vector(&["5"]))]).await;
        let mock = Mock::given(path("/api/v1/query_range"))
            .and(query_param("query", "past of load"))
            // The window and the 2.5 s after which a sample is stale, in steps of the interval.
            .and(query_param("start", (1_700_000_000 - 62).to_string()))
            .and(query_param("end", "1700000000"))
            .and(query_param("step", "1"));
        mock.respond_with(answer).expect(1).mount(&server).await;
        let (_sources, mut events) = start(&server.uri(), &[("shop", "load")]);
        assert_eq!(first_samples(&mut events).await, expected, "{name}");
        assert_eq!(first_samples(&mut events).await, [(0.0, 5.0)], "{name}");
    }
}

#[test]
fn only_what_a_window_lacks_is_asked_for() {
    let document = "server: { url: 'http://p' }\nkind: backlog\nqueries: true\nform: gauge\n\
                    interval: 10s\nmatch: { namespace: namespace }\n";
    let definition = SourceDefinition::parse("own", document).unwrap();
    let seconds = Duration::from_secs;
    let now = instant() + seconds(3600);
    // How long ago it was heard and filled, and how much is asked for.
    let cases = [
        (None, None, Some(85)),
        (Some(10), None, None),
        (Some(40), Some(600), Some(40)),
        (Some(600), Some(600), Some(85)),
        (Some(40), Some(20), None),
        (None, Some(20), None),
    ];
    for (heard, filled, expected) in cases {
        let ago = |span: Option<u64>| span.map(|span| now - seconds(span));
        let turn = Turn {
            query: OwnQuery { text: "x".into(), past: "x".into() },
            window: WINDOW,
            due: now,
            failures: 0,
            heard_at: ago(heard),
            filled_at: ago(filled),
        };
        let lacks = turn.lacks(now, &definition);
        assert_eq!(
            lacks,
            expected.map(|span| (seconds(span), seconds(10))),
            "{heard:?} {filled:?}"
        );
    }
}
