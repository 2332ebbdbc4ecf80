//! What each remedy does.

use crate::agent::Agent;
use loco_guest::{GuestError, GuestState};
use loco_model::failure::Remedy;
use loco_model::recovery::Outcome;
use std::sync::Arc;
use std::time::Duration;

/// How long a new listener may take to be served.
const ATTACH: Duration = Duration::from_secs(5);
/// How long new encoders may take to make a frame.
const FRAME: Duration = Duration::from_secs(5);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long a new QEMU may take until it shows a picture.
const RESTART: Duration = Duration::from_secs(45);
/// How long a lower quality holds.
const LOWERED: Duration = Duration::from_secs(600);
/// How long an agent that ends waits, so that its answer is on its way.
const LAST_WORD: Duration = Duration::from_millis(200);

/// How it ended.
pub(super) struct Done {
    pub(super) outcome: Outcome,
    pub(super) detail: Option<String>,
}

impl Done {
    fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: Some(detail.into()) }
    }
}

/// Does it, and looks whether it helped, as far as that can be seen from here.
pub(super) async fn run(agent: &Arc<Agent>, action: Remedy) -> Done {
    match action {
        Remedy::ResetDisplay => judge(agent.guest.reset_display(ATTACH).await, "a new listener got the whole picture"),
        Remedy::ResetSound => judge(agent.guest.reset_sound(ATTACH).await, "a new listener is attached to the sound"),
        Remedy::ResetNetwork => {
            judge(agent.guest.reset_network().await, "the network card was unplugged and plugged in again")
        }
        Remedy::RestartStream => restart_stream(agent).await,
        Remedy::LowerQuality => lower_quality(agent),
        Remedy::RestartQemu => restart_qemu(agent).await,
        Remedy::RestartAgent => restart_agent(agent),
    }
}

fn judge(result: Result<(), GuestError>, detail: &str) -> Done {
    match result {
        Ok(()) => Done::new(Outcome::Repaired, detail),
        // It was tried, and QEMU does not answer.
        Err(error @ GuestError::TimedOut { .. }) => Done::new(Outcome::InVain, error.to_string()),
        Err(error) => Done::new(Outcome::Failed, error.to_string()),
    }
}

async fn restart_stream(agent: &Agent) -> Done {
    let before = agent.sender.stats();
    agent.sender.renew_encoders();
    if before.viewers == 0 {
        return Done::new(Outcome::Repaired, "nobody watches: the next viewer begins with a new encoder");
    }
    let renewed = async {
        while agent.sender.stats().key_frames == before.key_frames {
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(FRAME, renewed).await {
        Ok(()) => Done::new(Outcome::Repaired, "a new encoder sent a key frame to every viewer"),
        Err(_) => {
            let fault = agent.sender.stats().fault.map(|fault| format!(": {fault}")).unwrap_or_default();
            Done::new(Outcome::InVain, format!("no key frame came within {} s{fault}", FRAME.as_secs()))
        }
    }
}

fn lower_quality(agent: &Arc<Agent>) -> Done {
    let (ceiling, number) = agent.caps.halve();
    let (caps, stop) = (Arc::clone(&agent.caps), agent.stop.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(LOWERED) => caps.end_remedy(number),
            () = stop.cancelled() => {}
        }
    });
    let (fps, rate) = (ceiling.fps.unwrap_or_default(), ceiling.bit_rate.unwrap_or_default() / 1000);
    Done::new(Outcome::Repaired, format!("at most {fps} frames and {rate} kbit a second for ten minutes"))
}

async fn restart_qemu(agent: &Agent) -> Done {
    let before = agent.status.borrow().pid;
    let shown = async {
        agent.guest.restart().await?;
        let mut size = agent.size.clone();
        // It may not show anything for as long as it boots; that it does is what tells that it is well.
        size.wait_for(Option::is_some).await.map_err(|_| GuestError::Ended)?;
        agent.guest.wait_for(|status| status.state == GuestState::Running).await
    };
    match tokio::time::timeout(RESTART, shown).await {
        Ok(Ok(status)) if status.pid != before => Done::new(Outcome::Repaired, "a new QEMU runs and shows a picture"),
        Ok(Ok(_)) => Done::new(Outcome::InVain, "it is still the same QEMU"),
        Ok(Err(error)) => Done::new(Outcome::Failed, error.to_string()),
        Err(_) => {
            let status = agent.status.borrow();
            let why = status.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            Done::new(
                Outcome::InVain,
                format!("no picture after {} s, the guest is {}{why}", RESTART.as_secs(), status.state),
            )
        }
    }
}

/// Whether it helped is known only to the agent that comes after this one.
fn restart_agent(agent: &Arc<Agent>) -> Done {
    let agent = Arc::clone(agent);
    tokio::spawn(async move {
        tokio::time::sleep(LAST_WORD).await;
        agent.again.cancel();
    });
    Done::new(Outcome::Running, "the agent ends, for its owner to start it again")
}
