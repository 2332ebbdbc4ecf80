//! Which guest gets what a person did. Pure: input, time and layout in, actions out.
//!
//! Rules. A click on a tile focuses it; a click into the focused one captures the pointer (relative mode) or goes to the
//! guest (absolute mode). A second click shortly after the one that focused or captured enlarges. The focused instance
//! gets all keys but chords, captured or not. Whatever was pressed in a guest is let go there when focus, capture,
//! session or the window's own focus is lost; a release that comes later goes nowhere.

use super::chord::{self, Chord};
use crate::scene::layout::{Layout, Place};
use loco_model::input::{Button, KeysEvent, Pointer};
use loco_model::{InstanceId, Key};
use std::collections::BTreeSet;
use std::time::Duration;

/// Longest time between the two clicks that enlarge.
const DOUBLE_CLICK: Duration = Duration::from_millis(400);

/// How pointer motion reaches a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PointerMode {
    /// As motion, while captured (a PS/2 mouse).
    #[default]
    Relative,
    /// As a place in the picture, without capture (a tablet).
    Absolute,
}

/// What a person did, as the window gives it. Places are physical pixels of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input {
    /// A key went down (repeats are left out before) or up.
    Key(Key, bool),
    /// The pointer is there.
    Moved(f64, f64),
    /// The pointer moved so far, told by the device; used while captured.
    Motion(f64, f64),
    /// A button went down or up.
    Button(Button, bool),
    /// Wheel steps to the right and up.
    Wheel(f64, f64),
    /// The pointer left the window.
    Left,
    /// The window lost the keyboard.
    FocusLost,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Goes over the instance's reliable channel.
    Keys(InstanceId, KeysEvent),
    /// Goes over the instance's pointer channel.
    Pointer(InstanceId, Pointer),
    /// The focus is now there.
    Focused(InstanceId),
    /// The pointer is to be captured (or freed).
    Captured(bool),
    /// The viewer itself does something.
    Do(Command),
}

/// What the viewer itself does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// That instance fills the window, or no longer.
    Enlarge(InstanceId),
    /// The window fills the screen, or no longer.
    FullScreen,
    /// Save a picture of the window.
    Screenshot,
    /// Show or hide the statistics.
    Statistics,
    /// Copy the statistics.
    CopyStatistics,
    /// Silence that instance, or no longer.
    Mute(InstanceId),
    /// Hear it alone, or no longer.
    Solo(InstanceId),
    /// That instance's pointer mode changed.
    PointerMode(InstanceId, PointerMode),
    /// Take that instance's input, whoever has it.
    Take(InstanceId),
    /// Open that instance's menu; at the pointer, or in its middle.
    Menu(InstanceId, bool),
}

/// What lies around the pointer.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Where everything is.
    pub layout: &'a Layout,
    /// The pointer is over a button, a menu or another thing of the viewer's own.
    pub pointer_taken: bool,
    /// A menu or a text field has the keyboard.
    pub keyboard_taken: bool,
}

/// State of one guest's pointer.
#[derive(Clone, Copy, Debug, Default)]
struct GuestPointer {
    mode: PointerMode,
    /// Sums of all motion of this session, and what was too small to count yet.
    sum: (i32, i32),
    rest: (f64, f64),
    place: (u16, u16),
    wheel_rest: (f64, f64),
}

/// Decides who gets what.
#[derive(Debug, Default)]
pub struct Router {
    focus: Option<InstanceId>,
    captured: bool,
    /// Down on the keyboard, wherever they went.
    down: BTreeSet<Key>,
    /// Pressed in the focused guest and not let go.
    held_keys: BTreeSet<Key>,
    held_buttons: Vec<Button>,
    at: (f64, f64),
    guests: [GuestPointer; InstanceId::COUNT],
    /// The click that focused or captured last: when and where.
    last_click: Option<(Duration, InstanceId)>,
}

impl Router {
    /// Who gets the keys.
    #[must_use]
    pub fn focus(&self) -> Option<InstanceId> {
        self.focus
    }

