//! A Prometheus as far as podswell asks one: a gauge of the items of many queues.

use std::fmt::Write as _;

use axum::Router;
use axum::http::header;
use axum::routing::any;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::clock;

/// The name of the source.
pub(crate) const SOURCE: &str = "queues";

/// Items in a queue: every second one has one.
pub(crate) fn items(number: u32) -> u32 {
    number % 2
}

/// Serves as many queues until the returned task is dropped, each named like its workload. The other value
/// is the ConfigMap that names the server.
pub(crate) async fn serve(namespace: &'static str, number: u32) -> (JoinHandle<()>, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let port = listener.local_addr().expect("an address").port();
    let query = any(async move || {
        ([(header::CONTENT_TYPE, "application/json")], answer(namespace, number))
    });
    let router = Router::new().route("/api/v1/query", query);
    let serving = tokio::spawn(async move {
        // It ends with the program.
        let _ = axum::serve(listener, router).await;
    });
    let document = format!(
        "server: {{ url: \"http://127.0.0.1:{port}\" }}\nkind: backlog\nselector: queue_items\nform: gauge\n\
         interval: 15s\nvisibleAtZero: true\nmatch: {{ namespace: namespace, workload: workload }}\n"
    );
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "podswell-sources", "namespace": "podswell-system"},
        "data": {SOURCE: document},
    });
    (serving, map.to_string())
}

/// The newest sample of every queue, taken now.
fn answer(namespace: &str, number: u32) -> String {
    let at = clock::now().as_second();
    let mut text =
        "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[".to_owned();
    for queue in 0..number {
        let comma = if queue == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{comma}{{\"metric\":{{\"__name__\":\"queue_items\",\"namespace\":\"{namespace}\",\
             \"workload\":\"w{queue}\"}},\"values\":[[{at},\"{}\"]]}}",
            items(queue)
        );
    }
    text.push_str("]}}");
    text
}
