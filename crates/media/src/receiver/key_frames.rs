//! When to ask for a key frame: at once when nothing else helps, then ever more rarely until it comes.

use std::time::{Duration, Instant};

/// Between two requests at least; a longer round trip makes it longer.
const LEAST_WAIT: Duration = Duration::from_millis(200);
/// What a key frame may need beyond the round trip: encoding, and sending what it is large.
const GRACE: Duration = Duration::from_millis(100);
/// Between two requests at most.
const MOST_WAIT: Duration = Duration::from_secs(2);
/// Doublings of the wait at most.
const MOST_DOUBLINGS: u32 = 4;

/// Asks for key frames.
#[derive(Debug, Default)]
pub(super) struct KeyFrameAsker {
    asked: Option<Instant>,
    /// Requests since the last key frame.
    in_vain: u32,
}

impl KeyFrameAsker {
    /// The sender begins, unasked, with a key frame.
    pub(super) fn comes_unasked(&mut self, now: Instant) {
        (self.asked, self.in_vain) = (Some(now), 0);
    }

    /// A request was sent.
    pub(super) fn asked(&mut self, now: Instant) {
        self.asked = Some(now);
        self.in_vain += 1;
    }

    /// A key frame began to arrive.
    pub(super) const fn came(&mut self) {
        self.in_vain = 0;
    }

    /// From when on a request may be sent, where a key frame is needed.
    pub(super) fn next(&self, round_trip: Option<Duration>) -> Option<Instant> {
        let least = round_trip.map_or(LEAST_WAIT, |time| (time + GRACE).max(LEAST_WAIT));
        let doublings = self.in_vain.saturating_sub(1).min(MOST_DOUBLINGS);
        self.asked.map(|at| at + (least * (1 << doublings)).min(MOST_WAIT.max(least)))
    }

    /// Whether one is to be sent now.
    pub(super) fn is_due(&self, round_trip: Option<Duration>, now: Instant) -> bool {
        self.next(round_trip).is_none_or(|at| now >= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_goes_at_once_and_the_others_ever_more_rarely() {
        let (mut asker, start) = (KeyFrameAsker::default(), Instant::now());
        let (mut now, mut at) = (start, Vec::new());
        while now < start + Duration::from_secs(12) {
            if asker.is_due(None, now) {
                asker.asked(now);
                at.push((now - start).as_millis());
            }
            now += Duration::from_millis(10);
        }
        assert_eq!(at, [0, 200, 600, 1_400, 3_000, 5_000, 7_000, 9_000, 11_000]);
        asker.came();
        assert!(asker.is_due(None, now), "the next need is a new one");
    }

    #[test]
    fn a_long_round_trip_is_waited_for_and_so_is_the_first_key_frame() {
        let (mut asker, now) = (KeyFrameAsker::default(), Instant::now());
        asker.comes_unasked(now);
        let round_trip = Some(Duration::from_millis(300));
        assert!(!asker.is_due(round_trip, now + Duration::from_millis(399)));
        assert!(asker.is_due(round_trip, now + Duration::from_millis(400)));
    }
}
