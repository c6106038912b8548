//! `busybee serve`: the master, until it is told to stop.

use std::path::Path;

use anyhow::Context;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tracing::info;

use crate::master::app;
use crate::master::config::Config;

/// Serves until SIGTERM or SIGINT; what runs on workers goes on without the master.
///
/// # Errors
/// When the file is wrong or the master cannot begin; the text is for people.
pub fn serve(file: &Path) -> Result<(), String> {
    let config = Config::load(file).map_err(|problems| problems.to_string())?;
    start_logging();
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        let running = app::start(config).await?;
        told_to_stop().await?;
        info!("stopping; what runs on workers goes on");
        running.stop().await;
        Ok(())
    });
    served.map_err(|why: anyhow::Error| format!("failed to {why:#}"))
}

/// A runtime for the master.
///
/// # Errors
/// When the system gives no threads.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|why| format!("cannot begin: {why}"))
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// When signals cannot be watched.
pub(super) async fn told_to_stop() -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate()).context("watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watch for SIGINT")?;
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Log lines go to stderr; what `info` and above say is what the house does. `BUSYBEE_LOG` may be
/// error, warn, info, debug or trace.
fn start_logging() {
    let wanted = std::env::var("BUSYBEE_LOG").ok();
    let level = wanted.and_then(|level| level.parse().ok()).unwrap_or(tracing::Level::INFO);
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .init();
}
