//! What is passed on to an instance's agent. Nothing of a path reaches it but values of known types.

use super::Shared;
use super::error::ApiError;
use super::params::{Id, Params, instance, snapshot_name};
use crate::breaker::Breaker;
use crate::hub::HubError;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use loco_http::{Client, ClientError, EventStream, Failure, Fetched, JsonBody};
use loco_model::InstanceId;
use loco_model::agent::{Snapshot, SnapshotOrder};
use loco_model::input::InputRequest;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest answer that is passed on, in bytes: a screenshot.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Name of the breaker around what is passed on to an instance's agent.
pub(crate) fn breaker_name(id: InstanceId) -> String {
    format!("requests {id}")
}

/// The way to one instance's agent.
pub(super) struct Agent {
    client: Client,
    base: String,
    breaker: Breaker,
}

// === impl Agent ===

impl Agent {
    pub(super) fn of(shared: &Shared, id: InstanceId) -> Result<Self, ApiError> {
        let way = shared.hub.agent(id).ok_or(HubError::UnknownInstance(id))?;
        let base = way.url.ok_or_else(|| Failure::unavailable(format!("{id} has no agent at the moment")))?;
        // One of its own: what people ask in vain must not keep repairs off.
        let breaker = shared.hub.breakers().of(&breaker_name(id));
        Ok(Self { client: way.client, base, breaker })
    }

    /// Makes a call through the breaker; the client bounds how long it takes.
    async fn call<T>(&self, call: impl Future<Output = Result<T, ClientError>>) -> Result<T, ApiError> {
        let permit = self.breaker.permit().map_err(|refused| {
            let seconds = refused.wait.as_secs() + 1;
            Failure::unavailable(format!("the agent did not answer lately: it is tried again in {seconds} s"))
        })?;
        let result = call.await;
        permit.tell(!matches!(result, Err(ClientError::Unreachable { .. })));
        result.map_err(|error| ApiError::of_agent(&error))
    }

    pub(super) async fn events(&self, path: &str) -> Result<EventStream, ApiError> {
        self.call(self.client.events(&self.url(path))).await
    }

    /// `path` begins with a slash.
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Fetched, ApiError> {
        let url = self.url(path);
        let request = self.client.request(method, &url);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.call(self.client.fetch(request, &url, MAX_ANSWER_BYTES)).await
    }

    pub(super) async fn order(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<StatusCode, ApiError> {
        self.ask(method, path, body).await.map(|_| StatusCode::NO_CONTENT)
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let answer = self.ask(Method::GET, path, NOTHING).await?;
        serde_json::from_slice(&answer.body).map_err(|error| {
            ApiError::of_agent(&ClientError::Unexpected { url: self.url(path), reason: error.to_string() })
        })
    }
}

/// No body.
const NOTHING: Option<&()> = None;

/// Key and pointer events for a guest
///
/// All of them, or none when one is not allowed.
#[utoipa::path(post, path = "/input/{id}", tag = "use", params(("id" = InstanceId, Path)), request_body = InputRequest,
    responses(
        (status = 204, description = "Given to the guest, in order"),
        (status = 404, description = "There is no such instance"),
        (status = 409, description = "The guest does not take input now"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "A value of the body is not allowed"),
        (status = 502, description = "The agent does not answer"),
        (status = 503, description = "There is no agent, or the guest does not take input now")))]
pub(super) async fn give_input(
    State(shared): State<Shared>,
    Id(id): Id,
    JsonBody(input): JsonBody<InputRequest>,
) -> Result<StatusCode, ApiError> {
    Agent::of(&shared, id)?.order(Method::POST, "/input", Some(&input)).await
}

/// Stop a guest's clock and processor
#[utoipa::path(post, path = "/api/instances/{id}/pause", tag = "instances", params(("id" = InstanceId, Path)),
    responses(
        (status = 204, description = "It stands still"),
        (status = 404, description = "There is no such instance"),
        (status = 409, description = "It does not run"),
        (status = 502, description = "The agent does not answer"),
        (status = 503, description = "There is no agent, or it cannot now")))]
