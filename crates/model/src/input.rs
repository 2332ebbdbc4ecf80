//! Input on its way to a guest: as JSON (`POST /input`) and on a session's two data channels.
//!
//! Channel `keys` is reliable and ordered; it carries everything that must not be lost: keys, buttons, wheel.
//! Channel `pointer` is unordered and not retransmitted; its messages carry *sums*, so a lost one loses nothing and
//! the newest wins. Each message is numbered; the numbers of keys and positions are independent.
//!
//! A lost message of the reliable channel waits for SCTP's timer, which is hundreds of milliseconds. So everything of
//! channel `keys` goes over channel `pointer` too, in bundles of the newest few ([`KeysMessage::split`]): whatever comes
//! first counts, and [`KeysInOrder`] puts it into its place.

mod order;

pub use order::KeysInOrder;

use crate::keys::Key;
use serde::{Deserialize, Serialize};

/// Label of the reliable, ordered data channel.
pub const KEYS_CHANNEL: &str = "keys";
/// Label of the unordered data channel without retransmission.
pub const POINTER_CHANNEL: &str = "pointer";
/// Label of the unordered channel, without retransmission, on which the agent sends back what it gets.
pub const PATH_CHANNEL: &str = "path";
/// Most key messages in one bundle on channel `pointer`.
pub const MAX_KEYS_PER_BUNDLE: usize = 8;
/// Most events that one `POST /input` may carry.
pub const MAX_EVENTS_PER_REQUEST: usize = 256;

/// A pointer button, by its place on a mouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Button {
    /// Usually the one under the index finger.
    Left,
    /// The wheel, pressed.
    Middle,
    /// Usually the context menu's.
    Right,
    /// "Back".
    Side,
    /// "Forward".
    Extra,
}

impl Button {
    /// All buttons, in the order of their wire numbers.
    pub const ALL: [Self; 5] = [Self::Left, Self::Middle, Self::Right, Self::Side, Self::Extra];
}

/// Where a pointer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum Pointer {
    /// Relative: the sums of all motion since the session began, in guest pixels (wrapping).
    Relative {
        /// To the right.
        sum_x: i32,
        /// Downwards.
        sum_y: i32,
    },
    /// Absolute: 0 is the left or upper edge of the guest's screen, 65535 the right or lower one.
    Absolute {
        /// From the left.
        x: u16,
        /// From the top.
        y: u16,
    },
}

/// One thing that a person did, as `POST /input` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum InputEvent {
    /// A key by its place on the keyboard (a W3C code such as `KeyA`).
    Key {
        /// Which.
        code: Key,
        /// Down or up.
        pressed: bool,
    },
    /// A pointer button.
    Button {
        /// Which.
        button: Button,
        /// Down or up.
        pressed: bool,
    },
    /// Relative motion in guest pixels.
    Motion {
        /// To the right.
        #[cfg_attr(feature = "openapi", schema(minimum = -16384, maximum = 16384))]
        dx: i32,
        /// Downwards.
        #[cfg_attr(feature = "openapi", schema(minimum = -16384, maximum = 16384))]
        dy: i32,
    },
    /// Absolute position, 0..=65535 of the guest's screen.
    Position {
        /// From the left.
        #[cfg_attr(feature = "openapi", schema(maximum = 65535))]
        x: u16,
        /// From the top.
        #[cfg_attr(feature = "openapi", schema(maximum = 65535))]
        y: u16,
    },
    /// Wheel steps; positive is to the right and away from the person.
    Wheel {
        /// To the right.
        #[serde(default)]
        #[cfg_attr(feature = "openapi", schema(minimum = -64, maximum = 64))]
        x: i16,
        /// Up.
        #[serde(default)]
        #[cfg_attr(feature = "openapi", schema(minimum = -64, maximum = 64))]
        y: i16,
    },
    /// Everything held is let go.
    ReleaseAll,
}

/// Body of `POST /input`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct InputRequest {
    /// In the order in which they happened; at most [`MAX_EVENTS_PER_REQUEST`].
    #[cfg_attr(feature = "openapi", schema(max_items = 256))]
    pub events: Vec<InputEvent>,
}

