//! Why a target has the replicas that it has: one screen of plain words, made from its
//! [`TargetStatus`] and nothing else, so that it can only say what the engine really did.

use std::fmt::Write as _;
use std::time::Duration;

use super::Timestamp;
use super::decision::{Decision, MeasureRecord, Observation, Reason, SignalState, TargetStatus};
use super::effective::{duration, number, provenance};
use super::event::WriteOutcome;
use super::pod_reading::BlamedPod;
use super::policy::{Consent, Mode};
use super::problem::{Problem, ProblemCode};
use super::rival::Contest;
use super::spec::{ScalerSpec, ScalingMetric};

/// How many problems are shown before the rest is only counted.
const MAX_PROBLEMS: usize = 8;

/// The longest text of a user that is shown, in characters.
const MAX_TEXT: usize = 200;

/// The screen for one target at `now` (engine time): lines of plain text, the last one ended.
///
/// Nothing that a user wrote reaches it unescaped.
pub fn explain(status: &TargetStatus, now: Timestamp) -> String {
    let mut screen = String::new();
    header(&mut screen, status);
    if let Some(decision) = &status.decision {
        measures(&mut screen, decision);
        load(&mut screen, decision);
        target(&mut screen, status, decision);
        wants(&mut screen, status, decision);
        stages(&mut screen, decision);
        result(&mut screen, status, decision);
        line(&mut screen, "next", &next(status, decision, now));
    } else {
        line(&mut screen, "result", "not decided yet: the first decision comes within 2 s");
    }
    problems(&mut screen, status);
    screen
}

/// The line of an explanation that names the pods of which nothing counts; empty where there is none.
pub fn blame(pods: &[BlamedPod]) -> String {
    let mut screen = String::new();
    let named: Vec<_> =
        pods.iter().map(|pod| format!("{} {}", printable(&pod.name), pod.fault.as_str())).collect();
    if !named.is_empty() {
        line(&mut screen, "silent", &format!("{}: nothing of them counts", named.join(", ")));
    }
    screen
}

/// Whether a person should look: something is broken, refused, or not known well enough.
pub fn needs_attention(status: &TargetStatus) -> bool {
    let troubled = status.decision.as_ref().is_some_and(|decision| {
        decision
            .observations()
            .any(|(_, seen)| matches!(seen.signal, SignalState::Partial | SignalState::Lost))
            || matches!(
                decision.reason,
                Reason::SignalLost
                    | Reason::OnMissing
                    | Reason::WakePathLost
                    | Reason::NoSource
                    | Reason::QueryNotAllowed
            )
            || matches!(decision.gate, Some(Reason::Rival | Reason::ManualZero))
    });
    let write_failed = status.last_write.as_ref().is_some_and(|write| {
        matches!(write.outcome, WriteOutcome::Refused { .. } | WriteOutcome::Unknown)
    });
    troubled
        || write_failed
        || status.contest.is_some()
        || status.rivals.iter().any(|rival| !rival.follows)
        || status.all_problems().any(|problem| !is_remark(problem.code))
}

/// Problems that only remark on something legitimate.
pub(crate) fn is_remark(code: ProblemCode) -> bool {
    matches!(
        code,
        ProblemCode::DefaultMaxScale
            | ProblemCode::UnusualSpelling
            | ProblemCode::NoWakePath
            | ProblemCode::WaitingUnknown
    )
}

/// Text of a user or a peer, made harmless: control and formatting characters become escapes, and it is
/// cut after 200 characters.
pub fn printable(text: &str) -> String {
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == MAX_TEXT {
            shown.push('…');
            break;
        }
        let visible = matches!(character, '"' | '\'' | '\\') || !needs_escape(character);
        if visible {
            shown.push(character);
        } else {
            shown.extend(character.escape_unicode());
        }
    }
    shown
}

