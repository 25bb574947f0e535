//! A plain HTTP client for the loopback range.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// No answer that a test asks for is longer.
const BODY_LIMIT: usize = 16 << 20;

/// An answer, read whole.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Keeps connections, as many as there are requests in flight.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient(Client<HttpConnector, Empty<Bytes>>);

impl HttpClient {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }

    /// GET; the text of an error says what went wrong.
    ///
    /// # Panics
    /// If the address is not a loopback one.
    pub(crate) async fn get(&self, url: &str) -> Result<Answer, String> {
        self.ask(Method::GET, url).await
    }

    /// POST without a body, as [`Self::get`].
    ///
    /// # Panics
    /// If the address is not a loopback one.
    pub(crate) async fn post(&self, url: &str) -> Result<Answer, String> {
        self.ask(Method::POST, url).await
    }

    async fn ask(&self, method: Method, url: &str) -> Result<Answer, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        assert_loopback(&uri);
        let request = Request::builder().method(method).uri(uri).body(Empty::new());
        let request = request.map_err(|error| format!("{url}: {error}"))?;
        let response =
            self.0.request(request).await.map_err(|error| format!("{url}: {error:?}"))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, BODY_LIMIT)
            .collect()
            .await
            .map_err(|error| format!("{url}: body: {error}"))?
            .to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

/// Load goes nowhere but to this machine.
fn assert_loopback(uri: &Uri) {
    let host = uri.host().unwrap_or_default();
    let loopback =
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    assert!(loopback, "{uri} is not on the loopback range");
}
