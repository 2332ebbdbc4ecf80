//! `loco recover`.

use super::connect::{ConnectArgs, Go, event, parse_instance};
use super::out;
use anyhow::bail;
use loco_model::InstanceId;
use loco_model::api::Event;
use loco_model::failure::Remedy;
use loco_model::recovery::{Attempt, Outcome, RecoverOrder};
use loco_viewer::scene::words;
use std::process::ExitCode;
use std::time::Duration;

/// How long `--wait` waits: longer than any repair takes.
const PATIENCE: Duration = Duration::from_secs(300);

/// Arguments of `loco recover`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RecoverArgs {
    #[command(flatten)]
    connect: ConnectArgs,

    /// Which instance: its id (instance-3, counted from 0) or the number on its tile (4)
    #[arg(value_name = "ID", value_parser = parse_instance)]
    id: InstanceId,

    /// What to do [default: what its faults ask for]; one of reset-display, reset-sound, restart-stream, lower-quality,
    /// reset-network, restart-qemu, restart-agent
    #[arg(long, value_name = "ACTION")]
    action: Option<Remedy>,

    /// Do it though the hour's attempts are used up
    #[arg(long = "override")]
    is_override: bool,

    /// Wait for its end; the exit code is 0 when the instance is well again, else 1
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(args: &RecoverArgs) -> anyhow::Result<ExitCode> {
    let connection = args.connect.open()?;
    let order = RecoverOrder { action: args.action, is_override: args.is_override };
    let begun: Attempt = connection.post(&format!("/api/quality/recover/{}", args.id), &order).await?;
    if !args.wait {
        tell(args, &begun)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut ended = is_over(&begun).then(|| begun.clone());
    if ended.is_none() {
        if !args.connect.json {
            tell(args, &begun)?;
        }
        let id = begun.id.clone();
        // What ended between the answer and the first event is in the list of attempts.
        let wait = connection.follow(async |_, json| {
            ended = match event(json) {
                Some(Event::Attempt { attempt }) if attempt.id == id && is_over(&attempt) => Some(attempt),
                Some(Event::Instances { .. }) => {
                    let status: loco_model::api::RecoveryStatus =
                        connection.get("/api/quality/recovery-status").await?;
                    status.attempts.into_iter().find(|attempt| attempt.id == id && is_over(attempt))
                }
                _ => None,
            };
            Ok(if ended.is_some() { Go::Stop } else { Go::On })
        });
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(result) => result?,
            Err(_) => bail!("the attempt {} has not ended within {} s", begun.id, PATIENCE.as_secs()),
        }
    }
    let ended = ended.unwrap_or(begun);
    tell(args, &ended)?;
    Ok(if ended.outcome == Outcome::Repaired { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_over(attempt: &Attempt) -> bool {
    attempt.outcome != Outcome::Running
}

fn tell(args: &RecoverArgs, attempt: &Attempt) -> anyhow::Result<()> {
    if args.connect.json {
        out::json(attempt)
    } else {
        out::line(&out::plain(&words::attempt(&args.id.display_name(), attempt).1))
    }
}
