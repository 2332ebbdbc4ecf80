//! What a guest and its QEMU write: kept in files of bounded size, the last lines at hand as evidence.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

/// A file that grows beyond this becomes `NAME.1`, in the place of the one before.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Lines kept as evidence.
const LAST_LINES: usize = 40;
/// A longer line is cut.
const MAX_LINE_BYTES: u64 = 4096;

/// One log; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    path: PathBuf,
    last: Arc<Mutex<VecDeque<String>>>,
}

impl Log {
    /// A log in this file, which is begun anew.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, last: Arc::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The last lines, oldest first.
    pub(crate) fn last_lines(&self) -> Vec<String> {
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
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if !text.is_empty() {
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
        let log = Log::new(dir.path().join("guest.log"));
        let text = (0..30_000).map(|n| format!("line {n} {}\n", "x".repeat(80))).collect::<String>();
        let endless = "y".repeat(100_000);
        log.clone().follow(format!("{text}{endless}").as_bytes()).await;
        let sizes = ["guest.log", "guest.log.1"].map(|name| fs::metadata(dir.path().join(name)).expect(name).len());
        assert!(sizes.iter().all(|size| *size <= MAX_FILE_BYTES), "{sizes:?}");
        let last = log.last_lines();
        assert_eq!(last.len(), LAST_LINES);
        assert!(last[0].starts_with("line 299") && last[39].starts_with("yyy") && last[39].len() <= 4096);
    }
}
