//! The route of the logs.

use super::Shared;
use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use loco_http::event_response;
use serde::Deserialize;

/// Lines where nothing else is said.
const USUAL: usize = 100;
/// Most lines.
const MOST: usize = 1000;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// So many of the last lines, at most 1000.
    tail: Option<usize>,
    /// Go on with every new one.
    #[serde(default)]
    follow: bool,
}

pub(super) async fn logs(State(agent): Shared, Query(wanted): Query<Wanted>) -> Response {
    let count = wanted.tail.unwrap_or(USUAL).min(MOST);
    if wanted.follow {
        return event_response(agent.logs.follow(count).map(|line| ("line", line)), agent.stop.clone());
    }
    Json(agent.logs.tail(count)).into_response()
}
