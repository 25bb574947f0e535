//! The one place of the tests that reads the wall clock.

use jiff::Timestamp;

/// The wall clock, as Kubernetes objects carry it.
#[expect(clippy::disallowed_methods, reason = "a real node stamps its reports with real time")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
