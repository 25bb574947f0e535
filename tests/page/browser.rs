//! Debian's Chromium without a window, driven over WebDriver.

use std::fs;
use std::path::Path;
use std::time::Duration;

use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;

use crate::support::ports::free_ports;
use crate::support::process::Process;
use crate::support::wait::eventually;

const LIMIT: Duration = Duration::from_secs(120);

/// A browser with one tab; it ends with this.
pub(crate) struct Browser {
    client: Client,
    folder: tempfile::TempDir,
    _driver: Process,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let [port] = free_ports();
        let log = folder.path().join("chromedriver.log");
        let arguments = [format!("--port={port}"), "--enable-chrome-logs".to_owned()];
        let program = Path::new("/usr/bin/chromedriver");
        let driver = Process::start("chromedriver", program, &arguments, &[], &log);
        let (url, wanted) = (format!("http://127.0.0.1:{port}"), capabilities(folder.path()));
        let client = eventually(LIMIT, "the browser starts", || async {
            ClientBuilder::new(HttpConnector::new())
                .capabilities(wanted.clone())
                .connect(&url)
                .await
        })
        .await;
        Self { client, folder, _driver: driver }
    }

    pub(crate) async fn close(self) {
        self.client.close().await.expect("close the browser");
    }

    pub(crate) async fn open(&self, url: &str) {
        self.client.goto(url).await.expect("open a page");
    }

    pub(crate) async fn reload(&self) {
        self.client.refresh().await.expect("reload");
    }

    pub(crate) async fn url(&self) -> String {
        self.client.current_url().await.expect("the address").to_string()
    }

    /// The visible text of the first element that matches; `None` while there is none.
    pub(crate) async fn text(&self, selector: &str) -> Option<String> {
        self.client.find(Locator::Css(selector)).await.ok()?.text().await.ok()
    }

    pub(crate) async fn attribute(&self, selector: &str, name: &str) -> Option<String> {
        self.client.find(Locator::Css(selector)).await.ok()?.attr(name).await.ok().flatten()
    }

    /// How many elements match.
    pub(crate) async fn count(&self, selector: &str) -> usize {
        self.client.find_all(Locator::Css(selector)).await.expect("look for elements").len()
    }

    /// Clicks the first element that matches, once there is one. An element that was drawn anew while it
    /// was to be clicked was not clicked.
    pub(crate) async fn click(&self, selector: &str) {
        eventually(LIMIT, &format!("{selector} is clicked"), || async {
            self.client.find(Locator::Css(selector)).await?.click().await
        })
        .await;
    }

    /// Opens the `details` element that matches. What lies above it may move it away from under the
    /// pointer, so it is clicked until it is open.
    pub(crate) async fn unfold(&self, details: &str) {
        let (summary, open) = (format!("{details} > summary"), format!("{details}[open]"));
        eventually(LIMIT, &format!("{details} is open"), || async {
            self.click(&summary).await;
            if self.count(&open).await == 1 { Ok(()) } else { Err("closed") }
        })
        .await;
    }

    pub(crate) async fn type_into(&self, selector: &str, text: &str) {
        let found = self.client.find(Locator::Css(selector)).await.expect("where to type");
        found.send_keys(text).await.expect("type");
    }

    /// Empties a field as a person does, so that the page hears of it.
    pub(crate) async fn clear(&self, selector: &str) {
        const CONTROL_A_DELETE: &str = "\u{e009}a\u{e000}\u{e017}";
        self.type_into(selector, CONTROL_A_DELETE).await;
    }

    /// Presses a key where the focus is; control keys by their WebDriver code points.
    pub(crate) async fn press(&self, key: &str) {
        // What lost the focus by being drawn anew did not get the key.
        eventually(LIMIT, "a key is pressed", || async {
            self.client.active_element().await?.send_keys(key).await
        })
        .await;
    }

    pub(crate) async fn run(&self, script: &str) {
        self.client.execute(script, Vec::new()).await.expect("run a script");
    }

    /// Keeps a picture if the tester asked for some.
    pub(crate) async fn picture(&self, name: &str) {
        let Ok(folder) = std::env::var("PODSWELL_SCREENSHOTS") else { return };
        let picture = self.client.screenshot().await.expect("a picture");
        fs::create_dir_all(&folder).expect("the folder for pictures");
        fs::write(Path::new(&folder).join(format!("{name}.png")), picture).expect("keep a picture");
    }

    /// What the browser complained of: script errors, refused content, files that are not there.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("chrome.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect()
    }
}

fn capabilities(folder: &Path) -> Capabilities {
    let log = folder.join("chrome.log");
    let data = folder.join("profile");
    let json = json!({
        // Milliseconds: five thousand rows take a busy machine more than the usual 30 s.
        "timeouts": { "script": 300_000 },
        "goog:chromeOptions": {
            "binary": "/usr/bin/chromium",
            "args": [
                "--headless=new",
                // As root in a container there is no sandbox to be had, and the page is our own.
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--window-size=1400,1000",
                "--no-first-run",
                "--disable-background-networking",
                "--enable-logging",
                format!("--log-file={}", log.display()),
                format!("--user-data-dir={}", data.display()),
            ],
        },
    });
    json.as_object().expect("an object").clone()
}
