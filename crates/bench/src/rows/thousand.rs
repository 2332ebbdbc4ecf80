//! Row 15: one control plane and a thousand agents.

use super::{Lab, cores, object};
use crate::control::{Control, ControlOptions};
use crate::cpu::Snapshot;
use crate::follow::Follower;
use crate::plot::Series;
use crate::report::{Condition, Row};
use crate::simulated::{SimulatedAgent, write_instances};
use crate::stats::{Summary, round};
use anyhow::{Context, Result, ensure};
use loco_http::{Token, TokenFile};
use loco_model::{InstanceId, InstanceState};
use loco_process::RunDir;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const COUNTS: [usize; 3] = [250, 500, 1000];
/// All agents are followed by then.
const PATIENCE: Duration = Duration::from_secs(120);
/// What starting costs is over.
const SETTLING: Duration = Duration::from_secs(10);
/// Changes whose lateness is measured, with the most agents.
const CHANGES: usize = 300;
/// Between two of them.
const CHANGE_EVERY: Duration = Duration::from_millis(40);
/// Agents that fall silent together.
const SILENT: usize = 20;
/// An agent that said nothing for so long is to be taken for unreachable: three signs of life did not come.
const SILENCE_ALLOWED: Duration = Duration::from_secs(15);
/// Measured on a shared machine, a line is straight within this.
const STRAIGHT: f64 = 1.1;

const HOW: &str = "Simulated agents (each a real HTTP server with its own port and stream of events, a comment every 5 s, a report every 15 s, \
    all in the bench's process) and one `loco control` with a state folder in a process of its own. CPU of that process from \
    /proc/*/schedstat over the window while all is well, and its resident memory at its end, with 250, 500 and 1,000 agents. With 1,000: \
    300 reports of a guest that was paused, one every 40 ms; the lateness is the time from the push until /api/events says Stopped. \
    Then 20 agents fall silent without closing a connection; the lateness is the time from 15 s (three signs of life that did not come) after an agent's last sign of life \
    until /api/events says anything but Live (below zero: sooner than that).";

struct Point {
    count: usize,
    cores: f64,
    memory_bytes: u64,
    changes_ms: Vec<f64>,
    silence_ms: Vec<f64>,
}

/// Row 15.
pub(super) async fn agents(lab: &Lab) -> Result<Row> {
    let mut points = Vec::new();
    for count in COUNTS {
        points.push(measure(lab, count).await.with_context(|| format!("{count} agents"))?);
    }
    let [few, half, all] = points.as_slice() else { anyhow::bail!("not all counts were measured") };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    // What each further agent takes: from 500 to 1,000 no more than from 250 to 500.
    let per = |more: &Point, less: &Point| {
        (more.memory_bytes as f64 - less.memory_bytes as f64) / (more.count - less.count) as f64
    };
    let straight = (all.memory_bytes as f64) / (few.memory_bytes as f64 * all.count as f64 / few.count as f64);
    let (changes, silence) = (Summary::of(&all.changes_ms), Summary::of(&all.silence_ms));
    let conditions = vec![
        Condition::at_most("cores with 1,000 agents", Some(all.cores), 1.0),
        Condition::at_most("memory at 1,000 / four times that at 250", Some(straight), STRAIGHT),
        Condition::at_most("lateness of changes, p99, ms,", changes.map(|changes| changes.p99), 1000.0),
        Condition::at_most("lateness of silences, p99, ms,", silence.map(|silence| silence.p99), 1000.0),
    ];
    let series = |name: &str, of: &dyn Fn(&Point) -> f64| Series {
        name: name.to_owned(),
        points: points.iter().map(|point| (point.count as f64, of(point))).collect(),
    };
    let memory = [series("resident memory", &|point| mib(point.memory_bytes))];
    lab.plot("row15-memory.svg", "Memory of the control plane", ("agents", "MiB"), &memory);
    let used = [series("cores", &|point| point.cores)];
    lab.plot("row15-cpu.svg", "CPU of the control plane", ("agents", "cores"), &used);
    let late = [Series::distribution("changes", &all.changes_ms)];
    lab.plot("row15-lateness.svg", "Lateness with 1,000 agents", ("milliseconds", "per cent"), &late);
    let mut row = Row::new(15, "control plane with 1,000 simulated agents", "cores", HOW, conditions);
    let by_count: Vec<Value> = points
        .iter()
        .map(|point| json!({"agents": point.count, "cores": cores(point.cores), "mib": round(mib(point.memory_bytes), 1)}))
        .collect();
    row.ours = object([
        ("cores_250", cores(few.cores)),
        ("cores_500", cores(half.cores)),
        ("cores_1000", cores(all.cores)),
        ("mib_250", json!(round(mib(few.memory_bytes), 1))),
        ("mib_500", json!(round(mib(half.memory_bytes), 1))),
        ("mib_1000", json!(round(mib(all.memory_bytes), 1))),
        ("kib_per_further_agent", json!(round(per(all, half) / 1024.0, 1))),
        ("change_late_ms", json!(changes.map(|changes| changes.rounded(1)))),
        ("change_late_p99_ms", json!(changes.map(|changes| round(changes.p99, 1)))),
        ("silence_late_ms", json!(silence.map(|silence| silence.rounded(0)))),
        ("by_agents", Value::Array(by_count)),
    ]);
    Ok(row)
}

