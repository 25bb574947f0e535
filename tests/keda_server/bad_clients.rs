//! Clients that keep no rule: what they do is bounded, and those who behave are answered meanwhile.

use std::net::Ipv4Addr;
use std::time::Duration;

use podswell::servers::keda::connections::{MAX_NEWCOMERS, MAX_OF_ADDRESS};
use podswell::servers::keda::transport::{
    KEEP_ALIVE, KEEP_ALIVE_TIMEOUT, MAX_HEADER_BYTES, MAX_MESSAGE_BYTES,
};
use prost::Message as _;
use tonic::{Code, Request};

use crate::calls::{active, first, spec, until};
use crate::raw::Raw;
use crate::world::{INGRESS, LIMIT, ScalerClient, WEB, World, trigger, web};

/// Asks until the load is known: a machine that was stopped for seconds has lost sight of it.
async fn known_activity(client: &mut ScalerClient) -> Result<bool, Code> {
    let known = |is: &Result<bool, Code>| *is != Err(Code::Unavailable);
    first("known", async || active(client, &web()).await, known).await
}

async fn loaded() -> (World, ScalerClient, crate::world::Load) {
    let world = World::start().await;
    world.deploy("web", 1, &[]).await;
    let load = world.load("web", INGRESS, 47.0);
    let mut client = world.client();
    until("active", async || active(&mut client, &web()).await, |is| *is == Ok(true)).await;
    (world, client, load)
}

/// A client that has just come, and one that was there before, are answered.
async fn others_are_answered(world: &World, known: &mut ScalerClient) {
    let mut newcomer = world.client();
    for client in [known, &mut newcomer] {
        let answer = tokio::time::timeout(LIMIT, known_activity(client)).await;
        assert_eq!(answer.expect("an answer"), Ok(true));
    }
}

async fn ends(raw: &mut Raw) {
    tokio::time::timeout(LIMIT, raw.ended()).await.expect("the connection ends");
}

fn refused(world: &World, why: &str) -> u64 {
    let all = world.counters.refusals();
    all.iter().find(|(reason, _)| *reason == why).map_or(0, |(_, count)| *count)
}

#[tokio::test]
async fn who_never_reads_is_left_behind() {
    let (world, mut known, _load) = loaded().await;
    let message = web().encode_to_vec();
    let mut deaf = Raw::begin(world.address).await;
    let asking = async {
        for _ in 0..20_000 {
            let call = deaf.call("IsActive", &message);
            if !deaf.send(&call).await {
                break;
            }
        }
    };
    // Once the buffers are full nothing of it is taken any more.
    let _ = tokio::time::timeout(Duration::from_secs(5), asking).await;
    others_are_answered(&world, &mut known).await;
}

#[tokio::test]
async fn calls_that_never_end_are_ended() {
    let (world, mut known, _load) = loaded().await;
    let mut flood = Raw::begin(world.address).await;
    for _ in 0..2000 {
        let call = flood.open("GetMetrics");
        flood.send(&call).await;
    }
    others_are_answered(&world, &mut known).await;
    let given_up = async || {
        let calls = world.counters.calls();
        let mut counts =
            calls.iter().filter(|call| (call.0, call.1) == ("GetMetrics", "UNAVAILABLE"));
        counts.next().map_or(0, |(_, _, count)| *count)
    };
    until("all are given up", given_up, |count| *count == 2000).await;
    others_are_answered(&world, &mut known).await;
}

#[tokio::test]
async fn who_takes_calls_back_rapidly_is_sent_away() {
    let (world, mut known, _load) = loaded().await;
    let mut fickle = Raw::begin(world.address).await;
    let mut burst = Vec::new();
    for _ in 0..20_000 {
        burst.extend(fickle.reset("StreamIsActive"));
    }
    fickle.send(&burst).await;
    others_are_answered(&world, &mut known).await;
    ends(&mut fickle).await;
    let none_left = async || world.counters.streams();
    until("no stream is left", none_left, |all| all.iter().all(|(_, open)| *open == 0)).await;
}

