//! What the control plane says: followed for ever, told to the window as updates.

use crate::args::ViewArgs;
use crate::error::ViewError;
use futures::StreamExt as _;
use loco_http::{Client, ClientError, TokenFile};
use loco_media::RelayServer;
use loco_model::InstanceId;
use loco_model::api::{Alert, Event, Instance};
use loco_model::recovery::Attempt;
use loco_model::usage::Viewer;
use std::path::Path;
use std::time::Duration;

/// First and longest wait before the next attempt.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What is new.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// All instances; the connection stands.
    All(Vec<Instance>),
    /// One is new or changed.
    One(Box<Instance>),
    /// One is gone.
    Removed(InstanceId),
    /// An attempt to repair was begun, or ended.
    Attempt(Box<Attempt>),
    /// An alert began or ended.
    Alert(Alert),
    /// The active list is another one.
    Active(Vec<InstanceId>),
    /// Viewers came, went, or told something new.
    Viewers(Vec<Viewer>),
    /// The connection is lost; it is tried again by itself.
    Lost {
        /// Why, in words for a person.
        reason: String,
    },
    /// The token was refused on the very first contact: nothing will ever be shown.
    Refused {
        /// HTTP status.
        status: u16,
    },
}

/// Checks the address and returns it without a trailing slash.
///
/// # Errors
/// When it is no http or https URL with a host.
pub fn check_url(text: &str) -> Result<String, ViewError> {
    let wrong = |why: String| ViewError::BadUrl { url: text.to_owned(), why };
    let url = reqwest::Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(format!("its scheme is {:?}", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it holds more than scheme, host, port and path".to_owned()));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Where that is, for people: "this computer", or the host.
#[must_use]
pub fn place(url: &str) -> String {
    let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    match host {
        Some(host) if matches!(host.as_str(), "127.0.0.1" | "localhost" | "[::1]") => "this computer".to_owned(),
        Some(host) => host,
        None => url.to_owned(),
    }
}

/// Bytes of a relay's password.
const MOST_PASSWORD: usize = 1024;

/// Opens the token file.
///
/// # Errors
/// When it is not there, readable by others, or holds no token.
pub fn open_token(path: &Path) -> Result<TokenFile, ViewError> {
    TokenFile::open(path).map_err(|error| ViewError::Token { path: path.to_owned(), why: error.to_string() })
}

/// The relay of the command line, with the password from its file.
///
/// # Errors
/// When the file is not there, readable by others, or empty.
pub fn open_relay(args: &ViewArgs) -> Result<Option<RelayServer>, ViewError> {
    let (Some(url), Some(user), Some(path)) = (&args.turn, &args.turn_user, &args.turn_password_file) else {
        return Ok(None);
    };
    let wrong = |why: String| ViewError::RelayPassword { path: path.clone(), why };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let mode = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.mode();
        if mode & 0o077 != 0 {
            return Err(wrong(format!("others may read it (mode {:04o}): chmod 600", mode & 0o7777)));
        }
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let password = text.trim();
    if password.is_empty() || password.len() > MOST_PASSWORD {
        return Err(wrong(format!("it must hold 1 to {MOST_PASSWORD} bytes")));
    }
    Ok(Some(RelayServer { url: url.clone(), user: user.clone(), password: password.to_owned(), only: args.turn_only }))
}

/// Follows the control plane until the task is dropped.
pub async fn follow(client: Client, api: String, tell: impl Fn(Update)) {
    let url = format!("{api}/api/events");
    let (mut wait, mut ever) = (BACKOFF.0, false);
    loop {
        let reason = match client.events(&url).await {
            Ok(mut events) => {
                let mut reason = "it closed the connection".to_owned();
                while let Some(event) = events.next().await {
                    match event {
                        Ok(event) => match serde_json::from_str(&event.data) {
                            Ok(event) => {
                                (wait, ever) = (BACKOFF.0, true);
                                if let Some(update) = update(event) {
                                    tell(update);
                                }
                            }
                            Err(error) => tracing::warn!(%error, name = event.name, "an event of no known kind"),
                        },
                        Err(error) => reason = why(&error),
                    }
                }
                reason
            }
            Err(ClientError::Refused { status, .. }) if !ever && matches!(status.as_u16(), 401 | 403) => {
                tell(Update::Refused { status: status.as_u16() });
                return;
            }
            Err(error) => why(&error),
        };
        tracing::debug!(reason, ?wait, "control plane lost");
        tell(Update::Lost { reason });
        // Half of it is chance, so that many viewers do not come back at once.
        let jitter = f64::from(std::process::id().wrapping_mul(2_654_435_761) >> 16 & 0xffff) / 65536.0;
        tokio::time::sleep(wait.mul_f64(0.5 + 0.5 * jitter)).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// Why it is lost, in words for a person: without the address, which is shown beside it.
fn why(error: &ClientError) -> String {
    match error {
        ClientError::Unreachable { reason, .. } => reason.clone(),
        ClientError::Refused { status, detail: None, .. } => format!("it refuses: {status}"),
        ClientError::Refused { status, detail: Some(detail), .. } => format!("it refuses: {status}: {detail}"),
        ClientError::Unexpected { reason, .. } => format!("its answer makes no sense: {reason}"),
    }
}

/// What the wall has to know of it; instances without a place in the grid it has not.
fn update(event: Event) -> Option<Update> {
    match event {
        Event::Instances { mut instances } => {
            instances.retain(|instance| instance.id.is_in_grid());
            Some(Update::All(instances))
        }
        Event::Instance { instance } => instance.id.is_in_grid().then_some(Update::One(instance)),
        Event::Removed { id } => id.is_in_grid().then_some(Update::Removed(id)),
        Event::Attempt { attempt } => attempt.instance_id.is_in_grid().then(|| Update::Attempt(Box::new(attempt))),
        Event::Alert { alert } => Some(Update::Alert(alert)),
        Event::Active { active } => Some(Update::Active(active)),
        Event::Viewers { viewers } => Some(Update::Viewers(viewers)),
        Event::Discovery { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(check_url("http://127.0.0.1:3001/").ok().as_deref(), Some("http://127.0.0.1:3001"));
        assert_eq!(check_url("https://loco.example/base/").ok().as_deref(), Some("https://loco.example/base"));
        for bad in ["", "127.0.0.1:3001", "ftp://host", "http://", "http://u:p@host", "http://host/?token=1"] {
            let error = check_url(bad).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(&format!("{bad:?}")), "{bad:?}: {error}");
        }
        assert_eq!(place("http://127.0.0.1:3001"), "this computer");
        assert_eq!(place("https://loco.example/base"), "loco.example");
    }

    #[tokio::test]
    async fn a_plane_that_is_gone_is_told_without_its_address() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "not-a-secret-of-anyone\n").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let client = Client::new(open_token(&path).unwrap()).unwrap();
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let following = tokio::spawn(follow(client, "http://127.0.0.1:1".into(), move |update| {
            let _ = told.send(update);
        }));
        assert_eq!(heard.recv().await, Some(Update::Lost { reason: "nobody listens there".into() }));
        following.abort();
    }

    #[test]
    fn a_missing_token_file_is_named() {
        let error = open_token(Path::new("/nonexistent/token")).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("/nonexistent/token"), "{error}");
    }
}
