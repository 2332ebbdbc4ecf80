//! CPU time of processes, as the kernel accounts it (Linux, `/proc`).
//!
//! Per thread from `task/*/schedstat` (nanoseconds on a CPU), which forgets threads that ended; per process from `stat`
//! (ticks of 10 ms, user and system rounded down separately), which does not. The larger of the two is right: the first
//! is exact while no thread ends, the second never misses more than its rounding.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// A process as `/proc` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent: u32,
    /// Its arguments, joined by spaces (some programs rewrite theirs as one string).
    pub command: String,
}

impl Process {
    /// Whether `word` is one of its arguments.
    #[must_use]
    pub fn has_argument(&self, word: &str) -> bool {
        self.command.split(' ').any(|argument| argument == word)
    }

    /// File name of its program.
    #[must_use]
    pub fn program(&self) -> &str {
        let first = self.command.split(' ').next().unwrap_or_default();
        first.rsplit('/').next().unwrap_or_default()
    }
}

/// All processes that `root` started, directly or not, and `root` itself; those that end meanwhile are left out.
#[must_use]
pub fn tree(root: u32) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let all: Vec<Process> = pids.filter_map(read_process).collect();
    let mut found: Vec<Process> = all.iter().filter(|process| process.pid == root).cloned().collect();
    let mut next = 0;
    while next < found.len() {
        let parent = found[next].pid;
        found.extend(all.iter().filter(|process| process.parent == parent && process.pid != parent).cloned());
        next += 1;
    }
    found
}

fn read_process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let parent = stat_field(&stat, 4)?.parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ").trim_end().to_owned();
    Some(Process { pid, parent, command })
}

/// Field `number` of a `stat` file, counted from 1 as proc(5) does; the second one (the name) may hold anything, so the
/// count starts behind its last parenthesis.
fn stat_field(stat: &str, number: usize) -> Option<&str> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?)
}

/// What some processes had used at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    at: Instant,
    processes: BTreeMap<u32, Account>,
}

#[derive(Clone, Debug, Default)]
struct Account {
    ticks: Duration,
    threads: BTreeMap<u32, (String, Duration)>,
}

/// What one process used between two snapshots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU seconds per second: 1 is a whole core.
    pub cores: f64,
    /// The same by thread name, for those threads that still live.
    pub threads: BTreeMap<String, f64>,
}

impl Snapshot {
    /// Reads the accounts of `pids`; a process that is gone has none.
    #[must_use]
    pub fn take(pids: &[u32]) -> Self {
        let processes = pids.iter().filter_map(|&pid| Some((pid, Account::read(pid)?))).collect();
        Self { at: Instant::now(), processes }
    }

    /// What each process that is in both snapshots used from this one to `later`.
    #[must_use]
    pub fn until(&self, later: &Self) -> BTreeMap<u32, Usage> {
        let wall = later.at.duration_since(self.at).as_secs_f64();
        let both = self.processes.iter().filter_map(|(pid, start)| Some((*pid, start, later.processes.get(pid)?)));
        both.map(|(pid, start, end)| (pid, start.until(end, wall))).collect()
    }

    /// Cores that all processes in both snapshots used together.
    #[must_use]
    pub fn cores_until(&self, later: &Self) -> f64 {
        self.until(later).values().map(|usage| usage.cores).sum()
    }
}

/// Stands for the name of a process's first thread, which carries the process's, as unnamed threads do too.
pub const MAIN_THREAD: &str = "main";

// `stat` counts user and system time in ticks, each rounded down.
const TICK: Duration = Duration::from_millis(10);

