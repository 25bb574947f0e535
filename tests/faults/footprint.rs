//! What a process holds, second by second: memory and file descriptors have to be as flat at the end of the
//! faults as in their midst.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::support::podswell::{Podswell, resident_kib};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// How many looks make thirds that can be compared.
const ENOUGH: usize = 12;
/// Memory that may come on top without being a trend: an allocator keeps some pages of what was the most.
const SLACK_KIB: u64 = 16 * 1024;
/// Connections that may come on top: to pods that were added, to the API server, of those who ask.
const SLACK_DESCRIPTORS: usize = 32;

/// What a process holds at a moment.
#[derive(Debug, Clone, Copy, Default)]
struct Footprint {
    resident_kib: u64,
    descriptors: usize,
}

/// What one process held while it was looked at.
#[derive(Debug, Default)]
struct Series {
    /// Another process has a series of its own.
    process: u32,
    held: Vec<Footprint>,
}

/// Looks at a process once a second until it is dropped.
pub(crate) struct Watch {
    series: Arc<Mutex<Series>>,
    counts: Arc<AtomicBool>,
    looking: JoinHandle<()>,
}

impl Watch {
    pub(crate) fn start(podswell: Arc<tokio::sync::Mutex<Podswell>>) -> Self {
        let series = Arc::<Mutex<Series>>::default();
        let counts = Arc::new(AtomicBool::new(true));
        let (noting, counting) = (Arc::clone(&series), Arc::clone(&counts));
        let looking = tokio::spawn(async move {
            loop {
                let process = podswell.lock().await.id();
                // It may just have been killed.
                if counting.load(Ordering::Relaxed)
                    && let Some(held) = footprint(process)
                {
                    noting.lock().note(process, held);
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { series, counts, looking }
    }

    /// Whether what it holds now counts: not while no fault is played, which would make any trend flat.
    pub(crate) fn counts(&self, counts: bool) {
        self.counts.store(counts, Ordering::Relaxed);
    }

    /// Sees to it that the process holds at the end about what it held in the midst, and not much more than
    /// at the beginning. What goes away again is no trend: of each third the least is compared.
    ///
    /// # Errors
    /// Says what has grown, with the whole series.
    pub(crate) fn is_flat(&self) -> Result<(), String> {
        self.series.lock().is_flat()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

impl Series {
    fn note(&mut self, process: u32, held: Footprint) {
        if self.process != process {
            *self = Self { process, held: Vec::new() };
        }
        self.held.push(held);
    }

    fn is_flat(&self) -> Result<(), String> {
        if self.held.len() < ENOUGH {
            return Ok(());
        }
        let third = self.held.len() / 3;
        let least = |part: &[Footprint]| Footprint {
            resident_kib: part.iter().map(|held| held.resident_kib).min().unwrap_or(0),
            descriptors: part.iter().map(|held| held.descriptors).min().unwrap_or(0),
        };
        let [first, midst, last] =
            [&self.held[..third], &self.held[third..2 * third], &self.held[2 * third..]].map(least);
        let is_flat = last.resident_kib <= midst.resident_kib * 5 / 4 + SLACK_KIB
            && last.resident_kib <= first.resident_kib * 3 / 2 + SLACK_KIB
            && last.descriptors <= midst.descriptors + SLACK_DESCRIPTORS
            && last.descriptors <= first.descriptors + SLACK_DESCRIPTORS;
        if is_flat { Ok(()) } else { Err(format!("{first:?}, {midst:?}, {last:?}; {self}")) }
    }
}

impl std::fmt::Display for Series {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("MiB and descriptors, each second:")?;
        for Footprint { resident_kib, descriptors } in &self.held {
            write!(to, " {}/{descriptors}", resident_kib / 1024)?;
        }
        Ok(())
    }
}

fn footprint(process: u32) -> Option<Footprint> {
    let resident_kib = resident_kib(process)?;
    let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).ok()?.count();
    Some(Footprint { resident_kib, descriptors })
}
