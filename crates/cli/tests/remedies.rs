//! What an agent repairs, remembers and gives away, with a real QEMU.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{PATIENCE, Room, Running, finish, lives, signal};
use futures::StreamExt as _;
use loco_model::agent::{LogLine, LogSource, Snapshot};
use loco_model::failure::Remedy;
use loco_model::problem::Problem;
use loco_model::recovery::{Attempt, Initiator, Ledger, Outcome};
use loco_model::report::{HealthReport, UseHealth};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

struct Agent {
    process: Running,
    url: String,
}

impl Agent {
    async fn start(room: &Room, mode: &str) -> Self {
        let token = room.token_file();
        let mut command = room.loco(["agent", "--accel", "tcg", "--json", "--instance", "2", "--mode", mode]);
        command.arg("--token-file").arg(&token).arg("--state-dir").arg(state(room));
        let process = Running::start(command, |_| token).await;
        let url = process.line["address"].as_str().expect("address").to_owned();
        let agent = Self { process, url };
        // Its firmware shows a picture too: what counts is that the guest itself has booted, and drawn.
        let booted = async || {
            let lines: Vec<LogLine> = agent.get("/logs?tail=1000").await;
            let booted = lines.iter().any(|line| line.source == LogSource::Guest && line.text.contains("loco: boot"));
            booted && agent.health().await.deep_health.video.width == Some(640)
        };
        until("a guest that has booted", PATIENCE, booted).await;
        agent
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        let url = format!("{}{path}", self.url);
        self.process.client.get_json(&url).await.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn health(&self) -> HealthReport {
        self.get("/health").await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> reqwest::Response {
        let request = self.process.client.request(method, &format!("{}{path}", self.url)).timeout(2 * PATIENCE);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        request.send().await.expect("answer")
    }

    async fn remedy(&self, action: Remedy, body: Value) -> Attempt {
        let answer = self.send(Method::POST, &format!("/remedy/{action}"), Some(body)).await;
        assert_eq!(answer.status(), StatusCode::OK, "{action}");
        answer.json().await.expect("an attempt")
    }

    /// Waits until the picture has changed `count` times more.
    async fn moves(&self, count: u64) {
        let before = self.health().await.deep_health.video.damage_updates;
        let moved = async || self.health().await.deep_health.video.damage_updates >= before + count;
        until("pixels that move", PATIENCE, moved).await;
    }

    async fn kill(mut self) {
        signal(self.process.id(), "KILL");
        self.process.child.wait().await.expect("it ends");
    }
}

/// Asks again and again until it is so.
async fn until(what: &str, patience: Duration, ask: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !ask().await {
        assert!(begun.elapsed() < patience, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn state(room: &Room) -> PathBuf {
    room.path("state")
}

fn overriding() -> Value {
    json!({ "override": true })
}

#[tokio::test]
async fn a_stopped_qemu_is_told_at_once_and_restarted_by_order() {
    let room = Room::new();
    let agent = Agent::start(&room, "town").await;
    let events = agent.process.client.events(&format!("{}/events", agent.url)).await.expect("events");
    let qemu = agent.health().await.deep_health.performance.qemu_pid.expect("a process");
    agent.moves(5).await;
    let begun = Instant::now();
    signal(qemu, "STOP");
    let frozen = events
        .map(|event| serde_json::from_str::<HealthReport>(&event.expect("event").data).expect("a report"))
        .filter(|report| std::future::ready(report.deep_health.frozen == Some(true)));
    let report = tokio::time::timeout(PATIENCE, Box::pin(frozen).next()).await.expect("in time").expect("open");
    println!("told after {:?}: {:?}", begun.elapsed(), report.deep_health.frozen_reason);
    let order = json!({ "attemptId": "one", "class": "qemu", "reason": "it stands still" });
    let attempt = agent.remedy(Remedy::RestartQemu, order.clone()).await;
    assert_eq!((attempt.id.as_str(), attempt.outcome), ("one", Outcome::Repaired), "{attempt:?}");
    assert_eq!(attempt.initiator, Initiator::Person { name: "operate".to_owned() });
    let after = agent.health().await.deep_health;
    assert_ne!(after.performance.qemu_pid, Some(qemu));
    assert_eq!((after.frozen, after.guest_restarts), (after.frozen.filter(|frozen| !frozen), 0));
    agent.moves(5).await;
    assert!(!lives(qemu));
    // The same order again is not done again.
    let again = agent.remedy(Remedy::RestartQemu, order).await;
    assert_eq!(again, attempt);
    assert_eq!(agent.health().await.deep_health.performance.qemu_pid, after.performance.qemu_pid);

    for (file, says) in [("qmp.json", "did not answer"), ("log.txt", "loco: boot"), ("log.txt", "QEMU is up")] {
        let answer = agent.send(Method::GET, &format!("/evidence/one/{file}"), None).await;
        let text = answer.text().await.expect("text");
        assert!(text.contains(says), "{file}: {text}");
    }
    let picture = agent.send(Method::GET, "/evidence/one/screenshot.png", None).await;
    assert_eq!(picture.headers()["content-type"], "image/png");
    assert!(picture.bytes().await.expect("bytes").starts_with(b"\x89PNG"));
    for path in ["/evidence/one/..%2f..%2fledger.jsonl", "/evidence/..%2f/ledger.jsonl", "/evidence/two/log.txt"] {
        assert_eq!(agent.send(Method::GET, path, None).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn every_remedy_is_really_done() {
    let room = Room::new();
    let agent = Agent::start(&room, "town").await;
    for action in [Remedy::ResetDisplay, Remedy::ResetSound, Remedy::RestartStream, Remedy::LowerQuality] {
        let attempt = agent.remedy(action, overriding()).await;
        assert_eq!((attempt.outcome, attempt.is_override), (Outcome::Repaired, true), "{attempt:?}");
        assert_eq!(attempt.evidence.as_ref(), Some(&attempt.id));
        agent.moves(5).await;
    }
    let nothing = agent.remedy(Remedy::ResetNetwork, overriding()).await;
    assert_eq!(nothing.outcome, Outcome::Failed);
    assert!(nothing.detail.is_some_and(|detail| detail.contains("no network card")));
    let unknown = agent.send(Method::POST, "/remedy/reboot", None).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    let problem: Problem = unknown.json().await.expect("a problem");
    assert!(problem.detail.is_some_and(|detail| detail.contains("restart-qemu")));
    let wrong = agent.send(Method::POST, "/remedy/reset-sound", Some(json!({ "attemptId": "../x" }))).await;
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);

    // Two at once: one is made, the other is told so.
    let (first, second) = tokio::join!(
        agent.send(Method::POST, "/remedy/restart-qemu", Some(overriding())),
        agent.send(Method::POST, "/remedy/restart-qemu", Some(overriding())),
    );
    let mut both = [first.status(), second.status()];
    both.sort();
    assert_eq!(both, [StatusCode::OK, StatusCode::CONFLICT]);
    agent.moves(5).await;

    let mut agent = agent;
    let attempt = agent.remedy(Remedy::RestartAgent, overriding()).await;
    assert_eq!((attempt.action, attempt.outcome), (Remedy::RestartAgent, Outcome::Running));
    let status = tokio::time::timeout(PATIENCE, agent.process.child.wait()).await.expect("it ends").expect("status");
    assert_eq!(status.code(), Some(75), "so that its owner starts it again");
    let agent = Agent::start(&room, "town").await;
    let ledger: Ledger = agent.get("/ledger").await;
    let last = ledger.attempts.last().expect("an attempt");
    assert_eq!((&last.id, last.outcome), (&attempt.id, Outcome::Repaired), "{last:?}");
}

#[tokio::test]
async fn three_attempts_an_hour_whoever_makes_them_and_whatever_becomes_of_the_agent() {
    let room = Room::new();
    let agent = Agent::start(&room, "quiet").await;
    // Its own counts.
    let qemu = agent.health().await.deep_health.performance.qemu_pid.expect("a process");
    signal(qemu, "KILL");
    let counted =
        async || agent.get::<Ledger>("/ledger").await.attempts.first().is_some_and(|a| a.outcome == Outcome::Repaired);
    until("its own attempt", PATIENCE, counted).await;
    let ledger: Ledger = agent.get("/ledger").await;
    let own = &ledger.attempts[0];
    assert_eq!((&own.initiator, own.action, ledger.left), (&Initiator::Agent, Remedy::RestartQemu, 2));
    assert!(own.reason.as_ref().is_some_and(|reason| reason.contains("signal 9")), "{own:?}");
    let log = agent.send(Method::GET, &format!("/evidence/{}/log.txt", own.id), None).await;
    assert!(log.text().await.expect("text").contains("loco: boot"), "the old guest's last lines");
    let picture = agent.send(Method::GET, &format!("/evidence/{}/screenshot.png", own.id), None).await;
    assert_eq!(picture.status(), StatusCode::OK, "the picture before the end");

    agent.remedy(Remedy::ResetDisplay, json!({})).await;
    agent.kill().await;
    let agent = Agent::start(&room, "quiet").await;
    assert_eq!(agent.get::<Ledger>("/ledger").await.left, 1);
    // A half line, and one that is none, as a broken disk leaves them.
    agent.remedy(Remedy::ResetSound, json!({})).await;
    agent.kill().await;
    let file = state(&room).join("ledger.jsonl");
    let mut text = std::fs::read(&file).expect("the ledger");
    text.extend(b"\x00\xff garbage\n{\"attempt\":");
    std::fs::write(&file, text).expect("written");
    let agent = Agent::start(&room, "quiet").await;
    let refused = agent.send(Method::POST, "/remedy/reset-display", None).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = refused.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((3_000..=3_600).contains(&wait), "{wait}");
    let aside = std::fs::read_dir(state(&room)).expect("folder").flatten();
    assert_eq!(aside.filter(|e| e.file_name().to_string_lossy().contains("corrupt")).count(), 1, "kept aside");
    let done = agent.remedy(Remedy::ResetDisplay, overriding()).await;
    assert_eq!(done.outcome, Outcome::Repaired);
    assert_eq!(agent.get::<Ledger>("/ledger").await.left, 0);
    // What ends by itself is started again all the same.
    let qemu = agent.health().await.deep_health.performance.qemu_pid.expect("a process");
    signal(qemu, "KILL");
    let back = async || agent.health().await.deep_health.performance.qemu_pid.is_some_and(|pid| pid != qemu);
    until("another QEMU", PATIENCE, back).await;
}

#[tokio::test]
async fn it_pauses_and_keeps_snapshots() {
    let room = Room::new();
    let agent = Agent::start(&room, "town").await;
    assert_eq!(agent.send(Method::POST, "/pause", None).await.status(), StatusCode::OK);
    let paused = agent.health().await.deep_health;
    assert_eq!((paused.guest_state.as_str(), paused.faults.len()), ("paused", 0));
    assert_ne!(paused.frozen, Some(true), "on purpose is no fault");
    assert_eq!(agent.send(Method::GET, "/ready", None).await.status(), StatusCode::OK);
    assert_eq!(agent.send(Method::POST, "/resume", None).await.status(), StatusCode::OK);
    agent.moves(5).await;
    let named = |name: &str| Some(json!({ "name": name }));
    assert_eq!(agent.send(Method::POST, "/snapshot", named("desk")).await.status(), StatusCode::NO_CONTENT);
    let all: Vec<Snapshot> = agent.get("/snapshots").await;
    assert!(all.len() == 1 && all[0].name == "desk" && all[0].bytes > 1 << 20, "{all:?}");
    assert_eq!(agent.send(Method::POST, "/snapshot/load", named("desk")).await.status(), StatusCode::NO_CONTENT);
    agent.moves(5).await;
    for (method, path, body, status) in [
        (Method::POST, "/snapshot", named("a b"), StatusCode::UNPROCESSABLE_ENTITY),
        (Method::POST, "/snapshot", Some(json!({})), StatusCode::UNPROCESSABLE_ENTITY),
        (Method::POST, "/snapshot/load", named("none"), StatusCode::NOT_FOUND),
        (Method::DELETE, "/snapshots/none", None, StatusCode::NOT_FOUND),
        (Method::DELETE, "/snapshots/desk", None, StatusCode::NO_CONTENT),
        (Method::DELETE, "/snapshots/desk", None, StatusCode::NOT_FOUND),
    ] {
        assert_eq!(agent.send(method, path, body.clone()).await.status(), status, "{path} {body:?}");
    }
}

/// The processors that the threads of a process may run on.
fn processors(pid: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").flatten();
    let mut all: Vec<String> = threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("status")).ok())
        .filter_map(|text| {
            text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:").map(|l| l.trim().to_owned()))
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

#[tokio::test]
async fn nobody_s_instance_gives_the_machine_away_and_has_it_back_at_once() {
    let room = Room::new();
    let agent = Agent::start(&room, "town").await;
    let qemu = agent.health().await.deep_health.performance.qemu_pid.expect("a process");
    let before = processors(qemu);
    let put = async |body: Value| {
        let answer = agent.send(Method::PUT, "/use", Some(body)).await;
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json::<UseHealth>().await.expect("what came of it")
    };
    let idle =
        put(json!({ "inUse": false, "maxFps": 5, "maxBitRate": 300_000, "leaseS": 60, "inputHolder": "ada" })).await;
    println!("{idle:?} {before:?} -> {:?}", processors(qemu));
    assert_eq!((idle.in_use, idle.max_fps, idle.max_bit_rate), (Some(false), Some(5), Some(300_000)));
    assert_eq!(idle.input_holder.as_deref(), Some("ada"));
    assert_eq!(agent.health().await.deep_health.usage, idle);
    let narrow = idle.how.as_deref() == Some("affinity");
    assert_eq!(narrow, processors(qemu) != before, "{idle:?}");
    // A new QEMU gives them away too.
    agent.remedy(Remedy::RestartQemu, json!({})).await;
    let qemu = agent.health().await.deep_health.performance.qemu_pid.expect("a process");
    if narrow {
        until("the new QEMU's processors", PATIENCE, async || processors(qemu) != before).await;
    }
    let busy = put(json!({ "inUse": true, "leaseS": 60 })).await;
    assert_eq!(busy, UseHealth { in_use: Some(true), ..UseHealth::default() });
    assert_eq!(processors(qemu), before);
    // Nobody renews it: everything comes back.
    put(json!({ "inUse": false, "maxFps": 5, "leaseS": 1 })).await;
    let forgotten = async || agent.health().await.deep_health.usage == UseHealth::default();
    until("the lease's end", PATIENCE, forgotten).await;
    assert_eq!(processors(qemu), before);
    for bad in [json!({ "inUse": false, "leaseS": 0 }), json!({ "inUse": false, "maxFps": 61, "leaseS": 5 }), json!({})]
    {
        let answer = agent.send(Method::PUT, "/use", Some(bad)).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[tokio::test]
async fn its_logs_are_handed_out_and_it_can_be_asked_from_within() {
    let room = Room::new();
    let agent = Agent::start(&room, "quiet").await;
    let lines: Vec<LogLine> = agent.get("/logs?tail=1000").await;
    let has = |source, text: &str| lines.iter().any(|line| line.source == source && line.text.contains(text));
    assert!(has(LogSource::Agent, "QEMU is up") && has(LogSource::Guest, "loco: boot"), "{lines:?}");
    let url = format!("{}/logs?tail=1&follow=true", agent.url);
    let mut followed = agent.process.client.events(&url).await.expect("events");
    agent.remedy(Remedy::ResetSound, json!({ "reason": "a reason to be found" })).await;
    let found = async {
        loop {
            let event = followed.next().await.expect("open").expect("event");
            assert_eq!(event.name, "line");
            let line: LogLine = serde_json::from_str(&event.data).expect("a line");
            if line.text.contains("a reason to be found") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the remedy's line");
    assert_eq!(agent.send(Method::GET, "/logs?tail=x", None).await.status(), StatusCode::BAD_REQUEST);

    let ask = |what: &str| {
        let mut command = room.loco(["agent", what]);
        command.args(["--agent", &agent.url]).arg("--token-file").arg(room.token_file());
        command
    };
    let (code, report, error) = finish(ask("report")).await;
    assert_eq!(code, Some(0), "{error}");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(
        (&report["instanceId"], &report["deepHealth"]["guest_state"]),
        (&"instance-2".into(), &"running".into())
    );
    assert!(report["deepHealth"]["video"].get("vnc_port").is_some_and(Value::is_null), "absent is null there");
    let (code, checks, error) = finish(ask("test")).await;
    assert_eq!(code, Some(0), "{checks}{error}");
    assert!(checks.lines().count() >= 8 && !checks.contains("FAIL"), "{checks}");
    let mut command = room.loco(["agent", "test"]);
    let address = agent.url.strip_prefix("http://").expect("an address");
    command.env("LOCO_LISTEN", address).arg("--token-file").arg(room.token_file());
    let qemu = agent.health().await.deep_health.performance.qemu_pid.expect("a process");
    signal(qemu, "STOP");
    let frozen = async || agent.health().await.deep_health.frozen == Some(true);
    until("frozen", Duration::from_secs(15), frozen).await;
    let (code, checks, _) = finish(command).await;
    assert_eq!(code, Some(1), "{checks}");
    assert!(checks.contains("FAIL alive"), "{checks}");
    signal(qemu, "CONT");
}
