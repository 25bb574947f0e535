//! The JSON documents of `/v1`, apart from the core's own types so that these may change and the
//! documents stay: fields are only ever added. `docs/http-api.md` describes them.
//!
//! Durations are seconds, time stamps RFC 3339, absent knowledge is `null`.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::core::config::{MeasureView, TargetConfig};
use crate::core::decision::{
    Decision, MeasureRecord, Observation, PanicRecord, Reason, TargetStatus, Trigger, Wants,
    WriteRecord,
};
use crate::core::effective;
use crate::core::event::WriteOutcome;
use crate::core::explain;
use crate::core::policy::Consent;
use crate::core::problem::Problem;
use crate::core::rule::Rule;
use crate::runtime::health::{LeaseReport, WatchReport};
use crate::runtime::history::Moment;

/// The version of all documents.
pub const API_VERSION: &str = "podswell.dev/v1";

/// Any document: its version, its kind and what it says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document<T> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    body: T,
}

impl<T> Document<T> {
    /// A document of `kind`.
    pub fn new(kind: &'static str, body: T) -> Self {
        Self { api_version: API_VERSION, kind, body }
    }
}

/// The body of an error.
#[derive(Debug, Serialize)]
pub struct ErrorBody {
    /// What went wrong: a closed set in CamelCase.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// The state of the process.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusBody {
    /// The version that runs.
    pub version: &'static str,
    /// The wall clock.
    pub now: Timestamp,
    /// Whether this process writes.
    pub leader: bool,
    /// The election; `null` in a process that needs none.
    pub lease: Option<LeaseBody>,
    /// Whether all caches are filled.
    pub ready: bool,
    /// What readiness waits for.
    pub missing: Vec<String>,
    /// How many targets are decided.
    pub targets: usize,
    /// How many targets need a person.
    pub attention: usize,
    /// How many problems there are.
    pub problems: usize,
    /// The engine's queue.
    pub engine: EngineBody,
    /// The watches of the API server.
    pub watches: Vec<WatchBody>,
}

/// The state of the election.
#[derive(Debug, Serialize)]
pub struct LeaseBody {
    identity: String,
    holder: Option<String>,
    transitions: Option<i32>,
    fault: Option<&'static str>,
}

impl LeaseBody {
    /// What the election reports.
    pub fn of(report: &LeaseReport) -> Self {
        Self {
            identity: explain::printable(&report.identity),
            holder: report.holder.as_deref().map(explain::printable),
            transitions: report.transitions,
            fault: report.fault,
        }
    }
}

/// The state of one watch.
#[derive(Debug, Serialize)]
pub struct WatchBody {
    name: String,
    synced: bool,
    fault: Option<&'static str>,
    skipped: u64,
}

impl WatchBody {
    /// What a watch reports.
    pub fn of(report: &WatchReport) -> Self {
        let WatchReport { ref name, synced, fault, skipped, .. } = *report;
        Self { name: name.to_string(), synced, fault, skipped }
    }
}

/// The state of the engine's loop.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineBody {
    /// Events that wait.
    pub queue_length: usize,
    /// Samples that were dropped because the queue was full.
    pub dropped: u64,
    /// How long the loop has been silent.
    pub silence_seconds: f64,
}

/// All targets in short.
#[derive(Debug, Serialize)]
pub struct ListBody {
    /// Ordered by namespace, kind and name.
    pub items: Vec<Summary>,
}

/// Which target.
#[derive(Debug, Serialize)]
pub struct TargetRef {
    namespace: String,
    kind: &'static str,
    name: String,
    /// Which trigger of which ScaledObject it answers, if it answers one.
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<String>,
}

impl TargetRef {
    fn of(status: &TargetStatus) -> Self {
        Self {
            namespace: status.target.namespace.to_string(),
            kind: status.target.kind.as_str(),
            name: status.target.name.to_string(),
            trigger: status.target.trigger.as_deref().map(explain::printable),
        }
    }
}

