//! A control plane over real HTTP, with agents that say what a test wants.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(dead_code, reason = "not every test needs all of it")]

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use loco_control::{ControlConfig, ControlPlane, Fixed};
use loco_http::{Failure, Server, event_response};
use loco_model::agent::{LogLine, LogSource};
use loco_model::problem::Problem;
use loco_model::report::HealthReport;
use serde_json::{Value, json};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Longest that anything may take on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Fixture {
    pub(crate) plane: ControlPlane,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) http: reqwest::Client,
    pub(crate) agents: FakeAgents,
}

/// They end when this is dropped.
pub(crate) struct FakeAgents(Vec<FakeAgent>);

/// An agent: answers what it is asked for, and remembers it.
#[derive(Clone)]
pub(crate) struct FakeAgent {
    pub(crate) url: String,
    token: String,
    heard: Arc<Mutex<Vec<String>>>,
    pub(crate) stop: CancellationToken,
}

impl Drop for FakeAgents {
    fn drop(&mut self) {
        self.0.iter().for_each(|agent| agent.stop.cancel());
    }
}

impl std::ops::Deref for FakeAgents {
    type Target = [FakeAgent];

    fn deref(&self) -> &[FakeAgent] {
        &self.0
    }
}

impl FakeAgent {
    pub(crate) async fn start(token: &str) -> Self {
        let server = Server::bind("127.0.0.1:0".parse().expect("address")).await.expect("bind");
        let agent =
            Self { url: server.url(), token: token.to_owned(), heard: Arc::default(), stop: CancellationToken::new() };
        let routes = Router::new()
            .route("/events", get(events))
            .route("/logs", get(logs))
            .route("/evidence/{attempt}/{file}", get(evidence))
            .route("/snapshots", get(|| async { Json(json!([{"name": "fresh", "savedAtMs": 5, "bytes": 7}])) }))
            .route("/{*rest}", any(rest))
            .layer(from_fn_with_state(agent.clone(), listen))
            .with_state(agent.clone());
        tokio::spawn(server.serve(routes, agent.stop.clone()));
        agent
    }

    /// What it was asked for, but by the monitor: `METHOD path?query body`.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("lock").clone()
    }
}

async fn listen(State(agent): State<FakeAgent>, request: Request, next: Next) -> Response {
    let expected = format!("Bearer {}", agent.token);
    if request.headers().get(header::AUTHORIZATION).is_none_or(|given| given.as_bytes() != expected.as_bytes()) {
        return Failure::new(StatusCode::UNAUTHORIZED, "not my token").into_response();
    }
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.expect("body");
    let quiet = ["/events", "/ledger", "/use"].contains(&parts.uri.path());
    if !quiet {
        let text = String::from_utf8_lossy(&bytes);
        agent.heard.lock().expect("lock").push(format!("{} {} {text}", parts.method, parts.uri).trim_end().to_owned());
    }
    next.run(Request::from_parts(parts, bytes.into())).await
}

async fn events(State(agent): State<FakeAgent>) -> Response {
    let mut report = HealthReport::default();
    "running".clone_into(&mut report.deep_health.guest_state);
    report.deep_health.video.display_active = Some(true);
    report.deep_health.qemu_healthy = Some(true);
    let once = futures::stream::once(async move { ("health", report) });
    use futures::StreamExt as _;
    event_response(once.chain(futures::stream::pending()), agent.stop)
}

async fn logs(State(agent): State<FakeAgent>, request: Request) -> Response {
    let line = |text: &str| LogLine { source: LogSource::Guest, at_ms: 1, text: text.to_owned() };
    if request.uri().query().is_some_and(|query| query.contains("follow=true")) {
        use futures::StreamExt as _;
        let lines = futures::stream::iter([("line", line("one")), ("line", line("two"))]);
        return event_response(lines.chain(futures::stream::pending()), agent.stop);
    }
    Json(vec![line("one")]).into_response()
}

async fn evidence(Path((attempt, file)): Path<(String, String)>) -> Result<Response, Failure> {
    if attempt != "a1" {
        return Err(Failure::not_found("no such attempt"));
    }
    Ok(([(header::CONTENT_TYPE, "text/html")], format!("<b>{file}</b>")).into_response())
}

