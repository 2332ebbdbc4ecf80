//! Who uses which instance: what nobody uses is capped and gives its CPU away, and gets both back at once.

use anyhow::{Context, Result, ensure};
use loco_model::report::UseHealth;
use loco_tests::headless::{Headless, PATIENCE, Place, health, id, is_root, moves};
use loco_tests::wait::wait_for;
use std::time::{Duration, Instant};

const GUESTS: usize = 3;

async fn usage(demo: &Headless, index: usize) -> Result<UseHealth> {
    Ok(health(&demo.control.http, &demo.agent(index).await?).await?.deep_health.usage)
}

/// Waits until exactly `used` are in use, at the control plane and at their agents; all others are capped.
async fn wait_used(demo: &Headless, used: &[usize]) -> Result<()> {
    wait_for(&format!("only {used:?} to be in use"), PATIENCE, async || {
        for index in 0..GUESTS {
            let (instance, agent) = (demo.control.instance(id(index)).await?, usage(demo, index).await?);
            let expected = used.contains(&index);
            ensure!(instance.in_use == expected, "{}: {instance:?}", id(index));
            ensure!(agent.in_use == Some(expected), "{}: {agent:?}", id(index));
            if expected {
                ensure!(agent.max_fps.is_none() && agent.max_bit_rate.is_none(), "{} is capped: {agent:?}", id(index));
            } else {
                ensure!(agent.max_fps.is_some() || agent.max_bit_rate.is_some(), "{} is not: {agent:?}", id(index));
                // Where neither a cgroup nor the affinity can be set, that is said and not hidden.
                ensure!(agent.how.is_some(), "nothing says how its CPU is given away: {agent:?}");
            }
        }
        Ok(())
    })
    .await
}

/// All of it as a user without any right: what is taken from an instance must be given back without root, too.
pub(crate) async fn two_viewers_on_two_instances_and_then_on_one() -> Result<()> {
    let place = Place::of_nobody("usage")?;
    let demo = place.demo(GUESTS, &["--mode", "box"]).await?;
    if is_root() {
        let uid = std::fs::read_to_string(format!("/proc/{}/status", demo.qemu_process(0)?.pid))?;
        let uid = uid.lines().find_map(|line| line.strip_prefix("Uid:")).context("no Uid")?.trim().to_owned();
        ensure!(uid.starts_with("65534"), "QEMU runs as {uid}");
    }
    let token = &demo.announcement.token_file;
    let ada = place.spectator("ada", &demo.control, token).await?;
    let bob = place.spectator("bob", &demo.control, token).await?;
    for viewer in [&ada, &bob] {
        for index in 0..GUESTS {
            viewer.wait_live(index).await?;
        }
    }
    ada.automation.focus(id(0)).await?;
    bob.automation.focus(id(1)).await?;
    wait_used(&demo, &[0, 1]).await?;
    let instances = demo.control.instances().await?;
    ensure!(instances[0].focused_by.len() == 1 && instances[1].focused_by.len() == 1, "{instances:?}");
    ensure!(instances[2].focused_by.is_empty(), "{instances:?}");
    // The cap is a real one: fewer pictures are made of what nobody uses, and more of what somebody does.
    let cap = usage(&demo, 2).await?.max_fps.context("instance-2 has no cap on its pictures")?;
    let rate = async |index: usize| {
        let video = health(&demo.control.http, &demo.agent(index).await?).await?.deep_health.video;
        video.estimated_frame_rate.with_context(|| format!("{} has no frame rate", id(index)))
    };
    wait_for("the capped one to make fewer pictures", PATIENCE, async || {
        let (capped, free) = (rate(2).await?, rate(0).await?);
        ensure!(capped <= f64::from(cap) + 1.5, "{capped} frames a second with a cap of {cap}");
        ensure!(free > capped, "{free} frames a second without a cap, {capped} with one");
        Ok(())
    })
    .await?;
    for index in 0..GUESTS {
        moves(&demo.control.http, &demo.agent(index).await?).await?;
    }

    bob.automation.focus(id(0)).await?;
    wait_used(&demo, &[0]).await?;
    ensure!(demo.control.instance(id(0)).await?.focused_by.len() == 2, "both are on it");

    // And back at once, on focus.
    let begun = Instant::now();
    bob.automation.focus(id(1)).await?;
    wait_for("the cap to be lifted", PATIENCE, async || {
        let usage = usage(&demo, 1).await?;
        ensure!(usage.in_use == Some(true) && usage.max_fps.is_none(), "{usage:?}");
        Ok(())
    })
    .await?;
    let took = begun.elapsed();
    println!("given back after {took:.2?}, given away by {:?}", usage(&demo, 2).await?.how);
    // Not by the next of a viewer's regular reports.
    ensure!(took < Duration::from_secs(15), "given back after {took:?}");
    wait_used(&demo, &[0, 1]).await?;

    // A viewer that is gone uses nothing any more, also when it could not say so.
    let mut bob = bob;
    bob.child.kill().await?;
    wait_used(&demo, &[0]).await?;
    ada.stop().await?;
    demo.stop().await
}
