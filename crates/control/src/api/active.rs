//! The shared list of instances in use: by HTTP, and by a WebSocket that tells every change.

use super::Shared;
use super::error::ApiError;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, Json};
use loco_http::websocket::SUBPROTOCOL;
use loco_http::{Access, Failure, JsonBody, Role};
use loco_model::usage::{Active, SetActive};
use serde_json::json;
use std::time::Duration;

/// Longest message that is taken, in bytes.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// After so long without a message a ping is sent: a peer that is gone is found by what it leaves unacknowledged. That is
/// also how long one may stay whose token is not current any more.
const PING_EVERY: Duration = Duration::from_secs(5);

/// The shared list
#[utoipa::path(get, path = "/api/active", tag = "use",
    responses((status = 200, description = "In order; the first is the primary one", body = Active)))]
pub(super) async fn get_active(State(shared): State<Shared>) -> Json<Active> {
    Json(Active { active: shared.hub.usage().active() })
}

/// Set the shared list
#[utoipa::path(post, path = "/api/active", tag = "use", request_body = SetActive,
    responses(
        (status = 200, description = "How it is now: without repetitions", body = Active),
        (status = 404, description = "There is no such instance"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "A value of the body is not allowed")))]
pub(super) async fn set_active(
    State(shared): State<Shared>,
    JsonBody(set): JsonBody<SetActive>,
) -> Result<Json<Active>, ApiError> {
    Ok(Json(Active { active: shared.hub.usage().set_active(set)? }))
}

/// `GET /active`: the list now and at every change; what is sent sets it.
pub(super) async fn socket(
    State(shared): State<Shared>,
    Extension(access): Extension<Access>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let upgrade = upgrade.map_err(|rejection| Failure::new(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    let permit = shared.sockets.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Failure::unavailable("there are too many WebSockets already"))?;
    Ok(upgrade
        .protocols([SUBPROTOCOL])
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .on_upgrade(move |socket| async move {
            converse(socket, shared, access).await;
            drop(permit);
        }))
}

async fn converse(mut socket: WebSocket, shared: Shared, access: Access) {
    let mut changes = shared.hub.usage().active_changes();
    // The first is told, too.
    changes.mark_changed();
    let mut said: Option<Utf8Bytes> = None;
    loop {
        let Some(role) = access.role() else {
            return end(socket, close_code::POLICY, "the token is not current any more").await;
        };
        if let Some(text) = said.take()
            && let Err(detail) = set(&shared, role, &text)
            && !complain(&mut socket, &detail).await
        {
            return;
        }
        if changes.has_changed().unwrap_or(false) {
            let active = Active { active: changes.borrow_and_update().clone() };
            if !say(&mut socket, &json!(active)).await {
                return;
            }
        }
        let heard = tokio::select! {
            () = shared.stop.cancelled() => return end(socket, close_code::AWAY, "the control plane ends").await,
            changed = changes.changed() => {
                // Marked as seen: the beginning of the loop tells it.
                changes.mark_changed();
                if changed.is_err() {
                    return;
                }
                continue;
            }
            heard = tokio::time::timeout(PING_EVERY, socket.recv()) => heard,
        };
        let is_there = match heard {
            Err(_) => socket.send(Message::Ping(Default::default())).await.is_ok(),
            // Also a message that is too long: how it goes on cannot be known then.
            Ok(None | Some(Err(_) | Ok(Message::Close(_)))) => false,
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => true,
            Ok(Some(Ok(Message::Text(text)))) => {
                said = Some(text);
                true
            }
            Ok(Some(Ok(Message::Binary(_)))) => complain(&mut socket, "a message is JSON as text").await,
        };
        if !is_there {
            return;
        }
    }
}

async fn end(mut socket: WebSocket, code: u16, reason: &'static str) {
    // Who is gone already needs no goodbye.
    let _ = socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
}

fn set(shared: &Shared, role: Role, text: &str) -> Result<(), String> {
    if role < Role::Play {
        return Err(format!("setting the list needs the role {}; the token has the role {role}", Role::Play));
    }
    let set: SetActive = serde_json::from_str(text).map_err(|error| error.to_string())?;
    shared.hub.usage().set_active(set).map(|_| ()).map_err(|error| error.to_string())
}

async fn complain(socket: &mut WebSocket, detail: &str) -> bool {
    say(socket, &json!({ "error": detail })).await
}

/// Whether the peer is still there.
async fn say(socket: &mut WebSocket, message: &serde_json::Value) -> bool {
    socket.send(Message::Text(message.to_string().into())).await.is_ok()
}
