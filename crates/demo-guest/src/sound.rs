//! What is heard, as a function of time: so any piece can be made anew at any moment, and in any order.

use crate::{marker, whistle};

/// Samples a second; one channel of 16 bits.
pub const SAMPLE_RATE: u32 = 44_100;

/// Samples of the whole whistle.
pub const WHISTLE_SAMPLES: u64 = whistle::DURATION_MS as u64 * SAMPLE_RATE as u64 / 1000;
const RAMP_SAMPLES: u64 = whistle::RAMP_MS as u64 * SAMPLE_RATE as u64 / 1000;
/// 10^([`whistle::LEVEL_DBFS`] / 20) of full scale; a test compares.
const WHISTLE_PEAK: i64 = 8231;
const WHISTLE_STEP: u32 = phase_step(whistle::FREQUENCY_HZ as f64);

/// Peak of one note of the music: -26 dBFS.
const MUSIC_PEAK: i64 = 1642;
/// Length of an eighth note.
const EIGHTH_SAMPLES: u64 = SAMPLE_RATE as u64 * 210 / 1000;
/// The tune in eighths, as semitones above A3; 99 is a rest. Made for this town.
const TUNE: [u8; 64] = [
    3, 7, 10, 7, 15, 99, 10, 7, 8, 12, 15, 12, 17, 99, 15, 12, //
    10, 14, 17, 14, 19, 99, 17, 14, 15, 12, 10, 7, 3, 99, 99, 99, //
    8, 12, 15, 12, 20, 99, 15, 12, 7, 10, 15, 10, 19, 99, 15, 10, //
    10, 14, 17, 20, 19, 17, 15, 14, 15, 99, 10, 7, 3, 99, 99, 99,
];
/// Bass in quarters.
const BASS: [u8; 32] = [
    3, 10, 3, 10, 8, 15, 8, 15, 10, 5, 10, 5, 3, 10, 3, 3, //
    8, 15, 8, 15, 3, 10, 3, 10, 10, 5, 10, 5, 3, 10, 3, 3,
];

/// What sounds since when, in samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// First sample of the whistle.
    pub whistle: Option<u64>,
    /// First sample of the music; it goes on for ever.
    pub music: Option<u64>,
    /// First sample of the marker, which begins with a click; it goes on for ever.
    pub marker: Option<u64>,
}

impl Score {
    /// Whether anything is heard at `position` or later.
    #[must_use]
    pub fn sounds_from(&self, position: u64) -> bool {
        self.music.is_some()
            || self.marker.is_some()
            || self.whistle.is_some_and(|start| position < start + WHISTLE_SAMPLES)
    }

    /// Fills `samples` with what is heard from `position` on.
    pub fn render(&self, position: u64, samples: &mut [i16]) {
        for (i, sample) in samples.iter_mut().enumerate() {
            let at = position + i as u64;
            let since = |start: Option<u64>| start.and_then(|start| at.checked_sub(start));
            let whistle = since(self.whistle).map_or(0, whistle_at);
            let music = since(self.music).map_or(0, music_at);
            let marker = since(self.marker).map_or(0, marker_at);
            *sample = (whistle + music + marker).clamp(-32768, 32767) as i16;
        }
    }
}

fn whistle_at(position: u64) -> i64 {
    let Some(left) = WHISTLE_SAMPLES.checked_sub(position + 1) else { return 0 };
    let edge = position.min(left);
    let tone = (sine((position as u32).wrapping_mul(WHISTLE_STEP)) * WHISTLE_PEAK) >> 15;
    if edge >= RAMP_SAMPLES {
        return tone;
    }
    // A raised cosine: (1 - cos) / 2 over half a turn.
    let turn = (edge << 31) / RAMP_SAMPLES;
    let gain = 32768 - sine((turn as u32).wrapping_add(1 << 30));
    (tone * gain) >> 16
}

const HUM_STEP: u32 = phase_step(marker::HUM_HZ as f64);
const CLICK_STEP: u32 = ((marker::CLICK_TURNS as u64) << 32).div_ceil(marker::CLICK_SAMPLES) as u32;

fn marker_at(position: u64) -> i64 {
    let into = position % marker::PERIOD_SAMPLES;
    let hum = (sine((position as u32).wrapping_mul(HUM_STEP)) * marker::HUM_PEAK) >> 15;
    if into >= marker::CLICK_SAMPLES {
        return hum;
    }
    hum + ((sine((into as u32).wrapping_mul(CLICK_STEP)) * marker::CLICK_PEAK) >> 15)
}

