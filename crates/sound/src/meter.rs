//! Meter laws as OBS Studio has them, numbers only.
//!
//! Source of every constant: obs-studio, `frontend/components/VolumeMeter.cpp` (ballistics, colours, hold) and
//! `libobs/obs-audio-controls.c` (peak, magnitude, cubic fader).

/// Lower end of the scale in dB of full scale; what is quieter counts as this in the magnitude.
pub const FLOOR_DBFS: f32 = -60.0;
/// From here on the meter is drawn as a warning.
pub const WARNING_DBFS: f32 = -20.0;
/// From here on the meter is drawn as an error.
pub const ERROR_DBFS: f32 = -9.0;
/// In this time the magnitude covers 99 % of a step at the rate at which it starts; since it slows down on its way (each
/// block covers its share of what is left), 63 % of it.
pub const MAGNITUDE_SECS: f32 = 0.3;
/// How long the highest peak stays.
pub const HOLD_SECS: f32 = 20.0;
/// How long the highest input peak stays.
pub const INPUT_HOLD_SECS: f32 = 1.0;
/// How long clipping is shown.
pub const CLIP_SECS: f32 = 1.0;
/// A meter without data for so long shows nothing.
pub const IDLE_SECS: f32 = 0.5;
/// A peak at or above this is full scale: the loudest value of 16 bits is -0.0003 dB.
const CLIP_DBFS: f32 = -0.001;

/// How fast a peak falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decay {
    /// 40 dB in 1.7 s, OBS's default.
    #[default]
    Fast,
    /// 20 dB in 1.7 s (type I PPM, IEC 60268-10).
    Medium,
    /// 24 dB in 2.8 s (type II PPM).
    Slow,
}

impl Decay {
    /// dB a second.
    #[must_use]
    pub fn db_per_sec(self) -> f32 {
        match self {
            Self::Fast => 23.53,
            Self::Medium => 11.76,
            Self::Slow => 8.57,
        }
    }
}

/// Linear amplitude (1.0 is full scale) in dB; zero is `-inf`.
#[must_use]
pub fn to_dbfs(linear: f32) -> f32 {
    20.0 * linear.log10()
}

/// OBS's cubic fader: position 0..=1 to gain. Outside values are clamped.
#[must_use]
pub fn fader_gain(position: f32) -> f32 {
    if position.is_nan() { 0.0 } else { position.clamp(0.0, 1.0).powi(3) }
}

/// Peak and power of a block of interleaved stereo, linear, left and right.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BlockLevel {
    /// Highest absolute sample.
    pub peak: [f32; 2],
    /// Mean of the squares.
    pub mean_square: [f32; 2],
}

impl BlockLevel {
    /// Measures a block; an odd sample at the end is left out, an empty block is silence.
    #[must_use]
    pub fn measure(interleaved: &[f32]) -> Self {
        let mut peak = [0.0f32; 2];
        let mut sum = [0.0f64; 2];
        let frames = interleaved.chunks_exact(2);
        let count = frames.len().max(1) as f64;
        for frame in frames {
            for (channel, &sample) in frame.iter().enumerate() {
                peak[channel] = peak[channel].max(sample.abs());
                sum[channel] += f64::from(sample) * f64::from(sample);
            }
        }
        Self { peak, mean_square: sum.map(|s| (s / count) as f32) }
    }

    /// Louder channel's peak, linear.
    #[must_use]
    pub fn loudest(&self) -> f32 {
        self.peak[0].max(self.peak[1])
    }
}

/// What a meter shows, in dB of full scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Peak with its decay, left and right; `-inf` is silence.
    pub peak_dbfs: [f32; 2],
    /// Highest peak of the last 20 s, left and right.
    pub hold_dbfs: [f32; 2],
    /// Magnitude, left and right: RMS, following by [`MAGNITUDE_SECS`]; not below [`FLOOR_DBFS`] once there was data.
    pub magnitude_dbfs: [f32; 2],
    /// Highest peak of the last second before volume and mute, of the louder channel.
    pub input_peak_dbfs: f32,
    /// Full scale was reached within the last second.
    pub clipped: bool,
}

