//! The figures of a run, and the table of all runs.

use std::fmt::Write as _;

/// The figures of an autoscaler in one run. Times are seconds since the load changed; `None`: not within
/// the limit, or not to be had under this load.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    /// Until replicas were raised for the first time.
    pub(crate) first_raise: Option<f64>,
    /// Until 90 % of what the load asks for were asked for, of every workload.
    pub(crate) full_scale: Option<f64>,
    /// Until replicas were changed for the last time.
    pub(crate) last_change: Option<f64>,
    /// Replicas integrated over the time of the run.
    pub(crate) pod_seconds: Option<f64>,
    /// Ready pods that were missing, integrated until the pod-seconds of the thriftiest were spent.
    pub(crate) unmet_pod_seconds: Option<f64>,
    /// Of the requests that ended until then.
    pub(crate) p99: Option<f64>,
    pub(crate) pod_starts: Option<f64>,
    /// Changes of replicas that were stored.
    pub(crate) changes: Option<f64>,
    /// Requests that wrote anything.
    pub(crate) writes: Option<f64>,
}

impl Figures {
    pub(crate) fn head() -> &'static str {
        "| load | autoscaler | first raise, s | full scale, s | last change, s | pod-seconds \
         | unmet pod-seconds | request p99, s | pod starts | changes | API writes |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    }

    /// Each with the number of digits that it is worth.
    fn all(&self) -> [(Option<f64>, usize); 9] {
        [
            (self.first_raise, 1),
            (self.full_scale, 1),
            (self.last_change, 1),
            (self.pod_seconds, 0),
            (self.unmet_pod_seconds, 0),
            (self.p99, 1),
            (self.pod_starts, 0),
            (self.changes, 0),
            (self.writes, 0),
        ]
    }
}

/// One row of the table, from all runs of one kind.
pub(crate) fn row(scenario: &str, peer: &str, runs: &[Figures]) -> String {
    let mut text = format!("| {scenario} | {peer} |");
    for index in 0..Figures::default().all().len() {
        let column = || runs.iter().filter_map(|run| run.all().into_iter().nth(index));
        let digits = column().next().map_or(0, |(_, digits)| digits);
        let mut values: Vec<f64> = column().filter_map(|(value, _)| value).collect();
        values.sort_by(f64::total_cmp);
        let never = runs.len() - values.len();
        // Writing to a String cannot fail.
        let _ = write!(text, " {} |", cell(&values, never, digits));
    }
    text
}

/// The median, the range, and how many runs had no value.
fn cell(values: &[f64], never: usize, digits: usize) -> String {
    let show = |value: Option<&f64>| {
        value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
    };
    let mut text = show(values.get(values.len() / 2));
    if values.len() > 1 {
        let _ = write!(text, " ({} to {})", show(values.first()), show(values.last()));
    }
    if never > 0 && !values.is_empty() {
        let _ = write!(text, ", {never} never");
    }
    text
}
