//! Who uses which instance: viewers and their focus, the shared active list, the holder of an instance's input.

mod caps;
mod deliver;
mod table;

pub(crate) use deliver::deliver;

use crate::events::EventLog;
use crate::hub::{HubError, unix_ms};
use crate::plane::Instances;
use crate::store::Store;
use loco_model::InstanceId;
use loco_model::api::Event;
use loco_model::usage::{InputClaim, InputHolder, SessionReport, SetActive, Viewer, ViewerReport};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use table::Table;
use tokio::sync::watch;
use tokio::time::Instant;

/// Who uses what. Cheap to clone.
#[derive(Clone)]
pub struct Usage {
    shared: Arc<Shared>,
}

struct Shared {
    begun: Instant,
    table: Mutex<Table>,
    instances: watch::Receiver<Arc<Instances>>,
    active: watch::Sender<Vec<InstanceId>>,
    /// Counts what matters to others: not every number that a viewer tells.
    changes: watch::Sender<u64>,
    events: OnceLock<EventLog>,
    /// Held from a change until it is told: what is told last is how it is.
    order: Mutex<()>,
    store: Store,
}

/// How an instance is used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstanceUse {
    /// Whether it is in the active list, or any viewer's focus.
    pub in_use: bool,
    /// Names of the viewers that have it focused, in the order of their ids.
    pub focused_by: Vec<String>,
    /// Whose input it takes; `None`: everyone's.
    pub holder: Option<InputHolder>,
}

// === impl Usage ===

