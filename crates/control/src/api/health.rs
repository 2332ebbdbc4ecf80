//! Whether this control plane works, for those who run it. None of it needs a token.

use super::Shared;
use super::error::ApiError;
use crate::metrics::CONTENT_TYPE;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use loco_http::Failure;
use serde::Serialize;

/// One word on how it stands.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Status {
    /// `ok` or `ready`.
    status: &'static str,
}

/// Whether it lives
#[utoipa::path(get, path = "/health", tag = "process", security(()),
    responses((status = 200, description = "It answers", body = Status)))]
pub(super) async fn health() -> Json<Status> {
    Json(Status { status: "ok" })
}

/// Whether it can do its work
#[utoipa::path(get, path = "/ready", tag = "process", security(()),
    responses(
        (status = 200, description = "Instances are listed, and what happens is kept", body = Status),
        (status = 503, description = "Something that it needs is down: the detail names it")))]
pub(super) async fn ready(State(shared): State<Shared>) -> Result<Json<Status>, ApiError> {
    let mut missing = Vec::new();
    if !shared.hub.instances().borrow().listed {
        missing.push("the provider has not listed its instances yet".to_owned());
    }
    let store = shared.store.health();
    if store.failing_since_ms.is_some() {
        let reason = store.reason.unwrap_or_else(|| "for an unknown reason".to_owned());
        missing.push(format!("what happens cannot be kept: {reason}"));
    }
    if missing.is_empty() {
        Ok(Json(Status { status: "ready" }))
    } else {
        Err(Failure::unavailable(missing.join("; ")).into())
    }
}

/// Measurements for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "process", security(()),
    responses((status = 200, description = "In OpenMetrics' text format", body = String,
        content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(State(shared): State<Shared>) -> Result<Response, ApiError> {
    let text = shared.metrics.text(&shared.hub);
    let text = text.map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
