use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::super::testing::{Asked, CLASS, HandClock, Journal, Reply, api_server, toy_resolver};
use super::*;
use crate::core::event::Event;
use crate::core::policy::Mode;
use crate::core::target::TargetId;

const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";
const REPLICASETS: &str = "/apis/apps/v1/replicasets";
const PODS: &str = "/api/v1/pods";
const HPAS: &str = "/apis/autoscaling/v2/horizontalpodautoscalers";
const SCALED_OBJECTS_PATH: &str = "/apis/keda.sh/v1alpha1/scaledobjects";
const NAMESPACES: &str = "/api/v1/namespaces";
const CONFIG_MAPS: &str = "/api/v1/namespaces/podswell-system/configmaps";

/// Understands a target value and a freeze; that is enough to see what is kept.
struct ToyReader;

impl ConfigReader for ToyReader {
    fn defaults(&mut self, data: &BTreeMap<String, String>) -> Result<ClusterDefaults, String> {
        let mut defaults = ClusterDefaults::default();
        if let Some(text) = data.get("target") {
            defaults.container_concurrency_target_default =
                text.parse().map_err(|_| format!("target {text:?} is not a number"))?;
        }
        Ok(defaults)
    }

    fn process(&mut self, data: &BTreeMap<String, String>) -> Result<ProcessSettings, String> {
        if data.contains_key("bad") {
            return Err("bad: unknown key".to_owned());
        }
        Ok(ProcessSettings { freeze: self.asks_for_freeze(data), ..ProcessSettings::default() })
    }

    fn asks_for_freeze(&self, data: &BTreeMap<String, String>) -> bool {
        data.get("freeze").is_some_and(|text| text == "true")
    }

    fn sources(
        &mut self,
        _: &BTreeMap<String, String>,
    ) -> (BTreeMap<SourceName, SourceFacts>, Vec<Problem>) {
        (BTreeMap::new(), Vec::new())
    }
}

struct Bench {
    events: mpsc::Receiver<Event>,
    health: Arc<WatchHealth>,
    roster: Arc<RwLock<Roster>>,
    scaled_objects: Arc<RwLock<ScaledObjects>>,
    uids: Arc<Uids>,
    clock: Arc<HandClock>,
    journal: Journal,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Bench {
    /// Watches a cluster whose API server answers with `answer`; what that leaves open is an empty list
    /// and a silent watch.
    fn new(answer: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::within(&[], answer)
    }

    /// The same in some namespaces only.
    fn within(
        namespaces: &[&str],
        answer: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let (client, journal) = api_server(move |asked| {
            let silent = || if is_watch(&asked) { Reply::watch(&[]) } else { list(&[]) };
            std::future::ready(answer(&asked).unwrap_or_else(silent))
        });
        let (engine, events) = EngineHandle::channel();
        let clock = Arc::new(HandClock::default());
        let scaled_objects = Arc::<RwLock<ScaledObjects>>::default();
        let (roster, uids) = (Arc::<RwLock<Roster>>::default(), Arc::<Uids>::default());
        let context = Context {
            client,
            namespace: "podswell-system".to_owned(),
            engine,
            roster: roster.clone(),
            scaled_objects: scaled_objects.clone(),
            uids: uids.clone(),
            clock: clock.clone(),
            reader: Box::new(ToyReader),
            triggers: crate::runtime::trigger_desk::TriggerDesk::channel().1,
        };
        let index = Index::with_resolver(Settings::default(), toy_resolver);
        let namespaces: Vec<_> = namespaces.iter().map(|name| (*name).to_owned()).collect();
        let watches = Watches::with_index(context, index).within(&namespaces);
        let (health, stop) = (watches.health(), CancellationToken::new());
        let task = tokio::spawn(watches.run(stop.clone()));
        Self { events, health, roster, scaled_objects, uids, clock, journal, stop, task }
    }

    async fn synced(&self) {
        self.health.subscribe().wait_for(|synced| *synced).await.unwrap();
    }

    /// The next events, as short words.
    async fn told(&mut self, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..count {
            told.push(match self.events.recv().await.unwrap() {
                Event::TargetApplied { target, config } => {
                    let frozen = if config.mode == Mode::Paused { " frozen" } else { "" };
                    let problems = config.problems.len();
                    format!("{target} applied {} {problems}{frozen}", config.spec.target)
                }
                Event::TargetDeleted { target } => format!("{target} deleted"),
                Event::PodsObserved { target, pods } => format!("{target} ready {}", pods.ready),
                Event::ReplicasObserved { target, replicas, newly_created, .. } => {
                    format!(
                        "{target} replicas {replicas}{}",
                        if newly_created { " new" } else { "" }
                    )
                }
                Event::RivalsObserved { target, rivals } => {
                    format!("{target} rivals {}", rivals.len())
                }
                other => format!("{other:?}"),
            });
        }
        told
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}

fn is_watch(asked: &Asked) -> bool {
    asked.query.contains("watch=true")
}

fn list(items: &[Value]) -> Reply {
    Reply::json(200, &json!({"metadata": {"resourceVersion": "100"}, "items": items}))
}

fn change(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

fn failure(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "no", "reason": "x", "code": code})
}

fn deployment(name: &str, version: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}"),
            "resourceVersion": version.to_string(), "annotations": {CLASS: "kpa.podswell.dev"}},
        "spec": {"replicas": 2, "selector": {}, "template": {}},
    })
}