    /// Whether the pointer belongs to the focused guest alone.
    #[must_use]
    pub fn captured(&self) -> bool {
        self.captured
    }

    /// Where the pointer is, in physical pixels of the window.
    #[must_use]
    pub fn pointer(&self) -> (f64, f64) {
        self.at
    }

    /// How an instance's pointer works.
    #[must_use]
    pub fn pointer_mode(&self, id: InstanceId) -> PointerMode {
        self.guests[id.index()].mode
    }

    /// Gives the focus; lets go what was held where it was.
    pub fn set_focus(&mut self, id: Option<InstanceId>, out: &mut Vec<Action>) {
        if self.focus == id {
            return;
        }
        self.set_captured(false, out);
        self.release_all(out);
        self.focus = id;
        out.extend(id.map(Action::Focused));
    }

    /// Captures or frees the pointer. Everything held is let go on the way out.
    pub fn set_captured(&mut self, captured: bool, out: &mut Vec<Action>) {
        if self.captured == captured || (captured && self.focus.is_none()) {
            return;
        }
        self.captured = captured;
        if !captured {
            self.release_all(out);
        }
        out.push(Action::Captured(captured));
    }

    /// Relative or absolute, for one guest.
    pub fn set_pointer_mode(&mut self, id: InstanceId, mode: PointerMode, out: &mut Vec<Action>) {
        if self.pointer_mode(id) != mode {
            if self.focus == Some(id) {
                self.set_captured(false, out);
                self.release_all(out);
            }
            self.guests[id.index()].mode = mode;
            out.push(Action::Do(Command::PointerMode(id, mode)));
        }
    }

    /// An instance's session is new or gone: sums begin anew, and what was held there no longer is.
    pub fn session_changed(&mut self, id: InstanceId, connected: bool, out: &mut Vec<Action>) {
        let guest = &mut self.guests[id.index()];
        (guest.sum, guest.rest, guest.wheel_rest) = ((0, 0), (0.0, 0.0), (0.0, 0.0));
        if self.focus == Some(id) {
            self.release_all(out);
            if !connected {
                self.set_captured(false, out);
            }
        }
    }

    /// An instance is gone for good.
    pub fn removed(&mut self, id: InstanceId, out: &mut Vec<Action>) {
        self.guests[id.index()] = GuestPointer::default();
        if self.focus == Some(id) {
            self.set_focus(None, out);
        }
    }

    fn release_all(&mut self, out: &mut Vec<Action>) {
        let held = !self.held_keys.is_empty() || !self.held_buttons.is_empty();
        self.held_keys.clear();
        self.held_buttons.clear();
        if let (true, Some(id)) = (held, self.focus) {
            out.push(Action::Keys(id, KeysEvent::ReleaseAll));
        }
    }

    /// Takes one input at `now` (any clock that only goes forward).
    pub fn input(&mut self, input: Input, now: Duration, around: Surroundings<'_>, out: &mut Vec<Action>) {
        match input {
            Input::Key(key, true) => self.key_down(key, around, out),
            Input::Key(key, false) => {
                self.down.remove(&key);
                if let (true, Some(id)) = (self.held_keys.remove(&key), self.focus) {
                    out.push(Action::Keys(id, KeysEvent::Key { key, pressed: false }));
                }
            }
            Input::Moved(x, y) => {
                self.at = (x, y);
                self.move_absolute(around, out);
            }
            Input::Motion(dx, dy) => self.move_relative(dx, dy, out),
            Input::Button(button, true) => self.button_down(button, now, around, out),
            Input::Button(button, false) => self.button_up(button, out),
            Input::Wheel(x, y) => self.wheel(x, y, around, out),
            Input::Left => {}
            Input::FocusLost => {
                self.set_captured(false, out);
                self.release_all(out);
                self.down.clear();
            }
        }
    }

