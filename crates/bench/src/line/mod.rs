//! Agents and a viewer with a bad network between them: real processes, neither of which knows of it.
//!
//! The viewer's control plane is [`plane::Plane`], a list of agents whose addresses lead into the network; everything from
//! there on, HTTP and media, goes through one link, as nine streams share one person's line.

mod plane;

use crate::automation::Automation;
use crate::check::client;
use crate::guest_log::GuestLog;
use crate::sound_server::SoundServer;
use crate::tiles::Tiles;
use crate::viewing::{View, wait_pictures};
use anyhow::{Context, Result};
use loco_http::{Client, Token, TokenFile};
use loco_impair::{Impairment, LinkHandle, Network};
use loco_model::InstanceId;
use loco_process::{DeathSignal, RunDir, Spawner, terminate_and_wait};
use plane::Plane;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Everything that starts, starts within this.
const PATIENCE: Duration = Duration::from_secs(60);
/// Everything that ends, ends within this.
const STOPPING: Duration = Duration::from_secs(15);

/// What stands at the two ends.
#[derive(Clone, Debug)]
pub struct Options {
    /// The executable.
    pub loco: PathBuf,
    /// Guests.
    pub instances: usize,
    /// What they do: `town`, `quiet`, `box` or `busy`.
    pub mode: &'static str,
    /// Further arguments of every agent.
    pub agent: Vec<String>,
    /// Further arguments of the viewer.
    pub viewer: Vec<String>,
    /// Seed of the network's chance.
    pub seed: u64,
}

struct Agent {
    id: InstanceId,
    child: Child,
    address: SocketAddr,
    state: PathBuf,
}

/// Agents, a network and a viewer. Everything ends with it.
pub struct Line {
    /// The link that everything shares, good until it is set otherwise.
    pub link: LinkHandle,
    /// The network that it is in.
    pub network: Network,
    /// Speaks to the agents directly.
    pub client: Client,
    /// What the viewer plays on.
    pub sound: SoundServer,
    options: Options,
    agents: Vec<Agent>,
    plane: Plane,
    dir: RunDir,
    token_file: PathBuf,
    viewer: Option<Child>,
    viewers: usize,
}

// === impl Line ===

