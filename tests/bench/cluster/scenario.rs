//! The three loads.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use tokio::time::Instant;

use crate::number;
use crate::peer::Stage;
use crate::record::{Figures, Recorder};
use crate::support::load::{Level, Load, LoadOptions};
use crate::support::wait::until;

/// How long each request takes at a pod that is not full.
const WORK: Duration = Duration::from_secs(1);
/// How long the load before the change lasts: longer than the HPA's period, and than a scrape.
const BEFORE: Duration = Duration::from_secs(35);
/// How long is waited for the full scale. The HPA at most doubles every 15 s.
const LIMIT: Duration = Duration::from_secs(240);
/// How long is watched after the full scale, for the last write.
const AFTER: Duration = Duration::from_secs(20);

/// A load that changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    /// Three pods' worth, then ten times that.
    Step,
    /// One idle pod, then a hundred pods' worth.
    Burst,
    /// Many idle workloads that need a second pod within the same second.
    Wave,
}

/// A scenario in numbers.
struct Plan {
    workloads: u32,
    target: u32,
    replicas: i32,
    before: Level,
    load: Level,
    wanted: usize,
}

impl Scenario {
    pub(crate) const ALL: [Self; 3] = [Self::Step, Self::Burst, Self::Wave];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Step => "ten times the load",
            Self::Burst => "idle to 100 pods",
            Self::Wave => "idle workloads woken at once",
        }
    }

    fn plan(self) -> Plan {
        let one = |replicas, before, load, wanted| Plan {
            workloads: 1,
            target: 10,
            replicas,
            before,
            load,
            wanted,
        };
        match self {
            Self::Step => one(3, Level::InFlight(21), Level::InFlight(210), 30),
            Self::Burst => one(1, Level::Idle, Level::InFlight(700), 100),
            Self::Wave => Plan {
                workloads: number("PODSWELL_BENCH_WORKLOADS", 1000),
                target: 2,
                replicas: 1,
                before: Level::Idle,
                load: Level::Held(2),
                wanted: 2,
            },
        }
    }
}

/// Plays a scenario in a namespace of its own, which is emptied afterwards.
pub(crate) async fn play(stage: &Stage, scenario: Scenario, run: u32) -> Figures {
    let plan = scenario.plan();
    let namespace = format!("{scenario:?}-{run}").to_lowercase();
    let names: Vec<_> = (0..plan.workloads).map(|number| format!("w{number}")).collect();
    let created =
        stream::iter(&names).map(|name| stage.create(&namespace, name, plan.replicas, plan.target));
    created.buffer_unordered(8).collect::<Vec<()>>().await;
    let all = names.len() * usize::try_from(plan.replicas).unwrap_or(0);
    let table = stage.node.table();
    let ready = || async {
        table.all().iter().filter(|pod| pod.namespace == namespace && pod.ready).count()
    };
    until(Duration::from_secs(600), "the pods are ready", |seen| *seen == all, ready).await;
    let loads: Vec<_> =
        names.iter().map(|name| load(stage, &namespace, name, plan.before)).collect();
    let recorder = Recorder::start(&stage.plane.client(), table.clone(), &namespace, plan.wanted);
    tokio::time::sleep(BEFORE).await;

    let began = recorder.begin();
    for load in &loads {
        load.set(plan.load);
    }
    while recorder.figures(began, plan.wanted).full_scale.is_none() && began.elapsed() < LIMIT {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(AFTER).await;
    let p99 = p99(&loads, began);
    let figures = Figures { p99, ..recorder.figures(began, plan.wanted) };
    drop((recorder, loads));
    stage.plane.kubectl(&["delete", "hpa,deployments", "--all", "-n", &namespace]).await;
    until(Duration::from_secs(300), "the pods are gone", |seen| *seen == 0, ready).await;
    figures
}

fn load(stage: &Stage, namespace: &str, name: &str, level: Level) -> Load {
    let options = LoadOptions { work: WORK, ..LoadOptions::new(namespace, name) };
    Load::start(stage.node.table(), options, level)
}

/// The 99th percentile of the time that requests took which ended after the load changed.
fn p99(loads: &[Load], began: Instant) -> Option<f64> {
    let mut all: Vec<f64> = loads.iter().flat_map(|load| load.durations_since(began)).collect();
    all.sort_by(f64::total_cmp);
    all.get((all.len() * 99 / 100).min(all.len().checked_sub(1)?)).copied()
}
