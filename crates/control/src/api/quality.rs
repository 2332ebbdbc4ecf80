//! How instances are in depth, and their repair.

use super::Shared;
use super::error::ApiError;
use super::params::Id;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use loco_http::{OptionalJson, Role};
use loco_model::InstanceId;
use loco_model::api::{InstanceHealth, RecoveryStatus};
use loco_model::recovery::{Attempt, Initiator, RecoverOrder};
use std::collections::BTreeMap;

/// Every instance's health
#[utoipa::path(get, path = "/api/quality/deep-health", tag = "quality",
    responses((status = 200, description = "By instance", body = BTreeMap<String, InstanceHealth>)))]
pub(super) async fn all_health(State(shared): State<Shared>) -> Json<BTreeMap<InstanceId, InstanceHealth>> {
    Json(shared.hub.healths())
}

/// One instance's health
#[utoipa::path(get, path = "/api/quality/deep-health/{id}", tag = "quality", params(("id" = InstanceId, Path)),
    responses(
        (status = 200, description = "Its agent's last report, and what is made of it", body = InstanceHealth),
        (status = 404, description = "There is no such instance")))]
pub(super) async fn instance_health(
    State(shared): State<Shared>,
    Id(id): Id,
) -> Result<Json<InstanceHealth>, ApiError> {
    let health = shared.hub.health(id).ok_or(crate::HubError::UnknownInstance(id))?;
    Ok(Json(health))
}

/// Repair an instance
///
/// Begins one attempt and answers at once; how it goes on is in the recovery status and in the events. Without an
/// action the policy chooses one.
#[utoipa::path(post, path = "/api/quality/recover/{id}", tag = "quality", params(("id" = InstanceId, Path)),
    request_body(content = Option<RecoverOrder>, description = "May be left out"),
    responses(
        (status = 202, description = "Begun", body = Attempt),
        (status = 404, description = "There is no such instance"),
        (status = 409, description = "Another attempt is being made; or there is nothing that would help, and no action was named"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "A value of the body is not allowed"),
        (status = 429, description = "The hour's attempts are used up; `override` goes beyond"),
        (status = 503, description = "It cannot be ordered now: the agent does not answer")))]
pub(super) async fn recover(
    State(shared): State<Shared>,
    Extension(role): Extension<Role>,
    Id(id): Id,
    OptionalJson(order): OptionalJson<RecoverOrder>,
) -> Result<(StatusCode, Json<Attempt>), ApiError> {
    let by = Initiator::Person { name: role.to_string() };
    let attempt = shared.hub.recover(id, order.unwrap_or_default(), by).await?;
    Ok((StatusCode::ACCEPTED, Json(attempt)))
}

/// What was done to repair instances, and what may still be done
#[utoipa::path(get, path = "/api/quality/recovery-status", tag = "quality",
    responses((status = 200, description = "The limit, how each instance stands with it, and the last attempts", body = RecoveryStatus)))]
pub(super) async fn recovery_status(State(shared): State<Shared>) -> Json<RecoveryStatus> {
    Json(shared.hub.recovery_status())
}
