//! Does the path still live? Silence alone says nothing: a still picture sends nothing. So the other end is asked, but
//! only when something should have come: while packets flowed until just now, or after an input, which is acknowledged.
//! Pure.

use std::time::{Duration, Instant};

/// Packets without a longer gap than [`GAP`] between them are a flow.
const FLOW: u32 = 10;
const GAP: Duration = Duration::from_millis(300);
/// A flow that pauses this long, and three round trips, is asked after.
const PATIENCE: Duration = Duration::from_millis(350);
/// Between two questions, and a round trip.
const AGAIN: Duration = Duration::from_millis(120);
/// Unanswered questions until the path is dead. At 30 % loss each way one of two is answered: six in vain, one in 64.
const QUESTIONS: u32 = 6;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Wait,
    /// Ask the other end.
    Ask,
    /// Nobody answers: look for another path.
    Dead,
}

/// Watches one path.
#[derive(Debug, Default)]
pub(super) struct Vigil {
    media: Option<(Instant, u32)>,
    input: Option<Instant>,
    questions: u32,
    asked: Option<Instant>,
}

// === impl Vigil ===

impl Vigil {
    /// A media packet came.
    pub(super) fn media(&mut self, now: Instant) {
        let so_far = self.media.filter(|(last, _)| now.saturating_duration_since(*last) < GAP).map_or(0, |(_, n)| n);
        self.media = Some((now, so_far.saturating_add(1)));
    }

    /// An input was sent, which the other end acknowledges.
    pub(super) fn input(&mut self, now: Instant) {
        self.input.get_or_insert(now);
    }

    /// Whether packets flowed until just now.
    pub(super) fn is_flowing(&self) -> bool {
        self.media.is_some_and(|(_, packets)| packets >= FLOW)
    }

    /// What to do at `now`, and when to look again at the latest. `heard`: when anything came last.
    pub(super) fn look(
        &mut self,
        now: Instant,
        heard: Option<Instant>,
        round_trip: Option<Duration>,
    ) -> (Step, Option<Instant>) {
        let round_trip = round_trip.unwrap_or_default();
        if self.input.is_some_and(|sent| heard.is_some_and(|heard| heard > sent)) {
            self.input = None;
        }
        if self.asked.is_some_and(|asked| heard.is_some_and(|heard| heard > asked)) {
            // It lives; if it is quiet now, then for a reason.
            self.media = None;
            (self.questions, self.asked) = (0, None);
        }
        let flow =
            self.media.filter(|_| self.is_flowing()).map(|(last, _)| heard.map_or(last, |heard| heard.max(last)));
        let input = self.input;
        let Some(silent_since) = flow.into_iter().chain(input).min() else { return (Step::Wait, None) };
        let due = match self.asked {
            None => silent_since + PATIENCE + round_trip * 3,
            Some(asked) => asked + AGAIN + round_trip,
        };
        if now < due {
            return (Step::Wait, Some(due));
        }
        if self.questions == QUESTIONS {
            *self = Self::default();
            return (Step::Dead, None);
        }
        self.questions += 1;
        self.asked = Some(now);
        (Step::Ask, Some(now + AGAIN + round_trip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Steps from `start` on while nothing is heard: when each was due, in ms.
    fn steps(vigil: &mut Vigil, start: Instant, heard: Option<Instant>) -> Vec<(u64, Step)> {
        let (mut now, mut all) = (start, Vec::new());
        loop {
            let (step, next) = vigil.look(now, heard, Some(ms(10)));
            if step != Step::Wait {
                all.push(((now - start).as_millis() as u64, step));
            }
            match next {
                Some(next) => now = next,
                None => return all,
            }
        }
    }

    #[test]
    fn a_flow_that_stops_is_asked_after_and_given_up() {
        let start = Instant::now();
        let mut vigil = Vigil::default();
        for i in 0..20 {
            vigil.media(start + ms(i * 33));
        }
        let last = start + ms(19 * 33);
        let steps = steps(&mut vigil, last, Some(last));
        assert_eq!(steps.first(), Some(&(380, Step::Ask)));
        assert_eq!(steps.last(), Some(&(1160, Step::Dead)));
        assert_eq!(steps.len(), 7);
        assert_eq!(vigil.look(last + ms(9_000), Some(last), None), (Step::Wait, None), "once");
    }

    #[test]
    fn an_answer_ends_it_and_stillness_is_no_question() {
        let start = Instant::now();
        let mut vigil = Vigil::default();
        assert_eq!(vigil.look(start + ms(60_000), Some(start), None), (Step::Wait, None));
        for i in 0..3 {
            vigil.media(start + ms(i * 33));
        }
        assert_eq!(vigil.look(start + ms(60_000), Some(start), None), (Step::Wait, None), "single frames are no flow");
        for i in 0..20 {
            vigil.media(start + ms(i * 33));
        }
        let asked = start + ms(2_000);
        assert_eq!(vigil.look(asked, Some(start + ms(627)), None).0, Step::Ask);
        assert_eq!(vigil.look(asked + ms(500), Some(asked + ms(20)), None), (Step::Wait, None));
    }

    #[test]
    fn an_input_wants_an_answer() {
        let start = Instant::now();
        let mut vigil = Vigil::default();
        vigil.input(start);
        assert_eq!(vigil.look(start + ms(30), Some(start + ms(20)), None), (Step::Wait, None), "acknowledged");
        vigil.input(start + ms(5_000));
        let steps = steps(&mut vigil, start + ms(5_000), Some(start + ms(20)));
        assert_eq!((steps[0].1, steps.last().map(|s| s.1)), (Step::Ask, Some(Step::Dead)));
    }
}
