//! A running control plane: its tasks, and the server that tells of them.

use crate::alerts;
use crate::api;
use crate::breaker::Breakers;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::provider::Provider;
use crate::registry::Registry;
use crate::store::{Store, StoreError};
use crate::usage;
use loco_http::{BindError, Client, ClientError, Guard, HostName, Origin, Server, TokenError, TokenFile};
use loco_model::InstanceId;
use loco_model::api::Instance;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// All instances at one moment, by their place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instances {
    /// Whether the provider has told everything that it knew at its start.
    pub listed: bool,
    /// The instances.
    pub all: BTreeMap<InstanceId, Instance>,
}

/// How the control plane is reached, and by whom.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// Where its API listens.
    pub listen: SocketAddr,
    /// The file with the token of its API and of its agents.
    pub token_file: PathBuf,
    /// Further names by which clients call it.
    pub allow_hosts: Vec<HostName>,
    /// Web sites whose pages may use it.
    pub allow_origins: Vec<Origin>,
    /// Folder for what it remembers; `None`: it remembers nothing.
    pub state_dir: Option<PathBuf>,
    /// Whether it repairs by itself, as long as its configuration `recovery` says nothing else.
    pub recover: bool,
}

/// The control plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Its token file cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Its address cannot be listened at.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Its state folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The client for its agents cannot be set up.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    url: String,
    hub: Hub,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

// === impl ControlPlane ===

impl ControlPlane {
    /// Starts the provider, the monitor and the API.
    ///
    /// # Errors
    /// When the token file cannot be used or the address is taken.
    pub async fn start(config: ControlConfig, provider: Box<dyn Provider>) -> Result<Self, ControlError> {
        let tokens = TokenFile::open(&config.token_file)?;
        let client = Client::new(tokens.clone())?;
        let server = Server::bind(config.listen).await?;
        let url = server.url();
        let guard = Guard::new(tokens)
            .listening_at(server.address().ip())
            .allow_hosts(config.allow_hosts)
            .allow_origins(config.allow_origins);
        let store = match &config.state_dir {
            Some(folder) => Store::open(folder)?,
            None => Store::in_memory(),
        };
        let (hub, commands) = Hub::new(client, provider.hand(), store.clone(), Breakers::new(), config.recover);
        let stop = CancellationToken::new();
        let (changes_in, changes) = mpsc::channel(64);
        let metrics = Metrics::new(server.connections());
        let routes = api::serve(guard, hub.clone(), metrics.clone(), stop.clone());
        let mut tasks = JoinSet::new();
        let (registry, words) = Registry::new(hub.clone());
        tasks.spawn(registry.run(words, changes, commands));
        tasks.spawn(usage::deliver(hub.clone(), store, stop.clone()));
        tasks.spawn(alerts::run(hub.clone(), metrics, stop.clone()));
        tasks.spawn(provider.run(changes_in, stop.clone()));
        tasks.spawn(server.serve(routes, stop.clone()));
        Ok(Self { url, hub, stop, tasks })
    }

    /// Base URL of its API, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The instances, now and at every change.
    #[must_use]
    pub fn instances(&self) -> watch::Receiver<Arc<Instances>> {
        self.hub.instances()
    }

    /// All that it knows and can do.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Ends the API and everything that the provider started; returns when all of it is gone.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!("a task of the control plane broke: {error}");
            }
        }
        let store = self.hub.store().clone();
        // Its thread writes; only that is waited for.
        if !tokio::task::spawn_blocking(move || store.flush()).await.unwrap_or(false) {
            tracing::warn!("what was last to be remembered could not be written");
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
