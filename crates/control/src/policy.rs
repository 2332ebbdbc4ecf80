//! When an instance is repaired, and how: one small machine per instance. Pure: the time is told, by a clock that nobody
//! sets; nothing is done here.
//!
//! A fault must last as long as its kind says. Then the first of its remedies that was not tried yet is an attempt;
//! afterwards the instance has a while to settle, and is judged: repaired, or in vain. So are the attempts of others, which
//! are waited for. In vain leads to the next remedy, until the limit, which the agent's ledger keeps, or the end of the list.
//! An attempt is judged by what it was for: another fault of an instance that is seen to run is no proof against it.

use loco_model::classify::{Fault, FaultKind, Verdict};
use loco_model::recovery::{Outcome, WINDOW_MS};
use loco_model::{FailureClass, InstanceState, Remedy};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long an instance must be well until it counts as repaired.
const WELL_FOR: Duration = Duration::from_secs(2);
/// How long after an order that could not be given it is thought about again.
const BREATH: Duration = Duration::from_secs(5);
/// The longest of these pauses: they double while no order can be given.
const LONGEST_BREATH: Duration = Duration::from_secs(300);
/// How much longer one may settle that is starting.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// When everything was tried in vain, nothing is tried again for so long.
const WINDOW: Duration = Duration::from_millis(WINDOW_MS);

/// How long after an action a fault may still be seen before the action was in vain.
#[must_use]
pub const fn settling_time(action: Remedy) -> Duration {
    Duration::from_secs(match action {
        Remedy::ResetDisplay | Remedy::ResetSound => 5,
        Remedy::RestartStream | Remedy::ResetNetwork => 8,
        Remedy::RestartQemu => 10,
        Remedy::LowerQuality | Remedy::RestartAgent => 15,
    })
}

/// What is known when it is thought about what to do.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The time, since any moment before.
    pub now: Duration,
    /// What is to be thought of the instance.
    pub verdict: &'a Verdict,
    /// Whether anything may be done unasked.
    pub automatic: bool,
    /// Whether the agent can be given orders.
    pub reachable: bool,
    /// Whether the agent's process can be ended by whoever starts it.
    pub can_restart: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The action.
    pub action: Remedy,
    /// What is wrong.
    pub class: FailureClass,
    /// What is wrong, in one line.
    pub reason: Option<String>,
}

/// What follows from what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing before the time that is named, unless something changes.
    Wait(Option<Duration>),
    /// An attempt is to be made; it counts as begun.
    Act(Plan),
    /// The last attempt is judged, whoever made it. Ask again at once.
    Judge(Outcome),
}

/// How an attempt's order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Done: it shows from now on whether it helped.
    Done,
    /// It could not be done, and was counted.
    Failed,
    /// The limit is reached for so long.
    Refused(Duration),
    /// It was not given: the agent does not answer.
    NotGiven,
    /// It was left to somebody else, who is at it.
    Yielded,
}

/// One instance's machine.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Since when each kind of fault is seen without a break.
    since: BTreeMap<FaultKind, Duration>,
    /// Since when it is well without a break.
    well_since: Option<Duration>,
    /// What the last attempt was for: the kinds that stood when it was begun, of those that its remedy is for.
    aims: Vec<FaultKind>,
    /// Since when that attempt is seen to have helped without a break.
    helped_since: Option<Duration>,
    /// What was tried since the instance was well.
    tried: Vec<Remedy>,
    /// Orders in a row that could not be given.
    missed: u32,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Watching,
    /// An order is being carried out.
    Acting { action: Remedy },
    /// Somebody else carries one out: nothing is begun before then.
    Elsewhere { until: Duration },
    /// It was carried out.
    Settling { begun: Duration, faulty_until: Duration, whose: Whose },
    /// Nothing is done before then, unless all is well.
    Resting { until: Duration, why: Rest },
}

/// Who made an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Own,
    Others,
}

/// Why nothing is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// To take breath: an order could not be given, or somebody else's attempt came to nothing.
    Breath,
    /// Somebody else repairs it, or did and it settles.
    Elsewhere,
    /// The hour's attempts are used up.
    Limit,
    /// Everything was tried in vain.
    Exhausted,
}

// === impl Policy ===

impl Policy {
    /// What follows from what is known now.
    pub fn see(&mut self, given: &Given<'_>) -> Step {
        self.note(given);
        match self.stage {
            Stage::Acting { .. } => Step::Wait(None),
            Stage::Elsewhere { until } if given.now < until => Step::Wait(Some(until)),
            Stage::Elsewhere { .. } => {
                self.stage = Stage::Watching;
                self.watch(given)
            }
            Stage::Settling { begun, faulty_until, .. } => self.settle(given, begun, faulty_until),
            Stage::Resting { until, .. } if given.now < until && !given.verdict.is_well() => Step::Wait(Some(until)),
            Stage::Resting { why, .. } => {
                self.stage = Stage::Watching;
                if why == Rest::Exhausted {
                    self.tried.clear();
                }
                self.watch(given)
            }
            Stage::Watching => self.watch(given),
        }
    }

