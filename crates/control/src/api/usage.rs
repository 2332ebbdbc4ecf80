//! Viewers, and whose input an instance takes.

use super::Shared;
use super::error::ApiError;
use super::params::{Id, Params, name};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use loco_http::JsonBody;
use loco_model::InstanceId;
use loco_model::usage::{InputClaim, InputHolder, Viewer, ViewerReport};
use serde::Serialize;

/// Whose input an instance takes now.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Claimed {
    /// Null: nobody holds it, it takes everyone's.
    holder: Option<InputHolder>,
}

/// Take an instance's input, ask for it, or give it back
#[utoipa::path(post, path = "/api/instances/{id}/input", tag = "use", params(("id" = InstanceId, Path)),
    request_body = InputClaim,
    responses(
        (status = 200, description = "Done", body = Claimed),
        (status = 404, description = "There is no such instance, or no such viewer"),
        (status = 409, description = "Another viewer holds it: named in the detail"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "A value of the body is not allowed")))]
pub(super) async fn claim_input(
    State(shared): State<Shared>,
    Id(id): Id,
    JsonBody(claim): JsonBody<InputClaim>,
) -> Result<Json<Claimed>, ApiError> {
    Ok(Json(Claimed { holder: shared.hub.usage().claim(id, claim)? }))
}

/// All viewers
#[utoipa::path(get, path = "/api/viewers", tag = "use",
    responses((status = 200, description = "Those that told of themselves lately", body = Vec<Viewer>)))]
pub(super) async fn list_viewers(State(shared): State<Shared>) -> Json<Vec<Viewer>> {
    Json(shared.hub.usage().viewers())
}

/// A viewer tells of itself
///
/// At every change, and every 3 s: one that says nothing for 10 s is taken for gone.
#[utoipa::path(put, path = "/api/viewers/{viewer}", tag = "use",
    params(("viewer" = String, Path, pattern = "^[A-Za-z0-9_-]{1,64}$", description = "Random, chosen by the viewer")),
    request_body = ViewerReport,
    responses(
        (status = 204, description = "Taken"),
        (status = 404, description = "No viewer can have this id"),
        (status = 409, description = "There are too many viewers"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "A value of the body is not allowed")))]
pub(super) async fn report_viewer(
    State(shared): State<Shared>,
    Params(viewer): Params<String>,
    JsonBody(report): JsonBody<ViewerReport>,
) -> Result<StatusCode, ApiError> {
    let viewer = name("viewer", &viewer)?;
    shared.hub.usage().report(viewer, report)?;
    Ok(StatusCode::NO_CONTENT)
}

/// A viewer ends
#[utoipa::path(delete, path = "/api/viewers/{viewer}", tag = "use",
    params(("viewer" = String, Path, pattern = "^[A-Za-z0-9_-]{1,64}$", description = "The viewer's id")),
    responses(
        (status = 204, description = "It is gone, and holds nothing"),
        (status = 404, description = "There is no such viewer")))]
pub(super) async fn remove_viewer(
    State(shared): State<Shared>,
    Params(viewer): Params<String>,
) -> Result<StatusCode, ApiError> {
    let viewer = name("viewer", &viewer)?;
    if shared.hub.usage().gone(viewer) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(crate::HubError::UnknownViewer(viewer.to_owned()).into())
    }
}
