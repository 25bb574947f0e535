use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::Receiver;

use super::*;
use crate::core::roster::{Enrolled, PodFacts};
use crate::core::source::ScrapeSpec;
use crate::core::spec::ScalingMetric;
use crate::runtime::clock::SystemClock;
use crate::sources::stat::Stat;

const PERIOD: Duration = Duration::from_millis(400);

struct World {
    roster: Arc<RwLock<Roster>>,
    events: Receiver<Event>,
    counters: Arc<SourceCounters>,
    cancel: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl World {
    fn start(options: ScrapeOptions) -> Self {
        let (engine, events) = EngineHandle::channel();
        let roster = Arc::new(RwLock::new(Roster::default()));
        let counters = Arc::new(SourceCounters::default());
        let cancel = CancellationToken::new();
        let clock = Arc::new(SystemClock::new());
        let scraper = Scraper::new(roster.clone(), engine, clock, counters.clone(), options);
        tokio::spawn(scraper.run(cancel.clone()));
        Self { roster, events, counters, cancel }
    }

    fn with_loopback() -> Self {
        Self::start(ScrapeOptions { period: PERIOD, allow_loopback: true })
    }

    fn enrol(&self, name: &str, wiring: Wiring, ips: &[IpAddr]) -> TargetId {
        let target = TargetId::deployment("ns", name);
        let pods = ips.iter().enumerate().map(|(at, ip)| PodFacts {
            name: format!("{name}-{at}").into(),
            ip: Some(*ip),
            ready: true,
            terminating: false,
            started_at: None,
            unready_since: None,
        });
        let enrolled = Enrolled {
            wiring: Arc::new(wiring),
            replicas: i32::try_from(ips.len()).unwrap(),
            pods: Arc::new(pods.collect()),
        };
        self.roster.write().enrol(&target, enrolled);
        target
    }

    /// The samples and faults of `rounds` batches, at most, for one target.
    async fn next_sample(&mut self, target: &TargetId) -> Sample {
        loop {
            if let Event::Sampled { samples } = self.next_event().await
                && let Some(sample) = samples.into_iter().find(|sample| sample.target == *target)
            {
                return sample;
            }
        }
    }

    /// Waits for this reading. Others have to be in want of pods: a busy machine may be late.
    async fn reads(&mut self, target: &TargetId, expected: Reading) {
        let mut read = None;
        for _ in 0..100 {
            let reading = self.next_sample(target).await.reading;
            if reading == expected {
                return;
            }
            read = Some(reading);
        }
        panic!("never {expected:?}, but {read:?}");
    }

    /// Waits for this fault of a target, whatever else it has before.
    async fn fails(&mut self, target: &TargetId, expected: SourceFault) {
        while self.next_fault(target).await != expected {}
    }

    async fn next_fault(&mut self, target: &TargetId) -> SourceFault {
        loop {
            if let Event::SourceFailed { target: failed, fault, .. } = self.next_event().await
                && failed == *target
            {
                return fault;
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        tokio::time::timeout(Duration::from_secs(120), self.events.recv()).await.unwrap().unwrap()
    }
}

fn wiring(port: u16, format: ScrapeFormat) -> Wiring {
    Wiring {
        scrape: Some(ScrapeSpec { port, path: "/metrics".into(), format }),
        stable_window: Duration::from_secs(60),
        ..Wiring::default()
    }
}

fn gauge(port: u16) -> Wiring {
    wiring(port, ScrapeFormat::InFlight { metric: "load".into() })
}

fn local(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// Serves `app` on every loopback address and returns its port.
async fn serve(app: Router) -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    port
}

/// Writes `answer` to every connection as it is, once, and then keeps it open.
async fn serve_raw(answer: impl Into<Vec<u8>>, endless: bool) -> u16 {
    let answer: Arc<Vec<u8>> = Arc::new(answer.into());
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&answer).await;
                while endless && stream.write_all(b"400\r\n").await.is_ok() {
                    if stream.write_all(&[b'#'; 1024]).await.is_err()
                        || stream.write_all(b"\r\n").await.is_err()
                    {
                        break;
                    }
                }
                tokio::time::sleep(Duration::from_secs(30)).await;
            });
        }
    });
    port
}

fn value(seen: f64, missing: u32) -> Reading {
    Reading::Value { seen, missing }
}

