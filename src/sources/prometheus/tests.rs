use std::fmt::Write as _;
use std::net::IpAddr;

use axum::Router;
use axum::extract::{Query as Params, State};
use axum::response::{IntoResponse, Response};
use parking_lot::{Mutex, RwLock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::Receiver;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::core::roster::{Enrolled, PodFacts, Roster};
use crate::core::source::Wiring;
use crate::core::target::TargetId;
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::engine_handle::EngineHandle;
use crate::sources::counters::SourceMetrics;
use crate::sources::{SourceOptions, Sources};

type Answerer = dyn Fn(&str, f64) -> Response + Send + Sync;
type Asked = Arc<Mutex<Vec<String>>>;

/// A Prometheus server whose answers a test makes up from the query and its time.
struct Fake {
    url: String,
    asked: Asked,
}

async fn answer_one(
    State((answer, asked)): State<(Arc<Answerer>, Asked)>,
    Params(params): Params<BTreeMap<String, String>>,
) -> Response {
    let query = params["query"].clone();
    let time = params.get("time").map_or_else(now_s, |time| time.parse().unwrap());
    asked.lock().push(query.clone());
    answer(&query, time)
}

/// What an expression gives at a moment.
type AnswerAt = dyn Fn(&str, f64) -> f64 + Send + Sync;

async fn answer_range(
    State(answer): State<Arc<AnswerAt>>,
    Params(params): Params<BTreeMap<String, String>>,
) -> Response {
    let number = |name: &str| params[name].parse::<f64>().unwrap();
    let (mut at, mut values) = (number("start"), Vec::new());
    while at <= number("end") {
        values.push(format!("[{at:.3},\"{}\"]", answer(&params["query"], at)));
        at += number("step");
    }
    let labels = labels(&[("ns", "shop"), ("app", "a")]);
    body("matrix", &[format!(r#"{{"metric":{labels},"values":[{}]}}"#, values.join(","))])
}

impl Fake {
    /// One whose expressions have one series, of the workload `a`, now and at earlier moments.
    async fn with_past(answer: impl Fn(&str, f64) -> f64 + Send + Sync + 'static) -> Self {
        let answer: Arc<AnswerAt> = Arc::new(answer);
        let of_past = Router::new()
            .route("/api/v1/query_range", axum::routing::get(answer_range))
            .with_state(answer.clone());
        let labels = [("ns", "shop"), ("app", "a")];
        let now = move |query: &str, time| {
            body("vector", &[instant_of(&labels, time, answer(query, time))])
        };
        Self::serve(Arc::new(now), of_past).await
    }

    async fn start(answer: impl Fn(&str, f64) -> Response + Send + Sync + 'static) -> Self {
        Self::serve(Arc::new(answer), Router::new()).await
    }

    async fn serve(answer: Arc<Answerer>, more: Router) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let app = Router::new()
            .route("/api/v1/query", axum::routing::get(answer_one))
            .with_state((answer, asked.clone()))
            .merge(more);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

fn now_s() -> f64 {
    let nanos = SystemClock::new().wall().as_nanosecond();
    f64::from(u32::try_from(nanos / 1_000_000_000).unwrap())
        + f64::from(u32::try_from(nanos % 1_000_000_000).unwrap()) / 1e9
}

/// The range of a query such as `x[97s]`.
fn range_of(query: &str) -> f64 {
    query.rsplit_once('[').unwrap().1.trim_end_matches("s]").parse().unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(k, v)| format!("\"{k}\":\"{v}\"")).collect();
    format!("{{{}}}", pairs.join(","))
}

fn body(kind: &str, series: &[String]) -> Response {
    let result = series.join(",");
    let text =
        format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":[{result}]}}}}"#);
    ([("content-type", "application/json")], text).into_response()
}

/// One series of a vector.
fn instant_of(pairs: &[(&str, &str)], at: f64, value: f64) -> String {
    format!(r#"{{"metric":{},"value":[{at:.3},"{value}"]}}"#, labels(pairs))
}

/// One series of a matrix: a sample at every whole multiple of `step` seconds plus `offset` within the
/// range that ends at `time`.
fn raw(
    pairs: &[(&str, &str)],
    (time, range): (f64, f64),
    (step, offset): (f64, f64),
    value: impl Fn(f64) -> f64,
) -> String {
    let mut values = String::new();
    let mut at = ((time - range - offset) / step).ceil() * step + offset;
    while at <= time {
        let comma = if values.is_empty() { "" } else { "," };
        let _ = write!(values, "{comma}[{at:.3},\"{}\"]", value(at));
        at += step;
    }
    format!(r#"{{"metric":{},"values":[{values}]}}"#, labels(pairs))
}

struct World {
    roster: Arc<RwLock<Roster>>,
    events: Receiver<Event>,
    metrics: SourceMetrics,
    sources: Sources,
}

impl World {
    fn start(url: &str, rest: &str) -> Self {
        Self::with_credentials(&format!("server: {{ url: \"{url}\" }}\n{rest}"), None)
    }

    fn with_credentials(document: &str, credentials_dir: Option<std::path::PathBuf>) -> Self {
        let (engine, events) = EngineHandle::channel();
        let roster = Arc::new(RwLock::new(Roster::default()));
        let options = SourceOptions { credentials_dir, ..SourceOptions::default() };
        let clock = Arc::new(SystemClock::new());
        let mut sources = Sources::new(roster.clone(), engine, clock, options);
        let documents = BTreeMap::from([("api".to_owned(), document.to_owned())]);
        let (facts, problems) = sources.apply(&documents);
        assert_eq!((facts.len(), problems), (1, Vec::new()));
        let metrics = sources.metrics();
        Self { roster, events, metrics, sources }
    }

    fn enrol(&self, name: &str, pods: &[&str]) -> TargetId {
        self.enrol_since(name, pods, None)
    }

    fn enrol_since(&self, name: &str, pods: &[&str], started_at: Option<Timestamp>) -> TargetId {
        let target = TargetId::deployment("shop", name);
        let pods = pods.iter().map(|name| PodFacts {
            name: (*name).into(),
            ip: Some(IpAddr::from([10, 0, 0, 1])),
            ready: true,
            terminating: false,
            started_at,
            unready_since: None,
        });
        let wiring = Wiring {
            sources: vec!["api".into()],
            most_per_pod: Some(1_000_000),
            stable_window: Duration::from_secs(60),
            ..Wiring::default()
        };
        let enrolled =
            Enrolled { wiring: Arc::new(wiring), replicas: 1, pods: Arc::new(pods.collect()) };
        self.roster.write().enrol(&target, enrolled);
        target
    }

    async fn next_event(&mut self) -> Event {
        tokio::time::timeout(Duration::from_secs(60), self.events.recv()).await.unwrap().unwrap()
    }

    /// The next batch of samples.
    async fn next_samples(&mut self) -> Vec<Sample> {
        loop {
            if let Event::Sampled { samples } = self.next_event().await {
                return samples;
            }
        }
    }

    async fn next_fault(&mut self) -> (TargetId, SourceFault) {
        loop {
            if let Event::SourceFailed { target, source, fault } = self.next_event().await {
                assert_eq!(&*source, "api");
                return (target, fault);
            }
        }
    }

    /// Waits for this fault. Before it there may be none but an answer that was late: the machine may have
    /// stood still.
    async fn fails(&mut self, target: &TargetId, expected: SourceFault, what: &str) {
        loop {
            let (failed, found) = self.next_fault().await;
            assert_eq!(failed, *target, "{what}");
            if found == expected {
                return;
            }
            assert_eq!(found, SourceFault::Timeout, "{what}, not {expected:?}");
        }
    }
}

const BY_POD: &str = "
kind: concurrency
selector: in_flight
form: gauge
interval: 1s
match: { namespace: ns, pod: pod }
";

const BY_WORKLOAD: &str = "
kind: rps
selector: requests_total
form: counter
interval: 1s
match: { namespace: ns, workload: app }
";

fn value(seen: f64, missing: u32) -> Reading {
    Reading::Value { seen, missing }
}

#[tokio::test]
async fn raw_samples_fill_the_window_and_then_come_one_by_one() {
    let fake = Fake::start(|query, time| {
        assert!(query.starts_with("in_flight["), "{query}");
        let span = (time, range_of(query));
        body(
            "matrix",
            &[
                raw(&[("ns", "shop"), ("pod", "a-1")], span, (1.0, 0.25), |_| 3.0),
                raw(&[("ns", "shop"), ("pod", "a-2")], span, (1.0, 0.5), |_| 4.0),
                raw(&[("ns", "blog"), ("pod", "a-1")], span, (1.0, 0.5), |_| 99.0),
            ],
        )
    })
    .await;
    let began = now_s();
    let mut world = World::start(&fake.url, BY_POD);
    let target = world.enrol("a", &["a-1", "a-2", "a-3"]);
    let first = world.next_samples().await;
    // A machine that stood still meanwhile makes them older.
    let late = Duration::from_secs_f64((now_s() - began).max(0.0));
    // The window, and as much more as its data may lag.
    assert!((60..=66).contains(&first.len()), "{}", first.len());
    let mut last: Option<i64> = None;
    for sample in &first {
        assert_eq!(sample.target, target);
        // The third pod should have a series and has none.
        assert_eq!(sample.reading, value(7.0, 1));
        let stamp = sample.stamp_ms.unwrap();
        assert!(last.is_none_or(|last| last < stamp));
        last = Some(stamp);
    }
    let [oldest, newest] = [first[0].age, first.last().unwrap().age];
    assert!(oldest > Duration::from_secs(58) && oldest < Duration::from_secs(68) + late);
    assert!(newest < Duration::from_secs(2) + late);
    for _ in 0..3 {
        let samples = world.next_samples().await;
        assert!(samples.len() <= 20, "not all of it again: {samples:?}");
        for sample in samples {
            assert!(last.is_none_or(|last| last < sample.stamp_ms.unwrap()));
            assert_eq!(sample.reading, value(7.0, 1));
            last = sample.stamp_ms;
        }
    }
    let asked = fake.asked();
    assert!(range_of(&asked[0]) >= 62.0, "{asked:?}");
    assert!(asked[1..].iter().all(|query| range_of(query) < 30.0), "{asked:?}");
    let (_, counters) = world.metrics.snapshot().remove(0);
    assert!(counters.outcomes[0].1 >= 60);
}

/// A pod that claims more than a pod can bear is one that does not answer, and is named until it is honest.
#[tokio::test]
async fn a_pod_that_lies_is_named() {
    let lie = Arc::new(Mutex::new(2e9));
    let told = lie.clone();
    let fake = Fake::start(move |query, time| {
        let (span, told) = ((time, range_of(query)), *told.lock());
        let series =
            |pod, load| raw(&[("ns", "shop"), ("pod", pod)], span, (1.0, 0.0), move |_| load);
        body("matrix", &[series("a-1", 3.0), series("a-2", told)])
    })
    .await;
    let mut world = World::start(&fake.url, BY_POD);
    let target = world.enrol("a", &["a-1", "a-2"]);
    let readings = world.sources.pod_readings();
    let clock = SystemClock::new();
    let blamed = || {
        let blamed = readings.lock().blamed(clock.now(), &target);
        blamed.into_iter().map(|pod| (pod.name.to_string(), pod.fault)).collect::<Vec<_>>()
    };
    for sample in world.next_samples().await {
        assert_eq!(sample.reading, value(3.0, 1));
    }
    while blamed() != [("a-2".to_owned(), SourceFault::Implausible)] {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    *lie.lock() = 4.0;
    while !blamed().is_empty() {
        world.next_samples().await;
    }
}

#[tokio::test]
async fn counters_become_rates_of_all_workloads_with_one_query() {
    let fake = Fake::start(|query, time| {
        let span = (time, range_of(query));
        let series = |app: &str, code: &str, rate: f64| {
            raw(&[("ns", "shop"), ("app", app), ("code", code)], span, (1.0, 0.0), move |at| {
                // Every ten seconds the process begins anew.
                rate * at.rem_euclid(10.0)
            })
        };
        body(
            "matrix",
            &[series("a", "200", 10.0), series("a", "500", 1.0), series("b", "200", 5.0)],
        )
    })
    .await;
    let mut world = World::start(&fake.url, BY_WORKLOAD);
    let a = world.enrol("a", &[]);
    let b = world.enrol("b", &[]);
    // Both have to be there before the first question.
    let samples = world.next_samples().await;
    for (target, rate) in [(&a, 11.0), (&b, 5.0)] {
        let of_target: Vec<_> = samples.iter().filter(|one| one.target == *target).collect();
        assert!(of_target.len() > 50, "{}", of_target.len());
        for sample in of_target {
            let Reading::Value { seen, missing: 0 } = sample.reading else { panic!("{sample:?}") };
            // The second in which it began anew counts nothing: the new value was 0.
            assert!((seen - rate).abs() < 1e-6 || seen.abs() < 1e-6, "{seen}");
        }
    }
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn a_new_workload_is_filled_without_repeating_the_others() {
    let fake = Fake::start(|query, time| {
        let span = (time, range_of(query));
        let series = |pod| raw(&[("ns", "shop"), ("pod", pod)], span, (1.0, 0.0), |_| 1.0);
        body("matrix", &[series("a-1"), series("b-1")])
    })
    .await;
    let mut world = World::start(&fake.url, BY_POD);
    let a = world.enrol("a", &["a-1"]);
    let mut stamps: Vec<i64> =
        world.next_samples().await.iter().map(|sample| sample.stamp_ms.unwrap()).collect();
    let b = world.enrol("b", &["b-1"]);
    let mut of_b = 0;
    while of_b == 0 {
        for sample in world.next_samples().await {
            if sample.target == a {
                stamps.push(sample.stamp_ms.unwrap());
            } else {
                assert_eq!(sample.target, b);
                of_b += 1;
            }
        }
    }
    assert!(of_b > 50, "{of_b}");
    assert!(stamps.is_sorted_by(|one, next| one < next), "{stamps:?}");
    assert_eq!(fake.asked().iter().filter(|query| range_of(query) > 60.0).count(), 2);
}

#[tokio::test]
async fn a_counter_born_with_its_pod_starts_at_zero() {
    let began = now_s();
    let fake = Fake::start(move |query, time| {
        let span = (time, range_of(query));
        let old = raw(&[("ns", "shop"), ("pod", "a-1")], span, (1.0, 0.0), |at| 5.0 * at);
        // The new pod counts ten a second and shows for the first time after a second.
        let young = raw(
            &[("ns", "shop"), ("pod", "a-2")],
            (time, (time - began - 1.0).min(range_of(query))),
            (1.0, 0.0),
            |at| 10.0 * (at - began),
        );
        if time > began + 2.0 { body("matrix", &[old, young]) } else { body("matrix", &[old]) }
    })
    .await;
    let counter = BY_POD.replace("gauge", "counter");
    let mut world = World::start(&fake.url, &counter);
    world.enrol_since("a", &["a-1"], Timestamp::from_second(1_000_000_000).ok());
    world.next_samples().await;
    // The old pod's start is long ago, the young one's is now.
    let target = TargetId::deployment("shop", "a");
    let mut enrolled = world.roster.read().get(&target).unwrap().clone();
    let mut pods = (*enrolled.pods).clone();
    pods.push(PodFacts {
        name: "a-2".into(),
        started_at: answer::stamp_of(began),
        ..pods[0].clone()
    });
    enrolled.pods = Arc::new(pods);
    world.roster.write().enrol(&target, enrolled);
    loop {
        let samples = world.next_samples().await;
        for sample in samples {
            let Reading::Value { seen, missing } = sample.reading else { panic!("{sample:?}") };
            if missing == 0 && (seen - 5.0).abs() > 1e-3 {
                assert!((seen - 15.0).abs() < 1.0, "{seen}");
                return;
            }
        }
    }
}

#[tokio::test]
async fn absence_is_zero_only_while_the_source_is_alive() {
    let alive = Arc::new(Mutex::new(1.0));
    let seen = alive.clone();
    let fake = Fake::start(move |query, time| match query {
        "up" => body("vector", &[instant_of(&[], time, *seen.lock())]),
        _ => body("matrix", &[]),
    })
    .await;
    let document = format!("{BY_WORKLOAD}absent: zero\nalive: up\nvisibleAtZero: true\n");
    let mut world = World::start(&fake.url, &document);
    let target = world.enrol("a", &[]);
    let mut last = None;
    for _ in 0..2 {
        let [sample] = world.next_samples().await.try_into().unwrap();
        assert_eq!((&sample.target, sample.reading), (&target, value(0.0, 0)));
        assert!(last < sample.stamp_ms);
        last = sample.stamp_ms;
    }
    *alive.lock() = 0.0;
    world.fails(&target, SourceFault::Empty, "not alive").await;
}

/// An expression whose samples, one each four seconds, have stamps.
const STAMPED: &str = "
kind: concurrency
expr: load
form: gauge
timestamp: timestamp(load)
interval: 4s
match: { namespace: ns, workload: app }
";

#[tokio::test]
async fn stamps_of_an_expression_tell_new_samples_from_old_ones() {
    let fake = Fake::start(|query, time| {
        // The sample is made every four seconds.
        let stamp = (time / 4.0).floor() * 4.0;
        match query {
            "load" => body(
                "vector",
                &[instant_of(&[("__name__", "x"), ("ns", "shop"), ("app", "a")], time, stamp)],
            ),
            "timestamp(load)" => {
                body("vector", &[instant_of(&[("ns", "shop"), ("app", "a")], time, stamp)])
            }
            other => panic!("{other}"),
        }
    })
    .await;
    let mut world = World::start(&fake.url, STAMPED);
    world.enrol("a", &[]);
    let mut stamps = Vec::new();
    for _ in 0..2 {
        let [sample] = world.next_samples().await.try_into().unwrap();
        let stamp = sample.stamp_ms.unwrap();
        assert_eq!(stamp % 4_000, 0);
        let Reading::Value { seen, missing: 0 } = sample.reading else { panic!("{sample:?}") };
        assert!(
            (seen * 1000.0 - f64::from(u32::try_from(stamp / 1000).unwrap()) * 1000.0).abs() < 1.0
        );
        stamps.push(stamp);
    }
    // A busy machine may miss one; a repeated one would be no new sample.
    assert!(stamps[1] > stamps[0], "{stamps:?}");
    // It is asked more often than there are samples.
    while fake.asked().len() < 6 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let asked = fake.asked();
    assert!(asked.chunks_exact(2).all(|pair| pair == ["timestamp(load)", "load"]), "{asked:?}");
}

/// A server that was away answers with its last numbers for five minutes; their stamps tell.
#[tokio::test]
async fn an_expression_with_stamps_fills_the_window_but_not_an_outage() {
    let began = now_s();
    let outage = (began - 40.0)..(began - 20.0);
    let away = outage.clone();
    let fake = Fake::with_past(move |query, time| {
        let known = if away.contains(&time) { away.start } else { time };
        if query == "timestamp(load)" { (known / 4.0).floor() * 4.0 } else { 7.0 }
    })
    .await;
    let mut world = World::start(&fake.url, STAMPED);
    world.enrol("a", &[]);
    let first = world.next_samples().await;
    let mut stamps = Vec::new();
    for sample in &first {
        assert_eq!(sample.reading, value(7.0, 0));
        let stamp = sample.stamp_ms.unwrap();
        assert_eq!(stamp % 4_000, 0);
        stamps.push(f64::from(u32::try_from(stamp / 1000).unwrap()));
    }
    assert!(stamps.is_sorted_by(|before, after| before < after), "{stamps:?}");
    assert!(stamps[0] < began - 55.0, "{stamps:?}");
    assert!(stamps.iter().all(|stamp| !outage.contains(stamp)), "{stamps:?} {outage:?}");
    assert!((12..=20).contains(&stamps.len()), "{stamps:?}");
    // What came is not told again.
    let next = world.next_samples().await;
    assert!(next.len() <= 2 && next[0].stamp_ms > first.last().unwrap().stamp_ms, "{next:?}");
}

#[tokio::test]
async fn an_expression_without_stamps_is_one_sample_a_round() {
    let fake = Fake::start(|_, time| {
        body(
            "vector",
            &[
                instant_of(&[("ns", "shop"), ("app", "a"), ("zone", "x")], time, 2.0),
                instant_of(&[("ns", "shop"), ("app", "a"), ("zone", "y")], time, 3.0),
            ],
        )
    })
    .await;
    let document = "
kind: rps
expr: sum by (ns, app, zone) (rate(x_total[1m]))
form: rate
range: 1m
resolution: 1s
interval: 1s
match: { namespace: ns, workload: app }
";
    let mut world = World::start(&fake.url, document);
    world.enrol("a", &[]);
    for _ in 0..3 {
        let [sample] = world.next_samples().await.try_into().unwrap();
        assert_eq!(sample.reading, value(5.0, 0));
    }
}

#[tokio::test]
async fn a_range_that_is_too_long_is_shortened() {
    let fake = Fake::start(|query, time| {
        let range = range_of(query);
        if range > 40.0 {
            return http::StatusCode::UNPROCESSABLE_ENTITY.into_response();
        }
        body(
            "matrix",
            &[raw(&[("ns", "shop"), ("pod", "a-1")], (time, range), (1.0, 0.0), |_| 1.0)],
        )
    })
    .await;
    let mut world = World::start(&fake.url, BY_POD);
    world.enrol("a", &["a-1"]);
    let samples = world.next_samples().await;
    assert!(samples.len() > 20, "{}", samples.len());
}

/// Writes `answer` to every connection as it is, then zeroes for ever if that is wanted.
async fn serve_raw(answer: String, endless: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let chunk = [b"10000\r\n", vec![b' '; 0x1_0000].as_slice(), b"\r\n"].concat();
                while endless && stream.write_all(&chunk).await.is_ok() {}
                tokio::time::sleep(Duration::from_secs(30)).await;
            });
        }
    });
    url
}

async fn wire(response: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(response).mount(&server).await;
    server
}

fn json(text: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(text.to_owned(), "application/json")
}

fn matrix(series: &[String]) -> String {
    let series = series.join(",");
    format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{series}]}}}}"#)
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn every_bad_answer_has_its_own_fault() {
    let now = now_s();
    let at = |value: &str, ahead: f64| {
        format!(
            r#"{{"metric":{{"ns":"shop","pod":"a-1"}},"values":[[{:.3},"{value}"]]}}"#,
            now + ahead
        )
    };
    let good = matrix(&[at("1", 0.0)]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut gzip, &vec![b' '; 10_000_000]).unwrap();
    let gzip = gzip.finish().unwrap();
    let warned = good.replace("\"data\"", "\"warnings\":[\"a store is away\"],\"data\"");
    let other = wire(json(&good)).await;
    let wired = [
        ("status 500", ResponseTemplate::new(500), SourceFault::BadStatus),
        ("status 429", ResponseTemplate::new(429), SourceFault::BadStatus),
        (
            "redirect",
            ResponseTemplate::new(302).insert_header("location", other.uri()),
            SourceFault::BadStatus,
        ),
        (
            "html",
            ResponseTemplate::new(200).set_body_string("<html></html>"),
            SourceFault::Malformed,
        ),
        (
            "gzip bomb",
            ResponseTemplate::new(200)
                .insert_header("content-encoding", "gzip")
                .set_body_bytes(gzip),
            SourceFault::Malformed,
        ),
        ("slow", json(&good).set_delay(Duration::from_secs(8)), SourceFault::Timeout),
        ("warnings", json(&warned), SourceFault::PartialAnswer),
        ("empty", json(&matrix(&[])), SourceFault::Empty),
        ("nan", json(&matrix(&[at("NaN", 0.0)])), SourceFault::InvalidSample),
        ("infinite", json(&matrix(&[at("+Inf", 0.0)])), SourceFault::InvalidSample),
        ("negative", json(&matrix(&[at("-1", 0.0)])), SourceFault::InvalidSample),
        ("future", json(&matrix(&[at("1", 1e6)])), SourceFault::InvalidSample),
        ("old", json(&matrix(&[at("1", -30.0)])), SourceFault::Stale),
        ("an hour old", json(&matrix(&[at("1", -3600.0)])), SourceFault::Stale),
        ("twice", json(&matrix(&[at("1", 0.0), at("2", 0.0)])), SourceFault::Ambiguous),
    ];
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n".to_owned();
    let raw = [
        (
            "announced",
            head.clone() + "content-length: 2000000000\r\n\r\n",
            false,
            SourceFault::TooLarge,
        ),
        (
            "endless",
            head.clone() + "transfer-encoding: chunked\r\n\r\n",
            true,
            SourceFault::TooLarge,
        ),
        ("stalled", head + "content-length: 60\r\n\r\n{", false, SourceFault::Timeout),
        ("silent", String::new(), false, SourceFault::Timeout),
    ];
    // Bound, so that nobody else takes the port, and not listening.
    let bound = tokio::net::TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = format!("http://{}", bound.local_addr().unwrap());
    let mut cases = vec![("closed", closed, SourceFault::Unreachable)];
    let mut servers = Vec::new();
    for (name, response, fault) in wired {
        let server = wire(response).await;
        cases.push((name, server.uri(), fault));
        servers.push(server);
    }
    for (name, answer, endless, fault) in raw {
        cases.push((name, serve_raw(answer, endless).await, fault));
    }
    let mut worlds = Vec::new();
    for (name, url, fault) in cases {
        let world = World::start(&url, BY_POD);
        let target = world.enrol("a", &["a-1"]);
        worlds.push((name, world, target, fault));
    }
    for (name, mut world, target, fault) in worlds {
        world.fails(&target, fault, name).await;
        let (_, counters) = world.metrics.snapshot().remove(0);
        assert!(counters.duration_counts.iter().sum::<u64>() > 0, "{name} is counted");
    }
    assert!(other.received_requests().await.unwrap().is_empty(), "no redirect is followed");
}

