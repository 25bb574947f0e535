//! The played API as the controller's fault-injection server: the real controller beside each fault that can
//! be switched on, what a user reads meanwhile, that nothing is lowered, and that it goes on afterwards.

use std::time::Duration;

use serde_json::Value;

use crate::demo::{Demo, LONG};
use crate::support::http::HttpClient;
use crate::support::wait::{always_for, eventually, until};

const LIMIT: Duration = Duration::from_secs(180);

/// How long a fault stays on after it has shown.
const SPAN: Duration = Duration::from_secs(3);

/// A load that only ever grows, by one pod every five seconds at twice the speed, for half an hour.
const CLIMB: &str = "about: a load that only grows\nseed: 1\nduration: 1h\n\
    target:\n  annotations: { autoscaling.knative.dev/target: \"10\", \
    autoscaling.knative.dev/target-utilization-percentage: \"100\", \
    autoscaling.knative.dev/max-scale: \"190\", autoscaling.knative.dev/window: 12s }\n  start: 5\n\
    load:\n  - constant: { level: 50 }\n  - ramp: { to: 1800, over: 30m }\n";

/// What can be read of one workload at a moment.
#[derive(Debug)]
struct Seen {
    status: Value,
    target: Value,
    explained: String,
    /// What a new watch of Deployments tells within a second.
    watched: String,
    /// By how much the replicas have grown since the fault was switched on.
    grown: i64,
}

impl Seen {
    fn text(&self, pointer: &str) -> &str {
        self.target.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn is_lost(&self, fault: &str) -> bool {
        self.text("/decision/signal/state") == "lost"
            && self.text("/decision/signal/fault") == fault
            && self.text("/decision/reason") == "SignalLost"
            && self.explained.contains("lost")
    }

    /// The newest write came to nothing, and the user is told how.
    fn failed(&self, outcome: &str, status: Option<u64>) -> bool {
        let told = self.target.pointer("/lastWrite/status").and_then(Value::as_u64);
        self.text("/lastWrite/outcome") == outcome
            && told == status
            && status.is_none_or(|status| self.explained.contains(&status.to_string()))
    }

    /// Watches end as `begins` says, and the workload grows all the same: the controller lists anew.
    fn lists_anew(&self, begins: &str) -> bool {
        let ends =
            if begins.is_empty() { self.watched.is_empty() } else { self.watched.contains(begins) };
        ends && self.grown >= 2
    }

    /// All watches are complete, and none has trouble.
    fn watches_well(&self) -> bool {
        let watches = self.status["watches"].as_array().cloned().unwrap_or_default();
        let is_well = |watch: &Value| watch["fault"].is_null() && watch["synced"] == true;
        !watches.is_empty() && watches.iter().all(is_well)
    }

    /// This process stands by, and says of the workload only that another one holds the lease.
    fn stands_by(&self) -> bool {
        self.status["leader"] == false
            && self.status["lease"]["holder"] == "another-podswell"
            && self.target["code"] == "Unavailable"
            && self.text("/message").contains("holder of the lease")
    }
}

impl Demo {
    async fn seen(&self, name: &str) -> Seen {
        let watch = "/apis/apps/v1/deployments?watch=true&timeoutSeconds=1";
        let watched = HttpClient::new().get(&format!("{}{watch}", self.api())).await;
        let path = format!("/v1/targets/{name}");
        let explained = HttpClient::new().get(&self.url(&format!("{path}/explain"))).await;
        Seen {
            status: self.get("/v1/status").await.unwrap_or_default(),
            target: self.get(&path).await.unwrap_or_default(),
            explained: explained.map(|answer| answer.text()).unwrap_or_default(),
            watched: watched.map(|answer| answer.text()).unwrap_or_default(),
            grown: 0,
        }
    }

    /// `spec.replicas` as the API has it, whatever podswell thinks.
    async fn stored(&self, namespace: &str, name: &str) -> i64 {
        let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}");
        let answer = HttpClient::new().get(&format!("{}{path}", self.api())).await;
        let answer = answer.expect("the played API answers");
        let object: Value = serde_json::from_slice(&answer.body).expect("JSON");
        object["spec"]["replicas"].as_i64().expect("replicas")
    }
}

type Shows = fn(&Seen) -> bool;

