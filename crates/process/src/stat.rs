//! What the kernel says of a process or one of its threads: its state and its processor time, from `/proc`.

use std::fs;
use std::time::Duration;

/// Ticks in a second in /proc: `USER_HZ`, which Linux keeps at 100 for every program whatever its own clock is
/// (include/uapi/asm-generic/param.h).
const TICKS_PER_SECOND: u64 = 100;

/// A process or thread at a moment (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcStat {
    /// `R` runs or waits for a processor, `S` sleeps, `D` waits for a disk, `T` was stopped by a signal, `t` by a
    /// debugger, `Z` has ended.
    pub state: char,
    /// User and system time since its start, in steps of 10 ms.
    pub cpu: Duration,
}

/// A process's id, and a thread's where one thread of it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcId {
    /// The process.
    pub pid: u32,
    /// The thread; the whole process without.
    pub thread: Option<u32>,
}

// === impl ProcId ===

impl ProcId {
    /// A whole process.
    #[must_use]
    pub const fn process(pid: u32) -> Self {
        Self { pid, thread: None }
    }

    /// One thread of it.
    #[must_use]
    pub const fn thread(pid: u32, thread: u32) -> Self {
        Self { pid, thread: Some(thread) }
    }

    fn read(self, name: &str) -> Option<String> {
        let path = match self.thread {
            None => format!("/proc/{}/{name}", self.pid),
            Some(thread) => format!("/proc/{}/task/{thread}/{name}", self.pid),
        };
        fs::read_to_string(path).ok()
    }

    /// How it is now; `None` when there is no such process, or this system has no `/proc`.
    #[must_use]
    pub fn stat(self) -> Option<ProcStat> {
        parse_stat(&self.read("stat")?)
    }

    /// How long it has been ready to run since its start and got no processor (the second number of `schedstat`, see
    /// Documentation/scheduler/sched-stats.rst): of a whole process, its first thread. `None` where the kernel does not count it.
    #[must_use]
    pub fn waited_for_cpu(self) -> Option<Duration> {
        let text = self.read("schedstat")?;
        text.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
    }
}

/// The name in parentheses may hold anything, parentheses too.
fn parse_stat(text: &str) -> Option<ProcStat> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // Fields 14 and 15; the state is the third.
    let mut fields = fields.skip(10);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = user.saturating_add(system);
    Some(ProcStat { state, cpu: Duration::from_millis(ticks.saturating_mul(1000 / TICKS_PER_SECOND)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_stat_may_hold_anything() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 111 22 0 0 20 0 1 0 5 6 7";
        assert_eq!(parse_stat(stat), Some(ProcStat { state: 'S', cpu: Duration::from_millis(1330) }));
        for bad in ["", "7 (a", "7 (a) S 1 2", "7 (a) S 1 2 3 4 5 6 7 8 9 10 x y"] {
            assert_eq!(parse_stat(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn this_process_is_there_and_a_missing_one_is_not() {
        let pid = std::process::id();
        let own = ProcId::process(pid);
        assert!(own.stat().is_some_and(|stat| "RSD".contains(stat.state)), "{:?}", own.stat());
        assert!(ProcId::thread(pid, pid).stat().is_some());
        assert_eq!(ProcId::process(u32::MAX).stat(), None);
        assert_eq!(ProcId::process(u32::MAX).waited_for_cpu(), None);
    }
}
