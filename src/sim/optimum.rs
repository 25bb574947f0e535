//! The least that a clairvoyant would have paid: a bound under every policy.
//!
//! Level k of the demand is needed whenever k pods are; between two needs lies a gap g. Who knows the
//! future starts each pod exactly its start-up time early, so a gap costs min(g, start-up + price of a
//! start), and the levels add up.

use super::plan::Load;

/// The bound for one workload.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Optimum {
    /// Pods times seconds, starting ones included.
    pub(crate) pod_s: f64,
    /// Pods that are started.
    pub(crate) starts: u64,
}

/// The bound for demand `needed` (pods, for each second) where a pod takes `start_s` to become ready, a
/// start costs `price_s` on top, and `running` pods are ready at first. At least `floor` pods run.
pub(crate) fn optimum(
    load: &Load,
    start_s: f64,
    price_s: f64,
    running: i32,
    floor: i32,
) -> Optimum {
    let mut sum = Optimum::default();
    let highest = load.needed.iter().copied().max().unwrap_or(0).max(floor);
    let demand = || load.needed.iter().map(|&needed| needed.max(floor));
    // When each level was needed last, in seconds; levels above the current need are open gaps.
    let mut last: Vec<Option<f64>> =
        (1..=highest).map(|level| (level <= running).then_some(0.0)).collect();
    let mut current = 0;
    for (second, needed) in (0_u32..).zip(demand()) {
        let now = f64::from(second);
        sum.pod_s += f64::from(needed);
        let (low, high) = (needed.min(current), needed.max(current));
        let levels = usize::try_from(low).unwrap_or(0)..usize::try_from(high).unwrap_or(0);
        let rises = needed > current;
        for slot in last.get_mut(levels).unwrap_or_default() {
            if !rises {
                *slot = Some(now);
                continue;
            }
            let gap = slot.map(|left| now - left);
            let restart = start_s + price_s;
            match gap {
                Some(gap) if gap <= restart => sum.pod_s += gap,
                _ => {
                    sum.pod_s += start_s.min(now);
                    sum.starts += 1;
                }
            }
        }
        current = needed;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(needed: &[i32], start_s: f64, price_s: f64) -> Optimum {
        let load = Load { needed: needed.to_vec(), ..Load::default() };
        optimum(&load, start_s, price_s, 1, 0)
    }

    #[test]
    fn a_gap_is_kept_or_left_whichever_is_cheaper() {
        let gap = |zeros: usize| {
            let mut needed = vec![1; 10];
            needed.extend(vec![0; zeros]);
            needed.extend(vec![1; 10]);
            needed
        };
        for (zeros, price_s, pod_s, starts) in
            [(2, 0.0, 22.0, 0), (3, 0.0, 23.0, 0), (8, 0.0, 23.0, 1), (8, 10.0, 28.0, 0)]
        {
            let found = bound(&gap(zeros), 3.0, price_s);
            assert!((found.pod_s - pod_s).abs() < 1e-9, "{zeros}: {found:?}");
            assert_eq!(found.starts, starts, "{zeros}");
        }
    }

    #[test]
    fn levels_add_up() {
        // One pod all the time, two more for five seconds, each started three seconds early.
        let mut needed = vec![1; 10];
        needed.extend([3; 5]);
        needed.extend([1; 5]);
        let found = bound(&needed, 3.0, 0.0);
        assert!((found.pod_s - (20.0 + 10.0 + 6.0)).abs() < 1e-9, "{found:?}");
        assert_eq!(found.starts, 2);
    }

    /// What a pod costs that is ready in the seconds of these bits, of `seconds` in all: those seconds and
    /// its starts, of which what lies before the beginning is free.
    fn cost(bits: u32, seconds: u32, runs: bool, start_s: f64, price_s: f64) -> f64 {
        let ready = |second: u32| bits >> second & 1 == 1;
        (0..seconds).filter(|&second| ready(second)).fold(0.0, |sum, second| {
            let starts = if second == 0 { !runs } else { !ready(second - 1) };
            let start = if starts { start_s.min(f64::from(second)) + price_s } else { 0.0 };
            sum + 1.0 + start
        })
    }

    /// The cheapest of all ways in which three pods can be ready when they are needed.
    fn cheapest(needed: &[i32], start_s: f64, price_s: f64, running: usize) -> f64 {
        let seconds = u32::try_from(needed.len()).unwrap();
        let all = 0..1_u32 << seconds;
        let costs: Vec<Vec<f64>> = (0..3)
            .map(|pod| {
                all.clone().map(|b| cost(b, seconds, pod < running, start_s, price_s)).collect()
            })
            .collect();
        let serves = |pods: [u32; 3]| {
            (0..seconds).zip(needed).all(|(second, &needed)| {
                pods.iter().filter(|&bits| bits >> second & 1 == 1).count()
                    >= usize::try_from(needed).unwrap()
            })
        };
        let mut least = f64::INFINITY;
        for first in all.clone() {
            for second in all.clone() {
                for third in all.clone() {
                    let pods = [first, second, third];
                    let cost: f64 =
                        pods.iter().zip(&costs).map(|(&b, costs)| costs[b as usize]).sum();
                    if cost < least && serves(pods) {
                        least = cost;
                    }
                }
            }
        }
        least
    }

    #[test]
    fn no_schedule_of_all_that_there_are_is_cheaper() {
        let mut random = super::super::random::Random::new(1, "optimum", 0);
        for case in 0..60 {
            let needed: Vec<i32> =
                (0..6).map(|_| i32::try_from(random.below(4)).unwrap()).collect();
            let running = i32::try_from(random.below(4)).unwrap();
            let (start_s, price_s) = ([0.0, 1.0, 2.0, 4.0][case % 4], [0.0, 0.0, 1.5][case % 3]);
            let load = Load { needed: needed.clone(), ..Load::default() };
            let found = optimum(&load, start_s, price_s, running, 0);
            let starts = f64::from(u32::try_from(found.starts).unwrap());
            let is = found.pod_s + price_s * starts;
            let least = cheapest(&needed, start_s, price_s, usize::try_from(running).unwrap());
            assert!(
                (is - least).abs() < 1e-9,
                "{needed:?}, {running} run, {start_s} s, {price_s} s: {is}, not {least}"
            );
        }
    }
}
