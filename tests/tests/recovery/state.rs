//! The control plane's own state: its database, its disk, its clock, its list.

use anyhow::{Context, Result, ensure};
use loco_bench::control::{Control, ControlOptions};
use loco_bench::simulated::SimulatedAgent;
use loco_model::InstanceState;
use loco_model::api::{Alert, DiscoveryInfo};
use loco_model::failure::Remedy;
use loco_model::usage::Active;
use loco_tests::alone::skip;
use loco_tests::headless::{PATIENCE, id, is_root, is_well};
use loco_tests::rig::Rig;
use loco_tests::wait::wait_for;
use reqwest::{Method, StatusCode};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

async fn wait_live(control: &Control, count: usize) -> Result<()> {
    wait_for("all instances to be live", PATIENCE, async || {
        let all = control.instances().await?;
        ensure!(all.len() == count && all.iter().all(is_well), "{all:?}");
        Ok(())
    })
    .await
}

async fn set_active(control: &Control, index: usize) -> Result<StatusCode> {
    Ok(control.send(Method::POST, "/api/active", &json!({"ids": [id(index)]})).await?.status())
}

/// A fault that the remedy for it takes away is found and repaired: the control plane does its work.
async fn repairs(control: &Control, agent: &SimulatedAgent) -> Result<()> {
    let before = agent.ledger().len();
    agent.heals_by([Remedy::ResetDisplay], None);
    agent.change(|report| report.deep_health.video.display_active = Some(false));
    wait_for("the fault to be repaired", PATIENCE, async || {
        ensure!(agent.ledger().len() > before, "no attempt was made");
        let now = control.instance(agent.id()).await?;
        ensure!(is_well(&now), "it is {now:?}");
        Ok(())
    })
    .await
}

/// The files of a database beside each other.
fn databases(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?.flatten();
    Ok(files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|kind| kind == "db")).collect())
}

pub(crate) async fn a_corrupt_database_is_kept_aside() -> Result<()> {
    let rig = Rig::new("corrupt")?;
    let agents = rig.simulated(2).await?;
    rig.list_simulated(&agents)?;
    let options = rig.control_options("control")?;
    let control = Control::start(&options).await?;
    wait_live(&control, 2).await?;
    repairs(&control, &agents[0]).await?;
    ensure!(set_active(&control, 1).await?.is_success(), "the active list");
    control.stop().await?;
    let found = databases(&options.state_dir)?;
    let [database] = found.as_slice() else { anyhow::bail!("one database was expected: {found:?}") };
    // It is kept over a restart …
    let control = Control::start(&options).await?;
    let active: Active = control.get("/api/active").await?;
    ensure!(active.active == [id(1)], "the active list is lost: {active:?}");
    control.stop().await?;
    // … and then a disk's fault turns it into something else.
    let garbage = vec![0x5a; 64 * 1024];
    fs::write(database, &garbage)?;
    for beside in ["-wal", "-shm"] {
        let mut name = database.clone().into_os_string();
        name.push(beside);
        drop(fs::remove_file(name));
    }
    let control = Control::start(&options).await?;
    wait_live(&control, 2).await?;
    let aside: Vec<PathBuf> = fs::read_dir(&options.state_dir)?
        .flatten()
        .map(|file| file.path())
        .filter(|path| path.to_string_lossy().contains(".corrupt-"))
        .collect();
    let [aside] = aside.as_slice() else { anyhow::bail!("one file kept aside was expected: {aside:?}") };
    ensure!(fs::read(aside)? == garbage, "what was kept aside is not what was there");
    let active: Active = control.get("/api/active").await?;
    ensure!(active.active.is_empty(), "a clean start has no active list: {active:?}");
    wait_for("an alert about it", PATIENCE, async || {
        let alerts: Vec<Alert> = control.get("/api/alerts").await?;
        let name = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let told = alerts.iter().any(|alert| alert.detail.as_deref().is_some_and(|detail| detail.contains(&name)));
        ensure!(told, "nothing names {name}: {alerts:?}");
        Ok(())
    })
    .await?;
    // The attempts are not lost with it: they lie with the agents.
    wait_for("the attempts of the agent's ledger", PATIENCE, async || {
        let left = control.instance(id(0)).await?.attempts_left;
        ensure!(left == Some(2), "{left:?} attempts are left");
        Ok(())
    })
    .await?;
    repairs(&control, &agents[1]).await?;
    control.stop().await.map(drop)
}

