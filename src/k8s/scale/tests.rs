use std::sync::atomic::AtomicUsize;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::super::testing::{Asked, HandClock, Journal, Reply, api_server};
use super::*;

const PATH: &str = "/apis/apps/v1/namespaces/shop/deployments/web/scale";

/// A writer at work against a scripted API server.
struct Bench {
    queue: ScaleQueue,
    journal: Journal,
    events: mpsc::Receiver<Event>,
    clock: Arc<HandClock>,
    leader: Arc<Leadership>,
    uids: Arc<Uids>,
    counted: Arc<Mutex<Vec<&'static str>>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Bench {
    fn new<F>(answer: impl Fn(Asked) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let (client, journal) = api_server(answer);
        let (engine, events) = EngineHandle::channel();
        let clock = Arc::new(HandClock::default());
        let leader = Arc::new(Leadership::endless());
        let uids = Arc::new(Uids::default());
        uids.insert(web(), "u1".into());
        let counted = Arc::new(Mutex::new(Vec::new()));
        let counting = counted.clone();
        let mut writer = ScaleWriter::new(Context {
            client,
            engine,
            clock: clock.clone(),
            leader: leader.clone(),
            uids: uids.clone(),
            observer: Arc::new(move |outcome, _| {
                counting.lock().push(match outcome {
                    WriteOutcome::Written => "written",
                    WriteOutcome::Conflict => "conflict",
                    WriteOutcome::Refused { .. } => "refused",
                    WriteOutcome::Unknown => "unknown",
                    WriteOutcome::Gone => "gone",
                });
            }),
        });
        // Some tests wait for it; in the others a machine that stands still for a moment must not meet it.
        writer.timeout = Duration::from_secs(1);
        let (queue, stop) = (writer.queue(), CancellationToken::new());
        let task = tokio::spawn(writer.run(stop.clone()));
        Self { queue, journal, events, clock, leader, uids, counted, stop, task }
    }

    /// Replies in order; the last one again and again.
    fn scripted(replies: Vec<fn() -> Reply>) -> Self {
        let next = AtomicUsize::new(0);
        Self::new(move |_| {
            let index = next.fetch_add(1, Ordering::SeqCst).min(replies.len() - 1);
            std::future::ready(replies[index]())
        })
    }

    /// Submits a write of `web` and waits for its outcome.
    async fn write(&mut self, from: i32, replicas: i32, version: &str) -> WriteOutcome {
        self.queue.submit(wish("web", from, replicas, version));
        self.outcome().await
    }

    async fn outcome(&mut self) -> WriteOutcome {
        match self.events.recv().await.unwrap() {
            Event::ScaleWritten { outcome, .. } => outcome,
            other => panic!("{other:?}"),
        }
    }

    async fn observed(&mut self) -> (i32, String) {
        match self.events.recv().await.unwrap() {
            Event::ReplicasObserved { replicas, resource_version, newly_created, .. } => {
                assert!(!newly_created);
                (replicas, resource_version.to_string())
            }
            other => panic!("{other:?}"),
        }
    }

    /// Stops the writer and says what else it told, and the requests that it made.
    async fn end(self) -> (Vec<Event>, Vec<String>) {
        self.stop.cancel();
        self.task.await.unwrap();
        let mut events = self.events;
        let mut rest = Vec::new();
        while let Ok(event) = events.try_recv() {
            rest.push(event);
        }
        let asked = self.journal.lock().iter().map(summary).collect();
        (rest, asked)
    }
}

/// `PATCH 5 @7` or `GET`.
fn summary(asked: &Asked) -> String {
    match asked.method.as_str() {
        "PATCH" => format!(
            "PATCH {} @{}",
            asked.body["spec"]["replicas"],
            asked.body["metadata"]["resourceVersion"].as_str().unwrap()
        ),
        method => method.to_owned(),
    }
}

fn web() -> TargetId {
    TargetId::deployment("shop", "web")
}

fn wish(name: &str, from: i32, replicas: i32, version: &str) -> ScaleWrite {
    ScaleWrite {
        target: TargetId::deployment("shop", name),
        replicas,
        from,
        resource_version: version.into(),
        reason: Reason::StableDemand,
    }
}