    /// What the next attempt would be, though nothing is done unasked; `None` when nothing that can be done would help.
    #[must_use]
    pub fn next(&self, given: &Given<'_>) -> Option<Plan> {
        let faults = given.verdict.faults.iter();
        faults.clone().find_map(|fault| self.plan(given, fault)).or_else(|| {
            // All was tried: a person may have it once more.
            let mut fresh = self.clone();
            fresh.tried.clear();
            faults.clone().find_map(|fault| fresh.plan(given, fault))
        })
    }

    /// An attempt was begun that a person ordered.
    pub fn begun(&mut self, action: Remedy) {
        self.aim(action);
        self.tried.push(action);
        self.stage = Stage::Acting { action };
    }

    /// Whether the last attempt helped, as far as this shows it: all is well, or the instance is seen to run without what the
    /// attempt was for.
    #[must_use]
    pub fn has_helped(&self, verdict: &Verdict) -> bool {
        if verdict.is_well() {
            return true;
        }
        let stands = verdict.faults.iter().any(|fault| self.aims.contains(&fault.kind));
        // Viewers are not heard while anything else is wrong.
        let is_client = |kind: &FaultKind| kind.class() == FailureClass::Client;
        let is_hidden = self.aims.iter().any(is_client) && !verdict.faults.iter().all(|fault| is_client(&fault.kind));
        !self.aims.is_empty() && verdict.state == InstanceState::Degraded && !stands && !is_hidden
    }

    /// Whether an attempt is being carried out.
    #[must_use]
    pub fn is_acting(&self) -> bool {
        matches!(self.stage, Stage::Acting { .. })
    }

