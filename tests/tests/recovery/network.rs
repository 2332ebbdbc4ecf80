//! What lies between control plane, agents and viewers.

use anyhow::{Context, Result, bail, ensure};
use loco_bench::control::{Control, ControlOptions};
use loco_bench::follow::Follower;
use loco_model::InstanceState;
use loco_model::api::Instance;
use loco_model::failure::{FailureClass, Remedy};
use loco_tests::alone::skip;
use loco_tests::headless::{PATIENCE, id, is_root, is_well};
use loco_tests::processes;
use loco_tests::rig::Rig;
use loco_tests::wait::wait_for;
use reqwest::Method;
use serde_json::json;
use std::fs::File;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const IT: usize = 0;
/// An address that only the network namespace of the test has (RFC 2544's range).
const ADDRESS: &str = "198.18.7.6";

async fn wait_well(control: &Control) -> Result<()> {
    wait_for("the instance to be well", PATIENCE, async || {
        let now = control.instance(id(IT)).await?;
        ensure!(is_well(&now), "it is {now:?}");
        Ok(())
    })
    .await
}

/// A network of its own, with [`ADDRESS`] in it, that lasts as long as its process.
struct Network {
    _holder: Child,
    path: String,
}

impl Network {
    async fn start() -> Result<Self> {
        let script =
            format!("ip link set lo up && ip address add {ADDRESS}/32 dev lo && echo up && exec sleep infinity");
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", &script]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut holder = command.spawn().context("can't start unshare")?;
        let mut lines = BufReader::new(holder.stdout.take().context("no output")?).lines();
        if lines.next_line().await?.as_deref() != Some("up") {
            let said = holder.wait_with_output().await?;
            return Err(skip(format!(
                "no network of one's own here: {}",
                String::from_utf8_lossy(&said.stderr).trim()
            )));
        }
        let path = format!("/proc/{}/ns/net", holder.id().context("it has ended")?);
        Ok(Self { _holder: holder, path })
    }

    /// What to put before a program to run it there.
    fn wrapper(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net={}", self.path), "--".to_owned()]
    }

    /// Gives the address, or takes it away: then nothing reaches it or comes from it, and no connection is told.
    async fn address(&self, action: &str) -> Result<()> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path)).args([
            "ip",
            "address",
            action,
            &format!("{ADDRESS}/32"),
            "dev",
            "lo",
        ]);
        let status = command.status().await?;
        if status.success() { Ok(()) } else { bail!("ip address {action}: {status}") }
    }

    /// Runs `work` on a thread that is in this network.
    async fn inside<F>(&self, work: impl FnOnce() -> F + Send + 'static) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        let path = self.path.clone();
        let thread = move || {
            let namespace = File::open(&path).with_context(|| path.clone())?;
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), kind)
                .context("can't enter the network")?;
            // Its sockets are made on this thread.
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work())
        };
        let (sender, done) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || drop(sender.send(thread())));
        done.await.context("the thread ended")?
    }
}

pub(crate) async fn a_blocked_port_is_a_fault_of_the_network() -> Result<()> {
    if !is_root() {
        return Err(skip("only root can make a network of its own"));
    }
    let network = Arc::new(Network::start().await?);
    let rig = Rig::new("blocked")?;
    let agent = rig.agent_at(IT, &format!("{ADDRESS}:0"), &network.wrapper()).await?;
    rig.list([(IT, agent.url.as_str())])?;
    let qemu = wait_for("the guest to run", PATIENCE, async || agent.qemu()).await?;
    let options = ControlOptions { wrapper: network.wrapper(), ..rig.control_options("control")? };
    let control = Control::start(&options).await?;
    let (there, token_file, api) = (Arc::clone(&network), options.token_file.clone(), control.api.clone());
    network
        .inside(move || async move {
            // A client of this thread's: the connections of the other one are outside.
            let http = loco_tests::headless::client(&token_file)?;
            let events = Follower::start(&http, &api).await?;
            let well = |now: &Instance| is_well(now);
            events.wait_instance("it to be well", id(IT), 0, PATIENCE, well).await?;
            let mark = events.mark();
            let begun = Instant::now();
            there.address("delete").await?;
            let lost = |now: &Instance| now.failure == FailureClass::Network && now.state != InstanceState::Live;
            let (at, told) = events.wait_instance("the fault", id(IT), mark, PATIENCE, lost).await?;
            println!("told as {:?} after {:.1?}", told.reason, at.saturating_duration_since(begun));
            ensure!(!told.ready, "viewers are still sent there: {told:?}");
            let mark = events.mark();
            there.address("add").await?;
            events.wait_instance("it to be well again", id(IT), mark, PATIENCE, well).await?;
            Ok(())
        })
        .await?;
    // The guest never noticed.
    ensure!(processes::runs(&qemu), "its QEMU was started again");
    control.stop().await?;
    agent.stop().await?;
    drop(network);
    Ok(())
}

