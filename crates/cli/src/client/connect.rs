//! Which control plane is asked, and which instance is meant.

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use loco_http::{Client, ClientError, TokenFile};
use loco_model::InstanceId;
use loco_model::api::{Event, Instance};
use loco_process::RunDir;
use std::path::PathBuf;
use std::time::Duration;

/// What the demo's run directory is called.
pub(crate) const DEMO: &str = "demo";
/// The file in it that holds the address of its control plane.
pub(crate) const DEMO_API: &str = "api";
/// The file in it that holds the token.
pub(crate) const DEMO_TOKEN: &str = "token";
/// First and longest wait before a lost stream of events is asked for again.
pub(crate) const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Where the control plane is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ConnectArgs {
    /// Address of the control plane [default: that of the demo that runs, when there is exactly one]
    #[arg(long, value_name = "URL", env = "LOCO_API")]
    api: Option<String>,

    /// File that holds its bearer token (mode 0600)
    #[arg(long, value_name = "FILE", env = "LOCO_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    /// JSON for machines
    #[arg(long)]
    pub(crate) json: bool,
}

/// Nobody reads any more.
#[derive(Debug, thiserror::Error)]
#[error("the output is closed")]
pub(crate) struct Ended;

/// The way to a control plane.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) api: String,
}

// === impl ConnectArgs ===

impl ConnectArgs {
    pub(crate) fn open(&self) -> anyhow::Result<Connection> {
        let (api, token_file) = match (&self.api, &self.token_file) {
            (Some(api), Some(file)) => (api.clone(), file.clone()),
            (Some(_), None) => bail!("--api needs the token too: give --token-file FILE, or set LOCO_TOKEN_FILE"),
            (None, Some(_)) => bail!("--token-file needs the address too: give --api URL, or set LOCO_API"),
            (None, None) => running_demo()?,
        };
        let api = loco_viewer::control::check_url(&api)?;
        let tokens = TokenFile::open(&token_file)?;
        Ok(Connection { client: Client::new(tokens)?, api })
    }
}

/// Address and token file of the one demo of this user that runs.
fn running_demo() -> anyhow::Result<(String, PathBuf)> {
    let found = RunDir::living(DEMO).into_iter().filter_map(|folder| {
        let api = std::fs::read_to_string(folder.join(DEMO_API)).ok()?;
        Some((api.trim().to_owned(), folder.join(DEMO_TOKEN)))
    });
    let mut found: Vec<_> = found.collect();
    match (found.pop(), found.len()) {
        (Some(one), 0) => Ok(one),
        (Some(last), more) => {
            let all: Vec<_> = found.iter().chain([&last]).map(|(api, _)| api.as_str()).collect();
            bail!("{} demos run ({}): say which with --api URL and --token-file FILE", more + 1, all.join(", "))
        }
        (None, _) => bail!(
            "no control plane is named and no demo runs: give --api URL and --token-file FILE (or set LOCO_API and \
             LOCO_TOKEN_FILE), or start `loco demo`"
        ),
    }
}

// === impl Connection ===

impl Connection {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.api)
    }

    pub(crate) async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        Ok(self.client.get_json(&self.url(path)).await?)
    }

    /// The same from a control plane that may not know of it; `None` then.
    pub(crate) async fn get_if_known<T: serde::de::DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<T>> {
        match self.client.get_json(&self.url(path)).await {
            Ok(value) => Ok(Some(value)),
            Err(ClientError::Refused { status, .. }) if matches!(status.as_u16(), 404 | 405) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends JSON and reads JSON.
    pub(crate) async fn post<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl serde::Serialize + Sync),
    ) -> anyhow::Result<T> {
        let url = self.url(path);
        let request = self.client.request(reqwest::Method::POST, &url).json(body);
        let answer = self.client.fetch(request, &url, MAX_ANSWER_BYTES).await?;
        serde_json::from_slice(&answer.body).with_context(|| format!("{url} answered something unexpected"))
    }

    /// Calls `each` with every event (its id, its JSON) until that says that it is enough. A connection that is lost is
    /// made again, and goes on where it was; the first one must be made. So is one that is lost to a request of `each`.
    pub(crate) async fn follow(
        &self,
        mut each: impl AsyncFnMut(Option<&str>, &str) -> anyhow::Result<Go>,
    ) -> anyhow::Result<()> {
        let url = self.url("/api/events");
        let (mut last, mut wait, mut ever, mut loss) = (None::<String>, BACKOFF.0, false, Loss::default());
        loop {
            match self.client.events_after(&url, last.as_deref()).await {
                Ok(mut events) => {
                    ever = true;
                    while let Some(event) = events.next().await {
                        let event = match event {
                            Ok(event) => event,
                            Err(error) => {
                                tracing::debug!(%error, "the control plane's events ended");
                                break;
                            }
                        };
                        match each(event.id.as_deref(), &event.data).await {
                            Ok(Go::Stop) => return Ok(()),
                            Ok(Go::On) => {
                                last = event.id.or(last);
                                (wait, loss) = (BACKOFF.0, Loss::default());
                            }
                            // This event is asked for again.
                            Err(error) if error.downcast_ref().is_some_and(is_passing) => {
                                loss.tell(&error);
                                break;
                            }
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) if !ever || !is_passing(&error) => return Err(error.into()),
                Err(error) => loss.tell(&error),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    pub(crate) async fn instances(&self) -> anyhow::Result<Vec<Instance>> {
        self.get("/api/instances").await
    }
}

/// Whether what went wrong may be well again by itself: not that it is not ours to know, nor that it is not there.
pub(crate) fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } => true,
        ClientError::Refused { status, .. } => status.is_server_error() || matches!(status.as_u16(), 408 | 429),
        ClientError::Unexpected { .. } => false,
    }
}

/// That what is followed is lost, said once.
#[derive(Default)]
pub(crate) struct Loss {
    is_told: bool,
}

impl Loss {
    pub(crate) fn tell(&mut self, error: &dyn std::fmt::Display) {
        if std::mem::replace(&mut self.is_told, true) {
            tracing::debug!(%error, "still lost");
        } else {
            tracing::warn!("the connection is lost, and is tried again until it is back: {error}");
        }
    }
}

/// Longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// Whether a stream goes on.
pub(crate) enum Go {
    On,
    Stop,
}

/// An event of a kind that this program knows.
pub(crate) fn event(json: &str) -> Option<Event> {
    serde_json::from_str(json).ok()
}

/// An instance as people name it: `instance-3` as the API counts, or `4` (also `#4`) as its tile shows it.
pub(crate) fn parse_instance(text: &str) -> Result<InstanceId, String> {
    let number = text.strip_prefix('#').unwrap_or(text);
    if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
        let index = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        return index.and_then(|index| InstanceId::try_new(index).ok()).ok_or_else(|| {
            format!(
                "there is no instance number {number}: numbers are those on the tiles, 1 to {}",
                InstanceId::MAX_COUNT
            )
        });
    }
    text.parse().map_err(|_| {
        format!("{text:?} is no instance: give its id (instance-3, counted from 0) or the number on its tile (4)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_named_by_id_or_by_the_number_that_is_shown() {
        for (text, index) in [("instance-0", 0), ("instance-8", 8), ("1", 0), ("9", 8), ("#4", 3)] {
            assert_eq!(parse_instance(text).map(InstanceId::index), Ok(index), "{text}");
        }
        for bad in
            ["0", "#0", "#", "", "Loco 4", "instance-", "-1", "99999", "instance-99999", "99999999999999999999999"]
        {
            assert!(parse_instance(bad).is_err(), "{bad}");
        }
    }
}
