//! The commands that ask a control plane: against a stand-in that says what a test wants, and against a real demo.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod common;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use common::{PATIENCE, Room, Running, finish, signal};
use loco_model::InstanceId;
use loco_model::api::{Alert, Event, Instance, RecoveryStatus, Severity};
use loco_model::failure::{FailureClass, Remedy};
use loco_model::problem::{CONTENT_TYPE, Problem};
use loco_model::recovery::{Attempt, Initiator, Outcome};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, BufReader};

fn id(n: usize) -> InstanceId {
    InstanceId::try_new(n).expect("index")
}

fn attempt(outcome: Outcome) -> Attempt {
    Attempt {
        ended_at_ms: (outcome != Outcome::Running).then_some(1_795_256_189_500),
        reason: Some("QEMU exited".into()),
        outcome,
        evidence: Some("a1".into()),
        ..Attempt::begun(
            "a1",
            id(3),
            1_795_256_188_000,
            FailureClass::Qemu,
            Remedy::RestartQemu,
            Initiator::Person { name: "operate".into() },
        )
    }
}

/// What a stand-in says, and what it was told.
#[derive(Clone)]
struct Stand {
    outcome: Outcome,
    told: Arc<Mutex<Vec<Value>>>,
}

fn problem(status: StatusCode, detail: &str) -> Response {
    let body = serde_json::to_vec(&Problem::new(status.as_u16(), "t", detail)).expect("JSON");
    (status, [("content-type", CONTENT_TYPE)], body).into_response()
}

async fn recover(State(stand): State<Stand>, Path(of): Path<String>, Json(body): Json<Value>) -> Response {
    stand.told.lock().expect("lock").push(body.clone());
    if of != "instance-3" {
        return problem(
            StatusCode::TOO_MANY_REQUESTS,
            "the hour's 3 attempts are used up: the next one is free in 12 min",
        );
    }
    (StatusCode::ACCEPTED, Json(attempt(Outcome::Running))).into_response()
}

async fn status(State(stand): State<Stand>) -> Json<RecoveryStatus> {
    Json(RecoveryStatus { attempts: vec![attempt(stand.outcome)], ..RecoveryStatus::default() })
}

/// The list, and then nothing for ever.
async fn events() -> Response {
    let first = Event::Instances { instances: vec![Instance::new(id(3))] };
    let text = format!("id: 7\nevent: instances\ndata: {}\n\n", serde_json::to_string(&first).expect("JSON"));
    let first = futures::stream::once(async move { Ok::<_, std::convert::Infallible>(text) });
    let body = axum::body::Body::from_stream(futures::StreamExt::chain(first, futures::stream::pending()));
    ([("content-type", "text/event-stream")], body).into_response()
}

async fn active(State(stand): State<Stand>, headers: HeaderMap, Json(body): Json<Value>) -> StatusCode {
    assert!(headers.contains_key("authorization"));
    stand.told.lock().expect("lock").push(body);
    StatusCode::NO_CONTENT
}

async fn stand(outcome: Outcome) -> (String, Arc<Mutex<Vec<Value>>>) {
    let alert = Alert {
        id: "x".into(),
        at_ms: 1_795_256_188_000,
        ended_at_ms: None,
        severity: Severity::Critical,
        instance_id: Some(id(3)),
        title: "the disk is full".into(),
        detail: None,
    };
    let told = Arc::default();
    let line = json!([{ "source": "qemu", "at_ms": 1_795_256_188_000_u64, "text": "warning: \u{1b}[2J" }]);
    let router = Router::new()
        .route("/api/instances", get(|| async { Json(vec![Instance::new(id(3))]) }))
        .route("/api/quality/recover/{id}", post(recover))
        .route("/api/quality/recovery-status", get(status))
        .route("/api/events", get(events))
        .route("/api/alerts", get(|| async { Json(vec![alert]) }))
        .route("/api/logs/{id}", get(|| async { Json(line) }))
        .route("/api/active", get(|| async { Json(json!({ "active": ["instance-3"] })) }).post(active))
        .with_state(Stand { outcome, told: Arc::clone(&told) });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, told)
}

