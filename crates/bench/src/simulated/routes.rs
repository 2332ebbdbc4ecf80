//! What a simulated agent answers.

use super::{Shared, healthy, now_ms, stream};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use futures::StreamExt as _;
use loco_http::{Failure, event_response};
use loco_model::agent::{LogLine, LogSource, Snapshot, SnapshotOrder};
use loco_model::failure::Remedy;
use loco_model::input::{InputEvent, InputRequest, MAX_EVENTS_PER_REQUEST};
use loco_model::recovery::{Attempt, Initiator, Ledger, Outcome, RemedyOrder, left};
use loco_model::report::HealthReport;
use loco_model::usage::Use;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A picture of one pixel.
const PIXEL: &[u8] = &[
    0x89, b'P', b'N', b'G', 13, 10, 26, 10, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0,
    0x3a, 0x7e, 0x9b, 0x55, 0, 0, 0, 10, b'I', b'D', b'A', b'T', 0x78, 0x9c, 0x63, 0x60, 0, 0, 0, 2, 0, 1, 0x48, 0xaf,
    0xa4, 0x71, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

#[derive(Clone)]
struct Context {
    shared: Arc<Shared>,
    stop: CancellationToken,
}

type Asked = State<Context>;

pub(super) fn routes(shared: Arc<Shared>, stop: CancellationToken) -> Router {
    let context = Context { shared, stop };
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/startup", get(ready))
        .route("/metrics", get(async || "# no metrics here\n"))
        .route("/events", get(async |State(asked): Asked| stream::response(asked.shared, asked.stop)))
        .route("/ledger", get(ledger))
        .route("/remedy/{action}", post(remedy))
        .route("/evidence/{attempt}/{file}", get(evidence))
        .route("/use", put(use_of))
        .route("/pause", post(async |State(asked): Asked| set_state(&asked, "paused")))
        .route("/resume", post(async |State(asked): Asked| set_state(&asked, "running")))
        .route("/snapshots", get(snapshots))
        .route("/snapshot", post(snapshot))
        .route("/snapshot/load", post(load_snapshot))
        .route("/snapshots/{name}", delete(delete_snapshot))
        .route("/logs", get(logs))
        .route("/input", post(input))
        .route("/screenshot.png", get(async || ([(header::CONTENT_TYPE, "image/png")], PIXEL)))
        .layer(from_fn_with_state(context.clone(), unless_silent))
        .with_state(context)
}

/// A silent agent takes requests and does not answer.
async fn unless_silent(State(asked): Asked, request: Request, next: Next) -> Response {
    let mut silent = asked.shared.silent.subscribe();
    let speaks = tokio::select! {
        () = asked.stop.cancelled() => false,
        speaks = silent.wait_for(|silent| !silent) => speaks.is_ok(),
    };
    if speaks { next.run(request).await } else { StatusCode::SERVICE_UNAVAILABLE.into_response() }
}

async fn health(State(asked): Asked) -> Json<HealthReport> {
    Json(asked.shared.report.borrow().clone())
}

async fn ready(State(asked): Asked) -> Result<Json<Value>, Failure> {
    let state = asked.shared.report.borrow().deep_health.guest_state.clone();
    if matches!(state.as_str(), "running" | "paused") {
        Ok(Json(json!({"status": "ready"})))
    } else {
        Err(Failure::unavailable(format!("the guest is {state}")))
    }
}

async fn ledger(State(asked): Asked) -> Json<Ledger> {
    let attempts = asked.shared.state.lock().ledger.clone();
    let (left, next_at_ms) = left(attempts.iter().map(|attempt| attempt.started_at_ms), now_ms());
    Json(Ledger { attempts, left, next_at_ms })
}

async fn remedy(
    State(asked): Asked,
    Path(action): Path<String>,
    order: Option<Json<RemedyOrder>>,
) -> Result<Response, Failure> {
    let action: Remedy = action.parse().map_err(|error| Failure::not_found(format!("{error}")))?;
    let order = order.map(|Json(order)| order);
    let mut state = asked.shared.state.lock();
    let id = order.as_ref().and_then(|order| order.attempt_id.clone());
    if let Some(known) = state.ledger.iter().find(|attempt| Some(&attempt.id) == id.as_ref()) {
        return Ok(Json(known.clone()).into_response());
    }
    let now = now_ms();
    let is_override = order.as_ref().is_some_and(|order| order.is_override);
    let (left, next) = left(state.ledger.iter().map(|attempt| attempt.started_at_ms), now);
    if left == 0 && !is_override {
        let wait_s = next.map_or(1, |next| next.saturating_sub(now).div_ceil(1000)).max(1);
        let mut refusal =
            Failure::new(StatusCode::TOO_MANY_REQUESTS, "all attempts of this hour are used up").into_response();
        refusal.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
        return Ok(refusal);
    }
    let cured = state.cures.contains(&action);
    let outcome = if cured { Outcome::Repaired } else { state.otherwise.unwrap_or(Outcome::InVain) };
    let attempt = Attempt {
        id: id.unwrap_or_else(|| format!("simulated-{}", state.ledger.len())),
        instance_id: asked.shared.id,
        started_at_ms: now,
        ended_at_ms: Some(now),
        class: order.as_ref().map(|order| order.class).unwrap_or_default(),
        action,
        initiator: order
            .as_ref()
            .and_then(|order| order.initiator.clone())
            .unwrap_or_else(|| Initiator::Person { name: "operate".to_owned() }),
        is_override,
        reason: order.and_then(|order| order.reason),
        outcome,
        detail: None,
        evidence: None,
    };
    let attempt = Attempt { evidence: Some(attempt.id.clone()), ..attempt };
    state.ledger.push(attempt.clone());
    drop(state);
    if cured {
        asked.shared.report.send_replace(healthy(asked.shared.id));
    }
    Ok(Json(attempt).into_response())
}

async fn evidence(
    State(asked): Asked,
    Path((attempt, file)): Path<(String, String)>,
) -> Result<impl IntoResponse, Failure> {
    if !asked.shared.state.lock().ledger.iter().any(|known| known.evidence.as_ref() == Some(&attempt)) {
        return Err(Failure::not_found("there is no evidence of such an attempt"));
    }
    match file.as_str() {
        "screenshot.png" => Ok(([(header::CONTENT_TYPE, "image/png")], PIXEL)),
        "qmp.json" => Ok(([(header::CONTENT_TYPE, "application/json")], b"{}".as_slice())),
        "log.txt" => Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], b"simulated\n".as_slice())),
        _ => Err(Failure::not_found("evidence is screenshot.png, qmp.json and log.txt")),
    }
}

