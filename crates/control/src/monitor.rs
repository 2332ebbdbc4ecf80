//! Follows one agent's events for as long as it is asked to.

use crate::breaker::{Breaker, BreakerSettings};
use crate::hub::unix_ms;
use futures::StreamExt as _;
use loco_http::{Client, ClientError};
use loco_model::InstanceId;
use loco_model::report::HealthReport;
use loco_model::time::Utc;
use rand::Rng as _;
use std::time::Duration;
use tokio::sync::mpsc;

/// First pause after a broken connection.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause, unless the breaker says otherwise.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// An agent reports every 15 s at least. One that sends nothing but signs of life has lost its reporter.
const LONGEST_GAP: Duration = Duration::from_secs(40);
/// When it is connected to less often. An agent that comes back is to be seen within seconds, so it is not left alone for
/// as long as others are that are only asked something.
pub(crate) const BREAKER: BreakerSettings = BreakerSettings {
    timeout: Duration::from_secs(3),
    window: Duration::from_secs(30),
    least_calls: 8,
    failure_share: 0.5,
    open_for: Duration::from_secs(5),
};

/// What was heard, and of which connection: an instance whose agent was replaced gets a new number, so that a late word
/// of the old one is told apart.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) id: InstanceId,
    pub(crate) generation: u64,
    pub(crate) told: Told,
}

/// What an agent told, or that it tells nothing.
#[derive(Debug)]
pub(crate) enum Told {
    /// Its newest report.
    Report(Box<HealthReport>),
    /// It does not answer (any more).
    Lost {
        /// Why.
        reason: String,
    },
}

/// Connects again and again, and passes on every report and every loss; ends when nobody listens.
pub(crate) async fn follow(
    client: Client,
    agent: String,
    id: InstanceId,
    generation: u64,
    breaker: Breaker,
    heard: mpsc::Sender<Heard>,
) {
    let url = format!("{agent}/events");
    let mut pause = FIRST_PAUSE;
    loop {
        let permit = match breaker.permit() {
            Ok(permit) => permit,
            Err(refused) => {
                tokio::time::sleep(jittered(refused.wait)).await;
                continue;
            }
        };
        let tell = |told| heard.send(Heard { id, generation, told });
        let connected = client.events(&url).await;
        permit.tell(connected.is_ok());
        let reason = match connected {
            Ok(mut events) => loop {
                match tokio::time::timeout(LONGEST_GAP, events.next()).await {
                    Ok(Some(Ok(event))) => match serde_json::from_str::<HealthReport>(&event.data) {
                        Ok(report) => {
                            pause = FIRST_PAUSE;
                            if tell(Told::Report(Box::new(report))).await.is_err() {
                                return;
                            }
                        }
                        Err(error) => break format!("its report cannot be read: {error}"),
                    },
                    // With the time: the words stay, and what they say must stay true.
                    Ok(Some(Err(error))) => break format!("{} at {}", short(&error), Utc::of_ms(unix_ms()).clock()),
                    Ok(None) => break "it closed the connection".to_owned(),
                    Err(_) => {
                        let clock = Utc::of_ms(unix_ms()).clock();
                        break format!("no report for {} s at {clock}", LONGEST_GAP.as_secs());
                    }
                }
            },
            Err(error) => short(&error),
        };
        if tell(Told::Lost { reason }).await.is_err() {
            return;
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// So that those who were lost together do not come back together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.75..1.25))
}

/// Without the URL, which a tile has no room for.
fn short(error: &ClientError) -> String {
    match error {
        ClientError::Unreachable { reason, .. } | ClientError::Unexpected { reason, .. } => reason.clone(),
        ClientError::Refused { status, detail, .. } => {
            detail.as_ref().map_or_else(|| status.to_string(), |detail| format!("{status}: {detail}"))
        }
    }
}
