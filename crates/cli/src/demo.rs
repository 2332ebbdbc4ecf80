//! `loco demo`: control plane, agents and viewer on this computer, by one command.

mod progress;
mod viewer;

use crate::client::{DEMO, DEMO_API, DEMO_TOKEN, EXIT_INTERRUPTED};
use crate::control::parse_address;
use crate::logging::{LoggingArgs, tell};
use anyhow::{Context as _, bail};
use loco_bench::CheckArgs;
use loco_control::{ControlConfig, ControlPlane, Instances, Local, LocalConfig};
use loco_http::Token;
use loco_model::{InstanceId, InstanceState};
use loco_process::RunDir;
use progress::Progress;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use viewer::Viewer;

/// How long all agents may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the check waits for all tiles to be live.
const CHECK_DEADLINE: Duration = Duration::from_secs(60);

/// Arguments of the demo. Flags win over the environment, the environment over the defaults.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// How many guests, 1 to 9
    #[arg(short = 'n', long, value_name = "N", env = "LOCO_INSTANCES", default_value_t = 9, value_parser = clap::value_parser!(u8).range(1..=9))]
    instances: u8,

    /// Guest profile: a built-in one by its name ("demo"), or a JSON file by its path
    #[arg(long, value_name = "NAME|FILE", env = "LOCO_PROFILE", default_value = "demo")]
    profile: String,

    /// What the demo guests do [default: as the profile says]
    #[arg(long, value_name = "MODE", env = "LOCO_MODE", value_parser = ["town", "quiet", "box", "busy", "marker", "storm"])]
    mode: Option<String>,

    /// Accelerator of QEMU: auto (the best one that is proven to work here), kvm, hvf, whpx or tcg
    #[arg(long, value_name = "NAME", env = "LOCO_ACCEL", default_value = "auto", value_parser = ["auto", "kvm", "hvf", "whpx", "tcg"])]
    accel: String,

    /// Address that the control plane's API listens at; port 0 takes any free one
    #[arg(long, value_name = "ADDR:PORT", env = "LOCO_API_LISTEN", default_value = "127.0.0.1:0", value_parser = parse_address)]
    listen: SocketAddr,

    /// Folder for the guests' disks; without it they end with the demo
    #[arg(long, value_name = "DIR", env = "LOCO_STATE_DIR")]
    state_dir: Option<PathBuf>,

    /// Open no window
    #[arg(long, conflicts_with_all = ["check", "automation"])]
    headless: bool,

    /// Print one JSON line with the addresses once all agents answer
    #[arg(long)]
    json: bool,

    /// Look at the window's own pixels, whistle and type in every guest, print one JSON line, and end: with 0 when all
    /// are alive
    #[arg(long)]
    check: bool,

    /// Where --check puts its screenshot
    #[arg(long, value_name = "FILE", default_value = "loco-demo.png", requires = "check")]
    screenshot: PathBuf,

    /// Unix socket for automation of the window (created with mode 0600)
    #[arg(long, value_name = "SOCKET")]
    automation: Option<PathBuf>,

    /// Draw the window's scene without a window
    #[arg(long, conflicts_with = "headless")]
    offscreen: bool,
}

/// Runs the demo until it is interrupted, its window is closed, or its check is done.
pub(crate) fn run(args: &DemoArgs, logging: &LoggingArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(demo(args, logging))
}

async fn demo(args: &DemoArgs, logging: &LoggingArgs) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let run_dir = RunDir::create(DEMO)?;
    let token_file = run_dir.path().join(DEMO_TOKEN);
    Token::create_file(&token_file)?;
    let program = std::env::current_exe().context("cannot tell where this program lies")?;
    let state_dir = args.state_dir.clone().unwrap_or_else(|| run_dir.path().join("state"));
    let provider = Local::new(LocalConfig {
        instances: InstanceId::all().take(args.instances.into()).collect(),
        program: program.clone(),
        arguments: agent_arguments(args, logging),
        token_file: token_file.clone(),
        state_dir: state_dir.clone(),
    });
    let config = ControlConfig {
        listen: args.listen,
        token_file: token_file.clone(),
        allow_hosts: Vec::new(),
        allow_origins: Vec::new(),
        state_dir: Some(state_dir.join("control")),
        recover: true,
    };
    let plane = ControlPlane::start(config, Box::new(provider)).await?;
    // By which `loco status` and the like find it.
    tokio::fs::write(run_dir.path().join(DEMO_API), plane.url()).await?;
    let automation = args.automation.clone().unwrap_or_else(|| run_dir.path().join("viewer.sock"));
    let session =
        Session { args, logging, begun, api: plane.url().to_owned(), token_file, instances: plane.instances() };
    // The window comes up while the guests start.
    let mut viewer = match args.headless {
        true => None,
        false => Some(Viewer::start(&program, session.viewer_arguments(&automation)).await?),
    };
    let result = tokio::select! {
        result = session.run(viewer.as_mut(), automation) => result,
        _ = terminate.recv() => Ok(ExitCode::SUCCESS),
        _ = interrupt.recv() => Ok(ExitCode::from(EXIT_INTERRUPTED)),
    };
    let ended = async {
        let close = async {
            if let Some(viewer) = viewer {
                viewer.end().await;
            }
        };
        tokio::join!(plane.stop(), close)
    };
    tokio::select! {
        _ = ended => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    result
}