fn replica_set() -> Value {
    json!({"metadata": {"namespace": "shop", "name": "web-1", "uid": "rs", "resourceVersion": "3",
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web",
            "uid": "uid-web", "controller": true}]}})
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": name, "resourceVersion": "4",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1",
                "uid": "rs", "controller": true}]},
        "status": {"phase": "Running", "podIP": "10.1.2.3",
            "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

#[tokio::test]
async fn nothing_is_told_before_everything_was_read_and_then_all_of_it() {
    let mut bench = Bench::new(|asked| match (asked.path.as_str(), is_watch(asked)) {
        (DEPLOYMENTS, false) => Some(list(&[deployment("web", 1)])),
        (REPLICASETS, false) => Some(list(&[replica_set()])),
        (PODS, false) => Some(list(&[pod("p1"), pod("p2")])),
        (DEPLOYMENTS, true) => Some(Reply::watch(&[change("ADDED", &deployment("later", 101))])),
        _ => None,
    });
    assert!(!bench.health.is_synced());
    bench.synced().await;
    let (of_web, later): (Vec<_>, Vec<_>) =
        bench.told(6).await.into_iter().partition(|line| line.starts_with("shop/web "));
    assert_eq!(of_web, ["shop/web applied 100 0", "shop/web ready 2", "shop/web replicas 2"]);
    assert_eq!(
        later,
        ["shop/later applied 100 0", "shop/later ready 0", "shop/later replicas 2 new"]
    );
    let web = TargetId::deployment("shop", "web");
    assert_eq!(bench.uids.get(&web).as_deref(), Some("uid-web"));
    assert_eq!(bench.roster.read().target_of_pod("shop", "p2"), Some(&web));
    assert!(bench.health.states().values().all(|state| state.fault.is_none()));
}

#[tokio::test]
async fn requests_ask_for_no_more_than_is_needed() {
    let bench = Bench::new(|_| None);
    bench.synced().await;
    let asked = bench.journal.lock().clone();
    let lists: Vec<_> = asked.iter().filter(|asked| !is_watch(asked)).collect();
    assert_eq!(lists.len(), 9);
    assert!(lists.iter().all(|asked| asked.query.contains("limit=500")));
    let of = |path| lists.iter().filter(move |asked| asked.path == path);
    assert!(of(PODS).all(|asked| asked.query.contains("status.phase%21%3DSucceeded")));
    let mut names: Vec<_> = of(CONFIG_MAPS).map(|asked| asked.query.clone()).collect();
    names.sort();
    for (query, name) in names.iter().zip([CONFIG_AUTOSCALER, CONFIG_PODSWELL, CONFIG_SOURCES]) {
        assert!(
            query.ends_with(&format!("fieldSelector=metadata.name%3D{name}"))
                || query.contains(&format!("fieldSelector=metadata.name%3D{name}&")),
            "{query}"
        );
    }
    assert_eq!([NAMESPACES, HPAS].map(|path| of(path).count()), [1, 1]);
}

#[tokio::test]
async fn a_forbidden_watch_is_named_and_the_others_go_on_after_a_while() {
    let mut bench = Bench::new(|asked| match (asked.path.as_str(), is_watch(asked)) {
        (HPAS, false) => Some(Reply::json(403, &failure(403))),
        (DEPLOYMENTS, false) => Some(list(&[deployment("web", 1)])),
        _ => None,
    });
    while bench.health.unsynced() != ["horizontalpodautoscalers"]
        || bench.health.states()["horizontalpodautoscalers"].fault.is_none()
    {
        tokio::task::yield_now().await;
    }
    let state = bench.health.states()["horizontalpodautoscalers"].clone();
    assert_eq!(state.fault, Some("Forbidden"));
    assert!(bench.events.try_recv().is_err(), "not yet");
    bench.clock.advance(15);
    let told = bench.told(3).await;
    assert_eq!(told, ["shop/web applied 100 0", "shop/web ready 0", "shop/web replicas 2"]);
    assert!(!bench.health.is_synced(), "so nothing is written");
}

fn of_namespace(namespace: &str, name: &str) -> Value {
    let mut object = deployment(name, 1);
    object["metadata"]["namespace"] = json!(namespace);
    object
}

fn namespace(name: &str, mode: &str) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": {"name": name, "annotations": {"podswell.dev/mode": mode}}})
}

