//! Whose input an agent's guest takes: the holder's, of those who may play. With real sessions and a real QEMU.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{PATIENCE, Room, Running, write};
use loco_media::{Receiver, ReceiverConfig, SessionState};
use loco_model::Key;
use loco_model::agent::{LogLine, LogSource};
use loco_model::input::KeysEvent;
use loco_model::usage::VIEWER_HEADER;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

struct Bed {
    process: Running,
    url: String,
}

impl Bed {
    async fn start(room: &Room) -> Self {
        let token = room.path("roles");
        write(&token, "view looker\nplay player\noperate keeper\n", 0o600);
        let mut command = room.loco(["agent", "--accel", "tcg", "--json", "--mode", "quiet"]);
        command.arg("--token-file").arg(&token);
        let process = Running::start(command, |_| token).await;
        let url = process.line["address"].as_str().expect("address").to_owned();
        let bed = Self { process, url };
        bed.says("loco: ready").await;
        bed
    }

    /// What the guest wrote so far.
    async fn lines(&self) -> Vec<String> {
        let url = format!("{}/logs?tail=1000", self.url);
        let lines: Vec<LogLine> = self.process.client.get_json(&url).await.expect("lines");
        lines.into_iter().filter(|line| line.source == LogSource::Guest).map(|line| line.text).collect()
    }

    async fn says(&self, what: &str) {
        let begun = Instant::now();
        loop {
            let lines = self.lines().await;
            if lines.iter().any(|line| line.contains(what)) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "never {what:?}: {lines:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    async fn viewer(&self, name: &str, token: &str) -> Receiver {
        let config = ReceiverConfig {
            token: Some(token.to_owned()),
            headers: vec![(VIEWER_HEADER.to_owned(), name.to_owned())],
            ..ReceiverConfig::new(format!("{}/whep", self.url))
        };
        let receiver = Receiver::spawn(&tokio::runtime::Handle::current(), config, Arc::new(|_| {}));
        let begun = Instant::now();
        // Its channels open a moment after it is connected.
        while !matches!(receiver.state(), SessionState::Connected) || receiver.send_keys(KeysEvent::ReleaseAll).is_err()
        {
            assert!(begun.elapsed() < PATIENCE, "{name} does not connect: {:?}", receiver.state());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        receiver
    }

    async fn ask(&self, method: Method, path: &str, token: &str, body: Value) -> StatusCode {
        let request = reqwest::Client::new().request(method, format!("{}{path}", self.url)).json(&body);
        request.bearer_auth(token).send().await.expect("answer").status()
    }

    async fn holder(&self, viewer: Option<&str>) {
        let body = json!({ "inUse": true, "leaseS": 60, "inputHolder": viewer });
        assert_eq!(self.ask(Method::PUT, "/use", "keeper", body).await, StatusCode::OK);
    }
}

fn press(viewer: &Receiver, code: &str, pressed: bool) {
    let key: Key = code.parse().expect("a key");
    viewer.send_keys(KeysEvent::Key { key, pressed }).expect("sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_holder_plays_and_lookers_never_do() {
    let room = Room::new();
    let bed = Bed::start(&room).await;
    let ada = bed.viewer("ada", "player").await;
    let bob = bed.viewer("bob", "keeper").await;
    let eve = bed.viewer("eve", "looker").await;
    // Everyone's, while nobody holds it; but of those who may only look.
    press(&eve, "KeyE", true);
    press(&bob, "KeyA", true);
    bed.says("code=0x1e pressed=1").await;
    press(&bob, "KeyA", false);
    press(&ada, "KeyB", true);
    bed.says("code=0x30 pressed=1").await;
    // Another one takes it: what was held is let go, and nothing comes of the one before.
    bed.holder(Some("bob")).await;
    bed.says("code=0x30 pressed=0").await;
    press(&ada, "KeyC", true);
    press(&bob, "KeyD", true);
    bed.says("code=0x20 pressed=1").await;
    bed.holder(Some("ada")).await;
    bed.says("code=0x20 pressed=0").await;
    press(&ada, "KeyF", true);
    bed.says("code=0x21 pressed=1").await;
    bed.holder(None).await;
    press(&bob, "KeyG", true);
    bed.says("code=0x22 pressed=1").await;
    let lines = bed.lines().await;
    for (code, whose) in [("0x12", "who only looks"), ("0x2e", "who lost the input")] {
        assert!(!lines.iter().any(|line| line.contains(&format!("code={code} "))), "a key of {whose}: {lines:?}");
    }

    let key = json!({ "events": [{ "type": "key", "code": "KeyH", "pressed": true }] });
    for (method, path, token, status) in [
        (Method::POST, "/input", "looker", StatusCode::FORBIDDEN),
        (Method::POST, "/input", "player", StatusCode::NO_CONTENT),
        (Method::PUT, "/use", "player", StatusCode::FORBIDDEN),
        (Method::POST, "/remedy/reset-sound", "player", StatusCode::FORBIDDEN),
        (Method::POST, "/pause", "player", StatusCode::FORBIDDEN),
        (Method::POST, "/snapshot", "player", StatusCode::FORBIDDEN),
        (Method::DELETE, "/snapshots/x", "player", StatusCode::FORBIDDEN),
        (Method::GET, "/ledger", "looker", StatusCode::OK),
        (Method::GET, "/logs", "looker", StatusCode::OK),
        (Method::GET, "/ledger", "nobody", StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(bed.ask(method, path, token, key.clone()).await, status, "{path} by {token}");
    }
}
