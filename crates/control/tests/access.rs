//! Who may ask the control plane for what, and what is answered to what nobody may.

mod common;

use common::{operations, start};
use serde_json::json;
use std::collections::BTreeSet;

const OPEN: [&str; 4] = ["/health", "/ready", "/metrics", "/api/login"];

#[tokio::test]
async fn every_operation_refuses_wrong_tokens() {
    let fixture = start().await;
    for (method, path) in operations() {
        for header in [None, Some("Bearer wrong"), Some("Bearer "), Some("Basic dTpw"), Some("ooo")] {
            let method = method.parse::<reqwest::Method>().expect("method");
            let request = fixture.http.request(method.clone(), fixture.url(&path));
            let request = header.into_iter().fold(request, |request, header| request.header("authorization", header));
            if path == "/api/login" {
                assert_eq!(fixture.refused(request).await.0, 401, "{header:?}");
            } else if OPEN.contains(&path.as_str()) {
                assert_eq!(request.send().await.expect("answer").status(), 200, "{path}");
            } else {
                assert_eq!(fixture.refused(request).await.0, 401, "{method} {path} {header:?}");
            }
        }
    }
    assert!(fixture.agents[0].heard().is_empty(), "nothing came through: {:?}", fixture.agents[0].heard());
}

/// The table of roles, as a person would write it.
#[tokio::test]
async fn every_operation_has_its_role() {
    let fixture = start().await;
    let play = BTreeSet::from(["POST /input/instance-0", "POST /api/active", "POST /api/instances/instance-0/input"]);
    let view = BTreeSet::from(["PUT /api/viewers/v1", "DELETE /api/viewers/v1", "POST /api/logout", "POST /api/login"]);
    for (method, path) in operations() {
        let operation = format!("{method} {path}");
        let needed = match &operation {
            operation if play.contains(operation.as_str()) => 1,
            operation if method == "GET" || view.contains(operation.as_str()) => 0,
            _ => 2,
        };
        for (strength, token) in ["vvv", "ppp"].into_iter().enumerate() {
            let path = if path == "/api/events" { "/api/events?for_s=0" } else { &path };
            let method = method.parse::<reqwest::Method>().expect("method");
            let request = fixture.http.request(method, fixture.url(path)).bearer_auth(token);
            if strength < needed {
                let (status, detail) = fixture.refused(request).await;
                let named = ["view", "play", "operate"][needed];
                assert!(status == 403 && detail.contains(&format!("needs the role {named}")), "{operation}: {detail}");
            } else {
                let status = request.send().await.expect("answer").status();
                assert!(status != 401 && status != 403, "{operation} with {token}: {status}");
            }
        }
    }
}

#[tokio::test]
async fn methods_that_a_path_does_not_take_are_named() {
    let fixture = start().await;
    let all = operations();
    let paths: BTreeSet<&String> = all.iter().map(|(_, path)| path).collect();
    for path in paths {
        let taken: BTreeSet<&str> =
            all.iter().filter(|(_, other)| other == path).map(|(method, _)| method.as_str()).collect();
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY"] {
            if taken.contains(method) {
                continue;
            }
            let answer = fixture.ask(method, path).send().await.expect("answer");
            assert_eq!(answer.status(), 405, "{method} {path}");
            let allowed = answer.headers()["allow"].to_str().expect("text").to_owned();
            let allowed: BTreeSet<&str> =
                allowed.split(',').map(str::trim).filter(|method| *method != "HEAD").collect();
            assert_eq!(allowed, taken, "{path}");
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
        }
    }
}

#[tokio::test]
async fn no_path_leads_out_of_its_place() {
    let fixture = start().await;
    let long = format!("/api/quality/deep-health/{}", "x".repeat(5_000));
    for path in [
        "/api/quality/deep-health/..%2f..%2fetc%2fpasswd",
        "/api/quality/deep-health/instance-0%2f..",
        "/api/quality/deep-health/instance-00",
        "/api/quality/deep-health/instance-4096",
        "/api/quality/deep-health/instance-7",
        "/api/quality/deep-health/instance-0%00",
        "/api/quality/deep-health/%ff",
        "/api/quality/deep-health/INSTANCE-0",
        long.as_str(),
        "/api/logs/..%2finstance-0",
        "/api/history/instance-7?metric=rtt",
        "/api/trends/instance-7",
        "/api/evidence/instance-0/..%2fa1/log.txt",
        "/api/evidence/instance-0/..%2f..%2f..%2fetc/passwd",
        "/api/evidence/instance-0/a1/..%2f..%2ftoken",
        "/api/evidence/instance-0/a1/log.txt%00.png",
        "/api/evidence/instance-0/%2e%2e%2f/log.txt",
        "/api/config/..%2f..%2ftoken",
        "/api/config/..%252f..%252ftoken",
        "/api/config/RECOVERY",
        "/api/instances/instance-7/snapshots",
        "/api/instances/..%2fx/snapshots",
        "/api/%2e%2e/token",
        "/token",
        "//etc/passwd",
    ] {
        let (status, _) = fixture.refused(fixture.ask("GET", path)).await;
        assert_eq!(status, 404, "{path}");
    }
    for (method, path) in [
        ("DELETE", "/api/instances/instance-0/snapshots/..%2f..%2fledger"),
        ("DELETE", "/api/instances/instance-0/snapshots/.hidden"),
        ("DELETE", "/api/instances/instance-0/snapshots/a%3Fb"),
        ("DELETE", "/api/viewers/..%2fv"),
        ("POST", "/api/instances/instance-0%2fpause%3f/pause"),
        ("POST", "/api/quality/recover/..%2finstance-0"),
    ] {
        assert_eq!(fixture.refused(fixture.ask(method, path)).await.0, 404, "{method} {path}");
    }
    assert!(fixture.agents[0].heard().is_empty(), "{:?}", fixture.agents[0].heard());
    let (_, detail) = fixture.refused(fixture.ask("GET", "/api/config/secrets")).await;
    assert!(detail.contains("\"secrets\"") && detail.contains("recovery"), "{detail}");
}

