//! Every metric family of the process, in one file; `docs/metrics.md` explains each.
//!
//! Families of single targets are written from the status board at each scrape and kept nowhere, so a
//! target that is gone leaves no stale series behind. No label ever carries what a peer sent: namespaces
//! and names come from the API server, source names from the administrator, the rest from closed lists.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::engine_handle::EngineHandle;
use super::health::Health;
use super::status_board::StatusBoard;
use crate::core::decision::{MeasureRecord, Observation, Reason, TargetStatus};
use crate::core::event::{Event, WriteOutcome};
use crate::core::snapshot::Restoration;
use crate::core::spec::ScalingMetric;
use crate::servers::keda::counters::Counters;
use crate::sources::counters::{DURATION_BUCKETS, SourceMetrics};

/// The prefix of every family.
pub const PREFIX: &str = "podswell";

/// The content type of what [`Metrics::encode`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SiteLabel {
    site: &'static str,
}

type NoLabels = [(&'static str, &'static str); 0];

type HistogramFamily = Family<SourceLabel, Histogram, fn() -> Histogram>;

/// The process's metrics. Shared; every method may be called from any task.
pub struct Metrics {
    registry: Registry,
    /// The families of single targets.
    of_targets: Registry,
    decisions: Family<OutcomeLabel, Counter>,
    scale_writes: Family<OutcomeLabel, Counter>,
    scale_write_duration: Histogram,
    sample_age: HistogramFamily,
    tick_duration: Histogram,
    unknown_samples: Arc<AtomicU64>,
    notices: Arc<OnceLock<NoticeReporter>>,
    scaler: Arc<OnceLock<Arc<Counters>>>,
    invariant_violations: Family<SiteLabel, Counter>,
    snapshot_files: Family<OutcomeLabel, Counter>,
    snapshot_windows: Family<OutcomeLabel, Counter>,
}

/// What became of the notices for users: the outcome and how often.
pub type NoticeReporter = Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn age_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.25, 2.0, 11))
}

