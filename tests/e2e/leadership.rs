//! Two processes in one cluster: one writes, the other one stands by and answers as the writer does, and
//! whatever becomes of the holder, or of the lease under somebody's hands, nothing is lowered and nothing is
//! written twice.

use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::Value;
use tokio::select;

use crate::support::controlplane::{ControlPlane, Options};
use crate::support::deployment::{DeploymentRef, NewDeployment};
use crate::support::load::{Level, Load, LoadOptions};
use crate::support::node::{Node, NodeOptions};
use crate::support::podswell::Podswell;
use crate::support::ports::free_ports;
use crate::support::wait::{always_for, eventually, settles, until};

/// How long a state may take to come: generous, the machine may be busy.
const LIMIT: Duration = Duration::from_secs(180);
/// How long replicas stay before they count as settled: longer than the window.
const CALM: Duration = Duration::from_secs(15);
const INSTALL: &str = include_str!("../../deploy/install.yaml");
const NAMESPACE: &str = "shop";
const SYSTEM: &str = "podswell-system";

struct Scene {
    plane: ControlPlane,
    node: Node,
    deployment: DeploymentRef,
}

impl Scene {
    async fn start() -> Self {
        let plane = ControlPlane::start(Options::default()).await;
        let options = NodeOptions {
            start_delay: Duration::from_millis(500),
            termination: Duration::from_millis(500),
            ..NodeOptions::default()
        };
        let node = Node::start(plane.client(), options);
        plane.apply(INSTALL).await;
        NewDeployment::new(NAMESPACE, "web", 1).managed().create(&plane.client()).await;
        let deployment = DeploymentRef::new(&plane.client(), NAMESPACE, "web");
        Self { plane, node, deployment }
    }

    async fn podswell(&self) -> Podswell {
        let kubeconfig = self.plane.kubeconfig_for_service_account(SYSTEM, "podswell").await;
        let [port] = free_ports();
        let peer = ["--peer-listen", &format!("127.0.0.1:{port}")];
        Podswell::start(self.plane.folder(), &kubeconfig, &peer).await
    }

    async fn lease(&self) -> Lease {
        self.try_lease().await.expect("read the lease")
    }

    async fn try_lease(&self) -> kube::Result<Lease> {
        let leases: Api<Lease> = Api::namespaced(self.plane.client(), SYSTEM);
        leases.get("podswell").await
    }

    async fn transitions(&self) -> i32 {
        self.lease().await.spec.and_then(|spec| spec.lease_transitions).unwrap_or(-1)
    }

    /// Waits until the API server has said so for `span` without a break.
    async fn settles(&self, replicas: i32, span: Duration) {
        let seen = async || self.deployment.replicas().await.unwrap_or(-1);
        settles(LIMIT, span, "the replicas of web", replicas, seen).await;
    }

    async fn stays(&self, replicas: i32, span: Duration) {
        always_for(span, &format!("web keeps {replicas} replicas"), || async {
            match self.deployment.replicas().await {
                Ok(seen) if seen != replicas => Err(seen),
                // No answer is none of podswell's doing.
                _ => Ok(()),
            }
        })
        .await;
    }
}

async fn leads(podswell: &Podswell) {
    let status = || podswell.get("/v1/status");
    until(LIMIT, "it leads", |status: &Value| status["leader"] == true, status).await;
}

/// Waits until it says that `holder` holds the lease and that it does not lead itself.
async fn stands_by(podswell: &Podswell, holder: &str) {
    let what = format!("it stands by for {holder}");
    let wanted = |status: &Value| status["leader"] == false && status["lease"]["holder"] == holder;
    until(LIMIT, &what, wanted, || podswell.get("/v1/status")).await;
    let is_counted = |metrics: &String| metrics.contains("\npodswell_leader 0\n");
    until(LIMIT, &what, is_counted, || podswell.metrics()).await;
}

async fn identity(podswell: &Podswell) -> String {
    let status = podswell.get("/v1/status").await;
    status["lease"]["identity"].as_str().expect("an identity").to_owned()
}

