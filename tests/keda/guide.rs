//! `docs/keda.md` as a reader follows it: its commands run in a real shell, its manifests are applied.
//!
//! The reader stands in a copy of `deploy/` in which only addresses and a cooldown differ: KEDA and podswell
//! run on this machine, so names of the cluster are resolved by a name server of the test.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::binaries;
use crate::support::controlplane::ControlPlane;
use crate::support::wait::eventually;

/// How long something to see may take to come.
const LIMIT: Duration = Duration::from_secs(120);
const PAGE: &str = include_str!("../../docs/keda.md");

/// The code of one fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Block {
    /// Commands.
    Shell(String),
    /// Manifests.
    Manifest(String),
}

/// The commands and manifests below a heading, in order.
///
/// # Panics
/// If there are none.
pub(crate) fn blocks(heading: &str) -> Vec<Block> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with(heading));
    let mut blocks = Vec::new();
    let mut open: Option<(String, String, String)> = None;
    for line in section.unwrap_or_else(|| panic!("no section {heading}")).lines() {
        let content = line.trim_start();
        match (&mut open, content.strip_prefix("```")) {
            (None, Some(language)) => {
                let indent = line[..line.len() - content.len()].to_owned();
                open = Some((language.to_owned(), indent, String::new()));
            }
            (Some(_), Some(_)) => match open.take().expect("it is open") {
                (language, _, text) if language == "sh" => blocks.push(Block::Shell(text)),
                (language, _, text) if language == "yaml" => blocks.push(Block::Manifest(text)),
                // A drawing, or a part of a manifest.
                (language, ..) => assert!(language.is_empty(), "what is a fence of {language}?"),
            },
            (Some((_, indent, text)), None) => {
                text.push_str(line.strip_prefix(indent.as_str()).unwrap_or(line));
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(!blocks.is_empty(), "nothing to do in the section {heading}");
    blocks
}

/// Somebody who does what the page says.
pub(crate) struct Reader {
    folder: PathBuf,
    kubeconfig: PathBuf,
    /// What stands in the page and in `deploy/keda`, and what this machine has instead.
    replaced: Vec<(String, String)>,
}

impl Reader {
    /// With a folder of his own in that of the control plane.
    pub(crate) fn new(plane: &ControlPlane, replaced: &[(&str, &str)]) -> Self {
        let folder = plane.folder().join("reader");
        let replaced = replaced.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned()));
        let this = Self { folder, kubeconfig: plane.kubeconfig(), replaced: replaced.collect() };
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        this.copy(&repository.join("deploy"), &this.folder.join("deploy"));
        let programs = this.folder.join("bin");
        std::fs::create_dir_all(&programs).expect("make a folder");
        let controlplane = binaries::path("controlplane");
        for (name, command) in [
            ("kubectl", format!("{} kubectl", controlplane.display())),
            ("podswell", env!("CARGO_BIN_EXE_podswell").to_owned()),
        ] {
            let path = programs.join(name);
            std::fs::write(&path, format!("#!/bin/sh\nexec {command} \"$@\"\n"))
                .expect("write a program");
            let executable = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&path, executable).expect("make it executable");
        }
        this
    }

    fn copy(&self, from: &Path, to: &Path) {
        std::fs::create_dir_all(to).expect("make a folder");
        for entry in std::fs::read_dir(from).expect("list a folder") {
            let entry = entry.expect("an entry of a folder");
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                self.copy(&entry.path(), &target);
            } else {
                let text = std::fs::read_to_string(entry.path()).expect("read a manifest");
                std::fs::write(target, self.adapted(&text)).expect("write a manifest");
            }
        }
    }

    fn adapted(&self, text: &str) -> String {
        self.replaced.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    /// Does what a fence says. Who only looks, looks again until there is something to see.
    ///
    /// # Panics
    /// If it fails.
    pub(crate) async fn follow(&self, block: &Block) {
        if matches!(block, Block::Shell(commands) if only_looks(commands)) {
            return eventually(LIMIT, "there is something to see", || self.attempt(block)).await;
        }
        self.attempt(block).await.unwrap_or_else(|why| panic!("{why}"));
    }

    /// Does what a fence says; `Err` says what came of it.
    async fn attempt(&self, block: &Block) -> Result<(), String> {
        let (commands, input) = match block {
            Block::Shell(commands) => (self.adapted(commands), String::new()),
            Block::Manifest(text) => ("kubectl apply -f -".to_owned(), self.adapted(text)),
        };
        let mut shell = Command::new("bash");
        let programs = self.folder.join("bin").display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        shell.args(["-euo", "pipefail", "-c", &commands]).current_dir(&self.folder);
        shell.env("PATH", format!("{programs}:{path}")).env("KUBECONFIG", &self.kubeconfig);
        shell.env("HOME", &self.folder).stdin(Stdio::piped());
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = move || {
            use std::io::Write as _;
            let mut child = shell.spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(input.as_bytes())?;
            }
            child.wait_with_output()
        };
        let output = tokio::task::spawn_blocking(run).await.expect("the shell's thread");
        let output = output.expect("run bash");
        let said =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        if output.status.success() {
            return Ok(());
        }
        Err(format!("{block:?}: {}: {}", output.status, said.join("\n")))
    }
}

fn only_looks(commands: &str) -> bool {
    commands.lines().all(|line| line.starts_with("kubectl ") && line.contains(" get "))
}
