//! Every change, as server-sent events.

use super::Shared;
use super::error::ApiError;
use super::params::Asked;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use futures::StreamExt as _;
use loco_http::{last_event_id, numbered_event_response};
use loco_model::query::whole;
use serde::Deserialize;
use std::time::Duration;

/// Longest time that a stream may be bounded to, in seconds.
pub(super) const MAX_FOR_S: u64 = 86_400;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// The stream ends after so many seconds; without it, when the client ends it.
    #[serde(default, deserialize_with = "whole::<_, MAX_FOR_S>")]
    #[param(maximum = 86_400)]
    for_s: Option<u64>,
}

/// Follow every change
///
/// Server-sent events, each with its id, its type as name, and an `Event` as data. A client that says by
/// `Last-Event-ID` what it got last is told what it missed; otherwise, and when that is too long ago, everything as it
/// is now comes first.
#[utoipa::path(get, path = "/api/events", tag = "events",
    params(EventsQuery, ("Last-Event-ID" = Option<String>, Header, description = "Id of the last event that was got")),
    responses(
        (status = 200, description = "Events until the client or the server ends", body = ServerSentEvent, content_type = "text/event-stream"),
        (status = 400, description = "A value of the query is not allowed")))]
pub(super) async fn follow_events(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Asked(query): Asked<EventsQuery>,
) -> Result<Response, ApiError> {
    let end = bound(query.for_s);
    let events = shared.hub.events().since(last_event_id(&headers));
    let events = events.map(|(number, event)| (number, event.name(), event)).take_until(end);
    Ok(numbered_event_response(events, shared.stop))
}

/// One event of a stream.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "only its schema is of interest")]
pub(super) struct ServerSentEvent {
    /// Its number, where the stream can be resumed.
    #[schema(nullable = false)]
    id: Option<String>,
    /// Its name.
    event: String,
    /// JSON: an `Event` here, a `LogLine` of a log.
    data: String,
}

/// Ends after so many seconds, if any.
pub(super) async fn bound(for_s: Option<u64>) {
    match for_s.map(Duration::from_secs) {
        Some(life) => tokio::time::sleep(life).await,
        None => std::future::pending().await,
    }
}
