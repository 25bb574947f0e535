//! KEDA: a poll of its own decides between 0 and 1, an HPA above.
//!
//! Source: KEDA `pkg/scaling/executor/scale_scaledobjects.go`: activation at a poll, zero after the
//! cooldown since the last active poll.

use std::collections::VecDeque;

use super::super::number::{Micros, micros, micros_of};
use super::super::scenario::KedaOptions;
use super::hpa::{Known, Limits, Rules, rules, site_of};
use super::{Fact, Order, Policy, View};

/// KEDA's memory of one of its objects.
#[derive(Clone, Debug)]
struct Scaled {
    known: Known,
    poll: Micros,
    sync: Micros,
    active_at: Option<Micros>,
}

/// The objects of all workloads.
pub(crate) struct KedaPolicy {
    options: KedaOptions,
    rules: Rules,
    /// The least replicas.
    min: i32,
    /// Whether the trigger sees demand at zero; otherwise one replica stays.
    at_zero: bool,
    objects: Vec<Scaled>,
    orders: VecDeque<Order>,
}

impl KedaPolicy {
    /// Objects on `target` per pod; `phases` in [0, 1) say where polls and syncs begin.
    pub(crate) fn new(
        options: KedaOptions,
        target: f64,
        limits: Limits,
        at_zero: bool,
        phases: &[(f64, f64)],
    ) -> Self {
        let [poll, sync] =
            [options.poll, options.hpa.sync].map(|span| span.0.as_secs_f64().max(1.0));
        let objects = phases.iter().map(|&(poll_phase, sync_phase)| Scaled {
            known: Known::default(),
            poll: micros_of(poll_phase * poll),
            sync: micros_of(sync_phase * sync),
            active_at: None,
        });
        let objects = objects.collect();
        let above_zero = Limits { min: limits.min.max(1), ..limits };
        let rules = rules(target, above_zero, &options.hpa);
        let orders = VecDeque::new();
        Self { rules, min: limits.min, at_zero, objects, orders, options }
    }
}

impl Policy for KedaPolicy {
    fn tell(&mut self, now: Micros, fact: Fact) {
        if let Some(object) = site_of(&fact).and_then(|site| self.objects.get_mut(site)) {
            object.known.tell(now, &fact, self.options.hpa.metric_age.0);
        }
    }

    fn due(&self) -> Option<Micros> {
        self.objects.iter().map(|object| object.poll.min(object.sync)).min()
    }

    fn act(&mut self, now: Micros) {
        for (site, object) in self.objects.iter_mut().enumerate() {
            let mut write = None;
            if object.sync <= now {
                object.sync += micros(self.options.hpa.sync.0).max(1_000_000);
                write = object.known.sync(now, &self.rules, self.options.hpa.metric_age.0);
            }
            if object.poll <= now {
                object.poll += micros(self.options.poll.0).max(1_000_000);
                if self.at_zero && self.min == 0 {
                    write = poll(object, now, &self.options).or(write);
                }
            }
            if let Some(replicas) = write {
                self.orders.push_back(Order { site, replicas, version: None, reason: "poll" });
            }
        }
    }

    fn order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    fn view(&self, site: usize) -> View {
        let object = self.objects.get(site);
        object.map_or_else(View::default, |object| object.known.view(object.known.newest()))
    }
}

/// One poll: 1 at the first activity, 0 after the cooldown. A metric that is not there changes nothing.
fn poll(object: &mut Scaled, now: Micros, options: &KedaOptions) -> Option<i32> {
    let value = object.known.metric(now, options.hpa.metric_age.0)?;
    let replicas = object.known.replicas;
    if value > 0.0 {
        object.active_at = Some(now);
        return (replicas == 0).then_some(1);
    }
    let cooled = object.active_at.is_none_or(|at| at + micros(options.cooldown.0) < now);
    (replicas > 0 && cooled).then_some(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn zero_comes_after_the_cooldown_and_one_at_a_poll() {
        let limits = Limits { min: 0, max: 10 };
        let mut keda = KedaPolicy::new(KedaOptions::default(), 10.0, limits, true, &[(0.0, 0.5)]);
        let mut replicas = 1;
        let mut seen = Vec::new();
        for second in 0..900_u64 {
            let now = second * 1_000_000;
            let load = if (60..90).contains(&second) || second > 600 { 5.0 } else { 0.0 };
            keda.tell(now, Fact::Replicas { site: 0, replicas, version: 1 });
            keda.tell(
                now,
                Fact::Sample { site: 0, seen: load, missing: 0, age: Duration::ZERO, stamp: None },
            );
            while keda.due().is_some_and(|due| due <= now) {
                keda.act(now);
            }
            while let Some(order) = keda.order() {
                replicas = order.replicas;
                seen.push((second, replicas));
            }
        }
        // Never active before: no cooldown. Active at 60 s, cooled down after 360 s, active after 600 s.
        assert_eq!(seen, [(0, 0), (60, 1), (390, 0), (630, 1)]);
    }
}
