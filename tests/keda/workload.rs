//! One of the story's workloads: waits for what the API server says of its replicas, and tells all that is
//! known when that does not come.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::stage::{LIMIT, NAMESPACE, Stage};
use crate::support::deployment::DeploymentRef;
use crate::support::wait::{always_for, eventually};

/// How long replicas stay before they count as settled: several polls and HPA syncs.
pub(crate) const CALM: Duration = Duration::from_secs(6);

/// A Deployment behind the gateway, and what the API server says of it.
pub(crate) struct Workload<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) name: String,
    pub(crate) deployment: DeploymentRef,
}

impl Workload<'_> {
    async fn replicas(&self) -> i32 {
        // The API server may be too busy for a moment, which says nothing of the replicas.
        eventually(LIMIT, "the API server says replicas", || self.deployment.replicas()).await
    }

    /// Waits until KEDA has made an HPA.
    pub(crate) async fn has_an_hpa(&self) {
        let arguments = ["get", "hpa", &format!("keda-hpa-{}", self.name), "-n", NAMESPACE];
        let started = Instant::now();
        while !self.stage.plane.try_kubectl(&arguments, "").await.status.success() {
            assert!(started.elapsed() < LIMIT, "KEDA makes no HPA: {}", self.story().await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub(crate) async fn reaches(&self, replicas: i32) {
        let started = Instant::now();
        while self.replicas().await != replicas {
            assert!(started.elapsed() < LIMIT, "not {replicas} replicas: {}", self.story().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the API server has said so for a while without a break.
    pub(crate) async fn settles(&self, replicas: i32) {
        let (mut right_since, started) = (None, Instant::now());
        loop {
            let seen = self.replicas().await;
            if seen == replicas {
                // Only what was seen right ends it, however long the machine slept between two looks.
                if right_since.get_or_insert_with(Instant::now).elapsed() >= CALM {
                    return;
                }
            } else {
                right_since = None;
                assert!(
                    started.elapsed() < LIMIT,
                    "{seen}, not {replicas}: {}",
                    self.story().await
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn stays(&self, replicas: i32, span: Duration) {
        always_for(span, &format!("{} keeps {replicas} replicas", self.name), || async {
            let seen = self.replicas().await;
            if seen == replicas { Ok(()) } else { Err(format!("{seen}; {}", self.story().await)) }
        })
        .await;
    }

    /// From now on KEDA waits so long before it goes to zero.
    pub(crate) async fn cools_down_for(&self, seconds: u32) {
        let patch = format!(r#"{{"spec":{{"cooldownPeriod":{seconds}}}}}"#);
        let arguments =
            ["patch", "scaledobject", &self.name, "-n", NAMESPACE, "--type=merge", "-p"];
        self.stage.plane.kubectl(&[&arguments[..], &[&patch]].concat()).await;
    }

    /// All that is known, for a failure's message.
    async fn story(&self) -> String {
        let plane = &self.stage.plane;
        let hpa = format!("keda-hpa-{}", self.name);
        let hpa = plane.try_kubectl(&["get", "hpa", &hpa, "-n", NAMESPACE, "-o=yaml"], "").await;
        let object = ["get", "scaledobject", &self.name, "-n", NAMESPACE, "-o=yaml"];
        let object = plane.try_kubectl(&object, "").await;
        format!(
            "{}\n{}\nKEDA's logs:\n{}",
            String::from_utf8_lossy(&hpa.stdout),
            String::from_utf8_lossy(&object.stdout),
            self.stage.keda.log_tail(6000)
        )
    }

    /// Notes all replicas that the API server tells of, from now on.
    pub(crate) fn watch_all(&self) -> Arc<Mutex<BTreeSet<i32>>> {
        let (all, deployment) = (Arc::new(Mutex::default()), self.deployment.clone());
        let noted: Weak<Mutex<BTreeSet<i32>>> = Arc::downgrade(&all);
        tokio::spawn(async move {
            while let Some(noted) = noted.upgrade() {
                if let Ok(replicas) = deployment.replicas().await {
                    noted.lock().insert(replicas);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        all
    }

    /// Nobody but KEDA and the HPA controller ever wrote its scale.
    pub(crate) async fn was_never_written_by_podswell(&self) {
        let deployment = self.deployment.get().await.expect("read a Deployment");
        let writers = deployment.metadata.managed_fields.unwrap_or_default();
        let writers: Vec<_> = writers.into_iter().filter_map(|entry| entry.manager).collect();
        let ours = writers.iter().any(|writer| writer == "podswell");
        assert!(!ours && !writers.is_empty(), "{writers:?}");
    }
}
