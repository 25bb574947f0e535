use std::sync::Arc;

use super::*;
use crate::core::config::TargetConfig;
use crate::core::decision::{PanicRecord, Stage, StageRecord, Trigger, Wants, WriteRecord};
use crate::core::event::{Rival, SourceFault};
use crate::core::rival::Contest;
use crate::core::rule::Rule;
use crate::core::source::{PointConfig, Share};
use crate::core::spec::{ScaleBounds, Semantics};
use crate::core::target::{PodCounts, TargetId};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_763_820_120 + seconds).unwrap()
}

fn config() -> TargetConfig {
    let point = PointConfig {
        source: "scrape".into(),
        interval: Duration::from_secs(1),
        stale_after: Duration::from_millis(2500),
        range: None,
        visible_at_zero: false,
        share: Share::Exclusive,
    };
    TargetConfig {
        consent: Consent::Managed,
        bounds: ScaleBounds { min: 1, max: 20 },
        points: vec![point],
        ..TargetConfig::default()
    }
}

/// Six replicas that carry what they should.
fn steady() -> TargetStatus {
    let observation = Observation {
        source: Some("scrape".into()),
        signal: SignalState::Fresh,
        age: Duration::from_millis(800),
        fault: None,
        stable: Some(402.3),
        stable_high: Some(402.3),
        panic: Some(398.0),
        stable_window: Duration::from_secs(60),
        panic_window: Duration::from_secs(6),
        covered_s: 60,
        samples_in_panic_window: 6,
        missing: 0,
        waiting: None,
    };
    let decision = Decision {
        at: at(0),
        trigger: Trigger::Tick,
        target: 70.0,
        ready: 6,
        observation,
        wants: Some(Wants { stable: 6.0, panic: 6.0 }),
        stages: vec![stage(Stage::Demand, 6, 6, "")],
        desired: 6,
        bounded: 6,
        replicas: 6,
        reason: Reason::Steady,
        ..Decision::default()
    };
    TargetStatus {
        target: TargetId::deployment("shop", "checkout"),
        config: Arc::new(config()),
        replicas: 6,
        pods: PodCounts { ready: 6, ..PodCounts::default() },
        rivals: Arc::default(),
        contest: None,
        decision: Some(Arc::new(decision)),
        last_write: None,
        problems: Vec::new(),
        samples: crate::core::decision::SampleCounts::default(),
    }
}

fn stage(stage: Stage, before: i32, after: i32, rule: &'static str) -> StageRecord {
    StageRecord { stage, before, after, rule: Rule::Said(rule) }
}

fn edit(
    config: impl FnOnce(&mut TargetConfig),
    decision: impl FnOnce(&mut Decision),
) -> TargetStatus {
    let mut status = steady();
    config(Arc::make_mut(&mut status.config));
    decision(Arc::make_mut(status.decision.as_mut().unwrap()));
    status
}

fn unknown(decision: &mut Decision, signal: SignalState, reason: Reason) {
    decision.observation.signal = signal;
    decision.observation.stable = None;
    decision.observation.panic = None;
    decision.observation.samples_in_panic_window = 0;
    decision.wants = None;
    decision.stages = Vec::new();
    decision.reason = reason;
}

fn problem(code: ProblemCode, key: &str, why: &str, fallback: &str) -> Problem {
    Problem { code, key: key.into(), why: why.into(), fallback: fallback.into() }
}

fn panicking() -> TargetStatus {
    let mut status = edit(
        |_| {},
        |decision| {
            decision.observation.stable = Some(214.3);
            decision.observation.stable_high = Some(214.3);
            decision.observation.panic = Some(583.0);
            decision.ready = 4;
            decision.wants = Some(Wants { stable: 4.0, panic: 9.0 });
            decision.stages = vec![
                stage(Stage::Demand, 4, 4, ""),
                stage(Stage::Panic, 4, 9, "panic never lowers: highest since 14:02:00 is 9"),
            ];
            decision.panic_mode = Some(PanicRecord { since: at(0), until: at(60), high_water: 9 });
            decision.bounded = 9;
            decision.reason = Reason::PanicDemand;
        },
    );
    status.last_write =
        Some(WriteRecord { at: at(1), from: 6, replicas: 9, outcome: WriteOutcome::Written });
    status
}

fn partial() -> TargetStatus {
    edit(
        |_| {},
        |decision| {
            decision.observation.signal = SignalState::Partial;
            decision.observation.missing = 2;
            decision.observation.stable = Some(250.0);
            decision.observation.stable_high = Some(390.0);
            decision.wants = Some(Wants { stable: 4.0, panic: 6.0 });
            decision.stages = vec![
                stage(Stage::Demand, 4, 4, ""),
                stage(Stage::Knowledge, 4, 6, "the 2 missing endpoints may carry up to 140"),
            ];
            decision.reason = Reason::SignalPartial;
        },
    )
}

