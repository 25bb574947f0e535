//! The Kubernetes side against a real API server, with exactly the rights of `deploy/`: what it reads,
//! how its writes end, and what a user then sees.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::events::v1::Event as ClusterEvent;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use parking_lot::RwLock;
use podswell::core::decision::Reason;
use podswell::core::defaults::ClusterDefaults;
use podswell::core::event::{Event, Notice, NoticeReason, WriteOutcome};
use podswell::core::problem::Problem;
use podswell::core::resolve::ProcessSettings;
use podswell::core::roster::Roster;
use podswell::core::source::{SourceFacts, SourceName};
use podswell::core::target::{PodCounts, TargetId};
use podswell::k8s::events::{self, EventWriter};
use podswell::k8s::lease::Leadership;
use podswell::k8s::scale::{self, ScaleQueue, ScaleWrite, ScaleWriter};
use podswell::k8s::watch::{self, ConfigReader, Watches};
use podswell::k8s::{self, Uids};
use podswell::runtime::clock::{Clock, SystemClock};
use podswell::runtime::engine_handle::EngineHandle;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::controlplane::{ControlPlane, Options};
use crate::support::deployment::{DeploymentRef, NewDeployment};
use crate::support::node::{Node, NodeOptions};
use crate::support::wait::{eventually, until};

const NAMESPACE: &str = "shop";
const SYSTEM: &str = "podswell-system";
const CLASS: &str = "autoscaling.knative.dev/class";
/// How long a state may take to come: generous, the machine may be busy, and after a restart of the API server
/// its clients wait for up to a minute until they try again.
const LIMIT: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kubernetes_side_works_with_the_rights_of_its_service_account() {
    let mut plane = ControlPlane::start(Options::default()).await;
    let manifests = podswell_manifests();
    plane.apply(&manifests).await;
    let kubeconfig = plane.kubeconfig_for_service_account(SYSTEM, "podswell").await;
    let client = k8s::connect(Some(&kubeconfig), None).await.expect("connect");
    writes_end_as_the_server_says(&plane, &client).await;
    events_show_on_the_deployment(&plane, &client).await;
    let watching = the_watches_follow_the_cluster(&plane, &client).await;
    watches_without_rights_say_so(&plane).await;
    watches_survive_the_api_server(&mut plane, watching).await;
}

/// The manifests without the controller itself: this test is the controller.
fn podswell_manifests() -> String {
    let text = include_str!("../../deploy/install.yaml");
    let parts = text.split("\n---\n").filter(|part| !part.contains("\nkind: Deployment\n"));
    parts.collect::<Vec<_>>().join("\n---\n")
}

fn web() -> TargetId {
    TargetId::deployment(NAMESPACE, "web")
}

struct Writer {
    queue: ScaleQueue,
    events: mpsc::Receiver<Event>,
    uids: Arc<Uids>,
    _stop: DropGuard,
}

impl Writer {
    fn start(client: &Client) -> Self {
        let (engine, events) = EngineHandle::channel();
        let uids = Arc::new(Uids::default());
        let writer = ScaleWriter::new(scale::Context {
            client: client.clone(),
            engine,
            clock: Arc::new(SystemClock::new()),
            leader: Arc::new(Leadership::endless()),
            uids: uids.clone(),
            observer: Arc::new(|_, _| {}),
        });
        let (queue, stop) = (writer.queue(), CancellationToken::new());
        tokio::spawn(writer.run(stop.clone()));
        Self { queue, events, uids, _stop: stop.drop_guard() }
    }

    async fn write(
        &mut self,
        from: i32,
        replicas: i32,
        version: &str,
    ) -> (WriteOutcome, Option<(i32, String)>) {
        self.queue.submit(ScaleWrite {
            target: web(),
            replicas,
            from,
            resource_version: version.into(),
            reason: Reason::StableDemand,
        });
        let Some(Event::ScaleWritten { outcome, .. }) = self.events.recv().await else {
            panic!("a write was not answered")
        };
        // What was stored follows in any case; that nothing follows can only be waited out.
        let follows = matches!(outcome, WriteOutcome::Written | WriteOutcome::Conflict);
        let limit = if follows { LIMIT } else { Duration::from_millis(200) };
        let seen = tokio::time::timeout(limit, self.events.recv()).await;
        let seen = seen.ok().flatten().map(|event| match event {
            Event::ReplicasObserved { replicas, resource_version, .. } => {
                (replicas, resource_version.to_string())
            }
            other => panic!("{other:?}"),
        });
        (outcome, seen)
    }
}

