//! The named configurations. Each has a path of its own, so that the document can say what each may hold.

use super::Shared;
use super::error::ApiError;
use super::params::Params;
use crate::alerts::AlertsConfig;
use crate::checks::ChecksConfig;
use crate::store::{ConfigName, HistoryConfig, RecoveryConfig, UnknownConfig, UseConfig};
use axum::Json;
use axum::extract::State;
use loco_http::body::with_whole_numbers;
use loco_http::{Failure, JsonBody};
use loco_model::classify::Limits;
use serde_json::Value;

/// The route of every other name: says which there are.
pub(super) async fn unknown(Params(name): Params<String>) -> Failure {
    Failure::not_found(UnknownConfig(name.chars().take(64).collect()).to_string())
}

fn shown(shared: &Shared, name: ConfigName) -> Json<Value> {
    Json(shared.store.config(name))
}

fn set(shared: &Shared, name: ConfigName, value: Value) -> Result<Json<Value>, ApiError> {
    shared.store.set_config(name, with_whole_numbers(value))?;
    Ok(shown(shared, name))
}

/// Both handlers of one configuration.
macro_rules! configuration {
    ($path:literal, $name:expr, $of:ty, $get:ident, $set:ident, $what:literal) => {
        #[doc = concat!("How it is set: ", $what)]
        #[utoipa::path(get, path = $path, tag = "config",
            responses((status = 200, description = "What is set, or what holds as long as nothing is", body = $of)))]
        pub(super) async fn $get(State(shared): State<Shared>) -> Json<Value> {
            shown(&shared, $name)
        }

        #[doc = concat!("Set ", $what)]
        ///
        /// What is left out is as it is at first.
        #[utoipa::path(put, path = $path, tag = "config", request_body = $of,
            responses(
                (status = 200, description = "How it is set now", body = $of),
                (status = 415, description = "The body is not declared as JSON"),
                (status = 422, description = "A value of the body is not allowed"),
                (status = 503, description = "It cannot be kept")))]
        pub(super) async fn $set(
            State(shared): State<Shared>,
            JsonBody(value): JsonBody<Value>,
        ) -> Result<Json<Value>, ApiError> {
            set(&shared, $name, value)
        }
    };
}

configuration!(
    "/api/config/recovery",
    ConfigName::Recovery,
    RecoveryConfig,
    get_recovery_config,
    set_recovery_config,
    "how this control plane repairs"
);
configuration!(
    "/api/config/history",
    ConfigName::History,
    HistoryConfig,
    get_history_config,
    set_history_config,
    "what is remembered"
);
configuration!(
    "/api/config/checks",
    ConfigName::Checks,
    ChecksConfig,
    get_checks_config,
    set_checks_config,
    "what else is watched"
);
configuration!(
    "/api/config/alerts",
    ConfigName::Alerts,
    AlertsConfig,
    get_alerts_config,
    set_alerts_config,
    "who is told of alerts"
);
configuration!(
    "/api/config/use",
    ConfigName::Use,
    UseConfig,
    get_use_config,
    set_use_config,
    "what an instance may take that nobody uses"
);
configuration!(
    "/api/config/limits",
    ConfigName::Limits,
    Limits,
    get_limits_config,
    set_limits_config,
    "where \"too much\" begins"
);
