//! Orders to an agent that answers in every way it can.
#![allow(clippy::panic, reason = "a test: a panic is its message")]

use super::*;
use crate::breaker::{Breaker, BreakerSettings};
use crate::fake::{Fake, client};
use axum::routing::post;
use axum::{Json, Router};
use loco_http::{Failure, Server};
use loco_model::recovery::Initiator;
use loco_model::{FailureClass, InstanceId, Remedy};
use tokio_util::sync::CancellationToken;

fn attempt(action: Remedy) -> Attempt {
    Attempt {
        reason: Some("it stands still".into()),
        ..Attempt::begun(
            "an-id",
            InstanceId::try_new(0).expect("index"),
            7,
            FailureClass::Qemu,
            action,
            Initiator::Policy { control: "c".into() },
        )
    }
}

/// Carries out at an agent whose every answer is this.
async fn at(routes: Router) -> Carried {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::bind("127.0.0.1:0".parse().expect("address")).await.expect("port");
    let (agent, stop) = (server.url(), CancellationToken::new());
    tokio::spawn(server.serve(routes, stop.clone()));
    let way = Way::Agent {
        client: client(folder.path()).0,
        agent,
        breaker: Breaker::new("agent", BreakerSettings::default()),
    };
    let carried = carry_out(attempt(Remedy::RestartQemu), way).await;
    stop.cancel();
    carried
}

fn answers(status: StatusCode, retry_after: Option<&'static str>) -> Router {
    let answer = move || async move {
        let headers = retry_after.map(|seconds| [(header::RETRY_AFTER, seconds)]);
        let mut response = axum::response::IntoResponse::into_response(Failure::new(status, "so it is"));
        for (name, value) in headers.into_iter().flatten() {
            response.headers_mut().insert(name, axum::http::HeaderValue::from_static(value));
        }
        response
    };
    Router::new().route("/remedy/{action}", post(answer))
}

#[tokio::test]
async fn every_answer_has_its_end() {
    for (status, retry_after, ended, outcome) in [
        (429, Some("12"), Ended::Refused(Duration::from_secs(12)), Outcome::Refused),
        (429, None, Ended::Refused(DEFAULT_WAIT), Outcome::Refused),
        (429, Some("99999999"), Ended::Refused(LONGEST_WAIT), Outcome::Refused),
        // Neither refused, which is the limit's word, nor failed: somebody else is at it.
        (409, None, Ended::Yielded, Outcome::Yielded),
        (404, None, Ended::Failed, Outcome::Failed),
        (401, None, Ended::Failed, Outcome::Failed),
        (500, None, Ended::Failed, Outcome::Failed),
    ] {
        let status = StatusCode::from_u16(status).expect("status");
        let carried = at(answers(status, retry_after)).await;
        assert_eq!((carried.ended, carried.attempt.outcome), (ended, outcome), "{status}");
        let detail = carried.attempt.detail.expect("why");
        assert!(detail.contains("so it is"), "{status}: {detail}");
        assert!(carried.attempt.ended_at_ms.is_some());
    }
    let nonsense = Router::new().route("/remedy/{action}", post(|| async { Json("yes") }));
    let carried = at(nonsense).await;
    assert_eq!((carried.ended, carried.attempt.outcome), (Ended::Failed, Outcome::Failed));
}

#[tokio::test]
async fn what_the_agent_records_is_taken_over_and_judged_later() {
    let folder = tempfile::tempdir().expect("folder");
    let fake = Fake::start(0, |_, health| health.guest_restarts += 1).await;
    // Twice the answer is lost: the same order is given again, and done once.
    fake.lose_answers(2);
    let way = Way::Agent {
        client: client(folder.path()).0,
        agent: fake.url.clone(),
        breaker: Breaker::new("agent", BreakerSettings::default()),
    };
    let Carried { ended, attempt: carried } = carry_out(attempt(Remedy::RestartQemu), way).await;
    assert_eq!((ended, carried.outcome), (Ended::Done, Outcome::Running), "{carried:?}");
    assert_eq!(carried.evidence.as_deref(), Some("evidence"));
    assert!(carried.started_at_ms > 7, "by the agent's clock");
    let done = fake.attempts();
    assert_eq!(done.len(), 1, "{done:?}");
    assert_eq!(done[0].id, "an-id");
    assert_eq!(done[0].reason.as_deref(), Some("it stands still"));
}

#[tokio::test]
async fn who_does_not_answer_was_not_ordered() {
    let folder = tempfile::tempdir().expect("folder");
    let fake = Fake::start(0, |_, _| {}).await;
    let agent = fake.url.clone();
    fake.end();
    let breaker = Breaker::new("agent", BreakerSettings::default());
    let (client, _) = client(folder.path());
    // The server may take a moment to close its port.
    while ledger(&client, &agent, &breaker).await.is_some() {
        tokio::task::yield_now().await;
    }
    let way = Way::Agent { client, agent, breaker };
    let carried = carry_out(attempt(Remedy::RestartQemu), way).await;
    assert_eq!((carried.ended, carried.attempt.outcome), (Ended::NotGiven, Outcome::Failed));
    assert!(carried.attempt.detail.is_some_and(|detail| detail.contains("could not be given")));
}
