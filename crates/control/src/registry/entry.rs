//! One instance: what was heard of it, and since when.

use crate::hub::Reach;
use crate::policy::{Policy, Rest};
use crate::provider::{Found, Phase};
use crate::state;
use loco_http::Client;
use loco_model::Remedy;
use loco_model::api::{Alert, Instance, Severity};
use loco_model::classify::{Contact, Limits, Observed, Rates, Verdict, classify, has_no_session};
use loco_model::recovery::{Attempt, Ledger, MAX_ATTEMPTS, Outcome, WINDOW_MS};
use loco_model::report::HealthReport;
use loco_model::usage::{SessionReport, VIEWER_LEASE_MS};
use rand::Rng as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// A rate of errors is taken over this long at least: two errors within a moment are no thousand a minute.
const RATE_SPAN: Duration = Duration::from_secs(10);
/// How soon a ledger is read again in which somebody's attempt is running.
pub(super) const RUNNING_AGAIN: Duration = Duration::from_secs(5);
/// When a ledger is read after a guest was started again: at once, and later too. An agent that starts its QEMU again does
/// so before it writes that down.
const LATER: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(20)];
/// Own attempts that are told apart at least.
const MAX_OWN: usize = 512;
/// The limit's window.
const WINDOW: Duration = Duration::from_millis(WINDOW_MS);

/// Title of what is remembered of an agent that had ended.
const AGENT_ENDED: &str = "Agent ended";

/// One instance.
pub(super) struct Entry {
    pub(super) found: Found,
    pub(super) client: Client,
    /// Number of the connection that is followed.
    pub(super) generation: u64,
    pub(super) follower: Option<AbortHandle>,
    pub(super) link: Link,
    pub(super) reach: Option<Reach>,
    pub(super) report: Option<Arc<HealthReport>>,
    pub(super) policy: Policy,
    /// The own attempt that is not judged yet.
    pub(super) attempt: Option<Attempt>,
    /// Somebody else's newest, while that is waited for.
    pub(super) others: Option<Attempt>,
    pub(super) ledger: Books,
    pub(super) was_live: bool,
    pub(super) wake: Option<Instant>,
    pub(super) shown: Option<Instance>,
    /// When its connection was first tried.
    since: Instant,
    heard_at: Instant,
    was_shown: bool,
    waiting_since: Option<Instant>,
    errors: Errors,
    /// When its agent ended that is being started again, in milliseconds since 1970 UTC, and how; `None` while it runs, and
    /// while it was ended to repair it.
    agent_ended: Option<(u64, String)>,
    /// Since when viewers say that they have no session, by their names.
    complaints: BTreeMap<String, Instant>,
}

/// How it stands with the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Never,
    Well,
    Lost { since: Instant, reason: String },
}

/// What is known of an instance's attempts.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// Attempts that the agent's ledger leaves; `None` while it was not read.
    pub(super) left: Option<usize>,
    pub(super) next_at_ms: Option<u64>,
    /// What the ledger has, by id.
    pub(super) seen: BTreeMap<String, Outcome>,
    /// Attempts of this control plane, also from before it was started.
    pub(super) own: BTreeSet<String>,
    /// Attempts of this control plane from before it was started, of which it did not see what came: until a ledger is read,
    /// and then taken from there as others' are.
    pub(super) unjudged: BTreeSet<String>,
    /// Restarts of the agent that its ledger could not be told of, and when.
    pub(super) beside: Vec<(String, Instant)>,
    pub(super) is_read: bool,
    /// Whether it is being read, and whether it is to be read once more then.
    pub(super) reading: bool,
    pub(super) read_again: bool,
    /// When it should be read again.
    pub(super) again_at: Option<Instant>,
    /// When else, since something was done lately that it may not have yet.
    pub(super) late: Vec<Instant>,
}

/// Frames that get lost, as a rate.
#[derive(Debug, Default)]
struct Errors {
    base: Option<(Instant, u64)>,
    per_minute: Option<f64>,
}

