//! The one task that knows all instances.

use crate::hub::Hub;
use crate::monitor::{Heard, follow};
use crate::plane::Instances;
use crate::provider::{Change, Found};
use crate::state::{Contact, derive};
use loco_model::api::Event;
use loco_model::{InstanceId, InstanceState};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

struct Entry {
    found: Found,
    contact: Contact,
    was_live: bool,
    generation: u64,
    follower: Option<AbortHandle>,
}

pub(crate) struct Registry {
    hub: Hub,
    entries: BTreeMap<InstanceId, Entry>,
    followers: JoinSet<()>,
    generations: u64,
}

// === impl Registry ===

impl Registry {
    pub(crate) fn new(hub: Hub) -> Self {
        Self { hub, entries: BTreeMap::new(), followers: JoinSet::new(), generations: 0 }
    }

    /// Runs until the provider ends.
    pub(crate) async fn run(mut self, mut changes: mpsc::Receiver<Change>) {
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
                if self.update(|instances| instances.all.remove(&id).is_some()) {
                    self.hub.events().push(Event::Removed { id });
                }
            }
            Change::Listed => {
                self.update(|instances| !std::mem::replace(&mut instances.listed, true));
            }
            Change::Discovery(info) => self.hub.set_discovery(*info),
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
                self.followers.spawn(follow(self.hub.client().clone(), agent, id, self.generations, heard.clone()))
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
        let shown = instance.clone();
        let changed = self.update(|instances| {
            let old = instances.all.get(&id);
            if old.is_none_or(|old| old.state != instance.state) {
                tracing::info!(%id, state = instance.state.word(), reason = instance.reason.as_deref(), "instance");
            }
            old != Some(&instance) && {
                instances.all.insert(id, instance);
                true
            }
        });
        if changed {
            self.hub.events().push(Event::Instance { instance: Box::new(shown) });
        }
    }

    fn update(&self, change: impl FnOnce(&mut Instances) -> bool) -> bool {
        self.hub.shared().instances.send_if_modified(|instances| change(Arc::make_mut(instances)))
    }
}
