//! Counts what a device asked for against the clock: callbacks that are left out are told by nobody. Pure.

use std::time::{Duration, Instant};

/// A device that has asked for this much plays; before, it may still be starting.
const STARTED_SECS: f64 = 0.5;
/// Share of a window's frames that may be missing before it is said: clocks differ, and so do callbacks' times.
const MISSING_SHARE: f64 = 0.005;
/// So many windows in a row with missing frames call for larger pieces.
const BAD_WINDOWS: u32 = 2;

/// Counts one stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    rate_hz: f64,
    every: Duration,
    /// Where the current window began; `None` while the device starts.
    window: Option<(Instant, u64)>,
    /// Windows in a row in which frames were missing.
    bad: u32,
}

/// What a whole window showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What was not asked for, in milliseconds; 0 where that is within what cannot be told.
    pub(super) missing_ms: u64,
    /// It goes on like that.
    pub(super) persists: bool,
}

// === impl Count ===

impl Count {
    /// For a stream of this rate; a verdict comes `every` so often.
    pub(super) fn new(rate_hz: u32, every: Duration) -> Self {
        Self { rate_hz: f64::from(rate_hz), every, window: None, bad: 0 }
    }

    /// A device that asked for so many frames is past its start.
    pub(super) fn is_past_start(&self, frames: u64) -> bool {
        frames as f64 >= STARTED_SECS * self.rate_hz
    }

    /// When the next verdict is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.window.map(|(began, _)| began + self.every)
    }

    /// `frames` were asked for until `now`, the last time `callback_frames` at once.
    pub(super) fn look(&mut self, now: Instant, frames: u64, callback_frames: u32) -> Option<Verdict> {
        let Some((began, before)) = self.window else {
            if self.is_past_start(frames) {
                self.window = Some((now, frames));
            }
            return None;
        };
        let passed = now.saturating_duration_since(began);
        if passed < self.every {
            return None;
        }
        self.window = Some((now, frames));
        let missing_secs = passed.as_secs_f64() - frames.saturating_sub(before) as f64 / self.rate_hz;
        // Two callbacks may lie across the window's ends.
        let unsure_secs = 2.0 * f64::from(callback_frames) / self.rate_hz + MISSING_SHARE * passed.as_secs_f64();
        let is_bad = missing_secs > unsure_secs;
        self.bad = if is_bad { self.bad + 1 } else { 0 };
        let missing_ms = if is_bad { (missing_secs * 1e3) as u64 } else { 0 };
        Some(Verdict { missing_ms, persists: self.bad >= BAD_WINDOWS })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Verdicts of 60 s of callbacks of 480 frames, of which every `n`th is left out.
    fn verdicts(leave_out: Option<usize>, ppm: f64) -> Vec<Verdict> {
        let mut count = Count::new(48_000, Duration::from_secs(5));
        let began = Instant::now();
        let mut frames = 0;
        (0..6000)
            .filter_map(|n| {
                if leave_out.is_none_or(|every| n % every != 0) {
                    frames += 480;
                }
                let at = began + Duration::from_secs_f64(n as f64 * 0.01 * (1.0 + ppm * 1e-6));
                count.look(at, frames, 480)
            })
            .collect()
    }

    #[test]
    fn a_whole_stream_is_whole_whatever_its_clock() {
        for ppm in [-300.0, 0.0, 300.0] {
            let verdicts = verdicts(None, ppm);
            assert!(verdicts.len() >= 10, "{}", verdicts.len());
            assert!(verdicts.iter().all(|v| *v == Verdict { missing_ms: 0, persists: false }), "{verdicts:?}");
        }
    }

    #[test]
    fn what_is_left_out_is_seen_and_measured() {
        let verdicts = verdicts(Some(33), 0.0);
        assert!(verdicts.iter().all(|v| (130..175).contains(&v.missing_ms)), "{verdicts:?}");
        assert_eq!(verdicts.iter().map(|v| v.persists).take(3).collect::<Vec<_>>(), [false, true, true]);
    }

    #[test]
    fn a_device_that_starts_slowly_is_given_time() {
        let mut count = Count::new(48_000, Duration::from_secs(5));
        let began = Instant::now();
        assert_eq!(count.look(began, 480, 480), None);
        assert_eq!(count.look(began + Duration::from_secs(20), 960, 480), None);
        assert!(!count.is_past_start(960) && count.due().is_none());
        count.look(began + Duration::from_secs(21), 30_000, 480);
        assert!(count.is_past_start(30_000) && count.due().is_some());
    }
}