    fn key_down(&mut self, key: Key, around: Surroundings<'_>, out: &mut Vec<Action>) {
        if !self.down.insert(key) {
            return;
        }
        if let Some(chord) = chord::chord(key, &self.down.iter().copied()) {
            // Its modifiers already reached the guest: they are let go there, and their own release goes nowhere.
            self.release_all(out);
            self.chord(chord, around.layout, out);
        } else if let (false, Some(id)) = (around.keyboard_taken, self.focus) {
            self.held_keys.insert(key);
            out.push(Action::Keys(id, KeysEvent::Key { key, pressed: true }));
        }
    }

    fn chord(&mut self, chord: Chord, layout: &Layout, out: &mut Vec<Action>) {
        match (chord, self.focus) {
            (Chord::Focus(id), _) => self.set_focus(Some(id), out),
            (Chord::Move(right, down), Some(id)) => {
                if let Some(next) = layout.neighbour(id, right, down) {
                    self.set_focus(Some(next), out);
                }
            }
            (Chord::Move(..), None) => {
                self.set_focus(layout.places.iter().find_map(|place| place.id), out);
            }
            (Chord::Release, Some(id)) => {
                let capture = !self.captured && self.pointer_mode(id) == PointerMode::Relative;
                self.set_captured(capture, out);
            }
            (Chord::Enlarge, Some(id)) => out.push(Action::Do(Command::Enlarge(id))),
            (Chord::Mute, Some(id)) => out.push(Action::Do(Command::Mute(id))),
            (Chord::Solo, Some(id)) => out.push(Action::Do(Command::Solo(id))),
            (Chord::PointerMode, Some(id)) => {
                let mode = match self.pointer_mode(id) {
                    PointerMode::Relative => PointerMode::Absolute,
                    PointerMode::Absolute => PointerMode::Relative,
                };
                self.set_pointer_mode(id, mode, out);
            }
            (Chord::Take, Some(id)) => out.push(Action::Do(Command::Take(id))),
            (Chord::Menu, Some(id)) => {
                // Its clicks are not the guest's.
                self.set_captured(false, out);
                out.push(Action::Do(Command::Menu(id, false)));
            }
            (
                Chord::Release
                | Chord::Enlarge
                | Chord::Mute
                | Chord::Solo
                | Chord::PointerMode
                | Chord::Take
                | Chord::Menu,
                None,
            ) => {}
            (Chord::FullScreen, _) => out.push(Action::Do(Command::FullScreen)),
            (Chord::Screenshot, _) => out.push(Action::Do(Command::Screenshot)),
            (Chord::Statistics, _) => out.push(Action::Do(Command::Statistics)),
            (Chord::CopyStatistics, _) => out.push(Action::Do(Command::CopyStatistics)),
        }
    }

