//! Each remedy, ordered by a person, is really done: seen on processes, pixels and sound.

use anyhow::{Context, Result, ensure};
use loco_model::failure::Remedy;
use loco_model::recovery::{Attempt, Initiator, Outcome};
use loco_tests::headless::{Headless, PATIENCE, Place, Spectator, health, id, ledger, moves};
use loco_tests::wait::wait_for;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const IT: usize = 0;

async fn start(name: &'static str, arguments: &[&str]) -> Result<(Place, Headless)> {
    let place = Place::new(name)?;
    let demo = place.demo(1, arguments).await?;
    moves(&demo.control.http, &demo.agent(IT).await?).await?;
    Ok((place, demo))
}

/// Orders a remedy at the control plane and waits for its end.
async fn order(demo: &Headless, remedy: Remedy) -> Result<Attempt> {
    let path = format!("/api/quality/recover/{}", id(IT));
    let response = demo.control.send(Method::POST, &path, &json!({"action": remedy})).await?;
    let status = response.status();
    let body: Value = response.json().await?;
    ensure!(status == StatusCode::ACCEPTED, "{remedy}: {status}: {body}");
    let attempt = body["id"].as_str().with_context(|| format!("no attempt's id: {body}"))?.to_owned();
    let attempt = wait_for("the attempt's end", PATIENCE, async || {
        let status = demo.control.recoveries().await?;
        let attempt = status.attempts.into_iter().find(|known| known.id == attempt).context("it is not listed")?;
        // Done is not enough: it is judged a while later.
        let is_over = attempt.ended_at_ms.is_some() && attempt.outcome != Outcome::Running;
        ensure!(is_over, "it is not over: {attempt:?}");
        Ok(attempt)
    })
    .await?;
    ensure!(attempt.action == remedy && attempt.instance_id == id(IT), "{attempt:?}");
    ensure!(matches!(attempt.initiator, Initiator::Person { .. }), "{attempt:?}");
    println!("{remedy}: {:?}: {:?}", attempt.outcome, attempt.detail);
    Ok(attempt)
}

/// The same; it must have helped, and be in the agent's ledger too.
async fn done(demo: &Headless, remedy: Remedy) -> Result<Attempt> {
    let attempt = order(demo, remedy).await?;
    ensure!(attempt.outcome == Outcome::Repaired, "{attempt:?}");
    Ok(attempt)
}

async fn counted(demo: &Headless, attempt: &Attempt) -> Result<()> {
    let ledger = ledger(&demo.control.http, &demo.agent(IT).await?).await?;
    ensure!(ledger.attempts.iter().any(|known| known.id == attempt.id), "{attempt:?} is not in {ledger:?}");
    Ok(())
}

/// A viewer of the demo, with the instance live on it.
async fn watch(place: &Place, demo: &Headless) -> Result<Spectator> {
    let viewer = place.spectator("viewer", &demo.control, &demo.announcement.token_file).await?;
    viewer.wait_live(IT).await?;
    Ok(viewer)
}

pub(crate) async fn reset_display() -> Result<()> {
    let (_place, demo) = start("reset-display", &[]).await?;
    let (agent, qemu) = (demo.agent(IT).await?, demo.qemu_process(IT)?);
    let before = moves(&demo.control.http, &agent).await?;
    let attempt = done(&demo, Remedy::ResetDisplay).await?;
    let after = moves(&demo.control.http, &agent).await?;
    ensure!(after.counter > before.counter, "the guest began anew: {before:?} -> {after:?}");
    ensure!(demo.qemu_process(IT)?.pid == qemu.pid, "QEMU was started again");
    counted(&demo, &attempt).await?;
    crate::faults::evidence(&demo, &attempt).await?;
    demo.wait_well(IT).await?;
    demo.stop().await
}

pub(crate) async fn reset_sound() -> Result<()> {
    let (_place, demo) = start("reset-sound", &[]).await?;
    let (agent, qemu) = (demo.agent(IT).await?, demo.qemu_process(IT)?);
    let whistle = async || {
        wait_for("a whistle to be heard", PATIENCE, async || {
            demo.tap(IT, "Space").await?;
            let audio = health(&demo.control.http, &agent).await?.deep_health.audio;
            ensure!(audio.estimated_level.is_some_and(|level| level > -60.0), "{audio:?}");
            Ok(())
        })
        .await
    };
    whistle().await.context("before")?;
    let attempt = done(&demo, Remedy::ResetSound).await?;
    ensure!(demo.qemu_process(IT)?.pid == qemu.pid, "QEMU was started again");
    // What was heard before is over: the level speaks of the last second.
    wait_for("silence", PATIENCE, async || {
        let audio = health(&demo.control.http, &agent).await?.deep_health.audio;
        ensure!(audio.estimated_level.is_none_or(|level| level <= -60.0), "{audio:?}");
        Ok(())
    })
    .await?;
    whistle().await.context("after")?;
    moves(&demo.control.http, &agent).await?;
    counted(&demo, &attempt).await?;
    demo.stop().await
}

