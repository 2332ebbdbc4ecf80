//! Keys by their place on the keyboard, under the three names that we meet: W3C `KeyboardEvent.code` (people, JSON,
//! browsers), Linux evdev code (winit's scancode, our wire) and QEMU's number (AT set 1 scancode, 0xE0-prefixed ones
//! with bit 7 set; QEMU calls it "qnum").
//!
//! Sources: W3C UI Events `code` values; linux/input-event-codes.h; QEMU's keycodemapdb (`keymaps.csv`).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One key, by place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(u16);

/// Not a W3C code that a PC keyboard has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown key code {0:?}: expected a W3C KeyboardEvent.code such as \"KeyA\", \"Digit1\", \"ArrowUp\" or \"Escape\""
)]
pub struct UnknownKey(pub String);

/// (W3C code, evdev code, QEMU number), ordered by evdev code.
const TABLE: &[(&str, u16, u8)] = &[
    ("Escape", 1, 0x01),
    ("Digit1", 2, 0x02),
    ("Digit2", 3, 0x03),
    ("Digit3", 4, 0x04),
    ("Digit4", 5, 0x05),
    ("Digit5", 6, 0x06),
    ("Digit6", 7, 0x07),
    ("Digit7", 8, 0x08),
    ("Digit8", 9, 0x09),
    ("Digit9", 10, 0x0a),
    ("Digit0", 11, 0x0b),
    ("Minus", 12, 0x0c),
    ("Equal", 13, 0x0d),
    ("Backspace", 14, 0x0e),
    ("Tab", 15, 0x0f),
    ("KeyQ", 16, 0x10),
    ("KeyW", 17, 0x11),
    ("KeyE", 18, 0x12),
    ("KeyR", 19, 0x13),
    ("KeyT", 20, 0x14),
    ("KeyY", 21, 0x15),
    ("KeyU", 22, 0x16),
    ("KeyI", 23, 0x17),
    ("KeyO", 24, 0x18),
    ("KeyP", 25, 0x19),
    ("BracketLeft", 26, 0x1a),
    ("BracketRight", 27, 0x1b),
    ("Enter", 28, 0x1c),
    ("ControlLeft", 29, 0x1d),
    ("KeyA", 30, 0x1e),
    ("KeyS", 31, 0x1f),
    ("KeyD", 32, 0x20),
    ("KeyF", 33, 0x21),
    ("KeyG", 34, 0x22),
    ("KeyH", 35, 0x23),
    ("KeyJ", 36, 0x24),
    ("KeyK", 37, 0x25),
    ("KeyL", 38, 0x26),
    ("Semicolon", 39, 0x27),
    ("Quote", 40, 0x28),
    ("Backquote", 41, 0x29),
    ("ShiftLeft", 42, 0x2a),
    ("Backslash", 43, 0x2b),
    ("KeyZ", 44, 0x2c),
    ("KeyX", 45, 0x2d),
    ("KeyC", 46, 0x2e),
    ("KeyV", 47, 0x2f),
    ("KeyB", 48, 0x30),
    ("KeyN", 49, 0x31),
    ("KeyM", 50, 0x32),
    ("Comma", 51, 0x33),
    ("Period", 52, 0x34),
    ("Slash", 53, 0x35),
    ("ShiftRight", 54, 0x36),
    ("NumpadMultiply", 55, 0x37),
    ("AltLeft", 56, 0x38),
    ("Space", 57, 0x39),
    ("CapsLock", 58, 0x3a),
    ("F1", 59, 0x3b),
    ("F2", 60, 0x3c),
    ("F3", 61, 0x3d),
    ("F4", 62, 0x3e),
    ("F5", 63, 0x3f),
    ("F6", 64, 0x40),
    ("F7", 65, 0x41),
    ("F8", 66, 0x42),
    ("F9", 67, 0x43),
    ("F10", 68, 0x44),
    ("NumLock", 69, 0x45),
    ("ScrollLock", 70, 0x46),
    ("Numpad7", 71, 0x47),
    ("Numpad8", 72, 0x48),
    ("Numpad9", 73, 0x49),
    ("NumpadSubtract", 74, 0x4a),
    ("Numpad4", 75, 0x4b),
    ("Numpad5", 76, 0x4c),
    ("Numpad6", 77, 0x4d),
    ("NumpadAdd", 78, 0x4e),
    ("Numpad1", 79, 0x4f),
    ("Numpad2", 80, 0x50),
    ("Numpad3", 81, 0x51),
    ("Numpad0", 82, 0x52),
    ("NumpadDecimal", 83, 0x53),
    ("IntlBackslash", 86, 0x56),
    ("F11", 87, 0x57),
    ("F12", 88, 0x58),
    ("IntlRo", 89, 0x73),
    ("Convert", 92, 0x79),
    ("KanaMode", 93, 0x70),
    ("NonConvert", 94, 0x7b),
    ("NumpadEnter", 96, 0x9c),
    ("ControlRight", 97, 0x9d),
    ("NumpadDivide", 98, 0xb5),
    ("PrintScreen", 99, 0x54),
    ("AltRight", 100, 0xb8),
    ("Home", 102, 0xc7),
    ("ArrowUp", 103, 0xc8),
    ("PageUp", 104, 0xc9),
    ("ArrowLeft", 105, 0xcb),
    ("ArrowRight", 106, 0xcd),
    ("End", 107, 0xcf),
    ("ArrowDown", 108, 0xd0),
    ("PageDown", 109, 0xd1),
    ("Insert", 110, 0xd2),
    ("Delete", 111, 0xd3),
    ("AudioVolumeMute", 113, 0xa0),
    ("AudioVolumeDown", 114, 0xae),
    ("AudioVolumeUp", 115, 0xb0),
    ("NumpadEqual", 117, 0x59),
    ("Pause", 119, 0xc6),
    ("NumpadComma", 121, 0x7e),
    ("IntlYen", 124, 0x7d),
    ("MetaLeft", 125, 0xdb),
    ("MetaRight", 126, 0xdc),
    ("ContextMenu", 127, 0xdd),
];

