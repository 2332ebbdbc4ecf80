//! On which processors QEMU's and the encoders' threads run. Any user may change that of its own processes, both ways.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;

/// The name of the threads that encode (they and those that a library starts from them).
const ENCODER: &str = "encoder";

/// The processors that were there at the start, and those that an instance that nobody uses is left.
#[derive(Debug)]
pub(super) struct Affinity {
    all: Option<CpuSet>,
    few: Option<CpuSet>,
}

// === impl Affinity ===

impl Affinity {
    pub(super) fn new() -> Self {
        let all = sched_getaffinity(None).ok();
        let few = all.as_ref().and_then(last_quarter);
        Self { all, few }
    }

    /// Leaves them few processors; returns whether that was done.
    pub(super) fn narrow(&self, qemu: Option<u32>) -> bool {
        let Some(few) = &self.few else { return false };
        set(qemu, few)
    }

    /// Gives them all processors back.
    pub(super) fn restore(&self, qemu: Option<u32>) {
        if let Some(all) = &self.all
            && !set(qemu, all)
        {
            tracing::error!("the processors that were given away cannot be taken back");
        }
    }
}

/// The last quarter of them, at least one; `None` where that would be all.
fn last_quarter(all: &CpuSet) -> Option<CpuSet> {
    let there: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect();
    let count = (there.len() / 4).max(1);
    if count >= there.len() {
        return None;
    }
    let mut few = CpuSet::new();
    for cpu in &there[there.len() - count..] {
        few.set(*cpu);
    }
    Some(few)
}

/// Returns whether every thread that is still there took it.
fn set(qemu: Option<u32>, cpus: &CpuSet) -> bool {
    let own = threads("self").into_iter().filter(|thread| is_encoder(*thread));
    let guest = qemu.map(|pid| threads(&pid.to_string())).unwrap_or_default();
    own.chain(guest).fold(true, |all_taken, thread| {
        let taken = match i32::try_from(thread).ok().and_then(Pid::from_raw).map(|id| sched_setaffinity(Some(id), cpus))
        {
            Some(Ok(()) | Err(rustix::io::Errno::SRCH)) | None => true,
            Some(Err(error)) => {
                tracing::debug!(thread, %error, "a thread's processors cannot be set");
                false
            }
        };
        all_taken && taken
    })
}

fn threads(process: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn is_encoder(thread: u32) -> bool {
    fs::read_to_string(format!("/proc/self/task/{thread}/comm")).is_ok_and(|name| name.trim_end() == ENCODER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_of(cpus: std::ops::Range<usize>) -> CpuSet {
        let mut set = CpuSet::new();
        cpus.for_each(|cpu| set.set(cpu));
        set
    }

    #[test]
    fn a_quarter_is_left_and_at_least_one() {
        let few =
            |cpus| last_quarter(&set_of(cpus)).map(|few| (0..64).filter(|cpu| few.is_set(*cpu)).collect::<Vec<_>>());
        assert_eq!(few(0..1), None);
        assert_eq!(few(0..2), Some(vec![1]));
        assert_eq!(few(2..6), Some(vec![5]));
        assert_eq!(few(0..8), Some(vec![6, 7]));
    }

    #[test]
    fn another_process_is_narrowed_and_gets_all_back() {
        let affinity = Affinity::new();
        let (Some(all), Some(few)) = (affinity.all, affinity.few) else { return };
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let id = child.id();
        let now = || sched_getaffinity(Pid::from_raw(id.cast_signed())).expect("it lives");
        assert!(affinity.narrow(Some(id)));
        assert!(now() == few);
        affinity.restore(Some(id));
        assert!(now() == all);
        child.kill().expect("killed");
        child.wait().expect("reaped");
        assert!(affinity.narrow(Some(id)), "one that is gone is no failure");
    }
}
