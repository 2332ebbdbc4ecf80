//! `loco agent` with a real QEMU: what it refuses, what it says, how it ends.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{Agent, PATIENCE, Room, finish, lives, signal, wait_for, write};
use futures::StreamExt as _;
use loco_http::{Token, TokenFile};
use loco_model::problem::{CONTENT_TYPE, Problem};
use loco_model::report::{HealthReport, OverallStatus};
use reqwest::{Method, StatusCode};
use std::net::TcpListener;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[tokio::test]
async fn bad_starts_end_with_one_clear_line() {
    let room = Room::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let taken = taken.local_addr().expect("address").to_string();
    let good = room.token_file();
    let good = good.to_str().expect("path");
    let file = |name: &str, content: &str, mode| {
        let path = room.path(name);
        write(&path, content, mode);
        path.to_str().expect("path").to_owned()
    };
    let (empty, open) = (file("empty", "\n", 0o600), file("open", "secret\n", 0o644));
    let bad_json = file("bad.json", "{", 0o644);
    let bad_key = file("key.json", r#"{"name":"x","hardwear":{}}"#, 0o644);
    // Arguments, LOCO_QEMU, exit code, and what the last line says.
    type Case<'a> = (&'a [&'a str], Option<&'a str>, i32, &'a [&'a str]);
    let table: &[Case<'_>] = &[
        (&["--token-file", "/nonexistent/token"], None, 1, &["/nonexistent/token", "No such file"]),
        (&["--token-file", &empty], None, 1, &[&empty, "is empty"]),
        (&["--token-file", &open], None, 1, &[&open, "0644", "chmod 600"]),
        (&["--token-file", good, "--listen", &taken], None, 1, &[&taken, "in use"]),
        (&["--token-file", good, "--profile", "win99"], None, 1, &["win99", "demo"]),
        (&["--token-file", good, "--profile", "/nonexistent/p.json"], None, 1, &["/nonexistent/p.json"]),
        (&["--token-file", good, "--profile", &bad_json], None, 1, &[&bad_json]),
        (&["--token-file", good, "--profile", &bad_key], None, 1, &["hardwear", "hardware"]),
        (&["--token-file", good, "--accel", "tcg"], Some("/nonexistent/qemu"), 1, &["/nonexistent/qemu", "QEMU"]),
        (&["--token-file", good, "--instance", "9"], None, 2, &["\"9\"", "0 to 8"]),
        (&["--token-file", good, "--accel", "warp"], None, 2, &["warp", "tcg"]),
        (&["--token-file", good, "--rtc-ports", "9-1"], None, 2, &["9-1"]),
        (&["--token-file", good, "--max-fps", "0"], None, 2, &["1..=60"]),
        (&["--token-file", good, "--listen", "nowhere"], None, 2, &["nowhere"]),
        (&["--token-file", good, "--allow-origin", "*"], None, 2, &["\"*\"", "https://"]),
        (&[], None, 2, &["--token-file"]),
    ];
    for (arguments, qemu, code, says) in table {
        let mut command = room.loco(["agent", "--json"]);
        command.args(*arguments);
        if let Some(qemu) = qemu {
            command.env("LOCO_QEMU", qemu);
        }
        let (status, stdout, stderr) = finish(command).await;
        assert_eq!((status, stdout.as_str()), (Some(*code), ""), "{arguments:?}: {stderr}");
        for part in *says {
            assert!(stderr.contains(part), "{arguments:?} does not say {part:?}: {stderr}");
        }
        assert_eq!(stderr.matches("error:").count(), 1, "{arguments:?}: {stderr}");
        assert!(!stderr.contains("secret"), "{stderr}");
    }
    room.wait_until_empty().await;
}

