//! What all runs share: a cluster, its pods, two Prometheus servers, the ledger.

use std::path::PathBuf;
use std::time::Duration;

use kube::Client;
use tokio::sync::{Mutex, RwLock};

use crate::ledger::Ledger;
use crate::support::controlplane::{ControlPlane, Options};
use crate::support::node::{Node, NodeOptions};
use crate::support::prometheus::{Prometheus, PrometheusOptions};

/// How long a state may take to come: generous, the machine may be busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);
const INSTALL: &str = include_str!("../../deploy/install.yaml");

pub(crate) struct Stage {
    pub(crate) plane: RwLock<ControlPlane>,
    /// An administrator's.
    pub(crate) client: Client,
    /// Lives as long as the control plane.
    pub(crate) folder: PathBuf,
    pub(crate) node: Node,
    pub(crate) ledger: Ledger,
    /// The one that is killed.
    pub(crate) mortal: Mutex<Prometheus>,
    /// The one that lives.
    pub(crate) steady: Prometheus,
    /// Acts as podswell's service account.
    pub(crate) account: Client,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        let plane = ControlPlane::start(Options::default()).await;
        let options = NodeOptions {
            start_delay: Duration::from_millis(300),
            // Long enough for the short requests of a busy machine.
            termination: Duration::from_secs(3),
            ..NodeOptions::default()
        };
        let node = Node::start(plane.client(), options);
        plane.apply(INSTALL).await;
        let each_second = PrometheusOptions::default;
        Self {
            account: plane.client_for_service_account("podswell-system", "podswell").await,
            ledger: Ledger::start(plane.client()),
            mortal: Prometheus::start(node.table(), each_second()).await.into(),
            steady: Prometheus::start(node.table(), each_second()).await,
            client: plane.client(),
            folder: plane.folder().to_owned(),
            plane: plane.into(),
            node,
        }
    }
}
