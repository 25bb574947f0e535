//! Prometheus is killed and comes back empty, lies, or does not answer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cell::{Cell, CellOptions, NewWorkload, WINDOW};
use crate::dice::Dice;
use crate::stage::Stage;
use crate::support::proxy::{Proxy, Trouble, Upstream, all};

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
    cell.mark().await;
    cell
}

/// Killed for 40 s and restarted with nothing stored.
pub(crate) async fn killed(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let url = stage.mortal.lock().await.url();
    let cell = cell(&stage, "killed", &url).await;
    let workload = &cell.workloads[0];
    tokio::time::sleep(dice.millis(0..=3000)).await;
    stage.mortal.lock().await.kill();
    workload.endures(KILLED).await;
    stage.mortal.lock().await.restart_empty().await;
    cell.hears_all().await;
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
    let Some(series) = series(answer) else { return };
    series.truncate(series.len() / 2);
}

/// Zero everywhere, with the remark that this is not all.
fn partial(answer: &mut Value) {
    each_sample(answer, |sample| sample[1] = "0".into());
    answer["warnings"] = json!(["a store does not answer"]);
}

fn no_answer_at_all(answer: &mut Value) {
    *answer = json!({ "status": "success", "data": { "resultType": "vector" } });
}

/// It answers in time, and nothing of it is true.
pub(crate) async fn lying(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let lies: Vec<fn(&mut Value)> = vec![
        not_a_number,
        negative,
        yesterday,
        repeated,
        contradicted,
        empty,
        halved,
        partial,
        no_answer_at_all,
    ];
    let troubles = dice.shuffled(lies).into_iter().map(Trouble::Altered).collect();
    troubled(&stage, "lying", troubles, &mut dice).await
}

/// It answers late, with a failure, or not at all.
pub(crate) async fn silent(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let troubles = vec![
        Trouble::Silence,
        Trouble::Closed,
        Trouble::Late(dice.millis(3500..=8000)),
        Trouble::Late(dice.millis(300..=1500)),
        Trouble::Status(503, None),
        Trouble::Status(429, Some(1)),
    ];
    let troubles = dice.shuffled(troubles);
    troubled(&stage, "silent", troubles, &mut dice).await
}

/// Goes through the troubles one after the other; between them all is well for a moment.
async fn troubled(
    stage: &Arc<Stage>,
    name: &str,
    troubles: Vec<Trouble>,
    dice: &mut Dice,
) -> Vec<Cell> {
    let proxy = Proxy::start(Upstream::Plain(stage.steady.url()), None).await;
    let cell = cell(stage, name, &proxy.url()).await;
    let workload = &cell.workloads[0];
    for trouble in troubles {
        proxy.set(&[(all, trouble.clone())]);
        workload.endures(WINDOW + dice.millis(500..=2500)).await;
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
