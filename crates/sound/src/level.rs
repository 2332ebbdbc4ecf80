//! Peak of the last second, for the health report.

use std::time::{Duration, Instant};

const SLOTS: usize = 10;
const SLOT: Duration = Duration::from_millis(100);

/// Peaks of the last second in steps of 100 ms.
#[derive(Debug)]
pub(super) struct LastSecond {
    peaks: [u16; SLOTS],
    newest: usize,
    newest_began: Instant,
}

impl LastSecond {
    pub(super) fn new(now: Instant) -> Self {
        Self { peaks: [0; SLOTS], newest: 0, newest_began: now }
    }

    /// Adds the highest absolute 16-bit sample of a piece.
    pub(super) fn add(&mut self, peak: u16, now: Instant) {
        self.advance(now);
        self.peaks[self.newest] = self.peaks[self.newest].max(peak);
    }

    /// In dB of full scale; `None` for silence.
    pub(super) fn peak_dbfs(&mut self, now: Instant) -> Option<f32> {
        self.advance(now);
        let peak = self.peaks.iter().copied().max().filter(|&peak| peak > 0)?;
        Some(super::meter::to_dbfs(f32::from(peak) / 32768.0))
    }

    fn advance(&mut self, now: Instant) {
        let slots = (now.saturating_duration_since(self.newest_began).as_millis() / SLOT.as_millis()) as usize;
        for _ in 0..slots.min(SLOTS) {
            self.newest = (self.newest + 1) % SLOTS;
            self.peaks[self.newest] = 0;
        }
        self.newest_began += SLOT * u32::try_from(slots).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_after_a_second() {
        let t0 = Instant::now();
        let mut level = LastSecond::new(t0);
        assert_eq!(level.peak_dbfs(t0), None);
        level.add(16384, t0 + Duration::from_millis(250));
        level.add(100, t0 + Duration::from_millis(600));
        let db = level.peak_dbfs(t0 + Duration::from_millis(1100)).unwrap();
        assert!((db + 6.02).abs() < 0.01, "{db}");
        let db = level.peak_dbfs(t0 + Duration::from_millis(1300)).unwrap();
        assert!((db + 50.31).abs() < 0.01, "{db}");
        assert_eq!(level.peak_dbfs(t0 + Duration::from_secs(3600)), None);
    }
}
