//! Ears at a sound server of one's own: what its sinks play is recorded from their monitors.

use crate::recording::Recording;
use anyhow::{Context, Result, ensure};
pub use loco_bench::sound_server::{Kind, SINK, SoundServer};
use loco_process::{DeathSignal, Spawner};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::process::Child;

/// A recording that goes on.
pub struct Recorder {
    parec: Child,
}

impl Recorder {
    /// Begins to record what a sink plays.
    ///
    /// # Errors
    /// When `parec` can't be started.
    pub async fn start(server: &SoundServer, sink: &str) -> Result<Self> {
        let mut command = server.prompt_client("parec").await;
        command.stdout(Stdio::piped()).arg(format!("--device={sink}.monitor")).args([
            "--raw",
            "--format=float32le",
            "--rate=48000",
            "--channels=2",
            "--latency-msec=20",
        ]);
        let parec = Spawner::shared()?.spawn(command, DeathSignal::Kill).await.context("can't start parec")?;
        Ok(Self { parec })
    }

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

/// Records what a sink plays, for so long.
///
/// # Errors
/// When it can't be recorded.
pub async fn record(server: &SoundServer, sink: &str, secs: f64) -> Result<Recording> {
    Recorder::start(server, sink).await?.take(secs).await
}
