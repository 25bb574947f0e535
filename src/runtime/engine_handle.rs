//! The way into the task that owns the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::core::event::Event;

/// How many events may wait for the engine.
pub const QUEUE_LENGTH: usize = 65_536;

/// Sends facts to the engine's task. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    events: mpsc::Sender<Event>,
    dropped: Arc<AtomicU64>,
}

impl EngineHandle {
    /// A handle and the receiving end that the engine's task reads.
    pub fn channel() -> (Self, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(QUEUE_LENGTH);
        (Self { events, dropped: Arc::new(AtomicU64::new(0)) }, receiver)
    }

    /// Hands over samples or source faults without waiting: when the queue is full the event is dropped
    /// and counted, because a late sample is worthless.
    pub fn offer(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Hands over a fact about the cluster, which must not be lost; waits while the queue is full.
    /// Returns whether the engine's task still runs.
    pub async fn tell(&self, event: Event) -> bool {
        self.events.send(event).await.is_ok()
    }

    /// How many offered events were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How many events wait now.
    pub fn queue_length(&self) -> usize {
        self.events.max_capacity() - self.events.capacity()
    }
}
