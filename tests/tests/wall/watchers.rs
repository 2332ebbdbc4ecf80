//! Several people watch: two viewers, and a browser.

use crate::{BROWSED, Stage};
use anyhow::{Context, Result, ensure};
use loco_bench::chromium::Player;
use loco_model::{InstanceState, Key};
use loco_tests::artifacts;
use loco_tests::picture::Picture;
use loco_tests::wait::wait_for;
use loco_tests::wall::{self, START, Wall};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

pub(crate) async fn two_viewers_show_the_same_key(stage: &mut Stage) -> Result<()> {
    let wall = &stage.wall;
    let mut second = wall.second_viewer().await?;
    wait_for("all tiles of the second viewer to be live", START, async || {
        for tile in wall::tiles(&second.automation).await? {
            ensure!(tile.state == InstanceState::Live && tile.picture.is_some(), "{} is {:?}", tile.id, tile.state);
        }
        Ok(())
    })
    .await?;
    let key: Key = "KeyX".parse()?;
    let index = wall.len() - 1;
    wall.tap(index, key.code()).await?;
    let shot = artifacts()?.join("wall-second-viewer.png");
    wait_for("both viewers to show the key", SOON, async || {
        let first = wall.barcode(index).await?;
        ensure!(first.input_code == u16::from(key.qnum()), "the first shows {first:?}");
        second.automation.screenshot(&shot).await?;
        let picture = Picture::from_png(&std::fs::read(&shot)?)?;
        let tiles = wall::tiles(&second.automation).await?;
        let [x, y, width, height] = tiles[index].picture.context("no picture")?;
        let reading = picture.part(loco_model::Rect { x, y, width, height }).barcode()?;
        ensure!(reading.input_code == u16::from(key.qnum()), "the second shows {reading:?}");
        Ok(())
    })
    .await?;
    loco_process::terminate_and_wait(&mut second.child, SOON).await?;
    // The one that stayed goes on.
    advances(wall, index).await
}

pub(crate) async fn a_browser_plays_one_with_picture_and_sound(stage: &mut Stage) -> Result<()> {
    let wall = &stage.wall;
    let whep = wall.instance(BROWSED).await?.endpoints.context("no address")?.whep;
    let mut player = Player::start(wall.http.clone(), &[]).await?;
    let stream = player.play(&whep, true).await?;
    player.watch(stream).await?;
    let mut seen = 0;
    let first = wait_for("the browser to show the guest's barcode", SOON, async || {
        let sightings = player.take(stream).await?;
        seen += sightings.len();
        let reading = sightings.iter().rev().find_map(loco_bench::chromium::Sighting::reading);
        let reading = reading.with_context(|| format!("no barcode in {seen} frames"))?;
        ensure!(usize::from(reading.instance) == BROWSED, "it shows {reading:?}");
        Ok(reading)
    })
    .await?;
    wait_for("the browser's picture to advance", SOON, async || {
        let reading = player.take(stream).await?.iter().rev().find_map(loco_bench::chromium::Sighting::reading);
        ensure!(reading.is_some_and(|now| now.counter > first.counter), "it shows {reading:?}");
        Ok(())
    })
    .await?;
    let energy = |counters: &[loco_bench::chromium::Counters]| {
        counters.get(stream).and_then(|counter| counter.total_audio_energy).unwrap_or(0.0)
    };
    let before = energy(&player.counters().await?);
    wall.tap(BROWSED, "Space").await?;
    wait_for("the browser to hear the whistle", SOON, async || {
        let now = energy(&player.counters().await?);
        // 0.8 s of a sine at -12 dBFS have the energy 0.8 * 0.25^2 / 2 = 0.025 (WebRTC statistics, totalAudioEnergy).
        ensure!(now - before > 0.01, "sound energy {before} -> {now}");
        Ok(())
    })
    .await?;
    player.stop().await;
    // The window goes on.
    advances(wall, BROWSED).await
}

/// The tile's picture in the window goes on.
pub(crate) async fn advances(wall: &Wall, index: usize) -> Result<()> {
    let before = wall.barcode(index).await?;
    wait_for(&format!("tile {index} to advance"), SOON, async || {
        let now = wall.barcode(index).await?;
        ensure!(now.counter > before.counter, "{now:?}");
        Ok(())
    })
    .await
}
