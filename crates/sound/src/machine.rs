//! How much of the machine is in use: one that is full stalls what brings sound, for longer and more often than one that
//! has room.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Share of all processors in use from which sound is kept in store for stalls that have not been seen yet, and from which
/// it is as much as can be. Nine guests, their agents and a wall that is drawn without a graphics card use 0.83 to 0.95 of
/// two processors, and a tenth of a second is lost about once a minute; one guest uses 0.4, and it is not.
const BUSY: (f64, f64) = (0.7, 0.9);
/// That much.
const SPARE_MS: f64 = 100.0;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(900);
/// Of what the last look saw, the part that counts.
const NEW: f64 = 0.3;

/// Processor time that nobody has used since the machine's start, of all its processors; `None` where it is not told.
#[must_use]
pub fn idle_time() -> Option<Duration> {
    parse_idle(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// proc_stat(5): the fourth and fifth number are idle and waiting for a disk, in ticks of 10 ms.
fn parse_idle(text: &str) -> Option<Duration> {
    let all = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = all.split_ascii_whitespace().skip(3).take(2).map_while(|word| word.parse().ok()).collect();
    (ticks.len() == 2).then(|| Duration::from_millis(ticks.iter().sum::<u64>() * 10))
}

/// Looked at from a thread that may wait, read from the sound device's callback.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    seen: Mutex<Option<(Instant, Duration)>>,
    /// Share in use, smoothed, `f32` bits.
    busy: AtomicU32,
}

// === impl Machine ===

impl Machine {
    /// Looks how much is in use, unless that was done just now. Where the system does not tell, nothing is.
    pub(crate) fn look(&self, now: Instant) {
        let mut seen = self.seen.lock();
        if seen.is_some_and(|(at, _)| now.saturating_duration_since(at) < LOOK) {
            return;
        }
        let (Some(idle), Ok(processors)) = (idle_time(), std::thread::available_parallelism()) else { return };
        if let Some((at, before)) = seen.replace((now, idle)) {
            let passed = now.saturating_duration_since(at).as_secs_f64() * processors.get() as f64;
            self.take(1.0 - idle.saturating_sub(before).as_secs_f64() / passed);
        }
    }

    fn take(&self, busy: f64) {
        let before = f64::from(f32::from_bits(self.busy.load(Relaxed)));
        let now = before + (busy.clamp(0.0, 1.0) - before) * NEW;
        self.busy.store((now as f32).to_bits(), Relaxed);
    }

    /// What is to be kept in store for it, in milliseconds.
    pub(crate) fn spare_ms(&self) -> f64 {
        let busy = f64::from(f32::from_bits(self.busy.load(Relaxed)));
        ((busy - BUSY.0) / (BUSY.1 - BUSY.0)).clamp(0.0, 1.0) * SPARE_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_read() {
        assert_eq!(parse_idle("cpu  10 20 30 400 5 6\ncpu0 1 2 3 4 5\n"), Some(Duration::from_millis(4_050)));
        assert_eq!((parse_idle("cpu  10 20 30 400\n"), parse_idle("cpu0 1 2 3 4 5\n")), (None, None));
        if cfg!(target_os = "linux") {
            assert!(idle_time().is_some(), "this kernel tells");
        }
    }

    #[test]
    fn a_full_machine_has_more_in_store_and_one_with_room_nothing() {
        let machine = Machine::default();
        let after = |busy, looks| {
            for _ in 0..looks {
                machine.take(busy);
            }
            machine.spare_ms()
        };
        assert_eq!(after(0.5, 20), 0.0);
        assert_eq!(after(1.0, 1), 0.0, "a moment is none");
        assert!((after(0.8, 40) - SPARE_MS / 2.0).abs() < 0.1);
        assert_eq!(after(1.0, 20), SPARE_MS);
        assert_eq!(after(0.2, 20), 0.0);
    }

    #[test]
    fn this_machine_is_looked_at_once_a_second() {
        let (machine, now) = (Machine::default(), Instant::now());
        machine.look(now);
        let first = *machine.seen.lock();
        machine.look(now + LOOK / 2);
        assert_eq!(*machine.seen.lock(), first);
        machine.look(now + LOOK);
        assert_eq!(machine.seen.lock().map(|(at, _)| at), first.map(|_| now + LOOK));
        assert!((0.0..=SPARE_MS).contains(&machine.spare_ms()));
    }
}