// === impl Entry ===

impl Entry {
    pub(super) fn new(found: &Found, client: Client, now: Instant) -> Self {
        Self {
            found: Found { agent: None, ..found.clone() },
            client,
            generation: 0,
            follower: None,
            link: Link::Never,
            reach: None,
            report: None,
            policy: Policy::default(),
            attempt: None,
            others: None,
            ledger: Books::default(),
            was_live: false,
            wake: None,
            shown: None,
            since: now,
            heard_at: now,
            was_shown: false,
            waiting_since: None,
            errors: Errors::default(),
            agent_ended: None,
            complaints: BTreeMap::new(),
        }
    }

    /// Another process may stand behind the next connection.
    pub(super) fn begin(&mut self, now: Instant, generation: u64) {
        self.generation = generation;
        self.link = Link::Never;
        self.reach = None;
        self.report = None;
        self.since = now;
        self.was_shown = false;
        self.waiting_since = None;
        self.errors = Errors::default();
        self.ledger.reading = false;
    }

    /// Takes what its provider says now. Gives an alert that is over where an agent that had ended was started again: nothing
    /// else would remember that, since the agent's own ledger tells of its guest.
    pub(super) fn is_found(&mut self, found: Found, now_ms: u64) -> Option<Alert> {
        self.found = found;
        match &self.found.phase {
            Phase::Restarting { reason } | Phase::Failed { reason } if self.found.agent_starts.is_some() => {
                // What is done to repair it is kept as an attempt.
                if self.attempt.is_none() && self.agent_ended.is_none() {
                    let reason = reason.strip_suffix(": restarting").unwrap_or(reason);
                    self.agent_ended = Some((now_ms, reason.to_owned()));
                }
                None
            }
            Phase::Up => {
                let (at_ms, how) = self.agent_ended.take()?;
                Some(Alert {
                    id: format!("{:032x}", rand::rng().random::<u128>()),
                    at_ms,
                    ended_at_ms: Some(now_ms),
                    severity: Severity::Info,
                    instance_id: Some(self.found.id),
                    title: AGENT_ENDED.to_owned(),
                    detail: Some(format!("{how}; its owner started it again")),
                })
            }
            _ => None,
        }
    }

    /// Its agent told something; says whether its ledger may have changed.
    pub(super) fn heard(&mut self, now: Instant, report: HealthReport) -> bool {
        let was_in_contact = self.link == Link::Well;
        let health = &report.deep_health;
        let before =
            self.report.as_ref().map(|old| (old.deep_health.guest_started_at_ms, old.deep_health.guest_restarts));
        let is_other_start = before != Some((health.guest_started_at_ms, health.guest_restarts));
        if is_other_start {
            self.was_shown = false;
            self.waiting_since = Some(now);
        }
        let runs = health.guest_state == "running";
        let shows = health.video.display_active == Some(true);
        self.was_shown |= runs && shows;
        let is_under_way = health.guest_state == "starting" || (runs && !shows);
        self.waiting_since = is_under_way.then(|| self.waiting_since.unwrap_or(now));
        let network = &health.network;
        self.errors.see(now, network.tx_errors.into_iter().chain(network.rx_errors).reduce(u64::saturating_add));
        if is_other_start && was_in_contact {
            self.ledger.late = LATER.map(|after| now + after).to_vec();
        }
        self.link = Link::Well;
        self.heard_at = now;
        self.report = Some(Arc::new(report));
        !was_in_contact || is_other_start
    }

    /// Its agent does not answer.
    pub(super) fn lost(&mut self, now: Instant, reason: String) {
        let since = match self.link {
            Link::Lost { since, .. } => since,
            Link::Never | Link::Well => now,
        };
        self.link = Link::Lost { since, reason };
        self.reach = None;
    }

