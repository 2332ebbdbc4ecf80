//! What is remembered: measurements, where they go, alerts.

use super::Shared;
use super::error::ApiError;
use super::params::{Asked, Id};
use crate::history::{MAX_POINTS, METRICS, MetricName};
use crate::hub::{HubError, unix_ms};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use loco_model::InstanceId;
use loco_model::api::{Alert, History, Trend};
use loco_model::query::whole;
use serde::Deserialize;

/// How far back history goes when it is not said from when, in milliseconds.
const DEFAULT_SPAN_MS: u64 = 60 * 60 * 1_000;
/// Farthest moment that may be asked for, in milliseconds since 1970 UTC: what a JavaScript date can hold.
const MAX_MS: u64 = 8_640_000_000_000_000;
/// Alerts that are listed when it is not said how many, and at most.
const MAX_ALERTS: u64 = 200;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// Which metric.
    #[param(inline, value_type = MetricName)]
    metric: String,
    /// Begin, in milliseconds since 1970 UTC; an hour before the end when left out.
    #[serde(default, deserialize_with = "whole::<_, MAX_MS>")]
    #[param(maximum = 8_640_000_000_000_000u64)]
    from_ms: Option<u64>,
    /// End, in milliseconds since 1970 UTC; now when left out.
    #[serde(default, deserialize_with = "whole::<_, MAX_MS>")]
    #[param(maximum = 8_640_000_000_000_000u64)]
    to_ms: Option<u64>,
    /// Width of a point in milliseconds. 0, or left out: as fine as may be. It is made wider when that would be more than
    /// 2,000 points.
    #[serde(default, deserialize_with = "whole::<_, MAX_MS>")]
    #[param(maximum = 8_640_000_000_000_000u64)]
    step_ms: Option<u64>,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AlertsQuery {
    /// How many at most, 200 when left out.
    #[serde(default, deserialize_with = "whole::<_, MAX_ALERTS>")]
    #[param(maximum = 200)]
    limit: Option<u64>,
}

/// One metric of an instance over time
#[utoipa::path(get, path = "/api/history/{id}", tag = "history", params(("id" = InstanceId, Path), HistoryQuery),
    responses(
        (status = 200, description = "Points in order; times without a sample have none", body = History),
        (status = 400, description = "A value of the query is not allowed"),
        (status = 404, description = "There is no such instance"),
        (status = 503, description = "What is remembered cannot be read")))]
pub(super) async fn get_history(
    State(shared): State<Shared>,
    Id(id): Id,
    Asked(query): Asked<HistoryQuery>,
) -> Result<Json<History>, ApiError> {
    known(&shared, id)?;
    let to = query.to_ms.unwrap_or_else(unix_ms);
    let from = query.from_ms.unwrap_or(to.saturating_sub(DEFAULT_SPAN_MS));
    let step = query.step_ms.unwrap_or(0);
    let metric = METRICS.iter().find(|metric| metric.name == query.metric).ok_or_else(|| {
        let allowed = METRICS.iter().map(|metric| metric.name).collect::<Vec<_>>().join(", ");
        ApiError::new(
            StatusCode::BAD_REQUEST,
            format!("unknown metric {:?}: allowed are {allowed}", short(&query.metric)),
        )
    })?;
    if from >= to {
        // Nothing lies in no time.
        let points = Vec::new();
        let (metric, unit) = (metric.name.to_owned(), metric.unit.to_owned());
        return Ok(Json(History { instance_id: id, metric, unit, step_ms: step, points }));
    }
    let step = if step == 0 { 0 } else { step.max((to - from).div_ceil(MAX_POINTS)) };
    let store = shared.store.clone();
    let read = tokio::task::spawn_blocking(move || store.history(id, metric.name, from, to, step)).await;
    Ok(Json(read.map_err(|error| broken(&error))??))
}

/// Where an instance's metrics go
#[utoipa::path(get, path = "/api/trends/{id}", tag = "history", params(("id" = InstanceId, Path)),
    responses(
        (status = 200, description = "By a straight line through the last hours", body = Vec<Trend>),
        (status = 404, description = "There is no such instance")))]
pub(super) async fn get_trends(State(shared): State<Shared>, Id(id): Id) -> Result<Json<Vec<Trend>>, ApiError> {
    known(&shared, id)?;
    let store = shared.store.clone();
    let read = tokio::task::spawn_blocking(move || store.trends(id, unix_ms())).await;
    Ok(Json(read.map_err(|error| broken(&error))?))
}

/// Alerts
#[utoipa::path(get, path = "/api/alerts", tag = "history", params(AlertsQuery),
    responses(
        (status = 200, description = "Newest first", body = Vec<Alert>),
        (status = 400, description = "A value of the query is not allowed")))]
pub(super) async fn list_alerts(State(shared): State<Shared>, Asked(query): Asked<AlertsQuery>) -> Json<Vec<Alert>> {
    let limit = query.limit.unwrap_or(MAX_ALERTS);
    Json(shared.store.alerts(usize::try_from(limit).unwrap_or(usize::MAX)))
}

fn known(shared: &Shared, id: InstanceId) -> Result<(), ApiError> {
    match shared.hub.instances().borrow().all.contains_key(&id) {
        true => Ok(()),
        false => Err(HubError::UnknownInstance(id).into()),
    }
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

fn broken(error: &tokio::task::JoinError) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
