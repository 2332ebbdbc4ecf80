//! The callback's end of an instance's sound.

use super::ring::PacketReader;
use super::stats::ReaderStatsHandle;
use super::SoundError;

/// What [`Reader::fill`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Zeros: nothing plays.
    Silence,
    /// Sound.
    Sound,
}

/// Decodes one instance's packets inside the sound device's callback: no lock, no allocation.
pub struct Reader {
    _ring: PacketReader,
    stats: ReaderStatsHandle,
}

impl Reader {
    pub(super) fn new(ring: PacketReader) -> Result<Self, SoundError> {
        Ok(Self { _ring: ring, stats: ReaderStatsHandle::default() })
    }

    /// Overwrites `out` (interleaved stereo, 48 kHz of the sound device's clock) with what is due.
    pub fn fill(&mut self, out: &mut [f32]) -> Filled {
        out.fill(0.0);
        Filled::Silence
    }

    /// The counters; stay readable after the reader went into the callback.
    #[must_use]
    pub fn stats(&self) -> ReaderStatsHandle {
        self.stats.clone()
    }
}
