//! Where instances come from: one stream of changes, whatever finds them.

use async_trait::async_trait;
use loco_model::InstanceId;
use loco_model::api::{DiscoveryInfo, KubernetesPlace};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What a provider knows of an instance's agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is being started for the first time.
    Starting,
    /// It said where it answers.
    Up,
    /// It is gone and being replaced.
    Restarting {
        /// Why.
        reason: String,
    },
    /// It was tried several times in vain; it is still tried now and then.
    Failed {
        /// The last reason.
        reason: String,
    },
    /// It was ended on purpose.
    Stopped,
}

/// An instance, as its provider sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub id: InstanceId,
    /// What people call it.
    pub name: String,
    /// Base URL of its agent, without a trailing slash; `None` while there is none.
    pub agent: Option<String>,
    /// How its agent is.
    pub phase: Phase,
    /// How often this provider started its agent; `None` where someone else starts it.
    pub agent_starts: Option<u32>,
    /// File with the token that its agent asks for; `None`: the control plane's own token file.
    pub token_file: Option<PathBuf>,
    /// Whether somebody starts its agent again when that ends.
    pub supervised: bool,
    /// Its place in a cluster; `None` elsewhere.
    pub kubernetes: Option<KubernetesPlace>,
    /// Since when what is said here is out of date, in milliseconds since 1970 UTC; `None` while it is not.
    pub stale_since_ms: Option<u64>,
}

// === impl Found ===

impl Found {
    /// An instance whose agent is not known yet, and has no owner that is known of.
    #[must_use]
    pub fn new(id: InstanceId) -> Self {
        Self {
            id,
            name: id.display_name(),
            agent: None,
            phase: Phase::Starting,
            agent_starts: None,
            token_file: None,
            supervised: false,
            kubernetes: None,
            stale_since_ms: None,
        }
    }
}

/// One change in what a provider sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// New, or not as it was.
    Found(Found),
    /// No more.
    Gone(InstanceId),
    /// Everything that is there now was told: the list is complete.
    Listed,
    /// How finding goes. The number of instances and the age are filled in by the hub.
    Discovery(Box<DiscoveryInfo>),
}

/// What a running provider can be asked for.
#[async_trait]
pub trait Hand: Send + Sync + 'static {
    /// Looks again now. What it finds is told as a change, before this returns.
    ///
    /// # Errors
    /// Why it cannot look, for a person.
    async fn refresh(&self) -> Result<(), String> {
        Ok(())
    }

    /// Whether it can end an instance's agent so that it is started again.
    fn can_restart(&self) -> bool {
        false
    }

    /// Ends an instance's agent so that it is started again; returns when it was told to end.
    ///
    /// # Errors
    /// Why it cannot, for a person.
    async fn restart(&self, id: InstanceId) -> Result<(), String> {
        Err(format!("whoever starts {id} is not known here"))
    }
}

/// The hand of a provider that can do nothing on request.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHand;

impl Hand for NoHand {}

/// Finds instances, or makes them.
#[async_trait]
pub trait Provider: Send + 'static {
    /// What it can be asked for while it runs.
    fn hand(&self) -> Arc<dyn Hand> {
        Arc::new(NoHand)
    }

    /// Tells every change until `stop` is cancelled; then ends what it started itself, and returns.
    async fn run(self: Box<Self>, changes: mpsc::Sender<Change>, stop: CancellationToken);
}
