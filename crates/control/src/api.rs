//! The HTTP API. Wire types are loco-model's.

use crate::hub::Hub;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use futures::StreamExt as _;
use loco_http::{Failure, event_response};
use loco_model::api::Instance;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
struct Shared {
    hub: Hub,
    stop: CancellationToken,
}

pub(crate) fn routes(hub: Hub, stop: CancellationToken) -> Router {
    Router::new()
        .route("/api/instances", get(list))
        .route("/api/events", get(events))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .with_state(Shared { hub, stop })
}

async fn list(State(shared): State<Shared>) -> Json<Vec<Instance>> {
    Json(shared.hub.instances().borrow().all.values().cloned().collect())
}

async fn events(State(shared): State<Shared>) -> Response {
    let named = shared.hub.events().since(None).map(|(_, event)| (event.name(), event));
    event_response(named, shared.stop)
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn ready(State(shared): State<Shared>) -> Result<Json<Value>, Failure> {
    if shared.hub.instances().borrow().listed {
        Ok(Json(json!({ "status": "ready" })))
    } else {
        Err(Failure::unavailable("the provider has not listed its instances yet"))
    }
}
