//! Logs: one line a record, JSON or text, on standard error, with a level that can be changed while the
//! process runs.
//!
//! Nothing here colours: escape sequences in a name or a value must never reach a terminal, and the
//! subscriber escapes those that come in as fields.

use std::fmt;
use std::sync::Arc;

use clap::ValueEnum;
use parking_lot::Mutex;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// The form of a log record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// One line of words for people.
    Text,
}

/// What can go wrong with logging.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The level is neither a level nor a list of directives.
    #[error(
        "parse log level {level:?}: expected error, warn, info, debug, trace or a list such as \
         info,podswell::k8s=debug"
    )]
    Level {
        /// What was asked for.
        level: String,
    },
    /// Another subscriber is installed already, or the installed one is gone.
    #[error("install the log subscriber: {why}")]
    Install {
        /// What the subscriber said.
        why: String,
    },
}

/// The longest list of directives that is looked at, in bytes.
const MAX_LEVEL_LENGTH: usize = 1024;

/// Logs every failed request as an error of its own, beside what the watches and writers say about it;
/// heard only when asked for by name.
const NOISY: &str = "kube_client";

type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// Changes the level while the process runs. Cheap to clone.
#[derive(Clone)]
pub struct LogControl {
    level: Arc<Mutex<String>>,
    set: Arc<SetFilter>,
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogControl").field("level", &self.level()).finish_non_exhaustive()
    }
}

impl LogControl {
    /// The level in force.
    pub fn level(&self) -> String {
        self.level.lock().clone()
    }

    /// Changes the level.
    ///
    /// # Errors
    /// If `level` is not valid, or the subscriber is gone; the old level then stays.
    pub fn set_level(&self, level: &str) -> Result<(), TelemetryError> {
        let level = level.trim();
        let filter = parse_level(level)?;
        (self.set)(filter).map_err(|why| TelemetryError::Install { why })?;
        level.clone_into(&mut self.level.lock());
        Ok(())
    }

    /// A control that changes nothing but what it says: for tests of the servers.
    pub fn detached(level: &str) -> Self {
        Self {
            level: Arc::new(Mutex::new(level.to_owned())),
            set: Arc::new(Box::new(|_filter| Ok(()))),
        }
    }
}

/// Checks a level or list of directives.
///
/// # Errors
/// If it is not one.
pub fn parse_level(level: &str) -> Result<EnvFilter, TelemetryError> {
    let error = || TelemetryError::Level { level: level.chars().take(80).collect() };
    if level.is_empty() || level.len() > MAX_LEVEL_LENGTH {
        return Err(error());
    }
    // A bare word is a target name for `EnvFilter`; here it can only be a misspelt level.
    let words_are_levels = level
        .split(',')
        .all(|part| part.contains('=') || part.parse::<tracing::metadata::LevelFilter>().is_ok());
    if !words_are_levels {
        return Err(error());
    }
    let filter = EnvFilter::builder().parse(level).map_err(|_why| error())?;
    if level.contains(NOISY) {
        return Ok(filter);
    }
    let quiet = format!("{NOISY}::client::builder=off").parse().map_err(|_why| error())?;
    Ok(filter.add_directive(quiet))
}

/// Installs the process's log subscriber.
///
/// # Errors
/// If the level is not valid or a subscriber is installed already.
pub fn init(format: LogFormat, level: &str) -> Result<LogControl, TelemetryError> {
    let (filter, handle) = reload::Layer::<EnvFilter, Registry>::new(parse_level(level)?);
    let base = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr);
    let output = match format {
        LogFormat::Json => base.json().flatten_event(true).with_current_span(false).boxed(),
        LogFormat::Text => base.boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(output)
        .try_init()
        .map_err(|why| TelemetryError::Install { why: why.to_string() })?;
    let set: SetFilter =
        Box::new(move |filter| handle.reload(filter).map_err(|why| why.to_string()));
    Ok(LogControl { level: Arc::new(Mutex::new(level.trim().to_owned())), set: Arc::new(set) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_accepted_other_words_are_not() {
        for good in ["info", "debug", "warn,podswell=debug", "off", "info,podswell::k8s=trace"] {
            assert!(parse_level(good).is_ok(), "{good}");
        }
        let long = "info,".repeat(400);
        for bad in ["", "verbose", "info,loud", "podswell=loud", long.as_str(), "\u{1b}[31m"] {
            assert!(parse_level(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bad_level_leaves_the_old_one() {
        let control = LogControl::detached("info");
        assert!(control.set_level("loud").is_err());
        assert_eq!(control.level(), "info");
        control.set_level(" debug\n").unwrap();
        assert_eq!(control.level(), "debug");
    }
}
