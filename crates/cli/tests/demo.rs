//! `loco demo --headless`: control plane and agents as one command, and that nothing outlives it.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{PATIENCE, Room, Running, finish, lives, signal, write};
use futures::StreamExt as _;
use loco_http::EventStream;
use loco_model::InstanceState;
use loco_model::api::{Event, Instance};
use loco_model::problem::CONTENT_TYPE;
use loco_model::report::HealthReport;
use reqwest::{Method, StatusCode};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

async fn start(room: &Room, count: &str) -> (Running, String) {
    let command = room.loco(["demo", "--headless", "--json", "--accel", "tcg", "-n", count]);
    let demo = Running::start(command, |line| PathBuf::from(line["token_file"].as_str().expect("token file"))).await;
    let api = demo.line["api"].as_str().expect("api").to_owned();
    (demo, api)
}

/// What the event stream has told so far.
struct Follower {
    events: EventStream,
    now: BTreeMap<String, Instance>,
    /// Every state of each instance, in order.
    seen: Vec<(String, InstanceState, Option<String>)>,
}

impl Follower {
    async fn start(demo: &Running, api: &str) -> Self {
        let events = demo.client.events(&format!("{api}/api/events")).await.expect("events");
        Self { events, now: BTreeMap::new(), seen: Vec::new() }
    }

    async fn until(&mut self, what: &str, done: impl Fn(&BTreeMap<String, Instance>) -> bool) {
        while self.now.is_empty() || !done(&self.now) {
            let next = tokio::time::timeout(PATIENCE, self.events.next()).await;
            let event = next.unwrap_or_else(|_| panic!("{what}: still {:?}", self.now));
            let event = event.expect("open").expect("event");
            let list = match serde_json::from_str(&event.data).expect("an event of ours") {
                Event::Instances { instances } => instances,
                Event::Instance { instance } => vec![*instance],
                Event::Removed { id } => panic!("{id} was removed"),
                _ => Vec::new(),
            };
            for instance in list {
                self.seen.push((instance.id.to_string(), instance.state, instance.reason.clone()));
                self.now.insert(instance.id.to_string(), instance);
            }
        }
    }
}

fn all_live(now: &BTreeMap<String, Instance>) -> bool {
    now.values().all(|instance| instance.state == InstanceState::Live && instance.ready)
}

#[tokio::test]
async fn two_guests_live_are_killed_and_come_back_alone() {
    let room = Room::new();
    let (demo, api) = start(&room, "2").await;
    let named: Vec<&str> =
        demo.line["instances"].as_array().expect("list").iter().filter_map(|i| i["id"].as_str()).collect();
    assert_eq!(named, ["instance-0", "instance-1"]);
    let mut follower = Follower::start(&demo, &api).await;
    follower.until("both live", all_live).await;
    let list: Vec<Instance> = demo.client.get_json(&format!("{api}/api/instances")).await.expect("list");
    assert_eq!(list, follower.now.values().cloned().collect::<Vec<_>>());
    assert_eq!(
        list.iter().map(|i| (i.index, i.name.as_str(), i.agent_starts)).collect::<Vec<_>>(),
        [(0, "Loco 1", Some(1)), (1, "Loco 2", Some(1))]
    );

    // The agent of one is killed: it is said so, another one takes its place, the other instance is not touched.
    let before = follower.now["instance-1"].clone();
    let agent = before.endpoints.as_ref().expect("endpoints").agent.clone();
    let health: HealthReport = demo.client.get_json(&format!("{agent}/health")).await.expect("health");
    let qemu = health.deep_health.performance.qemu_pid.expect("a process");
    let parent = std::fs::read_to_string(format!("/proc/{qemu}/status")).expect("it lives");
    let parent = parent.lines().find_map(|line| line.strip_prefix("PPid:\t")).expect("parent").parse().expect("id");
    follower.seen.clear();
    signal(parent, "KILL");
    follower.until("recovering", |now| now["instance-1"].state == InstanceState::Recovering).await;
    follower.until("back", |now| all_live(now) && now["instance-1"].agent_starts == Some(2)).await;
    let after = &follower.now["instance-1"];
    assert!(after.guest_started_at_ms > before.guest_started_at_ms);
    assert_ne!(after.endpoints, before.endpoints);
    assert!(!lives(qemu), "QEMU went with its agent");
    assert!(follower.seen.iter().all(|(id, ..)| id == "instance-1"), "{:?}", follower.seen);
    let says =
        |part: &str| follower.seen.iter().any(|(_, _, why)| why.as_deref().is_some_and(|why| why.contains(part)));
    assert!(says("agent exited") && says("restarting"), "{:?}", follower.seen);

    let (code, took) = demo.terminate().await;
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
    room.wait_until_empty().await;
}

#[tokio::test]
async fn the_api_asks_for_the_token_and_answers_in_problems() {
    let room = Room::new();
    let (demo, api) = start(&room, "1").await;
    for path in ["/api/instances", "/api/events", "/api/nothing", "/"] {
        let answer = reqwest::get(format!("{api}{path}")).await.expect("answer");
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answer.headers()["content-type"], CONTENT_TYPE);
    }
    for path in ["/health", "/ready"] {
        assert_eq!(reqwest::get(format!("{api}{path}")).await.expect("answer").status(), StatusCode::OK, "{path}");
    }
    for (method, path, status) in [(Method::GET, "/api/nothing", 404), (Method::POST, "/api/instances", 405)] {
        let answer = demo.client.request(method, &format!("{api}{path}")).send().await.expect("answer");
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (status, &CONTENT_TYPE.parse().expect("value"))
        );
    }
}

#[tokio::test]
async fn kill_9_of_the_demo_leaves_nothing() {
    let room = Room::new();
    let (mut demo, api) = start(&room, "2").await;
    let mut follower = Follower::start(&demo, &api).await;
    follower.until("both live", all_live).await;
    assert_eq!(room.processes().iter().filter(|(_, name)| name.starts_with("qemu")).count(), 2);
    signal(demo.id(), "KILL");
    demo.child.wait().await.expect("status");
    room.wait_until_empty().await;
}

#[tokio::test]
async fn what_cannot_be_started_is_said_in_one_line() {
    let room = Room::new();
    let bad = room.path("bad.json");
    write(&bad, r#"{"name":"x","memory":1}"#, 0o644);
    let bad = bad.to_str().expect("path").to_owned();
    for (arguments, code, says) in [
        (vec!["-n", "0"], 2, vec!["1..=9"]),
        (vec!["-n", "10"], 2, vec!["10", "1..=9"]),
        (vec!["-n", "1", "--mode", "disco"], 2, vec!["disco", "town"]),
        (vec!["-n", "1", "--profile", "win99"], 1, vec!["instance-0", "win99"]),
        (vec!["-n", "2", "--profile", &bad], 1, vec!["memory"]),
        (vec!["--check", "--headless"], 2, vec!["--check", "--headless"]),
    ] {
        let mut command = room.loco(["demo", "--headless", "--accel", "tcg"]);
        if arguments.contains(&"--check") {
            command = room.loco(["demo"]);
        }
        command.args(&arguments);
        let (status, stdout, stderr) = finish(command).await;
        assert_eq!((status, stdout.as_str()), (Some(code), ""), "{arguments:?}: {stderr}");
        for part in says {
            assert!(stderr.contains(part), "{arguments:?} does not say {part:?}: {stderr}");
        }
    }
    room.wait_until_empty().await;
}
