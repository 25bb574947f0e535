//! The streams of triggers that push.

use std::time::Duration;

use podswell::servers::keda::wire::IsActiveResponse;
use prost::Message as _;
use tonic::Streaming;

use crate::calls::{active, spec, until};
use crate::raw::Raw;
use crate::world::{INGRESS, LIMIT, WEB, World, trigger, web};

async fn next<T>(stream: &mut Streaming<T>) -> Option<T> {
    let message = tokio::time::timeout(LIMIT, stream.message()).await.expect("a message in time");
    message.expect("no error")
}

/// How many messages come within `span`.
async fn count(stream: &mut Streaming<IsActiveResponse>, span: Duration) -> usize {
    let mut seen = 0;
    let counting = async {
        while let Some(message) = next(stream).await {
            assert!(message.result, "false is never said");
            seen += 1;
        }
    };
    let _ = tokio::time::timeout(span, counting).await;
    seen
}

#[tokio::test]
async fn load_is_pushed_and_repeated_until_there_is_a_replica() {
    let world = World::start().await;
    world.deploy("web", 0, &[]).await;
    let idle = world.load("web", INGRESS, 0.0);
    let mut client = world.client();
    let mut stream = client.stream_is_active(web()).await.unwrap().into_inner();
    until("inactive", async || active(&mut client, &web()).await, |is| *is == Ok(false)).await;
    assert_eq!(count(&mut stream, Duration::from_secs(3)).await, 0, "an idle stream is silent");
    drop(idle);
    let _load = world.load("web", INGRESS, 30.0);
    assert_eq!(next(&mut stream).await, Some(IsActiveResponse { result: true }));
    for _ in 0..2 {
        next(&mut stream).await.expect("repeated while there is no replica");
    }
    // Who comes while there is load hears of it at once.
    let mut late = world.client().stream_is_active(web()).await.unwrap().into_inner();
    next(&mut late).await.expect("told at the opening");
    world.deploy("web", 3, &[]).await;
    // Some may be under way.
    let silence = async || count(&mut stream, Duration::from_secs(4)).await;
    until("silence with 3 replicas", silence, |heard| *heard == 0).await;
}

/// Who reads late hears what is so, not all that was so meanwhile.
#[tokio::test]
async fn nothing_waits_for_who_does_not_read() {
    let world = World::start().await;
    world.deploy("web", 0, &[]).await;
    let load = world.load("web", INGRESS, 30.0);
    let mut client = world.client();
    let mut stream = client.stream_is_active(web()).await.unwrap().into_inner();
    next(&mut stream).await.expect("there is load");
    let mut late = Raw::begin_without_window(world.address).await;
    let call = late.call("StreamIsActive", &web().encode_to_vec());
    assert!(late.send(&call).await);
    let open = async || world.counters.streams().iter().map(|(_, open)| open).sum::<u64>();
    until("both are open", open, |streams| *streams == 2).await;
    for _ in 0..5 {
        next(&mut stream).await.expect("repeated while there is no replica");
    }
    drop(load);
    let idle = world.load("web", INGRESS, 0.0);
    until("inactive", async || active(&mut client, &web()).await, |is| *is == Ok(false)).await;
    late.widen(60_000).await;
    let mut stale = 0;
    let reading = async {
        loop {
            late.message().await;
            stale += 1;
        }
    };
    let nothing: Result<(), _> = tokio::time::timeout(Duration::from_secs(3), reading).await;
    assert!(nothing.is_err());
    // One may have been under way.
    assert!(stale <= 1, "{stale} messages of load that is gone");
    drop(idle);
    let _load = world.load("web", INGRESS, 30.0);
    tokio::time::timeout(LIMIT, late.message()).await.expect("what is new comes");
}

#[tokio::test]
async fn specs_are_told_at_once_and_when_they_change() {
    let world = World::start().await;
    let annotated = |target: &'static str| [("autoscaling.knative.dev/target", target)];
    world.deploy("web", 1, &annotated("10")).await;
    let mut client = world.client();
    let metadata = [
        ("deployment", "web"),
        ("source", INGRESS),
        ("value", "stable"),
        ("target-utilization-percentage", "100"),
    ];
    let object = trigger("web", &metadata);
    let mut stream = client.stream_metric_spec(object.clone()).await.unwrap().into_inner();
    for target in ["10", "20"] {
        world.deploy("web", 1, &annotated(target)).await;
        let specs = next(&mut stream).await.unwrap().metric_specs;
        assert_eq!(specs.len(), 1, "never empty");
        assert_eq!(specs[0].target_size.to_string(), target);
        assert_eq!(spec(&mut client, &object).await.unwrap(), specs[0]);
    }
}

#[tokio::test]
async fn streams_end_without_error_when_the_process_ends() {
    let world = World::start().await;
    world.deploy("web", 1, &[]).await;
    let mut client = world.client();
    let mut streams = Vec::new();
    for number in 0..100 {
        let object = trigger(&format!("web-{number}"), &WEB);
        streams.push(client.stream_is_active(object.clone()).await.unwrap().into_inner());
        if number < 10 {
            let mut specs = client.stream_metric_spec(object).await.unwrap().into_inner();
            next(&mut specs).await.expect("a spec");
        }
    }
    world.stop.cancel();
    for mut stream in streams {
        while next(&mut stream).await.is_some() {}
    }
}

#[tokio::test]
async fn a_stream_outlives_what_it_asks_for() {
    let world = World::start().await;
    world.deploy("web", 0, &[]).await;
    let mut client = world.client();
    let mut stream = client.stream_is_active(web()).await.unwrap().into_inner();
    world.delete("web").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.deploy("web", 0, &[]).await;
    let _load = world.load("web", INGRESS, 30.0);
    assert_eq!(next(&mut stream).await, Some(IsActiveResponse { result: true }));
}
