//! The program in a consumer's pod: one consumer for each pod that runs, for as long as it runs.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::NAMESPACE;
use super::servers::{QueueApp, System};
use crate::support::table::PodTable;

/// The consumers of one Deployment; nobody follows its pods any more after this value.
#[derive(Debug)]
pub(super) struct Crew(JoinHandle<()>);

impl Drop for Crew {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Crew {
    /// Starts a consumer whenever a pod becomes ready, and ends it when the pod is being deleted.
    pub(super) fn follow(
        table: &PodTable,
        app: &QueueApp,
        system: System,
        name: &str,
        service: Duration,
        prefetch: u32,
    ) -> Self {
        let (table, app, name) = (table.clone(), app.clone(), name.to_owned());
        Self(tokio::spawn(async move {
            let mut changes = table.changes();
            let mut working = BTreeSet::new();
            loop {
                let ready: BTreeSet<_> =
                    table.ready(NAMESPACE, &name).into_iter().map(|pod| pod.name).collect();
                for pod in ready.difference(&working) {
                    app.consume(system, &name, pod, service, prefetch).await;
                }
                for pod in working.difference(&ready) {
                    app.stop(pod).await;
                }
                working = ready;
                if changes.changed().await.is_err() {
                    return;
                }
            }
        }))
    }
}
