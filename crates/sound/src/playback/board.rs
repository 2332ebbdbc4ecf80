//! What the window sets and reads while the callback runs: atomics only.

use super::place;
use crate::meter::{Decay, IDLE_SECS, Reading, fader_gain};
use loco_model::InstanceId;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// A single precision number in an atomic.
#[derive(Debug)]
struct Float(AtomicU32);

/// One fader with its buttons.
#[derive(Debug)]
pub(super) struct Fader {
    gain: Float,
    muted: AtomicBool,
    solo: AtomicBool,
    /// Another instance is listened to.
    dimmed: AtomicBool,
    /// -1 is left, 0 the middle.
    side: Float,
}

/// A meter's reading, written by the callback.
#[derive(Debug)]
pub(super) struct Published {
    /// Microseconds since the board was made, plus one; 0 before the first.
    at_us: AtomicU64,
    peak: [Float; 2],
    hold: [Float; 2],
    magnitude: [Float; 2],
    input_peak: Float,
    clipped: AtomicBool,
    loudness: Float,
}

/// When the marker's click passed, written by the callback.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Somebody listens for clicks.
    pub(super) wanted: AtomicBool,
    /// Clicks so far; written last.
    count: AtomicU64,
    handed_us: AtomicU64,
    offset_us: AtomicU64,
    /// Microseconds plus one; 0 where the system does not say.
    latency_us: AtomicU64,
}

/// A click of the demo guest's marker in the sound device's callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Click {
    /// How many there were, this one included.
    pub count: u64,
    /// When the callback began that handed it out (`crate::clock`).
    pub handed_us: u64,
    /// How far into that callback's sound it lies.
    pub offset_us: u64,
    /// From that callback to the loudspeaker, as the system says; `None` where it does not.
    pub latency_us: Option<u64>,
}

/// Fader and meter.
#[derive(Debug, Default)]
pub(super) struct Strip {
    pub(super) fader: Fader,
    pub(super) meter: Published,
    pub(super) heard: Heard,
    /// Sound is attached.
    pub(super) attached: AtomicBool,
}

/// All strips.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) strips: [Strip; InstanceId::COUNT],
    pub(super) master: Strip,
    /// Gain of those that are dimmed.
    dim: Float,
    /// Index in [`DECAYS`].
    decay: AtomicU8,
    began: Instant,
}

/// The laws by which meters fall, in the order of their numbers.
const DECAYS: [Decay; 3] = [Decay::Fast, Decay::Medium, Decay::Slow];

// === impl Float ===

impl Float {
    fn new(value: f32) -> Self {
        Self(AtomicU32::new(value.to_bits()))
    }

    fn get(&self) -> f32 {
        f32::from_bits(self.0.load(Relaxed))
    }

    fn set(&self, value: f32) {
        self.0.store(value.to_bits(), Relaxed);
    }
}

// === impl Fader ===

impl Default for Fader {
    fn default() -> Self {
        Self {
            gain: Float::new(1.0),
            muted: AtomicBool::new(false),
            solo: AtomicBool::new(false),
            dimmed: AtomicBool::new(false),
            side: Float::new(0.0),
        }
    }
}

impl Fader {
    pub(super) fn set_position(&self, position: f32) {
        self.gain.set(fader_gain(position));
    }

    pub(super) fn set_mute(&self, muted: bool) {
        self.muted.store(muted, Relaxed);
    }

    pub(super) fn set_solo(&self, solo: bool) {
        self.solo.store(solo, Relaxed);
    }

    pub(super) fn is_solo(&self) -> bool {
        self.solo.load(Relaxed)
    }

    pub(super) fn set_dimmed(&self, dimmed: bool) {
        self.dimmed.store(dimmed, Relaxed);
    }

    pub(super) fn set_side(&self, side: f32) {
        // Gains follow each other: one that is no number would stay so.
        self.side.set(if side.is_nan() { 0.0 } else { side.clamp(-1.0, 1.0) });
    }

    /// Gains of left and right to play with; `any_solo`: some fader is solo, `dim`: gain of those that are dimmed.
    pub(super) fn gains(&self, any_solo: bool, dim: f32) -> [f32; 2] {
        if self.muted.load(Relaxed) || (any_solo && !self.is_solo()) {
            return [0.0; 2];
        }
        // What is alone on purpose is not dimmed.
        let dim = if self.dimmed.load(Relaxed) && !any_solo { dim } else { 1.0 };
        let gain = self.gain.get() * dim;
        let side = self.side.get();
        // Exactly 1 in the middle, so that nothing is changed there.
        if side == 0.0 { [gain; 2] } else { place::gains(side).map(|side| side * gain) }
    }
}

