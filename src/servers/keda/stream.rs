//! The two streams of a trigger of type `external-push`. Nothing is queued: each stream looks at the
//! newest status when its peer has room for a message, so a peer that does not read costs one message.
//!
//! KEDA answers every `true` with a write to the API server, and ignores every `false`; so a stream says
//! `true` when load appears, again each second while the workload has no replica (KEDA drops what
//! comes before it knows the metric), and nothing else. A stream ends without an error, because KEDA then
//! comes back within two seconds and otherwise only after up to a minute; what cannot be known at the
//! moment keeps it silent.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::answer::{self, NoAnswer};
use super::desk::{Asked, Desk};
use super::service;
use super::wire::{GetMetricSpecResponse, IsActiveResponse, ScaledObjectRef};
use crate::core::decision::TargetStatus;
use crate::runtime::clock::instant;
use crate::runtime::status_board::Followed;

/// How often `true` is repeated while KEDA has not acted on it.
const REPEAT: Duration = Duration::from_secs(1);

/// How often the specs are repeated: KEDA forgets them with its cache after an error.
const RENEW: Duration = Duration::from_secs(180);

/// How long a stream waits before it looks again for a decider that could not be had.
const RETRY: Duration = Duration::from_secs(1);

/// A trigger whose newest status is followed.
struct Following {
    desk: Arc<Desk>,
    object: Arc<ScaledObjectRef>,
    followed: Option<(Arc<Asked>, watch::Receiver<Followed>)>,
}

/// What a stream has to do next.
enum Step<T> {
    Say(T),
    /// Wait for a change, or until this moment.
    Wait(Option<Instant>),
}

impl Following {
    /// # Errors
    /// If the trigger is one that cannot be answered; what may pass by itself is no error.
    async fn begin(desk: Arc<Desk>, object: Arc<ScaledObjectRef>) -> Result<Self, Status> {
        let mut following = Self { desk, object, followed: None };
        match following.attach().await {
            Err(status) if status.code() != Code::Unavailable => Err(status),
            _ => Ok(following),
        }
    }

    async fn attach(&mut self) -> Result<(), Status> {
        let asked = self.desk.find(&self.object).await?;
        // One copy for all that ask by the same trigger.
        self.object = asked.object.clone();
        let receiver = self.desk.context.board.follow(&asked.target);
        self.followed = Some((asked, receiver));
        Ok(())
    }

    /// Waits until `step` has something to say to the newest status; `None` at the drain.
    async fn next<T>(
        &mut self,
        mut step: impl FnMut(&Asked, &TargetStatus) -> Step<T>,
    ) -> Option<T> {
        let drain = self.desk.context.drain.clone();
        while !drain.is_cancelled() {
            let Some((asked, receiver)) = &mut self.followed else {
                if self.attach().await.is_err() {
                    drain.run_until_cancelled(tokio::time::sleep(RETRY)).await?;
                }
                continue;
            };
            let newest = receiver.borrow_and_update().clone();
            let until = match &newest {
                Some(status) => match step(asked, status) {
                    Step::Say(message) => return Some(message),
                    Step::Wait(until) => until,
                },
                // Not decided yet, or gone: perhaps another decider has taken its place.
                None => Some(instant() + RETRY),
            };
            tokio::select! {
                () = drain.cancelled() => return None,
                changed = receiver.changed() => {
                    if changed.is_err() {
                        self.followed = None;
                    }
                }
                () = sleep_until(until) => {
                    if newest.is_none() {
                        self.followed = None;
                    }
                }
            }
        }
        None
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// The messages of `StreamIsActive`.
///
/// # Errors
/// If the trigger cannot be answered.
pub(super) async fn activity(
    desk: Arc<Desk>,
    object: Arc<ScaledObjectRef>,
) -> Result<BoxStream<'static, Result<IsActiveResponse, Status>>, Status> {
    let following = Following::begin(desk, object).await?;
    let told: Option<Instant> = None;
    let messages = stream::unfold((following, told), |(mut following, mut told)| async move {
        let clock = following.desk.context.clock.clone();
        let said = following.next(|_, status| {
            // What is not known changes nothing.
            match answer::is_active(status, clock.now()) {
                Ok(true) => {}
                Ok(false) => {
                    told = None;
                    return Step::Wait(None);
                }
                // The engine hangs, or has: the next decision may be no news.
                Err(NoAnswer::Stale) => return Step::Wait(Some(instant() + RETRY)),
                Err(_) => return Step::Wait(None),
            }
            if let Some(due) = told.map(|told| told + REPEAT) {
                if !answer::is_at_zero(status) {
                    return Step::Wait(None);
                }
                if due > instant() {
                    return Step::Wait(Some(due));
                }
            }
            told = Some(instant());
            Step::Say(IsActiveResponse { result: true })
        });
        let message = said.await?;
        Some((Ok(message), (following, told)))
    });
    Ok(messages.boxed())
}

/// The messages of `StreamMetricSpec`.
///
/// # Errors
/// If the trigger cannot be answered.
pub(super) async fn specs(
    desk: Arc<Desk>,
    object: Arc<ScaledObjectRef>,
) -> Result<BoxStream<'static, Result<GetMetricSpecResponse, Status>>, Status> {
    let following = Following::begin(desk, object).await?;
    let told: Option<(GetMetricSpecResponse, Instant)> = None;
    let messages = stream::unfold((following, told), |(mut following, mut told)| async move {
        let said = following.next(|asked, status| {
            let specs = service::specs(asked, status);
            if let Some((before, at)) = &told {
                let due = *at + RENEW;
                if *before == specs && due > instant() {
                    return Step::Wait(Some(due));
                }
            }
            told = Some((specs.clone(), instant()));
            Step::Say(specs)
        });
        let message = said.await?;
        Some((Ok(message), (following, told)))
    });
    Ok(messages.boxed())
}
