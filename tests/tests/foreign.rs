//! A guest that this project did not write, by a profile file.

use anyhow::{Context, Result, ensure};
use loco_model::InstanceState;
use loco_tests::picture::Picture;
use loco_tests::wait::wait_for;
use loco_tests::wall::{Options, START, Wall};
use std::path::Path;

/// Debian's package memtest86+.
const KERNEL: &str = "/boot/memtest86+x64.bin";

/// VGA's blue, memtest86+'s background, after conversion to YUV and back.
fn is_blue([red, green, blue]: [u8; 3]) -> bool {
    red < 60 && green < 60 && (120..220).contains(&blue)
}

#[tokio::test]
async fn memtest_runs_and_is_seen() -> Result<()> {
    ensure!(Path::new(KERNEL).exists(), "{KERNEL} is missing: cargo xtask setup");
    let folder = tempfile::tempdir()?;
    let profile = folder.path().join("memtest.json");
    let text = format!(r#"{{"name":"memtest86+","hardware":{{"memory_mib":64}},"kernel":{{"image":"{KERNEL}"}}}}"#);
    std::fs::write(&profile, text)?;
    let profile = profile.to_str().context("a path of UTF-8")?;
    let arguments = ["-n", "1", "--profile", profile].map(str::to_owned).to_vec();
    let wall = Wall::start(Options { name: "memtest", arguments, environment: Vec::new() }).await?;
    let seen = wait_for("memtest86+ on the screen", START, async || {
        let state = wall.tiles().await?.first().context("the wall is empty")?.state;
        ensure!(state == InstanceState::Live, "the tile is {state:?}");
        let picture = wall.desktop.capture_part(wall.place(0).await?)?;
        let share = picture.share(is_blue);
        ensure!(share > 0.5, "{:.0} % of the tile is blue", share * 100.0);
        Ok(picture)
    })
    .await?;
    wait_for("its clock to go on", START, async || {
        let picture = wall.desktop.capture_part(wall.place(0).await?)?;
        ensure!(picture != seen, "the tile does not change");
        Ok(())
    })
    .await?;
    wall.save_screen("seen")?;
    let url = format!("{}/screenshot.png", wall.agent(0).await?);
    let response = wall.http.send(wall.http.request(reqwest::Method::GET, &url), &url).await?;
    let picture = Picture::from_png(&response.bytes().await?)?;
    wall.save(&picture, "screenshot")?;
    ensure!(picture.share(is_blue) > 0.5, "the agent's screenshot is not blue");
    wall.stop().await
}
