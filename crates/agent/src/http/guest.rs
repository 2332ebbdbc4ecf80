//! Routes that stop the guest, let it go on, and keep it.

use super::Shared;
use crate::agent::Agent;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use loco_guest::{GuestError, GuestState, Target};
use loco_http::{Failure, JsonBody};
use loco_model::agent::{Snapshot, SnapshotOrder};
use serde_json::{Value, json};
use std::time::Duration;

/// How long QEMU may take to stop or to go on.
const PATIENCE: Duration = Duration::from_secs(8);

pub(super) async fn pause(State(agent): Shared) -> Result<Json<Value>, Failure> {
    target(&agent, Target::Paused, GuestState::Paused).await
}

pub(super) async fn resume(State(agent): Shared) -> Result<Json<Value>, Failure> {
    target(&agent, Target::Running, GuestState::Running).await
}

async fn target(agent: &Agent, target: Target, wanted: GuestState) -> Result<Json<Value>, Failure> {
    let state = agent.status.borrow().state;
    if !matches!(state, GuestState::Running | GuestState::Paused) {
        return Err(Failure::unavailable(format!("the guest is {state}")));
    }
    agent.guest.set_target(target);
    let reached = agent.guest.wait_for(|status| status.state == wanted && status.target == target);
    match tokio::time::timeout(PATIENCE, reached).await {
        Ok(Ok(_)) => Ok(Json(json!({ "state": wanted }))),
        Ok(Err(error)) => Err(failure(&error)),
        Err(_) => Err(Failure::unavailable(format!("the guest is not {wanted} after {} s", PATIENCE.as_secs()))),
    }
}

pub(super) async fn snapshots(State(agent): Shared) -> Result<Json<Vec<Snapshot>>, Failure> {
    let all = agent.guest.snapshots().await.map_err(|error| failure(&error))?;
    let snapshot = |one: loco_guest::Snapshot| Snapshot {
        name: one.name,
        saved_at_ms: one.saved_at_s.saturating_mul(1000),
        bytes: one.bytes,
    };
    Ok(Json(all.into_iter().map(snapshot).collect()))
}

pub(super) async fn snapshot(
    State(agent): Shared,
    JsonBody(order): JsonBody<SnapshotOrder>,
) -> Result<StatusCode, Failure> {
    // In a task of its own: who hangs up does not leave a guest half saved.
    finish(async move { agent.guest.snapshot(&order.name).await }).await
}

pub(super) async fn load_snapshot(
    State(agent): Shared,
    JsonBody(order): JsonBody<SnapshotOrder>,
) -> Result<StatusCode, Failure> {
    finish(async move {
        // Asked of QEMU, what is not there is an error like any other.
        if agent.guest.snapshots().await?.iter().all(|snapshot| snapshot.name != order.name) {
            return Err(GuestError::NoSnapshot(order.name));
        }
        agent.guest.load_snapshot(&order.name).await
    })
    .await
}

pub(super) async fn delete_snapshot(State(agent): Shared, Path(name): Path<String>) -> Result<StatusCode, Failure> {
    finish(async move {
        let all = agent.guest.snapshots().await?;
        if all.iter().all(|snapshot| snapshot.name != name) {
            return Err(GuestError::NoSnapshot(name));
        }
        agent.guest.delete_snapshot(&name).await
    })
    .await
}

async fn finish(work: impl Future<Output = Result<(), GuestError>> + Send + 'static) -> Result<StatusCode, Failure> {
    match tokio::spawn(work).await {
        Ok(Ok(())) => Ok(StatusCode::NO_CONTENT),
        Ok(Err(error)) => Err(failure(&error)),
        Err(error) => Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

fn failure(error: &GuestError) -> Failure {
    let status = match error {
        GuestError::SnapshotName(_) => StatusCode::UNPROCESSABLE_ENTITY,
        GuestError::NoSnapshot(_) => StatusCode::NOT_FOUND,
        GuestError::NoSnapshotDisk | GuestError::NoDevice { .. } => StatusCode::CONFLICT,
        GuestError::NotRunning { .. } | GuestError::TimedOut { .. } | GuestError::Ended => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Failure::new(status, error.to_string())
}
