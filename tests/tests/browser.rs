//! A browser behind a path that loses packets: it plays on.

use anyhow::{Context, Result, ensure};
use loco_bench::chromium::{Player, Sighting};
use loco_impair::{Direction, Impairment, Network};
use loco_tests::wait::wait_for;
use loco_tests::wall::{Options, Wall};
use std::net::SocketAddr;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
/// How long it plays under each loss.
const PLAY: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_browser_plays_on_through_loss() -> Result<()> {
    let arguments = ["-n", "1"].map(str::to_owned).to_vec();
    let wall = Wall::start(Options { name: "browser", arguments, environment: Vec::new() }).await?;
    let whep = wall.instance(0).await?.endpoints.context("no address")?.whep;
    let (scheme, rest) = whep.split_once("://").context("no URL")?;
    let (authority, path) = rest.split_once('/').context("no path")?;
    let network = Network::start(23)?;
    let delayed = Impairment::default().with_delay(Duration::from_millis(50));
    let link = network.link(delayed.clone(), delayed.clone());
    let through = link.http(authority.parse::<SocketAddr>()?)?;
    let mut player = Player::start(wall.http.clone(), &[]).await?;
    let stream = player.play(&format!("{scheme}://{through}/{path}"), true).await?;
    ensure!(player.has_playout_delay(), "it would wait before it shows a frame");
    player.watch(stream).await?;
    wait_for("the browser to show the guest's barcode", SOON, async || {
        let sightings = player.take(stream).await?;
        ensure!(sightings.iter().rev().find_map(Sighting::reading).is_some(), "no barcode yet");
        Ok(())
    })
    .await?;
    for loss in [0.003, 0.02] {
        let (down, before) = (link.counters(Direction::Down), player.counters().await?[stream].clone());
        link.set(Direction::Down, delayed.clone().with_loss(loss));
        link.set(Direction::Up, delayed.clone().with_loss(loss));
        player.take(stream).await?;
        tokio::time::sleep(PLAY).await;
        let sightings = player.take(stream).await?;
        let after = player.counters().await?[stream].clone();
        let decoded = after.frames_decoded.unwrap_or(0) - before.frames_decoded.unwrap_or(0);
        let asked = after.key_frame_requests.unwrap_or(0) - before.key_frame_requests.unwrap_or(0);
        let gaps = sightings.windows(2).map(|pair| pair[1].presented_ms - pair[0].presented_ms);
        let longest = gaps.fold(0.0, f64::max);
        let lost = link.counters(Direction::Down).lost - down.lost;
        println!(
            "{:.1} % loss ({lost} packets): {decoded} frames decoded in {} s, longest gap {longest:.0} ms, {asked} key \
             frames asked for",
            loss * 100.0,
            PLAY.as_secs()
        );
        // A machine that builds meanwhile shows fewer; a stream that hangs shows none.
        ensure!(decoded >= PLAY.as_secs() * 10, "{decoded} frames in {} s", PLAY.as_secs());
        ensure!(longest < 1_500.0, "it stood still for {longest:.0} ms");
        ensure!(asked <= 2, "{asked} key frames asked for: loss is repaired otherwise");
    }
    player.stop().await;
    wall.stop().await
}
