//! The main job on real servers: load on real sockets, measured by scraping the pods and by Prometheus,
//! becomes replicas on a real API server.
//!
//! All scenarios run at once in one cluster, each on workloads of its own; those that change what
//! all share come after. Every assertion is on what the API server says.
//!
//! `PODSWELL_SCENARIOS=burst,rolling` plays only the scenarios whose name contains one of these words.

mod scenarios;
mod town;

use std::ops::Not as _;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;

use town::{Source, Town};

type Scenario = (String, BoxFuture<'static, ()>);

fn scenario<F: Future<Output = ()> + Send + 'static>(
    town: &Arc<Town>,
    name: &str,
    play: impl FnOnce(Arc<Town>) -> F,
) -> Scenario {
    (name.to_owned(), play(town.clone()).boxed())
}

fn all(town: &Arc<Town>) -> Vec<Scenario> {
    let mut all = Vec::new();
    for source in Source::ALL {
        let named = |name: &str| format!("{name}, {}", source.name());
        all.push(scenario(town, &named("steady load"), move |town| {
            scenarios::steady(town, source)
        }));
        all.push(scenario(town, &named("burst"), move |town| scenarios::burst(town, source)));
    }
    for source in [Source::Scrape, Source::Prometheus1, Source::Prometheus15] {
        let name = format!("request rate, {}", source.name());
        all.push(scenario(town, &name, move |town| scenarios::request_rate(town, source)));
        let named = |name: &str| format!("{name}, {}", source.name());
        all.push(scenario(town, &named("scale down"), move |town| {
            scenarios::scale_down(town, source)
        }));
        all.push(scenario(town, &named("min and max"), move |town| {
            scenarios::min_and_max(town, source)
        }));
        all.push(scenario(town, &named("rolling update"), move |town| {
            scenarios::rolling_update(town, source)
        }));
    }
    all.push(scenario(town, "initial scale", scenarios::initial_scale));
    all.push(scenario(town, "activation scale", scenarios::activation_scale));
    all.push(scenario(town, "edits while running", scenarios::edits));
    all.push(scenario(town, "one name in two namespaces", scenarios::two_namespaces));
    all.push(scenario(town, "HPA comes and goes", scenarios::rival));
    all.push(scenario(town, "observe and paused", scenarios::modes));
    all.push(scenario(town, "no consent", scenarios::no_consent));
    all.push(scenario(town, "compat: knative", scenarios::knative));
    all.push(scenario(town, "lying pods", scenarios::lying_pods));
    all.push(scenario(town, "bad annotations", scenarios::bad_annotations));
    all
}

fn is_wanted(name: &str) -> bool {
    std::env::var("PODSWELL_SCENARIOS")
        .is_ok_and(|words| !words.split(',').any(|word| name.contains(word)))
        .not()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn podswell_scales_real_deployments() {
    let town = Arc::new(Town::start().await);
    let playing: Vec<_> = all(&town)
        .into_iter()
        .filter(|(name, _)| is_wanted(name))
        .map(|(name, play)| {
            let started = Instant::now();
            (
                name,
                tokio::spawn(async move {
                    play.await;
                    started.elapsed()
                }),
            )
        })
        .collect();
    let mut failed = Vec::new();
    for (name, played) in playing {
        match played.await {
            Ok(took) => report(&format!("{name}: ok, {} s", took.as_secs())),
            Err(_) => failed.push(name),
        }
    }
    if !failed.is_empty() {
        let log = town.podswell.read().await.log_tail(6000);
        panic!("failed: {failed:?}\nthe end of podswell's log:\n{log}");
    }
    scenarios::config_map(&town).await;
    report("ConfigMap edits: ok");
    let _loads = scenarios::killed_and_restarted(&town).await;
    report("killed and restarted under load: ok");
    scenarios::stops_gracefully(&town).await;
    report("graceful stop: ok");
}

#[expect(clippy::print_stdout, reason = "the progress of a long test")]
fn report(line: &str) {
    println!("{line}");
}