/// Faults of the source and of the API server, and what of each is read on the workload that climbs.
const FAULTS: [(&str, Shows); 12] = [
    ("prometheus-down", |seen| seen.is_lost("BadStatus")),
    ("prometheus-slow", |seen| seen.is_lost("Timeout")),
    ("prometheus-nan", |seen| seen.is_lost("InvalidSample")),
    ("prometheus-stale", |seen| seen.is_lost("Stale")),
    ("prometheus-ahead", |seen| seen.is_lost("InvalidSample")),
    ("api-409", |seen| seen.failed("Conflict", None)),
    ("api-429", |seen| seen.failed("Refused", Some(429))),
    ("api-500", |seen| seen.failed("Unknown", None)),
    ("api-silent", |seen| seen.failed("Unknown", None)),
    ("api-410", |seen| seen.lists_anew("\"code\":410")),
    ("watches-dropped", |seen| seen.lists_anew("")),
    ("leader-lost", Seen::stands_by),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_shows_lowers_nothing_and_heals() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("climb.yaml");
    std::fs::write(&file, CLIMB).expect("write a scenario");
    let scenario = format!("--scenario={}", file.display());
    let mut demo = Demo::start(&[&scenario, "--speed=2"], 7).await;
    let about = demo.get("/v1/demo").await.expect("an answer");
    assert_eq!((&about["speed"], &about["scenarioLeftOut"][0]), (&2.into(), &"policies".into()));
    let stored = || demo.stored("scenario", "climb");
    until(LIMIT, "it climbs", |replicas| *replicas > 5, stored).await;
    for (fault, shows) in FAULTS {
        let before = stored().await;
        demo.order(fault, LONG).await;
        eventually(LIMIT, fault, || async {
            let now = stored().await;
            assert!(now >= before, "{fault}: {before} -> {now}");
            let mut seen = demo.seen("scenario/climb").await;
            seen.grown = now - before;
            if shows(&seen) { Ok(()) } else { Err(seen) }
        })
        .await;
        let shown = stored().await;
        always_for(SPAN, "nothing is lowered", || async {
            let now = stored().await;
            if now >= shown { Ok(()) } else { Err(format!("{fault}: {shown} -> {now}")) }
        })
        .await;
        let before = stored().await;
        demo.order(fault, 0).await;
        eventually(LIMIT, "it climbs on", || async {
            let (now, seen) = (stored().await, demo.seen("scenario/climb").await);
            let writes = seen.text("/lastWrite/outcome") == "Written" && now > before;
            let heard = seen.text("/decision/signal/state") == "fresh" && seen.watches_well();
            if writes && heard { Ok(()) } else { Err((fault, now, seen)) }
        })
        .await;
    }
    let ended = demo.process.terminate(LIMIT).await.expect("it ends");
    assert!(ended.success(), "{ended}");
}

/// No more than the flash sale needs, with what a window's edge adds.
const MOST_OF_THE_SALE: i64 = 25;

/// More than the sale can lead to: while pods start, the load that moves to them may be counted twice. What
/// is no load, but is believed, leads to the limit of 60.
const TWICE_THE_SALE: i64 = 45;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_pods_and_people_do_wrong_stays_within_bounds() {
    let mut demo = Demo::start(&["--speed=3"], 6).await;
    until(LIMIT, "it has pods", |replicas| *replicas >= 2, || demo.stored("shop", "checkout"))
        .await;
    pods_lie(&demo).await;
    an_impostor(&demo).await;
    no_room(&demo).await;
    a_thousandfold_burst(&demo).await;
    somebody_reverts(&demo).await;
    let ended = demo.process.terminate(LIMIT).await.expect("it ends");
    assert!(ended.success(), "{ended}");
}

/// What each pod said in the last round, as its faults.
async fn pod_faults(demo: &Demo) -> Vec<String> {
    let pods = demo.get("/v1/targets/shop/checkout/pods").await.unwrap_or_default();
    let items = pods["items"].as_array().cloned().unwrap_or_default();
    items.iter().filter_map(|pod| pod["fault"].as_str()).map(str::to_owned).collect()
}

async fn pods_lie(demo: &Demo) {
    demo.order("pods-lie", LONG).await;
    eventually(LIMIT, "the lies are told apart", || async {
        let now = demo.stored("shop", "checkout").await;
        assert!(now <= TWICE_THE_SALE, "a lie is believed: {now}");
        let faults = pod_faults(demo).await;
        let told = ["InvalidSample", "Implausible"];
        let both = told.iter().all(|fault| faults.iter().any(|one| one == fault));
        let seen = demo.seen("shop/checkout").await;
        // Where all pods lie, nothing is known.
        let doubted = ["partial", "lost"].contains(&seen.text("/decision/signal/state"));
        if both && doubted { Ok(()) } else { Err((faults, seen)) }
    })
    .await;
    always_for(SPAN, "the lies move nothing", || async {
        let now = demo.stored("shop", "checkout").await;
        if (1..=TWICE_THE_SALE).contains(&now) { Ok(()) } else { Err(now) }
    })
    .await;
    demo.order("pods-lie", 0).await;
    eventually(LIMIT, "all pods are believed", || async {
        let seen = demo.seen("shop/checkout").await;
        let faults = pod_faults(demo).await;
        let fresh = seen.text("/decision/signal/state") == "fresh";
        if fresh && faults.is_empty() { Ok(()) } else { Err((faults, seen)) }
    })
    .await;
}

