//! Bytes of the PS/2 keyboard (scancode set 1) and mouse into events.

/// A key went down or up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    /// Set 1 scancode, bit 7 set for the prefix 0xe0 (QEMU's "qnum").
    pub code: u8,
    /// Down.
    pub pressed: bool,
}

/// Puts a keyboard's bytes together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keyboard {
    extended: bool,
    /// Bytes of a longer sequence (Pause: 0xe1 and five more) still to skip.
    skip: u8,
}

impl Keyboard {
    /// Takes a byte; gives the event that it completes.
    pub fn push(&mut self, byte: u8) -> Option<KeyEvent> {
        if self.skip > 0 {
            self.skip -= 1;
            // Pause sends press and release in one; it counts as a press of 0xc6, QEMU's number for it.
            return (self.skip == 0).then_some(KeyEvent { code: 0xc6, pressed: true });
        }
        match byte {
            0xe0 => self.extended = true,
            0xe1 => {
                self.extended = false;
                self.skip = 5;
            }
            // Overrun, self-test, echo, acknowledge, resend: no keys.
            0x00 | 0xaa | 0xee | 0xfa | 0xfe | 0xff if !self.extended => {}
            _ => {
                let extended = core::mem::take(&mut self.extended);
                // Made-up shifts around extended keys say nothing.
                if extended && matches!(byte & 0x7f, 0x2a | 0x36) {
                    return None;
                }
                let code = byte & 0x7f | if extended { 0x80 } else { 0 };
                return Some(KeyEvent { code, pressed: byte & 0x80 == 0 });
            }
        }
        None
    }
}

/// A mouse packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MouseEvent {
    /// To the right.
    pub dx: i32,
    /// Downwards.
    pub dy: i32,
    /// Wheel steps, up is positive.
    pub wheel: i32,
    /// Bit 0 left, 1 middle, 2 right (QEMU's order, not the packet's).
    pub buttons: u8,
}

/// What a pointer that knows its place tells (a tablet; no PS/2 device, but it comes beside one).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AbsoluteEvent {
    /// From the left, 0..=65535 of the width.
    pub x: u16,
    /// From the top, 0..=65535 of the height.
    pub y: u16,
    /// Wheel steps, up is positive.
    pub wheel: i32,
    /// Bit 0 left, 1 middle, 2 right.
    pub buttons: u8,
}

/// Puts a mouse's bytes together.
#[derive(Clone, Copy, Debug)]
pub struct Mouse {
    bytes: [u8; 4],
    count: usize,
    length: usize,
}

impl Mouse {
    /// For packets of three bytes, or of four from a mouse with a wheel.
    #[must_use]
    pub fn new(wheel: bool) -> Self {
        Self { bytes: [0; 4], count: 0, length: if wheel { 4 } else { 3 } }
    }

    /// Takes a byte; gives the event that it completes. Bytes that cannot start a packet are skipped, so the stream is
    /// in step again soon after a lost byte.
    pub fn push(&mut self, byte: u8) -> Option<MouseEvent> {
        if self.count == 0 && byte & 0x08 == 0 {
            return None;
        }
        self.bytes[self.count] = byte;
        self.count += 1;
        if self.count < self.length {
            return None;
        }
        self.count = 0;
        let [flags, x, y, z] = self.bytes;
        let signed = |value: u8, sign: u8| i32::from(value) - if flags & sign != 0 { 256 } else { 0 };
        let wheel = if self.length == 4 { -i32::from((z << 4) as i8 >> 4) } else { 0 };
        let buttons = flags & 1 | (flags & 4) >> 1 | (flags & 2) << 1;
        Some(MouseEvent { dx: signed(x, 0x10), dy: -signed(y, 0x20), wheel, buttons })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let check = |bytes: &[u8], expected: &[(u8, bool)]| {
            let mut keyboard = Keyboard::default();
            let found: Vec<(u8, bool)> =
                bytes.iter().filter_map(|byte| keyboard.push(*byte)).map(|key| (key.code, key.pressed)).collect();
            assert_eq!(found, expected, "{bytes:x?}");
        };
        check(&[0x1e, 0x9e], &[(0x1e, true), (0x1e, false)]);
        check(&[0xe0, 0x48, 0xe0, 0xc8], &[(0xc8, true), (0xc8, false)]);
        check(&[0xfa, 0xaa, 0x00, 0x39], &[(0x39, true)]);
        check(&[0xe0, 0x2a, 0xe0, 0x37], &[(0xb7, true)]);
        check(&[0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5, 0x1e], &[(0xc6, true), (0x1e, true)]);
    }

    #[test]
    fn mouse_packets() {
        let check = |wheel: bool, bytes: &[u8], expected: &[MouseEvent]| {
            let mut mouse = Mouse::new(wheel);
            let found: Vec<MouseEvent> = bytes.iter().filter_map(|byte| mouse.push(*byte)).collect();
            assert_eq!(found, expected, "{bytes:x?}");
        };
        let event = |dx, dy, wheel, buttons| MouseEvent { dx, dy, wheel, buttons };
        check(false, &[0x08, 5, 0, 0x38, 0xfe, 0xfd], &[event(5, 0, 0, 0), event(-2, 3, 0, 0)]);
        check(false, &[0x09, 0, 0, 0x0a, 0, 0, 0x0c, 0, 0], &[event(0, 0, 0, 1), event(0, 0, 0, 4), event(0, 0, 0, 2)]);
        check(true, &[0x08, 1, 2, 0xff, 0x08, 0, 0, 1], &[event(1, -2, 1, 0), event(0, 0, -1, 0)]);
        check(false, &[0x00, 0x07, 0x08, 1, 1], &[event(1, -1, 0, 0)]);
    }
}
