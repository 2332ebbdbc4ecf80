//! Keys and pointer into a guest.

use crate::backend::Injector;
use crate::error::InputError;
use crate::shared::Shared;
use loco_model::Key;
use loco_model::input::{Button, InputEvent};
use loco_model::{Size, input};
use parking_lot::Mutex;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Most inputs that wait. A person makes some tens a second, and motion is joined.
const MAX_WAITING: usize = 1024;
/// Most wheel steps of one input that are passed on.
const MAX_WHEEL_STEPS: i16 = 32;

/// Puts input into a guest. Cheap to clone; never blocks: what is given is injected in that order by a task of its own,
/// which joins motion that waits.
#[derive(Clone, Debug, Default)]
pub struct GuestInput {
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    open: bool,
    events: VecDeque<InputEvent>,
}

impl Waiting {
    fn push(&mut self, event: InputEvent) -> Result<(), InputError> {
        if !self.open {
            return Err(InputError::NotRunning);
        }
        if let Some(joined) = self.events.back().and_then(|last| join(*last, event)) {
            if let Some(last) = self.events.back_mut() {
                *last = joined;
            }
            return Ok(());
        }
        // What lets go always finds room: one such event is enough for any number of keys.
        if self.events.len() >= MAX_WAITING && event != InputEvent::ReleaseAll {
            // What is refused may be what lets go of a key: nothing stays held because of it.
            if self.events.back() != Some(&InputEvent::ReleaseAll) {
                self.events.push_back(InputEvent::ReleaseAll);
            }
            return Err(InputError::Full);
        }
        self.events.push_back(event);
        Ok(())
    }
}

/// Two events in a row as one, where nothing is lost by it.
fn join(last: InputEvent, next: InputEvent) -> Option<InputEvent> {
    use InputEvent::{Motion, Position, ReleaseAll, Wheel};
    match (last, next) {
        (Motion { dx, dy }, Motion { dx: more_x, dy: more_y }) => {
            Some(Motion { dx: dx.saturating_add(more_x), dy: dy.saturating_add(more_y) })
        }
        (Position { .. }, Position { .. }) | (ReleaseAll, ReleaseAll) => Some(next),
        (Wheel { x, y }, Wheel { x: more_x, y: more_y }) => {
            Some(Wheel { x: x.saturating_add(more_x), y: y.saturating_add(more_y) })
        }
        _ => None,
    }
}

impl GuestInput {
    /// A key goes down or up.
    ///
    /// # Errors
    /// When the guest does not run, or does not keep up.
    pub fn key(&self, key: Key, pressed: bool) -> Result<(), InputError> {
        self.event(InputEvent::Key { code: key, pressed })
    }

    /// A pointer button goes down or up.
    ///
    /// # Errors
    /// When the guest does not run, or does not keep up.
    pub fn button(&self, button: Button, pressed: bool) -> Result<(), InputError> {
        self.event(InputEvent::Button { button, pressed })
    }

    /// The pointer moves by so many guest pixels.
    ///
    /// # Errors
    /// When the guest does not run, or does not keep up.
    pub fn relative(&self, dx: i32, dy: i32) -> Result<(), InputError> {
        self.event(InputEvent::Motion { dx, dy })
    }

    /// The pointer is there: 0 is the left or upper edge of the screen, 65535 the right or lower one. A guest that takes
    /// relative motion only is moved by the difference to the position before.
    ///
    /// # Errors
    /// When the guest does not run, or does not keep up.
    pub fn absolute(&self, x: u16, y: u16) -> Result<(), InputError> {
        self.event(InputEvent::Position { x, y })
    }

    /// Wheel steps; positive is to the right and up.
    ///
    /// # Errors
    /// When the guest does not run, or does not keep up.
    pub fn wheel(&self, x: i16, y: i16) -> Result<(), InputError> {
        self.event(InputEvent::Wheel { x, y })
    }

    /// Lets go of every key and button that is held.
    ///
    /// # Errors
    /// When the guest does not run.
    pub fn release_all(&self) -> Result<(), InputError> {
        self.event(InputEvent::ReleaseAll)
    }

    /// Any of the above.
    ///
    /// # Errors
    /// When the guest does not run, or does not keep up.
    pub fn event(&self, event: InputEvent) -> Result<(), InputError> {
        self.queue.waiting.lock().push(event)?;
        self.queue.wake.notify_one();
        Ok(())
    }

    /// Takes input from now on; what waited for an earlier QEMU is forgotten.
    pub(crate) fn open(&self) {
        *self.queue.waiting.lock() = Waiting { open: true, events: VecDeque::new() };
    }

    /// Takes none from now on.
    pub(crate) fn close(&self) {
        *self.queue.waiting.lock() = Waiting::default();
    }

