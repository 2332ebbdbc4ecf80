//! Everything that the control plane knows and can do, for those who serve it over HTTP, keep it, or embed it.

use crate::events::EventLog;
use crate::plane::Instances;
use crate::provider::Hand;
use crate::usage::Usage;
use loco_http::Client;
use loco_model::InstanceId;
use loco_model::api::{DiscoveryInfo, Event, InstanceHealth, RecoveryStatus};
use loco_model::recovery::{Attempt, Initiator, RecoverOrder};
use loco_model::usage::InputHolder;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// What was asked for cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// There is no such instance (404).
    #[error("unknown instance {0}: see GET /api/instances")]
    UnknownInstance(InstanceId),
    /// There is no such viewer, or its lease ended (404).
    #[error("unknown viewer {0:?}: it must tell of itself first (PUT /api/viewers/{{viewer}})")]
    UnknownViewer(String),
    /// A value is not allowed (400).
    #[error("{0}")]
    Invalid(String),
    /// Another attempt is being made, or another viewer holds the input (409).
    #[error("{0}")]
    Conflict(String),
    /// Another viewer holds the instance's input (409).
    #[error("{name} ({viewer}) holds this instance's input: take it over with \"take\"", name = .0.name, viewer = .0.viewer)]
    Held(InputHolder),
    /// The hour's attempts are used up (429).
    #[error("{detail}")]
    Limit {
        /// For a person.
        detail: String,
        /// When the next attempt becomes free, in milliseconds from now; `None` while unknown.
        retry_after_ms: Option<u64>,
    },
    /// It cannot be done now (503).
    #[error("{0}")]
    Unavailable(String),
}

/// The control plane's knowledge and its handles. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) instances: watch::Sender<Arc<Instances>>,
    pub(crate) discovery: Mutex<DiscoveryInfo>,
    pub(crate) events: EventLog,
    pub(crate) usage: Usage,
    pub(crate) hand: Arc<dyn Hand>,
}

// === impl HubError ===

impl HubError {
    /// The HTTP status that tells it.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Invalid(_) => 400,
            Self::UnknownInstance(_) | Self::UnknownViewer(_) => 404,
            Self::Conflict(_) | Self::Held(_) => 409,
            Self::Limit { .. } => 429,
            Self::Unavailable(_) => 503,
        }
    }
}

// === impl Hub ===

impl Hub {
    pub(crate) fn new(client: Client, hand: Arc<dyn Hand>) -> Self {
        let instances = watch::Sender::new(Arc::new(Instances::default()));
        let known = instances.subscribe();
        let usage = Usage::new(instances.subscribe());
        let told = usage.clone();
        // Milliseconds with room for a thousand events each: a later run begins higher.
        let events = EventLog::new(unix_ms().saturating_mul(1_000), move || {
            let instances = known.borrow().all.values().cloned().collect();
            vec![
                Event::Instances { instances },
                Event::Active { active: told.active() },
                Event::Viewers { viewers: told.viewers() },
            ]
        });
        usage.tell(events.clone());
        let discovery = Mutex::new(DiscoveryInfo::default());
        Self { shared: Arc::new(Shared { client, instances, discovery, events, usage, hand }) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The instances, now and at every change.
    #[must_use]
    pub fn instances(&self) -> watch::Receiver<Arc<Instances>> {
        self.shared.instances.subscribe()
    }

    /// An instance's health; `None` when there is no such instance.
    #[must_use]
    pub fn health(&self, id: InstanceId) -> Option<InstanceHealth> {
        let _ = id;
        None
    }

    /// Every instance's health.
    #[must_use]
    pub fn healths(&self) -> BTreeMap<InstanceId, InstanceHealth> {
        BTreeMap::new()
    }

    /// Base URL of an instance's agent, without a trailing slash; `None` while it has none.
    #[must_use]
    pub fn agent(&self, id: InstanceId) -> Option<String> {
        let instances = self.shared.instances.borrow();
        instances.all.get(&id)?.endpoints.as_ref().map(|endpoints| endpoints.agent.clone())
    }

    /// Speaks to an instance's agent with the token that it asks for; the control plane's own where its provider names
    /// no other.
    #[must_use]
    pub fn client_of(&self, id: InstanceId) -> Client {
        let _ = id;
        self.shared.client.clone()
    }

    /// How finding instances goes.
    #[must_use]
    pub fn discovery(&self) -> DiscoveryInfo {
        let mut info = self.shared.discovery.lock().unwrap_or_else(PoisonError::into_inner).clone();
        info.instances = self.shared.instances.borrow().all.len();
        info.age_ms = info.updated_at_ms.map(|at| unix_ms().saturating_sub(at));
        info
    }

    pub(crate) fn set_discovery(&self, info: DiscoveryInfo) {
        *self.shared.discovery.lock().unwrap_or_else(PoisonError::into_inner) = info;
        self.shared.events.push(Event::Discovery { info: self.discovery() });
    }

    /// Looks for instances now.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub async fn refresh(&self) -> Result<DiscoveryInfo, HubError> {
        self.shared.hand.refresh().await.map_err(HubError::Unavailable)?;
        Ok(self.discovery())
    }

    /// Begins an attempt to repair an instance; it goes on after this returns, and is told as an event when it ends.
    ///
    /// # Errors
    /// When there is no such instance or nothing to repair, another attempt is being made, or the limit is reached.
    pub async fn recover(&self, id: InstanceId, order: RecoverOrder, by: Initiator) -> Result<Attempt, HubError> {
        let _ = (order, by);
        Err(HubError::UnknownInstance(id))
    }

    /// The limit, and what was done lately.
    #[must_use]
    pub fn recovery_status(&self) -> RecoveryStatus {
        RecoveryStatus::default()
    }

    /// Every change, numbered.
    #[must_use]
    pub fn events(&self) -> &EventLog {
        &self.shared.events
    }

    /// Who uses which instance.
    #[must_use]
    pub fn usage(&self) -> &Usage {
        &self.shared.usage
    }

    /// Speaks to agents with the control plane's own token; see [`Self::client_of`].
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.shared.client
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

/// The clock on the wall, in milliseconds since 1970 UTC: for showing only. What must last a time is measured by a clock
/// that nobody sets.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
