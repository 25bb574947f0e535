use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use http_body_util::BodyExt;
use jiff::Timestamp;
use tower::ServiceExt;

use super::*;
use crate::core::config::TargetConfig;
use crate::core::decision::{
    Decision, MeasureRecord, Observation, Reason, SampleCounts, TargetStatus,
};
use crate::core::event::SourceFault;
use crate::core::pod_reading::BlamedPod;
use crate::core::problem::{Problem, ProblemCode};
use crate::core::spec::ScalingMetric;
use crate::core::target::PodCounts;
use crate::runtime::clock::SystemClock;
use crate::runtime::health::{LeaseReport, WatchReport};
use crate::sources::counters::SourceMetrics;

fn readers() -> Readers {
    let clock = SystemClock::new();
    let health = Health::new(clock.now());
    let board = Arc::new(StatusBoard::default());
    let (engine, _events) = EngineHandle::channel();
    let metrics =
        Metrics::new(board.clone(), health.clone(), engine.clone(), SourceMetrics::default());
    let log = LogControl::detached("info");
    let pods = Arc::default();
    Readers { board, health, metrics, engine, log, clock: Arc::new(clock), pods }
}

/// Lets readiness wait for the watch `name` until the answer is set to true.
fn wait_for(readers: &Readers, name: &'static str) -> Arc<AtomicBool> {
    let synced = Arc::new(AtomicBool::new(false));
    let seen = synced.clone();
    readers.health.set_watches(Box::new(move || {
        let synced = seen.load(Ordering::Relaxed);
        let name = name.into();
        vec![WatchReport { name, synced, awaited: true, fault: None, skipped: 0 }]
    }));
    synced
}

fn put_up(readers: &Readers, name: &str) {
    let problem = Problem {
        code: ProblemCode::InvalidAnnotation,
        key: "autoscaling.knative.dev/window".into(),
        why: "\"1\u{1b}[31m\" is not a duration".into(),
        fallback: "60s is used".into(),
    };
    readers.board.publish(Arc::new(TargetStatus {
        target: TargetId::deployment("shop", name),
        config: Arc::new(TargetConfig { problems: vec![problem], ..TargetConfig::default() }),
        replicas: 3,
        pods: PodCounts { ready: 2, not_ready: 1, ..PodCounts::default() },
        rivals: Arc::default(),
        contest: None,
        decision: Some(Arc::new(Decision { bounded: 3, ..Decision::default() })),
        last_write: None,
        problems: Vec::new(),
        samples: SampleCounts::default(),
    }));
}

fn admin(readers: &Readers) -> Router {
    admin_routes(readers.clone(), Access { token_file: None, loopback: true }, None)
}

async fn call(
    router: Router,
    request: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let (method, path) = request.split_once(' ').unwrap();
    let mut builder = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        builder = builder.header("host", "localhost:8081");
    }
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let request = builder.body(Body::from(body.to_owned())).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn probes_tell_alive_from_ready() {
    let readers = readers();
    let synced = wait_for(&readers, "deployments");
    let routes = public_routes(readers.clone());
    assert_eq!(call(routes.clone(), "GET /livez", &[], "").await, (200, "alive\n".into()));
    let waiting = (503, "not ready: deployments\n".to_owned());
    assert_eq!(call(routes.clone(), "GET /readyz", &[], "").await, waiting);
    synced.store(true, Ordering::Relaxed);
    assert_eq!(call(routes.clone(), "GET /readyz", &[], "").await, (200, "ready\n".into()));
    readers.health.beat(Timestamp::from_second(0).unwrap());
    assert_eq!(call(routes, "GET /livez", &[], "").await.0, 503);
}

#[tokio::test]
async fn who_stands_by_does_not_speak_for_a_holder_that_cannot_be_asked() {
    let readers = readers();
    put_up(&readers, "web");
    let peers = Peers::new(RoleBoard::new(Box::new(|| false)));
    let access = Access { token_file: None, loopback: true };
    let routes = admin_routes_among(readers.clone(), access, None, Some(peers));
    for (holder, expected) in [(None, 200), (Some("own_1"), 200), (Some("other_2"), 503)] {
        readers.health.set_lease(LeaseReport {
            identity: "own_1".into(),
            holder: holder.map(Into::into),
            transitions: Some(3),
            fault: None,
        });
        for path in ["/v1/targets", "/v1/targets/shop/web", "/v1/targets/shop/web/explain"] {
            let (status, body) = call(routes.clone(), &format!("GET {path}"), &[], "").await;
            assert_eq!(status, expected, "{path}: {body}");
        }
        assert_eq!(call(routes.clone(), "GET /v1/status", &[], "").await.0, 200);
    }
}

