//! What a control plane tells on `/api/events`, with the time at which it was heard.

use anyhow::{Result, anyhow};
use futures::StreamExt as _;
use loco_http::{Client, EventStream};
use loco_model::InstanceId;
use loco_model::api::{Event, Instance};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// One event, and when it was heard.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// What.
    pub event: Event,
}

/// Listens until dropped, and keeps everything.
pub struct Follower {
    heard: Arc<Mutex<Vec<Heard>>>,
    count: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(mut events: EventStream, heard: Arc<Mutex<Vec<Heard>>>, count: watch::Sender<usize>) {
    while let Some(next) = events.next().await {
        let at = Instant::now();
        let event = match next {
            Ok(event) => event,
            Err(error) => {
                tracing::debug!("the control plane's events ended: {error}");
                return;
            }
        };
        match serde_json::from_str::<Event>(&event.data) {
            Ok(event) => {
                let mut heard = heard.lock();
                heard.push(Heard { at, event });
                count.send_replace(heard.len());
            }
            Err(error) => tracing::warn!("an event {:?} that is not understood: {error}", event.name),
        }
    }
}

// === impl Follower ===

impl Follower {
    /// Begins to listen.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn start(client: &Client, api: &str) -> Result<Self> {
        let events = client.events(&format!("{api}/api/events")).await?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (sender, count) = watch::channel(0);
        let task = tokio::spawn(listen(events, Arc::clone(&heard), sender));
        Ok(Self { heard, count, task })
    }

    /// Whether it still listens: not after the control plane ended.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.count.has_changed().is_ok()
    }

    /// How many events were heard so far: where to look on from.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.heard.lock().len()
    }

    /// The first event from `mark` on that `is` takes, waiting for it.
    ///
    /// # Errors
    /// When none came within `patience`, or the control plane is gone: tells the last events.
    pub async fn wait<T>(
        &self,
        what: &str,
        mark: usize,
        patience: Duration,
        mut is: impl FnMut(&Heard) -> Option<T>,
    ) -> Result<T> {
        let mut count = self.count.clone();
        let mut next = mark;
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            count.borrow_and_update();
            {
                let heard = self.heard.lock();
                while let Some(event) = heard.get(next) {
                    next += 1;
                    if let Some(value) = is(event) {
                        return Ok(value);
                    }
                }
            }
            let gone = match tokio::time::timeout_at(deadline, count.changed()).await {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => "the control plane's events ended",
                Err(_) => "it did not come in time",
            };
            let last: Vec<Event> = self.since(mark).into_iter().rev().take(5).map(|heard| heard.event).collect();
            return Err(anyhow!("waited {patience:?} for {what}: {gone}; the last events, newest first: {last:?}"));
        }
    }

    /// Everything from `mark` on.
    #[must_use]
    pub fn since(&self, mark: usize) -> Vec<Heard> {
        self.heard.lock().iter().skip(mark).cloned().collect()
    }

    /// The states of one instance from `mark` on, in order.
    #[must_use]
    pub fn of(&self, id: InstanceId, mark: usize) -> Vec<(Instant, Instance)> {
        let heard = self.since(mark);
        heard.into_iter().filter_map(|heard| instance_of(&heard, id)).collect()
    }

    /// How all instances are now.
    #[must_use]
    pub fn now(&self) -> BTreeMap<InstanceId, Instance> {
        let mut all = BTreeMap::new();
        for heard in self.heard.lock().iter() {
            match &heard.event {
                Event::Instances { instances } => {
                    all = instances.iter().map(|instance| (instance.id, instance.clone())).collect();
                }
                Event::Instance { instance } => drop(all.insert(instance.id, instance.as_ref().clone())),
                Event::Removed { id } => drop(all.remove(id)),
                _ => {}
            }
        }
        all
    }

    /// Waits until `is` holds of an instance in an event from `mark` on; when that was heard, and how it was then.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub async fn wait_instance(
        &self,
        what: &str,
        id: InstanceId,
        mark: usize,
        patience: Duration,
        is: impl Fn(&Instance) -> bool,
    ) -> Result<(Instant, Instance)> {
        self.wait(what, mark, patience, |heard| instance_of(heard, id).filter(|(_, instance)| is(instance))).await
    }
}

/// The instance as an event tells it.
fn instance_of(heard: &Heard, id: InstanceId) -> Option<(Instant, Instance)> {
    match &heard.event {
        Event::Instance { instance } if instance.id == id => Some((heard.at, instance.as_ref().clone())),
        Event::Instances { instances } => {
            instances.iter().find(|instance| instance.id == id).map(|instance| (heard.at, instance.clone()))
        }
        _ => None,
    }
}
