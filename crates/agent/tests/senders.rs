//! Several control planes say how one agent's instance is used, and what an attempt was good for. With a real QEMU.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what went wrong by panicking")]

mod common;

use common::{Agent, PATIENCE, TOKEN};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

struct Asker {
    http: reqwest::Client,
    url: String,
}

impl Asker {
    async fn ask(&self, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(TOKEN).json(body);
        let answer = request.timeout(PATIENCE).send().await.unwrap();
        let status = answer.status();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(TOKEN);
        serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap()
    }

    /// Tells how it is used; gives what came of that: in use, most frames a second, whose input.
    async fn says(&self, body: &Value) -> (Value, Value, Value) {
        let (status, said) = self.ask(Method::PUT, "/use", body).await;
        assert_eq!(status, StatusCode::OK, "{said}");
        let field = |name: &str| said.get(name).cloned().unwrap_or_else(|| panic!("no {name}: {said}"));
        (field("in_use"), field("max_fps"), field("input_holder"))
    }

    async fn until(&self, what: &str, path: &str, wanted: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        loop {
            let now = self.get(path).await;
            if wanted(&now) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "never {what}: {now}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn by(sender: Option<&str>, in_use: bool, max_fps: Option<u32>, lease_s: u32, holder: Option<&str>) -> Value {
    let mut body = json!({ "inUse": in_use, "maxFps": max_fps, "leaseS": lease_s, "inputHolder": holder });
    if let Some(sender) = sender {
        body["sender"] = sender.into();
    }
    body
}

#[tokio::test]
async fn what_one_control_plane_says_is_not_undone_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let process = Agent::start(dir.path(), None).await;
    let agent = Asker { http: reqwest::Client::new(), url: process.url.clone() };

    // One has a player here; the other has its players elsewhere, and would have it capped.
    assert_eq!(agent.says(&by(Some("a"), true, None, 60, Some("ada"))).await, (true.into(), Value::Null, "ada".into()));
    assert_eq!(agent.says(&by(Some("b"), false, Some(10), 60, None)).await, (true.into(), Value::Null, "ada".into()));
    // The player goes: both cap it now, the milder one counts.
    let capped = (false.into(), 20.into(), Value::Null);
    assert_eq!(agent.says(&by(Some("a"), false, Some(20), 60, None)).await, capped);
    assert_eq!(agent.says(&by(Some("b"), false, Some(10), 60, None)).await, capped, "said again");
    // Whoever names no sender is one of them; when its lease ends, what the others say holds.
    assert_eq!(agent.says(&by(None, true, None, 1, None)).await, (true.into(), Value::Null, Value::Null));
    let usage = |report: &Value| report["deepHealth"]["use"].clone();
    let is_capped = |report: &Value| usage(report)["in_use"] == false && usage(report)["max_fps"] == 20;
    agent.until("capped again", "/health", is_capped).await;
    // Nine are one too many.
    for number in 0..6 {
        agent.says(&by(Some(&number.to_string()), false, Some(20), 60, None)).await;
    }
    let (status, problem) = agent.ask(Method::PUT, "/use", &by(Some("ninth"), true, None, 60, None)).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(problem["detail"].as_str().unwrap().contains("8 others"), "{problem}");
    for (sender, status) in [("x".repeat(64), StatusCode::CONFLICT), ("x".repeat(65), StatusCode::UNPROCESSABLE_ENTITY)]
    {
        let (answered, _) = agent.ask(Method::PUT, "/use", &by(Some(&sender), true, None, 60, None)).await;
        assert_eq!(answered, status);
    }
    assert!(is_capped(&agent.get("/health").await));

    // What an attempt was good for, whoever ordered it says, and everyone reads.
    let order = json!({ "attemptId": "one", "initiator": { "kind": "policy", "control": "a" } });
    let (status, done) = agent.ask(Method::POST, "/remedy/restart-stream", &order).await;
    assert_eq!((status, &done["outcome"]), (StatusCode::OK, &json!("repaired")), "{done}");
    for (path, body, want) in [
        ("/ledger/one", json!({ "outcome": "running" }), StatusCode::UNPROCESSABLE_ENTITY),
        ("/ledger/two", json!({ "outcome": "invain" }), StatusCode::NOT_FOUND),
        ("/ledger/one", json!({ "outcome": "invain", "detail": "it stands still" }), StatusCode::OK),
    ] {
        let (status, answer) = agent.ask(Method::PUT, path, &body).await;
        assert_eq!(status, want, "{path} {body}: {answer}");
    }
    let ledger = agent.get("/ledger").await;
    let kept = &ledger["attempts"][0];
    assert_eq!((&kept["outcome"], &kept["detail"]), (&json!("invain"), &json!("it stands still")), "{ledger}");
    assert_eq!(ledger["left"], 2, "{ledger}");

    process.end().await;
}