#[tokio::test]
async fn bodies_are_bounded_declared_and_typed() {
    let fixture = start().await;
    for path in
        ["/api/active", "/input/instance-0", "/api/instances/instance-0/input", "/api/quality/recover/instance-0"]
    {
        let post = || fixture.ask("POST", path);
        let json = |body: &str| post().header("content-type", "application/json").body(body.to_owned());
        for (status, request) in [
            (413, json(&" ".repeat(70_000))),
            (415, post().body("{}")),
            (415, post().header("content-type", "text/plain").body("{}")),
            (400, json("{")),
            (400, json("\u{0}")),
            (422, json("[]")),
            (422, json("7")),
            (422, json(r#"{"surplus": 1}"#)),
        ] {
            let (got, detail) = fixture.refused(request).await;
            assert_eq!(got, status, "{path}: {detail}");
        }
    }
    let body = json!({"events": [{"type": "key", "code": "KeyA", "pressed": 3}]});
    let (status, detail) = fixture.refused(fixture.ask("POST", "/input/instance-0").json(&body)).await;
    assert_eq!(status, 422);
    assert!(detail.contains("integer `3`, expected a boolean"), "{detail}");
    // Each names the parameter, its value and what is allowed.
    for (query, told) in [
        ("tail=1001", "tail: \"1001\": allowed are whole numbers of 0 to 1000"),
        ("tail=-1", "tail: \"-1\": allowed are whole numbers of 0 to 1000"),
        ("tail=x", "tail: \"x\": allowed are whole numbers of 0 to 1000"),
        ("tail=", "tail: \"\": allowed are whole numbers of 0 to 1000"),
        ("follow=maybe", "follow: \"maybe\": allowed are true and false"),
        ("tail=1&tail=2", "tail"),
        ("other=1", "other"),
        ("for_s=1e3", "for_s: \"1e3\": allowed are whole numbers of 0 to 86400"),
    ] {
        let (status, detail) = fixture.refused(fixture.ask("GET", &format!("/api/logs/instance-0?{query}"))).await;
        assert_eq!(status, 400, "{query}");
        assert!(detail.contains(told), "{query}: {detail}");
    }
}

#[tokio::test]
async fn what_is_refused_is_counted_too() {
    let fixture = start().await;
    let without = fixture.http.get(fixture.url("/api/instances"));
    let weak = fixture.http.post(fixture.url("/api/instances/refresh")).bearer_auth("vvv");
    let long = fixture.ask("POST", "/api/active").header("content-type", "application/json").body(" ".repeat(70_000));
    for (request, status) in [(without, 401), (weak, 403), (long, 413)] {
        assert_eq!(fixture.refused(request).await.0, status);
    }
    let text = fixture.ask("GET", "/metrics").send().await.expect("answer").text().await.expect("text");
    for labels in [
        "method=\"GET\",route=\"/api/instances\",status=\"401\"",
        "method=\"POST\",route=\"/api/instances/refresh\",status=\"403\"",
        "method=\"POST\",route=\"/api/active\",status=\"413\"",
    ] {
        let line = format!("loco_control_http_request_duration_seconds_count{{{labels}}} 1");
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn browsers_log_in_and_out() {
    let fixture = start().await;
    let login = |body: serde_json::Value| fixture.http.post(fixture.url("/api/login")).json(&body);
    assert_eq!(fixture.refused(login(json!({"token": "wrong"}))).await.0, 401);
    assert_eq!(fixture.refused(login(json!({"token": "x".repeat(1_025)}))).await.0, 422);
    assert_eq!(fixture.refused(login(json!({"other": "ppp"}))).await.0, 422);
    assert_eq!(fixture.refused(fixture.http.post(fixture.url("/api/login"))).await.0, 401);
    let answer = login(json!({"token": "ppp"})).send().await.expect("answer");
    let cookie = answer.headers()["set-cookie"].to_str().expect("text").to_owned();
    assert_eq!(answer.json::<serde_json::Value>().await.expect("JSON"), json!({"role": "play"}));
    let cookie = cookie.split(';').next().expect("cookie").to_owned();
    let with_cookie = |method: &str, path: &str| {
        let method = method.parse::<reqwest::Method>().expect("method");
        fixture.http.request(method, fixture.url(path)).header("cookie", &cookie)
    };
    let set = with_cookie("POST", "/api/active").json(&json!({"id": "instance-0"}));
    assert_eq!(set.send().await.expect("answer").status(), 200);
    let (status, detail) = fixture.refused(with_cookie("POST", "/api/instances/refresh")).await;
    assert!(status == 403 && detail.contains("operate"), "{detail}");
    // A page of another site makes the browser send the cookie nowhere, and its origin is refused anyway.
    let foreign = with_cookie("GET", "/api/active").header("origin", "https://evil.example");
    assert_eq!(fixture.refused(foreign).await.0, 403);
    assert_eq!(with_cookie("POST", "/api/logout").send().await.expect("answer").status(), 204);
    assert_eq!(fixture.refused(with_cookie("GET", "/api/active")).await.0, 401);
    // The header does as well as the body.
    let by_header = fixture.http.post(fixture.url("/api/login")).bearer_auth("vvv").send().await.expect("answer");
    assert_eq!(by_header.json::<serde_json::Value>().await.expect("JSON"), json!({"role": "view"}));
}