    /// Injects what is given, until the guest does not take it any more.
    pub(crate) async fn run(self, injector: Arc<dyn Injector>, shared: Arc<Shared>) {
        let mut hands = Hands::default();
        loop {
            let next = self.queue.waiting.lock().events.pop_front();
            let Some(event) = next else {
                self.queue.wake.notified().await;
                continue;
            };
            let (size, absolute) = (*shared.size.borrow(), *shared.absolute.borrow());
            let motion = matches!(event, InputEvent::Motion { .. } | InputEvent::Position { .. });
            for step in hands.steps(event, size, absolute == Some(true)) {
                if let Err(error) = inject(&*injector, step).await {
                    // QEMU answers an error for what it does not know (a button, say): the next input is another matter.
                    tracing::warn!(?step, %error, "input: the guest did not take it");
                }
                shared.kicks.input(Instant::now(), motion);
            }
        }
    }
}

/// One call to QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Key(u32, bool),
    Button(u32, bool),
    Motion(i32, i32),
    Position(u32, u32),
}

async fn inject(injector: &dyn Injector, step: Step) -> io::Result<()> {
    match step {
        Step::Key(number, pressed) => injector.key(number, pressed).await,
        Step::Button(number, pressed) => injector.button(number, pressed).await,
        Step::Motion(dx, dy) => injector.motion(dx, dy).await,
        Step::Position(x, y) => injector.position(x, y).await,
    }
}

/// QEMU's `InputButton` (qapi/ui.json): left, middle, right, wheel up, wheel down, side, extra, wheel left, wheel right.
const fn button_number(button: Button) -> u32 {
    match button {
        Button::Left => 0,
        Button::Middle => 1,
        Button::Right => 2,
        Button::Side => 5,
        Button::Extra => 6,
    }
}
const WHEEL_UP: u32 = 3;
const WHEEL_DOWN: u32 = 4;
const WHEEL_LEFT: u32 = 7;
const WHEEL_RIGHT: u32 = 8;

/// What is held in this QEMU, and where the pointer was put last.
#[derive(Debug, Default)]
struct Hands {
    keys: BTreeSet<Key>,
    buttons: Vec<Button>,
    last_position: Option<(i32, i32)>,
}

impl Hands {
    /// What an event means for QEMU.
    fn steps(&mut self, event: InputEvent, size: Option<Size>, absolute: bool) -> Vec<Step> {
        match event {
            InputEvent::Key { code, pressed: true } => {
                self.keys.insert(code);
                vec![Step::Key(u32::from(code.qnum()), true)]
            }
            InputEvent::Key { code, pressed: false } => {
                if self.keys.remove(&code) {
                    vec![Step::Key(u32::from(code.qnum()), false)]
                } else {
                    Vec::new()
                }
            }
            InputEvent::Button { button, pressed } => {
                let held = self.buttons.contains(&button);
                self.buttons.retain(|b| *b != button);
                if pressed {
                    self.buttons.push(button);
                }
                if held == pressed { Vec::new() } else { vec![Step::Button(button_number(button), pressed)] }
            }
            InputEvent::Motion { dx: 0, dy: 0 } => Vec::new(),
            InputEvent::Motion { dx, dy } => vec![Step::Motion(dx, dy)],
            InputEvent::Position { x, y } => self.position(x, y, size, absolute),
            InputEvent::Wheel { x, y } => [(x, WHEEL_RIGHT, WHEEL_LEFT), (y, WHEEL_UP, WHEEL_DOWN)]
                .into_iter()
                .flat_map(|(steps, positive, negative)| {
                    let button = if steps > 0 { positive } else { negative };
                    let count = steps.clamp(-MAX_WHEEL_STEPS, MAX_WHEEL_STEPS).unsigned_abs();
                    (0..count).flat_map(move |_| [Step::Button(button, true), Step::Button(button, false)])
                })
                .collect(),
            input::InputEvent::ReleaseAll => {
                let keys = std::mem::take(&mut self.keys).into_iter().map(|k| Step::Key(u32::from(k.qnum()), false));
                let buttons =
                    std::mem::take(&mut self.buttons).into_iter().map(|b| Step::Button(button_number(b), false));
                keys.chain(buttons).collect()
            }
        }
    }

