//! Ears: what a recording holds.

use rustfft::FftPlanner;
use rustfft::num_complex::Complex;
use std::ops::Range;

/// Windows in which loudness is looked at: 10 ms.
const WINDOW_FRAMES: usize = 480;

/// Stereo at 48 kHz.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// Left and right.
    pub channels: [Vec<f32>; 2],
}

/// dB of full scale; nothing is `-inf`.
#[must_use]
pub fn dbfs(amplitude: f64) -> f64 {
    20.0 * amplitude.log10()
}

impl Recording {
    /// Frames a second.
    pub const RATE_HZ: u32 = 48_000;

    /// From interleaved little-endian 32-bit floats.
    #[must_use]
    pub fn from_f32le(bytes: &[u8]) -> Self {
        let mut channels = [Vec::new(), Vec::new()];
        for (n, sample) in bytes.chunks_exact(4).enumerate() {
            channels[n % 2].push(f32::from_le_bytes([sample[0], sample[1], sample[2], sample[3]]));
        }
        Self { channels }
    }

    /// How many there are of both channels.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.channels[0].len().min(self.channels[1].len())
    }

    /// Length in seconds.
    #[must_use]
    pub fn secs(&self) -> f64 {
        self.frames() as f64 / f64::from(Self::RATE_HZ)
    }

    /// A part, in frames.
    #[must_use]
    pub fn part(&self, frames: Range<usize>) -> Self {
        let end = frames.end.min(self.frames());
        let range = frames.start.min(end)..end;
        Self { channels: [self.channels[0][range.clone()].to_vec(), self.channels[1][range].to_vec()] }
    }

    /// Loudest sample of both channels.
    #[must_use]
    pub fn peak_dbfs(&self) -> f64 {
        dbfs(self.channels.iter().flatten().map(|s| f64::from(s.abs())).fold(0.0, f64::max))
    }

    /// No sample above this level.
    #[must_use]
    pub fn is_silent(&self, below_dbfs: f64) -> bool {
        self.peak_dbfs() < below_dbfs
    }

    /// The strongest frequency of the left channel in Hz: FFT with a Hann window, the peak between two bins by a parabola
    /// through the logarithms (J. O. Smith, Spectral Audio Signal Processing). `None` for silence.
    #[must_use]
    pub fn frequency_hz(&self) -> Option<f64> {
        let left = &self.channels[0];
        let length = left.len().next_power_of_two() * 2;
        if left.len() < 64 || self.is_silent(-100.0) {
            return None;
        }
        let mut spectrum: Vec<Complex<f64>> = left
            .iter()
            .enumerate()
            .map(|(n, &s)| {
                let hann = 0.5 - 0.5 * (std::f64::consts::TAU * n as f64 / left.len() as f64).cos();
                Complex::new(f64::from(s) * hann, 0.0)
            })
            .collect();
        spectrum.resize(length, Complex::default());
        FftPlanner::new().plan_fft_forward(length).process(&mut spectrum);
        let power: Vec<f64> = spectrum[..length / 2].iter().map(|c| c.norm_sqr().max(1e-30).ln()).collect();
        let best = (1..power.len() - 1).max_by(|&a, &b| power[a].total_cmp(&power[b]))?;
        let (a, b, c) = (power[best - 1], power[best], power[best + 1]);
        let offset = 0.5 * (a - c) / (a - 2.0 * b + c);
        Some((best as f64 + offset) * f64::from(Self::RATE_HZ) / length as f64)
    }

    /// Peak level of a tone of this frequency in a channel (0 or 1), by least squares; other sound does not count.
    #[must_use]
    pub fn tone_dbfs(&self, channel: usize, frequency_hz: f64) -> f64 {
        let (mut ss, mut cc, mut sc, mut xs, mut xc) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (n, &x) in self.channels[channel].iter().enumerate() {
            let (s, c) = (std::f64::consts::TAU * frequency_hz * n as f64 / f64::from(Self::RATE_HZ)).sin_cos();
            ss += s * s;
            cc += c * c;
            sc += s * c;
            xs += f64::from(x) * s;
            xc += f64::from(x) * c;
        }
        let det = ss * cc - sc * sc;
        dbfs(((xs * cc - xc * sc) / det).hypot((xc * ss - xs * sc) / det))
    }

    /// How often a channel jumps: where its second difference is far beyond what a tone of `frequency_hz` as loud as the
    /// recording's peak has.
    #[must_use]
    pub fn clicks(&self, frequency_hz: f64) -> usize {
        let step = std::f64::consts::TAU * frequency_hz / f64::from(Self::RATE_HZ);
        let peak = 10f64.powf(self.peak_dbfs() / 20.0);
        let limit = (3.0 * peak * step * step + 0.01 * peak).max(1e-4) as f32;
        self.channels
            .iter()
            .map(|channel| {
                let jumps: Vec<usize> = (1..channel.len().saturating_sub(1))
                    .filter(|&n| (channel[n - 1] - 2.0 * channel[n] + channel[n + 1]).abs() > limit)
                    .collect();
                jumps.chunk_by(|a, b| b - a < WINDOW_FRAMES).count()
            })
            .sum()
    }

    /// Where it is louder than this, in frames, to 10 ms: stretches with less than 50 ms of quiet in them.
    #[must_use]
    pub fn loud_parts(&self, above_dbfs: f64) -> Vec<Range<usize>> {
        let mut parts: Vec<Range<usize>> = Vec::new();
        for start in (0..self.frames()).step_by(WINDOW_FRAMES) {
            let end = (start + WINDOW_FRAMES).min(self.frames());
            if self.part(start..end).peak_dbfs() < above_dbfs {
                continue;
            }
            match parts.last_mut() {
                Some(last) if start - last.end < 5 * WINDOW_FRAMES => last.end = end,
                _ => parts.push(start..end),
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(frequency_hz: f64, level_dbfs: f64, frames: usize) -> Vec<f32> {
        let amplitude = 10f64.powf(level_dbfs / 20.0);
        (0..frames)
            .map(|n| (amplitude * (std::f64::consts::TAU * frequency_hz * n as f64 / 48_000.0).sin()) as f32)
            .collect()
    }

    fn both(samples: Vec<f32>) -> Recording {
        Recording { channels: [samples.clone(), samples] }
    }

    #[test]
    fn finds_frequency_and_level() {
        for (frequency, level) in [(440.0, -12.0), (997.3, -1.5), (3141.5, -40.0)] {
            let recording = both(tone(frequency, level, 24_000));
            let found = recording.frequency_hz().unwrap();
            assert!((found - frequency).abs() < 0.05, "{found} for {frequency}");
            assert!((recording.tone_dbfs(1, frequency) - level).abs() < 0.01);
            assert!((recording.peak_dbfs() - level).abs() < 0.1);
            assert_eq!(recording.clicks(frequency), 0);
        }
    }

    #[test]
    fn hears_clicks() {
        let mut samples = tone(440.0, -12.0, 48_000);
        samples.drain(10_000..10_020);
        samples[30_000] += 0.1;
        assert_eq!(both(samples).clicks(440.0), 4, "two in each channel");
    }

    #[test]
    fn finds_loud_parts_and_silence() {
        let mut samples = vec![0.0; 9600];
        samples.extend(tone(800.0, -20.0, 19_200));
        samples.extend(vec![0.0; 9600]);
        let recording = both(samples);
        assert_eq!(recording.loud_parts(-40.0), vec![9600..28_800; 1]);
        assert!(recording.part(0..9600).is_silent(-90.0) && !recording.is_silent(-90.0));
        assert_eq!(recording.part(0..9600).frequency_hz(), None);
    }
}
