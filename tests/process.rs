//! The process as its surroundings see it: the start, the probes while there is no API server, hostile
//! peers on its ports, logs, and the end. No cluster is needed.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::ports::free_ports;

#[path = "support/ports.rs"]
mod ports;

/// How long anything may take: generous, the machine may be busy.
const LIMIT: Duration = Duration::from_secs(150);

/// A kubeconfig whose server refuses every connection.
const KUBECONFIG: &str = r"
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: u, user: {}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
";

/// A running process; killed when dropped.
struct Podswell {
    child: Child,
    public: u16,
    admin: u16,
    folder: tempfile::TempDir,
}

impl Podswell {
    fn start(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(&kubeconfig, KUBECONFIG).unwrap();
        let [public, admin] = free_ports();
        let child = Command::new(env!("CARGO_BIN_EXE_podswell"))
            .arg("run")
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--listen", &format!("127.0.0.1:{public}")])
            .args(["--admin-listen", &format!("127.0.0.1:{admin}")])
            .args(more)
            .stderr(File::create(folder.path().join("log")).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self { child, public, admin, folder };
        let listens = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_ok();
        until("its listeners", || listens(public) && listens(admin));
        this
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn public(&self, request: &str) -> (u16, String) {
        call(self.public, request, "")
    }

    fn admin(&self, request: &str, body: &str) -> (u16, String) {
        call(self.admin, request, body)
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Podswell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a limit for a test that hangs")]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "waited in vain for {what}");
        sleep(Duration::from_millis(20));
    }
}

/// One request on a connection of its own; status and body.
fn call(port: u16, request: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    let answer = raw(port, &(head + body));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status in {head:?}")), body.to_owned())
}

/// Sends bytes as they are and reads until the server closes.
fn raw(port: u16, bytes: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn without_an_api_server_it_lives_and_says_what_it_waits_for() {
    let mut podswell = Podswell::start(&[]);
    assert_eq!(podswell.public("GET /livez"), (200, "alive\n".to_owned()));
    let (status, text) = podswell.public("GET /readyz");
    assert_eq!(status, 503);
    assert!(text.starts_with("not ready: ") && text.contains("deployments"), "{text}");
    let (status, text) = podswell.public("GET /metrics");
    assert!(status == 200 && text.contains("podswell_leader 0"), "{text}");
    assert_eq!(podswell.public("GET /v1/targets").0, 404);

    let (status, text) = podswell.admin("GET /v1/status", "");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, &document["ready"], &document["leader"]),
        (200, &false.into(), &false.into())
    );
    until("the fault of a watch", || {
        let (_, text) = podswell.admin("GET /v1/status", "");
        let document: Value = serde_json::from_str(&text).unwrap();
        document["watches"].as_array().unwrap().iter().all(|watch| watch["fault"] == "Transport")
    });
    let (status, text) = podswell.admin("GET /v1/targets/shop/checkout", "");
    assert!(status == 404 && text.contains("still waiting for"), "{text}");

    podswell.signal("-TERM");
    assert!(podswell.ended().success());
}

#[test]
fn logs_are_json_lines_whose_level_changes_while_running() {
    let mut podswell = Podswell::start(&["--log-level", "error"]);
    assert_eq!(podswell.admin("PUT /log-level", "loud").0, 400);
    assert_eq!(podswell.admin("GET /log-level", "").1, "error\n");
    assert_eq!(podswell.log(), "");
    assert_eq!(podswell.admin("PUT /log-level", "info,hyper=off").0, 200);
    podswell.signal("-INT");
    assert!(podswell.ended().success());
    let log = podswell.log();
    let records: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(records.iter().any(|record| record["message"] == "log level changed"), "{log}");
    assert!(records.iter().any(|record| record["message"] == "stopping"), "{log}");
    assert!(!log.contains('\u{1b}'));
}

#[test]
fn hostile_peers_neither_hold_it_up_nor_bring_it_down() {
    let podswell = Podswell::start(&[]);
    let long = "x".repeat(20_000);
    let many = (0..100).fold(String::new(), |text, n| text + &format!("h{n}: x\r\n"));
    for bytes in [
        format!("GET /livez HTTP/1.1\r\nhost: localhost\r\nbig: {long}\r\n\r\n"),
        format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"),
        format!("GET /{long} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    ] {
        let answer = raw(podswell.public, &bytes);
        let refused = answer.starts_with("HTTP/1.1 431") || answer.starts_with("HTTP/1.1 414");
        assert!(refused || answer.is_empty(), "{answer}");
    }
    let answer = raw(podswell.public, "\u{0}\u{1}garbage\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400") || answer.is_empty(), "{answer}");
    // Connections that say nothing must not keep others out.
    let silent: Vec<_> =
        (0..200).filter_map(|_| TcpStream::connect(("127.0.0.1", podswell.public)).ok()).collect();
    assert_eq!(podswell.public("GET /livez").0, 200);
    drop(silent);
}

#[test]
fn a_taken_port_or_a_bad_kubeconfig_stops_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (args, word) in [
        (["--listen", &address, "--admin-listen", "127.0.0.1:0"], address.as_str()),
        (["--listen", "127.0.0.1:0", "--admin-listen", &address], address.as_str()),
        (["--listen", "127.0.0.1:0", "--kubeconfig", "/nowhere/config"], "/nowhere/config"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podswell"));
        let output = command.arg("run").args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("podswell: ") && text.contains(word), "{text}");
    }
}