async fn use_of(State(asked): Asked, Json(usage): Json<Use>) -> StatusCode {
    let report = &mut asked.shared.state.lock();
    if report.uses.last() != Some(&usage) {
        report.uses.push(usage);
    }
    StatusCode::NO_CONTENT
}

/// Takes what an agent takes.
async fn input(Json(request): Json<InputRequest>) -> Result<StatusCode, Failure> {
    let within = |value: i32, most: i32| (-most..=most).contains(&value);
    let allowed = |event: &InputEvent| match *event {
        InputEvent::Motion { dx, dy } => within(dx, 16_384) && within(dy, 16_384),
        InputEvent::Wheel { x, y } => within(x.into(), 64) && within(y.into(), 64),
        _ => true,
    };
    if request.events.len() <= MAX_EVENTS_PER_REQUEST && request.events.iter().all(allowed) {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "an event is not allowed, or there are too many"))
}

fn set_state(asked: &Context, state: &str) -> StatusCode {
    asked.shared.report.send_modify(|report| state.clone_into(&mut report.deep_health.guest_state));
    StatusCode::NO_CONTENT
}

fn checked(name: &str) -> Result<(), Failure> {
    let good = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && !name.starts_with(['-', '.']);
    if good { Ok(()) } else { Err(Failure::bad_request(format!("refused snapshot name {name:?}"))) }
}

async fn snapshots(State(asked): Asked) -> Json<Vec<Snapshot>> {
    let state = asked.shared.state.lock();
    let saved = |name: &String| Snapshot { name: name.clone(), saved_at_ms: now_ms(), bytes: 1 << 20 };
    Json(state.snapshots.iter().map(saved).collect())
}

async fn snapshot(
    State(asked): Asked,
    Json(SnapshotOrder { name }): Json<SnapshotOrder>,
) -> Result<StatusCode, Failure> {
    checked(&name)?;
    let snapshots = &mut asked.shared.state.lock().snapshots;
    snapshots.insert(name);
    // Bounded, whoever fuzzes it.
    while snapshots.len() > 64 {
        snapshots.pop_first();
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn load_snapshot(
    State(asked): Asked,
    Json(SnapshotOrder { name }): Json<SnapshotOrder>,
) -> Result<StatusCode, Failure> {
    checked(&name)?;
    known(asked.shared.state.lock().snapshots.contains(&name), &name)
}

async fn delete_snapshot(State(asked): Asked, Path(name): Path<String>) -> Result<StatusCode, Failure> {
    checked(&name)?;
    known(asked.shared.state.lock().snapshots.remove(&name), &name)
}

fn known(known: bool, name: &str) -> Result<StatusCode, Failure> {
    if known { Ok(StatusCode::NO_CONTENT) } else { Err(Failure::not_found(format!("no snapshot {name:?}"))) }
}

#[derive(Deserialize)]
struct Tail {
    #[serde(default)]
    follow: bool,
}

async fn logs(State(asked): Asked, Query(tail): Query<Tail>) -> Response {
    let line = LogLine { source: LogSource::Agent, at_ms: now_ms(), text: "simulated".to_owned() };
    if !tail.follow {
        return Json(vec![line]).into_response();
    }
    let lines = futures::stream::once(async move { ("line", line) }).chain(futures::stream::pending());
    event_response(lines.boxed(), asked.stop)
}
