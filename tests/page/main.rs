//! The page as a person uses it: a real browser, driven over WebDriver, on the admin listener of a real
//! engine. The cluster obeys and the load is scripted, so that what must be seen is known.
//!
//! `PODSWELL_SCREENSHOTS=FOLDER` keeps pictures of what was tested.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test support: what goes wrong here is the test's failure"
)]

mod api;
mod browser;
mod demo;
mod faults;
mod shop;

#[expect(dead_code, reason = "a library: not every test uses all of it")]
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use browser::Browser;
use shop::Shop;
use support::wait::{eventually, until};

const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_watches_a_burst_and_an_outage() {
    let shop = Shop::open(&["checkout", "search", "thumbnails"], None).await;
    let browser = Browser::start().await;
    browser.open(&shop.url("/")).await;
    the_list_lives(&shop, &browser).await;
    the_keyboard_leads_to_a_workload(&shop, &browser).await;
    an_outage_shows(&shop, &browser).await;
    words_and_colours(&shop, &browser).await;
    files_are_made(&shop, &browser).await;
    assert_eq!(browser.complaints(), Vec::<String>::new());
    browser.close().await;
}

/// The row of a workload as its text.
async fn row(browser: &Browser, key: &str) -> String {
    browser.text(&format!("tr[data-key='{key}']")).await.unwrap_or_default()
}

async fn the_list_lives(shop: &Shop, browser: &Browser) {
    shop.set_load("checkout", Some(20.0));
    shop.set_load("search", Some(10.0));
    shop.set_load("thumbnails", Some(0.0));
    let shows = |text: &String| text.contains("fresh") && text.contains("100%");
    until(LIMIT, "load equals target", shows, || row(browser, "shop/checkout")).await;
    shop.set_load("checkout", Some(200.0));
    let panics = |text: &String| text.contains("panic") && text.contains("20");
    until(LIMIT, "the burst is seen", panics, || row(browser, "shop/checkout")).await;
    assert_eq!(browser.text("output").await.as_deref(), Some("3 workloads"));
    browser.picture("list").await;
    browser.type_into("#filter", "thumb").await;
    let one = |text: &Option<String>| text.as_deref() == Some("1 of 3 workloads");
    until(LIMIT, "the filter filters", one, || browser.text("output")).await;
    assert_eq!(browser.count("tbody tr[data-key]").await, 1);
    browser.clear("#filter").await;
    until(LIMIT, "all are back", |count| *count == 3, || browser.count("tbody tr[data-key]")).await;
}

async fn the_keyboard_leads_to_a_workload(shop: &Shop, browser: &Browser) {
    browser.press("\u{e00c}").await;
    browser.press("j").await;
    browser.press("\u{e007}").await;
    until(
        LIMIT,
        "the page of the first workload",
        |url: &String| url.ends_with("#/workload/shop/checkout"),
        || browser.url(),
    )
    .await;
    let chart = || async { browser.attribute("svg.chart", "aria-label").await.unwrap_or_default() };
    let drawn = |label: &String| label.contains("ready 20") && label.contains("stable 200");
    until(LIMIT, "the chart tells the numbers", drawn, chart).await;
    for part in
        ["svg.chart path.stable[d^=M]", "svg.chart path.desired[d^=M]", "svg.chart rect.shade"]
    {
        assert!(browser.count(part).await > 0, "no {part}");
    }
    eventually(LIMIT, "each step of the decision", || async {
        let body = shop.get("/v1/targets/shop/checkout").await;
        let stages = body["decision"]["stages"].as_array().map(Vec::len);
        let rows = browser.count(".waterfall tbody tr td.number").await;
        if stages == Some(rows) { Ok(()) } else { Err((rows, body)) }
    })
    .await;
    let demand = || async { browser.text(".demand").await.unwrap_or_default() };
    let formula = |text: &String| text.contains("panic ceil(200 / 10) = 20");
    until(LIMIT, "the formula", formula, demand).await;
    let facts = || async { browser.text(".facts").await.unwrap_or_default() };
    let target = |text: &String| text.contains("target per pod (concurrency)\n10");
    until(LIMIT, "the facts", target, facts).await;
    browser.picture("workload").await;
    browser.reload().await;
    until(LIMIT, "the address keeps the page", drawn, chart).await;
}

async fn an_outage_shows(shop: &Shop, browser: &Browser) {
    shop.set_load("checkout", None);
    let said = || async { browser.text(".said").await.unwrap_or_default() };
    until(LIMIT, "the loss is told", |text: &String| text.starts_with("SignalLost"), said).await;
    let gap = || browser.count("svg.chart rect.gap");
    until(LIMIT, "the loss is drawn", |count| *count > 0, gap).await;
    let body = shop.get("/v1/targets/shop/checkout").await;
    assert_eq!(body["replicas"], 20, "{body}");
    browser.picture("outage").await;
    browser.unfold("details:has(.explain)").await;
    let words = || async { browser.text(".explain").await.unwrap_or_default() };
    let explained = |text: &String| text.contains("checkout (shop)") && text.contains("lost");
    until(LIMIT, "the same in words", explained, words).await;
    browser.press("\u{e00c}").await;
    until(LIMIT, "back at the list", |url: &String| url.ends_with("#/"), || browser.url()).await;
}

