//! The weight of the control group that the agent and its QEMU have for themselves: a pod's, a unit's.

use crate::limits;
use std::fs;
use std::path::{Path, PathBuf};

/// The weight of an instance that nobody uses, of 1 to 10,000; a group's usual one is 100 (cgroup-v2.rst).
const LOW: u32 = 10;

/// A group whose weight was lowered.
#[derive(Debug)]
pub(super) struct OwnGroup {
    weight: PathBuf,
    before: u32,
}

// === impl OwnGroup ===

impl OwnGroup {
    /// Lowers it; `None` where there is no group that is the agent's and its QEMU's alone, or it cannot be written.
    pub(super) fn lower(qemu: Option<u32>) -> Option<Self> {
        let group = limits::own_group("cpu").filter(|group| group.is_v2)?;
        let own = [Some(std::process::id()), qemu];
        Self::lower_in(&group.folder, |pid| pid == 1 || own.contains(&Some(pid)))
    }

    fn lower_in(folder: &Path, is_ours: impl Fn(u32) -> bool) -> Option<Self> {
        let members = fs::read_to_string(folder.join("cgroup.procs")).ok()?;
        // 0: one outside of what we see.
        let all_ours = members.lines().all(|pid| pid.trim().parse().is_ok_and(|pid| pid != 0 && is_ours(pid)));
        if !all_ours {
            return None;
        }
        let weight = folder.join("cpu.weight");
        let before = fs::read_to_string(&weight).ok()?.trim().parse().ok()?;
        fs::write(&weight, LOW.to_string()).ok()?;
        Some(Self { weight, before })
    }

    /// Gives it its weight back.
    pub(super) fn restore(&self) {
        if let Err(error) = fs::write(&self.weight, self.before.to_string()) {
            tracing::error!(path = %self.weight.display(), %error, "the group's weight cannot be restored");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_group_of_our_own_is_lowered() {
        let dir = tempfile::tempdir().expect("dir");
        let file = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
        let weight = || fs::read_to_string(dir.path().join("cpu.weight")).expect("read");
        file("cgroup.procs", "1\n70\n71\n");
        assert!(OwnGroup::lower_in(dir.path(), |_| true).is_none(), "no weight, no controller");
        file("cpu.weight", "100\n");
        assert!(OwnGroup::lower_in(dir.path(), |pid| pid < 71).is_none(), "a stranger is in it");
        assert_eq!(weight(), "100\n");
        let group = OwnGroup::lower_in(dir.path(), |pid| pid <= 71).expect("ours");
        assert_eq!(weight(), "10");
        group.restore();
        assert_eq!(weight(), "100");
        file("cgroup.procs", "0\n70\n");
        assert!(OwnGroup::lower_in(dir.path(), |_| true).is_none());
    }
}