async fn rest(method: Method, Path(path): Path<String>, headers: HeaderMap, body: String) -> Response {
    match (method, path.as_str()) {
        (Method::GET, "ledger") => Json(json!({"attempts": [], "left": 3, "nextAtMs": null})).into_response(),
        (Method::POST, "input") if body.contains("16384") => {
            Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "events[0].dx is too far").into_response()
        }
        (Method::POST, "resume") => Failure::new(StatusCode::CONFLICT, "the guest is not paused").into_response(),
        (Method::POST, "input" | "snapshot" | "snapshot/load") => {
            assert_eq!(headers[header::CONTENT_TYPE], "application/json");
            StatusCode::NO_CONTENT.into_response()
        }
        (Method::POST, "pause") | (Method::PUT, "use") | (Method::DELETE, "snapshots/fresh") => {
            StatusCode::NO_CONTENT.into_response()
        }
        _ => Failure::not_found("there is nothing at this path").into_response(),
    }
}

fn private_file(path: &std::path::Path, text: &str) {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).expect("file");
    file.write_all(text.as_bytes()).expect("write");
}

/// A control plane with two agents, the second with a token of its own, and a third entry whose agent never answers. Its
/// tokens are `vvv`, `ppp` and `ooo` for the roles view, play and operate.
pub(crate) async fn start() -> Fixture {
    let dir = tempfile::tempdir().expect("temporary directory");
    private_file(&dir.path().join("token"), "view vvv\nplay ppp\noperate ooo\n");
    private_file(&dir.path().join("own"), "own\n");
    let agents = FakeAgents(vec![FakeAgent::start("ooo").await, FakeAgent::start("own").await]);
    let list = json!([
        {"id": "instance-0", "name": "First", "agent": agents[0].url},
        {"id": "instance-1", "agent": agents[1].url, "token_file": "own"},
        {"id": "instance-2", "agent": "http://127.0.0.1:9"},
        {"id": "instance-x", "agent": "http://127.0.0.1:9"}
    ]);
    std::fs::write(dir.path().join("instances.json"), list.to_string()).expect("write");
    let provider = Fixed::open(&dir.path().join("instances.json")).expect("list");
    let config = ControlConfig {
        listen: "127.0.0.1:0".parse().expect("address"),
        token_file: dir.path().join("token"),
        allow_hosts: Vec::new(),
        allow_origins: Vec::new(),
        state_dir: Some(dir.path().join("state")),
        recover: false,
    };
    let plane = ControlPlane::start(config, Box::new(provider)).await.expect("start");
    let http = reqwest::Client::builder().no_proxy().build().expect("client");
    let fixture = Fixture { plane, dir, http, agents };
    fixture.until_live().await;
    fixture
}

impl Fixture {
    async fn until_live(&self) {
        let mut instances = self.plane.instances();
        let ready = instances.wait_for(|instances| {
            instances.listed && instances.all.values().filter(|instance| instance.ready).count() == 2
        });
        let ready = tokio::time::timeout(PATIENCE, ready).await.expect("agents answer in time");
        ready.expect("the control plane runs");
    }

    /// Ends the control plane while its agents stay.
    pub(crate) async fn stop(self) {
        self.plane.stop().await;
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.plane.url())
    }

    /// A request with the token of the strongest role.
    pub(crate) fn ask(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).expect("method");
        self.http.request(method, self.url(path)).bearer_auth("ooo").timeout(PATIENCE)
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path).send().await.expect("answer");
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.expect("JSON")
    }

    pub(crate) async fn refused(&self, request: reqwest::RequestBuilder) -> (u16, String) {
        let answer = request.send().await.expect("answer");
        let (status, url) = (answer.status(), answer.url().clone());
        let kind = answer.headers().get("content-type").map(|kind| kind.to_str().expect("text").to_owned());
        assert_eq!(kind.as_deref(), Some("application/problem+json"), "{status} {url}");
        let problem: Problem = answer.json().await.expect("problem");
        assert_eq!(problem.status, status.as_u16());
        (status.as_u16(), problem.detail.unwrap_or_default())
    }

    /// Replaces the control plane's tokens.
    pub(crate) fn rotate(&self, tokens: &str) {
        let next = self.dir.path().join("next");
        private_file(&next, tokens);
        std::fs::rename(next, self.dir.path().join("token")).expect("rename");
    }

    pub(crate) fn instances_file(&self) -> PathBuf {
        self.dir.path().join("instances.json")
    }
}

/// Every operation of the document: method, path with values for its parameters.
pub(crate) fn operations() -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&loco_control::openapi_json()).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let mut all = Vec::new();
    for (path, item) in paths {
        let filled = path
            .replace("{id}", "instance-0")
            .replace("{viewer}", "v1")
            .replace("{name}", "fresh")
            .replace("{attempt}", "a1")
            .replace("{file}", "log.txt");
        for method in item.as_object().expect("item").keys() {
            all.push((method.to_uppercase(), filled.clone()));
        }
    }
    all
}
