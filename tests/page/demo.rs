//! `podswell demo` as a newcomer meets it: one command, a browser, `kubectl`, and things that break.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::browser::Browser;
use crate::support::binaries;
use crate::support::http::HttpClient;
use crate::support::ports::free_ports;
use crate::support::process::Process;
use crate::support::wait::{always_for, eventually, until};

const LIMIT: Duration = Duration::from_secs(180);

/// Longer than any test: faults end when they are told to. Those that the page orders end after 40 s.
pub(crate) const LONG: u64 = 600;

pub(crate) struct Demo {
    pub(crate) port: u16,
    pub(crate) process: Process,
    folder: tempfile::TempDir,
}

impl Demo {
    /// The demo with more flags, once so many workloads are decided.
    pub(crate) async fn start(more: &[&str], workloads: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("demo.log");
        let port = port_with_neighbour();
        let port_flag = format!("--port={port}");
        let arguments = ["demo", "--seed=7", &port_flag].into_iter().chain(more.iter().copied());
        let arguments: Vec<String> = arguments.map(str::to_owned).collect();
        let program = Path::new(env!("CARGO_BIN_EXE_podswell"));
        let process = Process::start("podswell demo", program, &arguments, &[], &log);
        let demo = Self { port, process, folder };
        eventually(LIMIT, "all workloads are decided", || async {
            let list = demo.get("/v1/targets").await.ok_or("no answer")?;
            let decided = list["items"]
                .as_array()
                .map_or(0, |items| items.iter().filter(|item| !item["desired"].is_null()).count());
            if decided == workloads { Ok(()) } else { Err(format!("{decided} of {workloads}")) }
        })
        .await;
        demo
    }

    /// The played API.
    pub(crate) fn api(&self) -> String {
        format!("http://127.0.0.1:{}", self.port + 1)
    }

    /// Switches a fault on for so long; 0 mends it.
    pub(crate) async fn order(&self, fault: &str, seconds: u64) {
        let url = self.url(&format!("/v1/demo/faults/{fault}?seconds={seconds}"));
        let answer = HttpClient::new().post(&url).await.expect("an answer");
        assert_eq!(answer.status.as_u16(), 204, "{fault}");
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) async fn get(&self, path: &str) -> Option<Value> {
        let answer = HttpClient::new().get(&self.url(path)).await.ok()?;
        serde_json::from_slice(&answer.body).ok()
    }

    pub(crate) async fn replicas(&self, namespace: &str, name: &str) -> i64 {
        let told = self.get(&format!("/v1/targets/{namespace}/{name}")).await.expect("an answer");
        told["replicas"].as_i64().expect("its replicas")
    }

    fn watch_deployments(&self) -> Watch {
        let folder = tempfile::tempdir().expect("a folder");
        let server = format!("--server={}", self.api());
        let arguments = ["kubectl", &server, "get", "deploy", "-n", "shop", "-w"];
        let arguments = arguments.map(str::to_owned);
        let nowhere = [("KUBECONFIG", "/dev/null".to_owned())];
        let log = folder.path().join("watch.log");
        let program = binaries::path("controlplane");
        let process = Process::start("kubectl", &program, &arguments, &nowhere, &log);
        Watch { process, folder }
    }

    /// `kubectl` against the played API.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let (succeeds, told, errors) = self.run_kubectl(arguments);
        assert!(succeeds, "kubectl {arguments:?}: {errors}");
        told
    }

    /// Whether `kubectl` succeeds, what it prints, and what it complains of.
    fn run_kubectl(&self, arguments: &[&str]) -> (bool, String, String) {
        let output: Output = Command::new(binaries::path("controlplane"))
            .arg("kubectl")
            .arg(format!("--server={}", self.api()))
            .args(arguments)
            .env("KUBECONFIG", "/dev/null")
            .env("HOME", self.folder.path())
            .output()
            .expect("run kubectl");
        let [told, errors] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.success(), told, errors)
    }
}

/// `kubectl get -w` at work.
struct Watch {
    process: Process,
    folder: tempfile::TempDir,
}

impl Watch {
    fn told(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("watch.log")).unwrap_or_default()
    }

    async fn end(&mut self) {
        self.process.terminate(LIMIT).await;
    }
}