/// Runs `loco` against it.
async fn ask(room: &Room, api: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = room.loco([]);
    command.args(arguments).args(["--api", api, "--token-file"]).arg(room.token_file());
    finish(command).await
}

#[tokio::test]
async fn answers_are_tables_for_people_and_json_for_machines() {
    let room = Room::new();
    let (api, told) = stand(Outcome::Repaired).await;
    for (arguments, parts) in [
        (&["status"][..], &["1 connecting", "#4  Loco 4  connecting"][..]),
        (&["alerts"], &["critical", "#4", "the disk is full"]),
        (&["logs", "4"], &["qemu   warning: ·[2J"]),
        (
            &["history", "instance-3", "--since", "3650d"],
            &["restart-qemu", "operate", "repaired", "1.5 s", "QEMU exited"],
        ),
        (&["focus"], &["#4 (instance-3)"]),
        (&["recover", "4"], &["Loco 4: restarting QEMU, by hand (QEMU exited)"]),
        (&["recover", "4", "--wait"], &["Loco 4 is well again: QEMU was restarted (1.5 s)"]),
    ] {
        let (code, stdout, stderr) = ask(&room, &api, arguments).await;
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
        for part in parts {
            assert!(stdout.contains(part), "{arguments:?} does not say {part:?}:\n{stdout}");
        }
        let json: Vec<_> = arguments.iter().copied().chain(["--json"]).collect();
        let (code, stdout, _) = ask(&room, &api, &json).await;
        assert_eq!(code, Some(0), "{json:?}");
        for line in stdout.lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "{json:?}: {line}");
        }
    }
    let (_, stdout, _) = ask(&room, &api, &["history", "4", "--since", "3650d"]).await;
    assert!(stdout.contains("critical  #4        the disk is full"), "{stdout}");
    told.lock().expect("lock").clear();
    ask(&room, &api, &["focus", "instance-3", "1"]).await;
    ask(&room, &api, &["focus", "--clear"]).await;
    ask(&room, &api, &["recover", "4", "--action", "reset-display", "--override"]).await;
    let want = [
        json!({ "ids": ["instance-3", "instance-0"] }),
        json!({ "ids": [] }),
        json!({ "action": "reset-display", "override": true }),
    ];
    assert_eq!(*told.lock().expect("lock"), want);
}

#[tokio::test]
async fn what_went_wrong_is_said_in_one_line_and_by_the_exit_code() {
    let room = Room::new();
    let (api, _) = stand(Outcome::InVain).await;
    for (arguments, code, says) in [
        (&["recover", "4", "--wait"][..], 1, ""),
        (&["recover", "1"], 1, "the next one is free in 12 min"),
        (&["recover", "4", "--action", "reboot"], 2, "restart-qemu"),
        (&["recover", "Loco 4"], 2, "the number on its tile"),
        (&["history", "4", "--since", "soon"], 2, "15m"),
        (&["history", "1"], 1, "no instance-0 (#1): there are #4"),
        (&["focus", "4", "--clear"], 2, "--clear"),
    ] {
        let (got, stdout, stderr) = ask(&room, &api, arguments).await;
        assert_eq!(got, Some(code), "{arguments:?}: {stdout}{stderr}");
        assert!(stderr.contains(says), "{arguments:?} does not say {says:?}: {stderr}");
        assert!(code == 2 || stderr.lines().count() <= 1, "{arguments:?}: {stderr}");
    }
    let (code, _, stderr) = ask(&room, "http://127.0.0.1:1", &["status"]).await;
    assert!(code == Some(1) && stderr.contains("does not answer"), "{stderr}");
    let (code, _, stderr) = finish(room.loco(["status"])).await;
    assert!(code == Some(1) && stderr.contains("no demo runs"), "{stderr}");
    let (code, _, stderr) = finish(room.loco(["status", "--api", "http://127.0.0.1:1"])).await;
    assert!(code == Some(1) && stderr.contains("--token-file"), "{stderr}");
}

