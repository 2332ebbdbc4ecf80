//! Who may do what, over real sockets: roles, cookies, WebSockets, ids of requests.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use loco_http::trace::REQUEST_ID_HEADER;
use loco_http::websocket::{SUBPROTOCOL, token_subprotocol};
use loco_http::{Access, Client, Guard, Limits, Login, RequestId, Role, Server, TokenFile, bearer, event_response};
use loco_model::problem::Problem;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_util::sync::CancellationToken;

struct Fixture {
    address: SocketAddr,
    http: reqwest::Client,
    dir: tempfile::TempDir,
    stop: CancellationToken,
}

fn write_tokens(path: &Path, text: &str) {
    use std::io::Write as _;
    let next = path.with_extension("next");
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next).expect("file");
    file.write_all(text.as_bytes()).expect("write");
    std::fs::rename(next, path).expect("rename");
}

async fn log_in(
    State(login): State<Login>,
    headers: HeaderMap,
) -> Result<([(&'static str, axum::http::HeaderValue); 1], &'static str), loco_http::Failure> {
    let token = headers.get("authorization").and_then(bearer).unwrap_or_default();
    let (cookie, role) = login.begin(&headers, token)?;
    Ok(([("set-cookie", cookie)], role.as_str()))
}

async fn log_out(State(login): State<Login>, headers: HeaderMap) -> [(&'static str, axum::http::HeaderValue); 1] {
    [("set-cookie", login.end(&headers))]
}

async fn socket(Extension(role): Extension<Role>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    assert!(!format!("{headers:?}").contains("loco.token"), "the token is hidden from handlers");
    upgrade.protocols([SUBPROTOCOL]).on_upgrade(move |mut socket| async move {
        let _ = socket.send(role.as_str().into()).await;
    })
}

/// An event every 10 ms, for ever.
async fn ticks() -> Response {
    let ticks = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Some((("tick", ()), ()))
    });
    event_response(ticks, CancellationToken::new())
}

/// Says what role is still there, whenever something is said to it.
async fn lasting(Extension(access): Extension<Access>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.protocols([SUBPROTOCOL]).on_upgrade(async move |mut socket| {
        while let Some(Ok(_)) = socket.recv().await {
            let role = access.role().map_or("none", Role::as_str);
            let _ = socket.send(role.into()).await;
        }
    })
}

/// Another server, asked on behalf of a request: says the id that it is asked with.
async fn relay(State(dir): State<PathBuf>, headers: HeaderMap) -> String {
    let tokens = TokenFile::open(&dir.join("token")).expect("tokens");
    let client = Client::new(tokens).expect("client");
    let host = headers["host"].to_str().expect("host");
    let url = format!("http://{host}/id");
    let answer = client.fetch(client.request(Method::GET, &url), &url, 100).await.expect("answer");
    String::from_utf8(answer.body).expect("text")
}

async fn start() -> Fixture {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("token");
    write_tokens(&path, "view vvv\nplay ppp\noperate ooo\n");
    let guard = Guard::new(TokenFile::open(&path).expect("tokens"))
        .open_path("/login")
        .role(Method::POST, "/play", Role::Play)
        .role(Method::POST, "/logout", Role::View);
    let login = Router::new().route("/login", post(log_in)).route("/logout", post(log_out)).with_state(guard.login());
    let routes = Router::new()
        .route("/role", get(|Extension(role): Extension<Role>| async move { Json(role.as_str()) }))
        .route("/play", post(|| async {}))
        .route("/operate", post(|| async {}))
        .route("/id", get(|Extension(id): Extension<RequestId>| async move { id.as_str().to_owned() }))
        .route("/relay", get(relay))
        .route("/socket", get(socket))
        .route("/ticks", get(ticks))
        .route("/lasting", get(lasting))
        .with_state(dir.path().to_owned())
        .merge(login);
    let server = Server::bind("127.0.0.1:0".parse().expect("address")).await.expect("bind");
    let (address, stop) = (server.address(), CancellationToken::new());
    tokio::spawn(server.serve(guard.protect(routes, Limits::default()), stop.clone()));
    let http = reqwest::Client::builder().no_proxy().build().expect("client");
    Fixture { address, http, dir, stop }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Fixture {
    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.address))
    }

    async fn status(&self, request: reqwest::RequestBuilder) -> StatusCode {
        request.send().await.expect("an answer").status()
    }

    /// The role that a WebSocket has, and the subprotocol that was answered; or the status that it was refused with.
    async fn socket(&self, headers: &[(&'static str, &str)]) -> Result<(String, Option<String>), u16> {
        let mut request = format!("ws://{}/socket", self.address).into_client_request().expect("request");
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().expect("value"));
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((mut socket, response)) => {
                use futures::StreamExt as _;
                let protocol = response.headers().get("sec-websocket-protocol");
                let protocol = protocol.map(|value| value.to_str().expect("text").to_owned());
                let message = socket.next().await.expect("a message").expect("a message");
                Ok((message.to_text().expect("text").to_owned(), protocol))
            }
            Err(WsError::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn each_role_may_what_it_may_and_a_refusal_names_the_needed_one() {
    let fixture = start().await;
    for (token, role, play, operate) in
        [("vvv", "view", 403, 403), ("ppp", "play", 200, 403), ("ooo", "operate", 200, 200), ("view vvv", "", 401, 401)]
    {
        let ask = |method, path| fixture.request(method, path).bearer_auth(token);
        if !role.is_empty() {
            let answer = ask(Method::GET, "/role").send().await.expect("answer");
            assert_eq!(answer.json::<String>().await.expect("role"), role);
        }
        assert_eq!(fixture.status(ask(Method::POST, "/play")).await, play, "{token}");
        assert_eq!(fixture.status(ask(Method::POST, "/operate")).await, operate, "{token}");
    }
    let refused = fixture.request(Method::POST, "/operate").bearer_auth("ppp").send().await.expect("answer");
    assert!(!refused.headers().contains_key("www-authenticate"), "another token of the same kind does not help");
    let problem: Problem = refused.json().await.expect("problem");
    let detail = problem.detail.expect("detail");
    assert!(detail.contains("needs the role operate") && detail.contains("has the role play"), "{detail}");
}

#[tokio::test]
async fn a_cookie_stands_for_its_token_until_logout_or_rotation() {
    let fixture = start().await;
    assert_eq!(fixture.status(fixture.request(Method::POST, "/login").bearer_auth("wrong")).await, 401);
    let answer = fixture.request(Method::POST, "/login").bearer_auth("ppp").send().await.expect("answer");
    assert_eq!(answer.status(), 200);
    let set = answer.headers()["set-cookie"].to_str().expect("text").to_owned();
    assert!(set.contains("; HttpOnly; SameSite=Strict") && !set.contains("ppp") && !set.contains("Secure"), "{set}");
    let cookie = set.split(';').next().expect("cookie").to_owned();
    let with_cookie = |method, path| fixture.request(method, path).header("cookie", &cookie);
    assert_eq!(fixture.status(with_cookie(Method::POST, "/play")).await, 200);
    assert_eq!(fixture.status(with_cookie(Method::POST, "/operate")).await, 403);
    // A page of the same machine on another port makes the browser send it, but is not ours.
    for (site, want) in [("same-origin", 200), ("none", 200), ("same-site", 401), ("cross-site", 401)] {
        let request = with_cookie(Method::GET, "/role").header("sec-fetch-site", site);
        assert_eq!(fixture.status(request).await, want, "{site}");
    }
    // A wrong header is not made good by a cookie.
    assert_eq!(fixture.status(with_cookie(Method::GET, "/role").bearer_auth("wrong")).await, 401);
    assert_eq!(fixture.socket(&[("cookie", &cookie)]).await, Ok(("play".into(), None)));
    let gone = with_cookie(Method::POST, "/logout").send().await.expect("answer");
    assert!(gone.headers()["set-cookie"].to_str().expect("text").contains("Max-Age=0"));
    assert_eq!(fixture.status(with_cookie(Method::GET, "/role")).await, 401);

    let answer = fixture.request(Method::POST, "/login").bearer_auth("ooo").send().await.expect("answer");
    let set = answer.headers()["set-cookie"].to_str().expect("text").to_owned();
    let cookie = set.split(';').next().expect("cookie").to_owned();
    let with_cookie = || fixture.request(Method::GET, "/role").header("cookie", &cookie);
    write_tokens(&fixture.dir.path().join("token"), "view vvv\noperate ooo\n");
    assert_eq!(fixture.status(with_cookie()).await, 200, "its token stays");
    write_tokens(&fixture.dir.path().join("token"), "view vvv\noperate new\n");
    assert_eq!(fixture.status(with_cookie()).await, 401, "its token went");
}

#[tokio::test]
async fn a_stream_ends_with_its_token_or_session() {
    let fixture = start().await;
    let path = fixture.dir.path().join("token");
    let answer = fixture.request(Method::POST, "/login").bearer_auth("ooo").send().await.expect("answer");
    let set = answer.headers()["set-cookie"].to_str().expect("text").to_owned();
    let cookie = set.split(';').next().expect("cookie").to_owned();
    let open = async |request: reqwest::RequestBuilder| {
        let mut stream = request.send().await.expect("answer");
        assert_eq!(stream.status(), 200);
        assert!(stream.chunk().await.expect("whole").is_some());
        stream
    };
    let ends = async |mut stream: reqwest::Response, why: &str| {
        let end = async { while stream.chunk().await.expect("it ends as it should").is_some() {} };
        assert!(tokio::time::timeout(Duration::from_secs(30), end).await.is_ok(), "{why}");
    };
    let ticks = || fixture.request(Method::GET, "/ticks");
    let by_token = open(ticks().bearer_auth("ppp")).await;
    let by_cookie = open(ticks().header("cookie", &cookie)).await;
    let mut stays = open(ticks().bearer_auth("vvv")).await;
    let gone = fixture.request(Method::POST, "/logout").header("cookie", &cookie).send().await.expect("answer");
    assert_eq!(gone.status(), 200);
    ends(by_cookie, "logged out").await;
    let mut request = format!("ws://{}/lasting", fixture.address).into_client_request().expect("request");
    request.headers_mut().insert("authorization", "Bearer ppp".parse().expect("value"));
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("open");
    let mut role = async || {
        use futures::{SinkExt as _, StreamExt as _};
        socket.send("?".into()).await.expect("sent");
        socket.next().await.expect("a message").expect("a message").to_text().expect("text").to_owned()
    };
    assert_eq!(role().await, "play");
    write_tokens(&path, "view vvv\nplay new\noperate ooo\n");
    ends(by_token, "rotated").await;
    assert_eq!(role().await, "none");
    for _ in 0..3 {
        assert!(stays.chunk().await.expect("whole").is_some(), "its token is current");
    }
    // The same token with another role is current, too.
    write_tokens(&path, "view ppp\noperate ooo\n");
    assert_eq!(role().await, "view");
    ends(stays, "rotated").await;
}

#[tokio::test]
async fn websockets_show_their_token_by_header_or_subprotocol() {
    let fixture = start().await;
    let carried = |token: &str| format!("loco, {}", token_subprotocol(token));
    assert_eq!(fixture.socket(&[("authorization", "Bearer vvv")]).await, Ok(("view".into(), None)));
    let by_protocol = fixture.socket(&[("sec-websocket-protocol", &carried("ooo"))]).await;
    assert_eq!(by_protocol, Ok(("operate".into(), Some("loco".into()))), "the token is not echoed");
    for wrong in
        [vec![], vec![("sec-websocket-protocol", carried("wrong"))], vec![("sec-websocket-protocol", "loco".into())]]
    {
        let headers: Vec<(&str, &str)> = wrong.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(fixture.socket(&headers).await, Err(401), "{wrong:?}");
    }
    let elsewhere = fixture.request(Method::GET, "/role").header("sec-websocket-protocol", carried("ooo"));
    assert_eq!(fixture.status(elsewhere).await, 401, "only WebSockets may");
}

#[tokio::test]
async fn each_answer_carries_its_request_s_id() {
    let fixture = start().await;
    let ask = |path| fixture.request(Method::GET, path).bearer_auth("vvv");
    let answer = ask("/id").header(REQUEST_ID_HEADER, "from-me.1").send().await.expect("answer");
    assert_eq!(answer.headers()[REQUEST_ID_HEADER], "from-me.1");
    assert_eq!(answer.text().await.expect("text"), "from-me.1");
    // Also what is asked of others, and what is refused.
    let relayed = ask("/relay").header(REQUEST_ID_HEADER, "from-me.2").send().await.expect("answer");
    assert_eq!(relayed.text().await.expect("text"), "from-me.2");
    let refused = fixture.request(Method::GET, "/nothing").send().await.expect("answer");
    assert!(refused.headers().contains_key(REQUEST_ID_HEADER));
    for bad in ["a b", "{}", &"x".repeat(65)] {
        let answer = ask("/id").header(REQUEST_ID_HEADER, bad).send().await.expect("answer");
        let id = answer.headers()[REQUEST_ID_HEADER].to_str().expect("text").to_owned();
        assert!(id != bad && id.len() == 16, "{id}");
    }
}
