//! `loco events`.

use super::connect::{ConnectArgs, Go, event};
use super::out;
use loco_model::InstanceId;
use loco_model::api::{Event, Instance};
use loco_model::recovery::Outcome;
use loco_viewer::scene::words;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

/// Arguments of `loco events`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let connection = args.connect.open()?;
    let mut known = Known::default();
    connection
        .follow(async |id, text| {
            if args.connect.json {
                let data: Value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
                out::json(&json!({ "id": id, "event": data }))?;
            } else if let Some(event) = event(text) {
                let now = out::now_ms();
                for line in known.lines(event) {
                    out::line(&format!("{}  {}", out::moment(now, now), out::plain(&line)))?;
                }
            }
            Ok(Go::On)
        })
        .await?;
    Ok(ExitCode::SUCCESS)
}

/// What was told before: only what is new is worth a line.
#[derive(Default)]
struct Known {
    instances: BTreeMap<InstanceId, Instance>,
    /// What was said last of each attempt whose end was not told yet.
    attempts: BTreeMap<String, String>,
    /// Those that last: they are told again to whoever begins anew.
    alerts: BTreeSet<String>,
    discovery: String,
    active: Option<Vec<InstanceId>>,
    viewers: Vec<String>,
}

impl Known {
    fn lines(&mut self, event: Event) -> Vec<String> {
        let name = |known: &Self, id: InstanceId| {
            known.instances.get(&id).map_or_else(|| id.display_name(), |instance| instance.name.clone())
        };
        match event {
            Event::Instances { instances } => {
                let gone: Vec<_> = self.instances.keys().copied().collect();
                let gone = gone.into_iter().filter(|id| !instances.iter().any(|i| i.id == *id));
                let mut lines: Vec<_> = gone.flat_map(|id| self.lines(Event::Removed { id })).collect();
                lines.extend(instances.into_iter().flat_map(|instance| self.instance(instance)));
                lines
            }
            Event::Instance { instance } => self.instance(*instance).into_iter().collect(),
            Event::Removed { id } => {
                let name = name(self, id);
                self.instances.remove(&id);
                vec![format!("{name} is gone")]
            }
            Event::Attempt { attempt } => {
                let line = words::attempt(&name(self, attempt.instance_id), &attempt).1;
                // One that begins is published by whoever orders it, and again as the agent tells of it.
                let told = if attempt.outcome == Outcome::Running {
                    self.attempts.insert(attempt.id, line.clone())
                } else {
                    self.attempts.remove(&attempt.id)
                };
                if told.as_ref() == Some(&line) { Vec::new() } else { vec![line] }
            }
            Event::Alert { alert } => {
                let is_over = alert.ended_at_ms.is_some();
                if is_over {
                    self.alerts.remove(&alert.id);
                } else if !self.alerts.insert(alert.id.clone()) {
                    return Vec::new();
                }
                let place = alert.instance_id.map(|id| format!("{}: ", name(self, id))).unwrap_or_default();
                let begun = if is_over { "over" } else { "alert" };
                let detail = alert.detail.map(|detail| format!(": {detail}")).unwrap_or_default();
                vec![format!("{begun}: {place}{}{detail}", alert.title)]
            }
            Event::Active { active } => {
                if self.active.as_ref() == Some(&active) {
                    return Vec::new();
                }
                self.active = Some(active.clone());
                let names: Vec<_> = active.iter().map(|id| name(self, *id)).collect();
                vec![if names.is_empty() { "active: none".to_owned() } else { format!("active: {}", names.join(", ")) }]
            }
            Event::Viewers { viewers } => {
                let now: Vec<_> = viewers.into_iter().map(|viewer| viewer.report.name).collect();
                let line = (now != self.viewers).then(|| match now.len() {
                    0 => "nobody watches".to_owned(),
                    _ => format!("watching: {}", now.join(", ")),
                });
                self.viewers = now;
                line.into_iter().collect()
            }
            Event::Discovery { info } => {
                // The last error is known for as long as the process lives: it is news only while it is what is wrong.
                let error = info.last_error.map(|error| format!(": {error}")).unwrap_or_default();
                let stale = info.stale_since_ms.map(|_| format!(", stale{error}")).unwrap_or_default();
                let refused = info.refused.iter().map(|entry| format!("; {}", super::status::refused(entry)));
                let refused: String = refused.collect();
                let line = format!("discovery ({}): {} instances{stale}{refused}", info.mode, info.instances);
                if line == self.discovery {
                    return Vec::new();
                }
                self.discovery.clone_from(&line);
                vec![line]
            }
        }
    }

