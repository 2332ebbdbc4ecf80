//! winit's keys and buttons in our words.

use loco_model::Key;
use loco_model::input::Button;
use winit::event::MouseButton;
use winit::keyboard::PhysicalKey;

/// The key at that place of the keyboard; `None` for keys that no PC keyboard has.
#[must_use]
pub fn key(physical: PhysicalKey) -> Option<Key> {
    #[cfg(target_os = "linux")]
    {
        use winit::platform::scancode::PhysicalKeyExtScancode as _;
        // On X11 and Wayland the scancode is the evdev code.
        if let Some(key) = physical.to_scancode().and_then(|code| u16::try_from(code).ok()).and_then(Key::from_evdev) {
            return Some(key);
        }
    }
    match physical {
        // winit names its variants after W3C codes, but for the logo keys.
        PhysicalKey::Code(code) => format!("{code:?}").replace("Super", "Meta").parse().ok(),
        PhysicalKey::Unidentified(_) => None,
    }
}

/// The button; `None` for the sixth and more.
#[must_use]
pub fn button(button: MouseButton) -> Option<Button> {
    match button {
        MouseButton::Left => Some(Button::Left),
        MouseButton::Right => Some(Button::Right),
        MouseButton::Middle => Some(Button::Middle),
        MouseButton::Back => Some(Button::Side),
        MouseButton::Forward => Some(Button::Extra),
        MouseButton::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use winit::keyboard::KeyCode;

    #[test]
    fn keys_keep_their_place() {
        for (code, want) in [
            (KeyCode::KeyA, "KeyA"),
            (KeyCode::Digit1, "Digit1"),
            (KeyCode::Escape, "Escape"),
            (KeyCode::ArrowUp, "ArrowUp"),
            (KeyCode::NumpadEnter, "NumpadEnter"),
            (KeyCode::SuperLeft, "MetaLeft"),
            (KeyCode::ControlRight, "ControlRight"),
            (KeyCode::IntlBackslash, "IntlBackslash"),
        ] {
            assert_eq!(key(PhysicalKey::Code(code)).map(Key::code), Some(want));
        }
    }
}
