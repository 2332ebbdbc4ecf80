//! Provider `static`: agents that someone else runs, listed in a file: an array of `{"id", "name"?, "agent" (its URL),
//! "token_file"?, "supervised"?}`. An agent is ended only where its entry says `"supervised": true`: that something (systemd,
//! a container's restart policy) starts it again when it ends; else nobody would. The file is watched; a change of it, also by
//! replacement, is told within a moment. A file that cannot be read changes nothing but how old the list is.

mod parse;
mod watch;

use crate::hub::unix_ms;
use crate::provider::{Change, Found, Hand, Phase, Provider};
use async_trait::async_trait;
use loco_http::TokenFile;
use loco_model::InstanceId;
use loco_model::api::DiscoveryInfo;
use parse::List;
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use watch::Watch;

/// Longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// How long after a failure the file is looked for again: its folder may be gone, and come back unseen.
const RETRY: Duration = Duration::from_secs(5);

/// The list cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[error("instances file {path}: {reason}")]
pub struct FixedError {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// The provider.
#[derive(Debug)]
pub struct Fixed {
    path: PathBuf,
    first: Files,
    hand: Arc<FixedHand>,
    asked: mpsc::Receiver<Asked>,
}

/// Somebody wants the file to be read now, and waits for the answer.
type Asked = oneshot::Sender<Result<(), String>>;

#[derive(Debug)]
struct FixedHand {
    ask: mpsc::Sender<Asked>,
}

/// A file's list with what its entries refer to.
#[derive(Debug, Default)]
struct Files {
    found: BTreeMap<InstanceId, Found>,
    info: DiscoveryInfo,
}

// === impl Fixed ===

impl Fixed {
    /// Reads the list once. Single bad entries are refused and told later; a file that is no list is an error here.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no array.
    pub fn open(path: &Path) -> Result<Self, FixedError> {
        let failed = |reason: String| FixedError { path: path.to_owned(), reason };
        // Relative paths are to mean the same later, whatever becomes of the working folder.
        let path = std::path::absolute(path).map_err(|error| failed(error.to_string()))?;
        let first = load(&path).map_err(failed)?;
        let (ask, asked) = mpsc::channel(8);
        Ok(Self { path, first, hand: Arc::new(FixedHand { ask }), asked })
    }
}

#[async_trait]
impl Provider for Fixed {
    fn hand(&self) -> Arc<dyn Hand> {
        self.hand.clone()
    }

