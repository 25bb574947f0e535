//! The Kubernetes side: watches become facts, decisions become writes of the scale subresource.
//!
//! On a workload nothing but its replicas is ever written, and beside it only Kubernetes Events and the
//! Lease of podswell's own namespace.
//!
//! [`watch`] reads (within [`scope`]), [`facts`] keeps the little that matters of each object, [`index`] joins it,
//! [`scale`] and [`events`] write, and [`lease`] decides whether they may. Requests are never retried by the client itself: who asks knows
//! whether a second try is still what he wants.

pub mod events;
pub mod facts;
pub mod index;
pub mod lease;
mod ownership;
pub mod scale;
pub(crate) mod scaled_object;
pub mod scope;
#[cfg(test)]
mod testing;
mod triggers;
pub mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher;
use parking_lot::RwLock;

use crate::core::target::TargetId;

/// The field manager of every write.
pub const FIELD_MANAGER: &str = "podswell";

/// How long a connection to the API server may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the API server may be silent in the middle of an answer. Watches end by themselves sooner,
/// see [`watch::WATCH_SECONDS`]; without a limit a connection that was cut without a word would never
/// be noticed during a list.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// What can go wrong between podswell and the API server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum K8sError {
    /// The kubeconfig file cannot be used.
    #[error("read kubeconfig {path}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// Neither a kubeconfig nor a service account was found.
    #[error("find a kubeconfig or a service account")]
    InferConfig {
        /// Why.
        #[source]
        source: Box<kube::config::InferConfigError>,
    },
    /// The configuration does not make a client, for example because of its certificates.
    #[error("make a client for {server}")]
    MakeClient {
        /// The API server's address.
        server: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A list or a watch failed; it is tried again.
    #[error("watch {what}")]
    Watch {
        /// The kind that is watched, or the ConfigMap.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<watcher::Error>,
    },
    /// A request got no usable answer.
    #[error("{operation} of {target}")]
    Request {
        /// What was asked.
        operation: &'static str,
        /// On behalf of which target.
        target: TargetId,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A request took longer than its limit.
    #[error("{operation} of {target} within {limit:?}")]
    Timeout {
        /// What was asked.
        operation: &'static str,
        /// On behalf of which target.
        target: TargetId,
        /// The limit.
        limit: Duration,
    },
}

impl K8sError {
    /// A word from a closed list, for labels and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Kubeconfig { .. } => "Kubeconfig",
            Self::InferConfig { .. } => "NoConfig",
            Self::MakeClient { .. } => "Client",
            Self::Watch { source, .. } => watch_reason(source),
            Self::Request { source, .. } => request_reason(source),
            Self::Timeout { .. } => "Timeout",
        }
    }

    /// Whether the same request may succeed later without anybody mending anything.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.reason(),
            "Timeout" | "Transport" | "TooManyRequests" | "ServerError" | "Gone" | "Conflict"
        )
    }
}

fn watch_reason(error: &watcher::Error) -> &'static str {
    match error {
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => request_reason(source),
        watcher::Error::WatchError(status) => status_reason(status.code),
        watcher::Error::NoResourceVersion => "Malformed",
    }
}

fn request_reason(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) => status_reason(status.code),
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => "Malformed",
        kube::Error::Auth(_) => "Unauthorized",
        _ => "Transport",
    }
}

fn status_reason(status: u16) -> &'static str {
    match status {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Gone",
        422 => "Invalid",
        429 => "TooManyRequests",
        500.. => "ServerError",
        _ => "BadRequest",
    }
}

/// Makes a client: from the kubeconfig file that is given, else from `KUBECONFIG`, `~/.kube/config` or
/// the pod's service account. Nothing is asked of the API server yet. The client neither limits how many
/// requests it sends a second nor repeats any.
///
/// # Errors
/// If there is no configuration or it cannot be used.
pub async fn connect(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> Result<kube::Client, K8sError> {
    let options =
        KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let mut config = match kubeconfig {
        Some(path) => from_file(path, &options).await?,
        None if context.is_some() => from_default_files(&options).await?,
        None => kube::Config::infer()
            .await
            .map_err(|source| K8sError::InferConfig { source: Box::new(source) })?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    config.default_retry = false;
    let server = config.cluster_url.to_string();
    kube::Client::try_from(config)
        .map_err(|source| K8sError::MakeClient { server, source: Box::new(source) })
}

async fn from_file(path: &Path, options: &KubeConfigOptions) -> Result<kube::Config, K8sError> {
    let failed = |source| K8sError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    kube::Config::from_custom_kubeconfig(kubeconfig, options).await.map_err(failed)
}

async fn from_default_files(options: &KubeConfigOptions) -> Result<kube::Config, K8sError> {
    kube::Config::from_kubeconfig(options).await.map_err(|source| K8sError::Kubeconfig {
        path: PathBuf::from("~/.kube/config"),
        source: Box::new(source),
    })
}

/// The uids of the targets' objects: what Events refer to, and how a writer notices that an object was
/// replaced by one of the same name. The watches write it.
#[derive(Debug, Default)]
pub struct Uids(RwLock<BTreeMap<TargetId, Arc<str>>>);

impl Uids {
    /// The uid of a target's object, if the target is known.
    pub fn get(&self, target: &TargetId) -> Option<Arc<str>> {
        self.0.read().get(target).cloned()
    }

    /// Keeps the uid of a target's object.
    pub fn insert(&self, target: TargetId, uid: Arc<str>) {
        self.0.write().insert(target, uid);
    }

    /// Forgets a target.
    pub fn remove(&self, target: &TargetId) {
        self.0.write().remove(target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = r"
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: u, user: {}}]
contexts: [{name: here, context: {cluster: c, user: u, namespace: home}}]
current-context: here
";

    #[tokio::test]
    async fn a_kubeconfig_file_makes_a_client() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, KUBECONFIG).unwrap();
        let client = connect(Some(&path), None).await.unwrap();
        assert_eq!(client.default_namespace(), "home");

        let error = connect(Some(&path), Some("elsewhere")).await.err().unwrap();
        assert_eq!((error.reason(), error.is_retryable()), ("Kubeconfig", false));
        let error = connect(Some(&folder.path().join("absent")), None).await.err().unwrap();
        assert!(error.to_string().contains("absent"), "{error}");
    }

    #[test]
    fn only_what_may_pass_by_itself_is_retryable() {
        for (status, reason, retryable) in [
            (400, "BadRequest", false),
            (401, "Unauthorized", false),
            (403, "Forbidden", false),
            (404, "NotFound", false),
            (409, "Conflict", true),
            (410, "Gone", true),
            (422, "Invalid", false),
            (429, "TooManyRequests", true),
            (500, "ServerError", true),
            (503, "ServerError", true),
        ] {
            let status = kube::core::Status { code: status, ..kube::core::Status::default() };
            let source = Box::new(watcher::Error::WatchError(Box::new(status)));
            let error = K8sError::Watch { what: "pods", source };
            assert_eq!((error.reason(), error.is_retryable()), (reason, retryable));
        }
    }
}