/// `const` look-up for the keys that code names.
const fn evdev_of(name: &str) -> u16 {
    let name = name.as_bytes();
    let mut row = 0;
    while row < TABLE.len() {
        let candidate = TABLE[row].0.as_bytes();
        if candidate.len() == name.len() {
            let mut i = 0;
            while i < name.len() && candidate[i] == name[i] {
                i += 1;
            }
            if i == name.len() {
                return TABLE[row].1;
            }
        }
        row += 1;
    }
    panic!("no such key")
}

impl Key {
    /// The key of a W3C code; fails to compile, when used in a constant, if there is none.
    #[must_use]
    pub const fn named(code: &str) -> Self {
        Self(evdev_of(code))
    }

    /// All keys that we know, ordered by evdev code.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        TABLE.iter().map(|row| Self(row.1))
    }

    fn row(self) -> &'static (&'static str, u16, u8) {
        // Only values of the table are ever constructed; the fallback is unreachable and harmless.
        TABLE.binary_search_by_key(&self.0, |row| row.1).map_or(&TABLE[0], |i| &TABLE[i])
    }

    /// The key of a Linux evdev code.
    #[must_use]
    pub fn from_evdev(code: u16) -> Option<Self> {
        TABLE.binary_search_by_key(&code, |row| row.1).ok().map(|_| Self(code))
    }

    /// Linux evdev code (linux/input-event-codes.h).
    #[must_use]
    pub fn evdev(self) -> u16 {
        self.0
    }

    /// QEMU's number, as its D-Bus `Keyboard.Press` and RFB's extended key event take it.
    #[must_use]
    pub fn qnum(self) -> u8 {
        self.row().2
    }

    /// W3C `KeyboardEvent.code`.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.row().0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Key {
    type Err = UnknownKey;

    fn from_str(code: &str) -> Result<Self, Self::Err> {
        TABLE.iter().find(|row| row.0 == code).map(|row| Self(row.1)).ok_or_else(|| UnknownKey(code.to_owned()))
    }
}

impl TryFrom<String> for Key {
    type Error = UnknownKey;

    fn try_from(code: String) -> Result<Self, Self::Error> {
        code.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.code().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_ordered_and_one_to_one() {
        assert!(TABLE.windows(2).all(|w| w[0].1 < w[1].1), "binary search needs order");
        assert_eq!(TABLE.iter().map(|r| r.0).collect::<BTreeSet<_>>().len(), TABLE.len());
        assert_eq!(TABLE.iter().map(|r| r.2).collect::<BTreeSet<_>>().len(), TABLE.len());
    }

    #[test]
    fn names_and_numbers() {
        let check = |code: &str, evdev, qnum| {
            let key: Key = code.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!((key.evdev(), key.qnum(), key.code()), (evdev, qnum, code));
            assert_eq!(Key::from_evdev(evdev), Some(key));
        };
        check("KeyA", 30, 0x1e);
        check("ArrowUp", 103, 0xc8);
        check("Delete", 111, 0xd3);
        check("ControlRight", 97, 0x9d);
        assert_eq!(Key::named("Enter").evdev(), 28);
        assert_eq!(Key::from_evdev(0), None);
        assert!("keya".parse::<Key>().is_err());
    }
}
