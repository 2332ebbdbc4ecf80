//! The weight of the control group that the agent and its QEMU have for themselves: a pod's, a unit's.

use crate::limits;
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// The weight of an instance that nobody uses, of 1 to 10,000; a group's usual one is 100 (cgroup-v2.rst).
const LOW: u32 = 10;
/// Name of the file in the state folder that tells what was lowered, and from what: an agent that is killed leaves its group
/// low, and the next one must not take that for the usual.
const FILE: &str = "lowered.json";

/// What the file says.
#[derive(Debug, Serialize, Deserialize)]
struct Lowered {
    group: PathBuf,
    before: u32,
}

/// A group whose weight was lowered.
#[derive(Debug)]
pub(super) struct OwnGroup {
    weight: PathBuf,
    before: u32,
    note: PathBuf,
}

/// Gives the own group back what an agent of before left low, if it left it so.
pub(super) fn mend(state: &Path) {
    let note = state.join(FILE);
    if let (Some(group), true) = (limits::own_group("cpu"), note.exists()) {
        mend_in(&group.folder, note);
    }
}

fn mend_in(folder: &Path, note: PathBuf) {
    let weight = folder.join("cpu.weight");
    // Whoever set another weight meanwhile meant it.
    match remembered(&note, folder).filter(|_| read(&weight) == Some(LOW)) {
        Some(before) => {
            tracing::info!(before, "an agent ended while its group's weight was low: it is restored");
            OwnGroup { weight, before, note }.restore();
        }
        None => forget(&note),
    }
}

/// What a group's weight was, as the note tells.
fn remembered(note: &Path, folder: &Path) -> Option<u32> {
    let lowered: Lowered = serde_json::from_slice(&fs::read(note).ok()?).ok()?;
    (lowered.group == folder).then_some(lowered.before)
}

fn forget(note: &Path) {
    match fs::remove_file(note) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(path = %note.display(), %error, "a note of what was lowered cannot be deleted");
        }
        _ => {}
    }
}

fn read(weight: &Path) -> Option<u32> {
    fs::read_to_string(weight).ok()?.trim().parse().ok()
}

/// Never makes the file: a group in which it is gone answers that with "permission denied".
fn write(weight: &Path, value: u32) -> io::Result<()> {
    OpenOptions::new().write(true).truncate(true).open(weight)?.write_all(value.to_string().as_bytes())
}

/// Whether the file is gone, or its group was removed while the file was open.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

// === impl OwnGroup ===

impl OwnGroup {
    /// Lowers it, and notes that in the state folder first; `None` where there is no group that is the agent's and its QEMU's
    /// alone, QEMU is not in it, or it cannot be written.
    pub(super) fn lower(qemu: Option<u32>, state: &Path) -> Option<Self> {
        let group = limits::own_group("cpu").filter(|group| group.is_v2)?;
        let own = std::process::id();
        Self::lower_in(&group.folder, state.join(FILE), qemu, |pid| pid == 1 || pid == own)
    }

    fn lower_in(folder: &Path, note: PathBuf, qemu: Option<u32>, is_ours: impl Fn(u32) -> bool) -> Option<Self> {
        let members = fs::read_to_string(folder.join("cgroup.procs")).ok()?;
        let members: Vec<Option<u32>> = members.lines().map(|pid| pid.trim().parse().ok()).collect();
        // 0: one outside of what we see.
        let is_good = |pid: u32| pid != 0 && (qemu == Some(pid) || is_ours(pid));
        let all_ours = members.iter().all(|pid| pid.is_some_and(is_good));
        // One that has a group of its own by now would not notice.
        let has_qemu = qemu.is_none() || members.contains(&qemu);
        if !all_ours || !has_qemu {
            return None;
        }
        let weight = folder.join("cpu.weight");
        let before = read(&weight)?;
        if let Err(error) = write_note(&note, folder, before) {
            // A full disk must not cost those who play their processors.
            tracing::warn!(path = %note.display(), %error, "what is lowered cannot be noted");
        }
        write(&weight, LOW).ok()?;
        Some(Self { weight, before, note })
    }

    /// Gives it its weight back; a group or a weight that is gone has nothing low any more.
    pub(super) fn restore(&self) {
        match write(&self.weight, self.before) {
            Ok(()) => forget(&self.note),
            Err(error) if is_gone(&error) => {
                tracing::debug!(path = %self.weight.display(), %error, "the group's weight is gone: nothing to restore");
                forget(&self.note);
            }
            Err(error) => {
                tracing::error!(path = %self.weight.display(), %error, "the group's weight cannot be restored");
            }
        }
    }
}