fn needs_escape(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(character, '\u{61c}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

fn line(screen: &mut String, name: &str, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(screen, "  {name:<9} {text}");
}

fn header(screen: &mut String, status: &TargetStatus) {
    let id = &status.target;
    let mut parts = vec![format!("{} ({})", printable(&id.name), printable(&id.namespace))];
    parts.extend(id.trigger.as_ref().map(|trigger| format!("trigger {}", printable(trigger))));
    parts.push(scale_words(status));
    if let Some(decision) = &status.decision {
        parts.push(match &decision.panic_mode {
            Some(panic) => {
                format!(
                    "PANIC since {} (until {} at least)",
                    clock(panic.since),
                    clock(panic.until)
                )
            }
            None => "calm".to_owned(),
        });
        parts.push(signal_words(status, &decision.observation));
    }
    let _ = writeln!(screen, "{}", parts.join("   "));
}

fn scale_words(status: &TargetStatus) -> String {
    let replicas = status.replicas;
    let noun = |count: i32| if count == 1 { "replica" } else { "replicas" };
    match &status.decision {
        Some(decision) if decision.bounded != replicas && decision.bounded >= 0 => {
            let wanted = decision.bounded;
            match decision.gate {
                None => format!("{replicas} → {wanted} {}", noun(wanted)),
                Some(Reason::Followed) => {
                    format!("{replicas} {} (the answer is {wanted})", noun(replicas))
                }
                Some(_) => format!("{replicas} {} (would be {wanted})", noun(replicas)),
            }
        }
        _ => format!("{replicas} {}", noun(replicas)),
    }
}

fn signal_words(status: &TargetStatus, seen: &Observation) -> String {
    if status.config.measures().all(|view| view.points.is_empty()) {
        return "no signal: nothing is measured".to_owned();
    }
    signal_of(seen)
}

fn signal_of(seen: &Observation) -> String {
    let mut parts = vec![match seen.signal {
        SignalState::Starting => format!("for {}", duration(seen.age)),
        _ => format!("{} old", duration(seen.age)),
    }];
    parts.extend(seen.source.as_ref().map(|source| printable(source)));
    if seen.missing > 0 {
        parts.push(format!("{} missing", counted(seen.missing, "endpoint")));
    }
    parts.extend(seen.fault.map(|fault| fault.as_str().to_owned()));
    format!("signal {} ({})", seen.signal.as_str(), parts.join(", "))
}

/// A line for each of several measures; the one that decides is marked.
fn measures(screen: &mut String, decision: &Decision) {
    let widest = decision.measures.iter().map(|measure| measure.name.chars().count()).max();
    let mut name = "measures";
    for measure in &decision.measures {
        let seen = &measure.observation;
        let load = match (seen.stable, seen.panic) {
            (Some(stable), Some(panic)) => format!(
                "stable {} panic {} at {} per pod{}",
                number(stable),
                number(panic),
                number(measure.target),
                waiting_words(seen)
            ),
            _ => "unknown".to_owned(),
        };
        let text = format!(
            "{} {:<width$}   asks for {}   {load}   {}{}",
            if measure.wins { "→" } else { " " },
            printable(&measure.name),
            measure.desired,
            measure_signal(measure),
            if measure.panic_mode.is_some() { "   PANIC" } else { "" },
            width = widest.unwrap_or(0),
        );
        line(screen, name, &text);
        name = "";
    }
}

fn measure_signal(measure: &MeasureRecord) -> String {
    if matches!(measure.reason, Reason::NoSource | Reason::QueryNotAllowed) {
        return "not measured: keeps what runs".to_owned();
    }
    signal_of(&measure.observation)
}

/// What waits besides the load, if that is measured.
fn waiting_words(seen: &Observation) -> String {
    seen.waiting.map_or_else(String::new, |waiting| {
        format!(
            ", {} waiting, to be gone in {}",
            number(waiting.items),
            duration(waiting.drain_time)
        )
    })
}

/// The numbers of the measure that decides.
fn spec_of<'a>(status: &'a TargetStatus, decision: &Decision) -> &'a ScalerSpec {
    let winner = decision.measures.iter().find(|measure| measure.wins);
    winner
        .and_then(|winner| status.config.measures().find(|view| *view.name == winner.name))
        .map_or(&status.config.spec, |view| view.spec)
}