fn lost() -> TargetStatus {
    edit(
        |config| config.points[0].source = "prometheus".into(),
        |decision| {
            let (stable, panic) = (decision.observation.stable, decision.observation.panic);
            unknown(decision, SignalState::Lost, Reason::SignalLost);
            // The windows keep what was heard last.
            decision.observation.stable = stable;
            decision.observation.stable_high = stable;
            decision.observation.panic = panic;
            decision.observation.source = Some("prometheus".into());
            decision.observation.age = Duration::from_secs(312);
            decision.observation.fault = Some(SourceFault::Timeout);
        },
    )
}

fn starting() -> TargetStatus {
    edit(|_| {}, |decision| unknown(decision, SignalState::Starting, Reason::SignalStarting))
}

fn no_source() -> TargetStatus {
    let code = ProblemCode::NoSource;
    edit(
        |config| {
            config.points.clear();
            config.problems =
                vec![problem(code, "podswell.dev/source", "not set", "replicas stay as they are")];
        },
        |decision| unknown(decision, SignalState::Starting, Reason::NoSource),
    )
}

fn no_wake_path() -> TargetStatus {
    edit(
        |config| {
            config.bounds.min = 0;
            config.problems = vec![problem(
                ProblemCode::NoWakePath,
                "min-scale",
                "pods that do not run cannot be scraped",
                "one replica stays",
            )];
        },
        |decision| {
            decision.observation.stable = Some(0.0);
            decision.observation.stable_high = Some(0.0);
            decision.observation.panic = Some(0.0);
            decision.wants = Some(Wants { stable: 0.0, panic: 0.0 });
            decision.stages = vec![
                stage(Stage::Demand, 0, 0, ""),
                stage(Stage::RateLimit, 0, 3, "max-scale-down-rate 2: at least floor(6/2)"),
            ];
            decision.bounded = 3;
            decision.reason = Reason::NoWakePath;
        },
    )
}

/// Events with what waits, which decide, beside requests and a queue that is not heard.
fn several() -> TargetStatus {
    let waiting = Some(crate::core::decision::WaitingSeen {
        items: 2400.0,
        drain_time: Duration::from_secs(120),
    });
    let line = |name: &str, metric, target, desired| MeasureRecord {
        name: name.into(),
        metric,
        target,
        observation: steady().decision.unwrap().observation.clone(),
        wants: None,
        panic_mode: None,
        desired,
        reason: Reason::Steady,
        wins: false,
    };
    let spec =
        |metric, target, total| ScalerSpec { metric, target, total, ..ScalerSpec::default() };
    edit(
        |config| {
            config.further = vec![crate::core::config::MeasureConfig {
                name: "events@published+orders".into(),
                spec: spec(ScalingMetric::Events, 14.0, 20.0),
                points: config.points.clone(),
                companion: None,
            }];
        },
        |decision| {
            decision.metric = ScalingMetric::Events;
            decision.target = 14.0;
            decision.observation.stable = Some(100.0);
            decision.observation.stable_high = Some(100.0);
            decision.observation.panic = Some(98.0);
            decision.observation.waiting = waiting;
            decision.observation.source = Some("published".into());
            decision.wants = Some(Wants { stable: 9.0, panic: 9.0 });
            let mut events = line("events@published+orders", ScalingMetric::Events, 14.0, 9);
            events.observation = decision.observation.clone();
            events.wins = true;
            let mut lost = line("backlog@mails", ScalingMetric::Backlog, 50.0, 3);
            lost.observation.signal = SignalState::Lost;
            lost.observation.source = Some("mails".into());
            lost.observation.fault = Some(SourceFault::Timeout);
            lost.observation.age = Duration::from_secs(48);
            let unmeasured = MeasureRecord {
                observation: Observation::default(),
                reason: Reason::NoSource,
                ..line("measure-4", ScalingMetric::Concurrency, 70.0, 2)
            };
            let web = line("concurrency", ScalingMetric::Concurrency, 70.0, 6);
            decision.measures = vec![web, events, lost, unmeasured];
            decision.desired = 9;
            decision.bounded = 9;
            decision.reason = Reason::StableDemand;
        },
    )
}

fn rival() -> TargetStatus {
    let mut status = edit(
        |_| {},
        |decision| {
            decision.bounded = 8;
            decision.reason = Reason::StableDemand;
            decision.gate = Some(Reason::Rival);
        },
    );
    status.rivals = Arc::new([Rival {
        kind: "HorizontalPodAutoscaler".into(),
        name: "checkout".into(),
        follows: false,
    }]);
    status
}

fn paused() -> TargetStatus {
    edit(
        |config| config.mode = Mode::Paused,
        |decision| {
            decision.bounded = 8;
            decision.reason = Reason::StableDemand;
            decision.gate = Some(Reason::Paused);
        },
    )
}

fn contested(wanted: i32) -> TargetStatus {
    let mut status = edit(
        |_| {},
        |decision| {
            decision.bounded = wanted;
            decision.reason = Reason::StableDemand;
            decision.gate = Some(Reason::Contested);
        },
    );
    status.contest = Some(Contest {
        manager: "argocd-controller".into(),
        reverts: 3,
        last: at(0),
        pause: Duration::from_secs(30),
        raise_at: at(30),
    });
    status
}

