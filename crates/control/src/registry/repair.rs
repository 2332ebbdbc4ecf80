//! Attempts: how they begin, are carried out, judged and remembered.

use super::Registry;
use super::entry::{Entry, Link, RUNNING_AGAIN};
use crate::executor::{Carried, Way, carry_out, judge_at, ledger, yielded};
use crate::hub::{HubError, unix_ms};
use crate::policy::{Ended, Given, Plan};
use crate::store::Store;
use loco_model::api::Event;
use loco_model::recovery::{AFTERWARDS, Attempt, Initiator, Ledger, Outcome, RecoverOrder, WINDOW_MS};
use loco_model::{InstanceId, Remedy};
use rand::Rng as _;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// How soon a ledger is read again that could not be read.
const UNREAD_AGAIN: Duration = Duration::from_secs(20);

/// When a ledger is read after an attempt has settled: others judge theirs at about the same time.
const JUDGED_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// By then an attempt of an agent itself has ended, or its agent has forgotten it: it is waited for no longer.
const LONGEST_ATTEMPT_MS: u64 = 90_000;

/// What was done beside the registry.
pub(super) enum Work {
    /// An attempt's order ended.
    Carried {
        id: InstanceId,
        /// Whether the agent's ledger knows nothing of it.
        beside: bool,
        carried: Box<Carried>,
        /// The ledger as it was read before the order, where that kept it from being given.
        ledger: Option<Ledger>,
    },
    /// A ledger was told what an attempt was good for, or could not be.
    Judged,
    /// A ledger was read, or could not be.
    Read { id: InstanceId, generation: u64, ledger: Option<Ledger> },
}

/// Whose an attempt of before the start was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// This control plane's.
    Own,
    /// This control plane's, which ended before it could judge it: the agent's ledger may know more.
    OwnUnjudged,
    /// Somebody else's, from a ledger, which may say by now what became of it.
    Others,
}

/// Attempts of before the start, by instance. Own ones that were running then are judged by nobody any more, and were in
/// vain as far as is known here.
pub(super) fn remembered(store: &Store, now_ms: u64) -> BTreeMap<InstanceId, Vec<(Attempt, Whose)>> {
    let mut all: BTreeMap<InstanceId, Vec<(Attempt, Whose)>> = BTreeMap::new();
    let own = store.control_id();
    for mut attempt in store.attempts(super::REMEMBERED_ATTEMPTS) {
        let is_own = match &attempt.initiator {
            Initiator::Policy { control } => *control == own,
            // Through which control plane is not known: taken for this one.
            Initiator::Person { .. } => true,
            Initiator::Agent => false,
        };
        let whose = match (is_own, attempt.outcome) {
            (false, _) => Whose::Others,
            (true, Outcome::Running) => Whose::OwnUnjudged,
            (true, _) => Whose::Own,
        };
        if whose == Whose::OwnUnjudged {
            attempt.outcome = Outcome::InVain;
            attempt.ended_at_ms.get_or_insert(now_ms);
            attempt.detail = Some("the control plane ended before it could see whether this helped".to_owned());
            store.put_attempt(&attempt);
        }
        all.entry(attempt.instance_id).or_default().push((attempt, whose));
    }
    all
}

/// Gives an instance what is remembered of it. Only here are times of the wall's clock compared: no other clock goes on
/// while nothing runs.
pub(super) fn remember(entry: &mut Entry, attempts: Vec<(Attempt, Whose)>, now_ms: u64, now: Instant) {
    for (attempt, whose) in attempts {
        let age = Duration::from_millis(now_ms.saturating_sub(attempt.started_at_ms));
        let is_recent = age < Duration::from_millis(WINDOW_MS);
        if is_recent && attempt.outcome == Outcome::InVain {
            entry.policy.remember([attempt.action]);
        }
        if whose == Whose::Others {
            entry.ledger.seen.insert(attempt.id, attempt.outcome);
            continue;
        }
        if is_recent && attempt.action == Remedy::RestartAgent && was_made(attempt.outcome) {
            // Counts until the agent's ledger turns out to have it.
            entry.ledger.beside.push((attempt.id.clone(), now.checked_sub(age).unwrap_or(now)));
        }
        match whose {
            Whose::OwnUnjudged => drop(entry.ledger.unjudged.insert(attempt.id)),
            Whose::Own | Whose::Others => drop(entry.ledger.own.insert(attempt.id)),
        }
    }
}

