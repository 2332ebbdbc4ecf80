//! The window as a child process.

use anyhow::{Context as _, bail};
use loco_process::{DeathSignal, Spawner, terminate_and_wait};
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// How long the window may take to close.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// A viewer that runs.
pub(super) struct Viewer {
    child: Child,
}

impl Viewer {
    pub(super) async fn start(program: &Path, arguments: Vec<OsString>) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        // In a process group of its own: Ctrl+C in the terminal is for the demo, which then ends its children.
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        let child = Spawner::shared()?
            .spawn(command, DeathSignal::Terminate)
            .await
            .with_context(|| format!("the viewer {} cannot be started", program.display()))?;
        Ok(Self { child })
    }

    /// Waits until the window is closed.
    ///
    /// # Errors
    /// When the viewer ended for another reason; it has told why on stderr itself.
    pub(super) async fn closed(&mut self) -> anyhow::Result<()> {
        let status = self.child.wait().await.context("the viewer cannot be waited for")?;
        if !status.success() {
            bail!("the viewer ended with {status}");
        }
        Ok(())
    }

    /// Closes the window.
    pub(super) async fn end(mut self) {
        if let Err(error) = terminate_and_wait(&mut self.child, END_PATIENCE).await {
            tracing::warn!("the viewer cannot be ended: {error}");
        }
    }
}