fn load(screen: &mut String, decision: &Decision) {
    let seen = &decision.observation;
    let (Some(stable), Some(panic)) = (seen.stable, seen.panic) else {
        let why = if seen.signal == SignalState::Lost { "" } else { ": no sample yet" };
        line(screen, "load", &format!("unknown{why}"));
        return;
    };
    let stable = match seen.stable_high {
        Some(high) if high > stable => format!("{} to {}", number(stable), number(high)),
        _ => number(stable),
    };
    let window_s = seen.stable_window.as_secs();
    let covered = if u64::from(seen.covered_s) < window_s {
        format!(", {} s of it seen", seen.covered_s)
    } else {
        String::new()
    };
    let was = if seen.signal == SignalState::Lost { "was " } else { "" };
    let text = format!(
        "{was}stable {stable} ({}{covered})   panic {} ({}, {})   {}{}",
        duration(seen.stable_window),
        number(panic),
        duration(seen.panic_window),
        counted(seen.samples_in_panic_window, "sample"),
        unit_words(decision.metric),
        waiting_words(seen),
    );
    line(screen, "load", &text);
}

/// `1 sample`, `2 samples`.
fn counted(count: u32, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn unit_words(metric: ScalingMetric) -> &'static str {
    match metric {
        ScalingMetric::Concurrency => "requests in flight",
        ScalingMetric::Rps => "requests a second",
        ScalingMetric::Events => "items published a second",
        ScalingMetric::Backlog => "items waiting or unacknowledged",
    }
}

fn target(screen: &mut String, status: &TargetStatus, decision: &Decision) {
    let spec = spec_of(status, decision);
    let is_first = decision.measures.first().is_none_or(|first| first.wins);
    let from = |name| provenance(&status.config, name).as_str();
    let text = format!(
        "{} per pod = {} ({}) × {} % ({})",
        number(decision.target),
        number(spec.total),
        from(if is_first { "target" } else { "measures" }),
        number(100.0 * spec.target / spec.total),
        from("target-utilization-percentage"),
    );
    line(screen, "target", &text);
}

fn wants(screen: &mut String, status: &TargetStatus, decision: &Decision) {
    let seen = &decision.observation;
    let (Some(wants), Some(stable), Some(panic)) = (decision.wants, seen.stable, seen.panic) else {
        return;
    };
    let per_pod = number(decision.target);
    let ready = decision.ready.max(1);
    let ratio = wants.panic / f64::from(ready);
    let threshold = status.config.spec.panic_threshold;
    // What waits is demand as well, as a load of so many items a second.
    let added = seen.waiting.map(|waiting| waiting.items / waiting.drain_time.as_secs_f64());
    let added = added.map_or_else(String::new, |added| format!("+{}", number(added)));
    let (relation, verdict) = match (&decision.panic_mode, ratio >= threshold) {
        (Some(_), true) => ("≥", "panic"),
        (Some(_), false) => ("<", "panic goes on"),
        (None, true) => ("≥", "but too few samples for panic"),
        (None, false) => ("<", "no panic"),
    };
    let text = format!(
        "stable ceil({}/{per_pod}) = {}   panic ceil({}/{per_pod}) = {}   ready {}: {}/{ready} = {} \
         {relation} {}, {verdict}",
        sum_words(stable, &added),
        number(wants.stable),
        sum_words(panic, &added),
        number(wants.panic),
        decision.ready,
        number(wants.panic),
        number(ratio),
        number(threshold),
    );
    line(screen, "wants", &text);
}

fn sum_words(load: f64, added: &str) -> String {
    if added.is_empty() { number(load) } else { format!("({}{added})", number(load)) }
}

fn stages(screen: &mut String, decision: &Decision) {
    let mut name = "stages";
    for record in &decision.stages {
        if record.before == record.after {
            continue;
        }
        let change = format!("{} → {}", record.before, record.after);
        let text = format!("{:<17} {change:<9} {}", record.stage.as_str(), record.rule);
        line(screen, name, text.trim_end());
        name = "";
    }
}

fn result(screen: &mut String, status: &TargetStatus, decision: &Decision) {
    let text = format!(
        "{}   {}: {}",
        decision.bounded,
        decision.reason.as_str(),
        decision.reason.meaning()
    );
    line(screen, "result", &text);
    if let Some(write) = &status.last_write {
        let change = format!("{} → {}", write.from, write.replicas);
        let at = clock(write.at);
        let text = match &write.outcome {
            WriteOutcome::Written => format!("{change} written at {at}"),
            WriteOutcome::Conflict => {
                format!("{change} at {at}: the object had changed meanwhile; decided again")
            }
            WriteOutcome::Refused { status, retry_after } => format!(
                "{change} refused at {at} with status {status}; next try after {}",
                duration(*retry_after)
            ),
            WriteOutcome::Unknown => {
                format!("{change} at {at}: no clear answer; the scale is read before the next try")
            }
            WriteOutcome::Gone => format!("{change} at {at}: the object is gone"),
        };
        line(screen, "write", &text);
    }
    if let Some(gate) = decision.gate {
        let text = format!("{} ({})", not_written(status, gate), gate.as_str());
        line(screen, "write", &text);
    }
}