#[tokio::test]
async fn following_ends_by_an_interrupt_without_a_word() {
    let room = Room::new();
    let (api, _) = stand(Outcome::Repaired).await;
    for arguments in [["events", "--json"], ["status", "--watch"], ["focus", "--watch"]] {
        let mut command = room.loco([]);
        command.args(arguments).args(["--api", &api, "--token-file"]).arg(room.token_file());
        let mut child = command.spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("a line");
        assert!(first.is_some_and(|line| line.contains("instance") || line.contains("connecting")), "{arguments:?}");
        signal(child.id().expect("id"), "INT");
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").expect("output");
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(130), &b""[..]), "{arguments:?}");
    }
}

/// A control plane that is being started again: what it sends, then the end, then a refusal, then what it sends.
#[tokio::test]
async fn following_outlives_a_control_plane_that_is_started_again() {
    let room = Room::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let events = {
        let asked = Arc::clone(&asked);
        async move || {
            let event = |event: &Event| format!("data: {}\n\n", serde_json::to_string(event).expect("JSON"));
            let head = [("content-type", "text/event-stream")];
            let list = event(&Event::Instances { instances: vec![Instance::new(id(3))] });
            match asked.fetch_add(1, Ordering::Relaxed) {
                0 => (head, list + &event(&Event::Active { active: vec![] })).into_response(),
                1 => problem(StatusCode::SERVICE_UNAVAILABLE, "not yet"),
                _ => {
                    let active = |ids| event(&Event::Active { active: ids });
                    let all = list + &active(vec![]) + &active(vec![id(3)]);
                    let first = futures::stream::once(async move { Ok::<_, std::convert::Infallible>(all) });
                    let all = futures::StreamExt::chain(first, futures::stream::pending());
                    (head, axum::body::Body::from_stream(all)).into_response()
                }
            }
        }
    };
    let router = Router::new().route("/api/events", get(events));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let api = format!("http://{}", listener.local_addr().expect("address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut command = room.loco(["events", "--api", &api, "--token-file"]);
    command.arg(room.token_file());
    let mut child = command.spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    for want in ["Loco 4 is connecting", "active: none", "active: Loco 4"] {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("read");
        assert!(line.as_ref().is_some_and(|line| line.ends_with(want)), "{line:?} is not {want:?}");
    }
    signal(child.id().expect("id"), "INT");
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").expect("output");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.lines().count() == 1 && stderr.contains("is lost") && stderr.contains("not yet"), "{stderr}");
}

#[tokio::test]
async fn an_answer_that_cannot_be_written_is_no_success() {
    let room = Room::new();
    let (api, _) = stand(Outcome::Repaired).await;
    let mut command = room.loco(["alerts", "--api", &api, "--token-file"]);
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let child = command.arg(room.token_file()).stdout(full).spawn().expect("it starts");
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").expect("output");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && stderr.contains("cannot be written"), "{stderr}");
}

#[tokio::test]
async fn the_one_demo_that_runs_is_found_and_answers() {
    let room = Room::new();
    let command = room.loco(["demo", "--headless", "--json", "--accel", "tcg", "-n", "1"]);
    let demo = Running::start(command, |line| PathBuf::from(line["token_file"].as_str().expect("token file"))).await;
    let (code, stdout, stderr) = finish(room.loco(["status", "--json"])).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let status: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(status["instances"][0]["id"], "instance-0");
    let (code, stdout, stderr) = finish(room.loco(["focus", "1"])).await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "#1 (instance-0)\n", ""));
    let (code, stdout, stderr) = finish(room.loco(["recover", "1", "--action", "restart-qemu", "--wait"])).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains("Loco 1: QEMU was restarted"), "{stdout}");
    let (code, stdout, stderr) = finish(room.loco(["history", "1"])).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("restart-qemu") && stdout.contains("repaired"), "{stdout}");
    let (code, stdout, stderr) = finish(room.loco(["logs", "1", "--tail", "3"])).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!((1..=3).contains(&stdout.lines().count()), "{stdout}");
    demo.terminate().await;
    room.wait_until_empty().await;
}