    /// What is believed of what viewers say. That one has no session is news of it only once the agent was heard after that:
    /// an agent that fell silent is the reason. And what was said when there was another agent is about that one, until
    /// every viewer must have told anew.
    pub(super) fn believed(
        &mut self,
        now: Instant,
        mut sessions: Vec<(String, SessionReport)>,
    ) -> Vec<(String, SessionReport)> {
        let complains = |name: &str| sessions.iter().any(|(viewer, said)| viewer == name && has_no_session(said));
        self.complaints.retain(|viewer, _| complains(viewer));
        for (viewer, said) in &sessions {
            if has_no_session(said) && !self.complaints.contains_key(viewer) {
                self.complaints.insert(viewer.clone(), now);
            }
        }
        let is_of_now = |since: Instant| since > self.since || now >= self.told_anew_at();
        let is_believed = |since: Instant| self.heard_at > since && is_of_now(since);
        sessions.retain(|(viewer, said)| {
            !has_no_session(said) || self.complaints.get(viewer).is_some_and(|since| is_believed(*since))
        });
        sessions
    }

    /// When what viewers say is about this agent, whatever they said before: who is silent for so long is gone.
    fn told_anew_at(&self) -> Instant {
        self.since + Duration::from_millis(VIEWER_LEASE_MS)
    }

    /// What is to be thought of it.
    pub(super) fn verdict(&self, now: Instant, sessions: &[(String, SessionReport)], limits: &Limits) -> Verdict {
        let since = |at: Instant| u64::try_from(now.duration_since(at).as_millis()).unwrap_or(u64::MAX);
        let (contact, waiting_ms) = match &self.link {
            Link::Never => (Contact::Never, since(self.since)),
            Link::Well => (Contact::Well, self.waiting_since.map_or(0, since)),
            Link::Lost { since: at, reason } => (Contact::Lost { reason, for_ms: since(*at) }, 0),
        };
        let mut verdict = classify(&Observed {
            phase: state::phase(&self.found.phase),
            contact,
            report: self.report.as_deref(),
            was_live: self.was_live,
            was_shown: self.was_shown,
            waiting_ms,
            rates: Rates { network_errors: self.errors.per_minute },
            sessions,
            limits,
        });
        if !self.found.supervised {
            // Nobody would start it again.
            verdict.faults.iter_mut().for_each(|fault| fault.remedies.retain(|remedy| *remedy != Remedy::RestartAgent));
        }
        verdict
    }

    /// When the verdict may be another one though nothing is heard.
    pub(super) fn deadline(&self, now: Instant, limits: &Limits) -> Option<Instant> {
        let after = |at: Instant, ms: u64| at + Duration::from_millis(ms);
        let times = match (&self.link, self.waiting_since) {
            _ if self.found.phase != Phase::Up => Vec::new(),
            (Link::Never, _) => vec![after(self.since, limits.silence_ms)],
            (Link::Lost { since, .. }, _) => vec![after(*since, limits.silence_ms)],
            (Link::Well, Some(at)) => {
                [limits.picture_ms, limits.first_picture_ms, limits.start_ms].map(|ms| after(at, ms)).to_vec()
            }
            (Link::Well, None) => Vec::new(),
        };
        let retold = (!self.complaints.is_empty()).then(|| self.told_anew_at());
        times.into_iter().chain(retold).filter(|at| *at > now).min()
    }

    /// The attempt that is being made or was made and is not judged yet; somebody else's only while that is waited for.
    pub(super) fn under_way(&self, verdict: &Verdict) -> Option<&Attempt> {
        let is_waited_for = self.policy.rest() == Some(Rest::Elsewhere) && !verdict.is_well();
        self.attempt.as_ref().or_else(|| self.others.as_ref().filter(|_| is_waited_for))
    }

    /// Its report, while its agent answers.
    pub(super) fn fresh_report(&self) -> Option<&HealthReport> {
        self.report.as_deref().filter(|_| self.link == Link::Well)
    }