impl Metrics {
    /// All families, with nothing counted yet.
    pub fn new(
        board: Arc<StatusBoard>,
        health: Arc<Health>,
        engine: EngineHandle,
        sources: SourceMetrics,
    ) -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            of_targets: Registry::with_prefix(PREFIX),
            decisions: Family::default(),
            scale_writes: Family::default(),
            scale_write_duration: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            sample_age: Family::new_with_constructor(age_histogram),
            tick_duration: Histogram::new(exponential_buckets(0.000_01, 4.0, 10)),
            unknown_samples: Arc::default(),
            notices: Arc::default(),
            scaler: Arc::default(),
            invariant_violations: Family::default(),
            snapshot_files: Family::default(),
            snapshot_windows: Family::default(),
        };
        metrics.register();
        metrics.register_snapshot();
        metrics.registry.register_collector(Box::new(Process {
            health,
            engine,
            board: board.clone(),
            unknown_samples: metrics.unknown_samples.clone(),
            notices: metrics.notices.clone(),
        }));
        metrics.of_targets.register_collector(Box::new(Targets { board }));
        metrics.registry.register_collector(Box::new(Sources { sources }));
        let scaler = metrics.scaler.clone();
        metrics.registry.register_collector(Box::new(ExternalScaler { scaler }));
        Arc::new(metrics)
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "build",
            "The version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register(
            "decisions",
            "Decisions by their reason (docs/reasons.md)",
            self.decisions.clone(),
        );
        registry.register(
            "scale_writes",
            "Writes of the scale subresource by outcome",
            self.scale_writes.clone(),
        );
        registry.register_with_unit(
            "scale_write_duration",
            "From the decision to the API server's answer",
            Unit::Seconds,
            self.scale_write_duration.clone(),
        );
        registry.register_with_unit(
            "sample_age",
            "How old samples were when they arrived",
            Unit::Seconds,
            self.sample_age.clone(),
        );
        registry.register_with_unit(
            "tick_duration",
            "How long one evaluation of all due targets took",
            Unit::Seconds,
            self.tick_duration.clone(),
        );
        registry.register(
            "invariant_violations",
            "Broken invariants that were recovered from: bugs to report",
            self.invariant_violations.clone(),
        );
    }

    fn register_snapshot(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "snapshot_files",
            "What became of the snapshot file, each time",
            self.snapshot_files.clone(),
        );
        registry.register(
            "snapshot_windows",
            "What became of the windows of the snapshot that was read at the start",
            self.snapshot_windows.clone(),
        );
    }

    /// Counts what became of the snapshot file: `Read`, `Refused`, `Written` or `WriteFailed`.
    pub fn snapshot_file(&self, outcome: &'static str) {
        self.snapshot_files.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Counts what became of the windows of a snapshot.
    pub fn restored(&self, restoration: &Restoration) {
        let Restoration { restored, old, changed, gone } = *restoration;
        for (outcome, count) in
            [("Restored", restored), ("Old", old), ("Changed", changed), ("Gone", gone)]
        {
            self.snapshot_windows.get_or_create(&OutcomeLabel { outcome }).inc_by(count);
        }
    }

    /// Writes the families in the OpenMetrics text format, those of single targets only `with_targets`:
    /// they take some 2 KB each.
    ///
    /// # Errors
    /// If a family cannot be written, which no family does.
    pub fn encode(&self, with_targets: bool) -> Result<String, fmt::Error> {
        let mut page = String::new();
        if with_targets {
            text::encode_registry(&mut page, &self.of_targets)?;
        }
        text::encode_registry(&mut page, &self.registry)?;
        text::encode_eof(&mut page)?;
        Ok(page)
    }

    /// Counts one decision.
    pub fn decided(&self, reason: Reason) {
        self.decisions.get_or_create(&OutcomeLabel { outcome: reason.as_str() }).inc();
    }

    /// Counts one write and how long it took from the decision to the answer.
    pub fn wrote(&self, outcome: &WriteOutcome, took: Duration) {
        self.scale_writes.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
        self.scale_write_duration.observe(took.as_secs_f64());
    }

    /// Notes how long one evaluation of all due targets took.
    pub fn ticked(&self, took: Duration) {
        self.tick_duration.observe(took.as_secs_f64());
    }

    /// Takes over how many samples of unknown targets or sources the engine has seen.
    pub fn set_unknown_samples(&self, count: u64) {
        self.unknown_samples.store(count, Ordering::Relaxed);
    }

    /// Says whom to ask what became of Kubernetes Events; only the first call counts.
    pub fn set_notices(&self, reporter: NoticeReporter) {
        // A second reporter would be a mistake of the wiring, without harm: the first one stays.
        let _ = self.notices.set(reporter);
    }

    /// Says who counts what KEDA asks; only the first call counts. Without it there are no such families.
    pub fn set_scaler(&self, counters: Arc<Counters>) {
        // As above.
        let _ = self.scaler.set(counters);
    }

    /// Counts a broken invariant.
    pub fn violated(&self, site: &'static str) {
        self.invariant_violations.get_or_create(&SiteLabel { site }).inc();
    }

    /// Notes the ages of the samples that an event brings; other events say nothing here.
    pub fn arrived(&self, event: &Event) {
        let Event::Sampled { samples } = event else { return };
        for of_source in samples.chunk_by(|a, b| a.source == b.source) {
            let Some(first) = of_source.first() else { continue };
            let label = SourceLabel { source: first.source.to_string() };
            let ages = self.sample_age.get_or_create(&label);
            for sample in of_source {
                ages.observe(sample.age.as_secs_f64());
            }
        }
    }
}

