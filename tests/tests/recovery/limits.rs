//! At most three attempts per instance and hour, whoever makes them and however often anything is started again.

use anyhow::{Context, Result, ensure};
use loco_bench::control::Control;
use loco_model::InstanceState;
use loco_model::failure::{FailureClass, Remedy};
use loco_model::recovery::{Initiator, MAX_ATTEMPTS, Outcome};
use loco_tests::headless::{PATIENCE, id, is_well};
use loco_tests::processes::freeze;
use loco_tests::rig::Rig;
use loco_tests::wait::wait_for;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const IT: usize = 0;

async fn wait_well(control: &Control, index: usize) -> Result<()> {
    wait_for("the instance to be well", PATIENCE, async || {
        let now = control.instance(id(index)).await?;
        ensure!(is_well(&now) && now.attempts_left.is_some(), "it is {now:?}");
        Ok(())
    })
    .await
}

/// Orders a remedy; the status and the answer.
async fn order(control: &Control, body: Value) -> Result<(StatusCode, Value)> {
    let response = control.send(Method::POST, &format!("/api/quality/recover/{}", id(IT)), &body).await?;
    Ok((response.status(), response.json().await?))
}

/// Waits until an instance has `count` finished attempts in a control plane's history, and `left` are left.
async fn wait_attempts(control: &Control, count: usize, left: usize) -> Result<BTreeSet<String>> {
    wait_for("the attempts in the history", PATIENCE, async || {
        let status = control.recoveries().await?;
        let limit = status.instances.get(&id(IT)).context("the instance is not in the recovery status")?;
        ensure!(limit.left == Some(left) && limit.running.is_none(), "{limit:?}, expected {left} left");
        let finished = status.attempts.iter().filter(|attempt| attempt.ended_at_ms.is_some());
        let ids: BTreeSet<String> = finished.map(|attempt| attempt.id.clone()).collect();
        ensure!(ids.len() == count, "{} attempts, expected {count}: {:?}", ids.len(), status.attempts);
        Ok(ids)
    })
    .await
}

pub(crate) async fn attempts_survive_the_control_plane() -> Result<()> {
    let rig = Rig::new("limit-restart")?;
    let mut agent = rig.agent(IT).await?;
    rig.list([(IT, agent.url.as_str())])?;
    let control = rig.control("control").await?;
    wait_well(&control, IT).await?;
    for made in 1..=MAX_ATTEMPTS {
        let (status, body) = order(&control, json!({"action": Remedy::RestartStream})).await?;
        ensure!(status == StatusCode::ACCEPTED, "order {made}: {status}: {body}");
        wait_attempts(&control, made, MAX_ATTEMPTS - made).await?;
    }
    let refused = async |control: &Control| {
        let (status, body) = order(control, json!({"action": Remedy::RestartStream})).await?;
        ensure!(status == StatusCode::TOO_MANY_REQUESTS, "one more: {status}: {body}");
        ensure!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "no words: {body}");
        Ok(())
    };
    refused(&control).await?;
    let known = wait_attempts(&control, MAX_ATTEMPTS, 0).await?;
    control.kill().await?;

    let control = rig.control("control").await?;
    wait_well(&control, IT).await?;
    ensure!(wait_attempts(&control, MAX_ATTEMPTS, 0).await? == known, "its history is another one");
    refused(&control).await?;
    // Neither does the agent forget when it is killed.
    let port = agent.url.rsplit(':').next().context("a port")?.to_owned();
    agent.child.kill().await?;
    let agent = rig.agent_at(IT, &format!("127.0.0.1:{port}"), &[]).await?;
    wait_well(&control, IT).await?;
    refused(&control).await?;
    let ledger = agent.ledger().await?;
    ensure!(ledger.left == 0 && ledger.next_at_ms.is_some(), "{ledger:?}");
    // A person may all the same, and it is counted as any other.
    let (status, body) = order(&control, json!({"action": Remedy::RestartStream, "override": true})).await?;
    ensure!(status == StatusCode::ACCEPTED, "with override: {status}: {body}");
    wait_attempts(&control, MAX_ATTEMPTS + 1, 0).await?;
    control.stop().await?;
    agent.stop().await
}

pub(crate) async fn two_control_planes_make_three_attempts_together() -> Result<()> {
    let rig = Rig::new("limit-two")?;
    let agent = rig.agent(IT).await?;
    rig.list([(IT, agent.url.as_str())])?;
    let (one, two) = (rig.control("one").await?, rig.control("two").await?);
    wait_well(&one, IT).await?;
    wait_well(&two, IT).await?;
    // A guest that freezes again and again: neither control plane can help, and both want to.
    let mut frozen = BTreeSet::new();
    wait_for("both to give up", PATIENCE * 2, async || {
        // Only one that was repaired and judged so by both.
        let both = [one.instance(id(IT)).await?, two.instance(id(IT)).await?];
        if let Ok(qemu) = agent.qemu()
            && !frozen.contains(&qemu.pid)
            && both.iter().all(is_well)
        {
            freeze(qemu.pid)?;
            frozen.insert(qemu.pid);
        }
        for control in [&one, &two] {
            let now = control.instance(id(IT)).await?;
            ensure!(now.state == InstanceState::Failed, "it is {now:?}");
            ensure!(now.attempts_left == Some(0), "it is {now:?}");
        }
        Ok(())
    })
    .await?;
    let ledger = agent.ledger().await?;
    let made: Vec<_> = ledger.attempts.iter().filter(|attempt| attempt.outcome != Outcome::Refused).collect();
    ensure!(made.len() == MAX_ATTEMPTS && ledger.left == 0, "{} attempts were made: {ledger:#?}", made.len());
    for attempt in &made {
        ensure!(matches!(attempt.initiator, Initiator::Policy { .. }), "{attempt:?}");
        ensure!(attempt.class == FailureClass::Qemu, "{attempt:?}");
    }
    println!("QEMU was frozen {} times", frozen.len());
    one.stop().await?;
    two.stop().await?;
    agent.stop().await
}

pub(crate) async fn what_no_attempt_repairs_is_given_up() -> Result<()> {
    let rig = Rig::new("limit-in-vain")?;
    let agents = rig.simulated(2).await?;
    let [it, other] = agents.as_slice() else { anyhow::bail!("two agents") };
    rig.list_simulated(&agents)?;
    let control = rig.control("control").await?;
    wait_well(&control, IT).await?;
    wait_well(&control, 1).await?;
    let events = control.follow().await?;
    let mark = events.mark();
    it.change(|report| {
        report.deep_health.video.display_active = Some(false);
        report.deep_health.faults = vec!["the display is gone".to_owned()];
    });
    let given_up = |now: &loco_model::api::Instance| now.state == InstanceState::Failed && now.recovery.is_none();
    let (_, told) = events.wait_instance("it to be given up", id(IT), mark, PATIENCE * 2, given_up).await?;
    ensure!(told.reason.as_deref().is_some_and(|reason| !reason.is_empty()), "no reason: {told:?}");
    ensure!(it.ledger().len() == MAX_ATTEMPTS, "{:?}", it.ledger());
    // The mildest first.
    ensure!(it.ledger()[0].action == Remedy::ResetDisplay, "{:?}", it.ledger());
    ensure!(other.ledger().is_empty(), "{:?}", other.ledger());
    let health = control.health(id(IT)).await?;
    ensure!(health.failure_type == FailureClass::Qemu && health.recommendation.is_some(), "{health:?}");
    // Once it is well by itself, all is well.
    it.heal();
    wait_well(&control, IT).await?;
    control.stop().await.map(drop)
}
