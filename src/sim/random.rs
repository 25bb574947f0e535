//! The one source of chance: PCG64, named streams, and distributions whose mathematics come from `libm`,
//! so that a seed gives the same numbers on every machine.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

use super::number::count;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    generator: Pcg64,
}

impl Random {
    /// The stream `name` of copy `copy` under `seed`: streams of different names are independent, so that
    /// drawing more from one changes nothing in another.
    pub(crate) fn new(seed: u64, name: &str, copy: u64) -> Self {
        let hash = name.bytes().chain(copy.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, fnv);
        let mut generator = Pcg64::new(u128::from(seed), u128::from(hash) << 1 | 1);
        // The first outputs of neighbouring seeds resemble each other.
        for _ in 0..4 {
            generator.next_u64();
        }
        Self { generator }
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// Uniform in [0, 1).
    pub(crate) fn share(&mut self) -> f64 {
        super::number::real(self.bits() >> 11) * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Uniform in [low, high).
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.share()
    }

    /// A whole number in 0 .. `below`; 0 if `below` is 0.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        count(self.share() * super::number::real(below)).min(below.saturating_sub(1))
    }

    /// Whether something of this probability happens.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        self.share() < probability
    }

    /// One of several, all equally likely.
    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        let at = self.below(u64::try_from(choices.len()).unwrap_or(0));
        choices.get(super::number::index(at)).copied()
    }

    /// Exponential with this mean.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * libm::log1p(-self.share())
    }

    /// Standard normal (Box and Muller, the cosine half).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * libm::log1p(-self.share())).sqrt();
        radius * libm::cos(std::f64::consts::TAU * self.share())
    }

    /// Normal around 0 with this standard deviation. The stream goes on equally far for every deviation.
    pub(crate) fn normal_of(&mut self, deviation: f64) -> f64 {
        if deviation == 0.0 {
            self.bits();
            self.bits();
            return 0.0;
        }
        deviation * self.normal()
    }

    /// Log-normal with this mean and standard deviation of the values themselves.
    pub(crate) fn log_normal(&mut self, mean: f64, deviation: f64) -> f64 {
        if mean <= 0.0 {
            return 0.0;
        }
        let ratio = deviation / mean;
        let variance = libm::log1p(ratio * ratio);
        libm::exp(libm::log(mean) - variance / 2.0 + variance.sqrt() * self.normal())
    }
}

/// One step of FNV-1a.
pub(crate) fn fnv(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

#[cfg(test)]
mod tests {
    use super::super::number::real;
    use super::*;

    #[test]
    fn a_seed_gives_these_numbers_for_ever() {
        let mut random = Random::new(7, "arrivals", 0);
        let drawn: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        insta::assert_debug_snapshot!(drawn);
        assert_ne!(Random::new(7, "service", 0).bits(), drawn[0]);
        assert_ne!(Random::new(7, "arrivals", 1).bits(), drawn[0]);
    }

    #[test]
    fn distributions_have_their_means() {
        let mut random = Random::new(1, "means", 0);
        let mean = |draw: &mut dyn FnMut() -> f64| {
            (0..40_000_u64).map(|_| draw()).sum::<f64>() / real(40_000)
        };
        for (what, is, should, slack) in [
            ("share", mean(&mut || random.share()), 0.5, 0.01),
            ("exponential", mean(&mut || random.exponential(3.0)), 3.0, 0.1),
            ("normal", mean(&mut || random.normal()), 0.0, 0.02),
            ("log-normal", mean(&mut || random.log_normal(3.24, 7.1)), 3.24, 0.25),
        ] {
            assert!((is - should).abs() < slack, "{what}: {is}");
        }
    }
}
