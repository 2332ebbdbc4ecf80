//! When a guest wrote certain lines to its debug console: the file is watched, and every new line is stamped.

use crate::clock::monotonic_us;
use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;

/// How long a look for the end may wait.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Stamps lines on a thread of its own.
pub(crate) struct Stamps {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u64>>,
}

impl Stamps {
    /// Follows the file from its present end; lines that begin with `prefix` are stamped.
    ///
    /// # Errors
    /// When the file cannot be read or watched.
    pub(crate) fn follow(path: &Path, prefix: &str) -> Result<Self> {
        let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        file.seek(SeekFrom::End(0))?;
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY)?;
        let stopped = Arc::new(AtomicBool::new(false));
        let (stopping, prefix) = (stopped.clone(), prefix.to_owned());
        let thread = std::thread::Builder::new().name("guest-log".into()).spawn(move || {
            let (mut line, mut stamps, mut events) = (Vec::new(), Vec::new(), [0u8; 4096]);
            while !stopping.load(SeqCst) {
                let mut ready = [PollFd::new(&watch, PollFlags::IN)];
                // Interrupted or timed out: the loop looks again.
                let _ = poll(&mut ready, Some(&LOOK));
                let _ = rustix::io::read(&watch, &mut events);
                let mut new = Vec::new();
                if file.read_to_end(&mut new).is_err() {
                    break;
                }
                let now_us = monotonic_us();
                for byte in new {
                    if byte == b'\n' {
                        if line.starts_with(prefix.as_bytes()) {
                            stamps.push(now_us);
                        }
                        line.clear();
                    } else {
                        line.push(byte);
                    }
                }
            }
            stamps
        })?;
        Ok(Self { stopped, thread })
    }

    /// The stamps so far, `CLOCK_MONOTONIC` in microseconds.
    pub(crate) fn stop(self) -> Vec<u64> {
        self.stopped.store(true, SeqCst);
        self.thread.join().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::time::Duration;

    #[test]
    fn lines_are_stamped_when_they_are_whole() {
        let path = std::env::temp_dir().join(format!("loco-guest-log-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        writeln!(file, "loco: marker n=1").unwrap();
        let stamps = Stamps::follow(&path, "loco: marker n=").unwrap();
        write!(file, "loco: ready\nloco: mark").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let before = monotonic_us();
        writeln!(file, "er n=2").unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let stamps = stamps.stop();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(stamps.len(), 1, "{stamps:?}");
        assert!(stamps[0] >= before && stamps[0] < before + 100_000);
    }
}