#[tokio::test]
async fn named_namespaces_are_read_one_by_one_and_nothing_of_the_cluster() {
    let mut bench = Bench::within(&["blog", "shop"], |asked| match asked.path.as_str() {
        "/api/v1/namespaces/shop" => Some(Reply::json(200, &namespace("shop", "paused"))),
        "/api/v1/namespaces/blog" => Some(Reply::json(403, &failure(403))),
        "/apis/apps/v1/namespaces/shop/deployments" if !is_watch(asked) => {
            Some(list(&[of_namespace("shop", "web")]))
        }
        "/apis/apps/v1/namespaces/blog/deployments" if !is_watch(asked) => {
            Some(list(&[of_namespace("blog", "web")]))
        }
        _ => None,
    });
    bench.synced().await;
    let mut told = bench.told(6).await;
    told.retain(|line| line.contains("applied"));
    told.sort();
    assert_eq!(told, ["blog/web applied 100 0", "shop/web applied 100 0 frozen"]);
    let faults = bench.health.states().into_values().filter_map(|state| state.fault);
    assert_eq!(faults.count(), 0, "a namespace that may not be asked for is none");
    for asked in bench.journal.lock().iter() {
        assert!(asked.path.contains("/namespaces/"), "{}", asked.path);
    }
}

#[tokio::test]
async fn a_forbidden_namespace_holds_up_only_itself() {
    let may_read = Arc::new(AtomicBool::new(false));
    let granted = may_read.clone();
    let mut bench = Bench::within(&["blog", "shop"], move |asked| {
        let in_blog = asked.path.contains("/namespaces/blog/");
        let forbidden = in_blog && asked.path.ends_with("/horizontalpodautoscalers");
        match asked.path.rsplit_once('/') {
            _ if forbidden && !granted.load(Ordering::SeqCst) => {
                Some(Reply::json(403, &failure(403)))
            }
            Some((_, "deployments")) if !is_watch(asked) => {
                let namespace = if in_blog { "blog" } else { "shop" };
                Some(list(&[of_namespace(namespace, "web")]))
            }
            Some((_, "blog" | "shop")) => Some(Reply::json(404, &failure(404))),
            _ => None,
        }
    });
    let forbidden = ["horizontalpodautoscalers in blog"];
    while bench.health.unsynced() != forbidden
        || bench.health.states()[forbidden[0]].fault.is_none()
    {
        tokio::task::yield_now().await;
    }
    assert!(bench.events.try_recv().is_err() && !bench.health.is_synced(), "not yet");
    bench.clock.advance(15);
    bench.synced().await;
    let told = bench.told(3).await;
    assert_eq!(told, ["shop/web applied 100 0", "shop/web ready 0", "shop/web replicas 2"]);
    assert!(bench.events.try_recv().is_err(), "nothing of the other one");
    may_read.store(true, Ordering::SeqCst);
    let told = bench.told(3).await;
    assert_eq!(told, ["blog/web applied 100 0", "blog/web ready 0", "blog/web replicas 2"]);
}

