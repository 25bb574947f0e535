//! The `HorizontalPodAutoscaler` on an `AverageValue`: its arithmetic as pure functions, and its loop.
//!
//! Source: Kubernetes `pkg/controller/podautoscaler/{horizontal,replica_calculator}.go`, 1.36.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::number::{Micros, count, micros, micros_of, real};
use super::super::scenario::HpaOptions;
use super::{Fact, Order, Policy, View};

/// How long the last value of a metric is still answered (Prometheus' lookback).
const LOOKBACK: Duration = Duration::from_secs(300);

/// The replicas that a total of `usage` asks for at `target` per pod, where `current` pods exist: as many
/// as there are if the ratio is within the tolerance.
pub(crate) fn proposal(usage: f64, target: f64, current: i32, tolerance: f64) -> i32 {
    // In thousandths, as the controller counts.
    let (usage_milli, target_milli) =
        (count((usage * 1000.0).round()), count((target * 1000.0).round()));
    let (usage, target) = (real(usage_milli), real(target_milli.max(1)));
    if current > 0 {
        let ratio = usage / (target * f64::from(current));
        if (1.0 - tolerance..=1.0 + tolerance).contains(&ratio) {
            return current;
        }
    }
    i32::try_from(count((usage / target).ceil())).unwrap_or(i32::MAX)
}

/// The least and the most replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) min: i32,
    pub(crate) max: i32,
}

/// The memory of one HPA.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hpa {
    /// Recommendations within the stabilization window.
    recommendations: VecDeque<(Micros, i32)>,
    /// Changes within the longest period of a policy (15 s): when, and by how much.
    changes: VecDeque<(Micros, i32)>,
}

impl Hpa {
    /// What one sync at `now` makes of a proposal; `replicas` is `spec.replicas`.
    pub(crate) fn normalise(
        &mut self,
        now: Micros,
        replicas: i32,
        proposal: i32,
        limits: Limits,
        options: &HpaOptions,
    ) -> i32 {
        let window = micros(options.stabilization.0);
        self.recommendations.push_back((now, proposal));
        while self.recommendations.front().is_some_and(|&(at, _)| at + window < now) {
            self.recommendations.pop_front();
        }
        let highest =
            self.recommendations.iter().map(|&(_, wanted)| wanted).max().unwrap_or(proposal);
        let wanted = if options.behavior {
            self.with_behavior(now, replicas, proposal, highest)
        } else {
            // Without a behavior the highest recommendation is taken, upwards too.
            highest.min(replicas.saturating_mul(2).max(4))
        };
        wanted.min(limits.max).max(limits.min)
    }

    /// The API's default behavior: up by 4 pods or 100 % in 15 s, whichever is more, down freely after the
    /// stabilization window.
    fn with_behavior(&mut self, now: Micros, replicas: i32, proposal: i32, highest: i32) -> i32 {
        const PERIOD: Micros = 15_000_000;
        while self.changes.front().is_some_and(|&(at, _)| at + PERIOD <= now) {
            self.changes.pop_front();
        }
        // Rising has no window of its own; falling goes no further than the highest recommendation.
        let stabilized = if proposal > replicas { proposal } else { replicas.min(highest) };
        let changed: i32 = self.changes.iter().map(|&(_, by)| by).sum();
        let start = replicas - changed;
        let most = start.saturating_add(4).max(start.saturating_mul(2));
        if stabilized > replicas { stabilized.min(most.max(replicas)) } else { stabilized }
    }

    /// The sync wrote other replicas.
    pub(crate) fn changed(&mut self, now: Micros, by: i32) {
        self.changes.push_back((now, by));
    }
}

/// What an autoscaler of Kubernetes knows of one workload.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) replicas: i32,
    pub(super) current: i32,
    /// When each sample was measured, and its value; the newest last.
    samples: VecDeque<(Micros, f64)>,
    pub(super) hpa: Hpa,
    pub(super) desired: Option<i32>,
}

