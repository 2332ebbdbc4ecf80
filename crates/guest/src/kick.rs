//! Refresh kicks: QEMU looks for changed pixels only every 30 ms; asking for a screenshot makes it look at once.
//!
//! After an input a *train* of kicks runs, 1 to 16 ms after it: the guest answers within one of these. There is at
//! most one train; further input extends it. When the picture stood still before, its first change is the answer and ends
//! the train; when things move anyway, a change says nothing, and the train runs out.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// When kicks come after a key or button, in milliseconds. A guest that answers at its interrupt takes 1 to 2 ms: a kick
/// that just missed the answer must not be followed by a long pause (a kick costs QEMU 0.4 ms).
const OFFSETS_MS: [u64; 6] = [1, 2, 3, 5, 8, 16];
/// The same after motion, which comes up to a thousand times a second.
const MOTION_OFFSETS_MS: [u64; 4] = [1, 4, 8, 16];
/// Kicks that motion asks for are never closer, however fast the mouse reports.
const MOTION_GAP: Duration = Duration::from_millis(8);
/// A picture without damage for so long stands still: more than three of QEMU's refreshes.
const STILL_AFTER: Duration = Duration::from_millis(100);

/// How many there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KickStats {
    /// Trains begun.
    pub trains: u64,
    /// Kicks given.
    pub kicks: u64,
}

/// The train, if one runs: pure, told the time.
#[derive(Debug, Default)]
struct Line {
    train: Option<Train>,
    last_damage: Option<Instant>,
    last_kick: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Train {
    /// The newest input.
    origin: Instant,
    next: Instant,
    /// Whether that was motion.
    motion: bool,
    /// Whether the next damage can only be the answer.
    ends_by_damage: bool,
}

impl Line {
    /// An input was injected. Returns whether a new train begins.
    fn input(&mut self, now: Instant, motion: bool) -> bool {
        let first = now + Duration::from_millis(OFFSETS_MS[0]);
        let soonest = match self.last_kick {
            Some(last) if motion => first.max(last + MOTION_GAP),
            _ => first,
        };
        if let Some(train) = &mut self.train {
            // An input never puts off a kick that is due anyway, or a fast mouse would put it off for ever.
            *train = Train { origin: now, next: train.next.min(soonest), motion, ends_by_damage: false };
            return false;
        }
        let still = self.last_damage.is_none_or(|at| now.saturating_duration_since(at) > STILL_AFTER);
        self.train = Some(Train { origin: now, next: soonest, motion, ends_by_damage: still });
        true
    }

    fn damage(&mut self, now: Instant) {
        self.last_damage = Some(now);
        if self.train.is_some_and(|train| train.ends_by_damage) {
            self.train = None;
        }
    }

    /// When the next kick is due.
    fn due(&self) -> Option<Instant> {
        self.train.map(|train| train.next)
    }

    /// A kick is given now.
    fn kicked(&mut self, now: Instant) {
        self.last_kick = Some(now);
        if let Some(train) = &mut self.train {
            let offsets: &[u64] = if train.motion { &MOTION_OFFSETS_MS } else { &OFFSETS_MS };
            let later = offsets.iter().map(|ms| train.origin + Duration::from_millis(*ms)).find(|at| *at > now);
            match later {
                Some(at) if train.motion => train.next = at.max(now + MOTION_GAP),
                Some(at) => train.next = at,
                None => self.train = None,
            }
        }
    }
}

/// The line of kicks of one guest.
#[derive(Debug, Default)]
pub(crate) struct Kicks {
    line: Mutex<Line>,
    wake: Notify,
    trains: AtomicU64,
    given: AtomicU64,
}

impl Kicks {
    /// An input was injected.
    pub(crate) fn input(&self, now: Instant, motion: bool) {
        if self.line.lock().input(now, motion) {
            self.trains.fetch_add(1, Relaxed);
        }
        self.wake.notify_one();
    }

