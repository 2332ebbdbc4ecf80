//! Row 6: how long one waits for the wall.

use super::{Lab, object};
use crate::report::{Condition, Row};
use crate::sound_server::SoundServer;
use crate::stats::{Summary, round};
use crate::viewing::connect;
use crate::x11::XServer;
use anyhow::{Context, Result, bail, ensure};
use loco_model::{InstanceId, Size};
use loco_process::{DeathSignal, RunDir, Spawner, terminate_and_wait};
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

const HOW: &str = "Everything built and in the page cache. The clock starts before `loco demo` (nine guests, with its window on an Xvfb) \
    is started and stops when all nine tiles have presented an advancing barcode of their own number, read back from the presented \
    target. In a checkout the time that `cargo xtask demo` takes before it becomes `loco demo` is measured apart and added.";
const TRIALS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// Row 6.
pub(super) async fn nine_tiles(lab: &Lab) -> Result<Row> {
    let screen = XServer::start(Size::new(1280, 960)).await?;
    let sound = SoundServer::start().await?;
    let mut seconds = Vec::new();
    // The first one warms the page cache and does not count.
    for trial in 0..=TRIALS {
        let took = start(&lab.loco, &screen, &sound).await?;
        if trial > 0 {
            seconds.push(took);
        }
    }
    let before = xtask().await;
    let summary = Summary::of(&seconds);
    // Without what belongs to it, it would look faster than it is.
    let slowest = summary.zip(before.as_ref().ok()).map(|(summary, before)| summary.max + before.unwrap_or(0.0));
    let before = before.inspect_err(|error| tracing::warn!("xtask was not measured: {error:#}")).ok().flatten();
    let conditions = vec![Condition::at_most("slowest start, s,", slowest, 3.0)];
    let mut row = Row::new(6, "start -> nine live tiles, warm", "s", HOW, conditions);
    row.ours = object([
        ("start_s", json!(summary.map(|summary| summary.rounded(2)))),
        ("xtask_s", json!(before.map(|before| round(before, 2)))),
    ]);
    Ok(row)
}

/// Starts the demo, waits for all tiles, ends it; seconds until the last tile was live.
async fn start(loco: &Path, screen: &XServer, sound: &SoundServer) -> Result<f64> {
    let dir = RunDir::create("bench")?;
    let socket = dir.socket("viewer")?;
    let mut command = Command::new(loco);
    command
        .args(["demo", "--automation"])
        .arg(&socket)
        .env("DISPLAY", screen.display())
        .env_remove("WAYLAND_DISPLAY")
        .envs(sound.environment())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    let begun = Instant::now();
    let mut demo = Spawner::shared()?.spawn(command, DeathSignal::Terminate).await.context("cannot start the demo")?;
    let deadline = begun + PATIENCE;
    let ids: Vec<InstanceId> = InstanceId::all().collect();
    let mut tiles = connect(&mut demo, &socket, deadline).await?;
    let missing = tiles.wait_live(&ids, deadline).await?;
    let took = begun.elapsed().as_secs_f64();
    drop(tiles);
    terminate_and_wait(&mut demo, PATIENCE).await?;
    if !missing.is_empty() {
        bail!("these tiles did not come to life within {PATIENCE:?}: {missing:?}");
    }
    Ok(took)
}

/// Seconds that `cargo xtask demo` needs when there is nothing to build; nothing outside a checkout.
///
/// # Errors
/// When it fails in one.
async fn xtask() -> Result<Option<f64>> {
    if !Path::new("crates/xtask/Cargo.toml").is_file() {
        return Ok(None);
    }
    let mut slowest: f64 = 0.0;
    // Again the first one does not count: it may have to build.
    for trial in 0..=2 {
        let mut command = Command::new("cargo");
        command.args(["xtask", "demo", "--help"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        let status = command.status().await.context("cannot run cargo")?;
        ensure!(status.success(), "cargo xtask demo --help ended with {status}");
        if trial > 0 {
            slowest = slowest.max(begun.elapsed().as_secs_f64());
        }
    }
    Ok(Some(slowest))
}
