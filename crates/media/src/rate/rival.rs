//! Whether somebody else keeps the queue full.
//!
//! Alone on a link, a lower rate drains the queue. Where the queue stays although the rate fell, another sender fills
//! it (a TCP download in a long buffer), and yielding to delay would mean yielding for ever (the latecomer's problem of
//! RFC 6817 turned round; the two modes are those of Copa, Arun and Balakrishnan, NSDI 2018).

use super::MS;

/// A queue is looked at again after this long, or a round trip.
const LOOK_US: u64 = 700 * MS;
const LOOK_ROUND_TRIPS: u64 = 1;
/// Looks that must agree.
const LOOKS: u32 = 2;
/// A queue that kept this share of itself did not drain.
const STAYED: f64 = 0.7;
/// The rate must have fallen to this share before a queue that stays means anything.
const YIELDED: f64 = 0.6;
/// Between two tests whether the queue is our own after all, at an overflow and otherwise, ...
const DOUBT_US: u64 = 6_000 * MS;
const DOUBT_MOST_US: u64 = 8_000 * MS;
/// ... each this long, or so many round trips: at half the rate a queue of our own is gone by then.
const TEST_US: u64 = 600 * MS;
const TEST_ROUND_TRIPS: u64 = 2;
/// A queue of this share of the longest one is about to overflow, or did.
const FULL: f64 = 0.6;
/// After giving up, another sender is not looked for this long.
const YIELD_US: u64 = 10_000 * MS;
/// Without a queue for this long the other one is gone.
const GONE_US: u64 = 400 * MS;

/// What is known of another sender.
#[derive(Debug, Default)]
pub(super) struct Rival {
    /// Begin of the queue: when, and the rate then.
    queue_since: Option<(u64, f64)>,
    /// Last look at it: when, and how long it was.
    looked: (u64, u64),
    looks: u32,
    /// Whether another sender is taken for granted.
    is_present: bool,
    test_until_us: u64,
    gone_since: Option<u64>,
    not_before_us: u64,
    /// Longest queue since it is there.
    longest_us: u64,
}

/// What one look told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// As before.
    Same,
    /// Another sender fills the queue; this was the rate before we yielded to it.
    Appeared(f64),
    /// Nobody does any more.
    Gone,
}

// === impl Rival ===

impl Rival {
    /// Whether another sender is there.
    pub(super) const fn is_present(&self) -> bool {
        self.is_present
    }

    /// Whether a queue of this length is about as full as it gets: loss then is not by chance.
    pub(super) fn is_full(&self, queue_us: u64) -> bool {
        queue_us as f64 >= self.longest_us as f64 * FULL
    }

    /// The queue overflowed. All who share it notice at the same time: those that only take each other for somebody
    /// else test together, and find it empty.
    pub(super) fn overflowed(&mut self, now_us: u64, round_trip_us: u64) {
        if now_us.saturating_sub(self.test_until_us) >= DOUBT_US {
            self.test(now_us, round_trip_us);
        }
    }

    fn test(&mut self, now_us: u64, round_trip_us: u64) {
        self.test_until_us = now_us + TEST_US.max(TEST_ROUND_TRIPS * round_trip_us);
    }

    /// Whether the rate is to be lowered for a moment, to see whose queue it is.
    pub(super) const fn is_testing(&self, now_us: u64) -> bool {
        self.is_present && now_us < self.test_until_us
    }

    /// Holding on against the other one brings no more than yielding: yield, and do not look again for a while.
    pub(super) fn give_up(&mut self, now_us: u64) {
        *self = Self { not_before_us: now_us + YIELD_US, ..Self::default() };
    }

    /// `queue_us`: standing queue; `is_long`: above what a sender alone leaves; `is_empty`: next to none.
    pub(super) fn look(
        &mut self,
        now_us: u64,
        queue_us: u64,
        (is_long, is_empty): (bool, bool),
        target: f64,
        round_trip_us: u64,
    ) -> Verdict {
        if self.is_present {
            if !is_empty {
                self.gone_since = None;
            } else if now_us.saturating_sub(*self.gone_since.get_or_insert(now_us)) >= GONE_US {
                *self = Self::default();
                return Verdict::Gone;
            }
            self.longest_us = self.longest_us.max(queue_us);
            if now_us.saturating_sub(self.test_until_us) >= DOUBT_MOST_US {
                self.test(now_us, round_trip_us);
            }
            return Verdict::Same;
        }
        if is_empty || now_us < self.not_before_us {
            self.queue_since = None;
            return Verdict::Same;
        }
        let Some((_, rate_before)) = self.queue_since else {
            if is_long {
                (self.queue_since, self.looked, self.looks) = (Some((now_us, target)), (now_us, queue_us), 0);
            }
            return Verdict::Same;
        };
        if now_us.saturating_sub(self.looked.0) < LOOK_US.max(LOOK_ROUND_TRIPS * round_trip_us) {
            return Verdict::Same;
        }
        let stayed = is_long && queue_us as f64 >= self.looked.1 as f64 * STAYED && target <= rate_before * YIELDED;
        self.looks = if stayed { self.looks + 1 } else { 0 };
        self.looked = (now_us, queue_us);
        if self.looks < LOOKS {
            return Verdict::Same;
        }
        (self.is_present, self.test_until_us) = (true, now_us);
        Verdict::Appeared(rate_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_drains_is_our_own_and_one_that_stays_is_not() {
        let mut rival = Rival::default();
        let round_trip = 30 * MS;
        for ms in (0..4_000u64).step_by(10) {
            let queue = 400 * MS - ms * MS / 10;
            let target = if ms < 100 { 2e6 } else { 4e5 };
            let long = queue > 60 * MS;
            let drains = queue.saturating_sub(ms * MS / 4);
            assert_eq!(rival.look(ms * MS, drains, (long, drains < 10 * MS), target, round_trip), Verdict::Same);
        }
        let mut rival = Rival::default();
        let mut appeared = None;
        for ms in (0..4_000u64).step_by(10) {
            let target = if ms < 100 { 2e6 } else { 4e5 };
            if let Verdict::Appeared(before) = rival.look(ms * MS, 100 * MS, (true, false), target, round_trip) {
                appeared.get_or_insert((ms, before));
            }
        }
        let (ms, before) = appeared.expect("it is noticed");
        assert!((1_000..2_500).contains(&ms) && before == 2e6, "after {ms} ms, {before}");
        assert!(rival.is_present());
        let gone = (4_000..6_000u64)
            .step_by(10)
            .find(|ms| rival.look(ms * MS, 0, (false, true), 4e5, round_trip) == Verdict::Gone);
        assert_eq!(gone, Some(4_400));
    }
}
