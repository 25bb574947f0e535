//! Prometheus is killed and comes back empty, lies, or does not answer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cell::{Cell, CellOptions, NewWorkload, Told, Workload};
use crate::dice::Dice;
use crate::stage::{LIMIT, Stage};
use crate::support::proxy::{Matcher, Proxy, Trouble, Upstream, all};
use crate::support::wait::until;

/// How long requests to the source took, all together.
const TOOK: &str = "podswell_source_request_duration_seconds_sum{source=\"requests\"}";

/// What is said of the source `requests` that gives nothing.
pub(crate) const fn lost(fault: &'static str) -> Told {
    Told { source: "requests", state: "lost", fault: Some(fault), outcome: fault }
}

/// How long it is dead.
const KILLED: Duration = Duration::from_secs(40);

/// The source `requests`: what the pods say of themselves.
pub(crate) fn source(url: &str) -> (String, String) {
    let text = format!(
        "server: {{ url: \"{url}\" }}\nkind: concurrency\nselector: app_requests_in_flight\n\
         form: gauge\ninterval: 1s\nmatch: {{ namespace: namespace, pod: pod }}\n"
    );
    ("requests".to_owned(), text)
}

async fn cell(stage: &Arc<Stage>, name: &str, url: &str) -> Cell {
    let options = CellOptions { sources: vec![source(url)], ..CellOptions::default() };
    let mut cell = Cell::start(stage, name, options).await;
    cell.add(stage, NewWorkload::from("asked", "requests")).await;
    cell.mark();
    cell
}

/// Killed for 40 s and restarted with nothing stored.
pub(crate) async fn killed(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let url = stage.mortal.lock().await.url();
    let cell = cell(&stage, "killed", &url).await;
    let workload = &cell.workloads[0];
    tokio::time::sleep(dice.millis(0..=3000)).await;
    let told = lost("Unreachable");
    let before = cell.counted(&told.series()).await;
    stage.mortal.lock().await.kill();
    let began = Instant::now();
    cell.names(workload, told, before).await;
    workload.endures(KILLED.saturating_sub(began.elapsed())).await;
    stage.mortal.lock().await.restart_empty().await;
    cell.hears_all().await;
    cell.tells(workload, &["SignalLost", "SignalBack"]).await;
    workload.grows_to(7).await;
    workload.shrinks_to(5).await;
    workload.has_lost_nothing();
    vec![cell]
}

/// The series of an answer, if it is one.
fn series(answer: &mut Value) -> Option<&mut Vec<Value>> {
    answer.pointer_mut("/data/result")?.as_array_mut()
}

/// Changes each sample of an answer.
fn each_sample(answer: &mut Value, change: fn(&mut Value)) {
    for series in series(answer).into_iter().flatten() {
        if let Some(values) = series.get_mut("values").and_then(Value::as_array_mut) {
            values.iter_mut().for_each(change);
        }
        if let Some(value) = series.get_mut("value") {
            change(value);
        }
    }
}

fn not_a_number(answer: &mut Value) {
    each_sample(answer, |sample| sample[1] = "NaN".into());
}

fn negative(answer: &mut Value) {
    each_sample(answer, |sample| sample[1] = "-7".into());
}

/// Each pod has no requests, and that since yesterday.
fn yesterday(answer: &mut Value) {
    each_sample(answer, |sample| {
        let stamp = sample[0].as_f64().unwrap_or(0.0) - 86_400.0;
        *sample = json!([stamp, "0"]);
    });
}

/// Each series twice.
fn repeated(answer: &mut Value) {
    let Some(series) = series(answer) else { return };
    series.extend(series.clone());
}

/// Each series once more, from a second server that saw nothing.
fn contradicted(answer: &mut Value) {
    let mut other = answer.clone();
    each_sample(&mut other, |sample| sample[1] = "0".into());
    let (Some(series), Some(other)) = (series(answer), series(&mut other)) else { return };
    for one in other.iter_mut() {
        one["metric"]["replica"] = "b".into();
    }
    series.append(other);
}

fn empty(answer: &mut Value) {
    series(answer).into_iter().for_each(Vec::clear);
}

/// Every second series is missing.
fn halved(answer: &mut Value) {
    let (Some(series), mut kept) = (series(answer), false) else { return };
    series.retain(|_| {
        kept = !kept;
        kept
    });
}

