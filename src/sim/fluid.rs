//! Requests as a stream: arrivals at a rate, a number in the system, service in proportion to what is
//! served. Exact between two changes of the rate or of the pods.

use std::collections::VecDeque;

use super::number::{Micros, real, seconds};

/// Less of a request than this is none: what decays would never be gone.
const NOTHING: f64 = 1e-9;

/// A stream of requests in front of and inside the pods.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fluid {
    /// Requests waiting or in service.
    pub(crate) inside: f64,
    /// Requests that wait, oldest first: when they came (mean) and how many.
    waiting: VecDeque<(Micros, f64)>,
    queued: f64,
    /// The newest exponent and its power of e: most spans are a whole second.
    decay: Option<(f64, f64)>,
}

/// What happened in a span without changes of rate and pods.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flow {
    /// Requests that came.
    pub(crate) arrived: f64,
    /// Requests that were finished.
    pub(crate) finished: f64,
    /// Requests that were lost.
    pub(crate) lost: f64,
    /// Requests inside, times seconds.
    pub(crate) area: f64,
}

impl Fluid {
    /// Requests that wait.
    pub(crate) fn queued(&self) -> f64 {
        self.queued
    }

    /// Lets `span` pass from `now` on with `rate` arrivals a second, `slots` requests served at once and
    /// a service time of mean `mean_s`. `limit` is the longest queue; `started` is told how long how
    /// many requests waited before their service began.
    pub(crate) fn pass(
        &mut self,
        now: Micros,
        span: Micros,
        rate: f64,
        Service { slots, mean_s, limit }: Service,
        started: &mut dyn FnMut(f64, f64),
    ) -> Flow {
        let mut flow = Flow { arrived: rate * seconds(span), ..Flow::default() };
        let before = self.queued;
        let mut left = seconds(span);
        // The number inside approaches rate × service while it is below the slots, else it changes evenly;
        // it crosses the slots at most once in each direction.
        for _ in 0..3 {
            if left <= 0.0 {
                break;
            }
            let (used, area, served) = self.regime(left, rate, slots, mean_s);
            left -= used;
            flow.area += area;
            flow.finished += served / mean_s;
        }
        if self.inside < NOTHING {
            self.inside = 0.0;
        }
        let mut queued = (self.inside - slots).max(0.0);
        if queued > limit {
            flow.lost = queued - limit;
            self.inside -= flow.lost;
            queued = limit;
        }
        let middle = now + span / 2;
        let taken = flow.arrived - flow.lost;
        if before <= 0.0 && queued <= 1e-9 {
            started(0.0, taken);
            self.waiting.clear();
        } else {
            self.waiting.push_back((middle, taken.max(0.0)));
            self.start(middle, before + taken - queued, started);
        }
        self.queued = if queued <= 1e-9 { 0.0 } else { queued };
        flow
    }

    fn exp(&mut self, exponent: f64) -> f64 {
        #[expect(clippy::float_cmp, reason = "the same bits give the same power")]
        let known = self.decay.filter(|(of, _)| *of == exponent);
        let (_, power) = known.unwrap_or_else(|| (exponent, libm::exp(exponent)));
        self.decay = Some((exponent, power));
        power
    }

    /// One regime: how long it lasted, the area inside, and the area in service.
    fn regime(&mut self, left: f64, rate: f64, slots: f64, service_s: f64) -> (f64, f64, f64) {
        let inside = self.inside;
        if inside > slots || (inside >= slots && rate * service_s > slots) {
            let slope = rate - slots / service_s;
            let used = if slope < 0.0 { left.min((slots - inside) / slope) } else { left };
            self.inside = if used < left { slots } else { inside + slope * used };
            return (used, used * (inside + self.inside) / 2.0, slots * used);
        }
        let level = rate * service_s;
        let used = if level > slots {
            left.min(service_s * libm::log((level - inside) / (level - slots)))
        } else {
            left
        };
        let decay = self.exp(-used / service_s);
        self.inside = if used < left { slots } else { level + (inside - level) * decay };
        let area = level * used + (inside - level) * service_s * (1.0 - decay);
        (used, area, area)
    }

    /// The oldest `amount` of what waits begins its service at `at`. A negative amount falls back into the
    /// queue because pods were lost.
    fn start(&mut self, at: Micros, mut amount: f64, started: &mut dyn FnMut(f64, f64)) {
        if amount < 0.0 {
            self.waiting.push_back((at, -amount));
            return;
        }
        while amount > 1e-9 {
            let Some((came, waits)) = self.waiting.front_mut() else { return };
            let part = waits.min(amount);
            started(real(at.saturating_sub(*came)) / 1e6, part);
            amount -= part;
            *waits -= part;
            if *waits <= 1e-9 {
                self.waiting.pop_front();
            }
        }
    }
}

/// How requests are served for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    /// Requests served at once.
    pub(crate) slots: f64,
    /// The mean service time in seconds.
    pub(crate) mean_s: f64,
    /// The longest queue.
    pub(crate) limit: f64,
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::super::number::SECOND;
    use super::*;

    /// Lets the span of seconds pass; gives the sums, and the seconds that requests waited.
    fn run(fluid: &mut Fluid, span: Range<u64>, rate: f64, slots: f64) -> (Flow, f64) {
        let mut sum = Flow::default();
        let mut waited = 0.0;
        let service = Service { slots, mean_s: 2.0, limit: f64::INFINITY };
        for second in span {
            let flow = fluid.pass(second * SECOND, SECOND, rate, service, &mut |wait, amount| {
                waited += wait * amount;
            });
            sum.arrived += flow.arrived;
            sum.finished += flow.finished;
            sum.area += flow.area;
        }
        (sum, waited)
    }

    #[test]
    fn littles_law_holds_without_waiting() {
        let mut fluid = Fluid::default();
        let (flow, waited) = run(&mut fluid, 0..100, 5.0, 100.0);
        assert!((fluid.inside - 10.0).abs() < 1e-9);
        assert!((flow.arrived - flow.finished - fluid.inside).abs() < 1e-6);
        assert!(waited.abs() < 1e-9);
    }

    #[test]
    fn a_queue_builds_up_and_drains() {
        let mut fluid = Fluid::default();
        let (full, _) = run(&mut fluid, 0..100, 5.0, 4.0);
        // Two a second are served of five that come.
        assert!((full.finished - 2.0 * 100.0).abs() < 5.0, "{}", full.finished);
        assert!((fluid.queued() + 4.0 - fluid.inside).abs() < 1e-6);
        let queued = fluid.queued();
        let (drained, waited) = run(&mut fluid, 100..300, 0.0, 40.0);
        assert!(fluid.inside < 1e-6);
        assert!((drained.finished - queued - 4.0).abs() < 1e-3, "{drained:?}");
        assert!(waited > 0.0);
    }

    #[test]
    fn a_lost_pod_puts_requests_back_into_the_queue() {
        let mut fluid = Fluid::default();
        run(&mut fluid, 0..20, 5.0, 10.0);
        let (flow, _) = run(&mut fluid, 20..21, 5.0, 1.0);
        assert!(fluid.queued() > 8.0 && flow.finished < 1.0);
    }
}
