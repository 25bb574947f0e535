//! What the user orders for the time in which nothing is heard: an order is carried out when its time has
//! come and not before, and whoever gave none keeps what runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;

use super::{CALM, LIMIT, NAMESPACE, Scene, backlog};
use crate::support::deployment::DeploymentRef;
use crate::support::wait::{settles, until};

const ON_MISSING: &str = "podswell.dev/on-missing";
/// What the orders below wait for.
const AFTER: Duration = Duration::from_secs(20);
/// By how much the newest sample may be older than the last time at which the page was read: it bears the time at
/// which Prometheus began to ask, and on a busy machine that has given up after a second when the page is read.
const ASKING: Duration = Duration::from_secs(6);
/// What each of them has while its jobs are heard, and what a person sets after an order.
const HEARD: i32 = 4;
const BY_HAND: i32 = 3;

/// A name, the order, and the replicas that it comes to.
const ORDERS: [(&str, Option<&str>, i32); 4] = [
    ("silent", None, HEARD),
    ("holds", Some("hold"), HEARD),
    ("lowers", Some("2 after 20s"), 2),
    ("raises", Some("at least 6 after 20s"), 6),
];

/// A workload with jobs for [`HEARD`] pods.
struct Missing<'a> {
    scene: &'a Scene,
    name: &'static str,
    ordered: i32,
    deployment: DeploymentRef,
    fewest: Option<Arc<AtomicI32>>,
}

/// All of them.
pub(super) struct Orders<'a>(Vec<Missing<'a>>);

impl<'a> Orders<'a> {
    pub(super) async fn create(scene: &'a Scene) -> Self {
        let mut all = Vec::new();
        for (name, order, ordered) in ORDERS {
            scene.jobs.set(&series(name), 40);
            let mut new = backlog(name, "jobs", HEARD);
            if let Some(order) = order {
                new = new.annotation(ON_MISSING, order);
            }
            new.create(&scene.plane.client()).await;
            let deployment = scene.deployment(name);
            all.push(Missing { scene, name, ordered, deployment, fewest: None });
        }
        Self(all)
    }

    /// The jobs are heard, and have their pods.
    pub(super) async fn decide(&mut self) {
        join_all(self.0.iter().map(Missing::is_heard)).await;
        for missing in &mut self.0 {
            missing.fewest = Some(missing.deployment.watch_the_fewest());
        }
    }

    /// The jobs are not heard any more.
    pub(super) async fn are_carried_out(&self) {
        join_all(self.0.iter().map(Missing::does_as_told)).await;
        // A number that somebody sets after that stands, and those without an order still wait.
        let [.., lowers, _] = &self.0[..] else { panic!("four workloads") };
        lowers.deployment.scale_to(BY_HAND, "somebody").await.expect("scale by hand");
        join_all(self.0.iter().map(|missing| async {
            let by_hand = missing.name == "lowers";
            missing.settles(if by_hand { BY_HAND } else { missing.ordered }).await;
            let fewest = missing.fewest.as_ref().expect("watched").load(Ordering::Relaxed);
            let allowed = missing.ordered.min(HEARD);
            assert!(fewest >= allowed, "{}: {fewest} while nothing was heard", missing.name);
        }))
        .await;
    }

    /// They are heard again.
    pub(super) async fn are_over(&self) {
        join_all(self.0.iter().map(Missing::is_heard)).await;
    }
}

impl Missing<'_> {
    async fn is_heard(&self) {
        let fresh = |status: &Value| status["decision"]["signal"]["state"] == "fresh";
        until(LIMIT, self.name, fresh, || self.status()).await;
        self.settles(HEARD).await;
    }

    /// Until its order is due the replicas stay, and the reason is shown; then the order has its own one.
    async fn does_as_told(&self) {
        let lost = |status: &Value| status["decision"]["reason"] == "SignalLost";
        let seen = until(LIMIT, self.name, lost, || self.status()).await;
        assert_eq!(seen["decision"]["bounded"], HEARD, "{}: {seen}", self.name);
        if self.ordered == HEARD {
            return;
        }
        let changed = until(
            LIMIT,
            "the order is carried out",
            |replicas: &i32| *replicas != HEARD,
            || async { self.deployment.replicas().await.unwrap_or(HEARD) },
        );
        let silent_for = || self.scene.jobs.last_read().elapsed();
        let (replicas, silence) = (changed.await, silent_for());
        assert_eq!(replicas, self.ordered, "{}", self.name);
        assert!(silence + ASKING >= AFTER, "{}: carried out after {silence:?}", self.name);
        let done = |status: &Value| {
            let decision = &status["decision"];
            decision["reason"] == "OnMissing" && decision["replicas"] == self.ordered
        };
        let seen = until(LIMIT, "the order is named, and done", done, || self.status()).await;
        let age = seen["decision"]["signal"]["ageSeconds"].as_f64().expect("an age");
        assert!(age >= AFTER.as_secs_f64(), "{}: {seen}", self.name);
        assert!(self.scene.podswell.explain(NAMESPACE, self.name).contains("on-missing"));
    }

    async fn settles(&self, replicas: i32) {
        let seen = async || self.deployment.replicas().await.unwrap_or(-1);
        settles(LIMIT, CALM, self.name, replicas, seen).await;
    }

    async fn status(&self) -> Value {
        self.scene.podswell.target(NAMESPACE, self.name).await
    }
}

fn series(name: &str) -> String {
    format!("jobs_waiting{{deployment=\"{name}\"}}")
}
