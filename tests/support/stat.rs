//! What Knative's queue-proxy reports about its pod, and how it is counted.

use std::time::Duration;

use tokio::time::Instant;

/// Knative's `metrics.Stat` (serving, `pkg/autoscaler/metrics/stat.proto`), as on the wire.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Stat {
    #[prost(string, tag = "1")]
    pub(crate) pod_name: String,
    /// Requests in flight, averaged over the reporting period.
    #[prost(double, tag = "2")]
    pub(crate) average_concurrent_requests: f64,
    #[prost(double, tag = "3")]
    pub(crate) average_proxied_concurrent_requests: f64,
    /// Requests a second that arrived in the reporting period.
    #[prost(double, tag = "4")]
    pub(crate) request_count: f64,
    #[prost(double, tag = "5")]
    pub(crate) proxied_request_count: f64,
    /// Seconds since the start of the pod.
    #[prost(double, tag = "6")]
    pub(crate) process_uptime: f64,
    /// Unix seconds; the queue-proxy leaves it 0.
    #[prost(int64, tag = "7")]
    pub(crate) timestamp: i64,
}

/// Counts requests in flight and their integral over time.
#[derive(Debug)]
pub(crate) struct Meter {
    born: Instant,
    in_flight: u64,
    started: u64,
    finished: u64,
    /// Request-seconds until `changed`.
    integral: f64,
    changed: Instant,
    /// State at the last report.
    reported: Report,
}

/// What a report is the difference to.
#[derive(Debug, Clone, Copy)]
struct Report {
    at: Instant,
    integral: f64,
    started: u64,
}

impl Meter {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            born: now,
            in_flight: 0,
            started: 0,
            finished: 0,
            integral: 0.0,
            changed: now,
            reported: Report { at: now, integral: 0.0, started: 0 },
        }
    }

    /// A request has arrived.
    pub(crate) fn enter(&mut self) {
        self.integrate();
        self.in_flight += 1;
        self.started += 1;
    }

    /// A request has ended, in whatever way.
    pub(crate) fn leave(&mut self) {
        self.integrate();
        self.in_flight -= 1;
        self.finished += 1;
    }

    /// Requests in flight, requests ever started, requests ever finished.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        (self.in_flight, self.started, self.finished)
    }

    /// Ends a reporting period.
    pub(crate) fn report(&mut self, pod: &str) -> Stat {
        let now = self.integrate();
        let span = now.duration_since(self.reported.at).max(Duration::from_millis(1)).as_secs_f64();
        let arrived = self.started - self.reported.started;
        let stat = Stat {
            pod_name: pod.to_owned(),
            average_concurrent_requests: (self.integral - self.reported.integral) / span,
            request_count: float(arrived) / span,
            process_uptime: now.duration_since(self.born).as_secs_f64(),
            ..Stat::default()
        };
        self.reported = Report { at: now, integral: self.integral, started: self.started };
        stat
    }

    fn integrate(&mut self) -> Instant {
        let now = Instant::now();
        let span = now.duration_since(self.changed).as_secs_f64();
        self.integral += span * float(self.in_flight);
        self.changed = now;
        now
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a test are far below 2^52")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}
