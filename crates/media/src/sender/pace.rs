//! When the next frame is due: a pure decision, so that it can be tested without a clock.

use std::time::{Duration, Instant};

/// QEMU tells one refresh of its display in several rectangles; measured: within 0.7 ms.
const COALESCE: Duration = Duration::from_micros(700);
/// An input hint lets this many frames pass the frame-rate limit, ...
const HINT_FRAMES: u32 = 4;
/// ... if they come this soon: a guest that reacts at all has drawn by then.
const HINT_LIFE: Duration = Duration::from_millis(60);
/// Key frames are at least this far apart, however many viewers ask, until it is known what one costs.
const KEY_SPACING: Duration = Duration::from_millis(150);
/// A picture that is still for this long is sent once more in full quality, and again after the second.
const SHARPEN_AFTER: [Duration; 2] = [Duration::from_millis(150), Duration::from_millis(400)];

/// Why a frame is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The picture changed, first at this time.
    Damage(Instant),
    /// A viewer needs a key frame.
    Key,
    /// The picture stands still: sharpen what motion left coarse.
    Sharpen,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Now; `key`: as a key frame.
    Now { reason: Reason, key: bool },
    /// Not before this time, unless something happens.
    At(Instant),
    /// Not until something happens.
    Never,
}

/// Everything that the decision hangs on.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// First damage that no frame shows yet.
    damage: Option<Instant>,
    /// Frame-rate limit: damage before this time waits.
    next_slot: Option<Instant>,
    hint: Option<(Instant, u32)>,
    key_wanted: bool,
    key_spacing: Duration,
    last_key: Option<Instant>,
    /// When the last change was encoded, and how many sharpened frames followed it. `None`: nothing to sharpen.
    coarse: Option<(Instant, usize)>,
}

impl Pace {
    pub(super) fn new(max_fps: u32) -> Self {
        let mut pace = Self {
            interval: Duration::ZERO,
            damage: None,
            next_slot: None,
            hint: None,
            key_wanted: false,
            key_spacing: KEY_SPACING,
            last_key: None,
            coarse: None,
        };
        pace.set_frame_rate(max_fps);
        pace
    }

    pub(super) fn set_frame_rate(&mut self, max_fps: u32) {
        self.interval = Duration::from_secs(1) / max_fps.max(1);
        self.next_slot = None;
    }

    /// Frames a second at most from the next one on, as the path allows; what was begun keeps its place.
    pub(super) fn limit(&mut self, max_fps: u32) {
        self.interval = Duration::from_secs(1) / max_fps.max(1);
    }

    /// The least distance of key frames from now on.
    pub(super) const fn space_keys(&mut self, spacing: Duration) {
        self.key_spacing = spacing;
    }

    pub(super) fn damaged(&mut self, at: Instant) {
        self.damage.get_or_insert(at);
    }

    pub(super) fn hinted(&mut self, at: Instant) {
        self.hint = Some((at + HINT_LIFE, HINT_FRAMES));
    }

    pub(super) fn want_key(&mut self) {
        self.key_wanted = true;
    }

    /// What is due at `now`.
    pub(super) fn due(&self, now: Instant) -> Due {
        let key_at = self.key_wanted.then(|| self.last_key.map_or(now, |last| last + self.key_spacing));
        let key_now = key_at.is_some_and(|at| at <= now);
        let damage_at = self.damage.map(|first| {
            let settled = first + COALESCE;
            if self.hint_holds(now) { settled } else { self.next_slot.map_or(settled, |slot| settled.max(slot)) }
        });
        if let (Some(first), Some(at)) = (self.damage, damage_at)
            && at <= now
        {
            return Due::Now { reason: Reason::Damage(first), key: key_now };
        }
        if key_now {
            return Due::Now { reason: Reason::Key, key: true };
        }
        let sharpen_at = self.coarse.and_then(|(since, done)| SHARPEN_AFTER.get(done).map(|after| since + *after));
        match sharpen_at {
            Some(at) if at <= now && self.damage.is_none() => {
                return Due::Now { reason: Reason::Sharpen, key: false };
            }
            _ => {}
        }
        let sharpen_at = sharpen_at.filter(|_| self.damage.is_none());
        [key_at, damage_at, sharpen_at].into_iter().flatten().min().map_or(Due::Never, Due::At)
    }

    fn hint_holds(&self, now: Instant) -> bool {
        self.hint.is_some_and(|(until, frames)| now <= until && frames > 0)
    }

    /// A frame for `reason` is made now. Damage from here on belongs to the next one.
    pub(super) fn taken(&mut self, reason: Reason, key: bool, now: Instant) {
        if key {
            self.key_wanted = false;
            self.last_key = Some(now);
        }
        self.damage = None;
        if let Reason::Damage(first) = reason {
            // The limit counts from slot to slot, not from frame to frame, so that jitter of the damage does not
            // lower the rate; a slot that was missed is not made up for, and frames that passed the limit for an
            // input leave no debt.
            let earliest = first.checked_sub(self.interval / 2).unwrap_or(first);
            let slot = self.next_slot.map_or(first, |slot| slot.max(earliest).min(now));
            self.next_slot = Some(slot + self.interval);
            if self.hint_holds(now) {
                self.hint = self.hint.map(|(until, frames)| (until, frames - 1));
            }
        } else if reason == Reason::Sharpen {
            self.coarse = self.coarse.map(|(since, done)| (since, done + 1));
        }
    }