/// How many writes of the scale it tried, whatever came of them.
async fn tried(podswell: &Podswell) -> f64 {
    let metrics = podswell.metrics().await;
    let lines = metrics.lines().filter(|line| line.starts_with("podswell_scale_writes_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_writes_and_another_takes_over() {
    let scene = Scene::start().await;
    let mut first = scene.podswell().await;
    leads(&first).await;
    let mut second = scene.podswell().await;
    stands_by(&second, &identity(&first).await).await;
    let load = Load::start(scene.node.table(), LoadOptions::new(NAMESPACE, "web"), Level::Held(34));
    scene.settles(5, CALM).await;
    assert!(tried(&first).await > 0.0 && tried(&second).await < 1.0, "only the holder writes");
    answers_alike(&first, &second, 5).await;
    let fewest = scene.deployment.watch_the_fewest();

    terminated(&scene, &mut first, &second).await;
    // The heir is warm: a higher load is answered.
    load.set(Level::Held(61));
    scene.settles(9, CALM).await;

    first.restart().await;
    stands_by(&first, &identity(&second).await).await;
    answers_alike(&second, &first, 9).await;
    second.kill();
    leads(&first).await;
    assert_eq!(scene.transitions().await, 2);
    scene.stays(9, Duration::from_secs(20)).await;
    load.set(Level::Held(75));
    scene.settles(11, CALM).await;

    second.restart().await;
    stands_by(&second, &identity(&first).await).await;
    frozen(&scene, &first, &second, &load).await;
    select! {
        () = edited(&scene, [&first, &second]) => {}
        () = never_both([&first, &second]) => {}
        () = scene.stays(15, Duration::MAX) => {}
    }
    load.set(Level::Held(124));
    let seen = async || scene.deployment.replicas().await.unwrap_or(-1);
    until(LIMIT, "a higher load has its pods", |seen| *seen >= 18, seen).await;
    assert_eq!(fewest.load(Ordering::Relaxed), 5, "nothing was ever lowered");
}

/// SIGTERM: the holder leaves the lease to the other one.
async fn terminated(scene: &Scene, holder: &mut Podswell, heir: &Podswell) {
    let before = identity(holder).await;
    assert!(holder.terminate().await, "exit code 0:\n{}", holder.log_tail(4000));
    let spec = scene.lease().await.spec.expect("a spec");
    assert_ne!(spec.holder_identity.as_deref(), Some(&*before), "released before the end");
    leads(heir).await;
    assert_eq!(scene.transitions().await, 1);
    scene.stays(5, Duration::from_secs(15)).await;
}

/// A holder that stops in the middle of its work, and goes on when another one holds the lease.
async fn frozen(scene: &Scene, holder: &Podswell, heir: &Podswell, load: &Load) {
    let tried_before = tried(holder).await;
    holder.signal("STOP");
    leads(heir).await;
    assert_eq!(scene.transitions().await, 3);
    load.set(Level::Held(103));
    // The load that is spread anew counts twice for a moment, so the first 15 may not be the last.
    scene.settles(15, CALM).await;
    holder.signal("CONT");
    stands_by(holder, &identity(heir).await).await;
    scene.stays(15, Duration::from_secs(15)).await;
    stands_by(holder, &identity(heir).await).await;
    let tried_after = tried(holder).await;
    assert!((tried_after - tried_before).abs() < 0.5, "{tried_before} then {tried_after}");
    assert_eq!(scene.transitions().await, 3, "it does not take the lease back");
}

/// Whoever is asked, the answer is the holder's, who alone knows of a write.
async fn answers_alike(holder: &Podswell, standby: &Podswell, written: i32) {
    let web = format!("/v1/targets/{NAMESPACE}/web");
    let paths = ["/v1/targets", &web, &format!("{web}/history")];
    for path in paths {
        let what = format!("both answer {path} alike");
        eventually(LIMIT, &what, || async {
            let (ours, theirs) = (standby.get(path).await, holder.get(path).await);
            let alike = ours == theirs && !ours.is_null();
            if alike { Ok(()) } else { Err((ours, theirs)) }
        })
        .await;
    }
    // On a busy machine the holder may not answer in time, and the other one knows of no write.
    let told = |status: &Value| status["lastWrite"]["replicas"] == written;
    until(LIMIT, "the last write is told", told, || standby.get(&web)).await;
    assert_eq!(standby.get(&format!("/v1/targets/{NAMESPACE}/nobody")).await, Value::Null);
    let asked = async |of: &Podswell| [of.list(&["-o", "wide"]), of.explain(NAMESPACE, "web")];
    eventually(LIMIT, "both tell the same", || async {
        let (ours, theirs) = (asked(standby).await, asked(holder).await);
        let alike = ours == theirs && ours.iter().all(|text| text.contains("web"));
        if alike { Ok(()) } else { Err((ours, theirs)) }
    })
    .await;
}

/// What somebody writes into the lease, and the line of the log that says so.
const EDITS: [(&str, &str); 5] = [
    (r#"{"holderIdentity": null}"#, "holderIdentity is gone though nobody released it"),
    (r#"{"leaseDurationSeconds": 2147483647}"#, "leaseDurationSeconds is absurd"),
    (r#"{"holderIdentity": "somebody", "leaseDurationSeconds": 6}"#, "holder=\"somebody\""),
    // Times are for people, and this one is a time; the next one is none for podswell.
    (r#"{"renewTime": "2999-01-01T00:00:00.000000Z"}"#, ""),
    (r#"{"renewTime": "9999-12-31T23:59:59.999999Z"}"#, "nonsense"),
];
/// What the API server does not let anybody write.
const REFUSED: [&str; 3] = [
    r#"{"leaseDurationSeconds": 0}"#,
    r#"{"leaseDurationSeconds": -5}"#,
    r#"{"leaseTransitions": -1}"#,
];

/// Somebody edits the lease: each time the log has one line for it, and one of the two holds it again.
async fn edited(scene: &Scene, pair: [&Podswell; 2]) {
    for spec in REFUSED {
        assert!(!edit(scene, spec).await, "{spec} is accepted");
    }
    let names = [identity(pair[0]).await, identity(pair[1]).await];
    for (spec, line) in EDITS {
        let before = pair.map(|of| log(of).len());
        assert!(edit(scene, spec).await, "{spec} is refused");
        eventually(LIMIT, &format!("the lease is mended after {spec}"), || async {
            let lease = scene.try_lease().await.map_err(|error| error.to_string())?;
            let spec = lease.spec.unwrap_or_default();
            let holder = spec.holder_identity.clone().unwrap_or_default();
            let ours = names.contains(&holder) && spec.lease_duration_seconds == Some(4);
            let present = spec.renew_time.as_ref().is_some_and(|at| at.0 < far());
            if ours && present { Ok(()) } else { Err(format!("{spec:?}")) }
        })
        .await;
        eventually(LIMIT, &format!("one leads after {spec}"), || async {
            let [first, second] = [leading(pair[0]).await, leading(pair[1]).await];
            if first.is_some() == second.is_none() { Ok(()) } else { Err((first, second)) }
        })
        .await;
        if line.is_empty() {
            continue;
        }
        let said = async || [0, 1].map(|of| log(pair[of])[before[of]..].matches(line).count());
        let said = until(LIMIT, line, |said| said.contains(&1), said).await;
        assert!(said.iter().all(|times| *times <= 1), "{spec}: {line}: {said:?}");
    }
}

/// Applies a merge patch to the lease's spec as an administrator; whether it was accepted.
async fn edit(scene: &Scene, spec: &str) -> bool {
    let patch = format!(r#"{{"spec": {spec}}}"#);
    let patch = ["patch", "lease", "podswell", "-n", SYSTEM, "--type=merge", "-p", &patch];
    scene.plane.try_kubectl(&patch, "").await.status.success()
}

fn far() -> jiff::Timestamp {
    "2900-01-01T00:00:00Z".parse().expect("a time")
}

fn log(podswell: &Podswell) -> String {
    std::fs::read_to_string(podswell.log_path()).expect("its log")
}

/// How often the lease had changed hands when this process last read it, if it leads.
async fn leading(podswell: &Podswell) -> Option<i64> {
    let status = podswell.get("/v1/status").await;
    status["lease"]["transitions"].as_i64().filter(|_| status["leader"] == true)
}

/// Looks for a moment at which both lead: the second one between two looks at the first one, which did not
/// lose the lead in between, as the lease did not change hands. What a process says of itself may be old on
/// a busy machine, by less than a second, so that many such moments in a row count.
async fn never_both(pair: [&Podswell; 2]) {
    let mut in_a_row = 0;
    while in_a_row < 20 {
        let before = leading(pair[0]).await;
        let other = leading(pair[1]).await;
        let both = before.is_some() && other.is_some() && before == leading(pair[0]).await;
        in_a_row = if both { in_a_row + 1 } else { 0 };
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("both lead");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_overlay_for_two_processes_is_accepted() {
    let plane = ControlPlane::start(Options::default()).await;
    plane.apply(INSTALL).await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/overlays/ha");
    let manifests = plane.kubectl(&["kustomize", folder]).await;
    plane.apply(&manifests).await;
    let read = async |kind: &str, path: &str| {
        plane.kubectl(&["get", kind, "podswell", "-n", SYSTEM, "-o", path]).await
    };
    let spec = "jsonpath={.spec.replicas} {.spec.strategy.type}";
    assert_eq!(read("deployment", spec).await, "2 RollingUpdate");
    assert_eq!(read("pdb", "jsonpath={.spec.minAvailable}").await, "1");
    let apart = "jsonpath={.spec.template.spec.affinity.podAntiAffinity..topologyKey}";
    assert_eq!(read("deployment", apart).await, "kubernetes.io/hostname");
    let ready = "jsonpath={.spec.template.spec.containers[*].readinessProbe.httpGet.path}";
    assert_eq!(read("deployment", ready).await, "/readyz");
    // Of the leases of its namespace only its own one is podswell's.
    let user = "--as=system:serviceaccount:podswell-system:podswell";
    for (verb, name, answer) in
        [("update", "podswell", "yes"), ("update", "other", "no"), ("delete", "podswell", "no")]
    {
        let lease = format!("leases.coordination.k8s.io/{name}");
        let asked = ["auth", "can-i", verb, &lease, "-n", SYSTEM, user];
        let output = plane.try_kubectl(&asked, "").await;
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), answer, "{verb} {name}");
    }
}
