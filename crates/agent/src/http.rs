//! The agent's routes.

mod guest;
mod logs;
mod repair;

use crate::agent::Agent;
use crate::image::encode_png;
use crate::input::inject_request;
use crate::report::{compact, report, reports};
use crate::usage::{self, MAX_SENDERS, TooManySenders};
use crate::{metrics, page};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{delete, get, patch, post, put};
use axum::{Extension, Json, Router};
use futures::StreamExt as _;
use loco_guest::GuestState;
use loco_http::{Failure, Guard, JsonBody, Role, event_response};
use loco_media::WhepError;
use loco_media::whep::{FRAGMENT_TYPE, Patched, SDP_TYPE};
use loco_model::input::InputRequest;
use loco_model::report::UseHealth;
use loco_model::usage::{Use, VIEWER_HEADER};
use serde_json::{Value, json};
use std::sync::Arc;

const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// Longest id of a viewer that is taken note of, in bytes.
const MAX_VIEWER: usize = 128;

type Shared = State<Arc<Agent>>;

pub(crate) fn routes(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/", get(watch_page))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/startup", get(startup))
        .route("/metrics", get(metrics_text))
        .route("/events", get(events))
        .route("/screenshot.png", get(screenshot))
        .route("/input", post(input))
        .route("/use", put(set_use))
        .route("/pause", post(guest::pause))
        .route("/resume", post(guest::resume))
        .route("/snapshots", get(guest::snapshots))
        .route("/snapshots/{name}", delete(guest::delete_snapshot))
        .route("/snapshot", post(guest::snapshot))
        .route("/snapshot/load", post(guest::load_snapshot))
        .route("/remedy/{action}", post(repair::remedy))
        .route("/ledger", get(repair::ledger))
        .route("/ledger/{attempt}", put(repair::judge))
        .route("/evidence/{attempt}/{file}", get(repair::evidence))
        .route("/logs", get(logs::logs))
        .route("/whep", post(offer).options(describe))
        .route("/whep/{session}", patch(trickle).delete(hang_up))
        .with_state(agent)
}

/// Says which role each route needs, beyond that reading needs `view` and all else `operate`.
pub(crate) fn roles(guard: Guard) -> Guard {
    guard
        .role(Method::POST, "/input", Role::Play)
        .role(Method::POST, "/whep", Role::View)
        .role(Method::PATCH, "/whep", Role::View)
        .role(Method::DELETE, "/whep", Role::View)
}

async fn watch_page() -> Response {
    let policy = (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::SECURITY_POLICY));
    ([policy], Html(page::HTML.as_str())).into_response()
}

/// Always 200 while the agent's own loops turn: how the guest is stands in the body.
async fn health(State(agent): Shared) -> Response {
    let report = report(&agent);
    let is_stuck = report.deep_health.agent_stuck.is_some();
    let status = if is_stuck { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(report)).into_response()
}

/// 503 until QEMU has run once and its display was attached; from then on 200, whatever becomes of it.
async fn startup(State(agent): Shared) -> Result<Json<Value>, Failure> {
    if *agent.started.borrow() {
        return Ok(Json(json!({ "status": "started" })));
    }
    Err(Failure::unavailable(without_picture(&agent)))
}

async fn ready(State(agent): Shared) -> Result<Json<Value>, Failure> {
    let state = agent.status.borrow().state;
    let shows_picture = agent.size.borrow().is_some();
    if shows_picture && matches!(state, GuestState::Running | GuestState::Paused) {
        Ok(Json(json!({ "status": "ready" })))
    } else if shows_picture {
        Err(Failure::unavailable(format!("the guest is {state}")))
    } else {
        Err(Failure::unavailable(without_picture(&agent)))
    }
}

/// Why there is no picture: a guest that was started again has shown one before.
fn without_picture(agent: &Agent) -> String {
    no_picture(agent.status.borrow().state, *agent.started.borrow())
}

fn no_picture(state: GuestState, showed: bool) -> String {
    let what = if showed { "shows no picture now" } else { "has not shown a picture yet" };
    format!("the guest is {state} and {what}")
}