fn paused_until() -> TargetStatus {
    edit(
        |config| config.paused_until = Some(at(3600)),
        |decision| {
            decision.bounded = 8;
            decision.reason = Reason::StableDemand;
            decision.gate = Some(Reason::Paused);
        },
    )
}

fn observed() -> TargetStatus {
    edit(
        |config| config.consent = Consent::Observed,
        |decision| decision.gate = Some(Reason::ObserveOnly),
    )
}

fn manual_zero() -> TargetStatus {
    let mut status = edit(|_| {}, |decision| decision.gate = Some(Reason::ManualZero));
    status.replicas = 0;
    status
}

fn compat() -> TargetStatus {
    edit(
        |config| config.semantics = Semantics::Knative,
        |decision| {
            decision.semantics = Semantics::Knative;
            decision.observation.covered_s = 57;
            decision.reason = Reason::StableDemand;
        },
    )
}

fn max_scale() -> TargetStatus {
    edit(
        |config| {
            config.bounds.max = 6;
            config.problems = vec![problem(
                ProblemCode::DefaultMaxScale,
                "autoscaling.knative.dev/max-scale",
                "not set",
                "the ceiling is 6",
            )];
        },
        |decision| {
            decision.observation.stable = Some(655.0);
            decision.observation.stable_high = Some(655.0);
            decision.wants = Some(Wants { stable: 10.0, panic: 10.0 });
            decision.stages =
                vec![stage(Stage::Demand, 10, 10, ""), stage(Stage::Bounds, 10, 6, "max-scale 6")];
            decision.desired = 10;
            decision.reason = Reason::MaxScale;
        },
    )
}

fn delayed() -> TargetStatus {
    edit(
        |config| config.spec.scale_down_delay = Duration::from_mins(15),
        |decision| {
            decision.observation.stable = Some(200.0);
            decision.observation.stable_high = Some(200.0);
            decision.wants = Some(Wants { stable: 3.0, panic: 3.0 });
            decision.stages = vec![
                stage(Stage::Demand, 3, 3, ""),
                stage(Stage::ScaleDownDelay, 3, 6, "highest of the last 15 m"),
            ];
            decision.reason = Reason::ScaleDownDelay;
        },
    )
}

fn refused() -> TargetStatus {
    let mut status = edit(
        |_| {},
        |decision| {
            decision.bounded = 8;
            decision.reason = Reason::StableDemand;
        },
    );
    let outcome = WriteOutcome::Refused { status: 403, retry_after: Duration::from_secs(30) };
    status.last_write = Some(WriteRecord { at: at(0), from: 6, replicas: 8, outcome });
    status.problems = vec![problem(
        ProblemCode::InvalidAnnotation,
        "autoscaling.knative.dev/window",
        "\u{1b}[31mred\u{202e} is not a duration",
        "60s is used",
    )];
    status
}

#[test]
fn the_screen_of_each_state() {
    for (name, status) in [
        ("steady", steady()),
        ("panicking", panicking()),
        ("partial", partial()),
        ("lost", lost()),
        ("starting", starting()),
        ("no_source", no_source()),
        ("no_wake_path", no_wake_path()),
        ("rival", rival()),
        ("paused", paused()),
        ("paused_until", paused_until()),
        ("contested_raise", contested(8)),
        ("contested_fall", contested(1)),
        ("observed", observed()),
        ("manual_zero", manual_zero()),
        ("compat", compat()),
        ("max_scale", max_scale()),
        ("delayed", delayed()),
        ("refused", refused()),
        ("several", several()),
    ] {
        insta::assert_snapshot!(name, explain(&status, at(11)));
    }
}

#[test]
fn attention_is_asked_for_where_somebody_must_look() {
    for (expected, status) in [
        (false, steady()),
        (false, panicking()),
        (true, partial()),
        (true, lost()),
        (false, starting()),
        (true, no_source()),
        (false, no_wake_path()),
        (true, rival()),
        (false, paused()),
        (false, paused_until()),
        (true, contested(8)),
        (false, observed()),
        (true, manual_zero()),
        (false, max_scale()),
        (true, refused()),
        (true, several()),
    ] {
        assert_eq!(needs_attention(&status), expected, "{}", explain(&status, at(11)));
    }
}

#[test]
fn no_state_and_no_reason_breaks_the_screen() {
    let mut undecided = steady();
    undecided.decision = None;
    assert!(explain(&undecided, at(0)).contains("not decided yet"));
    for reason in Reason::ALL {
        for gate in [None, Some(reason)] {
            let status = edit(
                |_| {},
                |decision| {
                    decision.reason = reason;
                    decision.gate = gate;
                },
            );
            let screen = explain(&status, at(0));
            assert!(screen.contains(reason.as_str()) && screen.contains(reason.meaning()));
            assert!(screen.lines().all(|line| line.chars().count() < 160), "{screen}");
        }
    }
}

#[test]
fn what_users_write_is_made_harmless() {
    assert_eq!(printable("a\u{1b}[31mb\u{202e}\0\n\"ü"), "a\\u{1b}[31mb\\u{202e}\\u{0}\\u{a}\"ü");
    assert_eq!(printable(&"x".repeat(300_000)).chars().count(), MAX_TEXT + 1);
}
