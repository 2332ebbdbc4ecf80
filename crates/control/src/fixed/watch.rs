//! Tells when a file may have changed: written, replaced, or reached by another way (a link on its path was turned,
//! which is how Kubernetes changes mounted files).

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A change is told when nothing happened for so long: files are written in several steps.
const QUIET: Duration = Duration::from_millis(50);
/// It is told at the latest after so long, however much goes on.
const LATEST: Duration = Duration::from_millis(250);

/// The folders of one file, watched while this lives.
pub(super) struct Watch {
    woken: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    watched: Place,
}

/// How a file is reached.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// The folders, as (device, inode): that of its path, and that where it lies.
    folders: [Option<(u64, u64)>; 2],
    /// Names in them that lead to it: its own, and what its links go through.
    names: BTreeSet<OsString>,
}

/// Most links that lead to a file one after the other: as many as Linux follows.
const MAX_LINKS: usize = 40;

// === impl Watch ===

impl Watch {
    pub(super) fn new(path: &Path) -> Self {
        let woken = Arc::new(Notify::new());
        // Before they are watched: a change in between is seen as one.
        let watched = Place::of(path);
        let watcher = watch(path, &watched.names, &woken)
            .inspect_err(|error| tracing::warn!("{} cannot be watched: {error}", path.display()))
            .ok();
        Self { woken, watcher, watched }
    }

    pub(super) fn is_watching(&self) -> bool {
        self.watcher.is_some()
    }

    /// Whether the file lies where it is looked for: not when a link was turned, or a folder replaced.
    pub(super) fn is_there(&self, path: &Path) -> bool {
        self.watched == Place::of(path)
    }

    /// Waits for the next change, and until it is over.
    pub(super) async fn changed(&self) {
        self.woken.notified().await;
        let latest = Instant::now() + LATEST;
        loop {
            let quiet = (Instant::now() + QUIET).min(latest);
            tokio::select! {
                () = self.woken.notified() => {}
                () = tokio::time::sleep_until(quiet) => return,
            }
        }
    }
}

// === impl Place ===

impl Place {
    fn of(path: &Path) -> Self {
        let identity = |folder: &Path| std::fs::metadata(folder).ok().map(|folder| (folder.dev(), folder.ino()));
        let target = std::fs::canonicalize(path).ok();
        let folders = [path.parent(), target.as_deref().and_then(Path::parent)].map(|folder| identity(folder?));
        let mut names: BTreeSet<OsString> =
            [Some(path), target.as_deref()].into_iter().flatten().filter_map(Path::file_name).map(Into::into).collect();
        let mut link = path.to_owned();
        // A link that leads nowhere yet is followed too.
        for _ in 0..MAX_LINKS {
            let Ok(leads_to) = std::fs::read_link(&link) else { break };
            names.extend(leads_to.components().filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_owned()),
                _ => None,
            }));
            link = link.parent().unwrap_or(Path::new("/")).join(leads_to);
        }
        Self { folders, names }
    }
}

/// Watches the file's folder rather than the file: one that is replaced is another file. What else is written there is
/// none of ours.
fn watch(path: &Path, names: &BTreeSet<OsString>, woken: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let wake = woken.clone();
    let folder = path.parent().unwrap_or(Path::new("/"));
    // The file itself may lie elsewhere.
    let target = std::fs::canonicalize(path).ok();
    let elsewhere = target.as_deref().and_then(Path::parent).filter(|target| *target != folder);
    let folders: Vec<PathBuf> = [Some(folder), elsewhere].into_iter().flatten().map(Path::to_owned).collect();
    let names = names.clone();
    let is_ours =
        move |path: &PathBuf| folders.contains(path) || path.file_name().is_some_and(|name| names.contains(name));
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error may hide a change, and so may what names nothing.
        let may_matter = event.map_or(true, |event| {
            let is_near = event.paths.is_empty() || event.paths.iter().any(&is_ours);
            event.need_rescan() || (is_near && is_change(event.kind))
        });
        if may_matter {
            wake.notify_one();
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    if let Some(elsewhere) = elsewhere
        && let Err(error) = watcher.watch(elsewhere, RecursiveMode::NonRecursive)
    {
        tracing::warn!("{} cannot be watched: {error}", elsewhere.display());
    }
    Ok(watcher)
}

/// Whether the file may be another one now. Reading it is no change: we would wake ourselves.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}
