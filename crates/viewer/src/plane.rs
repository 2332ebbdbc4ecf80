//! What the viewer tells the control plane, and asks of it: who it is and what it sees, whose input an instance takes,
//! the active list, repairs and snapshots. Nothing waits for an answer; a control plane that is gone, or too old to know
//! a request, changes nothing on the wall.

mod who;

use crate::app::{Event, Post};
use crate::input::hold::Denial;
use loco_http::{Client, ClientError};
use loco_model::InstanceId;
use loco_model::agent::Snapshot;
use loco_model::recovery::RecoverOrder;
use loco_model::usage::{ClaimAction, InputClaim, InputHolder, SessionReport, SetActive, ViewerReport};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

pub use who::identity;

/// A viewer that has nothing new to tell says so this often; its lease is three times as long.
pub const TELL_AGAIN: Duration = Duration::from_secs(3);
/// Least time between two reports: changes come in groups.
const TELL_APART: Duration = Duration::from_millis(50);
/// A control plane that does not know viewers is asked again this often: another one may have taken its place.
const UNKNOWN_AGAIN: Duration = Duration::from_secs(30);
/// Saying goodbye takes no longer than this.
const GOODBYE_WITHIN: Duration = Duration::from_millis(500);
/// Claims and lists that wait to be told.
const MOST_WAITING: usize = 64;
/// Longest picture, status or log that is kept of an attempt, in bytes.
const MOST_EVIDENCE: usize = 16 * 1024 * 1024;
/// What an agent keeps of each attempt.
const EVIDENCE: [&str; 3] = ["screenshot.png", "qmp.json", "log.txt"];

/// What can be asked for one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TileOrder {
    /// Repair it.
    Recover(RecoverOrder),
    /// Let the guest stand still.
    Pause,
    /// Let it go on.
    Resume,
    /// Keep how it is now, under this name.
    Snapshot(String),
    /// Go back to that.
    Load(String),
    /// Tell which there are.
    Snapshots,
    /// Save what was seen before an attempt into this folder.
    Evidence {
        /// The attempt's id.
        attempt: String,
        /// Where to.
        folder: PathBuf,
    },
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gain {
    /// It was taken.
    Done,
    /// Names of snapshots.
    Names(Vec<String>),
    /// Files that were saved.
    Files(Vec<PathBuf>),
}

/// What the control plane answered.
#[derive(Debug)]
pub enum Answer {
    /// To a claim.
    Claim {
        /// Whose input.
        id: InstanceId,
        /// What was wanted.
        action: ClaimAction,
        /// What came of it.
        result: Result<(), Denial>,
    },
    /// To an order for one instance.
    Done {
        /// Which.
        id: InstanceId,
        /// What was asked for.
        order: TileOrder,
        /// What came of it; why not.
        result: Result<Gain, String>,
    },
}

/// Claims and lists, in order.
#[derive(Debug)]
enum Word {
    Claim(InstanceId, ClaimAction),
    Active(Vec<InstanceId>),
}

/// The way to the control plane.
pub struct Plane {
    me: InputHolder,
    link: Option<Link>,
}

struct Link {
    runtime: tokio::runtime::Handle,
    speaker: Speaker,
    report: watch::Sender<Option<ViewerReport>>,
    words: mpsc::Sender<Word>,
    post: Post,
}

impl Plane {
    /// Nobody is there: for walls that are made up.
    #[must_use]
    pub fn nowhere(me: InputHolder) -> Self {
        Self { me, link: None }
    }

    /// Tells and asks the control plane at `api`; answers come as events.
    #[must_use]
    pub fn open(runtime: &tokio::runtime::Handle, client: Client, api: String, me: InputHolder, post: Post) -> Self {
        let speaker = Speaker { client, api, viewer: me.viewer.clone() };
        let (report, reports) = watch::channel(None);
        let (words, heard) = mpsc::channel(MOST_WAITING);
        runtime.spawn(tell(speaker.clone(), reports.clone()));
        runtime.spawn(claim(speaker.clone(), heard, reports, Post::clone(&post)));
        Self { me, link: Some(Link { runtime: runtime.clone(), speaker, report, words, post }) }
    }

    /// Who this viewer is.
    #[must_use]
    pub fn me(&self) -> &InputHolder {
        &self.me
    }

    /// Whether there is a control plane at all.
    #[must_use]
    pub fn is_somewhere(&self) -> bool {
        self.link.is_some()
    }

    /// Tells what the viewer sees: at once where more than numbers changed, else with the next report.
    pub fn report(&self, report: ViewerReport) {
        let Some(link) = &self.link else { return };
        link.report.send_if_modified(|told| {
            let news = told.as_ref().is_none_or(|told| is_news(told, &report));
            *told = Some(report);
            news
        });
    }

