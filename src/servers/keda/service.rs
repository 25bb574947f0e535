//! The five calls of the external scaler.

use std::sync::Arc;

use futures::stream::BoxStream;
use tonic::metadata::{AsciiMetadataValue, MetadataValue};
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

/// The metadata of an answer that tells which decision it comes from: `epoch=E sequence=S age-ms=A`. `E`
/// counts how often the lease changed hands, `S` is when it was decided (milliseconds by the holder's
/// clock; it grows within an epoch), `A` how long ago that was when the holder answered.
pub const DECISION: &str = "podswell-decision";

/// The metadata of an answer that another process gave.
pub const FORWARDED: &str = "podswell-forwarded";

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

    /// An answer with the decision that it comes from.
    fn stamped<T>(&self, message: T, status: &TargetStatus) -> Response<T> {
        let mut response = Response::new(message);
        let context = &self.desk.context;
        let stamp = status.decision.as_deref().map(|decision| {
            let age_ms = context.clock.now().duration_since(decision.at).as_millis().max(0);
            let (epoch, sequence) = (context.role.epoch(), decision.at.as_millisecond());
            format!("epoch={epoch} sequence={sequence} age-ms={age_ms}")
        });
        let stamp: Option<AsciiMetadataValue> = stamp.and_then(|stamp| stamp.parse().ok());
        if let Some(mut stamp) = stamp {
            // It is never the same twice, so neither end shall keep it in its table of headers.
            stamp.set_sensitive(true);
            response.metadata_mut().insert(DECISION, stamp);
        }
        response
    }

    /// Forgets triggers that nobody asks for any more; runs until the drain begins.
    pub async fn sweep(self) {
        self.desk.sweep().await;
    }

    /// The newest status of a trigger's decider.
    async fn status(&self, object: &ScaledObjectRef) -> Result<Found, Status> {
        let asked = self.desk.find(object).await?;
        let status = asked.status().ok_or_else(|| unavailable(&asked, NoAnswer::Undecided))?;
        Ok(Found { asked, status })
    }
}

struct Found {
    asked: Arc<Asked>,
    status: Arc<TargetStatus>,
}

/// The holder's answer, if it comes in time, and from a holder that is none of the past.
async fn asked_for<T>(
    peers: &Peers,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Response<T>, Status> {
    let answer = tokio::time::timeout(LIMIT, call).await;
    let mut answer = answer.map_err(|_elapsed| NoHolder::Silent)?.map_err(relay::passing)?;
    let stamp = answer.metadata().get(DECISION).and_then(|stamp| stamp.to_str().ok());
    if stamp.and_then(epoch_of).is_some_and(|epoch| epoch < peers.role.epoch()) {
        return Err(NoHolder::Unknown.into());
    }
    answer.metadata_mut().insert(FORWARDED, MetadataValue::from_static("true"));
    Ok(answer)
}

/// The epoch of a stamp.
fn epoch_of(stamp: &str) -> Option<i32> {
    stamp.strip_prefix("epoch=")?.split(' ').next()?.parse().ok()
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
            self.desk.keep_warm(request.get_ref());
            let request = peers.request(request.into_inner())?;
            return asked_for(peers, async { peers.scaler()?.is_active(request).await }).await;
        }
        let Found { asked, status } = self.status(request.get_ref()).await?;
        let result = answer::is_active(&status, self.desk.context.clock.now())
            .map_err(|why| unavailable(&asked, why))?;
        Ok(self.stamped(IsActiveResponse { result }, &status))
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
            self.desk.keep_warm(request.get_ref());
            let request = peers.request(request.into_inner())?;
            return asked_for(peers, async { peers.scaler()?.get_metric_spec(request).await })
                .await;
        }
        let Found { asked, status } = self.status(request.get_ref()).await?;
        Ok(self.stamped(specs(&asked, &status), &status))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        if let Some(peers) = self.elsewhere()? {
            if let Some(object) = &request.get_ref().scaled_object_ref {
                self.desk.keep_warm(object);
            }
            let request = peers.request(request.into_inner())?;
            return asked_for(peers, async { peers.scaler()?.get_metrics(request).await }).await;
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
        Ok(self.stamped(GetMetricsResponse { metric_values: vec![value] }, &status))
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
    fn the_epoch_is_read_from_a_stamp() {
        assert_eq!(epoch_of("epoch=3 sequence=1763856000123 age-ms=12"), Some(3));
        assert_eq!(epoch_of("epoch=x sequence=1"), None);
        assert_eq!(epoch_of(""), None);
    }

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
