//! A `loco control` process, as an operator starts one.

use crate::check::client;
use crate::follow::Follower;
use anyhow::{Context, Result, bail};
use loco_http::Client;
use loco_model::InstanceId;
use loco_model::api::{Instance, InstanceHealth, RecoveryStatus};
use loco_process::{DeathSignal, Spawner, terminate_and_wait};
use reqwest::{Method, Response};
use serde::Deserialize;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// It starts, and ends, within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to start one.
#[derive(Clone, Debug)]
pub struct ControlOptions {
    /// The `loco` executable.
    pub loco: PathBuf,
    /// The list of instances.
    pub instances: PathBuf,
    /// The file with the token of its API.
    pub token_file: PathBuf,
    /// Its state; a folder that is kept.
    pub state_dir: PathBuf,
    /// A program and its arguments that become `loco`, such as `nsenter …`.
    pub wrapper: Vec<String>,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// Further environment.
    pub environment: Vec<(String, String)>,
    /// Where its log goes; to this process's standard error when left out.
    pub log: Option<PathBuf>,
}

/// A running one. Ends with this value.
pub struct Control {
    /// The process.
    pub child: Child,
    /// Base URL of its API, without a trailing slash.
    pub api: String,
    /// Speaks to it and to its agents.
    pub http: Client,
}

#[derive(Deserialize)]
struct Line {
    #[serde(alias = "api")]
    address: String,
}

// === impl ControlOptions ===

impl ControlOptions {
    /// In `folder`: `instances.json`, `token` and `state`, of which the first two must be there when it starts.
    #[must_use]
    pub fn in_folder(loco: &Path, folder: &Path) -> Self {
        Self {
            loco: loco.to_owned(),
            instances: folder.join("instances.json"),
            token_file: folder.join("token"),
            state_dir: folder.join("state"),
            wrapper: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            log: None,
        }
    }
}

// === impl Control ===

impl Control {
    /// Starts it and waits for its address.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(options: &ControlOptions) -> Result<Self> {
        let mut words = options.wrapper.iter().map(PathBuf::from).chain([options.loco.clone()]);
        let mut command = Command::new(words.next().context("no program")?);
        command.args(words).args(["control", "--json", "--listen", "127.0.0.1:0", "--instances"]);
        command.arg(&options.instances).arg("--token-file").arg(&options.token_file);
        command.arg("--state-dir").arg(&options.state_dir).args(&options.arguments);
        command.envs(options.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        if let Some(log) = &options.log {
            let file = File::options().create(true).append(true).open(log);
            command.stderr(file.with_context(|| format!("cannot write {}", log.display()))?);
        }
        let mut child =
            Spawner::shared()?.spawn(command, DeathSignal::Terminate).await.context("cannot start loco control")?;
        let mut lines = BufReader::new(child.stdout.take().context("it has no output")?).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.context("loco control said nothing")??;
        let Some(line) = line else { bail!("loco control ended at once: {}", child.wait().await?) };
        let line: Line = serde_json::from_str(&line).with_context(|| format!("loco control said {line:?}"))?;
        Ok(Self { child, api: line.address.trim_end_matches('/').to_owned(), http: client(&options.token_file)? })
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("loco control has ended")
    }

    /// Everything that it tells from now on, from a first whole list.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn follow(&self) -> Result<Follower> {
        Follower::start(&self.http, &self.api).await
    }

    /// Its instances.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn instances(&self) -> Result<Vec<Instance>> {
        self.get("/api/instances").await
    }

    /// One of them.
    ///
    /// # Errors
    /// When it does not know it.
    pub async fn instance(&self, id: InstanceId) -> Result<Instance> {
        let all = self.instances().await?;
        all.into_iter().find(|instance| instance.id == id).with_context(|| format!("it does not know {id}"))
    }

    /// What it says in depth of one instance.
    ///
    /// # Errors
    /// When it does not know it.
    pub async fn health(&self, id: InstanceId) -> Result<InstanceHealth> {
        self.get(&format!("/api/quality/deep-health/{id}")).await
    }

    /// All attempts that it knows of.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn recoveries(&self) -> Result<RecoveryStatus> {
        self.get("/api/quality/recovery-status").await
    }

    /// Gets JSON of its API.
    ///
    /// # Errors
    /// When it does not answer, or otherwise.
    pub async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        Ok(self.http.get_json(&format!("{}{path}", self.api)).await?)
    }

    /// Sends JSON to its API and gives back the answer, also one that refuses.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn send(&self, method: Method, path: &str, body: &serde_json::Value) -> Result<Response> {
        let request = self.http.request(method, &format!("{}{path}", self.api)).json(body);
        request.timeout(PATIENCE).send().await.with_context(|| format!("no answer to {path}"))
    }

    /// Ends it as a service manager does.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        terminate_and_wait(&mut self.child, PATIENCE).await.context("loco control does not end")
    }

    /// kill -9.
    ///
    /// # Errors
    /// When it cannot be.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("cannot kill loco control")
    }
}
