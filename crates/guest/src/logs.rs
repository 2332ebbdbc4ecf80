//! What a guest and its QEMU write: kept in files of bounded size, the last lines at hand as evidence.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::sync::broadcast;

/// A file that grows beyond this becomes `NAME.1`, in the place of the one before.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Lines kept as evidence.
const LAST_LINES: usize = 40;
/// A longer line is cut.
const MAX_LINE_BYTES: u64 = 4096;

/// Lines that a slow reader may be behind.
const FOLLOWED_LINES: usize = 256;

/// Who wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// QEMU.
    Qemu,
    /// The guest, on its debug console.
    Guest,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Who wrote it.
    pub source: LogSource,
    /// What, at most 4 KiB.
    pub text: Arc<str>,
}

/// Where the lines of all logs of one guest go, for whoever listens.
pub(crate) fn followers() -> broadcast::Sender<LogLine> {
    broadcast::Sender::new(FOLLOWED_LINES)
}

/// One log; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    path: PathBuf,
    source: LogSource,
    followers: broadcast::Sender<LogLine>,
    last: Arc<Mutex<VecDeque<Arc<str>>>>,
}

impl Log {
    /// A log in this file, which is begun anew.
    pub(crate) fn new(path: PathBuf, source: LogSource, followers: broadcast::Sender<LogLine>) -> Self {
        Self { path, source, followers, last: Arc::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The last lines, oldest first.
    pub(crate) fn last_lines(&self) -> Vec<Arc<str>> {
        self.last.lock().iter().cloned().collect()
    }

    /// Copies a child's output until it ends.
    pub(crate) async fn follow(self, from: impl AsyncRead + Unpin) {
        self.last.lock().clear();
        let mut file = File::create(&self.path).ok();
        let mut written = 0;
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut from).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if written + line.len() as u64 > MAX_FILE_BYTES {
                file = self.rotate().ok();
                written = 0;
            }
            // A log that cannot be written (a full disk) must not stop the guest.
            if file.as_mut().is_some_and(|file| file.write_all(&line).is_ok()) {
                written += line.len() as u64;
            }
            let text: Arc<str> = String::from_utf8_lossy(&line).trim_end().into();
            if !text.is_empty() {
                // Nobody may be listening.
                let _ = self.followers.send(LogLine { source: self.source, text: Arc::clone(&text) });
                let mut last = self.last.lock();
                if last.len() == LAST_LINES {
                    last.pop_front();
                }
                last.push_back(text);
            }
        }
    }

    fn rotate(&self) -> io::Result<File> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        fs::rename(&self.path, old)?;
        File::create(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_and_lines_are_bounded() {
        let dir = tempfile::tempdir().expect("dir");
        let followers = followers();
        let mut follower = followers.subscribe();
        let log = Log::new(dir.path().join("guest.log"), LogSource::Guest, followers);
        let text = (0..30_000).map(|n| format!("line {n} {}\n", "x".repeat(80))).collect::<String>();
        let endless = "y".repeat(100_000);
        log.clone().follow(format!("{text}{endless}").as_bytes()).await;
        let sizes = ["guest.log", "guest.log.1"].map(|name| fs::metadata(dir.path().join(name)).expect(name).len());
        assert!(sizes.iter().all(|size| *size <= MAX_FILE_BYTES), "{sizes:?}");
        let last = log.last_lines();
        assert_eq!(last.len(), LAST_LINES);
        let late = follower.recv().await;
        assert!(matches!(late, Err(broadcast::error::RecvError::Lagged(n)) if n > 29_000), "{late:?}");
        assert_eq!(follower.recv().await.map(|line| line.source), Ok(LogSource::Guest));
        assert!(last[0].starts_with("line 299") && last[39].starts_with("yyy") && last[39].len() <= 4096);
    }
}
