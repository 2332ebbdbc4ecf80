//! Steers the playing speed so that what is left in store stays just above nothing.
//!
//! The guest's clock and the sound device's are never equal. What is steered is the *least* that was left over after a
//! callback within some seconds, not the mean: the mean depends on how jittery the way is, the least says how near to
//! an underrun it went.
//!
//! How much is to be left over is learnt: little is enough on a quiet machine, and is all that delay should cost there;
//! where packets came late, and most where several did in a row, more is kept for some minutes.

/// What should be left over at the worst moment, at least.
pub(super) const LEAST_SPARE_MS: f64 = 6.0;
/// And at most: a stall that is longer is heard.
const MOST_SPARE_MS: f64 = 100.0;
/// What a late packet adds to it, times the square of how many were late in a row with it: one alone is concealed and
/// hardly heard, the last before an underrun nearly was one.
const SPARE_PER_LATE_MS: f64 = 0.5;
/// What an underrun adds.
const SPARE_PER_UNDERRUN_MS: f64 = 12.0;
/// What was added falls to 1/e in this time.
const FORGET_SECS: f64 = 120.0;
/// How far to look back for the worst moment.
const WINDOW_SECS: f64 = 4.0;
/// Speed per millisecond of error.
const PROPORTIONAL: f64 = 1e-4;
/// Speed per millisecond of error and second.
const INTEGRAL: f64 = 2e-6;
/// Clocks of sound devices differ by less than this.
const INTEGRAL_LIMIT: f64 = 600e-6;
/// A seventh of a semitone is not heard.
const LIMIT: f64 = 4000e-6;

/// The controller.
#[derive(Debug)]
pub(super) struct Steering {
    /// What should be left over.
    spare_ms: f64,
    least_ms: f64,
    window_secs: f64,
    late: bool,
    floor_ms: f64,
    integral: f64,
    speed: f64,
}

impl Steering {
    pub(super) fn new() -> Self {
        Self {
            spare_ms: LEAST_SPARE_MS,
            least_ms: f64::INFINITY,
            window_secs: 0.0,
            late: false,
            floor_ms: LEAST_SPARE_MS,
            integral: 0.0,
            speed: 0.0,
        }
    }

    /// A new stretch of sound begins, or a part was skipped. What was learnt about clocks and way is kept.
    pub(super) fn restart(&mut self) {
        let Self { spare_ms, integral, .. } = *self;
        *self = Self { spare_ms, integral, floor_ms: spare_ms, ..Self::new() };
    }

    /// What should be left over at the worst moment, in milliseconds.
    pub(super) fn spare_ms(&self) -> f64 {
        self.spare_ms
    }

    /// Nothing was there when it was needed, so many times in a row: the store may not be called too full in this
    /// window, and is to be fuller.
    pub(super) fn saw_late(&mut self, in_a_row: u32) {
        self.late = true;
        self.add_spare(SPARE_PER_LATE_MS * f64::from(in_a_row).powi(2));
    }

    /// Playing had to stop.
    pub(super) fn saw_underrun(&mut self) {
        self.add_spare(SPARE_PER_UNDERRUN_MS);
    }

    fn add_spare(&mut self, more_ms: f64) {
        self.spare_ms = (self.spare_ms + more_ms).min(MOST_SPARE_MS);
    }

    /// A callback of `secs` will leave `left_ms` in store.
    pub(super) fn observe(&mut self, left_ms: f64, secs: f64) {
        self.spare_ms -= (self.spare_ms - LEAST_SPARE_MS) * secs / FORGET_SECS;
        self.least_ms = self.least_ms.min(left_ms);
        self.window_secs += secs;
        if self.window_secs > WINDOW_SECS {
            self.floor_ms = if self.late { self.least_ms.min(LEAST_SPARE_MS) } else { self.least_ms };
            self.late = false;
            self.least_ms = f64::INFINITY;
            self.window_secs = 0.0;
        }
        let error_ms = self.floor_ms - self.spare_ms;
        self.integral = (self.integral + error_ms * secs * INTEGRAL).clamp(-INTEGRAL_LIMIT, INTEGRAL_LIMIT);
        self.speed = (self.integral + error_ms * PROPORTIONAL).clamp(-LIMIT, LIMIT);
    }

