//! `loco logs`.

use super::connect::{BACKOFF, ConnectArgs, Loss, is_passing, parse_instance};
use super::out;
use futures::StreamExt as _;
use loco_model::InstanceId;
use loco_model::agent::{LogLine, LogSource};
use loco_model::time::Utc;
use std::process::ExitCode;

/// Arguments of `loco logs`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    connect: ConnectArgs,

    /// Which instance: its id (instance-3, counted from 0) or the number on its tile (4)
    #[arg(value_name = "ID", value_parser = parse_instance)]
    id: InstanceId,

    /// Go on with new lines as they come, until Ctrl+C
    #[arg(long, short)]
    follow: bool,

    /// How many of the last lines
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1000))]
    tail: u32,
}

pub(super) async fn run(args: &LogsArgs) -> anyhow::Result<ExitCode> {
    let connection = args.connect.open()?;
    let path = format!("/api/logs/{}?tail={}", args.id, args.tail);
    if !args.follow {
        let lines: Vec<LogLine> = connection.get(&path).await?;
        lines.iter().try_for_each(|line| show(args, line))?;
        return Ok(ExitCode::SUCCESS);
    }
    let url = connection.url(&format!("{path}&follow=true"));
    let (mut last, mut newest, mut wait, mut loss) = (None, None, BACKOFF.0, Loss::default());
    // The first connection must be made; one that is lost later, with its agent, is made again.
    let mut events = connection.client.events(&url).await?;
    loop {
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    tracing::debug!(%error, "the log ended");
                    break;
                }
            };
            (wait, loss) = (BACKOFF.0, Loss::default());
            let Ok(line) = serde_json::from_str::<LogLine>(&event.data) else { continue };
            // After a reconnection the last lines come again.
            if last.is_none_or(|last| line.at_ms > last) {
                show(args, &line)?;
            }
            newest = newest.max(Some(line.at_ms));
        }
        last = newest;
        events = loop {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF.1);
            match connection.client.events(&url).await {
                Ok(events) => break events,
                Err(error) if is_passing(&error) => loss.tell(&error),
                Err(error) => return Err(error.into()),
            }
        };
    }
}

fn show(args: &LogsArgs, line: &LogLine) -> anyhow::Result<()> {
    if args.connect.json { out::json(line) } else { out::line(&text(line)) }
}

fn text(line: &LogLine) -> String {
    let source = match line.source {
        LogSource::Agent => "agent",
        LogSource::Qemu => "qemu",
        LogSource::Guest => "guest",
    };
    format!("{}  {source:<5}  {}", Utc::of_ms(line.at_ms), out::plain(&line.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_and_who() {
        let line = LogLine { source: LogSource::Qemu, at_ms: 1_795_256_188_000, text: "a\x1b[2J".into() };
        assert_eq!(text(&line), "2026-11-21 10:16:28Z  qemu   a·[2J");
    }
}
