//! The `HorizontalPodAutoscaler` on an `AverageValue`: its loop around its rules.

mod rules;

use std::collections::VecDeque;
use std::time::Duration;

use super::super::number::{Micros, count, micros, micros_of};
use super::super::scenario::{self, HpaOptions};
use super::{Fact, Order, Policy, View};

pub(crate) use rules::Limits;
pub(super) use rules::Rules;
use rules::{Behavior, Hpa, Sight, Tolerance};

/// How long the last value of a metric is still answered (Prometheus' lookback).
const LOOKBACK: Duration = Duration::from_secs(300);

/// The specification that these options describe.
pub(crate) fn rules(target: f64, limits: Limits, options: &HpaOptions) -> Rules {
    let stabilization = micros(options.stabilization.0);
    let behavior = match &options.behavior {
        scenario::Behavior::None => None,
        scenario::Behavior::Defaults => Some(Behavior::of_the_api(stabilization)),
        scenario::Behavior::Rules(rules) => Some(Behavior::of(rules, stabilization)),
    };
    Rules {
        target_milli: milli(target),
        limits,
        tolerance: tolerance(options),
        stabilization,
        behavior,
    }
}

fn tolerance(options: &HpaOptions) -> Tolerance {
    let own = |direction: &scenario::BehaviorDirection| {
        direction.tolerance.map_or(options.tolerance.0, |own| own.0)
    };
    match &options.behavior {
        scenario::Behavior::Rules(rules) => {
            Tolerance { up: own(&rules.scale_up), down: own(&rules.scale_down) }
        }
        _ => Tolerance { up: options.tolerance.0, down: options.tolerance.0 },
    }
}

/// In thousandths, as adapters answer and the controller counts.
fn milli(value: f64) -> u64 {
    count((value * 1000.0).round())
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
    pub(super) fn sync(&mut self, now: Micros, rules: &Rules, metric_age: Duration) -> Option<i32> {
        let usage_milli = self.metric(now, metric_age).map(milli);
        let sight = Sight { now, replicas: self.replicas, current: self.current, usage_milli };
        let wanted = self.hpa.sync(sight, rules)?;
        self.desired = Some(wanted);
        (wanted != self.replicas).then_some(wanted)
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
    rules: Rules,
    sync: Micros,
    metric_age: Duration,
    known: Vec<Known>,
    due: Vec<Micros>,
    orders: VecDeque<Order>,
}

impl HpaPolicy {
    /// HPAs with these options on `target` per pod; `phases` in [0, 1) say where each sync begins.
    pub(crate) fn new(options: &HpaOptions, target: f64, limits: Limits, phases: &[f64]) -> Self {
        let limits = Limits { min: limits.min.max(1), ..limits };
        let sync = options.sync.0.as_secs_f64().max(1.0);
        Self {
            rules: rules(target, limits, options),
            sync: micros_of(sync),
            metric_age: options.metric_age.0,
            known: vec![Known::default(); phases.len()],
            due: phases.iter().map(|phase| micros_of(phase * sync)).collect(),
            orders: VecDeque::new(),
        }
    }
}

impl Policy for HpaPolicy {
    fn tell(&mut self, now: Micros, fact: Fact) {
        let Some(site) = site_of(&fact) else { return };
        let Some(known) = self.known.get_mut(site) else { return };
        known.tell(now, &fact, self.metric_age);
        if now == 0 && matches!(fact, Fact::Replicas { replicas: 0, .. }) {
            // An HPA does nothing at zero, so nobody starts there who has no other autoscaler.
            let replicas = self.rules.limits.min;
            self.orders.push_back(Order { site, replicas, version: None, reason: "start" });
        }
    }

    fn due(&self) -> Option<Micros> {
        self.due.iter().copied().min()
    }

    fn act(&mut self, now: Micros) {
        let (rules, metric_age) = (&self.rules, self.metric_age);
        for (site, (at, known)) in self.due.iter_mut().zip(&mut self.known).enumerate() {
            if *at > now {
                continue;
            }
            *at += self.sync;
            if let Some(replicas) = known.sync(now, rules, metric_age) {
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
