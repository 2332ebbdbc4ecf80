//! Where log lines go and how they look. They always go to stderr: stdout is for what was asked for. With a log folder
//! they go there too, as JSON, into a new file every day (UTC); errors also into files of their own.
//!
//! No line holds a secret: tokens print nothing of themselves, webhooks are named and not quoted, and of the libraries
//! that see requests' headers nothing finer than their life is logged unless it is asked for by name.

use clap::ValueEnum;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_appender::rolling::{InitError, RollingFileAppender, Rotation};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// Libraries whose warnings are of no use to anyone but their authors (a packet that came twice, a monitor without a
/// size), and those that see headers; a filter of one's own can name them again.
const QUIET: &str = "rtc=error,webrtc=error,winit=error,hyper=info,hyper_util=info,reqwest=info,rustls=info";
/// Target of what [`report`] tells a person anyway: it goes to files only.
const END: &str = "loco::end";
/// Files of each kind that are kept at most.
const MAX_FILES: u32 = 365;

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
    /// Folder for log files too: JSON lines, a new file every day, errors also in files of their own
    #[arg(long, global = true, value_name = "DIR", env = "LOCO_LOG_DIR")]
    pub(crate) log_dir: Option<PathBuf>,
    /// Days whose log files are kept, 1 to 365
    #[arg(long, global = true, value_name = "N", env = "LOCO_LOG_DAYS", default_value_t = 14, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_FILES)))]
    pub(crate) log_days: u32,
}

/// Which process logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// Runs on its own for long, and tells its life.
    Server(String),
    /// Runs beside a person: on the terminal only what is wrong stands between the lines of progress.
    Desktop(String),
    /// Answers one question: nothing of it is kept.
    Question,
}

/// Writes what waits when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct LogFiles {
    _workers: Vec<WorkerGuard>,
}

/// The log folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogFolderError {
    /// It cannot be made.
    #[error("log folder {0}: {1}")]
    Folder(PathBuf, std::io::Error),
    /// No file can be made in it.
    #[error("log folder {0}: {1}")]
    File(PathBuf, InitError),
}

fn parse_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

// === impl LoggingArgs ===

impl LoggingArgs {
    /// What a child process is to be given, so that it logs as this one does.
    pub(crate) fn for_children(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        if let Some(filter) = &self.log {
            arguments.extend(["--log".into(), filter.into()]);
        }
        if let Some(dir) = &self.log_dir {
            arguments.extend(["--log-dir".into(), dir.into()]);
            arguments.extend(["--log-days".into(), self.log_days.to_string().into()]);
        }
        arguments
    }

    /// The same for one that writes on this process's stderr.
    pub(crate) fn for_children_on_stderr(&self) -> Vec<OsString> {
        let mut arguments = self.for_children();
        if self.log_format == LogFormat::Json {
            arguments.extend(["--log-format".into(), "json".into()]);
        }
        arguments
    }
}

// === impl Process ===

impl Process {
    /// An agent; its number has a fixed width, so that no name of a file begins with another's.
    pub(crate) fn agent(index: usize) -> Self {
        Self::Server(format!("agent-{index:04}"))
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Server(name) | Self::Desktop(name) => Some(name),
            Self::Question => None,
        }
    }
}

