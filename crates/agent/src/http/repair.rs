//! Routes of remedies, their ledger and their evidence.

use super::Shared;
use crate::repair::{self, LimitReached, NotJudged, Refusal, unix_ms};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use loco_http::{Failure, JsonBody, OptionalJson, Role};
use loco_model::failure::{FailureClass, Remedy};
use loco_model::recovery::{Attempt, Judgement, Ledger, MAX_ATTEMPTS, Outcome, RemedyOrder};

pub(super) async fn remedy(
    State(agent): Shared,
    Extension(role): Extension<Role>,
    Path(action): Path<String>,
    OptionalJson(order): OptionalJson<RemedyOrder>,
) -> Response {
    let action: Remedy = match action.parse() {
        Ok(action) => action,
        Err(error) => return Failure::not_found(short(&format!("{error}"))).into_response(),
    };
    let order = order.unwrap_or(RemedyOrder {
        attempt_id: None,
        class: FailureClass::None,
        reason: None,
        initiator: None,
        is_override: false,
    });
    answer(repair::order(agent, action, order, role).await)
}

/// What an attempt was good for, by whoever ordered it.
pub(super) async fn judge(
    State(agent): Shared,
    Path(attempt): Path<String>,
    JsonBody(judgement): JsonBody<Judgement>,
) -> Response {
    answer(repair::judge(&agent, attempt, judgement).await)
}

fn answer(made: Result<Attempt, Refusal>) -> Response {
    match made {
        Ok(attempt) => Json(attempt).into_response(),
        Err(Refusal::Busy) => {
            Failure::new(StatusCode::CONFLICT, "another attempt is being made: wait for its end").into_response()
        }
        Err(Refusal::Limit(reached)) => limited(reached),
        Err(Refusal::Wrong(detail)) => Failure::new(StatusCode::UNPROCESSABLE_ENTITY, detail).into_response(),
        Err(Refusal::NotJudged(why)) => not_judged(why).into_response(),
        Err(Refusal::Broke(detail)) => Failure::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response(),
    }
}

fn not_judged(why: NotJudged) -> Failure {
    match why {
        NotJudged::Unknown => Failure::not_found("the ledger has no such attempt"),
        NotJudged::Own => Failure::new(StatusCode::CONFLICT, "the agent made this attempt itself, and judged it"),
        NotJudged::NotDone(outcome) => {
            let how = match outcome {
                Outcome::Running => "is being made",
                Outcome::Failed => "could not be made",
                _ => "was not made",
            };
            Failure::new(StatusCode::CONFLICT, format!("this attempt {how}: there is nothing to judge"))
        }
    }
}

/// A path's text in an error.
fn short(text: &str) -> String {
    text.chars().take(300).collect()
}

fn limited(reached: LimitReached) -> Response {
    let wait_ms = reached.next_at_ms.saturating_sub(unix_ms());
    let detail = format!(
        "{MAX_ATTEMPTS} attempts were made in the last hour, the next is free in {} min: \
         override it, or wait",
        wait_ms.div_ceil(60_000)
    );
    let mut response = Failure::new(StatusCode::TOO_MANY_REQUESTS, detail).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1000).max(1)));
    response
}

pub(super) async fn ledger(State(agent): Shared) -> Json<Ledger> {
    Json(agent.repair.book.ledger())
}

pub(super) async fn evidence(
    State(agent): Shared,
    Path((attempt, file)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let folder = agent.repair.evidence.clone();
    let read = tokio::task::spawn_blocking(move || repair::evidence::read(&folder, &attempt, &file)).await;
    let (bytes, kind) = read.ok().flatten().ok_or_else(|| {
        let files = repair::evidence::FILES.map(|(name, _)| name).join(", ");
        Failure::not_found(format!("there is no such evidence: the newest 20 attempts have some of {files}"))
    })?;
    Ok(([(header::CONTENT_TYPE, kind)], bytes).into_response())
}