impl Line {
    /// Starts the agents and what stands for their control plane; no viewer yet.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(options: Options) -> Result<Self> {
        let dir = RunDir::create("line")?;
        let token_file = dir.path().join("token");
        Token::create_file(&token_file)?;
        let network = Network::start(options.seed).context("no network")?;
        let link = network.link(Impairment::default(), Impairment::default());
        let mut agents = Vec::new();
        for id in InstanceId::all().take(options.instances) {
            let state = dir.path().join(format!("state-{}", id.index()));
            let (child, address) = start_agent(&options, id, &token_file, &state, "127.0.0.1:0").await?;
            agents.push(Agent { id, child, address, state });
        }
        let plane = Plane::start(TokenFile::open(&token_file)?).await?;
        let line = Self {
            link,
            network,
            client: client(&token_file)?,
            sound: SoundServer::start().await?,
            options,
            agents,
            plane,
            dir,
            token_file,
            viewer: None,
            viewers: 0,
        };
        for agent in &line.agents {
            line.plane.show(agent.id, line.link.http(agent.address).context("no way to an agent")?);
        }
        Ok(line)
    }

    /// Its instances, in order.
    #[must_use]
    pub fn ids(&self) -> Vec<InstanceId> {
        self.agents.iter().map(|agent| agent.id).collect()
    }

    fn agent_of(&self, id: InstanceId) -> Result<&Agent> {
        self.agents.iter().find(|agent| agent.id == id).with_context(|| format!("there is no {id}"))
    }

    /// Base URL of an agent, past the network.
    ///
    /// # Errors
    /// When there is no such instance.
    pub fn agent(&self, id: InstanceId) -> Result<String> {
        Ok(format!("http://{}", self.agent_of(id)?.address))
    }

    /// Base URL of an agent, through the network.
    ///
    /// # Errors
    /// When there is no such instance, or no socket.
    pub fn agent_through_link(&self, id: InstanceId) -> Result<String> {
        Ok(format!("http://{}", self.link.http(self.agent_of(id)?.address).context("no way to an agent")?))
    }

    /// An agent's process.
    ///
    /// # Errors
    /// When there is no such instance, or it has ended.
    pub fn agent_pid(&self, id: InstanceId) -> Result<u32> {
        self.agent_of(id)?.child.id().context("the agent has ended")
    }

    /// Presses that the guest itself saw, from now on.
    ///
    /// # Errors
    /// When its log cannot be followed.
    pub fn keys(&self, id: InstanceId) -> Result<GuestLog> {
        GuestLog::presses(&self.agent_of(id)?.state.join("guest.log"))
    }

    /// Kills an agent, and starts it again at the same address `after` that; the control plane tells of both.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn replace_agent(&mut self, id: InstanceId, after: Duration) -> Result<()> {
        let agent = self.agents.iter_mut().find(|agent| agent.id == id).context("there is no such agent")?;
        agent.child.kill().await?;
        self.plane.lose(id, "its agent was killed");
        tokio::time::sleep(after).await;
        let listen = agent.address.to_string();
        (agent.child, agent.address) = start_agent(&self.options, id, &self.token_file, &agent.state, &listen).await?;
        self.plane.regain(id);
        Ok(())
    }

    /// Opens a viewer without a window, 1280x960, and waits until every tile has shown a picture; those of still guests
    /// until they have one.
    ///
    /// # Errors
    /// When it does not open, or a tile does not come to life.
    pub async fn open_viewer(&mut self) -> Result<Tiles> {
        self.close_viewer().await?;
        self.viewers += 1;
        let socket = self.dir.socket(&format!("viewer-{}", self.viewers))?;
        let view = View {
            loco: &self.options.loco,
            api: self.plane.url(),
            token_file: &self.token_file,
            socket: &socket,
            arguments: &self.options.viewer,
            sound: self.sound.environment(),
        };
        let deadline = Instant::now() + PATIENCE;
        let (viewer, mut tiles) = view.open(deadline).await?;
        self.viewer = Some(viewer);
        wait_pictures(&mut tiles, self.agents.len(), deadline).await?;
        Ok(tiles)
    }

    /// The viewer's process, while one is open.
    #[must_use]
    pub fn viewer_pid(&self) -> Option<u32> {
        self.viewer.as_ref().and_then(Child::id)
    }

    /// Ends the viewer, if there is one.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub async fn close_viewer(&mut self) -> Result<()> {
        if let Some(mut viewer) = self.viewer.take() {
            terminate_and_wait(&mut viewer, STOPPING).await?;
        }
        Ok(())
    }

    /// Ends everything, politely.
    ///
    /// # Errors
    /// When something cannot be ended.
    pub async fn stop(mut self) -> Result<()> {
        self.close_viewer().await?;
        for mut agent in std::mem::take(&mut self.agents) {
            terminate_and_wait(&mut agent.child, STOPPING).await?;
        }
        self.plane.stop();
        Ok(())
    }
}

async fn start_agent(
    options: &Options,
    id: InstanceId,
    token_file: &Path,
    state: &Path,
    listen: &str,
) -> Result<(Child, SocketAddr)> {
    std::fs::create_dir_all(state)?;
    let mut command = Command::new(&options.loco);
    command
        .args(["agent", "--json", "--listen", listen, "--mode", options.mode, "--instance", &id.index().to_string()])
        .args(["--power-down", "1", "--token-file"])
        .arg(token_file)
        .arg("--state-dir")
        .arg(state)
        .args(&options.agent)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = Spawner::shared()?.spawn(command, DeathSignal::Terminate).await.context("cannot start an agent")?;
    let mut lines = BufReader::new(child.stdout.take().context("the agent has no output")?).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
    let line = line.context("the agent printed no address in time")??.context("the agent ended at its start")?;
    let told: serde_json::Value = serde_json::from_str(&line).with_context(|| format!("the agent printed {line:?}"))?;
    let address = told["address"].as_str().and_then(|url| url.strip_prefix("http://")?.parse().ok());
    Ok((child, address.with_context(|| format!("the agent printed {line:?}"))?))
}

/// What the viewer tells of one stream.
///
/// # Errors
/// When the viewer is gone, or has no such tile.
pub async fn session(automation: &Automation, id: InstanceId) -> Result<serde_json::Value> {
    let wall = automation.wall().await?;
    let tile = wall.tiles.into_iter().find(|tile| tile.id == id).with_context(|| format!("no tile of {id}"))?;
    Ok(tile.stats.and_then(|mut stats| stats.rest.remove("session")).unwrap_or_default())
}