pub(crate) async fn restart_stream() -> Result<()> {
    let (place, demo) = start("restart-stream", &[]).await?;
    let viewer = watch(&place, &demo).await?;
    let qemu = demo.qemu_process(IT)?;
    let agent = demo.agent(IT).await?;
    let attempt = done(&demo, Remedy::RestartStream).await?;
    let shot = place.path().join("shot.png");
    let seen = async || viewer.reading(IT, &shot).await;
    let first = wait_for("a picture at the viewer", PATIENCE, seen).await?;
    wait_for("the viewer's picture to move", PATIENCE, async || {
        let now = seen().await?;
        ensure!(now.counter > first.counter, "it stands at {}", now.counter);
        Ok(())
    })
    .await?;
    ensure!(demo.qemu_process(IT)?.pid == qemu.pid, "QEMU was started again");
    ensure!(!health(&demo.control.http, &agent).await?.deep_health.viewers.is_empty(), "no viewer is left");
    counted(&demo, &attempt).await?;
    viewer.stop().await?;
    demo.stop().await
}

pub(crate) async fn lower_quality() -> Result<()> {
    // 30 frames a second, as many as there may be.
    let (place, demo) = start("lower-quality", &["--mode", "box"]).await?;
    let viewer = watch(&place, &demo).await?;
    let agent = demo.agent(IT).await?;
    let rate = async || {
        let video = health(&demo.control.http, &agent).await?.deep_health.video;
        video.estimated_frame_rate.context("no frame rate")
    };
    let before = wait_for("frames", PATIENCE, async || {
        let rate = rate().await?;
        ensure!(rate > 5.0, "{rate} frames a second");
        Ok(rate)
    })
    .await?;
    let attempt = done(&demo, Remedy::LowerQuality).await?;
    let after = wait_for("half of the frames", PATIENCE, async || {
        let rate = rate().await?;
        ensure!(rate > 1.0 && rate < 18.0, "{rate} frames a second, {before} before");
        Ok(rate)
    })
    .await?;
    println!("frames a second: {before:.1} -> {after:.1}");
    counted(&demo, &attempt).await?;
    viewer.stop().await?;
    demo.stop().await
}

/// The demo guest has no network card yet: the attempt says so, and nothing else is touched.
pub(crate) async fn reset_network() -> Result<()> {
    let (_place, demo) = start("reset-network", &[]).await?;
    let (agent, qemu) = (demo.agent(IT).await?, demo.qemu_process(IT)?);
    let attempt = order(&demo, Remedy::ResetNetwork).await?;
    let has_card = health(&demo.control.http, &agent).await?.deep_health.network.mode.is_some();
    let expected = if has_card { Outcome::Repaired } else { Outcome::Failed };
    ensure!(attempt.outcome == expected, "with a card: {has_card}: {attempt:?}");
    ensure!(attempt.detail.as_deref().is_some_and(|detail| !detail.is_empty()), "no word about it: {attempt:?}");
    ensure!(demo.qemu_process(IT)?.pid == qemu.pid, "QEMU was started again");
    moves(&demo.control.http, &agent).await?;
    counted(&demo, &attempt).await?;
    demo.stop().await
}

pub(crate) async fn restart_qemu() -> Result<()> {
    let (place, demo) = start("restart-qemu", &[]).await?;
    let viewer = watch(&place, &demo).await?;
    let (agent, process, qemu) = (demo.agent(IT).await?, demo.agent_process(IT)?, demo.qemu_process(IT)?);
    let attempt = done(&demo, Remedy::RestartQemu).await?;
    ensure!(demo.qemu_process(IT)?.pid != qemu.pid, "it is the same QEMU");
    ensure!(demo.agent_process(IT)?.pid == process.pid, "the agent was started again too");
    let inside = moves(&demo.control.http, &agent).await?;
    // And on a screen, that of a viewer who watched all the while.
    let shot = place.path().join("shot.png");
    wait_for("the viewer's picture to move", PATIENCE, async || {
        let now = viewer.reading(IT, &shot).await?;
        ensure!(now.counter > inside.counter, "{inside:?}, {now:?}");
        Ok(())
    })
    .await?;
    counted(&demo, &attempt).await?;
    crate::faults::evidence(&demo, &attempt).await?;
    demo.wait_well(IT).await?;
    viewer.stop().await?;
    demo.stop().await
}

pub(crate) async fn restart_agent() -> Result<()> {
    let (_place, demo) = start("restart-agent", &[]).await?;
    let (agent, qemu) = (demo.agent_process(IT)?, demo.qemu_process(IT)?);
    done(&demo, Remedy::RestartAgent).await?;
    wait_for("another agent", PATIENCE, async || {
        let now = demo.agent_process(IT)?;
        ensure!(now.pid != agent.pid, "it is the same agent");
        Ok(())
    })
    .await?;
    loco_tests::processes::wait_gone(&[agent, qemu], PATIENCE).await?;
    demo.wait_well(IT).await?;
    moves(&demo.control.http, &demo.agent(IT).await?).await?;
    // Its end did not make the new one forget the attempt.
    wait_for("the attempt to be counted", PATIENCE, async || {
        let left = demo.control.instance(id(IT)).await?.attempts_left;
        ensure!(left == Some(2), "{left:?} attempts are left");
        Ok(())
    })
    .await?;
    demo.stop().await
}
