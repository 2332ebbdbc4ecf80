//! One word for an instance, from what its provider and its agent say. A pure function.

use crate::provider::{Found, Phase};
use loco_model::InstanceState;
use loco_model::api::{Endpoints, Instance};
use loco_model::report::{HealthReport, OverallStatus};

/// What the monitor hears from an agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Contact {
    /// Nothing yet.
    #[default]
    None,
    /// Its newest report.
    Report(Box<HealthReport>),
    /// It answered before and does not now.
    Lost {
        /// Why.
        reason: String,
    },
}

/// The API's view of an instance. `was_live`: it has been live before, so that not being so means repair, not start.
#[must_use]
pub fn derive(found: &Found, contact: &Contact, was_live: bool) -> Instance {
    let (state, reason) = word(&found.phase, contact, was_live);
    let report = match contact {
        Contact::Report(report) => Some(report),
        Contact::None | Contact::Lost { .. } => None,
    };
    let endpoints = found.agent.as_ref().map(|agent| Endpoints { agent: agent.clone(), whep: format!("{agent}/whep") });
    Instance {
        name: found.name.clone(),
        state,
        reason,
        ready: endpoints.is_some()
            && report.is_some_and(|report| report.deep_health.video.display_active == Some(true)),
        endpoints,
        guest_started_at_ms: report.and_then(|report| report.deep_health.guest_started_at_ms),
        agent_starts: found.agent_starts,
        stale_since_ms: found.stale_since_ms,
        kubernetes: found.kubernetes.clone(),
        ..Instance::new(found.id)
    }
}

fn word(phase: &Phase, contact: &Contact, was_live: bool) -> (InstanceState, Option<String>) {
    use InstanceState::{Connecting, Failed, Recovering, Stopped};
    let beginning = if was_live { Recovering } else { Connecting };
    match (phase, contact) {
        (Phase::Starting, _) => (Connecting, Some("agent is starting".to_owned())),
        (Phase::Restarting { reason }, _) => (Recovering, Some(reason.clone())),
        (Phase::Failed { reason }, _) => (Failed, Some(reason.clone())),
        (Phase::Stopped, _) => (Stopped, None),
        (Phase::Up, Contact::None) => (beginning, Some("agent has not answered yet".to_owned())),
        (Phase::Up, Contact::Lost { reason }) => (beginning, Some(format!("agent does not answer: {reason}"))),
        (Phase::Up, Contact::Report(report)) => guest_word(report, was_live),
    }
}

