//! Steers the playing speed so that what is left in store stays just above nothing.
//!
//! The guest's clock and the sound device's are never equal. What is steered is the *least* that was left over after a
//! callback within some seconds, not the mean: the mean depends on how jittery the way is, the least says how near to
//! an underrun it went.
//!
//! How much is to be left over is learnt: little is enough on a quiet machine, and is all that delay should cost there.
//! Where it went deeper than that, or near to it, twice within a minute, so much and a quarter more is kept for some
//! minutes; where it did once, what cannot be made up.

/// What should be left over at the worst moment, at least.
pub(super) const LEAST_SPARE_MS: f64 = 6.0;
/// And at most: a stall that is longer is heard.
const MOST_SPARE_MS: f64 = 200.0;
/// What one late packet adds to it: alone it is concealed and hardly heard, and no reason for more delay.
const SPARE_PER_LATE_MS: f64 = 0.5;
/// Kept for a dip as deep as the deepest one, times this.
const MARGIN: f64 = 1.25;
/// So much of a stall that comes alone is made up without an interruption, and costs no delay for minutes.
const BRIDGED_MS: f64 = 40.0;
/// A stall within this time of another one is not alone, ...
const ALONE_SECS: f64 = 60.0;
/// ... and one within this time is the same.
const SAME_SECS: f64 = 8.0;
/// What was learnt falls to 1/e in this time.
const FORGET_SECS: f64 = 300.0;
/// How far to look back for the worst moment.
const WINDOW_SECS: f64 = 4.0;
/// Speed per millisecond of error.
const PROPORTIONAL: f64 = 1e-4;
/// Speed per millisecond of error and second.
const INTEGRAL: f64 = 2e-6;
/// Clocks of sound devices differ by less than this.
const INTEGRAL_LIMIT: f64 = 600e-6;
/// A fourteenth of a semitone is not heard.
const LIMIT: f64 = 4000e-6;
/// Beyond this error, in milliseconds, the speed alone takes too long.
const OFF_MS: f64 = 12.0;
/// And beyond this it is a stall's doing, which tells nothing of the clocks.
const FAR_MS: f64 = 40.0;
/// More than this too much, through all of [`RECENT_SECS`], is not waited with until a window is over.
const SUDDEN_MS: f64 = 60.0;
const RECENT_SECS: f64 = 1.0;

/// The controller.
#[derive(Debug)]
pub(super) struct Steering {
    /// What should be left over, as this way was seen.
    spare_ms: f64,
    /// And as others were that share its machine.
    others_ms: f64,
    /// Time since a stall began that was longer than what was spare, and whether it is alone.
    since_stall_secs: f64,
    alone: bool,
    least_ms: f64,
    window_secs: f64,
    /// What the speed took out of the store in this window.
    emptied_ms: f64,
    late: bool,
    /// What was left over at the worst moment of the last window.
    last_ms: f64,
    /// And of the better one of the last two, as steered by: what is spare is there for the stall that made one of them
    /// worse, and need not be left over then too.
    floor_ms: f64,
    /// The least of this second.
    recent_least_ms: f64,
    recent_secs: f64,
    integral: f64,
    speed: f64,
}

impl Steering {
    pub(super) fn new() -> Self {
        Self {
            spare_ms: LEAST_SPARE_MS,
            others_ms: 0.0,
            since_stall_secs: f64::INFINITY,
            alone: true,
            least_ms: f64::INFINITY,
            window_secs: 0.0,
            emptied_ms: 0.0,
            late: false,
            last_ms: LEAST_SPARE_MS,
            floor_ms: LEAST_SPARE_MS,
            recent_least_ms: f64::INFINITY,
            recent_secs: 0.0,
            integral: 0.0,
            speed: 0.0,
        }
    }

