//! A real server over real sockets: who gets in, what is answered, what is bounded, how it stops.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use axum::extract::Json;
use axum::routing::{get, post};
use axum::{Router, http::StatusCode};

use loco_http::{BindError, Client, ClientError, Failure, Guard, Limits, Server, Token, TokenFile};
use loco_model::problem::{CONTENT_TYPE, Problem};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const LIMITS: Limits = Limits { body_bytes: 1000, body_timeout: Duration::from_millis(300) };

struct Fixture {
    address: SocketAddr,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
    client: Client,
    authorization: String,
    dir: tempfile::TempDir,
}

async fn start() -> Fixture {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("token");
    let token = Token::create_file(&path).expect("token file");
    let tokens = TokenFile::open(&path).expect("token file");
    let routes = Router::new()
        .route("/health", get(|| async { (StatusCode::SERVICE_UNAVAILABLE, Json(serde_json::json!({"ok": false}))) }))
        .route("/page", get(|| async { "page" }))
        .route("/sum", post(|Json(numbers): Json<Vec<u32>>| async move { Json(numbers.iter().sum::<u32>()) }))
        .route("/fail", get(|| async { Failure::unavailable("not yet") }))
        .route("/slow", get(|| async { tokio::time::sleep(Duration::from_millis(400)).await }))
        .route("/for-ever", get(std::future::pending::<()>));
    let guard = Guard::new(tokens.clone())
        .open_path("/page")
        .allow_hosts(["loco.example".parse().expect("host")])
        .allow_origins(["https://pages.example".parse().expect("origin")]);
    let server = Server::bind("127.0.0.1:0".parse().expect("address")).await.expect("bind");
    let (address, stop) = (server.address(), CancellationToken::new());
    let served = tokio::spawn(server.serve(guard.protect(routes, LIMITS), stop.clone()));
    let client = Client::new(tokens).expect("client");
    Fixture { address, stop, served, client, authorization: token.authorization(), dir }
}

/// Sends raw bytes and reads until the server closes or answers completely.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text + "\r\n"
}

fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {answer:?}"))
}

fn problem_of(answer: &str) -> Problem {
    assert!(answer.to_ascii_lowercase().contains(&format!("content-type: {CONTENT_TYPE}")), "{answer}");
    let body = answer.split_once("\r\n\r\n").expect("body").1;
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body:?}"))
}

#[tokio::test]
async fn only_the_current_token_opens() {
    let fixture = start().await;
    let host = ("host", "127.0.0.1");
    for path in ["/sum", "/fail", "/nothing", "/health/", "/metrics/x", "//health"] {
        for headers in [
            vec![host],
            vec![host, ("authorization", "Bearer wrong")],
            vec![host, ("authorization", "Bearer ")],
            vec![host, ("authorization", "Basic dTpw")],
            vec![host, ("authorization", &fixture.authorization[7..])],
            vec![host, ("authorization", &fixture.authorization), ("authorization", &fixture.authorization)],
        ] {
            let answer = raw(fixture.address, &request("GET", path, &headers)).await;
            assert_eq!(status_of(&answer), 401, "{path} {headers:?}: {answer}");
            assert!(answer.to_ascii_lowercase().contains("www-authenticate: bearer"), "{answer}");
            assert_eq!(problem_of(&answer).status, 401);
        }
    }
    let old = fixture.authorization.clone();
    let allowed = request("GET", "/fail", &[host, ("authorization", &old)]);
    assert_eq!(status_of(&raw(fixture.address, &allowed).await), 503);
    // Rotated: the old one no longer opens, the new one does.
    let next = fixture.dir.path().join("next");
    let token = Token::create_file(&next).expect("token file");
    std::fs::rename(next, fixture.dir.path().join("token")).expect("rename");
    assert_eq!(status_of(&raw(fixture.address, &allowed).await), 401);
    let renewed = request("GET", "/fail", &[host, ("authorization", &token.authorization())]);
    assert_eq!(status_of(&raw(fixture.address, &renewed).await), 503);
    // The client follows the file too.
    let url = format!("http://{}/fail", fixture.address);
    let error = fixture.client.get_json::<()>(&url).await.expect_err("503");
    assert!(matches!(error, ClientError::Refused { status: StatusCode::SERVICE_UNAVAILABLE, .. }), "{error}");
    assert!(error.to_string().contains("not yet"), "{error}");
}

