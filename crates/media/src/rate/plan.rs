//! One decision for one encoder out of what each of its viewers' paths carries.

use super::MS;
use loco_model::Size;

/// The encoder follows the slowest viewer down to this rate; a slower one does not drag the others along.
pub(crate) const FOLLOWED: u32 = 500_000;
/// Where all are slower, one that carries less than this share of the best is left behind.
const LEFT_BEHIND: f64 = 0.5;
/// The picture that the following are for, in pixels.
const REFERENCE_AREA: f64 = 640.0 * 480.0;
/// Ceiling for it; more pixels need less each (the exponent of Netflix's and YouTube's ladders, about 0.75).
pub(crate) const CEILING: f64 = 2_000_000.0;
const CEILING_EXPONENT: f64 = 0.75;
/// Below so many bits for a frame of it, fewer frames look better than worse ones.
const FRAME_BITS: f64 = 12_500.0;
/// Never fewer frames a second than this by plan; the gate may still hold one.
const LEAST_FPS: u32 = 8;
/// Below this rate half the width and height look better, above the other the whole picture again.
const HALVE_BELOW: f64 = 150_000.0;
const WHOLE_ABOVE: f64 = 250_000.0;
/// A picture smaller than this is not halved.
const LEAST_WIDTH: u32 = 320;

/// Share of the rate that key frames may take, and the limits of their distance.
const KEY_SHARE: f64 = 0.5;
const KEY_LEAST_US: u64 = 150 * MS;
const KEY_MOST_US: u64 = 3_000 * MS;

/// Bits a second that a picture of `size` may take where nothing else is set.
pub(crate) fn ceiling_of(size: Size) -> u32 {
    let share = f64::from(size.width) * f64::from(size.height) / REFERENCE_AREA;
    (CEILING * share.powf(CEILING_EXPONENT)).clamp(500_000.0, 20_000_000.0) as u32
}

/// Least time between two key frames that cost `bytes` each, at `bit_rate`: they take no more than their share of it,
/// or each would cost the pictures after it, and those the next.
pub(crate) fn key_spacing_us(bytes: usize, bit_rate: u32) -> u64 {
    let alone_us = bytes as f64 * 8e6 / f64::from(bit_rate.max(1));
    ((alone_us / KEY_SHARE) as u64).clamp(KEY_LEAST_US, KEY_MOST_US)
}

/// What is set, and what is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Bits a second at most.
    pub(crate) ceiling: u32,
    /// Frames a second at most.
    pub(crate) max_fps: u32,
    /// The guest's picture.
    pub(crate) size: Size,
}

/// What the encoder is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Bits a second.
    pub(crate) bit_rate: u32,
    /// Frames a second at most.
    pub(crate) max_fps: u32,
    /// Whether the picture is sent at half its width and height.
    pub(crate) halved: bool,
}

/// The decision's memory.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    halved: bool,
}

/// The rate that the encoder follows; a viewer that carries less gets key frames only.
pub(crate) fn followed(targets: impl Iterator<Item = u32> + Clone) -> Option<u32> {
    let best = targets.clone().max()?;
    let least = FOLLOWED.min((f64::from(best) * LEFT_BEHIND) as u32);
    targets.filter(|target| *target >= least).min()
}

// === impl Plan ===

impl Plan {
    /// Bit rate first, then frame rate, then size.
    ///
    /// `followed`: what [`followed`] says of the viewers.
    pub(crate) fn decide(&mut self, followed: Option<u32>, settings: Settings) -> Decision {
        let bit_rate = followed.map_or(settings.ceiling, |rate| rate.min(settings.ceiling));
        let area = f64::from(settings.size.width) * f64::from(settings.size.height);
        let mut share = (REFERENCE_AREA / area.max(1.0)).powf(CEILING_EXPONENT);
        let comparable = f64::from(bit_rate) * share;
        let limit = if self.halved { WHOLE_ABOVE } else { HALVE_BELOW };
        self.halved = comparable < limit && settings.size.width >= LEAST_WIDTH * 2;
        if self.halved {
            share *= 4f64.powf(CEILING_EXPONENT);
        }
        let fps = (f64::from(bit_rate) * share / FRAME_BITS) as u32;
        Decision { bit_rate, max_fps: fps.max(LEAST_FPS).min(settings.max_fps), halved: self.halved }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VGA: Size = Size::new(640, 480);

    #[test]
    fn bit_rate_first_then_frame_rate_then_size() {
        let mut plan = Plan::default();
        let mut decide = |target| plan.decide(Some(target), Settings { ceiling: 2_000_000, max_fps: 60, size: VGA });
        assert_eq!(decide(5_000_000), Decision { bit_rate: 2_000_000, max_fps: 60, halved: false });
        assert_eq!(decide(800_000), Decision { bit_rate: 800_000, max_fps: 60, halved: false });
        assert_eq!(decide(250_000), Decision { bit_rate: 250_000, max_fps: 20, halved: false });
        let small = decide(120_000);
        assert!(small.halved && small.max_fps >= 20, "{small:?}");
        assert!(decide(200_000).halved, "it does not flap");
        assert!(!decide(300_000).halved);
    }

    fn followed_of(targets: &[u32]) -> Option<u32> {
        followed(targets.iter().copied())
    }

    #[test]
    fn a_slow_viewer_drags_nobody_below_half_a_megabit() {
        assert_eq!(followed_of(&[]), None);
        assert_eq!(followed_of(&[300_000]), Some(300_000), "alone it is followed");
        assert_eq!(followed_of(&[2_000_000, 900_000]), Some(900_000));
        assert_eq!(followed_of(&[2_000_000, 400_000]), Some(2_000_000));
        assert_eq!(followed_of(&[2_000_000, 700_000, 100_000]), Some(700_000));
        assert_eq!(followed_of(&[400_000, 300_000]), Some(300_000), "both are slow");
        assert_eq!(followed_of(&[400_000, 100_000]), Some(400_000));
    }

    #[test]
    fn the_ceiling_grows_with_the_picture() {
        assert_eq!(ceiling_of(VGA), 2_000_000);
        assert!((3_900_000..4_200_000).contains(&ceiling_of(Size::new(1024, 768))));
        assert!(ceiling_of(Size::new(1, 1)) >= 500_000 && ceiling_of(Size::new(4096, 4096)) <= 20_000_000);
    }
}
