//! What each session has done and holds: turns its wire input into guest input. Pure.

use loco_media::SessionInput;
use loco_model::Key;
use loco_model::input::{Button, InputEvent, KeysEvent, Pointer};
use std::collections::{BTreeMap, BTreeSet};

/// Most wheel steps that one message may turn: a wheel's own burst is below ten.
pub(crate) const MAX_WHEEL_STEPS: i16 = 64;

/// Keys and buttons that a session holds down, and how far its pointer has moved.
#[derive(Debug, Default)]
struct Hands {
    keys: BTreeSet<Key>,
    buttons: BTreeSet<u8>,
    sums: (i32, i32),
}

/// Every session's hands.
#[derive(Debug, Default)]
pub(crate) struct AllHands {
    sessions: BTreeMap<String, Hands>,
}

// === impl AllHands ===

impl AllHands {
    /// Sessions that have said anything.
    pub(crate) fn sessions(&self) -> Vec<String> {
        self.sessions.keys().cloned().collect()
    }

    /// Takes note of what a session said that gives no input now: where its pointer is, so that the way it goes
    /// meanwhile is not made up for later.
    pub(crate) fn ignore(&mut self, session: &str, input: SessionInput) {
        let pointer = match input {
            SessionInput::Pointer(pointer) | SessionInput::Keys(KeysEvent::Button { pointer, .. }) => pointer,
            SessionInput::Keys(_) | SessionInput::Closed => return,
        };
        if let Pointer::Relative { sum_x, sum_y } = pointer {
            self.sessions.entry(session.to_owned()).or_default().sums = (sum_x, sum_y);
        }
    }

    /// What the guest is to be told because `session` said `input`, in order.
    pub(crate) fn events(&mut self, session: &str, input: SessionInput, mut emit: impl FnMut(InputEvent)) {
        if !self.sessions.contains_key(session) {
            self.sessions.insert(session.to_owned(), Hands::default());
        }
        let Some(hands) = self.sessions.get_mut(session) else { return };
        match input {
            SessionInput::Pointer(pointer) => hands.pointer(pointer, &mut emit),
            SessionInput::Keys(KeysEvent::Key { key, pressed }) => {
                if pressed {
                    // Pressed again while held is auto-repeat: the guest sees it as such.
                    hands.keys.insert(key);
                    emit(InputEvent::Key { code: key, pressed });
                } else if hands.keys.remove(&key) {
                    self.release(Held::Key(key), &mut emit);
                }
            }
            SessionInput::Keys(KeysEvent::Button { button, pressed, pointer }) => {
                hands.pointer(pointer, &mut emit);
                if pressed {
                    hands.buttons.insert(button as u8);
                    emit(InputEvent::Button { button, pressed });
                } else if hands.buttons.remove(&(button as u8)) {
                    self.release(Held::Button(button as u8), &mut emit);
                }
            }
            SessionInput::Keys(KeysEvent::Wheel { x, y }) => {
                let bound = |steps: i16| steps.clamp(-MAX_WHEEL_STEPS, MAX_WHEEL_STEPS);
                emit(InputEvent::Wheel { x: bound(x), y: bound(y) });
            }
            SessionInput::Keys(KeysEvent::ReleaseAll) => {
                let held = hands.let_go();
                held.into_iter().for_each(|held| self.release(held, &mut emit));
            }
            SessionInput::Closed => {
                let held = self.sessions.remove(session).map(|mut hands| hands.let_go()).unwrap_or_default();
                held.into_iter().for_each(|held| self.release(held, &mut emit));
            }
        }
    }

