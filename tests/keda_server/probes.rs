//! The health service, as a load balancer or a `grpc` probe asks it.

use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::calls::until;
use crate::world::World;

#[tokio::test]
async fn health_says_whether_questions_can_be_answered() {
    let world = World::start().await;
    let mut client = HealthClient::with_origin(World::channel(), world.origin());
    let mut check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = client.check(request).await;
        answer.map(|answer| answer.into_inner().status()).map_err(|status| status.code())
    };
    for (synced, expected) in [
        (true, ServingStatus::Serving),
        (false, ServingStatus::NotServing),
        (true, ServingStatus::Serving),
    ] {
        world.set_synced(synced);
        for service in ["", "externalscaler.ExternalScaler"] {
            until("its health", async || check(service).await, |is| *is == Ok(expected)).await;
        }
    }
    assert_eq!(check("other").await, Err(Code::NotFound));
}
