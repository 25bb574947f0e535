//! The three loads.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use tokio::time::Instant;

use crate::busy::Busy;
use crate::figures::Figures;
use crate::number;
use crate::peer::{Peer, Stage};
use crate::record::Recorder;
use crate::support::load::{Level, Load, LoadOptions};
use crate::support::wait::{settles, until};

/// How long each request takes at a pod that is not full.
const WORK: Duration = Duration::from_secs(1);
/// How long the load before the change lasts: longer than the HPA's period, and than a scrape.
const BEFORE: Duration = Duration::from_secs(20);
/// By how much longer it lasts in each run, so that five runs meet periods of 15 s at five phases.
const PHASE: Duration = Duration::from_secs(3);
/// How long is waited for the full scale of all. The HPA at most doubles every 15 s.
const LIMIT: Duration = Duration::from_secs(240);
/// How long is watched after that, for the last change.
const AFTER: Duration = Duration::from_secs(15);
/// How long it may take until pods are ready or gone: the machine may be busy.
const PODS_LIMIT: Duration = Duration::from_secs(900);

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

/// A scenario in numbers, for each autoscaler.
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
                workloads: number("PODSWELL_BENCH_WORKLOADS", 200),
                target: 2,
                replicas: 1,
                before: Level::Idle,
                load: Level::Held(2),
                wanted: 2,
            },
        }
    }
}

/// How a run went: the figures of each autoscaler, and how busy the machine was from the change of the load
/// on, in percent.
pub(crate) struct Run {
    pub(crate) figures: BTreeMap<Peer, Figures>,
    pub(crate) busy: f64,
    pub(crate) busiest_second: f64,
}

/// Loads by the autoscaler whose pods they reach.
type Loads = BTreeMap<Peer, Vec<Load>>;

/// A run that is prepared or goes on, for all autoscalers of the stage at the same time.
struct Play<'a> {
    stage: &'a Stage,
    plan: Plan,
    /// Names of its Deployments.
    names: Vec<String>,
    recorder: Recorder,
}

/// Plays a scenario with Deployments of its own, which are removed afterwards.
pub(crate) async fn play(stage: &Stage, scenario: Scenario, run: u32) -> Run {
    let (plan, prefix) = (scenario.plan(), format!("{scenario:?}-{run}-").to_lowercase());
    let (client, table) = (stage.plane.client(), stage.node.table());
    let play = Play {
        recorder: Recorder::start(&client, table, &stage.peers, &prefix, plan.wanted),
        names: (0..plan.workloads).map(|number| format!("{prefix}{number}")).collect(),
        stage,
        plan,
    };
    stage.hurry().await;
    let loads = play.prepare().await;
    stage.slow_down().await;
    tokio::time::sleep(BEFORE + PHASE * (run % 5)).await;
    let run = play.measure(&loads).await;
    drop(loads);
    stage.hurry().await;
    play.clean_up().await;
    run
}

impl Play<'_> {
    /// Makes the workloads and the load before the change, and waits until all is quiet.
    async fn prepare(&self) -> Loads {
        let Plan { replicas, target, before, .. } = self.plan;
        let mut loads = Loads::new();
        for peer in &self.stage.peers {
            let created = stream::iter(&self.names)
                .map(|name| self.stage.create(*peer, name, replicas, target));
            let table = self.stage.node.table();
            let of_peer = loads.entry(*peer).or_default();
            of_peer.extend(self.names.iter().map(|name| {
                let options =
                    LoadOptions { work: WORK, ..LoadOptions::new(peer.namespace(), name) };
                Load::start(table.clone(), options, before)
            }));
            created.buffer_unordered(8).collect::<Vec<()>>().await;
        }
        let each = usize::try_from(replicas).unwrap_or(0);
        settles(PODS_LIMIT, Duration::from_secs(5), "the pods are ready", true, || async {
            self.stage.peers.iter().all(|peer| {
                let ready = self.stage.node.table().ready_by_deployment(peer.namespace());
                self.names.iter().all(|name| ready.get(name) == Some(&each))
            })
        })
        .await;
        loads
    }

    /// Changes the load and watches until all autoscalers have come to rest, or have had their time.
    async fn measure(&self, loads: &Loads) -> Run {
        let position = self.stage.audit.position();
        let busy = Busy::watch();
        let began = self.recorder.begin();
        for load in loads.values().flatten() {
            load.set(self.plan.load);
        }
        let of = |peer: Peer| self.recorder.figures(peer, began, self.plan.wanted);
        let is_full = || self.stage.peers.iter().all(|peer| of(*peer).full_scale.is_some());
        while !is_full() && began.elapsed() < LIMIT {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        tokio::time::sleep(AFTER).await;

        let spent = self.stage.peers.iter().map(|peer| self.recorder.pod_seconds(*peer));
        let least = spent.fold(f64::INFINITY, f64::min);
        let figures = loads.iter().map(|(peer, loads)| {
            let (until, unmet) = self.recorder.until_spent(*peer, least).unwrap_or((began, 0.0));
            let writes = self.stage.audit.writes(*peer, position);
            let figures = Figures {
                pod_seconds: Some(self.recorder.pod_seconds(*peer)),
                unmet_pod_seconds: Some(unmet),
                p99: p99(loads, began, until),
                writes: u32::try_from(writes).ok().map(f64::from),
                ..of(*peer)
            };
            (*peer, figures)
        });
        let figures = figures.collect();
        let (busy, busiest_second) = busy.percent();
        Run { figures, busy, busiest_second }
    }

    async fn clean_up(&self) {
        for peer in &self.stage.peers {
            let mut kinds = vec!["deployments"];
            match peer {
                Peer::Hpa => kinds.push("hpa"),
                Peer::Knative | Peer::KnativeRaised => {
                    kinds.extend(["podautoscalers", "serverlessservices"]);
                    kinds.push("metrics.autoscaling.internal.knative.dev");
                }
                Peer::Scrape | Peer::Prometheus15 => {}
            }
            // Who scales goes before what is scaled.
            kinds.reverse();
            let (kinds, namespace) = (kinds.join(","), peer.namespace());
            let wait = "--wait=false";
            self.stage.plane.kubectl(&["delete", &kinds, "--all", wait, "-n", namespace]).await;
        }
        let (table, peers) = (self.stage.node.table(), &self.stage.peers);
        let is_ours = |namespace: &str| peers.iter().any(|peer| peer.namespace() == namespace);
        let running = || async { table.all().iter().filter(|pod| is_ours(&pod.namespace)).count() };
        until(PODS_LIMIT, "the pods are gone", |seen| *seen == 0, running).await;
    }
}

/// The 99th percentile of the time that requests took which ended between the two moments.
fn p99(loads: &[Load], began: Instant, until: Instant) -> Option<f64> {
    let mut all: Vec<f64> =
        loads.iter().flat_map(|load| load.durations_between(began, until)).collect();
    all.sort_by(f64::total_cmp);
    all.get((all.len() * 99 / 100).min(all.len().checked_sub(1)?)).copied()
}