impl Account {
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // One that ended and was not waited for is gone too.
        if stat_field(&stat, 3) == Some("Z") {
            return None;
        }
        let ticks: u32 = [14, 15].into_iter().filter_map(|n| stat_field(&stat, n)?.parse::<u32>().ok()).sum();
        let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten().filter_map(|entry| {
            let tid = entry.file_name().to_str()?.parse().ok()?;
            let name = match tid == pid {
                true => MAIN_THREAD.to_owned(),
                false => fs::read_to_string(entry.path().join("comm")).ok()?.trim_end().to_owned(),
            };
            let schedstat = fs::read_to_string(entry.path().join("schedstat")).ok()?;
            let on_cpu = schedstat.split_whitespace().next()?.parse().ok()?;
            Some((tid, (name, Duration::from_nanos(on_cpu))))
        });
        Some(Self { ticks: TICK * ticks, threads: threads.collect() })
    }

    fn until(&self, later: &Self, wall: f64) -> Usage {
        let mut usage = Usage::default();
        let mut exact = Duration::ZERO;
        for (tid, (name, end)) in &later.threads {
            let start = self.threads.get(tid).map_or(Duration::ZERO, |(_, start)| *start);
            let used = end.saturating_sub(start);
            exact += used;
            *usage.threads.entry(name.clone()).or_default() += used.as_secs_f64() / wall;
        }
        let coarse = later.ticks.saturating_sub(self.ticks).saturating_sub(2 * TICK);
        usage.cores = exact.max(coarse).as_secs_f64() / wall;
        usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::thread;

    const STAT: &str = "42 (a) b) S 7 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 99";

    #[test]
    fn fields_behind_a_name_with_parentheses() {
        assert_eq!((stat_field(STAT, 3), stat_field(STAT, 4)), (Some("S"), Some("7")));
        assert_eq!((stat_field(STAT, 14), stat_field(STAT, 15)), (Some("150"), Some("50")));
        assert_eq!(stat_field("nonsense", 4), None);
    }

    /// Spins for `busy` of every `of`; the truth is what the thread's own CPU clock says.
    fn work(cpu: Duration) {
        let now = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
        };
        let end = now() + cpu;
        while now() < end {}
    }

    #[test]
    fn a_busy_thread_is_counted_while_it_lives_and_after() {
        let me = std::process::id();
        let stop = Arc::new(AtomicBool::new(false));
        let before = Snapshot::take(&[me]);
        let stop_2 = Arc::clone(&stop);
        let worker = thread::Builder::new().name("busy".to_owned());
        let worker = worker
            .spawn(move || {
                work(Duration::from_millis(300));
                while !stop_2.load(Relaxed) {
                    thread::park();
                }
            })
            .unwrap();
        thread::Builder::new().spawn(|| work(Duration::from_millis(300))).unwrap().join().unwrap();
        let mut after = Snapshot::take(&[me]);
        while after.processes[&me]
            .threads
            .values()
            .all(|(name, used)| name != "busy" || *used < Duration::from_millis(300))
        {
            thread::yield_now();
            after = Snapshot::take(&[me]);
        }
        let wall = after.at.duration_since(before.at).as_secs_f64();
        let usage = before.until(&after)[&me].clone();
        let named = usage.threads["busy"] * wall;
        assert!((0.3..0.4).contains(&named), "the living thread used {named} s");
        let total = usage.cores * wall;
        assert!(total >= 0.55, "the thread that ended is in the total of {total} s");
        stop.store(true, Relaxed);
        worker.thread().unpark();
        worker.join().unwrap();
    }

    #[test]
    fn a_child_process_is_in_the_tree_and_its_time_is_its_own() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; read line"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let found = tree(std::process::id());
        assert!(found.iter().any(|process| process.pid == pid), "{found:?}");
        let process = found.into_iter().find(|process| process.pid == pid).unwrap();
        assert_eq!(process.parent, std::process::id());
        let zero = Snapshot { at: Instant::now(), processes: [(pid, Account::default())].into() };
        let mut used = 0.0;
        let begin = Instant::now();
        while used < 0.02 && begin.elapsed() < Duration::from_secs(20) {
            let now = Snapshot::take(&[pid]);
            used = zero.cores_until(&now) * now.at.duration_since(zero.at).as_secs_f64();
            thread::yield_now();
        }
        child.kill().unwrap();
        while !Snapshot::take(&[pid]).processes.is_empty() && begin.elapsed() < Duration::from_secs(30) {
            thread::yield_now();
        }
        assert!(Snapshot::take(&[pid]).processes.is_empty(), "one that is not waited for has no account either");
        child.wait().unwrap();
        assert!(used >= 0.02, "the loop used {used} s");
        assert!(Snapshot::take(&[pid]).processes.is_empty(), "a process that is gone has no account");
    }
}