/// What channel `keys` carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysEvent {
    /// A key went down or up.
    Key {
        /// Which.
        key: Key,
        /// Down or up.
        pressed: bool,
    },
    /// A button went down or up, with the pointer at that place (so that no lost motion moves the click).
    Button {
        /// Which.
        button: Button,
        /// Down or up.
        pressed: bool,
        /// Where the pointer was.
        pointer: Pointer,
    },
    /// Wheel steps; positive is to the right and up.
    Wheel {
        /// To the right.
        x: i16,
        /// Up.
        y: i16,
    },
    /// Everything held is let go.
    ReleaseAll,
}

/// A numbered message of channel `keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeysMessage {
    /// Counts up by one, wrapping, from 0 at the session's start.
    pub sequence: u32,
    /// What happened.
    pub event: KeysEvent,
}

/// A numbered message of channel `pointer`: newest wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointerMessage {
    /// Counts up by one, wrapping, from 0 at the session's start.
    pub sequence: u32,
    /// Where the pointer is now.
    pub pointer: Pointer,
}

/// Bytes that are no message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The length does not fit the kind.
    #[error("an input message of kind {kind} has {got} bytes")]
    Length {
        /// First byte.
        kind: u8,
        /// Bytes received.
        got: usize,
    },
    /// The first byte is none of ours.
    #[error("unknown input message kind {0}")]
    Kind(u8),
    /// No bytes at all.
    #[error("empty input message")]
    Empty,
    /// A key code that no keyboard has.
    #[error("unknown key code {0}")]
    Key(u16),
    /// A button number above 4.
    #[error("unknown button {0}")]
    Button(u8),
    /// A flag that is neither 0 nor 1.
    #[error("a flag is {0}, not 0 or 1")]
    Flag(u8),
}

// Kinds. All integers are little-endian. Layouts:
// key:      kind, sequence u32, evdev code u16, pressed u8                              = 8
// button:   kind, sequence u32, button u8, pressed u8, mode u8 (0 rel, 1 abs), x i32, y i32 = 16
// wheel:    kind, sequence u32, x i16, y i16                                            = 9
// release:  kind, sequence u32                                                          = 5
// relative: kind, sequence u32, sum_x i32, sum_y i32                                    = 13
// absolute: kind, sequence u32, x u16, y u16                                            = 9
const KIND_KEY: u8 = 1;
const KIND_RELEASE_ALL: u8 = 2;
const KIND_BUTTON: u8 = 3;
const KIND_WHEEL: u8 = 4;
const KIND_RELATIVE: u8 = 16;
const KIND_ABSOLUTE: u8 = 17;

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        // Lengths were checked for the kind before any field is read.
        let (head, tail) = self.bytes.split_at(N);
        self.bytes = tail;
        let mut out = [0; N];
        out.copy_from_slice(head);
        out
    }

    fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    fn flag(&mut self) -> Result<bool, WireError> {
        match self.u8() {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError::Flag(other)),
        }
    }
}

/// Splits kind and number off, and checks the length that the kind must have.
fn open(bytes: &[u8], length_of: impl Fn(u8) -> Option<usize>) -> Result<(u8, u32, Reader<'_>), WireError> {
    let kind = *bytes.first().ok_or(WireError::Empty)?;
    let length = length_of(kind).ok_or(WireError::Kind(kind))?;
    if bytes.len() != length {
        return Err(WireError::Length { kind, got: bytes.len() });
    }
    let mut reader = Reader { bytes: &bytes[1..] };
    let sequence = u32::from_le_bytes(reader.array());
    Ok((kind, sequence, reader))
}

impl KeysMessage {
    /// Its bytes, appended to `out`.
    pub fn encode(&self, out: &mut impl Extend<u8>) {
        let mut put = |kind: u8, rest: &[u8]| {
            out.extend([kind]);
            out.extend(self.sequence.to_le_bytes());
            out.extend(rest.iter().copied());
        };
        match self.event {
            KeysEvent::Key { key, pressed } => {
                let [low, high] = key.evdev().to_le_bytes();
                put(KIND_KEY, &[low, high, u8::from(pressed)]);
            }
            KeysEvent::Button { button, pressed, pointer } => {
                let (mode, x, y) = match pointer {
                    Pointer::Relative { sum_x, sum_y } => (0, sum_x, sum_y),
                    Pointer::Absolute { x, y } => (1, i32::from(x), i32::from(y)),
                };
                let mut rest = [0; 11];
                rest[..3].copy_from_slice(&[button as u8, u8::from(pressed), mode]);
                rest[3..7].copy_from_slice(&x.to_le_bytes());
                rest[7..].copy_from_slice(&y.to_le_bytes());
                put(KIND_BUTTON, &rest);
            }
            KeysEvent::Wheel { x, y } => {
                let ([a, b], [c, d]) = (x.to_le_bytes(), y.to_le_bytes());
                put(KIND_WHEEL, &[a, b, c, d]);
            }
            KeysEvent::ReleaseAll => put(KIND_RELEASE_ALL, &[]),
        }
    }

