//! Many triggers and many streams: each hears of the load.

use podswell::servers::keda::wire::{IsActiveResponse, ScaledObjectRef};
use tonic::Streaming;

use crate::calls::{active, until};
use crate::world::{INGRESS, LIMIT, World, trigger};

/// A trigger of its own ScaledObject on a Deployment.
fn object(number: usize, deployment: &str) -> ScaledObjectRef {
    let metadata = [
        ("deployment", deployment),
        ("source", INGRESS),
        ("target", "10"),
        ("target-utilization-percentage", "100"),
        ("window", "6s"),
    ];
    trigger(&format!("so-{number}"), &metadata)
}

fn pushes(world: &World) -> u64 {
    world.counters.pushes().iter().map(|(_, count)| count).sum()
}

async fn all_hear(streams: Vec<Streaming<IsActiveResponse>>) {
    let hearing = streams.into_iter().map(|mut stream| async move {
        let message = stream.message().await.expect("no error");
        assert_eq!(message, Some(IsActiveResponse { result: true }));
        stream
    });
    let all = futures::future::join_all(hearing);
    tokio::time::timeout(LIMIT, all).await.expect("every stream hears of the load");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scaled_object_of_a_deployment_hears_of_its_load() {
    let world = World::start().await;
    world.deploy("web", 0, &[]).await;
    let idle = world.load("web", INGRESS, 0.0);
    let mut client = world.client();
    let mut streams = Vec::new();
    for number in 0..2000 {
        let stream = client.stream_is_active(object(number, "web")).await.unwrap();
        streams.push(stream.into_inner());
    }
    let last = object(1999, "web");
    until("inactive", async || active(&mut client, &last).await, |is| *is == Ok(false)).await;
    assert_eq!(pushes(&world), 0, "idle streams are silent");
    drop(idle);
    let _load = world.load("web", INGRESS, 30.0);
    all_hear(streams).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stream_of_many_deployments_hears_of_its_own_load() {
    const DEPLOYMENTS: usize = 20;
    const OBJECTS: usize = 5;
    const STREAMS: usize = 10;
    let world = World::start().await;
    let name = |number: usize| format!("web-{number}");
    let mut client = world.client();
    let (mut idle, mut all) = (Vec::new(), Vec::new());
    for number in 0..DEPLOYMENTS {
        world.deploy(&name(number), 0, &[]).await;
        idle.push(world.load(&name(number), INGRESS, 0.0));
        let mut streams = Vec::new();
        for at in 0..OBJECTS * STREAMS {
            let object = object(number * OBJECTS + at % OBJECTS, &name(number));
            streams.push(client.stream_is_active(object).await.unwrap().into_inner());
        }
        all.push(streams);
    }
    for number in 0..DEPLOYMENTS {
        for at in 0..OBJECTS {
            let object = object(number * OBJECTS + at, &name(number));
            let ask = async || active(&mut client, &object).await;
            until("inactive", ask, |is| *is == Ok(false)).await;
        }
    }
    assert_eq!(pushes(&world), 0, "idle streams are silent");
    for (number, streams) in all.into_iter().enumerate() {
        idle.remove(0);
        let _load = world.load(&name(number), INGRESS, 30.0);
        all_hear(streams).await;
    }
}
