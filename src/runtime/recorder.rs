//! `--record`: what the engine is told and decides, as JSON lines in a file of bounded size, so that an
//! incident can be replayed.
//!
//! The engine's task never waits for the disk: lines go through a bounded queue to a thread of their own,
//! and where it is full they are dropped, counted, and the gap is written down.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::decision::TargetStatus;
use crate::core::event::Event;
use crate::core::recording::{Digest, FORMAT, Line, standing};
use crate::core::target::TargetId;

/// How many lines may wait for the disk.
const QUEUE_LENGTH: usize = 65_536;
/// How long a line may wait in the buffer while nothing else comes.
const FLUSH_PAUSE: Duration = Duration::from_millis(500);
/// How many older files are kept beside the newest: FILE.1 is the youngest of them.
const KEPT: u32 = 3;

/// Why recording did not start.
#[derive(Debug, thiserror::Error)]
#[error("record to {}", path.display())]
pub struct RecorderError {
    /// The file.
    pub path: PathBuf,
    /// What went wrong.
    #[source]
    pub source: io::Error,
}

/// The engine task's end of a recording.
#[derive(Debug)]
pub struct Recorder {
    lines: Option<SyncSender<Line>>,
    writer: Option<JoinHandle<()>>,
    dropped: u64,
}

impl Recorder {
    /// Starts a recording in a new file, at most `most_bytes` long before it is rotated. A file of that
    /// name is kept as FILE.1.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn start(path: &Path, most_bytes: u64) -> Result<Self, RecorderError> {
        let error = |source| RecorderError { path: path.to_owned(), source };
        let mut book = Book::open(path, most_bytes, false).map_err(error)?;
        book.write(&Line::Start {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            continued: false,
        })
        .map_err(error)?;
        let (lines, queue) = sync_channel(QUEUE_LENGTH);
        let writer = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || keep(book, &queue))
            .map_err(error)?;
        Ok(Self { lines: Some(lines), writer: Some(writer), dropped: 0 })
    }

    /// The engine is told a fact.
    pub fn event(&mut self, at: Timestamp, event: &Event) {
        self.push(Line::Event { at, event: event.clone() });
    }

    /// The engine decides what is due.
    pub fn due(&mut self, at: Timestamp) {
        self.push(Line::Due { at });
    }

    /// The engine published a new decision.
    pub fn decided(&mut self, status: &TargetStatus) {
        let Some(decision) = status.decision.as_deref() else { return };
        self.push(Line::Decided {
            at: decision.at,
            target: status.target.clone(),
            bounded: decision.bounded,
            digest: Digest::of(decision),
        });
    }

    fn push(&mut self, line: Line) {
        let Some(lines) = &self.lines else { return };
        if self.dropped > 0 {
            if lines.try_send(Line::Gap { lines: self.dropped }).is_err() {
                self.dropped += 1;
                return;
            }
            self.dropped = 0;
        }
        if lines.try_send(line).is_err() {
            self.dropped += 1;
        }
    }
}

impl Drop for Recorder {
    /// Waits until everything is on the disk.
    fn drop(&mut self) {
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            // A panic of the writer has been printed where it happened.
            let _ = writer.join();
        }
    }
}

/// Writes lines until nobody sends any more. A failing disk ends the recording, not the process.
fn keep(mut book: Book, queue: &Receiver<Line>) {
    loop {
        let outcome = match queue.recv_timeout(FLUSH_PAUSE) {
            Ok(line) => book.write(&line),
            Err(RecvTimeoutError::Timeout) => book.file.flush(),
            Err(RecvTimeoutError::Disconnected) => {
                let _ = book.file.flush();
                return;
            }
        };
        if let Err(error) = outcome {
            tracing::warn!(path = %book.path.display(), %error, "recording stopped");
            return;
        }
    }
}