impl Reading {
    /// Shows nothing.
    pub const SILENT: Self = Self {
        peak_dbfs: [f32::NEG_INFINITY; 2],
        hold_dbfs: [f32::NEG_INFINITY; 2],
        magnitude_dbfs: [f32::NEG_INFINITY; 2],
        input_peak_dbfs: f32::NEG_INFINITY,
        clipped: false,
    };
}

/// A stereo meter.
#[derive(Clone, Debug)]
pub struct Meter {
    decay: Decay,
    shown: Reading,
    hold_age_secs: [f32; 2],
    input_age_secs: f32,
    clip_left_secs: f32,
}

impl Default for Meter {
    fn default() -> Self {
        Self::new(Decay::default())
    }
}

impl Meter {
    /// A meter that shows nothing yet.
    #[must_use]
    pub fn new(decay: Decay) -> Self {
        Self { decay, shown: Reading::SILENT, hold_age_secs: [0.0; 2], input_age_secs: 0.0, clip_left_secs: 0.0 }
    }

    /// Another law of falling, from now on.
    pub fn set_decay(&mut self, decay: Decay) {
        self.decay = decay;
    }

    /// Forgets everything but the law of falling: there was no data for [`IDLE_SECS`].
    pub fn reset(&mut self) {
        *self = Self::new(self.decay);
    }

    /// Whether nothing that moves would if silence went on: the peak has fallen, the magnitude is at the floor and nothing
    /// flashes. What is held may be held still.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let shown = &self.shown;
        !shown.clipped
            && (0..2).all(|c| shown.peak_dbfs[c] <= FLOOR_DBFS && shown.magnitude_dbfs[c] <= FLOOR_DBFS + 0.1)
    }

    /// Takes a block that lasted `dt_secs`: `block` after volume and mute, `input_peak` (linear) before.
    pub fn update(&mut self, block: &BlockLevel, input_peak: f32, dt_secs: f32) {
        let mut clips = false;
        for channel in 0..2 {
            let peak = to_dbfs(block.peak[channel]);
            clips |= peak >= CLIP_DBFS;
            let shown = &mut self.shown.peak_dbfs[channel];
            *shown = if peak >= *shown { peak } else { (*shown - self.decay.db_per_sec() * dt_secs).max(peak) };
            hold(&mut self.shown.hold_dbfs[channel], &mut self.hold_age_secs[channel], peak, dt_secs, HOLD_SECS);
            // Silence is -inf dB; taken as the scale's lower end it lets the magnitude fall as it rises.
            let magnitude = (to_dbfs(block.mean_square[channel]) / 2.0).clamp(FLOOR_DBFS, 0.0);
            let shown = &mut self.shown.magnitude_dbfs[channel];
            *shown = if shown.is_finite() {
                *shown + (magnitude - *shown) * (dt_secs / MAGNITUDE_SECS * 0.99).min(1.0)
            } else {
                magnitude
            };
        }
        let input_peak = to_dbfs(input_peak);
        hold(&mut self.shown.input_peak_dbfs, &mut self.input_age_secs, input_peak, dt_secs, INPUT_HOLD_SECS);
        self.clip_left_secs = if clips { CLIP_SECS } else { (self.clip_left_secs - dt_secs).max(0.0) };
        self.shown.clipped = self.clip_left_secs > 0.0;
    }

    /// What to show now.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.shown
    }
}

