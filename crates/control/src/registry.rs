//! The one task that knows all instances: it hears providers and agents, thinks, has repairs made, and tells.

mod entry;
mod repair;
#[cfg(test)]
mod tests;

use crate::breaker::Breakers;
use crate::hub::{AgentWay, Hub, HubError, Known, Reach, unix_ms};
use crate::monitor::{BREAKER, Heard, Told, follow};
use crate::plane::Instances;
use crate::policy::{Given, Step};
use crate::provider::{Change, Found, Phase};
use crate::state::{Seen, derive};
use crate::store::Store;
use crate::usage::InstanceUse;
use entry::{Entry, Link};
use loco_http::{Client, TokenError, TokenFile};
use loco_model::api::{Event, Instance, RecoveryLimit};
use loco_model::classify::Limits;
use loco_model::recovery::{Attempt, Initiator, RecoverOrder};
use loco_model::{InstanceId, InstanceState};
use repair::{Whose, Work};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Words of agents that may wait; they wait at their connections then.
const WAITING_WORDS: usize = 1_024;
/// Words that are taken in one turn: what they change is told once.
const WORDS_AT_ONCE: usize = 256;
/// Ledgers that are read at once.
const READS_AT_ONCE: usize = 32;
/// Attempts from before the start that are looked at.
const REMEMBERED_ATTEMPTS: usize = 1_000;

/// What the registry is asked for.
pub(crate) enum Command {
    /// To repair an instance.
    Recover {
        /// Which.
        id: InstanceId,
        /// How.
        order: RecoverOrder,
        /// Who asks.
        by: Initiator,
        /// Takes the attempt that was begun.
        answer: oneshot::Sender<Result<Attempt, HubError>>,
    },
}

/// The task.
pub(crate) struct Registry {
    hub: Hub,
    store: Store,
    /// The moment from which the policies' clock counts.
    begun: Instant,
    /// How many times faster that clock is: 1, except where a test has no hour.
    haste: u32,
    limits: Limits,
    entries: BTreeMap<InstanceId, Entry>,
    uses: BTreeMap<InstanceId, InstanceUse>,
    automatic: bool,
    /// Attempts of before the start, by instance, until it is found; and whose each was.
    remembered: BTreeMap<InstanceId, Vec<(Attempt, Whose)>>,
    followers: JoinSet<()>,
    heard: mpsc::Sender<Heard>,
    work: JoinSet<Work>,
    reads: Arc<Semaphore>,
    wakes: BTreeSet<(Instant, InstanceId)>,
    /// What is to be told at the end of this turn.
    changed: BTreeMap<InstanceId, Instance>,
    generations: u64,
}

// === impl Registry ===

impl Registry {
    pub(crate) fn new(hub: Hub) -> (Self, mpsc::Receiver<Heard>) {
        let (heard, words) = mpsc::channel(WAITING_WORDS);
        let store = hub.store().clone();
        let registry = Self {
            begun: Instant::now(),
            haste: 1,
            limits: store.settings(),
            entries: BTreeMap::new(),
            uses: hub.usage().uses(),
            automatic: hub.repairs_by_itself(),
            remembered: repair::remembered(&store, unix_ms()),
            followers: JoinSet::new(),
            heard,
            work: JoinSet::new(),
            reads: Arc::new(Semaphore::new(READS_AT_ONCE)),
            wakes: BTreeSet::new(),
            changed: BTreeMap::new(),
            generations: 0,
            hub,
            store,
        };
        (registry, words)
    }

