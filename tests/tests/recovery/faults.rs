//! Processes die or stand still.

use anyhow::{Context, Result, ensure};
use loco_model::InstanceState;
use loco_model::failure::{FailureClass, Remedy};
use loco_model::recovery::{Attempt, Initiator, MAX_ATTEMPTS, Outcome};
use loco_tests::headless::{Headless, PATIENCE, Place, id, is_well, ledger, moves};
use loco_tests::picture::Picture;
use loco_tests::processes::{self, freeze, kill};
use loco_tests::wait::wait_for;
use reqwest::Method;
use serde_json::json;
use std::time::Instant;

/// The one that is broken, and the one that must not notice.
const BROKEN: usize = 1;
const OTHER: usize = 0;
/// A counter that began anew is below that of a guest that was up so long, in ticks of 1/30 s.
const OLD_ENOUGH: u64 = 90;

/// The demo and how things were before they broke.
struct Scene {
    place: Place,
    demo: Headless,
    counter: u64,
    mark: usize,
    at: Instant,
}

impl Scene {
    async fn start(name: &'static str) -> Result<Self> {
        let place = Place::new(name)?;
        let demo = place.demo(2, &[]).await?;
        let agent = demo.agent(BROKEN).await?;
        let counter = wait_for("the guest to be up for a while", PATIENCE, async || {
            let reading = moves(&demo.control.http, &agent).await?;
            ensure!(reading.counter >= OLD_ENOUGH, "its counter is {}", reading.counter);
            Ok(reading.counter)
        })
        .await?;
        let mark = demo.events.mark();
        Ok(Self { place, demo, counter, mark, at: Instant::now() })
    }

    /// Waits until the broken one shows a guest that began anew and is well; the other one never noticed.
    async fn repaired(&self) -> Result<()> {
        let agent = wait_for("a picture from the beginning", PATIENCE, async || {
            let agent = self.demo.agent(BROKEN).await?;
            let reading = loco_tests::headless::reading(&self.demo.control.http, &agent).await?;
            ensure!(reading.counter < self.counter, "its counter went on: {} -> {}", self.counter, reading.counter);
            Ok(agent)
        })
        .await?;
        println!("{}: picture back after {:.1?}", self.place.name, self.at.elapsed());
        moves(&self.demo.control.http, &agent).await?;
        self.demo.wait_well(BROKEN).await?;
        let noticed: Vec<_> =
            self.demo.events.of(id(OTHER), self.mark).into_iter().filter(|(_, other)| !is_well(other)).collect();
        ensure!(noticed.is_empty(), "{} was touched too: {noticed:?}", id(OTHER));
        Ok(())
    }

    /// The one attempt that was made of an instance, as the control plane's history has it.
    async fn attempt(&self) -> Result<Attempt> {
        wait_for("one finished attempt in the history", PATIENCE, async || {
            let status = self.demo.control.recoveries().await?;
            let mut of_it: Vec<Attempt> =
                status.attempts.into_iter().filter(|attempt| attempt.instance_id == id(BROKEN)).collect();
            ensure!(of_it.len() == 1, "attempts: {of_it:?}");
            let attempt = of_it.remove(0);
            let is_over = attempt.ended_at_ms.is_some() && attempt.outcome != Outcome::Running;
            ensure!(is_over, "it is not over: {attempt:?}");
            Ok(attempt)
        })
        .await
    }

    async fn left(&self, expected: usize) -> Result<()> {
        wait_for("the attempts that are left", PATIENCE, async || {
            let left = self.demo.control.instance(id(BROKEN)).await?.attempts_left;
            ensure!(left == Some(expected), "{left:?} attempts are left, expected {expected}");
            Ok(())
        })
        .await
    }
}