fn scale(replicas: i32, version: &str) -> Reply {
    Reply::json(200, &scale_of(replicas, version, "u1"))
}

fn scale_of(replicas: i32, version: &str, uid: &str) -> Value {
    // The API server leaves out replicas when they are 0.
    let spec = if replicas == 0 { json!({}) } else { json!({ "replicas": replicas }) };
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": "web", "namespace": "shop", "uid": uid, "resourceVersion": version},
        "spec": spec,
        "status": {"replicas": 1, "selector": "app=web"},
    })
}

fn status(code: u16) -> Reply {
    Reply::json(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}),
    )
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn a_write_carries_its_precondition_and_reports_what_was_stored() {
    let mut bench = Bench::scripted(vec![|| scale(5, "8")]);
    assert_eq!(bench.write(3, 5, "7").await, WriteOutcome::Written);
    assert_eq!(bench.observed().await, (5, "8".to_owned()));
    assert_eq!(*bench.counted.lock(), ["written"]);
    let asked = bench.journal.lock()[0].clone();
    assert_eq!(asked.line(), format!("PATCH {PATH}"));
    assert_eq!(asked.content_type, "application/merge-patch+json");
    assert!(asked.query.contains("fieldManager=podswell"), "{}", asked.query);
    assert!(!asked.query.contains("force"), "{}", asked.query);
    assert_eq!(asked.body, json!({"metadata": {"resourceVersion": "7"}, "spec": {"replicas": 5}}));
}

#[tokio::test]
async fn zero_is_written_and_read() {
    let mut bench = Bench::scripted(vec![|| scale(0, "8")]);
    assert_eq!(bench.write(1, 0, "7").await, WriteOutcome::Written);
    assert_eq!(bench.observed().await, (0, "8".to_owned()));
}

#[tokio::test]
async fn a_conflict_over_the_status_is_tried_again() {
    let mut bench = Bench::scripted(vec![|| status(409), || scale(3, "9"), || scale(5, "10")]);
    assert_eq!(bench.write(3, 5, "7").await, WriteOutcome::Written);
    assert_eq!(bench.observed().await, (5, "10".to_owned()));
    assert_eq!(bench.end().await.1, ["PATCH 5 @7", "GET", "PATCH 5 @9"]);
}

#[tokio::test]
async fn a_conflict_over_the_replicas_is_the_engines_business() {
    let mut bench = Bench::scripted(vec![|| status(409), || scale(4, "9")]);
    assert_eq!(bench.write(3, 5, "7").await, WriteOutcome::Conflict);
    assert_eq!(bench.observed().await, (4, "9".to_owned()));
    assert_eq!(bench.end().await.1, ["PATCH 5 @7", "GET"]);
}

#[tokio::test]
async fn tries_over_the_status_end() {
    let mut bench = Bench::new(|asked: Asked| {
        let patch = asked.method == "PATCH";
        std::future::ready(if patch { status(409) } else { scale(3, "9") })
    });
    assert_eq!(bench.write(3, 5, "7").await, WriteOutcome::Conflict);
    assert_eq!(bench.observed().await, (3, "9".to_owned()));
    let again = ["PATCH 5 @9", "GET"];
    assert_eq!(bench.end().await.1, [["PATCH 5 @7", "GET"], again, again, again].concat());
}

#[tokio::test]
async fn a_replica_count_that_changes_between_tries_ends_them() {
    let replies: Vec<fn() -> Reply> =
        vec![|| status(409), || scale(3, "9"), || status(409), || scale(4, "11")];
    let mut bench = Bench::scripted(replies);
    assert_eq!(bench.write(3, 5, "7").await, WriteOutcome::Conflict);
    assert_eq!(bench.observed().await, (4, "11".to_owned()));
    assert_eq!(bench.end().await.1, ["PATCH 5 @7", "GET", "PATCH 5 @9", "GET"]);
}

