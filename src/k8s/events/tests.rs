use serde_json::Value;

use super::super::testing::{Asked, HandClock, Journal, Reply, api_server};
use super::*;

struct Bench {
    writer: EventWriter,
    journal: Journal,
    clock: Arc<HandClock>,
    leader: Arc<Leadership>,
}

impl Bench {
    fn new(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let (client, journal) = api_server(move |asked| std::future::ready(answer(&asked)));
        let clock = Arc::new(HandClock::default());
        let leader = Arc::new(Leadership::endless());
        let uids = Arc::new(Uids::default());
        uids.insert(web(), "u1".into());
        let (client, instance) = (client, "podswell-0".to_owned());
        let (clock_too, leader_too) = (clock.clone(), leader.clone());
        let (_, writer) = EventWriter::new(Context {
            client,
            clock: clock_too,
            leader: leader_too,
            uids,
            instance,
        });
        Self { writer, journal, clock, leader }
    }

    async fn announce(&mut self, target: &TargetId, reason: NoticeReason, note: &str) {
        let notice = Notice { at: self.clock.now(), reason, note: note.to_owned() };
        self.writer.write(target, &notice).await;
    }

    fn counts(&self) -> [u64; 3] {
        let counts = &self.writer.counts;
        [&counts.written, &counts.limited, &counts.failed]
            .map(|count| count.load(Ordering::Relaxed))
    }

    fn asked(&self) -> Vec<Asked> {
        self.journal.lock().clone()
    }
}

fn web() -> TargetId {
    TargetId::deployment("shop", "web")
}

fn accepts(asked: &Asked) -> Reply {
    let mut stored = asked.body.clone();
    if asked.method == "PATCH" {
        stored["metadata"] = json!({"name": "x", "namespace": "shop"});
    }
    Reply::json(201, &stored)
}

fn status(code: u16) -> Reply {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "no", "reason": "x", "code": code});
    Reply::json(code, &body)
}

#[tokio::test]
async fn an_event_says_who_what_and_on_which_object() {
    let mut bench = Bench::new(accepts);
    bench.announce(&web(), NoticeReason::ScaledUp, "3 → 5 replicas").await;
    let asked = &bench.asked()[0];
    assert_eq!(asked.line(), "POST /apis/events.k8s.io/v1/namespaces/shop/events");
    let of = |key: &str| asked.body[key].clone();
    assert_eq!(of("reason"), "ScaledUp");
    assert_eq!(of("type"), "Normal");
    assert_eq!(of("note"), "3 → 5 replicas");
    assert_eq!(of("action"), "Scale");
    assert_eq!(of("reportingController"), "podswell");
    assert_eq!(of("reportingInstance"), "podswell-0");
    assert_eq!(of("eventTime"), "2023-11-14T22:13:20.000000Z");
    assert_eq!(
        of("regarding"),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web",
            "uid": "u1"})
    );
    assert_eq!(of("series"), Value::Null);
    bench.announce(&web(), NoticeReason::RivalFound, "an HPA").await;
    assert_eq!(bench.asked()[1].body["type"], "Warning");
    let names: Vec<_> = bench.asked().iter().map(|a| a.body["metadata"]["name"].clone()).collect();
    assert_ne!(names[0], names[1]);
}

#[tokio::test]
async fn each_scale_has_its_own_numbers_and_a_repetition_is_a_series() {
    let mut bench = Bench::new(accepts);
    for note in ["1 → 2", "2 → 3", "2 → 3", "2 → 3"] {
        bench.announce(&web(), NoticeReason::ScaledUp, note).await;
        bench.clock.advance(1);
    }
    let asked = bench.asked();
    let methods: Vec<_> = asked.iter().map(|asked| asked.method.as_str()).collect();
    assert_eq!(methods, ["POST", "POST", "PATCH", "PATCH"]);
    let name = asked[1].body["metadata"]["name"].as_str().unwrap();
    assert!(asked[3].path.ends_with(name));
    assert_eq!(
        asked[3].body,
        json!({"series": {"count": 3, "lastObservedTime": "2023-11-14T22:13:23.000000Z"}})
    );
    bench.clock.advance(600);
    bench.announce(&web(), NoticeReason::ScaledUp, "2 → 3").await;
    assert_eq!(bench.asked()[4].method, "POST", "a series ends");
}

#[tokio::test]
async fn a_series_whose_event_expired_begins_anew() {
    let mut bench =
        Bench::new(|asked| if asked.method == "PATCH" { status(404) } else { accepts(asked) });
    bench.announce(&web(), NoticeReason::SignalLost, "x").await;
    bench.announce(&web(), NoticeReason::SignalLost, "x").await;
    let methods: Vec<_> = bench.asked().iter().map(|asked| asked.method.clone()).collect();
    assert_eq!(methods, ["POST", "PATCH", "POST"]);
    assert_eq!(bench.counts(), [2, 0, 0]);
}

