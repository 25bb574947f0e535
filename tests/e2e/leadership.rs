//! Two processes in one cluster: one writes, the other one stands by, and whatever becomes of the holder
//! nothing is lowered and nothing is written twice.

use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::Value;

use crate::support::controlplane::{ControlPlane, Options};
use crate::support::deployment::{DeploymentRef, NewDeployment};
use crate::support::load::{Level, Load, LoadOptions};
use crate::support::node::{Node, NodeOptions};
use crate::support::podswell::Podswell;
use crate::support::wait::{always_for, settles, until};

/// How long a state may take to come: generous, the machine may be busy.
const LIMIT: Duration = Duration::from_secs(120);
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
        Podswell::start(self.plane.folder(), &kubeconfig, &[]).await
    }

    async fn lease(&self) -> Lease {
        let leases: Api<Lease> = Api::namespaced(self.plane.client(), SYSTEM);
        leases.get("podswell").await.expect("read the lease")
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
                Ok(seen) if seen == replicas => Ok(()),
                other => Err(format!("{other:?}")),
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
    let metrics = podswell.metrics().await;
    assert!(metrics.contains("\npodswell_leader 0\n"), "{metrics}");
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
    let fewest = scene.deployment.watch_the_fewest();

    terminated(&scene, &mut first, &second).await;
    // The heir is warm: a higher load is answered.
    load.set(Level::Held(61));
    scene.settles(9, CALM).await;

    first.restart().await;
    stands_by(&first, &identity(&second).await).await;
    second.kill();
    leads(&first).await;
    assert_eq!(scene.transitions().await, 2);
    scene.stays(9, Duration::from_secs(20)).await;
    load.set(Level::Held(75));
    scene.settles(11, CALM).await;

    second.restart().await;
    stands_by(&second, &identity(&first).await).await;
    frozen(&scene, &first, &second, &load).await;
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
