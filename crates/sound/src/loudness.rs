//! Loudness as people hear it: EBU R 128's momentary value (ITU-R BS.1770-4: K-weighted, the last 400 ms, no gate).

use super::{CHANNELS, RATE_HZ, SoundError};
use ebur128::{EbuR128, Mode};

/// What is measured at once.
const WINDOW_FRAMES: usize = RATE_HZ as usize * 4 / 10;
/// A new value is made so often: BS.1770's overlap of 75 %.
const STEP_FRAMES: usize = WINDOW_FRAMES / 4;
/// Below the absolute gate of EBU R 128 nothing is called loud.
pub const GATE_LUFS: f32 = -70.0;

/// Momentary loudness of interleaved stereo at 48 kHz. After `new` nothing is allocated.
pub struct Loudness {
    inner: EbuR128,
    since_step: usize,
    /// Frames of silence at the end of what was measured.
    silent: usize,
    momentary: f32,
}

impl Loudness {
    /// A meter that has heard nothing.
    ///
    /// # Errors
    /// When the measuring crate refuses 48 kHz stereo.
    pub fn new() -> Result<Self, SoundError> {
        let inner = EbuR128::new(CHANNELS as u32, RATE_HZ, Mode::M);
        let inner = inner.map_err(|error| SoundError::Loudness(error.to_string()))?;
        Ok(Self { inner, since_step: 0, silent: WINDOW_FRAMES, momentary: f32::NEG_INFINITY })
    }

    /// Takes a block of sound.
    pub fn add(&mut self, interleaved: &[f32]) {
        self.silent = 0;
        self.measure(interleaved);
    }

    /// So many frames of silence; costs nothing once the window is empty.
    pub fn add_silence(&mut self, frames: usize) {
        const NOTHING: [f32; 128 * CHANNELS] = [0.0; 128 * CHANNELS];
        let mut left = frames.min(WINDOW_FRAMES.saturating_sub(self.silent));
        self.silent = self.silent.saturating_add(frames);
        while left > 0 {
            let part = left.min(NOTHING.len() / CHANNELS);
            self.measure(&NOTHING[..part * CHANNELS]);
            left -= part;
        }
        if self.silent >= WINDOW_FRAMES {
            self.momentary = f32::NEG_INFINITY;
        }
    }

    /// In LUFS; `-inf` below [`GATE_LUFS`].
    #[must_use]
    pub fn momentary_lufs(&self) -> f32 {
        self.momentary
    }

    fn measure(&mut self, interleaved: &[f32]) {
        if self.inner.add_frames_f32(interleaved).is_err() {
            return;
        }
        self.since_step += interleaved.len() / CHANNELS;
        if self.since_step >= STEP_FRAMES {
            self.since_step %= STEP_FRAMES;
            let lufs = self.inner.loudness_momentary().map_or(f32::NEG_INFINITY, |lufs| lufs as f32);
            self.momentary = if lufs < GATE_LUFS { f32::NEG_INFINITY } else { lufs };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(frequency_hz: f64, level_dbfs: f64, secs: f64, channels: [bool; 2]) -> Vec<f32> {
        let amplitude = 10f64.powf(level_dbfs / 20.0);
        (0..(secs * 48_000.0) as usize)
            .flat_map(|n| {
                let sample = (amplitude * (std::f64::consts::TAU * frequency_hz * n as f64 / 48_000.0).sin()) as f32;
                channels.map(|on| if on { sample } else { 0.0 })
            })
            .collect()
    }

    fn heard(samples: &[f32]) -> f32 {
        let mut loudness = Loudness::new().unwrap();
        samples.chunks(960).for_each(|block| loudness.add(block));
        loudness.momentary_lufs()
    }

    /// EBU Tech 3341, minimum requirements test 1 and 2: a stereo sine of 1 kHz at -23 dBFS is -23 LUFS, +-0.1.
    #[test]
    fn stereo_tones_are_as_loud_as_ebu_says() {
        for level in [-23.0, -33.0, -6.0] {
            let lufs = heard(&tone(1000.0, level, 2.0, [true; 2]));
            assert!((f64::from(lufs) - level).abs() < 0.1, "{lufs} LUFS for {level} dBFS");
        }
    }

    #[test]
    fn one_channel_is_three_db_less() {
        let lufs = heard(&tone(1000.0, -20.0, 1.0, [true, false]));
        assert!((lufs + 23.01).abs() < 0.1, "{lufs}");
    }

    #[test]
    fn deep_tones_weigh_less() {
        let lufs = heard(&tone(40.0, -20.0, 2.0, [true; 2]));
        assert!(lufs < -22.0, "{lufs}");
    }

    #[test]
    fn it_falls_to_nothing_within_400_ms_and_comes_back() {
        let mut loudness = Loudness::new().unwrap();
        let tone = tone(1000.0, -20.0, 1.0, [true; 2]);
        tone.chunks(960).for_each(|block| loudness.add(block));
        (0..20).for_each(|_| loudness.add_silence(480));
        let half = loudness.momentary_lufs();
        assert!((half + 23.0).abs() < 0.3, "half the window is silent: {half}");
        (0..20).for_each(|_| loudness.add_silence(480));
        assert_eq!(loudness.momentary_lufs(), f32::NEG_INFINITY);
        loudness.add_silence(usize::MAX);
        tone.chunks(960).for_each(|block| loudness.add(block));
        assert!((loudness.momentary_lufs() + 20.0).abs() < 0.1);
    }
}
