//! Follows one agent's events for as long as it is asked to.

use crate::state::Contact;
use futures::StreamExt as _;
use loco_http::{Client, ClientError};
use loco_model::InstanceId;
use loco_model::report::HealthReport;
use rand::Rng as _;
use std::time::Duration;
use tokio::sync::mpsc;

/// First pause after a broken connection.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What was heard, and of which connection: an instance whose agent was replaced gets a new number, so that a late word
/// of the old one is told apart.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) id: InstanceId,
    pub(crate) generation: u64,
    pub(crate) contact: Contact,
}

/// Connects again and again, and passes on every report and every loss; ends when nobody listens.
pub(crate) async fn follow(client: Client, agent: String, id: InstanceId, generation: u64, heard: mpsc::Sender<Heard>) {
    let url = format!("{agent}/events");
    let mut pause = FIRST_PAUSE;
    loop {
        let tell = |contact| heard.send(Heard { id, generation, contact });
        let reason = match client.events(&url).await {
            Ok(mut events) => loop {
                match events.next().await {
                    Some(Ok(event)) => match serde_json::from_str::<HealthReport>(&event.data) {
                        Ok(report) => {
                            pause = FIRST_PAUSE;
                            if tell(Contact::Report(Box::new(report))).await.is_err() {
                                return;
                            }
                        }
                        Err(error) => break format!("its report cannot be read: {error}"),
                    },
                    Some(Err(error)) => break short(&error),
                    None => break "it closed the connection".to_owned(),
                }
            },
            Err(error) => short(&error),
        };
        if tell(Contact::Lost { reason }).await.is_err() {
            return;
        }
        let jitter = rand::rng().random_range(0.75..1.25);
        tokio::time::sleep(pause.mul_f64(jitter)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
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
