//! When a guest wrote certain lines to its debug console: the file is watched, and every new line is stamped.

use crate::clock::monotonic_us;
use anyhow::{Context, Result};
use rustix::fs::inotify;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The times of a guest's lines. What reads the log ends with it.
pub struct GuestLog {
    stamps: mpsc::UnboundedReceiver<u64>,
    reader: JoinHandle<()>,
}

impl Drop for GuestLog {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

// === impl GuestLog ===

impl GuestLog {
    /// Follows the file from its present end; lines that are `wanted` are stamped as soon as they are whole.
    ///
    /// # Errors
    /// When the file cannot be read or watched.
    pub fn follow(path: &Path, wanted: fn(&str) -> bool) -> Result<Self> {
        let mut file = File::open(path).with_context(|| format!("no guest's log at {}", path.display()))?;
        file.seek(SeekFrom::End(0))?;
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY).context("the log cannot be watched")?;
        // SAFETY: the descriptor is owned, and stays open and the same for as long as it is registered.
        let watch = unsafe { AsyncFd::register_with_interest(watch, Interest::READABLE) }?;
        let (tell, stamps) = mpsc::unbounded_channel();
        let reader = tokio::spawn(async move {
            let (mut line, mut events) = (Vec::new(), [0u8; 4096]);
            // Ends with the file, or when nobody listens.
            while let Ok(mut ready) = watch.readable().await {
                let now_us = monotonic_us();
                while rustix::io::read(watch.get_ref(), &mut events).is_ok() {}
                ready.clear_ready();
                let mut new = Vec::new();
                if file.read_to_end(&mut new).is_err() {
                    return;
                }
                for byte in new {
                    if byte != b'\n' {
                        line.push(byte);
                        continue;
                    }
                    if wanted(&String::from_utf8_lossy(&line)) && tell.send(now_us).is_err() {
                        return;
                    }
                    line.clear();
                }
            }
        });
        Ok(Self { stamps, reader })
    }

    /// Follows the presses of keys.
    ///
    /// # Errors
    /// As [`GuestLog::follow`].
    pub fn presses(path: &Path) -> Result<Self> {
        Self::follow(path, |line| line.starts_with("loco: key ") && line.contains("pressed=1"))
    }

    /// The next line's time, `CLOCK_MONOTONIC` in microseconds; nothing when none came within `patience`.
    pub async fn next(&mut self, patience: Duration) -> Option<u64> {
        tokio::time::timeout(patience, self.stamps.recv()).await.ok().flatten()
    }

    /// The times that nobody asked for yet.
    pub fn take(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.stamps.try_recv().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn lines_are_stamped_when_they_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guest.log");
        let mut file = File::create(&path).unwrap();
        writeln!(file, "loco: marker n=1").unwrap();
        let mut log = GuestLog::follow(&path, |line| line.starts_with("loco: marker n=")).unwrap();
        write!(file, "loco: ready\nloco: mark").unwrap();
        assert_eq!(log.next(Duration::from_millis(50)).await, None);
        let before = monotonic_us();
        writeln!(file, "er n=2").unwrap();
        let at = log.next(SOON).await.expect("told");
        assert!(at >= before && at <= monotonic_us());
    }

    #[tokio::test]
    async fn presses_are_told_once_and_releases_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guest.log");
        std::fs::write(&path, "loco: key code=0x1e pressed=1 count=1\n").unwrap();
        let mut keys = GuestLog::presses(&path).unwrap();
        let mut log = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        log.write_all(b"loco: key code=0x1e pressed=1 cou").unwrap();
        log.write_all(b"nt=2\nloco: key code=0x1e pressed=0 count=2\n").unwrap();
        assert!(keys.next(SOON).await.is_some());
        assert_eq!(keys.next(Duration::from_millis(50)).await, None);
        assert!(keys.take().is_empty());
    }
}