    async fn run(self: Box<Self>, changes: mpsc::Sender<Change>, stop: CancellationToken) {
        let Self { path, first, hand, mut asked } = *self;
        // Ours would keep the channel open; the hub has its own.
        drop(hand);
        let mut watch = Watch::new(&path);
        let mut teller = Teller { changes, known: BTreeMap::new(), info: DiscoveryInfo::default() };
        // What was read before the watch began may have changed meanwhile.
        let mut result = teller.tell(load_async(&path).await.map_or(first, |files| files)).await;
        if result.is_ok() {
            result = teller.send(Change::Listed).await;
        }
        while result.is_ok() {
            let stale = teller.info.stale_since_ms.is_some() || !watch.is_watching();
            let asker = tokio::select! {
                () = stop.cancelled() => return,
                () = watch.changed() => None,
                asker = asked.recv() => match asker {
                    Some(asker) => Some(asker),
                    None => return,
                },
                () = tokio::time::sleep(RETRY), if stale => {
                    watch = Watch::new(&path);
                    None
                }
            };
            if watch.is_watching() && !watch.is_there(&path) {
                // Before it is read: what changes from here on is told.
                watch = Watch::new(&path);
            }
            let read = load_async(&path).await;
            let answer = read.as_ref().map(|_| ()).map_err(|reason| format!("{}: {reason}", path.display()));
            result = match read {
                Ok(files) => teller.tell(files).await,
                Err(reason) => teller.stale(reason).await,
            };
            if let Some(asker) = asker {
                // Who gave up waiting needs no answer.
                let _ = asker.send(answer);
            }
        }
    }
}

#[async_trait]
impl Hand for FixedHand {
    async fn refresh(&self) -> Result<(), String> {
        let ended = || "the provider has ended".to_owned();
        let (answer, answered) = oneshot::channel();
        self.ask.send(answer).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

/// Nobody listens any more.
#[derive(Debug)]
struct Unheard;

/// Tells differences.
struct Teller {
    changes: mpsc::Sender<Change>,
    known: BTreeMap<InstanceId, Found>,
    info: DiscoveryInfo,
}

// === impl Teller ===

impl Teller {
    async fn send(&self, change: Change) -> Result<(), Unheard> {
        self.changes.send(change).await.map_err(|_| Unheard)
    }

    /// The file was read.
    async fn tell(&mut self, files: Files) -> Result<(), Unheard> {
        for refused in &files.info.refused {
            if !self.info.refused.contains(refused) {
                let source = self.source(&files.info);
                tracing::warn!(line = refused.line, "an entry of {source} is refused: {}", refused.reason);
            }
        }
        if self.info.stale_since_ms.is_some() {
            tracing::info!("{} is read again", self.source(&files.info));
        }
        let gone: Vec<InstanceId> = self.known.keys().copied().filter(|id| !files.found.contains_key(id)).collect();
        for id in gone {
            self.send(Change::Gone(id)).await?;
        }
        for (id, found) in &files.found {
            if self.known.get(id) != Some(found) {
                self.send(Change::Found(found.clone())).await?;
            }
        }
        self.known = files.found;
        // What went wrong last stays known: "last" does not mean "now".
        let last_error = files.info.last_error.or_else(|| self.info.last_error.take());
        self.info = DiscoveryInfo { last_error, ..files.info };
        self.send(Change::Discovery(Box::new(self.info.clone()))).await
    }

    /// The file cannot be read: the list stays, and says since when it is out of date.
    async fn stale(&mut self, reason: String) -> Result<(), Unheard> {
        if self.info.last_error.as_ref() != Some(&reason) || self.info.stale_since_ms.is_none() {
            tracing::warn!("the last list stays in use: {}: {reason}", self.source(&self.info));
        }
        let since = *self.info.stale_since_ms.get_or_insert_with(unix_ms);
        self.info.last_error = Some(reason);
        for found in self.known.values_mut().filter(|found| found.stale_since_ms.is_none()) {
            found.stale_since_ms = Some(since);
            self.changes.send(Change::Found(found.clone())).await.map_err(|_| Unheard)?;
        }
        self.send(Change::Discovery(Box::new(self.info.clone()))).await
    }

    fn source<'a>(&'a self, info: &'a DiscoveryInfo) -> &'a str {
        info.source.as_deref().unwrap_or("the list")
    }
}

async fn load_async(path: &Path) -> Result<Files, String> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || load(&path)).await.unwrap_or_else(|error| Err(error.to_string()))
}

fn load(path: &Path) -> Result<Files, String> {
    let read = |error: io::Error| format!("cannot be read: {error}");
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(read)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is longer than {MAX_FILE_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "is no UTF-8".to_owned())?;
    let mut list = parse::parse(&text)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let found = resolve(&mut list, folder);
    let info = DiscoveryInfo {
        mode: "static".to_owned(),
        source: Some(path.display().to_string()),
        updated_at_ms: Some(unix_ms()),
        refused: list.refused,
        ..DiscoveryInfo::default()
    };
    Ok(Files { found, info })
}

/// Looks at the token files; an entry whose file cannot be used is refused.
fn resolve(list: &mut List, folder: &Path) -> BTreeMap<InstanceId, Found> {
    let mut found = BTreeMap::new();
    for entry in std::mem::take(&mut list.entries) {
        let token_file = entry.token_file.map(|file| folder.join(file));
        if let Some(Err(error)) = token_file.as_deref().map(TokenFile::open) {
            list.refuse(entry.line, error.to_string());
            continue;
        }
        let name = entry.name.unwrap_or_else(|| entry.id.display_name());
        let agent = Some(entry.agent);
        let supervised = entry.supervised;
        let one = Found { name, agent, phase: Phase::Up, token_file, supervised, ..Found::new(entry.id) };
        found.insert(entry.id, one);
    }
    list.refused.sort_by_key(|refused| refused.line.unwrap_or(usize::MAX));
    found
}

#[cfg(test)]
#[path = "fixed/tests.rs"]
mod tests;
