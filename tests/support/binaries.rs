//! The programs that `tests/testbin.sh` builds.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Path of a program of `tests/testbin.sh`: in `PODSWELL_TEST_BIN` or `target/testbin`.
///
/// Builds it first if it is not there, which takes minutes for the control plane.
///
/// # Panics
/// If it cannot be built.
pub(crate) fn path(name: &str) -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = std::env::var_os("PODSWELL_TEST_BIN")
        .map_or_else(|| repository.join("target/testbin"), PathBuf::from);
    let program = folder.join(name);
    if !program.exists() {
        run_script(repository, name);
    }
    assert!(program.exists(), "tests/testbin.sh {name} made no {}", program.display());
    program
}

/// Path of Debian's Prometheus; installs it first if it is not there.
pub(crate) fn prometheus() -> PathBuf {
    debian("prometheus", "/usr/bin/prometheus")
}

/// Path of the script of Debian's `RabbitMQ` that starts the server as the user who runs it; installs it
/// first if it is not there.
pub(crate) fn rabbitmq() -> PathBuf {
    debian("rabbitmq", "/usr/lib/rabbitmq/bin/rabbitmq-server")
}

/// Path of Debian's NATS server; installs it first if it is not there.
pub(crate) fn nats() -> PathBuf {
    debian("nats", "/usr/sbin/nats-server")
}

fn debian(name: &str, path: &str) -> PathBuf {
    let path = PathBuf::from(path);
    if !path.exists() {
        run_script(Path::new(env!("CARGO_MANIFEST_DIR")), name);
    }
    path
}

/// Path of Debian's library that steps the wall clock of one process; installs it first if it is not
/// there.
///
/// # Panics
/// If it cannot be installed.
pub(crate) fn faketime() -> PathBuf {
    let find = || {
        let folders = std::fs::read_dir("/usr/lib").ok()?;
        let names = folders.flatten().map(|folder| folder.path());
        names.map(|name| name.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())
    };
    find().unwrap_or_else(|| {
        run_script(Path::new(env!("CARGO_MANIFEST_DIR")), "faketime");
        find().expect("the package libfaketime is installed")
    })
}

fn run_script(repository: &Path, name: &str) {
    let status = Command::new("bash")
        .arg(repository.join("tests/testbin.sh"))
        .arg(name)
        .status()
        .expect("bash is there to run tests/testbin.sh");
    assert!(status.success(), "tests/testbin.sh {name}: {status}");
}
