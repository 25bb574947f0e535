//! The two services that tools expect beside every gRPC service: health and reflection.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::service::Scaler;
use super::wire::DESCRIPTORS;
use super::wire::external_scaler_server::ExternalScalerServer;
use crate::runtime::health::Health;

/// How often readiness is looked at.
const PERIOD: Duration = Duration::from_millis(250);

/// Adds both services; the reporter is for [`report`].
pub(super) fn add(routes: Routes) -> (Routes, HealthReporter) {
    let (reporter, health) = tonic_health::server::health_reporter();
    let mut routes = routes.add_service(health);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // The descriptors are part of the binary: a test sees to it that they can be read.
    if let Ok(v1) = reflection().build_v1() {
        routes = routes.add_service(v1);
    }
    if let Ok(v1alpha) = reflection().build_v1alpha() {
        routes = routes.add_service(v1alpha);
    }
    (routes, reporter)
}

/// Keeps the health service in step with the process's readiness until `stop`; then it is not serving.
pub(super) async fn report(reporter: HealthReporter, health: Arc<Health>, stop: CancellationToken) {
    let mut shown = None;
    loop {
        let ready = !stop.is_cancelled() && health.missing().is_empty();
        if shown.replace(ready) != Some(ready) {
            let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status("", status).await;
            if ready {
                reporter.set_serving::<ExternalScalerServer<Scaler>>().await;
            } else {
                reporter.set_not_serving::<ExternalScalerServer<Scaler>>().await;
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_none() && !ready {
            return;
        }
    }
}
