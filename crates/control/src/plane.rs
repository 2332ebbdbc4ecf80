//! The one task that knows all instances, and the server that tells of them.

use crate::api;
use crate::monitor::{Heard, follow};
use crate::provider::{Change, Found, Provider};
use crate::state::{Contact, derive};
use loco_http::{BindError, Client, ClientError, Guard, HostName, Limits, Origin, Server, TokenError, TokenFile};
use loco_model::api::Instance;
use loco_model::{InstanceId, InstanceState};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
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
    /// The client for its agents cannot be set up.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    url: String,
    instances: watch::Receiver<Arc<Instances>>,
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
        let (publish, instances) = watch::channel(Arc::new(Instances::default()));
        let stop = CancellationToken::new();
        let (changes_in, changes) = mpsc::channel(64);
        let routes = guard.protect(api::routes(instances.clone(), stop.clone()), Limits::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(Registry::new(client, publish).run(changes));
        tasks.spawn(provider.run(changes_in, stop.clone()));
        tasks.spawn(server.serve(routes, stop.clone()));
        Ok(Self { url, instances, stop, tasks })
    }

    /// Base URL of its API, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The instances, now and at every change.
    #[must_use]
    pub fn instances(&self) -> watch::Receiver<Arc<Instances>> {
        self.instances.clone()
    }

    /// Ends the API and everything that the provider started; returns when all of it is gone.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!("a task of the control plane broke: {error}");
            }
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Entry {
    found: Found,
    contact: Contact,
    was_live: bool,
    generation: u64,
    follower: Option<AbortHandle>,
}

struct Registry {
    client: Client,
    publish: watch::Sender<Arc<Instances>>,
    entries: BTreeMap<InstanceId, Entry>,
    followers: JoinSet<()>,
    generations: u64,
}

// === impl Registry ===

impl Registry {
    fn new(client: Client, publish: watch::Sender<Arc<Instances>>) -> Self {
        Self { client, publish, entries: BTreeMap::new(), followers: JoinSet::new(), generations: 0 }
    }

    /// Runs until the provider ends.
    async fn run(mut self, mut changes: mpsc::Receiver<Change>) {
        let (heard_in, mut heard) = mpsc::channel(64);
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    Some(change) => self.change(change, &heard_in),
                    None => return,
                },
                Some(heard) = heard.recv() => self.hear(heard),
                Some(_) = self.followers.join_next() => {}
            }
        }
    }

    fn change(&mut self, change: Change, heard: &mpsc::Sender<Heard>) {
        match change {
            Change::Found(found) => self.found(found, heard),
            Change::Gone(id) => {
                if let Some(follower) = self.entries.remove(&id).and_then(|entry| entry.follower) {
                    follower.abort();
                }
                self.update(|instances| instances.all.remove(&id).is_some());
            }
            Change::Listed => self.update(|instances| !std::mem::replace(&mut instances.listed, true)),
        }
    }

    fn found(&mut self, found: Found, heard: &mpsc::Sender<Heard>) {
        let id = found.id;
        let agent = found.agent.clone();
        let entry = self.entries.entry(id).or_insert_with(|| Entry {
            found: Found { agent: None, ..found.clone() },
            contact: Contact::None,
            was_live: false,
            generation: 0,
            follower: None,
        });
        if entry.found.agent != agent {
            if let Some(follower) = entry.follower.take() {
                follower.abort();
            }
            entry.contact = Contact::None;
            self.generations += 1;
            entry.generation = self.generations;
            entry.follower = agent.map(|agent| {
                self.followers.spawn(follow(self.client.clone(), agent, id, self.generations, heard.clone()))
            });
        }
        entry.found = found;
        self.show(id);
    }

    fn hear(&mut self, heard: Heard) {
        if let Some(entry) = self.entries.get_mut(&heard.id).filter(|entry| entry.generation == heard.generation) {
            entry.contact = heard.contact;
            self.show(heard.id);
        }
    }

    fn show(&mut self, id: InstanceId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let instance = derive(&entry.found, &entry.contact, entry.was_live);
        entry.was_live |= instance.state == InstanceState::Live;
        self.update(|instances| {
            let old = instances.all.get(&id);
            if old.is_none_or(|old| old.state != instance.state) {
                tracing::info!(%id, state = instance.state.word(), reason = instance.reason.as_deref(), "instance");
            }
            old != Some(&instance) && {
                instances.all.insert(id, instance);
                true
            }
        });
    }

    fn update(&self, change: impl FnOnce(&mut Instances) -> bool) {
        self.publish.send_if_modified(|instances| change(Arc::make_mut(instances)));
    }
}
