//! The five calls of the external scaler.

use std::sync::Arc;

use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::Context;
use super::answer::{self, NoAnswer};
use super::desk::{Asked, Desk};
use super::relay;
use super::wire::external_scaler_server::ExternalScaler;
use super::wire::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, ScaledObjectRef,
};
use crate::core::decision::TargetStatus;
use crate::core::text::shown;
use crate::servers::peers::{LIMIT, NoHolder, Peers};

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Scaler {
    pub(super) desk: Arc<Desk>,
    /// The way to the holder of the lease; `None` for who is asked by other processes.
    peers: Option<Peers>,
}

impl Scaler {
    /// A service that knows no trigger yet. Where another process decides, `peers` are asked.
    pub fn new(context: Context, peers: Peers) -> Self {
        Self { desk: Desk::new(context), peers: Some(peers) }
    }

    /// The same service for other processes: it answers only while this process decides.
    #[must_use]
    pub fn for_peers(&self) -> Self {
        Self { desk: self.desk.clone(), peers: None }
    }

    /// Whom to ask instead of this process; `None`: it decides itself.
    fn elsewhere(&self) -> Result<Option<&Peers>, Status> {
        if self.desk.context.role.decides() {
            return Ok(None);
        }
        self.desk.check_ready()?;
        self.peers.as_ref().map(Some).ok_or_else(|| NoHolder::Unknown.into())
    }

    /// Forgets triggers that nobody asks for any more; runs until the drain begins.
    pub async fn sweep(self) {
        self.desk.sweep().await;
    }

    /// The newest status of a trigger's decider.
    async fn status(&self, object: &ScaledObjectRef) -> Result<Found, Status> {
        let asked = self.desk.find(object).await?;
        let status = self.desk.context.board.get(&asked.target);
        let status = status.ok_or_else(|| unavailable(&asked, NoAnswer::Undecided))?;
        Ok(Found { asked, status })
    }
}

struct Found {
    asked: Arc<Asked>,
    status: Arc<TargetStatus>,
}

/// The holder's answer, if it comes in time.
async fn asked_for<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Response<T>, Status> {
    match tokio::time::timeout(LIMIT, call).await {
        Ok(answer) => answer.map_err(relay::passing),
        Err(_elapsed) => Err(NoHolder::Silent.into()),
    }
}

fn unavailable(asked: &Asked, why: NoAnswer) -> Status {
    Status::unavailable(format!("{}: {why}", asked.target))
}

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    type StreamIsActiveStream = BoxStream<'static, Result<IsActiveResponse, Status>>;
    type StreamMetricSpecStream = BoxStream<'static, Result<GetMetricSpecResponse, Status>>;

    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        if let Some(peers) = self.elsewhere()? {
            let request = peers.request(request.into_inner())?;
            return asked_for(async { peers.scaler()?.is_active(request).await }).await;
        }
        let Found { asked, status } = self.status(request.get_ref()).await?;
        let result = answer::is_active(&status, self.desk.context.clock.now())
            .map_err(|why| unavailable(&asked, why))?;
        Ok(Response::new(IsActiveResponse { result }))
    }

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let stream =
            relay::activity(self.desk.clone(), self.peers.clone(), request.into_inner()).await?;
        Ok(Response::new(stream))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        if let Some(peers) = self.elsewhere()? {
            let request = peers.request(request.into_inner())?;
            return asked_for(async { peers.scaler()?.get_metric_spec(request).await }).await;
        }
        let Found { asked, status } = self.status(request.get_ref()).await?;
        Ok(Response::new(specs(&asked, &status)))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        if let Some(peers) = self.elsewhere()? {
            let request = peers.request(request.into_inner())?;
            return asked_for(async { peers.scaler()?.get_metrics(request).await }).await;
        }
        let request = request.get_ref();
        let Some(object) = &request.scaled_object_ref else {
            return Err(Status::invalid_argument("scaledObjectRef is missing"));
        };
        let Found { asked, status } = self.status(object).await?;
        let name = answer::metric_name(&status.config, asked.value);
        if request.metric_name != name && without_index(&request.metric_name) != name {
            let asked_for = shown(&request.metric_name);
            return Err(Status::not_found(format!(
                "no metric {asked_for}: this trigger's is {name}"
            )));
        }
        let value = answer::metric_value(&status, asked.value, self.desk.context.clock.now())
            .map_err(|why| unavailable(&asked, why))?;
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }

    async fn stream_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        let stream =
            relay::specs(self.desk.clone(), self.peers.clone(), request.into_inner()).await?;
        Ok(Response::new(stream))
    }
}

/// The answer of `GetMetricSpec` and each message of `StreamMetricSpec`.
pub(super) fn specs(asked: &Asked, status: &TargetStatus) -> GetMetricSpecResponse {
    GetMetricSpecResponse { metric_specs: vec![answer::spec(&status.config, asked.value)] }
}

/// The name without the prefix `s<index>-`, which KEDA 2.5 and 2.6 leave on.
fn without_index(name: &str) -> &str {
    let Some((index, rest)) = name.strip_prefix('s').and_then(|rest| rest.split_once('-')) else {
        return name;
    };
    let is_index = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    if is_index { rest } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_taken_off_a_name() {
        for (name, expected) in [
            ("s0-podswell-replicas", "podswell-replicas"),
            ("s12-podswell-rps-stable", "podswell-rps-stable"),
            ("podswell-replicas", "podswell-replicas"),
            ("s-podswell", "s-podswell"),
            ("sx0-a", "sx0-a"),
            ("s1", "s1"),
            ("", ""),
        ] {
            assert_eq!(without_index(name), expected);
        }
    }
}