#[tokio::test]
async fn an_object_of_the_same_name_is_neither_written_nor_reported() {
    let other = || Reply::json(200, &scale_of(3, "9", "u2"));
    let mut bench = Bench::scripted(vec![|| status(409), other]);
    assert_eq!(bench.write(3, 5, "7").await, WriteOutcome::Conflict);
    let (rest, asked) = bench.end().await;
    assert_eq!((rest, asked.len()), (vec![], 2));
}

#[tokio::test]
async fn an_unknown_target_is_not_tried_again() {
    let mut bench = Bench::scripted(vec![|| status(409), || scale(3, "9")]);
    bench.uids.remove(&web());
    assert_eq!(bench.write(3, 5, "7").await, WriteOutcome::Conflict);
    assert_eq!(bench.end().await.1, ["PATCH 5 @7", "GET"]);
}

#[tokio::test]
async fn too_many_requests_pause_all_writes_for_as_long_as_asked() {
    let mut bench = Bench::scripted(vec![
        || Reply::text(429, "Too many requests").header("Retry-After", "7"),
        || scale(5, "8"),
    ]);
    let refused = |after| WriteOutcome::Refused { status: 429, retry_after: seconds(after) };
    assert_eq!(bench.write(3, 5, "7").await, refused(7));
    bench.clock.advance(2);
    bench.queue.submit(wish("other", 1, 2, "1"));
    assert_eq!(bench.outcome().await, refused(5));
    assert_eq!(bench.journal.lock().len(), 1, "nothing is sent meanwhile");
    bench.clock.advance(5);
    assert_eq!(bench.write(3, 5, "7").await, WriteOutcome::Written);
}

#[test]
fn retry_after_is_bounded() {
    for (value, want) in [
        (Some("3"), 3),
        (Some(" 3 "), 3),
        (Some("0"), 1),
        (Some("86400"), 300),
        (Some("-1"), 1),
        (Some("Fri, 31 Dec 1999 23:59:59 GMT"), 1),
        (None, 1),
    ] {
        let mut headers = http::HeaderMap::new();
        if let Some(value) = value {
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
        }
        assert_eq!(retry_after(&headers), seconds(want), "{value:?}");
    }
}

#[tokio::test]
async fn refusals_back_off_for_that_target_alone() {
    for code in [403_u16, 422, 400, 404] {
        let mut bench = Bench::new(move |asked: Asked| {
            let reply = if asked.path.contains("/web/") { status(code) } else { scale(2, "4") };
            std::future::ready(reply)
        });
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let outcome = bench.write(3, 5, "7").await;
            let before = bench.journal.lock().len();
            let held = bench.write(3, 5, "7").await;
            assert_eq!(bench.journal.lock().len(), before, "nothing is sent while it pauses");
            assert_eq!(held, outcome);
            let pause = match outcome {
                WriteOutcome::Refused { status, retry_after } if status == code => retry_after,
                WriteOutcome::Gone if code == 404 => {
                    refusal_pause(pauses.len().try_into().unwrap())
                }
                other => panic!("{code}: {other:?}"),
            };
            bench.clock.advance(i64::try_from(pause.as_secs()).unwrap());
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300], "{code}");
        bench.queue.submit(wish("other", 1, 2, "3"));
        assert_eq!(bench.outcome().await, WriteOutcome::Written);
    }
}

#[tokio::test]
async fn credentials_that_are_not_taken_are_tried_every_five_seconds() {
    let mut bench = Bench::scripted(vec![|| status(401)]);
    for _ in 0..5 {
        let refused = WriteOutcome::Refused { status: 401, retry_after: seconds(5) };
        assert_eq!(bench.write(3, 5, "7").await, refused);
        bench.clock.advance(5);
    }
    assert_eq!(bench.end().await.1.len(), 5);
}

