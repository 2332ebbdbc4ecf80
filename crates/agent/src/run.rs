//! From the arguments to a running agent, and to its end.

use crate::agent::Agent;
use crate::args::AgentArgs;
use crate::bridge::{LastPicture, Loudspeaker, Outlet, Screen};
use crate::caps::Caps;
use crate::heart::Heart;
use crate::input::inject_sessions;
use crate::logs::Ring;
use crate::repair::Repair;
use crate::seats::Seats;
use crate::{ask, heart, http, logs, repair, usage};
use anyhow::Context as _;
use loco_guest::{Guest, GuestConfig, GuestState, GuestStatus, Profile, Target};
use loco_http::{Guard, Limits, Server, TokenFile};
use loco_media::sound::SoundEncoder;
use loco_media::sound::playback::favour_this_thread_if_allowed;
use loco_media::{Canvas, EncoderKind, Sender, SenderConfig};
use loco_process::RunDir;
use serde_json::json;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Threads of the runtime.
const WORKERS: usize = 2;

/// How long viewers are given to take our goodbye.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// Exit status of an agent that ended to be started again (`EX_TEMPFAIL` of sysexits.h).
const AGAIN: u8 = 75;

/// Runs the agent until it is told to stop (SIGTERM or SIGINT), or asks one that runs.
///
/// # Errors
/// When it cannot start: port in use, bad token file, bad profile, missing QEMU. What fails later is in its reports.
pub fn run(args: &AgentArgs) -> anyhow::Result<ExitCode> {
    if let Some(command) = &args.command {
        return ask::run(command);
    }
    // Two threads: one for the guest's display and sound, one that answers meanwhile. Encoders have their own.
    let started = AtomicUsize::new(0);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("agent")
        // Threads that start later are for work that blocks.
        .on_thread_start(move || {
            if started.fetch_add(1, Ordering::Relaxed) < WORKERS {
                favour_this_thread_if_allowed();
            }
        })
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(serve(args));
    // A thread that hangs in a library must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

async fn serve(args: &AgentArgs) -> anyhow::Result<ExitCode> {
    // First of all: a signal during the start must end it as cleanly as later.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut stop_asked = async move || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let started = tokio::select! {
        started = Running::start(args) => started?,
        name = stop_asked() => {
            tracing::info!("{name} during the start: ended");
            return Ok(ExitCode::SUCCESS);
        }
    };
    if args.json {
        let line = json!({
            "address": started.url, "instance": args.instance, "pid": std::process::id(),
        });
        // The one who started us reads this; when nobody does, the agent is as useful as before.
        let _ = writeln!(std::io::stdout(), "{line}").and_then(|()| std::io::stdout().flush());
    }
    tracing::info!(instance = %args.instance, url = started.url, "agent answers");
    let again = started.agent.again.clone();
    let code = tokio::select! {
        name = stop_asked() => {
            tracing::info!("{name}: powering the guest down");
            ExitCode::SUCCESS
        }
        () = again.cancelled() => {
            tracing::warn!("ordered to be started again: powering the guest down");
            ExitCode::from(AGAIN)
        }
    };
    // One that is frozen does not power down.
    let is_frozen = started.agent.liveness.borrow().frozen == Some(true);
    let patience = if is_frozen { Duration::ZERO } else { Duration::from_secs(args.power_down) };
    tokio::select! {
        () = started.stop(patience) => {}
        name = stop_asked() => tracing::warn!("{name} again: ended at once"),
    }
    Ok(code)
}

struct Running {
    url: String,
    agent: Arc<Agent>,
    served: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
    /// Removed at the end, and those of dead owners with it.
    _run_dir: Option<RunDir>,
}

// === impl Running ===

