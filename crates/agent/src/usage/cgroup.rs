//! The weight of the control group that the agent and its QEMU have for themselves: a pod's, a unit's.

use crate::limits;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, ErrorKind};
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

// === impl OwnGroup ===

impl OwnGroup {
    /// Lowers it, and notes that in the state folder first; `None` where there is no group that is the agent's and its QEMU's
    /// alone, or it cannot be written.
    pub(super) fn lower(qemu: Option<u32>, state: &Path) -> Option<Self> {
        let group = limits::own_group("cpu").filter(|group| group.is_v2)?;
        let own = [Some(std::process::id()), qemu];
        Self::lower_in(&group.folder, state.join(FILE), |pid| pid == 1 || own.contains(&Some(pid)))
    }

    fn lower_in(folder: &Path, note: PathBuf, is_ours: impl Fn(u32) -> bool) -> Option<Self> {
        let members = fs::read_to_string(folder.join("cgroup.procs")).ok()?;
        // 0: one outside of what we see.
        let all_ours = members.lines().all(|pid| pid.trim().parse().is_ok_and(|pid| pid != 0 && is_ours(pid)));
        if !all_ours {
            return None;
        }
        let weight = folder.join("cpu.weight");
        let before = read(&weight)?;
        if let Err(error) = write_note(&note, folder, before) {
            // A full disk must not cost those who play their processors.
            tracing::warn!(path = %note.display(), %error, "what is lowered cannot be noted");
        }
        fs::write(&weight, LOW.to_string()).ok()?;
        Some(Self { weight, before, note })
    }

    /// Gives it its weight back.
    pub(super) fn restore(&self) {
        match fs::write(&self.weight, self.before.to_string()) {
            Ok(()) => forget(&self.note),
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
            OwnGroup::lower_in(self.dir.path(), self.note.clone(), is_ours)
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