    /// How much faster to play than at 1: positive empties the store.
    pub(super) fn speed(&self) -> f64 {
        self.speed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store fed at 1 + `ppm` and emptied as steered, in virtual time; what is left after `secs`.
    fn simulate(ppm: f64, start_ms: f64, secs: f64) -> (f64, f64) {
        let mut steering = Steering::new();
        let mut left_ms = start_ms;
        for _ in 0..(secs * 100.0) as usize {
            steering.observe(left_ms, 0.01);
            left_ms += 10.0 * (ppm * 1e-6 - steering.speed());
        }
        (left_ms, steering.speed() * 1e6)
    }

    #[test]
    fn follows_clocks_that_differ() {
        for ppm in [-200.0, 0.0, 200.0] {
            let (left_ms, speed_ppm) = simulate(ppm, 20.0, 600.0);
            assert!((left_ms - LEAST_SPARE_MS).abs() < 0.7, "{ppm} ppm: {left_ms} ms left");
            assert!((speed_ppm - ppm).abs() < 20.0, "{ppm} ppm: speed {speed_ppm} ppm");
        }
    }

    #[test]
    fn never_leaves_what_is_inaudible() {
        let mut steering = Steering::new();
        for _ in 0..10_000 {
            steering.observe(500.0, 0.01);
            assert!(steering.speed() <= LIMIT);
        }
        assert!((steering.speed() - LIMIT).abs() < 1e-9);
    }

    #[test]
    fn a_window_with_late_packets_is_not_called_full() {
        let mut steering = Steering::new();
        for n in 0..1000 {
            if n % 10 == 0 {
                steering.saw_late(1);
            }
            steering.observe(30.0, 0.01);
        }
        assert!(steering.speed() <= 0.0, "{}", steering.speed());
    }

    #[test]
    fn a_restart_keeps_the_clocks_difference() {
        let mut steering = Steering::new();
        for _ in 0..2000 {
            steering.observe(30.0, 0.01);
        }
        let learnt = steering.integral;
        steering.restart();
        assert!(learnt > 0.0 && steering.integral == learnt && steering.floor_ms == LEAST_SPARE_MS);
    }

    #[test]
    fn the_spare_grows_with_what_came_late_and_is_forgotten_slowly() {
        let mut steering = Steering::new();
        steering.saw_late(1);
        let after_one = steering.spare_ms();
        assert!(after_one < LEAST_SPARE_MS + 1.0, "one alone costs hardly any delay: {after_one}");
        for in_a_row in 2..=3 {
            steering.saw_late(in_a_row);
        }
        steering.saw_underrun();
        let after_underrun = steering.spare_ms();
        assert!(after_underrun > LEAST_SPARE_MS + 15.0, "{after_underrun}");
        steering.restart();
        assert!((steering.spare_ms() - after_underrun).abs() < 1e-9, "a restart forgets nothing");
        let mut left_ms = steering.spare_ms();
        for _ in 0..12_000 {
            steering.observe(left_ms, 0.01);
            left_ms -= 10.0 * steering.speed();
        }
        let expected = LEAST_SPARE_MS + (after_underrun - LEAST_SPARE_MS) / std::f64::consts::E;
        assert!((steering.spare_ms() - expected).abs() < 0.1, "{} of {expected}", steering.spare_ms());
        assert!((left_ms - steering.spare_ms()).abs() < 2.0, "the store follows: {left_ms}");
        for _ in 0..100 {
            steering.saw_underrun();
        }
        assert!(steering.spare_ms() <= MOST_SPARE_MS);
    }
}