/// Something else than replicas changes, as every roll-out does all the time.
async fn touch_status(client: &Client) {
    let api: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = json!({"status": {"observedGeneration": 1, "conditions": [{
        "type": "Touched", "status": "True", "reason": "Test", "message": uuid(),
    }]}});
    let params = PatchParams::default();
    api.patch_status("web", &params, &Patch::Merge(&patch)).await.expect("touch the status");
}

fn uuid() -> String {
    SystemClock::new().wall().as_nanosecond().to_string()
}

async fn writes_end_as_the_server_says(plane: &ControlPlane, client: &Client) {
    let admin = plane.client();
    let made = NewDeployment::new(NAMESPACE, "web", 1).create(&admin).await;
    let deployment = DeploymentRef::new(&admin, NAMESPACE, "web");
    let mut writer = Writer::start(client);
    writer.uids.insert(web(), made.uid().expect("a uid").into());
    let api: Api<Deployment> = Api::namespaced(admin.clone(), NAMESPACE);
    let version = || async {
        let found = api.get("web").await.expect("read the Deployment");
        found.resource_version().expect("a version")
    };

    // The Deployment controller may write the status at any moment, so even this may need two tries.
    let (outcome, seen) = writer.write(1, 3, &version().await).await;
    assert_eq!(outcome, WriteOutcome::Written);
    let (replicas, newest) = seen.expect("what was stored");
    assert_eq!((replicas, deployment.replicas().await.ok()), (3, Some(3)));
    let managers = api.get("web").await.expect("read").managed_fields().to_vec();
    assert!(managers.iter().any(|entry| {
        entry.manager.as_deref() == Some("podswell")
            && entry.subresource.as_deref() == Some("scale")
    }));

    touch_status(&admin).await;
    let (outcome, seen) = writer.write(3, 5, &newest).await;
    assert_eq!(outcome, WriteOutcome::Written, "only the status had changed");
    let (_, stale) = seen.expect("what was stored");

    deployment.scale_to(2, "somebody").await.expect("scale");
    let (outcome, seen) = writer.write(5, 9, &stale).await;
    assert_eq!(outcome, WriteOutcome::Conflict);
    let (replicas, newest) = seen.expect("what is there instead");
    assert_eq!((replicas, deployment.replicas().await.ok()), (2, Some(2)), "nothing was written");

    let (outcome, seen) = writer.write(2, 0, &newest).await;
    assert_eq!((outcome, seen.map(|seen| seen.0)), (WriteOutcome::Written, Some(0)));

    let (outcome, _) = writer.write(0, -1, &version().await).await;
    assert!(matches!(outcome, WriteOutcome::Refused { status: 422, .. }), "{outcome:?}");

    let mut stranger = Writer::start(&plane.client_for_user("stranger", None).await);
    let (outcome, _) = stranger.write(0, 1, &version().await).await;
    assert!(matches!(outcome, WriteOutcome::Refused { status: 403, .. }), "{outcome:?}");

    api.delete("web", &DeleteParams::default()).await.expect("delete");
    until(LIMIT, "the Deployment is gone", Option::is_none, || async {
        api.get_opt("web").await.expect("look")
    })
    .await;
    let mut writer = Writer::start(client);
    assert_eq!(writer.write(0, 1, &newest).await, (WriteOutcome::Gone, None));
}

async fn events_show_on_the_deployment(plane: &ControlPlane, client: &Client) {
    let made = NewDeployment::new(NAMESPACE, "web", 1).create(&plane.client()).await;
    let uids = Arc::new(Uids::default());
    uids.insert(web(), made.uid().expect("a uid").into());
    let clock = Arc::new(SystemClock::new());
    let at = clock.now();
    let (queue, writer) = EventWriter::new(events::Context {
        client: client.clone(),
        clock,
        leader: Arc::new(Leadership::endless()),
        uids,
        instance: "podswell-test".to_owned(),
    });
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    tokio::spawn(writer.run(stop));
    for (reason, note) in [
        (NoticeReason::ScaledUp, "1 → 3 replicas, because of 27.5 in flight"),
        (NoticeReason::ScaledUp, "3 → 4 replicas, because of 31.2 in flight"),
        (NoticeReason::InvalidAnnotation, "a\u{1b}[31m bad value"),
        (NoticeReason::InvalidAnnotation, "a\u{1b}[31m bad value"),
    ] {
        queue.announce(web(), Notice { at, reason, note: note.to_owned() });
    }
    until(
        LIMIT,
        "four notices",
        |written| *written == 4,
        || async {
            assert_eq!(queue.counts().failed.load(Ordering::Relaxed), 0);
            queue.counts().written.load(Ordering::Relaxed)
        },
    )
    .await;
    let described = plane.kubectl(&["describe", "deployment", "web", "-n", NAMESPACE]).await;
    for wanted in ["31.2 in flight", "27.5 in flight", "InvalidAnnotation", "podswell"] {
        assert!(described.contains(wanted), "{wanted} in\n{described}");
    }
    let api: Api<ClusterEvent> = Api::namespaced(plane.client(), NAMESPACE);
    let ours = ListParams::default().fields("reportingController=podswell");
    let stored = api.list(&ours).await.expect("list events").items;
    assert_eq!(stored.len(), 3);
    let counts: Vec<_> = stored.iter().filter_map(|event| event.series.as_ref()).collect();
    assert_eq!(counts.iter().map(|series| series.count).collect::<Vec<_>>(), [2]);
}