fn music_at(position: u64) -> i64 {
    let eighth = position / EIGHTH_SAMPLES;
    let into = position % EIGHTH_SAMPLES;
    let melody = note(TUNE[(eighth % TUNE.len() as u64) as usize], into, EIGHTH_SAMPLES, 2);
    let quarter = BASS[(eighth / 2 % BASS.len() as u64) as usize];
    let bass = note(quarter, position % (2 * EIGHTH_SAMPLES), 2 * EIGHTH_SAMPLES, 1);
    melody + bass * 3 / 4
}

/// A plucked note, `octave` times A3 and its semitones (1: an octave below, 2: as written), `into` samples after its start.
fn note(semitone: u8, into: u64, length: u64, octave: u32) -> i64 {
    let Some(step) = SEMITONES.get(usize::from(semitone % 12)) else { return 0 };
    if semitone == 99 {
        return 0;
    }
    let step = (step << (semitone / 12)) / 2 * octave;
    let phase = (into as u32).wrapping_mul(step);
    let tone = sine(phase) + sine(phase.wrapping_mul(2)) / 4 + sine(phase.wrapping_mul(3)) / 8;
    // Falls to nothing at the note's end, and rises within 3 ms.
    let left = ((length - into) << 12) as i64 / length as i64;
    let rise = (into as i64 * 32).min(4096);
    ((tone * MUSIC_PEAK) >> 15) * ((left * left) >> 12) / 4096 * rise / 4096
}

/// Phase steps of the twelve semitones from A3 (220 Hz) on.
const SEMITONES: [u32; 12] = {
    let mut steps = [0; 12];
    let mut frequency = 220.0;
    let mut i = 0;
    while i < 12 {
        steps[i] = phase_step(frequency);
        // The twelfth root of two.
        frequency *= 1.059_463_094_359_295_3;
        i += 1;
    }
    steps
};

/// Steps of a 32-bit phase for each sample.
const fn phase_step(hertz: f64) -> u32 {
    (hertz * 4_294_967_296.0 / SAMPLE_RATE as f64 + 0.5) as u32
}

const TABLE_BITS: u32 = 10;
/// One turn of a sine, peak 32768, and the first value again.
static TABLE: [i32; (1 << TABLE_BITS) + 1] = sine_table();

const fn sine_table() -> [i32; (1 << TABLE_BITS) + 1] {
    let mut table = [0; (1 << TABLE_BITS) + 1];
    let mut i = 0;
    while i < table.len() {
        // Taylor series around 0, within half a turn either way: 13 terms leave nothing of 16 bits.
        let mut x = i as f64 / (1 << TABLE_BITS) as f64 * core::f64::consts::TAU;
        if x > core::f64::consts::PI {
            x -= core::f64::consts::TAU;
        }
        let (mut term, mut sum, mut n) = (x, x, 1.0);
        while n < 25.0 {
            term = -term * x * x / ((n + 1.0) * (n + 2.0));
            sum += term;
            n += 2.0;
        }
        let value = sum * 32768.0;
        table[i] = (if value < 0.0 { value - 0.5 } else { value + 0.5 }) as i32;
        i += 1;
    }
    table
}

