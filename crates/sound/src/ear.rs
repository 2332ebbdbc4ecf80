//! Hears the demo guest's marker: a click out of near silence, together with which its picture flashes.
//!
//! The definition is the guest's (`loco_demo_guest::marker`): a burst of 3 ms whose samples exceed [`CLICK_LEVEL`] within
//! its first half millisecond, over a hum below [`REST_LEVEL`]. A test in the tests crate holds both against each other.

use super::{CHANNELS, RATE_HZ};

/// A sample beyond this begins a click: a quarter of full scale, half of the guest's burst.
pub const CLICK_LEVEL: f32 = 0.25;
/// What comes before a click stays below this.
pub const REST_LEVEL: f32 = 0.05;
/// It does so for at least this time: the decoder's ringing and concealed packets make no clicks.
pub const REST_SECS: f32 = 0.2;

const REST_FRAMES: u32 = (RATE_HZ as f32 * REST_SECS) as u32;
/// A click rises from rest to its level within 2 ms; what takes longer is none.
const RISE_FRAMES: u32 = RATE_HZ / 500;

/// Listens to one instance; state of one stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ear {
    quiet_frames: u32,
    /// Frames in which a rise may still become a click.
    rise_left: u32,
}

impl Ear {
    /// Takes a block (interleaved stereo, 48 kHz, before any gain); the frame in it with which a click began.
    pub fn listen(&mut self, interleaved: &[f32]) -> Option<usize> {
        let mut click = None;
        for (n, frame) in interleaved.chunks_exact(CHANNELS).enumerate() {
            let level = frame[0].abs().max(frame[1].abs());
            if level < REST_LEVEL {
                self.rest(1);
                continue;
            }
            self.quiet_frames = 0;
            if self.rise_left > 0 && level >= CLICK_LEVEL {
                click = Some(n);
                self.rise_left = 0;
            }
            self.rise_left = self.rise_left.saturating_sub(1);
        }
        click
    }

    /// So many frames of silence.
    pub fn listen_to_silence(&mut self, frames: usize) {
        self.rest(frames as u32);
    }

    fn rest(&mut self, frames: u32) {
        self.quiet_frames = self.quiet_frames.saturating_add(frames);
        if self.quiet_frames >= REST_FRAMES {
            self.rise_left = RISE_FRAMES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hears_a_click_out_of_rest_only_once_and_where_it_is() {
        let mut ear = Ear::default();
        let mut block = vec![0.01; 960];
        for _ in 0..25 {
            assert_eq!(ear.listen(&block), None);
        }
        block[2 * 100] = -0.4;
        block[2 * 120] = 0.4;
        assert_eq!(ear.listen(&block), Some(100));
        assert_eq!(ear.listen(&block), None, "no rest before");
        ear.listen_to_silence(48_000);
        assert_eq!(ear.listen(&block), Some(100));
    }

    #[test]
    fn a_click_may_rise_but_not_slowly() {
        let rising = |frames: u32| -> Vec<f32> {
            (0..960 * 2).map(|n| (n as f32 / 2.0 / frames as f32 * 0.3).min(0.3)).collect()
        };
        let mut ear = Ear::default();
        ear.listen_to_silence(48_000);
        assert!(ear.listen(&rising(40)).is_some_and(|n| (30..40).contains(&n)));
        ear.listen_to_silence(48_000);
        assert_eq!(ear.listen(&rising(900)), None);
    }

    #[test]
    fn ordinary_sound_is_no_click() {
        let mut ear = Ear::default();
        let tone: Vec<f32> = (0..96_000)
            .map(|n| 0.5 * (std::f64::consts::TAU * 440.0 * f64::from(n / 2) / 48_000.0).sin() as f32)
            .collect();
        assert!(tone.chunks(960).all(|block| ear.listen(block).is_none()));
    }
}
