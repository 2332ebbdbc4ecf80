//! The agent's own attempts: its QEMU ended unasked, and was started again at once.

use super::evidence::Evidence;
use super::{begin, finish, new_id, save};
use crate::agent::Agent;
use loco_guest::{End, GuestState};
use loco_model::failure::{FailureClass, Remedy};
use loco_model::recovery::{Attempt, Initiator, Outcome};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::mpsc;

/// How long a new QEMU may take until it shows a picture.
const PATIENCE: Duration = Duration::from_secs(45);

/// Notes every end, until the guest is gone.
pub(crate) async fn follow(agent: Arc<Agent>, mut ends: mpsc::UnboundedReceiver<End>) {
    let mut next = None;
    loop {
        let end = match next.take() {
            Some(end) => end,
            None => tokio::select! {
                end = ends.recv() => match end {
                    Some(end) => end,
                    None => return,
                },
                () = agent.stop.cancelled() => return,
            },
        };
        let evidence = Evidence::of_end(&agent, &end);
        let attempt = attempt(&agent, &end);
        let id = attempt.id.clone();
        // What is done at once cannot be refused; it counts all the same.
        if begin(&agent, attempt, false).await.is_err() {
            tracing::error!("the limit bound what is not bound by it");
        }
        save(&agent, &id, evidence).await;
        let (outcome, detail) = tokio::select! {
            end = ends.recv() => {
                let detail = end.as_ref().map(|end| format!("it ended again: {}", end.reason));
                let is_gone = end.is_none();
                next = end;
                if is_gone {
                    return;
                }
                (Outcome::InVain, detail)
            }
            outcome = shown(&agent) => outcome,
            () = agent.stop.cancelled() => return,
        };
        finish(&agent, &id, outcome, detail).await;
    }
}

fn attempt(agent: &Agent, end: &End) -> Attempt {
    let at = end.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
    let begun = Attempt::begun(new_id(), agent.id, at_ms, FailureClass::Qemu, Remedy::RestartQemu, Initiator::Agent);
    Attempt { reason: Some(end.reason.clone()), ..begun }
}

/// Waits until a picture is there again.
async fn shown(agent: &Agent) -> (Outcome, Option<String>) {
    let (mut status, mut size) = (agent.status.clone(), agent.size.clone());
    let settled = async {
        let wanted = [GuestState::Running, GuestState::Paused, GuestState::Failed, GuestState::Stopped];
        let state = status.wait_for(|status| wanted.contains(&status.state)).await.map(|status| status.state);
        match state {
            Ok(GuestState::Running | GuestState::Paused) => {
                // Its sender lives as long as the guest.
                let _ = size.wait_for(Option::is_some).await;
                (Outcome::Repaired, Some("QEMU was started again and shows a picture".to_owned()))
            }
            Ok(state) => (Outcome::InVain, Some(format!("the guest is {state}"))),
            Err(_) => (Outcome::InVain, Some("the guest was ended".to_owned())),
        }
    };
    let late = format!("no picture after {} s", PATIENCE.as_secs());
    tokio::time::timeout(PATIENCE, settled).await.unwrap_or((Outcome::InVain, Some(late)))
}
