//! The default device plays in the place of a chosen one that cannot be had: why, and when the chosen one is tried
//! again. Pure.
//!
//! One that was away and is back is tried at once. One that is there and cannot be opened all the same is tried at
//! pauses that double: every try interrupts the sound.

use std::time::{Duration, Instant};

/// The pause doubles so often: from 6 s to 6 min.
const MOST_DOUBLINGS: u32 = 7;

/// What stands in, if anything.
#[derive(Debug, Default)]
pub(super) struct StandIn {
    reason: Option<String>,
    /// Since when another one plays.
    since: Option<Instant>,
    /// It was seen to be away since.
    was_away: bool,
    /// Tries in a row after which another one had to play.
    vain: u32,
}

impl StandIn {
    /// The chosen device cannot be had, for this reason: another is to play in its place.
    pub(super) fn begin(&mut self, reason: String) {
        self.reason = Some(reason);
    }

    /// Another one plays.
    pub(super) fn plays(&mut self, now: Instant) {
        (self.since, self.was_away) = (Some(now), false);
        self.vain = self.vain.saturating_add(1);
    }

    /// The chosen device is tried again; what is known of it is kept. Gives the reason why another stood in.
    pub(super) fn pause(&mut self) -> Option<String> {
        self.reason.take()
    }

    /// The chosen device plays, or another one was chosen.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Another device plays, or is to.
    pub(super) fn is_needed(&self) -> bool {
        self.reason.is_some()
    }

    /// What people are told while the device of this name plays in the place of the chosen one.
    pub(super) fn note(&self, name: &str) -> Option<String> {
        self.reason.as_ref().map(|reason| format!("{reason}: playing on {name}"))
    }

    /// The chosen device is there or away; whether it is to be tried. `every`: how often one looks.
    pub(super) fn is_due(&mut self, present: bool, now: Instant, every: Duration) -> bool {
        if !present {
            self.was_away = true;
            return false;
        }
        let pause = every * (1 << self.vain.min(MOST_DOUBLINGS));
        self.was_away || self.since.is_none_or(|at| now.saturating_duration_since(at) >= pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(3);

    #[test]
    fn what_was_away_is_tried_at_once_and_what_was_there_more_and_more_seldom() {
        let (mut stand_in, mut now) = (StandIn::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..9 {
            stand_in.begin("it is busy".to_owned());
            stand_in.plays(now);
            let tried_at = now;
            while !stand_in.is_due(true, now, EVERY) {
                now += EVERY;
            }
            pauses.push((now - tried_at).as_secs());
            assert_eq!(stand_in.pause().as_deref(), Some("it is busy"));
        }
        assert_eq!(pauses, [6, 12, 24, 48, 96, 192, 384, 384, 384]);
        stand_in.plays(now);
        assert!(!stand_in.is_due(true, now, EVERY) && !stand_in.is_due(false, now, EVERY));
        assert!(stand_in.is_due(true, now, EVERY), "it was away");
        stand_in.forget();
        stand_in.plays(now);
        assert!(!stand_in.is_due(true, now, EVERY) && stand_in.is_due(true, now + 2 * EVERY, EVERY));
    }
}