fn agent_arguments(args: &DemoArgs, logging: &LoggingArgs) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["agent".into()];
    let mut option = |name: &str, value: &str| arguments.extend([name.into(), value.into()]);
    option("--profile", &args.profile);
    option("--accel", &args.accel);
    if let Some(mode) = &args.mode {
        option("--mode", mode);
    }
    arguments.extend(logging.for_children());
    arguments
}

/// One run of the demo, after its control plane was started.
struct Session<'a> {
    args: &'a DemoArgs,
    logging: &'a LoggingArgs,
    begun: Instant,
    api: String,
    token_file: PathBuf,
    instances: watch::Receiver<Arc<Instances>>,
}

// === impl Session ===

impl Session<'_> {
    /// Runs until the window is closed or the check is done; for ever when headless.
    async fn run(self, viewer: Option<&mut Viewer>, automation: PathBuf) -> anyhow::Result<ExitCode> {
        let window = async {
            match viewer {
                Some(viewer) => viewer.closed().await,
                None => std::future::pending().await,
            }
        };
        let checked =
            async { if self.args.check { self.check(automation).await } else { std::future::pending().await } };
        // Ends only when a guest cannot be started.
        let guests = async {
            let found = self.wait_for_agents().await?;
            if self.args.json && !self.args.check {
                announce(&self.announcement(&found));
            }
            self.tell_progress().await;
            std::future::pending::<anyhow::Result<ExitCode>>().await
        };
        tokio::select! {
            done = checked => done,
            failed = guests => failed,
            closed = window => {
                closed?;
                anyhow::ensure!(!self.args.check, "the window was closed during the check");
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    async fn check(&self, automation: PathBuf) -> anyhow::Result<ExitCode> {
        let check = CheckArgs {
            api: self.api.clone(),
            token_file: self.token_file.clone(),
            automation,
            instances: self.args.instances.into(),
            screenshot: self.args.screenshot.clone(),
            deadline: CHECK_DEADLINE,
        };
        let report = loco_bench::check(check, tell).await?;
        announce(&serde_json::to_value(&report)?);
        Ok(report.exit_code())
    }

    fn viewer_arguments(&self, automation: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["view".into(), "--api".into(), self.api.clone().into()];
        arguments.extend(["--token-file".into(), self.token_file.clone().into(), "--follow".into()]);
        if self.args.check || self.args.automation.is_some() {
            arguments.extend(["--automation".into(), automation.into()]);
        }
        if self.args.offscreen {
            arguments.push("--offscreen".into());
        }
        arguments.extend(self.logging.for_children_on_stderr());
        arguments
    }

    /// Waits until every agent answers; a guest that cannot be started at all ends the demo with its reason.
    async fn wait_for_agents(&self) -> anyhow::Result<Arc<Instances>> {
        let mut instances = self.instances.clone();
        let expected = usize::from(self.args.instances);
        let answering = instances.wait_for(|instances| {
            let all = || instances.all.values();
            let failed = all().any(|instance| instance.state == InstanceState::Failed);
            let answered = all().filter(|instance| instance.endpoints.is_some()).count();
            failed || answered == expected
        });
        let found = tokio::time::timeout(ANSWER_TIMEOUT, answering)
            .await
            .map_err(|_| {
                anyhow::anyhow!("not all of {expected} agents answered within {} s", ANSWER_TIMEOUT.as_secs())
            })?
            .context("the control plane ended")?
            .clone();
        if let Some(failed) = found.all.values().find(|instance| instance.state == InstanceState::Failed) {
            bail!("{} cannot be started: {}", failed.id, failed.reason.as_deref().unwrap_or("for an unknown reason"));
        }
        Ok(found)
    }

    fn announcement(&self, found: &Instances) -> Value {
        let instances: Vec<Value> = found
            .all
            .values()
            .map(|instance| json!({"id": instance.id, "agent": instance.endpoints.as_ref().map(|e| &e.agent)}))
            .collect();
        json!({"api": self.api, "token_file": self.token_file, "instances": instances})
    }

    /// Tells a person how far it is, until every guest is live once.
    async fn tell_progress(&self) {
        let mut progress = Progress::new(self.args.instances.into(), self.begun);
        let mut instances = self.instances.clone();
        loop {
            let live = instances.borrow_and_update().all.values().filter(|i| i.state == InstanceState::Live).count();
            if progress.tell(live) || instances.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Prints one line for machines.
fn announce(value: &Value) {
    let mut stdout = std::io::stdout();
    // A reader that went away needs no line.
    let _ = writeln!(stdout, "{value}").and_then(|()| stdout.flush());
}
