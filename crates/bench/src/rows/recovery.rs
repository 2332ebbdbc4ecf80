//! Row 7: how long something that broke stays broken, and whether what is only still is taken for broken.

use super::{Lab, object};
use crate::bed::{Bed, Mode};
use crate::clock::monotonic_us;
use crate::follow::Follower;
use crate::plot::Series;
use crate::report::{Condition, Row};
use crate::stats::Summary;
use crate::tiles::Tiles;
use anyhow::{Context, Result};
use loco_model::api::{Event, Instance};
use loco_model::failure::FailureClass;
use loco_model::{InstanceId, InstanceState};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::time::{Duration, Instant};

/// Shown in a square.
const GUESTS: usize = 4;
/// Each of them is killed once and frozen once: two of the three attempts that an hour has. What the viewer tells of it in
/// words lies over the last one's tile for a while.
const BROKEN: usize = 3;
/// Everything that comes back, comes back within this.
const PATIENCE: Duration = Duration::from_secs(60);
/// A guest that has counted so many ticks is told from one that began anew.
const OLD_ENOUGH: u64 = 150;
/// What starting costs is over, and every state is told.
const SETTLING: Duration = Duration::from_secs(5);

const HOW: &str = "Four demo guests in the town, shown on one wall off screen. The QEMU of three of them in turn is killed with SIGKILL; the clock \
    starts before the signal and stops when the presented target shows that guest's barcode with a counter that began anew. Then each \
    in turn is stopped with SIGSTOP, at which every process of ours stays alive and connected: found is when the control plane's \
    /api/events tells a fault of class qemu (the clock starts before the signal), repaired when the target shows the counter that \
    began anew. Still guests: mode quiet, nobody types; every event that calls one anything but live, or names a fault or an attempt, \
    is counted.";

/// Row 7.
pub(super) async fn killed_frozen_still(lab: &Lab) -> Result<Row> {
    let (mut killed, mut found, mut repaired) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..lab.runs {
        let mut bed = Bed::start(&lab.loco, GUESTS, Mode::Town).await?;
        let run = broken(&mut bed).await;
        bed.stop().await?;
        let run = run?;
        killed.extend(run.killed_ms);
        found.extend(run.found_ms);
        repaired.extend(run.repaired_ms);
    }
    let alarms = still(lab).await?;
    let worst = |values: &[f64]| Summary::of(values).map(|summary| summary.max);
    let conditions = vec![
        Condition::at_most("killed -> picture back, slowest, ms,", worst(&killed), 2000.0),
        Condition::at_most("frozen -> found, slowest, ms,", worst(&found), 3000.0),
        Condition::at_most("still guests called anything but live", Some(alarms as f64), 0.0),
    ];
    let series = [
        Series::distribution("killed -> picture back", &killed),
        Series::distribution("frozen -> found", &found),
        Series::distribution("frozen -> picture back", &repaired),
    ];
    lab.plot("row7.svg", "QEMU killed or frozen", ("milliseconds", "per cent"), &series);
    lab.keep("row7.json", &json!({"killed_ms": killed, "found_ms": found, "repaired_ms": repaired}))?;
    let mut row = Row::new(7, "QEMU killed -> picture back; frozen -> found; still called dead", "ms", HOW, conditions);
    let summary = |values: &[f64]| json!(Summary::of(values).map(|summary| summary.rounded(0)));
    row.ours = object([
        ("killed_back", summary(&killed)),
        ("frozen_found", summary(&found)),
        ("frozen_back", summary(&repaired)),
        ("still_seconds", json!(lab.still.as_secs())),
        ("still_guests", json!(GUESTS)),
        ("false_alarms", json!(alarms)),
    ]);
    Ok(row)
}

#[derive(Default)]
struct Broken {
    killed_ms: Vec<f64>,
    found_ms: Vec<f64>,
    repaired_ms: Vec<f64>,
}

fn is_well(instance: &Instance) -> bool {
    instance.state == InstanceState::Live && instance.failure == FailureClass::None && instance.recovery.is_none()
}

/// Kills and freezes every guest of a bed.
async fn broken(bed: &mut Bed) -> Result<Broken> {
    let mut tiles = bed.open_viewer(false).await?;
    let follower = Follower::start(&bed.client, bed.api()).await?;
    let mut result = Broken::default();
    for id in bed.ids().into_iter().take(BROKEN) {
        wait_well(&follower, id).await?;
        let back_ms = break_one(bed, &mut tiles, id, Signal::KILL).await?.1;
        result.killed_ms.push(back_ms);
    }
    for id in bed.ids().into_iter().take(BROKEN) {
        wait_well(&follower, id).await?;
        let mark = follower.mark();
        let (broken_at, back_ms) = break_one(bed, &mut tiles, id, Signal::STOP).await?;
        let is_found = |instance: &Instance| instance.failure == FailureClass::Qemu;
        let (at, _) = follower.wait_instance("the fault to be told", id, mark, PATIENCE, is_found).await?;
        result.found_ms.push(at.saturating_duration_since(broken_at).as_secs_f64() * 1000.0);
        result.repaired_ms.push(back_ms);
    }
    Ok(result)
}

async fn wait_well(follower: &Follower, id: InstanceId) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !follower.now().get(&id).is_some_and(is_well) {
        let now = follower.now().remove(&id);
        anyhow::ensure!(Instant::now() < deadline, "{id} is not well before the next trial: {now:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Sends a signal to a guest's QEMU and waits until its picture began anew: when it was sent, and milliseconds until then.
async fn break_one(bed: &Bed, tiles: &mut Tiles, id: InstanceId, signal: Signal) -> Result<(Instant, f64)> {
    let before = tiles.wait_counter(id, PATIENCE, |counter| counter >= OLD_ENOUGH).await?.1.counter;
    let pid = bed.processes()?.guest_process(id).with_context(|| format!("{id} has no QEMU"))?.pid;
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    let (at, at_us) = (Instant::now(), monotonic_us());
    kill_process(pid, signal).with_context(|| format!("cannot signal {id}'s QEMU"))?;
    let (back_us, reading) = tiles.wait_counter(id, PATIENCE, |counter| counter < before).await?;
    let back_ms = back_us.saturating_sub(at_us) as f64 / 1000.0;
    tracing::info!(%id, ?signal, before, counter = reading.counter, back_ms, "picture back");
    Ok((at, back_ms))
}

/// How often still guests are called anything but well.
async fn still(lab: &Lab) -> Result<usize> {
    let mut bed = Bed::start(&lab.loco, GUESTS, Mode::Quiet).await?;
    let watched = async {
        let tiles = bed.open_viewer(true).await?;
        let follower = Follower::start(&bed.client, bed.api()).await?;
        for id in bed.ids() {
            wait_well(&follower, id).await?;
        }
        tokio::time::sleep(SETTLING).await;
        let mark = follower.mark();
        tokio::time::sleep(lab.still).await;
        anyhow::ensure!(follower.listens(), "the control plane's events ended while still guests were watched");
        let mut alarms = 0;
        for id in bed.ids() {
            alarms += follower.of(id, mark).iter().filter(|(_, instance)| !is_well(instance)).count();
            anyhow::ensure!(follower.now().contains_key(&id), "the control plane lost {id}");
        }
        let gone = follower.since(mark).iter().filter(|heard| matches!(heard.event, Event::Removed { .. })).count();
        let alarms = alarms + gone;
        drop(tiles);
        Ok(alarms)
    }
    .await;
    bed.stop().await?;
    watched
}