fn write_note(note: &Path, folder: &Path, before: u32) -> io::Result<()> {
    // Whole or not at all: the agent may be killed at any moment.
    let new = note.with_extension("new");
    fs::write(&new, serde_json::to_vec(&Lowered { group: folder.to_owned(), before })?)?;
    fs::rename(new, note)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like a group with two members, and where a note of it lies.
    struct Room {
        dir: tempfile::TempDir,
        note: PathBuf,
    }

    impl Room {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("dir");
            let room = Self { note: dir.path().join("note.json"), dir };
            room.write("cgroup.procs", "1\n70\n71\n");
            room
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.dir.path().join(name), text).expect("written");
        }

        fn weight(&self) -> Option<u32> {
            read(&self.dir.path().join("cpu.weight"))
        }

        fn lower(&self, is_ours: impl Fn(u32) -> bool) -> Option<OwnGroup> {
            OwnGroup::lower_in(self.dir.path(), self.note.clone(), None, is_ours)
        }

        /// By the agent 70 with this QEMU.
        fn lower_with(&self, qemu: Option<u32>) -> Option<OwnGroup> {
            OwnGroup::lower_in(self.dir.path(), self.note.clone(), qemu, |pid| pid == 1 || pid == 70)
        }

        fn mend(&self) {
            mend_in(self.dir.path(), self.note.clone());
        }
    }

    #[test]
    fn only_a_group_of_our_own_is_lowered() {
        let room = Room::new();
        assert!(room.lower(|_| true).is_none(), "no weight, no controller");
        room.write("cpu.weight", "100\n");
        assert!(room.lower(|pid| pid < 71).is_none(), "a stranger is in it");
        assert_eq!(room.weight(), Some(100));
        let group = room.lower(|pid| pid <= 71).expect("ours");
        assert_eq!(room.weight(), Some(10));
        group.restore();
        assert_eq!(room.weight(), Some(100));
        assert!(!room.note.exists());
        room.write("cgroup.procs", "0\n70\n");
        assert!(room.lower(|_| true).is_none());
    }

    #[test]
    fn a_group_that_qemu_has_left_is_not_lowered_for_it() {
        let room = Room::new();
        room.write("cpu.weight", "100\n");
        assert!(room.lower_with(None).is_none(), "71 is a stranger then");
        room.lower_with(Some(71)).expect("both are in it").restore();
        // QEMU is in a scope of its own now.
        room.write("cgroup.procs", "70\n");
        assert!(room.lower_with(Some(71)).is_none());
        assert_eq!((room.weight(), room.note.exists()), (Some(100), false));
        room.lower_with(None).expect("there is no QEMU").restore();
    }

    #[test]
    fn a_weight_that_is_gone_counts_as_restored() {
        let room = Room::new();
        room.write("cpu.weight", "100\n");
        let group = room.lower(|_| true).expect("ours");
        fs::remove_file(room.dir.path().join("cpu.weight")).expect("removed");
        group.restore();
        assert_eq!((room.weight(), room.note.exists()), (None, false), "neither is made anew");
    }

    #[test]
    fn what_a_killed_agent_left_low_is_not_taken_for_the_usual() {
        let room = Room::new();
        room.write("cpu.weight", "200\n");
        // Killed: nothing is restored.
        room.lower(|_| true).expect("ours");
        assert_eq!(room.weight(), Some(10));
        room.mend();
        assert_eq!(room.weight(), Some(200));
        room.lower(|_| true).expect("ours").restore();
        assert_eq!(room.weight(), Some(200));
        // Set by somebody meanwhile: that is the usual one now.
        room.lower(|_| true).expect("ours");
        room.write("cpu.weight", "300\n");
        room.mend();
        assert_eq!((room.weight(), room.note.exists()), (Some(300), false));
        // A weight that is low without a note is somebody's own.
        room.write("cpu.weight", "10\n");
        room.mend();
        assert_eq!(room.weight(), Some(10));
        // A note of another group says nothing about this one.
        write_note(&room.note, Path::new("/elsewhere"), 100).expect("written");
        room.mend();
        assert_eq!((room.weight(), room.note.exists()), (Some(10), false));
    }
}
