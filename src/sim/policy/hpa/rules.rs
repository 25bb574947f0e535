//! The rules of the `HorizontalPodAutoscaler` on an `AverageValue`, as pure functions of what one sync
//! sees and of what earlier ones left behind.
//!
//! Source: Kubernetes `pkg/controller/podautoscaler/{horizontal,replica_calculator}.go`, 1.36. Held against
//! recorded syncs of the real kube-controller-manager below.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::super::super::number::{Micros, SECOND, count, real};
use super::super::super::scenario::{self, Counts, SelectPolicy};

/// The least and the most replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) min: i32,
    pub(crate) max: i32,
}

/// How far the ratio of usage and target may be from 1 without anything being done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tolerance {
    pub(crate) up: f64,
    pub(crate) down: f64,
}

/// One policy of a direction: no more than this within a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many pods.
    Pods(i32),
    /// So many percent of what there was at the start of the period.
    Percent(i32),
}

/// The rules of one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Direction {
    /// How far back recommendations hold replicas where they are.
    pub(crate) window: Micros,
    pub(crate) select: SelectPolicy,
    /// Policies and their periods.
    pub(crate) steps: Vec<(Step, Micros)>,
}

impl Direction {
    /// These rules, where others do not say otherwise.
    fn with(self, other: &scenario::BehaviorDirection) -> Self {
        let steps = |policies: &Vec<scenario::ScalingPolicy>| {
            let steps = policies.iter().map(|policy| {
                let value = i32::try_from(policy.value.0).unwrap_or(i32::MAX);
                let step = match policy.counts {
                    Counts::Pods => Step::Pods(value),
                    Counts::Percent => Step::Percent(value),
                };
                (step, u64::from(policy.period_seconds.0) * SECOND)
            });
            steps.collect()
        };
        let window = other.stabilization_window_seconds;
        Self {
            window: window.map_or(self.window, |window| u64::from(window.0) * SECOND),
            select: other.select_policy,
            steps: other.policies.as_ref().map_or(self.steps, steps),
        }
    }
}

/// A `behavior`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Behavior {
    pub(crate) up: Direction,
    pub(crate) down: Direction,
}

impl Behavior {
    /// What the API makes of an empty one: up by 4 pods or 100 % in 15 s, whichever is more, down freely
    /// after `stabilization`.
    pub(crate) fn of_the_api(stabilization: Micros) -> Self {
        const PERIOD: Micros = 15 * SECOND;
        let all = (Step::Percent(100), PERIOD);
        Self {
            up: Direction {
                window: 0,
                select: SelectPolicy::Max,
                steps: vec![(Step::Pods(4), PERIOD), all],
            },
            down: Direction { window: stabilization, select: SelectPolicy::Max, steps: vec![all] },
        }
    }

    /// What the API makes of one as it stands in a manifest; `stabilization` is the controller's.
    pub(crate) fn of(rules: &scenario::BehaviorRules, stabilization: Micros) -> Self {
        let Self { up, down } = Self::of_the_api(stabilization);
        Self { up: up.with(&rules.scale_up), down: down.with(&rules.scale_down) }
    }

    /// The longest time for which anything is remembered.
    fn longest(&self) -> Micros {
        let steps = self.up.steps.iter().chain(&self.down.steps).map(|&(_, period)| period);
        steps.chain([self.up.window, self.down.window]).max().unwrap_or(0)
    }
}

/// An HPA's specification.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rules {
    /// `averageValue` in thousandths, as the controller counts.
    pub(crate) target_milli: u64,
    pub(crate) limits: Limits,
    pub(crate) tolerance: Tolerance,
    /// The controller's `--horizontal-pod-autoscaler-downscale-stabilization`.
    pub(crate) stabilization: Micros,
    pub(crate) behavior: Option<Behavior>,
}

/// What one sync sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    pub(crate) now: Micros,
    /// `spec.replicas` of the target's scale.
    pub(crate) replicas: i32,
    /// `status.replicas` of the target's scale: all pods, ready or not, those of a rollout too.
    pub(crate) current: i32,
    /// The total in thousandths, if there is an answer.
    pub(crate) usage_milli: Option<u64>,
}

/// The replicas that a total asks for where `current` pods exist: as many as there are if the ratio is
/// within the tolerance.
pub(crate) fn proposal(
    usage_milli: u64,
    target_milli: u64,
    current: i32,
    tolerance: Tolerance,
) -> i32 {
    let (usage, target) = (real(usage_milli), real(target_milli.max(1)));
    if current > 0 {
        let ratio = usage / (target * f64::from(current));
        if (1.0 - tolerance.down..=1.0 + tolerance.up).contains(&ratio) {
            return current;
        }
    }
    whole((usage / target).ceil())
}