    /// A new stretch of sound begins, or a part was skipped. What was learnt about clocks and way is kept.
    pub(super) fn restart(&mut self) {
        let Self { spare_ms, others_ms, since_stall_secs, alone, integral, .. } = *self;
        let wanted_ms = self.spare_ms();
        *self = Self {
            spare_ms,
            others_ms,
            since_stall_secs,
            alone,
            integral,
            last_ms: wanted_ms,
            floor_ms: wanted_ms,
            ..Self::new()
        };
    }

    /// What should be left over at the worst moment, in milliseconds.
    pub(super) fn spare_ms(&self) -> f64 {
        self.spare_ms.max(self.others_ms)
    }

    /// The part of it that was learnt here.
    pub(super) fn learnt_ms(&self) -> f64 {
        self.spare_ms
    }

    /// What others learnt who sit in the same place; holds until told anew.
    pub(super) fn share(&mut self, others_ms: f64) {
        self.others_ms = others_ms.min(MOST_SPARE_MS);
    }

    /// Nothing was there when it was needed, so many times in a row, `missing_ms` in all: the store may not be called
    /// too full in this window, and is to be fuller.
    pub(super) fn saw_late(&mut self, in_a_row: u32, missing_ms: f64) {
        self.late = true;
        if in_a_row == 1 {
            self.spare_ms = (self.spare_ms + SPARE_PER_LATE_MS).min(MOST_SPARE_MS);
        } else {
            self.saw_dip(self.floor_ms.max(0.0) + missing_ms);
        }
    }

    /// At one moment so much less was there than at the worst one of the time before.
    fn saw_dip(&mut self, deep_ms: f64) {
        let wanted_ms = MARGIN * deep_ms;
        if wanted_ms <= self.spare_ms {
            return;
        }
        if self.since_stall_secs > SAME_SECS {
            self.alone = self.since_stall_secs > ALONE_SECS;
            self.since_stall_secs = 0.0;
        }
        let wanted_ms = if self.alone { wanted_ms - BRIDGED_MS } else { wanted_ms };
        self.spare_ms = self.spare_ms.max(wanted_ms.min(MOST_SPARE_MS));
    }

    /// A callback of `secs` will leave `left_ms` in store.
    pub(super) fn observe(&mut self, left_ms: f64, secs: f64) {
        self.spare_ms -= (self.spare_ms - LEAST_SPARE_MS) * secs / FORGET_SECS;
        self.since_stall_secs += secs;
        self.least_ms = self.least_ms.min(left_ms);
        self.window_secs += secs;
        if self.window_secs > WINDOW_SECS {
            let now_ms = if self.late { self.least_ms.min(LEAST_SPARE_MS) } else { self.least_ms };
            let emptied_ms = self.emptied_ms.max(0.0);
            if !self.late {
                self.saw_dip(self.floor_ms - emptied_ms - now_ms);
            }
            let floor_ms = now_ms.max(self.last_ms - emptied_ms);
            self.begin_window(now_ms);
            self.floor_ms = floor_ms;
        }
        self.recent_least_ms = self.recent_least_ms.min(left_ms);
        self.recent_secs += secs;
        if self.recent_secs > RECENT_SECS {
            if self.recent_least_ms - self.spare_ms().max(self.floor_ms) > SUDDEN_MS {
                self.begin_window(self.recent_least_ms);
            }
            (self.recent_least_ms, self.recent_secs) = (f64::INFINITY, 0.0);
        }
        let error_ms = self.floor_ms - self.spare_ms();
        if error_ms.abs() < FAR_MS {
            self.integral = (self.integral + error_ms * secs * INTEGRAL).clamp(-INTEGRAL_LIMIT, INTEGRAL_LIMIT);
        }
        self.speed = (self.integral + error_ms * PROPORTIONAL).clamp(-LIMIT, LIMIT);
        self.emptied_ms += self.speed * secs * 1e3;
    }

