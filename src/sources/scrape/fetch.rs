//! One request to one pod: which addresses may be asked, and how much is read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::core::event::SourceFault;
use crate::core::source::ScrapeSpec;
use crate::sources::exposition::MAX_TEXT_BYTES;
use crate::sources::stat;

/// The most bytes of an answer's head.
const MAX_HEAD_BYTES: usize = 4 * 1024;
/// For how long a connection waits for the next round.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Speaks HTTP/1.1 without TLS, proxies and redirects, and keeps one connection a pod.
pub(super) type HttpClient = Client<HttpConnector, Empty<Bytes>>;

/// A client whose connections take at most `connect_timeout` to open.
pub(super) fn client(connect_timeout: Duration) -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect_timeout));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(KEEP_ALIVE)
        .pool_max_idle_per_host(1)
        .http1_read_buf_exact_size(MAX_HEAD_BYTES)
        .http1_max_headers(64)
        .build(connector)
}

/// Whether a pod's address may be asked at all. Addresses that lead to the node itself or to a cloud's
/// metadata service are refused, whatever a pod's status says.
pub(super) fn is_allowed(ip: IpAddr, allow_loopback: bool) -> bool {
    match ip {
        IpAddr::V4(ip) => is_allowed_v4(ip, allow_loopback),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(mapped) => is_allowed_v4(mapped, allow_loopback),
            None => is_allowed_v6(ip, allow_loopback),
        },
    }
}

fn is_allowed_v4(ip: Ipv4Addr, allow_loopback: bool) -> bool {
    let [first, ..] = ip.octets();
    let refused = ip.is_link_local() || ip.is_multicast() || ip.is_broadcast() || first == 0;
    !refused && (allow_loopback || !ip.is_loopback())
}

fn is_allowed_v6(ip: Ipv6Addr, allow_loopback: bool) -> bool {
    let refused = ip.is_unicast_link_local() || ip.is_multicast() || ip.is_unspecified();
    !refused && (allow_loopback || !ip.is_loopback())
}

/// Where a pod is asked; IPv6 addresses stand in brackets.
pub(super) fn uri_of(ip: IpAddr, spec: &ScrapeSpec) -> Option<Uri> {
    let authority = std::net::SocketAddr::new(ip, spec.port).to_string();
    let path = if spec.path.starts_with('/') { spec.path.as_str() } else { return None };
    Uri::builder().scheme("http").authority(authority).path_and_query(path).build().ok()
}

/// What is asked for: whoever asks for the same gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Page {
    /// Where.
    pub(super) uri: Uri,
    /// Whether it is Knative's `Stat` and not text.
    pub(super) is_stat: bool,
}

/// Asks one pod and returns the body of its answer.
///
/// # Errors
/// Why there is no body; the caller limits the time.
pub(super) async fn fetch(client: &HttpClient, page: Page) -> Result<Bytes, SourceFault> {
    let Page { uri, is_stat } = page;
    let accept = if is_stat {
        HeaderValue::from_static(stat::CONTENT_TYPE)
    } else {
        HeaderValue::from_static(
            "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4",
        )
    };
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri;
    request.headers_mut().insert(ACCEPT, accept);
    request.headers_mut().insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("podswell/", env!("CARGO_PKG_VERSION"))),
    );
    let response = client.request(request).await.map_err(|error| fault_of(&error))?;
    if !response.status().is_success() {
        return Err(SourceFault::BadStatus);
    }
    if !is_expected(response.headers(), is_stat) {
        return Err(SourceFault::Malformed);
    }
    let limit = if is_stat { stat::MAX_STAT_BYTES } else { MAX_TEXT_BYTES };
    read_bounded(response.into_body(), limit).await
}

fn is_expected(headers: &HeaderMap, is_stat: bool) -> bool {
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return false;
    }
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        return !is_stat;
    };
    if is_stat {
        return content_type == stat::CONTENT_TYPE;
    }
    let text = content_type.to_str().unwrap_or_default().trim_start();
    ["text/plain", "application/openmetrics-text"].iter().any(|known| text.starts_with(known))
}

async fn read_bounded(mut body: Incoming, limit: usize) -> Result<Bytes, SourceFault> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(SourceFault::TooLarge);
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| SourceFault::Malformed)?.into_data() else { continue };
        if first.len().max(all.len()) + data.len() > limit {
            return Err(SourceFault::TooLarge);
        }
        // Most answers come in one piece, which then needs no copy.
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                all.reserve(announced.max(first.len() + data.len()));
                all.extend_from_slice(&first);
                first = Bytes::new();
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn fault_of(error: &Error) -> SourceFault {
    use std::error::Error as _;

    let protocol = error
        .source()
        .and_then(|source| source.downcast_ref::<hyper::Error>())
        .is_some_and(|source| source.is_parse() || source.is_parse_too_large());
    if protocol { SourceFault::Malformed } else { SourceFault::Unreachable }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::source::ScrapeFormat;

    #[test]
    fn addresses() {
        let cases = [
            ("10.0.0.1", true, true),
            ("192.168.3.4", true, true),
            ("2001:db8::1", true, true),
            ("fd00::7", true, true),
            ("127.0.0.1", false, true),
            ("127.8.9.1", false, true),
            ("::1", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("169.254.169.254", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("fe80::1", false, false),
            ("0.0.0.0", false, false),
            ("0.1.2.3", false, false),
            ("::", false, false),
            ("224.0.0.1", false, false),
            ("ff02::1", false, false),
            ("255.255.255.255", false, false),
        ];
        for (ip, by_default, with_loopback) in cases {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(is_allowed(ip, false), by_default, "{ip}");
            assert_eq!(is_allowed(ip, true), with_loopback, "{ip}");
        }
    }

    #[test]
    fn uris() {
        let spec = |path: &str| ScrapeSpec {
            port: 9090,
            path: path.into(),
            format: ScrapeFormat::QueueProxy,
        };
        let uri = |ip: &str, path: &str| {
            uri_of(ip.parse().unwrap(), &spec(path)).map(|uri| uri.to_string())
        };
        assert_eq!(uri("10.0.0.1", "/metrics").as_deref(), Some("http://10.0.0.1:9090/metrics"));
        assert_eq!(uri("fd00::7", "/m?a=b").as_deref(), Some("http://[fd00::7]:9090/m?a=b"));
        assert_eq!(uri("10.0.0.1", "metrics"), None);
        assert_eq!(uri("10.0.0.1", "@evil/"), None);
        assert_eq!(uri("10.0.0.1", "/a b"), None);
    }
}
