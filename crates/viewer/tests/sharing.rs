//! Several viewers at one control plane: whose input goes out, whose list is followed, what is told and shown.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may end where it stands")]

mod common;

use axum::extract::{Path as UrlPath, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{post as on_post, put};
use axum::{Json, Router};
use common::{GREEN, Made, PATIENCE, VGA, Viewer, id, instance};
use loco_http::{Client, Guard, Limits, Role, Token, TokenFile};
use loco_model::api::{Alert, Instance, Severity};
use loco_model::failure::{FailureClass, Remedy};
use loco_model::input::KeysEvent;
use loco_model::recovery::{Attempt, Initiator, Outcome};
use loco_model::usage::{InputHolder, ViewerReport};
use loco_model::{InstanceState, Key};
use loco_viewer::ViewArgs;
use loco_viewer::app::{Event, Post};
use loco_viewer::control::Update;
use loco_viewer::plane::{Plane, identity};
use serde_json::{Value, json};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// What the stand-in control plane hears, and whom it believes to hold every input.
#[derive(Clone)]
struct Stand {
    heard: mpsc::Sender<(String, Value)>,
    holder: Arc<Mutex<Option<InputHolder>>>,
}

async fn report(State(stand): State<Stand>, UrlPath(_): UrlPath<String>, Json(body): Json<Value>) -> StatusCode {
    let _ = stand.heard.send(("report".into(), body));
    StatusCode::NO_CONTENT
}

async fn gone(State(stand): State<Stand>, UrlPath(viewer): UrlPath<String>) -> StatusCode {
    let _ = stand.heard.send(("gone".into(), json!(viewer)));
    StatusCode::NO_CONTENT
}

async fn claim(State(stand): State<Stand>, UrlPath(id): UrlPath<String>, Json(body): Json<Value>) -> Response {
    let action = body["action"].as_str().unwrap_or_default().to_owned();
    let _ = stand.heard.send((format!("{action} {id}"), body));
    match &*stand.holder.lock().unwrap() {
        Some(holder) if action == "ask" => (StatusCode::CONFLICT, format!("{} holds it", holder.name)).into_response(),
        _ => Json(json!({ "holder": null })).into_response(),
    }
}

async fn order(State(stand): State<Stand>, UrlPath(path): UrlPath<String>, body: String) -> StatusCode {
    let _ = stand.heard.send((path, serde_json::from_str(&body).unwrap_or_default()));
    StatusCode::ACCEPTED
}

/// A viewer, its control plane, and what that hears.
struct Bench {
    viewer: Viewer,
    heard: mpsc::Receiver<(String, Value)>,
    holder: Arc<Mutex<Option<InputHolder>>>,
    _tokens: tempfile::TempDir,
}

fn ada() -> InputHolder {
    InputHolder { viewer: "ada".into(), name: "ada@desk".into() }
}

fn bench(count: usize, follow: bool) -> Bench {
    bench_as(Role::Operate, count, follow)
}

/// The control plane's tokens: the viewer's alone, with that role.
fn guard(role: Role, folder: &Path, token: &Token) -> Guard {
    let path = folder.join("control-token");
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    write!(file, "{role} {}", token.as_str()).unwrap();
    Guard::new(TokenFile::open(&path).unwrap())
        .role(Method::PUT, "/api/viewers", Role::View)
        .role(Method::DELETE, "/api/viewers", Role::View)
        .role(Method::POST, "/api/instances/*/input", Role::Play)
        .role(Method::POST, "/api/active", Role::Play)
}

fn bench_as(role: Role, count: usize, follow: bool) -> Bench {
    let tokens = tempfile::tempdir().unwrap();
    let path = tokens.path().join("token");
    let guard = guard(role, tokens.path(), &Token::create_file(&path).unwrap());
    let client = Client::new(TokenFile::open(&path).unwrap()).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    let (sender, heard) = mpsc::channel();
    let holder = Arc::new(Mutex::new(None));
    let stand = Stand { heard: sender, holder: Arc::clone(&holder) };
    let args = ViewArgs { follow, ..ViewArgs::new(String::new(), PathBuf::new()) };
    let plane = move |runtime: &tokio::runtime::Handle, post: Post| {
        runtime.spawn(async move {
            let router = Router::new()
                .route("/api/viewers/{viewer}", put(report).delete(gone))
                .route("/api/instances/{id}/input", on_post(claim))
                .route("/api/{*path}", on_post(order))
                .with_state(stand);
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, guard.protect(router, Limits::default())).await
        });
        Plane::open(runtime, client, api, identity(Some("me@here")), post)
    };
    let mut viewer = Viewer::start_with(count, args, plane);
    for link in &viewer.links {
        link.show(Made::new(VGA, GREEN));
    }
    viewer.all_shown();
    Bench { viewer, heard, holder, _tokens: tokens }
}

