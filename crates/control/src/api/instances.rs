//! Which instances there are, and how they are found.

use super::Shared;
use super::error::ApiError;
use axum::Json;
use axum::extract::State;
use loco_model::api::{DiscoveryInfo, Instance, LanStatus};

/// All instances
///
/// In the order of their index.
#[utoipa::path(get, path = "/api/instances", tag = "instances", operation_id = "list_instances",
    responses((status = 200, description = "Every instance that is known now", body = Vec<Instance>)))]
pub(super) async fn list(State(shared): State<Shared>) -> Json<Vec<Instance>> {
    Json(shared.hub.instances().borrow().all.values().cloned().collect())
}

/// How instances are found
#[utoipa::path(get, path = "/api/instances/discovery-info", tag = "instances",
    responses((status = 200, description = "Mode, source, age, what is refused, and what went wrong last", body = DiscoveryInfo)))]
pub(super) async fn discovery_info(State(shared): State<Shared>) -> Json<DiscoveryInfo> {
    Json(shared.hub.discovery())
}

/// Look for instances now
#[utoipa::path(post, path = "/api/instances/refresh", tag = "instances", operation_id = "refresh_instances",
    responses(
        (status = 200, description = "How it stands after looking", body = DiscoveryInfo),
        (status = 503, description = "The source cannot be read; the last list stays in use")))]
pub(super) async fn refresh(State(shared): State<Shared>) -> Result<Json<DiscoveryInfo>, ApiError> {
    Ok(Json(shared.hub.refresh().await?))
}

/// The segment between the guests
///
/// Null and empty while there is none.
#[utoipa::path(get, path = "/api/lan-status", tag = "instances",
    responses((status = 200, description = "The segment and its members", body = LanStatus)))]
pub(super) async fn lan_status() -> Json<LanStatus> {
    Json(LanStatus::default())
}
