//! `loco events`.

use super::connect::{ConnectArgs, Go, event};
use super::out;
use loco_model::InstanceId;
use loco_model::api::{Event, Instance};
use loco_viewer::scene::words;
use serde_json::{Value, json};
use std::collections::BTreeMap;
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
                vec![words::attempt(&name(self, attempt.instance_id), &attempt).1]
            }
            Event::Alert { alert } => {
                let place = alert.instance_id.map(|id| format!("{}: ", name(self, id))).unwrap_or_default();
                let begun = if alert.ended_at_ms.is_some() { "over" } else { "alert" };
                let detail = alert.detail.map(|detail| format!(": {detail}")).unwrap_or_default();
                vec![format!("{begun}: {place}{}{detail}", alert.title)]
            }
            Event::Active { active } => {
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
                let stale = if info.stale_since_ms.is_some() { ", stale" } else { "" };
                let error = info.last_error.map(|error| format!(": {error}")).unwrap_or_default();
                vec![format!("discovery ({}): {} instances{stale}{error}", info.mode, info.instances)]
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
        assert_eq!(known.lines(Event::Active { active: vec![id] }), ["active: Loco 2"]);
    }
}