#[tokio::test]
async fn without_any_namespace_nothing_is_written() {
    let bench = Bench::within(&["blog"], |asked| {
        let in_blog = asked.path.contains("/namespaces/blog/");
        in_blog.then(|| Reply::json(403, &failure(403)))
    });
    while bench.health.states().values().filter(|state| state.fault.is_some()).count() < 4 {
        tokio::task::yield_now().await;
    }
    bench.clock.advance(15);
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!bench.health.is_synced());
}

#[tokio::test]
async fn a_cluster_without_keda_is_complete_and_says_nothing_of_it() {
    let served = Arc::new(AtomicBool::new(false));
    let installed = served.clone();
    let bench = Bench::new(move |asked| match (asked.path.as_str(), is_watch(asked)) {
        (SCALED_OBJECTS_PATH, _) if !served.load(Ordering::SeqCst) => {
            Some(Reply::json(404, &failure(404)))
        }
        (SCALED_OBJECTS_PATH, false) => Some(list(&[json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
            "metadata": {"namespace": "shop", "name": "so", "resourceVersion": "5"},
            "spec": {"scaleTargetRef": {"name": "web"}, "triggers": []},
        })])),
        _ => None,
    });
    bench.synced().await;
    let state = bench.health.states()[SCALED_OBJECTS].clone();
    assert_eq!((state.synced, state.fault), (true, None));
    assert_eq!(bench.scaled_objects.read().iter().count(), 0);
    // KEDA is installed while podswell runs.
    installed.store(true, Ordering::SeqCst);
    while bench.scaled_objects.read().get("shop", "so").is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn scaled_objects_that_may_not_be_read_hold_up_nobody() {
    let bench = Bench::new(|asked| {
        (asked.path == SCALED_OBJECTS_PATH).then(|| Reply::json(403, &failure(403)))
    });
    bench.synced().await;
    assert_eq!(bench.health.states()[SCALED_OBJECTS].fault, Some("Forbidden"));
}

#[tokio::test]
async fn a_malformed_object_concerns_nobody_else() {
    let mut broken = deployment("broken", 1);
    broken["spec"]["replicas"] = json!("many");
    let mut bench = Bench::new(move |asked| match (asked.path.as_str(), is_watch(asked)) {
        (DEPLOYMENTS, false) => Some(list(&[broken.clone(), deployment("web", 1)])),
        (DEPLOYMENTS, true) => Some(Reply::watch(&[
            change("MODIFIED", &broken),
            change("DELETED", &deployment("web", 102)),
        ])),
        _ => None,
    });
    bench.synced().await;
    let state = loop {
        let state = bench.health.states()["deployments"].clone();
        if state.skipped == 2 {
            break state;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(state.fault, None);
    // The deletion behind it arrives.
    while !bench.roster.read().is_empty() {
        tokio::task::yield_now().await;
    }
    bench.stop.cancel();
    while let Some(event) = bench.events.recv().await {
        assert!(!format!("{event:?}").contains("broken"));
    }
}

#[tokio::test]
async fn a_gap_makes_a_new_list() {
    let lists = AtomicUsize::new(0);
    let mut bench = Bench::new(move |asked| match (asked.path.as_str(), is_watch(asked)) {
        (DEPLOYMENTS, false) => Some(match lists.fetch_add(1, Ordering::SeqCst) {
            0 => list(&[deployment("gone", 1), deployment("web", 1)]),
            _ => list(&[deployment("missed", 2), deployment("web", 1)]),
        }),
        (DEPLOYMENTS, true) if asked.query.contains("resourceVersion=100") => {
            Some(Reply::watch(&[change("ERROR", &failure(410))]))
        }
        _ => None,
    });
    bench.synced().await;
    bench.told(6).await;
    assert_eq!(
        bench.told(4).await,
        [
            "shop/gone deleted",
            "shop/missed applied 100 0",
            "shop/missed ready 0",
            "shop/missed replicas 2"
        ]
    );
    assert_eq!(bench.health.states()["deployments"].fault, None);
    assert!(bench.health.is_synced());
}

#[tokio::test]
async fn a_bad_config_map_leaves_the_last_good_one_in_force() {
    let config = |version: u32, target: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": "podswell-system", "name": CONFIG_AUTOSCALER,
                "resourceVersion": version.to_string()},
            "data": {"target": target}})
    };
    let mut bench = Bench::new(move |asked| {
        let of_config = asked.query.contains("metadata.name%3Dconfig-autoscaler");
        match (asked.path.as_str(), is_watch(asked)) {
            (DEPLOYMENTS, false) => Some(list(&[deployment("web", 1)])),
            (CONFIG_MAPS, false) if of_config => Some(list(&[config(1, "7")])),
            (CONFIG_MAPS, true) if of_config && asked.query.contains("resourceVersion=100") => {
                Some(Reply::watch(&[change("MODIFIED", &config(101, "seven"))]))
            }
            _ => None,
        }
    });
    bench.synced().await;
    let mut told = bench.told(3).await;
    if told[0].ends_with(" 0") {
        told = bench.told(1).await;
    }
    assert_eq!(told[0], "shop/web applied 7 1", "the old value, and a problem that says so");
}