async fn metrics_text(State(agent): Shared) -> Result<Response, Failure> {
    let text = metrics::text(&report(&agent), &agent.repair.book.ledger())
        .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn events(State(agent): Shared) -> Response {
    let stop = agent.stop.clone();
    event_response(reports(agent).map(|report| ("health", compact(&report))), stop)
}

async fn screenshot(State(agent): Shared) -> Result<Response, Failure> {
    let image = agent.canvas.screenshot().ok_or_else(|| Failure::unavailable(without_picture(&agent)))?;
    // Some 10 ms of work for a large picture: not on a thread that answers others.
    let png = tokio::task::spawn_blocking(move || encode_png(&image))
        .await
        .map_err(|error| error.to_string())
        .and_then(|result| result.map_err(|error| error.to_string()))
        .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    Ok(([(header::CONTENT_TYPE, "image/png")], png).into_response())
}

async fn input(State(agent): Shared, JsonBody(request): JsonBody<InputRequest>) -> Result<StatusCode, Failure> {
    inject_request(&agent, &request)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_use(State(agent): Shared, JsonBody(order): JsonBody<Use>) -> Result<Json<UseHealth>, Failure> {
    usage::check(&order).map_err(|detail| Failure::new(StatusCode::UNPROCESSABLE_ENTITY, detail))?;
    match agent.usage.set(order).await {
        Some(Ok(health)) => Ok(Json(health)),
        Some(Err(TooManySenders)) => Err(Failure::new(
            StatusCode::CONFLICT,
            format!(
                "{MAX_SENDERS} others say how this instance is used, which is all that are heard: wait until one ends"
            ),
        )),
        None => Err(Failure::unavailable("the agent ends")),
    }
}

async fn describe() -> Response {
    let headers = [(ACCEPT_POST, SDP_TYPE), (header::ALLOW, "POST, OPTIONS")];
    (StatusCode::NO_CONTENT, headers).into_response()
}

async fn offer(State(agent): Shared, Extension(role): Extension<Role>, headers: HeaderMap, body: Bytes) -> Response {
    let viewer = text(&headers, &HeaderName::from_static(VIEWER_HEADER));
    let viewer = viewer.filter(|viewer| (1..=MAX_VIEWER).contains(&viewer.len())).map(str::to_owned);
    match agent.sender.whep_offer(text(&headers, &header::CONTENT_TYPE), &body).await {
        Ok(session) => {
            // Before the player learns of its session: its first input finds its seat.
            agent.seats.take(session.id.as_str(), viewer, role);
            let headers = [
                (header::CONTENT_TYPE, SDP_TYPE.to_owned()),
                (header::LOCATION, format!("/whep/{}", session.id)),
                (header::ETAG, session.etag),
                (ACCEPT_PATCH, FRAGMENT_TYPE.to_owned()),
            ];
            (StatusCode::CREATED, headers, session.answer_sdp).into_response()
        }
        Err(error) => refusal(&error, (ACCEPT_POST, SDP_TYPE)),
    }
}

async fn trickle(State(agent): Shared, Path(session): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let content_type = text(&headers, &header::CONTENT_TYPE);
    let if_match = text(&headers, &header::IF_MATCH);
    match agent.sender.whep_patch(&session, content_type, if_match, &body).await {
        Ok(Patched::NoContent) => StatusCode::NO_CONTENT.into_response(),
        Ok(Patched::Restarted { fragment, etag }) => {
            let headers = [(header::CONTENT_TYPE, FRAGMENT_TYPE.to_owned()), (header::ETAG, etag)];
            (headers, fragment).into_response()
        }
        Err(error) => refusal(&error, (ACCEPT_PATCH, FRAGMENT_TYPE)),
    }
}

async fn hang_up(State(agent): Shared, Path(session): Path<String>) -> Response {
    match agent.sender.whep_delete(&session).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => refusal(&error, (ACCEPT_PATCH, FRAGMENT_TYPE)),
    }
}

/// A header's value; one that is no text is as good as none.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn refusal(error: &WhepError, accepted: (HeaderName, &'static str)) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Failure::new(status, error.to_string()).into_response();
    if let Some(pause) = error.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(pause.as_secs().max(1)));
    }
    if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        response.headers_mut().insert(accepted.0, HeaderValue::from_static(accepted.1));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_showed_a_picture_before_is_not_said_to_have_shown_none() {
        assert_eq!(no_picture(GuestState::Starting, false), "the guest is starting and has not shown a picture yet");
        assert_eq!(no_picture(GuestState::Starting, true), "the guest is starting and shows no picture now");
    }
}
