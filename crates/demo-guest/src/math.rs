//! The little mathematics that `core` does not have.

/// Sine of `turns` (1.0 = full circle), by a polynomial; error below 2e-4, enough for drawing.
pub(crate) fn sin(turns: f32) -> f32 {
    let mut t = turns - (turns as i32) as f32;
    if t < 0.0 {
        t += 1.0;
    }
    // Fold into one quarter, where the Taylor series of degree 7 is good to 1.6e-4.
    let (t, sign) = if t > 0.5 { (t - 0.5, -1.0) } else { (t, 1.0) };
    let t = if t > 0.25 { 0.5 - t } else { t };
    let x = t * core::f32::consts::TAU;
    let x2 = x * x;
    sign * x * (1.0 - x2 / 6.0 * (1.0 - x2 / 20.0 * (1.0 - x2 / 42.0)))
}

/// Cosine of `turns`.
pub(crate) fn cos(turns: f32) -> f32 {
    sin(turns + 0.25)
}

/// Square root of a number that is not negative, by Newton's method.
pub(crate) fn sqrt(value: f32) -> f32 {
    if value <= 0.0 {
        return 0.0;
    }
    let mut root = f32::from_bits((value.to_bits() >> 1) + 0x1fbd_1df5);
    for _ in 0..3 {
        root = 0.5 * (root + value / root);
    }
    root
}

/// Direction of a vector in turns, 0..1; 0 is to the right, 0.25 is down.
pub(crate) fn direction(x: f32, y: f32) -> f32 {
    let (ax, ay) = (x.abs(), y.abs());
    if ax + ay == 0.0 {
        return 0.0;
    }
    let (small, large) = if ax < ay { (ax, ay) } else { (ay, ax) };
    let r = small / large;
    // atan(r) for 0..=1 in turns, error below 2e-4 of a turn.
    let eighth = r * (0.125 + 0.0436 * (1.0 - r) * (1.0 + 0.23 * r));
    let quarter = if ax < ay { 0.25 - eighth } else { eighth };
    let half = if x < 0.0 { 0.5 - quarter } else { quarter };
    if y < 0.0 { 1.0 - half } else { half }
}

/// A well-mixed number for three others; what grass and trees are scattered by.
pub(crate) fn hash(a: u32, b: u32, c: u32) -> u32 {
    let mut h = a.wrapping_mul(0x9e37_79b1) ^ b.wrapping_mul(0x85eb_ca77) ^ c.wrapping_mul(0xc2b2_ae3d);
    h = (h ^ h >> 15).wrapping_mul(0x2c1b_3c6d);
    h = (h ^ h >> 12).wrapping_mul(0x297a_2d39);
    h ^ h >> 15
}

/// A small pseudo-random sequence (xorshift32), the same at every start.
pub(crate) struct Random(u32);

impl Random {
    pub(crate) fn new(seed: u32) -> Self {
        Self(hash(seed, 0x10c0, 7) | 1)
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        (self.next() >> 8) % limit
    }

    /// Between the two.
    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.next() >> 8) as f32 / (1 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_standard_library() {
        for i in -400..400 {
            let turns = i as f32 / 97.0;
            let angle = f64::from(turns) * std::f64::consts::TAU;
            assert!((f64::from(sin(turns)) - angle.sin()).abs() < 3e-4, "sin {turns}");
            assert!((f64::from(cos(turns)) - angle.cos()).abs() < 3e-4, "cos {turns}");
            let expected = angle.sin().atan2(angle.cos()).rem_euclid(std::f64::consts::TAU) / std::f64::consts::TAU;
            let found = f64::from(direction(angle.cos() as f32, angle.sin() as f32));
            let error = (found - expected).abs();
            assert!(error.min(1.0 - error) < 2e-3, "direction {turns}: {found} {expected}");
        }
        for value in [0.0f32, 1e-3, 0.5, 2.0, 640.0, 1e6] {
            assert!((sqrt(value) - value.sqrt()).abs() <= value.sqrt() * 1e-5);
        }
    }
}