#[tokio::test]
async fn a_failing_server_is_asked_again_and_recovery_is_heard() {
    let fails = Arc::new(Mutex::new(3));
    let left = fails.clone();
    let fake = Fake::start(move |query, time| {
        let mut left = left.lock();
        if *left > 0 {
            *left -= 1;
            return http::StatusCode::BAD_GATEWAY.into_response();
        }
        let span = (time, range_of(query));
        body("matrix", &[raw(&[("ns", "shop"), ("pod", "a-1")], span, (1.0, 0.0), |_| 1.0)])
    })
    .await;
    let mut world = World::start(&fake.url, BY_POD);
    let target = world.enrol("a", &["a-1"]);
    world.fails(&target, SourceFault::BadStatus, "at first").await;
    assert!(!world.next_samples().await.is_empty());
}

#[tokio::test]
async fn a_token_is_sent_and_read_again_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "one\n").unwrap();
    let server = wire(json(&matrix(&[]))).await;
    let document = format!(
        "server: {{ url: \"{}\", bearerTokenFile: token, headers: {{ X-Scope-OrgID: shop }} }}\n{BY_POD}",
        server.uri()
    );
    let world = World::with_credentials(&document, Some(dir.path().to_owned()));
    world.enrol("a", &["a-1"]);
    let sent = async |wanted: &str| {
        loop {
            let requests = server.received_requests().await.unwrap();
            if requests.last().is_some_and(|request| request.headers["authorization"] == wanted) {
                assert_eq!(requests.last().unwrap().headers["x-scope-orgid"], "shop");
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), sent("Bearer one")).await.unwrap();
    std::fs::write(dir.path().join("token"), "two\n").unwrap();
    tokio::time::timeout(Duration::from_secs(60), sent("Bearer two")).await.unwrap();
}