#[tokio::test]
async fn large_metadata_and_messages_are_refused() {
    let (world, mut known, _load) = loaded().await;
    let mut wordy = world.client();
    let mut request = Request::new(web());
    for number in 0..16 {
        let key = tonic::metadata::AsciiMetadataKey::from_bytes(format!("x-{number}").as_bytes());
        let value = "x".repeat(usize::try_from(MAX_HEADER_BYTES).unwrap() * 4);
        request.metadata_mut().insert(key.unwrap(), value.parse().unwrap());
    }
    assert!(wordy.is_active(request).await.is_err(), "a megabyte of metadata");
    others_are_answered(&world, &mut known).await;
    let padding = "x".repeat(MAX_MESSAGE_BYTES);
    let large = trigger("web", &[&WEB[..], &[("metric", &padding)]].concat());
    let status = spec(&mut known, &large).await.unwrap_err();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    others_are_answered(&world, &mut known).await;
}

#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    let (world, mut known, _load) = loaded().await;
    let mut silent = Vec::new();
    for _ in 0..MAX_NEWCOMERS + 40 {
        silent.push(Raw::silent(world.address).await);
    }
    others_are_answered(&world, &mut known).await;
    until("room is made", async || refused(&world, "Displaced"), |count| *count >= 40).await;
    // The rest goes by itself.
    for raw in &mut silent {
        ends(raw).await;
    }
    assert!(refused(&world, "Silent") > 0);
    drop(silent);

    let mut idle = Vec::new();
    for _ in 0..MAX_OF_ADDRESS + 10 {
        idle.push(Raw::begin(world.address).await);
    }
    until("too many", async || refused(&world, "FullOfAddress"), |count| *count > 0).await;
    let mut elsewhere = world.client_at(Ipv4Addr::new(127, 0, 0, 2));
    assert_eq!(known_activity(&mut elsewhere).await, Ok(true));
    assert_eq!(known_activity(&mut known).await, Ok(true), "who was there before");
    drop(idle);
    let connections = async || world.counters.connections();
    until("they are gone", connections, |count| *count <= 10).await;
    others_are_answered(&world, &mut known).await;
}

/// A machine that vanished holds its streams for as long as it has time to answer a ping, not for ever.
#[tokio::test]
async fn who_is_dead_is_let_go() {
    let (world, mut known, _load) = loaded().await;
    let mut dead = Raw::begin(world.address).await;
    let call = dead.call("StreamIsActive", &web().encode_to_vec());
    assert!(dead.send(&call).await);
    let open = async || world.counters.streams().iter().map(|(_, open)| open).sum::<u64>();
    until("it has a stream", open, |streams| *streams == 1).await;
    // It reads, and says nothing.
    let patience = 3 * (KEEP_ALIVE + KEEP_ALIVE_TIMEOUT);
    tokio::time::timeout(patience, dead.ended()).await.expect("the connection ends");
    until("its stream is given back", open, |streams| *streams == 0).await;
    others_are_answered(&world, &mut known).await;
}

#[tokio::test]
async fn streams_are_bounded() {
    let world = World::start_bounded(&[], None, 10).await;
    world.deploy("web", 0, &[]).await;
    let mut client = world.client();
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(client.stream_is_active(web()).await.unwrap());
    }
    let mut late = world.client();
    let refusal = late.stream_metric_spec(web()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    assert!(refusal.message().contains("--keda-max-streams"), "{refusal:?}");
    // Calls go on, and what is given back can be had.
    spec(&mut late, &web()).await.unwrap();
    open.pop();
    until("room", async || late.stream_metric_spec(web()).await.is_ok(), |is| *is).await;
    let exhausted = ("StreamMetricSpec", "RESOURCE_EXHAUSTED");
    assert!(world.counters.calls().iter().any(|call| (call.0, call.1) == exhausted));
}
