//! What asks a control plane: `status`, `recover`, `events`, `history`, `logs`, `focus`, `alerts`. Tables for people,
//! `--json` for machines.

mod alerts;
mod connect;
mod events;
mod focus;
mod history;
mod logs;
mod out;
mod recover;
mod status;

use connect::Ended;
pub(crate) use connect::{DEMO, DEMO_API, DEMO_TOKEN};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Ctrl+C by convention.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// A command to a control plane.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ClientCommand {
    /// How every instance is
    Status(status::StatusArgs),
    /// Repair an instance
    Recover(recover::RecoverArgs),
    /// Follow every change
    Events(events::EventsArgs),
    /// What happened to an instance, where it goes, and its measurements over time
    History(history::HistoryArgs),
    /// The last lines of an instance's agent, its QEMU and its guest
    Logs(logs::LogsArgs),
    /// The shared list of active instances: shows, sets or clears it
    Focus(focus::FocusArgs),
    /// What people should see
    Alerts(alerts::AlertsArgs),
}

/// Runs one command; Ctrl+C ends it without a word.
pub(crate) fn run(command: &ClientCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            result = carry_out(command) => result,
            _ = interrupt.recv() => Ok(ExitCode::from(EXIT_INTERRUPTED)),
            _ = terminate.recv() => Ok(ExitCode::SUCCESS),
        }
    });
    match result {
        // Whoever reads has enough.
        Err(error) if error.is::<Ended>() => Ok(ExitCode::SUCCESS),
        result => result,
    }
}

async fn carry_out(command: &ClientCommand) -> anyhow::Result<ExitCode> {
    match command {
        ClientCommand::Status(args) => status::run(args).await,
        ClientCommand::Recover(args) => recover::run(args).await,
        ClientCommand::Events(args) => events::run(args).await,
        ClientCommand::History(args) => history::run(args).await,
        ClientCommand::Logs(args) => logs::run(args).await,
        ClientCommand::Focus(args) => focus::run(args).await,
        ClientCommand::Alerts(args) => alerts::run(args).await,
    }
}