/// A free port whose next one is free too, and given to no other test.
fn port_with_neighbour() -> u16 {
    loop {
        let [port, next] = free_ports();
        if next == port + 1 {
            return port;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_watches_the_demo_and_breaks_it() {
    let mut demo = Demo::start(&[], 6).await;
    let browser = Browser::start().await;
    browser.open(&demo.url("/")).await;
    let six = |text: &Option<String>| text.as_deref() == Some("6 workloads");
    until(LIMIT, "the cast", six, || browser.text("output")).await;
    let banner = || async { browser.text("#banner").await.unwrap_or_default() };
    let played = |text: &String| text.contains("Played: the Kubernetes API");
    until(LIMIT, "what is played", played, banner).await;
    kubectl_works(&demo).await;
    prometheus_breaks(&demo, &browser).await;
    let most = || demo.replicas("shop", "checkout");
    until(LIMIT, "the flash sale is served", |replicas| *replicas >= 15, most).await;
    browser.picture("demo").await;
    a_guide_leads_through_the_story(&demo, &browser).await;
    each_pod_is_shown(&demo, &browser).await;
    every_fault_shows_and_heals(&demo, &browser).await;
    the_score_is_told(&demo, &browser).await;
    ghosts_are_drawn(&demo, &browser).await;
    promises_are_kept(&demo, &browser).await;
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
    let mut watch = demo.watch_deployments();
    // The annotation makes the floor 7, and the controller follows it.
    let floor = "autoscaling.knative.dev/min-scale=7";
    demo.kubectl(&["annotate", "deploy/search", "-n", "shop", floor]);
    let replicas = || demo.replicas("shop", "search");
    until(LIMIT, "the annotation counts", |replicas| *replicas >= 7, replicas).await;
    let told = || async { watch.told() };
    let follows = |text: &String| {
        let of_search = text.lines().filter(|line| line.starts_with("search"));
        text.starts_with("NAME") && of_search.clone().count() >= 2 && text.contains("7/7")
    };
    until(LIMIT, "the watch tells", follows, told).await;
    watch.end().await;
    let manifest = r#"{"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "own", "namespace": "shop"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "own"}}, "template": {
            "metadata": {"labels": {"app": "own"}},
            "spec": {"containers": [{"name": "app", "image": "x"}]}}}}"#;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("own.json");
    std::fs::write(&file, manifest).expect("write a manifest");
    let file = format!("--filename={}", file.display());
    demo.kubectl(&["apply", &file]);
    let other_image = manifest.replace("\"image\": \"x\"", "\"image\": \"y\"");
    std::fs::write(folder.path().join("own.json"), other_image).expect("write a manifest");
    let told = demo.kubectl(&["apply", &file]);
    assert!(told.contains("configured"), "{told}");
    let misspelt = manifest.replace("replicas", "replicsa");
    std::fs::write(folder.path().join("own.json"), misspelt).expect("write a manifest");
    let (succeeds, _, refusal) = demo.run_kubectl(&["apply", &file]);
    assert!(!succeeds && refusal.contains("unknown field \"spec.replicsa\""), "{refusal}");
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
    demo.order("prometheus-nan", LONG).await;
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

/// Steps forth and back; each shows where it points, and the faults of the tour work from it.
async fn a_guide_leads_through_the_story(demo: &Demo, browser: &Browser) {
    let steps = demo.get("/v1/demo").await.expect("an answer")["story"].clone();
    let steps = steps.as_array().expect("steps").clone();
    let told = || async { browser.text(".tour").await.unwrap_or_default() };
    for (number, step) in steps.iter().enumerate() {
        let [title, look] = ["title", "look"].map(|key| step[key].as_str().expect("text"));
        let heading = format!("{} of {}: {title}", number + 1, steps.len());
        until(LIMIT, "the step is told", |text: &String| text.contains(&heading), told).await;
        let led = |url: &String| number == 0 || look.is_empty() || url.ends_with(look);
        until(LIMIT, "the guide leads there", led, || browser.url()).await;
        if step["fault"] == "leader-lost" {
            loses_the_lease(demo, browser).await;
        }
        if number + 1 < steps.len() {
            browser.click("[data-tour='next']").await;
        }
    }
    browser.press("p").await;
    let before_last = format!("{} of {}", steps.len() - 1, steps.len());
    until(LIMIT, "a key leads back", |text: &String| text.contains(&before_last), told).await;
    browser.press("n").await;
}

/// The demo's only process stands by while another one has the lease, and comes back.
async fn loses_the_lease(demo: &Demo, browser: &Browser) {
    let head = || async { browser.text("#process").await.unwrap_or_default() };
    until(LIMIT, "it writes", |text: &String| text.contains("writes"), head).await;
    browser.click("[data-tour='break']").await;
    demo.order("leader-lost", LONG).await;
    until(LIMIT, "it stands by", |text: &String| text.contains("stands by"), head).await;
    let notice = || async { browser.text("#standby").await.unwrap_or_default() };
    let plain = |text: &String| text.contains("another-podswell holds the lease, so");
    until(LIMIT, "the list says who writes", plain, notice).await;
    let back = browser.url().await;
    browser.open(&demo.url("/#/workload/shop/search")).await;
    let said = || async { browser.text(".said").await.unwrap_or_default() };
    let plain = |text: &String| text.starts_with("Another process holds the lease");
    until(LIMIT, "a workload's page says so too", plain, said).await;
    browser.picture("standby").await;
    browser.open(&back).await;
    browser.click("[data-tour='break'][aria-pressed='true']").await;
    until(LIMIT, "it writes again", |text: &String| text.contains("writes"), head).await;
    until(LIMIT, "the notice goes", String::is_empty, notice).await;
}

/// The pods of a workload that is scraped, and the one that lies.
async fn each_pod_is_shown(demo: &Demo, browser: &Browser) {
    browser.open(&demo.url("/#/workload/shop/checkout")).await;
    let title = || async { browser.text("article h2").await.unwrap_or_default() };
    until(LIMIT, "its page", |text: &String| text == "shop/checkout", title).await;
    browser.unfold("#pods").await;
    let rows = || browser.count("[data-pods] tbody tr");
    until(LIMIT, "its pods", |count| *count >= 2, rows).await;
    let said = || async { browser.text("[data-pods]").await.unwrap_or_default() };
    until(LIMIT, "each with its load", |text: &String| text.contains("answered"), said).await;
    demo.order("pods-lie", LONG).await;
    until(LIMIT, "a lie shows", |text: &String| text.contains("InvalidSample"), said).await;
    browser.picture("pods").await;
    demo.order("pods-lie", 0).await;
    until(LIMIT, "it is over", |text: &String| !text.contains("InvalidSample"), said).await;
    browser.open(&demo.url("/#/workload/shop/search")).await;
    let elsewhere = || async { browser.text("#pods").await.unwrap_or_default() };
    until(LIMIT, "another workload", |text: &String| text == "Each pod", elsewhere).await;
    browser.unfold("#pods").await;
    until(LIMIT, "no table", |text: &String| text.contains("one number"), elsewhere).await;
}

/// Each button works, says so to those who do not see it, and mends what it broke.
async fn every_fault_shows_and_heals(demo: &Demo, browser: &Browser) {
    let about = demo.get("/v1/demo").await.expect("an answer");
    let faults: Vec<_> = about["faults"].as_array().expect("faults").clone();
    assert_eq!(faults.len(), 17);
    for fault in faults {
        let name = fault["name"].as_str().expect("a name");
        let button = format!("[data-fault='{name}']");
        let (on, off) =
            (format!("{button}[aria-pressed='true']"), format!("{button}[aria-pressed='false']"));
        browser.click(&button).await;
        until(LIMIT, "it is on", |count| *count == 1, || browser.count(&on)).await;
        browser.click(&on).await;
        until(LIMIT, "it is off", |count| *count == 1, || browser.count(&off)).await;
    }
}

/// What others would have run, as lines and in the words for those who do not see them.
async fn ghosts_are_drawn(demo: &Demo, browser: &Browser) {
    browser.open(&demo.url("/#/workload/shop/search")).await;
    let lines = || browser.count("svg.chart path.ghost[d^=M]");
    until(LIMIT, "an HPA's line and a naive one", |count| *count == 2, lines).await;
    let legend = || async { browser.text(".legend").await.unwrap_or_default() };
    for words in ["instead: HPA", "instead: silence is zero"] {
        until(LIMIT, "the legend", |text: &String| text.contains(words), legend).await;
    }
    let label = || async { browser.attribute("svg.chart", "aria-label").await.unwrap_or_default() };
    let told = |text: &String| text.contains("Instead, HPA: ");
    until(LIMIT, "the same in words", told, label).await;
    browser.run("document.querySelector('article').scrollIntoView()").await;
    browser.picture("ghosts").await;
}

/// After all that was broken: what was promised and could be seen was kept.
async fn promises_are_kept(demo: &Demo, browser: &Browser) {
    browser.unfold("#promises").await;
    let shown = || browser.count("[data-promise]");
    until(LIMIT, "all promises", |count| *count == 10, shown).await;
    browser.picture("promises").await;
    let about = demo.get("/v1/demo").await.expect("an answer");
    for promise in about["promises"].as_array().expect("promises") {
        assert_ne!(promise["state"], "broken", "{promise}");
        if ["P2", "P3"].iter().any(|name| promise["name"] == *name) {
            assert_eq!(promise["state"], "kept", "{promise}");
        }
    }
    assert_eq!(browser.attribute("#promises", "data-broken").await.as_deref(), Some("0"));
}

async fn the_score_is_told(demo: &Demo, browser: &Browser) {
    browser.unfold("#score").await;
    let row = "[data-score='shop/checkout'] [data-who='HPA, computed']";
    let told = || async { browser.text(row).await.unwrap_or_default() };
    until(LIMIT, "the HPA's row", |text: &String| text.contains("HPA"), told).await;
    browser.picture("score").await;
    // It takes a while to compute, on a busy machine longer than an answer may take.
    let score = eventually(LIMIT, "the score", || async {
        let score = demo.get("/v1/demo/score").await.unwrap_or_default();
        if score["workloads"].is_array() { Ok(score) } else { Err(score) }
    })
    .await;
    let of = |name: &str| {
        let workloads = score["workloads"].as_array().expect("workloads");
        let found = workloads.iter().find(|workload| workload["name"] == name);
        found.expect("the workload")["rows"].as_array().expect("rows").clone()
    };
    for name in ["checkout", "search", "thumbnails"] {
        let rows = of(name);
        assert_eq!(rows.len(), 4, "{rows:?}");
        for row in rows {
            assert!(row["podSeconds"].as_f64().is_some_and(|spent| spent > 0.0), "{name}: {row}");
            assert!(row["unmetPodSeconds"].as_f64().is_some_and(|unmet| unmet >= 0.0), "{row}");
        }
    }
}

/// Runs the demo to its end.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_podswell"))
        .arg("demo")
        .args(arguments)
        .output()
        .expect("run the demo");
    let [out, errors] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.code(), out, errors)
}