    fn position(&mut self, x: u16, y: u16, size: Option<Size>, absolute: bool) -> Vec<Step> {
        let Some(size) = size else { return Vec::new() };
        let pixel = |v: u16, side: u32| {
            let last = u64::from(side.saturating_sub(1));
            (u64::from(v) * last + u64::from(u16::MAX) / 2) / u64::from(u16::MAX)
        };
        // Less than `side`, so it fits.
        let (x, y) = (pixel(x, size.width) as u32, pixel(y, size.height) as u32);
        let now = (x as i32, y as i32);
        let before = self.last_position.replace(now);
        if absolute {
            return vec![Step::Position(x, y)];
        }
        match before.map(|before| (now.0 - before.0, now.1 - before.1)) {
            None | Some((0, 0)) => Vec::new(),
            Some((dx, dy)) => vec![Step::Motion(dx, dy)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        name.parse().expect("a key")
    }

    fn open() -> Waiting {
        Waiting { open: true, events: VecDeque::new() }
    }

    #[test]
    fn motion_is_joined_but_never_across_a_click() {
        let mut waiting = open();
        let click = InputEvent::Button { button: Button::Left, pressed: true };
        for event in [
            InputEvent::Motion { dx: 1, dy: 2 },
            InputEvent::Motion { dx: 3, dy: -5 },
            click,
            InputEvent::Motion { dx: 7, dy: 7 },
            InputEvent::Position { x: 1, y: 1 },
            InputEvent::Position { x: 9, y: 8 },
        ] {
            waiting.push(event).expect("room");
        }
        let expected = [
            InputEvent::Motion { dx: 4, dy: -3 },
            click,
            InputEvent::Motion { dx: 7, dy: 7 },
            InputEvent::Position { x: 9, y: 8 },
        ];
        assert_eq!(waiting.events, expected);
    }

    #[test]
    fn the_queue_is_bounded_and_closed_when_the_guest_is_not_there() {
        let mut waiting = open();
        let mut toggle = (0..).map(|n| InputEvent::Key { code: key("KeyA"), pressed: n % 2 == 0 });
        for event in toggle.by_ref().take(MAX_WAITING) {
            waiting.push(event).expect("room");
        }
        assert_eq!(waiting.push(InputEvent::Wheel { x: 0, y: 1 }), Err(InputError::Full));
        assert_eq!(waiting.push(InputEvent::Key { code: key("KeyA"), pressed: false }), Err(InputError::Full));
        assert_eq!(waiting.events.back(), Some(&InputEvent::ReleaseAll), "what was refused holds nothing");
        assert_eq!(waiting.events.len(), MAX_WAITING + 1);
        assert_eq!(waiting.push(InputEvent::ReleaseAll), Ok(()), "letting go always finds room");
        assert_eq!(Waiting::default().push(InputEvent::ReleaseAll), Err(InputError::NotRunning));
    }

    #[test]
    fn what_is_held_is_let_go_once() {
        let mut hands = Hands::default();
        let mut steps = |event| hands.steps(event, None, false);
        let a = u32::from(key("KeyA").qnum());
        let press = InputEvent::Key { code: key("KeyA"), pressed: true };
        assert_eq!(steps(press), [Step::Key(a, true)]);
        assert_eq!(steps(press), [Step::Key(a, true)], "repetition reaches the guest");
        steps(InputEvent::Button { button: Button::Right, pressed: true });
        assert_eq!(steps(InputEvent::ReleaseAll), [Step::Key(a, false), Step::Button(2, false)]);
        assert_eq!(steps(InputEvent::ReleaseAll), []);
        assert_eq!(steps(InputEvent::Key { code: key("KeyA"), pressed: false }), [], "not held any more");
    }

    #[test]
    fn the_wheel_is_buttons() {
        let mut hands = Hands::default();
        let pair = |b| [Step::Button(b, true), Step::Button(b, false)];
        assert_eq!(hands.steps(InputEvent::Wheel { x: 0, y: 1 }, None, false), pair(WHEEL_UP));
        assert_eq!(hands.steps(InputEvent::Wheel { x: 0, y: -1 }, None, false), pair(WHEEL_DOWN));
        assert_eq!(hands.steps(InputEvent::Wheel { x: -1, y: 0 }, None, false), pair(WHEEL_LEFT));
        let many = hands.steps(InputEvent::Wheel { x: 0, y: i16::MIN }, None, false);
        assert_eq!(many.len(), 2 * MAX_WHEEL_STEPS as usize, "bounded");
    }

    #[test]
    fn positions_reach_every_corner() {
        let (mut hands, size) = (Hands::default(), Some(Size::new(640, 480)));
        let mut at = |x, y, absolute| hands.steps(InputEvent::Position { x, y }, size, absolute);
        assert_eq!(at(0, 0, true), [Step::Position(0, 0)]);
        assert_eq!(at(65535, 65535, true), [Step::Position(639, 479)]);
        assert_eq!(at(32768, 0, false), [Step::Motion(-319, -479)], "a mouse is moved by the difference");
        assert_eq!(Hands::default().steps(InputEvent::Position { x: 5, y: 5 }, None, true), [], "no picture, no place");
    }
}