/// Why nothing is written, if nothing is.
fn not_written(status: &TargetStatus, gate: Reason) -> String {
    let follows = gate == Reason::Followed;
    match (gate, status.rivals.iter().find(|rival| rival.follows == follows)) {
        (Reason::Rival | Reason::Followed, Some(rival)) => format!(
            "nothing is written: {} {} {}",
            printable(&rival.kind),
            printable(&rival.name),
            if follows { "writes what podswell answers" } else { "scales this target too" }
        ),
        (Reason::Contested, _) => status.contest.as_ref().map_or_else(
            || gate.meaning().to_owned(),
            contested,
        ),
        (Reason::Paused, _) if status.config.mode.allows(0, 1) && status.config.mode.allows(1, 0) => {
            format!("nothing is written: {}", pause_words(status))
        }
        (Reason::ObserveOnly, _) if status.config.consent == Consent::Observed => {
            "nothing is written: the Deployment lacks autoscaling.knative.dev/class: kpa.podswell.dev"
                .to_owned()
        }
        (Reason::ObserveOnly | Reason::Paused, _) => match status.config.mode {
            mode @ Mode::PausedUp => format!("raising is not written: {}", mode_words(status, mode)),
            mode @ Mode::PausedDown => {
                format!("lowering is not written: {}", mode_words(status, mode))
            }
            mode => format!("nothing is written: {}", mode_words(status, mode)),
        },
        _ => format!("nothing is written: {}", gate.meaning()),
    }
}

fn mode_words(status: &TargetStatus, mode: Mode) -> String {
    format!("mode {} from {}", mode.as_str(), provenance(&status.config, "mode").as_str())
}

fn pause_words(status: &TargetStatus) -> String {
    let until = status.config.paused_until.map_or_else(String::new, |until| until.to_string());
    let from = provenance(&status.config, "paused-until").as_str();
    format!("paused until {until} by {from}")
}

fn contested(contest: &Contest) -> String {
    format!(
        "not written: {} took the replicas back {} times, last at {}",
        printable(&contest.manager),
        contest.reverts,
        clock(contest.last)
    )
}

/// What would have to happen for decisions to be written again.
fn gate_opens(status: &TargetStatus, decision: &Decision, gate: Reason) -> String {
    let pause = status.config.paused_until.filter(|until| *until > decision.at);
    match gate {
        Reason::Paused if pause.is_some() && status.config.mode == Mode::Apply => {
            let until = pause.map_or_else(String::new, clock);
            format!("resumes by itself at {until}")
        }
        Reason::Contested => {
            let Some(contest) = &status.contest else { return gate.meaning().to_owned() };
            let hint = contest.hint(&status.target);
            if decision.bounded > status.replicas {
                format!("{} is tried at {}; {hint}", decision.bounded, clock(contest.raise_at))
            } else {
                format!("lowers if nobody does so until {}; {hint}", contest.over_at())
            }
        }
        Reason::Followed => "the other autoscaler asks for it and writes it".to_owned(),
        Reason::ManualZero => "resumes when somebody sets at least 1 replica".to_owned(),
        _ if decision.bounded == status.replicas => "nothing would be written now".to_owned(),
        _ => format!("{} would be written if writing were allowed", decision.bounded),
    }
}