#[test]
fn a_demo_of_some_seconds_ends_with_a_summary() {
    let port = format!("--port={}", port_with_neighbour());
    let (code, out, errors) = run(&["--duration=40s", "--seed=3", &port]);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{out}");
    assert_eq!(out.matches("\n  try   ").count(), 3, "{out}");
    let url = format!("  open  http://127.0.0.1:{}\n", port.trim_start_matches("--port="));
    assert!(out.contains(&url), "{out}");
    let (_, summary) = out.split_once("seed 3\n").expect("a summary");
    assert!(summary.contains("shop/checkout"), "{summary}");
    assert_eq!(out.matches("s after the start of the process\n").count(), 2, "{out}");
}

const SCENARIO: &str = "about: a load\nseed: 1\nduration: 60s\n\
    target:\n  start: 5\nload:\n  - constant: { level: 50 }\n";

#[test]
fn bad_input_is_one_line_that_names_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bad.yaml");
    let (bad, good) = (SCENARIO.replace("duration", "duratoin"), "--scenario=/no/such/file.yaml");
    std::fs::write(&file, bad).expect("write a scenario");
    let shown = file.display().to_string();
    for (argument, words) in [
        (format!("--scenario={shown}"), vec![shown.as_str(), "duratoin"]),
        (good.to_owned(), vec!["/no/such/file.yaml"]),
        ("--speed=11".to_owned(), vec!["--speed", "1..=10"]),
        ("--speed=0".to_owned(), vec!["--speed", "1..=10"]),
    ] {
        let (code, out, errors) = run(&[&argument, "--duration=2s"]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{argument}: {errors}");
        let first = errors.lines().next().unwrap_or_default();
        assert!(words.iter().all(|word| first.contains(word)), "{argument}: {errors}");
        if argument.starts_with("--scenario") {
            assert_eq!(errors.lines().count(), 1, "{errors}");
        }
    }
}

#[test]
fn a_busy_port_is_told() {
    let before = port_with_neighbour();
    let port = before + 1;
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("a port");
    for page in [port, before] {
        let (code, _, errors) = run(&["--duration=30s", &format!("--port={page}")]);
        assert_eq!((code, errors.lines().count()), (Some(1), 1), "{errors}");
        assert!(errors.contains("--port") && errors.contains(&port.to_string()), "{errors}");
    }
}
