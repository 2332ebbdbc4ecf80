//! Where instances come from: one stream of changes, whatever finds them.

use async_trait::async_trait;
use loco_model::InstanceId;
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
}

/// Finds instances, or makes them.
#[async_trait]
pub trait Provider: Send + 'static {
    /// Tells every change until `stop` is cancelled; then ends what it started itself, and returns.
    async fn run(self: Box<Self>, changes: mpsc::Sender<Change>, stop: CancellationToken);
}