/// The present file, and what the next one must begin with.
struct Book {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    most_bytes: u64,
    /// The newest facts of each kind, by target: with them a rotated file makes sense by itself.
    known: BTreeMap<(Option<TargetId>, u8), Line>,
}

impl Book {
    fn open(path: &Path, most_bytes: u64, rotating: bool) -> io::Result<Self> {
        if rotating || path.exists() {
            for number in (1..KEPT).rev() {
                let [older, newer] = [number + 1, number].map(|number| numbered(path, number));
                if newer.exists() {
                    std::fs::rename(newer, older)?;
                }
            }
            std::fs::rename(path, numbered(path, 1))?;
        }
        let file = BufWriter::new(File::create(path)?);
        Ok(Self { path: path.to_owned(), file, bytes: 0, most_bytes, known: BTreeMap::new() })
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        self.remember(line);
        if self.bytes >= self.most_bytes {
            self.rotate()?;
        }
        self.put(line)
    }

    fn put(&mut self, line: &Line) -> io::Result<()> {
        let Some(text) = line.to_text() else { return Ok(()) };
        self.bytes += u64::try_from(text.len()).unwrap_or(0);
        self.file.write_all(text.as_bytes())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let known = std::mem::take(&mut self.known);
        *self = Self::open(&self.path, self.most_bytes, true)?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.put(&Line::Start { format: FORMAT, version, continued: true })?;
        for line in known.values() {
            self.put(line)?;
        }
        self.known = known;
        // What a new file begins with does not count, or many targets would rotate it at once.
        self.bytes = 0;
        Ok(())
    }

    /// Keeps the facts that say how things stand: configuration, replicas, pods, rivals, leadership.
    fn remember(&mut self, line: &Line) {
        let Line::Event { event, .. } = line else { return };
        if let Event::TargetDeleted { target } = event {
            self.known.retain(|(known, _), _| known.as_ref() != Some(target));
        } else if let Some(key) = standing(event) {
            self.known.insert(key, line.clone());
        }
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::config::TargetConfig;
    use crate::core::target::PodCounts;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn lines(path: &Path) -> Vec<Line> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| Line::parse(line).unwrap()).collect()
    }

    #[test]
    fn a_recording_is_bounded_and_each_file_makes_sense() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.jsonl");
        let mut recorder = Recorder::start(&path, 4000).unwrap();
        let target = TargetId::deployment("shop", "checkout");
        let config = Arc::new(TargetConfig::default());
        recorder.event(at(0), &Event::TargetApplied { target: target.clone(), config });
        for second in 1..200 {
            let pods = PodCounts { ready: 1, ..PodCounts::default() };
            recorder.event(at(second), &Event::PodsObserved { target: target.clone(), pods });
            recorder.due(at(second));
        }
        drop(recorder);
        let kept: Vec<PathBuf> =
            (1..10).map(|n| numbered(&path, n)).filter(|path| path.exists()).collect();
        assert_eq!(kept.len(), 3, "{kept:?}");
        for file in kept.iter().chain([&path]) {
            let lines = lines(file);
            assert!(matches!(lines[0], Line::Start { continued: true, .. }), "{:?}", lines[0]);
            let applied = |line: &Line| {
                matches!(line, Line::Event { event: Event::TargetApplied { .. }, .. })
            };
            assert!(lines.iter().take(3).any(applied), "{lines:?}");
        }
    }

    #[test]
    fn an_older_recording_is_kept_and_a_bad_place_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.jsonl");
        std::fs::write(&path, "before\n").unwrap();
        drop(Recorder::start(&path, 4000).unwrap());
        assert_eq!(std::fs::read_to_string(numbered(&path, 1)).unwrap(), "before\n");
        assert_eq!(lines(&path).len(), 1);
        let nowhere = folder.path().join("no/such/folder");
        let error = Recorder::start(&nowhere, 4000).unwrap_err().to_string();
        assert!(error.contains("no/such/folder"), "{error}");
    }
}
