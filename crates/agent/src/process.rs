//! Processor time and memory of processes, from /proc. Read when someone asks, at most once a second.

use loco_model::report::PerformanceHealth;
use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Ticks in a second in /proc: `USER_HZ`, which Linux keeps at 100 for every program whatever its own clock is
/// (include/uapi/asm-generic/param.h).
const TICKS_PER_SECOND: f64 = 100.0;
/// Shortest span over which a share of a core is told: ticks are 10 ms long.
const SHORTEST_SPAN: Duration = Duration::from_secs(1);

/// Remembers the last sample of each process.
#[derive(Debug)]
pub(crate) struct Sampler {
    last: Mutex<BTreeMap<u32, Sample>>,
}

/// Processor time of a process at a moment, and its share of a core before that.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    ticks: u64,
    share: Option<f64>,
}

// === impl Sampler ===

impl Sampler {
    /// Takes the agent's own first sample, so that the first report already has its share since the start.
    pub(crate) fn new() -> Self {
        let sampler = Self { last: Mutex::default() };
        sampler.share(std::process::id());
        sampler
    }

    /// How much the agent and its QEMU take now.
    pub(crate) fn performance(&self, qemu_pid: Option<u32>) -> PerformanceHealth {
        let agent = std::process::id();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|pid, _| *pid == agent || Some(*pid) == qemu_pid);
        drop(last);
        PerformanceHealth {
            agent_cpu: self.share(agent),
            agent_memory_bytes: resident_bytes(agent),
            qemu_cpu: qemu_pid.and_then(|pid| self.share(pid)),
            qemu_memory_bytes: qemu_pid.and_then(resident_bytes),
            qemu_pid,
            load_average: load_average(),
            ..PerformanceHealth::default()
        }
    }

    /// Share of one core since the last sample that is at least a second old; `None` before there is one.
    fn share(&self, pid: u32) -> Option<f64> {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.get(&pid).copied();
        if let Some(sample) = before.filter(|sample| now.duration_since(sample.at) < SHORTEST_SPAN) {
            return sample.share;
        }
        let ticks = cpu_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        let share = before.map(|before| {
            let seconds = ticks.saturating_sub(before.ticks) as f64 / TICKS_PER_SECOND;
            seconds / now.duration_since(before.at).as_secs_f64()
        });
        last.insert(pid, Sample { at: now, ticks, share });
        share
    }
}

/// User and system time of proc_pid_stat(5): fields 14 and 15. The name before them may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident memory: `VmRSS` of proc_pid_status(5).
fn resident_bytes(pid: u32) -> Option<u64> {
    parse_resident_bytes(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_resident_bytes(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn load_average() -> Option<[f64; 3]> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some([next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_stat_may_hold_anything() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 111 22 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some(133));
        for bad in ["", "7 (a", "7 (a) S 1 2", "7 (a) S 1 2 3 4 5 6 7 8 9 10 x y"] {
            assert_eq!(cpu_ticks(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn resident_memory_is_read_in_kibibytes() {
        assert_eq!(parse_resident_bytes("Name:\tx\nVmRSS:\t   12 kB\n"), Some(12 * 1024));
        assert_eq!(parse_resident_bytes("Name:\tVmRSS: 5 kB\n"), None, "kernel threads have none");
    }

    #[test]
    fn this_process_is_measured_and_a_missing_one_is_unknown() {
        let sampler = Sampler::new();
        let report = sampler.performance(Some(u32::MAX));
        assert_eq!(report.agent_cpu, None, "no second has passed");
        assert!(report.agent_memory_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(report.load_average.is_some());
        assert_eq!((report.qemu_cpu, report.qemu_memory_bytes), (None, None));
        // One core kept busy for a second is one core.
        let begun = Instant::now();
        while begun.elapsed() < SHORTEST_SPAN + Duration::from_millis(100) {
            std::hint::spin_loop();
        }
        let share = sampler.performance(None).agent_cpu.expect("a second sample");
        assert!(share > 0.05 && share < 64.0, "{share}");
        assert_eq!(sampler.performance(None).agent_cpu, Some(share), "not read again at once");
    }
}