impl Running {
    async fn start(args: &AgentArgs) -> anyhow::Result<Self> {
        let token_file = args.token_file.as_ref().context("--token-file is missing")?;
        let tokens = TokenFile::open(token_file)?;
        let mut profile = Profile::find(&args.profile)?;
        if let Some(mode) = &args.mode {
            anyhow::ensure!(
                profile.set_kernel_argument("mode", mode),
                "--mode {mode} is for guests that are started by a kernel; profile {} has none",
                args.profile
            );
        }
        let (run_dir, state_dir) = state_dir(args)?;
        let server = Server::bind(args.listen).await?;
        let url = server.url();

        let canvas = Canvas::new();
        let sender = Sender::start(
            SenderConfig {
                rtc_ports: args.rtc_ports,
                bind: args.rtc_address.unwrap_or(args.listen.ip()),
                max_fps: args.max_fps,
                bit_rate: args.bit_rate.map(|kilobits| kilobits * 1000),
                encoders: EncoderKind::ALL.to_vec(),
            },
            canvas.clone(),
        )?;
        let sound = SoundEncoder::new(Outlet(sender.sound_outlet())).context("the sound encoder does not start")?;
        let (size_in, size) = watch::channel(None);
        let has_sound = profile.audio.card != loco_guest::profile::AudioCard::None;
        let has_network = profile.network.card != loco_guest::profile::NetworkCard::None;
        let config = GuestConfig {
            profile,
            instance: args.instance,
            state_dir: state_dir.clone(),
            accelerator: args.accel,
            qemu: None,
            target: Target::Running,
            start_from: args.start_from.clone(),
        };
        let last_picture = LastPicture::default();
        let screen = Screen::new(canvas.clone(), size_in, last_picture.clone());
        let guest = Guest::start(config, Box::new(screen), Box::new(Loudspeaker(sound.clone()))).await?;

        // Before QEMU's first line, if that can be.
        let log_lines = guest.log_lines();
        let (started_in, started) = watch::channel(false);
        let (usage, keeping) = usage::keeper(&state_dir);
        let stop = CancellationToken::new();
        // The guest made the folder, and holds it.
        let repair = tokio::task::spawn_blocking(move || Repair::open(&state_dir, last_picture));
        let agent = Arc::new(Agent {
            id: args.instance,
            canvas,
            size,
            status: guest.state(),
            liveness: guest.liveness(),
            input: guest.input(),
            guest,
            caps: Arc::new(Caps::new(sender.clone(), args.max_fps)),
            sender,
            sound,
            has_sound,
            has_network,
            sampler: crate::process::Sampler::new(),
            seats: Seats::new(usage.holder()),
            usage,
            repair: repair.await.context("the ledger cannot be read")?,
            logs: Ring::shared(),
            heart: Heart::new(),
            started,
            again: CancellationToken::new(),
            stop: stop.clone(),
        });
        if let Some(inputs) = agent.sender.input() {
            tokio::spawn(inject_sessions(inputs, agent.clone()));
        }
        if let Some(ends) = agent.guest.ends() {
            tokio::spawn(repair::own::follow(agent.clone(), ends));
        }
        tokio::spawn(agent.repair.book.clone().keep_written(repair::WRITE_AGAIN, stop.clone()));
        tokio::spawn(logs::collect(log_lines, agent.logs.clone()));
        tokio::spawn(heart::watch(agent.clone()));
        tokio::spawn(keeping.run(agent.caps.clone(), agent.status.clone(), stop.clone()));
        tokio::spawn(first_start(agent.status.clone(), agent.size.clone(), started_in));
        let guard = Guard::new(tokens)
            .open_path("/")
            .listening_at(args.listen.ip())
            .allow_hosts(args.allow_hosts.iter().cloned())
            .allow_origins(args.allow_origins.iter().cloned());
        let routes = http::roles(guard).protect(http::routes(agent.clone()), Limits::default());
        let served = tokio::spawn(server.serve(routes, stop.clone()));
        Ok(Self { url, agent, served, stop, _run_dir: run_dir })
    }

    /// Says goodbye to viewers, powers the guest down, ends the server: all at once.
    async fn stop(self, patience: Duration) {
        self.stop.cancel();
        let goodbye = async {
            if tokio::time::timeout(GOODBYE_TIMEOUT, self.agent.sender.close()).await.is_err() {
                tracing::warn!("viewers were not told of the end in time");
            }
        };
        let guest = async {
            if let Err(error) = self.agent.guest.power_down(patience).await {
                tracing::debug!(%error, "the guest was gone already");
            }
        };
        let ((), (), served) = tokio::join!(goodbye, guest, self.served);
        if let Err(error) = served {
            tracing::error!("the server broke: {error}");
        }
    }
}

/// Tells when QEMU has run once, and its display was attached.
async fn first_start(
    mut status: watch::Receiver<GuestStatus>,
    mut size: watch::Receiver<Option<loco_model::Size>>,
    started: watch::Sender<bool>,
) {
    // Errors say that the guest was ended before.
    let ran = status.wait_for(|status| matches!(status.state, GuestState::Running | GuestState::Paused)).await.is_ok();
    if ran && size.wait_for(Option::is_some).await.is_ok() {
        started.send_replace(true);
    }
}

/// The folder for the guest's state; a private one that ends with us where none is given.
fn state_dir(args: &AgentArgs) -> anyhow::Result<(Option<RunDir>, PathBuf)> {
    if let Some(dir) = &args.state_dir {
        return Ok((None, dir.clone()));
    }
    let run_dir = RunDir::create(&format!("agent-{}", args.instance.index()))?;
    let path = run_dir.path().join("state");
    Ok((Some(run_dir), path))
}
