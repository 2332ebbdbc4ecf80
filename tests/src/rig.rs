//! Agents and control planes that nobody's demo started: real guests or simulated ones, a list of instances, and as many
//! control planes as a test wants.

use crate::headless::{PATIENCE, Place, client, id, ledger, spawn};
use crate::processes;
use crate::wait::wait_for;
use anyhow::{Context, Result, ensure};
use loco_bench::control::{Control, ControlOptions};
use loco_bench::cpu::Process;
use loco_bench::simulated::{SimulatedAgent, write_instances};
use loco_http::{Client, Token, TokenFile};
use loco_model::recovery::Ledger;
use loco_process::terminate_and_wait;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::Child;

/// A place with a token and a list of instances.
pub struct Rig {
    /// Where everything lies.
    pub place: Place,
    /// Speaks with the token.
    pub http: Client,
}

/// A real agent with a demo guest.
pub struct RealAgent {
    /// Its process.
    pub child: Child,
    /// Base URL, without a trailing slash.
    pub url: String,
    /// Which instance.
    pub index: usize,
    http: Client,
}

// === impl Rig ===

impl Rig {
    /// A new one, with nothing in it.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn new(name: &'static str) -> Result<Self> {
        let place = Place::new(name)?;
        let token_file = place.path().join("token");
        Token::create_file(&token_file)?;
        Ok(Self { http: client(&token_file)?, place })
    }

    /// The token that all of its processes ask for.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.place.path().join("token")
    }

    /// The list of instances.
    #[must_use]
    pub fn instances_file(&self) -> PathBuf {
        self.place.path().join("instances.json")
    }

    /// Starts an agent with the demo guest and waits until the guest shows a picture. `wrapper` is put before it, and
    /// `listen` is where.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn agent_at(&self, index: usize, listen: &str, wrapper: &[String]) -> Result<RealAgent> {
        let mut command = self.place.loco(&format!("agent-{index}"), wrapper)?;
        command.args(["agent", "--json", "--instance", &index.to_string(), "--listen", listen, "--token-file"]);
        command.arg(self.token_file()).arg("--state-dir").arg(self.place.path().join(format!("agent-{index}")));
        command.stdout(Stdio::piped());
        let (child, line) = spawn(command).await?;
        let line: Value = serde_json::from_str(&line).with_context(|| format!("the agent said {line:?}"))?;
        let url = line["address"].as_str().context("the agent named no address")?.to_owned();
        Ok(RealAgent { child, url, index, http: self.http.clone() })
    }

    /// The same on loopback, with its guest up.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn agent(&self, index: usize) -> Result<RealAgent> {
        let agent = self.agent_at(index, "127.0.0.1:0", &[]).await?;
        let ready = format!("{}/ready", agent.url);
        wait_for("the guest to come up", PATIENCE, async || Ok(self.http.get_json::<Value>(&ready).await?)).await?;
        Ok(agent)
    }

    /// Starts `count` agents without guests.
    ///
    /// # Errors
    /// When they do not start.
    pub async fn simulated(&self, count: usize) -> Result<Vec<SimulatedAgent>> {
        SimulatedAgent::start_many(count, &TokenFile::open(&self.token_file())?).await
    }

    /// Writes the list of instances.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn list<'a>(&self, agents: impl IntoIterator<Item = (usize, &'a str)>) -> Result<()> {
        let agents = agents.into_iter().map(|(index, url)| (id(index), url));
        write_instances(&self.instances_file(), &self.token_file(), agents)
    }

    /// Writes the list of simulated instances.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn list_simulated(&self, agents: &[SimulatedAgent]) -> Result<()> {
        let urls: Vec<(usize, String)> = agents.iter().map(|agent| (agent.id().index(), agent.url())).collect();
        self.list(urls.iter().map(|(index, url)| (*index, url.as_str())))
    }

    /// How to start a control plane of this list, with a state folder and a log of its own.
    ///
    /// # Errors
    /// When the artifacts' folder is gone.
    pub fn control_options(&self, name: &str) -> Result<ControlOptions> {
        let mut options = ControlOptions::in_folder(self.place.program(), self.place.path());
        options.state_dir = self.place.path().join(format!("state-{name}"));
        options.log = Some(self.place.log(name)?);
        Ok(options)
    }

    /// Starts a control plane.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn control(&self, name: &str) -> Result<Control> {
        Control::start(&self.control_options(name)?).await
    }
}

// === impl RealAgent ===

impl RealAgent {
    /// Its process id.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("the agent has ended")
    }

    /// Its QEMU, now.
    ///
    /// # Errors
    /// When it does not run.
    pub fn qemu(&self) -> Result<Process> {
        processes::qemu_of(self.pid()?)
    }

    /// Its ledger.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ledger(&self) -> Result<Ledger> {
        ledger(&self.http, &self.url).await
    }

    /// Ends it, and sees that nothing of it is left.
    ///
    /// # Errors
    /// When something is.
    pub async fn stop(mut self) -> Result<()> {
        let all = processes::tree(self.pid()?);
        let status = terminate_and_wait(&mut self.child, PATIENCE).await?;
        ensure!(status.success(), "the agent ended with {status}");
        processes::wait_gone(&all, PATIENCE).await
    }
}
