use std::time::Instant;

use parking_lot::Mutex;

use super::*;
use crate::core::config::TargetConfig;
use crate::core::event::{Reading, Sample};
use crate::core::policy::Consent;
use crate::core::source::{PointConfig, Share};
use crate::core::target::PodCounts;
use crate::runtime::clock::SystemClock;
use crate::runtime::engine_handle::EngineHandle;
use crate::sources::counters::SourceMetrics;

/// What the task handed out.
#[derive(Clone, Default)]
struct Heard {
    writes: Arc<Mutex<Vec<(TargetId, i32)>>>,
    notices: Arc<Mutex<Vec<NoticeReason>>>,
}

impl Outlet for Heard {
    fn write(&mut self, write: Action) {
        if let Action::Write { target, replicas, .. } = write {
            self.writes.lock().push((target, replicas));
        }
    }

    fn announce(&mut self, _target: TargetId, notice: Notice) {
        self.notices.lock().push(notice.reason);
    }
}

struct Rig {
    handle: EngineHandle,
    shared: Shared,
    heard: Heard,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Rig {
    /// Tells that this process leads and that the target has one ready pod.
    async fn lead_one_pod(&self) {
        let pods = PodCounts { ready: 1, ..PodCounts::default() };
        for event in [
            Event::LeadershipChanged { leader: true },
            applied(),
            replicas(1),
            Event::PodsObserved { target: target(), pods },
        ] {
            assert!(self.handle.tell(event).await);
        }
    }

    /// Offers samples of this load until `done`: what was heard before a pause may be stale after it.
    async fn hears_until(&self, what: &str, load: f64, mut done: impl FnMut() -> bool) {
        let mut looks = 0_u32;
        until(what, || {
            if looks.is_multiple_of(12) {
                self.handle.offer(sample(load));
            }
            looks += 1;
            done()
        })
        .await;
    }
}

fn start() -> Rig {
    start_with(None)
}

fn start_with(recorder: Option<Recorder>) -> Rig {
    let clock = Arc::new(SystemClock::new());
    let (handle, events) = EngineHandle::channel();
    let board = Arc::new(StatusBoard::default());
    let health = Health::new(clock.now());
    let metrics =
        Metrics::new(board.clone(), health.clone(), handle.clone(), SourceMetrics::default());
    let shared = Shared { board, metrics, health, clock };
    let (heard, stop) = (Heard::default(), CancellationToken::new());
    let task = EngineTask::new(events, heard.clone(), shared.clone()).recording(recorder);
    let task = tokio::spawn(task.run(stop.clone()));
    Rig { handle, shared, heard, stop, task }
}

fn target() -> TargetId {
    TargetId::deployment("shop", "checkout")
}

fn applied() -> Event {
    let point = PointConfig {
        source: "scrape".into(),
        interval: Duration::from_secs(1),
        stale_after: Duration::from_millis(2500),
        range: None,
        visible_at_zero: false,
        share: Share::Exclusive,
    };
    let config =
        TargetConfig { consent: Consent::Managed, points: vec![point], ..TargetConfig::default() };
    Event::TargetApplied { target: target(), config: Arc::new(config) }
}

fn replicas(replicas: i32) -> Event {
    Event::ReplicasObserved {
        target: target(),
        replicas,
        resource_version: "1".into(),
        newly_created: false,
    }
}

fn sample(seen: f64) -> Event {
    let reading = Reading::Value { seen, missing: 0 };
    let age = Duration::ZERO;
    let source = "scrape".into();
    Event::Sampled {
        samples: vec![Sample { target: target(), source, age, stamp_ms: None, reading }],
    }
}

/// Waits until `done`, for at most 60 s.
#[expect(clippy::disallowed_methods, reason = "a limit for a test that hangs")]
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_burst_is_decided_written_announced_and_shown() {
    let rig = start();
    rig.lead_one_pod().await;
    until("the first decision", || rig.shared.board.get(&target()).is_some()).await;
    assert!(rig.shared.health.is_leader());
    rig.hears_until("a write of ten", 700.0, || rig.heard.writes.lock().contains(&(target(), 10)))
        .await;
    until("the panic's notice", || rig.heard.notices.lock().contains(&NoticeReason::PanicEntered))
        .await;
    rig.hears_until("ten decided in a panic", 700.0, || {
        let status = rig.shared.board.get(&target()).unwrap();
        status.decision.as_ref().is_some_and(|it| it.bounded == 10 && it.panic_mode.is_some())
    })
    .await;
    let page = rig.shared.metrics.encode(true).unwrap();
    for family in
        ["decisions_total", "sample_age_seconds_sum", "tick_duration_seconds_count", "leader 1"]
    {
        assert!(page.contains(family), "{family}: {page}");
    }

    rig.handle.tell(Event::TargetDeleted { target: target() }).await;
    until("the status to be taken down", || rig.shared.board.is_empty()).await;
    rig.stop.cancel();
    rig.task.await.unwrap();
}

#[tokio::test]
async fn nothing_is_written_before_leadership_and_the_heart_beats_while_idle() {
    let rig = start();
    rig.handle.tell(applied()).await;
    rig.handle.tell(replicas(1)).await;
    rig.handle.offer(sample(700.0));
    until("a decision", || rig.shared.board.get(&target()).is_some()).await;
    let past = rig.shared.clock.now();
    until("a beat", || rig.shared.health.silence(past) == Duration::ZERO).await;
    assert!(rig.heard.writes.lock().is_empty());
    rig.stop.cancel();
    rig.task.await.unwrap();
}

#[test]
fn every_transition_has_its_own_phrase() {
    let phrases: std::collections::BTreeSet<_> =
        NoticeReason::ALL.into_iter().map(phrase).collect();
    assert_eq!(phrases.len(), NoticeReason::ALL.len());
}

/// Records what a running task is told and decides.
#[cfg(feature = "simulator")]
async fn recorded() -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.jsonl");
    let rig = start_with(Some(Recorder::start(&path, 64 * 1024 * 1024).unwrap()));
    rig.lead_one_pod().await;
    for load in [10.0, 20.0, 400.0] {
        rig.handle.offer(sample(load));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // What is refused is part of what is decided.
    rig.hears_until("a decision on what is no number", f64::NAN, || {
        let status = rig.shared.board.get(&target());
        let fault = status.and_then(|status| status.decision.as_ref()?.observation.fault);
        fault == Some(crate::core::event::SourceFault::InvalidSample)
    })
    .await;
    rig.hears_until("a write", 900.0, || !rig.heard.writes.lock().is_empty()).await;
    until("ticks", || rig.shared.board.get(&target()).is_some_and(|s| s.decision.is_some())).await;
    rig.stop.cancel();
    rig.task.await.unwrap();
    // The recorder ended with the task, so everything is on the disk.
    std::fs::read_to_string(path).unwrap()
}

#[cfg(feature = "simulator")]
#[tokio::test]
async fn a_recording_of_a_running_task_replays_every_decision() {
    use std::collections::BTreeMap;

    use crate::sim::replay::replay;

    let text = recorded().await;
    let whole = replay(&text, &BTreeMap::new()).unwrap();
    let (decisions, different) = whole.counts();
    assert!(decisions > 1 && text.contains("\"seen\":null"), "{text}");
    assert_eq!((different, &whole.first_difference), (0, &None), "{text}");
    assert!(whole.complete && whole.remarks.is_empty(), "{whole:?}");
    // Cut in the middle of a line: replayed up to there.
    let cut = &text[..text.len() - 25];
    let rest = replay(cut, &BTreeMap::new()).unwrap();
    assert!(rest.remarks.iter().any(|remark| remark.contains("is cut off")), "{rest:?}");
    assert_eq!(rest.counts().1, 0);
    // Something else in the middle is an error with its line.
    let mut lines: Vec<&str> = text.lines().collect();
    lines[2] = "{}";
    assert_eq!(replay(&lines.join("\n"), &BTreeMap::new()).unwrap_err().line, 3);
    // Another setting decides otherwise; what was, stays.
    let key = "autoscaling.knative.dev/max-scale".to_owned();
    let set = BTreeMap::from([(key.clone(), "2".to_owned())]);
    let other = replay(&text, &set).unwrap();
    assert_eq!(other.counts(), (decisions, 0));
    assert_eq!(other.otherwise[&target()].most, 2);
    assert!(other.targets[&target()].most > 2);
    let bad = BTreeMap::from([(key, "many".to_owned())]);
    assert!(replay(&text, &bad).unwrap_err().why.contains("max-scale"));
}

/// What a running task was told and decided, in parts of so many bytes, the oldest first.
#[cfg(feature = "simulator")]
async fn recorded_in_parts(bytes: u64) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.jsonl");
    let rig = start_with(Some(Recorder::start(&path, bytes).unwrap()));
    rig.lead_one_pod().await;
    let parts = || {
        let files = ["engine.jsonl.3", "engine.jsonl.2", "engine.jsonl.1", "engine.jsonl"];
        files.map(|name| folder.path().join(name)).into_iter().filter(|path| path.exists())
    };
    // Until the second part is full; the first one is still there then.
    for load in (1..400).map(|load| f64::from(load % 40) * 10.0) {
        rig.handle.offer(sample(load));
        tokio::time::sleep(Duration::from_millis(60)).await;
        if parts().count() == 3 {
            break;
        }
    }
    rig.stop.cancel();
    rig.task.await.unwrap();
    parts().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

#[cfg(feature = "simulator")]
#[tokio::test]
async fn the_parts_of_a_rotated_recording_replay_as_one() {
    use std::collections::BTreeMap;

    use crate::core::recording::Line;
    use crate::sim::replay::replay;

    let parts = recorded_in_parts(12_000).await;
    assert!(parts.len() >= 3, "{}", parts.len());
    let none = BTreeMap::new();
    let whole = replay(&parts.concat(), &none).unwrap();
    assert!(whole.complete && whole.remarks.is_empty(), "{:?}", whole.remarks);
    let (decisions, different) = whole.counts();
    assert!(decisions > 3 && different == 0, "{decisions} {:?}", whole.first_difference);
    // A part alone has no windows of before, and says so.
    let alone = replay(&parts[1], &none).unwrap();
    assert!(!alone.complete && alone.remarks[0].contains("in the middle"), "{:?}", alone.remarks);
    assert!(alone.span_s < whole.span_s, "{} {}", alone.span_s, whole.span_s);
    // Much may happen between the head of a part and the first decision in it.
    let ready = |ready| PodCounts { ready, ..PodCounts::default() };
    let mut lines: Vec<&str> = parts[1].split_inclusive('\n').collect();
    let head = lines.iter().rposition(|line| line.contains("PodsObserved")).unwrap();
    let next = Line::parse(lines[head + 1].trim_end()).unwrap();
    let (Line::Event { at, .. } | Line::Due { at } | Line::Decided { at, .. }) = next else {
        panic!("{next:?}")
    };
    let more = [2, 3, 4].map(|count| {
        let event = Event::PodsObserved { target: target(), pods: ready(count) };
        Line::Event { at, event }.to_text().unwrap()
    });
    lines.splice(head + 1..=head, more.iter().map(String::as_str));
    let busy = replay(&[parts[0].as_str(), &lines.concat()].concat(), &none).unwrap();
    assert!(busy.remarks.is_empty(), "{:?}", busy.remarks);
    // In another order, with a part left out, twice the same.
    let wrong = [parts[1].as_str(), &parts[0]].concat();
    assert!(replay(&wrong, &none).unwrap_err().why.contains("another recording begins"));
    let swapped = [parts[2].as_str(), &parts[1]].concat();
    let why = replay(&swapped, &none).unwrap_err();
    assert!(why.why.contains("back in time"), "{why}");
    let twice = [parts[0].as_str(), &parts[0]].concat();
    assert!(replay(&twice, &none).unwrap_err().why.contains("another recording begins"));
    assert!(replay("", &none).unwrap_err().why.contains("is empty"));
}
