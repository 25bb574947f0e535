//! One function a scenario.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use podswell::core::policy::Mode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::town::{LIMIT, Source, Town, Workload};
use crate::support::app::Fault;
use crate::support::deployment::{NewDeployment, hpa_by_cpu};
use crate::support::load::{Level, Load};
use crate::support::wait::{eventually, until};

/// Requests in flight, or a second, that ask for five pods of seven each, with room on both sides.
const FIVE_PODS: usize = 31;
/// Requests in flight that five pods just bear. A pod serves its first requests a moment before podswell can
/// know that it is ready: if a sixth of them is not seen for a moment, that makes no difference.
const NEARLY_SIX_PODS: usize = 34;
const CALM: Duration = Duration::from_secs(20);

fn reason(status: &Value) -> &str {
    status["decision"]["reason"].as_str().unwrap_or_default()
}

fn gate(status: &Value) -> &str {
    status["decision"]["gate"].as_str().unwrap_or_default()
}

fn bounded(status: &Value) -> i64 {
    status["decision"]["bounded"].as_i64().unwrap_or(-1)
}

/// Steady load reaches `ceil(load / resolved target)` and stays there.
pub(super) async fn steady(town: Arc<Town>, source: Source) {
    let workload = town.workload("steady", source.name(), source, 1, &[]).await;
    let _load = workload.load(Level::Held(FIVE_PODS));
    workload.reaches(5).await;
    // Each pod's number is of another moment. While the load moves to new pods their sum is more than the
    // load, and panic holds what that asks for during a stable window; or, on a busy machine, less.
    workload.settles(5, source.window() + CALM).await;
    workload.is_told("ScaledUp").await;
    let fresh = |status: &Value| status["decision"]["signal"]["state"] == "fresh";
    workload.says("is fresh", fresh).await;
    let explained = workload.explain().await;
    assert!(
        explained.contains("7 per pod") && explained.contains(source_shown(source)),
        "{explained}"
    );
}

fn source_shown(source: Source) -> &'static str {
    match source {
        Source::Scrape | Source::QueueProxy => "scrape",
        Source::Prometheus1 => "fast-concurrency",
        Source::Prometheus15 => "slow-concurrency",
    }
}

/// A burst of ten times the load enters panic and drops nothing before the stable window has passed.
pub(super) async fn burst(town: Arc<Town>, source: Source) {
    let workload = town.workload("burst", source.name(), source, 1, &[]).await;
    let load = workload.load(Level::Held(4));
    workload
        .says("hears its load", |status| {
            status["decision"]["windows"]["stable"].as_f64().is_some_and(|stable| stable > 3.0)
        })
        .await;
    tokio::time::sleep(source.window()).await;
    workload.stays(1, Duration::from_secs(3)).await;
    let began = Instant::now();
    load.set(Level::Held(40));
    // They may be more than six: while the load moves to new pods it counts twice for a moment.
    let six = |status: &Value| status["decision"]["panicMode"]["highWater"].as_i64() >= Some(6);
    workload.says("panics", six).await;
    until(LIMIT, "a burst has its pods", |seen| *seen >= 6, || workload.replicas()).await;
    load.set(Level::Held(4));
    // The panic began after its load.
    let held = source.window().saturating_sub(began.elapsed());
    workload.holds(held, "panic never lowers", |replicas| replicas >= 6).await;
    workload.reaches(1).await;
    workload.is_told("PanicEntered").await;
}

/// A request rate, from counters.
pub(super) async fn request_rate(town: Arc<Town>, source: Source) {
    // Requests come one by one, so a panic window of a second may hold a few more than the mean.
    let more =
        [("autoscaling.knative.dev/metric", "rps"), ("autoscaling.knative.dev/window", "60s")];
    let workload = town.workload("rate", source.name(), source, 1, &more).await;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let load = workload.load(Level::PerSecond(FIVE_PODS as f64));
    workload.settles(5, CALM * 2).await;
    assert_eq!(load.outcome().failed, 0, "{:?}", load.outcome());
}

/// Scale-down waits for the delay and then follows the rate.
pub(super) async fn scale_down(town: Arc<Town>, source: Source) {
    let more = [
        ("autoscaling.knative.dev/scale-down-delay", "10s"),
        ("podswell.dev/max-scale-down-rate", "1.5"),
    ];
    let workload = town.workload("down", source.name(), source, 1, &more).await;
    let load = workload.load(Level::Held(60));
    workload.reaches(9).await;
    workload.settles(9, source.window() + Duration::from_secs(5)).await;
    let notes = workload.deployment.note_replicas().await;
    load.set(Level::Idle);
    // A delay of 10 s holds for at least 10 s less one tick.
    workload.stays(9, Duration::from_secs(7)).await;
    // Nothing would wake it, so one stays.
    let last = || async { notes.lock().last().copied() };
    until(LIMIT, "the way down is over", |last| *last == Some(1), last).await;
    let seen = notes.lock().clone();
    assert_eq!(seen.first(), Some(&9), "{seen:?}");
    for pair in seen.windows(2) {
        let least = f64::from(pair[0]) / 1.5;
        assert!(pair[1] < pair[0] && f64::from(pair[1]) >= least.floor(), "rate 1.5: {seen:?}");
    }
    workload.says("one stays", |status| reason(status) == "NoWakePath").await;
}