/// A number of pods; beyond what an `i32` holds, the most.
fn whole(pods: f64) -> i32 {
    i32::try_from(count(pods)).unwrap_or(i32::MAX)
}

/// The memory of one HPA.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hpa {
    /// Recommendations as they were proposed, the newest last.
    recommendations: VecDeque<(Micros, i32)>,
    /// Writes, and by how much each changed replicas.
    changes: VecDeque<(Micros, i32)>,
}

impl Hpa {
    /// One sync; gives the replicas that should be there, or nothing if it does nothing.
    pub(crate) fn sync(&mut self, sight: Sight, rules: &Rules) -> Option<i32> {
        let Sight { now, replicas, current, usage_milli } = sight;
        if self.recommendations.is_empty() {
            // What is there at first counts as recommended: it does not fall at once.
            self.recommendations.push_back((now, replicas));
        }
        let limits = rules.limits;
        if replicas == 0 && limits.min > 0 {
            return None;
        }
        let wanted = if replicas > limits.max {
            limits.max
        } else if replicas < limits.min {
            limits.min
        } else {
            let wanted = proposal(usage_milli?, rules.target_milli, current, rules.tolerance);
            self.normalise(now, replicas, wanted, rules)
        };
        if wanted != replicas {
            self.changes.push_back((now, wanted - replicas));
        }
        Some(wanted)
    }

    /// What the rules leave of a proposal.
    fn normalise(&mut self, now: Micros, replicas: i32, proposal: i32, rules: &Rules) -> i32 {
        let Limits { min, max } = rules.limits;
        let longest = rules.behavior.as_ref().map_or(rules.stabilization, Behavior::longest);
        for list in [&mut self.recommendations, &mut self.changes] {
            while list.front().is_some_and(|&(at, _)| at + longest < now) {
                list.pop_front();
            }
        }
        let Some(behavior) = &rules.behavior else {
            // The highest recommendation is taken, upwards too.
            let within = self.recommendations.iter().filter(|&&(at, _)| at + longest >= now);
            let highest = within.map(|&(_, pods)| pods).fold(proposal, i32::max);
            self.recommendations.push_back((now, proposal));
            return highest.min(replicas.saturating_mul(2).max(4)).min(max).max(min);
        };
        let held = self.stabilise(now, replicas, proposal, behavior);
        self.recommendations.push_back((now, proposal));
        match held.cmp(&replicas) {
            Ordering::Greater => {
                let limit = self.limit(now, replicas, &behavior.up, true).max(replicas);
                held.min(limit.min(max))
            }
            Ordering::Less => {
                let limit = self.limit(now, replicas, &behavior.down, false).min(replicas);
                held.max(limit.max(min))
            }
            Ordering::Equal => held,
        }
    }

    /// Replicas stay within what all recommendations of either window would allow.
    fn stabilise(&self, now: Micros, replicas: i32, proposal: i32, behavior: &Behavior) -> i32 {
        let within = |window: Micros| {
            let recent = self.recommendations.iter().filter(move |&&(at, _)| at + window > now);
            recent.map(|&(_, pods)| pods)
        };
        let least = within(behavior.up.window).fold(proposal, i32::min);
        let most = within(behavior.down.window).fold(proposal, i32::max);
        replicas.max(least).min(most)
    }

    /// How far the policies of a direction let replicas go.
    fn limit(&self, now: Micros, replicas: i32, direction: &Direction, up: bool) -> i32 {
        let limits = direction.steps.iter().map(|&(step, period)| {
            let recent = self.changes.iter().filter(|&&(at, _)| at + period > now);
            let start = replicas - recent.map(|&(_, by)| by).sum::<i32>();
            match (step, up) {
                (Step::Pods(pods), true) => start.saturating_add(pods),
                (Step::Pods(pods), false) => start.saturating_sub(pods),
                (Step::Percent(percent), true) => {
                    whole((f64::from(start) * (1.0 + f64::from(percent) / 100.0)).ceil())
                }
                (Step::Percent(percent), false) => {
                    whole(f64::from(start) * (1.0 - f64::from(percent) / 100.0))
                }
            }
        });
        match (direction.select, up) {
            (SelectPolicy::Disabled, _) => None,
            (SelectPolicy::Max, true) | (SelectPolicy::Min, false) => limits.max(),
            (SelectPolicy::Min, true) | (SelectPolicy::Max, false) => limits.min(),
        }
        .unwrap_or(replicas)
    }
}

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;
