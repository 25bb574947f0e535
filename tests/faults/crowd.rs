//! Very many workloads change at once.

use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::cell::{Cell, CellOptions, NewWorkload};
use crate::dice::Dice;
use crate::stage::{LIMIT, Stage};
use crate::support::wait::{eventually, until};

const ALL: usize = 2000;
const SOME: usize = 200;
/// Requests of the test itself that are under way at once.
const AT_ONCE: usize = 16;

fn name(number: usize) -> String {
    format!("w{number}")
}

/// Deployments whose rollout is paused, so that no pod comes of them.
async fn make(stage: &Stage) {
    let api: Api<Deployment> = Api::namespaced(stage.client.clone(), "crowd");
    let making = (0..ALL).map(|number| {
        let (api, name) = (api.clone(), name(number));
        async move {
            let deployment: Deployment = serde_json::from_value(json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": { "name": name, "annotations": {
                    "autoscaling.knative.dev/class": "kpa.podswell.dev",
                    "podswell.dev/scrape": crate::cell::SCRAPE,
                }},
                "spec": {
                    "replicas": 1,
                    "paused": true,
                    "selector": { "matchLabels": { "app": name } },
                    "template": {
                        "metadata": { "labels": { "app": name } },
                        "spec": { "containers": [{ "name": "app", "image": "example.com/app:1" }] },
                    },
                },
            }))
            .expect("a valid Deployment");
            api.create(&PostParams::default(), &deployment).await.expect("create one of many");
        }
    });
    futures::stream::iter(making).for_each_concurrent(AT_ONCE, |made| made).await;
}

async fn have(stage: &Stage, number: usize, replicas: i32) {
    eventually(LIMIT, &format!("{number} have {replicas} replicas"), || async {
        let key = |number| format!("crowd/{}", name(number));
        let right = (0..number).filter(|one| stage.ledger.replicas(&key(*one)) == replicas).count();
        if right == number { Ok(()) } else { Err(right) }
    })
    .await;
}

pub(crate) async fn changed_at_once(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let mut cell = Cell::start(&stage, "crowd", CellOptions::default()).await;
    cell.add(&stage, NewWorkload::new("busy")).await;
    make(&stage).await;
    let known = |status: &Value| status["targets"].as_u64() > Some(ALL as u64);
    until(LIMIT, "all are known", known, || cell.of_itself()).await;
    cell.mark();
    let workload = &cell.workloads[0];

    // 200 by their annotations, in an order of their own.
    let api: Api<Deployment> = Api::namespaced(stage.client.clone(), "crowd");
    let patch =
        json!({ "metadata": { "annotations": { "autoscaling.knative.dev/min-scale": "2" } } });
    let patch = Patch::Merge(&patch);
    let changing = dice.shuffled((0..SOME).collect()).into_iter().map(|number| {
        let (api, patch) = (api.clone(), &patch);
        async move { api.patch(&name(number), &PatchParams::default(), patch).await.map(drop) }
    });
    workload.asks_for(8);
    futures::stream::iter(changing)
        .for_each_concurrent(AT_ONCE, |changed| async { changed.await.expect("annotate") })
        .await;
    tokio::join!(have(&stage, SOME, 2), workload.reaches(8));
    cell.settles(workload).await;

    // All by the cluster's defaults, in one moment.
    let defaults = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "config-autoscaler", "namespace": "crowd-system" },
        "data": { "min-scale": "3" },
    });
    workload.asks_for(11);
    stage.plane.read().await.apply(&defaults.to_string()).await;
    tokio::join!(have_at_least(&stage, 3), workload.reaches(11));
    workload.shrinks_to(5).await;
    workload.has_lost_nothing();
    vec![cell]
}

/// Those with an annotation of their own keep that.
async fn have_at_least(stage: &Stage, replicas: i32) {
    eventually(LIMIT, &format!("the others have {replicas} replicas"), || async {
        let key = |number| format!("crowd/{}", name(number));
        let right = (SOME..ALL).filter(|one| stage.ledger.replicas(&key(*one)) == replicas).count();
        if right == ALL - SOME { Ok(()) } else { Err(right) }
    })
    .await;
}
