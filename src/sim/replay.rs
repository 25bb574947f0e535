//! Replays a recording through a fresh engine: every decision must come out again, and another setting
//! shows what it would have decided.
//!
//! What another setting would have *changed* in the cluster is not in a recording: replicas, pods and load
//! are those of the day.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::number::seconds;
use crate::core::Timestamp;
use crate::core::config::TargetConfig;
use crate::core::decision::Decision;
use crate::core::defaults::ClusterDefaults;
use crate::core::effective;
use crate::core::engine::{Engine, Published};
use crate::core::event::{Action, Event};
use crate::core::keys::{KEYS, Kind};
use crate::core::recording::{Digest, Line, standing};
use crate::core::resolve::{Inputs, ProcessSettings, resolve};
use crate::core::source::SourceFacts;
use crate::core::target::TargetId;

/// Why a recording cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct ReplayError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// What became of one target.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Replayed {
    /// Decisions of the recording.
    pub decisions: u64,
    /// Those among them that did not come out again.
    pub different: u64,
    /// The most replicas that were decided.
    pub most: i32,
    /// Decided replicas times seconds.
    pub pod_s: f64,
    /// Writes that the engine asked for.
    pub writes: u64,
}

/// What came of a replay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replay {
    /// Each target as it was.
    pub targets: BTreeMap<TargetId, Replayed>,
    /// Each target with the other setting; empty without one.
    pub otherwise: BTreeMap<TargetId, Replayed>,
    /// The first decision that did not come out again.
    pub first_difference: Option<String>,
    /// Facts that were replayed.
    pub events: u64,
    /// Seconds from the first to the last line.
    pub span_s: f64,
    /// What the reader should know: a cut, a gap, a past that is not there.
    pub remarks: Vec<String>,
    /// Whether the recording holds the engine's whole past, so that every decision must come out again.
    pub complete: bool,
}

impl Replay {
    /// How many decisions there were, and how many of them did not come out again.
    pub fn counts(&self) -> (u64, u64) {
        let targets = self.targets.values();
        targets.fold((0, 0), |(all, different), target| {
            (all + target.decisions, different + target.different)
        })
    }
}

/// An engine with the books of its targets.
#[derive(Default)]
struct Player {
    engine: Engine,
    targets: BTreeMap<TargetId, Replayed>,
    /// The newest decision of each target and since when it holds.
    newest: BTreeMap<TargetId, Arc<Decision>>,
    /// Decisions that the recording has not confirmed yet.
    open: BTreeMap<TargetId, std::collections::VecDeque<Arc<Decision>>>,
}

impl Player {
    fn tell(&mut self, at: Timestamp, event: Event) {
        self.engine.handle(at, event);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(published) = self.engine.poll_published() {
            let Published::Status(status) = published else { continue };
            let Some(decision) = &status.decision else { continue };
            let known = self.newest.get(&status.target);
            if known.is_some_and(|known| Arc::ptr_eq(known, decision)) {
                continue;
            }
            self.close(&status.target, decision.at);
            let books = self.targets.entry(status.target.clone()).or_default();
            books.most = books.most.max(decision.bounded);
            self.newest.insert(status.target.clone(), decision.clone());
            self.open.entry(status.target.clone()).or_default().push_back(decision.clone());
        }
        while let Some(action) = self.engine.poll_action() {
            if let Action::Write { target, .. } = action {
                self.targets.entry(target).or_default().writes += 1;
            }
        }
    }

    /// Adds the time that the newest decision of a target held.
    fn close(&mut self, target: &TargetId, until: Timestamp) {
        let Some(decision) = self.newest.get(target) else { return };
        let held = u64::try_from(until.as_microsecond() - decision.at.as_microsecond());
        let pod_s = f64::from(decision.bounded) * seconds(held.unwrap_or(0));
        self.targets.entry(target.clone()).or_default().pod_s += pod_s;
    }

    fn end(mut self, at: Timestamp) -> BTreeMap<TargetId, Replayed> {
        let targets: Vec<TargetId> = self.newest.keys().cloned().collect();
        for target in targets {
            self.close(&target, at);
        }
        self.targets
    }
}

/// Whose fact, and of which kind.
type Fact = (Option<TargetId>, u8);

/// Where a replay is in its recording.
#[derive(Default)]
struct Course {
    /// The first and the newest moment.
    span: Option<(Timestamp, Timestamp)>,
    /// Facts that hold until the next of their kind, with their moment.
    known: BTreeMap<Fact, (Timestamp, Event)>,
    /// Whether a part has begun and nothing was decided in it yet: its facts are of any age.
    begins: bool,
    /// Whether only facts that a part begins with have been read of it, one of each kind in their order.
    in_head: bool,
    /// The newest of them.
    newest: Option<Fact>,
    /// How many of these facts the parts before it do not hold, if there are any.
    unheard: Option<u32>,
}