#[tokio::test]
async fn every_route_asks_for_the_current_token() {
    let room = Room::new();
    let agent = Agent::start(&room).await;
    let guarded = [
        ("GET", "/events"),
        ("GET", "/screenshot.png"),
        ("POST", "/input"),
        ("POST", "/whep"),
        ("OPTIONS", "/whep"),
        ("PATCH", "/whep/x"),
        ("DELETE", "/whep/x"),
        ("GET", "/nothing"),
    ];
    let http = reqwest::Client::new();
    let ask = |method: &str, path: &str, authorization: Option<String>| {
        let method = Method::from_bytes(method.as_bytes()).expect("method");
        let request = http.request(method, format!("{}{path}", agent.url));
        match authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        }
    };
    let old = Token::read_file(&room.token_file()).expect("token").authorization();
    let next = room.path("next");
    Token::create_file(&next).expect("token");
    std::fs::rename(&next, room.token_file()).expect("rename");
    for (method, path) in guarded {
        for value in [None, Some("Bearer wrong".to_owned()), Some(old.clone()), Some("Basic eDp5".to_owned())] {
            let answer = ask(method, path, value.clone()).send().await.expect("answer");
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{method} {path} {value:?}");
            assert_eq!(answer.headers()["content-type"], CONTENT_TYPE);
            assert!(answer.headers().contains_key("www-authenticate"));
        }
        let new = Token::read_file(&room.token_file()).expect("token").authorization();
        let answer = ask(method, path, Some(new)).send().await.expect("answer");
        assert_ne!(answer.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
    }
    for path in ["/", "/health", "/ready", "/startup", "/metrics"] {
        let answer = ask("GET", path, None).send().await.expect("answer");
        assert_ne!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        let foreign = ask("GET", path, None).header("host", "evil.example").send().await.expect("answer");
        assert_eq!(foreign.status(), StatusCode::MISDIRECTED_REQUEST, "{path}");
        let foreign = ask("GET", path, None).header("origin", "http://evil.example").send().await.expect("answer");
        assert_eq!(foreign.status(), StatusCode::FORBIDDEN, "{path}");
    }
    TokenFile::open(&room.token_file()).expect("still good");
}

