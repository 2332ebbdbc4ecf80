//! Everything that the control plane knows and can do, for those who serve it over HTTP, keep it, or embed it.

use crate::breaker::{Breaker, Breakers};
use crate::events::EventLog;
use crate::plane::Instances;
use crate::provider::Hand;
use crate::registry::Command;
use crate::store::{RecoveryConfig, Store};
use crate::usage::Usage;
use loco_http::Client;
use loco_model::InstanceId;
use loco_model::api::{DiscoveryInfo, Event, InstanceHealth, KubernetesPlace, RecoveryLimit, RecoveryStatus};
use loco_model::classify::Verdict;
use loco_model::recovery::{Attempt, Initiator, MAX_ATTEMPTS, RecoverOrder, WINDOW_MS};
use loco_model::report::HealthReport;
use loco_model::usage::InputHolder;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};

/// Orders that wait for the registry.
const WAITING_COMMANDS: usize = 64;
/// Attempts that [`Hub::recovery_status`] lists.
const LISTED_ATTEMPTS: usize = 200;

/// What was asked for cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// There is no such instance (404).
    #[error("unknown instance {0}: see GET /api/instances")]
    UnknownInstance(InstanceId),
    /// There is no such viewer, or its lease ended (404).
    #[error("unknown viewer {0:?}: it must tell of itself first (PUT /api/viewers/{{viewer}})")]
    UnknownViewer(String),
    /// A value is not allowed (422).
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
    pub(crate) events: EventLog,
    pub(crate) usage: Usage,
    pub(crate) hand: Arc<dyn Hand>,
    pub(crate) store: Store,
    pub(crate) breakers: Breakers,
    discovery: Mutex<Discovery>,
    known: RwLock<BTreeMap<InstanceId, Arc<Known>>>,
    reach: watch::Sender<u64>,
    commands: mpsc::Sender<Command>,
    /// Whether it may repair by itself at all.
    recover: bool,
}

/// How finding instances goes.
#[derive(Default)]
struct Discovery {
    info: DiscoveryInfo,
    /// What the last event of it said, times left out; `None` before the first.
    told: Option<DiscoveryInfo>,
}

/// The way to an agent, whether it answers or not.
#[derive(Clone, Debug)]
pub struct AgentWay {
    /// Its base URL, without a trailing slash; `None` while there is none.
    pub url: Option<String>,
    /// Speaks to it with the token that it asks for: the control plane's own where its provider names no other.
    pub client: Client,
}

/// What the registry knows of an instance beyond what everyone sees of it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) report: Option<Arc<HealthReport>>,
    pub(crate) verdict: Verdict,
    pub(crate) limit: RecoveryLimit,
    pub(crate) kubernetes: Option<KubernetesPlace>,
    pub(crate) way: AgentWay,
    /// How to reach its agent; `None` while there is no contact.
    pub(crate) reach: Option<Reach>,
}

/// How to reach an agent.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    pub(crate) agent: String,
    pub(crate) client: Client,
    pub(crate) breaker: Breaker,
    /// Counts contacts: another number may be another process.
    pub(crate) epoch: u64,
}

// === impl HubError ===

impl HubError {
    /// The HTTP status that tells it.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::UnknownInstance(_) | Self::UnknownViewer(_) => 404,
            Self::Conflict(_) | Self::Held(_) => 409,
            Self::Invalid(_) => 422,
            Self::Limit { .. } => 429,
            Self::Unavailable(_) => 503,
        }
    }
}

// === impl Hub ===

impl Hub {
    /// A hub that knows nothing yet, and the orders that it passes on.
    pub(crate) fn new(
        client: Client,
        hand: Arc<dyn Hand>,
        store: Store,
        breakers: Breakers,
        recover: bool,
    ) -> (Self, mpsc::Receiver<Command>) {
        let instances = watch::Sender::new(Arc::new(Instances::default()));
        let known = instances.subscribe();
        let usage = Usage::new(instances.subscribe(), store.clone());
        let told = usage.clone();
        let remembered = store.clone();
        // Milliseconds with room for a thousand events each: a later run begins higher.
        let events = EventLog::new(unix_ms().saturating_mul(1_000), move || {
            let instances = known.borrow().all.values().cloned().collect();
            let mut whole = vec![
                Event::Instances { instances },
                Event::Active { active: told.active() },
                Event::Viewers { viewers: told.viewers() },
            ];
            whole.extend(crate::alerts::lasting(&remembered).into_iter().map(|alert| Event::Alert { alert }));
            whole
        });
        usage.tell(events.clone());
        let (commands, orders) = mpsc::channel(WAITING_COMMANDS);
        let shared = Shared {
            client,
            instances,
            events,
            usage,
            hand,
            store,
            breakers,
            discovery: Mutex::new(Discovery::default()),
            known: RwLock::new(BTreeMap::new()),
            reach: watch::Sender::new(0),
            commands,
            recover,
        };
        (Self { shared: Arc::new(shared) }, orders)
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
        self.known().get(&id).map(|known| known.health(id))
    }