    const fn length_of(kind: u8) -> Option<usize> {
        match kind {
            KIND_KEY => Some(8),
            KIND_RELEASE_ALL => Some(5),
            KIND_BUTTON => Some(16),
            KIND_WHEEL => Some(9),
            _ => None,
        }
    }

    /// Whether bytes of channel `pointer` are a bundle of key messages.
    #[must_use]
    pub fn is_bundle(bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|kind| Self::length_of(*kind).is_some())
    }

    /// Reads the first message of a bundle, which is messages one after the other; returns what follows it.
    ///
    /// # Errors
    /// When the bytes do not begin with a message.
    pub fn split(bytes: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let kind = *bytes.first().ok_or(WireError::Empty)?;
        let length = Self::length_of(kind).ok_or(WireError::Kind(kind))?;
        let (first, rest) = bytes.split_at_checked(length).ok_or(WireError::Length { kind, got: bytes.len() })?;
        Ok((Self::decode(first)?, rest))
    }

    /// Reads one message.
    ///
    /// # Errors
    /// When the bytes are not exactly one message.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (kind, sequence, mut reader) = open(bytes, Self::length_of)?;
        let event = match kind {
            KIND_KEY => {
                let code = u16::from_le_bytes(reader.array());
                let key = Key::from_evdev(code).ok_or(WireError::Key(code))?;
                KeysEvent::Key { key, pressed: reader.flag()? }
            }
            KIND_BUTTON => {
                let number = reader.u8();
                let button = *Button::ALL.get(usize::from(number)).ok_or(WireError::Button(number))?;
                let pressed = reader.flag()?;
                let absolute = reader.flag()?;
                let (x, y) = (i32::from_le_bytes(reader.array()), i32::from_le_bytes(reader.array()));
                let pointer = if absolute {
                    let clamp = |v: i32| v.clamp(0, i32::from(u16::MAX)) as u16;
                    Pointer::Absolute { x: clamp(x), y: clamp(y) }
                } else {
                    Pointer::Relative { sum_x: x, sum_y: y }
                };
                KeysEvent::Button { button, pressed, pointer }
            }
            KIND_WHEEL => {
                KeysEvent::Wheel { x: i16::from_le_bytes(reader.array()), y: i16::from_le_bytes(reader.array()) }
            }
            _ => KeysEvent::ReleaseAll,
        };
        Ok(Self { sequence, event })
    }
}

impl PointerMessage {
    /// Its bytes, appended to `out`.
    pub fn encode(&self, out: &mut impl Extend<u8>) {
        match self.pointer {
            Pointer::Relative { sum_x, sum_y } => {
                out.extend([KIND_RELATIVE]);
                out.extend(self.sequence.to_le_bytes());
                out.extend(sum_x.to_le_bytes());
                out.extend(sum_y.to_le_bytes());
            }
            Pointer::Absolute { x, y } => {
                out.extend([KIND_ABSOLUTE]);
                out.extend(self.sequence.to_le_bytes());
                out.extend(x.to_le_bytes());
                out.extend(y.to_le_bytes());
            }
        }
    }

    /// Reads one message.
    ///
    /// # Errors
    /// When the bytes are not exactly one message.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (kind, sequence, mut reader) = open(bytes, |kind| match kind {
            KIND_RELATIVE => Some(13),
            KIND_ABSOLUTE => Some(9),
            _ => None,
        })?;
        let pointer = if kind == KIND_RELATIVE {
            Pointer::Relative { sum_x: i32::from_le_bytes(reader.array()), sum_y: i32::from_le_bytes(reader.array()) }
        } else {
            Pointer::Absolute { x: u16::from_le_bytes(reader.array()), y: u16::from_le_bytes(reader.array()) }
        };
        Ok(Self { sequence, pointer })
    }
}

