//! Row 9: the control plane's API under load, and how soon a change at its provider is told.

use super::{Lab, object};
use crate::control::{Control, ControlOptions};
use crate::load::{self, Request};
use crate::plot::{Series, cut};
use crate::report::{Condition, Row};
use crate::simulated::{SimulatedAgent, write_instances};
use crate::stats::{Summary, round};
use anyhow::{Context, Result};
use loco_http::{Token, TokenFile};
use loco_model::InstanceId;
use loco_model::api::Event;
use loco_process::RunDir;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

const AGENTS: usize = 9;
const RATE: u32 = 1000;
const PATIENCE: Duration = Duration::from_secs(30);
/// All agents are followed by then, and nothing that starting costs is left.
const SETTLING: Duration = Duration::from_secs(5);

const HOW: &str = "`loco control` with a state folder and nine simulated agents (real HTTP servers that report as agents do), in a process \
    of its own. Each endpoint is asked 1,000 times a second over 16 kept connections for the window (open loop: a latency counts from \
    when its request was due, so that a stall is charged to everything that waited). own_delay is how late the load itself was while a \
    connection was free. Then the file of the provider `static` is replaced, with one instance more or one less in turns; told is \
    when /api/events says so. The change of a pod will be measured with the provider for clusters.";

/// Row 9.
pub(super) async fn latency_and_changes(lab: &Lab) -> Result<Row> {
    let dir = RunDir::create("bench")?;
    let folder = dir.path();
    let token = Token::create_file(&folder.join("token"))?;
    let agents = SimulatedAgent::start_many(AGENTS, &TokenFile::open(&folder.join("token"))?).await?;
    list(folder, &agents)?;
    let control = Control::start(&ControlOptions::in_folder(&lab.loco, folder)).await?;
    let measured = async {
        let loads = endpoints(lab, &control, &token).await?;
        Ok::<_, anyhow::Error>((loads, changes(lab, &control, folder, &agents).await?))
    }
    .await;
    control.stop().await?;
    let (loads, changes) = measured?;
    let worst = loads.iter().filter_map(|(_, load)| Summary::of(&load.latencies_ms)).map(|s| s.p99).reduce(f64::max);
    let refused: usize = loads.iter().map(|(_, load)| load.refused).sum();
    let told = Summary::of(&changes);
    let conditions = vec![
        Condition::at_most("p99 of the slowest endpoint, ms,", worst, 5.0),
        Condition::at_most("answers that were no success", Some(refused as f64), 0.0),
        Condition::at_most("provider changed -> told, slowest, ms,", told.map(|told| told.max), 300.0),
    ];
    let mut series: Vec<Series> =
        loads.iter().map(|(name, load)| Series::distribution(name, &load.latencies_ms)).collect();
    series = cut(&series, 20.0);
    lab.plot("row9.svg", "API at 1,000 requests a second", ("milliseconds", "per cent"), &series);
    let mut row = Row::new(9, "API at 1,000 requests/s; change at the provider -> told", "ms", HOW, conditions);
    let own: Vec<f64> = loads.iter().flat_map(|(_, load)| load.own_delay_ms.iter().copied()).collect();
    row.ours = object([
        ("slowest_endpoint_p99", json!(worst.map(|ms| round(ms, 2)))),
        ("all", summary(&loads.iter().flat_map(|(_, load)| load.latencies_ms.iter().copied()).collect::<Vec<_>>())),
        ("own_delay_p99", json!(Summary::of(&own).map(|own| round(own.p99, 2)))),
        ("change_told", summary(&changes)),
        ("refused", json!(refused)),
        ("p99_by_endpoint", by_endpoint(&loads)),
    ]);
    Ok(row)
}

fn summary(values: &[f64]) -> Value {
    json!(Summary::of(values).map(|summary| summary.rounded(2)))
}

fn by_endpoint(loads: &[(String, load::Load)]) -> Value {
    let p99 = |load: &load::Load| json!(Summary::of(&load.latencies_ms).map(|summary| round(summary.p99, 2)));
    Value::Array(loads.iter().map(|(name, load)| json!({"endpoint": name, "p99": p99(load)})).collect::<Vec<_>>())
}

fn list(folder: &Path, agents: &[SimulatedAgent]) -> Result<()> {
    let urls: Vec<(InstanceId, String)> = agents.iter().map(|agent| (agent.id(), agent.url())).collect();
    let urls = urls.iter().map(|(id, url)| (*id, url.as_str()));
    write_instances(&folder.join("instances.json"), &folder.join("token"), urls)
}

async fn endpoints(lab: &Lab, control: &Control, token: &Token) -> Result<Vec<(String, load::Load)>> {
    tokio::time::sleep(SETTLING).await;
    let get = |path: &str| Request { method: "GET", path: path.to_owned(), body: String::new() };
    let requests = [
        get("/api/instances"),
        get("/api/instances/discovery-info"),
        get("/api/quality/deep-health"),
        get("/api/quality/deep-health/instance-3"),
        get("/api/quality/recovery-status"),
        get("/api/active"),
        get("/api/viewers"),
        Request { method: "POST", path: "/api/active".to_owned(), body: r#"{"ids":["instance-3"]}"#.to_owned() },
    ];
    let host = control.api.trim_start_matches("http://").to_owned();
    let mut loads = Vec::new();
    for request in requests {
        let name = format!("{} {}", request.method, request.path);
        let (host, authorization, window) = (host.clone(), token.authorization(), lab.window);
        let load = tokio::task::spawn_blocking(move || load::run(&host, &authorization, &request, RATE, window));
        let load = load.await.context("the load's thread ended")?.with_context(|| name.clone())?;
        loads.push((name, load));
    }
    Ok(loads)
}

/// Milliseconds from a new list of instances until it is told.
async fn changes(lab: &Lab, control: &Control, folder: &Path, agents: &[SimulatedAgent]) -> Result<Vec<f64>> {
    let follower = control.follow().await?;
    let (last, others) = agents.split_last().context("no agents")?;
    let id = last.id();
    let mut told = Vec::new();
    for trial in 0..lab.trials.min(100) {
        let removes = trial % 2 == 0;
        let mark = follower.mark();
        let begun = Instant::now();
        list(folder, if removes { others } else { agents })?;
        let at = follower.wait("the change", mark, PATIENCE, |heard| {
            let is = match &heard.event {
                Event::Removed { id: removed } => removes && *removed == id,
                Event::Instance { instance } => !removes && instance.id == id,
                _ => false,
            };
            is.then_some(heard.at)
        });
        told.push(at.await?.saturating_duration_since(begun).as_secs_f64() * 1000.0);
        // Not in step with any clock of the provider's.
        tokio::time::sleep(Duration::from_millis(150 + trial as u64 * 37 % 200)).await;
    }
    Ok(told)
}