#[tokio::test]
async fn a_success_ends_the_pauses() {
    let mut bench =
        Bench::scripted(vec![|| status(403), || status(403), || scale(5, "8"), || status(403)]);
    let refused = |after| WriteOutcome::Refused { status: 403, retry_after: seconds(after) };
    assert_eq!(bench.write(3, 5, "7").await, refused(5));
    bench.clock.advance(5);
    assert_eq!(bench.write(3, 5, "7").await, refused(10));
    bench.clock.advance(10);
    assert_eq!(bench.write(3, 5, "7").await, WriteOutcome::Written);
    assert_eq!(bench.observed().await, (5, "8".to_owned()));
    assert_eq!(bench.write(5, 6, "8").await, refused(5));
}

#[tokio::test]
async fn an_unknown_result_is_read_before_anything_is_written() {
    let answers: Vec<fn() -> Reply> = vec![
        || status(500),
        || status(503),
        || Reply::text(502, "<html>bad gateway"),
        || Reply::text(200, "not json"),
        || Reply::watch(&[]),
    ];
    for answer in answers {
        let next = AtomicUsize::new(0);
        let mut bench = Bench::new(move |_| {
            let first = next.fetch_add(1, Ordering::SeqCst) == 0;
            std::future::ready(if first { answer() } else { scale(5, "8") })
        });
        assert_eq!(bench.write(3, 5, "7").await, WriteOutcome::Unknown);
        assert_eq!(bench.observed().await, (5, "8".to_owned()), "it was stored after all");
        assert_eq!(bench.end().await.1, ["PATCH 5 @7", "GET"]);
    }
}

#[tokio::test]
async fn a_request_that_is_never_answered_ends() {
    let mut bench = Bench::new(|asked: Asked| async move {
        if asked.method == "PATCH" {
            std::future::pending::<()>().await;
        }
        scale(3, "7")
    });
    assert_eq!(bench.write(3, 5, "7").await, WriteOutcome::Unknown);
    assert_eq!(bench.observed().await, (3, "7".to_owned()));
}

#[tokio::test]
async fn a_scale_that_could_not_be_read_is_read_first_next_time() {
    let mut bench =
        Bench::scripted(vec![|| status(500), || status(500), || scale(3, "9"), || scale(5, "10")]);
    assert_eq!(bench.write(3, 5, "7").await, WriteOutcome::Unknown);
    assert_eq!(bench.write(3, 5, "7").await, WriteOutcome::Written);
    assert_eq!(bench.observed().await, (5, "10".to_owned()));
    assert_eq!(bench.end().await.1, ["PATCH 5 @7", "GET", "GET", "PATCH 5 @9"]);

    // It was stored after all, and the decision that follows does not know it yet.
    let mut bench = Bench::scripted(vec![|| status(500), || status(500), || scale(5, "9")]);
    assert_eq!(bench.write(3, 5, "7").await, WriteOutcome::Unknown);
    assert_eq!(bench.write(3, 5, "7").await, WriteOutcome::Conflict);
    assert_eq!(bench.observed().await, (5, "9".to_owned()));
    assert_eq!(bench.end().await.1, ["PATCH 5 @7", "GET", "GET"]);
}

#[tokio::test]
async fn a_server_that_stays_broken_is_asked_less_and_less() {
    let mut bench = Bench::scripted(vec![|| status(500)]);
    let mut asked = Vec::new();
    for _ in 0..40 {
        let before = bench.journal.lock().len();
        assert_eq!(bench.write(3, 5, "7").await, WriteOutcome::Unknown);
        asked.push(bench.journal.lock().len() - before);
        bench.clock.advance(1);
    }
    assert_eq!(asked[..2], [2, 1], "patch and read; then the read comes first");
    assert!(asked.iter().sum::<usize>() <= 10, "{asked:?}");
}

#[tokio::test]
async fn the_newest_value_wins() {
    let (open, gate) = oneshot::channel::<()>();
    let gate = Mutex::new(Some(gate));
    let mut bench = Bench::new(move |asked: Asked| {
        let gate = gate.lock().take();
        async move {
            if let Some(gate) = gate {
                gate.await.unwrap();
            }
            scale(i32::try_from(asked.body["spec"]["replicas"].as_i64().unwrap()).unwrap(), "8")
        }
    });
    bench.queue.submit(wish("web", 1, 2, "7"));
    while bench.journal.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    for replicas in 3..=9 {
        bench.queue.submit(wish("web", 1, replicas, "7"));
    }
    assert_eq!(bench.queue.len(), 1);
    open.send(()).unwrap();
    assert_eq!(bench.outcome().await, WriteOutcome::Written);
    assert_eq!(bench.observed().await.0, 2);
    assert_eq!(bench.outcome().await, WriteOutcome::Written);
    assert_eq!(bench.observed().await.0, 9);
    assert_eq!(bench.end().await.1, ["PATCH 2 @7", "PATCH 9 @7"]);
}