    /// Asks for an instance's input, takes it, or gives it back.
    pub fn claim(&self, id: InstanceId, action: ClaimAction) {
        self.say(Word::Claim(id, action));
    }

    /// Sets the active list.
    pub fn set_active(&self, list: Vec<InstanceId>) {
        self.say(Word::Active(list));
    }

    fn say(&self, word: Word) {
        if let Some(link) = &self.link
            && let Err(error) = link.words.try_send(word)
        {
            tracing::debug!(%error, "the control plane is not told");
        }
    }

    /// Asks something for one instance.
    pub fn order(&self, id: InstanceId, order: TileOrder) {
        let Some(link) = &self.link else { return };
        let (speaker, post) = (link.speaker.clone(), Post::clone(&link.post));
        link.runtime.spawn(async move {
            let result = speaker.order(id, &order).await.map_err(|error| error.to_string());
            post(Event::Answer(Answer::Done { id, order, result }));
        });
    }

    /// What says goodbye: to be waited for, within bounds, when the viewer ends.
    pub fn goodbye(&self) -> impl Future<Output = ()> + Send + use<> {
        let speaker = self.link.as_ref().map(|link| link.speaker.clone());
        async move {
            if let Some(speaker) = speaker {
                let url = speaker.viewer_url();
                let request = speaker.client.request(Method::DELETE, &url);
                match tokio::time::timeout(GOODBYE_WITHIN, speaker.client.send(request, &url)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "goodbye"),
                    Err(_) => tracing::debug!("the control plane takes no goodbye in time"),
                }
            }
        }
    }
}

/// Whether two reports differ in more than numbers.
fn is_news(old: &ViewerReport, new: &ViewerReport) -> bool {
    let bare = |report: &ViewerReport| {
        let bare = |session: &SessionReport| SessionReport {
            reason: None,
            fps_decoded: None,
            fps_shown: None,
            frames_dropped: 0,
            freezes: 0,
            rtt_ms: None,
            ..session.clone()
        };
        ViewerReport { sessions: report.sessions.iter().map(bare).collect(), ..report.clone() }
    };
    bare(old) != bare(new)
}

/// Whether an answer says that the control plane does not know this kind of request.
fn is_unknown(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { status, detail, .. }
        if matches!(*status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
            && !detail.as_deref().is_some_and(|detail| detail.contains("unknown")))
}

/// Whether it forgot this viewer.
fn is_forgotten(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { status: StatusCode::NOT_FOUND, detail: Some(detail), .. }
        if detail.contains("unknown viewer"))
}

/// What a person is told of an error: without the address, which they know.
fn short(error: &ClientError) -> String {
    match error {
        ClientError::Refused { status: StatusCode::FORBIDDEN, detail: Some(detail), .. } => {
            lacking(detail).unwrap_or_else(|| detail.clone())
        }
        ClientError::Refused { detail: Some(detail), .. } => detail.clone(),
        ClientError::Refused { status, .. } => format!("the control plane says {status}"),
        ClientError::Unreachable { reason, .. } => format!("the control plane does not answer: {reason}"),
        ClientError::Unexpected { reason, .. } => format!("the control plane answers something unexpected: {reason}"),
    }
}

/// Which role was needed and which is there, of a guard's refusal; `None`: it was refused for something else.
fn lacking(detail: &str) -> Option<String> {
    let (_, roles) = detail.split_once(" needs the role ")?;
    let (needed, has) = roles.split_once("; the token has the role ")?;
    Some(format!("this takes the role {needed}, and you have {has}"))
}

/// Why an order came to nothing.
#[derive(Debug, thiserror::Error)]
enum OrderError {
    /// What the control plane says of it.
    #[error("{}", short(.0))]
    Plane(#[from] ClientError),
    /// It failed at this end.
    #[error("{0}")]
    Here(String),
}

/// Speaks for one viewer.
#[derive(Clone)]
struct Speaker {
    client: Client,
    api: String,
    viewer: String,
}

impl Speaker {
    fn viewer_url(&self) -> String {
        format!("{}/api/viewers/{}", self.api, self.viewer)
    }

    async fn send<T: Serialize>(&self, method: Method, url: &str, body: Option<&T>) -> Result<(), ClientError> {
        let request = self.client.request(method, url);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.client.send(request, url).await.map(drop)
    }

    async fn report(&self, report: &ViewerReport) -> Result<(), ClientError> {
        self.send(Method::PUT, &self.viewer_url(), Some(report)).await
    }

    async fn claim(&self, id: InstanceId, action: ClaimAction) -> Result<(), ClientError> {
        let url = format!("{}/api/instances/{id}/input", self.api);
        self.send(Method::POST, &url, Some(&InputClaim { viewer: self.viewer.clone(), action })).await
    }