impl Course {
    /// A recording, or the next part of one, begins.
    fn start(&mut self, replay: &mut Replay, first: bool, continued: bool) -> Result<(), String> {
        self.begins = continued;
        (self.in_head, self.newest) = (continued, None);
        self.unheard = (!first).then_some(0);
        if first && continued {
            replay.complete = false;
            let remark = "the recording begins in the middle: windows before it are missing";
            replay.remarks.push(remark.to_owned());
        }
        if first || continued {
            Ok(())
        } else {
            Err("another recording begins here; replay it alone".to_owned())
        }
    }

    /// Whether a fact is news, and not what a part begins with although the one before it said so already.
    fn is_news(&mut self, at: Timestamp, event: &Event) -> bool {
        let Some(key) = standing(event) else {
            self.in_head = false;
            return true;
        };
        self.in_head &= self.begins && self.newest.as_ref() < Some(&key);
        self.newest = Some(key.clone());
        let fact = (at, event.clone());
        let repeats = self.begins && self.known.get(&key) == Some(&fact);
        self.known.insert(key, fact);
        if let Some(unheard) = self.unheard.as_mut().filter(|_| self.in_head && !repeats) {
            *unheard += 1;
        }
        !repeats
    }

    /// Time goes on to `at`; `due`: the engine decides.
    fn go(&mut self, replay: &mut Replay, at: Timestamp, due: bool) -> Result<(), String> {
        let begins = self.begins;
        self.begins &= !due;
        if begins && self.unheard.is_none() {
            // Where nothing is before it, a part begins with its first decision.
            self.span = due.then_some((at, at));
            return Ok(());
        }
        if begins && due && self.unheard.is_some_and(|unheard| unheard > 1) {
            replay.complete = false;
            replay.remarks.push("a part is missing: decisions after it may differ".to_owned());
        }
        let (first, last) = self.span.unwrap_or((at, at));
        if at < last {
            return Err("goes back in time; the oldest part comes first".to_owned());
        }
        self.span = Some((first, at));
        Ok(())
    }
}

/// Replays a recording, or the parts of a rotated one in a row. `set` holds annotations and their other
/// values.
///
/// # Errors
/// If a line other than the last is no line of a recording, if parts are not in their order, or if another
/// value is not accepted.
pub fn replay(text: &str, set: &BTreeMap<String, String>) -> Result<Replay, ReplayError> {
    let mut replay = Replay { complete: true, ..Replay::default() };
    let mut was = Player::default();
    let mut other = (!set.is_empty()).then(Player::default);
    let mut course = Course::default();
    let count = text.lines().count();
    if count == 0 {
        return Err(ReplayError { line: 1, why: "is empty, and no recording".to_owned() });
    }
    for (number, text_line) in (1..).zip(text.lines()) {
        let failed = |why: String| ReplayError { line: number, why };
        let line = match Line::parse(text_line) {
            Ok(line) => line,
            Err(_) if number == count && number > 1 && !text.ends_with('\n') => {
                replay.remarks.push(format!("line {number} is cut off: replayed up to there"));
                break;
            }
            Err(why) => return Err(failed(why)),
        };
        if number == 1 && !matches!(line, Line::Start { .. }) {
            return Err(failed("is not the start of a recording".to_owned()));
        }
        let players = (&mut was, other.as_mut());
        step(&mut replay, &mut course, players, (number == 1, line), set).map_err(failed)?;
    }
    if let Some((first, last)) = course.span {
        replay.span_s =
            seconds(u64::try_from(last.as_microsecond() - first.as_microsecond()).unwrap_or(0));
        replay.targets = was.end(last);
        replay.otherwise = other.map(|other| other.end(last)).unwrap_or_default();
    }
    if replay.events == 0 {
        replay.remarks.push("the recording holds no fact".to_owned());
    }
    Ok(replay)
}

/// Replays one line; with it stands whether it is the first.
fn step(
    replay: &mut Replay,
    course: &mut Course,
    (was, other): (&mut Player, Option<&mut Player>),
    (first, line): (bool, Line),
    set: &BTreeMap<String, String>,
) -> Result<(), String> {
    match line {
        Line::Start { continued, .. } => course.start(replay, first, continued)?,
        Line::Gap { lines } => {
            replay.complete = false;
            replay
                .remarks
                .push(format!("{lines} lines were lost: decisions after them may differ"));
        }
        Line::Event { at, event } => {
            if !course.is_news(at, &event) {
                return Ok(());
            }
            course.go(replay, at, false)?;
            replay.events += 1;
            if let Some(other) = other {
                other.tell(at, with(event.clone(), set)?);
            }
            was.tell(at, event);
        }
        Line::Due { at } => {
            course.go(replay, at, true)?;
            for player in [Some(was), other].into_iter().flatten() {
                player.engine.handle_timeout(at);
                player.drain();
            }
        }
        Line::Decided { at, target, bounded, digest } => {
            compare(replay, was, &target, at, (bounded, digest));
        }
    }
    Ok(())
}