    /// Lets go of what one session no longer holds, unless another one still does.
    fn release(&self, held: Held, emit: &mut impl FnMut(InputEvent)) {
        let held_elsewhere = self.sessions.values().any(|hands| match held {
            Held::Key(key) => hands.keys.contains(&key),
            Held::Button(button) => hands.buttons.contains(&button),
        });
        if held_elsewhere {
            return;
        }
        match held {
            Held::Key(code) => emit(InputEvent::Key { code, pressed: false }),
            Held::Button(number) => {
                if let Some(button) = Button::ALL.get(usize::from(number)).copied() {
                    emit(InputEvent::Button { button, pressed: false });
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Held {
    Key(Key),
    /// By its wire number.
    Button(u8),
}

// === impl Hands ===

impl Hands {
    /// Relative positions are sums since the session began, so a lost message loses nothing: what counts is the
    /// difference to the last sum seen.
    fn pointer(&mut self, pointer: Pointer, emit: &mut impl FnMut(InputEvent)) {
        match pointer {
            Pointer::Absolute { x, y } => emit(InputEvent::Position { x, y }),
            Pointer::Relative { sum_x, sum_y } => {
                let (dx, dy) = (sum_x.wrapping_sub(self.sums.0), sum_y.wrapping_sub(self.sums.1));
                self.sums = (sum_x, sum_y);
                if (dx, dy) != (0, 0) {
                    emit(InputEvent::Motion { dx, dy });
                }
            }
        }
    }

    fn let_go(&mut self) -> Vec<Held> {
        let keys = std::mem::take(&mut self.keys).into_iter().map(Held::Key);
        let buttons = std::mem::take(&mut self.buttons).into_iter().map(Held::Button);
        keys.chain(buttons).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(code: &str) -> Key {
        code.parse().expect("a key")
    }

    fn press(code: &str, pressed: bool) -> SessionInput {
        SessionInput::Keys(KeysEvent::Key { key: key(code), pressed })
    }

    fn relative(sum_x: i32, sum_y: i32) -> Pointer {
        Pointer::Relative { sum_x, sum_y }
    }

    /// Plays what sessions say, and gives what the guest is told.
    fn play(steps: &[(&str, SessionInput)]) -> Vec<InputEvent> {
        let mut hands = AllHands::default();
        let mut told = Vec::new();
        for (session, input) in steps {
            hands.events(session, *input, |event| told.push(event));
        }
        told
    }

    fn down(code: &str) -> InputEvent {
        InputEvent::Key { code: key(code), pressed: true }
    }

    fn up(code: &str) -> InputEvent {
        InputEvent::Key { code: key(code), pressed: false }
    }

    #[test]
    fn sums_become_steps_whatever_is_lost_or_wraps() {
        let steps = [
            ("a", SessionInput::Pointer(relative(3, -2))),
            ("a", SessionInput::Pointer(relative(10, -2))),
            ("a", SessionInput::Pointer(relative(10, -2))),
            ("b", SessionInput::Pointer(relative(i32::MAX, 0))),
            ("b", SessionInput::Pointer(relative(i32::MIN, 0))),
            ("a", SessionInput::Pointer(relative(9, 0))),
        ];
        let want = [(3, -2), (7, 0), (i32::MAX, 0), (1, 0), (-1, 2)].map(|(dx, dy)| InputEvent::Motion { dx, dy });
        assert_eq!(play(&steps), want);
    }

    #[test]
    fn a_click_lands_where_it_was_made() {
        let click = |pressed, pointer| SessionInput::Keys(KeysEvent::Button { button: Button::Left, pressed, pointer });
        let steps = [
            ("a", click(true, relative(5, 5))),
            ("a", SessionInput::Pointer(relative(5, 5))),
            ("a", click(false, Pointer::Absolute { x: 7, y: 8 })),
        ];
        let button = |pressed| InputEvent::Button { button: Button::Left, pressed };
        let want =
            [InputEvent::Motion { dx: 5, dy: 5 }, button(true), InputEvent::Position { x: 7, y: 8 }, button(false)];
        assert_eq!(play(&steps), want);
    }

    #[test]
    fn closing_lets_go_of_what_only_this_session_holds() {
        let button =
            SessionInput::Keys(KeysEvent::Button { button: Button::Right, pressed: true, pointer: relative(0, 0) });
        let steps = [
            ("a", press("KeyA", true)),
            ("a", press("ShiftLeft", true)),
            ("a", button),
            ("b", press("ShiftLeft", true)),
            ("a", SessionInput::Closed),
            ("a", SessionInput::Closed),
            ("b", SessionInput::Closed),
        ];
        let told = play(&steps);
        let want_after = [up("KeyA"), InputEvent::Button { button: Button::Right, pressed: false }, up("ShiftLeft")];
        assert_eq!(told[4..], want_after);
    }

    #[test]
    fn release_all_lets_go_and_releases_of_what_is_not_held_are_nothing() {
        let steps = [
            ("a", press("KeyB", false)),
            ("a", press("KeyA", true)),
            ("a", press("KeyA", true)),
            ("a", SessionInput::Keys(KeysEvent::ReleaseAll)),
            ("a", press("KeyA", false)),
        ];
        assert_eq!(play(&steps), [down("KeyA"), down("KeyA"), up("KeyA")]);
    }

    #[test]
    fn what_is_ignored_is_not_made_up_for() {
        let mut hands = AllHands::default();
        hands.ignore("a", press("KeyA", true));
        hands.ignore("a", SessionInput::Pointer(relative(100, 100)));
        let mut told = Vec::new();
        hands.events("a", press("KeyA", false), |event| told.push(event));
        hands.events("a", SessionInput::Pointer(relative(101, 98)), |event| told.push(event));
        assert_eq!(told, [InputEvent::Motion { dx: 1, dy: -2 }]);
        assert_eq!(hands.sessions(), ["a"]);
    }

    #[test]
    fn a_wheel_does_not_run_away() {
        let wheel = SessionInput::Keys(KeysEvent::Wheel { x: i16::MIN, y: 3 });
        assert_eq!(play(&[("a", wheel)]), [InputEvent::Wheel { x: -MAX_WHEEL_STEPS, y: 3 }]);
    }
}
