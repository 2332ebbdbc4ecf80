//! Leaves out or repeats some milliseconds of sound where it is hardly heard: from one moment to another one that is alike.
//!
//! What a stall left in store too much is gone in a second with this, for which a speed that nobody hears takes half a
//! minute. It is "waveform similarity overlap-add" (Verhelst and Roelands, ICASSP 1993), as the NetEQ of WebRTC uses it for
//! the same purpose.

use crate::{CHANNELS, RATE_HZ};

/// Over so much one moment fades into the other: 5 ms.
const OVERLAP_FRAMES: usize = 240;
/// What is left out or repeated at least. Not shorter than the overlap: what is repeated is read while it is written.
const LEAST_FRAMES: usize = OVERLAP_FRAMES;
/// And at most: 15 ms, a period of 67 Hz.
const MOST_FRAMES: usize = 720;
/// What has to be decoded for it.
pub(super) const REACH_FRAMES: usize = MOST_FRAMES + OVERLAP_FRAMES;
/// Played between two of them: an eighth of the time at most is left out.
const REST_FRAMES: usize = RATE_HZ as usize / 8;
/// Correlation of two moments that are alike.
const ALIKE: f32 = 0.8;
/// Noise is never alike. After so long what is most alike will do.
const PATIENCE_FRAMES: usize = RATE_HZ as usize / 2;
/// Something so many times louder than what is around it is a sound of its own, which is neither left out nor repeated.
const LOUDER: f32 = 2.0;
/// Quieter than this (-80 dB) everything is alike.
const QUIET: f32 = 1e-4;

/// Decides when, and does it.
#[derive(Debug, Default)]
pub(super) struct Splicer {
    /// Frames played since the last time, and since it has been wanted.
    rested: usize,
    wanted: usize,
}

// === impl Splicer ===

impl Splicer {
    /// So many frames will be played; whether one should be tried, if it is wanted.
    pub(super) fn is_due(&mut self, wanted: bool, frames: usize) -> bool {
        self.rested = self.rested.saturating_add(frames);
        self.wanted = if wanted { self.wanted.saturating_add(frames) } else { 0 };
        wanted && self.rested >= REST_FRAMES
    }

    /// Leaves out (`by_frames` above zero) or repeats a part near the beginning of `pcm` (interleaved), not longer than
    /// that, if there is one that fits. Gives how many frames shorter it is now.
    pub(super) fn splice(&mut self, pcm: &mut Vec<f32>, by_frames: i64) -> Option<i64> {
        let most = MOST_FRAMES.min(by_frames.unsigned_abs() as usize);
        let (part, alike) = most_alike(pcm, most)?;
        if alike < ALIKE && self.wanted < PATIENCE_FRAMES {
            return None;
        }
        *self = Self::default();
        if by_frames > 0 {
            leave_out(pcm, part);
            Some(part as i64)
        } else {
            repeat(pcm, part);
            Some(-(part as i64))
        }
    }
}

/// How many frames after the beginning it goes on most like there, and the correlation of both; nothing where something
/// between would be lost or doubled.
fn most_alike(pcm: &[f32], most: usize) -> Option<(usize, f32)> {
    let here = pcm.get(..OVERLAP_FRAMES * CHANNELS)?;
    let energy_here = product(here, here);
    let mut best: Option<(usize, f32)> = None;
    for part in LEAST_FRAMES..=most {
        let there = pcm.get(part * CHANNELS..(part + OVERLAP_FRAMES) * CHANNELS)?;
        let energies = energy_here * product(there, there);
        let alike = if energies > 0.0 { product(here, there) / energies.sqrt() } else { 0.0 };
        if best.is_none_or(|(_, before)| alike > before) {
            best = Some((part, alike));
        }
    }
    let (part, alike) = best?;
    let there = &pcm[part * CHANNELS..(part + OVERLAP_FRAMES) * CHANNELS];
    let around = peak(here).max(peak(there));
    let all = peak(&pcm[..(part + OVERLAP_FRAMES) * CHANNELS]);
    if all < QUIET {
        return Some((part, 1.0));
    }
    let apart = peak(here).min(peak(there)) * LOUDER < around;
    (!apart && all <= around * LOUDER).then_some((part, alike))
}

/// Eight sums side by side, which the compiler makes one instruction.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for n in 0..8 {
            sums[n] += a[n] * b[n];
        }
    }
    sums.iter().sum()
}

fn peak(samples: &[f32]) -> f32 {
    samples.iter().fold(0.0, |peak, sample| sample.abs().max(peak))
}

/// The weight of what comes in, at the n-th frame of the overlap.
fn weight(n: usize) -> f32 {
    (n + 1) as f32 / (OVERLAP_FRAMES + 1) as f32
}