pub(crate) async fn a_killed_qemu_is_started_again_and_counted() -> Result<()> {
    let scene = Scene::start("qemu-killed").await?;
    let (agent, qemu) = (scene.demo.agent_process(BROKEN)?, scene.demo.qemu_process(BROKEN)?);
    kill(qemu.pid)?;
    let (at, told) = scene
        .demo
        .events
        .wait_instance("the fault", id(BROKEN), scene.mark, PATIENCE, |now| now.state != InstanceState::Live)
        .await?;
    println!("told as {} after {:.2?}", told.state.word(), at.saturating_duration_since(scene.at));
    scene.repaired().await?;
    ensure!(scene.demo.agent_process(BROKEN)?.pid == agent.pid, "the agent was started again too");
    ensure!(scene.demo.qemu_process(BROKEN)?.pid != qemu.pid, "it is the same QEMU");
    let attempt = scene.attempt().await?;
    ensure!(attempt.initiator == Initiator::Agent, "the agent does that by itself: {attempt:?}");
    ensure!(attempt.class == FailureClass::Qemu && attempt.action == Remedy::RestartQemu, "{attempt:?}");
    ensure!(attempt.outcome == Outcome::Repaired, "{attempt:?}");
    let ledger = ledger(&scene.demo.control.http, &scene.demo.agent(BROKEN).await?).await?;
    ensure!(ledger.left == MAX_ATTEMPTS - 1 && ledger.attempts.len() == 1, "{ledger:?}");
    scene.left(MAX_ATTEMPTS - 1).await?;
    scene.demo.stop().await
}

pub(crate) async fn a_frozen_qemu_is_found_and_started_again() -> Result<()> {
    let scene = Scene::start("qemu-frozen").await?;
    let qemu = scene.demo.qemu_process(BROKEN)?;
    freeze(qemu.pid)?;
    let (at, told) = scene
        .demo
        .events
        .wait_instance("the fault", id(BROKEN), scene.mark, PATIENCE, |now| now.failure == FailureClass::Qemu)
        .await?;
    println!("told as {:?} after {:.2?}", told.reason, at.saturating_duration_since(scene.at));
    ensure!(told.state != InstanceState::Live, "it is still called live: {told:?}");
    scene.repaired().await?;
    ensure!(scene.demo.qemu_process(BROKEN)?.pid != qemu.pid, "it is the same QEMU");
    processes::wait_gone(std::slice::from_ref(&qemu), PATIENCE).await?;
    let attempt = scene.attempt().await?;
    ensure!(matches!(attempt.initiator, Initiator::Policy { .. }), "{attempt:?}");
    ensure!(attempt.class == FailureClass::Qemu && attempt.action == Remedy::RestartQemu, "{attempt:?}");
    ensure!(attempt.outcome == Outcome::Repaired && !attempt.is_override, "{attempt:?}");
    ensure!(attempt.reason.as_deref().is_some_and(|reason| !reason.is_empty()), "no reason: {attempt:?}");
    evidence(&scene.demo, &attempt).await?;
    scene.left(MAX_ATTEMPTS - 1).await?;
    scene.demo.stop().await
}

/// What was seen before the attempt can be read at the control plane.
pub(crate) async fn evidence(demo: &Headless, attempt: &Attempt) -> Result<()> {
    ensure!(attempt.evidence.is_some(), "nothing was saved before it: {attempt:?}");
    let get = async |file: &str| {
        let path = format!("{}/api/evidence/{}/{}/{file}", demo.control.api, attempt.instance_id, attempt.id);
        let response = demo.control.http.send(demo.control.http.request(Method::GET, &path), &path).await?;
        Ok::<_, anyhow::Error>(response.bytes().await?)
    };
    let picture = Picture::from_png(&get("screenshot.png").await?).context("the saved picture")?;
    let reading = picture.barcode().context("the saved picture")?;
    ensure!(usize::from(reading.instance) == attempt.instance_id.index(), "a picture of another one: {reading:?}");
    let qmp: serde_json::Value = serde_json::from_slice(&get("qmp.json").await?).context("QMP's status")?;
    ensure!(!qmp.is_null(), "QMP's status is empty");
    get("log.txt").await?;
    Ok(())
}