/// What has to happen for the number to change.
fn next(status: &TargetStatus, decision: &Decision, now: Timestamp) -> String {
    let spec = &status.config.spec;
    let seen = &decision.observation;
    // Where podswell only answers, the number changes as it would be written.
    if let Some(gate) = decision.gate.filter(|_| status.config.consent != Consent::Answered) {
        return gate_opens(status, decision, gate);
    }
    match decision.reason {
        Reason::NoSource => {
            "measure something: set podswell.dev/source or podswell.dev/scrape".into()
        }
        Reason::QueryNotAllowed => {
            "let the administrator list the namespace, or name another podswell.dev/source".into()
        }
        Reason::SignalStarting => format!("stays at {} until the first sample", status.replicas),
        Reason::SignalLost => format!(
            "stays at {} until samples arrive again{}",
            status.replicas,
            seen.fault
                .map(|fault| format!(" (the source says {})", fault.as_str()))
                .unwrap_or_default()
        ),
        Reason::OnMissing => {
            format!("stays at {} until samples arrive again", decision.bounded)
        }
        Reason::SignalPartial => {
            format!("can fall when the missing endpoints ({}) answer or are gone", seen.missing)
        }
        Reason::NotEnoughData => format!(
            "can fall when 80 % of the last {} are seen and the newest samples agree",
            duration(spec.stable_window)
        ),
        Reason::ScaleDownDelay => format!(
            "falls when no decision of the last {} is higher",
            duration(spec.scale_down_delay)
        ),
        Reason::MaxScale => {
            format!(
                "cannot grow: max-scale is {} ({})",
                status.config.bounds.max,
                max_scale_from(status)
            )
        }
        Reason::ScaleToZeroPending => "goes to zero when it has been idle for long enough".into(),
        Reason::NoWakePath | Reason::WaitingUnknown | Reason::ScaleToZeroDisabled => {
            "one replica stays; see docs/reasons.md for what may go to zero".into()
        }
        _ => match &decision.panic_mode {
            Some(panic) => panic_next(status, decision, remaining(panic.until, now), panic.until),
            None => calm_next(status, decision),
        },
    }
}

fn max_scale_from(status: &TargetStatus) -> &'static str {
    provenance(&status.config, "max-scale").as_str()
}

fn remaining(until: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO)
}

fn panic_next(
    status: &TargetStatus,
    decision: &Decision,
    left: Duration,
    until: Timestamp,
) -> String {
    let spec = &status.config.spec;
    let limit = spec.panic_threshold * f64::from(decision.ready.max(1)) * decision.target;
    format!(
        "can fall after {} (in {}) if the panic load stays at or below about {}; then by at most ÷ {} at once",
        clock(until),
        duration(left),
        number(limit),
        number(spec.max_scale_down_rate)
    )
}

fn calm_next(status: &TargetStatus, decision: &Decision) -> String {
    let spec = &status.config.spec;
    let per_pod = decision.target;
    let grows = f64::from(decision.bounded.max(0)) * per_pod;
    let panics = spec.panic_threshold * f64::from(decision.ready.max(1)) * per_pod;
    let mut text = format!("grows above a stable load of {}", number(grows));
    if decision.bounded > status.config.bounds.min.max(1) {
        let _ = write!(text, ", shrinks at {} or less", number(grows - per_pod));
    }
    let _ = write!(text, ", panics above about {}", number((panics - per_pod).max(0.0)));
    text
}

fn problems(screen: &mut String, status: &TargetStatus) {
    for (count, problem) in status.all_problems().enumerate() {
        if count == MAX_PROBLEMS {
            let rest = status.all_problems().count() - MAX_PROBLEMS;
            let _ = writeln!(screen, "and {rest} more problems (-o json shows all)");
            return;
        }
        one_problem(screen, problem);
    }
}

fn one_problem(screen: &mut String, problem: &Problem) {
    let code = problem.code.as_str();
    let mark = if is_remark(problem.code) { "note" } else { "problem" };
    let _ = writeln!(screen, "{mark}: {}", printable(&problem.to_string()));
    let _ = writeln!(
        screen,
        "  hint: {} (docs/problems.md#{})",
        problem.code.hint(),
        code.to_lowercase()
    );
}

fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%SZ").to_string()
}

