//! Waits for a state, or sees to it that a state stays.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::Instant;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits until `look` has said `wanted` for `span` without a break.
///
/// # Panics
/// If it says something else after `limit`.
pub(crate) async fn settles<T, F>(
    limit: Duration,
    span: Duration,
    what: &str,
    wanted: T,
    mut look: impl FnMut() -> F,
) where
    F: Future<Output = T>,
    T: Debug + PartialEq,
{
    let (mut right_since, started) = (None, Instant::now());
    loop {
        let seen = look().await;
        if seen == wanted {
            // Only what was seen right ends it, however long the machine slept between two looks.
            if right_since.get_or_insert_with(Instant::now).elapsed() >= span {
                return;
            }
        } else {
            right_since = None;
            let waited = started.elapsed();
            assert!(waited < limit, "not settled within {limit:?}: {what}; seen last: {seen:?}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Looks until `look` says `Ok`, and returns that; `Err` carries what was seen instead.
///
/// # Panics
/// After `limit`, with `what` was waited for and what was seen last.
pub(crate) async fn eventually<T, S, F>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T
where
    F: Future<Output = Result<T, S>>,
    S: Debug,
{
    let started = Instant::now();
    let mut last: Option<S> = None;
    loop {
        let left = limit.saturating_sub(started.elapsed());
        match tokio::time::timeout(left.max(PAUSE), look()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(seen)) => last = Some(seen),
            Err(_) => {}
        }
        match (&last, started.elapsed() >= limit) {
            (_, false) => {}
            (Some(seen), true) => panic!("not within {limit:?}: {what}; seen last: {seen:#?}"),
            (None, true) => panic!("not within {limit:?}: {what}; no look ended"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// [`eventually`] for a value: waits until it satisfies `wanted`.
pub(crate) async fn until<T, F>(
    limit: Duration,
    what: &str,
    wanted: impl Fn(&T) -> bool,
    mut read: impl FnMut() -> F,
) -> T
where
    F: Future<Output = T>,
    T: Debug,
{
    let wanted = &wanted;
    eventually(limit, what, || {
        let value = read();
        async move {
            let value = value.await;
            if wanted(&value) { Ok(value) } else { Err(value) }
        }
    })
    .await
}

/// Looks every 100 ms for `span`: every look that ended within it has to say `Ok`, and the first one in any case.
/// What a later one says is of another time, however long the machine slept.
///
/// # Panics
/// At the first `Err`, with `what` was to stay, when it ended, and what was seen instead.
pub(crate) async fn always_for<S, F>(span: Duration, what: &str, mut look: impl FnMut() -> F)
where
    F: Future<Output = Result<(), S>>,
    S: Debug,
{
    let (mut first, started) = (true, Instant::now());
    loop {
        let seen = look().await;
        let elapsed = started.elapsed();
        if let (Err(seen), true) = (seen, first || elapsed <= span) {
            panic!("after {elapsed:?}, not true any more: {what}; seen: {seen:#?}");
        }
        if elapsed >= span {
            return;
        }
        first = false;
        tokio::time::sleep(PAUSE).await;
    }
}
