//! The unary calls.

use podswell::core::trigger::TriggerRefusal;
use podswell::servers::keda::wire::{GetMetricsRequest, MetricSpec, MetricValue, ScaledObjectRef};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::world::{INGRESS, LIMIT, PODS, ScalerClient, WEB, World, trigger, web};

/// Asks until the answer is as wanted.
pub(crate) async fn until<T: std::fmt::Debug>(
    what: &str,
    ask: impl AsyncFnMut() -> T,
    wanted: impl Fn(&T) -> bool,
) {
    drop(first(what, ask, wanted).await);
}

/// The first answer that is as wanted.
pub(crate) async fn first<T: std::fmt::Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> T,
    wanted: impl Fn(&T) -> bool,
) -> T {
    let started = Instant::now();
    loop {
        let answer = ask().await;
        if wanted(&answer) {
            return answer;
        }
        assert!(started.elapsed() < LIMIT, "{what}: {answer:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Asks until the server was not too busy to answer: a machine that was stopped for a second is.
async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, Status>) -> Result<T, Status> {
    let started = Instant::now();
    loop {
        match ask().await {
            Err(status) if is_busy(&status) && started.elapsed() < LIMIT => {}
            answer => return answer,
        }
    }
}

fn is_busy(status: &Status) -> bool {
    let said = |text: &str| status.message().contains(text);
    status.code() == Code::Unavailable
        && (said(&TriggerRefusal::Busy.to_string()) || said("took too long"))
}

pub(crate) async fn spec(
    client: &mut ScalerClient,
    object: &ScaledObjectRef,
) -> Result<MetricSpec, Status> {
    let ask = async || client.get_metric_spec(object.clone()).await;
    let mut answer = patiently(ask).await?.into_inner();
    assert_eq!(answer.metric_specs.len(), 1, "one metric a trigger");
    Ok(answer.metric_specs.remove(0))
}

async fn value_of(
    client: &mut ScalerClient,
    object: &ScaledObjectRef,
    metric: &str,
) -> Result<MetricValue, Status> {
    let (scaled_object_ref, metric_name) = (Some(object.clone()), metric.to_owned());
    let request = GetMetricsRequest { scaled_object_ref, metric_name };
    let ask = async || client.get_metrics(request.clone()).await;
    let mut answer = patiently(ask).await?.into_inner();
    assert_eq!(answer.metric_values.len(), 1, "one value a metric");
    Ok(answer.metric_values.remove(0))
}

pub(crate) async fn replicas(
    client: &mut ScalerClient,
    object: &ScaledObjectRef,
) -> Result<i64, Code> {
    let read = value_of(client, object, "podswell-replicas").await;
    read.map(|value| value.metric_value).map_err(|status| status.code())
}

pub(crate) async fn active(
    client: &mut ScalerClient,
    object: &ScaledObjectRef,
) -> Result<bool, Code> {
    let answer = patiently(async || client.is_active(object.clone()).await).await;
    answer.map(|answer| answer.into_inner().result).map_err(|status| status.code())
}

#[tokio::test]
async fn a_workload_that_only_keda_scales_is_answered() {
    let world = World::start().await;
    world.deploy("web", 0, &[]).await;
    let mut client = world.client();
    let object = web();
    // The spec is there before anything is known of the load.
    let spec = spec(&mut client, &object).await;
    let expected = MetricSpec {
        metric_name: "podswell-replicas".to_owned(),
        target_size: 1,
        target_size_float: 1.0,
    };
    assert_eq!(spec.unwrap(), expected);
    assert_eq!(replicas(&mut client, &object).await, Err(Code::Unavailable));
    assert_eq!(active(&mut client, &object).await, Err(Code::Unavailable));

    let idle = world.load("web", INGRESS, 0.0);
    until("inactive", async || active(&mut client, &object).await, |is| *is == Ok(false)).await;
    until("none", async || replicas(&mut client, &object).await, |n| *n == Ok(0)).await;
    drop(idle);
    // What is desired is desired at zero already, whatever the replicas are.
    let _load = world.load("web", INGRESS, 47.0);
    until("5 replicas", async || replicas(&mut client, &object).await, |n| *n == Ok(5)).await;
    until("active", async || active(&mut client, &object).await, |is| *is == Ok(true)).await;
    // What KEDA writes does not change the answer.
    world.deploy("web", 1, &[]).await;
    let again = async || replicas(&mut client, &object).await;
    let known = |n: &Result<i64, Code>| *n != Err(Code::Unavailable);
    assert_eq!(first("known", again, known).await, Ok(5));
}

#[tokio::test]
async fn load_is_answered_with_its_target_where_that_is_asked_for() {
    let world = World::start().await;
    world.deploy("web", 1, &[]).await;
    let _load = world.load("web", INGRESS, 47.0);
    let mut client = world.client();
    for (value, metric) in [
        ("stable", "podswell-concurrency-stable"),
        ("panic", "podswell-concurrency-panic"),
        ("max", "podswell-concurrency-max"),
    ] {
        let object = trigger("web", &[&WEB[..], &[("value", value)]].concat());
        let spec = spec(&mut client, &object).await.unwrap();
        assert_eq!((&*spec.metric_name, spec.target_size), (metric, 10));
        let ask = async || value_of(&mut client, &object, metric).await;
        let read = first("a value", ask, Result::is_ok).await.unwrap();
        assert_eq!(read.metric_value, 47);
        assert!((read.metric_value_float - 47.0).abs() < 1e-6, "{read:?}");
        // KEDA 2.5 and 2.6 leave the trigger's index on.
        let indexed = format!("s3-{metric}");
        let ask = async || value_of(&mut client, &object, &indexed).await;
        until("the same value", ask, Result::is_ok).await;
        let status = value_of(&mut client, &object, "other").await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
    }
}

#[tokio::test]
async fn each_trigger_has_a_decider_of_its_own_and_metadata_wins() {
    let world = World::start().await;
    let annotations = [
        ("autoscaling.knative.dev/target", "5"),
        ("autoscaling.knative.dev/target-utilization-percentage", "100"),
        ("autoscaling.knative.dev/window", "6s"),
        ("podswell.dev/source", INGRESS),
    ];
    world.deploy("web", 1, &annotations).await;
    let _load = world.load("web", INGRESS, 20.0);
    let mut client = world.client();
    for (metadata, expected) in
        [(&[][..], 4), (&[("target", "2")], 10), (&[("max-scaleFromEnv", "3")], 3)]
    {
        let object = trigger("web", &[&[("deployment", "web")][..], metadata].concat());
        until(
            "its own number",
            async || replicas(&mut client, &object).await,
            |n| *n == Ok(expected),
        )
        .await;
    }
}

#[tokio::test]
async fn nothing_would_wake_it_so_it_stays_active() {
    let world = World::start().await;
    world.deploy("web", 0, &[]).await;
    let mut client = world.client();
    let object = trigger("web", &[("deployment", "web"), ("source", PODS), ("target", "10")]);
    until("active", async || active(&mut client, &object).await, |is| *is == Ok(true)).await;
    until("one", async || replicas(&mut client, &object).await, |n| *n == Ok(1)).await;
}

#[tokio::test]
async fn bad_questions_get_their_reason() {
    let world = World::start().await;
    world.deploy("web", 1, &[]).await;
    let mut client = world.client();
    for (object, code, words) in [
        (trigger("x", &[("deployment", "none")]), Code::NotFound, &["shop/none"][..]),
        (trigger("x", &[]), Code::NotFound, &["shop/x", "deployment"]),
        (
            trigger("x", &[("deployment", "web"), ("target", "none")]),
            Code::InvalidArgument,
            &["\"target\"", "\"none\""],
        ),
        (
            trigger("x", &[("deployment", "web"), ("tagret", "1")]),
            Code::InvalidArgument,
            &["\"tagret\"", "did you mean target?"],
        ),
        (
            trigger("x", &[("deployment", "web"), ("namespace", "other")]),
            Code::PermissionDenied,
            &["\"other\""],
        ),
    ] {
        let status = spec(&mut client, &object).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        for word in words {
            assert!(status.message().contains(word), "{word}: {status:?}");
        }
        assert_eq!(active(&mut client, &object).await, Err(code));
        let stream = client.stream_is_active(object.clone()).await;
        assert_eq!(stream.err().map(|status| status.code()), Some(code));
    }
    let request = GetMetricsRequest::default();
    let status = client.get_metrics(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn only_listed_namespaces_are_answered() {
    let world = World::start_for(&["shop", "lab"], None).await;
    world.deploy("web", 1, &[]).await;
    let mut client = world.client();
    spec(&mut client, &web()).await.unwrap();
    let foreign = ScaledObjectRef { namespace: "bank".to_owned(), ..web() };
    let status = spec(&mut client, &foreign).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    // Both namespaces are listed, so one may look into the other.
    let lab = ScaledObjectRef { namespace: "lab".to_owned(), ..web() };
    let status = spec(&mut client, &lab).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "lab/web does not exist");
    let reaching = trigger("web", &[&WEB[..], &[("namespace", "shop")]].concat());
    let reaching = ScaledObjectRef { namespace: "lab".to_owned(), ..reaching };
    until("an answer", async || spec(&mut client, &reaching).await, Result::is_ok).await;
}

#[tokio::test]
async fn until_caches_are_filled_nothing_is_known_not_to_exist() {
    let world = World::start().await;
    world.set_synced(false);
    let mut client = world.client();
    assert_eq!(spec(&mut client, &web()).await.unwrap_err().code(), Code::Unavailable);
    world.set_synced(true);
    assert_eq!(spec(&mut client, &web()).await.unwrap_err().code(), Code::NotFound);
    world.deploy("web", 1, &[]).await;
    until("it appears", async || spec(&mut client, &web()).await, Result::is_ok).await;
    world.delete("web").await;
    until(
        "it is gone",
        async || spec(&mut client, &web()).await.map_err(|s| s.code()),
        |answer| *answer == Err(Code::NotFound),
    )
    .await;
    world.deploy("web", 1, &[]).await;
    until("it is back", async || spec(&mut client, &web()).await, Result::is_ok).await;
}
