//! Half the sampling rate: 96 kHz in, 48 kHz out.
//!
//! A QEMU before 10.0 sends sound in pieces of 1024 frames and mixes as many ahead, whatever their rate: at 96 kHz they
//! last half as long, and sound comes 21 ms earlier.

use crate::sink::CHANNELS;

/// One side of a half-band filter of 39 taps, of every second tap (the others are 0, the middle is 1/2): a sine cardinal
/// under Kaiser's window (beta 6.5; A. V. Oppenheim, R. W. Schafer, Discrete-Time Signal Processing, 7.6), scaled to a sum
/// of 1/4. Flat to 18 kHz, -71 dB from 30 kHz on, so that nothing below 18 kHz is an echo of something above.
const SIDE: [f32; 10] = [
    0.316_005_6,
    -0.099_190_1,
    0.052_683_3,
    -0.031_201_2,
    0.018_729_6,
    -0.010_899_4,
    0.005_946_6,
    -0.002_927_3,
    0.001_219_8,
    -0.000_366_9,
];
/// Frames on each side of the one in the middle: 0.2 ms.
const REACH: usize = 2 * SIDE.len() - 1;

/// One voice's filter.
#[derive(Debug)]
pub(super) struct Halver {
    /// Interleaved samples that are still needed, as many frames before the next one in the middle as the filter reaches.
    waiting: Vec<f32>,
}

// === impl Halver ===

impl Halver {
    pub(super) fn new() -> Self {
        Self { waiting: vec![0.0; REACH * CHANNELS] }
    }

    /// Appends to `out` what follows from `samples`; both interleaved.
    pub(super) fn push(&mut self, samples: &[i16], out: &mut Vec<i16>) {
        self.waiting.extend(samples.iter().map(|&sample| f32::from(sample)));
        let frames = self.waiting.len() / CHANNELS;
        let mut middle = REACH;
        while middle + REACH < frames {
            for channel in 0..CHANNELS {
                let at = |frame: usize| self.waiting[frame * CHANNELS + channel];
                let sides =
                    SIDE.iter().enumerate().map(|(n, tap)| tap * (at(middle - 2 * n - 1) + at(middle + 2 * n + 1)));
                // `as` saturates: what overshoots full scale is cut there.
                out.push((0.5 * at(middle) + sides.sum::<f32>()).round() as i16);
            }
            middle += 2;
        }
        self.waiting.drain(..(middle - REACH) * CHANNELS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a second of a tone of -6 dB of full scale, its first tenth left out, in pieces of `piece` frames:
    /// the RMS of the left channel in dB of the tone's.
    fn level_db(frequency_hz: f64, piece: usize) -> f64 {
        let tone = |n: usize| (16_384.0 * (std::f64::consts::TAU * frequency_hz * n as f64 / 96_000.0).sin()) as i16;
        let samples: Vec<i16> = (0..96_000).flat_map(|n| [tone(n), 0]).collect();
        let (mut halver, mut out) = (Halver::new(), Vec::new());
        for piece in samples.chunks(piece * CHANNELS) {
            halver.push(piece, &mut out);
        }
        assert!((out.len() as i64 / 2 - 48_000).abs() <= REACH as i64, "{} frames", out.len() / 2);
        assert!(out.iter().skip(1).step_by(2).all(|sample| *sample == 0), "the channels are apart");
        let left: Vec<f64> = out.iter().step_by(2).skip(4_800).map(|sample| f64::from(*sample)).collect();
        let rms = (left.iter().map(|sample| sample * sample).sum::<f64>() / left.len() as f64).sqrt();
        20.0 * (rms.max(1e-3) / (16_384.0 / std::f64::consts::SQRT_2)).log10()
    }

    #[test]
    fn what_is_heard_passes_and_what_would_come_back_as_an_echo_does_not() {
        for frequency_hz in [100.0, 1_000.0, 9_000.0, 16_000.0] {
            let level = level_db(frequency_hz, 1024);
            assert!(level.abs() < 0.05, "{frequency_hz} Hz: {level} dB");
        }
        for frequency_hz in [31_000.0, 38_000.0, 46_000.0] {
            let level = level_db(frequency_hz, 1024);
            assert!(level < -65.0, "{frequency_hz} Hz: {level} dB");
        }
    }

    #[test]
    fn pieces_of_any_length_are_one_sound() {
        for piece in [1, 7, 480, 1023] {
            let level = level_db(1_000.0, piece);
            assert!(level.abs() < 0.05, "pieces of {piece}: {level} dB");
        }
    }
}
