//! Streams that outlive a change of the holder: fed by this process while it decides, by the holder while
//! another one does. To KEDA it is one stream that never fails.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status, Streaming};

use super::counters::Method;
use super::desk::{Desk, OpenStream};
use super::stream as own;
use super::wire::{GetMetricSpecResponse, IsActiveResponse, ScaledObjectRef};
use crate::runtime::role::Role;
use crate::servers::peers::{HolderClient, LIMIT, NoHolder, Peers};

/// How long a stream waits before it asks the holder again.
const RETRY: Duration = Duration::from_millis(500);

type Messages<M> = BoxStream<'static, Result<M, Status>>;
type Opening<M> = BoxFuture<'static, Result<Messages<M>, Status>>;

/// How a kind of stream is opened, here and at the holder.
struct Kind<M> {
    method: Method,
    here: fn(Arc<Desk>, Arc<ScaledObjectRef>) -> Opening<M>,
    there: fn(Peers, Arc<ScaledObjectRef>) -> Opening<M>,
}

impl<M> Clone for Kind<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Kind<M> {}

struct Relay<M> {
    desk: Arc<Desk>,
    peers: Option<Peers>,
    object: Arc<ScaledObjectRef>,
    kind: Kind<M>,
    place: OpenStream,
    role: watch::Receiver<Role>,
    /// The open stream, and whether it is fed here.
    source: Option<(bool, Messages<M>)>,
}

/// The messages of `StreamIsActive`.
///
/// # Errors
/// If the trigger cannot be answered.
pub(super) async fn activity(
    desk: Arc<Desk>,
    peers: Option<Peers>,
    object: ScaledObjectRef,
) -> Result<Messages<IsActiveResponse>, Status> {
    let kind = Kind {
        method: Method::StreamIsActive,
        here: |desk, object| own::activity(desk, object).boxed(),
        there: |peers, object| {
            there(peers, object, |mut scaler, request| async move {
                scaler.stream_is_active(request).await
            })
            .boxed()
        },
    };
    relayed(desk, peers, object, kind).await
}

/// The messages of `StreamMetricSpec`.
///
/// # Errors
/// If the trigger cannot be answered.
pub(super) async fn specs(
    desk: Arc<Desk>,
    peers: Option<Peers>,
    object: ScaledObjectRef,
) -> Result<Messages<GetMetricSpecResponse>, Status> {
    let kind = Kind {
        method: Method::StreamMetricSpec,
        here: |desk, object| own::specs(desk, object).boxed(),
        there: |peers, object| {
            there(peers, object, |mut scaler, request| async move {
                scaler.stream_metric_spec(request).await
            })
            .boxed()
        },
    };
    relayed(desk, peers, object, kind).await
}

/// A stream that the holder feeds.
async fn there<M, F>(
    peers: Peers,
    object: Arc<ScaledObjectRef>,
    open: impl FnOnce(HolderClient, Request<ScaledObjectRef>) -> F,
) -> Result<Messages<M>, Status>
where
    M: Send + 'static,
    F: Future<Output = Result<Response<Streaming<M>>, Status>>,
{
    let request = peers.request((*object).clone())?;
    Ok(open(peers.scaler()?, request).await?.into_inner().boxed())
}

async fn relayed<M: Send + 'static>(
    desk: Arc<Desk>,
    peers: Option<Peers>,
    object: ScaledObjectRef,
    kind: Kind<M>,
) -> Result<Messages<M>, Status> {
    let role = desk.context.role.follow();
    let place = desk.open_stream(kind.method)?;
    let object = Arc::new(object);
    let mut relay = Relay { desk, peers, object, kind, place, role, source: None };
    match relay.open().await {
        // What may pass by itself is no error: the stream is silent until then.
        Err(status) if status.code() != Code::Unavailable => return Err(status),
        _ => {}
    }
    let messages = stream::unfold(relay, |mut relay| async move {
        let message = relay.next().await?;
        relay.place.pushes();
        Some((Ok(message), relay))
    });
    Ok(messages.boxed())
}

impl<M: Send + 'static> Relay<M> {
    /// Opens the stream where it is fed now.
    async fn open(&mut self) -> Result<(), Status> {
        let here = self.desk.context.role.decides();
        let (kind, object) = (self.kind, self.object.clone());
        let opened = match &self.peers {
            _ if here => (kind.here)(self.desk.clone(), object).await,
            Some(peers) => {
                self.desk.keep_warm(&object);
                let opening = (kind.there)(peers.clone(), object);
                match tokio::time::timeout(LIMIT, opening).await {
                    Ok(opened) => opened.map_err(passing),
                    Err(_elapsed) => Err(NoHolder::Silent.into()),
                }
            }
            None => Err(NoHolder::Unknown.into()),
        };
        self.source = Some((here, opened?));
        Ok(())
    }

    /// The next message; `None` at the drain, and for a peer as soon as this process does not decide.
    async fn next(&mut self) -> Option<M> {
        let drain = self.desk.context.drain.clone();
        while !drain.is_cancelled() {
            self.role.mark_unchanged();
            let decides = self.desk.context.role.decides();
            if self.peers.is_none() && !decides {
                return None;
            }
            if self.source.as_ref().is_none_or(|(here, _)| *here != decides) {
                self.source = None;
                if self.open().await.is_err() {
                    self.pause().await;
                }
                continue;
            }
            let Some((_, source)) = &mut self.source else { continue };
            tokio::select! {
                () = drain.cancelled() => return None,
                changed = self.role.changed() => changed.ok()?,
                message = source.next() => {
                    if let Some(Ok(message)) = message {
                        return Some(message);
                    }
                    self.source = None;
                    self.pause().await;
                }
            }
        }
        None
    }

    /// Waits for another holder, or a moment.
    async fn pause(&mut self) {
        let drain = self.desk.context.drain.clone();
        tokio::select! {
            () = drain.cancelled() => {}
            _ = self.role.changed() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// A call to the holder that broke off says nothing about the question.
pub(super) fn passing(status: Status) -> Status {
    match status.code() {
        Code::NotFound
        | Code::InvalidArgument
        | Code::PermissionDenied
        | Code::ResourceExhausted => status,
        Code::Unavailable if !status.message().is_empty() => status,
        _ => NoHolder::Silent.into(),
    }
}
