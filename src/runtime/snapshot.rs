//! The snapshot file: what was measured, for the process that comes after this one.
//!
//! It is written beside its place and moved there, so a reader finds the old one or the new one. One
//! that is cut, too large, from another version or from the future is refused as a whole and the process
//! starts without: nothing depends on it.

use std::io::{BufWriter, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::clock::{Clock, age_of};
use super::metrics::Metrics;
use crate::core::snapshot::Snapshot;

/// How often the file is written.
pub const PERIOD: Duration = Duration::from_secs(10);

/// The largest file that is read, in bytes; what is written is bounded by [`Snapshot::MOST_RUNS`].
const LONGEST_FILE: usize = 128 << 20;

/// The version of the form; a file of another one is refused.
const VERSION: u32 = 1;

/// No window is longer than this, so nothing in an older file is of use.
const OLDEST: Duration = Duration::from_secs(3600);

/// How far a file may be from the future: two clocks of one machine do not differ by more.
const FUTURE: Duration = Duration::from_secs(5);

/// Why a snapshot was not read or not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The file cannot be read.
    #[error("read snapshot {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than any that is written.
    #[error("read snapshot {path}: larger than {LONGEST_FILE} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is no snapshot, or not all of one.
    #[error("read snapshot {path}: cut or malformed")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The file has another form.
    #[error("read snapshot {path}: version {found}, expected {VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The file is from too long ago, or from the future: the clock was stepped.
    #[error("read snapshot {path}: saved at {saved_at}, now it is {now}")]
    Time {
        /// The file.
        path: PathBuf,
        /// When it was written, by the wall clock.
        saved_at: Timestamp,
        /// The wall clock.
        now: Timestamp,
    },
    /// The file cannot be written.
    #[error("write snapshot {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl SnapshotError {
    /// A word from a closed list, for logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Read { .. } => "Unreadable",
            Self::TooLarge { .. } => "TooLarge",
            Self::Malformed { .. } => "Malformed",
            Self::Version { .. } => "OtherVersion",
            Self::Time { .. } => "OtherTime",
            Self::Write { .. } => "WriteFailed",
        }
    }
}

/// What tells a snapshot's form; read before the rest is looked at.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    version: u32,
    saved_at: Timestamp,
    snapshot: Snapshot,
}

/// Reads the file as at `wall`; `None` where there is none. Also returns how long ago it was written.
///
/// # Errors
/// If it is there and cannot be used; it is then as good as absent.
pub fn read(path: &Path, wall: Timestamp) -> Result<Option<(Snapshot, Duration)>, SnapshotError> {
    let failed = |source| SnapshotError::Read { path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let limit = u64::try_from(LONGEST_FILE).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > LONGEST_FILE {
        return Err(SnapshotError::TooLarge { path: path.to_owned() });
    }
    let malformed = |source| SnapshotError::Malformed { path: path.to_owned(), source };
    let Head { version } = serde_json::from_slice(&bytes).map_err(malformed)?;
    if version != VERSION {
        return Err(SnapshotError::Version { path: path.to_owned(), found: version });
    }
    let document: Document = serde_json::from_slice(&bytes).map_err(malformed)?;
    let saved_at = document.saved_at;
    let age = age_of(saved_at, wall);
    if age > OLDEST || age_of(wall, saved_at) > FUTURE {
        return Err(SnapshotError::Time { path: path.to_owned(), saved_at, now: wall });
    }
    Ok(Some((document.snapshot, age)))
}

/// Writes the file as at `wall`: all of it, or nothing.
///
/// # Errors
/// If it cannot be written; the old one stays.
pub fn write(path: &Path, wall: Timestamp, snapshot: Snapshot) -> Result<(), SnapshotError> {
    let failed = |source| SnapshotError::Write { path: path.to_owned(), source };
    let document = Document { version: VERSION, saved_at: wall, snapshot };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = BufWriter::new(std::fs::File::create(&new).map_err(failed)?);
    serde_json::to_writer(&mut file, &document).map_err(|why| failed(why.into()))?;
    let file = file.into_inner().map_err(|why| failed(why.into_error()))?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)
}