/// Compares the oldest open decision of a target with the recorded one.
fn compare(
    replay: &mut Replay,
    was: &mut Player,
    target: &TargetId,
    at: Timestamp,
    (bounded, digest): (i32, Digest),
) {
    let decision = was.open.get_mut(target).and_then(std::collections::VecDeque::pop_front);
    let books = was.targets.entry(target.clone()).or_default();
    books.decisions += 1;
    if decision.as_ref().is_some_and(|decision| Digest::of(decision) == digest) {
        return;
    }
    books.different += 1;
    if replay.first_difference.is_none() {
        let now = decision.map_or_else(|| "nothing".to_owned(), |now| now.bounded.to_string());
        replay.first_difference =
            Some(format!("{target} at {at}: decided {bounded} then, {now} now"));
    }
}

/// The event with the other setting in its configuration.
fn with(event: Event, set: &BTreeMap<String, String>) -> Result<Event, String> {
    let Event::TargetApplied { target, config } = event else { return Ok(event) };
    let config = Arc::new(reconfigured(&config, set)?);
    Ok(Event::TargetApplied { target, config })
}

/// A configuration as it would be with other annotations: what changes between the effective settings and
/// the same with the others is changed, everything else stays as it was recorded.
fn reconfigured(
    config: &TargetConfig,
    set: &BTreeMap<String, String>,
) -> Result<TargetConfig, String> {
    let mut annotations = BTreeMap::new();
    for setting in effective::settings(config) {
        let key = KEYS.iter().find(|key| key.is_annotation() && key.name == setting.name);
        // Values that say "off" in words of their own are left away.
        if let Some(key) =
            key.filter(|key| !matches!((key.kind, &*setting.value), (Kind::Int, "0")))
        {
            annotations.insert(key.annotation(), setting.value);
        }
    }
    let before = resolved(config, &annotations)?;
    annotations.extend(set.iter().map(|(key, value)| (key.clone(), value.clone())));
    let after = resolved(config, &annotations)?;
    if let Some(problem) = after.problems.iter().find(|problem| set.contains_key(&problem.key)) {
        return Err(format!("{}: {}", problem.key, problem.why));
    }
    let [before, after, mut recorded] =
        [&before, &after, config].map(|config| serde_json::to_value(config).unwrap_or(Value::Null));
    merge(&mut recorded, &before, &after);
    serde_json::from_value(recorded).map_err(|why| why.to_string())
}

fn resolved(
    config: &TargetConfig,
    annotations: &BTreeMap<String, String>,
) -> Result<TargetConfig, String> {
    let defaults = ClusterDefaults { allow_zero_initial_scale: true, ..ClusterDefaults::default() };
    let sources = config.points.iter().map(|point| {
        let text = serde_json::json!({
            "name": point.source, "kind": config.spec.metric, "interval": point.interval,
            "stale_after": point.stale_after, "range": point.range,
            "visible_at_zero": point.visible_at_zero, "selectable_labels": [],
        });
        serde_json::from_value::<SourceFacts>(text).map(|facts| (point.source.clone(), facts))
    });
    let sources = sources.collect::<Result<_, _>>().map_err(|why| why.to_string())?;
    let none = BTreeMap::new();
    let resolved = resolve(&Inputs {
        defaults: &defaults,
        defaults_set: &std::collections::BTreeSet::new(),
        process: &ProcessSettings::default(),
        sources: &sources,
        namespace: "replay",
        name: "replay",
        namespace_annotations: &none,
        annotations,
        template_annotations: &none,
        owned_by_knative: false,
        progress_deadline: None,
    });
    resolved.map(|resolved| resolved.config).ok_or_else(|| "is no target".to_owned())
}

/// Changes in `into` what differs between `before` and `after`.
fn merge(into: &mut Value, before: &Value, after: &Value) {
    if before == after {
        return;
    }
    match (&mut *into, before, after) {
        (Value::Object(into), Value::Object(before), Value::Object(after)) => {
            for (key, after) in after {
                if let Some(into) = into.get_mut(key) {
                    merge(into, before.get(key).unwrap_or(&Value::Null), after);
                }
            }
        }
        _ => *into = after.clone(),
    }
}