    /// Runs until the provider ends.
    pub(crate) async fn run(
        mut self,
        mut words: mpsc::Receiver<Heard>,
        mut changes: mpsc::Receiver<Change>,
        mut commands: mpsc::Receiver<Command>,
    ) {
        let mut usage = self.hub.usage().changes();
        let mut config = self.store.config_changes();
        let mut waiting = Vec::with_capacity(WORDS_AT_ONCE);
        loop {
            let next = self.wakes.first().map(|(at, _)| *at);
            let pause = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                change = changes.recv() => match change {
                    Some(change) => self.change(change),
                    None => break,
                },
                _ = words.recv_many(&mut waiting, WORDS_AT_ONCE) => {
                    for heard in waiting.drain(..) {
                        self.hear(heard);
                    }
                }
                Some(command) = commands.recv() => self.command(command),
                Some(done) = self.work.join_next() => match done {
                    Ok(work) => self.done(work),
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => tracing::error!("an attempt broke: {error}"),
                },
                Ok(()) = usage.changed() => {
                    usage.mark_unchanged();
                    self.uses = self.hub.usage().uses();
                    self.evaluate_all();
                }
                Ok(()) = config.changed() => {
                    config.mark_unchanged();
                    self.automatic = self.hub.repairs_by_itself();
                    self.limits = self.store.settings();
                    self.evaluate_all();
                }
                Some(ended) = self.followers.join_next() => match ended {
                    Err(error) if !error.is_cancelled() => tracing::error!("following an agent broke: {error}"),
                    _ => {}
                },
                () = pause => self.wake(),
            }
            self.publish();
        }
        // What is being tried is not seen through: the next start asks the agent's ledger what became of it.
        self.publish();
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Found(found) => self.found(found),
            Change::Gone(id) => self.gone(id),
            Change::Listed => {
                self.publish();
                self.update(|instances| !std::mem::replace(&mut instances.listed, true));
            }
            Change::Discovery(info) => self.hub.set_discovery(*info),
        }
    }

    fn found(&mut self, mut found: Found) {
        let (id, now) = (found.id, Instant::now());
        if !self.entries.contains_key(&id) {
            let mut entry = Entry::new(&found, self.hub.client().clone(), now);
            repair::remember(&mut entry, self.remembered.remove(&id).unwrap_or_default(), unix_ms(), now);
            self.entries.insert(id, entry);
        }
        let is_other = |known: &Found| known.agent != found.agent || known.token_file != found.token_file;
        let client = match self.entries.get(&id).filter(|entry| is_other(&entry.found)).map(|_| self.client_for(&found))
        {
            Some(Ok(client)) => Some(client),
            Some(Err(error)) => {
                // It asks for another token than ours, which is not for it to see.
                tracing::warn!(%id, "its agent cannot be asked: {error}");
                found.agent = None;
                found.phase = Phase::Failed { reason: error.to_string() };
                Some(self.hub.client().clone())
            }
            None => None,
        };
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if let Some(client) = client {
            // What the one before did not answer is not held against this one.
            forget_breakers(self.hub.breakers(), id);
            if let Some(follower) = entry.follower.take() {
                follower.abort();
            }
            self.generations += 1;
            entry.begin(now, self.generations);
            entry.client = client;
            entry.follower = found.agent.clone().map(|agent| {
                let breaker = self.hub.breakers().with(&format!("events {id}"), BREAKER);
                let client = entry.client.clone();
                self.followers.spawn(follow(client, agent, id, self.generations, breaker, self.heard.clone()))
            });
        }
        if let Some(alert) = entry.is_found(found, unix_ms()) {
            // Only remembered: who follows the events saw it end and come back.
            self.store.put_alert(&alert);
        }
        self.evaluate(id);
    }

    /// Speaks to an agent with the token that it asks for.
    fn client_for(&self, found: &Found) -> Result<Client, TokenError> {
        let own = self.hub.client();
        match &found.token_file {
            Some(path) => Ok(own.with_tokens(TokenFile::open(path)?)),
            None => Ok(own.clone()),
        }
    }

    fn gone(&mut self, id: InstanceId) {
        let Some(mut entry) = self.entries.remove(&id) else { return };
        if let Some(follower) = entry.follower.take() {
            follower.abort();
        }
        if let Some(at) = entry.wake {
            self.wakes.remove(&(at, id));
        }
        self.abandon(&mut entry, "the instance is gone");
        forget_breakers(self.hub.breakers(), id);
        self.hub.know(id, None);
        self.changed.remove(&id);
        if self.update(|instances| instances.all.remove(&id).is_some()) {
            self.hub.events().push(Event::Removed { id });
        }
    }

    fn hear(&mut self, heard: Heard) {
        let Heard { id, generation, told } = heard;
        let now = Instant::now();
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.generation == generation) else { return };
        match told {
            Told::Report(report) => {
                self.store.put_report(id, unix_ms(), &report);
                let was_in_contact = entry.link == Link::Well;
                let ledger_may_differ = entry.heard(now, *report);
                if !was_in_contact && let Some(agent) = entry.found.agent.clone() {
                    self.generations += 1;
                    let breaker = self.hub.breakers().of(&format!("agent {id}"));
                    entry.reach = Some(Reach { agent, client: entry.client.clone(), breaker, epoch: self.generations });
                }
                if ledger_may_differ {
                    self.read_ledger(id);
                }
            }
            Told::Lost { reason } => entry.lost(now, reason),
        }
        self.evaluate(id);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Recover { id, order, by, answer } => {
                let begun = self.recover(id, &order, by);
                // Who gave up waiting finds it in the list of attempts.
                let _ = answer.send(begun);
                self.evaluate(id);
            }
        }
    }

    fn wake(&mut self) {
        let now = Instant::now();
        while let Some((at, id)) = self.wakes.first().copied().filter(|(at, _)| *at <= now) {
            self.wakes.remove(&(at, id));
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.wake = None;
                if entry.ledger.is_due(now) {
                    self.read_ledger(id);
                }
            }
            self.evaluate(id);
        }
    }

    fn evaluate_all(&mut self) {
        let ids: Vec<InstanceId> = self.entries.keys().copied().collect();
        ids.into_iter().for_each(|id| self.evaluate(id));
    }

    /// Thinks about an instance: what is wrong, what is to be done, what everyone sees.
    fn evaluate(&mut self, id: InstanceId) {
        let sessions = self.hub.usage().sessions(id);
        loop {
            let now = Instant::now();
            let given_now = self.clock(now);
            let (automatic, can_restart) = (self.automatic, self.hub.shared().hand.can_restart());
            let Some(entry) = self.entries.get_mut(&id) else { return };
            let believed = entry.believed(now, sessions.clone());
            let verdict = entry.verdict(now, &believed, &self.limits);
            entry.was_live |= verdict.state == InstanceState::Live;
            let reachable = entry.link == Link::Well;
            let given = Given { now: given_now, verdict: &verdict, automatic, reachable, can_restart };
            match entry.policy.see(&given) {
                Step::Act(plan) => self.act(id, plan),
                Step::Judge(outcome) => {
                    let still = verdict.reason.clone();
                    self.judge(id, outcome, still);
                }
                Step::Wait(until) => {
                    let until = until.map(|until| self.begun + until / self.haste);
                    let deadline = entry.deadline(now, &self.limits);
                    let wake = until.into_iter().chain(deadline).chain(entry.ledger.next_read()).min();
                    if entry.wake != wake {
                        if let Some(old) = std::mem::replace(&mut entry.wake, wake) {
                            self.wakes.remove(&(old, id));
                        }
                        self.wakes.extend(wake.map(|at| (at, id)));
                    }
                    let left = entry.ledger.left(now);
                    let limit = RecoveryLimit {
                        left,
                        next_at_ms: entry.ledger.next_at_ms.filter(|_| left == Some(0)),
                        running: entry.under_way(&verdict).cloned(),
                    };
                    let instance = derive(&Seen {
                        found: &entry.found,
                        report: entry.fresh_report(),
                        verdict: &verdict,
                        attempt: entry.under_way(&verdict),
                        rest: entry.policy.rest(),
                        attempts_left: left,
                        usage: self.uses.get(&id),
                    });
                    let known = Known {
                        report: entry.report.clone(),
                        verdict,
                        limit,
                        kubernetes: entry.found.kubernetes.clone(),
                        way: AgentWay { url: entry.found.agent.clone(), client: entry.client.clone() },
                        reach: entry.reach.clone(),
                    };
                    if entry.shown.as_ref() != Some(&instance) {
                        if entry.shown.as_ref().is_none_or(|old| old.state != instance.state) {
                            let reason = instance.reason.as_deref();
                            tracing::info!(%id, state = instance.state.word(), reason, "instance");
                        }
                        entry.shown = Some(instance.clone());
                        self.changed.insert(id, instance);
                    }
                    self.hub.know(id, Some(known));
                    return;
                }
            }
        }
    }

    /// Tells what changed in this turn: first what is asked for, then the events.
    fn publish(&mut self) {
        if self.changed.is_empty() {
            return;
        }
        let changed = std::mem::take(&mut self.changed);
        self.update(|instances| {
            instances.all.extend(changed.iter().map(|(id, instance)| (*id, instance.clone())));
            true
        });
        for instance in changed.into_values() {
            self.hub.events().push(Event::Instance { instance: Box::new(instance) });
        }
    }

    fn update(&self, change: impl FnOnce(&mut Instances) -> bool) -> bool {
        self.hub.shared().instances.send_if_modified(|instances| change(Arc::make_mut(instances)))
    }

    /// The policies' clock.
    fn clock(&self, now: Instant) -> Duration {
        now.duration_since(self.begun) * self.haste
    }
}

/// The breakers around everything that is asked of an instance's agent.
fn forget_breakers(breakers: &Breakers, id: InstanceId) {
    for name in [format!("events {id}"), format!("agent {id}"), crate::api::breaker_name(id)] {
        breakers.remove(&name);
    }
}