pub(crate) async fn a_full_disk_is_told_and_survived() -> Result<()> {
    if !is_root() {
        return Err(skip("a small file system can be mounted by root only"));
    }
    let rig = Rig::new("full-disk")?;
    let agents = rig.simulated(2).await?;
    rig.list_simulated(&agents)?;
    let options = rig.control_options("control")?;
    fs::create_dir(&options.state_dir)?;
    // In a mount namespace of its own; from outside it is seen through the process's root.
    let script = r#"mount --make-rprivate / 2>/dev/null; mount -t tmpfs -o size=2m tmpfs "$0" && exec "$@""#;
    let mut wrapper: Vec<String> =
        ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", script].map(str::to_owned).to_vec();
    wrapper.push(options.state_dir.display().to_string());
    let control = Control::start(&ControlOptions { wrapper, ..options.clone() }).await?;
    wait_live(&control, 2).await?;
    let inside = PathBuf::from(format!("/proc/{}/root", control.pid()?));
    let folder = inside.join(options.state_dir.strip_prefix("/")?);
    ensure!(set_active(&control, 0).await?.is_success(), "the active list while there is room");
    let filler = folder.join("filler");
    // Page by page, until nothing fits any more.
    let mut file = fs::File::create(&filler).context("the small file system")?;
    let full = loop {
        if let Err(error) = std::io::Write::write_all(&mut file, &[0; 4096]) {
            break error;
        }
    };
    ensure!(full.kind() == std::io::ErrorKind::StorageFull, "{full}");
    drop(file);
    // It goes on: what is asked is answered, what breaks is repaired, and the disk is told of.
    wait_for("an alert about the full disk", PATIENCE, async || {
        let status = set_active(&control, 1).await?;
        ensure!(status.is_success(), "the active list: {status}");
        let alerts: Vec<Alert> = control.get("/api/alerts").await?;
        let told = alerts.iter().any(|alert| {
            let text = format!("{} {}", alert.title, alert.detail.as_deref().unwrap_or_default()).to_lowercase();
            alert.ended_at_ms.is_none() && (text.contains("disk") || text.contains("space") || text.contains("full"))
        });
        ensure!(told, "no alert tells of it: {alerts:?}");
        Ok(())
    })
    .await?;
    repairs(&control, &agents[0]).await?;
    wait_live(&control, 2).await?;
    let active: Active = control.get("/api/active").await?;
    ensure!(active.active == [id(1)], "{active:?}");
    // With room again all is kept again, and the alert ends.
    fs::remove_file(&filler)?;
    wait_for("the alert to end", PATIENCE, async || {
        ensure!(set_active(&control, 0).await?.is_success(), "the active list");
        let alerts: Vec<Alert> = control.get("/api/alerts").await?;
        let lasting: Vec<&Alert> =
            alerts.iter().filter(|alert| alert.ended_at_ms.is_none() && alert.instance_id.is_none()).collect();
        ensure!(lasting.is_empty(), "still: {lasting:?}");
        Ok(())
    })
    .await?;
    control.stop().await.map(drop)
}

/// Where Debian has it; the architecture's triplet is in between.
fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketime.so.1"));
    libraries.find(|library| library.is_file())
}

