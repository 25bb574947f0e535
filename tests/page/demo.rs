//! `podswell demo` as a newcomer meets it: one command, a browser, `kubectl`, and things that break.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::browser::Browser;
use crate::support::binaries;
use crate::support::http::HttpClient;
use crate::support::process::{Process, free_ports};
use crate::support::wait::{always_for, eventually, until};

const LIMIT: Duration = Duration::from_secs(120);

struct Demo {
    port: u16,
    process: Process,
    _folder: tempfile::TempDir,
}

impl Demo {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("demo.log");
        let port = port_with_neighbour();
        let arguments = ["demo", "--seed=7", &format!("--port={port}")].map(str::to_owned);
        let program = Path::new(env!("CARGO_BIN_EXE_podswell"));
        let process = Process::start("podswell demo", program, &arguments, &[], &log);
        let demo = Self { port, process, _folder: folder };
        eventually(LIMIT, "five workloads are decided", || async {
            let list = demo.get("/v1/targets").await.ok_or("no answer")?;
            let decided = list["items"]
                .as_array()
                .map_or(0, |items| items.iter().filter(|item| !item["desired"].is_null()).count());
            if decided == 5 { Ok(()) } else { Err("not all") }
        })
        .await;
        demo
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let answer = HttpClient::new().get(&self.url(path)).await.ok()?;
        serde_json::from_slice(&answer.body).ok()
    }

    async fn replicas(&self, namespace: &str, name: &str) -> i64 {
        let target = self.get(&format!("/v1/targets/{namespace}/{name}")).await;
        target.and_then(|target| target["replicas"].as_i64()).expect("its replicas")
    }

    /// `kubectl` against the played API.
    fn kubectl(&self, arguments: &[&str]) -> String {
        let output: Output = Command::new(binaries::path("controlplane"))
            .arg("kubectl")
            .arg(format!("--server=http://127.0.0.1:{}", self.port + 1))
            .args(arguments)
            .env("KUBECONFIG", "/dev/null")
            .output()
            .expect("run kubectl");
        let (out, errors) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
        assert!(output.status.success(), "kubectl {arguments:?}: {errors}");
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// A free port whose next one is free too.
fn port_with_neighbour() -> u16 {
    loop {
        let [port] = free_ports();
        if std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_watches_the_demo_and_breaks_it() {
    let mut demo = Demo::start().await;
    let browser = Browser::start().await;
    browser.open(&demo.url("/")).await;
    let five = |text: &Option<String>| text.as_deref() == Some("5 workloads");
    until(LIMIT, "the cast", five, || browser.text("output")).await;
    let banner = browser.text("#banner").await.unwrap_or_default();
    assert!(banner.contains("Played: the Kubernetes API"), "{banner}");
    kubectl_works(&demo).await;
    prometheus_breaks(&demo, &browser).await;
    let most = || demo.replicas("shop", "checkout");
    until(LIMIT, "the flash sale is served", |replicas| *replicas >= 15, most).await;
    browser.picture("demo").await;
    assert_eq!(browser.complaints(), Vec::<String>::new());
    browser.close().await;
    let ended = demo.process.terminate(LIMIT).await.expect("it ends");
    assert!(ended.success(), "{ended}");
}

async fn kubectl_works(demo: &Demo) {
    let table = demo.kubectl(&["get", "deploy", "-n", "shop"]);
    assert!(table.starts_with("NAME") && table.contains("READY"), "{table}");
    for name in ["checkout", "search", "legacy-api"] {
        assert!(table.contains(name), "{table}");
    }
    // The annotation makes the floor 7, and the controller follows it.
    let floor = "autoscaling.knative.dev/min-scale=7";
    demo.kubectl(&["annotate", "deploy/search", "-n", "shop", floor]);
    let replicas = || demo.replicas("shop", "search");
    until(LIMIT, "the annotation counts", |replicas| *replicas >= 7, replicas).await;
    let manifest = r#"{"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "own", "namespace": "shop"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "own"}}, "template": {
            "metadata": {"labels": {"app": "own"}},
            "spec": {"containers": [{"name": "app", "image": "x"}]}}}}"#;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("own.json");
    std::fs::write(&file, manifest).expect("write a manifest");
    let file = format!("--filename={}", file.display());
    demo.kubectl(&["apply", "--validate=false", &file]);
    demo.kubectl(&["scale", "deploy/own", "-n", "shop", "--replicas=3"]);
    let ready = || async {
        demo.kubectl(&["get", "deploy/own", "-n", "shop", "-o=jsonpath={.status.readyReplicas}"])
    };
    until(LIMIT, "its pods run", |ready: &String| ready == "3", ready).await;
    demo.kubectl(&["delete", "deploy/own", "-n", "shop"]);
}

async fn prometheus_breaks(demo: &Demo, browser: &Browser) {
    browser.click("[data-fault='prometheus-nan']").await;
    let signal = || async { browser.text("tr[data-key='shop/search']").await.unwrap_or_default() };
    until(LIMIT, "the loss shows", |text: &String| text.contains("lost"), signal).await;
    let before = demo.replicas("shop", "search").await;
    always_for(Duration::from_secs(8), "nothing is lowered", || async {
        let now = demo.replicas("shop", "search").await;
        if now >= before { Ok(()) } else { Err(format!("{before} -> {now}")) }
    })
    .await;
    browser.click("[data-fault='prometheus-nan'][aria-pressed='true']").await;
    until(LIMIT, "it is heard again", |text: &String| text.contains("fresh"), signal).await;
}

#[tokio::test]
async fn a_busy_port_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let output = Command::new(env!("CARGO_BIN_EXE_podswell"))
        .args(["demo", "--duration=30s", &format!("--port={}", port - 1)])
        .output()
        .expect("run the demo");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("--port") && errors.contains(&port.to_string()), "{errors}");
}
