//! Keys and pointer into a guest.

use crate::error::InputError;
use loco_model::Key;
use loco_model::input::{Button, InputEvent};

/// Puts input into a guest. Cheap to clone; never blocks: what is given is injected in that order by a task of its own,
/// which joins motion that waits.
#[derive(Clone, Debug)]
pub struct GuestInput {}

impl GuestInput {
    /// A key goes down or up.
    ///
    /// # Errors
    /// When the guest does not run, or does not keep up.
    pub fn key(&self, _key: Key, _pressed: bool) -> Result<(), InputError> {
        Err(InputError::NotRunning)
    }

    /// A pointer button goes down or up.
    ///
    /// # Errors
    /// When the guest does not run, or does not keep up.
    pub fn button(&self, _button: Button, _pressed: bool) -> Result<(), InputError> {
        Err(InputError::NotRunning)
    }

    /// The pointer moves by so many guest pixels.
    ///
    /// # Errors
    /// When the guest does not run, or does not keep up.
    pub fn relative(&self, _dx: i32, _dy: i32) -> Result<(), InputError> {
        Err(InputError::NotRunning)
    }

    /// The pointer is there: 0 is the left or upper edge of the screen, 65535 the right or lower one.
    ///
    /// # Errors
    /// When the guest does not run, or does not keep up.
    pub fn absolute(&self, _x: u16, _y: u16) -> Result<(), InputError> {
        Err(InputError::NotRunning)
    }

    /// Wheel steps; positive is to the right and up.
    ///
    /// # Errors
    /// When the guest does not run, or does not keep up.
    pub fn wheel(&self, _x: i16, _y: i16) -> Result<(), InputError> {
        Err(InputError::NotRunning)
    }

    /// Lets go of every key and button that is held.
    ///
    /// # Errors
    /// When the guest does not run.
    pub fn release_all(&self) -> Result<(), InputError> {
        Err(InputError::NotRunning)
    }

    /// Any of the above.
    ///
    /// # Errors
    /// When the guest does not run, or does not keep up.
    pub fn event(&self, event: InputEvent) -> Result<(), InputError> {
        match event {
            InputEvent::Key { code, pressed } => self.key(code, pressed),
            InputEvent::Button { button, pressed } => self.button(button, pressed),
            InputEvent::Motion { dx, dy } => self.relative(dx, dy),
            InputEvent::Position { x, y } => self.absolute(x, y),
            InputEvent::Wheel { x, y } => self.wheel(x, y),
            InputEvent::ReleaseAll => self.release_all(),
        }
    }
}
