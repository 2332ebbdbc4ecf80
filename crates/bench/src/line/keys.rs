//! Presses as the guest itself tells them, on its debug console.

use crate::clock::monotonic_us;
use anyhow::{Context, Result};
use rustix::fs::inotify;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

/// Follows a guest's log. A thread of its own waits for the kernel to tell of each new line.
pub struct KeyLog {
    presses: mpsc::UnboundedReceiver<u64>,
}

// === impl KeyLog ===

impl KeyLog {
    /// From the end of the log that is there now.
    ///
    /// # Errors
    /// When it cannot be read or watched.
    pub fn follow(path: &Path) -> Result<Self> {
        let mut file = File::open(path).with_context(|| format!("no guest's log at {}", path.display()))?;
        file.seek(SeekFrom::End(0))?;
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC).context("no inotify")?;
        inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY).context("the log cannot be watched")?;
        let (tell, presses) = mpsc::unbounded_channel();
        std::thread::Builder::new().name("key log".to_owned()).spawn(move || {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(watch, &mut buffer);
            let mut rest = String::new();
            // Ends with the file, or when nobody listens.
            while events.next().is_ok() {
                let at_us = monotonic_us();
                if file.read_to_string(&mut rest).is_err() {
                    return;
                }
                while let Some(end) = rest.find('\n') {
                    let is_press = rest[..end].starts_with("loco: key ") && rest[..end].contains("pressed=1");
                    if is_press && tell.send(at_us).is_err() {
                        return;
                    }
                    rest.drain(..=end);
                }
            }
        })?;
        Ok(Self { presses })
    }

    /// When the next press was told, in microseconds of `CLOCK_MONOTONIC`; nothing when none was within `patience`.
    pub async fn next(&mut self, patience: Duration) -> Option<u64> {
        tokio::time::timeout(patience, self.presses.recv()).await.ok().flatten()
    }

    /// Forgets the presses that nobody asked for.
    pub fn clear(&mut self) {
        while self.presses.try_recv().is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[tokio::test]
    async fn presses_are_told_once_and_releases_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guest.log");
        std::fs::write(&path, "loco: key code=0x1e pressed=1 count=1\n").unwrap();
        let mut keys = KeyLog::follow(&path).unwrap();
        let mut log = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        let before = monotonic_us();
        log.write_all(b"loco: key code=0x1e pressed=1 cou").unwrap();
        log.write_all(b"nt=2\nloco: key code=0x1e pressed=0 count=2\n").unwrap();
        let at = keys.next(Duration::from_secs(5)).await.expect("told");
        assert!(at >= before);
        assert_eq!(keys.next(Duration::from_millis(50)).await, None);
    }
}