#[tokio::test]
async fn only_so_many_writes_are_under_way() {
    let mut bench = Bench::new(|_| std::future::pending());
    for number in 0..100 {
        bench.queue.submit(wish(&format!("w{number}"), 1, 2, "1"));
    }
    while bench.queue.len() > 100 - IN_FLIGHT {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.queue.len(), 100 - IN_FLIGHT);
    assert_eq!(bench.outcome().await, WriteOutcome::Unknown, "time-outs make room");
}

#[tokio::test]
async fn a_process_that_does_not_lead_writes_nothing() {
    let mut bench = Bench::scripted(vec![|| scale(2, "2")]);
    bench.leader.set(None);
    bench.queue.submit(wish("web", 3, 5, "7"));
    while !bench.queue.is_empty() {
        tokio::task::yield_now().await;
    }
    bench.leader.set(Some(Timestamp::MAX));
    bench.queue.submit(wish("web", 1, 2, "1"));
    assert_eq!(bench.outcome().await, WriteOutcome::Written);
    assert_eq!(*bench.counted.lock(), ["written"]);
    assert_eq!(bench.end().await.1, ["PATCH 2 @1"]);
}

#[tokio::test]
async fn a_lead_that_ran_out_unnoticed_writes_nothing() {
    let bench = Bench::scripted(vec![|| scale(2, "2")]);
    bench.leader.set(Some(bench.clock.now().checked_add(Duration::from_secs(3)).unwrap()));
    bench.clock.advance(3);
    bench.queue.submit(wish("web", 3, 5, "7"));
    while !bench.queue.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.end().await.1, [""; 0]);
}

#[tokio::test]
async fn leadership_lost_on_the_way_stops_the_second_try() {
    let leader = Arc::new(Mutex::new(None::<Arc<Leadership>>));
    let theirs = leader.clone();
    let bench = Bench::new(move |asked: Asked| {
        if asked.method == "GET" {
            theirs.lock().as_ref().unwrap().set(None);
            return std::future::ready(scale(3, "9"));
        }
        std::future::ready(status(409))
    });
    *leader.lock() = Some(bench.leader.clone());
    bench.queue.submit(wish("web", 3, 5, "7"));
    while bench.journal.lock().len() < 2 {
        tokio::task::yield_now().await;
    }
    let (rest, asked) = bench.end().await;
    assert_eq!((rest, asked), (vec![], vec!["PATCH 5 @7".to_owned(), "GET".to_owned()]));
}

#[tokio::test]
async fn a_stop_writes_nothing_that_waits() {
    let bench = Bench::scripted(vec![|| scale(5, "8")]);
    bench.stop.cancel();
    tokio::task::yield_now().await;
    bench.queue.submit(wish("web", 3, 5, "7"));
    assert_eq!(bench.end().await.1, [""; 0]);
}

#[tokio::test]
async fn records_of_trouble_are_bounded() {
    let (client, _) = api_server(|_| std::future::ready(status(500)));
    let clock = Arc::new(HandClock::default());
    let writer = ScaleWriter::new(Context {
        client,
        engine: EngineHandle::channel().0,
        clock: clock.clone(),
        leader: Arc::default(),
        uids: Arc::default(),
        observer: Arc::new(|_, _| {}),
    });
    for number in 0..2 * RECORDS {
        let target = TargetId::deployment("shop", &number.to_string());
        writer.fail(&target, &Answer::Refused(403));
        clock.advance(1);
    }
    assert!(writer.troubles.lock().len() <= RECORDS + 700, "{}", writer.troubles.lock().len());
}
