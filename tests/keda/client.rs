//! Runs the Go tests: they start podswell themselves, against the control plane that is started here.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::operator;
use crate::support::binaries;
use crate::support::controlplane::{ControlPlane, Options};
use crate::support::deployment::ensure_namespace;
use crate::support::node::{Node, NodeOptions};

/// Runs a test binary of Go; what it prints is printed.
async fn run(plane: &ControlPlane, name: &str, arguments: &[&str]) {
    let mut command = Command::new(binaries::path("leash"));
    command.arg(binaries::path(name)).args(arguments);
    command.env("KUBECONFIG", plane.kubeconfig());
    // Measures are taken of an optimised program.
    let podswell = std::env::var_os("PODSWELL");
    command.env("PODSWELL", podswell.unwrap_or_else(|| env!("CARGO_BIN_EXE_podswell").into()));
    command.env("PODSWELL_LEASH", binaries::path("leash"));
    command.env("TMPDIR", plane.folder());
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keda"));
    command.env("KEDA_TESTS_2_16", binaries::path("keda-tests-2.16"));
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
async fn start() -> (ControlPlane, Node) {
    let plane = ControlPlane::start(Options::default()).await;
    let node = Node::start(plane.client(), NodeOptions::default());
    operator::apply_crds(&plane).await;
    ensure_namespace(&plane.client(), "shop").await;
    (plane, node)
}

/// `PODSWELL_KEDA_TESTS=TestPush` runs only the tests whose name matches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keda_s_own_client_is_served() {
    let (plane, _node) = start().await;
    let mut arguments = vec!["-test.v", "-test.parallel=16", "-test.timeout=880s"];
    let only = std::env::var("PODSWELL_KEDA_TESTS").map(|only| format!("-test.run={only}"));
    arguments.extend(only.as_deref().ok());
    run(&plane, "keda-tests-2.21", &arguments).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measure, which needs a quiet machine: make bench-keda"]
async fn measure() {
    let (plane, _node) = start().await;
    let arguments = ["-test.v", "-test.run=TestMeasure", "-test.timeout=600s"];
    run(&plane, "keda-tests-2.21", &arguments).await;
}