/// What the sources counted, read at each scrape.
#[derive(Debug)]
struct Sources {
    sources: SourceMetrics,
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.sources.snapshot();
        let help = "Samples that the sources read, and answers without one by their fault";
        let mut samples = encoder.encode_descriptor("samples", help, None, MetricType::Counter)?;
        for (source, counted) in &all {
            for (outcome, count) in counted.outcomes.iter().filter(|(_, count)| *count > 0) {
                let labels = [("source", &**source), ("outcome", *outcome)];
                samples.encode_family(&labels)?.encode_counter::<NoLabels, _, u64>(count, None)?;
            }
        }
        let help = "How long requests of the sources took, answered or not";
        let unit = Some(&Unit::Seconds);
        let mut durations = encoder.encode_descriptor(
            "source_request_duration",
            help,
            unit,
            MetricType::Histogram,
        )?;
        for (source, counted) in &all {
            let bounds = DURATION_BUCKETS.iter().copied().chain([f64::MAX]);
            let buckets: Vec<_> = bounds.zip(counted.duration_counts.iter().copied()).collect();
            let count = counted.duration_counts.iter().sum();
            durations.encode_family(&[("source", &**source)])?.encode_histogram::<NoLabels>(
                counted.duration_sum_s,
                count,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

/// What the server that KEDA asks counted, read at each scrape.
#[derive(Debug)]
struct ExternalScaler {
    scaler: Arc<OnceLock<Arc<Counters>>>,
}

impl Collector for ExternalScaler {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(counters) = self.scaler.get() else { return Ok(()) };
        let help = "Calls that were answered, and streams that were opened or refused";
        let mut calls = encoder.encode_descriptor("keda_calls", help, None, MetricType::Counter)?;
        for (method, code, count) in counters.calls() {
            let labels = [("method", method), ("code", code)];
            calls.encode_family(&labels)?.encode_counter::<NoLabels, _, u64>(&count, None)?;
        }
        let help = "Streams that are open";
        let mut open = encoder.encode_descriptor("keda_streams", help, None, MetricType::Gauge)?;
        for (method, count) in counters.streams() {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            open.encode_family(&[("method", method)])?.encode_gauge(&count)?;
        }
        for (name, help, label, counts) in [
            ("keda_pushes", "Messages of streams", "method", counters.pushes()),
            (
                "keda_refused_connections",
                "Connections that were refused",
                "reason",
                counters.refusals(),
            ),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (value, count) in counts {
                let labels = [(label, value)];
                family.encode_family(&labels)?.encode_counter::<NoLabels, _, u64>(&count, None)?;
            }
        }
        let connections = i64::try_from(counters.connections()).unwrap_or(i64::MAX);
        let help = "Connections of KEDA's processes";
        encoder
            .encode_descriptor("keda_connections", help, None, MetricType::Gauge)?
            .encode_gauge(&connections)
    }
}

/// What the process's parts know by themselves, read at each scrape.
struct Process {
    health: Arc<Health>,
    engine: EngineHandle,
    board: Arc<StatusBoard>,
    unknown_samples: Arc<AtomicU64>,
    notices: Arc<OnceLock<NoticeReporter>>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let leader = i64::from(self.health.is_leader());
        let queue = i64::try_from(self.engine.queue_length()).unwrap_or(i64::MAX);
        let targets = i64::try_from(self.board.len()).unwrap_or(i64::MAX);
        for (name, help, value) in [
            ("leader", "1 while this process writes", leader),
            ("engine_queue_length", "Events that wait for the engine", queue),
            ("targets", "Targets that are decided", targets),
        ] {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        let unknown = self.unknown_samples.load(Ordering::Relaxed);
        for (name, help, count) in [
            (
                "engine_events_dropped",
                "Samples dropped because the engine's queue was full",
                self.engine.dropped(),
            ),
            (
                "engine_unknown_samples",
                "Samples of targets or sources that are not, or no longer, in use",
                unknown,
            ),
        ] {
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabels, _, u64>(&count, None)?;
        }
        self.encode_notices(&mut encoder)?;
        self.encode_watches(&mut encoder)
    }
}

impl Process {
    fn encode_notices(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Kubernetes Events by what became of them";
        let mut family = encoder.encode_descriptor("events", help, None, MetricType::Counter)?;
        for (outcome, count) in self.notices.get().map(|ask| ask()).unwrap_or_default() {
            family
                .encode_family(&[("outcome", outcome)])?
                .encode_counter::<NoLabels, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn encode_watches(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let watches = self.health.watches();
        let help = "1 while a watch of the API server is complete and can read";
        let mut family = encoder.encode_descriptor("watch_up", help, None, MetricType::Gauge)?;
        for watch in &watches {
            let up = i64::from(watch.synced && watch.fault.is_none());
            family.encode_family(&[("watch", &*watch.name)])?.encode_gauge(&up)?;
        }
        let help = "Malformed objects that a watch left out";
        let mut family =
            encoder.encode_descriptor("watch_skipped", help, None, MetricType::Counter)?;
        for watch in &watches {
            family
                .encode_family(&[("watch", &*watch.name)])?
                .encode_counter::<NoLabels, _, u64>(&watch.skipped, None)?;
        }
        Ok(())
    }
}

/// One gauge that every target has, or may have.
struct TargetGauge {
    name: &'static str,
    help: &'static str,
    read: fn(&TargetStatus) -> Option<f64>,
}

const TARGET_GAUGES: &[TargetGauge] = &[
    TargetGauge {
        name: "pods_desired",
        help: "Replicas that were decided, whether or not they are written",
        read: |status| Some(f64::from(status.decision.as_ref()?.bounded)),
    },
    TargetGauge {
        name: "pods_requested",
        help: "Replicas that the Deployment asks for (spec.replicas)",
        read: |status| Some(f64::from(status.replicas)),
    },
    TargetGauge {
        name: "pods_ready",
        help: "Ready pods",
        read: |status| Some(f64::from(status.pods.ready)),
    },
    TargetGauge {
        name: "pods_not_ready",
        help: "Pods that are not ready",
        read: |status| Some(f64::from(status.pods.not_ready)),
    },
    TargetGauge {
        name: "pods_pending",
        help: "Pods in phase Pending",
        read: |status| Some(f64::from(status.pods.pending)),
    },
    TargetGauge {
        name: "pods_terminating",
        help: "Pods that are being deleted",
        read: |status| Some(f64::from(status.pods.terminating)),
    },
    TargetGauge {
        name: "capacity_excess_burst",
        help: "Spare burst capacity; below 0 a request-holding proxy should be in the path",
        read: |status| Some(f64::from(status.decision.as_ref()?.excess_burst_capacity)),
    },
    TargetGauge {
        name: "panic_mode",
        help: "1 while panicking",
        read: |status| {
            Some(if status.decision.as_ref()?.any_panic().is_some() { 1.0 } else { 0.0 })
        },
    },
];

/// One measure of a target, the only one or one of several.
struct MeasureReading<'a> {
    metric: ScalingMetric,
    target: f64,
    seen: &'a Observation,
    desired: i32,
    /// Where there are several.
    name: Option<&'a str>,
}

/// All measures of a target, as far as it was decided.
fn readings<'a>(status: &'a TargetStatus) -> Vec<MeasureReading<'a>> {
    let Some(decision) = &status.decision else { return Vec::new() };
    if decision.measures.is_empty() {
        return vec![MeasureReading {
            metric: decision.metric,
            target: decision.target,
            seen: &decision.observation,
            desired: decision.desired,
            name: None,
        }];
    }
    let reading = |measure: &'a MeasureRecord| MeasureReading {
        metric: measure.metric,
        target: measure.target,
        seen: &measure.observation,
        desired: measure.desired,
        name: Some(&measure.name),
    };
    decision.measures.iter().map(reading).collect()
}