#[tokio::test]
async fn targets_are_listed_and_shown_in_full() {
    let readers = readers();
    put_up(&readers, "checkout");
    put_up(&readers, "basket");
    let (status, list) = call(admin(&readers), "GET /v1/targets", &[], "").await;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(status, 200);
    assert_eq!(list["apiVersion"], "podswell.dev/v1");
    assert_eq!(list["kind"], "TargetList");
    assert_eq!(list["items"][0]["target"]["name"], "basket");
    assert_eq!(list["items"][1]["replicas"], 3);
    let (status, one) = call(admin(&readers), "GET /v1/targets/shop/checkout", &[], "").await;
    assert_eq!(status, 200);
    insta::assert_snapshot!("target_document", pretty(&one));
    let (status, screen) =
        call(admin(&readers), "GET /v1/targets/shop/checkout/explain", &[], "").await;
    assert_eq!(status, 200);
    assert!(screen.starts_with("checkout (shop)   3 replicas") && !screen.contains('\u{1b}'));
    assert!(!screen.contains("silent"));
    let liar = BlamedPod { name: "checkout-\u{1b}".into(), fault: SourceFault::Implausible };
    let checkout = TargetId::deployment("shop", "checkout");
    let blamed = [liar].into_iter();
    readers.pods.lock().blame(readers.clock.now(), &checkout, &SCRAPE.into(), blamed);
    let path = "GET /v1/targets/shop/checkout/explain";
    let (_, screen) = call(admin(&readers), path, &[], "").await;
    let line = r"  silent    checkout-\u{1b} Implausible: nothing of them counts";
    assert!(screen.lines().any(|one| one == line), "{screen}");
    let (status, state) = call(admin(&readers), "GET /v1/status", &[], "").await;
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!((status, &state["targets"], &state["attention"]), (200, &2.into(), &2.into()));
}

fn pretty(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    serde_json::to_string_pretty(&value).unwrap()
}

#[tokio::test]
async fn errors_are_documents_too() {
    let readers = readers();
    wait_for(&readers, "pods");
    let long = "x".repeat(MAX_BODY + 1);
    for (request, body, code, word) in [
        ("GET /v1/targets/shop/nothing", "", 404, "still waiting for pods"),
        ("GET /v1/targets/shop/%1B%5B31m", "", 404, "\\\\u{1b}"),
        ("GET /v2", "", 404, "no such path"),
        ("DELETE /v1/targets", "", 405, "MethodNotAllowed"),
        ("PUT /log-level", "loud", 400, "log level"),
        ("PUT /log-level", long.as_str(), 413, ""),
    ] {
        let (status, text) = call(admin(&readers), request, &[], body).await;
        assert_eq!(status, code, "{request}: {text}");
        assert!(text.contains(word), "{request}: {text}");
    }
}

#[tokio::test]
async fn the_log_level_changes_while_running() {
    let readers = readers();
    let answer = call(admin(&readers), "PUT /log-level", &[], "warn,podswell=debug\n").await;
    assert_eq!(answer, (200, "warn,podswell=debug\n".into()));
    assert_eq!(readers.log.level(), "warn,podswell=debug");
    assert_eq!(call(admin(&readers), "GET /log-level", &[], "").await, answer);
}

#[tokio::test]
async fn a_rebound_name_or_a_foreign_page_is_refused() {
    let readers = readers();
    for (headers, expected) in [
        (&[("host", "127.0.0.1:8081")][..], 200),
        (&[("host", "[::1]:8081")], 200),
        (&[("host", "localhost")], 200),
        (&[("host", "evil.example:8081")], 403),
        (&[("host", "localhost.evil.example")], 403),
        (&[("host", "127.0.0.1.evil.example:80")], 403),
        (&[("host", "")], 403),
        (&[("host", "localhost"), ("origin", "http://evil.example")], 403),
        (&[("host", "localhost"), ("origin", "null")], 403),
        (&[("host", "localhost"), ("origin", "http://localhost:8081")], 200),
    ] {
        let (status, _) = call(admin(&readers), "GET /v1/targets", headers, "").await;
        assert_eq!(status, expected, "{headers:?}");
    }
}