/// One target in short.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    target: TargetRef,
    attention: bool,
    mode: &'static str,
    paused_until: Option<String>,
    managed: bool,
    replicas: i32,
    ready: i32,
    desired: Option<i32>,
    reason: Option<&'static str>,
    gate: Option<&'static str>,
    signal: Option<&'static str>,
    panic: bool,
    problems: usize,
    metric: &'static str,
    load: Option<f64>,
    panic_load: Option<f64>,
    target_value: f64,
    min_scale: i32,
    max_scale: i32,
}

impl Summary {
    /// The summary of a status.
    pub fn of(status: &TargetStatus) -> Self {
        let decision = status.decision.as_deref();
        Self {
            target: TargetRef::of(status),
            attention: explain::needs_attention(status),
            mode: status.config.mode.as_str(),
            paused_until: status
                .config
                .paused_until
                .filter(|until| decision.is_some_and(|decision| decision.at < *until))
                .map(|until| until.to_string()),
            managed: status.config.consent == Consent::Managed,
            replicas: status.replicas,
            ready: status.pods.ready,
            desired: decision.map(|decision| decision.bounded),
            reason: decision.map(|decision| decision.reason.as_str()),
            gate: decision.and_then(|decision| decision.gate).map(Reason::as_str),
            signal: decision.map(|decision| decision.worst_signal().as_str()),
            panic: decision.is_some_and(|decision| decision.any_panic().is_some()),
            problems: status.all_problems().count(),
            metric: status.config.spec.metric.as_str(),
            load: decision.and_then(|decision| decision.observation.stable),
            panic_load: decision.and_then(|decision| decision.observation.panic),
            target_value: status.config.spec.target,
            min_scale: status.config.bounds.min,
            max_scale: status.config.bounds.max,
        }
    }
}

/// What a target looked like lately.
#[derive(Debug, Serialize)]
pub struct HistoryBody {
    /// Oldest first.
    pub items: Vec<MomentBody>,
}

/// A target at one decision.
#[derive(Debug, Serialize)]
pub struct MomentBody {
    at: Timestamp,
    stable: Option<f64>,
    panic: Option<f64>,
    target: f64,
    ready: i32,
    replicas: i32,
    desired: i32,
    panicking: bool,
    signal: &'static str,
    reason: &'static str,
    gate: Option<&'static str>,
}

impl MomentBody {
    /// The moment on the wire.
    pub fn of(moment: &Moment) -> Self {
        Self {
            at: moment.at,
            stable: moment.stable,
            panic: moment.panic,
            target: moment.target_value,
            ready: moment.ready,
            replicas: moment.replicas,
            desired: moment.desired,
            panicking: moment.panicking,
            signal: moment.signal.as_str(),
            reason: moment.reason.as_str(),
            gate: moment.gate.map(Reason::as_str),
        }
    }
}

/// One target in full.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetBody {
    target: TargetRef,
    attention: bool,
    replicas: i32,
    pods: PodsBody,
    configuration: ConfigurationBody,
    decision: Option<DecisionBody>,
    last_write: Option<WriteBody>,
    rivals: Vec<RivalBody>,
    contest: Option<ContestBody>,
    problems: Vec<ProblemBody>,
    samples: SamplesBody,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodsBody {
    ready: i32,
    not_ready: i32,
    pending: i32,
    terminating: i32,
}