/// Zero everywhere, with the remark that this is not all.
fn partial(answer: &mut Value) {
    each_sample(answer, |sample| sample[1] = "0".into());
    answer["warnings"] = json!(["a store does not answer"]);
}

fn no_answer_at_all(answer: &mut Value) {
    *answer = json!({ "status": "success", "data": { "resultType": "vector" } });
}

/// How an answer is changed.
type Lie = fn(&mut Value);

/// A trouble, and what is said of it.
struct Case {
    trouble: Trouble,
    /// Nothing where answers are only late.
    told: Option<Told>,
}

/// It answers in time, and nothing of it is true.
pub(crate) async fn lying(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let heard = Told { source: "requests", state: "fresh", fault: None, outcome: "Value" };
    let some = Told { state: "partial", ..heard };
    let lies: [(Lie, Told); 9] = [
        (not_a_number, lost("InvalidSample")),
        (negative, lost("InvalidSample")),
        (yesterday, lost("Stale")),
        (repeated, lost("Ambiguous")),
        // Series of one pod are summed.
        (contradicted, heard),
        (empty, lost("Stale")),
        (halved, some),
        (partial, lost("PartialAnswer")),
        (no_answer_at_all, lost("Malformed")),
    ];
    let case = |(lie, told)| Case { trouble: Trouble::Altered(lie), told: Some(told) };
    let cases = dice.shuffled(lies.map(case).into_iter().collect());
    troubled(&stage, "lying", cases, &mut dice).await
}

/// It answers late, with a failure, or not at all.
pub(crate) async fn silent(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let cases = [
        (Trouble::Silence, Some(lost("Timeout"))),
        (Trouble::Closed, Some(lost("Unreachable"))),
        (Trouble::Late(dice.millis(3500..=8000)), Some(lost("Timeout"))),
        // The answer is late, and each piece of it once more: together that is below the limit of 3 s.
        (Trouble::Late(dice.millis(300..=700)), None),
        (Trouble::Status(503, None), Some(lost("BadStatus"))),
        (Trouble::Status(429, Some(1)), Some(lost("BadStatus"))),
    ];
    let cases = cases.map(|(trouble, told)| Case { trouble, told });
    let cases = dice.shuffled(cases.into_iter().collect());
    troubled(&stage, "silent", cases, &mut dice).await
}

/// Goes through the troubles one after the other; each strikes and is named, and between them all is well
/// for a moment.
async fn troubled(stage: &Arc<Stage>, name: &str, cases: Vec<Case>, dice: &mut Dice) -> Vec<Cell> {
    let proxy = Proxy::start(Upstream::Plain(stage.steady.url()), None).await;
    let cell = cell(stage, name, &proxy.url()).await;
    let workload = &cell.workloads[0];
    for Case { trouble, told } in cases {
        let rule = (all as Matcher, trouble);
        strikes(&cell, workload, &proxy, &rule, told).await;
        // Together with the time until it was named that is longer than the window.
        workload.endures(dice.millis(4000..=6000)).await;
        proxy.heal();
        cell.hears_all().await;
    }
    workload.grows_to(7).await;
    workload.shrinks_to(5).await;
    workload.has_lost_nothing();
    // The way to the sources stays for as long as the process.
    cell.keep(proxy);
    vec![cell]
}

/// Brings a trouble about and waits until it struck and podswell says so.
async fn strikes(
    cell: &Cell,
    workload: &Workload,
    proxy: &Proxy,
    rule: &(Matcher, Trouble),
    told: Option<Told>,
) {
    let series = told.map_or_else(|| TOOK.to_owned(), |told| told.series());
    let before = cell.counted(&series).await;
    proxy.set(std::slice::from_ref(rule));
    let what = format!("{rule:?} strikes");
    until(LIMIT, &what, |struck| *struck > 0, || async { proxy.struck()[0] }).await;
    match (told, &rule.1) {
        (Some(told), _) => cell.names(workload, told, before).await,
        (None, Trouble::Late(span)) => {
            // On a busy machine it may be too late nevertheless.
            let (least, late) = (before + span.as_secs_f64(), lost("Timeout").series());
            let timed_out = cell.counted(&late).await;
            let named = |(took, late): &(f64, f64)| *took >= least || *late > timed_out;
            until(LIMIT, &what, named, || async {
                (cell.counted(&series).await, cell.counted(&late).await)
            })
            .await;
        }
        (None, other) => panic!("nothing is said of {other:?}"),
    }
}