#[tokio::test]
async fn open_paths_need_no_token_and_json_bodies_stay() {
    let fixture = start().await;
    let answer = raw(fixture.address, &request("GET", "/health", &[("host", "localhost")])).await;
    assert_eq!(status_of(&answer), 503);
    assert!(answer.ends_with(r#"{"ok":false}"#), "{answer}");
    let answer = raw(fixture.address, &request("GET", "/page", &[("host", "[::1]:80")])).await;
    assert_eq!(status_of(&answer), 200);
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused() {
    let fixture = start().await;
    let cases: &[(u16, &[(&str, &str)])] = &[
        (200, &[("host", "127.0.0.1:1")]),
        (200, &[("host", "127.9.9.9")]),
        (200, &[("host", "loco.example:8080")]),
        (200, &[("host", "LOCO.example")]),
        (421, &[("host", "evil.example")]),
        (421, &[("host", "10.0.0.1")]),
        (421, &[("host", "localhost.evil.example")]),
        (400, &[("host", "a b")]),
        (400, &[("host", "")]),
        (400, &[]),
        (400, &[("host", "localhost"), ("host", "evil.example")]),
        (200, &[("host", "localhost:8080"), ("origin", "http://localhost:8080")]),
        (200, &[("host", "localhost"), ("origin", "https://pages.example")]),
        (403, &[("host", "localhost:8080"), ("origin", "http://localhost:8081")]),
        (403, &[("host", "localhost"), ("origin", "https://evil.example")]),
        (403, &[("host", "localhost"), ("origin", "null")]),
        (403, &[("host", "localhost"), ("origin", "https://pages.example.evil")]),
    ];
    for (want, headers) in cases {
        let answer = raw(fixture.address, &request("GET", "/page", headers)).await;
        assert_eq!(status_of(&answer), *want, "{headers:?}: {answer}");
        let cors = answer.to_ascii_lowercase().contains("access-control-allow-origin");
        assert_eq!(cors, *want == 200 && headers.len() == 2, "{headers:?}: {answer}");
        if *want != 200 {
            problem_of(&answer);
        }
    }
}

#[tokio::test]
async fn preflights_are_answered_for_allowed_origins_only() {
    let fixture = start().await;
    let preflight =
        |origin: &'static str| [("host", "localhost"), ("origin", origin), ("access-control-request-method", "POST")];
    let answer = raw(fixture.address, &request("OPTIONS", "/sum", &preflight("https://pages.example"))).await;
    assert_eq!(status_of(&answer), 204);
    let lower = answer.to_ascii_lowercase();
    assert!(lower.contains("access-control-allow-headers: authorization, content-type"), "{answer}");
    assert!(lower.contains("access-control-allow-origin: https://pages.example"), "{answer}");
    let answer = raw(fixture.address, &request("OPTIONS", "/sum", &preflight("https://evil.example"))).await;
    assert_eq!(status_of(&answer), 403);
    let answer = raw(fixture.address, &request("OPTIONS", "/sum", &[("host", "localhost")])).await;
    assert_eq!(status_of(&answer), 401, "an OPTIONS request that is no preflight needs the token");
}

#[tokio::test]
async fn every_error_is_a_problem_that_says_what_is_wrong() {
    let fixture = start().await;
    let url = |path: &str| format!("http://{}{path}", fixture.address);
    let long = format!("[{}]", "1,".repeat(600));
    for (method, path, kind, body, status, detail) in [
        ("GET", "/nothing", "", "", 404, "nothing at this path"),
        ("DELETE", "/sum", "", "", 405, "Allow"),
        ("POST", "/sum", "text/plain", "[1]", 415, "application/json"),
        ("POST", "/sum", "application/json", "[1", 400, "EOF"),
        ("POST", "/sum", "application/json", "[-1]", 422, "-1"),
        ("POST", "/sum", "application/json", &long, 413, "1000 bytes"),
    ] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("method");
        let mut request = fixture.client.request(method, &url(path)).body(body.to_owned());
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let response = request.send().await.expect("answer");
        assert_eq!(response.status(), status, "{path} {body:?}");
        assert_eq!(response.headers()["content-type"], CONTENT_TYPE);
        assert_eq!(response.headers().contains_key("allow"), status == 405);
        let problem: Problem = response.json().await.expect("problem");
        assert_eq!(problem.status, status);
        assert!(problem.detail.as_deref().is_some_and(|text| text.contains(detail)), "{problem:?}");
    }
    let sum: u32 = fixture
        .client
        .send(fixture.client.request(reqwest::Method::POST, &url("/sum")).json(&[1, 2, 3]), &url("/sum"))
        .await
        .expect("answer")
        .json()
        .await
        .expect("number");
    assert_eq!(sum, 6);
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let fixture = start().await;
    let head = format!(
        "POST /sum HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: {}\r\ncontent-length: 500\r\n\r\n[1",
        fixture.authorization
    );
    let answer = raw(fixture.address, &head).await;
    assert_eq!(status_of(&answer), 408, "{answer}");
    assert_eq!(problem_of(&answer).status, 408);
}

/// The answer must not be lost to the reset of a connection that closes with unread bytes.
#[tokio::test]
async fn a_body_that_is_refused_unread_is_answered_all_the_same() {
    let fixture = start().await;
    let url = format!("http://{}/sum", fixture.address);
    for kilobytes in [2, 70, 300, 900].into_iter().cycle().take(40) {
        let body = vec![b' '; kilobytes * 1_000];
        let request = fixture.client.request(reqwest::Method::POST, &url);
        let response = request.header("content-type", "application/json").body(body).send().await.expect("an answer");
        assert_eq!(response.status(), 413);
        assert_eq!(response.headers()["connection"], "close", "or the client would use it once more");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let fixture = start().await;
    let error = Server::bind(fixture.address).await.expect_err("in use");
    assert!(matches!(error, BindError::InUse(_)), "{error}");
    assert!(error.to_string().contains(&fixture.address.to_string()), "{error}");
}

#[tokio::test]
async fn the_stop_lets_answers_end_but_not_for_ever() {
    let fixture = start().await;
    let ask = |path: &str| {
        let text = request("GET", path, &[("host", "localhost"), ("authorization", &fixture.authorization)]);
        tokio::spawn(raw(fixture.address, Box::leak(text.into_boxed_str())))
    };
    let (slow, endless) = (ask("/slow"), ask("/for-ever"));
    // Both requests must have arrived: a third one over the same server has been answered.
    let _ = fixture.client.get_json::<()>(&format!("http://{}/slow", fixture.address)).await;
    let slow_too = ask("/slow");
    tokio::time::sleep(Duration::from_millis(100)).await;
    fixture.stop.cancel();
    let begun = std::time::Instant::now();
    fixture.served.await.expect("the server ends");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(status_of(&slow.await.expect("task")), 200);
    assert_eq!(status_of(&slow_too.await.expect("task")), 200);
    assert_eq!(endless.await.expect("task"), "");
    assert!(TcpStream::connect(fixture.address).await.is_err(), "nobody listens any more");
}