impl Bench {
    /// The next of that kind.
    fn hears(&self, what: &str) -> Value {
        loop {
            let (heard, body) = self.heard.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what} was never heard"));
            if heard == what {
                return body;
            }
        }
    }

    fn says(&self, update: Update) {
        (self.viewer.post)(Event::Control(update));
    }

    fn held_by(&self, n: usize, holder: Option<InputHolder>) {
        *self.holder.lock().unwrap() = holder.clone();
        let instance = Instance { input_holder: holder, ..instance(n, InstanceState::Live) };
        self.says(Update::One(Box::new(instance)));
    }

    fn others(&self, names: &[&str]) {
        let viewer = |name: &&str| loco_model::usage::Viewer {
            id: (*name).to_owned(),
            heard_at_ms: 0,
            report: ViewerReport { name: (*name).to_owned(), focus: None, follows: false, sessions: vec![] },
        };
        self.says(Update::Viewers(names.iter().map(viewer).collect()));
    }

    fn key(&mut self, n: usize, pressed: bool) {
        let tile = format!("instance-{n}");
        self.viewer.ask(json!({"cmd": "key", "tile": tile, "code": "KeyA", "pressed": pressed})).unwrap();
    }

    fn toast_when(&mut self, part: &str) {
        self.viewer.wall_when(part, |wall| toasts(wall).iter().any(|text| text.contains(part)));
    }
}

fn toasts(wall: &Value) -> Vec<String> {
    let all = wall["toasts"].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|toast| toast["text"].as_str().map(str::to_owned)).collect()
}

fn a(pressed: bool) -> KeysEvent {
    let key: Key = "KeyA".parse().unwrap();
    KeysEvent::Key { key, pressed }
}

#[test]
fn it_tells_its_focus_and_its_sessions_and_says_goodbye() {
    let mut bench = bench(2, false);
    bench.viewer.ask(json!({"cmd": "focus", "tile": "instance-1"})).unwrap();
    let report = loop {
        let report = bench.hears("report");
        if report["focus"] == "instance-1" && report["sessions"][1]["quality"] == "excellent" {
            break report;
        }
    };
    assert_eq!((&report["name"], &report["follows"]), (&json!("me@here"), &json!(false)));
    assert_eq!(report["sessions"][0]["state"], "connected");
    let wall = bench.viewer.ask(json!({"cmd": "wall"})).unwrap();
    let Bench { viewer, heard, .. } = bench;
    drop(viewer);
    let last = heard.iter().find(|(what, _)| what == "gone");
    assert_eq!(last.map(|(_, viewer)| viewer), Some(wall["viewer"].clone()));
}

#[test]
fn alone_a_key_goes_out_at_once_and_the_input_is_asked_for_beside() {
    let mut bench = bench(1, false);
    bench.key(0, true);
    assert_eq!(bench.viewer.got.recv_timeout(PATIENCE), Ok((id(0), a(true))));
    assert_eq!(bench.hears("ask instance-0")["action"], "ask");
    bench.viewer.wall_when("the input", |wall| wall["tiles"][0]["holds"] == json!(true));
}

