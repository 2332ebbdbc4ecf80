//! Notices that the machine has more to do than it can, by how long the encoder's thread waits for its turn, and lowers the
//! frame rate until it has not. Fewer pictures are seen by nobody as soon as sound that stutters is heard, and on a machine
//! with many guests each of their agents gives a little.

use std::fs::File;
use std::time::{Duration, Instant};

/// Added to the nice value of the encoder's thread (of the thread alone, on Linux): a picture may come some milliseconds
/// later on a busy machine, what brings sound and keys may not.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;
/// Where Linux tells of a thread: nanoseconds that it ran, then nanoseconds that it waited for a processor
/// (Documentation/scheduler/sched-stats.rst).
const SCHEDSTAT: &str = "/proc/thread-self/schedstat";
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// What lies further apart says nothing of now.
const TOO_LONG: Duration = Duration::from_secs(3);
/// A thread that ran for less says nothing.
const LEAST_RUN: Duration = Duration::from_millis(1);
/// Waiting above the first multiple of running is too much; below the second there is room. Nine guests on two cores:
/// 0.3 with half of the machine in use, 4.5 with all of it.
const WAITS: (f64, f64) = (2.0, 1.0);
/// Factors of the frame rate, for one and the other.
const STEPS: (f64, f64) = (0.85, 1.04);
/// The frame rate is not lowered below this.
const LEAST_FPS: f64 = 20.0;

/// What the kernel has counted of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turns {
    ran_ns: u64,
    waited_ns: u64,
}

/// The encoder's thread's own look at the machine.
pub(super) struct Crowd {
    /// Nothing where the kernel does not tell.
    file: Option<File>,
    last: Option<(Instant, Turns)>,
    relief: Relief,
}

/// The frame rate that is left. Pure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Relief {
    fps: Option<f64>,
}

// === impl Crowd ===

impl Crowd {
    /// To be called by the thread that will look, which from then on lets ordinary ones go before it.
    pub(super) fn of_this_thread() -> Self {
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::nice(NICE) {
            tracing::debug!(%error, "the encoder goes on like any other thread");
        }
        Self { file: File::open(SCHEDSTAT).ok(), last: None, relief: Relief::default() }
    }

    /// Frames a second that the machine has room for, where those are fewer than `max_fps`. Looks once a second.
    pub(super) fn look(&mut self, now: Instant, max_fps: u32) -> Option<u32> {
        let since = self.last.map(|(at, _)| now.saturating_duration_since(at));
        if since.is_none_or(|since| since >= LOOK)
            && let Some(turns) = self.file.as_ref().and_then(read)
        {
            let before = self.last.replace((now, turns));
            let recent = before.filter(|_| since.is_some_and(|since| since <= TOO_LONG));
            self.relief.take(recent.and_then(|(_, before)| turns.waits(before)), max_fps);
        }
        self.relief.fps.map(|fps| fps as u32)
    }
}

#[cfg(unix)]
fn read(file: &File) -> Option<Turns> {
    use std::os::unix::fs::FileExt as _;
    let mut text = [0; 96];
    let length = file.read_at(&mut text, 0).ok()?;
    Turns::parse(std::str::from_utf8(text.get(..length)?).ok()?)
}

#[cfg(not(unix))]
fn read(_: &File) -> Option<Turns> {
    None
}

// === impl Turns ===

impl Turns {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_ascii_whitespace().map(str::parse);
        Some(Self { ran_ns: numbers.next()?.ok()?, waited_ns: numbers.next()?.ok()? })
    }

    /// How many times longer it waited than it ran; nothing where it hardly ran.
    fn waits(self, before: Self) -> Option<f64> {
        let ran = Duration::from_nanos(self.ran_ns.checked_sub(before.ran_ns)?);
        let waited = Duration::from_nanos(self.waited_ns.checked_sub(before.waited_ns)?);
        (ran >= LEAST_RUN).then(|| waited.as_secs_f64() / ran.as_secs_f64())
    }
}

// === impl Relief ===

impl Relief {
    /// A second has passed; `waits`: how many times longer the thread waited than it ran, if that is known.
    fn take(&mut self, waits: Option<f64>, max_fps: u32) {
        let most = f64::from(max_fps);
        let now = self.fps.unwrap_or(most).min(most);
        let next = match waits {
            Some(waits) if waits > WAITS.0 => (now * STEPS.0).max(LEAST_FPS),
            Some(waits) if waits < WAITS.1 => now * STEPS.1,
            Some(_) => now,
            None => most,
        };
        self.fps = (next < most).then_some(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CROWDED: Option<f64> = Some(4.5);
    const FREE: Option<f64> = Some(0.3);

    #[test]
    fn the_rate_falls_while_turns_are_waited_for_and_comes_back() {
        let mut relief = Relief::default();
        let mut after = |waits, times| {
            for _ in 0..times {
                relief.take(waits, 30);
            }
            relief.fps
        };
        assert_eq!(after(FREE, 5), None);
        assert_eq!(after(CROWDED, 1), Some(25.5));
        assert_eq!(after(CROWDED, 9), Some(LEAST_FPS), "no lower");
        assert_eq!(after(Some(1.5), 9), Some(LEAST_FPS), "neither");
        assert!(after(FREE, 5).is_some_and(|fps| fps > 23.0 && fps < 26.0));
        assert_eq!(after(FREE, 9), None);
        assert_eq!((after(CROWDED, 1), after(None, 1)), (Some(25.5), None), "what is old is forgotten");
    }

    #[test]
    fn a_rate_that_is_low_already_is_left_alone() {
        let mut relief = Relief::default();
        relief.take(CROWDED, 10);
        assert_eq!(relief.fps, None);
    }

    #[test]
    fn the_kernels_words_are_read() {
        let before = Turns::parse("1000 2000 10\n").unwrap();
        assert_eq!(before, Turns { ran_ns: 1000, waited_ns: 2000 });
        assert_eq!(Turns::parse("5001000 20002000 30\n").unwrap().waits(before), Some(4.0));
        assert_eq!(Turns::parse("5000 20002000 12\n").unwrap().waits(before), None, "it hardly ran");
        assert_eq!((Turns::parse(""), Turns::parse("1 x 2")), (None, None));
        if cfg!(target_os = "linux") {
            assert!(File::open(SCHEDSTAT).ok().as_ref().and_then(read).is_some(), "this kernel tells");
        }
    }
}