    async fn order(&self, id: InstanceId, order: &TileOrder) -> Result<Gain, OrderError> {
        let instance = format!("{}/api/instances/{id}", self.api);
        let named = |name: &str| serde_json::json!({ "name": name });
        match order {
            TileOrder::Recover(order) => {
                self.send(Method::POST, &format!("{}/api/quality/recover/{id}", self.api), Some(order)).await?;
            }
            TileOrder::Pause => self.send::<()>(Method::POST, &format!("{instance}/pause"), None).await?,
            TileOrder::Resume => self.send::<()>(Method::POST, &format!("{instance}/resume"), None).await?,
            TileOrder::Snapshot(name) => {
                self.send(Method::POST, &format!("{instance}/snapshot"), Some(&named(name))).await?;
            }
            TileOrder::Load(name) => {
                self.send(Method::POST, &format!("{instance}/snapshot/load"), Some(&named(name))).await?;
            }
            TileOrder::Snapshots => {
                let list: Vec<Snapshot> = self.client.get_json(&format!("{instance}/snapshots")).await?;
                return Ok(Gain::Names(list.into_iter().map(|snapshot| snapshot.name).collect()));
            }
            TileOrder::Evidence { attempt, folder } => return self.evidence(id, attempt, folder).await,
        }
        Ok(Gain::Done)
    }

    /// Saves what there is of an attempt's evidence.
    async fn evidence(&self, id: InstanceId, attempt: &str, folder: &std::path::Path) -> Result<Gain, OrderError> {
        if !is_file_name(attempt) {
            return Err(OrderError::Here(format!("no file can be named after the attempt {attempt:?}")));
        }
        let (mut saved, mut failed) = (Vec::new(), None);
        for file in EVIDENCE {
            let url = format!("{}/api/evidence/{id}/{attempt}/{file}", self.api);
            match self.client.fetch(self.client.request(Method::GET, &url), &url, MOST_EVIDENCE).await {
                Ok(fetched) => {
                    let path = folder.join(format!("{id}-{attempt}-{file}"));
                    match tokio::fs::write(&path, &fetched.body).await {
                        Ok(()) => saved.push(path),
                        Err(error) => failed = Some(OrderError::Here(format!("{}: {error}", path.display()))),
                    }
                }
                Err(error) => failed = Some(error.into()),
            }
        }
        match failed {
            Some(error) if saved.is_empty() => return Err(error),
            Some(error) => tracing::warn!(%error, attempt, "a part of the evidence is not saved"),
            None => {}
        }
        Ok(Gain::Files(saved))
    }
}

/// Whether an attempt's id can be part of a file's name: it comes from another process.
fn is_file_name(attempt: &str) -> bool {
    !attempt.is_empty() && attempt.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// Reports at every change, and every 3 s.
async fn tell(speaker: Speaker, mut reports: watch::Receiver<Option<ViewerReport>>) {
    loop {
        let report = reports.borrow_and_update().clone();
        let mut again = TELL_AGAIN;
        if let Some(report) = report
            && let Err(error) = speaker.report(&report).await
        {
            if is_unknown(&error) {
                again = UNKNOWN_AGAIN;
            }
            tracing::debug!(%error, ?again, "the control plane does not hear of this viewer");
        }
        tokio::time::sleep(TELL_APART).await;
        tokio::select! {
            changed = reports.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(again) => {}
        }
    }
}

/// Carries claims and lists, one after the other.
async fn claim(
    speaker: Speaker,
    mut words: mpsc::Receiver<Word>,
    reports: watch::Receiver<Option<ViewerReport>>,
    post: Post,
) {
    while let Some(word) = words.recv().await {
        match word {
            Word::Claim(id, action) => {
                let mut answer = speaker.claim(id, action).await;
                if answer.as_ref().is_err_and(is_forgotten) {
                    // It has not heard of us yet, or not for long: say who asks, and ask again.
                    let report = reports.borrow().clone();
                    if let Some(report) = report
                        && speaker.report(&report).await.is_ok()
                    {
                        answer = speaker.claim(id, action).await;
                    }
                }
                let result = answer.map_err(|error| match &error {
                    ClientError::Refused { status: StatusCode::CONFLICT, .. } => Denial::Held(short(&error)),
                    ClientError::Refused { status: StatusCode::FORBIDDEN, .. } => Denial::Forbidden(short(&error)),
                    _ if is_unknown(&error) => Denial::Unknown,
                    _ => Denial::Failed(short(&error)),
                });
                post(Event::Answer(Answer::Claim { id, action, result }));
            }
            Word::Active(ids) => {
                let url = format!("{}/api/active", speaker.api);
                if let Err(error) = speaker.send(Method::POST, &url, Some(&SetActive::Ids { ids })).await {
                    tracing::debug!(%error, "the active list is not set");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