#[test]
fn what_another_holds_is_shown_not_sent_and_can_be_taken() {
    let mut bench = bench(2, false);
    bench.others(&["ada"]);
    bench.held_by(1, Some(ada()));
    bench.key(1, true);
    bench.toast_when("ada@desk has the input of Loco 2 · Ctrl+Alt+T takes it");
    let wall = bench.viewer.ask(json!({"cmd": "wall"})).unwrap();
    assert_eq!(wall["tiles"][1]["holder"]["name"], "ada@desk");
    assert!(bench.viewer.got.try_recv().is_err(), "it was sent");
    // By the chord.
    bench.key(1, false);
    for code in ["ControlLeft", "AltLeft", "KeyT"] {
        bench.viewer.ask(json!({"cmd": "key", "code": code, "pressed": true})).unwrap();
    }
    bench.hears("take instance-1");
    bench.viewer.wall_when("the input", |wall| wall["tiles"][1]["holds"] == json!(true));
    for code in ["ControlLeft", "AltLeft", "KeyT"] {
        bench.viewer.ask(json!({"cmd": "key", "code": code, "pressed": false})).unwrap();
    }
    bench.key(1, true);
    while bench.viewer.got.recv_timeout(PATIENCE).unwrap() != (id(1), a(true)) {}
    // And back.
    bench.held_by(1, Some(ada()));
    bench.toast_when("ada@desk took the input of Loco 2");
    while bench.viewer.got.try_recv().is_ok() {}
    bench.key(1, false);
    bench.key(1, true);
    bench.viewer.ask(json!({"cmd": "wall"})).unwrap();
    assert!(bench.viewer.got.try_recv().is_err(), "it was sent");
}

#[test]
fn who_may_only_look_is_told_so_and_what_did_not_happen() {
    let mut bench = bench_as(Role::View, 2, false);
    let look = "You may only look: this takes the role play, and you have view";
    for pressed in [true, false, true, false] {
        bench.key(0, pressed);
    }
    bench.toast_when(look);
    let wall = bench.viewer.ask(json!({"cmd": "wall"})).unwrap();
    assert_eq!(toasts(&wall), [look], "once for all keys");
    for what in ["take", "control-alt-delete"] {
        // The last word about it is gone: a click is answered all the same.
        bench.viewer.wall_when("no messages", |wall| toasts(wall).is_empty());
        bench.viewer.ask(json!({"cmd": "act", "tile": "instance-0", "what": what})).unwrap();
        bench.toast_when(look);
    }
    let why = "this takes the role operate, and you have view";
    for (what, line) in [
        ("restart", "Loco 2 is not restarted"),
        ("recover", "Loco 2 is not repaired"),
        ("snapshot", "No snapshot of Loco 2 was made"),
    ] {
        bench.viewer.ask(json!({"cmd": "act", "tile": "instance-1", "what": what})).unwrap();
        let line = format!("{line}: {why}");
        bench.viewer.wall_when(&line, |wall| toasts(wall).contains(&line));
    }
}

#[test]
fn who_follows_goes_where_the_list_says_and_sets_it() {
    let mut bench = bench(3, true);
    bench.says(Update::Active(vec![id(2), id(1)]));
    bench.viewer.wall_when("the focus", |wall| wall["tiles"][2]["focused"] == json!(true));
    bench.viewer.ask(json!({"cmd": "focus", "tile": "instance-1"})).unwrap();
    assert_eq!(bench.hears("active")["ids"], json!(["instance-1", "instance-2"]));
    bench.says(Update::Active(vec![id(1), id(2)]));
    bench.says(Update::Active(vec![id(0)]));
    bench.viewer.wall_when("the focus", |wall| wall["tiles"][0]["focused"] == json!(true));
    bench.says(Update::Active(vec![]));
    bench.viewer.wall_when("no focus", |wall| {
        wall["tiles"].as_array().unwrap().iter().all(|tile| tile["focused"] == json!(false))
    });
}

