//! Provider `local`: agents as child processes on this computer, started again when they end.

mod launch;
mod supervise;

use crate::provider::{Change, Provider};
use async_trait::async_trait;
use launch::AgentLauncher;
use loco_model::InstanceId;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use supervise::supervise;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Which agents, and how they are started.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// The instances.
    pub instances: Vec<InstanceId>,
    /// The program that is an agent.
    pub program: PathBuf,
    /// Its arguments, the same for every instance: subcommand, profile, accelerator … `--instance`, `--listen`,
    /// `--token-file`, `--state-dir` and `--json` are added.
    pub arguments: Vec<OsString>,
    /// The file with the token that agents ask for.
    pub token_file: PathBuf,
    /// Folder for each instance's own folder.
    pub state_dir: PathBuf,
}

/// The provider.
#[derive(Clone, Debug)]
pub struct Local {
    config: Arc<LocalConfig>,
}

// === impl Local ===

impl Local {
    /// A provider that starts nothing yet.
    #[must_use]
    pub fn new(config: LocalConfig) -> Self {
        Self { config: Arc::new(config) }
    }
}

#[async_trait]
impl Provider for Local {
    async fn run(self: Box<Self>, changes: mpsc::Sender<Change>, stop: CancellationToken) {
        let mut supervisors = JoinSet::new();
        for id in self.config.instances.iter().copied() {
            let launcher = AgentLauncher::new(id, self.config.clone());
            supervisors.spawn(supervise(id, launcher, changes.clone(), stop.clone()));
        }
        // Every supervisor tells its instance before it waits for anything.
        tokio::task::yield_now().await;
        if changes.send(Change::Listed).await.is_err() {
            tracing::debug!("the registry ended before the provider");
        }
        while let Some(ended) = supervisors.join_next().await {
            if let Err(error) = ended {
                tracing::error!("a supervisor broke: {error}");
            }
        }
    }
}
