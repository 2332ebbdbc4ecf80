//! A still desktop costs nothing and is not called dead.

use crate::Stage;
use anyhow::{Result, ensure};
use loco_bench::udp::{Capture, ports_of};
use loco_demo_guest::Mode;
use loco_model::InstanceState;
use loco_tests::wait::wait_for;
use loco_tests::wall::Wall;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Ceiling for one still guest, everything that is sent by UDP.
const MOST_KBIT_PER_S: f64 = 1.0;
const WATCHED: Duration = Duration::from_secs(10);
/// After the last change: what is still to be repaired or reported about it.
const SETTLING: Duration = Duration::from_secs(6);
const SOON: Duration = Duration::from_secs(30);

pub(crate) async fn still_guests_are_live_and_send_almost_nothing(stage: &mut Stage) -> Result<()> {
    let wall = &stage.wall;
    set_mode(wall, Mode::Quiet).await?;
    tokio::time::sleep(SETTLING).await;
    let ports: Vec<BTreeSet<u16>> =
        (0..wall.len()).map(|index| Ok(ports_of(&[wall.agent_process(index)?.pid]))).collect::<Result<_>>()?;
    ensure!(ports.iter().all(|ports| !ports.is_empty()), "an agent has no UDP port open: {ports:?}");
    let capture = Capture::start(ports.iter().flatten().copied().collect())?;
    let counters: Vec<u64> = counters(wall).await?;
    let until = Instant::now() + WATCHED;
    while Instant::now() < until {
        for tile in wall.tiles().await? {
            ensure!(tile.state == InstanceState::Live, "still {} is called {:?}", tile.id, tile.state);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let traffic = capture.finish()?;
    let sent: Vec<f64> = ports.iter().map(|ports| traffic.kbit_per_s(ports)).collect();
    let unchanged = self::counters(wall).await? == counters;
    wall.save_screen("still")?;
    set_mode(wall, Mode::Town).await?;
    println!("still guests sent {sent:.3?} kbit/s");
    ensure!(unchanged, "the pictures changed meanwhile: the guests were not still");
    let over: Vec<_> = sent.iter().enumerate().filter(|(_, kbit)| **kbit >= MOST_KBIT_PER_S).collect();
    ensure!(over.is_empty(), "instances that sent too much (kbit/s): {over:.3?}");
    Ok(())
}

async fn counters(wall: &Wall) -> Result<Vec<u64>> {
    Ok(crate::input::readings(wall).await?.iter().map(|reading| reading.counter).collect())
}

/// Puts all guests into a mode by its key, and waits until all show it.
pub(crate) async fn set_mode(wall: &Wall, mode: Mode) -> Result<()> {
    let key = match mode {
        Mode::Town => "KeyT",
        Mode::Quiet => "KeyQ",
        Mode::Box => "KeyB",
        Mode::Busy => "KeyY",
        Mode::Marker => "KeyK",
        Mode::Storm => "KeyX",
    };
    for index in 0..wall.len() {
        wall.tap(index, key).await?;
    }
    wait_for(&format!("all guests to be in mode {}", mode.name()), SOON, async || {
        for (index, reading) in wall.barcodes().await?.into_iter().enumerate() {
            ensure!(reading.is_some_and(|r| r.mode == mode), "tile {index} shows {reading:?}");
        }
        Ok(())
    })
    .await
}