    /// The frame was encoded; `is_coarse`: it took more bytes than a sharp still picture would.
    pub(super) fn encoded(&mut self, is_coarse: bool, at: Instant) {
        if is_coarse {
            self.coarse = Some((at, 0));
        } else if let Some((since, _)) = &mut self.coarse {
            *since = at.max(*since);
        }
    }

    /// Nobody watches: forget what is owed.
    pub(super) fn rest(&mut self) {
        (self.damage, self.coarse, self.hint) = (None, None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn damage_at(pace: &mut Pace, at: Instant) -> Option<Instant> {
        pace.damaged(at);
        for step in 0..2_000u32 {
            let now = at + Duration::from_micros(100) * step;
            if let Due::Now { reason, key } = pace.due(now) {
                pace.taken(reason, key, now);
                return Some(now);
            }
        }
        None
    }

    #[test]
    fn rectangles_of_one_refresh_become_one_frame() {
        let (mut pace, start) = (Pace::new(30), Instant::now());
        pace.damaged(start);
        pace.damaged(start + MS / 2);
        assert_eq!(pace.due(start + MS / 2), Due::At(start + COALESCE));
        let due = pace.due(start + COALESCE);
        assert_eq!(due, Due::Now { reason: Reason::Damage(start), key: false });
        pace.taken(Reason::Damage(start), false, start + COALESCE);
        assert_eq!(pace.due(start + MS), Due::Never);
    }

    #[test]
    fn the_rate_is_limited_but_jitter_costs_nothing() {
        let (mut pace, start) = (Pace::new(30), Instant::now());
        let mut frames = 0;
        for i in 0..300u32 {
            let jitter = MS * (i * 7 % 5);
            let at = start + Duration::from_micros(33_333) * i + jitter;
            let taken = damage_at(&mut pace, at).expect("a frame");
            assert!(taken - at <= MS * 6, "frame {i} waited {:?}", taken - at);
            frames += 1;
        }
        assert_eq!(frames, 300);
        // 100 changes a second are thinned to 30.
        let (mut pace, mut frames) = (Pace::new(30), 0);
        for i in 0..1_000u32 {
            let now = start + MS * i;
            if i % 10 == 0 {
                pace.damaged(now);
            }
            if let Due::Now { reason, key } = pace.due(now) {
                pace.taken(reason, key, now);
                frames += 1;
            }
        }
        assert!((29..=32).contains(&frames), "{frames}");
    }

    #[test]
    fn an_input_passes_the_limit() {
        let (mut pace, start) = (Pace::new(5), Instant::now());
        damage_at(&mut pace, start).expect("a frame");
        pace.hinted(start + MS * 5);
        for i in 0..HINT_FRAMES {
            let at = start + MS * (10 + 5 * i);
            let taken = damage_at(&mut pace, at).expect("a frame");
            assert!(taken - at <= MS, "{:?}", taken - at);
        }
        let at = start + MS * 40;
        assert!(damage_at(&mut pace, at).expect("later") - at > MS * 100, "the credit is used up");
        let (mut pace, start) = (Pace::new(5), Instant::now());
        pace.hinted(start);
        damage_at(&mut pace, start + MS * 100).expect("a frame");
        let late = start + MS * 110;
        assert!(damage_at(&mut pace, late).expect("a frame") - late > MS * 100, "a hint does not live long");
    }

    #[test]
    fn keys_are_spaced_and_ride_on_damage() {
        let (mut pace, start) = (Pace::new(30), Instant::now());
        pace.want_key();
        assert_eq!(pace.due(start), Due::Now { reason: Reason::Key, key: true });
        pace.taken(Reason::Key, true, start);
        pace.want_key();
        assert_eq!(pace.due(start + MS), Due::At(start + KEY_SPACING));
        pace.damaged(start + KEY_SPACING);
        let now = start + KEY_SPACING + MS;
        assert_eq!(pace.due(now), Due::Now { reason: Reason::Damage(start + KEY_SPACING), key: true });
        pace.taken(Reason::Damage(start + KEY_SPACING), true, now);
        assert_eq!(pace.due(now + MS * 1_000), Due::Never);
    }

    #[test]
    fn a_picture_that_stands_still_is_sharpened_twice_and_then_left_alone() {
        let (mut pace, start) = (Pace::new(30), Instant::now());
        let first = damage_at(&mut pace, start).expect("a frame");
        pace.encoded(true, first);
        let mut now = first;
        for after in SHARPEN_AFTER {
            let Due::At(at) = pace.due(now) else { panic!("sharpening is due later") };
            assert_eq!(at, now + after);
            now = at;
            assert_eq!(pace.due(now), Due::Now { reason: Reason::Sharpen, key: false });
            pace.taken(Reason::Sharpen, false, now);
            pace.encoded(false, now);
        }
        assert_eq!(pace.due(now + MS * 10_000), Due::Never);
        // Small changes (a blinking cursor) are sharp as they are.
        let blink = now + MS * 500;
        let taken = damage_at(&mut pace, blink).expect("a frame");
        pace.encoded(false, taken);
        assert_eq!(pace.due(taken + MS), Due::Never);
    }
}