/// Sets logging up for the whole process. Files are written by threads of their own, until the result is dropped; a
/// folder that cannot be used is told, and ends nothing.
#[must_use = "log files end with it"]
pub(crate) fn init(args: &LoggingArgs, process: &Process) -> LogFiles {
    let default = if matches!(process, Process::Server(_)) { "info" } else { "warn" };
    let stderr = fmt::layer().with_writer(std::io::stderr);
    let stderr = match args.log_format {
        LogFormat::Json => stderr.json().flatten_event(true).boxed(),
        LogFormat::Text => stderr.with_ansi(std::io::stderr().is_terminal()).with_target(false).boxed(),
    };
    let level = args.log.as_deref().unwrap_or(default);
    let stderr = stderr.with_filter(EnvFilter::new(format!("{QUIET},{level},{END}=off"))).boxed();
    let mut workers = Vec::new();
    let opened = match (&args.log_dir, process.name()) {
        (Some(dir), Some(name)) => files(args, dir, name, &mut workers),
        _ => Ok(Vec::new()),
    };
    let (mut layers, error) = match opened {
        Ok(files) => (files, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    layers.push(stderr);
    // What an agent logged lately is asked of it over HTTP.
    let is_agent = matches!(process, Process::Server(name) if name.starts_with("agent-"));
    if is_agent {
        layers.push(loco_agent::LogLayer.with_filter(EnvFilter::new(format!("{QUIET},{level}"))).boxed());
    }
    tracing_subscriber::registry().with(layers).init();
    if let Some(error) = error {
        tracing::error!("logs go to stderr only: {error}");
    }
    LogFiles { _workers: workers }
}

/// The files of one process: everything, and errors alone. Side by side and not one on the other, so that each has its own
/// filter.
fn files<S>(
    args: &LoggingArgs,
    dir: &Path,
    name: &str,
    workers: &mut Vec<WorkerGuard>,
) -> Result<Vec<Box<dyn Layer<S> + Send + Sync>>, LogFolderError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| LogFolderError::Folder(dir.to_owned(), error))?;
    let days = usize::try_from(args.log_days).unwrap_or(1);
    let mut open = |prefix: &str| -> Result<NonBlocking, LogFolderError> {
        let appender = RollingFileAppender::builder()
            .rotation(Rotation::DAILY)
            .filename_prefix(prefix)
            .filename_suffix("log")
            .max_log_files(days)
            .build(dir)
            .map_err(|error| LogFolderError::File(dir.to_owned(), error))?;
        // No one waits for a slow disk: lines beyond 128,000 that wait are lost.
        let (writer, worker) = tracing_appender::non_blocking(appender);
        workers.push(worker);
        Ok(writer)
    };
    // An appender takes every file that begins with its prefix for one of its own.
    let (all, errors) = (open(name)?, open(&format!("errors.{name}"))?);
    let lines = |writer| fmt::layer().json().flatten_event(true).with_writer(writer);
    let filter = EnvFilter::new(format!("{QUIET},{}", args.log.as_deref().unwrap_or("info")));
    Ok(vec![lines(all).with_filter(filter).boxed(), lines(errors).with_filter(LevelFilter::ERROR).boxed()])
}

