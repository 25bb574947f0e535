//! Finds the files of a folder of vectors and reads their cases.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::Value;

/// One file of vectors.
pub(crate) struct File {
    /// The file's name, for the report.
    pub(crate) name: String,
    /// What its cases are.
    pub(crate) kind: &'static str,
    path: PathBuf,
}

/// The folder to read: `PODSWELL_VECTORS`, or the vectors of the repository.
pub(crate) fn folder() -> PathBuf {
    std::env::var_os("PODSWELL_VECTORS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/knative/vectors"),
        PathBuf::from,
    )
}

/// All `*.jsonl` and `*.jsonl.gz` files of a folder, by name. A file belongs to the longest kind that
/// its name starts with; one of no kind is an error, so that no file is skipped in silence.
pub(crate) fn files(folder: &Path, kinds: &[&'static str]) -> io::Result<Vec<File>> {
    let entries = fs::read_dir(folder).map_err(|error| named(folder, &error))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        if Path::new(plain).extension() != Some("jsonl".as_ref()) {
            continue;
        }
        let kind = kinds
            .iter()
            .copied()
            .filter(|kind| name.starts_with(kind))
            .max_by_key(|kind| kind.len());
        let Some(kind) = kind else {
            return Err(io::Error::other(format!(
                "{}: vectors of an unknown kind",
                path.display()
            )));
        };
        files.push(File { name, kind, path });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

impl File {
    /// Calls `visit` with the line number and the value of each case.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(usize, &Value)) -> io::Result<()> {
        let file = fs::File::open(&self.path).map_err(|error| named(&self.path, &error))?;
        let reader: Box<dyn Read> = if self.path.extension() == Some("gz".as_ref()) {
            Box::new(MultiGzDecoder::new(file))
        } else {
            Box::new(file)
        };
        for (index, line) in BufReader::new(reader).lines().enumerate() {
            let line = line.map_err(|error| named(&self.path, &error))?;
            if line.trim().is_empty() {
                continue;
            }
            let case = serde_json::from_str(&line)
                .map_err(|error| named(&self.path, &format!("line {}: {error}", index + 1)))?;
            visit(index + 1, &case);
        }
        Ok(())
    }
}

fn named(path: &Path, error: &impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

/// An object of strings; empty for anything else.
pub(crate) fn string_map(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