pub(crate) async fn a_killed_agent_is_started_again() -> Result<()> {
    let scene = Scene::start("agent-killed").await?;
    let (agent, qemu) = (scene.demo.agent_process(BROKEN)?, scene.demo.qemu_process(BROKEN)?);
    let starts = scene.demo.control.instance(id(BROKEN)).await?.agent_starts;
    kill(agent.pid)?;
    // Its owner sees it end: that is no fault of the network.
    let (_, told) = scene
        .demo
        .events
        .wait_instance("the fault", id(BROKEN), scene.mark, PATIENCE, |now| now.failure == FailureClass::Qemu)
        .await?;
    ensure!(told.state == InstanceState::Recovering && told.reason.is_some(), "{told:?}");
    scene.repaired().await?;
    ensure!(scene.demo.agent_process(BROKEN)?.pid != agent.pid, "it is the same agent");
    processes::wait_gone(&[agent, qemu], PATIENCE).await?;
    let now = scene.demo.control.instance(id(BROKEN)).await?.agent_starts;
    ensure!(now == starts.map(|starts| starts + 1), "agent starts: {starts:?} -> {now:?}");
    scene.demo.stop().await
}

pub(crate) async fn a_frozen_agent_is_found_and_started_again() -> Result<()> {
    let scene = Scene::start("agent-frozen").await?;
    let agent = scene.demo.agent_process(BROKEN)?;
    freeze(agent.pid)?;
    let (at, told) = scene
        .demo
        .events
        .wait_instance("the fault", id(BROKEN), scene.mark, PATIENCE, |now| now.failure == FailureClass::Network)
        .await?;
    println!("told as {:?} after {:.1?}", told.reason, at.saturating_duration_since(scene.at));
    scene.repaired().await?;
    processes::wait_gone(std::slice::from_ref(&agent), PATIENCE).await?;
    let attempt = scene.attempt().await?;
    // Nothing can be ordered of an agent that does not answer, so that only its owner can help.
    ensure!(attempt.action == Remedy::RestartAgent && attempt.outcome == Outcome::Repaired, "{attempt:?}");
    ensure!(attempt.class == FailureClass::Network, "{attempt:?}");
    scene.demo.stop().await
}

/// What a person does on purpose is no fault, and nothing is done against it.
pub(crate) async fn a_paused_guest_is_no_fault() -> Result<()> {
    let scene = Scene::start("guest-paused").await?;
    let url = |what: &str| format!("/api/instances/{}/{what}", id(BROKEN));
    let status = scene.demo.control.send(Method::POST, &url("pause"), &json!({})).await?.status();
    ensure!(status.is_success(), "pausing: {status}");
    let stopped = |now: &loco_model::api::Instance| now.state == InstanceState::Stopped;
    let (_, told) = scene.demo.events.wait_instance("the pause", id(BROKEN), scene.mark, PATIENCE, stopped).await?;
    ensure!(told.failure == FailureClass::None, "a pause is called a fault: {told:?}");
    // Longer than a frozen guest would take to be found and repaired.
    let repaired = scene.demo.events.wait_instance(
        "a repair that must not come",
        id(BROKEN),
        scene.mark,
        std::time::Duration::from_secs(6),
        |now| now.recovery.is_some() || now.failure != FailureClass::None,
    );
    ensure!(repaired.await.is_err(), "a paused guest is repaired");
    let status = scene.demo.control.send(Method::POST, &url("resume"), &json!({})).await?.status();
    ensure!(status.is_success(), "resuming: {status}");
    let now = scene.demo.wait_well(BROKEN).await?;
    let reading = moves(&scene.demo.control.http, &scene.demo.agent(BROKEN).await?).await?;
    ensure!(reading.counter >= scene.counter, "the guest began anew: {now:?}");
    scene.left(MAX_ATTEMPTS).await?;
    scene.demo.stop().await
}
