//! Ceilings of the stream, from all who lower them: what is set at the start, what an instance that nobody uses is
//! left, and a remedy for a while. The lowest counts.

use loco_media::Sender;
use parking_lot::Mutex;

/// A remedy never goes below these.
const LEAST_FPS: u32 = 5;
const LEAST_BIT_RATE: u32 = 150_000;

/// Frames and bits a second at most; `None`: no such ceiling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ceiling {
    pub(crate) fps: Option<u32>,
    pub(crate) bit_rate: Option<u32>,
}

/// The ceilings in force.
pub(crate) struct Caps {
    sender: Sender,
    /// Frames a second that were set at the start.
    base_fps: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    unused: Ceiling,
    remedy: Ceiling,
    /// Counts remedies: an older one's end does not end a newer one.
    remedies: u64,
}

// === impl Ceiling ===

impl Ceiling {
    fn lowest(self, other: Self) -> Self {
        let lower = |a: Option<u32>, b: Option<u32>| a.into_iter().chain(b).min();
        Self { fps: lower(self.fps, other.fps), bit_rate: lower(self.bit_rate, other.bit_rate) }
    }

    /// Half of what is in force.
    fn half(fps: u32, bit_rate: u32) -> Self {
        // Never raised by the least.
        let half = |value: u32, least: u32| (value / 2).max(least.min(value));
        Self { fps: Some(half(fps, LEAST_FPS)), bit_rate: Some(half(bit_rate, LEAST_BIT_RATE)) }
    }
}

// === impl Caps ===

impl Caps {
    pub(crate) fn new(sender: Sender, base_fps: u32) -> Self {
        Self { sender, base_fps, state: Mutex::default() }
    }

    /// What an instance that nobody uses is left; no ceiling while someone does.
    pub(crate) fn set_unused(&self, ceiling: Ceiling) {
        let mut state = self.state.lock();
        state.unused = ceiling;
        self.apply(&state);
    }

    /// Halves what is in force; returns the new ceiling, and the number by which [`Self::end_remedy`] lifts it.
    pub(crate) fn halve(&self) -> (Ceiling, u64) {
        let mut state = self.state.lock();
        let fps = state.unused.lowest(state.remedy).fps.map_or(self.base_fps, |fps| fps.min(self.base_fps));
        state.remedy = Ceiling::half(fps, self.sender.stats().ceiling);
        state.remedies += 1;
        self.apply(&state);
        (state.remedy, state.remedies)
    }

    /// Lifts the remedy's ceiling, unless a newer one is in force.
    pub(crate) fn end_remedy(&self, number: u64) {
        let mut state = self.state.lock();
        if state.remedies == number {
            state.remedy = Ceiling::default();
            self.apply(&state);
        }
    }

    fn apply(&self, state: &State) {
        let ceiling = state.unused.lowest(state.remedy);
        let fps = ceiling.fps.map_or(self.base_fps, |fps| fps.min(self.base_fps));
        let applied = self.sender.set_frame_rate(fps).and_then(|()| self.sender.set_cap(ceiling.bit_rate));
        if let Err(error) = applied {
            tracing::error!(?ceiling, "a ceiling was not taken: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_counts() {
        let unused = Ceiling { fps: Some(5), bit_rate: None };
        let remedy = Ceiling { fps: Some(15), bit_rate: Some(1_000_000) };
        assert_eq!(unused.lowest(remedy), Ceiling { fps: Some(5), bit_rate: Some(1_000_000) });
        assert_eq!(Ceiling::default().lowest(Ceiling::default()), Ceiling::default());
    }

    #[test]
    fn half_is_never_more_nor_too_little() {
        assert_eq!(Ceiling::half(30, 2_000_000), Ceiling { fps: Some(15), bit_rate: Some(1_000_000) });
        assert_eq!(Ceiling::half(6, 200_000), Ceiling { fps: Some(5), bit_rate: Some(150_000) });
        assert_eq!(Ceiling::half(3, 100_000), Ceiling { fps: Some(3), bit_rate: Some(100_000) });
    }
}