/// Keeps what would be saved where a test can read it.
const KEEP_FILES: &str = "URL.createObjectURL = (blob) => {\
    blob.text().then((text) => { document.body.dataset.file = text; });\
    return '#'; };\
    HTMLAnchorElement.prototype.click = function () {\
    document.body.dataset.name = this.download; };";

/// What CSV and JSON hold, of the list and of a workload's history.
async fn files_are_made(shop: &Shop, browser: &Browser) {
    // What is saved is what is shown at that moment: it is saved until that is as wanted.
    let made = |button: usize, name: &'static str| async move {
        browser.click(&format!(".tools button:nth-of-type({button})")).await;
        let named = browser.attribute("body", "data-name").await.unwrap_or_default();
        let file = browser.attribute("body", "data-file").await.unwrap_or_default();
        if named == name { file } else { String::new() }
    };
    browser.open(&shop.url("/")).await;
    until(LIMIT, "the list", |row: &String| !row.is_empty(), || row(browser, "shop/search")).await;
    browser.run(KEEP_FILES).await;
    let table = |text: &String| {
        text.starts_with("namespace,name,signal,") && text.contains("\nshop,thumbnails,fresh,")
    };
    until(LIMIT, "CSV of the list", table, || made(1, "podswell.csv")).await;
    let json = |text: &String| serde_json::from_str::<Vec<serde_json::Value>>(text).is_ok();
    until(LIMIT, "JSON of the list", json, || made(2, "podswell.json")).await;
    browser.run("location.hash = '#/workload/shop/search'").await;
    let charts = || browser.count("svg.chart");
    until(LIMIT, "its page", |count| *count == 1, charts).await;
    let terms = browser.count(".facts [data-term][title][tabindex='0']").await;
    assert_eq!(terms, browser.count(".facts dt").await, "each number is explained");
    let history = |text: &String| text.starts_with("at,stable,panic,") && text.contains(",fresh,");
    until(LIMIT, "CSV of the history", history, || made(1, "shop-search.csv")).await;
    until(LIMIT, "JSON of the history", json, || made(2, "shop-search.json")).await;
}

async fn words_and_colours(shop: &Shop, browser: &Browser) {
    let theme = || async { browser.attribute("html", "data-theme").await.unwrap_or_default() };
    let before = theme().await;
    browser.press("d").await;
    until(LIMIT, "the other theme", |after| *after != before, theme).await;
    let chosen = theme().await;
    browser.picture("dark").await;
    browser.open(&shop.url("/#/glossary")).await;
    browser.reload().await;
    until(LIMIT, "the choice lasts", |now| *now == chosen, theme).await;
    let terms = || browser.count(".glossary dt");
    until(LIMIT, "the words are explained", |count| *count > 8, terms).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_asked_for_until_it_is_right() {
    let shop = Shop::open(&["checkout"], Some("a-secret-token")).await;
    let browser = Browser::start().await;
    browser.open(&shop.url("/")).await;
    for token in ["a-guess", "a-secret-token"] {
        let asked = || browser.count("dialog[open]");
        until(LIMIT, "the token is asked for", |count| *count == 1, asked).await;
        browser.type_into("#token-text", token).await;
        browser.click("dialog button").await;
    }
    let shown = |text: &String| text.contains("checkout");
    until(LIMIT, "the list is there", shown, || row(&browser, "shop/checkout")).await;
    assert_eq!(browser.count("dialog[open]").await, 0, "asked again though it is right");
    browser.close().await;
}

/// Counts the rows that would be printed.
const PRINT: &str = "dispatchEvent(new Event('beforeprint'));\
    document.body.dataset.printed = document.querySelectorAll('tbody tr[data-key]').length;\
    dispatchEvent(new Event('afterprint'));";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_stay_usable() {
    let names: Vec<String> = (0..5000).map(|number| format!("app-{number:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let shop = Shop::open(&names, None).await;
    let browser = Browser::start().await;
    browser.open(&shop.url("/")).await;
    let all = |text: &Option<String>| text.as_deref() == Some("5000 workloads");
    until(LIMIT, "all are counted", all, || browser.text("output")).await;
    assert!(browser.count("tbody tr").await < 100, "rows out of sight are in the document");
    browser.type_into("#filter", "app-4711").await;
    let found = |text: &String| text.contains("shop/app-4711");
    until(LIMIT, "one is found", found, || row(&browser, "shop/app-4711")).await;
    browser.clear("#filter").await;
    browser.click("thead th:nth-child(5) button").await;
    let order = || browser.attribute("thead th:nth-child(5)", "aria-sort");
    until(
        LIMIT,
        "the order is told",
        |told: &Option<String>| told.as_deref() == Some("ascending"),
        order,
    )
    .await;
    browser.click("thead th:nth-child(1) button").await;
    assert_eq!(browser.attribute("table.list", "aria-rowcount").await.as_deref(), Some("5001"));
    browser.run(PRINT).await;
    let printed = browser.attribute("body", "data-printed").await;
    assert_eq!(printed.as_deref(), Some("5000"), "paper has all rows");
    assert!(browser.count("tbody tr").await < 100, "the screen has few");
    browser.run("document.querySelector('.scroll').scrollTop = 1e9").await;
    eventually(LIMIT, "the last row comes into view", || async {
        let text = row(&browser, "shop/app-4999").await;
        if text.is_empty() { Err("not there") } else { Ok(()) }
    })
    .await;
    browser.close().await;
}
