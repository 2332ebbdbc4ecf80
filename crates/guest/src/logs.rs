//! What a guest and its QEMU write: kept in files of bounded size, the last lines at hand as evidence.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write as _;
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
        let mut file = Bounded::begin(&self.path);
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut from).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            file.write(&line);
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
}

/// A file of bounded size. One that cannot be written (a full disk) must not stop the guest, and is written again as soon
/// as it can be.
struct Bounded<'a> {
    path: &'a Path,
    file: Option<File>,
    written: u64,
}

// === impl Bounded ===

impl<'a> Bounded<'a> {
    fn begin(path: &'a Path) -> Self {
        Self { path, file: File::create(path).ok(), written: 0 }
    }

    fn write(&mut self, line: &[u8]) {
        if self.written + line.len() as u64 > MAX_FILE_BYTES {
            self.rotate();
        }
        if self.file.is_none() {
            *self = Self::begin(self.path);
        }
        let Some(file) = &mut self.file else { return };
        match file.write_all(line) {
            Ok(()) => self.written += line.len() as u64,
            // A part of it may be there.
            Err(_) => self.written = file.metadata().map_or(self.written, |now| now.len()),
        }
    }

    /// Makes it `NAME.1`. Where that cannot be, its lines are given up for those that come: what is begun anew is the same
    /// file.
    fn rotate(&mut self) {
        let mut old = self.path.as_os_str().to_owned();
        old.push(".1");
        if let Err(error) = fs::rename(self.path, old) {
            tracing::debug!(path = %self.path.display(), %error, "cannot keep an old log");
        }
        self.file = None;
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

    #[tokio::test]
    async fn a_log_that_cannot_be_rotated_is_written_on() {
        let dir = tempfile::tempdir().expect("dir");
        // No file can take the place of a folder.
        fs::create_dir(dir.path().join("guest.log.1")).expect("in the way");
        let log = Log::new(dir.path().join("guest.log"), LogSource::Guest, followers());
        let text = (0..30_000).map(|n| format!("line {n} {}\n", "x".repeat(80))).collect::<String>();
        log.follow(text.as_bytes()).await;
        let kept = fs::read_to_string(dir.path().join("guest.log")).expect("written");
        assert!(kept.len() as u64 <= MAX_FILE_BYTES && kept.contains("line 29999 "), "{} bytes", kept.len());
    }

    #[test]
    fn a_file_that_could_not_be_made_is_made_when_it_can_be() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = dir.path().join("later");
        let path = folder.join("guest.log");
        let mut file = Bounded::begin(&path);
        file.write(b"lost\n");
        fs::create_dir(&folder).expect("folder");
        file.write(b"kept\n");
        assert_eq!(fs::read_to_string(&path).expect("made"), "kept\n");
    }
}
