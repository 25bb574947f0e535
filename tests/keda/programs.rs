//! The Go programs of this folder: they start podswell themselves, against a control plane that is
//! started here.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::operator;
use crate::support::binaries;
use crate::support::controlplane::{ControlPlane, Options};
use crate::support::deployment::ensure_namespace;
use crate::support::node::{Node, NodeOptions};

/// Runs a test binary of Go; what it prints is printed.
pub(crate) async fn run(plane: &ControlPlane, name: &str, arguments: &[&str], measuring: bool) {
    let mut command = Command::new(binaries::path("leash"));
    command.arg(binaries::path(name)).args(arguments);
    command.env("KUBECONFIG", plane.kubeconfig());
    command.env("PODSWELL", env!("CARGO_BIN_EXE_podswell"));
    command.env("PODSWELL_LEASH", binaries::path("leash"));
    command.env("TMPDIR", plane.folder());
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keda"));
    command.env("KEDA_TESTS_2_16", binaries::path("keda-tests-2.16"));
    if measuring {
        command.env("KEDA_MEASURE", "1");
    }
    command.stdin(Stdio::piped());
    // The pipe stays open for as long as the tests run, and with it the leash.
    let running = move || {
        command.spawn().and_then(|mut child| {
            let leash = child.stdin.take();
            let status = child.wait();
            drop(leash);
            status
        })
    };
    let status = tokio::task::spawn_blocking(running).await.expect("the thread of the Go tests");
    let status = status.expect("run the Go tests");
    assert!(status.success(), "{name}: {status}");
}

/// What the Go tests find: a control plane whose pods run, and KEDA's definitions.
pub(crate) async fn start() -> (ControlPlane, Node) {
    let plane = ControlPlane::start(Options::default()).await;
    let node = Node::start(plane.client(), NodeOptions::default());
    operator::apply_crds(&plane).await;
    ensure_namespace(&plane.client(), "shop").await;
    (plane, node)
}
