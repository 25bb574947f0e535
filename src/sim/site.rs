//! One workload in the world: its pods, its requests and its books.

use std::collections::VecDeque;

use super::cluster::Pods;
use super::fluid::{Fluid, Service};
use super::ledger::Ledger;
use super::number::{Micros, SECOND, count, index, length, seconds};
use super::plan::{Load, Plan};
use super::scenario::{Detail, Sees};
use super::single::Single;
use crate::core::spec::ScalingMetric;

/// What was seen since the start; differences of two of these are what a sample says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    at: Micros,
    /// Requests inside, times seconds.
    area: f64,
    /// Requests in service, times seconds.
    served: f64,
    arrived: f64,
    finished: f64,
}

/// One workload.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) pods: Pods,
    pub(crate) replicas: i32,
    /// The object's version.
    pub(crate) version: u64,
    fluid: Fluid,
    pub(crate) single: Single,
    totals: Totals,
    history: VecDeque<Totals>,
    pub(crate) ledger: Ledger,
}

impl Site {
    pub(crate) fn new(plan: &Plan) -> Self {
        let start = plan.scenario.target.start;
        let mut single = Single::new(count(plan.capacity));
        (0..u64::from(start)).for_each(|pod| single.open(pod));
        Self {
            pods: Pods::new(start, plan.scenario.cluster.room),
            replicas: i32::from(start),
            version: 1,
            fluid: Fluid::default(),
            single,
            totals: Totals::default(),
            history: VecDeque::from([Totals::default()]),
            ledger: Ledger::new(i32::from(start)),
        }
    }

    /// Lets time pass until `now`; pods do not change meanwhile.
    pub(crate) fn advance(&mut self, plan: &Plan, load: &Load, now: Micros) {
        while self.totals.at < now {
            let from = self.totals.at;
            let to = now.min((from / SECOND + 1) * SECOND);
            let second = index(from / SECOND);
            let needed = load.needed.get(second).copied().unwrap_or(0);
            let (placed, ready) = (self.pods.placed(), self.pods.ready());
            self.ledger.span(from, to, placed, ready, needed);
            match plan.scenario.detail {
                Detail::Fluid => {
                    let rate = load.rates.get(second).copied().unwrap_or(0.0);
                    self.pour(plan, from, to - from, rate);
                }
                Detail::Requests => {
                    let span_s = seconds(to - from);
                    let serving = length(self.single.serving());
                    self.totals.served += serving * span_s;
                    self.totals.area += (serving + length(self.single.queued())) * span_s;
                }
            }
            self.totals.at = to;
        }
    }

    fn pour(&mut self, plan: &Plan, now: Micros, span: Micros, rate: f64) {
        let ready = self.pods.ready();
        let cluster = &plan.scenario.cluster;
        let came = rate * seconds(span);
        self.ledger.requests += came;
        if ready == 0 {
            self.ledger.cold += came;
        }
        let taken = if ready == 0 && !cluster.holds {
            self.ledger.lost += came;
            0.0
        } else {
            rate
        };
        let service = Service {
            slots: f64::from(ready) * plan.capacity,
            mean_s: plan.service_s,
            limit: cluster.queue_limit.map_or(f64::INFINITY, |limit| limit.0),
        };
        let (ledger, service_s) = (&mut self.ledger, plan.service_s);
        let flow = self.fluid.pass(now, span, taken, service, &mut |wait_s, amount| {
            ledger.began(wait_s, service_s, amount);
        });
        ledger.lost += flow.lost;
        self.totals.area += flow.area;
        self.totals.served += flow.finished * service_s;
        self.totals.arrived += came;
        self.totals.finished += flow.finished;
    }

    /// A request came (requests mode).
    pub(crate) fn count_arrival(&mut self, taken: bool) {
        self.totals.arrived += 1.0;
        self.ledger.requests += 1.0;
        if self.pods.ready() == 0 {
            self.ledger.cold += 1.0;
        }
        if !taken {
            self.ledger.lost += 1.0;
        }
    }

    /// A request was answered (requests mode).
    pub(crate) fn count_finish(&mut self) {
        self.totals.finished += 1.0;
    }

    /// Requests that are there now.
    pub(crate) fn inside(&self, detail: Detail) -> f64 {
        match detail {
            Detail::Fluid => self.fluid.inside,
            Detail::Requests => length(self.single.serving() + self.single.queued()),
        }
    }

    /// Requests that wait now.
    pub(crate) fn queued(&self, detail: Detail) -> f64 {
        match detail {
            Detail::Fluid => self.fluid.queued(),
            Detail::Requests => length(self.single.queued()),
        }
    }

    /// What the source reads now: the mean or the rate since its last sample, or over its range.
    pub(crate) fn read(&mut self, plan: &Plan) -> f64 {
        let source = &plan.scenario.source;
        let span = source.range.unwrap_or(source.interval).micros();
        let now = self.totals;
        let from = now.at.saturating_sub(span);
        while self.history.get(1).is_some_and(|next| next.at <= from) {
            self.history.pop_front();
        }
        let then = self.history.front().copied().unwrap_or_default();
        self.history.push_back(now);
        let span_s = seconds(now.at - then.at).max(1e-6);
        let detail = plan.scenario.detail;
        match (plan.config.spec.metric, source.sees) {
            (ScalingMetric::Concurrency, Sees::All) => (now.area - then.area) / span_s,
            (ScalingMetric::Concurrency, Sees::Served) => (now.served - then.served) / span_s,
            (ScalingMetric::Backlog, Sees::All) => self.inside(detail),
            (ScalingMetric::Backlog, Sees::Served) => self.inside(detail) - self.queued(detail),
            (_, Sees::All) => (now.arrived - then.arrived) / span_s,
            (_, Sees::Served) => (now.finished - then.finished) / span_s,
        }
        .max(0.0)
    }
}