/// Takes ConfigMaps as they are: their meaning is tested elsewhere.
struct Reader;

impl ConfigReader for Reader {
    fn defaults(&mut self, data: &BTreeMap<String, String>) -> Result<ClusterDefaults, String> {
        ClusterDefaults::parse(data).map_err(|error| error.to_string())
    }

    fn process(&mut self, _: &BTreeMap<String, String>) -> Result<ProcessSettings, String> {
        Ok(ProcessSettings::default())
    }

    fn asks_for_freeze(&self, _: &BTreeMap<String, String>) -> bool {
        false
    }

    fn sources(
        &mut self,
        _: &BTreeMap<String, String>,
    ) -> (BTreeMap<SourceName, SourceFacts>, Vec<Problem>) {
        (BTreeMap::new(), Vec::new())
    }
}

/// The watches, and what they told of the one target.
struct Watching {
    events: mpsc::Receiver<Event>,
    health: Arc<watch::WatchHealth>,
    roster: Arc<RwLock<Roster>>,
    seen: Picture,
    _stop: DropGuard,
}

/// The target as the events paint it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Picture {
    target_value: f64,
    problems: Vec<String>,
    replicas: Option<i32>,
    newly_created: bool,
    pods: PodCounts,
    rivals: Vec<String>,
}

impl Watching {
    fn start(client: &Client) -> Self {
        let (engine, events) = EngineHandle::channel();
        let roster = Arc::<RwLock<Roster>>::default();
        let context = watch::Context {
            client: client.clone(),
            namespace: SYSTEM.to_owned(),
            engine,
            roster: roster.clone(),
            scaled_objects: Arc::default(),
            uids: Arc::default(),
            clock: Arc::new(SystemClock::new()),
            reader: Box::new(Reader),
            triggers: podswell::runtime::trigger_desk::TriggerDesk::channel().1,
        };
        let watches = Watches::new(context, ProcessSettings::default());
        let (health, stop) = (watches.health(), CancellationToken::new());
        tokio::spawn(watches.run(stop.clone()));
        let seen = Picture::default();
        Self { events, health, roster, seen, _stop: stop.drop_guard() }
    }

    /// Reads events until the picture of `shop/web` is as wanted.
    async fn wait(&mut self, what: &str, wanted: impl Fn(&Picture) -> bool) {
        let reading = async {
            while !wanted(&self.seen) {
                let event = self.events.recv().await.expect("the watches run");
                paint(&mut self.seen, event);
            }
        };
        let ended = tokio::time::timeout(LIMIT, reading).await;
        assert!(ended.is_ok(), "not seen: {what}; but {:#?}", self.seen);
    }
}

fn paint(seen: &mut Picture, event: Event) {
    match event {
        Event::TargetApplied { target, config } if target == web() => {
            seen.target_value = config.spec.target;
            seen.problems =
                config.problems.iter().map(|problem| problem.code.as_str().to_owned()).collect();
        }
        Event::TargetDeleted { target } if target == web() => *seen = Picture::default(),
        Event::ReplicasObserved { target, replicas, newly_created, .. } if target == web() => {
            seen.replicas = Some(replicas);
            seen.newly_created |= newly_created;
        }
        Event::PodsObserved { target, pods } if target == web() => seen.pods = pods,
        Event::RivalsObserved { target, rivals } if target == web() => {
            seen.rivals = rivals.into_iter().map(|rival| rival.name).collect();
        }
        _ => {}
    }
}

