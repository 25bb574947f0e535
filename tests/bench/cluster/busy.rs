//! How busy the whole machine is, so that a reader sees whether it was what decided.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

/// How often is looked.
const LOOK: Duration = Duration::from_secs(1);

/// Looks at the processors until it is dropped.
pub(crate) struct Busy {
    /// Share of all processors in each second, from 0 to 1.
    shares: Arc<Mutex<Vec<f64>>>,
    task: JoinHandle<()>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Busy {
    pub(crate) fn watch() -> Self {
        let shares = Arc::<Mutex<Vec<f64>>>::default();
        let task = tokio::spawn(look(Arc::clone(&shares)));
        Self { shares, task }
    }

    /// The mean and the highest second so far, in percent.
    pub(crate) fn percent(&self) -> (f64, f64) {
        let shares = self.shares.lock();
        let number = u32::try_from(shares.len()).map_or(f64::MAX, f64::from).max(1.0);
        let mean = shares.iter().sum::<f64>() / number;
        (100.0 * mean, 100.0 * shares.iter().copied().fold(0.0, f64::max))
    }
}

async fn look(shares: Arc<Mutex<Vec<f64>>>) {
    let mut before = ticks();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = ticks();
        let (idle, all) = (now.0 - before.0, now.1 - before.1);
        if all > 0.0 {
            shares.lock().push(1.0 - idle / all);
        }
        before = now;
    }
}

/// Ticks that all processors together were idle or waiting, and all ticks, since the start.
fn ticks() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8);
    let numbers: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
    (numbers.iter().skip(3).take(2).sum(), numbers.iter().sum())
}