pub(super) async fn min_and_max(town: Arc<Town>, source: Source) {
    let more =
        [("autoscaling.knative.dev/min-scale", "2"), ("autoscaling.knative.dev/max-scale", "3")];
    let workload = town.workload("bounds", source.name(), source, 1, &more).await;
    workload.reaches(2).await;
    let load = workload.load(Level::Held(FIVE_PODS));
    workload.reaches(3).await;
    workload.says("the ceiling decides", |status| reason(status) == "MaxScale").await;
    workload.stays(3, CALM).await;
    load.set(Level::Idle);
    workload.reaches(2).await;
    workload.stays(2, CALM).await;
}

/// A new object reaches its initial scale once, without any load, and then follows its load.
pub(super) async fn initial_scale(town: Arc<Town>) {
    // Nothing is lowered before most of a window is known, so that there is time to see three of them ready.
    let more =
        [("autoscaling.knative.dev/initial-scale", "3"), ("autoscaling.knative.dev/window", "30s")];
    let workload = town.workload("bounds", "initial", Source::Scrape, 1, &more).await;
    workload.reaches(3).await;
    until(
        LIMIT,
        "three are ready",
        |ready| *ready >= 3,
        || async { workload.deployment.ready_replicas().await.unwrap_or(0) },
    )
    .await;
    workload.reaches(1).await;
    workload.stays(1, CALM).await;
}

pub(super) async fn activation_scale(town: Arc<Town>) {
    let more = [("autoscaling.knative.dev/activation-scale", "4")];
    let workload = town.workload("bounds", "activation", Source::Scrape, 1, &more).await;
    workload.stays(1, Duration::from_secs(5)).await;
    let _load = workload.load(Level::Held(2));
    workload.reaches(4).await;
    workload.stays(4, CALM).await;
}

/// Annotations may change at any time.
pub(super) async fn edits(town: Arc<Town>) {
    let workload = town.workload("edits", "edited", Source::Scrape, 1, &[]).await;
    let _load = workload.load(Level::Held(FIVE_PODS));
    workload.reaches(5).await;
    let annotate = async |key: &str, value: Option<&str>| {
        let key = format!("autoscaling.knative.dev/{key}");
        workload.deployment.annotate(&key, value).await.expect("annotate");
    };
    annotate("target", Some("20")).await;
    workload.reaches(3).await;
    annotate("window", Some("30s")).await;
    annotate("min-scale", Some("4")).await;
    workload.reaches(4).await;
    annotate("target", Some("no number")).await;
    // A value that cannot be read counts as absent: 70 requests in flight per pod.
    let status = workload
        .says("reports the problem", |status| status.to_string().contains("InvalidAnnotation"))
        .await;
    assert!(status.to_string().contains("no number"), "{status}");
    workload.stays(4, CALM).await;
    annotate("target", Some("5")).await;
    annotate("min-scale", None).await;
    workload.settles(9, CALM).await;
}

pub(super) async fn two_namespaces(town: Arc<Town>) {
    let small = town.workload("blue", "checkout", Source::Scrape, 1, &[]).await;
    let large = town.workload("green", "checkout", Source::Prometheus1, 1, &[]).await;
    let _loads = [small.load(Level::Held(3)), large.load(Level::Held(FIVE_PODS))];
    large.settles(5, CALM).await;
    small.stays(1, CALM).await;
}