async fn the_watches_follow_the_cluster(plane: &ControlPlane, client: &Client) -> Watching {
    let node = Node::start(plane.client(), NodeOptions::default());
    let mut watching = Watching::start(client);
    watching.health.subscribe().wait_for(|synced| *synced).await.expect("synced");
    let set = |value: &'static str| async move {
        let value = format!("autoscaling.knative.dev/target={value}");
        let class = format!("{CLASS}=kpa.podswell.dev");
        plane
            .kubectl(&["annotate", "-n", NAMESPACE, "--overwrite", "deploy/web", &class, &value])
            .await;
    };
    set("10").await;
    watching.wait("an old Deployment that asks for us", |seen| seen.replicas == Some(1)).await;
    watching.wait("its pod", |seen| seen.pods.ready == 1).await;
    assert!(!watching.seen.newly_created);
    let before = watching.seen.target_value;
    set("20").await;
    watching.wait("the new value", |seen| seen.target_value > before).await;

    // A rolling update: old and new pods count, for as long as the new ones start.
    node.set_options(|options| options.start_delay = Duration::from_secs(1));
    let admin = DeploymentRef::new(&plane.client(), NAMESPACE, "web");
    admin.scale_to(3, "test").await.expect("scale");
    watching.wait("three pods", |seen| seen.pods.ready == 3).await;
    plane.kubectl(&["set", "image", "-n", NAMESPACE, "deploy/web", "app=example.com/app:2"]).await;
    watching
        .wait("more pods than replicas", |seen| seen.pods.ready + seen.pods.not_ready > 3)
        .await;
    watching
        .wait("three pods again", |seen| {
            seen.pods == PodCounts { ready: 3, ..PodCounts::default() }
        })
        .await;
    let roster = watching.roster.clone();
    eventually(LIMIT, "three new pods with addresses", || {
        let pods = roster.read().get(&web()).map(|entry| entry.pods.clone());
        async move {
            let pods = pods.ok_or("not enrolled")?;
            let good = pods.len() == 3 && pods.iter().all(|pod| pod.ready && pod.ip.is_some());
            if good { Ok(()) } else { Err("some are missing") }
        }
    })
    .await;

    rivals_and_settings(plane, &mut watching).await;

    plane.kubectl(&["delete", "-n", NAMESPACE, "deploy/web", "--wait=true"]).await;
    watching.wait("the target is gone", |seen| seen.replicas.is_none()).await;
    NewDeployment::new(NAMESPACE, "web", 1)
        .annotation(CLASS, "kpa.podswell.dev")
        .create(&plane.client())
        .await;
    watching.wait("a new one", |seen| seen.newly_created).await;
    drop(node);
    watching
}

async fn rivals_and_settings(plane: &ControlPlane, watching: &mut Watching) {
    plane.kubectl(&["autoscale", "-n", NAMESPACE, "deploy/web", "--max=3", "--cpu=50%"]).await;
    watching.wait("the HPA", |seen| seen.rivals == ["web"]).await;
    plane.kubectl(&["delete", "-n", NAMESPACE, "hpa/web"]).await;
    watching.wait("no HPA", |seen| seen.rivals.is_empty()).await;

    let config = |data: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config-autoscaler, \
             namespace: {SYSTEM}}}\ndata: {data}\n"
        )
    };
    let invalid = |seen: &Picture| seen.problems.iter().any(|code| code == "InvalidConfigMap");
    plane.apply(&config("{max-scale-up-rate: '-3'}")).await;
    watching.wait("a bad ConfigMap", invalid).await;
    plane.apply(&config("{max-scale-up-rate: '3'}")).await;
    watching.wait("a good ConfigMap", |seen| !invalid(seen)).await;
}

async fn watches_without_rights_say_so(plane: &ControlPlane) {
    let watching = Watching::start(&plane.client_for_user("stranger", None).await);
    let faults = || async {
        let states = watching.health.states();
        states.values().filter(|state| state.fault == Some("Forbidden")).count()
    };
    until(LIMIT, "nine faults", |faults| *faults == 9, faults).await;
    assert!(!watching.health.is_synced());
    assert_eq!(watching.health.unsynced().len(), 8);
}

async fn watches_survive_the_api_server(plane: &mut ControlPlane, mut watching: Watching) {
    plane.kill_apiserver();
    let health = watching.health.clone();
    let faults =
        || async { health.states().values().filter(|state| state.fault.is_some()).count() };
    until(LIMIT, "faults", |faults| *faults > 0, faults).await;
    assert!(watching.roster.read().get(&web()).is_some(), "nothing is forgotten meanwhile");
    plane.start_apiserver().await;
    plane.kubectl(&["scale", "-n", NAMESPACE, "deploy/web", "--replicas=7"]).await;
    watching.wait("what changed since", |seen| seen.replicas == Some(7)).await;
    assert!(watching.health.is_synced());
}
