//! What of the control plane's events is an alert. Pure.

use super::book::Condition;
use loco_model::api::{Alert, Event, Instance, Severity};
use loco_model::recovery::Outcome;
use loco_model::{FailureClass, InstanceId, InstanceState};
use std::collections::BTreeSet;
use std::path::Path;

pub(super) const INSTANCE_FAILED: &str = Alert::INSTANCE_FAILED;
pub(super) const RECOVERY_IN_VAIN: &str = "Recovery in vain";
pub(super) const LIMIT_REACHED: &str = Alert::LIMIT_REACHED;
pub(super) const DISCOVERY_STALE: &str = "Discovery is stale";
pub(super) const STORE_FAILING: &str = "The store cannot be written";
pub(super) const MOVED_ASIDE: &str = "The database was put aside";
/// Followed by the check's name.
pub(super) const CHECK_FAILED: &str = "Check failed: ";

/// What follows from an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Begin(Condition),
    End {
        title: String,
        instance: Option<InstanceId>,
    },
    /// The instance is gone: so is all that was wrong with it.
    EndAll {
        instance: InstanceId,
    },
}

/// Whether whoever follows the events is told by others of them, each time: an attempt says itself that it was in vain, and
/// the next one that it was not. An event of the alert would be the same news twice.
pub(super) fn is_told_by_attempts(title: &str) -> bool {
    title == RECOVERY_IN_VAIN
}

/// Whether an alert of that title never ends.
pub(super) fn has_no_end(title: &str) -> bool {
    title == MOVED_ASIDE
}

pub(super) fn store_failing(reason: Option<String>) -> Condition {
    let detail = reason.map(|reason| format!("{reason}: it goes on in memory, and is tried again"));
    Condition { severity: Severity::Critical, instance: None, title: STORE_FAILING.to_owned(), detail }
}

pub(super) fn moved_aside(path: &Path) -> Condition {
    let detail = Some(format!("it could not be used, and lies at {}; a new one was begun", path.display()));
    Condition { severity: Severity::Warning, instance: None, title: MOVED_ASIDE.to_owned(), detail }
}

/// What follows from an event. `known`: the instances that alerts last about.
pub(super) fn of(event: &Event, known: &BTreeSet<InstanceId>) -> Vec<Change> {
    match event {
        Event::Instances { instances } => {
            let there: BTreeSet<InstanceId> = instances.iter().map(|instance| instance.id).collect();
            let gone = known.iter().filter(|id| !there.contains(id)).map(|id| Change::EndAll { instance: *id });
            gone.chain(instances.iter().flat_map(instance)).collect()
        }
        Event::Instance { instance: one } => instance(one),
        Event::Removed { id } => vec![Change::EndAll { instance: *id }],
        Event::Attempt { attempt } => {
            let detail = || {
                let how = attempt.detail.as_deref().or(attempt.reason.as_deref());
                Some(how.map_or_else(|| attempt.action.to_string(), |how| format!("{}: {how}", attempt.action)))
            };
            let id = Some(attempt.instance_id);
            let begin = |severity, title: &str| {
                vec![Change::Begin(Condition { severity, instance: id, title: title.to_owned(), detail: detail() })]
            };
            match attempt.outcome {
                // Left to others, nothing was tried.
                Outcome::Running | Outcome::Yielded => Vec::new(),
                // Nothing was wrong when a person ordered it: there was nothing to recover from.
                Outcome::InVain | Outcome::Failed if attempt.class == FailureClass::None => Vec::new(),
                Outcome::Repaired => vec![end(RECOVERY_IN_VAIN, id), end(LIMIT_REACHED, id)],
                Outcome::InVain | Outcome::Failed => begin(Severity::Warning, RECOVERY_IN_VAIN),
                Outcome::Refused => begin(Severity::Critical, LIMIT_REACHED),
            }
        }
        Event::Discovery { info } => match info.stale_since_ms {
            Some(_) => vec![Change::Begin(Condition {
                severity: Severity::Warning,
                instance: None,
                title: DISCOVERY_STALE.to_owned(),
                detail: info.last_error.clone(),
            })],
            None => vec![end(DISCOVERY_STALE, None)],
        },
        Event::Alert { .. } | Event::Active { .. } | Event::Viewers { .. } => Vec::new(),
    }
}

fn end(title: &str, instance: Option<InstanceId>) -> Change {
    Change::End { title: title.to_owned(), instance }
}

fn instance(instance: &Instance) -> Vec<Change> {
    let id = Some(instance.id);
    let begin = |title: &str, detail: Option<String>| {
        Change::Begin(Condition { severity: Severity::Critical, instance: id, title: title.to_owned(), detail })
    };
    let mut changes = Vec::new();
    match instance.state {
        InstanceState::Failed => changes.push(begin(INSTANCE_FAILED, instance.reason.clone())),
        // It may fail again in a moment: it was no other failure then.
        InstanceState::Connecting | InstanceState::Recovering => {}
        InstanceState::Live | InstanceState::Degraded | InstanceState::Stopped => {
            changes.push(end(INSTANCE_FAILED, id));
        }
    }
    let is_well = matches!(instance.state, InstanceState::Live | InstanceState::Stopped)
        && instance.failure == FailureClass::None;
    if is_well {
        changes.extend([end(RECOVERY_IN_VAIN, id), end(LIMIT_REACHED, id)]);
    } else if instance.attempts_left == Some(0) && instance.failure != FailureClass::None && instance.recovery.is_none()
    {
        changes.push(begin(LIMIT_REACHED, instance.reason.clone()));
    }
    changes
}