async fn measure(lab: &Lab, count: usize) -> Result<Point> {
    let dir = RunDir::create("bench")?;
    let folder = dir.path();
    Token::create_file(&folder.join("token"))?;
    let agents = SimulatedAgent::start_many(count, &TokenFile::open(&folder.join("token"))?).await?;
    let urls: Vec<(InstanceId, String)> = agents.iter().map(|agent| (agent.id(), agent.url())).collect();
    let urls = urls.iter().map(|(id, url)| (*id, url.as_str()));
    write_instances(&folder.join("instances.json"), &folder.join("token"), urls)?;
    let options =
        ControlOptions { log: Some(lab.out.join("row15-control.log")), ..ControlOptions::in_folder(&lab.loco, folder) };
    let control = Control::start(&options).await?;
    let measured = async {
        let follower = control.follow().await?;
        wait_live(&follower, count).await?;
        tokio::time::sleep(SETTLING).await;
        let pid = control.pid()?;
        let before = Snapshot::take(&[pid]);
        tokio::time::sleep(lab.window).await;
        let cores = before.cores_until(&Snapshot::take(&[pid]));
        let memory_bytes = resident_bytes(pid)?;
        let mut point = Point { count, cores, memory_bytes, changes_ms: Vec::new(), silence_ms: Vec::new() };
        if COUNTS.last() == Some(&count) {
            point.changes_ms = changes(&follower, &agents).await?;
            point.silence_ms = silences(&follower, &agents).await?;
        }
        Ok(point)
    }
    .await;
    control.stop().await?;
    measured
}

fn resident_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the control plane has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS")?;
    Ok(kib * 1024)
}

async fn wait_live(follower: &Follower, count: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let live = follower.now().values().filter(|instance| instance.state == InstanceState::Live).count();
        if live == count {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "only {live} of {count} agents are live");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Milliseconds from each change until it is told.
async fn changes(follower: &Follower, agents: &[SimulatedAgent]) -> Result<Vec<f64>> {
    let mark = follower.mark();
    let mut pushed = Vec::new();
    // Spread over all, none twice: 7 has no divisor in common with their number.
    for agent in (0..CHANGES).filter_map(|trial| agents.get(trial * 7 % agents.len())) {
        pushed.push((agent, Instant::now()));
        agent.change(|report| "paused".clone_into(&mut report.deep_health.guest_state));
        tokio::time::sleep(CHANGE_EVERY).await;
    }
    let mut late = Vec::new();
    for (agent, at) in &pushed {
        let stopped = |instance: &loco_model::api::Instance| instance.state == InstanceState::Stopped;
        let (told, _) = follower.wait_instance("a paused guest", agent.id(), mark, PATIENCE, stopped).await?;
        late.push(told.saturating_duration_since(*at).as_secs_f64() * 1000.0);
    }
    for (agent, _) in &pushed {
        agent.heal();
    }
    wait_live(follower, agents.len()).await?;
    Ok(late)
}

/// Milliseconds from when each silence should have been found until it is told.
async fn silences(follower: &Follower, agents: &[SimulatedAgent]) -> Result<Vec<f64>> {
    let mark = follower.mark();
    let silent: Vec<&SimulatedAgent> = agents.iter().step_by(agents.len() / SILENT).take(SILENT).collect();
    for agent in &silent {
        agent.fall_silent();
    }
    let mut late = Vec::new();
    for agent in &silent {
        let is_told = |instance: &loco_model::api::Instance| instance.state != InstanceState::Live;
        let (told, _) = follower.wait_instance("a silent agent", agent.id(), mark, PATIENCE, is_told).await?;
        let due = agent.last_sign().context("it never spoke")? + SILENCE_ALLOWED;
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        late.push(ms(told.saturating_duration_since(due)) - ms(due.saturating_duration_since(told)));
    }
    for agent in &silent {
        agent.speak();
    }
    Ok(late)
}