pub(super) async fn pause(State(shared): State<Shared>, Id(id): Id) -> Result<StatusCode, ApiError> {
    Agent::of(&shared, id)?.order(Method::POST, "/pause", NOTHING).await
}

/// Let a guest go on
#[utoipa::path(post, path = "/api/instances/{id}/resume", tag = "instances", params(("id" = InstanceId, Path)),
    responses(
        (status = 204, description = "It runs"),
        (status = 404, description = "There is no such instance"),
        (status = 409, description = "It is not paused"),
        (status = 502, description = "The agent does not answer"),
        (status = 503, description = "There is no agent, or it cannot now")))]
pub(super) async fn resume(State(shared): State<Shared>, Id(id): Id) -> Result<StatusCode, ApiError> {
    Agent::of(&shared, id)?.order(Method::POST, "/resume", NOTHING).await
}

/// A guest's snapshots
#[utoipa::path(get, path = "/api/instances/{id}/snapshots", tag = "instances", params(("id" = InstanceId, Path)),
    responses(
        (status = 200, description = "All of them", body = Vec<Snapshot>),
        (status = 404, description = "There is no such instance"),
        (status = 409, description = "It does not run"),
        (status = 502, description = "The agent does not answer"),
        (status = 503, description = "There is no agent, or it cannot now")))]
pub(super) async fn list_snapshots(State(shared): State<Shared>, Id(id): Id) -> Result<Json<Vec<Snapshot>>, ApiError> {
    Agent::of(&shared, id)?.get("/snapshots").await.map(Json)
}

/// Save a whole guest
///
/// One of the same name is replaced.
#[utoipa::path(post, path = "/api/instances/{id}/snapshot", tag = "instances", params(("id" = InstanceId, Path)),
    request_body = SnapshotOrder,
    responses(
        (status = 204, description = "Saved"),
        (status = 404, description = "There is no such instance"),
        (status = 409, description = "It cannot be saved now"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "A value of the body is not allowed"),
        (status = 502, description = "The agent does not answer"),
        (status = 503, description = "There is no agent, or it cannot now")))]
pub(super) async fn take_snapshot(
    State(shared): State<Shared>,
    Id(id): Id,
    JsonBody(order): JsonBody<SnapshotOrder>,
) -> Result<StatusCode, ApiError> {
    Agent::of(&shared, id)?.order(Method::POST, "/snapshot", Some(&order)).await
}

/// Go back to a snapshot
///
/// What the guest did since is lost.
#[utoipa::path(post, path = "/api/instances/{id}/snapshot/load", tag = "instances", params(("id" = InstanceId, Path)),
    request_body = SnapshotOrder,
    responses(
        (status = 204, description = "The guest is as it was then"),
        (status = 404, description = "There is no such instance, or no such snapshot"),
        (status = 409, description = "It cannot be loaded now"),
        (status = 415, description = "The body is not declared as JSON"),
        (status = 422, description = "A value of the body is not allowed"),
        (status = 502, description = "The agent does not answer"),
        (status = 503, description = "There is no agent, or it cannot now")))]
pub(super) async fn load_snapshot(
    State(shared): State<Shared>,
    Id(id): Id,
    JsonBody(order): JsonBody<SnapshotOrder>,
) -> Result<StatusCode, ApiError> {
    Agent::of(&shared, id)?.order(Method::POST, "/snapshot/load", Some(&order)).await
}

/// Forget a snapshot
#[utoipa::path(delete, path = "/api/instances/{id}/snapshots/{name}", tag = "instances",
    params(
        ("id" = InstanceId, Path),
        ("name" = String, Path, pattern = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$", description = "The snapshot's name")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "There is no such instance, or no such snapshot"),
        (status = 409, description = "It cannot be done now"),
        (status = 502, description = "The agent does not answer"),
        (status = 503, description = "There is no agent, or it cannot now")))]
pub(super) async fn delete_snapshot(
    State(shared): State<Shared>,
    Params((id, name)): Params<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let (id, name) = (instance(&id)?, snapshot_name(&name)?);
    Agent::of(&shared, id)?.order(Method::DELETE, &format!("/snapshots/{name}"), NOTHING).await
}