fn guest_word(report: &HealthReport, was_live: bool) -> (InstanceState, Option<String>) {
    use InstanceState::{Connecting, Degraded, Failed, Live, Recovering, Stopped};
    let health = &report.deep_health;
    let beginning = if was_live || health.guest_restarts > 0 { Recovering } else { Connecting };
    let reason = |default: &str| Some(health.guest_reason.clone().unwrap_or_else(|| default.to_owned()));
    match health.guest_state.as_str() {
        "starting" => (beginning, reason("guest is starting")),
        "running" if health.video.display_active != Some(true) => {
            (beginning, Some("guest has not shown a picture yet".to_owned()))
        }
        "running" => match report.overall_status {
            OverallStatus::Degraded | OverallStatus::Unhealthy => (Degraded, health.guest_reason.clone()),
            OverallStatus::Healthy | OverallStatus::Unknown => (Live, None),
        },
        "paused" => (Stopped, reason("guest is paused")),
        "stopping" => (Stopped, reason("guest is powering down")),
        "stopped" => (Stopped, health.guest_reason.clone()),
        "failed" => (Failed, reason("guest failed")),
        other => (Degraded, Some(format!("agent reports an unknown guest state {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_model::InstanceId;

    fn report(state: &str, display: Option<bool>, restarts: u64, status: OverallStatus) -> Contact {
        let mut report = HealthReport { overall_status: status, ..HealthReport::default() };
        state.clone_into(&mut report.deep_health.guest_state);
        report.deep_health.video.display_active = display;
        report.deep_health.guest_restarts = restarts;
        report.deep_health.guest_started_at_ms = Some(7);
        Contact::Report(Box::new(report))
    }

    #[test]
    fn each_situation_has_its_word() {
        use InstanceState::{Connecting, Degraded, Failed, Live, Recovering, Stopped};
        use OverallStatus::{Healthy, Unhealthy, Unknown};
        let restarting = || Phase::Restarting { reason: "agent exited: restarting".into() };
        let failed = || Phase::Failed { reason: "no QEMU".into() };
        let lost = || Contact::Lost { reason: "refused".into() };
        let running = || report("running", Some(true), 0, Healthy);
        // Phase, contact, was live before; then word, part of the reason, whether viewers may connect.
        let table = [
            (Phase::Starting, Contact::None, false, Connecting, Some("starting"), false),
            (Phase::Up, Contact::None, false, Connecting, Some("not answered"), false),
            (Phase::Up, Contact::None, true, Recovering, Some("not answered"), false),
            (Phase::Up, lost(), false, Connecting, Some("refused"), false),
            (Phase::Up, lost(), true, Recovering, Some("refused"), false),
            (Phase::Up, report("starting", None, 0, Unknown), false, Connecting, Some("starting"), false),
            (Phase::Up, report("starting", None, 1, Unknown), false, Recovering, Some("starting"), false),
            (Phase::Up, report("starting", Some(false), 0, Unknown), true, Recovering, Some("starting"), false),
            (Phase::Up, report("running", None, 0, Unknown), false, Connecting, Some("picture"), false),
            (Phase::Up, report("running", Some(false), 1, Unknown), true, Recovering, Some("picture"), false),
            (Phase::Up, running(), false, Live, None, true),
            (Phase::Up, running(), true, Live, None, true),
            (Phase::Up, report("running", Some(true), 3, Healthy), true, Live, None, true),
            (Phase::Up, report("running", Some(true), 0, Unhealthy), true, Degraded, None, true),
            (Phase::Up, report("paused", Some(true), 0, Healthy), true, Stopped, Some("paused"), true),
            (Phase::Up, report("stopping", Some(true), 0, Healthy), true, Stopped, Some("powering down"), true),
            (Phase::Up, report("stopped", Some(false), 0, Healthy), true, Stopped, None, false),
            (Phase::Up, report("failed", Some(false), 9, Unhealthy), true, Failed, Some("failed"), false),
            (Phase::Up, report("dancing", None, 0, Healthy), true, Degraded, Some("dancing"), false),
            (restarting(), running(), true, Recovering, Some("agent exited: restarting"), true),
            (failed(), Contact::None, false, Failed, Some("no QEMU"), false),
            (Phase::Stopped, running(), true, Stopped, None, true),
        ];
        for (phase, contact, was_live, state, reason, ready) in table {
            let id = InstanceId::try_new(2).expect("2 is an index");
            let agent = Some("http://127.0.0.1:1".to_owned());
            let found = Found { agent, phase, agent_starts: Some(1), ..Found::new(id) };
            let got = derive(&found, &contact, was_live);
            assert_eq!(got.state, state, "{found:?} {contact:?} {was_live}");
            assert_eq!(got.reason.is_some(), reason.is_some(), "{got:?}");
            assert!(reason.is_none_or(|part| got.reason.as_deref().is_some_and(|r| r.contains(part))), "{got:?}");
            assert_eq!(got.ready, ready, "{got:?}");
            assert_eq!(got.endpoints.map(|e| e.whep).as_deref(), Some("http://127.0.0.1:1/whep"));
        }
    }

    #[test]
    fn without_an_agent_nobody_can_connect() {
        let id = InstanceId::try_new(0).expect("0 is an index");
        let found = Found::new(id);
        let got = derive(&found, &Contact::None, false);
        assert!(!got.ready && got.endpoints.is_none() && got.guest_started_at_ms.is_none());
    }
}
