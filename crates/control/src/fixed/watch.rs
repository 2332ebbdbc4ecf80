//! Tells when a file may have changed: written, replaced, or reached by another way (a link on its path was turned,
//! which is how Kubernetes changes mounted files).

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
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
    watched: Folders,
}

/// The folders through which a file is reached, as (device, inode): that of its path, and that where it lies.
type Folders = [Option<(u64, u64)>; 2];

// === impl Watch ===

impl Watch {
    pub(super) fn new(path: &Path) -> Self {
        let woken = Arc::new(Notify::new());
        // Before they are watched: a change in between is seen as one.
        let watched = folders(path);
        let watcher = watch(path, &woken)
            .inspect_err(|error| tracing::warn!("{} cannot be watched: {error}", path.display()))
            .ok();
        Self { woken, watcher, watched }
    }

    pub(super) fn is_watching(&self) -> bool {
        self.watcher.is_some()
    }

    /// Whether the file lies where it is looked for: not when a link was turned, or a folder replaced.
    pub(super) fn is_there(&self, path: &Path) -> bool {
        self.watched == folders(path)
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

fn folders(path: &Path) -> Folders {
    let identity = |folder: &Path| std::fs::metadata(folder).ok().map(|folder| (folder.dev(), folder.ino()));
    let target = std::fs::canonicalize(path).ok();
    [path.parent(), target.as_deref().and_then(Path::parent)].map(|folder| identity(folder?))
}

/// Watches the file's folder rather than the file: one that is replaced is another file.
fn watch(path: &Path, woken: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let wake = woken.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error may hide a change.
        if event.map_or(true, |event| event.need_rescan() || is_change(event.kind)) {
            wake.notify_one();
        }
    })?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    // The file itself may lie elsewhere.
    let target = std::fs::canonicalize(path).ok();
    let elsewhere = target.as_deref().and_then(Path::parent).filter(|target| *target != folder);
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
