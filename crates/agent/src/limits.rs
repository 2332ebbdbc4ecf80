//! What this machine, or the control group that the agent runs in, has of processors and memory, and how much of it is
//! in use. Both versions of control groups are read (Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A limit beyond this is none: version 1 writes the largest page-aligned number.
const NO_LIMIT: u64 = 1 << 60;

/// Processor time that was used, and how many cores there are for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CpuUse {
    /// Since some fixed moment.
    pub(crate) used: Duration,
    /// Cores that it may take.
    pub(crate) cores: f64,
    /// Whether a control group says so.
    pub(crate) is_limited: bool,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryUse {
    /// In use: what could be given back at once (files that were read) is not counted.
    pub(crate) used: u64,
    /// As much there is.
    pub(crate) total: u64,
    /// Whether a control group says so.
    pub(crate) is_limited: bool,
}

/// One hierarchy that this process is in: the folder of its group there, and of the hierarchy's top as seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) folder: PathBuf,
    top: PathBuf,
    pub(crate) is_v2: bool,
}

/// The group of this process that has `controller`; `None` where there is none, or it cannot be seen from here.
pub(crate) fn own_group(controller: &str) -> Option<Group> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    find_group(&groups, &mounts, controller).filter(|group| group.folder.is_dir())
}

fn find_group(groups: &str, mounts: &str, controller: &str) -> Option<Group> {
    // Version 1 first: where a controller has a hierarchy of its own, version 2 does not have it.
    let line = |wanted: &dyn Fn(&str) -> bool| {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            wanted(controllers).then_some(path)
        })
    };
    let (path, is_v2) = match line(&|controllers| controllers.split(',').any(|name| name == controller)) {
        Some(path) => (path, false),
        None => (line(&str::is_empty)?, true),
    };
    mounts.lines().find_map(|line| {
        // proc_pid_mountinfo(5): … root mount-point options … - type source super-options
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, _, options) = (after.next()?, after.next()?, after.next()?);
        let fits = if is_v2 {
            kind == "cgroup2"
        } else {
            kind == "cgroup" && options.split(',').any(|name| name == controller)
        };
        // A namespace shows its own group as the top.
        let below = Path::new(path).strip_prefix(root).ok()?;
        fits.then(|| Group { folder: Path::new(point).join(below), top: PathBuf::from(point), is_v2 })
    })
}

impl Group {
    /// This group's folder and those above it, up to the top that is seen from here.
    fn up(&self) -> impl Iterator<Item = &Path> {
        self.folder.ancestors().take_while(|folder| folder.starts_with(&self.top))
    }

