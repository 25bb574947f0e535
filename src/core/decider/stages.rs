//! The stages up to panic mode: demand, rate limits, activation scale, burst capacity.
//!
//! The order of the floating-point operations is Knative's (`scaling/autoscaler.go` `Scale`,
//! serving@98e5ef9) and part of the contract, artefacts included: a target of 6 × 0.7 makes
//! `ceil(8.4 / target)` three pods.

use super::super::decision::Wants;
use super::super::spec::ScalerSpec;

/// Go's conversion of a float to an `int32` on amd64: truncates; what does not fit and NaN give the least
/// number.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
pub fn go_i32(x: f64) -> i32 {
    if x > -2_147_483_649.0 && x < 2_147_483_648.0 { x as i32 } else { i32::MIN }
}

/// Pods as a number of them: truncates and saturates; NaN is 0. The default mode's conversion, because an
/// absurd demand must not read as less than none.
#[expect(clippy::cast_possible_truncation, reason = "saturates")]
pub fn saturating_i32(x: f64) -> i32 {
    x as i32
}

/// Pods that a value asks for: `ceil(value / target)`, unlimited.
pub fn want(value: f64, target: f64) -> f64 {
    (value / target).ceil()
}

/// The most and the least that one decision may give.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// `ceil(max-scale-up-rate × ready)`.
    pub up: f64,
    /// `floor(ready / max-scale-down-rate)`; 0 for unreachable targets.
    pub down: f64,
}

impl RateLimit {
    /// The limits at `ready` pods, ≥ 1.
    pub fn new(spec: &ScalerSpec, ready: f64) -> Self {
        Self {
            up: (spec.max_scale_up_rate * ready).ceil(),
            down: if spec.reachable { (ready / spec.max_scale_down_rate).floor() } else { 0.0 },
        }
    }

    /// `want` within the limits; where they cross, the upper one wins.
    pub fn apply(&self, want: f64) -> f64 {
        want.max(self.down).min(self.up)
    }
}

/// Lifts `pods` to the activation scale if anything is wanted at all.
pub fn activation_scale(spec: &ScalerSpec, want: f64, pods: i32) -> i32 {
    if spec.activation_scale > 1 && want > 0.0 { pods.max(spec.activation_scale) } else { pods }
}

/// Both demands and what the limits leave of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Unlimited.
    pub wants: Wants,
    /// The rate limits that were applied.
    pub limit: RateLimit,
    /// The stable demand within the rate limits.
    pub stable_limited: i32,
    /// The stable demand after the activation scale.
    pub stable: i32,
    /// The panic demand after rate limits and activation scale.
    pub panic: i32,
}

impl Demand {
    /// Runs the stages for the stable and the panic average at `ready` pods, ≥ 1; `to_pods` is the
    /// conversion of the semantics, [`go_i32`] or [`saturating_i32`].
    pub fn new(
        spec: &ScalerSpec,
        ready: f64,
        stable: f64,
        panic: f64,
        to_pods: fn(f64) -> i32,
    ) -> Self {
        let limit = RateLimit::new(spec, ready);
        let wants = Wants { stable: want(stable, spec.target), panic: want(panic, spec.target) };
        let stable_limited = to_pods(limit.apply(wants.stable));
        let panic_limited = to_pods(limit.apply(wants.panic));
        Self {
            wants,
            limit,
            stable_limited,
            stable: activation_scale(spec, wants.stable, stable_limited),
            panic: activation_scale(spec, wants.panic, panic_limited),
        }
    }
}

/// Knative's excess burst capacity in units of the metric: what the ready pods could bear beyond the
/// burst capacity that is asked for and the present load. −1 for an unlimited burst capacity, 0 for none.
pub fn excess_burst_capacity(spec: &ScalerSpec, ready: i32, panic: f64) -> i32 {
    if spec.target_burst_capacity == 0.0 {
        0
    } else if spec.target_burst_capacity > 0.0 {
        go_i32((f64::from(ready) * spec.total - spec.target_burst_capacity - panic).floor())
    } else {
        -1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float_artefacts_are_knatives() {
        let spec = ScalerSpec { target: 6.0 * 0.7, total: 6.0, ..ScalerSpec::default() };
        assert_eq!(Demand::new(&spec, 5.0, 8.4, 8.4, go_i32).stable, 3);
        assert_eq!(Demand::new(&spec, 5.0, 8.399_999, 8.399_999, go_i32).stable, 2);
        let spec = ScalerSpec { target: 3.0 * 0.7, total: 3.0, ..ScalerSpec::default() };
        assert_eq!(Demand::new(&spec, 5.0, 6.3, 6.3, go_i32).stable, 4);
    }

    #[test]
    fn conversion_is_gos() {
        for (x, expected) in [
            (1.9, 1),
            (-1.9, -1),
            (2_147_483_647.5, i32::MAX),
            (2_147_483_648.0, i32::MIN),
            (1e11, i32::MIN),
            (f64::NAN, i32::MIN),
            (f64::NEG_INFINITY, i32::MIN),
        ] {
            assert_eq!(go_i32(x), expected, "{x}");
        }
    }
}
