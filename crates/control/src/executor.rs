//! Carries out one attempt: gives the agent its order, or asks whoever starts the agent.

use crate::breaker::Breaker;
use crate::hub::unix_ms;
use crate::policy::Ended;
use crate::provider::Hand;
use loco_http::Client;
use loco_model::problem::Problem;
use loco_model::recovery::{Attempt, Judgement, Ledger, Outcome, RemedyOrder, WINDOW_MS};
use reqwest::{Method, StatusCode, header};
use std::sync::Arc;
use std::time::Duration;

/// How long a remedy may take: what can be seen is saved, QEMU is ended and started, its picture is waited for.
const REMEDY_TIMEOUT: Duration = Duration::from_secs(90);
/// An order whose answer was lost is given again: its id makes it one attempt.
const TRIES: u32 = 3;
/// Pause before the second try; doubled for the third.
const PAUSE: Duration = Duration::from_millis(500);
/// When an agent says "later" and not when.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);
/// Nobody waits longer: by then every attempt of before is forgotten.
const LONGEST_WAIT: Duration = Duration::from_millis(WINDOW_MS);
/// Longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Who carries an attempt out.
#[derive(Clone)]
pub(crate) enum Way {
    /// The agent.
    Agent {
        /// Speaks to it.
        client: Client,
        /// Its base URL.
        agent: String,
        /// Opens when it does not answer.
        breaker: Breaker,
    },
    /// Whoever starts the agent.
    Provider(Arc<dyn Hand>),
}

/// What became of an attempt's order.
#[derive(Clone, Debug)]
pub(crate) struct Carried {
    /// How it ended, for the policy.
    pub(crate) ended: Ended,
    /// The attempt; still [`Outcome::Running`] when it was carried out: what it was good for shows later.
    pub(crate) attempt: Attempt,
}

/// An attempt that is left to somebody else, who has just made one.
pub(crate) fn yielded(attempt: Attempt, why: &str) -> Carried {
    failed(attempt, Ended::Yielded, Outcome::Yielded, format!("somebody else repairs it: {why}"))
}

/// Carries out. `attempt` is what was begun.
pub(crate) async fn carry_out(attempt: Attempt, way: Way) -> Carried {
    match way {
        Way::Provider(hand) => match hand.restart(attempt.instance_id).await {
            Ok(()) => Carried { ended: Ended::Done, attempt },
            Err(reason) => failed(attempt, Ended::Failed, Outcome::Failed, reason),
        },
        Way::Agent { client, agent, breaker } => order(attempt, &client, &agent, &breaker).await,
    }
}

/// What an agent's ledger says; `None` when it does not say it.
pub(crate) async fn ledger(client: &Client, agent: &str, breaker: &Breaker) -> Option<Ledger> {
    let url = format!("{agent}/ledger");
    let refused = |error: &loco_http::ClientError| !matches!(error, loco_http::ClientError::Refused { .. });
    match breaker.call_if(client.get_json::<Ledger>(&url), refused).await {
        Ok(ledger) => Some(ledger),
        Err(error) => {
            tracing::debug!("an agent's ledger cannot be read: {error}");
            None
        }
    }
}

/// Tells an agent's ledger what an attempt was good for. That it cannot be told changes nothing here: an agent that knows
/// no judgements keeps what it saw itself.
pub(crate) async fn judge_at(client: &Client, agent: &str, breaker: &Breaker, attempt: &Attempt) {
    let url = format!("{agent}/ledger/{}", attempt.id);
    let judgement = Judgement { outcome: attempt.outcome, detail: attempt.detail.clone() };
    let request = client.request(Method::PUT, &url).json(&judgement);
    let is_failure = |error: &loco_http::ClientError| !matches!(error, loco_http::ClientError::Refused { .. });
    if let Err(error) = breaker.call_if(client.send(request, &url), is_failure).await {
        tracing::debug!(attempt = attempt.id, "an agent's ledger does not take a judgement: {error}");
    }
}

