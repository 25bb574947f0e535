//! Runs the Go tests: the contract, and KEDA's own client.

use crate::programs::{run, start};

/// `PODSWELL_KEDA_TESTS=TestPush` runs only the tests whose name matches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keda_s_own_client_is_served() {
    let (plane, _node) = start().await;
    let mut arguments = vec!["-test.v", "-test.parallel=16", "-test.timeout=1500s"];
    let only = std::env::var("PODSWELL_KEDA_TESTS").map(|only| format!("-test.run={only}"));
    arguments.extend(only.as_deref().ok());
    run(&plane, "keda-tests-2.21", &arguments, false).await;
}