impl Reason {
    /// What the reason means, as a lower-case sentence fragment.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Steady => "replicas equal what the load asks for",
            Self::StableDemand => "the stable window asks for this",
            Self::PanicDemand => "the panic window asks for this; panic never lowers",
            Self::PanicHold => "panic holds the highest number since it began",
            Self::ScaleUpRate => "max-scale-up-rate limits the growth of one decision",
            Self::ScaleDownRate => "max-scale-down-rate limits the fall of one decision",
            Self::ActivationScale => "any load asks for at least activation-scale",
            Self::ScaleDownDelay => "scale-down-delay holds the highest recent decision",
            Self::InitialScale => "initial-scale is still to be reached",
            Self::MinScale => "min-scale asks for at least this",
            Self::MaxScale => "max-scale allows no more",
            Self::SignalStarting => "nothing was heard yet; replicas stay",
            Self::SignalLost => "nothing was heard for too long; replicas stay",
            Self::OnMissing => "nothing was heard for so long that on-missing orders this",
            Self::SignalPartial => "what the missing endpoints may carry could need what runs now",
            Self::NotEnoughData => "too little was seen to lower",
            Self::WakePathLost => "at zero and deaf: one replica, to be safe",
            Self::NoWakePath => "nothing would wake it from zero; one replica stays",
            Self::WaitingUnknown => "nothing shows what still waits; one replica stays",
            Self::ScaleToZeroDisabled => "enable-scale-to-zero is false; one replica stays",
            Self::ScaleToZeroPending => "idle, but not yet for long enough to go to zero",
            Self::Idle => "idle for long enough",
            Self::NoSource => "nothing can be measured; replicas stay",
            Self::QueryNotAllowed => "queries of its own are not allowed here; replicas stay",
            Self::ObserveOnly => "decided, but not written",
            Self::Paused => "writing is paused",
            Self::Rival => "another autoscaler works on this target; replicas are its business",
            Self::Contested => {
                "somebody takes the replicas back: nothing is lowered, raising has pauses"
            }
            Self::Followed => "another autoscaler writes what podswell answers",
            Self::ManualZero => "somebody set 0 replicas by hand; that is respected",
        }
    }

    /// Every reason, in the order of the documentation.
    pub const ALL: [Self; 30] = [
        Self::Steady,
        Self::StableDemand,
        Self::PanicDemand,
        Self::PanicHold,
        Self::ScaleUpRate,
        Self::ScaleDownRate,
        Self::ActivationScale,
        Self::ScaleDownDelay,
        Self::InitialScale,
        Self::MinScale,
        Self::MaxScale,
        Self::SignalStarting,
        Self::SignalLost,
        Self::OnMissing,
        Self::SignalPartial,
        Self::NotEnoughData,
        Self::WakePathLost,
        Self::NoWakePath,
        Self::WaitingUnknown,
        Self::ScaleToZeroDisabled,
        Self::ScaleToZeroPending,
        Self::Idle,
        Self::NoSource,
        Self::QueryNotAllowed,
        Self::ObserveOnly,
        Self::Paused,
        Self::Rival,
        Self::Contested,
        Self::Followed,
        Self::ManualZero,
    ];
}

impl ProblemCode {
    /// What to do about it, as a lower-case sentence fragment.
    pub fn hint(self) -> &'static str {
        match self {
            Self::InvalidAnnotation => "correct the value; podswell keys lists what is allowed",
            Self::UnknownAnnotation => "correct the spelling; podswell keys lists all keys",
            Self::AnnotationsDiffer => "keep the key in one place, best on the Deployment itself",
            Self::UnusualSpelling => "it works, but other tools may not read it: write it plainly",
            Self::MinAboveMax => "lower min-scale or raise max-scale",
            Self::DefaultMaxScale => "set max-scale to choose the ceiling yourself",
            Self::NoSource => "set podswell.dev/source to a named source, or podswell.dev/scrape",
            Self::UnknownSource => "name a source of the ConfigMap podswell-sources",
            Self::SourceKindMismatch => {
                "choose a source of the target's metric, or change the metric"
            }
            Self::CompatNeedsOneSecond => {
                "drop compat: knative, or use a source of one sample a second"
            }
            Self::ClockSkew => "compare the clocks, or raise staleAfter of the source",
            Self::SourceSlower => "set the source's interval to the one observed",
            Self::NoWakePath => "set min-scale to 1, or use a source with visibleAtZero: true",
            Self::WaitingUnknown => {
                "name a companion of kind backlog in podswell.dev/measures, or set min-scale to 1"
            }
            Self::RangeAboveWindow => "shorten the range of the rate, or lengthen the window",
            Self::InvalidConfigMap => "correct the ConfigMap; the last good one is in force",
            Self::TargetRequired => {
                "set autoscaling.knative.dev/target and the class kpa.podswell.dev"
            }
            Self::QueryNotAllowed => {
                "ask the administrator for query-namespaces, or name a source in podswell.dev/source"
            }
            Self::ForeignSeries => "ask for series of the workload's own namespace only",
        }
    }
}

#[cfg(test)]
mod tests;