async fn order(attempt: Attempt, client: &Client, agent: &str, breaker: &Breaker) -> Carried {
    let url = format!("{agent}/remedy/{}", attempt.action);
    let order = RemedyOrder {
        attempt_id: Some(attempt.id.clone()),
        class: attempt.class,
        reason: attempt.reason.clone(),
        initiator: Some(attempt.initiator.clone()),
        is_override: attempt.is_override,
    };
    let mut pause = PAUSE;
    let mut why = String::new();
    for number in 1..=TRIES {
        let Ok(permit) = breaker.permit() else {
            why = format!("{} failed too often", breaker.name());
            break;
        };
        let sent = client.request(Method::POST, &url).json(&order).timeout(REMEDY_TIMEOUT).send().await;
        let answer = match sent {
            Ok(response) => Answer::read(response).await,
            Err(error) => Err(error),
        };
        permit.tell(answer.is_ok());
        match answer {
            Ok(answer) => return answered(attempt, &answer),
            Err(error) => {
                why = if error.is_timeout() { "its agent timed out" } else { "its agent cannot be reached" }.to_owned();
                tracing::warn!(id = %attempt.instance_id, attempt = attempt.id, number, "{why}");
            }
        }
        if number < TRIES {
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
    failed(attempt, Ended::NotGiven, Outcome::Failed, format!("the order could not be given: {why}"))
}

/// An answer that arrived whole.
struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

// === impl Answer ===

impl Answer {
    async fn read(mut response: reqwest::Response) -> Result<Self, reqwest::Error> {
        let status = response.status();
        let after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await? {
            if body.len() + piece.len() > MAX_ANSWER_BYTES {
                // Not JSON of ours: it will be refused as such.
                body.clear();
                break;
            }
            body.extend_from_slice(&piece);
        }
        Ok(Self { status, retry_after: after.map(Duration::from_secs), body })
    }
}

fn answered(attempt: Attempt, answer: &Answer) -> Carried {
    if answer.status.is_success() {
        return match serde_json::from_slice::<Attempt>(&answer.body) {
            Ok(told) => done(attempt, told),
            Err(error) => {
                let detail = format!("its agent's answer cannot be read: {error}");
                failed(attempt, Ended::Failed, Outcome::Failed, detail)
            }
        };
    }
    let problem = serde_json::from_slice::<Problem>(&answer.body).ok();
    let detail = problem.and_then(|problem| problem.detail).unwrap_or_else(|| answer.status.to_string());
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS => {
            let wait = answer.retry_after.unwrap_or(DEFAULT_WAIT).min(LONGEST_WAIT);
            failed(attempt, Ended::Refused(wait), Outcome::Refused, detail)
        }
        StatusCode::CONFLICT => yielded(attempt, &detail),
        StatusCode::NOT_FOUND => {
            let detail = format!("its agent does not know {}: {detail}", attempt.action);
            failed(attempt, Ended::Failed, Outcome::Failed, detail)
        }
        _ => failed(attempt, Ended::Failed, Outcome::Failed, detail),
    }
}

/// The agent's own record is the better one: its clock, its evidence. What the attempt was good for is for us to see.
fn done(attempt: Attempt, told: Attempt) -> Carried {
    let mut merged = Attempt {
        started_at_ms: told.started_at_ms,
        ended_at_ms: told.ended_at_ms,
        detail: told.detail,
        evidence: told.evidence,
        ..attempt
    };
    let ended = match told.outcome {
        Outcome::Failed => Ended::Failed,
        Outcome::Refused => Ended::Refused(DEFAULT_WAIT),
        Outcome::Yielded => Ended::Yielded,
        Outcome::Running | Outcome::Repaired | Outcome::InVain => Ended::Done,
    };
    merged.outcome = match ended {
        Ended::Done => Outcome::Running,
        _ => told.outcome,
    };
    Carried { ended, attempt: merged }
}

fn failed(attempt: Attempt, ended: Ended, outcome: Outcome, detail: String) -> Carried {
    let attempt = Attempt { ended_at_ms: Some(unix_ms()), outcome, detail: Some(detail), ..attempt };
    Carried { ended, attempt }
}

#[cfg(test)]
mod tests;