/// The readings of a measure: name of the part, and how it is read.
type MeasurePart = (&'static str, fn(&MeasureReading<'_>) -> Option<f64>);

const MEASURE_PARTS: [MeasurePart; 3] = [
    ("stable", |measure| measure.seen.stable),
    ("panic", |measure| measure.seen.panic),
    ("target", |measure| Some(measure.target)),
];

const MEASURES: [ScalingMetric; 4] =
    [ScalingMetric::Concurrency, ScalingMetric::Rps, ScalingMetric::Events, ScalingMetric::Backlog];

#[derive(Debug)]
struct Targets {
    board: Arc<StatusBoard>,
}

type TargetLabels<'a> = Vec<(&'static str, &'a str)>;

/// The labels of a target; only a decider that answers a ScaledObject has the last one.
fn labels(status: &TargetStatus) -> TargetLabels<'_> {
    let target = &status.target;
    let mut labels: TargetLabels<'_> = vec![
        ("namespace", &target.namespace),
        ("kind", target.kind.as_str()),
        ("name", &target.name),
    ];
    labels.extend(target.trigger.as_deref().map(|trigger| ("trigger", trigger)));
    labels
}

fn with_label<'a>(
    status: &'a TargetStatus,
    name: &'static str,
    value: &'a str,
) -> TargetLabels<'a> {
    let mut labels = labels(status);
    labels.push((name, value));
    labels
}

impl Collector for Targets {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.board.all();
        for gauge in TARGET_GAUGES {
            let family =
                encoder.encode_descriptor(gauge.name, gauge.help, None, MetricType::Gauge)?;
            encode_gauges(family, &all, gauge.read)?;
        }
        encode_measures(&mut encoder, &all)?;
        encode_problems(&mut encoder, &all)?;
        encode_contests(&mut encoder, &all)?;
        encode_sample_counts(&mut encoder, &all)
    }
}