#[tokio::test]
async fn many_pods_are_one_sample_over_kept_connections() {
    let connections = Arc::new(RwLock::new(std::collections::BTreeSet::<SocketAddr>::new()));
    let app = Router::new()
        .fallback(
            async |State(seen): State<Arc<RwLock<std::collections::BTreeSet<SocketAddr>>>>,
                   ConnectInfo(peer): ConnectInfo<SocketAddr>| {
                seen.write().insert(peer);
                "load 2\n"
            },
        )
        .with_state(connections.clone());
    let port = serve(app).await;
    let mut world = World::with_loopback();
    // Fewer than a listening socket lets wait, because all of them connect at once.
    let ips: Vec<IpAddr> = (2..102).map(local).collect();
    let target = world.enrol("many", gauge(port), &ips);
    // On a busy machine some do not answer in time; their connections are not kept. Four rounds in a row
    // that are complete and in time need no new ones but the first.
    let (mut complete, mut known, mut rounds) = (0, 0, 0);
    while complete < 4 {
        rounds += 1;
        assert!(rounds < 200, "no four rounds in a row over kept connections");
        let sample = world.next_sample(&target).await;
        assert_eq!((&*sample.source, sample.stamp_ms), (SCRAPE, None));
        let all = connections.read().len();
        let kept = complete == 0 || all < known + 10;
        let good = sample.reading == value(200.0, 0) && sample.age <= PERIOD && kept;
        complete = if good { complete + 1 } else { 0 };
        known = all;
    }
    let requests: u64 = world.counters.snapshot().duration_counts.iter().sum();
    assert!(requests >= 400, "{requests}");
}

#[tokio::test]
async fn a_queue_proxy_is_read_by_metric() {
    let stat = Stat {
        average_concurrent_requests: 3.0,
        average_proxied_concurrent_requests: 1.0,
        request_count: 50.0,
        ..Stat::default()
    };
    let body = stat.encode_to_vec();
    let port = serve(Router::new().fallback(async |request: Request| -> Response {
        assert_eq!(request.headers()["accept"], "application/protobuf");
        assert_eq!(request.uri().path(), "/metrics");
        ([("content-type", "application/protobuf")], body).into_response()
    }))
    .await;
    let mut world = World::with_loopback();
    let concurrency = wiring(port, ScrapeFormat::QueueProxy);
    let rps = Wiring { metric: ScalingMetric::Rps, ..concurrency.clone() };
    let by_concurrency = world.enrol("c", concurrency, &[local(2), local(3)]);
    let by_rps = world.enrol("r", rps, &[local(2)]);
    world.reads(&by_concurrency, value(6.0, 0)).await;
    world.reads(&by_rps, value(50.0, 0)).await;
}

