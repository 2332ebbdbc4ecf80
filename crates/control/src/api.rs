//! The HTTP API. Wire types are loco-model's; what is not written here (tokens, roles, bounds, problem details) is
//! loco-http's. Each route is described where it is handled; together that is the OpenAPI document.

mod active;
mod agents;
mod config;
mod doc;
mod error;
mod events;
mod health;
mod history;
mod instances;
mod logs;
mod params;
mod quality;
mod session;
mod usage;

pub(crate) use agents::breaker_name;
pub use doc::openapi_json;

use crate::hub::Hub;
use crate::metrics::{Metrics, track};
use crate::store::Store;
use axum::Router;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get};
use loco_http::{Guard, Limits, Login, Role};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Most WebSockets at a time.
const MAX_SOCKETS: usize = 64;

/// What every handler can reach.
#[derive(Clone)]
pub(crate) struct Shared {
    hub: Hub,
    store: Store,
    metrics: Metrics,
    login: Login,
    stop: CancellationToken,
    openapi: Arc<str>,
    /// One permit for each WebSocket.
    sockets: Arc<Semaphore>,
}

/// All routes behind their guard.
pub(crate) fn serve(guard: Guard, hub: Hub, metrics: Metrics, stop: CancellationToken) -> Router {
    let guard = rules(guard);
    let shared = Shared {
        store: hub.store().clone(),
        hub,
        metrics: metrics.clone(),
        login: guard.login(),
        stop,
        openapi: openapi_json().into(),
        sockets: Arc::new(Semaphore::new(MAX_SOCKETS)),
    };
    let (described, _) = described().split_for_parts();
    let routes = described
        // A WebSocket is no operation of OpenAPI.
        .route("/active", get(active::socket))
        // Only the named ones are there; the others are told which these are.
        .route("/api/config/{name}", any(config::unknown))
        .with_state(shared);
    // Outside of the guard: what it refuses is counted too.
    guard.protect(routes, Limits::default()).layer(from_fn_with_state(metrics, track))
}

/// Who may what, beyond "reading needs view, everything else operate".
fn rules(guard: Guard) -> Guard {
    [
        (Method::PUT, "/api/viewers", Role::View),
        (Method::DELETE, "/api/viewers", Role::View),
        (Method::POST, "/api/logout", Role::View),
        (Method::POST, "/input", Role::Play),
        (Method::POST, "/api/instances/*/input", Role::Play),
        (Method::POST, "/api/active", Role::Play),
    ]
    .into_iter()
    .fold(guard.open_path("/api/login"), |guard, (method, path, role)| guard.role(method, path, role))
}

/// The routes that the OpenAPI document describes.
fn described() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(doc::head())
        .routes(routes!(instances::list))
        .routes(routes!(instances::discovery_info))
        .routes(routes!(instances::refresh))
        .routes(routes!(usage::claim_input))
        .routes(routes!(agents::pause))
        .routes(routes!(agents::resume))
        .routes(routes!(agents::list_snapshots))
        .routes(routes!(agents::take_snapshot))
        .routes(routes!(agents::load_snapshot))
        .routes(routes!(agents::delete_snapshot))
        .routes(routes!(agents::give_input))
        .routes(routes!(quality::all_health))
        .routes(routes!(quality::instance_health))
        .routes(routes!(quality::recover))
        .routes(routes!(quality::recovery_status))
        .routes(routes!(instances::lan_status))
        .routes(routes!(active::get_active, active::set_active))
        .routes(routes!(usage::list_viewers))
        .routes(routes!(usage::report_viewer, usage::remove_viewer))
        .routes(routes!(events::follow_events))
        .routes(routes!(logs::get_logs))
        .routes(routes!(logs::get_evidence))
        .routes(routes!(history::get_history))
        .routes(routes!(history::get_trends))
        .routes(routes!(history::list_alerts))
        .routes(routes!(config::get_recovery_config, config::set_recovery_config))
        .routes(routes!(config::get_history_config, config::set_history_config))
        .routes(routes!(config::get_checks_config, config::set_checks_config))
        .routes(routes!(config::get_alerts_config, config::set_alerts_config))
        .routes(routes!(config::get_use_config, config::set_use_config))
        .routes(routes!(config::get_limits_config, config::set_limits_config))
        .routes(routes!(session::log_in))
        .routes(routes!(session::log_out))
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .routes(routes!(doc::get_openapi))
}