#[tokio::test]
async fn wrong_input_is_named_and_never_half_done() {
    let room = Room::new();
    let agent = Agent::start(&room).await;
    agent.wait_ready(0).await;
    let url = format!("{}/input", agent.url);
    let many = format!(r#"{{"events":[{}]}}"#, vec![r#"{"type":"release_all"}"#; 257].join(","));
    let huge = format!(r#"{{"events":[]{}}}"#, " ".repeat(70_000));
    for (kind, body, status, says) in [
        ("application/json", "", 400, "EOF"),
        ("application/json", "{", 400, "EOF"),
        ("text/plain", r#"{"events":[]}"#, 415, "application/json"),
        ("application/json", "{}", 422, "events"),
        ("application/json", r#"{"events":[],"x":1}"#, 422, "x"),
        ("application/json", r#"{"events":[{"type":"dance"}]}"#, 422, "dance"),
        ("application/json", r#"{"events":[{"type":"key","code":"KeyÄ","pressed":true}]}"#, 422, "KeyÄ"),
        ("application/json", r#"{"events":[{"type":"key","code":"KeyA"}]}"#, 422, "pressed"),
        ("application/json", r#"{"events":[{"type":"button","button":"nose","pressed":true}]}"#, 422, "nose"),
        ("application/json", r#"{"events":[{"type":"position","x":65536,"y":0}]}"#, 422, "65536"),
        ("application/json", r#"{"events":[{"type":"motion","dx":99999,"dy":0}]}"#, 422, "99999"),
        ("application/json", r#"{"events":[{"type":"wheel","y":-65}]}"#, 422, "-65"),
        ("application/json", &many, 422, "257"),
        ("application/json", &huge, 413, "65536"),
    ] {
        let client = &agent.process.client;
        let request = client.request(Method::POST, &url).header("content-type", kind).body(body.to_owned());
        let answer = request.send().await.expect("answer");
        assert_eq!(answer.status(), status, "{body:.80}");
        assert_eq!(answer.headers()["content-type"], CONTENT_TYPE);
        let problem: Problem = answer.json().await.expect("problem");
        assert!(problem.detail.as_deref().is_some_and(|detail| detail.contains(says)), "{problem:?}");
    }
    let body = r#"{"events":[{"type":"key","code":"KeyA","pressed":true},{"type":"key","code":"KeyA","pressed":false},
        {"type":"motion","dx":5,"dy":-5},{"type":"button","button":"left","pressed":true},{"type":"wheel","y":1},
        {"type":"release_all"}]}"#;
    let request = agent.process.client.request(Method::POST, &url).header("content-type", "application/json");
    let answer = request.body(body).send().await.expect("answer");
    assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{:?}", answer.text().await);
}

#[tokio::test]
async fn wrong_whep_requests_are_refused() {
    let room = Room::new();
    let agent = Agent::start(&room).await;
    for (method, path, kind, body, status) in [
        ("POST", "/whep", "", "", 415),
        ("POST", "/whep", "text/plain", "v=0", 415),
        ("POST", "/whep", "application/sdp", "", 400),
        ("POST", "/whep", "application/sdp", "no sdp at all", 400),
        ("PATCH", "/whep/none", "application/trickle-ice-sdpfrag", "a=x", 404),
        ("DELETE", "/whep/none", "", "", 404),
        ("DELETE", "/whep/..%2f..%2fetc", "", "", 404),
        ("GET", "/whep", "", "", 405),
        ("PUT", "/whep/none", "", "", 405),
        ("POST", "/health", "", "", 405),
        ("GET", "/whep/none/more", "", "", 404),
    ] {
        let method = Method::from_bytes(method.as_bytes()).expect("method");
        let mut request = agent.process.client.request(method.clone(), &format!("{}{path}", agent.url));
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let answer = request.body(body).send().await.expect("answer");
        assert_eq!(answer.status(), status, "{method} {path} {kind}");
        assert_eq!(answer.headers()["content-type"], CONTENT_TYPE, "{method} {path}");
        assert_eq!(answer.headers().contains_key("accept-post"), status == 415, "{method} {path}");
        let problem: Problem = answer.json().await.expect("problem");
        assert!(problem.detail.is_some(), "{method} {path}: {problem:?}");
    }
    let options = agent.process.client.request(Method::OPTIONS, &format!("{}/whep", agent.url));
    let answer = options.send().await.expect("answer");
    assert_eq!(
        (answer.status(), &answer.headers()["accept-post"]),
        (StatusCode::NO_CONTENT, &"application/sdp".parse().expect("value"))
    );
}

#[tokio::test]
async fn health_is_true_before_during_and_after_a_crash_of_qemu() {
    let room = Room::new();
    let before_ms = unix_ms();
    let agent = Agent::start(&room).await;
    let events_url = format!("{}/events", agent.url);
    let mut events = agent.process.client.events(&events_url).await.expect("events");
    let health = agent.wait_ready(0).await;
    assert_eq!(agent.status(Method::GET, "/startup").await, StatusCode::OK);
    let deep = &health.deep_health;
    assert_eq!(health.instance_id.map(|id| id.to_string()).as_deref(), Some("instance-4"));
    assert_eq!((health.overall_status, deep.guest_state.as_str()), (OverallStatus::Healthy, "running"));
    assert_eq!((deep.qemu_healthy, deep.video.display_active), (Some(true), Some(true)));
    assert_eq!(deep.accelerator.as_ref().map(|a| a.name.as_str()), Some("tcg"));
    assert!(deep.guest_started_at_ms.is_some_and(|at| (before_ms..=unix_ms()).contains(&at)), "{deep:?}");
    assert_eq!((deep.video.estimated_frame_rate, deep.video.frames_encoded), (None, 0), "nobody watches");
    let qemu = deep.performance.qemu_pid.expect("a process");
    let name = std::fs::read_to_string(format!("/proc/{qemu}/comm")).expect("it lives");
    assert!(name.starts_with("qemu-system"), "{name}");
    assert!(deep.performance.qemu_memory_bytes.is_some_and(|bytes| bytes > 10 << 20), "{deep:?}");

    let url = format!("{}/screenshot.png", agent.url);
    let client = &agent.process.client;
    let answer = client.send(client.request(Method::GET, &url), &url).await.expect("a screenshot");
    let png = answer.bytes().await.expect("bytes");
    let picture = png::Decoder::new(std::io::Cursor::new(&png)).read_info().expect("a PNG");
    let info = picture.info();
    assert_eq!((Some(info.width), Some(info.height)), (deep.video.width, deep.video.height));

    signal(qemu, "KILL");
    let mut states = Vec::new();
    let gone = loop {
        let event =
            tokio::time::timeout(PATIENCE, events.next()).await.expect("in time").expect("open").expect("event");
        assert_eq!(event.name, "health");
        let report: HealthReport = serde_json::from_str(&event.data).expect("a report");
        states.push((report.deep_health.guest_state.clone(), report.deep_health.guest_restarts));
        let back = report.deep_health.guest_restarts == 1 && report.deep_health.video.display_active == Some(true);
        if back && report.overall_status == OverallStatus::Healthy {
            break report;
        }
    };
    assert!(states.iter().any(|(state, _)| state == "starting"), "the repair was told: {states:?}");
    assert_ne!(gone.deep_health.performance.qemu_pid, Some(qemu));
    assert!(gone.deep_health.guest_started_at_ms > deep.guest_started_at_ms);

    let metrics = reqwest::get(format!("{}/metrics", agent.url)).await.expect("metrics");
    assert!(metrics.headers()["content-type"].to_str().expect("text").starts_with("application/openmetrics-text"));
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains("loco_guest_restarts_total{instance_id=\"instance-4\"} 1\n"), "{metrics}");
}

#[tokio::test]
async fn health_does_not_wait_for_a_stopped_qemu() {
    let room = Room::new();
    let agent = Agent::start(&room).await;
    let health = agent.wait_ready(0).await;
    let qemu = health.deep_health.performance.qemu_pid.expect("a process");
    signal(qemu, "STOP");
    let mut times = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        agent.health().await;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    assert!(times[10] < Duration::from_millis(50), "median {:?}", times[10]);
    signal(qemu, "CONT");
}

#[tokio::test]
async fn sigterm_ends_it_cleanly_and_fast() {
    let room = Room::new();
    let agent = Agent::start(&room).await;
    agent.wait_ready(0).await;
    assert!(room.processes().iter().any(|(_, name)| name.starts_with("qemu")), "{:?}", room.processes());
    let events_url = format!("{}/events", agent.url);
    let mut events = agent.process.client.events(&events_url).await.expect("events");
    let (code, took) = agent.process.terminate().await;
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
    while let Some(event) = events.next().await {
        event.expect("the stream ends, it does not break");
    }
    room.wait_until_empty().await;
}

#[tokio::test]
async fn a_signal_during_the_start_ends_it_too() {
    let room = Room::new();
    let mut command = room.loco(["agent", "--accel", "tcg"]);
    command.arg("--token-file").arg(room.token_file());
    let mut child = command.spawn().expect("loco starts");
    let id = child.id().expect("it lives");
    // As soon as it takes signals itself: SigCgt of proc_pid_status(5), SIGTERM is bit 14.
    wait_for("it listens for SIGTERM", || {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap_or("0");
        let caught = u64::from_str_radix(caught, 16).unwrap_or(0);
        if caught & (1 << 14) != 0 { Ok(()) } else { Err(format!("{caught:x}")) }
    })
    .await;
    signal(id, "TERM");
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").expect("status");
    assert_eq!(status.code(), Some(0));
    room.wait_until_empty().await;
}

#[tokio::test]
async fn kill_9_takes_qemu_along_and_the_next_start_cleans_up() {
    let room = Room::new();
    let mut agent = Agent::start(&room).await;
    let qemu = agent.wait_ready(0).await.deep_health.performance.qemu_pid.expect("a process");
    signal(agent.process.id(), "KILL");
    agent.process.child.wait().await.expect("status");
    wait_for("QEMU is gone", || if lives(qemu) { Err("there".to_owned()) } else { Ok(()) }).await;
    let agent = Agent::start(&room).await;
    agent.wait_ready(0).await;
    agent.process.terminate().await;
    room.wait_until_empty().await;
}

fn unix_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis()).expect("in range")
}
