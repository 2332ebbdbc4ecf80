//! Processes are killed: what belongs to them says so, comes back alone, and nothing else is touched.

use crate::{AGENT_KILLED, QEMU_KILLED, Stage};
use anyhow::{Context, Result, ensure};
use loco_bench::cpu::Process;
use loco_demo_guest::barcode::Reading;
use loco_model::look::{DARK, Rgb};
use loco_model::{InstanceState, Rect};
use loco_tests::processes::{self, kill, sockets_below, wait_gone};
use loco_tests::wait::wait_for;
use loco_tests::wall::{Tile, Wall};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

pub(crate) async fn a_killed_qemu_comes_back_alone(stage: &mut Stage) -> Result<()> {
    let wall = &stage.wall;
    let agent = wall.agent_process(QEMU_KILLED)?;
    killed_comes_back(wall, QEMU_KILLED, wall.qemu_process(QEMU_KILLED)?, "qemu-killed").await?;
    ensure!(wall.agent_process(QEMU_KILLED)?.pid == agent.pid, "the agent was started again too");
    Ok(())
}

pub(crate) async fn a_killed_agent_comes_back_alone(stage: &mut Stage) -> Result<()> {
    let wall = &stage.wall;
    let below = processes::tree(wall.agent_process(AGENT_KILLED)?.pid);
    let starts = wall.instance(AGENT_KILLED).await?.agent_starts.context("the API does not count agent starts")?;
    killed_comes_back(wall, AGENT_KILLED, wall.agent_process(AGENT_KILLED)?, "agent-killed").await?;
    // Its QEMU went with it.
    wait_gone(&below, SOON).await?;
    let now = wall.instance(AGENT_KILLED).await?.agent_starts;
    ensure!(now == Some(starts + 1), "agent starts: {starts} -> {now:?}");
    Ok(())
}

/// Kills a process of an instance; sees the state on the screen, the new start time and the counter that began anew,
/// and that the other instances went on.
async fn killed_comes_back(wall: &Wall, index: usize, victim: Process, name: &str) -> Result<()> {
    let started = wall.instance(index).await?.guest_started_at_ms.context("the API does not know the start time")?;
    let before = crate::input::readings(wall).await?;
    let others: Vec<Process> =
        (0..wall.len()).filter(|i| *i != index).map(|i| wall.qemu_process(i)).collect::<Result<_>>()?;
    let killed_at = Instant::now();
    kill(victim.pid)?;
    let state = wait_for("the tile to say what happens", SOON, async || {
        let tile = tile(wall, index).await?;
        ensure!(tile.state != InstanceState::Live, "it is still called live");
        // The screen may show it a frame later than the viewer knows it, and the tile may be live again a moment later.
        let picture = wall.desktop.capture_part(wall.on_desktop(tile.tile)?)?;
        let Rgb(r, g, b) = DARK.state(tile.state);
        let share = picture.share(|pixel| pixel == [r, g, b]);
        ensure!(share > 0.0, "the tile of {:?} has no pixel in the state's colour", tile.state);
        wall.save(&picture, name)?;
        Ok(tile.state)
    })
    .await?;
    let said_after = killed_at.elapsed();
    let back = wait_for("the tile to be live again, from its beginning", SOON, async || {
        let tile = tile(wall, index).await?;
        ensure!(tile.state == InstanceState::Live, "it is {:?}", tile.state);
        let now = wall.barcode(index).await?;
        ensure!(
            now.counter < before[index].counter,
            "its counter went on: {} -> {}",
            before[index].counter,
            now.counter
        );
        Ok(now)
    })
    .await?;
    println!("{name}: {} after {said_after:.2?}, live after {:.2?}", state.word(), killed_at.elapsed());
    wait_for("a new start time", SOON, async || {
        let now = wall.instance(index).await?.guest_started_at_ms;
        ensure!(now.is_some_and(|now| now > started), "{started} -> {now:?}");
        Ok(())
    })
    .await?;
    ensure!(usize::from(back.instance) == index, "{back:?}");
    let same = others.iter().all(processes::runs);
    ensure!(same, "another instance's QEMU is gone too");
    went_on(&before, &crate::input::readings(wall).await?, index)
}

/// All but one advanced and never began anew.
fn went_on(before: &[Reading], now: &[Reading], but: usize) -> Result<()> {
    for (before, now) in before.iter().zip(now).filter(|(before, _)| usize::from(before.instance) != but) {
        ensure!(now.counter > before.counter, "{before:?} -> {now:?}");
    }
    Ok(())
}

async fn tile(wall: &Wall, index: usize) -> Result<Tile> {
    wall.tiles().await?.into_iter().find(|tile| tile.id.index() == index).context("no such tile")
}

pub(crate) async fn agents_go_on_without_a_viewer(stage: &mut Stage) -> Result<()> {
    let wall = &mut stage.wall;
    let agents: Vec<Process> = (0..wall.len()).map(|i| wall.agent_process(i)).collect::<Result<_>>()?;
    let guests: Vec<Process> = (0..wall.len()).map(|i| wall.qemu_process(i)).collect::<Result<_>>()?;
    let before = crate::input::readings(wall).await?;
    kill(wall.viewer.pid)?;
    wall.viewer.child.wait().await?;
    for index in 0..wall.len() {
        let instance = wall.instance(index).await?;
        ensure!(instance.state == InstanceState::Live, "{} is {:?} without a viewer", instance.id, instance.state);
    }
    wall.restart_viewer().await?;
    wall.wait_live().await?;
    ensure!(agents.iter().chain(&guests).all(processes::runs), "an agent or a guest ended with the viewer");
    went_on(&before, &crate::input::readings(wall).await?, usize::MAX)
}

/// The last step: kill -9 of `loco demo` itself.
pub(crate) async fn a_killed_demo_leaves_nothing(stage: &mut Stage) -> Result<()> {
    let wall = &mut stage.wall;
    let root = wall.demo.id().context("loco demo has ended")?;
    let all = processes::tree(root);
    let qemus = all.iter().filter(|process| process.program().starts_with("qemu-system")).count();
    ensure!(qemus == wall.len(), "{qemus} QEMU below loco demo: {all:?}");
    stage.ended = true;
    kill(root)?;
    wall.demo.wait().await?;
    wait_gone(&all, SOON).await?;
    // Neither is the viewer harmed: it says that nothing answers, and waits.
    wait_for("the viewer to say that nothing answers", SOON, async || {
        for tile in wall.tiles().await? {
            ensure!(tile.state != InstanceState::Live, "{} is still called live", tile.id);
        }
        Ok(())
    })
    .await?;
    wall.save_screen("demo-killed")?;
    let window = wall.desktop.window_of(wall.viewer.pid)?;
    ensure!(window != Rect::default(), "the viewer has no window");
    loco_process::terminate_and_wait(&mut wall.viewer.child, SOON).await?;
    let sockets = sockets_below(wall.runtime_folder())?;
    ensure!(sockets.is_empty(), "sockets left: {sockets:?}");
    Ok(())
}