#[tokio::test]
async fn a_freeze_counts_whatever_else_is_wrong_beside_it() {
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "podswell-system", "name": CONFIG_PODSWELL, "resourceVersion": "1"},
        "data": {"freeze": "true", "bad": "key"}});
    let mut bench = Bench::new(move |asked| {
        let of_config = asked.query.contains("metadata.name%3Dpodswell&")
            || asked.query.ends_with("metadata.name%3Dpodswell");
        match (asked.path.as_str(), is_watch(asked)) {
            (DEPLOYMENTS, false) => Some(list(&[deployment("web", 1)])),
            (CONFIG_MAPS, false) if of_config => Some(list(std::slice::from_ref(&config))),
            _ => None,
        }
    });
    bench.synced().await;
    let told = bench.told(3).await;
    assert_eq!(told[0], "shop/web applied 100 1 frozen");
}

#[tokio::test]
async fn a_config_map_that_goes_away_leaves_the_defaults() {
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "podswell-system", "name": CONFIG_AUTOSCALER, "resourceVersion": "101"},
        "data": {"target": "7"}});
    let (send, receive) = watch::channel(false);
    let mut bench = Bench::new(move |asked| {
        let of_config = asked.query.contains("metadata.name%3Dconfig-autoscaler");
        match (asked.path.as_str(), is_watch(asked)) {
            (DEPLOYMENTS, false) => Some(list(&[deployment("web", 1)])),
            (CONFIG_MAPS, false) if of_config => Some(list(std::slice::from_ref(&config))),
            (CONFIG_MAPS, true) if of_config => {
                let gone = change("DELETED", &config);
                Some(Reply::watch_when(receive.clone(), gone))
            }
            _ => None,
        }
    });
    bench.synced().await;
    assert_eq!(bench.told(3).await[0], "shop/web applied 7 0");
    send.send(true).unwrap();
    assert_eq!(bench.told(1).await, ["shop/web applied 100 0"]);
}

#[tokio::test]
async fn a_failure_that_does_not_come_again_is_forgotten() {
    let failures = AtomicUsize::new(0);
    let bench = Bench::new(move |asked| {
        let first = || failures.fetch_add(1, Ordering::SeqCst) == 0;
        (asked.path == PODS && is_watch(asked) && first()).then(|| Reply::json(500, &failure(500)))
    });
    bench.synced().await;
    let fault = || bench.health.states()["pods"].fault;
    while fault().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(fault(), Some("ServerError"));
    bench.clock.advance(121);
    while fault().is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(bench.health.is_synced());
}

#[tokio::test]
async fn the_task_ends_with_the_engine() {
    let mut bench = Bench::new(|asked| {
        (asked.path == DEPLOYMENTS && !is_watch(asked)).then(|| list(&[deployment("web", 1)]))
    });
    bench.events.close();
    (&mut bench.task).await.unwrap();
}
