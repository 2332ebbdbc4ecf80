//! `loco status`.

use super::connect::{ConnectArgs, Connection, Go, event};
use super::out;
use loco_model::InstanceId;
use loco_model::api::{DiscoveryInfo, Event, Instance, InstanceHealth, RefusedEntry};
use loco_model::failure::FailureClass;
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Arguments of `loco status`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    connect: ConnectArgs,

    /// Again at every change, until Ctrl+C
    #[arg(long, short)]
    watch: bool,
}

/// Everything that is shown, as `--json` prints it.
#[derive(Serialize)]
struct Status {
    instances: Vec<Instance>,
    /// By instance; null where the control plane does not know of it.
    health: Option<BTreeMap<InstanceId, InstanceHealth>>,
    discovery: Option<DiscoveryInfo>,
}

pub(super) async fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let connection = args.connect.open()?;
    if !args.watch {
        show(&ask(&connection).await?, &connection.api, args)?;
        return Ok(ExitCode::SUCCESS);
    }
    connection
        .follow(async |_, json| {
            // Numbers of viewers are no news here.
            if !matches!(event(json), Some(Event::Viewers { .. } | Event::Alert { .. })) {
                // The old one stays until there is a new one.
                let status = ask(&connection).await?;
                out::clear()?;
                show(&status, &connection.api, args)?;
            }
            Ok(Go::On)
        })
        .await?;
    Ok(ExitCode::SUCCESS)
}

async fn ask(connection: &Connection) -> anyhow::Result<Status> {
    Ok(Status {
        instances: connection.instances().await?,
        health: connection.get_if_known("/api/quality/deep-health").await?,
        discovery: connection.get_if_known("/api/instances/discovery-info").await?,
    })
}

fn show(status: &Status, api: &str, args: &StatusArgs) -> anyhow::Result<()> {
    if args.connect.json {
        return out::json(status);
    }
    out::line(&head(api, status))?;
    out::print_table(HEADS, &status.rows())?;
    refusals(status.discovery.as_ref()).iter().try_for_each(|text| out::line(text))
}

/// What stands below a table: each entry of the list that is refused.
pub(super) fn refusals(discovery: Option<&DiscoveryInfo>) -> Vec<String> {
    let entries = discovery.into_iter().flat_map(|info| &info.refused);
    entries.map(|entry| out::plain(&format!("not in the list: {}", refused(entry)))).collect()
}

/// An entry that is refused: where, and why.
pub(super) fn refused(entry: &RefusedEntry) -> String {
    let place = entry.line.map_or_else(|| "an entry".to_owned(), |line| format!("line {line}"));
    format!("{place} is refused: {}", entry.reason)
}

const HEADS: &[&str] = &["#", "NAME", "STATE", "FAULT", "FPS", "QEMU CPU", "REPAIRS LEFT", "USED BY", "WHY"];

fn head(api: &str, status: &Status) -> String {
    let states = status.instances.iter().map(|instance| instance.state);
    let summary = loco_viewer::scene::plate::summary(&states).unwrap_or_else(|| "no instances".to_owned());
    let discovery = status.discovery.as_ref();
    let source = discovery.map(|info| format!(" · {}", info.mode)).unwrap_or_default();
    let stale = discovery.and_then(|info| info.stale_since_ms);
    let stale = stale.map(|at| format!(", stale since {}", out::moment(at, out::now_ms()))).unwrap_or_default();
    format!("{api} · {summary}{source}{stale}")
}

impl Status {
    fn rows(&self) -> Vec<Vec<String>> {
        let row = |instance: &Instance| {
            let health = self.health.as_ref().and_then(|all| all.get(&instance.id));
            let deep = health.and_then(|health| health.deep_health.as_ref());
            let fps = deep.and_then(|deep| deep.video.estimated_frame_rate).map(|fps| format!("{fps:.0}"));
            let cpu = deep.and_then(|deep| deep.performance.qemu_cpu).map(|cpu| format!("{cpu:.2}"));
            let fault = match instance.failure {
                FailureClass::None => String::new(),
                class => class.to_string(),
            };
            vec![
                format!("#{}", instance.index + 1),
                out::plain(&instance.name),
                instance.state.word().to_lowercase(),
                fault,
                out::or_dash(fps),
                out::or_dash(cpu),
                out::or_dash(instance.attempts_left),
                used_by(instance),
                why(instance, health),
            ]
        };
        self.instances.iter().map(row).collect()
    }
}

fn used_by(instance: &Instance) -> String {
    let holder = instance.input_holder.as_ref();
    let names = instance.focused_by.iter().map(|name| {
        let holds = holder.is_some_and(|holder| holder.name == *name);
        if holds { format!("{name} (input)") } else { name.clone() }
    });
    let mut names: Vec<String> = names.collect();
    if let Some(holder) = holder.filter(|holder| !instance.focused_by.contains(&holder.name)) {
        names.push(format!("{} (input)", holder.name));
    }
    out::plain(&names.join(", "))
}

/// What is being done, else why it is so, else what is wrong.
fn why(instance: &Instance, health: Option<&InstanceHealth>) -> String {
    let repair = instance.recovery.as_ref().map(|attempt| {
        let reason = attempt.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("{}{reason}", loco_viewer::scene::words::doing(attempt.action))
    });
    let faults = || health.map(|health| health.faults.join("; ")).filter(|faults| !faults.is_empty());
    out::plain(&repair.or_else(|| instance.reason.clone()).or_else(faults).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_model::InstanceState;
    use loco_model::usage::InputHolder;

    #[test]
    fn a_row_says_how_an_instance_is_and_dashes_what_is_unknown() {
        let id = InstanceId::try_new(3).expect("index");
        let instance = Instance {
            state: InstanceState::Degraded,
            failure: FailureClass::Qemu,
            reason: Some("9 fps".into()),
            attempts_left: Some(2),
            focused_by: vec!["ada@desk".into()],
            input_holder: Some(InputHolder { viewer: "a".into(), name: "ada@desk".into() }),
            ..Instance::new(id)
        };
        let status = Status { instances: vec![instance], health: None, discovery: None };
        let want = ["#4", "Loco 4", "degraded", "qemu", "–", "–", "2", "ada@desk (input)", "9 fps"];
        assert_eq!(status.rows(), [want.map(str::to_owned).to_vec()]);
        assert_eq!(head("http://h", &status), "http://h · 1 degraded");
    }

    #[test]
    fn refused_entries_are_named() {
        let entry = |line, reason: &str| RefusedEntry { line, reason: reason.into() };
        let refused = vec![entry(Some(3), "no agent"), entry(None, "twice\n")];
        let info = DiscoveryInfo { refused, ..DiscoveryInfo::default() };
        let want = ["not in the list: line 3 is refused: no agent", "not in the list: an entry is refused: twice·"];
        assert_eq!(refusals(Some(&info)), want);
        assert_eq!(refusals(None), [""; 0]);
    }
}