#[tokio::test]
async fn a_counter_becomes_a_rate() {
    let began = Instant::now();
    let port = serve(Router::new().fallback(async move || {
        format!("# TYPE x counter\nx_total {}\n", 1e6 + 100.0 * began.elapsed().as_secs_f64())
    }))
    .await;
    let mut world = World::with_loopback();
    let format = ScrapeFormat::Requests { metric: "x_total".into() };
    let target = world.enrol("a", wiring(port, format), &[local(2)]);
    assert_eq!(world.next_sample(&target).await.reading, Reading::Base);
    // A machine that stands still between a page and its reading makes two wrong rates: three in a row
    // are right soon.
    let (mut rates, mut right) = (Vec::new(), 0);
    while right < 3 {
        assert!(rates.len() < 60, "{rates:?}");
        let reading = world.next_sample(&target).await.reading;
        let is_right = |seen: f64| (seen - 100.0).abs() < 50.0;
        let good = matches!(reading, Reading::Value { seen, missing: 0 } if is_right(seen));
        right = if good { right + 1 } else { 0 };
        rates.push(reading);
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn every_bad_answer_has_its_own_fault_and_harms_nobody_else() {
    let head = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}\r\n\r\n");
    // Bound, so that nobody else takes the port, and not listening.
    let bound = tokio::net::TcpSocket::new_v4().unwrap();
    bound.bind("0.0.0.0:0".parse().unwrap()).unwrap();
    let closed = bound.local_addr().unwrap().port();
    let long = "x".repeat(400);
    let raw = [
        (
            "status",
            serve_raw("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", false).await,
            SourceFault::BadStatus,
        ),
        (
            "redirect",
            serve_raw(
                "HTTP/1.1 302 F\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n",
                false,
            )
            .await,
            SourceFault::BadStatus,
        ),
        (
            "html",
            serve_raw(head("content-type: text/html\r\ncontent-length: 6") + "load 1", false).await,
            SourceFault::Malformed,
        ),
        (
            "gzip",
            serve_raw(head("content-encoding: gzip\r\ncontent-length: 6") + "load 1", false).await,
            SourceFault::Malformed,
        ),
        (
            "announced",
            serve_raw(head("content-length: 2000000000"), false).await,
            SourceFault::TooLarge,
        ),
        (
            "chunked",
            serve_raw(head("transfer-encoding: chunked"), true).await,
            SourceFault::TooLarge,
        ),
        ("no http", serve_raw("load 1\n\r\n\r\n", false).await, SourceFault::Malformed),
        (
            "stalled body",
            serve_raw(head("content-length: 6") + "lo", false).await,
            SourceFault::Timeout,
        ),
        ("stalled head", serve_raw("HTTP/1.1 2", false).await, SourceFault::Timeout),
        (
            "nan",
            serve_raw(head("content-length: 8") + "load NaN", false).await,
            SourceFault::InvalidSample,
        ),
        ("blank", serve_raw(head("content-length: 6") + "none 1", false).await, SourceFault::Empty),
        ("closed", closed, SourceFault::Unreachable),
    ];
    let stats = [
        (
            "text",
            serve_raw(head("content-type: text/plain\r\ncontent-length: 0"), false).await,
            SourceFault::Malformed,
        ),
        (
            "long",
            serve_raw(
                head("content-type: application/protobuf\r\ncontent-length: 400") + &long,
                false,
            )
            .await,
            SourceFault::TooLarge,
        ),
    ];
    let good = serve(Router::new().fallback(async || "load 1\n")).await;
    let mut world = World::with_loopback();
    let good = world.enrol("good", gauge(good), &[local(2)]);
    let mut expected = BTreeMap::new();
    for (name, port, fault) in raw {
        expected.insert(world.enrol(name, gauge(port), &[local(2)]), fault);
    }
    for (name, port, fault) in stats {
        expected
            .insert(world.enrol(name, wiring(port, ScrapeFormat::QueueProxy), &[local(2)]), fault);
    }
    // A machine that stands still for a moment may make any answer, or any sample, late.
    let (mut faults, mut sound, mut late) = (BTreeMap::new(), 0, 0);
    while faults != expected || sound < 3 {
        match world.next_event().await {
            Event::SourceFailed { target, fault, .. } if expected.get(&target) == Some(&fault) => {
                faults.insert(target, fault);
            }
            Event::SourceFailed { target, fault, .. } => {
                assert_eq!(
                    fault,
                    SourceFault::Timeout,
                    "{target}, not {:?}",
                    expected.get(&target)
                );
            }
            Event::Sampled { samples } => {
                assert!(samples.iter().all(|sample| sample.target == good), "{samples:?}");
                // Not held back until the slow ones have run into the end of the round.
                if samples.iter().all(|sample| sample.age < PERIOD * 9 / 10) {
                    sound += samples.len();
                } else {
                    late += 1;
                }
                assert!(late < 100, "{late} samples were held back, {sound} were not; {faults:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn slow_pods_are_missing_and_do_not_hold_up_others() {
    let stuck = serve_raw("", false).await;
    let good = serve(Router::new().fallback(async || "load 1\n")).await;
    let mut world = World::with_loopback();
    let many: Vec<IpAddr> = (2..252).map(local).collect();
    for batch in 0..6 {
        world.enrol(&format!("stuck-{batch}"), gauge(stuck), &many);
    }
    let target = world.enrol("zz-good", gauge(good), &[local(2)]);
    // The first round may find the lane full; from then on the slow pods have their own, and the sample
    // does not have to wait for the end of the round. A busy machine may need a few rounds.
    let mut ages = Vec::new();
    while ages.last().is_none_or(|age| *age >= PERIOD * 3 / 4) {
        assert!(ages.len() < 60, "every sample waits for the slow pods: {ages:?}");
        ages.push(world.next_sample(&target).await.age);
    }
}

#[tokio::test]
async fn loopback_is_refused_unless_allowed() {
    let port = serve(Router::new().fallback(async || "load 1\n")).await;
    let mut world = World::start(ScrapeOptions { period: PERIOD, allow_loopback: false });
    let target = world.enrol("a", gauge(port), &[local(2)]);
    assert_eq!(world.next_fault(&target).await, SourceFault::AddressRefused);
}

#[tokio::test]
async fn a_target_without_ready_pods_is_a_fault_only_if_it_should_have_some() {
    let mut world = World::with_loopback();
    let none = world.enrol("none", gauge(9), &[]);
    let wanted = TargetId::deployment("ns", "wanted");
    let mut enrolled = world.roster.read().get(&none).unwrap().clone();
    enrolled.replicas = 2;
    world.roster.write().enrol(&wanted, enrolled);
    let Event::SourceFailed { target, fault, .. } = world.next_event().await else {
        panic!("a fault")
    };
    assert_eq!((target, fault), (wanted, SourceFault::Unreachable));
}

#[tokio::test]
async fn knatives_sampling_asks_few_and_extrapolates() {
    let asked = Arc::new(AtomicUsize::new(0));
    let app = Router::new()
        .fallback(async |State(asked): State<Arc<AtomicUsize>>| {
            asked.fetch_add(1, Ordering::Relaxed);
            "load 2\n"
        })
        .with_state(asked.clone());
    let port = serve(app).await;
    let mut world = World::with_loopback();
    let ips: Vec<IpAddr> = (2..102).map(local).collect();
    let sampled = Wiring { sample_pods: true, ..gauge(port) };
    let target = world.enrol("a", sampled, &ips);
    // On a busy machine a pod may be late and replaced.
    let mut rounds = Vec::new();
    while rounds.last() != Some(&(value(200.0, 0), 14)) {
        assert!(rounds.len() < 60, "{rounds:?}");
        let reading = world.next_sample(&target).await.reading;
        rounds.push((reading, asked.swap(0, Ordering::Relaxed)));
    }
}

#[tokio::test]
async fn a_sampled_pod_that_fails_is_replaced_until_none_is_left() {
    let failing = Arc::new(AtomicUsize::new(3));
    let app = Router::new()
        .fallback(async |State(failing): State<Arc<AtomicUsize>>| {
            let fails = failing
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok();
            if fails {
                http::StatusCode::SERVICE_UNAVAILABLE.into_response()
            } else {
                "load 2\n".into_response()
            }
        })
        .with_state(failing.clone());
    let port = serve(app).await;
    let mut world = World::with_loopback();
    let ips: Vec<IpAddr> = (2..12).map(local).collect();
    // Ten pods, seven wanted: three failures can be made good, four cannot.
    let target = world.enrol("a", Wiring { sample_pods: true, ..gauge(port) }, &ips);
    world.reads(&target, value(20.0, 0)).await;
    failing.store(4, Ordering::Relaxed);
    world.fails(&target, SourceFault::BadStatus).await;
    world.reads(&target, value(20.0, 0)).await;
}

#[tokio::test]
async fn a_page_that_several_deciders_read_is_asked_for_once_a_round() {
    let asked = Arc::new(AtomicUsize::new(0));
    let app = Router::new()
        .fallback(async |State(asked): State<Arc<AtomicUsize>>| {
            // Never twice the same, so that two questions would be seen, too.
            format!("load {}\nother 7\n", asked.fetch_add(1, Ordering::Relaxed) + 1)
        })
        .with_state(asked.clone());
    let port = serve(app).await;
    let mut world = World::with_loopback();
    let ips = [local(2)];
    let other = wiring(port, ScrapeFormat::InFlight { metric: "other".into() });
    let (first, second) =
        (world.enrol("a", gauge(port), &ips), world.enrol("b", gauge(port), &ips));
    let third = world.enrol("c", other, &ips);
    let mut last = 0.0;
    for _ in 0..4 {
        let Event::Sampled { samples } = world.next_event().await else {
            last = 0.0;
            continue;
        };
        let read = |target: &TargetId| {
            let mut own = samples.iter().filter(|sample| sample.target == *target);
            own.next().map(|sample| sample.reading)
        };
        assert_eq!(read(&third), Some(value(7.0, 0)));
        assert_eq!(read(&first), read(&second));
        let Some(Reading::Value { seen, .. }) = read(&first) else { panic!("{samples:?}") };
        assert!(last < 1.0 || seen < last + 1.5, "one question a round: {last}, then {seen}");
        last = seen;
    }
}

#[tokio::test]
async fn rounds_keep_away_from_the_edges_of_seconds() {
    let port = serve(Router::new().fallback(async || "load 1\n")).await;
    let options = ScrapeOptions { allow_loopback: true, ..ScrapeOptions::default() };
    let clock = SystemClock::new();
    let mut world = World::start(options);
    let target = world.enrol("a", gauge(port), &[local(2)]);
    // A machine that stands still before the sample is looked at makes its moment look later: the phase is
    // the same in all rounds, so two in a row are enough.
    let (mut phases, mut right) = (Vec::new(), 0);
    while right < 2 {
        assert!(phases.len() < 20, "{phases:?}");
        let sample = world.next_sample(&target).await;
        let phase = clock.now().checked_sub(sample.age).unwrap().subsec_millisecond();
        right = if (150..900).contains(&phase) { right + 1 } else { 0 };
        phases.push(phase);
    }
}