    fn instance(&mut self, instance: Instance) -> Option<String> {
        let said = |instance: &Instance| {
            (instance.state, instance.reason.clone(), instance.input_holder.clone(), instance.recovery.is_some())
        };
        let old = self.instances.insert(instance.id, instance.clone());
        if old.as_ref().map(said) == Some(said(&instance)) {
            return None;
        }
        let reason = instance.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let holder = instance.input_holder.map(|holder| format!(", input of {}", holder.name)).unwrap_or_default();
        Some(format!("{} is {}{reason}{holder}", instance.name, instance.state.word().to_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_model::InstanceState;
    use loco_model::api::{Alert, DiscoveryInfo, RefusedEntry, Severity};
    use loco_model::failure::{FailureClass, Remedy};
    use loco_model::recovery::{Attempt, Initiator};

    #[test]
    fn only_what_is_new_is_a_line() {
        let id = InstanceId::try_new(1).expect("index");
        let live = Instance { state: InstanceState::Live, ..Instance::new(id) };
        let mut known = Known::default();
        let list = || Event::Instances { instances: vec![live.clone()] };
        assert_eq!(known.lines(list()), ["Loco 2 is live"]);
        assert_eq!(known.lines(list()), [""; 0], "after a reconnection nothing is new");
        let used = Instance { in_use: true, ..live.clone() };
        assert_eq!(known.lines(Event::Instance { instance: Box::new(used) }), [""; 0]);
        let failed = Instance { state: InstanceState::Failed, reason: Some("no disk".into()), ..live.clone() };
        assert_eq!(known.lines(Event::Instance { instance: Box::new(failed) }), ["Loco 2 is failed: no disk"]);
        assert_eq!(known.lines(Event::Instances { instances: vec![] }), ["Loco 2 is gone"]);
        assert_eq!(known.lines(Event::Active { active: vec![] }), ["active: none"]);
        assert_eq!(known.lines(Event::Active { active: vec![id] }), ["active: Loco 2"]);
        assert_eq!(known.lines(Event::Active { active: vec![id] }), [""; 0], "after a reconnection nothing is new");
        assert_eq!(known.lines(Event::Active { active: vec![] }), ["active: none"]);
    }

    #[test]
    fn an_attempt_is_told_when_it_begins_and_when_it_ends() {
        let id = InstanceId::try_new(1).expect("index");
        let running = Attempt::begun("a", id, 1, FailureClass::Qemu, Remedy::RestartQemu, Initiator::Agent);
        let mut known = Known::default();
        let mut tell = |attempt: &Attempt| known.lines(Event::Attempt { attempt: attempt.clone() });
        assert_eq!(tell(&running), ["Loco 2: restarting QEMU"]);
        assert_eq!(tell(&Attempt { evidence: Some("a".into()), ..running.clone() }), [""; 0], "it says the same");
        let why = Attempt { reason: Some("no picture".into()), ..running.clone() };
        assert_eq!(tell(&why), ["Loco 2: restarting QEMU (no picture)"]);
        let over = Attempt { outcome: Outcome::Repaired, ..why };
        assert_eq!(tell(&over), ["Loco 2 is well again: QEMU was restarted"]);
        assert_eq!(tell(&Attempt { id: "b".into(), ..running }), ["Loco 2: restarting QEMU"], "another one");
    }

    #[test]
    fn an_alert_is_told_when_it_begins_and_when_it_ends() {
        let lasts = Alert {
            id: "a".into(),
            at_ms: 1,
            ended_at_ms: None,
            severity: Severity::Warning,
            instance_id: None,
            title: "the disk is full".into(),
            detail: None,
        };
        let mut known = Known::default();
        let mut tell = |alert: &Alert| known.lines(Event::Alert { alert: alert.clone() });
        assert_eq!(tell(&lasts), ["alert: the disk is full"]);
        assert_eq!(tell(&lasts), [""; 0], "after a reconnection nothing is new");
        assert_eq!(tell(&Alert { ended_at_ms: Some(2), ..lasts.clone() }), ["over: the disk is full"]);
        assert_eq!(tell(&Alert { id: "b".into(), ..lasts }), ["alert: the disk is full"], "another one");
    }

    #[test]
    fn an_error_of_discovery_is_told_while_the_list_is_stale() {
        let mut known = Known::default();
        let well = DiscoveryInfo { mode: "static".into(), instances: 2, ..DiscoveryInfo::default() };
        let stale = DiscoveryInfo { stale_since_ms: Some(1), last_error: Some("not closed".into()), ..well.clone() };
        let again = DiscoveryInfo { stale_since_ms: None, ..stale.clone() };
        let entry = RefusedEntry { line: Some(3), reason: "no agent".into() };
        let refused = DiscoveryInfo { refused: vec![entry], ..again.clone() };
        for (info, lines) in [
            (well, &["discovery (static): 2 instances"][..]),
            (stale, &["discovery (static): 2 instances, stale: not closed"]),
            (again.clone(), &["discovery (static): 2 instances"]),
            (again, &[]),
            (refused, &["discovery (static): 2 instances; line 3 is refused: no agent"]),
        ] {
            assert_eq!(known.lines(Event::Discovery { info }), lines);
        }
    }
}