/// A pod with the workload's labels that belongs to nobody is not asked, so what it claims moves nothing.
async fn an_impostor(demo: &Demo) {
    demo.order("impostor", LONG).await;
    let there = || async { demo.kubectl(&["get", "pods", "-n=shop", "-l=app=checkout"]) };
    until(LIMIT, "it is there", |pods: &String| pods.contains("impostor"), there).await;
    always_for(2 * SPAN, "its claim moves nothing", || async {
        let now = demo.stored("shop", "checkout").await;
        let pods = demo.get("/v1/targets/shop/checkout/pods").await.unwrap_or_default();
        let asked = pods.to_string().contains("impostor");
        if now <= TWICE_THE_SALE && !asked { Ok(()) } else { Err((now, pods)) }
    })
    .await;
    demo.order("impostor", 0).await;
    until(LIMIT, "it is gone", |pods: &String| !pods.contains("impostor"), there).await;
}

/// Pods that find no node count as pending: nothing is lowered because they do not help.
async fn no_room(demo: &Demo) {
    demo.order("cluster-full", LONG).await;
    let waiting = || async {
        let seen = demo.seen("shop/checkout").await;
        seen.target["pods"]["pending"].as_i64().unwrap_or(0)
    };
    // Pods that had a node before only start, and are pending as well.
    eventually(LIMIT, "pods wait for a node", || async {
        let pods = demo.kubectl(&["get", "pods", "-n=shop", "-o=jsonpath={.items[*].status}"]);
        let pending = waiting().await;
        if pending > 0 && pods.contains("Unschedulable") { Ok(()) } else { Err((pending, pods)) }
    })
    .await;
    demo.order("cluster-full", 0).await;
    until(LIMIT, "they have one", |pending| *pending == 0, waiting).await;
}

async fn a_thousandfold_burst(demo: &Demo) {
    const MOST: i64 = 60;
    demo.order("burst-1000", LONG).await;
    let mut most = 0;
    while most < MOST {
        let seen = eventually(LIMIT, "the burst is answered", || async {
            let now = demo.stored("shop", "checkout").await;
            if now > most { Ok(now) } else { Err((now, demo.seen("shop/checkout").await)) }
        })
        .await;
        most = seen;
    }
    eventually(LIMIT, "the limit is named", || async {
        let seen = demo.seen("shop/checkout").await;
        let named = seen.text("/decision/reason") == "MaxScale" && seen.explained.contains("60");
        if named { Ok(()) } else { Err(seen) }
    })
    .await;
    always_for(SPAN, "it stays at the limit", || async {
        let now = demo.stored("shop", "checkout").await;
        if now == MOST { Ok(()) } else { Err(now) }
    })
    .await;
    demo.order("burst-1000", 0).await;
    let calm = |replicas: &i64| *replicas <= MOST_OF_THE_SALE;
    until(LIMIT, "it is over", calm, || demo.stored("shop", "checkout")).await;
}

async fn somebody_reverts(demo: &Demo) {
    demo.order("gitops-reverts", LONG).await;
    eventually(LIMIT, "who reverts is named", || async {
        let seen = demo.seen("shop/checkout").await;
        let contest = seen.target["contest"].clone();
        let named = contest["manager"] == "argocd-controller"
            && contest["reverts"].as_u64().is_some_and(|reverts| reverts >= 3)
            && contest["hint"].as_str().is_some_and(|hint| !hint.is_empty())
            && seen.explained.contains("argocd-controller");
        if named { Ok(()) } else { Err(seen) }
    })
    .await;
    // It writes more and more rarely, so whoever reverts has the last word for most of the time.
    until(LIMIT, "it gives way", |replicas| *replicas == 1, || demo.stored("shop", "checkout"))
        .await;
    demo.order("gitops-reverts", 0).await;
    let grown = |replicas: &i64| *replicas > 1;
    until(LIMIT, "it is raised again", grown, || demo.stored("shop", "checkout")).await;
    let lasts = demo.stored("shop", "checkout").await;
    always_for(SPAN, "it is not lowered while the fight is remembered", || async {
        let now = demo.stored("shop", "checkout").await;
        if now >= lasts { Ok(()) } else { Err(now) }
    })
    .await;
}
