//! Each thing that the control plane's API does, over real HTTP and with real (small) agents.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{PATIENCE, start};
use futures::{SinkExt as _, StreamExt as _};
use loco_http::websocket::token_subprotocol;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

fn problem_part(got: &(u16, String), status: u16, part: &str) {
    assert!(got.0 == status && got.1.contains(part), "{got:?}; wanted {status} {part:?}");
}

#[tokio::test]
async fn instances_and_how_they_are_found() {
    let fixture = start().await;
    let list = fixture.get("/api/instances").await;
    let ids: Vec<_> = list.as_array().expect("list").iter().map(|instance| instance["id"].clone()).collect();
    assert_eq!(ids, ["instance-0", "instance-1", "instance-2"]);
    assert_eq!((&list[0]["name"], &list[1]["name"]), (&json!("First"), &json!("Loco 2")));
    assert_eq!((&list[1]["ready"], &list[2]["ready"]), (&json!(true), &json!(false)), "each with its own token");
    let info = fixture.get("/api/instances/discovery-info").await;
    assert_eq!((&info["mode"], &info["instances"]), (&json!("static"), &json!(3)));
    assert!(info["refused"][0]["reason"].as_str().expect("reason").contains("instance-x"), "{info}");
    assert!(info["ageMs"].is_u64() && info["staleSinceMs"].is_null());

    std::fs::write(fixture.instances_file(), "[]").expect("write");
    let refreshed = fixture.ask("POST", "/api/instances/refresh").send().await.expect("answer");
    assert_eq!(refreshed.status(), 200);
    let mut instances = fixture.plane.instances();
    let empty = instances.wait_for(|instances| instances.all.is_empty());
    tokio::time::timeout(PATIENCE, empty).await.expect("in time").expect("runs");
    assert_eq!(fixture.get("/api/instances").await, json!([]));
    std::fs::write(fixture.instances_file(), "[").expect("write");
    let refused = fixture.refused(fixture.ask("POST", "/api/instances/refresh")).await;
    problem_part(&refused, 503, "not closed");
    let lan = fixture.get("/api/lan-status").await;
    assert_eq!(lan, json!({"mode": null, "peers": []}));
}

#[tokio::test]
async fn health_in_depth_and_repair() {
    let fixture = start().await;
    let all = fixture.get("/api/quality/deep-health").await;
    assert_eq!(all.as_object().expect("map").len(), 3);
    let one = fixture.get("/api/quality/deep-health/instance-0").await;
    assert_eq!((&one["instanceId"], &one["deepHealth"]["guest_state"]), (&json!("instance-0"), &json!("running")));
    let status = fixture.get("/api/quality/recovery-status").await;
    assert_eq!((&status["maxAttempts"], &status["automatic"]), (&json!(3), &json!(false)));
    let unknown = fixture.refused(fixture.ask("POST", "/api/quality/recover/instance-7")).await;
    problem_part(&unknown, 404, "instance-7");
    let action = json!({"action": "reboot"});
    let bad = fixture.refused(fixture.ask("POST", "/api/quality/recover/instance-0").json(&action)).await;
    problem_part(&bad, 422, "unknown variant `reboot`");
    let idle = fixture.refused(fixture.ask("POST", "/api/quality/recover/instance-0")).await;
    assert!([400, 409].contains(&idle.0), "nothing is wrong: {idle:?}");
}