impl Usage {
    /// Nobody uses anything but what is remembered to be active.
    pub(crate) fn new(instances: watch::Receiver<Arc<Instances>>, store: Store) -> Self {
        let shared = Shared {
            begun: Instant::now(),
            table: Mutex::new(Table::default()),
            instances,
            active: watch::Sender::new(store.active()),
            changes: watch::Sender::new(0),
            events: OnceLock::new(),
            order: Mutex::default(),
            store,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Where changes are told from now on.
    pub(crate) fn tell(&self, events: EventLog) {
        if self.shared.events.set(events).is_err() {
            tracing::error!("usage is told in one place only");
        }
    }

    /// The shared list. The first is the primary one.
    #[must_use]
    pub fn active(&self) -> Vec<InstanceId> {
        self.shared.active.borrow().clone()
    }

    /// The shared list, now and at every change.
    #[must_use]
    pub fn active_changes(&self) -> watch::Receiver<Vec<InstanceId>> {
        self.shared.active.subscribe()
    }

    /// Sets the shared list, and says how it is now: repetitions are dropped.
    ///
    /// # Errors
    /// [`HubError::UnknownInstance`] when an instance is not known, [`HubError::Invalid`] when there are more than nine.
    pub fn set_active(&self, set: SetActive) -> Result<Vec<InstanceId>, HubError> {
        let asked = match set {
            SetActive::Ids { ids } => ids,
            SetActive::Id { id } => id.into_iter().collect(),
        };
        let mut seen = BTreeSet::new();
        let ids: Vec<InstanceId> = asked.into_iter().filter(|id| seen.insert(*id)).collect();
        if ids.len() > InstanceId::COUNT {
            return Err(HubError::Invalid(format!(
                "{} instances cannot be active at once: at most {} can",
                ids.len(),
                InstanceId::COUNT
            )));
        }
        let known = self.shared.instances.borrow().clone();
        if let Some(unknown) = ids.iter().find(|id| !known.all.contains_key(id)) {
            return Err(HubError::UnknownInstance(*unknown));
        }
        self.put_active(&ids);
        Ok(ids)
    }

    fn put_active(&self, ids: &[InstanceId]) {
        let _turn = self.turn();
        let changed = self.shared.active.send_if_modified(|active| {
            let changed = active != ids;
            ids.clone_into(active);
            changed
        });
        if changed {
            self.shared.store.set_active(ids);
            self.push(Event::Active { active: ids.to_vec() });
            self.bump();
        }
    }

    /// The viewers that told of themselves lately.
    #[must_use]
    pub fn viewers(&self) -> Vec<Viewer> {
        self.table().viewers()
    }

    /// A viewer tells of itself. It is taken for gone [`VIEWER_LEASE_MS`](loco_model::usage::VIEWER_LEASE_MS) later,
    /// unless it says more.
    ///
    /// # Errors
    /// [`HubError::Invalid`] when its id or a value of its report is not allowed, [`HubError::Conflict`] when there are too
    /// many viewers.
    pub fn report(&self, viewer: &str, report: ViewerReport) -> Result<(), HubError> {
        let now = self.now();
        let changed = self.table().report(now, unix_ms(), viewer, report)?;
        self.viewers_changed(changed);
        Ok(())
    }

    /// A viewer ends; says whether it was there.
    pub fn gone(&self, viewer: &str) -> bool {
        let was_there = self.table().remove(viewer);
        self.viewers_changed(was_there);
        was_there
    }

    /// A viewer asks for an instance's input, takes it over, or gives it back. Says who holds it then. Whoever holds it
    /// loses it with the viewer's lease.
    ///
    /// # Errors
    /// When there is no such instance or viewer, or another one holds it and was only asked.
    #[expect(clippy::needless_pass_by_value, reason = "a request's body is its handler's to give away")]
    pub fn claim(&self, instance: InstanceId, claim: InputClaim) -> Result<Option<InputHolder>, HubError> {
        if !self.shared.instances.borrow().all.contains_key(&instance) {
            return Err(HubError::UnknownInstance(instance));
        }
        let (changed, holder) = self.table().claim(instance, &claim)?;
        if changed {
            self.bump();
        }
        Ok(holder)
    }

    /// Who holds an instance's input; `None`: nobody, it takes everyone's.
    #[must_use]
    pub fn holder(&self, instance: InstanceId) -> Option<InputHolder> {
        self.table().holder(instance)
    }

    /// How every instance is used that is used at all, also such as are not there (any more).
    pub(crate) fn uses(&self) -> BTreeMap<InstanceId, InstanceUse> {
        let active = self.active();
        self.table().uses(&active)
    }

    /// What viewers say of their sessions with an instance: the viewer's name, and what it says.
    pub(crate) fn sessions(&self, instance: InstanceId) -> Vec<(String, SessionReport)> {
        self.table().sessions(instance)
    }

    /// Counts changes that matter to others.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Takes viewers for gone whose lease ended; says when the next one's ends.
    pub(crate) fn expire(&self) -> Option<Instant> {
        let now = self.now();
        let (changed, next) = {
            let mut table = self.table();
            (table.expire(now), table.next_expiry())
        };
        self.viewers_changed(changed);
        next.map(|at| self.shared.begun + at)
    }

    fn viewers_changed(&self, changed: bool) {
        if changed {
            let _turn = self.turn();
            self.push(Event::Viewers { viewers: self.viewers() });
            self.bump();
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.shared.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bump(&self) {
        self.shared.changes.send_modify(|count| *count += 1);
    }

    fn push(&self, event: Event) {
        if let Some(events) = self.shared.events.get() {
            events.push(event);
        }
    }

    fn now(&self) -> Duration {
        self.shared.begun.elapsed()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Usage").field("active", &self.active()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;
    use loco_model::api::Instance;
    use std::sync::Barrier;
    use std::thread;

    const ROUNDS: usize = 5_000;

    #[test]
    fn what_is_told_and_kept_last_is_how_it_is() {
        let ids = [0, 1].map(|index| InstanceId::try_new(index).expect("index"));
        let all = ids.iter().map(|id| (*id, Instance::new(*id))).collect();
        let instances = watch::channel(Arc::new(Instances { listed: true, all })).1;
        let usage = Usage::new(instances, Store::in_memory());
        let events = EventLog::new(0, Vec::new);
        usage.tell(events.clone());
        let mut mixed_up = 0;
        let both = Barrier::new(3);
        let setter = |own: Vec<InstanceId>| {
            let (usage, both) = (&usage, &both);
            move || {
                for _ in 0..ROUNDS {
                    both.wait();
                    usage.set_active(SetActive::Ids { ids: own.clone() }).expect("known");
                    both.wait();
                }
            }
        };
        thread::scope(|scope| {
            scope.spawn(setter(vec![ids[0]]));
            scope.spawn(setter(vec![ids[1]]));
            for _ in 0..ROUNDS {
                both.wait();
                both.wait();
                let mut last = Box::pin(events.since(Some(events.newest() - 1)));
                let last = futures::executor::block_on(last.next());
                let Some((_, Event::Active { active })) = last else { panic!("not told") };
                // Compared where both wait: a panic here would leave them waiting.
                mixed_up += usize::from(active != usage.active() || usage.shared.store.active() != usage.active());
            }
        });
        assert_eq!(mixed_up, 0, "of {ROUNDS}");
    }
}