// === impl Heard ===

impl Heard {
    pub(super) fn publish(&self, handed_us: u64, offset_us: u64, latency_us: Option<u64>) {
        self.handed_us.store(handed_us, Relaxed);
        self.offset_us.store(offset_us, Relaxed);
        self.latency_us.store(latency_us.map_or(0, |us| us + 1), Relaxed);
        self.count.fetch_add(1, std::sync::atomic::Ordering::Release);
    }

    /// The newest one. Clicks come a second apart: there is no telling of two at once.
    pub(super) fn read(&self) -> Option<Click> {
        let count = self.count.load(std::sync::atomic::Ordering::Acquire);
        (count > 0).then(|| Click {
            count,
            handed_us: self.handed_us.load(Relaxed),
            offset_us: self.offset_us.load(Relaxed),
            latency_us: self.latency_us.load(Relaxed).checked_sub(1),
        })
    }
}

// === impl Published ===

impl Default for Published {
    fn default() -> Self {
        let silent = || [Float::new(f32::NEG_INFINITY), Float::new(f32::NEG_INFINITY)];
        Self {
            at_us: AtomicU64::new(0),
            peak: silent(),
            hold: silent(),
            magnitude: silent(),
            input_peak: Float::new(f32::NEG_INFINITY),
            clipped: AtomicBool::new(false),
            loudness: Float::new(f32::NEG_INFINITY),
        }
    }
}

impl Published {
    pub(super) fn publish(&self, reading: &Reading, loudness: f32, at_us: u64) {
        self.loudness.set(loudness);
        for channel in 0..2 {
            self.peak[channel].set(reading.peak_dbfs[channel]);
            self.hold[channel].set(reading.hold_dbfs[channel]);
            self.magnitude[channel].set(reading.magnitude_dbfs[channel]);
        }
        self.input_peak.set(reading.input_peak_dbfs);
        self.clipped.store(reading.clipped, Relaxed);
        self.at_us.store(at_us + 1, Relaxed);
    }

    /// The newest loudness in LUFS; `-inf` as for [`Published::read`].
    pub(super) fn loudness(&self, now_us: u64) -> f32 {
        if self.is_stale(now_us) { f32::NEG_INFINITY } else { self.loudness.get() }
    }

    fn is_stale(&self, now_us: u64) -> bool {
        let at_us = self.at_us.load(Relaxed);
        at_us == 0 || now_us.saturating_sub(at_us) > (IDLE_SECS * 1e6) as u64
    }

    /// The newest reading; silent when it is older than OBS's half a second.
    pub(super) fn read(&self, now_us: u64) -> Reading {
        if self.is_stale(now_us) {
            return Reading::SILENT;
        }
        let both = |pair: &[Float; 2]| [pair[0].get(), pair[1].get()];
        Reading {
            peak_dbfs: both(&self.peak),
            hold_dbfs: both(&self.hold),
            magnitude_dbfs: both(&self.magnitude),
            input_peak_dbfs: self.input_peak.get(),
            clipped: self.clipped.load(Relaxed),
        }
    }
}

// === impl Board ===

impl Default for Board {
    fn default() -> Self {
        Self {
            strips: Default::default(),
            master: Strip::default(),
            dim: Float::new(1.0),
            decay: AtomicU8::new(0),
            began: Instant::now(),
        }
    }
}

impl Board {
    pub(super) fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    pub(super) fn any_solo(&self) -> bool {
        self.strips.iter().any(|strip| strip.fader.is_solo())
    }

    pub(super) fn dim(&self) -> f32 {
        self.dim.get()
    }

    pub(super) fn set_dim(&self, gain: f32) {
        self.dim.set(if gain.is_nan() { 1.0 } else { gain.clamp(0.0, 1.0) });
    }

    pub(super) fn decay(&self) -> Decay {
        DECAYS.get(usize::from(self.decay.load(Relaxed))).copied().unwrap_or_default()
    }

    pub(super) fn set_decay(&self, decay: Decay) {
        let index = DECAYS.iter().position(|d| *d == decay).unwrap_or_default();
        self.decay.store(index as u8, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_set_gains_are_numbers() {
        let fader = Fader::default();
        for value in [f32::NAN, f32::INFINITY, -7.0, 0.5] {
            fader.set_side(value);
            fader.set_position(value);
            let gains = fader.gains(false, 1.0);
            assert!(gains.iter().all(|gain| (-1e-6..1.5).contains(gain)), "{value}: {gains:?}");
        }
    }
}
