//! What a status says to KEDA: pure functions from the newest decision to the numbers on the wire.
//!
//! KEDA 2.17 and later read the floating-point fields where they are above 0, earlier ones only the
//! integers. So both are always filled, and each pair alone gives the same number of replicas.

use std::time::Duration;

use jiff::Timestamp;

use super::wire::{MetricSpec, MetricValue};
use crate::core::config::TargetConfig;
use crate::core::decision::{Decision, Observation, Reason, SignalState, TargetStatus};
use crate::core::defaults::TARGET_MIN;
use crate::core::trigger::AnsweredValue;

/// How old a decision may be: five missed ticks mean that the engine hangs.
const DECISION_LIMIT: Duration = Duration::from_secs(10);

/// The highest value that is answered: beyond it KEDA's quantities lose their thousandths.
const HIGHEST: f64 = 9e12;

/// Why there is no answer; each passes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The first evaluation comes within 2 s.
    #[error("nothing is decided yet")]
    Undecided,
    /// The engine has not decided for long.
    #[error("the newest decision is too old")]
    Stale,
    /// No sample yet.
    #[error("no sample yet")]
    Starting,
    /// No sample for longer than the source's limit.
    #[error("the signal is lost: no sample for longer than the source's limit")]
    Lost,
}

/// The name of a trigger's metric. KEDA puts `s` and the trigger's index before it.
pub fn metric_name(config: &TargetConfig, value: AnsweredValue) -> String {
    match value {
        AnsweredValue::Desired => "podswell-replicas".to_owned(),
        _ => format!("podswell-{}-{}", config.spec.metric.as_str(), value.as_str()),
    }
}

/// The metric of a trigger with its target.
pub fn spec(config: &TargetConfig, value: AnsweredValue) -> MetricSpec {
    let target = target(config, value);
    MetricSpec {
        metric_name: metric_name(config, value),
        target_size: whole_target(target),
        target_size_float: target,
    }
}

/// The value of a trigger's metric.
///
/// # Errors
/// If it is not known.
pub fn metric_value(
    status: &TargetStatus,
    value: AnsweredValue,
    now: Timestamp,
) -> Result<MetricValue, NoAnswer> {
    let exact = exact_value(status, value, now)?;
    let target = target(&status.config, value);
    // Never by way of a quotient where both are the same: 20 / 7 × 7 is more than 20. Else in thousandths,
    // as KEDA counts: 0.07 / 0.01 is more than 7.
    let thousandths = |value: f64| (value * 1000.0).round();
    let counted = if is_whole(target) { exact } else { thousandths(exact) / thousandths(target) };
    Ok(MetricValue {
        metric_name: metric_name(&status.config, value),
        metric_value: ceil(counted),
        metric_value_float: exact,
    })
}

/// Whether at least one replica is wanted. That of several replicas only some may go at once is KEDA's
/// business, who takes all of them or none.
///
/// # Errors
/// If it is not known.
pub fn is_active(status: &TargetStatus, now: Timestamp) -> Result<bool, NoAnswer> {
    let config = &status.config;
    if !has_wake_path(config) || config.bounds.min > 0 || !config.zero.enabled {
        return Ok(true);
    }
    let decision = decision(status, now)?;
    if decision.reason == Reason::WakePathLost {
        return Ok(true);
    }
    heard(decision).map(|decision| !decision.idle)
}

/// Whether KEDA should hear again and again that the trigger is active: as long as it has not acted.
pub fn is_at_zero(status: &TargetStatus) -> bool {
    status.replicas == 0
}

fn exact_value(
    status: &TargetStatus,
    value: AnsweredValue,
    now: Timestamp,
) -> Result<f64, NoAnswer> {
    let per_pod = target(&status.config, value);
    let decided = decision(status, now);
    // Without a pod, a source that sees only pods is no source: one pod is wanted so that there is one.
    let blind = status.replicas == 0 && !has_wake_path(&status.config);
    let woken = decided.is_ok_and(|decision| decision.reason == Reason::WakePathLost);
    let known = decided.and_then(heard).and_then(|decision| {
        let seen = of_first_measure(&status.config, decision);
        let read = match value {
            AnsweredValue::Desired => Some(f64::from(decision.bounded)),
            AnsweredValue::Stable => seen.stable,
            AnsweredValue::Panic => seen.panic,
            AnsweredValue::Max => seen.stable.zip(seen.panic).map(|(a, b)| a.max(b)),
        };
        read.filter(|read| read.is_finite()).ok_or(NoAnswer::Starting)
    });
    match known {
        Ok(exact) => Ok(exact.clamp(0.0, HIGHEST)),
        Err(_) if blind || woken => Ok(per_pod),
        Err(why) => Err(why),
    }
}

fn decision(status: &TargetStatus, now: Timestamp) -> Result<&Decision, NoAnswer> {
    let decision = status.decision.as_deref().ok_or(NoAnswer::Undecided)?;
    let age = Duration::try_from(now.duration_since(decision.at)).unwrap_or_default();
    if age > DECISION_LIMIT { Err(NoAnswer::Stale) } else { Ok(decision) }
}

/// A decision that was made with data. Of several measures one is enough, because those that are lost
/// only take away lowering.
fn heard(decision: &Decision) -> Result<&Decision, NoAnswer> {
    let mut states = decision.observations().map(|(_, seen)| seen.signal);
    if states.any(|state| matches!(state, SignalState::Fresh | SignalState::Partial)) {
        return Ok(decision);
    }
    match decision.observation.signal {
        SignalState::Lost => Err(NoAnswer::Lost),
        _ => Err(NoAnswer::Starting),
    }
}

/// What was seen of the measure whose load is answered: the first one, whichever decides.
fn of_first_measure<'a>(config: &TargetConfig, decision: &'a Decision) -> &'a Observation {
    let first = decision.measures.iter().find(|measure| measure.name == config.measure);
    first.map_or(&decision.observation, |measure| &measure.observation)
}

fn has_wake_path(config: &TargetConfig) -> bool {
    config.measures().all(|measure| measure.all_points().any(|point| point.visible_at_zero))
}

/// What one pod should carry, in the unit of the value.
fn target(config: &TargetConfig, value: AnsweredValue) -> f64 {
    match value {
        AnsweredValue::Desired => 1.0,
        _ if config.spec.target.is_finite() => config.spec.target.clamp(TARGET_MIN, HIGHEST),
        _ => TARGET_MIN,
    }
}

/// The target for who reads whole numbers only: itself if it is one, else 1, with the value counted in
/// pods.
fn whole_target(target: f64) -> i64 {
    if is_whole(target) { ceil(target) } else { 1 }
}

fn is_whole(target: f64) -> bool {
    target.fract() == 0.0
}

#[expect(clippy::cast_possible_truncation, reason = "bounded by HIGHEST")]
fn ceil(value: f64) -> i64 {
    value.clamp(0.0, HIGHEST).ceil() as i64
}

#[cfg(test)]
mod tests;
