//! What everyone sees of an instance. A pure function of what its provider says, what is thought of it, and what is
//! being done about it.

use crate::policy::Rest;
use crate::provider::{Found, Phase};
use crate::usage::InstanceUse;
use loco_model::InstanceState;
use loco_model::api::{Endpoints, Instance};
use loco_model::classify::{self, Verdict, spoken};
use loco_model::recovery::{Attempt, Initiator};
use loco_model::report::HealthReport;

/// All that an instance's picture is made of.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What its provider says.
    pub found: &'a Found,
    /// Its newest report; `None` while its agent does not answer.
    pub report: Option<&'a HealthReport>,
    /// What is thought of it.
    pub verdict: &'a Verdict,
    /// The attempt that is being made, or was made and is not judged yet, whoever makes it.
    pub attempt: Option<&'a Attempt>,
    /// Why nothing is done about it.
    pub rest: Option<Rest>,
    /// Attempts that are left; `None` while unknown.
    pub attempts_left: Option<usize>,
    /// How it is used; `None`: not at all.
    pub usage: Option<&'a InstanceUse>,
}

/// The API's view of an instance.
#[must_use]
pub fn derive(seen: &Seen<'_>) -> Instance {
    let Seen { found, report, verdict, attempt, .. } = *seen;
    let (state, reason) = word(seen);
    let endpoints = found.agent.as_ref().map(|agent| Endpoints { agent: agent.clone(), whep: format!("{agent}/whep") });
    let usage = seen.usage.cloned().unwrap_or_default();
    Instance {
        name: found.name.clone(),
        state,
        reason,
        ready: endpoints.is_some()
            && report.is_some_and(|report| report.deep_health.video.display_active == Some(true)),
        endpoints,
        guest_started_at_ms: report.and_then(|report| report.deep_health.guest_started_at_ms),
        agent_starts: found.agent_starts,
        failure: verdict.class,
        recovery: attempt.cloned(),
        attempts_left: seen.attempts_left,
        in_use: usage.in_use,
        focused_by: usage.focused_by,
        input_holder: usage.holder,
        stale_since_ms: found.stale_since_ms,
        kubernetes: found.kubernetes.clone(),
        ..Instance::new(found.id)
    }
}

/// While something is being done it is recovering, unless it is well already.
fn word(seen: &Seen<'_>) -> (InstanceState, Option<String>) {
    let verdict = seen.verdict;
    let said = verdict.reason.clone();
    if seen.rest == Some(Rest::Elsewhere) && !verdict.is_well() {
        let who = match seen.attempt.map(|attempt| &attempt.initiator) {
            Some(Initiator::Agent) => "its agent",
            Some(Initiator::Policy { .. } | Initiator::Person { .. }) | None => "somebody else",
        };
        let why = said.map(|why| format!(": {why}")).unwrap_or_default();
        return (InstanceState::Recovering, Some(format!("{who} repairs it{why}")));
    }
    if let Some(attempt) = seen.attempt.filter(|_| !verdict.is_well()) {
        let why = attempt.reason.as_ref().or(said.as_ref()).map(|why| format!(": {why}")).unwrap_or_default();
        return (InstanceState::Recovering, Some(format!("{}{why}", spoken(attempt.action))));
    }
    let note = match seen.rest.filter(|_| verdict.recovery_needed()) {
        Some(Rest::Limit) => "; this hour's attempts to repair it are used up",
        Some(Rest::Exhausted) => "; all that can be done was tried in vain",
        Some(Rest::Breath | Rest::Elsewhere) | None => return (verdict.state, said),
    };
    (verdict.state, Some(format!("{}{note}", said.unwrap_or_else(|| "not well".to_owned()))))
}

