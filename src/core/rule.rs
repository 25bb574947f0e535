//! The rules by which stages change the number, in words. They are kept as numbers and put into words for
//! whoever reads them: most decisions nobody reads.

use std::fmt;

use super::on_missing::OnMissing;

/// Why a stage gave another number than it got.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// In words already.
    Said(&'static str),
    /// max-scale-up-rate allows no more.
    ScaleUpRate {
        /// The rate, > 1.
        rate: f64,
        /// Pods.
        most: f64,
    },
    /// max-scale-down-rate keeps more.
    ScaleDownRate {
        /// The rate, > 1.
        rate: f64,
        /// Pods.
        least: f64,
    },
    /// Any demand asks for so many pods.
    ActivationScale(i32),
    /// The panic window asks for so many pods.
    PanicDemand(i32),
    /// Panic mode holds its high-water mark.
    HighWater(i32),
    /// scale-down-delay holds.
    ScaleDownDelay {
        /// The delay in seconds.
        delay_s: u64,
        /// The highest decision within it.
        highest: i32,
    },
    /// A part of the load is not known: so many pods stay.
    UnknownPart(i32),
    /// What does not answer may carry load.
    MayBeMore {
        /// The most that the whole load may be.
        high: f64,
        /// Pods that stay.
        kept: i32,
    },
    /// Too little of the window is known to lower anything.
    TooLittle {
        /// Seconds of the stable window that are covered.
        covered_s: u32,
        /// The stable window in seconds.
        window_s: u64,
        /// Samples in it.
        samples: u32,
        /// Pods that stay.
        kept: i32,
    },
    /// There is no data: so many pods stay.
    NoData(i32),
    /// The user's order for a lost signal.
    OnMissing(OnMissing),
    /// initial-scale is still to be reached.
    InitialScale(i32),
    /// min-scale lifts.
    MinScale(i32),
    /// max-scale caps.
    MaxScale(i32),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Said(words) => f.write_str(words),
            Self::ScaleUpRate { rate, most } => {
                write!(f, "max-scale-up-rate {rate} allows {most}")
            }
            Self::ScaleDownRate { rate, least } => {
                write!(f, "max-scale-down-rate {rate} keeps at least {least}")
            }
            Self::ActivationScale(least) => write!(f, "any demand asks for at least {least}"),
            Self::PanicDemand(pods) => write!(f, "the panic window asks for {pods}"),
            Self::HighWater(pods) => {
                write!(f, "panic mode never lowers: holds its high-water mark {pods}")
            }
            Self::ScaleDownDelay { delay_s, highest } => {
                write!(f, "holds the highest of the last {delay_s} s: {highest}")
            }
            Self::UnknownPart(kept) => write!(f, "a part of the load is not known: keeps {kept}"),
            Self::MayBeMore { high, kept } => {
                write!(f, "what is missing may be as much as {high} in all: keeps {kept}")
            }
            Self::TooLittle { covered_s, window_s, samples, kept } => write!(
                f,
                "{covered_s} of {window_s} s covered, {samples} samples: too little to lower, keeps {kept}"
            ),
            Self::NoData(kept) => write!(f, "nothing is lowered without data: keeps {kept}"),
            Self::OnMissing(order) => write!(f, "on-missing: {order}"),
            Self::InitialScale(pods) => write!(f, "initial-scale {pods}"),
            Self::MinScale(pods) => write!(f, "min-scale {pods}"),
            Self::MaxScale(pods) => write!(f, "max-scale {pods}"),
        }
    }
}

/// As its words.
#[cfg(feature = "serde")]
impl serde::Serialize for Rule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rules_read_as_sentences() {
        let order = OnMissing { replicas: 3, at_least: true, after: Duration::from_secs(300) };
        for (rule, words) in [
            (Rule::Said("in words already"), "in words already"),
            (Rule::ScaleUpRate { rate: 1.5, most: 8.0 }, "max-scale-up-rate 1.5 allows 8"),
            (
                Rule::ScaleDownRate { rate: 2.0, least: 3.0 },
                "max-scale-down-rate 2 keeps at least 3",
            ),
            (Rule::ActivationScale(4), "any demand asks for at least 4"),
            (Rule::PanicDemand(9), "the panic window asks for 9"),
            (Rule::HighWater(9), "panic mode never lowers: holds its high-water mark 9"),
            (
                Rule::ScaleDownDelay { delay_s: 900, highest: 6 },
                "holds the highest of the last 900 s: 6",
            ),
            (Rule::UnknownPart(6), "a part of the load is not known: keeps 6"),
            (
                Rule::MayBeMore { high: 420.5, kept: 6 },
                "what is missing may be as much as 420.5 in all: keeps 6",
            ),
            (
                Rule::TooLittle { covered_s: 7, window_s: 60, samples: 2, kept: 6 },
                "7 of 60 s covered, 2 samples: too little to lower, keeps 6",
            ),
            (Rule::NoData(6), "nothing is lowered without data: keeps 6"),
            (Rule::OnMissing(order), "on-missing: at least 3 after 5 m"),
            (Rule::InitialScale(2), "initial-scale 2"),
            (Rule::MinScale(2), "min-scale 2"),
            (Rule::MaxScale(8), "max-scale 8"),
        ] {
            assert_eq!(rule.to_string(), words);
        }
    }
}