#[tokio::test]
async fn a_target_may_say_ten_things_at_once_and_then_one_every_half_minute() {
    let mut bench = Bench::new(accepts);
    for number in 0..30 {
        bench.announce(&web(), NoticeReason::ScaledUp, &number.to_string()).await;
    }
    assert_eq!(bench.counts(), [10, 20, 0]);
    let other = TargetId::deployment("shop", "other");
    bench.announce(&other, NoticeReason::ScaledUp, "its own bucket").await;
    assert_eq!(bench.counts(), [11, 20, 0]);
    bench.clock.advance(29);
    bench.announce(&web(), NoticeReason::ScaledUp, "too early").await;
    assert_eq!(bench.counts(), [11, 21, 0]);
    bench.clock.advance(31);
    for note in ["a", "b", "c"] {
        bench.announce(&web(), NoticeReason::ScaledUp, note).await;
    }
    assert_eq!(bench.counts(), [13, 22, 0]);
}

#[tokio::test]
async fn all_targets_together_are_limited() {
    let mut bench = Bench::new(accepts);
    for number in 0..150 {
        let target = TargetId::deployment("shop", &number.to_string());
        bench.announce(&target, NoticeReason::ScaledUp, "x").await;
    }
    assert_eq!(bench.counts(), [100, 50, 0]);
    bench.clock.advance(1);
    for number in 150..200 {
        let target = TargetId::deployment("shop", &number.to_string());
        bench.announce(&target, NoticeReason::ScaledUp, "x").await;
    }
    assert_eq!(bench.counts(), [110, 90, 0]);
}

#[tokio::test]
async fn records_are_bounded() {
    let mut bench = Bench::new(accepts);
    for number in 0..RECORDS + 10 {
        bench.writer.may_send(bench.clock.now(), &TargetId::deployment("a", &number.to_string()));
    }
    assert!(bench.writer.records.len() <= RECORDS);
}

#[tokio::test]
async fn failures_are_counted_and_too_many_requests_heeded() {
    let mut bench = Bench::new(|asked| match asked.body["note"].as_str() {
        Some("busy") => status(429),
        Some("fine") => accepts(asked),
        _ => status(403),
    });
    bench.announce(&web(), NoticeReason::ScaledUp, "forbidden").await;
    assert_eq!(bench.counts(), [0, 0, 1]);
    bench.announce(&web(), NoticeReason::ScaledUp, "busy").await;
    bench.announce(&web(), NoticeReason::ScaledUp, "fine").await;
    assert_eq!(bench.counts(), [0, 1, 2], "silence after 429");
    bench.clock.advance(30);
    bench.announce(&web(), NoticeReason::ScaledUp, "fine").await;
    assert_eq!(bench.counts(), [1, 1, 2]);
}

#[tokio::test]
async fn only_the_leader_speaks() {
    let mut bench = Bench::new(accepts);
    bench.leader.set(None);
    bench.announce(&web(), NoticeReason::ScaledUp, "x").await;
    assert_eq!((bench.asked(), bench.counts()), (vec![], [0, 0, 0]));
}

#[tokio::test]
async fn a_full_queue_drops_and_counts() {
    let (client, _) = api_server(|asked| std::future::ready(accepts(&asked)));
    let clock = Arc::new(HandClock::default());
    let at = clock.now();
    let (queue, _writer) = EventWriter::new(Context {
        client,
        clock,
        leader: Arc::default(),
        uids: Arc::default(),
        instance: String::new(),
    });
    for _ in 0..QUEUE_LENGTH + 3 {
        let notice = Notice { at, reason: NoticeReason::PanicLeft, note: String::new() };
        queue.announce(web(), notice);
    }
    assert_eq!(queue.counts().limited.load(Ordering::Relaxed), 3);
}

#[test]
fn notes_are_short_and_harmless() {
    for (note, want) in [
        ("3 → 5 replicas", "3 → 5 replicas"),
        ("a\u{1b}[31mred\n", "a\\u{1b}[31mred\\u{a}"),
        ("\u{202e}evil\u{0}", "\\u{202e}evil\\u{0}"),
        ("", ""),
    ] {
        assert_eq!(clean(note), want);
    }
    for long in ["é".repeat(5000), "x".repeat(1025), "\u{1b}".repeat(2000)] {
        let clean = clean(&long);
        assert!(clean.len() <= NOTE_LIMIT && clean.ends_with('…'), "{}", clean.len());
    }
    assert_eq!(clean(&"x".repeat(1024)).len(), 1024);
}

#[test]
fn names_of_events_fit() {
    assert_eq!(event_name("web", 0x0006_0a1b_2c3d_4e5f, 1), "web.60a1b2c3d4e5f01");
    let long = event_name(&"a-".repeat(126), 0x0006_0a1b_2c3d_4e5f, 300);
    assert!(long.len() <= 253 && !long.contains("-."), "{long}");
}