/// Sine of a phase (2^32 is one turn), peak 32768.
fn sine(phase: u32) -> i64 {
    let index = (phase >> (32 - TABLE_BITS)) as usize;
    let part = i64::from(phase << TABLE_BITS >> 16);
    let (from, to) = (i64::from(TABLE[index]), i64::from(TABLE[index + 1]));
    from + (((to - from) * part) >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    #[test]
    fn the_whistle_is_the_tone_that_it_says() {
        let rate = f64::from(SAMPLE_RATE);
        let mut samples = vec![0i16; SAMPLE_RATE as usize * 2];
        Score { whistle: Some(1000), ..Score::default() }.render(0, &mut samples);
        let first = samples.iter().position(|sample| *sample != 0).unwrap();
        let last = samples.iter().rposition(|sample| *sample != 0).unwrap();
        let milliseconds = (last + 1 - first) as f64 * 1000.0 / rate;
        assert!((milliseconds - f64::from(whistle::DURATION_MS)).abs() < 1.0, "{milliseconds}");
        let steady = &samples[1000 + 1000..1000 + WHISTLE_SAMPLES as usize - 1000];
        let peak = f64::from(steady.iter().map(|s| s.unsigned_abs()).max().unwrap()) / 32768.0;
        assert!((20.0 * peak.log10() - f64::from(whistle::LEVEL_DBFS)).abs() < 0.01, "{peak}");
        // What is left when a sine of that frequency, fitted, is taken away.
        let step = TAU * f64::from(whistle::FREQUENCY_HZ) / rate;
        let (mut c, mut s) = (0.0, 0.0);
        for (i, sample) in steady.iter().enumerate() {
            c += f64::from(*sample) * (step * i as f64).cos() * 2.0 / steady.len() as f64;
            s += f64::from(*sample) * (step * i as f64).sin() * 2.0 / steady.len() as f64;
        }
        let rest: f64 = steady
            .iter()
            .enumerate()
            .map(|(i, v)| (f64::from(*v) - c * (step * i as f64).cos() - s * (step * i as f64).sin()).powi(2))
            .sum();
        let level = (c * c + s * s).sqrt() / 32768.0;
        assert!((20.0 * level.log10() - f64::from(whistle::LEVEL_DBFS)).abs() < 0.02, "{level}");
        let residue = 10.0 * (rest / steady.len() as f64 / (c * c + s * s) * 2.0).log10();
        assert!(residue < -60.0, "{residue} dB");
    }

    #[test]
    fn pieces_join_without_a_seam() {
        let score = Score { whistle: Some(300), music: Some(50), marker: Some(20_000) };
        let mut whole = vec![0; 40_000];
        score.render(0, &mut whole);
        let mut pieces = vec![0; 40_000];
        for (i, piece) in pieces.chunks_mut(777).enumerate() {
            score.render(i as u64 * 777, piece);
        }
        assert_eq!(whole, pieces);
        assert!(whole[..20_000].iter().all(|sample| sample.unsigned_abs() < 20_000));
    }

    #[test]
    fn silence_is_silent() {
        let mut samples = [1; 100];
        Score::default().render(12345, &mut samples);
        assert_eq!(samples, [0; 100]);
        let score = Score { whistle: Some(10), ..Score::default() };
        assert!(score.sounds_from(10 + WHISTLE_SAMPLES - 1) && !score.sounds_from(10 + WHISTLE_SAMPLES));
        assert!(Score { music: Some(0), ..Score::default() }.sounds_from(u64::MAX - 1));
    }

    #[test]
    fn music_is_heard_and_quiet() {
        let mut samples = vec![0; SAMPLE_RATE as usize * 15];
        Score { music: Some(0), ..Score::default() }.render(0, &mut samples);
        let peak = samples.iter().map(|s| s.unsigned_abs()).max().unwrap();
        assert!((1500..5000).contains(&peak), "{peak}");
    }

    #[test]
    fn clicks_begin_with_their_first_sample_and_are_a_period_apart() {
        let mut samples = vec![0; 2 * marker::PERIOD_SAMPLES as usize + 1000];
        Score { marker: Some(2048), ..Score::default() }.render(0, &mut samples);
        let loud: Vec<usize> = (0..samples.len()).filter(|&n| samples[n].unsigned_abs() >= 8192).collect();
        let begins: Vec<usize> =
            (0..loud.len()).filter(|&n| n == 0 || loud[n] - loud[n - 1] > 1000).map(|n| loud[n]).collect();
        assert_eq!(begins.len(), 2);
        assert_eq!(begins[1] - begins[0], marker::PERIOD_SAMPLES as usize);
        // A quarter of full scale is passed within a tenth of a millisecond.
        assert!((2048..2048 + 5).contains(&begins[0]), "{begins:?}");
        assert!(loud.iter().all(|&n| (n - 2048) % marker::PERIOD_SAMPLES as usize <= marker::CLICK_SAMPLES as usize));
        let peak = samples.iter().map(|s| s.unsigned_abs()).max().unwrap();
        assert!((i64::from(peak) - marker::CLICK_PEAK).abs() < 2 * marker::HUM_PEAK, "{peak}");
        let rest = &samples[5000..40_000];
        assert!(rest.iter().all(|s| s.unsigned_abs() <= 104) && rest.iter().any(|s| s.unsigned_abs() > 90));
    }
}