/// Serves `text` over TLS with a certificate for localhost, and returns its URL and its authority.
async fn serve_tls(text: String) -> (String, String) {
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::new(params, authority);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".into()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, text) = (acceptor.clone(), text.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = [0; 4096];
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let length = text.len();
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                    let _ = stream.write_all((head + &text).as_bytes()).await;
                }
            });
        }
    });
    (url, root.pem())
}

#[tokio::test]
async fn only_the_named_authority_is_trusted() {
    let (url, authority) = serve_tls(matrix(&[])).await;
    let (_, stranger) = serve_tls(String::new()).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.crt"), authority).unwrap();
    std::fs::write(dir.path().join("stranger.crt"), stranger).unwrap();
    for (file, expected) in
        [("ca.crt", SourceFault::Empty), ("stranger.crt", SourceFault::Unreachable)]
    {
        let document = format!("server: {{ url: \"{url}\", caFile: {file} }}\n{BY_POD}");
        let mut world = World::with_credentials(&document, Some(dir.path().to_owned()));
        let target = world.enrol("a", &["a-1"]);
        world.fails(&target, expected, file).await;
    }
}

#[tokio::test]
async fn documents_come_change_break_and_go() {
    let fake = Fake::start(|query, time| {
        let span = (time, range_of(query));
        body("matrix", &[raw(&[("ns", "shop"), ("pod", "a-1")], span, (1.0, 0.0), |_| 1.0)])
    })
    .await;
    let good = format!("server: {{ url: \"{}\" }}\n{BY_POD}", fake.url);
    let mut world = World::start(&fake.url, BY_POD);
    let target = world.enrol("a", &["a-1"]);
    world.next_samples().await;
    // A broken document keeps the task, and a second one is not affected.
    let documents = BTreeMap::from([
        ("api".to_owned(), good.replace("interval", "intervall")),
        ("other".to_owned(), good.replace("gauge", "counter")),
        ("worse".to_owned(), "x".to_owned()),
    ]);
    let (facts, problems) = world.sources.apply(&documents);
    assert_eq!(facts.keys().map(|name| &**name).collect::<Vec<_>>(), ["api", "other"]);
    let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 2);
    assert!(
        shown[0].contains("podswell-sources/api: line 6: unknown field `intervall`"),
        "{shown:?}"
    );
    assert!(shown[0].ends_with("the last good definition stays in use"), "{shown:?}");
    assert!(shown[1].ends_with("there is no such source"), "{shown:?}");
    world.next_samples().await;
    // Credentials that cannot be read are reported; nothing of the old document is left.
    let documents =
        BTreeMap::from([("api".to_owned(), good.replacen(" }\n", ", bearerTokenFile: t }\n", 1))]);
    let (facts, problems) = world.sources.apply(&documents);
    assert_eq!((facts.len(), problems.len()), (1, 1));
    assert!(problems[0].why.contains("credentials"), "{problems:?}");
    world.fails(&target, SourceFault::Unreachable, "no credentials").await;
    // Without documents nothing is asked any more.
    assert!(world.sources.apply(&BTreeMap::new()).0.is_empty());
    assert!(world.metrics.snapshot().is_empty());
    // What was under way may still arrive.
    for _ in 0..5 {
        let asked = fake.asked().len();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        if fake.asked().len() == asked {
            return;
        }
    }
    panic!("still asked: {:?}", fake.asked());
}