/// A provider's phase in the words of the classification.
#[must_use]
pub fn phase(phase: &Phase) -> classify::Phase<'_> {
    match phase {
        Phase::Starting => classify::Phase::Starting,
        Phase::Up => classify::Phase::Up,
        Phase::Restarting { reason } => classify::Phase::Restarting(reason),
        Phase::Failed { reason } => classify::Phase::Failed(reason),
        Phase::Stopped => classify::Phase::Stopped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_model::classify::{Fault, FaultKind};
    use loco_model::usage::InputHolder;
    use loco_model::{FailureClass, InstanceId, Remedy};

    fn found() -> Found {
        let id = InstanceId::try_new(2).expect("2 is an index");
        let agent = Some("http://127.0.0.1:1".to_owned());
        Found { agent, phase: Phase::Up, agent_starts: Some(1), ..Found::new(id) }
    }

    fn verdict(state: InstanceState, fault: Option<FaultKind>) -> Verdict {
        let fault =
            fault.map(|kind| Fault { kind, text: "it stands still".into(), remedies: kind.remedies().to_vec() });
        let class = fault.as_ref().map_or(FailureClass::None, |fault| fault.kind.class());
        let reason = fault.as_ref().map(|fault| fault.text.clone());
        Verdict { state, reason, class, faults: fault.into_iter().collect(), ..Verdict::unknown() }
    }

    fn attempt() -> Attempt {
        Attempt {
            reason: Some("it stands still".into()),
            ..Attempt::begun("a", found().id, 1, FailureClass::Qemu, Remedy::RestartQemu, Initiator::Agent)
        }
    }

    #[test]
    fn the_word_says_what_is_being_done() {
        use InstanceState::{Degraded, Failed, Live, Recovering};
        let frozen = || verdict(Failed, Some(FaultKind::Frozen));
        let live = || verdict(Live, None);
        for (verdict, acts, rest, state, reason) in [
            (live(), false, None, Live, None),
            (live(), true, None, Live, None),
            (live(), false, Some(Rest::Limit), Live, None),
            (frozen(), false, None, Failed, Some("it stands still")),
            (frozen(), true, None, Recovering, Some("restart its QEMU: it stands still")),
            (frozen(), false, Some(Rest::Breath), Failed, Some("it stands still")),
            (frozen(), false, Some(Rest::Elsewhere), Recovering, Some("somebody else repairs it: it stands still")),
            (frozen(), true, Some(Rest::Elsewhere), Recovering, Some("its agent repairs it: it stands still")),
            (live(), false, Some(Rest::Elsewhere), Live, None),
            (
                frozen(),
                false,
                Some(Rest::Limit),
                Failed,
                Some("it stands still; this hour's attempts to repair it are used up"),
            ),
            (
                verdict(Degraded, Some(FaultKind::SoundGone)),
                false,
                Some(Rest::Exhausted),
                Degraded,
                Some("it stands still; all that can be done was tried in vain"),
            ),
        ] {
            let (found, attempt) = (found(), attempt());
            let attempt = acts.then_some(&attempt);
            let seen = Seen {
                found: &found,
                report: None,
                verdict: &verdict,
                attempt,
                rest,
                attempts_left: None,
                usage: None,
            };
            let instance = derive(&seen);
            assert_eq!((instance.state, instance.reason.as_deref()), (state, reason), "{seen:?}");
            assert_eq!(instance.recovery.is_some(), acts);
        }
    }

    #[test]
    fn whoever_can_be_reached_and_shows_a_picture_is_ready() {
        let mut report = HealthReport::default();
        report.deep_health.guest_started_at_ms = Some(7);
        let mut shows = report.clone();
        shows.deep_health.video.display_active = Some(true);
        let (there, gone) = (found(), Found::new(found().id));
        let verdict = verdict(InstanceState::Live, None);
        for (found, report, ready) in [
            (&there, Some(&shows), true),
            (&there, Some(&report), false),
            (&there, None, false),
            (&gone, Some(&shows), false),
        ] {
            let seen =
                Seen { found, report, verdict: &verdict, attempt: None, rest: None, attempts_left: None, usage: None };
            let instance = derive(&seen);
            assert_eq!(instance.ready, ready);
            assert_eq!(instance.endpoints.is_some(), found.agent.is_some());
            assert_eq!(instance.guest_started_at_ms, report.map(|_| 7));
        }
    }

    #[test]
    fn how_it_is_used_is_shown() {
        let usage = InstanceUse {
            in_use: true,
            focused_by: vec!["ada".into()],
            holder: Some(InputHolder { viewer: "a".into(), name: "ada".into() }),
        };
        let found = found();
        let seen = Seen {
            found: &found,
            report: None,
            verdict: &verdict(InstanceState::Live, None),
            attempt: None,
            rest: None,
            attempts_left: Some(2),
            usage: Some(&usage),
        };
        let instance = derive(&seen);
        assert!(instance.in_use && instance.focused_by == ["ada"] && instance.attempts_left == Some(2));
        assert_eq!(instance.input_holder, usage.holder);
        assert_eq!(instance.endpoints.map(|e| e.whep).as_deref(), Some("http://127.0.0.1:1/whep"));
    }
}