    /// The lowest of what `read` finds in this group and those above it, and where.
    fn lowest<'a, T: PartialOrd>(&'a self, read: impl Fn(&'a Path) -> Option<T>) -> Option<(T, &'a Path)> {
        let found = self.up().filter_map(|folder| Some((read(folder)?, folder)));
        found.reduce(|least, other| if other.0 < least.0 { other } else { least })
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The value after `name` in a file of names and numbers.
fn entry(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// "50000 100000": so many of so many microseconds; "max 100000": no limit.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

/// Processors.
pub(crate) fn cpu() -> Option<CpuUse> {
    limited_cpu().or_else(machine_cpu)
}

fn limited_cpu() -> Option<CpuUse> {
    let group = own_group("cpu")?;
    if group.is_v2 {
        let read = |folder: &Path| quota(&fs::read_to_string(folder.join("cpu.max")).ok()?);
        let (cores, folder) = group.lowest(read)?;
        let used = Duration::from_micros(entry(&folder.join("cpu.stat"), "usage_usec")?);
        return Some(CpuUse { used, cores, is_limited: true });
    }
    let read = |folder: &Path| {
        let text = |name| fs::read_to_string(folder.join(name)).ok();
        quota(&format!("{} {}", text("cpu.cfs_quota_us")?.trim(), text("cpu.cfs_period_us")?.trim()))
    };
    let (cores, folder) = group.lowest(read)?;
    // Time is counted in a hierarchy that is often another one.
    let counted = own_group("cpuacct")?;
    let below = folder.strip_prefix(&group.top).ok()?;
    let used = Duration::from_nanos(number(&counted.top.join(below).join("cpuacct.usage"))?);
    Some(CpuUse { used, cores, is_limited: true })
}

fn machine_cpu() -> Option<CpuUse> {
    parse_machine_cpu(&fs::read_to_string("/proc/stat").ok()?)
}

/// proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal in ticks of 10 ms, and a line for each core.
fn parse_machine_cpu(text: &str) -> Option<CpuUse> {
    let all = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = all.split_ascii_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let busy: u64 = ticks.iter().enumerate().filter(|(place, _)| !matches!(place, 3 | 4)).map(|(_, ticks)| ticks).sum();
    let cores = text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
    let is_whole = ticks.len() >= 4 && cores > 0;
    is_whole.then(|| CpuUse { used: Duration::from_millis(busy * 10), cores: cores as f64, is_limited: false })
}

/// Memory.
pub(crate) fn memory() -> Option<MemoryUse> {
    let machine = machine_memory();
    // A limit above all that there is limits nothing.
    let below = |limit: &MemoryUse| machine.is_none_or(|machine| limit.total < machine.total);
    limited_memory().filter(below).or(machine)
}

fn limited_memory() -> Option<MemoryUse> {
    let group = own_group("memory")?;
    let names = if group.is_v2 {
        ("memory.max", "memory.current", "inactive_file")
    } else {
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    };
    let (total, folder) = group.lowest(|folder| number(&folder.join(names.0)).filter(|limit| *limit < NO_LIMIT))?;
    let files = entry(&folder.join("memory.stat"), names.2).unwrap_or(0);
    Some(MemoryUse { used: number(&folder.join(names.1))?.saturating_sub(files), total, is_limited: true })
}

fn machine_memory() -> Option<MemoryUse> {
    parse_machine_memory(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_machine_memory(text: &str) -> Option<MemoryUse> {
    let kibibytes = |name: &str| -> Option<u64> {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix(" kB")?.parse().ok()
    };
    let total = kibibytes("MemTotal")? * 1024;
    let available = kibibytes("MemAvailable")? * 1024;
    Some(MemoryUse { used: total.saturating_sub(available), total, is_limited: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_both_versions_are_found() {
        let v1 = "4:memory:/box/a\n2:cpuacct,cpu:/\n0::/\n";
        let mounts = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
            31 25 0:27 /box /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n\
            32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let find = |groups, controller| find_group(groups, mounts, controller).map(|group| (group.folder, group.is_v2));
        assert_eq!(find(v1, "memory"), Some(("/sys/fs/cgroup/memory/a".into(), false)));
        assert_eq!(find(v1, "cpu"), Some(("/sys/fs/cgroup/cpu/".into(), false)));
        assert_eq!(find(v1, "pids"), Some(("/sys/fs/cgroup/unified/".into(), true)));
        assert_eq!(find("0::/user.slice/x\n", "cpu"), Some(("/sys/fs/cgroup/unified/user.slice/x".into(), true)));
        assert_eq!(find("", "cpu"), None);
        assert_eq!(find("4:memory:/elsewhere\n", "memory"), None, "not below what is mounted");
    }

    #[test]
    fn the_lowest_limit_on_the_way_up_counts() {
        let dir = tempfile::tempdir().expect("dir");
        let (top, folder) = (dir.path().to_owned(), dir.path().join("a/b"));
        fs::create_dir_all(&folder).expect("folders");
        fs::write(folder.join("cpu.max"), "max 100000\n").expect("file");
        fs::write(dir.path().join("a/cpu.max"), "150000 100000\n").expect("file");
        let group = Group { folder, top, is_v2: true };
        let read = |folder: &Path| quota(&fs::read_to_string(folder.join("cpu.max")).ok()?);
        let (cores, at) = group.lowest(read).expect("a limit");
        assert!((cores - 1.5).abs() < 1e-9 && at.ends_with("a"), "{cores} {at:?}");
        assert_eq!([quota("max 100000"), quota("-1 100000"), quota("x"), quota("1 0")], [None; 4]);
    }

    #[test]
    fn machines_are_read() {
        let text = "cpu  100 20 30 4000 500 6 7 8 0 0\ncpu0 1 1 1 1\ncpu1 1 1 1 1\nintr 5\n";
        let want = CpuUse { used: Duration::from_millis(1710), cores: 2.0, is_limited: false };
        assert_eq!(parse_machine_cpu(text), Some(want));
        assert_eq!(parse_machine_cpu("cpu  1 2\n"), None);
        let text = "MemTotal:       4000 kB\nMemFree: 1 kB\nMemAvailable:   1000 kB\n";
        let want = MemoryUse { used: 3000 * 1024, total: 4000 * 1024, is_limited: false };
        assert_eq!(parse_machine_memory(text), Some(want));
        assert!(cpu().is_some() && memory().is_some_and(|memory| memory.used > 0 && memory.used <= memory.total));
    }
}
