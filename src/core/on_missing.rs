//! `podswell.dev/on-missing`: what the user orders for the time in which the load is not known.
//!
//! Not knowing never lowers by itself. A number that somebody wrote down for exactly this case is not
//! a guess, though, but an order: it is carried out once in each loss, and what somebody sets after
//! that stands.

use std::fmt;
use std::time::Duration;

use super::duration::GoDuration;
use super::effective;
use super::number;
use super::text::shown;

/// The shortest and the longest time that may be waited.
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The replicas that are ordered for a lost signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OnMissing {
    /// How many, ≥ 1; min-scale and max-scale still hold.
    pub replicas: i32,
    /// Whether more than that may stay.
    pub at_least: bool,
    /// How long nothing was heard, counted from the newest sample; 10 s ..= 24 h.
    pub after: Duration,
}

impl OnMissing {
    /// Parses `hold` (no order), `N after D` or `at least N after D`.
    ///
    /// # Errors
    /// What is wrong, as a lower-case fragment.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (at_least, replicas, after) = match words[..] {
            ["hold"] => return Ok(None),
            [replicas, "after", after] => (false, replicas, after),
            ["at", "least", replicas, "after", after] => (true, replicas, after),
            _ => {
                return Err(format!(
                    "{} is neither hold nor like `3 after 5m` or `at least 3 after 5m`",
                    shown(text)
                ));
            }
        };
        let replicas = number::parse_i32(replicas)
            .ok()
            .filter(|replicas| *replicas >= 1)
            .ok_or_else(|| format!("{} is not a number of replicas ≥ 1", shown(replicas)))?;
        let after = GoDuration::parse(after)
            .ok()
            .map(GoDuration::to_std)
            .filter(|after| (SHORTEST..=LONGEST).contains(after))
            .ok_or_else(|| format!("{} is not a duration in 10s ..= 24h", shown(after)))?;
        Ok(Some(Self { replicas, at_least, after }))
    }

    /// The replicas that it orders where `kept` would stay.
    pub fn replicas(self, kept: i32) -> i32 {
        if self.at_least { self.replicas.max(kept) } else { self.replicas }
    }
}

impl fmt::Display for OnMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = if self.at_least { "at least " } else { "" };
        write!(f, "{least}{} after {}", self.replicas, effective::duration(self.after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_and_nothing_is_guessed() {
        let order = |replicas, at_least, after_s| {
            Ok(Some(OnMissing { replicas, at_least, after: Duration::from_secs(after_s) }))
        };
        for (text, want) in [
            ("hold", Ok(None)),
            ("3 after 5m", order(3, false, 300)),
            ("  3  after  5m ", order(3, false, 300)),
            ("at least 3 after 10s", order(3, true, 10)),
            ("1 after 24h", order(1, false, 86_400)),
        ] {
            assert_eq!(OnMissing::parse(text), want, "{text}");
        }
        for (text, named) in [
            ("", "neither hold"),
            ("keep", "neither hold"),
            ("3", "neither hold"),
            ("3 after", "neither hold"),
            ("0 after 5m", "≥ 1"),
            ("-1 after 5m", "≥ 1"),
            ("many after 5m", "\"many\""),
            ("3 after 9s", "10s"),
            ("3 after 25h", "24h"),
            ("3 after 5", "\"5\""),
        ] {
            let why = OnMissing::parse(text).unwrap_err();
            assert!(why.contains(named), "{text}: {why}");
        }
    }

    #[test]
    fn an_order_may_lower_unless_it_says_at_least() {
        for (text, kept, want) in [
            ("3 after 1m", 10, 3),
            ("3 after 1m", 1, 3),
            ("at least 3 after 1m", 10, 10),
            ("at least 3 after 1m", 1, 3),
        ] {
            let order = OnMissing::parse(text).unwrap().unwrap();
            assert_eq!(order.replicas(kept), want, "{text} at {kept}");
        }
        let order = OnMissing::parse("at least 3 after 300s").unwrap().unwrap();
        assert_eq!(order.to_string(), "at least 3 after 5 m");
    }
}
