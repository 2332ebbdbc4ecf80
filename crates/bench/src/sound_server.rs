//! A sound server of our own with one sink that nobody hears: so that sound runs on machines without a sound card.

use anyhow::{Context, Result, bail};
use loco_process::{DeathSignal, RunDir, Spawner};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// Name of the sink; its monitor is `loco.monitor`.
pub const SINK: &str = "loco";

/// A private PulseAudio with a null sink of 48 kHz. Ends when dropped.
pub struct SoundServer {
    _child: Child,
    dir: RunDir,
    socket: PathBuf,
}

impl SoundServer {
    /// Starts it and waits until it takes connections.
    ///
    /// # Errors
    /// When PulseAudio is not installed or does not start.
    pub async fn start() -> Result<Self> {
        let dir = RunDir::create("sound")?;
        let socket = dir.socket("native")?;
        let protocol = format!("load-module module-native-protocol-unix auth-anonymous=1 socket={}", socket.display());
        let sink = format!("load-module module-null-sink sink_name={SINK} rate=48000 channels=2");
        let script = dir.path().join("default.pa");
        std::fs::write(&script, format!("{protocol}\n{sink}\nset-default-sink {SINK}\n"))?;
        let mut command = Command::new("pulseaudio");
        command
            .args(["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes"])
            .args(["--realtime=no", "--high-priority=no", "-F"])
            .arg(&script)
            .env("HOME", dir.path())
            .env("XDG_RUNTIME_DIR", dir.path())
            .env("PULSE_RUNTIME_PATH", dir.path().join("pulse"))
            // It must neither find nor start a session bus.
            .env("DBUS_SESSION_BUS_ADDRESS", "none:")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child =
            Spawner::shared()?.spawn(command, DeathSignal::Kill).await.context("cannot start pulseaudio")?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(&socket).await.is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("pulseaudio ended ({status})");
            }
            if Instant::now() > deadline {
                bail!("pulseaudio took no connection within 10 s");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Self { _child: child, dir, socket })
    }

    /// What its clients need in their environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("PULSE_SERVER", format!("unix:{}", self.socket.display())),
            // Clients look for a cookie there and must not find a person's.
            ("PULSE_COOKIE", self.dir.path().join("cookie").display().to_string()),
        ]
    }
}
