//! Asking one target once.

use super::config::Probe;
use crate::outside::{Outside, OutsideError, Target};
use axum::http::{HeaderMap, Method, Uri};
use loco_model::InstanceId;
use loco_model::problem::plain_reason;
use tokio::net::TcpStream;

/// Bytes of an answer that are looked through.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What is asked: an instance, or a fixed target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) instance: Option<InstanceId>,
    host: String,
}

// === impl Place ===

impl Place {
    /// A target in which nothing is to be filled in.
    pub(super) fn fixed() -> Self {
        Self { instance: None, host: String::new() }
    }

    /// An instance by its agent's URL.
    pub(super) fn of(id: InstanceId, agent: &str) -> Option<Self> {
        let host = agent.parse::<Uri>().ok()?.host()?.to_owned();
        Some(Self { instance: Some(id), host })
    }

    /// Something to look at a text with.
    pub(super) fn example() -> Self {
        Self { instance: InstanceId::all().next(), host: "127.0.0.1".to_owned() }
    }

    /// Puts in what stands for an instance's own.
    pub(super) fn fill(&self, text: &str) -> String {
        let Some(id) = self.instance else { return text.to_owned() };
        text.replace("{host}", &self.host).replace("{index}", &id.index().to_string()).replace("{id}", &id.to_string())
    }
}

/// Why it is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Wrong {
    #[error(transparent)]
    Outside(#[from] OutsideError),
    #[error("cannot connect: {}", plain_reason(.0))]
    Connect(#[from] std::io::Error),
    #[error("status {got} instead of {want}")]
    Status { got: u16, want: String },
    #[error("the answer does not contain {0:?}")]
    Missing(String),
}

/// Asks once. The caller sets the deadline.
pub(super) async fn probe(outside: &Outside, what: &Probe, place: &Place) -> Result<(), Wrong> {
    match what {
        Probe::Http { url, status, contains } => {
            let target = Target::parse(&place.fill(url))?;
            let sent = outside.send(Method::GET, &target, HeaderMap::new(), Vec::new(), MAX_ANSWER_BYTES).await;
            let (got, body) = sent?;
            let as_wanted = status.map_or_else(|| got.is_success(), |want| got.as_u16() == want);
            if !as_wanted {
                let want = status.map_or_else(|| "200 to 299".to_owned(), |want| want.to_string());
                return Err(Wrong::Status { got: got.as_u16(), want });
            }
            match contains {
                Some(text) if !holds(&body, text.as_bytes()) => Err(Wrong::Missing(text.clone())),
                _ => Ok(()),
            }
        }
        Probe::Tcp { address } => {
            TcpStream::connect(place.fill(address)).await?;
            Ok(())
        }
        // Answered from reports.
        Probe::Metric { .. } => Ok(()),
    }
}

fn holds(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}
