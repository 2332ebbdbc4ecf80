//! What agents wrote: their logs, and the evidence of what was wrong before a repair.

use super::Shared;
use super::agents::Agent;
use super::error::ApiError;
use super::events::{MAX_FOR_S, ServerSentEvent, bound};
use super::params::{Asked, Id, Params, instance, name};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use loco_http::{Failure, event_response};
use loco_model::InstanceId;
use loco_model::agent::LogLine;
use loco_model::query::{flag, whole};
use reqwest::Method;
use serde::Deserialize;

/// Most lines that are asked for.
const MAX_TAIL: u64 = 1_000;
/// Lines that are asked for when it is not said how many.
const DEFAULT_TAIL: u64 = 100;

/// The files of an attempt's evidence, and what they are.
const EVIDENCE: [(&str, &str); 3] =
    [("screenshot.png", "image/png"), ("qmp.json", "application/json"), ("log.txt", "text/plain; charset=utf-8")];

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogsQuery {
    /// How many of the last lines, 100 when left out.
    #[serde(default, deserialize_with = "whole::<_, MAX_TAIL>")]
    #[param(maximum = 1_000)]
    tail: Option<u64>,
    /// Whether new lines are told as they come, as server-sent events `line`.
    #[serde(default, deserialize_with = "flag")]
    #[param(required = false)]
    follow: bool,
    /// Following ends after so many seconds; without it, when the client ends it.
    #[serde(default, deserialize_with = "whole::<_, MAX_FOR_S>")]
    #[param(maximum = 86_400)]
    for_s: Option<u64>,
}

/// The last lines of an agent, its QEMU and its guest
#[utoipa::path(get, path = "/api/logs/{id}", tag = "events", params(("id" = InstanceId, Path), LogsQuery),
    responses(
        (status = 200, description = "The lines, or events that tell them", content(
            (Vec<LogLine> = "application/json"), (ServerSentEvent = "text/event-stream"))),
        (status = 400, description = "A value of the query is not allowed"),
        (status = 404, description = "There is no such instance"),
        (status = 502, description = "The agent does not answer"),
        (status = 503, description = "There is no agent at the moment")))]
pub(super) async fn get_logs(
    State(shared): State<Shared>,
    Id(id): Id,
    Asked(query): Asked<LogsQuery>,
) -> Result<Response, ApiError> {
    let tail = query.tail.unwrap_or(DEFAULT_TAIL);
    let end = bound(query.for_s);
    let agent = Agent::of(&shared, id)?;
    if !query.follow {
        let lines: Vec<LogLine> = agent.get(&format!("/logs?tail={tail}")).await?;
        return Ok(Json(lines).into_response());
    }
    let events = agent.events(&format!("/logs?tail={tail}&follow=true")).await?;
    let lines = events.filter_map(move |event| async move {
        match event {
            Ok(event) if event.name == "line" => {
                serde_json::from_str(&event.data).ok().map(|line: LogLine| ("line", line))
            }
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%id, "following its log ended: {error}");
                None
            }
        }
    });
    Ok(event_response(lines.take_until(end), shared.stop))
}

/// What was seen before an attempt to repair
#[utoipa::path(get, path = "/api/evidence/{id}/{attempt}/{file}", tag = "events",
    params(
        ("id" = InstanceId, Path),
        ("attempt" = String, Path, pattern = "^[A-Za-z0-9_-]{1,64}$", description = "The attempt's id"),
        ("file" = inline(EvidenceFile), Path, description = "Which of its files")),
    responses(
        (status = 200, description = "The file", content(
            (Vec<u8> = "image/png"), (Object = "application/json"), (String = "text/plain"))),
        (status = 404, description = "There is no such instance, attempt or file"),
        (status = 502, description = "The agent does not answer"),
        (status = 503, description = "There is no agent at the moment")))]
pub(super) async fn get_evidence(
    State(shared): State<Shared>,
    Params((id, attempt, file)): Params<(String, String, String)>,
) -> Result<Response, ApiError> {
    let (id, attempt) = (instance(&id)?, name("attempt", &attempt)?);
    let Some((file, kind)) = EVIDENCE.into_iter().find(|(name, _)| *name == file) else {
        let allowed = EVIDENCE.map(|(name, _)| name).join(", ");
        return Err(Failure::not_found(format!("there is no such evidence: allowed are {allowed}")).into());
    };
    let agent = Agent::of(&shared, id)?;
    let answer = agent.ask(Method::GET, &format!("/evidence/{attempt}/{file}"), None::<&()>).await?;
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        // Written by a guest: never to be run as a page of ours.
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox")),
    ];
    Ok((StatusCode::OK, headers, answer.body).into_response())
}

/// A file of an attempt's evidence.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "only its schema is of interest")]
enum EvidenceFile {
    #[schema(rename = "screenshot.png")]
    Screenshot,
    #[schema(rename = "qmp.json")]
    Qmp,
    #[schema(rename = "log.txt")]
    Log,
}