pub(crate) async fn a_step_of_the_clock_changes_nothing() -> Result<()> {
    let Some(library) = faketime() else {
        return Err(skip("libfaketime is not installed: package libfaketime"));
    };
    let rig = Rig::new("clock")?;
    let agents = rig.simulated(2).await?;
    rig.list_simulated(&agents)?;
    let clock = rig.place.path().join("clock");
    let step = |offset: &str| fs::write(&clock, offset).context("the clock's file");
    step("+0")?;
    let mut options = rig.control_options("control")?;
    options.environment = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        // Steps of the clock on the wall do not touch the monotonic one.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    let control = Control::start(&options).await?;
    wait_live(&control, 2).await?;
    let events = control.follow().await?;
    repairs(&control, &agents[0]).await?;
    let mark = events.mark();
    // Three hours ahead, and then back behind its own start.
    for (offset, left) in [("+3h", 1), ("-3h", 0)] {
        step(offset)?;
        // Longer than agents may be silent and than anything is repaired in.
        tokio::time::sleep(Duration::from_secs(12)).await;
        let untouched = events.of(id(1), mark);
        let alarms: Vec<_> = untouched.iter().filter(|(_, instance)| !is_well(instance)).collect();
        ensure!(alarms.is_empty(), "after a step of {offset}: {alarms:?}");
        wait_live(&control, 2).await?;
        // It still watches and repairs, and the hour's limit is the agents' own.
        repairs(&control, &agents[0]).await.with_context(|| format!("after a step of {offset}"))?;
        wait_for("the attempts that are left", PATIENCE, async || {
            let now = control.instance(id(0)).await?.attempts_left;
            ensure!(now == Some(left), "{now:?} attempts are left, expected {left}");
            Ok(())
        })
        .await?;
    }
    agents[0].change(|report| report.deep_health.video.display_active = Some(false));
    wait_for("the limit to hold", PATIENCE, async || {
        let now = control.instance(id(0)).await?;
        ensure!(now.state == InstanceState::Failed, "it is {now:?}");
        Ok(())
    })
    .await?;
    ensure!(agents[0].ledger().len() == 3, "{:?}", agents[0].ledger());
    control.stop().await.map(drop)
}

pub(crate) async fn a_bad_list_of_instances_keeps_the_good_ones() -> Result<()> {
    let rig = Rig::new("bad-list")?;
    let agents = rig.simulated(2).await?;
    rig.list_simulated(&agents)?;
    let control = rig.control("control").await?;
    wait_live(&control, 2).await?;
    let good = |index: usize| {
        json!({"id": id(index), "agent": agents[index].url(), "token_file": rig.token_file()}).to_string()
    };
    let info = async || control.get::<DiscoveryInfo>("/api/instances/discovery-info").await;
    // One entry cannot be used: it is named with its line, and the other one stays.
    fs::write(
        rig.instances_file(),
        format!("[\n{},\n{{\"id\": \"instance-x\", \"agent\": \"nowhere\"}}\n]\n", good(0)),
    )?;
    wait_for("the bad entry to be refused", PATIENCE, async || {
        let info = info().await?;
        ensure!(info.refused.len() == 1, "{info:?}");
        ensure!(info.refused[0].line == Some(3) && !info.refused[0].reason.is_empty(), "{info:?}");
        Ok(())
    })
    .await?;
    wait_live(&control, 1).await?;
    // No list at all: what is known stays, and is said to be out of date.
    fs::write(rig.instances_file(), "[{\"id\":")?;
    wait_for("the list to be stale", PATIENCE, async || {
        let info = info().await?;
        ensure!(info.stale_since_ms.is_some() && info.last_error.is_some(), "{info:?}");
        Ok(())
    })
    .await?;
    ensure!(control.instance(id(0)).await?.state == InstanceState::Live, "a bad file took an instance away");
    fs::write(rig.instances_file(), format!("[{}, {}]", good(0), good(1)))?;
    wait_live(&control, 2).await?;
    let info = info().await?;
    ensure!(info.stale_since_ms.is_none() && info.refused.is_empty(), "{info:?}");
    control.stop().await.map(drop)
}
