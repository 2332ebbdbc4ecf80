//! Where log lines go and how they look. They always go to stderr: stdout is for what was asked for.

use clap::ValueEnum;
use std::io::{IsTerminal as _, Write as _};
use tracing_subscriber::EnvFilter;

/// Libraries whose warnings are of no use to anyone but their authors (a packet that came twice, a monitor without a
/// size); a filter of one's own can name them again.
const QUIET: &str = "rtc=error,webrtc=error,winit=error";

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Options of every subcommand.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LoggingArgs {
    /// How log lines look (on stderr)
    #[arg(long, global = true, value_enum, env = "LOCO_LOG_FORMAT", default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// What is logged: a level (error, warn, info, debug, trace), or levels per part such as "info,loco_media=debug"
    #[arg(long, global = true, value_name = "FILTER", env = "LOCO_LOG", value_parser = parse_filter)]
    pub(crate) log: Option<String>,
}

fn parse_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Sets logging up for the whole process. Servers tell their life (`info`); for people at a terminal only what is
/// wrong (`warn`) stands between the lines of progress.
pub(crate) fn init(args: &LoggingArgs, is_server: bool) {
    let default = if is_server { "info" } else { "warn" };
    let filter = EnvFilter::new(format!("{QUIET},{}", args.log.as_deref().unwrap_or(default)));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
    }
}

/// Tells a person one line of progress.
pub(crate) fn tell(line: &str) {
    // There is no one left to tell when stderr is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Tells a person in one line why the program ends.
pub(crate) fn report(error: &anyhow::Error) {
    tell(&format!("error: {error:#}"));
}
