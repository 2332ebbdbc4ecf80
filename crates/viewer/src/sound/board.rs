//! What the window sets and reads while the callback runs: atomics only.

use loco_media::sound::meter::{IDLE_SECS, Reading, fader_gain};
use loco_model::InstanceId;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
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
}

/// Fader and meter.
#[derive(Debug, Default)]
pub(super) struct Strip {
    pub(super) fader: Fader,
    pub(super) meter: Published,
    /// Sound is attached.
    pub(super) attached: AtomicBool,
}

/// All strips.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) strips: [Strip; InstanceId::COUNT],
    pub(super) master: Strip,
    began: Instant,
}

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
        Self { gain: Float::new(1.0), muted: AtomicBool::new(false), solo: AtomicBool::new(false) }
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

    /// Gain to play with; `others_solo`: some fader is solo.
    pub(super) fn gain(&self, any_solo: bool) -> f32 {
        if self.muted.load(Relaxed) || (any_solo && !self.is_solo()) { 0.0 } else { self.gain.get() }
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
        }
    }
}

impl Published {
    pub(super) fn publish(&self, reading: &Reading, at_us: u64) {
        for channel in 0..2 {
            self.peak[channel].set(reading.peak_dbfs[channel]);
            self.hold[channel].set(reading.hold_dbfs[channel]);
            self.magnitude[channel].set(reading.magnitude_dbfs[channel]);
        }
        self.input_peak.set(reading.input_peak_dbfs);
        self.clipped.store(reading.clipped, Relaxed);
        self.at_us.store(at_us + 1, Relaxed);
    }

    /// The newest reading; silent when it is older than OBS's half a second.
    pub(super) fn read(&self, now_us: u64) -> Reading {
        let at_us = self.at_us.load(Relaxed);
        if at_us == 0 || now_us.saturating_sub(at_us) > (IDLE_SECS * 1e6) as u64 {
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
        Self { strips: Default::default(), master: Strip::default(), began: Instant::now() }
    }
}

impl Board {
    pub(super) fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    pub(super) fn any_solo(&self) -> bool {
        self.strips.iter().any(|strip| strip.fader.is_solo())
    }
}
