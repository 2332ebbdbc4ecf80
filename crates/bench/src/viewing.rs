//! A viewer without a window, as benchmarks and tests open it.

use crate::tiles::Tiles;
use anyhow::{Context, Result, bail};
use loco_process::{DeathSignal, Spawner};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// Between two looks at the wall.
const LOOK: Duration = Duration::from_millis(50);

/// What a viewer is told.
pub(crate) struct View<'a> {
    /// The executable.
    pub(crate) loco: &'a Path,
    /// The control plane's address.
    pub(crate) api: &'a str,
    pub(crate) token_file: &'a Path,
    /// Where it shall listen for orders.
    pub(crate) socket: &'a Path,
    pub(crate) arguments: &'a [String],
    /// Its sound server.
    pub(crate) sound: Vec<(String, String)>,
}

impl View<'_> {
    /// Opens it, 1280x960, and connects to it.
    ///
    /// # Errors
    /// When it does not start, or does not listen by `deadline`.
    pub(crate) async fn open(self, deadline: Instant) -> Result<(Child, Tiles)> {
        let mut command = Command::new(self.loco);
        command
            .args(["view", "--offscreen", "--size", "1280x960", "--api", self.api, "--token-file"])
            .arg(self.token_file)
            .arg("--automation")
            .arg(self.socket)
            .args(self.arguments)
            .envs(self.sound)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        let child = Spawner::shared()?.spawn(command, DeathSignal::Terminate).await;
        let mut child = child.context("cannot start the viewer")?;
        let tiles = connect(&mut child, self.socket, deadline).await?;
        Ok((child, tiles))
    }
}

/// Connects to the viewer at `socket`, which `process` is or opens, as soon as it is there.
///
/// # Errors
/// When it is not there by `deadline`, or `process` has ended: then at once.
pub(crate) async fn connect(process: &mut Child, socket: &Path, deadline: Instant) -> Result<Tiles> {
    tokio::select! {
        tiles = Tiles::connect(socket, deadline) => tiles,
        ended = process.wait() => bail!("no viewer at {}: it ended at its start ({})", socket.display(), ended?),
    }
}

/// Waits until `count` tiles have a picture.
///
/// # Errors
/// When they have not by `deadline`, or the viewer is gone.
pub(crate) async fn wait_pictures(tiles: &mut Tiles, count: usize, deadline: Instant) -> Result<()> {
    loop {
        let wall = tiles.wall().await?;
        let with_picture = wall.tiles.iter().filter(|tile| tile.picture.is_some()).count();
        if with_picture >= count {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("only {with_picture} of {count} tiles had a picture in time");
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_viewer_that_ended_is_not_waited_for() {
        let mut ended = Command::new("false").spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(3_600);
        let Err(error) = connect(&mut ended, Path::new("/nonexistent/socket"), deadline).await else {
            panic!("there is none")
        };
        assert!(error.to_string().contains("ended at its start (exit status: 1)"), "{error}");
    }
}