fn leave_out(pcm: &mut Vec<f32>, part: usize) {
    for n in 0..OVERLAP_FRAMES * CHANNELS {
        let weight = weight(n / CHANNELS);
        pcm[n] += (pcm[n + part * CHANNELS] - pcm[n]) * weight;
    }
    pcm.copy_within((OVERLAP_FRAMES + part) * CHANNELS.., OVERLAP_FRAMES * CHANNELS);
    pcm.truncate(pcm.len() - part * CHANNELS);
}

fn repeat(pcm: &mut Vec<f32>, part: usize) {
    let frames = pcm.len();
    pcm.resize(frames + part * CHANNELS, 0.0);
    pcm.copy_within(OVERLAP_FRAMES * CHANNELS..frames, (OVERLAP_FRAMES + part) * CHANNELS);
    for n in 0..OVERLAP_FRAMES * CHANNELS {
        let weight = weight(n / CHANNELS);
        let there = n + part * CHANNELS;
        pcm[there] += (pcm[n] - pcm[there]) * weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 60 ms of a chord, two channels that differ.
    fn chord() -> Vec<f32> {
        (0..2880)
            .flat_map(|n| {
                let wave = |hz: f64| (std::f64::consts::TAU * hz * f64::from(n) / 48_000.0).sin() as f32;
                [0.2 * wave(440.0) + 0.2 * wave(660.0), 0.2 * wave(220.0) + 0.1 * wave(880.0)]
            })
            .collect()
    }

    fn noise() -> Vec<f32> {
        let mut state = 7919u32;
        (0..2880 * CHANNELS)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect()
    }

    /// Biggest second difference of the left channel.
    fn roughest(pcm: &[f32]) -> f32 {
        let left: Vec<f32> = pcm.iter().step_by(CHANNELS).copied().collect();
        left.windows(3).map(|w| (w[0] - 2.0 * w[1] + w[2]).abs()).fold(0.0, f32::max)
    }

    fn due(splicer: &mut Splicer, frames: usize) -> bool {
        splicer.is_due(true, frames)
    }

    #[test]
    fn a_chord_gets_shorter_and_longer_without_a_click() {
        for by_frames in [2000, 500, -2000, -500] {
            let (mut splicer, mut pcm) = (Splicer::default(), chord());
            let before = (pcm.len(), roughest(&pcm));
            assert!(due(&mut splicer, REST_FRAMES));
            let shorter = splicer.splice(&mut pcm, by_frames).expect("a chord is alike");
            assert!((LEAST_FRAMES as i64..=by_frames.abs()).contains(&shorter.abs()), "{by_frames}: {shorter}");
            assert_eq!(shorter.signum(), by_frames.signum());
            assert_eq!(pcm.len() as i64, before.0 as i64 - shorter * CHANNELS as i64);
            assert!(roughest(&pcm) < before.1 * 1.2, "{by_frames}: {} after {}", roughest(&pcm), before.1);
            assert!(!due(&mut splicer, REST_FRAMES - 1), "not at once again");
            assert!(due(&mut splicer, 1));
        }
    }

    #[test]
    fn noise_is_waited_with_and_then_left_out_too() {
        let (mut splicer, mut pcm) = (Splicer::default(), noise());
        assert!(due(&mut splicer, REST_FRAMES));
        assert_eq!(splicer.splice(&mut pcm, 1000), None);
        assert!(due(&mut splicer, PATIENCE_FRAMES - REST_FRAMES));
        assert!(splicer.splice(&mut pcm, 1000).is_some());
        assert!(!splicer.is_due(false, PATIENCE_FRAMES), "nothing is wanted");
        assert!(due(&mut splicer, 1));
        assert_eq!(splicer.splice(&mut pcm, 1000), None, "patience begins anew");
    }

    #[test]
    fn a_click_is_neither_lost_nor_doubled() {
        for at in [0, 120, 300, 500, 700, 900] {
            let mut pcm: Vec<f32> = chord().iter().map(|sample| sample * 0.01).collect();
            pcm[at * CHANNELS..(at + 50) * CHANNELS].fill(0.7);
            for by_frames in [1000, -1000] {
                let mut spliced = pcm.clone();
                let mut splicer = Splicer::default();
                assert!(due(&mut splicer, PATIENCE_FRAMES));
                splicer.splice(&mut spliced, by_frames);
                let loud = spliced.iter().filter(|sample| **sample == 0.7).count();
                assert_eq!(loud, 50 * CHANNELS, "a click at {at}, {by_frames}");
            }
        }
    }

    #[test]
    fn silence_is_alike_and_too_little_is_left_alone() {
        let mut splicer = Splicer::default();
        assert_eq!(splicer.splice(&mut vec![0.0; REACH_FRAMES * CHANNELS], 720), Some(240));
        assert_eq!(splicer.splice(&mut vec![0.0; 100], 720), None);
        assert_eq!(splicer.splice(&mut chord(), 100), None, "less than the least part");
    }
}
