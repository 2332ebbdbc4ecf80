//! Short messages at the lower right: they come, fade in, stay long enough to be read, and fade out. Time is given from
//! outside. Each is written to the log too, where it can be copied later.

use crate::hud::{Ask, Toast, Tone};
use std::time::{Duration, Instant};

/// Most that are shown at a time; the oldest make room.
const MOST: usize = 5;
/// Time to be noticed, and to be read, per character.
const LEAST: Duration = Duration::from_secs(4);
const PER_CHARACTER: Duration = Duration::from_millis(50);
/// What matters stays longer.
const BAD: Duration = Duration::from_secs(6);
/// Fading takes this long, in so many steps: each costs a drawing.
const STEP: Duration = Duration::from_millis(30);
const STEPS: u32 = 4;

/// A message to be shown.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) tone: Tone,
    pub(super) text: String,
    pub(super) action: Option<(String, Ask)>,
    /// A later message with the same key takes this one's place.
    pub(super) key: Option<String>,
}

impl Note {
    pub(super) fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { tone, text: text.into(), action: None, key: None }
    }

    pub(super) fn keyed(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    pub(super) fn action(self, label: impl Into<String>, ask: Ask) -> Self {
        Self { action: Some((label.into(), ask)), ..self }
    }
}

struct Shown {
    number: u64,
    note: Note,
    begun: Instant,
    until: Instant,
}

/// All of them.
#[derive(Default)]
pub(super) struct Notices {
    list: Vec<Shown>,
    count: u64,
    /// Nothing fades or slides.
    still: bool,
    /// Number and step of each, as told last.
    drawn: Vec<(u64, u32)>,
}

impl Notices {
    pub(super) fn new(still: bool) -> Self {
        Self { still, ..Self::default() }
    }

    pub(super) fn push(&mut self, note: Note, now: Instant) {
        tracing::info!(target: "loco_viewer::notice", "{}", note.text);
        let characters = u32::try_from(note.text.chars().count()).unwrap_or(u32::MAX);
        let extra = if note.tone == Tone::Bad { BAD } else { Duration::ZERO };
        let until = now + LEAST + PER_CHARACTER.saturating_mul(characters.min(200)) + extra;
        let same = |shown: &Shown| note.key.is_some() && shown.note.key == note.key;
        if let Some(place) = self.list.iter().position(same) {
            // It is there already: it does not fade in again.
            let shown = &mut self.list[place];
            (shown.note, shown.until) = (note, until);
            // The text is another one, though the step is not.
            self.drawn.clear();
            return;
        }
        if self.list.len() == MOST {
            self.list.remove(0);
        }
        self.count += 1;
        self.list.push(Shown { number: self.count, note, begun: now, until });
    }

    /// Takes one away.
    pub(super) fn dismiss(&mut self, number: u64) {
        self.list.retain(|shown| shown.number != number);
    }

    /// Takes away what has this key.
    pub(super) fn withdraw(&mut self, key: &str) {
        self.list.retain(|shown| shown.note.key.as_deref() != Some(key));
    }

    fn step(&self, shown: &Shown, now: Instant) -> u32 {
        if self.still {
            return STEPS;
        }
        let steps = |time: Duration| u32::try_from(time.as_millis() / STEP.as_millis()).unwrap_or(STEPS).min(STEPS);
        let come = steps(now.saturating_duration_since(shown.begun)) + 1;
        let left = shown.until.saturating_duration_since(now);
        let gone = steps(left + STEP - Duration::from_millis(1));
        come.min(gone).min(STEPS)
    }

    /// Ends what has its time. Returns whether something looks different from the last time.
    pub(super) fn pass(&mut self, now: Instant) -> bool {
        self.list.retain(|shown| now < shown.until);
        let drawn: Vec<_> = self.list.iter().map(|shown| (shown.number, self.step(shown, now))).collect();
        let changed = drawn != self.drawn;
        self.drawn = drawn;
        changed
    }

    /// When something looks different next.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let next = |shown: &Shown| {
            if self.still {
                return shown.until;
            }
            let (come, fade) = (shown.begun + STEP * (STEPS - 1), shown.until - STEP * (STEPS - 1));
            if now < come {
                now + STEP
            } else if now < fade {
                fade
            } else {
                (now + STEP).min(shown.until)
            }
        };
        self.list.iter().map(next).min()
    }

    /// What is to be drawn, the oldest first.
    pub(super) fn toasts(&self, now: Instant) -> Vec<Toast> {
        let toast = |shown: &Shown| Toast {
            number: shown.number,
            tone: shown.note.tone,
            text: shown.note.text.clone(),
            action: shown.note.action.clone(),
            opacity: self.step(shown, now) as f32 / STEPS as f32,
        };
        self.list.iter().map(toast).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str) -> Note {
        Note::new(Tone::Info, text)
    }

    #[test]
    fn one_fades_in_stays_and_fades_out_with_few_drawings() {
        let (mut notices, begun) = (Notices::default(), Instant::now());
        notices.push(note("hello"), begun);
        let (mut now, mut seen, mut drawings) = (begun, Vec::new(), 0);
        while let Some(next) = {
            drawings += u32::from(notices.pass(now));
            seen.push(notices.toasts(now).first().map(|toast| toast.opacity));
            notices.next(now)
        } {
            assert!(next > now, "time goes on");
            now = next;
            assert!(seen.len() < 50, "{seen:?}");
        }
        assert_eq!(seen.first(), Some(&Some(0.25)));
        assert_eq!(seen.last(), Some(&None));
        assert!(seen.contains(&Some(1.0)));
        assert!((4..=2 * STEPS + 1).contains(&drawings), "{drawings}: {seen:?}");
        assert!(now - begun >= LEAST, "{:?}", now - begun);
    }

    #[test]
    fn with_reduced_motion_it_is_there_and_gone() {
        let (mut notices, begun) = (Notices::new(true), Instant::now());
        notices.push(note("hello"), begun);
        assert!(notices.pass(begun));
        assert_eq!(notices.toasts(begun)[0].opacity, 1.0);
        let end = notices.next(begun).unwrap();
        assert!(!notices.pass(end - Duration::from_millis(1)));
        assert!(notices.pass(end) && notices.next(end).is_none());
    }

    #[test]
    fn the_same_matter_is_one_message_and_few_are_shown() {
        let (mut notices, now) = (Notices::new(true), Instant::now());
        notices.push(note("restarting").keyed("a"), now);
        notices.pass(now);
        notices.push(note("well again").keyed("a"), now);
        assert!(notices.pass(now), "another text is drawn");
        assert_eq!(notices.toasts(now).iter().map(|t| t.text.as_str()).collect::<Vec<_>>(), ["well again"]);
        for n in 0..9 {
            notices.push(note(&n.to_string()), now);
        }
        let texts = |notices: &Notices| notices.toasts(now).into_iter().map(|t| t.text).collect::<Vec<_>>();
        assert_eq!(texts(&notices), ["4", "5", "6", "7", "8"]);
        notices.dismiss(notices.toasts(now)[0].number);
        notices.push(note("x").keyed("k"), now);
        notices.withdraw("k");
        assert_eq!(texts(&notices), ["5", "6", "7", "8"]);
    }
}
