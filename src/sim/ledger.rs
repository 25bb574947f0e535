//! What a run cost and what it was good for, added up as it goes.

use hdrhistogram::Histogram;

use super::number::{Micros, count, micros_of, real, seconds};

/// A wait below this, in seconds, is no delay.
const UNNOTICED_S: f64 = 0.001;
/// Parts of a request that are counted in the latency histogram, so that streams can be weighed.
const PARTS: f64 = 1000.0;

/// The books of one workload under one policy.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) pod_s: f64,
    pub(crate) idle_s: f64,
    pub(crate) unmet_s: f64,
    short_since: Option<Micros>,
    longest_short: Micros,
    pub(crate) requests: f64,
    pub(crate) cold: f64,
    pub(crate) delayed: f64,
    pub(crate) lost: f64,
    /// Response times in microseconds, to three digits.
    latency: Option<Histogram<u64>>,
    pub(crate) most: i32,
    rising: Option<bool>,
    pub(crate) turns: u64,
    pub(crate) writes: u64,
    pub(crate) zero_at: Option<Micros>,
}

impl Ledger {
    pub(crate) fn new(replicas: i32) -> Self {
        // Two digits up to an hour and beyond; the bounds are valid, so a plain one is never needed.
        Self {
            pod_s: 0.0,
            idle_s: 0.0,
            unmet_s: 0.0,
            short_since: None,
            longest_short: 0,
            requests: 0.0,
            cold: 0.0,
            delayed: 0.0,
            lost: 0.0,
            latency: Histogram::new(3).ok(),
            most: replicas,
            rising: None,
            turns: 0,
            writes: 0,
            zero_at: None,
        }
    }

    /// A span in which nothing changed: `placed` pods exist, `ready` of them serve, `needed` would do.
    pub(crate) fn span(&mut self, from: Micros, to: Micros, placed: u64, ready: i32, needed: i32) {
        let span_s = seconds(to - from);
        self.pod_s += real(placed) * span_s;
        self.idle_s += f64::from((ready - needed).max(0)) * span_s;
        self.unmet_s += f64::from((needed - ready).max(0)) * span_s;
        if needed > ready {
            let since = *self.short_since.get_or_insert(from);
            self.longest_short = self.longest_short.max(to - since);
        } else {
            self.short_since = None;
        }
    }

    /// So many requests waited for so long, and their service takes `service_s`.
    pub(crate) fn began(&mut self, wait_s: f64, service_s: f64, amount: f64) {
        if wait_s > UNNOTICED_S {
            self.delayed += amount;
        }
        let weight = count((amount * PARTS).round());
        if weight > 0
            && let Some(latency) = &mut self.latency
        {
            // It grows as far as it must, so there is no error.
            let _ = latency.record_n(micros_of(wait_s + service_s).max(1), weight);
        }
    }

    /// Replicas were written, by whomever.
    pub(crate) fn replicas(&mut self, now: Micros, before: i32, after: i32) {
        self.most = self.most.max(after);
        if after == 0 && self.zero_at.is_none() {
            self.zero_at = Some(now);
        }
        if before != after {
            let rises = after > before;
            self.turns += u64::from(self.rising.is_some_and(|rising| rising != rises));
            self.rising = Some(rises);
        }
    }

    /// The longest time with too few ready pods, in seconds.
    pub(crate) fn longest_short_s(&self) -> f64 {
        seconds(self.longest_short)
    }

    /// Takes over the books of another copy.
    pub(crate) fn add(&mut self, other: &Self) {
        self.pod_s += other.pod_s;
        self.idle_s += other.idle_s;
        self.unmet_s += other.unmet_s;
        self.longest_short = self.longest_short.max(other.longest_short);
        self.requests += other.requests;
        self.cold += other.cold;
        self.delayed += other.delayed;
        self.lost += other.lost;
        if let (Some(latency), Some(other)) = (&mut self.latency, &other.latency) {
            // Both have the same precision and grow by themselves, so there is no error.
            let _ = latency.add(other);
        }
        self.most += other.most;
        self.turns += other.turns;
        self.writes += other.writes;
        self.zero_at = match (self.zero_at, other.zero_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// The mean response time in seconds.
    #[cfg(test)]
    pub(crate) fn mean_latency_s(&self) -> f64 {
        self.latency.as_ref().map_or(0.0, |latency| latency.mean() / 1e6)
    }

    /// The response time in seconds below which this share of the requests lies.
    pub(crate) fn latency_s(&self, share: f64) -> Option<f64> {
        let latency = self.latency.as_ref().filter(|latency| !latency.is_empty())?;
        Some(seconds(latency.value_at_quantile(share)))
    }
}
