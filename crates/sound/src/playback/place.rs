//! Where an instance's sound stands between left and right. Pure.

use std::f32::consts::FRAC_PI_4;

/// How far the outermost tiles stand to the side; 1 would take a channel away altogether.
const WIDTH: f32 = 0.7;

/// Side of a tile whose middle lies at `x` of a wall `width` wide: -1 is left, 0 the middle.
#[must_use]
pub fn side_of(x: f32, width: f32) -> f32 {
    if width > 0.0 { ((x / width * 2.0 - 1.0).clamp(-1.0, 1.0) * WIDTH * 1.5).clamp(-WIDTH, WIDTH) } else { 0.0 }
}

/// Gains of left and right for a side of -1..=1: constant power (sine and cosine), 1 and 1 in the middle, so that a tile
/// is as loud wherever it stands.
#[must_use]
pub fn gains(side: f32) -> [f32; 2] {
    let angle = (side.clamp(-1.0, 1.0) + 1.0) * FRAC_PI_4;
    [angle.cos() * std::f32::consts::SQRT_2, angle.sin() * std::f32::consts::SQRT_2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_the_same_on_every_side() {
        for n in -10..=10 {
            let [left, right] = gains(n as f32 / 10.0);
            assert!((left * left + right * right - 2.0).abs() < 1e-5, "{n}");
        }
        assert_eq!(gains(0.0).map(|g| (g * 1e4).round()), [1e4; 2]);
        let [left, right] = gains(-1.0);
        assert!(right.abs() < 1e-6 && (left - std::f32::consts::SQRT_2).abs() < 1e-6);
    }

    #[test]
    fn tiles_of_a_row_stand_apart_and_mirrored() {
        let sides = [200.0, 600.0, 1000.0].map(|x| side_of(x, 1200.0));
        assert!(
            (sides[0] + WIDTH).abs() < 1e-6 && sides[1].abs() < 1e-6 && (sides[2] - WIDTH).abs() < 1e-6,
            "{sides:?}"
        );
        assert_eq!(side_of(5.0, 0.0), 0.0);
        let [left, right] = gains(sides[2]);
        let apart = 20.0 * (right / left).log10();
        assert!((11.0..13.5).contains(&apart), "{apart} dB");
    }
}