fn hold(shown: &mut f32, age_secs: &mut f32, value: f32, dt_secs: f32, hold_secs: f32) {
    *age_secs += dt_secs;
    if value >= *shown || *age_secs > hold_secs {
        *shown = value;
        *age_secs = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(frequency_hz: f32, level_dbfs: f32, secs: f32) -> Vec<f32> {
        let amplitude = 10f32.powf(level_dbfs / 20.0);
        (0..(secs * 48_000.0) as usize)
            .flat_map(|n| [amplitude * (std::f32::consts::TAU * (n as f32 * frequency_hz / 48_000.0).fract()).sin(); 2])
            .collect()
    }

    fn play(meter: &mut Meter, samples: &[f32]) {
        for block in samples.chunks(480 * 2) {
            let level = BlockLevel::measure(block);
            meter.update(&level, level.loudest(), (block.len() / 2) as f32 / 48_000.0);
        }
    }

    #[track_caller]
    fn near(is: f32, want: f32, off: f32) {
        assert!((is - want).abs() <= off, "{is} dB, wanted {want} +- {off}");
    }

    #[test]
    fn shows_peak_and_magnitude_of_tones_within_a_tenth_of_a_db() {
        for frequency in [110.0, 440.0, 997.0, 3000.0] {
            for level in [-0.5, -6.0, -12.0, -20.0, -40.0] {
                let mut meter = Meter::default();
                play(&mut meter, &sine(frequency, level, 2.0));
                let reading = meter.reading();
                near(reading.peak_dbfs[0], level, 0.1);
                near(reading.peak_dbfs[1], level, 0.1);
                near(reading.magnitude_dbfs[0], level - 3.0103, 0.1);
                near(reading.hold_dbfs[0], level, 0.1);
                near(reading.input_peak_dbfs, level, 0.1);
                assert!(!reading.clipped);
            }
        }
    }

    #[test]
    fn a_peak_falls_at_its_rate() {
        for (decay, db, secs) in [(Decay::Fast, 40.0, 1.7), (Decay::Medium, 20.0, 1.7), (Decay::Slow, 24.0, 2.8)] {
            let mut meter = Meter::new(decay);
            play(&mut meter, &sine(997.0, -1.0, 0.5));
            play(&mut meter, &vec![0.0; (secs * 48_000.0) as usize * 2]);
            near(meter.reading().peak_dbfs[0], -1.0 - db, 0.1);
        }
    }

    #[test]
    fn a_peak_rises_at_once_and_does_not_fall_below_the_sound() {
        let mut meter = Meter::default();
        play(&mut meter, &sine(997.0, -3.0, 0.02));
        near(meter.reading().peak_dbfs[0], -3.0, 0.1);
        play(&mut meter, &sine(997.0, -30.0, 5.0));
        near(meter.reading().peak_dbfs[0], -30.0, 0.1);
    }

    #[test]
    fn the_magnitude_covers_a_step_within_300_ms() {
        let mut meter = Meter::default();
        play(&mut meter, &sine(1000.0, -40.0, 1.0));
        play(&mut meter, &sine(1000.0, -10.0, 0.3));
        // A first-order follower has covered 1 - 1/e^0.99 of the 30 dB by then.
        near(meter.reading().magnitude_dbfs[0], -43.01 + 30.0 * (1.0 - (-0.99f32).exp()), 0.5);
        play(&mut meter, &sine(1000.0, -10.0, 1.5));
        near(meter.reading().magnitude_dbfs[0], -13.01, 0.25);
    }

    #[test]
    fn the_hold_stays_20_s_and_then_falls_to_the_sound() {
        let mut meter = Meter::default();
        play(&mut meter, &sine(997.0, -2.0, 0.1));
        play(&mut meter, &sine(997.0, -50.0, 19.8));
        near(meter.reading().hold_dbfs[0], -2.0, 0.1);
        play(&mut meter, &sine(997.0, -50.0, 0.4));
        near(meter.reading().hold_dbfs[0], -50.0, 0.1);
    }

    #[test]
    fn clipping_is_shown_for_one_second() {
        let mut meter = Meter::default();
        play(&mut meter, &[32767.0 / 32768.0; 96]);
        play(&mut meter, &vec![0.0; 96_000 * 98 / 100]);
        assert!(meter.reading().clipped);
        play(&mut meter, &vec![0.0; 96_000 * 4 / 100]);
        assert!(!meter.reading().clipped);
    }

    #[test]
    fn silence_and_mute() {
        let mut meter = Meter::default();
        meter.update(&BlockLevel::default(), 0.5, 0.01);
        let reading = meter.reading();
        assert_eq!(reading.peak_dbfs, [f32::NEG_INFINITY; 2]);
        assert_eq!(reading.magnitude_dbfs, [FLOOR_DBFS; 2]);
        near(reading.input_peak_dbfs, -6.02, 0.01);
        assert_eq!(BlockLevel::measure(&[]), BlockLevel::default());
    }

    #[test]
    fn the_fader_is_cubic_and_bounded() {
        for (position, gain) in [(0.0, 0.0), (0.5, 0.125), (1.0, 1.0), (-3.0, 0.0), (7.0, 1.0), (f32::NAN, 0.0)] {
            assert!((fader_gain(position) - gain).abs() < 1e-6, "{position}");
        }
    }
}