/// Reads the file for the start of a process; says in one line what came of it.
pub fn read_at_start(
    path: &Path,
    wall: Timestamp,
    metrics: &Metrics,
) -> Option<(Snapshot, Duration)> {
    match read(path, wall) {
        Ok(Some((snapshot, age))) => {
            metrics.snapshot_file("Read");
            tracing::info!(windows = snapshot.windows.len(), ?age, "snapshot read");
            Some((snapshot, age))
        }
        Ok(None) => {
            tracing::info!(path = %path.display(), "no snapshot yet");
            None
        }
        Err(error) => {
            metrics.snapshot_file("Refused");
            let source: &dyn std::error::Error = &error;
            tracing::warn!(
                reason = error.reason(),
                error = source,
                "snapshot refused, starting without"
            );
            None
        }
    }
}

/// Writes every snapshot that arrives, until nobody can send one any more.
pub async fn write_all(
    mut snapshots: mpsc::Receiver<Snapshot>,
    path: PathBuf,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
) {
    let mut failing = false;
    while let Some(snapshot) = snapshots.recv().await {
        if snapshot.left_out > 0 {
            tracing::warn!(windows = snapshot.left_out, "too many windows for a snapshot");
        }
        let (path, wall) = (path.clone(), clock.wall());
        let writing = tokio::task::spawn_blocking(move || write(&path, wall, snapshot));
        match writing.await {
            Ok(Err(error)) => {
                metrics.snapshot_file("WriteFailed");
                if !failing {
                    let source: &dyn std::error::Error = &error;
                    tracing::warn!(reason = error.reason(), error = source, "snapshot not written");
                }
                failing = true;
            }
            Ok(Ok(())) => {
                metrics.snapshot_file("Written");
                failing = false;
            }
            // Cancelled with the process.
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::snapshot::{Place, Run, SavedWindow};
    use crate::core::target::TargetId;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn snapshot() -> Snapshot {
        let place = Place {
            measure: "concurrency".into(),
            companion: false,
            source: "scrape".into(),
            interval: Duration::from_secs(1),
            range: None,
        };
        let runs = vec![
            Run { seconds: 50, load: Some((3.25, 13.25)), samples: 1 },
            Run { seconds: 3, load: None, samples: 0 },
            Run { seconds: 1, load: Some((0.1, 0.1)), samples: 2 },
        ];
        let target = TargetId::deployment("shop", "web");
        let windows = vec![SavedWindow { target, place, newest: at(8), runs }];
        Snapshot { taken_at: at(9), windows, left_out: 0 }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("windows.json");
        assert!(read(&path, at(0)).unwrap().is_none(), "no file is no error");
        write(&path, at(100), Snapshot::default()).unwrap();
        write(&path, at(100), snapshot()).unwrap();
        let (found, age) = read(&path, at(130)).unwrap().unwrap();
        assert_eq!((found, age), (snapshot(), Duration::from_secs(30)));
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 1, "nothing is left beside it");
    }

    #[test]
    fn what_cannot_be_used_is_refused_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("windows.json");
        write(&path, at(100), snapshot()).unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        let reason = |wall| read(&path, wall).unwrap_err().reason();
        assert_eq!(reason(at(100 + 3601)), "OtherTime");
        assert_eq!(reason(at(100 - 6)), "OtherTime");
        let other = good.replace("\"version\":1", "\"version\":2");
        for (text, expected) in [
            (&good[..good.len() - 1], "Malformed"),
            (&good[..good.len() / 2], "Malformed"),
            ("", "Malformed"),
            ("{}", "Malformed"),
            ("[1]", "Malformed"),
            (&good.replace("3.25", "NaN"), "Malformed"),
            (&good.replace("\"windows\"", "\"doors\""), "Malformed"),
            (&good.replace("\"seconds\":50", "\"seconds\":-50"), "Malformed"),
            (&other, "OtherVersion"),
            ("{\"version\":99,\"anything\":[]}", "OtherVersion"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(reason(at(110)), expected, "{text}");
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(reason(at(110)), "Unreadable");
        let error = write(&path, at(110), snapshot()).unwrap_err();
        assert_eq!(error.reason(), "WriteFailed");
    }

    #[test]
    fn what_is_too_much_is_left_out_or_refused() {
        let mut window = snapshot().windows.remove(0);
        let run = Run { seconds: 1, load: None, samples: 0 };
        window.runs = vec![run; Snapshot::MOST_RUNS / 3];
        let taken = Snapshot::of(at(9), std::iter::repeat_n(window, 4));
        assert_eq!((taken.windows.len(), taken.left_out), (3, 1));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("windows.json");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(u64::try_from(LONGEST_FILE).unwrap() + 1).unwrap();
        assert_eq!(read(&path, at(0)).unwrap_err().reason(), "TooLarge");
    }
}
