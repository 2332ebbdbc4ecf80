//! `loco control`: the control plane as a process of its own, for agents that someone else runs.

use anyhow::Context as _;
use loco_control::{ControlConfig, ControlPlane, Fixed};
use loco_http::{HostName, Origin};
use serde_json::json;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Enough for every instance that there may be.
const OPEN_FILES: u64 = 16_384;

/// Arguments of the control plane. Flags win over the environment, the environment over the defaults.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ControlArgs {
    /// File that lists the agents: an array of {id, name?, agent (URL), token_file?, supervised? (who ends it is sure that somebody starts it again)}; changes of it are followed
    #[arg(long, value_name = "FILE", env = "LOCO_INSTANCES_FILE")]
    instances: PathBuf,

    /// Address that the API listens at; port 0 takes any free one
    #[arg(long, value_name = "ADDR:PORT", env = "LOCO_API_LISTEN", default_value = "127.0.0.1:3001", value_parser = parse_address)]
    listen: SocketAddr,

    /// File with the tokens of the API (mode 0600): one token, or lines "view TOKEN", "play TOKEN", "operate TOKEN".
    /// Agents without a token file of their own are asked with the strongest
    #[arg(long, value_name = "FILE", env = "LOCO_TOKEN_FILE")]
    token_file: PathBuf,

    /// Folder for what it remembers: history, attempts, settings; without it that ends with the process
    #[arg(long, value_name = "DIR", env = "LOCO_STATE_DIR")]
    state_dir: Option<PathBuf>,

    /// Print one JSON line with the address once it answers
    #[arg(long)]
    json: bool,

    /// Watch only: repair nothing unless a person says so
    #[arg(long)]
    no_recover: bool,

    /// Further name by which clients call this server (loopback names always may)
    #[arg(long = "allow-host", value_name = "NAME", env = "LOCO_ALLOW_HOSTS", value_delimiter = ',')]
    allow_hosts: Vec<HostName>,

    /// Web site whose pages may use this server, such as https://loco.example
    #[arg(long = "allow-origin", value_name = "ORIGIN", env = "LOCO_ALLOW_ORIGINS", value_delimiter = ',')]
    allow_origins: Vec<Origin>,
}

/// An address to listen at.
pub(crate) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no address: give IP:PORT, such as 127.0.0.1:3001 or [::1]:0"))
}

/// Runs the control plane until it is told to stop (SIGTERM or SIGINT).
pub(crate) fn run(args: ControlArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(args))
}

async fn serve(args: ControlArgs) -> anyhow::Result<ExitCode> {
    // First of all: a signal during the start must end it as cleanly as later.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut stop_asked = async move || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    // A stream to each agent, and often a request beside it: more than the 1,024 files that systems allow unasked.
    if let Err(error) = loco_process::allow_files(OPEN_FILES) {
        tracing::warn!("the limit of open files cannot be raised: {error}");
    }
    let provider = Fixed::open(&args.instances)?;
    let config = ControlConfig {
        listen: args.listen,
        token_file: args.token_file,
        allow_hosts: args.allow_hosts,
        allow_origins: args.allow_origins,
        state_dir: args.state_dir,
        recover: !args.no_recover,
    };
    let plane = tokio::select! {
        plane = ControlPlane::start(config, Box::new(provider)) => plane?,
        name = stop_asked() => {
            tracing::info!("{name} during the start: ended");
            return Ok(ExitCode::SUCCESS);
        }
    };
    if args.json {
        let line = json!({ "address": plane.url(), "pid": std::process::id() });
        // The one who started us reads this; when nobody does, we are as useful as before.
        let _ = writeln!(std::io::stdout(), "{line}").and_then(|()| std::io::stdout().flush());
    }
    tracing::info!(url = plane.url(), "control plane answers");
    let name = stop_asked().await;
    tracing::info!("{name}: ending");
    tokio::select! {
        () = plane.stop() => {}
        name = stop_asked() => tracing::warn!("{name} again: ended at once"),
    }
    Ok(ExitCode::SUCCESS)
}