    /// The clock of its agent, in milliseconds since 1970 UTC, as far as its reports tell.
    pub(super) fn agent_clock_ms(&self, now: Instant) -> Option<u64> {
        let elapsed = u64::try_from(now.duration_since(self.heard_at).as_millis()).unwrap_or(u64::MAX);
        Some(self.report.as_ref()?.timestamp_ms.saturating_add(elapsed))
    }
}

// === impl Books ===

impl Books {
    /// Attempts that are left; `None` while unknown.
    pub(super) fn left(&self, now: Instant) -> Option<usize> {
        let beside = self.beside(now).count();
        match self.left {
            None if beside == 0 => None,
            left => Some(left.unwrap_or(MAX_ATTEMPTS).saturating_sub(beside)),
        }
    }

    /// When it should be read next.
    pub(super) fn next_read(&self) -> Option<Instant> {
        self.again_at.into_iter().chain(self.late.iter().copied()).min()
    }

    /// Whether it should be read now; each time is said once.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.next_read().is_some_and(|at| at <= now);
        self.again_at = self.again_at.filter(|at| *at > now);
        self.late.retain(|at| *at > now);
        is_due
    }

    /// How long until there is one more than now.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let beside = self.beside(now).map(|at| at + WINDOW);
        let next = self.again_at.into_iter().chain(beside).filter(|at| *at > now).min();
        next.map_or(RUNNING_AGAIN, |at| at - now)
    }

    fn beside(&self, now: Instant) -> impl Iterator<Item = Instant> {
        let counts =
            move |(id, at): &&(String, Instant)| now.duration_since(*at) < WINDOW && !self.seen.contains_key(id);
        self.beside.iter().filter(counts).map(|(_, at)| *at)
    }

    /// Takes what the ledger says; gives the attempts that are new or not as they were, and whether each is new.
    /// `agent_clock_ms`: its agent's clock now.
    pub(super) fn read(&mut self, now: Instant, ledger: &Ledger, agent_clock_ms: Option<u64>) -> Vec<(Attempt, bool)> {
        let is_first = !std::mem::replace(&mut self.is_read, true);
        let news = |attempt: &&Attempt| {
            !self.own.contains(&attempt.id) && self.seen.get(&attempt.id) != Some(&attempt.outcome)
        };
        let is_new = |attempt: &Attempt| !is_first && !self.seen.contains_key(&attempt.id);
        let changed = ledger.attempts.iter().filter(news).map(|attempt| (attempt.clone(), is_new(attempt))).collect();
        self.left = Some(ledger.left);
        self.next_at_ms = ledger.next_at_ms;
        self.seen = ledger.attempts.iter().map(|attempt| (attempt.id.clone(), attempt.outcome)).collect();
        if self.own.len() > MAX_OWN {
            // Only what the ledger still has can be taken for somebody else's.
            self.own.retain(|id| self.seen.contains_key(id));
        }
        self.beside.retain(|(_, at)| now.duration_since(*at) < WINDOW);
        let is_running = ledger.attempts.iter().any(|attempt| attempt.outcome == Outcome::Running);
        let frees = agent_clock_ms.and_then(|clock| {
            let ends = ledger.attempts.iter().map(|attempt| attempt.started_at_ms.saturating_add(WINDOW_MS));
            ends.filter(|end| *end > clock).min().map(|end| Duration::from_millis((end - clock).min(WINDOW_MS)))
        });
        let again = is_running.then_some(RUNNING_AGAIN).into_iter().chain(frees).min();
        self.again_at = again.map(|after| now + after + Duration::from_millis(100));
        changed
    }
}

// === impl Errors ===

impl Errors {
    fn see(&mut self, now: Instant, total: Option<u64>) {
        let Some(total) = total else {
            *self = Self::default();
            return;
        };
        match self.base {
            Some((at, before)) if total >= before => {
                let elapsed = now.duration_since(at);
                if elapsed >= RATE_SPAN {
                    self.per_minute = Some((total - before) as f64 / elapsed.as_secs_f64() * 60.0);
                    self.base = Some((now, total));
                }
            }
            _ => *self = Self { base: Some((now, total)), per_minute: None },
        }
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