/// Tells a person one line of progress.
pub(crate) fn tell(line: &str) {
    // There is no one left to tell when stderr is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Tells a person in one line why the program ends, and the log files too.
pub(crate) fn report(error: &anyhow::Error) {
    let error = in_one_line(error);
    tell(&format!("error: {error}"));
    tracing::error!(target: END, "ended: {error}");
}

/// The error and its causes; one that its effect's message has in it already is not said twice.
fn in_one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |mut line, cause| {
        if line.is_empty() {
            return cause;
        }
        if !line.ends_with(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
        line
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let cause = || std::io::Error::other("no such file");
        assert_eq!(in_one_line(&anyhow::Error::new(cause()).context("cannot read x")), "cannot read x: no such file");
        let told = anyhow::Error::new(cause()).context("token file x: no such file");
        assert_eq!(in_one_line(&told.context("cannot start")), "cannot start: token file x: no such file");
    }

    use serde_json::Value;
    use std::time::SystemTime;

    fn args(dir: &Path, log: Option<&str>, days: u32) -> LoggingArgs {
        LoggingArgs {
            log_format: LogFormat::Text,
            log: log.map(str::to_owned),
            log_dir: Some(dir.to_owned()),
            log_days: days,
        }
    }

    /// Lines of the one file that begins so.
    fn lines(dir: &Path, prefix: &str) -> Vec<Value> {
        let names = std::fs::read_dir(dir).expect("folder").map(|entry| entry.expect("entry").path());
        let mine = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
        let [file] = &names.filter(mine).collect::<Vec<_>>()[..] else { panic!("not one file {prefix}") };
        let text = std::fs::read_to_string(file).expect("read");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn log(args: &LoggingArgs, name: &str) {
        let mut workers = Vec::new();
        let layer = files(args, args.log_dir.as_deref().expect("a folder"), name, &mut workers).expect("files");
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::debug!("fine");
            let span = tracing::info_span!("request", request_id = "r1");
            span.in_scope(|| tracing::info!(id = "instance-3", "said"));
            tracing::error!("broken");
            report(&anyhow::anyhow!("the end"));
        });
        drop(workers);
    }

    #[test]
    fn children_log_as_their_parent_does() {
        #[derive(clap::Parser)]
        struct Child {
            #[command(flatten)]
            logging: LoggingArgs,
        }
        let mut args = args(Path::new("/logs"), Some("debug"), 3);
        for format in [LogFormat::Text, LogFormat::Json] {
            args.log_format = format;
            let given = std::iter::once("loco".into()).chain(args.for_children_on_stderr());
            let child = <Child as clap::Parser>::try_parse_from(given).expect("arguments").logging;
            assert_eq!((child.log_format, child.log_days), (format, 3));
            assert_eq!((child.log, child.log_dir), (args.log.clone(), args.log_dir.clone()));
        }
    }

    #[test]
    fn files_hold_json_and_errors_are_apart() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let logs = dir.path().join("made/logs");
        log(&args(&logs, None, 14), "control");
        let all = lines(&logs, "control.");
        let messages: Vec<&str> = all.iter().filter_map(|line| line["message"].as_str()).collect();
        assert_eq!(messages, ["said", "broken", "ended: the end"]);
        assert_eq!((&all[0]["id"], &all[0]["level"]), (&"instance-3".into(), &"INFO".into()));
        assert_eq!(all[0]["span"]["request_id"], "r1");
        assert!(all[0]["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')), "{}", all[0]);
        assert_eq!(lines(&logs, "errors.control.").len(), 2);
    }

    #[test]
    fn the_level_is_as_asked() {
        let dir = tempfile::tempdir().expect("temporary directory");
        log(&args(dir.path(), Some("debug"), 14), "agent-0001");
        assert_eq!(lines(dir.path(), "agent-0001.").len(), 4);
        let quiet = tempfile::tempdir().expect("temporary directory");
        log(&args(quiet.path(), Some("off"), 14), "agent-0001");
        assert_eq!(lines(quiet.path(), "agent-0001.").len(), 0);
        assert_eq!(lines(quiet.path(), "errors.agent-0001.").len(), 2, "errors are always kept");
    }

    #[test]
    fn old_files_go_and_others_files_stay() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let old = |name: &str| {
            let file = std::fs::File::create(dir.path().join(name)).expect("create");
            file.set_modified(SystemTime::UNIX_EPOCH).expect("set");
        };
        for day in 1..=9 {
            old(&format!("agent-0001.2020-01-0{day}.log"));
        }
        old("agent-0010.2020-01-01.log");
        old("notes.txt");
        log(&args(dir.path(), None, 3), "agent-0001");
        let names = std::fs::read_dir(dir.path()).expect("folder").map(|entry| entry.expect("entry").file_name());
        let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        assert_eq!(names.iter().filter(|name| name.starts_with("agent-0001.")).count(), 3, "{names:?}");
        assert!(
            names.contains(&"notes.txt".into()) && names.contains(&"agent-0010.2020-01-01.log".into()),
            "{names:?}"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("write");
        let error =
            files::<tracing_subscriber::Registry>(&args(dir.path(), None, 1), &file, "control", &mut Vec::new());
        let Err(error) = error else { panic!("a file is no folder") };
        assert!(error.to_string().contains("log folder"), "{error}");
    }
}