fn was_made(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Repaired | Outcome::InVain | Outcome::Running)
}

impl Registry {
    /// The policy wants something done.
    pub(super) fn act(&mut self, id: InstanceId, plan: Plan) {
        let now = Instant::now();
        let clock = self.clock(now);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.ledger.left(now) == Some(0) {
            entry.policy.ended(clock, Ended::Refused(entry.ledger.wait(now)));
            return;
        }
        self.begin(id, plan, Initiator::Policy { control: self.store.control_id() }, false);
    }

    /// A person wants something done; gives the attempt that was begun.
    pub(super) fn recover(&mut self, id: InstanceId, order: &RecoverOrder, by: Initiator) -> Result<Attempt, HubError> {
        let now = Instant::now();
        let clock = self.clock(now);
        let can_restart = self.hub.shared().hand.can_restart();
        let sessions = self.hub.usage().sessions(id);
        let entry = self.entries.get_mut(&id).ok_or(HubError::UnknownInstance(id))?;
        if let Some(attempt) = entry.attempt.as_ref().filter(|_| entry.policy.is_acting()) {
            return Err(HubError::Conflict(format!(
                "{} is being done for {id}: attempt {}",
                attempt.action, attempt.id
            )));
        }
        let sessions = entry.believed(now, sessions);
        let verdict = entry.verdict(now, &sessions, &self.limits);
        let reachable = entry.link == Link::Well;
        let given = Given { now: clock, verdict: &verdict, automatic: true, reachable, can_restart };
        let plan = match order.action {
            Some(action) => Plan { action, class: verdict.class, reason: verdict.reason.clone() },
            None => entry.policy.next(&given).ok_or_else(|| {
                HubError::Conflict(match &verdict.reason {
                    Some(reason) => format!("nothing that can be done now would help {id} ({reason}): name an action"),
                    None => format!("nothing is wrong with {id}: name an action"),
                })
            })?,
        };
        if plan.action == Remedy::RestartAgent && !entry.found.supervised {
            return Err(HubError::Conflict(format!(
                "the agent of {id} is not ended: nobody would start it again: its list says no owner (\"supervised\": true)"
            )));
        }
        if !reachable && (plan.action != Remedy::RestartAgent || !can_restart) {
            let what = if can_restart { "only restart-agent can be done" } else { "nothing can be done from here" };
            return Err(HubError::Unavailable(format!("the agent of {id} does not answer: {what}")));
        }
        if entry.ledger.left(now) == Some(0) && !order.is_override {
            let wait = entry.ledger.wait(now);
            return Err(HubError::Limit {
                detail: format!("this hour's attempts for {id} are used up; \"override\" makes one all the same"),
                retry_after_ms: Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            });
        }
        if entry.attempt.is_some() {
            // The one before is judged by how it looks now.
            let outcome = if entry.policy.has_helped(&verdict) { Outcome::Repaired } else { Outcome::InVain };
            self.judge(id, outcome, verdict.reason.clone());
        }
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.policy.begun(plan.action);
        }
        self.begin(id, plan, by, order.is_override)
            .ok_or_else(|| HubError::Unavailable(format!("the agent of {id} does not answer")))
    }

    fn begin(&mut self, id: InstanceId, plan: Plan, initiator: Initiator, is_override: bool) -> Option<Attempt> {
        let hand = self.hub.shared().hand.clone();
        let entry = self.entries.get_mut(&id)?;
        let is_unasked = matches!(initiator, Initiator::Policy { .. });
        let name = format!("{:032x}", rand::rng().random::<u128>());
        let begun = Attempt::begun(name, id, unix_ms(), plan.class, plan.action, initiator);
        let attempt = Attempt { is_override, reason: plan.reason, ..begun };
        let (way, beside) = match entry.reach.clone() {
            Some(reach) => (Way::Agent { client: reach.client, agent: reach.agent, breaker: reach.breaker }, false),
            None => (Way::Provider(hand), true),
        };
        entry.ledger.own.insert(attempt.id.clone());
        entry.attempt = Some(attempt.clone());
        tracing::info!(%id, attempt = attempt.id, action = %attempt.action, class = %attempt.class, reason = attempt.reason.as_deref(), "attempt begins");
        let known = entry.ledger.is_read.then(|| entry.ledger.seen.clone());
        let ordered = attempt.clone();
        self.work.spawn(async move {
            // Somebody else may have acted on the same fault a moment ago: that is to settle first.
            if let (true, Some(known), Way::Agent { client, agent, breaker }) = (is_unasked, known, &way)
                && let Some(ledger) = ledger(client, agent, breaker).await
                && ledger.attempts.iter().any(|attempt| !known.contains_key(&attempt.id))
            {
                let carried = Box::new(yielded(ordered, "an attempt was made a moment ago"));
                return Work::Carried { id, beside, carried, ledger: Some(ledger) };
            }
            let carried = Box::new(carry_out(ordered, way).await);
            Work::Carried { id, beside, carried, ledger: None }
        });
        self.keep(&attempt);
        Some(attempt)
    }

    /// Something that was done beside is done.
    pub(super) fn done(&mut self, work: Work) {
        match work {
            Work::Judged => {}
            Work::Carried { id, beside, carried, ledger } => {
                self.carried(id, beside, *carried);
                match ledger {
                    Some(ledger) => self.books(id, &ledger),
                    None => self.read_ledger(id),
                }
                self.evaluate(id);
            }
            Work::Read { id, generation, ledger } => {
                let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.generation == generation) else {
                    return;
                };
                entry.ledger.reading = false;
                let again = std::mem::take(&mut entry.ledger.read_again);
                match ledger {
                    Some(ledger) => self.books(id, &ledger),
                    None => entry.ledger.late.push(Instant::now() + UNREAD_AGAIN),
                }
                if again {
                    self.read_ledger(id);
                }
                self.evaluate(id);
            }
        }
    }

    fn carried(&mut self, id: InstanceId, beside: bool, carried: Carried) {
        let now = Instant::now();
        let clock = self.clock(now);
        let Carried { ended, attempt } = carried;
        let is_this = |entry: &&mut Entry| entry.attempt.as_ref().is_some_and(|known| known.id == attempt.id);
        // One that was given up when the instance went is judged by nobody, though the instance may be back.
        let Some(entry) = self.entries.get_mut(&id).filter(is_this) else { return };
        tracing::info!(%id, attempt = attempt.id, ?ended, detail = attempt.detail.as_deref(), "attempt was carried out");
        entry.policy.ended(clock, ended);
        if ended == Ended::Yielded {
            // Whose it is left to, the ledger says in a moment.
            entry.others = None;
        }
        if beside && ended == Ended::Done {
            entry.ledger.beside.push((attempt.id.clone(), now));
        }
        entry.attempt = (ended == Ended::Done).then(|| attempt.clone());
        self.keep(&attempt);
    }

    /// The last attempt is judged.
    pub(super) fn judge(&mut self, id: InstanceId, outcome: Outcome, still: Option<String>) {
        let now = Instant::now();
        let Some(entry) = self.entries.get_mut(&id) else { return };
        // What others think of theirs stands in the ledger soon.
        entry.ledger.late.extend(JUDGED_AFTER.map(|after| now + after));
        let Some(mut attempt) = entry.attempt.take() else { return };
        attempt.outcome = outcome;
        attempt.ended_at_ms.get_or_insert_with(unix_ms);
        if outcome == Outcome::InVain {
            let still = still.unwrap_or_else(|| "it is not well".to_owned());
            attempt.detail = Some(match attempt.detail.take() {
                Some(detail) => format!("{detail}; {AFTERWARDS}{still}"),
                None => format!("{AFTERWARDS}{still}"),
            });
        }
        tracing::info!(%id, attempt = attempt.id, ?outcome, "attempt is judged");
        self.keep(&attempt);
        self.tell_ledger(id, attempt);
    }

    /// Has the agent's ledger say what an attempt was good for: whoever else watches learns it there.
    fn tell_ledger(&mut self, id: InstanceId, attempt: Attempt) {
        let Some(entry) = self.entries.get(&id).filter(|entry| entry.ledger.seen.contains_key(&attempt.id)) else {
            // One that its provider made stands in no ledger.
            return;
        };
        let Some(reach) = entry.reach.clone() else { return };
        self.work.spawn(async move {
            judge_at(&reach.client, &reach.agent, &reach.breaker, &attempt).await;
            Work::Judged
        });
    }

    /// An attempt that nobody will see the end of.
    pub(super) fn abandon(&mut self, entry: &mut Entry, why: &str) {
        if let Some(attempt) = entry.attempt.take() {
            let ended_at_ms = Some(attempt.ended_at_ms.unwrap_or_else(unix_ms));
            self.keep(&Attempt { outcome: Outcome::InVain, ended_at_ms, detail: Some(why.to_owned()), ..attempt });
        }
    }

    fn keep(&self, attempt: &Attempt) {
        self.store.put_attempt(attempt);
        self.hub.events().push(Event::Attempt { attempt: attempt.clone() });
    }

    /// Has an agent's ledger read, if the agent answers.
    pub(super) fn read_ledger(&mut self, id: InstanceId) {
        let reads = self.reads.clone();
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(reach) = entry.reach.clone() else { return };
        if std::mem::replace(&mut entry.ledger.reading, true) {
            entry.ledger.read_again = true;
            return;
        }
        let generation = entry.generation;
        self.work.spawn(async move {
            // Closed never.
            let _place = reads.acquire().await;
            let ledger = ledger(&reach.client, &reach.agent, &reach.breaker).await;
            Work::Read { id, generation, ledger }
        });
    }

    /// Takes what an agent's ledger says.
    fn books(&mut self, id: InstanceId, ledger: &Ledger) {
        let now = Instant::now();
        let clock = self.clock(now);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let agent_clock_ms = entry.agent_clock_ms(now);
        let had_none = entry.ledger.left(now) == Some(0);
        let was_running = |(id, outcome): (&String, &Outcome)| (*outcome == Outcome::Running).then(|| id.clone());
        let mut running: BTreeSet<String> = entry.ledger.seen.iter().filter_map(was_running).collect();
        running.append(&mut entry.ledger.unjudged);
        let before = entry.ledger.seen.clone();
        let changed = entry.ledger.read(now, ledger, agent_clock_ms);
        for (attempt, is_new) in changed.iter().filter(|(attempt, _)| attempt.outcome.was_tried()) {
            if *is_new {
                entry.policy.foreign(attempt.action);
            }
            if *is_new || running.contains(&attempt.id) {
                entry.others = Some(attempt.clone());
            }
            let age = agent_clock_ms.zip(attempt.ended_at_ms).map_or(0, |(clock, ended)| clock.saturating_sub(ended));
            let ended = clock.saturating_sub(Duration::from_millis(age.min(WINDOW_MS)) * self.haste);
            let is_agents = attempt.initiator == Initiator::Agent;
            match attempt.outcome {
                Outcome::Running | Outcome::Refused | Outcome::Yielded => {}
                // Whoever made it has judged it by now.
                Outcome::InVain if before.get(&attempt.id) == Some(&Outcome::Repaired) => {
                    entry.policy.foreign_in_vain(attempt.action);
                }
                // Of long ago.
                _ if !is_new && !running.contains(&attempt.id) => {}
                Outcome::Failed => entry.policy.foreign_failed(clock, attempt.action),
                // It has seen itself what came of it, and orders nothing more.
                Outcome::InVain if is_agents => entry.policy.foreign_failed(clock, attempt.action),
                // It has come to its end: what it was good for shows from now on.
                Outcome::InVain | Outcome::Repaired => entry.policy.foreign_ended(ended, attempt.action),
            }
        }
        // An agent that starts its guest again is not disturbed in that: its ledger is read again meanwhile.
        let others = ledger.attempts.iter().filter(|attempt| !entry.ledger.own.contains(&attempt.id));
        let is_at_it = |attempt: &Attempt| {
            let age = agent_clock_ms.map(|clock| clock.saturating_sub(attempt.started_at_ms));
            attempt.outcome == Outcome::Running && age.is_some_and(|age| age < LONGEST_ATTEMPT_MS)
        };
        if let Some(attempt) = others.into_iter().rfind(|attempt| is_at_it(attempt)) {
            entry.others = Some(attempt.clone());
            entry.policy.leave(clock + 2 * RUNNING_AGAIN);
        }
        if had_none && entry.ledger.left(now) != Some(0) {
            entry.policy.limit_lifted();
        }
        let is_bad = |(attempt, _): &(Attempt, bool)| matches!(attempt.outcome, Outcome::InVain | Outcome::Failed);
        if let Some(shown) = entry.shown.clone().filter(|_| changed.iter().any(is_bad)) {
            // Told late, it may be about something that is well by now: that is told again after it, so that no alert of it
            // lasts.
            self.changed.entry(id).or_insert(shown);
        }
        for (mut attempt, _) in changed {
            // Whatever an agent writes there: it speaks of itself.
            attempt.instance_id = id;
            self.keep(&attempt);
        }
    }
}