/// The families of single measures. The label `measure` is there only where a target has several.
fn encode_measures(encoder: &mut DescriptorEncoder<'_>, all: &[Arc<TargetStatus>]) -> fmt::Result {
    let readings: Vec<_> = all
        .iter()
        .flat_map(|status| readings(status).into_iter().map(move |reading| (status, reading)))
        .collect();
    for metric in MEASURES {
        for (part, read) in MEASURE_PARTS {
            let name = format!("{}_{part}", metric.as_str());
            let help = measure_help(metric, part);
            let mut family = encoder.encode_descriptor(&name, &help, None, MetricType::Gauge)?;
            for (status, reading) in readings.iter().filter(|(_, one)| one.metric == metric) {
                if let Some(value) = read(reading) {
                    let labels = measure_labels(status, reading, None);
                    family.encode_family(&labels)?.encode_gauge(&value)?;
                }
            }
        }
    }
    for (name, help, read) in MEASURE_GAUGES {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (status, reading) in &readings {
            if let Some(value) = read(reading) {
                let labels = measure_labels(status, reading, None);
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
    }
    let help = "1 for the state of the signal: starting, fresh, partial or lost";
    let mut family = encoder.encode_descriptor("signal_state", help, None, MetricType::Gauge)?;
    for (status, reading) in &readings {
        let state = ("state", reading.seen.signal.as_str());
        family
            .encode_family(&measure_labels(status, reading, Some(state)))?
            .encode_gauge(&1_i64)?;
    }
    Ok(())
}

/// What else is said of single measures: name, help, and how it is read.
type MeasureGauge = (&'static str, &'static str, fn(&MeasureReading<'_>) -> Option<f64>);

const MEASURE_GAUGES: [MeasureGauge; 3] = [
    ("signal_age_seconds", "Age of the newest sample", |measure| {
        Some(measure.seen.age.as_secs_f64())
    }),
    ("measure_desired", "Pods that one of several measures asks for, before bounds", |measure| {
        measure.name.map(|_| f64::from(measure.desired))
    }),
    ("companion_waiting", "Items that wait besides what arrives", |measure| {
        measure.seen.waiting.map(|waiting| waiting.items)
    }),
];

fn measure_labels<'a>(
    status: &'a TargetStatus,
    reading: &MeasureReading<'a>,
    more: Option<(&'static str, &'a str)>,
) -> Vec<(&'static str, &'a str)> {
    let measure = reading.name.map(|name| ("measure", name));
    labels(status).into_iter().chain(measure).chain(more).collect()
}

fn measure_help(metric: ScalingMetric, part: &str) -> String {
    let unit = match metric {
        ScalingMetric::Concurrency => "Requests in flight",
        ScalingMetric::Rps => "Requests a second",
        ScalingMetric::Events => "Items published a second",
        ScalingMetric::Backlog => "Items waiting or unacknowledged",
    };
    match part {
        "target" => format!("{unit} that one pod should carry"),
        window => format!("{unit}, mean over the {window} window"),
    }
}

fn encode_contests(encoder: &mut DescriptorEncoder<'_>, all: &[Arc<TargetStatus>]) -> fmt::Result {
    let help = "How often a field manager took writes back, while that holds lowering up";
    let mut family = encoder.encode_descriptor("contested", help, None, MetricType::Gauge)?;
    for status in all {
        if let Some(contest) = &status.contest {
            let labels = with_label(status, "manager", &contest.manager);
            family.encode_family(&labels)?.encode_gauge(&i64::from(contest.reverts))?;
        }
    }
    Ok(())
}

fn encode_gauges(
    mut family: MetricEncoder<'_>,
    all: &[Arc<TargetStatus>],
    read: fn(&TargetStatus) -> Option<f64>,
) -> fmt::Result {
    for status in all {
        if let Some(value) = read(status) {
            family.encode_family(&labels(status))?.encode_gauge(&value)?;
        }
    }
    Ok(())
}

fn encode_problems(encoder: &mut DescriptorEncoder<'_>, all: &[Arc<TargetStatus>]) -> fmt::Result {
    let help = "Problems that a user should mend, by code (docs/problems.md)";
    let mut family = encoder.encode_descriptor("problems", help, None, MetricType::Gauge)?;
    for status in all {
        let mut codes: Vec<_> = status.all_problems().map(|problem| problem.code).collect();
        codes.sort_unstable();
        for of_code in codes.chunk_by(PartialEq::eq) {
            if let Some(code) = of_code.first() {
                let count = i64::try_from(of_code.len()).unwrap_or(i64::MAX);
                let problem = with_label(status, "code", code.as_str());
                family.encode_family(&problem)?.encode_gauge(&count)?;
            }
        }
    }
    Ok(())
}

fn encode_sample_counts(
    encoder: &mut DescriptorEncoder<'_>,
    all: &[Arc<TargetStatus>],
) -> fmt::Result {
    let help = "What became of the samples of a target since it appeared";
    let mut family =
        encoder.encode_descriptor("target_samples", help, None, MetricType::Counter)?;
    for status in all {
        let counts = status.samples;
        for (outcome, count) in [
            ("recorded", counts.recorded),
            ("heartbeat", counts.heartbeat),
            ("late", counts.late),
            ("invalid", counts.invalid),
        ] {
            let outcome = with_label(status, "outcome", outcome);
            family.encode_family(&outcome)?.encode_counter::<NoLabels, _, u64>(&count, None)?;
        }
    }
    Ok(())
}
