//! Log files of a real process: JSON, errors apart, and no secret in any, at the finest level.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{PATIENCE, Room, Running, finish, write};
use loco_http::Token;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// Every file of a folder, with its name.
fn texts(dir: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(dir).expect("folder").map(|entry| entry.expect("entry").path());
    let name = |path: &Path| path.file_name().expect("name").to_string_lossy().into_owned();
    entries.map(|path| (name(&path), std::fs::read_to_string(&path).expect("text"))).collect()
}

fn lines(texts: &[(String, String)], prefix: &str) -> Vec<Value> {
    let (_, text) = texts.iter().find(|(name, _)| name.starts_with(prefix)).unwrap_or_else(|| panic!("no {prefix}"));
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn a_control_plane_logs_much_and_no_secret() {
    let room = Room::new();
    let (instances, logs, secret_file) = (room.path("instances.json"), room.path("logs"), room.path("secret"));
    // Nobody answers there, so that there is something to say.
    write(&instances, r#"[{"id": "instance-0", "agent": "http://127.0.0.1:9"}]"#, 0o644);
    write(&secret_file, "s3cr3t-key\n", 0o600);
    let token_file = room.token_file();
    let token = Token::read_file(&token_file).expect("token").as_str().to_owned();
    let mut command = room.loco(["control", "--json", "--listen", "127.0.0.1:0", "--log", "trace"]);
    command.arg("--token-file").arg(&token_file).arg("--instances").arg(&instances);
    command.arg("--state-dir").arg(room.path("state")).arg("--log-dir").arg(&logs);
    let control = Running::start(command, |_| token_file).await;
    let url = control.line["address"].as_str().expect("address").to_owned();
    let hook = json!({"webhooks": [{"name": "ops", "url": "http://127.0.0.1:9/very-secret-path", "minSeverity": "info",
        "secretFile": secret_file}]});
    let check = json!({"checks": [{"name": "door", "probe": {"kind": "tcp", "address": "127.0.0.1:9"},
        "intervalS": 1, "failures": 1}]});
    for (name, body) in [("alerts", hook), ("checks", check)] {
        let request = control.client.request(Method::PUT, &format!("{url}/api/config/{name}")).json(&body);
        let answer = request.send().await.expect("answer");
        assert_eq!(answer.status(), StatusCode::OK, "{name}");
        let shown = answer.text().await.expect("text");
        assert!(!shown.contains("very-secret-path") && !shown.contains("s3cr3t"), "{shown}");
    }
    let wrong = reqwest::Client::new().get(format!("{url}/api/instances")).bearer_auth("wrong-but-private");
    assert_eq!(wrong.send().await.expect("answer").status(), StatusCode::UNAUTHORIZED);
    // Until the webhook was tried for the check's alert.
    let begun = Instant::now();
    let metrics = loop {
        let metrics = reqwest::get(format!("{url}/metrics")).await.expect("answer").text().await.expect("text");
        let tried = metrics.lines().any(|line| line.starts_with("loco_control_breaker_state{breaker=\"webhook ops\"}"))
            && texts(&logs).iter().any(|(_, text)| text.contains("tried again"));
        if tried {
            break metrics;
        }
        assert!(begun.elapsed() < PATIENCE, "no try: {metrics}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert!(metrics.contains("loco_control_alerts{severity=\"warning\"} 1"), "{metrics}");
    assert!(metrics.contains("method=\"PUT\",route=\"/api/config/alerts\",status=\"200\""), "{metrics}");
    let (code, _) = control.terminate().await;
    assert_eq!(code, Some(0));
    let texts = texts(&logs);
    assert!(lines(&texts, "control.").iter().any(|line| line["alert"] == "Check failed: door"));
    for (name, text) in &texts {
        for secret in [token.as_str(), "s3cr3t-key", "very-secret-path", "wrong-but-private"] {
            assert!(!text.contains(secret), "{name} holds a secret");
        }
    }
}

#[tokio::test]
async fn why_a_process_ended_is_in_its_files_too() {
    let room = Room::new();
    let logs = room.path("logs");
    let mut command = room.loco(["agent", "--json", "--instance", "3", "--token-file", "/nonexistent/token"]);
    command.env("LOCO_LOG_DIR", &logs);
    let (code, _, stderr) = finish(command).await;
    assert_eq!((code, stderr.matches("/nonexistent/token").count()), (Some(1), 1), "{stderr}");
    let texts = texts(&logs);
    for prefix in ["agent-0003.", "errors.agent-0003."] {
        let lines = lines(&texts, prefix);
        let last = lines.last().expect("a line");
        assert_eq!(last["level"], "ERROR");
        assert!(last["message"].as_str().is_some_and(|text| text.contains("/nonexistent/token")), "{last}");
    }
}
