//! The right to write scales is taken away in one namespace.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::Value;

use crate::cell::{Cell, CellOptions, NewWorkload, Workload};
use crate::dice::Dice;
use crate::stage::{LIMIT, Stage};
use crate::support::wait::until;

/// How long podswell leaves a workload alone at most whose writes are refused.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A user who may read everywhere, and write scales and Events only where a binding says so.
const RIGHTS: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: reader }
rules:
- apiGroups: ["", "apps", "autoscaling", "coordination.k8s.io"]
  resources: ["*"]
  verbs: ["get", "list", "watch"]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: writer }
rules:
- { apiGroups: ["apps"], resources: ["deployments/scale"], verbs: ["get", "patch"] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: reporter }
rules:
- { apiGroups: ["events.k8s.io"], resources: ["events"], verbs: ["create", "patch"] }
- { apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["create", "get", "update"] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: reader }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader }
subjects: [{ kind: User, name: limited }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: reporter }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reporter }
subjects: [{ kind: User, name: limited }]
"#;

fn binding(namespace: &str) -> String {
    format!(
        r"
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{ name: writer, namespace: {namespace} }}
roleRef: {{ apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: writer }}
subjects: [{{ kind: User, name: limited }}]
"
    )
}

pub(crate) async fn taken_away(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let [lost, kept] = ["rights", "rights-kept"];
    {
        let plane = stage.plane.read().await;
        plane.apply(RIGHTS).await;
        plane.kubectl(&["create", "namespace", lost]).await;
        plane.kubectl(&["create", "namespace", kept]).await;
        plane.apply(&format!("{}---{}", binding(lost), binding(kept))).await;
    }
    let account = stage.plane.read().await.client_for_user("limited", None).await;
    let options = CellOptions { account: Some(account), ..CellOptions::default() };
    // A field selector knows no "or": all that is not anybody else's.
    let others = ["killed", "lying", "silent", "pods", "liars", "refused", "unclear", "broken"];
    let others = others.iter().chain(&["unheard", "clock", "pair", "flapping", "restart", "crowd"]);
    let others: Vec<_> = others.map(|other| format!("metadata.namespace!={other}")).collect();
    let options = CellOptions { scope: others.join(","), ..options };
    let mut cell = Cell::start(&stage, "rights", options).await;
    cell.add(&stage, NewWorkload { namespace: lost, ..NewWorkload::new("lost") }).await;
    cell.add(&stage, NewWorkload { namespace: kept, ..NewWorkload::new("kept") }).await;
    cell.mark();
    let [without, with] = &cell.workloads[..] else { panic!("two workloads") };
    let bindings: Api<RoleBinding> = Api::namespaced(stage.client.clone(), lost);
    bindings.delete("writer", &DeleteParams::default()).await.expect("take the right away");
    tokio::time::sleep(dice.millis(0..=2000)).await;
    let before = cell.proxy.scale_writes();
    without.asks_for(8);
    with.grows_to(8).await;
    cell.tells(without, &["WriteFailed"]).await;
    let refused = |status: &Value| status["lastWrite"].to_string().contains("403");
    until(LIMIT, "the last write was refused", refused, || cell.status(lost, "lost")).await;
    // The ledger may not have heard yet of a write that came just in time.
    let stored = || async { without.deployment.replicas().await.expect("read the scale") };
    let stuck = stored().await;
    with.shrinks_to(5).await;
    without.endures(dice.millis(1000..=4000)).await;
    assert_eq!(stored().await, stuck, "nobody else writes");
    let tried = cell.proxy.scale_writes() - before;
    assert!(tried < 40, "{tried} writes: not left alone");
    assert!(!with.deployment.event_reasons().await.iter().any(|reason| reason == "WriteFailed"));
    stage.plane.read().await.apply(&binding(lost)).await;
    without.reaches_within(LONGEST_PAUSE + LIMIT, 8).await;
    without.shrinks_to(5).await;
    cell.workloads.iter().for_each(Workload::has_lost_nothing);
    vec![cell]
}
