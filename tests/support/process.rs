//! Child processes that never outlive the test.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::binaries;

/// A program on a leash: killed when this is dropped, and by the kernel's closing of a pipe when
/// the test process itself is killed.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with `arguments` and the extra `environment`; both of its outputs are
    /// appended to `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub(crate) fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        environment: &[(&str, String)],
        log: &Path,
    ) -> Self {
        let output = OpenOptions::new().create(true).append(true).open(log).expect("open a log");
        let errors = output.try_clone().expect("clone the handle of a log");
        let child = Command::new(binaries::path("leash"))
            .arg(program)
            .args(arguments)
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("start {name}: {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// What it is called in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The process id of the program itself.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where both of its outputs go.
    pub(crate) fn log_path(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("ask after a child process")
    }

    /// SIGKILL to it and to all that it started, and waits for the end: a browser outlives its driver.
    pub(crate) fn kill(&mut self) {
        let started = if self.ended().is_none() { descendants(self.id()) } else { Vec::new() };
        // Already dead is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !started.is_empty() {
            let _ = send("KILL", &started).stderr(Stdio::null()).status();
        }
    }

    /// Sends a signal by name, such as `TERM`, `STOP` or `CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let status = send(signal, &[self.id()]).status().expect("run kill");
        assert!(status.success(), "kill -s {signal} of {}: {status}", self.name);
    }

    /// SIGTERM; waits up to `limit` for the end and kills it after that.
    ///
    /// Returns how it ended, or `None` if it had to be killed.
    pub(crate) async fn terminate(&mut self, limit: Duration) -> Option<ExitStatus> {
        if let Some(status) = self.ended() {
            return Some(status);
        }
        self.signal("TERM");
        let deadline = tokio::time::Instant::now() + limit;
        while tokio::time::Instant::now() < deadline {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.kill();
        None
    }

    /// The last `bytes` of its log, for a failure's message.
    pub(crate) fn log_tail(&self, bytes: u64) -> String {
        tail(&self.log, bytes)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The command that sends a signal by name to these processes.
fn send(signal: &str, ids: &[u32]) -> Command {
    let mut command = Command::new("kill");
    command.args(["-s", signal]).args(ids.iter().map(u32::to_string));
    command
}

/// The ids of the processes that `id` started, and that those did.
fn descendants(id: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let lists = threads.map(|thread| std::fs::read_to_string(thread.path().join("children")));
    let lists: Vec<String> = lists.flatten().collect();
    let children = lists.iter().flat_map(|list| list.split_whitespace()).flat_map(str::parse);
    children.flat_map(|child| std::iter::once(child).chain(descendants(child))).collect()
}

fn tail(path: &Path, bytes: u64) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let _ = file.seek(SeekFrom::Start(length.saturating_sub(bytes)));
        let _ = file.read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}