    /// After one that had `least_ms` at its worst moment.
    fn begin_window(&mut self, least_ms: f64) {
        (self.floor_ms, self.last_ms, self.least_ms) = (least_ms, least_ms, f64::INFINITY);
        (self.late, self.window_secs, self.emptied_ms) = (false, 0.0, 0.0);
    }

    /// How far the store, in which `left_ms` will be left now, is from what it should be, in milliseconds, positive where it
    /// is too full; nothing where the speed alone is soon done with it.
    pub(super) fn off_ms(&self, left_ms: f64) -> f64 {
        let error_ms = self.floor_ms - self.emptied_ms - self.spare_ms();
        let error_ms = error_ms.min((left_ms - self.spare_ms()).max(0.0));
        if error_ms.abs() > OFF_MS { error_ms } else { 0.0 }
    }

    /// The store was made emptier by so much at once.
    pub(super) fn spliced(&mut self, emptier_ms: f64) {
        for level_ms in [&mut self.least_ms, &mut self.last_ms, &mut self.floor_ms, &mut self.recent_least_ms] {
            *level_ms -= emptier_ms;
        }
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
            let (left_ms, speed_ppm) = simulate(ppm, 20.0, 1200.0);
            assert!((left_ms - LEAST_SPARE_MS).abs() < 0.7, "{ppm} ppm: {left_ms} ms left");
            assert!((speed_ppm - ppm).abs() < 20.0, "{ppm} ppm: speed {speed_ppm} ppm");
        }
    }

    #[test]
    fn never_leaves_what_is_hardly_audible() {
        let mut steering = Steering::new();
        for _ in 0..10_000 {
            steering.observe(500.0, 0.01);
            assert!(steering.speed() <= LIMIT);
        }
        assert!((steering.speed() - LIMIT).abs() < 1e-9);
    }

    #[test]
    fn a_store_that_is_far_too_full_is_soon_seen_and_not_emptied_too_far() {
        let mut steering = Steering::new();
        let mut left_ms = LEAST_SPARE_MS;
        play(&mut steering, &mut left_ms, 10.0);
        assert!(steering.off_ms(left_ms).abs() < f64::EPSILON);
        left_ms += 200.0;
        let (mut secs, mut least_ms) = (0.0, left_ms);
        while secs < 30.0 {
            play(&mut steering, &mut left_ms, 0.125);
            secs += 0.125;
            let off_ms = steering.off_ms(left_ms).min(15.0);
            left_ms -= off_ms;
            steering.spliced(off_ms);
            least_ms = least_ms.min(left_ms);
            assert!(secs < 5.0 || left_ms < 25.0, "{left_ms} ms after {secs} s");
        }
        assert!((LEAST_SPARE_MS - 2.0..LEAST_SPARE_MS + 2.0).contains(&least_ms), "{least_ms}");
        steering.share(80.0);
        play(&mut steering, &mut left_ms, 0.1);
        assert!((-76.0..-70.0).contains(&steering.off_ms(left_ms)), "more is wanted: {}", steering.off_ms(left_ms));
    }

    #[test]
    fn a_window_with_late_packets_is_not_called_full() {
        let mut steering = Steering::new();
        for n in 0..1000 {
            if n % 10 == 0 {
                steering.saw_late(1, 5.0);
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

    /// Plays so long from a store that is fed as fast as it is emptied at speed 1; what is left.
    fn play(steering: &mut Steering, left_ms: &mut f64, secs: f64) {
        for _ in 0..(secs * 100.0) as usize {
            steering.observe(*left_ms, 0.01);
            *left_ms -= 10.0 * steering.speed();
        }
    }

    #[test]
    fn the_spare_grows_with_what_came_late_and_is_forgotten_slowly() {
        let mut steering = Steering::new();
        steering.saw_late(1, 5.0);
        let after_one = steering.spare_ms();
        assert!(after_one < LEAST_SPARE_MS + 1.0, "one alone costs hardly any delay: {after_one}");
        let mut left_ms = LEAST_SPARE_MS;
        for stall in 1..=3 {
            for in_a_row in 2..=4 {
                steering.saw_late(in_a_row, 5.0 * f64::from(in_a_row));
            }
            let is_first = steering.spare_ms() < LEAST_SPARE_MS + 1.0;
            assert_eq!(is_first, stall == 1, "{} after stall {stall}", steering.spare_ms());
            play(&mut steering, &mut left_ms, if stall == 3 { 0.0 } else { 20.0 });
        }
        let after_stall = steering.spare_ms();
        assert!(after_stall >= 1.25 * (LEAST_SPARE_MS + 20.0), "the next one is outlived: {after_stall}");
        steering.restart();
        assert!((steering.spare_ms() - after_stall).abs() < 1e-9, "a restart forgets nothing");
        let mut left_ms = steering.spare_ms();
        play(&mut steering, &mut left_ms, FORGET_SECS);
        let expected = LEAST_SPARE_MS + (after_stall - LEAST_SPARE_MS) / std::f64::consts::E;
        assert!((steering.spare_ms() - expected).abs() < 0.1, "{} of {expected}", steering.spare_ms());
        assert!((left_ms - steering.spare_ms()).abs() < 2.0, "the store follows: {left_ms}");
        steering.saw_late(100, 500.0);
        assert!(steering.spare_ms() <= MOST_SPARE_MS);
    }

    #[test]
    fn a_long_stall_that_comes_alone_costs_what_cannot_be_made_up() {
        let mut steering = Steering::new();
        let mut left_ms = LEAST_SPARE_MS;
        for in_a_row in 1..=20 {
            steering.saw_late(in_a_row, 5.0 * f64::from(in_a_row));
        }
        let alone_ms = MARGIN * (LEAST_SPARE_MS + 100.0) - BRIDGED_MS;
        assert!((steering.spare_ms() - alone_ms).abs() < 0.1, "{} of {alone_ms}", steering.spare_ms());
        play(&mut steering, &mut left_ms, 5.0);
        steering.saw_late(20, 100.0);
        assert!(steering.spare_ms() < alone_ms + 1.0, "that was the same one: {}", steering.spare_ms());
        play(&mut steering, &mut left_ms, 20.0);
        steering.saw_late(20, 100.0);
        assert!(steering.spare_ms() > alone_ms + 20.0, "and that another: {}", steering.spare_ms());
    }

    #[test]
    fn what_was_nearly_late_counts_too() {
        let mut steering = Steering::new();
        steering.share(30.0);
        let mut left_ms = 30.0;
        play(&mut steering, &mut left_ms, 20.0);
        assert!((steering.learnt_ms() - LEAST_SPARE_MS).abs() < 1e-9, "nothing happened: {}", steering.learnt_ms());
        for _ in 0..2 {
            let mut dip_ms = left_ms - 28.0;
            play(&mut steering, &mut dip_ms, 0.1);
            play(&mut steering, &mut left_ms, 12.0);
        }
        assert!((28.0..37.0).contains(&steering.learnt_ms()), "up to 1.25 of 28: {}", steering.learnt_ms());
    }

    #[test]
    fn what_others_learnt_is_kept_in_store_and_is_not_taken_for_an_own_dip() {
        let mut steering = Steering::new();
        let mut left_ms = LEAST_SPARE_MS;
        play(&mut steering, &mut left_ms, 10.0);
        for (others_ms, secs) in [(60.0, 120.0), (0.0, 120.0)] {
            steering.share(others_ms);
            play(&mut steering, &mut left_ms, secs);
            let wanted_ms = steering.spare_ms();
            assert!((left_ms - wanted_ms).abs() < 2.0, "{others_ms} ms of others: {left_ms} of {wanted_ms} left");
            assert!(steering.learnt_ms() < LEAST_SPARE_MS + 1.0, "{}", steering.learnt_ms());
        }
    }
}
