//! Disk images that a QEMU of before still holds.
//!
//! An agent that was killed takes its QEMU along, and is gone first: the next one may be there before the kernel has taken
//! that QEMU apart. Until then its locks lie on the images, and a new QEMU ends with "Is another process using the image".

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a QEMU that was killed may take to be gone. Whoever still holds the image then is another one.
const PATIENCE: Duration = Duration::from_secs(5);
/// Nobody tells when a lock is gone that is not waited for as a lock.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until nobody holds an image in `folder`, a while at most: QEMU itself has the last word.
pub(crate) async fn wait_released(folder: &Path) {
    let begun = Instant::now();
    let images = images(folder);
    while begun.elapsed() < PATIENCE && images.iter().any(|image| is_held(image)) {
        tokio::time::sleep(LOOK).await;
    }
    if begun.elapsed() > LOOK {
        tracing::info!(ms = begun.elapsed().as_millis() as u64, "waited for the QEMU of before to let go of the disks");
    }
}

fn images(folder: &Path) -> Vec<PathBuf> {
    let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
    let paths = files.flatten().map(|file| file.path());
    paths.filter(|path| path.extension().is_some_and(|kind| kind == "qcow2")).collect()
}

/// Whether any process has a lock on a file; `false` where the system does not tell.
fn is_held(path: &Path) -> bool {
    let (Ok(file), Ok(locks)) = (fs::metadata(path), fs::read_to_string("/proc/locks")) else { return false };
    let device = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    locks.lines().any(|line| holds(line, device, file.ino()))
}

/// Whether a line of proc_locks(5) speaks of a file: `1: OFDLCK ADVISORY READ -1 fe:00:4711 100 101`.
fn holds(line: &str, device: (u32, u32), inode: u64) -> bool {
    let file = line.split_whitespace().find(|word| word.matches(':').count() == 2);
    let mut parts = file.unwrap_or_default().split(':');
    let mut hexadecimal = || u32::from_str_radix(parts.next()?, 16).ok();
    let found = (hexadecimal(), hexadecimal());
    found == (Some(device.0), Some(device.1)) && parts.next().and_then(|inode| inode.parse().ok()) == Some(inode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FlockOperation, flock};

    #[test]
    fn lines_of_the_kernel() {
        let line = "3: OFDLCK ADVISORY  READ -1 fe:0a:11340160 203 203";
        assert!(holds(line, (0xfe, 0x0a), 11_340_160));
        assert!(!holds(line, (0xfe, 0x0b), 11_340_160) && !holds(line, (0xfe, 0x0a), 1));
        assert!(!holds("", (0, 0), 0) && !holds("nonsense::", (0, 0), 0));
    }

    #[tokio::test]
    async fn a_held_image_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk0.qcow2");
        let file = fs::File::create(&path).unwrap();
        assert!(!is_held(&path));
        flock(&file, FlockOperation::LockExclusive).unwrap();
        if !is_held(&path) {
            // Not every system shows its locks.
            return;
        }
        let waiting = wait_released(folder.path());
        let mut waiting = std::pin::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(file);
        tokio::time::timeout(PATIENCE * 2, waiting).await.unwrap();
    }
}