impl Known {
    pub(super) fn tell(&mut self, now: Micros, fact: &Fact, metric_age: Duration) {
        match *fact {
            Fact::Replicas { replicas, .. } => self.replicas = replicas,
            Fact::Pods { current, .. } => self.current = current,
            Fact::Sample { seen, age, .. } if seen.is_finite() && seen >= 0.0 => {
                let at = now.saturating_sub(micros(age));
                if self.samples.back().is_none_or(|&(newest, _)| at > newest) {
                    self.samples.push_back((at, seen));
                }
                let oldest = now.saturating_sub(micros(LOOKBACK + metric_age));
                while self.samples.get(1).is_some_and(|&(next, _)| next < oldest) {
                    self.samples.pop_front();
                }
            }
            _ => {}
        }
    }

    /// The newest value that the metrics API answers, if there is one.
    pub(super) fn metric(&self, now: Micros, metric_age: Duration) -> Option<f64> {
        let newest = now.checked_sub(micros(metric_age))?;
        let (at, value) = self.samples.iter().rev().find(|&&(at, _)| at <= newest)?;
        (at + micros(LOOKBACK) >= newest).then_some(*value)
    }

    /// One sync: the replicas to write, if they change. At zero the HPA does nothing.
    pub(super) fn sync(
        &mut self,
        now: Micros,
        target: f64,
        limits: Limits,
        options: &HpaOptions,
    ) -> Option<i32> {
        if self.replicas == 0 {
            return None;
        }
        let wanted = if self.replicas > limits.max {
            limits.max
        } else if self.replicas < limits.min {
            limits.min
        } else {
            let usage = self.metric(now, options.metric_age.0)?;
            let wanted = proposal(usage, target, self.current, options.tolerance.0);
            self.hpa.normalise(now, self.replicas, wanted, limits, options)
        };
        self.desired = Some(wanted);
        let by = wanted - self.replicas;
        (by != 0).then(|| {
            self.hpa.changed(now, by);
            wanted
        })
    }

    pub(super) fn view(&self, now_value: Option<f64>) -> View {
        View { stable: now_value, panic: None, desired: self.desired, panicking: false }
    }

    /// The newest sample, for charts.
    pub(super) fn newest(&self) -> Option<f64> {
        self.samples.back().map(|&(_, value)| value)
    }
}

/// HPAs of all workloads.
pub(crate) struct HpaPolicy {
    options: HpaOptions,
    target: f64,
    limits: Limits,
    known: Vec<Known>,
    due: Vec<Micros>,
    orders: VecDeque<Order>,
}

impl HpaPolicy {
    /// HPAs with these options on `target` per pod; `phases` in [0, 1) say where each sync begins.
    pub(crate) fn new(options: HpaOptions, target: f64, limits: Limits, phases: &[f64]) -> Self {
        let limits = Limits { min: limits.min.max(1), ..limits };
        let sync = options.sync.0.as_secs_f64().max(1.0);
        Self {
            target,
            limits,
            known: vec![Known::default(); phases.len()],
            due: phases.iter().map(|phase| micros_of(phase * sync)).collect(),
            orders: VecDeque::new(),
            options,
        }
    }
}

impl Policy for HpaPolicy {
    fn tell(&mut self, now: Micros, fact: Fact) {
        let Some(site) = site_of(&fact) else { return };
        let Some(known) = self.known.get_mut(site) else { return };
        known.tell(now, &fact, self.options.metric_age.0);
        if now == 0 && matches!(fact, Fact::Replicas { replicas: 0, .. }) {
            // An HPA does nothing at zero, so nobody starts there who has no other autoscaler.
            let replicas = self.limits.min;
            self.orders.push_back(Order { site, replicas, version: None, reason: "start" });
        }
    }

    fn due(&self) -> Option<Micros> {
        self.due.iter().copied().min()
    }

    fn act(&mut self, now: Micros) {
        let sync = micros(self.options.sync.0).max(1_000_000);
        let due = self.due.iter_mut().zip(&mut self.known).enumerate();
        for (site, (_, known)) in due.filter_map(|(site, (at, known))| {
            (*at <= now).then(|| {
                *at += sync;
                (site, (*at, known))
            })
        }) {
            if let Some(replicas) = known.sync(now, self.target, self.limits, &self.options) {
                self.orders.push_back(Order { site, replicas, version: None, reason: "sync" });
            }
        }
    }

    fn order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    fn view(&self, site: usize) -> View {
        self.known.get(site).map_or_else(View::default, |known| known.view(known.newest()))
    }
}

