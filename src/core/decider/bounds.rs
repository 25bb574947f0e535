//! Initial scale, min-scale and max-scale: the last word on how many pods there are.

use super::super::decision::{Reason, Stage, StageRecord};
use super::super::rule::Rule;
use super::super::spec::{ScaleBounds, ScalerSpec, Semantics};
use super::knative::push_stage;

/// The result of the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounded {
    /// Replicas within the bounds.
    pub pods: i32,
    /// The bound that decided, if one did.
    pub reason: Option<Reason>,
}

/// Applies initial scale and bounds to what the decider desires, and adds the stages that change something.
///
/// `initialised` says whether the initial scale was reached once. Where min-scale is above max-scale the
/// resolver has mended it.
///
/// Source: Knative `kpa/scaler.go` `scale`, serving@98e5ef9.
/// Differs: max-scale also limits the initial scale, but for Knative's semantics, where a larger initial
/// scale wins.
pub fn apply(
    spec: &ScalerSpec,
    bounds: ScaleBounds,
    semantics: Semantics,
    initialised: bool,
    desired: i32,
    stages: &mut Vec<StageRecord>,
) -> Bounded {
    let mut result = Bounded { pods: desired, ..Bounded::default() };
    let initial = if !initialised && spec.initial_scale > 1 { spec.initial_scale } else { 0 };
    if result.pods < initial.max(bounds.min) {
        let (stage, reason, floor, rule) = if initial > bounds.min {
            (Stage::InitialScale, Reason::InitialScale, initial, Rule::InitialScale(initial))
        } else {
            (Stage::Bounds, Reason::MinScale, bounds.min, Rule::MinScale(bounds.min))
        };
        push_stage(stages, stage, result.pods, floor, || rule);
        result.pods = floor;
        result.reason = Some(reason);
        if semantics == Semantics::Knative {
            return result;
        }
    }
    if bounds.max != 0 && result.pods > bounds.max {
        push_stage(stages, Stage::Bounds, result.pods, bounds.max, || Rule::MaxScale(bounds.max));
        result.pods = bounds.max;
        result.reason = Some(Reason::MaxScale);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounded(min: i32, max: i32, initial: i32, semantics: Semantics, desired: i32) -> i32 {
        let spec = ScalerSpec { initial_scale: initial, ..ScalerSpec::default() };
        apply(&spec, ScaleBounds { min, max }, semantics, false, desired, &mut Vec::new()).pods
    }

    #[test]
    fn clamps() {
        for (min, max, initial, semantics, desired, expected) in [
            (0, 0, 1, Semantics::Default, 7, 7),
            (2, 0, 1, Semantics::Default, 0, 2),
            (0, 8, 1, Semantics::Default, 10, 8),
            (0, 8, 20, Semantics::Default, 1, 8),
            (0, 8, 20, Semantics::Knative, 1, 20),
            (3, 8, 2, Semantics::Default, 1, 3),
            (0, 0, 5, Semantics::Default, 6, 6),
            (2, 0, 1, Semantics::Knative, -1, 2),
        ] {
            assert_eq!(
                bounded(min, max, initial, semantics, desired),
                expected,
                "{min} {max} {initial} {desired}"
            );
        }
    }
}