/// Whether `sequence` is newer than `last` in wrapping order (serial number arithmetic, RFC 1982).
#[must_use]
pub fn is_newer(sequence: u32, last: u32) -> bool {
    sequence != last && sequence.wrapping_sub(last) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys_round_trip(event: KeysEvent) {
        let message = KeysMessage { sequence: 0xfedc_ba98, event };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        assert_eq!(KeysMessage::decode(&bytes), Ok(message));
        for cut in 0..bytes.len() {
            assert!(KeysMessage::decode(&bytes[..cut]).is_err(), "{event:?} cut at {cut}");
        }
        bytes.push(0);
        assert!(KeysMessage::decode(&bytes).is_err(), "{event:?} with a byte too many");
    }

    #[test]
    fn keys_channel() {
        for pressed in [false, true] {
            for key in Key::all() {
                keys_round_trip(KeysEvent::Key { key, pressed });
            }
            for button in Button::ALL {
                keys_round_trip(KeysEvent::Button {
                    button,
                    pressed,
                    pointer: Pointer::Absolute { x: 0, y: u16::MAX },
                });
                let pointer = Pointer::Relative { sum_x: i32::MIN, sum_y: -1 };
                keys_round_trip(KeysEvent::Button { button, pressed, pointer });
            }
        }
        keys_round_trip(KeysEvent::Wheel { x: -1, y: i16::MAX });
        keys_round_trip(KeysEvent::ReleaseAll);
        assert_eq!(KeysMessage::decode(&[1, 0, 0, 0, 0, 0xff, 0xff, 1]), Err(WireError::Key(0xffff)));
        assert_eq!(KeysMessage::decode(&[1, 0, 0, 0, 0, 30, 0, 2]), Err(WireError::Flag(2)));
        assert_eq!(KeysMessage::decode(&[99, 0]), Err(WireError::Kind(99)));
        assert_eq!(KeysMessage::decode(&[]), Err(WireError::Empty));
    }

    #[test]
    fn pointer_channel() {
        for pointer in [Pointer::Relative { sum_x: -7, sum_y: i32::MAX }, Pointer::Absolute { x: 1, y: 65535 }] {
            let message = PointerMessage { sequence: 5, pointer };
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            assert_eq!(PointerMessage::decode(&bytes), Ok(message));
            assert!(PointerMessage::decode(&bytes[..bytes.len() - 1]).is_err());
        }
    }

    fn wheel(sequence: u32) -> KeysMessage {
        KeysMessage { sequence, event: KeysEvent::Wheel { x: 0, y: sequence as i16 } }
    }

    #[test]
    fn bundles_are_messages_one_after_the_other() {
        let messages = [wheel(3), KeysMessage { sequence: 4, event: KeysEvent::ReleaseAll }, wheel(5)];
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut bytes));
        assert!(KeysMessage::is_bundle(&bytes) && !KeysMessage::is_bundle(&[KIND_RELATIVE]));
        let mut rest = &bytes[..];
        for message in messages {
            let (first, after) = KeysMessage::split(rest).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(first, message);
            rest = after;
        }
        assert_eq!(KeysMessage::split(rest), Err(WireError::Empty));
        assert!(KeysMessage::split(&bytes[..4]).is_err() && KeysMessage::split(&[99, 1]).is_err());
    }

    #[test]
    fn json_is_what_the_readme_says() {
        let text = r#"{"events":[{"type":"key","code":"KeyA","pressed":true},{"type":"motion","dx":-3,"dy":4},
            {"type":"button","button":"left","pressed":false},{"type":"wheel","y":1},{"type":"release_all"}]}"#;
        let request: InputRequest = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(request.events.len(), 5);
        assert_eq!(request.events[3], InputEvent::Wheel { x: 0, y: 1 });
        let error = serde_json::from_str::<InputRequest>(r#"{"events":[{"type":"key","code":"KeyÄ","pressed":true}]}"#);
        assert!(error.is_err_and(|e| e.to_string().contains("KeyÄ")), "the bad value is named");
    }

    #[test]
    fn newer_wraps() {
        assert!(is_newer(1, 0) && is_newer(0, u32::MAX) && !is_newer(0, 0) && !is_newer(u32::MAX, 0));
    }
}
