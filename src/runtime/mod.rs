//! Wiring: the only module that may see every other one.

pub mod args;
pub mod clock;
pub mod engine_handle;
pub mod engine_task;
pub mod health;
pub mod metrics;
pub mod status_board;
pub mod telemetry;

/// Runs the controller until it is told to stop.
///
/// # Errors
/// If it cannot start.
pub fn run(settings: args::Settings) -> anyhow::Result<std::process::ExitCode> {
    drop(settings);
    anyhow::bail!("not wired yet")
}
