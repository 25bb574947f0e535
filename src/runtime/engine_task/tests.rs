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

fn start() -> Rig {
    let clock = Arc::new(SystemClock::new());
    let (handle, events) = EngineHandle::channel();
    let board = Arc::new(StatusBoard::default());
    let health = Health::new(clock.now());
    let metrics =
        Metrics::new(board.clone(), health.clone(), handle.clone(), SourceMetrics::default());
    let shared = Shared { board, metrics, health, clock };
    let (heard, stop) = (Heard::default(), CancellationToken::new());
    let task = EngineTask::new(events, heard.clone(), shared.clone());
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

/// Waits until `done`, for at most 20 s.
#[expect(clippy::disallowed_methods, reason = "a limit for a test that hangs")]
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_burst_is_decided_written_announced_and_shown() {
    let rig = start();
    let pods = PodCounts { ready: 1, ..PodCounts::default() };
    for event in [
        Event::LeadershipChanged { leader: true },
        applied(),
        replicas(1),
        Event::PodsObserved { target: target(), pods },
    ] {
        assert!(rig.handle.tell(event).await);
    }
    until("the first decision", || rig.shared.board.get(&target()).is_some()).await;
    assert!(rig.shared.health.is_leader());
    for _ in 0..30 {
        rig.handle.offer(sample(700.0));
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    until("a write of ten", || rig.heard.writes.lock().contains(&(target(), 10))).await;
    until("the panic's notice", || rig.heard.notices.lock().contains(&NoticeReason::PanicEntered))
        .await;
    let status = rig.shared.board.get(&target()).unwrap();
    let decision = status.decision.as_ref().unwrap();
    assert!(decision.bounded == 10 && decision.panic_mode.is_some(), "{decision:?}");
    let page = rig.shared.metrics.encode().unwrap();
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