#[derive(Debug, Serialize)]
struct RivalBody {
    kind: String,
    name: String,
    follows: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ContestBody {
    manager: String,
    reverts: u32,
    last: String,
    raise_at: String,
    over_at: String,
    hint: String,
}

#[derive(Debug, Serialize)]
struct ProblemBody {
    code: &'static str,
    key: String,
    why: String,
    fallback: String,
    hint: &'static str,
}

impl ProblemBody {
    fn of(problem: &Problem) -> Self {
        Self {
            code: problem.code.as_str(),
            key: problem.key.clone(),
            why: problem.why.clone(),
            fallback: problem.fallback.clone(),
            hint: problem.code.hint(),
        }
    }
}

#[derive(Debug, Serialize)]
struct SamplesBody {
    recorded: u64,
    heartbeat: u64,
    late: u64,
    invalid: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigurationBody {
    managed: bool,
    settings: Vec<SettingBody>,
    points: Vec<PointBody>,
}

#[derive(Debug, Serialize)]
struct SettingBody {
    name: &'static str,
    value: String,
    from: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PointBody {
    measure: Option<String>,
    role: &'static str,
    source: String,
    interval_seconds: f64,
    stale_after_seconds: f64,
    range_seconds: Option<f64>,
    visible_at_zero: bool,
    share: &'static str,
}

impl ConfigurationBody {
    fn of(config: &TargetConfig) -> Self {
        let settings = effective::settings(config).into_iter().map(|setting| SettingBody {
            name: setting.name,
            value: setting.value,
            from: setting.from.as_str(),
        });
        let points = config.measures().flat_map(|view| points_of(config, view).collect::<Vec<_>>());
        Self {
            managed: config.consent == Consent::Managed,
            settings: settings.collect(),
            points: points.collect(),
        }
    }
}

fn points_of<'a>(
    config: &'a TargetConfig,
    view: MeasureView<'a>,
) -> impl Iterator<Item = PointBody> + 'a {
    let several = !config.further.is_empty() || view.companion.is_some();
    let companion = view.companion.into_iter().flat_map(|companion| &companion.points);
    let points = view.points.iter().map(|point| (point, "load"));
    points.chain(companion.map(|point| (point, "waiting"))).map(move |(point, role)| PointBody {
        measure: several.then(|| view.name.to_string()),
        role,
        source: point.source.to_string(),
        interval_seconds: point.interval.as_secs_f64(),
        stale_after_seconds: point.stale_after.as_secs_f64(),
        range_seconds: point.range.as_ref().map(Duration::as_secs_f64),
        visible_at_zero: point.visible_at_zero,
        share: point.share.as_str(),
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DecisionBody {
    at: Timestamp,
    trigger: &'static str,
    metric: &'static str,
    target: f64,
    ready: i32,
    replicas: i32,
    desired: i32,
    bounded: i32,
    reason: &'static str,
    meaning: &'static str,
    gate: Option<&'static str>,
    signal: SignalBody,
    windows: WindowsBody,
    wants: Option<WantsBody>,
    stages: Vec<StageBody>,
    panic_mode: Option<PanicBody>,
    excess_burst_capacity: i32,
    measures: Vec<MeasureBody>,
}

/// What one of several measures asks for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MeasureBody {
    name: String,
    metric: &'static str,
    target: f64,
    desired: i32,
    reason: &'static str,
    wins: bool,
    signal: SignalBody,
    windows: WindowsBody,
    wants: Option<WantsBody>,
    panic_mode: Option<PanicBody>,
}

impl MeasureBody {
    fn of(measure: &MeasureRecord) -> Self {
        Self {
            name: measure.name.to_string(),
            metric: measure.metric.as_str(),
            target: measure.target,
            desired: measure.desired,
            reason: measure.reason.as_str(),
            wins: measure.wins,
            signal: SignalBody::of(&measure.observation),
            windows: WindowsBody::of(&measure.observation),
            wants: measure.wants.map(WantsBody::of),
            panic_mode: measure.panic_mode.as_ref().map(PanicBody::of),
        }
    }
}

impl WantsBody {
    fn of(wants: Wants) -> Self {
        Self { stable: wants.stable, panic: wants.panic }
    }
}

impl PanicBody {
    fn of(panic: &PanicRecord) -> Self {
        Self { since: panic.since, until: panic.until, high_water: panic.high_water }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SignalBody {
    state: &'static str,
    source: Option<String>,
    age_seconds: f64,
    fault: Option<&'static str>,
    missing: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WindowsBody {
    stable: Option<f64>,
    stable_high: Option<f64>,
    panic: Option<f64>,
    stable_window_seconds: f64,
    panic_window_seconds: f64,
    covered_seconds: u32,
    samples_in_panic_window: u32,
    waiting: Option<f64>,
    drain_seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
struct WantsBody {
    stable: f64,
    panic: f64,
}

#[derive(Debug, Serialize)]
struct StageBody {
    stage: &'static str,
    before: i32,
    after: i32,
    rule: Rule,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PanicBody {
    since: Timestamp,
    until: Timestamp,
    high_water: i32,
}

impl DecisionBody {
    fn of(decision: &Decision) -> Self {
        let stages = decision.stages.iter().map(|record| StageBody {
            stage: record.stage.as_str(),
            before: record.before,
            after: record.after,
            rule: record.rule,
        });
        Self {
            at: decision.at,
            trigger: match decision.trigger {
                Trigger::Tick => "tick",
                Trigger::Arrival => "arrival",
            },
            metric: decision.metric.as_str(),
            target: decision.target,
            ready: decision.ready,
            replicas: decision.replicas,
            desired: decision.desired,
            bounded: decision.bounded,
            reason: decision.reason.as_str(),
            meaning: decision.reason.meaning(),
            gate: decision.gate.map(Reason::as_str),
            signal: SignalBody::of(&decision.observation),
            windows: WindowsBody::of(&decision.observation),
            wants: decision.wants.map(WantsBody::of),
            stages: stages.collect(),
            panic_mode: decision.panic_mode.as_ref().map(PanicBody::of),
            excess_burst_capacity: decision.excess_burst_capacity,
            measures: decision.measures.iter().map(MeasureBody::of).collect(),
        }
    }
}

impl SignalBody {
    fn of(seen: &Observation) -> Self {
        Self {
            state: seen.signal.as_str(),
            source: seen.source.as_ref().map(ToString::to_string),
            age_seconds: seen.age.as_secs_f64(),
            fault: seen.fault.map(crate::core::event::SourceFault::as_str),
            missing: seen.missing,
        }
    }
}

impl WindowsBody {
    fn of(seen: &Observation) -> Self {
        Self {
            stable: seen.stable,
            stable_high: seen.stable_high,
            panic: seen.panic,
            stable_window_seconds: seen.stable_window.as_secs_f64(),
            panic_window_seconds: seen.panic_window.as_secs_f64(),
            covered_seconds: seen.covered_s,
            samples_in_panic_window: seen.samples_in_panic_window,
            waiting: seen.waiting.map(|waiting| waiting.items),
            drain_seconds: seen.waiting.map(|waiting| waiting.drain_time.as_secs_f64()),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WriteBody {
    at: Timestamp,
    from: i32,
    replicas: i32,
    outcome: &'static str,
    status: Option<u16>,
    retry_after_seconds: Option<f64>,
}

impl WriteBody {
    fn of(write: &WriteRecord) -> Self {
        let (status, retry_after_seconds) = match &write.outcome {
            WriteOutcome::Refused { status, retry_after } => {
                (Some(*status), Some(retry_after.as_secs_f64()))
            }
            _ => (None, None),
        };
        Self {
            at: write.at,
            from: write.from,
            replicas: write.replicas,
            outcome: write.outcome.as_str(),
            status,
            retry_after_seconds,
        }
    }
}

impl TargetBody {
    /// Everything about a target.
    pub fn of(status: &TargetStatus) -> Self {
        let (pods, samples) = (status.pods, status.samples);
        let rivals = status.rivals.iter().map(|rival| RivalBody {
            kind: rival.kind.clone(),
            name: rival.name.clone(),
            follows: rival.follows,
        });
        Self {
            target: TargetRef::of(status),
            attention: explain::needs_attention(status),
            replicas: status.replicas,
            pods: PodsBody {
                ready: pods.ready,
                not_ready: pods.not_ready,
                pending: pods.pending,
                terminating: pods.terminating,
            },
            configuration: ConfigurationBody::of(&status.config),
            decision: status.decision.as_deref().map(DecisionBody::of),
            last_write: status.last_write.as_ref().map(WriteBody::of),
            rivals: rivals.collect(),
            contest: status.contest.as_ref().map(|contest| ContestBody {
                manager: contest.manager.to_string(),
                reverts: contest.reverts,
                last: contest.last.to_string(),
                raise_at: contest.raise_at.to_string(),
                over_at: contest.over_at().to_string(),
                hint: contest.hint(&status.target),
            }),
            problems: status.all_problems().map(ProblemBody::of).collect(),
            samples: SamplesBody {
                recorded: samples.recorded,
                heartbeat: samples.heartbeat,
                late: samples.late,
                invalid: samples.invalid,
            },
        }
    }
}
