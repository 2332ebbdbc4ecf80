//! Processor time and memory of processes, from /proc. Read when someone asks, at most once a second.

use crate::limits::{self, CpuUse};
use loco_model::report::PerformanceHealth;
use loco_process::ProcId;
use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shortest span over which a share of a core is told: ticks are 10 ms long.
const SHORTEST_SPAN: Duration = Duration::from_secs(1);

/// Remembers the last sample of each process.
#[derive(Debug)]
pub(crate) struct Sampler {
    last: Mutex<BTreeMap<Whose, Sample>>,
}

/// Whose processor time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Process(u32),
    /// All that is taken where the agent runs.
    Everyone,
}

/// Processor time of a process at a moment, and its share of a core before that.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    used: Duration,
    share: Option<f64>,
}

// === impl Sampler ===

impl Sampler {
    /// Takes the agent's own first sample, so that the first report already has its share since the start.
    pub(crate) fn new() -> Self {
        let sampler = Self { last: Mutex::default() };
        sampler.share(Whose::Process(std::process::id()));
        sampler.share(Whose::Everyone);
        sampler
    }

    /// How much the agent and its QEMU take now.
    pub(crate) fn performance(&self, qemu_pid: Option<u32>) -> PerformanceHealth {
        let agent = std::process::id();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|whose, _| match whose {
            Whose::Process(pid) => *pid == agent || Some(*pid) == qemu_pid,
            Whose::Everyone => true,
        });
        drop(last);
        let (cpu, memory) = (limits::cpu(), limits::memory());
        let percent = |part: f64, whole: f64| (whole > 0.0).then(|| rounded(part / whole * 100.0, 10.0));
        let qemu_memory_bytes = qemu_pid.and_then(resident_bytes);
        let whole = memory.map(|memory| memory.total as f64);
        PerformanceHealth {
            agent_cpu: self.share(Whose::Process(agent)).map(|share| rounded(share, 10_000.0)),
            agent_memory_bytes: resident_bytes(agent),
            qemu_cpu: qemu_pid.and_then(|pid| self.share(Whose::Process(pid))).map(|share| rounded(share, 10_000.0)),
            qemu_memory_bytes,
            qemu_pid,
            load_average: load_average(),
            cpu_usage: self.share(Whose::Everyone).zip(cpu).and_then(|(share, cpu)| percent(share, cpu.cores)),
            memory_usage: memory.and_then(|memory| percent(memory.used as f64, memory.total as f64)),
            qemu_memory: qemu_memory_bytes.zip(whole).and_then(|(bytes, whole)| percent(bytes as f64, whole)),
            cpu_limit: cpu.filter(|cpu| cpu.is_limited).map(|cpu| cpu.cores),
            memory_limit_bytes: memory.filter(|memory| memory.is_limited).map(|memory| memory.total),
        }
    }

    /// Cores taken since the last sample that is at least a second old; `None` before there is one.
    fn share(&self, whose: Whose) -> Option<f64> {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.get(&whose).copied();
        if let Some(sample) = before.filter(|sample| now.duration_since(sample.at) < SHORTEST_SPAN) {
            return sample.share;
        }
        let used = match whose {
            Whose::Process(pid) => ProcId::process(pid).stat()?.cpu,
            Whose::Everyone => limits::cpu().map(|cpu: CpuUse| cpu.used)?,
        };
        let share = before
            .map(|before| used.saturating_sub(before.used).as_secs_f64() / now.duration_since(before.at).as_secs_f64());
        last.insert(whose, Sample { at: now, used, share });
        share
    }
}

/// To so many parts of one: more digits say nothing and cost bytes.
fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
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
        assert_eq!((report.qemu_cpu, report.qemu_memory_bytes, report.qemu_memory), (None, None, None));
        assert!(report.memory_usage.is_some_and(|percent| (0.1..=100.0).contains(&percent)), "{report:?}");
        assert_eq!(report.cpu_usage, None);
        // One core kept busy for a second is one core.
        let begun = Instant::now();
        while begun.elapsed() < SHORTEST_SPAN + Duration::from_millis(100) {
            std::hint::spin_loop();
        }
        let share = sampler.performance(None).agent_cpu.expect("a second sample");
        assert!(share > 0.05 && share < 64.0, "{share}");
        let again = sampler.performance(None);
        assert_eq!(again.agent_cpu, Some(share), "not read again at once");
        assert!(again.cpu_usage.is_some_and(|percent| percent > 0.0), "{again:?}");
    }
}
