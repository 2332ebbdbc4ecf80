//! Keys that the viewer keeps for itself. Everything else reaches the guest, Esc and Tab too.

use loco_model::{InstanceId, Key};

/// What a chord asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chord {
    /// Focus that instance.
    Focus(InstanceId),
    /// Focus the next tile: columns to the right, rows down.
    Move(i32, i32),
    /// Let keyboard and pointer go; captures when nothing is captured.
    Release,
    /// The focused instance fills the window, or no longer.
    Enlarge,
    /// The window fills the screen, or no longer.
    FullScreen,
    /// Save a picture of the window.
    Screenshot,
    /// Show or hide the statistics.
    Statistics,
    /// Copy the statistics as text.
    CopyStatistics,
    /// Silence the focused instance, or no longer.
    Mute,
    /// Hear the focused instance alone, or no longer.
    Solo,
    /// Change between relative and absolute pointer.
    PointerMode,
    /// Take the focused instance's input from whoever has it.
    Take,
    /// Open the focused instance's menu.
    Menu,
}

/// What the release chord is called on plates and in menus.
pub const RELEASE: &str = "Ctrl+Alt+G";

/// What the chord is called that takes an instance's input.
pub const TAKE: &str = "Ctrl+Alt+T";

/// (what the chord is called, what it does), for the menu.
pub const LEGEND: &[(&str, &str)] = &[
    ("Ctrl+Alt+1 … 9", "focus an instance"),
    ("Ctrl+Alt+arrows", "move the focus"),
    (RELEASE, "capture, release"),
    ("F11", "enlarge"),
    ("Ctrl+Alt+Enter", "full screen"),
    ("Ctrl+Alt+S", "screenshot"),
    ("Ctrl+Alt+I", "statistics"),
    ("Ctrl+Alt+C", "copy statistics"),
    ("Ctrl+Alt+M", "mute"),
    ("Ctrl+Alt+L", "solo: listen to one alone"),
    ("Ctrl+Alt+P", "pointer relative, absolute"),
    (TAKE, "take the input from another viewer"),
    ("Ctrl+Alt+O", "the instance's menu (also: right click)"),
];

/// Whether a key is one of the chord's own (Ctrl, Alt; left or right).
#[must_use]
pub fn is_modifier(key: Key) -> bool {
    is_control(key) || is_alt(key)
}

fn is_control(key: Key) -> bool {
    matches!(key.code(), "ControlLeft" | "ControlRight")
}

fn is_alt(key: Key) -> bool {
    matches!(key.code(), "AltLeft" | "AltRight")
}

/// What pressing `key` means while `held` are down; `None`: it is the guest's.
#[must_use]
pub fn chord(key: Key, held: &(impl Iterator<Item = Key> + Clone)) -> Option<Chord> {
    if key.code() == "F11" {
        return Some(Chord::Enlarge);
    }
    if !(held.clone().any(is_control) && held.clone().any(is_alt)) {
        return None;
    }
    let digit = key.code().strip_prefix("Digit").and_then(|digit| digit.parse::<usize>().ok());
    if let Some(number) = digit {
        return InstanceId::try_new(number.checked_sub(1)?).ok().map(Chord::Focus);
    }
    Some(match key.code() {
        "ArrowLeft" => Chord::Move(-1, 0),
        "ArrowRight" => Chord::Move(1, 0),
        "ArrowUp" => Chord::Move(0, -1),
        "ArrowDown" => Chord::Move(0, 1),
        "KeyG" => Chord::Release,
        "Enter" | "NumpadEnter" => Chord::FullScreen,
        "KeyS" => Chord::Screenshot,
        "KeyI" => Chord::Statistics,
        "KeyC" => Chord::CopyStatistics,
        "KeyM" => Chord::Mute,
        "KeyL" => Chord::Solo,
        "KeyP" => Chord::PointerMode,
        "KeyT" => Chord::Take,
        "KeyO" => Chord::Menu,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_with_both_modifiers() {
        let key = |code: &str| code.parse::<Key>().unwrap();
        let id = |n| InstanceId::try_new(n).unwrap();
        for (held, pressed, want) in [
            (&["ControlLeft", "AltLeft"][..], "Digit1", Some(Chord::Focus(id(0)))),
            (&["ControlRight", "AltRight"], "Digit9", Some(Chord::Focus(id(8)))),
            (&["ControlLeft", "AltLeft"], "Digit0", None),
            (&["ControlLeft", "AltLeft"], "Delete", None),
            (&["ControlLeft", "AltLeft"], "Escape", None),
            (&["ControlLeft", "AltLeft"], "KeyG", Some(Chord::Release)),
            (&["ControlLeft", "AltLeft", "ShiftLeft"], "ArrowUp", Some(Chord::Move(0, -1))),
            (&["ControlLeft", "AltRight"], "KeyT", Some(Chord::Take)),
            (&["ControlLeft", "AltLeft"], "KeyO", Some(Chord::Menu)),
            (&["ControlLeft"], "Digit1", None),
            (&["AltLeft"], "Tab", None),
            (&[], "KeyG", None),
            (&[], "Escape", None),
            (&[], "F11", Some(Chord::Enlarge)),
        ] {
            assert_eq!(chord(key(pressed), &held.iter().map(|h| key(h))), want, "{held:?} + {pressed}");
        }
    }
}