#[tokio::test]
async fn a_token_file_is_read_again_and_fails_closed() {
    let readers = readers();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let access = Access { token_file: Some(file.clone()), loopback: false };
    let routes = admin_routes(readers, access, None);
    let with = async |token: &str| {
        call(routes.clone(), "GET /v1/targets", &[("authorization", token)], "").await.0
    };
    assert_eq!(with("Bearer a").await, 500);
    std::fs::write(&file, "a\n").unwrap();
    assert_eq!(with("Bearer a").await, 200);
    assert_eq!(with("bearer a").await, 200);
    for wrong in ["Bearer b", "Bearer aa", "Bearer ", "Basic a", ""] {
        assert_eq!(with(wrong).await, 401, "{wrong}");
    }
    std::fs::write(&file, "b").unwrap();
    assert_eq!(with("Bearer a").await, 401);
    assert_eq!(with("Bearer b").await, 200);
    std::fs::write(&file, "").unwrap();
    assert_eq!(with("Bearer ").await, 500);
}

/// Where a target has several measures, the label `measure` tells their families apart.
#[tokio::test]
async fn metrics_and_documents_have_a_line_for_each_of_several_measures() {
    let readers = readers();
    put_up(&readers, "checkout");
    let line = |name: &str, metric, desired| MeasureRecord {
        name: name.into(),
        metric,
        target: 50.0,
        observation: Observation { stable: Some(140.0), ..Observation::default() },
        wants: None,
        panic_mode: None,
        desired,
        reason: Reason::Steady,
        wins: desired == 5,
    };
    let mut status =
        (*readers.board.get(&TargetId::deployment("shop", "checkout")).unwrap()).clone();
    let measures =
        vec![line("rps", ScalingMetric::Rps, 2), line("backlog@orders", ScalingMetric::Backlog, 5)];
    status.decision = Some(Arc::new(Decision { measures, ..Decision::default() }));
    readers.board.publish(Arc::new(status));
    let (_, page) = call(public_routes(readers.clone()), "GET /metrics", &[], "").await;
    let labels = r#"{namespace="shop",kind="Deployment",name="checkout",measure="#;
    for wanted in [
        format!(r#"podswell_backlog_stable{labels}"backlog@orders"}} 140.0"#),
        format!(r#"podswell_rps_target{labels}"rps"}} 50.0"#),
        format!(r#"podswell_measure_desired{labels}"backlog@orders"}} 5.0"#),
        format!(r#"podswell_signal_state{labels}"rps",state="starting"}} 1"#),
    ] {
        assert!(page.contains(&wanted), "{wanted} is not in {page}");
    }
    assert!(!page.contains("podswell_concurrency_stable{"), "{page}");
    let path = "GET /v1/targets/shop/checkout";
    let (_, document) = call(admin(&readers), path, &[], "").await;
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let lines = document["decision"]["measures"].as_array().unwrap();
    assert_eq!((lines.len(), &lines[1]["name"]), (2, &"backlog@orders".into()));
    assert_eq!((&lines[1]["wins"], &lines[1]["desired"]), (&true.into(), &5.into()));
}

#[tokio::test]
async fn metrics_are_of_targets_that_are_there() {
    let readers = readers();
    put_up(&readers, "checkout");
    let routes = public_routes(readers.clone());
    let (status, page) = call(routes.clone(), "GET /metrics", &[], "").await;
    assert_eq!(status, 200);
    let labels = r#"{namespace="shop",kind="Deployment",name="checkout"}"#;
    assert!(page.contains(&format!("podswell_pods_requested{labels} 3")), "{page}");
    assert!(page.contains(r#"code="InvalidAnnotation"} 1"#), "{page}");
    assert!(page.contains("podswell_targets 1") && page.ends_with("# EOF\n"), "{page}");
    let (_, page) = call(routes.clone(), "GET /metrics?targets=false", &[], "").await;
    assert!(page.contains("podswell_targets 1") && page.ends_with("# EOF\n"), "{page}");
    assert!(!page.contains("checkout"), "{page}");
    assert_eq!(call(routes.clone(), "GET /metrics?targets=none", &[], "").await.0, 400);
    readers.board.remove(&TargetId::deployment("shop", "checkout"));
    let (_, page) = call(routes, "GET /metrics", &[], "").await;
    assert!(!page.contains("checkout"), "{page}");
}

#[tokio::test]
async fn the_page_needs_no_token_but_what_it_shows_does() {
    let (readers, folder) = (readers(), tempfile::tempdir().unwrap());
    put_up(&readers, "web");
    let token = folder.path().join("token");
    std::fs::write(&token, "secret\n").unwrap();
    let router =
        admin_routes(readers.clone(), Access { token_file: Some(token), loopback: true }, None);
    for (path, expected) in
        [("/", 200), ("/app.js", 200), ("/none.js", 404), ("/v1/stream", 401), ("/v1/targets", 401)]
    {
        let (status, body) = call(router.clone(), &format!("GET {path}"), &[], "").await;
        assert_eq!(status, expected, "{path}: {body}");
    }
    let foreign = [("host", "rebound.example")];
    assert_eq!(call(router.clone(), "GET /", &foreign, "").await.0, 403);
    let request = Request::builder().uri("/app.js").header("host", "localhost");
    let answer = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert!(answer.headers()[header::CONTENT_TYPE].to_str().unwrap().contains("javascript"));
    assert!(answer.headers().contains_key(header::CONTENT_SECURITY_POLICY));
}

#[tokio::test]
async fn a_stream_begins_with_everything_and_goes_on_with_what_changed() {
    let readers = readers();
    put_up(&readers, "web");
    let request = Request::builder().uri("/v1/stream").header("host", "localhost");
    let request = request.body(Body::empty()).unwrap();
    let response = admin(&readers).oneshot(request).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut body = response.into_body();
    let first = next_event(&mut body).await;
    assert_eq!(first["complete"], true);
    assert_eq!(first["items"][0]["target"]["name"], "web");
    put_up(&readers, "other");
    readers.board.remove(&TargetId::deployment("shop", "web"));
    let second = next_event(&mut body).await;
    assert_eq!(second["complete"], false);
    assert_eq!(second["items"].as_array().unwrap().len(), 1, "{second}");
    assert_eq!(second["items"][0]["target"]["name"], "other");
    assert_eq!(second["removed"][0]["name"], "web");
}

async fn next_event(body: &mut Body) -> serde_json::Value {
    let mut text = String::new();
    while !text.ends_with("\n\n") {
        let frame = body.frame().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
    serde_json::from_str(text.trim().strip_prefix("data: ").unwrap()).unwrap()
}

#[tokio::test]
async fn streams_are_bounded_and_a_closed_one_makes_room() {
    let readers = readers();
    let router = admin(&readers);
    let open = || async {
        let request = Request::builder().uri("/v1/stream").header("host", "localhost");
        router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    };
    let mut streams = Vec::new();
    for _ in 0..page::MAX_STREAMS {
        let stream = open().await;
        assert_eq!(stream.status(), 200);
        streams.push(stream);
    }
    assert_eq!(open().await.status(), 503);
    streams.pop();
    assert_eq!(open().await.status(), 200);
}

#[tokio::test]
async fn the_history_of_a_target_can_be_asked_for_piece_by_piece() {
    let readers = readers();
    put_up(&readers, "web");
    let path = "GET /v1/targets/shop/web/history";
    let (status, body) = call(admin(&readers), path, &[], "").await;
    assert_eq!(status, 200);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let at = body["items"][0]["at"].as_str().unwrap();
    let (_, rest) = call(admin(&readers), &format!("{path}?after={at}"), &[], "").await;
    assert!(rest.contains(r#""items":[]"#), "{rest}");
    let (status, refusal) = call(admin(&readers), &format!("{path}?after=soon"), &[], "").await;
    assert_eq!(status, 400);
    assert!(refusal.contains("RFC 3339"), "{refusal}");
}
