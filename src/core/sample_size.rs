//! How many pods Knative asks when it does not ask all of them.

/// The largest population of which every member is asked.
const ASK_ALL: usize = 3;
/// 1.96² · variance 100 / margin 5²: 95 % confidence.
const FACTOR: f64 = 15.3664;

/// How many of `population` pods are asked: all up to 3, then `ceil(N·X / (N + X − 1))` with X = 15.3664,
/// never more than 16.
///
/// Source: Knative `pkg/autoscaler/metrics/sample_size.go`, serving v0.42.2.
pub fn sample_size(population: usize) -> usize {
    if population <= ASK_ALL {
        return population;
    }
    let n = f64::from(u32::try_from(population).unwrap_or(u32::MAX));
    let size = (n * FACTOR / (n + FACTOR - 1.0)).ceil();
    (1..=16_u32).find(|k| f64::from(*k) >= size).map_or(16, |k| k as usize)
}

#[cfg(test)]
mod tests {
    use super::sample_size;

    #[test]
    fn knatives_numbers() {
        let table = [
            (0, 0),
            (1, 1),
            (3, 3),
            (4, 4),
            (5, 4),
            (6, 5),
            (7, 6),
            (10, 7),
            (13, 8),
            (16, 9),
            (20, 9),
            (21, 10),
            (25, 10),
            (27, 11),
            (30, 11),
            (37, 12),
            (52, 13),
            (79, 14),
            (100, 14),
            (148, 15),
            (500, 15),
            (1000, 16),
            (1_000_000, 16),
            (usize::MAX, 16),
        ];
        for (population, expected) in table {
            assert_eq!(sample_size(population), expected, "{population}");
        }
    }
}
