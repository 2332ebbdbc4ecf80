//! A private directory for sockets and the like.

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Longest path of a unix socket in bytes: `sun_path` has 108, the last one is the terminating zero (unix(7)).
pub const MAX_SOCKET_PATH: usize = 107;

/// Every run directory's name begins so.
const PREFIX: &str = "loco-";
/// Held by the owner for as long as it lives.
const LOCK: &str = "lock";
/// A directory without a lock is one that is being made, or whose maker died in between; after this long it is the latter.
const UNLOCKED_IS_STALE_AFTER: Duration = Duration::from_secs(60);

/// No run directory, or no room in it.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// Making it failed.
    #[error("cannot make a run directory in {}: {source}", base.display())]
    Create {
        /// Where.
        base: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A unix socket's path has at most [`MAX_SOCKET_PATH`] bytes.
    #[error("the socket path {} has {} bytes, a unix socket allows {MAX_SOCKET_PATH}: set XDG_RUNTIME_DIR to a shorter path", path.display(), path.as_os_str().len())]
    TooLong {
        /// The path that is too long.
        path: PathBuf,
    },
}

/// A directory of mode 0700 with a short path, locked while its owner lives, removed when dropped.
///
/// When its owner is killed, the next [`RunDir::create`] of the same user removes it.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// The lock goes with the descriptor, which no child inherits.
    _lock: File,
}

impl RunDir {
    /// Makes one in `$XDG_RUNTIME_DIR` (else the temporary directory), and removes those of dead owners there.
    /// `name` is for people: `loco-<name>-<random>`.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn create(name: &str) -> Result<Self, RunDirError> {
        Self::create_in(&default_base(), name)
    }

    /// Those of this user under `name` whose owners live, where [`Self::create`] makes them, in the order of their names.
    #[must_use]
    pub fn living(name: &str) -> Vec<PathBuf> {
        Self::living_in(&default_base(), name)
    }

    /// The same in a directory of the caller's choice.
    #[must_use]
    pub fn living_in(base: &Path, name: &str) -> Vec<PathBuf> {
        let prefix = format!("{PREFIX}{name}-");
        let entries = fs::read_dir(base).into_iter().flatten().flatten();
        let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
        let mut found: Vec<_> = named.map(|entry| entry.path()).filter(|path| is_living(path)).collect();
        found.sort();
        found
    }

    /// The same as [`Self::create`] in a directory of the caller's choice.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn create_in(base: &Path, name: &str) -> Result<Self, RunDirError> {
        let error = |source| RunDirError::Create { base: base.to_owned(), source };
        sweep(base);
        let dir = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{name}-"))
            .rand_bytes(6)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(base)
            .map_err(error)?;
        // Locked under another name first: from the moment on that the lock can be seen it is held.
        let making = dir.path().join("lock.new");
        let lock = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&making).map_err(error)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|e| error(e.into()))?;
        fs::rename(&making, dir.path().join(LOCK)).map_err(error)?;
        Ok(Self { path: dir.keep(), _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of a unix socket in it.
    ///
    /// # Errors
    /// When the path is longer than a unix socket allows.
    pub fn socket(&self, name: &str) -> Result<PathBuf, RunDirError> {
        let path = self.path.join(name);
        if path.as_os_str().len() <= MAX_SOCKET_PATH { Ok(path) } else { Err(RunDirError::TooLong { path }) }
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the run directory");
        }
        // A parent that was killed could not remove its own: the last of its children to end does.
        if let Some(base) = self.path.parent() {
            sweep(base);
        }
    }
}

fn default_base() -> PathBuf {
    std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute() && path.is_dir())
        .unwrap_or_else(std::env::temp_dir)
}

/// Whether it is a run directory of ours that a living process holds.
fn is_living(path: &Path) -> bool {
    let Ok(meta) = fs::symlink_metadata(path) else { return false };
    let is_ours = meta.is_dir() && meta.uid() == rustix::process::getuid().as_raw() && meta.mode() & 0o777 == 0o700;
    // A shared lock is asked for: it disturbs nobody who looks at the same time.
    is_ours
        && File::open(path.join(LOCK)).is_ok_and(|lock| {
            flock(&lock, FlockOperation::NonBlockingLockShared).is_err_and(|e| e == Errno::WOULDBLOCK)
        })
}

/// Removes the run directories in `base` whose owners are dead.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_stale(&path) {
            match fs::remove_dir_all(&path) {
                Ok(()) => tracing::info!(path = %path.display(), "removed the run directory of a dead process"),
                // Another process may be sweeping too.
                Err(error) => tracing::debug!(path = %path.display(), %error, "cannot remove a stale run directory"),
            }
        }
    }
}

/// Whether it is a run directory of ours that no living process holds.
fn is_stale(path: &Path) -> bool {
    let Ok(meta) = fs::symlink_metadata(path) else { return false };
    if !meta.is_dir() || meta.uid() != rustix::process::getuid().as_raw() || meta.mode() & 0o777 != 0o700 {
        return false;
    }
    match File::open(path.join(LOCK)) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Only what `create_in` can have left: nothing, or the lock under its first name.
            let begun =
                fs::read_dir(path).is_ok_and(|mut all| all.all(|e| e.is_ok_and(|e| e.file_name() == "lock.new")));
            let age = meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            begun && age.is_some_and(|age| age > UNLOCKED_IS_STALE_AFTER)
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_of_living_owners_are_found() {
        let base = tempfile::tempdir().expect("folder");
        let (one, other) = (RunDir::create_in(base.path(), "demo"), RunDir::create_in(base.path(), "agent"));
        let (one, _other) = (one.expect("one"), other.expect("other"));
        assert_eq!(RunDir::living_in(base.path(), "demo"), [one.path()]);
        // One whose owner died has its lock, and nobody holds it.
        let dead = base.path().join("loco-demo-dead");
        fs::create_dir(&dead).expect("folder");
        fs::set_permissions(&dead, fs::Permissions::from_mode(0o700)).expect("mode");
        File::create(dead.join(LOCK)).expect("lock");
        assert_eq!(RunDir::living_in(base.path(), "demo"), [one.path()]);
        drop(one);
        assert!(RunDir::living_in(base.path(), "demo").is_empty());
    }
}