    fn under_pointer<'a>(&self, layout: &'a Layout) -> Option<&'a Place> {
        let (x, y) = self.at;
        (x >= 0.0 && y >= 0.0).then(|| layout.at(x as u32, y as u32)).flatten()
    }

    /// Who gets pointer events right now, and where in it the pointer is.
    fn pointer_target(&self, around: Surroundings<'_>) -> Option<InstanceId> {
        let id = self.focus?;
        if self.captured {
            return Some(id);
        }
        let place = around.layout.place(id)?;
        let inside = self.at.0 >= 0.0 && self.at.1 >= 0.0 && place.picture.contains(self.at.0 as u32, self.at.1 as u32);
        (self.pointer_mode(id) == PointerMode::Absolute && inside && !around.pointer_taken).then_some(id)
    }

    fn pointer_of(&self, id: InstanceId) -> Pointer {
        let guest = &self.guests[id.index()];
        match guest.mode {
            PointerMode::Relative => Pointer::Relative { sum_x: guest.sum.0, sum_y: guest.sum.1 },
            PointerMode::Absolute => Pointer::Absolute { x: guest.place.0, y: guest.place.1 },
        }
    }

    fn move_absolute(&mut self, around: Surroundings<'_>, out: &mut Vec<Action>) {
        let Some(id) = self.focus.filter(|id| self.pointer_mode(*id) == PointerMode::Absolute) else { return };
        let Some(place) = around.layout.place(id) else { return };
        // While a button is held, leaving the picture drags along its edge.
        if self.pointer_target(around).is_none() && self.held_buttons.is_empty() {
            return;
        }
        let along = |at: f64, from: u32, length: u32| {
            ((at - f64::from(from)) / f64::from(length.saturating_sub(1).max(1)) * 65535.0).round() as u16
        };
        let picture = place.picture;
        let new = (along(self.at.0, picture.x, picture.width), along(self.at.1, picture.y, picture.height));
        let guest = &mut self.guests[id.index()];
        if guest.place != new {
            guest.place = new;
            out.push(Action::Pointer(id, Pointer::Absolute { x: new.0, y: new.1 }));
        }
    }

    fn move_relative(&mut self, dx: f64, dy: f64, out: &mut Vec<Action>) {
        let Some(id) = self.focus.filter(|id| self.captured && self.pointer_mode(*id) == PointerMode::Relative) else {
            return;
        };
        let guest = &mut self.guests[id.index()];
        let (x, y) = (take_whole(&mut guest.rest.0, dx), take_whole(&mut guest.rest.1, dy));
        if (x, y) != (0, 0) {
            guest.sum = (guest.sum.0.wrapping_add(x), guest.sum.1.wrapping_add(y));
            out.push(Action::Pointer(id, self.pointer_of(id)));
        }
    }

    fn button_down(&mut self, button: Button, now: Duration, around: Surroundings<'_>, out: &mut Vec<Action>) {
        let previous = self.last_click.take();
        let over = if self.captured { self.focus } else { self.under_pointer(around.layout).and_then(|p| p.id) };
        let doubles = |id| previous.is_some_and(|(at, first)| first == id && now.saturating_sub(at) <= DOUBLE_CLICK);
        if button == Button::Left
            && (self.captured || !around.pointer_taken)
            && let Some(id) = over
        {
            if doubles(id) {
                out.push(Action::Do(Command::Enlarge(id)));
                return;
            }
            if self.focus != Some(id) {
                self.set_focus(Some(id), out);
                self.last_click = Some((now, id));
                return;
            }
            if !self.captured && self.pointer_mode(id) == PointerMode::Relative {
                self.set_captured(true, out);
                self.last_click = Some((now, id));
                return;
            }
        }
        let target = self.pointer_target(around);
        if let (Button::Right, None, false, Some(id)) = (button, target, around.pointer_taken, over) {
            out.push(Action::Do(Command::Menu(id, true)));
            return;
        }
        if let Some(id) = target
            && !self.held_buttons.contains(&button)
        {
            self.held_buttons.push(button);
            out.push(Action::Keys(id, KeysEvent::Button { button, pressed: true, pointer: self.pointer_of(id) }));
        }
    }

    fn button_up(&mut self, button: Button, out: &mut Vec<Action>) {
        let Some(held) = self.held_buttons.iter().position(|b| *b == button) else { return };
        self.held_buttons.swap_remove(held);
        if let Some(id) = self.focus {
            out.push(Action::Keys(id, KeysEvent::Button { button, pressed: false, pointer: self.pointer_of(id) }));
        }
    }

    fn wheel(&mut self, x: f64, y: f64, around: Surroundings<'_>, out: &mut Vec<Action>) {
        let over_focus = self.under_pointer(around.layout).and_then(|place| place.id) == self.focus;
        let target = if self.captured || (over_focus && !around.pointer_taken) { self.focus } else { None };
        let Some(id) = target else { return };
        let rest = &mut self.guests[id.index()].wheel_rest;
        let clamp = |steps: i32| steps.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
        let (x, y) = (clamp(take_whole(&mut rest.0, x)), clamp(take_whole(&mut rest.1, y)));
        if (x, y) != (0, 0) {
            out.push(Action::Keys(id, KeysEvent::Wheel { x, y }));
        }
    }
}

/// Adds `delta` to what was left over, and takes the whole part out.
fn take_whole(rest: &mut f64, delta: f64) -> i32 {
    let total = *rest + delta;
    let whole = total.trunc();
    *rest = total - whole;
    whole as i32
}

#[cfg(test)]
mod tests;
