//! Provider `local`: agents as child processes on this computer, started again when they end.

mod launch;
mod supervise;

use crate::hub::unix_ms;
use crate::provider::{Change, Hand, Provider};
use async_trait::async_trait;
use launch::AgentLauncher;
use loco_model::InstanceId;
use loco_model::api::DiscoveryInfo;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use supervise::supervise;
use tokio::sync::{Notify, mpsc};
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
    kicks: Arc<Kicks>,
}

/// Ends an instance's agent, so that its supervisor starts it again.
#[derive(Debug)]
struct Kicks(BTreeMap<InstanceId, Arc<Notify>>);

// === impl Local ===

impl Local {
    /// A provider that starts nothing yet.
    #[must_use]
    pub fn new(config: LocalConfig) -> Self {
        let kicks = config.instances.iter().map(|id| (*id, Arc::new(Notify::new()))).collect();
        Self { config: Arc::new(config), kicks: Arc::new(Kicks(kicks)) }
    }
}

#[async_trait]
impl Hand for Kicks {
    fn can_restart(&self) -> bool {
        true
    }

    async fn restart(&self, id: InstanceId) -> Result<(), String> {
        let kick = self.0.get(&id).ok_or_else(|| format!("{id} is not started here"))?;
        kick.notify_one();
        Ok(())
    }
}

#[async_trait]
impl Provider for Local {
    fn hand(&self) -> Arc<dyn Hand> {
        self.kicks.clone()
    }

    async fn run(self: Box<Self>, changes: mpsc::Sender<Change>, stop: CancellationToken) {
        let info = DiscoveryInfo {
            mode: "local".to_owned(),
            source: Some(self.config.program.display().to_string()),
            updated_at_ms: Some(unix_ms()),
            ..DiscoveryInfo::default()
        };
        // Whoever does not listen needs no list either.
        let _ = changes.send(Change::Discovery(Box::new(info))).await;
        let mut supervisors = JoinSet::new();
        for (id, kick) in &self.kicks.0 {
            let launcher = AgentLauncher::new(*id, self.config.clone());
            supervisors.spawn(supervise(*id, launcher, kick.clone(), changes.clone(), stop.clone()));
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