    /// Every instance's health.
    #[must_use]
    pub fn healths(&self) -> BTreeMap<InstanceId, InstanceHealth> {
        self.known().iter().map(|(id, known)| (*id, known.health(*id))).collect()
    }

    /// The way to an instance's agent; `None` when there is no such instance. Both parts are of one moment: no agent is
    /// shown another one's token.
    #[must_use]
    pub fn agent(&self, id: InstanceId) -> Option<AgentWay> {
        self.known().get(&id).map(|known| known.way.clone())
    }

    /// How finding instances goes.
    #[must_use]
    pub fn discovery(&self) -> DiscoveryInfo {
        let mut info = self.shared.discovery.lock().unwrap_or_else(PoisonError::into_inner).info.clone();
        info.instances = self.shared.instances.borrow().all.len();
        info.age_ms = info.updated_at_ms.map(|at| unix_ms().saturating_sub(at));
        info
    }

    pub(crate) fn set_discovery(&self, info: DiscoveryInfo) {
        self.shared.discovery.lock().unwrap_or_else(PoisonError::into_inner).info = info;
        let info = self.discovery();
        // That it was looked again is no news: only what was found.
        let said = DiscoveryInfo { updated_at_ms: None, age_ms: None, ..info.clone() };
        let mut known = self.shared.discovery.lock().unwrap_or_else(PoisonError::into_inner);
        if known.told.as_ref() != Some(&said) {
            known.told = Some(said);
            drop(known);
            self.shared.events.push(Event::Discovery { info });
        }
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
        let (answer, answered) = oneshot::channel();
        let ended = || HubError::Unavailable("the control plane is ending".to_owned());
        let command = Command::Recover { id, order, by, answer };
        self.shared.commands.send(command).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    /// The limit, and what was done lately.
    #[must_use]
    pub fn recovery_status(&self) -> RecoveryStatus {
        RecoveryStatus {
            max_attempts: MAX_ATTEMPTS,
            window_ms: WINDOW_MS,
            automatic: self.repairs_by_itself(),
            instances: self.known().iter().map(|(id, known)| (*id, known.limit.clone())).collect(),
            attempts: self.shared.store.attempts(LISTED_ATTEMPTS),
        }
    }

    /// Whether it repairs unasked.
    #[must_use]
    pub fn repairs_by_itself(&self) -> bool {
        self.shared.recover && self.shared.store.settings::<RecoveryConfig>().automatic
    }

    /// What is around every call to something outside.
    #[must_use]
    pub fn breakers(&self) -> &Breakers {
        &self.shared.breakers
    }

    /// What is remembered.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    pub(crate) fn know(&self, id: InstanceId, known: Option<Known>) {
        let mut all = self.shared.known.write().unwrap_or_else(PoisonError::into_inner);
        let epoch = |known: Option<&Known>| known.and_then(|known| Some(known.reach.as_ref()?.epoch));
        let after = epoch(known.as_ref());
        let before = match known {
            Some(known) => all.insert(id, Arc::new(known)),
            None => all.remove(&id),
        };
        drop(all);
        if epoch(before.as_deref()) != after {
            self.shared.reach.send_modify(|count| *count += 1);
        }
    }

    /// The agents that can be reached.
    pub(crate) fn reachable(&self) -> BTreeMap<InstanceId, Reach> {
        self.known().iter().filter_map(|(id, known)| Some((*id, known.reach.clone()?))).collect()
    }

    /// Counts agents that can be reached anew, or not any more.
    pub(crate) fn reach_changes(&self) -> watch::Receiver<u64> {
        self.shared.reach.subscribe()
    }

    fn known(&self) -> RwLockReadGuard<'_, BTreeMap<InstanceId, Arc<Known>>> {
        self.shared.known.read().unwrap_or_else(PoisonError::into_inner)
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

    /// Speaks to agents with the control plane's own token; see [`Self::agent`].
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.shared.client
    }
}

// === impl Known ===

impl Known {
    fn health(&self, id: InstanceId) -> InstanceHealth {
        let verdict = &self.verdict;
        InstanceHealth {
            instance_id: id,
            overall_status: verdict.overall,
            deep_health: self.report.as_ref().map(|report| report.deep_health.clone()),
            timestamp_ms: self.report.as_ref().map(|report| report.timestamp_ms),
            failure_type: verdict.class,
            faults: verdict.faults.iter().map(|fault| fault.text.clone()).collect(),
            recovery_needed: verdict.recovery_needed(),
            recommendation: verdict.recommendation.clone(),
            kubernetes: self.kubernetes.clone(),
        }
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
