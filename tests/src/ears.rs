//! A sound server of one's own: a private PulseAudio with null sinks, whose monitors are recorded.

use crate::recording::Recording;
use crate::wait::wait_for;
use anyhow::{Context, Result, bail, ensure};
use loco_process::{DeathSignal, Spawner};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

/// The sink that is there from the start, and the default one.
pub const SINK: &str = "loco";

const START: Duration = Duration::from_secs(20);

/// A PulseAudio that no one else uses. It ends with this value, or with this process.
pub struct PulseServer {
    folder: TempDir,
    server: Option<Child>,
    keeper: Option<Child>,
}

/// A recording that goes on.
pub struct Recorder {
    parec: Child,
}

impl PulseServer {
    /// Starts it with one null sink, [`SINK`].
    ///
    /// # Errors
    /// When PulseAudio is missing or does not start.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("loco-pulse").tempdir().context("no folder for PulseAudio")?;
        let mut server = Self { folder, server: None, keeper: None };
        server.restart().await?;
        Ok(server)
    }

    /// What a program needs in its environment to play here, and nowhere else.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let folder = self.folder.path().display();
        [
            ("PULSE_SERVER", format!("unix:{folder}/native")),
            ("PULSE_RUNTIME_PATH", format!("{folder}/pulse")),
            ("PULSE_COOKIE", format!("{folder}/cookie")),
            ("DBUS_SESSION_BUS_ADDRESS", "none:".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// Starts the server (again, after [`PulseServer::kill`]) at the same address.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self) -> Result<()> {
        let folder = self.folder.path();
        let socket = folder.join("native");
        if socket.exists() {
            std::fs::remove_file(&socket).context("can't remove the old socket")?;
        }
        let script = format!(
            "load-module module-native-protocol-unix auth-anonymous=1 socket={}\n\
             load-module module-null-sink sink_name={SINK} rate=48000 channels=2\n\
             set-default-sink {SINK}\n",
            socket.display()
        );
        std::fs::write(folder.join("pulse.pa"), script).context("can't write PulseAudio's script")?;
        let mut command = self.command("pulseaudio");
        command.env("HOME", folder).env("XDG_RUNTIME_DIR", folder).args([
            "-n",
            "--daemonize=no",
            "--exit-idle-time=-1",
            "--use-pid-file=no",
            "--disable-shm=yes",
            "--realtime=no",
            "--high-priority=no",
            "-F",
        ]);
        command.arg(folder.join("pulse.pa"));
        let server = Spawner::shared()?.spawn(command, DeathSignal::Kill).await.context("can't start pulseaudio")?;
        self.server = Some(server);
        wait_for("PulseAudio", START, async || self.control(&["info"]).await.map(drop)).await?;
        // The first stream on a null sink at rest is stopped for up to 2 s. One that never ends takes that on itself.
        let mut keeper = self.command("pacat");
        keeper.arg("--playback").arg("--raw").arg(format!("--device={SINK}")).arg("/dev/zero");
        self.keeper = Some(Spawner::shared()?.spawn(keeper, DeathSignal::Kill).await.context("can't start pacat")?);
        Ok(())
    }

    /// kill -9.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        if let Some(mut server) = self.server.take() {
            server.wait().await?;
        }
        Ok(())
    }

    /// Sends the server a signal: `STOP` makes it hang, `CONT` go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.server.as_ref().and_then(Child::id).and_then(|id| i32::try_from(id).ok());
        kill_process(pid.and_then(Pid::from_raw).context("PulseAudio does not run")?, signal).context("no signal")
    }

    /// One more null sink.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn add_sink(&self, name: &str) -> Result<()> {
        self.control(&["load-module", "module-null-sink", &format!("sink_name={name}"), "rate=48000", "channels=2"])
            .await
            .map(drop)
    }

    /// Makes a sink the default one.
    ///
    /// # Errors
    /// When there is no such sink.
    pub async fn set_default_sink(&self, name: &str) -> Result<()> {
        self.control(&["set-default-sink", name]).await.map(drop)
    }

    /// Removes all null sinks, as when the last device is unplugged.
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
        let mut command = self.command("pactl");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).args(arguments);
        let output = command.output().await.context("can't run pactl")?;
        if !output.status.success() {
            bail!("pactl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Records what [`SINK`] plays, for so long.
    ///
    /// # Errors
    /// When it can't be recorded.
    pub async fn record(&self, secs: f64) -> Result<Recording> {
        self.record_sink(SINK, secs).await
    }

    /// Records what a sink plays, for so long.
    ///
    /// # Errors
    /// When it can't be recorded.
    pub async fn record_sink(&self, sink: &str, secs: f64) -> Result<Recording> {
        let mut recorder = self.recorder(sink).await?;
        recorder.take(secs).await
    }

    /// Begins to record a sink.
    ///
    /// # Errors
    /// When `parec` can't be started.
    pub async fn recorder(&self, sink: &str) -> Result<Recorder> {
        let mut command = self.command("parec");
        command.stdout(Stdio::piped()).arg(format!("--device={sink}.monitor")).args([
            "--raw",
            "--format=float32le",
            "--rate=48000",
            "--channels=2",
            "--latency-msec=20",
        ]);
        let parec = Spawner::shared()?.spawn(command, DeathSignal::Kill).await.context("can't start parec")?;
        Ok(Recorder { parec })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.kill_on_drop(true);
        command
    }

    /// Where the server keeps its socket.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Recorder {
    /// The next `secs` seconds; waits until they have passed.
    ///
    /// # Errors
    /// When the recording ended, or the sound server gives nothing.
    pub async fn take(&mut self, secs: f64) -> Result<Recording> {
        let frames = (secs * f64::from(Recording::RATE_HZ)).round() as usize;
        let mut bytes = vec![0; frames * 8];
        let pipe = self.parec.stdout.as_mut().context("parec has no output")?;
        tokio::time::timeout(Duration::from_secs_f64(secs + 20.0), pipe.read_exact(&mut bytes))
            .await
            .context("the sound server gives nothing to record")?
            .context("the recording has ended")?;
        let recording = Recording::from_f32le(&bytes);
        ensure!(recording.frames() == frames, "recorded {} frames of {frames}", recording.frames());
        Ok(recording)
    }
}
