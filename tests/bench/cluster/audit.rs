//! Who wrote how often, as the API server itself logs it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::peer::Peer;

const POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete]
- level: None
";

/// The API server's log of requests that write.
pub(crate) struct Audit(PathBuf);

/// A request, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    user: User,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<Object>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    namespace: String,
}

impl Audit {
    /// The log in a folder, and the flags with which kube-apiserver writes it.
    pub(crate) fn prepare(folder: &Path) -> (Self, Vec<String>) {
        let (policy, log) = (folder.join("audit.yaml"), folder.join("audit.log"));
        std::fs::write(&policy, POLICY).expect("write the audit policy");
        let flags = vec![
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", log.display()),
        ];
        (Self(log), flags)
    }

    /// How far the log has come.
    pub(crate) fn position(&self) -> u64 {
        std::fs::metadata(&self.0).map_or(0, |of| of.len())
    }

    /// Requests that an autoscaler made to write in its namespace after `position`.
    pub(crate) fn writes(&self, peer: Peer, position: u64) -> usize {
        let mut text = String::new();
        let mut file = File::open(&self.0).expect("open the audit log");
        file.seek(SeekFrom::Start(position)).expect("find the place in the audit log");
        file.read_to_string(&mut text).expect("read the audit log");
        let requests = text.lines().filter_map(|line| serde_json::from_str::<Request>(line).ok());
        let of_peer = requests.filter(|request| {
            let object = request.object_ref.as_ref();
            let is_here = object.is_some_and(|object| object.namespace == peer.namespace());
            let name = peer.writer();
            is_here && (request.user.username == name || request.user_agent.starts_with(name))
        });
        of_peer.count()
    }
}