#[test]
fn repairs_alerts_and_a_lost_control_plane_are_told() {
    let mut bench = bench(2, false);
    let attempt = |outcome, ended_at_ms| Attempt {
        ended_at_ms,
        reason: Some("QEMU exited with signal 9".into()),
        outcome,
        evidence: Some("a1".into()),
        ..Attempt::begun("a1", id(0), 1_000, FailureClass::Qemu, Remedy::RestartQemu, Initiator::Agent)
    };
    let running = attempt(Outcome::Running, None);
    let recovering =
        Instance { recovery: Some(running.clone()), attempts_left: Some(2), ..instance(0, InstanceState::Recovering) };
    bench.says(Update::One(Box::new(recovering)));
    bench.says(Update::Attempt(Box::new(running)));
    bench.toast_when("Loco 1: restarting QEMU (QEMU exited with signal 9)");
    let counted = |wall: &Value| wall["tiles"][0]["message"].as_str().is_some_and(|line| line.ends_with(" s"));
    let wall = bench.viewer.wall_when("seconds", counted);
    assert_eq!(wall["tiles"][0]["title"], "Recovering, attempt 1 of 3");
    // The session stands: the picture arrives as well as ever, whatever the control plane says of the guest.
    assert_eq!(wall["tiles"][0]["quality"]["level"], "excellent");
    bench.says(Update::Attempt(Box::new(attempt(Outcome::Repaired, Some(2_500)))));
    bench.toast_when("Loco 1 is well again: QEMU was restarted (1.5 s)");
    let alert = Alert {
        id: "x".into(),
        at_ms: 0,
        ended_at_ms: None,
        severity: Severity::Critical,
        instance_id: None,
        title: "the disk is full".into(),
        detail: None,
    };
    bench.says(Update::Alert(alert));
    bench.toast_when("the disk is full");
    bench.says(Update::Lost { reason: "connection refused".into() });
    bench.toast_when("The control plane does not answer (connection refused); the pictures go on");
    // And the keys too.
    bench.key(1, true);
    assert_eq!(bench.viewer.got.recv_timeout(PATIENCE), Ok((id(1), a(true))));
    let all = (0..2).map(|n| instance(n, InstanceState::Live)).collect();
    bench.says(Update::All(all));
    bench.toast_when("The control plane answers again");
    // Messages go by themselves; then nothing is drawn any more.
    bench.viewer.wall_when("no messages", |wall| toasts(wall).is_empty());
    let drawn = |bench: &mut Bench| bench.viewer.ask(json!({"cmd": "wall"})).unwrap()["drawn"].as_u64();
    let mut before = drawn(&mut bench);
    loop {
        std::thread::sleep(Duration::from_millis(1_200));
        let now = drawn(&mut bench);
        if now == before {
            break;
        }
        before = now;
    }
}

#[test]
fn a_menu_asks_the_control_plane() {
    let mut bench = bench(2, false);
    for (what, path) in [
        (json!("pause"), "instances/instance-1/pause"),
        (json!("resume"), "instances/instance-1/resume"),
        (json!({"load": "desk"}), "instances/instance-1/snapshot/load"),
        (json!("restart"), "quality/recover/instance-1"),
    ] {
        bench.viewer.ask(json!({"cmd": "act", "tile": "instance-1", "what": what})).unwrap();
        let body = bench.hears(path);
        match path {
            "quality/recover/instance-1" => assert_eq!(body["action"], "restart-qemu"),
            "instances/instance-1/snapshot/load" => assert_eq!(body["name"], "desk"),
            _ => {}
        }
    }
    bench.toast_when("Loco 2 is paused");
    bench.viewer.ask(json!({"cmd": "act", "tile": "instance-1", "what": "control-alt-delete"})).unwrap();
    let keys: Vec<_> = (0..6).map(|_| bench.viewer.got.recv_timeout(PATIENCE).unwrap().1).collect();
    let key = |code: &str, pressed| KeysEvent::Key { key: code.parse().unwrap(), pressed };
    assert_eq!(keys[..3], [key("ControlLeft", true), key("AltLeft", true), key("Delete", true)]);
    assert_eq!(keys[5], key("ControlLeft", false));
    let refused = bench.viewer.ask(json!({"cmd": "act", "tile": "instance-12", "what": "pause"}));
    assert!(refused.is_err_and(|why| why.contains("instance-12")));
}
