//! A sound server of our own with sinks that nobody hears: so that sound runs, breaks and is recorded on machines without
//! a sound card. PulseAudio, or PipeWire with WirePlumber and its PulseAudio part.

use anyhow::{Context, Result, bail};
use loco_process::{DeathSignal, RunDir, Spawner};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// Name of the sink that is there from the start, and the default one; its monitor is `loco.monitor`.
pub const SINK: &str = "loco";

const START: Duration = Duration::from_secs(20);
/// Pause between two looks at a program that starts.
const LOOK: Duration = Duration::from_millis(20);

/// Which sound server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PulseAudio.
    PulseAudio,
    /// PipeWire, WirePlumber and pipewire-pulse.
    PipeWire,
}

/// A private sound server with a null sink of 48 kHz. Ends when dropped.
pub struct SoundServer {
    kind: Kind,
    /// D-Bus for PipeWire's parts; outlives them.
    bus: Option<Child>,
    daemons: Vec<Child>,
    keeper: Option<Child>,
    dir: RunDir,
    socket: PathBuf,
}

impl SoundServer {
    /// Starts PulseAudio and waits until it takes connections.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn start() -> Result<Self> {
        Self::start_kind(Kind::PulseAudio).await
    }

    /// Starts one of a kind and waits until its sink is there.
    ///
    /// # Errors
    /// When a part of it is not installed or does not start.
    pub async fn start_kind(kind: Kind) -> Result<Self> {
        let dir = RunDir::create("sound")?;
        let socket = match kind {
            Kind::PulseAudio => dir.socket("native")?,
            Kind::PipeWire => dir.path().join("pulse/native"),
        };
        let mut server = Self { kind, bus: None, daemons: Vec::new(), keeper: None, dir, socket };
        if kind == Kind::PipeWire {
            let mut bus = server.daemon("dbus-daemon");
            bus.args(["--session", "--nofork"]).arg(format!("--address={}", server.bus_address()));
            server.bus = Some(spawn(bus, "dbus-daemon").await?);
            connect(&server.dir.path().join("bus"), &mut server.bus.iter_mut().collect::<Vec<_>>()).await?;
        }
        server.restart().await?;
        Ok(server)
    }

    /// Which one it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What a program needs in its environment to play here, and nowhere else.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let mut pairs = vec![
            ("PULSE_SERVER", format!("unix:{}", self.socket.display())),
            ("PULSE_RUNTIME_PATH", path("pulse")),
            // Clients look for a cookie there and must not find a person's.
            ("PULSE_COOKIE", path("cookie")),
            ("DBUS_SESSION_BUS_ADDRESS", self.bus_address()),
        ];
        if self.kind == Kind::PipeWire {
            pairs.push(("PIPEWIRE_RUNTIME_DIR", self.dir.path().display().to_string()));
        }
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Starts the daemons (again, after [`SoundServer::kill`]) at the same address, with [`SINK`] as the only sink.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn restart(&mut self) -> Result<()> {
        if self.socket.exists() {
            std::fs::remove_file(&self.socket).context("cannot remove the old socket")?;
        }
        match self.kind {
            Kind::PulseAudio => self.start_pulseaudio().await?,
            Kind::PipeWire => self.start_pipewire().await?,
        }
        // The first stream on PulseAudio's null sink at rest is stopped for up to 2 s. One that never ends takes that on
        // itself.
        if self.kind == Kind::PulseAudio {
            let mut keeper = self.client("pacat");
            keeper.args(["--playback", "--raw", "--latency-msec=200"]).arg(format!("--device={SINK}")).arg("/dev/zero");
            self.keeper = Some(spawn(keeper, "pacat").await?);
        }
        Ok(())
    }

    async fn start_pulseaudio(&mut self) -> Result<()> {
        let protocol =
            format!("load-module module-native-protocol-unix auth-anonymous=1 socket={}", self.socket.display());
        let sink = format!("load-module module-null-sink sink_name={SINK} rate=48000 channels=2");
        let script = self.dir.path().join("default.pa");
        std::fs::write(&script, format!("{protocol}\n{sink}\nset-default-sink {SINK}\n"))?;
        let mut command = self.daemon("pulseaudio");
        command
            .args(["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes"])
            // Its defaults, which rtkit grants it on a desktop: its sink is served in real time, its clients before other
            // programs. Without leave for it, it runs all the same.
            .args(["--realtime=yes", "--high-priority=yes", "-F"])
            .arg(&script);
        self.daemons = vec![spawn(command, "pulseaudio").await?];
        connect(&self.socket, &mut self.daemons.iter_mut().collect::<Vec<_>>()).await
    }

    async fn start_pipewire(&mut self) -> Result<()> {
        self.daemons = vec![spawn(self.daemon("pipewire"), "pipewire").await?];
        let socket = self.dir.path().join("pipewire-0");
        connect(&socket, &mut self.daemons.iter_mut().collect::<Vec<_>>()).await?;
        for part in ["wireplumber", "pipewire-pulse"] {
            self.daemons.push(spawn(self.daemon(part), part).await?);
        }
        connect(&self.socket, &mut self.daemons.iter_mut().collect::<Vec<_>>()).await?;
        self.add_sink(SINK).await?;
        // WirePlumber takes its time to see it.
        self.control_soon(&["set-default-sink", SINK]).await?;
        self.until_default(SINK).await
    }

    /// kill -9 of every daemon.
    ///
    /// # Errors
    /// When one does not run.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        for mut daemon in self.daemons.drain(..) {
            daemon.wait().await?;
        }
        Ok(())
    }

    /// Sends every daemon a signal: `STOP` makes them hang, `CONT` go on.
    ///
    /// # Errors
    /// When one does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        for daemon in &self.daemons {
            let pid = daemon.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
            kill_process(pid.context("a sound server does not run")?, signal).context("no signal")?;
        }
        Ok(())
    }

    /// One more null sink.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn add_sink(&self, name: &str) -> Result<()> {
        let arguments = [format!("sink_name={name}"), "rate=48000".into(), "channels=2".into()];
        let mut all = vec!["load-module", "module-null-sink"];
        all.extend(arguments.iter().map(String::as_str));
        self.control_soon(&all).await
    }

    /// Makes a sink the default one.
    ///
    /// # Errors
    /// When there is no such sink.
    pub async fn set_default_sink(&self, name: &str) -> Result<()> {
        self.control_soon(&["set-default-sink", name]).await?;
        self.until_default(name).await
    }

    /// Removes all null sinks, as when the last device is unplugged. PipeWire then makes one of its own, `auto_null`.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn remove_sinks(&self) -> Result<()> {
        self.control(&["unload-module", "module-null-sink"]).await.map(drop)
    }

    /// Runs `pactl`.
    ///
    /// # Errors
    /// When it fails: its words.
    pub async fn control(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.client("pactl");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).args(arguments);
        let output = command.output().await.context("cannot run pactl")?;
        if !output.status.success() {
            bail!("pactl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same, until it succeeds: a server that has just started may not be ready for it.
    async fn control_soon(&self, arguments: &[&str]) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            match self.control(arguments).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    async fn until_default(&self, name: &str) -> Result<()> {
        let deadline = Instant::now() + START;
        while self.control(&["get-default-sink"]).await?.trim() != name {
            if Instant::now() > deadline {
                bail!("{name} did not become the default sink");
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// A client of this server: its environment set, nothing on its standard streams.
    #[must_use]
    pub fn client(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.kill_on_drop(true);
        command
    }

    /// The same, not kept waiting by whatever else the machine does, where that is allowed.
    pub async fn prompt_client(&self, program: impl AsRef<OsStr>) -> Command {
        let hurry = ["-r", "3"];
        let allowed = Command::new("chrt").args(hurry).arg("true").stderr(Stdio::null()).status().await;
        if !allowed.is_ok_and(|status| status.success()) {
            return self.client(program);
        }
        let mut command = self.client("chrt");
        command.args(hurry).arg(program);
        command
    }

    fn daemon(&self, program: &str) -> Command {
        let folder = self.dir.path();
        let mut command = self.client(program);
        command.env("HOME", folder).env("XDG_RUNTIME_DIR", folder).env_remove("PULSE_SERVER");
        command.env("XDG_CONFIG_HOME", folder.join("config")).env("XDG_STATE_HOME", folder.join("state"));
        command
    }

    /// PulseAudio must neither find nor start a session bus; PipeWire's parts need one.
    fn bus_address(&self) -> String {
        match self.kind {
            Kind::PulseAudio => "none:".to_owned(),
            Kind::PipeWire => format!("unix:path={}", self.dir.path().join("bus").display()),
        }
    }
}

async fn spawn(command: Command, name: &str) -> Result<Child> {
    Spawner::shared()?.spawn(command, DeathSignal::Kill).await.with_context(|| format!("cannot start {name}"))
}

/// Waits until something answers at `socket`, as long as all of these run.
async fn connect(socket: &Path, daemons: &mut [&mut Child]) -> Result<()> {
    let deadline = Instant::now() + START;
    while UnixStream::connect(socket).await.is_err() {
        for daemon in daemons.iter_mut() {
            if let Some(status) = daemon.try_wait()? {
                bail!("a sound server ended ({status})");
            }
        }
        if Instant::now() > deadline {
            bail!("nothing took connections at {} within {START:?}", socket.display());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