/// A half-open connection: no byte comes, and nobody says that it is over.
pub(crate) async fn a_silent_agent_is_a_fault_of_the_network() -> Result<()> {
    let rig = Rig::new("silent")?;
    let agents = rig.simulated(2).await?;
    rig.list_simulated(&agents)?;
    let control = rig.control("control").await?;
    wait_well(&control).await?;
    let events = control.follow().await?;
    let mark = events.mark();
    agents[IT].fall_silent();
    let lost = |now: &Instance| now.failure == FailureClass::Network && now.state != InstanceState::Live;
    let (at, told) = events.wait_instance("the fault", id(IT), mark, PATIENCE, lost).await?;
    let last = agents[IT].last_sign().context("it never spoke")?;
    println!("told as {:?} {:.1?} after the last sign", told.reason, at.saturating_duration_since(last));
    agents[IT].speak();
    wait_well(&control).await?;
    let other = events.of(id(1), mark);
    ensure!(other.iter().all(|(_, other)| is_well(other)), "the other one was touched: {other:?}");
    control.stop().await.map(drop)
}

pub(crate) async fn a_viewers_trouble_is_a_fault_of_the_client() -> Result<()> {
    let rig = Rig::new("client")?;
    let agents = rig.simulated(1).await?;
    rig.list_simulated(&agents)?;
    agents[IT].heals_by([Remedy::LowerQuality], None);
    let control = rig.control("control").await?;
    wait_well(&control).await?;
    let events = control.follow().await?;
    let mark = events.mark();
    let tell = async |fault: Option<&str>| {
        let session = json!({"instanceId": id(IT), "state": "connected", "fault": fault});
        let report = json!({"name": "ada@workstation", "focus": id(IT), "sessions": [session]});
        let status = control.send(Method::PUT, "/api/viewers/ada-1", &report).await?.status();
        ensure!(status.is_success(), "telling of oneself: {status}");
        Ok(())
    };
    tell(Some("the decoder fails")).await?;
    let told = |now: &Instance| now.failure == FailureClass::Client;
    let (_, told) = events.wait_instance("the fault", id(IT), mark, PATIENCE, told).await?;
    ensure!(told.focused_by == ["ada@workstation"], "{told:?}");
    // Milder things first; the viewer keeps complaining until the second one helps.
    wait_for("the stream to be begun anew, then the quality to be lowered", PATIENCE, async || {
        let helped = agents[IT].ledger().iter().any(|attempt| attempt.action == Remedy::LowerQuality);
        tell((!helped).then_some("the decoder fails")).await?;
        let actions: Vec<Remedy> = agents[IT].ledger().iter().map(|attempt| attempt.action).collect();
        ensure!(actions == [Remedy::RestartStream, Remedy::LowerQuality], "{actions:?}");
        Ok(())
    })
    .await?;
    tell(None).await?;
    wait_well(&control).await?;
    let classes: Vec<FailureClass> = agents[IT].ledger().iter().map(|attempt| attempt.class).collect();
    ensure!(classes.iter().all(|class| *class == FailureClass::Client), "{classes:?}");
    control.stop().await.map(drop)
}