#[tokio::test]
async fn the_active_list_by_http() {
    let fixture = start().await;
    assert_eq!(fixture.get("/api/active").await, json!({"active": []}));
    let set = |body: Value| fixture.ask("POST", "/api/active").json(&body);
    for (body, want) in [
        (json!({"ids": ["instance-2", "instance-0", "instance-2"]}), json!(["instance-2", "instance-0"])),
        (json!({"id": "instance-1"}), json!(["instance-1"])),
        (json!({"id": null}), json!([])),
        (json!({"ids": ["instance-0"]}), json!(["instance-0"])),
        (json!({"ids": []}), json!([])),
    ] {
        let answer = set(body.clone()).send().await.expect("answer");
        assert_eq!(answer.status(), 200, "{body}");
        assert_eq!(answer.json::<Value>().await.expect("JSON"), json!({"active": want}));
    }
    problem_part(&fixture.refused(set(json!({"id": "instance-7"}))).await, 404, "instance-7");
    problem_part(&fixture.refused(set(json!({}))).await, 422, "\"ids\"");
    problem_part(&fixture.refused(set(json!({"ids": vec!["instance-0"; 10]}))).await, 422, "10 entries");
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn connect(fixture: &common::Fixture, token: &str) -> Result<Socket, WsError> {
    let url = fixture.url("/active").replace("http://", "ws://");
    let mut request = url.into_client_request().expect("request");
    let protocols = format!("loco, {}", token_subprotocol(token));
    request.headers_mut().insert("sec-websocket-protocol", protocols.parse().expect("value"));
    let (socket, response) = tokio_tungstenite::connect_async(request).await?;
    assert_eq!(response.headers()["sec-websocket-protocol"], "loco");
    Ok(socket)
}

async fn next(socket: &mut Socket) -> Value {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time").expect("open");
        match message.expect("message") {
            Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_active_list_by_websocket() {
    let fixture = start().await;
    let mut one = connect(&fixture, "ppp").await.expect("open");
    let mut two = connect(&fixture, "vvv").await.expect("open");
    assert_eq!((next(&mut one).await, next(&mut two).await), (json!({"active": []}), json!({"active": []})));
    for (sent, want) in [
        (json!({"ids": ["instance-1", "instance-0"]}), json!({"active": ["instance-1", "instance-0"]})),
        (json!({"id": "instance-2"}), json!({"active": ["instance-2"]})),
        (json!({"ids": []}), json!({"active": []})),
    ] {
        one.send(Message::text(sent.to_string())).await.expect("sent");
        assert_eq!((next(&mut one).await, next(&mut two).await), (want.clone(), want));
    }
    // What is wrong is answered, and the socket stays open.
    for bad in ["{", "[]", "{}", r#"{"id": "instance-7"}"#, r#"{"ids": 3}"#] {
        one.send(Message::text(bad)).await.expect("sent");
        let answer = next(&mut one).await;
        assert!(answer["error"].is_string(), "{bad}: {answer}");
    }
    one.send(Message::binary(vec![1, 2])).await.expect("sent");
    assert!(next(&mut one).await["error"].is_string());
    two.send(Message::text(r#"{"ids": []}"#)).await.expect("sent");
    let refused = next(&mut two).await;
    assert!(refused["error"].as_str().expect("error").contains("needs the role play"), "{refused}");
    // By HTTP too.
    fixture.ask("POST", "/api/active").json(&json!({"id": "instance-0"})).send().await.expect("answer");
    assert_eq!(next(&mut two).await, json!({"active": ["instance-0"]}));
    // One that is too long ends its own socket only.
    one.send(Message::text("x".repeat(100_000))).await.ok();
    let ended = async { while let Some(Ok(_)) = one.next().await {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("ended");
    fixture.ask("POST", "/api/active").json(&json!({"id": null})).send().await.expect("answer");
    assert_eq!(next(&mut two).await, json!({"active": []}));

    for wrong in ["wrong", ""] {
        let Err(WsError::Http(response)) = connect(&fixture, wrong).await else { panic!("let in") };
        assert_eq!(response.status(), 401);
    }
    problem_part(&fixture.refused(fixture.ask("GET", "/active")).await, 400, "upgrade");
}

#[tokio::test]
async fn a_websocket_ends_with_its_token() {
    let fixture = start().await;
    let mut gone = connect(&fixture, "ppp").await.expect("open");
    let mut stays = connect(&fixture, "vvv").await.expect("open");
    assert_eq!((next(&mut gone).await, next(&mut stays).await), (json!({"active": []}), json!({"active": []})));
    fixture.rotate("view vvv\nplay new\noperate ooo\n");
    // Whatever it says now counts no more.
    gone.send(Message::text(r#"{"id": "instance-1"}"#)).await.expect("sent");
    let end = tokio::time::timeout(PATIENCE, gone.next()).await.expect("in time");
    let Some(Ok(Message::Close(Some(frame)))) = end else { panic!("{end:?}") };
    assert!(frame.reason.contains("not current"), "{frame:?}");
    fixture.ask("POST", "/api/active").json(&json!({"id": "instance-0"})).send().await.expect("answer");
    assert_eq!(next(&mut stays).await, json!({"active": ["instance-0"]}));
}

#[tokio::test]
async fn the_stop_says_goodbye_to_websockets() {
    let fixture = start().await;
    let mut socket = connect(&fixture, "vvv").await.expect("open");
    assert_eq!(next(&mut socket).await, json!({"active": []}));
    let url = fixture.url("/api/events");
    let mut events = fixture.http.get(url).bearer_auth("vvv").send().await.expect("answer").bytes_stream();
    assert!(events.next().await.is_some());
    tokio::time::timeout(PATIENCE, fixture.stop()).await.expect("stops");
    let goodbye = tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time");
    assert!(matches!(goodbye, Some(Ok(Message::Close(_)))), "{goodbye:?}");
    let rest = async { while let Some(Ok(_)) = events.next().await {} };
    tokio::time::timeout(PATIENCE, rest).await.expect("the events end too");
}

#[tokio::test]
async fn viewers_and_whose_input_an_instance_takes() {
    let fixture = start().await;
    let report = |viewer: &str, body: Value| fixture.ask("PUT", &format!("/api/viewers/{viewer}")).json(&body);
    for (viewer, name) in [("a-1", "ada"), ("b_2", "bob")] {
        let body = json!({"name": name, "focus": "instance-1", "sessions": [{"instanceId": "instance-1", "state": "connected"}]});
        assert_eq!(report(viewer, body).send().await.expect("answer").status(), 204);
    }
    let viewers = fixture.get("/api/viewers").await;
    assert_eq!((&viewers[0]["id"], &viewers[1]["name"]), (&json!("a-1"), &json!("bob")));
    assert_eq!(viewers[0]["sessions"][0]["framesDropped"], 0);
    for (body, part) in [
        (json!({}), "missing field `name`"),
        (json!({"name": " "}), "not only blanks"),
        (json!({"name": "x".repeat(65)}), "65 characters"),
        (json!({"name": "a", "focus": "instance-9999"}), "focus: unknown instance"),
        (json!({"name": "a", "surplus": 1}), "unknown field `surplus`"),
    ] {
        problem_part(&fixture.refused(report("a-1", body)).await, 422, part);
    }
    let claim = |viewer: &str, action: &str| {
        let body = json!({"viewer": viewer, "action": action});
        fixture.ask("POST", "/api/instances/instance-1/input").json(&body)
    };
    let held = claim("a-1", "ask").send().await.expect("answer").json::<Value>().await.expect("JSON");
    assert_eq!(held, json!({"holder": {"viewer": "a-1", "name": "ada"}}));
    problem_part(&fixture.refused(claim("b_2", "ask")).await, 409, "ada");
    let held = claim("b_2", "take").send().await.expect("answer").json::<Value>().await.expect("JSON");
    assert_eq!(held["holder"]["name"], "bob");
    problem_part(&fixture.refused(claim("nobody", "take")).await, 404, "nobody");
    let unknown =
        fixture.ask("POST", "/api/instances/instance-7/input").json(&json!({"viewer": "b_2", "action": "ask"}));
    problem_part(&fixture.refused(unknown).await, 404, "instance-7");
    assert_eq!(fixture.ask("DELETE", "/api/viewers/b_2").send().await.expect("answer").status(), 204);
    problem_part(&fixture.refused(fixture.ask("DELETE", "/api/viewers/b_2")).await, 404, "b_2");
    let held = claim("a-1", "release").send().await.expect("answer").json::<Value>().await.expect("JSON");
    assert_eq!(held, json!({"holder": null}));
}

/// Events of one connection: id and name.
async fn events(fixture: &common::Fixture, last: Option<&str>, count: usize) -> Vec<(String, String)> {
    let path = fixture.dir.path().join("token");
    let client = loco_http::Client::new(loco_http::TokenFile::open(&path).expect("tokens")).expect("client");
    let stream = client.events_after(&fixture.url("/api/events"), last).await.expect("events");
    let told = stream.take(count).map(|event| event.expect("event")).map(|event| (event.id.expect("id"), event.name));
    tokio::time::timeout(PATIENCE, told.collect()).await.expect("in time")
}

#[tokio::test]
async fn events_go_on_where_they_were_cut_off() {
    let fixture = start().await;
    let first = events(&fixture, None, 3).await;
    assert_eq!(first[0].1, "instances", "{first:?}");
    let (known, _) = first.last().cloned().expect("the newest");
    let set = async |ids: Value| {
        let answer = fixture.ask("POST", "/api/active").json(&json!({"ids": ids})).send().await.expect("answer");
        assert_eq!(answer.status(), 200);
    };
    set(json!(["instance-0"])).await;
    set(json!([])).await;
    // What was missed comes, and not the whole list again. An instance's own changes may stand between.
    let mut last = known.clone();
    let mut actives = 0;
    while actives < 2 {
        let (id, name) = events(&fixture, Some(&last), 1).await.remove(0);
        assert_ne!(name, "instances", "the whole again after {last}");
        assert_eq!(id.parse::<u64>().expect("number"), last.parse::<u64>().expect("number") + 1);
        actives += usize::from(name == "active");
        last = id;
    }
    for unknown in ["0", "7", "x", "-1", "18446744073709551616"] {
        assert_eq!(events(&fixture, Some(unknown), 1).await[0].1, "instances", "{unknown}");
    }
    let bounded = fixture.ask("GET", "/api/events?for_s=1").send().await.expect("answer");
    assert_eq!(bounded.headers()["content-type"], "text/event-stream");
    let text = bounded.text().await.expect("it ends");
    assert!(text.contains("event: instances") && text.contains("id: "), "{text}");
}

#[tokio::test]
async fn input_pause_and_snapshots_reach_the_agent() {
    let fixture = start().await;
    let input = json!({"events": [{"type": "key", "code": "KeyA", "pressed": true}]});
    for (method, path, body, status) in [
        ("POST", "/input/instance-1", Some(&input), 204),
        ("POST", "/api/instances/instance-1/pause", None, 204),
        ("POST", "/api/instances/instance-1/snapshot", Some(&json!({"name": "fresh"})), 204),
        ("POST", "/api/instances/instance-1/snapshot/load", Some(&json!({"name": "fresh"})), 204),
        ("GET", "/api/instances/instance-1/snapshots", None, 200),
        ("DELETE", "/api/instances/instance-1/snapshots/fresh", None, 204),
    ] {
        let request = fixture.ask(method, path);
        let request = body.into_iter().fold(request, reqwest::RequestBuilder::json);
        let answer = request.send().await.expect("answer");
        assert_eq!(answer.status(), status, "{method} {path}: {}", answer.text().await.unwrap_or_default());
    }
    let heard = fixture.agents[1].heard();
    let wanted = [
        "POST /input {\"events\":[{\"type\":\"key\",\"code\":\"KeyA\",\"pressed\":true}]}",
        "POST /pause",
        "POST /snapshot {\"name\":\"fresh\"}",
        "POST /snapshot/load {\"name\":\"fresh\"}",
        "GET /snapshots",
        "DELETE /snapshots/fresh",
    ];
    assert_eq!(heard, wanted);
    // The agent's own refusals are passed on; an agent that is not there is named.
    let far = json!({"events": [{"type": "motion", "dx": 16384, "dy": 0}]});
    let refused = fixture.refused(fixture.ask("POST", "/input/instance-1").json(&far)).await;
    problem_part(&refused, 422, "events[0].dx is too far");
    problem_part(&fixture.refused(fixture.ask("POST", "/api/instances/instance-1/resume")).await, 409, "not paused");
    let gone = fixture.refused(fixture.ask("DELETE", "/api/instances/instance-1/snapshots/other")).await;
    problem_part(&gone, 404, "nothing at this path");
    // One that is not there is tried a few times, and then left alone for a while.
    let away = async || fixture.refused(fixture.ask("POST", "/input/instance-2").json(&input)).await;
    problem_part(&away().await, 502, "does not answer");
    let mut again = away().await;
    for _ in 0..10 {
        again = away().await;
    }
    problem_part(&again, 503, "did not answer lately");
}

#[tokio::test]
async fn logs_and_evidence_are_passed_on() {
    let fixture = start().await;
    let lines = fixture.get("/api/logs/instance-0?tail=5").await;
    assert_eq!(lines, json!([{"source": "guest", "at_ms": 1, "text": "one"}]));
    let followed = fixture.ask("GET", "/api/logs/instance-0?follow=true&for_s=2").send().await.expect("answer");
    assert_eq!(followed.headers()["content-type"], "text/event-stream");
    let text = followed.text().await.expect("it ends");
    assert!(text.contains("event: line") && text.contains("\"text\":\"two\""), "{text}");
    assert_eq!(fixture.agents[0].heard(), ["GET /logs?tail=5", "GET /logs?tail=100&follow=true"]);
    for (file, kind) in
        [("screenshot.png", "image/png"), ("qmp.json", "application/json"), ("log.txt", "text/plain; charset=utf-8")]
    {
        let answer = fixture.ask("GET", &format!("/api/evidence/instance-0/a1/{file}")).send().await.expect("answer");
        assert_eq!((answer.status().as_u16(), &answer.headers()["content-type"]), (200, &kind.parse().expect("value")));
        assert!(answer.headers()["content-security-policy"].to_str().expect("text").contains("sandbox"));
        assert_eq!(answer.text().await.expect("text"), format!("<b>{file}</b>"));
    }
    problem_part(
        &fixture.refused(fixture.ask("GET", "/api/evidence/instance-0/a2/log.txt")).await,
        404,
        "no such attempt",
    );
    problem_part(&fixture.refused(fixture.ask("GET", "/api/logs/instance-7")).await, 404, "instance-7");
    problem_part(&fixture.refused(fixture.ask("GET", "/api/logs/instance-2")).await, 502, "does not answer");
}

#[tokio::test]
async fn configurations_are_typed_and_kept() {
    let fixture = start().await;
    let put = |name: &str, body: Value| fixture.ask("PUT", &format!("/api/config/{name}")).json(&body);
    let set = put("use", json!({"maxFps": 5})).send().await.expect("answer").json::<Value>().await.expect("JSON");
    assert_eq!(set["maxFps"], 5);
    assert_eq!(fixture.get("/api/config/use").await, set);
    for name in ["recovery", "history", "checks", "alerts", "use", "limits"] {
        assert!(fixture.get(&format!("/api/config/{name}")).await.is_object(), "{name}");
        let (status, detail) = fixture.refused(put(name, json!({"surplus": 1}))).await;
        assert!(status == 422 && detail.contains("surplus"), "{name}: {detail}");
    }
    problem_part(&fixture.refused(put("use", json!({"maxFps": 61}))).await, 422, "1 to 60");
    assert_eq!(fixture.get("/api/config/use").await, set, "what is refused changes nothing");
}

#[tokio::test]
async fn history_trends_and_alerts_are_bounded() {
    let fixture = start().await;
    let history = |query: &str| format!("/api/history/instance-0?{query}");
    let got = fixture.get(&history("metric=frame_rate")).await;
    assert_eq!(
        (&got["metric"], &got["unit"], &got["instanceId"]),
        (&json!("frame_rate"), &json!("fps"), &json!("instance-0"))
    );
    for query in
        ["metric=rtt&from_ms=9&to_ms=5", "metric=rtt&to_ms=0", "metric=rtt&from_ms=0&to_ms=8640000000000000&step_ms=1"]
    {
        assert_eq!(fixture.get(&history(query)).await["points"], json!([]), "{query}");
    }
    for (query, part) in [
        ("", "metric"),
        ("metric=../x", "unknown metric"),
        ("metric=rtt&from_ms=-1", "from_ms"),
        ("metric=rtt&to_ms=8640000000000001", "allowed are"),
        ("metric=rtt&step_ms=x", "step_ms"),
        ("metric=rtt&other=1", "other"),
    ] {
        problem_part(&fixture.refused(fixture.ask("GET", &history(query))).await, 400, part);
    }
    assert!(fixture.get("/api/trends/instance-0").await.is_array());
    assert!(fixture.get("/api/alerts?limit=3").await.is_array());
    problem_part(&fixture.refused(fixture.ask("GET", "/api/alerts?limit=201")).await, 400, "0 to 200");
}

#[tokio::test]
async fn the_process_tells_how_it_is() {
    let fixture = start().await;
    let open = |path: &str| fixture.http.get(fixture.url(path)).send();
    for (path, status) in [("/health", "ok"), ("/ready", "ready")] {
        let answer = open(path).await.expect("answer");
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.json::<Value>().await.expect("JSON"), json!({"status": status}));
    }
    fixture.get("/api/instances").await;
    let metrics = open("/metrics").await.expect("answer");
    assert!(metrics.headers()["content-type"].to_str().expect("text").starts_with("application/openmetrics-text"));
    let text = metrics.text().await.expect("text");
    assert!(text.contains("route=\"/api/instances\"") && text.ends_with("# EOF\n"), "{text}");
    let served = fixture.ask("GET", "/api/openapi.json").send().await.expect("answer").text().await.expect("text");
    assert!(served == loco_control::openapi_json());
}

/// A provider that has not listed anything yet is a dependency that is down.
#[tokio::test]
async fn without_a_list_it_is_not_ready() {
    struct Silent;
    #[async_trait::async_trait]
    impl loco_control::Provider for Silent {
        async fn run(
            self: Box<Self>,
            changes: tokio::sync::mpsc::Sender<loco_control::Change>,
            stop: tokio_util::sync::CancellationToken,
        ) {
            stop.cancelled().await;
            drop(changes);
        }
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    loco_http::Token::create_file(&dir.path().join("token")).expect("token");
    let config = loco_control::ControlConfig {
        listen: "127.0.0.1:0".parse().expect("address"),
        token_file: dir.path().join("token"),
        allow_hosts: Vec::new(),
        allow_origins: Vec::new(),
        state_dir: None,
        recover: false,
    };
    let plane = loco_control::ControlPlane::start(config, Box::new(Silent)).await.expect("start");
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().expect("client");
    let answer = http.get(format!("{}/ready", plane.url())).send().await.expect("answer");
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await.expect("text").contains("has not listed"));
    plane.stop().await;
}