    /// Whether an attempt was carried out, by whomever, and not judged yet.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        matches!(self.stage, Stage::Settling { .. })
    }

    /// Why nothing is done though something is wrong; `None` while something is, or may be soon.
    #[must_use]
    pub fn rest(&self) -> Option<Rest> {
        match self.stage {
            Stage::Elsewhere { .. } | Stage::Settling { whose: Whose::Others, .. } => Some(Rest::Elsewhere),
            Stage::Resting { why, .. } if why != Rest::Breath => Some(why),
            _ => None,
        }
    }

    /// The order ended.
    pub fn ended(&mut self, now: Duration, ended: Ended) {
        let Stage::Acting { action } = self.stage else { return };
        self.missed = if ended == Ended::NotGiven { self.missed + 1 } else { 0 };
        self.stage = match ended {
            Ended::Done => Stage::Settling { begun: now, faulty_until: now + settling_time(action), whose: Whose::Own },
            Ended::Failed => Stage::Resting { until: now + BREATH, why: Rest::Breath },
            Ended::Refused(wait) => {
                self.take_back(action);
                Stage::Resting { until: now + wait.max(BREATH), why: Rest::Limit }
            }
            Ended::NotGiven => {
                self.take_back(action);
                let pause = BREATH.saturating_mul(1 << (self.missed - 1).min(16)).min(LONGEST_BREATH);
                Stage::Resting { until: now + pause, why: Rest::Breath }
            }
            Ended::Yielded => {
                self.take_back(action);
                Stage::Elsewhere { until: now + BREATH }
            }
        };
    }

    /// It was not made after all. Somebody else's may stand behind it.
    fn take_back(&mut self, action: Remedy) {
        if let Some(place) = self.tried.iter().rposition(|tried| *tried == action) {
            self.tried.remove(place);
        }
    }

    /// Somebody else's attempt became known: it is not made again.
    pub fn foreign(&mut self, action: Remedy) {
        if self.gives_way() {
            self.aim(action);
        }
        self.tried.push(action);
    }

    /// Somebody else's attempt was carried out, and ended then, which may be some time ago: it has its time to settle, and is
    /// judged as an own one is, so that all who watch go on alike.
    pub fn foreign_ended(&mut self, ended: Duration, action: Remedy) {
        if self.gives_way() {
            let faulty_until = ended + settling_time(action);
            self.stage = Stage::Settling { begun: ended, faulty_until, whose: Whose::Others };
        }
    }

    /// Somebody else's attempt came to nothing: nobody repairs it now, and whoever tried goes first again.
    pub fn foreign_failed(&mut self, now: Duration, action: Remedy) {
        let has_given_up = matches!(self.stage, Stage::Resting { why: Rest::Limit | Rest::Exhausted, .. });
        if self.gives_way() && !has_given_up {
            self.stage = Stage::Resting { until: now + settling_time(action), why: Rest::Breath };
        }
    }

    /// Somebody else's attempt that was taken for a help was in vain, as who made it says.
    pub fn foreign_in_vain(&mut self, action: Remedy) {
        if !self.tried.contains(&action) {
            self.tried.push(action);
        }
    }

    /// Somebody else is at it: nothing is begun before then, unless that is heard again.
    pub fn leave(&mut self, until: Duration) {
        match self.stage {
            Stage::Elsewhere { until: before } => self.stage = Stage::Elsewhere { until: until.max(before) },
            _ if self.gives_way() => self.stage = Stage::Elsewhere { until },
            _ => {}
        }
    }

    /// Whether what others do comes before what is being done here: before rest too, of whatever kind, since they may have
    /// attempts that are not left to this one.
    fn gives_way(&self) -> bool {
        !matches!(self.stage, Stage::Acting { .. } | Stage::Settling { whose: Whose::Own, .. })
    }

    /// What was tried in vain before this control plane was started.
    pub fn remember(&mut self, tried: impl IntoIterator<Item = Remedy>) {
        self.tried.extend(tried);
    }

    /// Some attempts are left again, or the limit was lifted.
    pub fn limit_lifted(&mut self) {
        if matches!(self.stage, Stage::Resting { why: Rest::Limit, .. }) {
            self.stage = Stage::Watching;
        }
    }

    fn aim(&mut self, action: Remedy) {
        self.aims = self.since.keys().copied().filter(|kind| kind.remedies().contains(&action)).collect();
        self.helped_since = None;
    }

    fn judged(&mut self, outcome: Outcome) -> Step {
        self.stage = Stage::Watching;
        self.aims.clear();
        Step::Judge(outcome)
    }

    fn note(&mut self, given: &Given<'_>) {
        let faults = &given.verdict.faults;
        self.since.retain(|kind, _| faults.iter().any(|fault| fault.kind == *kind));
        for fault in faults {
            self.since.entry(fault.kind).or_insert(given.now);
        }
        self.well_since = given.verdict.is_well().then(|| self.well_since.unwrap_or(given.now));
    }

    fn settle(&mut self, given: &Given<'_>, begun: Duration, faulty_until: Duration) -> Step {
        let Given { now, verdict, .. } = *given;
        let has_helped = self.has_helped(verdict);
        self.helped_since = has_helped.then(|| self.helped_since.unwrap_or(now));
        if has_helped {
            let since = [self.well_since, self.helped_since].into_iter().flatten().min().unwrap_or(now).max(begun);
            if now >= since + WELL_FOR {
                // What else is wrong may have come of this remedy: the same one is not made for it until all is well.
                if !verdict.recovery_needed() {
                    self.tried.clear();
                }
                return self.judged(Outcome::Repaired);
            }
            return Step::Wait(Some(since + WELL_FOR));
        }
        let is_starting = verdict.faults.iter().all(|fault| fault.kind.is_passing());
        let until = if is_starting { faulty_until + START_PATIENCE } else { faulty_until };
        if now >= until {
            return self.judged(Outcome::InVain);
        }
        Step::Wait(Some(until))
    }

    fn watch(&mut self, given: &Given<'_>) -> Step {
        if given.verdict.is_well() {
            self.tried.clear();
        }
        if !given.automatic {
            return Step::Wait(None);
        }
        let faults = || given.verdict.faults.iter().filter(|fault| !fault.remedies.is_empty());
        let open: Vec<(&Fault, Plan)> = faults().filter_map(|fault| Some((fault, self.plan(given, fault)?))).collect();
        // The network's faults first, then the machine's: who comes later waits for who comes before.
        let Some(turn) = open.iter().map(|(fault, _)| fault.kind.turn()).min() else {
            let was_tried = |fault: &Fault| fault.remedies.iter().all(|remedy| self.tried.contains(remedy));
            if faults().next().is_none() || !faults().all(was_tried) {
                return Step::Wait(None);
            }
            let until = given.now + WINDOW;
            self.stage = Stage::Resting { until, why: Rest::Exhausted };
            return Step::Wait(Some(until));
        };
        let its = || open.iter().filter(|(fault, _)| fault.kind.turn() == turn);
        let Some((_, plan)) = its().find(|(fault, _)| self.due(fault).is_some_and(|at| at <= given.now)) else {
            return Step::Wait(its().filter_map(|(fault, _)| self.due(fault)).min());
        };
        let plan = plan.clone();
        self.begun(plan.action);
        Step::Act(plan)
    }

    /// When something may be done about a fault.
    fn due(&self, fault: &Fault) -> Option<Duration> {
        Some(*self.since.get(&fault.kind)? + Duration::from_millis(fault.kind.patience_ms()))
    }

    fn plan(&self, given: &Given<'_>, fault: &Fault) -> Option<Plan> {
        let can = |remedy: &Remedy| match remedy {
            Remedy::RestartAgent => given.reachable || given.can_restart,
            _ => given.reachable,
        };
        let action = fault.remedies.iter().find(|remedy| can(remedy) && !self.tried.contains(remedy))?;
        Some(Plan { action: *action, class: given.verdict.class, reason: Some(fault.text.clone()) })
    }
}

#[cfg(test)]
mod tests;
