//! Agents as child processes.

use super::LocalConfig;
use super::supervise::{Agent, Launcher};
use async_trait::async_trait;
use loco_model::InstanceId;
use loco_process::{DeathSignal, Spawner, terminate_and_wait};
use serde::Deserialize;
use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// How long an agent may take to say where it answers.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an agent may take to power its guest down and end.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// Longest line that is read of an agent, in bytes.
const MAX_LINE_BYTES: u64 = 16 * 1024;
/// Last lines of its log that are kept to say why it ended.
const KEPT_LINES: usize = 8;

/// The line that an agent prints once it answers.
#[derive(Debug, Deserialize)]
struct Announcement {
    address: String,
}

pub(super) struct AgentLauncher {
    id: InstanceId,
    config: Arc<LocalConfig>,
}

pub(super) struct AgentProcess {
    url: String,
    child: Child,
    log: Log,
}

/// Follows what an agent says on stderr.
struct Log {
    lines: Arc<Mutex<VecDeque<String>>>,
    reader: JoinHandle<()>,
}

// === impl AgentLauncher ===

impl AgentLauncher {
    pub(super) fn new(id: InstanceId, config: Arc<LocalConfig>) -> Self {
        Self { id, config }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.config.program);
        command
            .args(&self.config.arguments)
            .args(["--instance", &self.id.index().to_string(), "--listen", "127.0.0.1:0", "--json"])
            .arg("--token-file")
            .arg(&self.config.token_file)
            .arg("--state-dir")
            .arg(self.config.state_dir.join(self.id.to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl+C of the terminal is ours to act on: agents are told to end, each once.
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

#[async_trait]
impl Launcher for AgentLauncher {
    type Agent = AgentProcess;

    async fn launch(&mut self) -> Result<AgentProcess, String> {
        let program = self.config.program.display();
        let spawner = Spawner::shared().map_err(|error| format!("no thread for starting agents: {error}"))?;
        let mut child = spawner
            .spawn(self.command(), DeathSignal::Terminate)
            .await
            .map_err(|error| format!("agent {program} cannot be started: {error}"))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("the agent has no output".to_owned());
        };
        let mut log = Log::follow(self.id, BufReader::new(stderr));
        let mut stdout = BufReader::new(stdout);
        let announced = tokio::time::timeout(ANNOUNCE_TIMEOUT, line(&mut stdout)).await;
        let failure = match announced {
            Ok(Some(text)) => match serde_json::from_str::<Announcement>(&text) {
                Ok(announcement) => return Ok(AgentProcess { url: announcement.address, child, log }),
                Err(error) => format!("agent said {text:?} instead of its address: {error}"),
            },
            Ok(None) => match tokio::time::timeout(STOP_PATIENCE, child.wait()).await {
                Ok(Ok(status)) => return Err(log.explain(status).await),
                _ => "agent closed its output and did not end".to_owned(),
            },
            Err(_) => format!("agent did not say its address within {} s", ANNOUNCE_TIMEOUT.as_secs()),
        };
        end(&mut child).await;
        Err(failure)
    }
}

// === impl AgentProcess ===

#[async_trait]
impl Agent for AgentProcess {
    fn url(&self) -> String {
        self.url.clone()
    }

    async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => self.log.explain(status).await,
            Err(error) => format!("agent cannot be waited for: {error}"),
        }
    }

    async fn stop(&mut self) {
        end(&mut self.child).await;
    }
}

async fn end(child: &mut Child) {
    if let Err(error) = terminate_and_wait(child, STOP_PATIENCE).await {
        tracing::warn!("an agent cannot be ended: {error}");
    }
}

// === impl Log ===

impl Log {
    fn follow(id: InstanceId, mut stderr: impl AsyncBufRead + Unpin + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(VecDeque::with_capacity(KEPT_LINES)));
        let kept = lines.clone();
        let reader = tokio::spawn(async move {
            while let Some(text) = line(&mut stderr).await {
                tracing::debug!(%id, "{text}");
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == KEPT_LINES {
                    kept.pop_front();
                }
                kept.push_back(text);
            }
        });
        Self { lines, reader }
    }

    /// Why it ended: its own error line if it left one, else its exit status.
    async fn explain(&mut self, status: ExitStatus) -> String {
        // A grandchild may hold the pipe's other end; what was written before the end is there at once.
        let _ = tokio::time::timeout(Duration::from_millis(200), &mut self.reader).await;
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        match lines.iter().rev().find_map(|text| text.strip_prefix("error: ")) {
            Some(error) if !status.success() => format!("agent exited: {error}"),
            _ => format!("agent exited ({status})"),
        }
    }
}

/// The next line, cut at 16 KiB; `None` at the end.
async fn line(reader: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    match reader.take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(String::from_utf8_lossy(&bytes).trim_end().to_owned()),
    }
}
