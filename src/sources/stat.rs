//! Knative's own report format, read from queue-proxies.

use prost::Message;

use crate::core::event::SourceFault;
use crate::core::spec::ScalingMetric;

mod wire {
    include!(concat!(env!("OUT_DIR"), "/metrics.rs"));
}

pub use wire::{Stat, WireStatMessage, WireStatMessages};

/// The most bytes that one report may have: six fields of ten bytes, 256 bytes of pod name and 20 to
/// spare, as Knative's scraper reads.
pub const MAX_STAT_BYTES: usize = 336;

/// The content type that a queue-proxy answers with.
pub const CONTENT_TYPE: &str = "application/protobuf";

/// Decodes one bare report.
///
/// # Errors
/// [`SourceFault::TooLarge`] above [`MAX_STAT_BYTES`], [`SourceFault::Malformed`] when the bytes are not a
/// `Stat`.
pub fn decode(body: &[u8]) -> Result<Stat, SourceFault> {
    if body.len() > MAX_STAT_BYTES {
        return Err(SourceFault::TooLarge);
    }
    Stat::decode(body).map_err(|_| SourceFault::Malformed)
}

/// The load that a report states for `metric`: requests in flight for concurrency, requests per second
/// for every other kind; finite and ≥ 0.
///
/// The share that came through an activator is part of it and is *not* subtracted: no activator reports
/// to podswell, so nothing is counted twice.
///
/// # Errors
/// [`SourceFault::InvalidSample`] for NaN, infinite and negative values.
pub fn load(stat: &Stat, metric: ScalingMetric) -> Result<f64, SourceFault> {
    let value = match metric {
        ScalingMetric::Concurrency => stat.average_concurrent_requests,
        ScalingMetric::Rps | ScalingMetric::Events | ScalingMetric::Backlog => stat.request_count,
    };
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(SourceFault::InvalidSample) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn golden_bytes_of_a_bare_stat() {
        let golden = bytes(
            "0a05706f642d31110000000000000840190000000000000040210000000000001440290000000000001040310ad7a3703df2a640",
        );
        let stat = decode(&golden).unwrap();
        assert_eq!(
            stat,
            Stat {
                pod_name: "pod-1".into(),
                average_concurrent_requests: 3.0,
                average_proxied_concurrent_requests: 2.0,
                request_count: 5.0,
                proxied_request_count: 4.0,
                process_uptime: 2937.12,
                timestamp: 0,
            }
        );
        assert_eq!(stat.encode_to_vec(), golden);
        assert_eq!(load(&stat, ScalingMetric::Concurrency), Ok(3.0));
        assert_eq!(load(&stat, ScalingMetric::Rps), Ok(5.0));
    }

    #[test]
    fn golden_bytes_of_a_frame() {
        let golden = bytes(
            "0a370a0764656661756c74120b68656c6c6f2d30303030311a1f0a0b616374697661746f722d3111000000000000f03f21000000000000f03f",
        );
        let frame = WireStatMessages::decode(golden.as_slice()).unwrap();
        assert_eq!(frame.messages.len(), 1);
        let message = &frame.messages[0];
        assert_eq!((message.namespace.as_str(), message.name.as_str()), ("default", "hello-00001"));
        let stat = message.stat.as_ref().unwrap();
        assert_eq!(stat.pod_name, "activator-1");
        assert_eq!((stat.average_concurrent_requests, stat.request_count), (1.0, 1.0));
        assert_eq!(frame.encode_to_vec(), golden);
    }

    #[test]
    fn what_is_refused() {
        let stat = |value| Stat { average_concurrent_requests: value, ..Stat::default() };
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
            let decoded = decode(&stat(value).encode_to_vec()).unwrap();
            assert_eq!(
                load(&decoded, ScalingMetric::Concurrency),
                Err(SourceFault::InvalidSample),
                "{value}"
            );
        }
        let long = Stat { pod_name: "p".repeat(400), ..Stat::default() }.encode_to_vec();
        assert_eq!(decode(&long), Err(SourceFault::TooLarge));
        assert_eq!(decode(b"<html>"), Err(SourceFault::Malformed));
        assert_eq!(decode(&[0x11, 0, 0]), Err(SourceFault::Malformed));
        // An unknown field is skipped; an empty body is the report of an idle pod.
        assert_eq!(decode(&[0x78, 1]), Ok(Stat::default()));
        assert_eq!(decode(b""), Ok(Stat::default()));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(stat) = decode(&body) {
                let _ = load(&stat, ScalingMetric::Rps);
            }
        }
    }
}