    /// The picture changed.
    pub(crate) fn damage(&self, now: Instant) {
        self.line.lock().damage(now);
    }

    /// When QEMU last told something of its picture, whatever it was.
    pub(crate) fn last_damage(&self) -> Option<Instant> {
        self.line.lock().last_damage
    }

    pub(crate) fn count(&self) {
        self.given.fetch_add(1, Relaxed);
    }

    pub(crate) fn stats(&self) -> KickStats {
        KickStats { trains: self.trains.load(Relaxed), kicks: self.given.load(Relaxed) }
    }

    /// Gives the kicks, one at a time, for as long as it is polled.
    pub(crate) async fn run<F: Future<Output = ()>>(self: Arc<Self>, kick: impl Fn() -> F) {
        loop {
            let due = self.line.lock().due();
            let woken = self.wake.notified();
            let Some(due) = due else {
                woken.await;
                continue;
            };
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep_until(due) => {
                    // Ended by damage meanwhile?
                    let still_due = {
                        let mut line = self.line.lock();
                        let still_due = line.due().is_some_and(|at| at <= due);
                        if still_due {
                            line.kicked(Instant::now());
                        }
                        still_due
                    };
                    if still_due {
                        self.count();
                        kick().await;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Lets the line kick on time until it ends; returns when it did, in ms after `start`.
    fn drain(line: &mut Line, start: Instant) -> Vec<u64> {
        let mut kicks = Vec::new();
        while let Some(at) = line.due() {
            kicks.push((at - start).as_millis() as u64);
            line.kicked(at);
            assert!(kicks.len() < 1000, "never ends");
        }
        kicks
    }

    #[test]
    fn one_input_is_six_kicks() {
        let (mut line, t) = (Line::default(), Instant::now());
        assert!(line.input(t, false));
        assert_eq!(drain(&mut line, t), [1, 2, 3, 5, 8, 16]);
        assert!(line.input(t + ms(20), false), "the next one is a new train");
    }

    #[test]
    fn the_first_damage_ends_it_only_when_all_was_still() {
        let (mut line, t) = (Line::default(), Instant::now());
        line.input(t, false);
        line.kicked(t + ms(1));
        line.damage(t + ms(2));
        assert_eq!(line.due(), None);
        line.input(t + ms(40), false);
        line.damage(t + ms(41));
        assert_eq!(drain(&mut line, t), [41, 42, 43, 45, 48, 56], "it moved 38 ms before");
    }

    #[test]
    fn more_input_extends_and_its_answer_is_awaited() {
        let (mut line, t) = (Line::default(), Instant::now());
        assert!(line.input(t, false));
        line.kicked(t + ms(1));
        line.kicked(t + ms(2));
        assert!(!line.input(t + ms(3), false), "the same train");
        line.damage(t + ms(3));
        assert_eq!(drain(&mut line, t), [3, 4, 5, 6, 8, 11, 19]);
    }

    #[test]
    fn a_fast_mouse_is_cheap_and_is_not_put_off() {
        let (mut line, t) = (Line::default(), Instant::now());
        let mut kicks = 0;
        for now in (0..1000).map(|n| t + ms(n)) {
            while line.due().is_some_and(|at| at <= now) {
                line.kicked(now);
                kicks += 1;
            }
            line.input(now, true);
        }
        assert!((100..=140).contains(&kicks), "{kicks} kicks in a second at 1 kHz");
    }

    #[tokio::test(start_paused = true)]
    async fn kicks_come_one_at_a_time() {
        let kicks = Arc::new(Kicks::default());
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn(Arc::clone(&kicks).run(move || {
            let _ = sender.send(());
            std::future::ready(())
        }));
        kicks.input(Instant::now(), false);
        for _ in OFFSETS_MS {
            receiver.recv().await.expect("kick");
        }
        assert_eq!(kicks.stats(), KickStats { trains: 1, kicks: 6 });
        task.abort();
    }
}