/// A rolling update under load lowers nothing, and what its surge may add is gone afterwards.
pub(super) async fn rolling_update(town: Arc<Town>, source: Source) {
    let workload = town.workload("rollout", source.name(), source, 1, &[]).await;
    let _load = workload.load(Level::Held(NEARLY_SIX_PODS));
    workload.reaches(5).await;
    workload.settles(5, source.window() + Duration::from_secs(5)).await;
    workload.deployment.annotate_pods("version", Some("2")).await.expect("start a rollout");
    let rolled_out = async {
        eventually(LIMIT, "the rollout is complete", || async {
            let deployment = workload.deployment.get().await.map_err(|error| error.to_string())?;
            let status = deployment.status.unwrap_or_default();
            let wanted = deployment.spec.and_then(|spec| spec.replicas);
            let done = status.observed_generation == deployment.metadata.generation
                && status.updated_replicas == wanted
                && status.replicas == wanted
                && status.ready_replicas == wanted;
            if done { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
    };
    let span = source.window() + CALM * 2;
    let what = "a rollout lowers nothing";
    tokio::join!(rolled_out, workload.holds(span, what, |replicas| replicas >= 5));
    workload.settles(5, CALM).await;
}

/// While an HPA has the same target nothing is written, and its name is told.
pub(super) async fn rival(town: Arc<Town>) {
    let workload = town.workload("rivals", "contested", Source::Scrape, 1, &[]).await;
    let load = workload.load(Level::Held(3));
    workload.says("decides", |status| bounded(status) == 1).await;
    town.plane.apply(&hpa_by_cpu("rivals", "contested")).await;
    let status = workload.says("sees its rival", |status| gate(status) == "Rival").await;
    assert!(status.to_string().contains("by-cpu"), "{status}");
    load.set(Level::Held(FIVE_PODS));
    workload.says("would want five", |status| bounded(status) >= 5).await;
    workload.stays(1, CALM).await;
    town.plane.kubectl(&["delete", "hpa", "by-cpu", "-n", "rivals"]).await;
    workload.reaches(5).await;
    for expected in ["RivalFound", "RivalGone"] {
        workload.is_told(expected).await;
    }
}

/// `observe` and `paused` decide and write nothing.
pub(super) async fn modes(town: Arc<Town>) {
    let observed = [("podswell.dev/mode", Mode::Observe.as_str())];
    let paused = [("podswell.dev/mode", Mode::Paused.as_str())];
    let observed = town.workload("modes", "observed", Source::Scrape, 1, &observed).await;
    let paused = town.workload("modes", "paused", Source::Prometheus1, 1, &paused).await;
    let loads = [observed.load(Level::Held(FIVE_PODS)), paused.load(Level::Held(FIVE_PODS))];
    let would = |status: &Value| bounded(status) == 5;
    tokio::join!(observed.says("would want five", would), paused.says("would want five", would));
    assert_eq!(gate(&observed.status().await), "ObserveOnly");
    assert_eq!(gate(&paused.status().await), "Paused");
    tokio::join!(observed.stays(1, CALM), paused.stays(1, CALM));
    paused.set_mode(Mode::PausedDown).await;
    paused.reaches(5).await;
    drop(loads);
    // The load of a moment may have asked for more.
    let span = Source::Prometheus1.window() + CALM;
    paused.holds(span, "paused-down never lowers", |replicas| replicas >= 5).await;
    paused.set_mode(Mode::Apply).await;
    paused.reaches(1).await;
    observed.stays(1, Duration::ZERO).await;
}

/// Without our class a workload is decided and explained, never written.
pub(super) async fn no_consent(town: Arc<Town>) {
    let workload: Workload<'_> = town
        .workload("modes", "not-ours", Source::Scrape, 1, &[("autoscaling.knative.dev/class", "")])
        .await;
    let _load = workload.load(Level::Held(FIVE_PODS));
    let status = workload.says("would want five", |status| bounded(status) == 5).await;
    assert_eq!(gate(&status), "ObserveOnly");
    workload.stays(1, CALM).await;
}

/// Knative's own arithmetic on pods that are scraped as Knative scrapes them.
pub(super) async fn knative(town: Arc<Town>) {
    let more = [("podswell.dev/compat", "knative")];
    let workload = town.workload("compat", "knative", Source::QueueProxy, 1, &more).await;
    let _load = workload.load(Level::Held(FIVE_PODS));
    let status = workload.says("counts as Knative does", |status| bounded(status) >= 5).await;
    assert!(status.to_string().contains(r#""name":"compat","value":"knative""#), "{status}");
    workload.reaches(5).await;
}

/// Two of five pods fall silent, or say what cannot be: nothing is lowered, and nothing but the truth is
/// believed afterwards.
pub(super) async fn lying_pods(town: Arc<Town>) {
    let workload = town.workload("lies", "believed", Source::Scrape, 1, &[]).await;
    let _load = workload.load(Level::Held(FIVE_PODS));
    workload.reaches(5).await;
    workload.settles(5, Source::Scrape.window() + Duration::from_secs(5)).await;
    let pods = town.node.table().ready("lies", "believed");
    let liars = || pods.iter().take(2);
    for fault in [
        Fault::Closed,
        Fault::Status(StatusCode::SERVICE_UNAVAILABLE),
        Fault::NotANumber,
        Fault::Number(-7.0),
        Fault::Number(1e308),
        Fault::Slow(Duration::from_secs(3)),
        Fault::Redirect("http://127.0.0.1:1/".to_owned()),
        Fault::Huge(16 << 20),
        Fault::Garbage,
    ] {
        liars().for_each(|pod| pod.app.set_fault(fault.clone()));
        let what = format!("{fault:?} lowers and raises nothing");
        workload.holds(Source::Scrape.window() / 2, &what, |replicas| replicas == 5).await;
    }
    let doubted = |status: &Value| status["decision"]["signal"]["state"] != "fresh";
    assert!(doubted(&workload.status().await), "silence is not taken for an answer");
    liars().for_each(|pod| pod.app.set_fault(Fault::None));
    workload.says("believes again", |status| !doubted(status)).await;
    workload.settles(5, CALM).await;
}

/// What one workload says wrongly is its own affair.
pub(super) async fn bad_annotations(town: Arc<Town>) {
    let huge = "9".repeat(200_000);
    let cases: [(&str, &str, &str); 5] = [
        ("bad-window", "autoscaling.knative.dev/window", "-5s"),
        ("bad-scale", "autoscaling.knative.dev/min-scale", "NaN"),
        ("bad-huge", "autoscaling.knative.dev/max-scale", &huge),
        ("bad-scrape", "podswell.dev/scrape", "{\"port\":0}"),
        ("bad-source", "podswell.dev/source", "no such source"),
    ];
    let neighbour = town.workload("bad", "neighbour", Source::Scrape, 1, &[]).await;
    let mut bad = Vec::new();
    for (name, key, value) in cases {
        bad.push(town.workload("bad", name, Source::Scrape, 1, &[(key, value)]).await);
    }
    let _load = neighbour.load(Level::Held(FIVE_PODS));
    neighbour.reaches(5).await;
    for workload in &bad {
        let status = workload
            .says("has a problem", |status| {
                status["problems"].as_array().is_some_and(|problems| problems.len() > 1)
            })
            .await;
        assert!(status.to_string().len() < 20_000, "{} bytes", status.to_string().len());
        assert_eq!(workload.replicas().await, 1);
    }
}

/// A change of `config-autoscaler` reaches every workload; a broken one keeps the last good one.
pub(super) async fn config_map(town: &Arc<Town>) {
    let set = async |data: Value| {
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "config-autoscaler", "namespace": "podswell-system" },
            "data": data,
        });
        town.plane.apply(&map.to_string()).await;
    };
    let workload = town.workload("cluster", "tuned", Source::Scrape, 1, &[]).await;
    let _load = workload.load(Level::Held(NEARLY_SIX_PODS));
    workload.reaches(5).await;
    set(json!({ "container-concurrency-target-percentage": "100" })).await;
    workload.reaches(4).await;
    set(json!({ "container-concurrency-target-percentage": "broken", "min-scale": "9" })).await;
    workload.settles(4, CALM).await;
    set(json!({ "container-concurrency-target-percentage": "70" })).await;
    workload.reaches(5).await;
}

/// Killed under load and started again a little later: nothing is lowered. The load goes on.
pub(super) async fn killed_and_restarted(town: &Arc<Town>) -> Vec<Load> {
    let mut workloads = Vec::new();
    let mut loads = Vec::new();
    for source in Source::ALL {
        let workload = town.workload("restart", source.name(), source, 1, &[]).await;
        loads.push(workload.load(Level::Held(NEARLY_SIX_PODS)));
        workloads.push(workload);
    }
    for workload in &workloads {
        workload.reaches(5).await;
    }
    town.podswell.write().await.kill();
    tokio::time::sleep(Duration::from_secs(3)).await;
    town.podswell.write().await.restart().await;
    let what = "a restart lowers nothing";
    let holds = workloads
        .iter()
        .map(|workload| workload.holds(Duration::from_secs(75), what, |replicas| replicas >= 5));
    futures::future::join_all(holds).await;
    let metrics = town.podswell.read().await.metrics().await;
    assert!(metrics.contains("podswell_pods_desired"), "{metrics}");
    loads
}

/// A stop writes nothing and ends with 0.
pub(super) async fn stops_gracefully(town: &Arc<Town>) {
    // What is still on its way down is none of the stop's doing.
    let before = eventually(LIMIT, "nothing is scaled any more", || async {
        let before = all_replicas(town).await;
        tokio::time::sleep(CALM / 2).await;
        let now = all_replicas(town).await;
        if before == now { Ok(now) } else { Err(now) }
    })
    .await;
    assert!(town.podswell.write().await.terminate().await, "exit code 0");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(all_replicas(town).await, before);
    let orphan = NewDeployment::new("stopped", "orphan", 1);
    orphan.create(&town.plane.client()).await;
}

async fn all_replicas(town: &Arc<Town>) -> String {
    let template =
        "jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {.spec.replicas}\n{end}";
    town.plane.kubectl(&["get", "deployments", "-A", "-o", template]).await
}