/// Which workload a fact is about.
pub(super) fn site_of(fact: &Fact) -> Option<usize> {
    match *fact {
        Fact::Replicas { site, .. }
        | Fact::Pods { site, .. }
        | Fact::Sample { site, .. }
        | Fact::Unreachable { site }
        | Fact::Written { site, .. }
        | Fact::Stranger { site, .. }
        | Fact::Rival { site, .. } => Some(site),
        Fact::Leader(_) | Fact::Died | Fact::Born => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    #[test]
    fn proposals_are_those_of_the_controller() {
        // One unit a pod: what a real controller was seen to do.
        for (usage, current, wanted) in [
            (11.0, 10, 10),
            (9.0, 10, 10),
            (21.0, 20, 20),
            (22.0, 20, 20),
            (21.0, 23, 23),
            (110.0, 109, 109),
            (109.0, 100, 100),
            (110.0, 100, 100),
            (111.0, 100, 111),
            (10.0, 9, 10),
            (8.0, 9, 8),
            (3.0, 1, 3),
            (0.0, 5, 0),
            (7.0, 0, 7),
        ] {
            assert_eq!(proposal(usage, 1.0, current, 0.1), wanted, "{usage} on {current}");
        }
        // Without a tolerance every whole number is met exactly.
        for current in 1..300 {
            for wanted in [1, current - 1, current, current + 1, 299] {
                let got = proposal(f64::from(wanted.max(0)), 1.0, current, 0.0);
                assert_eq!(got, wanted.max(0), "{current} to {wanted}");
            }
        }
        assert_eq!(proposal(75.0, 0.7, 5, 0.1), 108);
    }

    /// The replicas after each sync, 15 s apart, towards a constant proposal.
    fn climb(from: i32, to: i32, options: &HpaOptions) -> Vec<i32> {
        let mut hpa = Hpa::default();
        let mut replicas = from;
        let limits = Limits { min: 1, max: 300 };
        let mut seen = Vec::new();
        for sync in 1..30 {
            let now = sync * 15 * SECOND;
            let wanted = hpa.normalise(now, replicas, to, limits, options);
            if wanted == replicas {
                break;
            }
            hpa.changed(now, wanted - replicas);
            replicas = wanted;
            seen.push(replicas);
        }
        seen
    }

    #[test]
    fn climbs_are_as_steep_as_the_controllers() {
        let with = HpaOptions::default();
        assert_eq!(climb(1, 10, &with), [5, 10]);
        assert_eq!(climb(1, 100, &with), [5, 10, 20, 40, 80, 100]);
        assert_eq!(climb(10, 100, &with), [20, 40, 80, 100]);
        let without = HpaOptions { behavior: false, ..with };
        assert_eq!(climb(1, 20, &without), [4, 8, 16, 20]);
        assert_eq!(climb(1, 1000, &without).last(), Some(&300));
    }

    #[test]
    fn replicas_fall_after_the_stabilization_window() {
        for behavior in [true, false] {
            let options = HpaOptions { behavior, ..HpaOptions::default() };
            let mut hpa = Hpa::default();
            let limits = Limits { min: 1, max: 300 };
            assert_eq!(hpa.normalise(0, 20, 20, limits, &options), 20);
            for sync in 1..=20 {
                assert_eq!(hpa.normalise(sync * 15 * SECOND, 20, 3, limits, &options), 20);
            }
            assert_eq!(hpa.normalise(315 * SECOND, 20, 3, limits, &options), 3);
        }
    }

    #[test]
    fn without_a_behavior_an_old_recommendation_lifts_again() {
        let limits = Limits { min: 1, max: 300 };
        for (behavior, wanted) in [(false, [4, 8, 16, 20]), (true, [1, 1, 1, 1])] {
            let options = HpaOptions { behavior, ..HpaOptions::default() };
            let mut hpa = Hpa::default();
            hpa.normalise(0, 20, 20, limits, &options);
            // Somebody wrote 1, and one is all that the load asks for.
            let mut replicas = 1;
            for (sync, wanted) in (1..).zip(wanted) {
                replicas = hpa.normalise(sync * 15 * SECOND, replicas, 1, limits, &options);
                assert_eq!(replicas, wanted, "behavior: {behavior}");
            }
        }
    }
}
